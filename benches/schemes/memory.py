#!/usr/bin/env python3
"""Peak memory of training against the number of subnets a step, m: prints a table.

    benches/schemes/memory.py [--steps 20]

Each m is a process of its own that trains the supernet of models/vit-fashion-full.yaml on the bundled images; every
step has the largest subnet. ELASTIC names another binary.
"""

import argparse
import json
import tempfile
from pathlib import Path

from schemes import IN_PLACE, SANDWICH, SUPERNET, model, space, stage, train


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    steps = parser.parse_args().steps
    print("| m | peak memory |\n|---|---|")
    for subnets in [1, 4, 8]:
        sampling = SANDWICH if subnets > 1 else {"fixed": ["largest"]}
        scheme = {"joint": stage(steps, 0.004, sampling, IN_PLACE) | {"subnets": subnets}}
        recipe = model(1, space(*SUPERNET), {}, scheme)
        recipe["data"] |= {"idx": "data/fashion-mnist-small", "validation": 2000}
        recipe["training"] |= {"evaluate-every": steps, "evaluate-images": 200}
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            train(run, recipe)
            lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        peak = next(line["peak_memory_bytes"] for line in lines if line["kind"] == "train")
        print(f"| {subnets} | {peak / 1e6:.0f} MB |", flush=True)


if __name__ == "__main__":
    main()
