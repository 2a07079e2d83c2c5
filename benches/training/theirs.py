"""The same elastic vision transformer as ours in plain PyTorch, for `training.py`.

Answers as `ours.rs` does. A subnet's weights are leading parts of the largest ones; the step is the same: the first
subnet teaches the others, the mean of the gradients is clipped, AdamW decays matrices only.
"""

import json
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn


class Elastic(nn.Module):
    """A fully connected layer; `parts` equal parts of the outputs each keep their leading features."""

    def __init__(self, inputs, outputs, parts=1):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(parts, outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(parts, outputs))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x, outputs):
        weight = self.weight[:, :outputs, : x.shape[-1]].reshape(-1, x.shape[-1])
        return F.linear(x, weight, self.bias[:, :outputs].reshape(-1))


class Norm(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x):
        n = x.shape[-1]
        return F.layer_norm(x, (n,), self.weight[:n], self.bias[:n], 1e-6)


class Block(nn.Module):
    def __init__(self, embed, inner, hidden):
        super().__init__()
        self.norm1, self.norm2 = Norm(embed), Norm(embed)
        self.qkv, self.proj = Elastic(embed, inner, 3), Elastic(inner, embed)
        self.fc1, self.fc2 = Elastic(embed, hidden), Elastic(hidden, embed)

    def forward(self, x, heads, width, head_dim):
        batch, tokens, embed = x.shape
        qkv = self.qkv(self.norm1(x), heads * head_dim)
        q, k, v = qkv.view(batch, tokens, 3, heads, head_dim).permute(2, 0, 3, 1, 4)
        context = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, -1)
        x = x + self.proj(context, embed)
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x), width)), embed)


class Vit(nn.Module):
    def __init__(self, space):
        super().__init__()
        largest = lambda choices: max(choices)
        embed, self.head_dim = largest(space["embed-dim"]), space["head-dim"]
        inner, hidden = largest(space["heads"]["choices"]) * self.head_dim, largest(space["mlp-width"]["choices"])
        self.patch, self.classes = space["patch-size"], space["classes"]
        side = space["image-size"] // self.patch
        self.embed = Elastic(space["channels"] * self.patch**2, embed)
        self.positions = nn.Parameter(torch.randn(1, side * side, embed) * 0.02)
        self.blocks = nn.ModuleList(Block(embed, inner, hidden) for _ in range(max(space["depth"]["choices"])))
        self.norm, self.head = Norm(embed), Elastic(embed, self.classes)

    def forward(self, images, subnet):
        batch, channels, height, width = images.shape
        p = self.patch
        x = images.view(batch, channels, height // p, p, width // p, p).permute(0, 2, 4, 1, 3, 5)
        x = self.embed(x.reshape(batch, -1, channels * p * p), subnet["embed-dim"])
        x = x + self.positions[:, :, : subnet["embed-dim"]]
        for layer in subnet["layers"]:
            x = self.blocks[layer["index"]](x, layer["heads"], layer["mlp-width"], self.head_dim)
        return self.head(self.norm(x).mean(1), self.classes)


def main():
    space, batch, threads = json.loads(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    if space["pooling"] != "mean":
        sys.exit("only mean pooling is written here")
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    model = Vit(space)
    matrices = [p for n, p in model.named_parameters() if p.dim() >= 2 and n.endswith("weight")]
    others = [p for n, p in model.named_parameters() if not (p.dim() >= 2 and n.endswith("weight"))]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.98))
    images = torch.rand(batch, space["channels"], space["image-size"], space["image-size"]) * 2 - 1
    labels = torch.randint(space["classes"], (batch,))
    hard = F.one_hot(labels, space["classes"]) * 0.95 + 0.05 / space["classes"]

    def step(subnets):
        optimizer.zero_grad()
        targets, losses = hard, []
        for subnet in subnets:
            logits = model(images, subnet["vit"])
            loss = F.cross_entropy(logits, targets)
            if targets is hard:
                targets = 0.5 * hard + 0.5 * logits.detach().softmax(1)
            (loss / len(subnets)).backward()
            losses.append(loss.item())
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return sum(losses) / len(losses)

    for line in sys.stdin:
        milliseconds, losses = [], []
        for subnets in json.loads(line)["steps"]:
            began = time.perf_counter()
            losses.append(step(subnets))
            milliseconds.append(1e3 * (time.perf_counter() - began))
        print(json.dumps({"milliseconds": milliseconds, "losses": losses}), flush=True)


if __name__ == "__main__":
    main()
