#!/usr/bin/env python3
"""The same ONNX files timed by `elastic profile --model` and by onnxruntime in Python, at the same settings, in turn.

    benches/profiling/clocks.py --python VENV/bin/python MODEL.onnx ... [--rounds 5]

One thread, no spinning, all optimisations; PYTHON has onnxruntime and numpy, of the version that elastic loads. Both take the median of
their samples; the figure is the median over the rounds of the ratio of the two. Python is timed with session.run, which passes
values in and out as numpy arrays, and with values that are bound beforehand, which is what elastic does.
"""

import argparse
import json
import statistics
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

THEIRS = """
import json, sys, time
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
found = []
for path in sys.argv[1:]:
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    [declared] = session.get_inputs()
    shape = [size if isinstance(size, int) else 1 for size in declared.shape]
    feed = {declared.name: numpy.random.default_rng(0).standard_normal(shape, dtype=numpy.float32)}
    binding = session.io_binding()
    binding.bind_cpu_input(declared.name, feed[declared.name])
    binding.bind_output(session.get_outputs()[0].name)
    times = []
    for run in [lambda: session.run(None, feed), lambda: session.run_with_iobinding(binding)]:
        for _ in range(50):
            run()
        walls = []
        for _ in range(400):
            begin = time.perf_counter_ns()
            run()
            walls.append((time.perf_counter_ns() - begin) / 1e3)
        times.append(sorted(walls)[200])
    found.append(times)
print(json.dumps([onnxruntime.__version__, found]))
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elastic", default=ROOT / "target/release/elastic")
    parser.add_argument("--python", required=True)
    parser.add_argument("--platform", default=ROOT / "platforms/host-1t.yaml")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("models", nargs="+")
    arguments = parser.parse_args()
    ours, theirs = [], []
    for _ in range(arguments.rounds):
        # One model a call: the other side has no other model in between either.
        times = []
        for model in arguments.models:
            command = [arguments.elastic, "profile", "--quiet", "--format", "json", "--platform", arguments.platform]
            done = subprocess.run([*command, "--model", model], check=True, capture_output=True, text=True)
            measured = json.loads(done.stdout)
            times.append(measured["models"][0]["latency"]["raw_p50_us"])
        ours.append(times)
        done = subprocess.run([arguments.python, "-c", THEIRS, *arguments.models], check=True, capture_output=True, text=True)
        version, times = json.loads(done.stdout)
        theirs.append(times)
    print(f"elastic: {measured['environment']['runtime_version']}; Python: onnxruntime {version}")
    for index, model in enumerate(arguments.models):
        line = f"{Path(model).name[:12]}: elastic {statistics.median(times[index] for times in ours):.1f} us"
        for way, name in enumerate(["run", "run_with_iobinding"]):
            ratio = statistics.median(a[index] / b[index][way] for a, b in zip(ours, theirs))
            us = statistics.median(times[index][way] for times in theirs)
            line += f"; Python {name} {us:.1f} us, ratio {ratio:.3f}"
        print(line)


if __name__ == "__main__":
    main()
