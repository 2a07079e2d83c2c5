#!/usr/bin/env python3
"""Accuracy of one subnet on validation images, and images a second: ours, ONNX Runtime, PyTorch.

    cargo build --release --locked --workspace --example subnet-accuracy
    elastic train --model MODEL --out RUN && elastic export --run RUN --subnet largest --batch dynamic --out EXPORTS
    benches/inference/inference.py --run RUN --onnx EXPORTS/RUN-largest.onnx --ort PYTHON --torch PYTHON

All take the same images and the same number of threads, in turn: ours in the batches of a search, the others in each size of --batch.
PYTHON has onnxruntime or PyTorch.
The exported file, the shared weights and PyTorch must agree but for one image in 5000. Figures are medians over the rounds.
"""

import argparse
import random
import statistics
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))
import allocator  # noqa: E402
from answering import Answering  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished run of a vision transformer")
    parser.add_argument("--subnet", default="largest")
    parser.add_argument("--onnx", type=Path, required=True, help="the exported file of the same subnet")
    parser.add_argument("--ours", default=ROOT / "target/release/examples/subnet-accuracy")
    parser.add_argument("--ort", required=True, help="a Python that has onnxruntime and numpy")
    parser.add_argument("--torch", required=True, help="a Python that has PyTorch, numpy, pyyaml and safetensors")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 250])
    arguments = parser.parse_args()
    scratch, threads = tempfile.TemporaryDirectory(), str(arguments.threads)
    folder = scratch.name
    ours = [arguments.ours, arguments.run, arguments.subnet, str(arguments.images), folder]
    # Each with the size of batches that it is asked for; ours has its own.
    entered = {"ours": (Answering("ours", ours, {"RAYON_NUM_THREADS": threads, **allocator.ELASTIC}), None)}
    seen = {"ours": [entered["ours"][0].ask(None)]}  # It has written the images when it answers.
    runs = {
        "ONNX Runtime": [arguments.ort, HERE / "onnx_runtime.py", arguments.onnx, folder, threads],
        "PyTorch eager": [arguments.torch, HERE / "eager.py", arguments.run, arguments.subnet, folder, threads],
    }
    for runtime, command in runs.items():
        for batch in arguments.batch:
            name = f"{runtime}, batches of {batch}"
            entered[name] = (Answering(name, command), batch)
            seen[name] = [entered[name][0].ask(batch)]
    rng = random.Random(1)
    for _ in range(arguments.rounds):
        for name in rng.sample(sorted(entered), len(entered)):
            process, batch = entered[name]
            seen[name].append(process.ask(batch))
    right = {name: round(answers[0]["accuracy"] * arguments.images) for name, answers in seen.items()}
    if max(right.values()) - min(right.values()) > arguments.images // 5000:
        sys.exit(f"the networks differ: of {arguments.images} images these are right: {right}")
    print(f"{arguments.subnet}, {arguments.images} images, {threads} threads")
    medians = {name: statistics.median(answer["seconds"] for answer in answers[1:]) for name, answers in seen.items()}
    fastest = min((name for name in seen if name.startswith("PyTorch")), key=medians.get)
    print(f"| | accuracy | images/s | time, {fastest} = 1 |")
    print("|---|---|---|---|")
    for name, (_, *answers) in seen.items():
        paired = [a["seconds"] / b["seconds"] for a, b in zip(answers, seen[fastest][1:])]
        print(
            f"| {name} | {100 * answers[0]['accuracy']:.2f} % | {arguments.images / medians[name]:.0f} | "
            f"{statistics.median(paired):.2f} |"
        )
        entered[name][0].close()


if __name__ == "__main__":
    sys.exit(main())
