#!/usr/bin/env python3
"""Latency of the forms and precisions that elastic writes, beside PyTorch's own export of the same network.

    cargo build --release --locked --workspace --example graphs
    benches/graphs/graphs.py MODEL...                 with a Python that has torch, onnx, onnxscript, onnxruntime

For each model file the largest network with random weights is written in every form and precision, built in PyTorch with the same
weights, exported with `torch.onnx.export(dynamo=True)` in opset 18 and 20, and the former optimised by
`onnxruntime.transformers`. All run in ONNX Runtime in this process, in turn, in a new random order every round: one run that is
not timed, then 8 that are. The figure is the ratio of medians to PyTorch's export of opset 18. Before anything is timed the
logits must agree: to 1e-3 in floats; for fewer bits the difference is printed.
"""

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy
import onnxruntime
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from networks import network

ROOT = Path(__file__).resolve().parents[2]
RUNS = 8
BASE = "torch opset 18"


def write(model, folder, ours):
    subprocess.run([ours, model, folder], check=True)
    files = {path.stem: path for path in sorted(folder.glob("*-*.onnx"))}
    module, family, shape = network(folder)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    for opset in (18, 20):
        path = folder / f"torch{opset}.onnx"
        program = torch.onnx.export(module, (images,), dynamo=True, opset_version=opset, verbose=False)
        program.save(path)
        files[f"torch opset {opset}"] = path
    if family != "conv":
        from onnxruntime.transformers import optimizer

        path = folder / "optimized.onnx"
        optimizer.optimize_model(str(folder / "torch18.onnx"), model_type="vit", opt_level=1).save_model_to_file(str(path))
        files["torch opset 18, onnxruntime.transformers"] = path
    with torch.no_grad():
        return files, images.numpy(), module(images).numpy()


def session(path, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def measure(sessions, images, rounds):
    times = {name: [] for name in sessions}
    rng = random.Random(1)
    for _ in range(rounds):
        for name in rng.sample(sorted(sessions), len(sessions)):
            run, feed = sessions[name].run, {sessions[name].get_inputs()[0].name: images}
            run(None, feed)
            for _ in range(RUNS):
                began = time.perf_counter_ns()
                run(None, feed)
                times[name].append((time.perf_counter_ns() - began) / 1000)
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL")
    parser.add_argument("--ours", default=ROOT / "target/release/examples/graphs")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--only", default="", help="files whose name has this, and PyTorch's")
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}")
    for model in arguments.models:
        with tempfile.TemporaryDirectory() as folder:
            files, images, logits = write(model, Path(folder), arguments.ours)
            files = {name: path for name, path in files.items() if arguments.only in name or name.startswith("torch")}
            differences, columns = {}, {}
            for threads in arguments.threads:
                sessions = {name: session(path, threads) for name, path in files.items()}
                for name, each in sessions.items():
                    found = each.run(None, {each.get_inputs()[0].name: images})[0]
                    differences[name] = float(numpy.abs(found - logits).max())
                    if name.endswith("fp32") or name.startswith("torch"):
                        if differences[name] > 1e-3:
                            sys.exit(f"{model}: {name} differs from PyTorch by {differences[name]:.1e}")
                times = measure(sessions, images, arguments.rounds)
                medians = {name: statistics.median(values) for name, values in times.items()}
                for name, median in medians.items():
                    columns.setdefault(name, []).extend([f"{median:.0f}", f"{median / medians[BASE]:.2f}"])
        spread = float(numpy.abs(logits).max())
        print(f"\n{model}: {RUNS * arguments.rounds} samples of each; logits up to {spread:.2f}\n")
        heads = [f"{unit}, {threads} thread{'s' * (threads > 1)}" for threads in arguments.threads for unit in ("us", "ratio")]
        print(f"| | {' | '.join(heads)} | largest difference |\n|---{'|---:' * (len(heads) + 1)}|")
        order = sorted(columns, key=lambda name: float(columns[name][1]))
        for name in order:
            print(f"| {name} | {' | '.join(columns[name])} | {differences[name]:.1e} |")


if __name__ == "__main__":
    main()
