#!/usr/bin/env python3
"""Times the training step of an elastic network: ours against PyTorch and its peers.

    cargo build --release --locked --workspace --example training-step
    python3 -m venv VENV && VENV/bin/pip install torch==2.9.0 pyyaml
    benches/training/training.py --python VENV/bin/python

All do the same steps on the same subnets (largest, smallest, random ones) with the same batch and the same number of
threads, in turn, in processes that live as long as the benchmark; the first round is discarded. Times are medians
over all steps, and of the ratio of the same step in both; memory is the process's peak. PyTorch runs twice, as it comes and
with the allocator's thresholds that `elastic` sets for itself. `--ours` can be given several times, for several builds.

`--peer NAME=PYTHON` adds a script of `peers/`, run by a Python that has its package; `--peer compiled:dynamic=PYTHON`
passes the word on to the script. All contestants must count the same multiply-accumulates in the same subnets.
"""

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

import yaml

import draw
import sweep
from contest import Contestant, race

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))
import allocator  # noqa: E402


def contestants(arguments, model, batch):
    """The processes, ours first; `model` is what the model file holds."""
    (family, space), = model["space"].items()
    sizes = [str(batch), str(arguments.threads)]
    file = Path(arguments.folder.name) / "model.yaml"
    file.write_text(yaml.safe_dump(model))  # A sweep's is not the given file's.
    for path in arguments.ours or [ROOT / "target/release/examples/training-step"]:
        environment = {"RAYON_NUM_THREADS": sizes[1], **allocator.ELASTIC}
        yield Contestant(f"ours ({path.name})", [path, file, sizes[0], arguments.device], environment)
    given = json.dumps({family: draw.fixed(space, arguments.fix)})
    peer = lambda script: [HERE / "peers" / f"{script}.py", given, *sizes]
    if arguments.python:
        if arguments.device == "cpu":
            yield Contestant("PyTorch eager", [arguments.python, *peer("eager")], {})
            yield Contestant("PyTorch eager, same allocator", [arguments.python, *peer("eager")], allocator.ELASTIC)
        else:
            yield Contestant("PyTorch eager", [arguments.python, *peer("eager"), "cuda"], {})
    for named in arguments.peer:
        name, python = named.split("=", 1)
        script, *words = name.split(":")
        yield Contestant(name, [python, *peer(script), *words], {})


def compare(arguments, model, batch, subnets):
    """All contestants after the race, and the subnets of the last round."""
    (family, space), = model["space"].items()
    space, rng = draw.fixed(space, arguments.fix), random.Random(1)
    pool = [draw.step(family, space, 3, rng, None)[2] for _ in range(arguments.pool)]
    entered = list(contestants(arguments, model, batch))
    step = lambda: draw.step(family, space, subnets, rng, pool)
    warm_up = [step() for _ in range(arguments.steps)] + [[subnet] for subnet in pool]
    race(entered, warm_up, [[step() for _ in range(arguments.steps)] for _ in range(arguments.rounds)], rng)
    return entered, step()


def equal_networks(entered, subnets):
    """The multiply-accumulates of one image that PyTorch counts; ends the program where they differ.

    BootstrapNAS always transforms smaller kernels by a learned matrix: that is what the tolerance is for.
    """
    counts = {c.name: c.ask({"count": subnets})["macs"] for c in entered if not c.name.startswith("ours")}
    first = next(iter(counts.values()), [])
    if any(abs(a - b) > 0.005 * b for other in counts.values() for a, b in zip(other, first)):
        sys.exit(f"the networks differ: multiply-accumulates of one image {counts}")
    return first


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "models/vit-fashion-full.yaml")
    parser.add_argument("--ours", type=Path, action="append", help="a build of the example training-step")
    parser.add_argument("--python", help="a Python that has PyTorch; without it, eager PyTorch stays out")
    parser.add_argument("--peer", action="append", default=[], help="NAME=PYTHON, a script of peers/ and its Python")
    parser.add_argument("--fix", type=lambda names: names.split(","), default=[], help="dimensions held at their largest")
    parser.add_argument("--pool", type=int, default=0, help="draw random subnets from so many; 0: from all")
    parser.add_argument("--device", choices=("cpu", "wgpu", "cuda"), default="cpu", help="ours; not cpu: PyTorch has cuda")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--subnets", type=int, default=4, help="of one step")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=5, help="of one round")
    parser.add_argument("--sweep", choices=sweep.KINDS, help="the growth of time and memory with one of the sizes")
    parser.add_argument("--peak", action="store_true", help="the share of the matrix product's own speed")
    arguments = parser.parse_args()
    arguments.folder = tempfile.TemporaryDirectory()
    model = yaml.safe_load(arguments.model.read_text())
    if arguments.sweep:
        return sweep.table(arguments, model, compare)
    entered, last = compare(arguments, model, arguments.batch, arguments.subnets)
    peaks = {contestant.name: contestant.peak_megabytes() for contestant in entered}
    print(
        f"{arguments.model.name}: batch {arguments.batch}, {arguments.threads} threads, {arguments.subnets} subnets "
        f"a step; MACs of the last step's subnets {equal_networks(entered, last)}"
    )
    print("| | ms a step | ms a subnet-update | subnet-updates/s | peak MB | first round, s | time, PyTorch = 1 |")
    print("|---|---|---|---|---|---|---|")
    base = next((c for c in entered if not c.name.startswith("ours")), entered[0])
    for contestant in entered:
        update = contestant.median() / arguments.subnets
        print(
            f"| {contestant.name} | {contestant.median():.1f} | {update:.1f} | {1e3 / update:.1f} | "
            f"{peaks[contestant.name]:.0f} | {contestant.warm_up:.1f} | {contestant.against(base):.2f} |"
        )
    if arguments.peak:
        sweep.peak(entered, model["space"]["vit"], last, arguments.batch)
    for contestant in entered:
        contestant.close()


if __name__ == "__main__":
    sys.exit(main())
