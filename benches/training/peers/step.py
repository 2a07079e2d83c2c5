"""The training step that all PyTorch contestants share, and the protocol of `training.py`.

Answers as `ours.rs` does. The first subnet teaches the others, the mean of the gradients is clipped, AdamW decays
matrices only.
"""

import json
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def serve(build):
    """Answers orders; `build(family, space)` gives the module and `forward(images, subnet)`."""
    (family, space), = json.loads(sys.argv[1]).items()
    batch, threads = int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(threads)
    if "cuda" in sys.argv[4:]:
        torch.set_default_device("cuda")
    torch.manual_seed(1)
    module, forward = build(family, space)
    module.train()
    matrices = [p for n, p in module.named_parameters() if p.dim() >= 2 and n.endswith("weight")]
    others = [p for n, p in module.named_parameters() if not (p.dim() >= 2 and n.endswith("weight"))]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.98))
    images = torch.rand(batch, space["channels"], space["image-size"], space["image-size"]) * 2 - 1
    labels = torch.randint(space["classes"], (batch,))
    hard = F.one_hot(labels, space["classes"]) * 0.95 + 0.05 / space["classes"]

    def step(subnets):
        optimizer.zero_grad()
        targets, losses = hard, []
        for subnet in subnets:
            logits = forward(images, subnet[family])
            loss = F.cross_entropy(logits, targets)
            if targets is hard:
                targets = 0.5 * hard + 0.5 * logits.detach().softmax(1)
            (loss / len(subnets)).backward()
            losses.append(loss.item())
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        return sum(losses) / len(losses)

    def multiply_accumulates(subnet):
        with torch.compiler.set_stance("force_eager"), FlopCounterMode(display=False) as counter:
            forward(images, subnet[family])
        return counter.get_total_flops() // (2 * batch)

    for line in sys.stdin:
        order = json.loads(line)
        if "count" in order:
            answer = {"macs": [multiply_accumulates(subnet) for subnet in order["count"]]}
        elif "products" in order:
            answer = {"milliseconds": [product(*sizes) for sizes in order["products"]]}
        else:
            milliseconds, losses = [], []
            for subnets in order["steps"]:
                began = time.perf_counter()
                losses.append(step(subnets))
                milliseconds.append(1e3 * (time.perf_counter() - began))
            answer = {"milliseconds": milliseconds, "losses": losses}
        print(json.dumps(answer), flush=True)


def product(count, rows, inner, columns):
    """The fastest of 7 runs of one matrix product, in milliseconds."""
    left, right = torch.rand(count, rows, inner), torch.rand(count, inner, columns)
    times = []
    with torch.no_grad():
        for _ in range(7):
            began = time.perf_counter()
            torch.bmm(left, right)
            times.append(1e3 * (time.perf_counter() - began))
    return min(times)
