#!/usr/bin/env python3
"""Whether another runtime, or an older one, loads the files of a folder and computes the same.

    target/release/examples/graphs MODEL FOLDER
    benches/graphs/elsewhere.py FOLDER            once with a current onnxruntime, which writes the logits of the portable file
    benches/graphs/elsewhere.py FOLDER            then with a Python that has another onnxruntime, or openvino, or onnx

Every runtime that this Python has is asked. `onnx` means its checker with full shape inference.
"""

import sys
from pathlib import Path

import numpy


def onnxruntime_run(path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return f"onnxruntime {onnxruntime.__version__}", session.get_inputs()[0].shape, lambda x: session.run(None, {"images": x})[0]


def openvino_run(path):
    import openvino

    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return f"openvino {openvino.__version__.split('-')[0]}", list(compiled.input(0).shape), lambda x: compiled([x])[0]


def onnx_check(path):
    import onnx

    onnx.checker.check_model(str(path), full_check=True)
    return f"onnx.checker {onnx.__version__}", None, None


def main(folder):
    folder = Path(folder)
    for path in sorted(folder.glob("*-*.onnx")):
        for ask in (onnx_check, onnxruntime_run, openvino_run):
            try:
                name, shape, run = ask(path)
                if run is None:
                    print(f"| {path.stem} | {name} | valid |")
                    continue
                images = numpy.random.default_rng(1).standard_normal(shape).astype(numpy.float32)
                logits, known = run(images), folder / "logits.npy"
                if not known.exists() and path.stem == "portable-fp32":
                    numpy.save(known, logits)
                difference = float(numpy.abs(logits - numpy.load(known)).max()) if known.exists() else float("nan")
                print(f"| {path.stem} | {name} | runs, {difference:.1e} from portable-fp32 |")
            except ImportError:
                continue
            except Exception as error:
                print(f"| {path.stem} | {ask.__name__} | {str(error).strip().splitlines()[0][:120]} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
