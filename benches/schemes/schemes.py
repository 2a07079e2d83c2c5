#!/usr/bin/env python3
"""Compares training schemes, sampling strategies and transforms at the same number of subnet updates.

    elastic data fetch fashion-mnist
    benches/schemes/schemes.py [--updates 10000] [--seed 1] [--runs runs/schemes] [NAME ...]

Every row trains the supernet of models/vit-fashion-full.yaml on Fashion-MNIST with `updates` forward and
backward passes of one subnet in all; `alone-*` rows train one subnet as a network of its own, with the steps
that the joint run has, which is how often the joint run's largest and smallest subnets are updated. A run that
is there already is not repeated; one that was stopped goes on. Prints the tables of docs/results/training.md.
ELASTIC names another binary.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TARGET = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
ELASTIC = Path(os.environ.get("ELASTIC", TARGET / "release" / "elastic")).absolute()

SUBNETS_A_STEP = 4
CLASSES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
# Embedding, depth, heads and MLP width of the subnets that are also trained alone.
ALONE = {
    "largest": (96, 4, 6, 288),
    "shallow": (96, 2, 6, 288),
    "middle": (64, 3, 4, 192),
    "narrow": (48, 4, 3, 96),
    "smallest": (48, 2, 3, 96),
}
SANDWICH = {"mixed": {"fixed": ["largest", "smallest"], "rest": "random"}}
IN_PLACE = {"weight": 0.5, "teacher": "in-place"}


def space(embed_dim, depth, heads, mlp_width, **more):
    return {"vit": {
        "image-size": 28, "channels": 1, "patch-size": 7, "classes": 10, "head-dim": 16, "pooling": "mean",
        "embed-dim": embed_dim,
        "depth": {"choices": depth, "drop": "prefix"},
        "heads": {"choices": heads, "per": "layer"},
        "mlp-width": {"choices": mlp_width, "per": "layer"},
        **more,
    }}


SUPERNET = ([48, 64, 96], [2, 3, 4], [3, 4, 6], [96, 192, 288])


def named(embed_dim, depth, heads, mlp_width):
    layers = [{"index": index, "heads": heads, "mlp-width": mlp_width} for index in range(depth)]
    return {"vit": {"embed-dim": embed_dim, "layers": layers}}


def rate(steps, peak):
    return {"peak": peak, "final": peak / 100, "warm-up-steps": max(1, steps // 20)}


def stage(steps, peak, sampling=SANDWICH, distillation=IN_PLACE, **more):
    recipe = {"steps": steps, "learning-rate": rate(steps, peak), "subnets": SUBNETS_A_STEP, "sampling": sampling,
              "reduce": "mean", **more}
    return recipe | ({"distillation": distillation} if distillation else {})


def rows(updates):
    """Name, space, named subnets and scheme of every run."""
    steps = updates // SUBNETS_A_STEP
    subnets = {name: named(*sizes) for name, sizes in ALONE.items() if name not in ("largest", "smallest")}
    joint = {"joint": stage(steps, 0.004)}
    # A fifth of the updates for the largest network, the rest in equal parts.
    base, each = updates // 5, updates // 5 // SUBNETS_A_STEP
    opened = [stage(each, 0.003, open=d) for d in ("width", "depth", "heads", "embedding")]
    progressive = {"progressive": {"base": {"steps": base, "learning-rate": rate(base, 0.004)}, "stages": opened}}
    kinds = lambda kind: {"transforms": {d: kind for d in ("width", "heads", "embedding")}}
    yield "joint", space(*SUPERNET), subnets, joint
    yield "progressive", space(*SUPERNET), subnets, progressive
    yield "random", space(*SUPERNET), subnets, {"joint": stage(steps, 0.004, "random", None)}
    yield "joint-without-distillation", space(*SUPERNET), subnets, {"joint": stage(steps, 0.004, SANDWICH, None)}
    yield "linear", space(*SUPERNET, **kinds("linear")), subnets, joint
    yield "nonlinear", space(*SUPERNET, **kinds("nonlinear")), subnets, joint
    for name, sizes in ALONE.items():
        alone = {"base": {"steps": steps, "learning-rate": rate(steps, 0.004)}}
        yield f"alone-{name}", space(*([size] for size in sizes)), {}, alone


def model(seed, space, subnets, scheme):
    return {
        "schema": "elastic.model/v1",
        "seed": seed,
        "space": space,
        "subnets": subnets,
        "data": {"idx": "data/fashion-mnist", "validation": 5000, "mean": [0.2860], "std": [0.3530],
                 "class-names": CLASSES},
        "training": {
            "scheme": scheme,
            "batch-size": 128,
            "optimizer": {"weight-decay": 0.05, "beta1": 0.9, "beta2": 0.98},
            "label-smoothing": 0.05,
            "clip-gradient-norm": 1.0,
            "augmentation": {"flip": True, "crop-padding": 0},
            "evaluate-every": 500,
            "evaluate-random": 20,
            "evaluate-images": 5000,
            "checkpoint-every": 100,
        },
    }


def train(folder, model):
    """The last validation line of the run, which is trained as far as it is not."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    # JSON is YAML.
    file = folder.with_suffix(".yaml")
    file.write_text(json.dumps(model, indent=1))
    begun, finished = (folder / "checkpoint.safetensors").exists(), (folder / "supernet.safetensors").exists()
    resume = ["--resume"] if begun and not finished else []
    command = [ELASTIC, "train", "--model", file, "--out", folder, "--format", "json", *resume]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{folder.name}: elastic train ended with exit code {done.returncode}")
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("runs/schemes"))
    parser.add_argument("names", nargs="*", metavar="NAME")
    arguments = parser.parse_args()
    results = {}
    for name, *parts in rows(arguments.updates):
        if not arguments.names or name in arguments.names:
            results[name] = train(arguments.runs / name, model(arguments.seed, *parts))
    percent = lambda share: f"{100 * share:.2f}"
    supernets = {name: result for name, result in results.items() if not name.startswith("alone")}
    print(f"\n| {arguments.updates} subnet updates | {' | '.join(ALONE)} | mean of 20 random |")
    print("|---|" + "---|" * (len(ALONE) + 1))
    for name, result in supernets.items():
        cells = [percent(result["accuracy"][subnet]) for subnet in ALONE]
        mean = sum(result["random_accuracy"]) / len(result["random_accuracy"])
        print(f"| {name} | {' | '.join(cells)} | {percent(mean)} |")
    alone = {subnet: results.get(f"alone-{subnet}", {}).get("accuracy", {}).get("largest") for subnet in ALONE}
    if all(alone.values()):
        print(f"| alone | {' | '.join(percent(alone[subnet]) for subnet in ALONE)} | |")
        for name, result in supernets.items():
            cells = [f"{100 * (result['accuracy'][subnet] - alone[subnet]):+.2f}" for subnet in ALONE]
            print(f"| {name} minus alone | {' | '.join(cells)} | |")


if __name__ == "__main__":
    main()
