#!/usr/bin/env python3
"""Times the training step of an elastic vision transformer: ours against PyTorch eager.

    cargo build --release --locked --workspace --example training-step
    python3 -m venv VENV && VENV/bin/pip install torch==2.9.0 pyyaml
    benches/training/training.py --python VENV/bin/python

Both do the same steps on the same subnets (largest, smallest, random ones) with the same batch and the same number of
threads, in turn, in processes that live as long as the benchmark; the first round is discarded. Times are medians
over all steps, and of the ratio of the same step in both; memory is the process's peak. PyTorch runs twice, as it comes and
with the allocator's thresholds that `elastic` sets for itself. `--ours` can be given several times, for several builds.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
THRESHOLDS = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}


def subnet(embed, layers):
    layers = [{"index": index, "heads": h, "mlp-width": w} for index, (h, w) in enumerate(layers)]
    return {"vit": {"embed-dim": embed, "layers": layers}}


def draw(space, subnets, rng):
    """The subnets of one step by the sandwich rule."""
    embed, depth = space["embed-dim"], space["depth"]["choices"]
    heads, width = space["heads"]["choices"], space["mlp-width"]["choices"]
    chosen = [
        subnet(embed[-1], [(heads[-1], width[-1])] * depth[-1]),
        subnet(embed[0], [(heads[0], width[0])] * depth[0]),
    ]
    while len(chosen) < subnets:
        layers = [(rng.choice(heads), rng.choice(width)) for _ in range(rng.choice(depth))]
        chosen.append(subnet(rng.choice(embed), layers))
    return chosen[:subnets]


class Contestant:
    def __init__(self, name, command, environment):
        self.name, self.milliseconds = name, []
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
        )

    def run(self, steps):
        self.process.stdin.write(json.dumps({"steps": steps}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())["milliseconds"]

    def peak_megabytes(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "models/vit-fashion-full.yaml")
    parser.add_argument("--ours", type=Path, action="append", help="a build of the example training-step")
    parser.add_argument("--python", help="a Python that has PyTorch; without it, only our builds are compared")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--subnets", type=int, default=4, help="of one step")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=5, help="of one round")
    arguments = parser.parse_args()
    space = yaml.safe_load(arguments.model.read_text())["space"]["vit"]
    batch, threads = str(arguments.batch), str(arguments.threads)
    contestants = []
    for path in arguments.ours or [ROOT / "target/release/examples/training-step"]:
        environment = {"RAYON_NUM_THREADS": threads, **THRESHOLDS}
        contestants.append(Contestant(f"ours ({path.name})", [path, arguments.model, batch], environment))
    if arguments.python:
        command = [arguments.python, HERE / "theirs.py", json.dumps(space), batch, threads]
        contestants.append(Contestant("PyTorch eager", command, {}))
        contestants.append(Contestant("PyTorch eager, same allocator", command, THRESHOLDS))
    rng = random.Random(1)
    for number in range(arguments.rounds + 1):
        steps = [draw(space, arguments.subnets, rng) for _ in range(arguments.steps)]
        for contestant in rng.sample(contestants, len(contestants)):
            milliseconds = contestant.run(steps)
            if number > 0:
                contestant.milliseconds += milliseconds
    print(f"{arguments.model.name}: batch {batch}, {threads} threads, {arguments.subnets} subnets a step")
    print("| | ms a step | ms a subnet-update | subnet-updates/s | peak MB | time, PyTorch eager = 1 |")
    print("|---|---|---|---|---|---|")
    base = next((c for c in contestants if c.name == "PyTorch eager"), contestants[0])
    for contestant in contestants:
        median = statistics.median(contestant.milliseconds)
        paired = statistics.median(a / b for a, b in zip(contestant.milliseconds, base.milliseconds))
        update = median / arguments.subnets
        print(
            f"| {contestant.name} | {median:.1f} | {update:.1f} | {1e3 / update:.1f} | "
            f"{contestant.peak_megabytes():.0f} | {paired:.2f} |"
        )
        contestant.process.stdin.close()


if __name__ == "__main__":
    sys.exit(main())
