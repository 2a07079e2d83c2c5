#!/usr/bin/env python3
"""Checks exported models with tools that share nothing with elastic: the onnx package and onnxruntime.

    check_models.py DATA MODEL...          one line of JSON a check: file, check, holds, detail
    check_models.py --tamper MODEL OUT     a copy with one wrong weight, which `elastic verify` must refuse

DATA is a folder with the IDX files of the test set. Beside each model lies the report that `elastic export` wrote.
"""

import gzip
import json
import sys
from pathlib import Path

import numpy
import onnx
import onnxruntime
from onnx.reference import ReferenceEvaluator

TOLERANCE = 1e-4


def idx(path, header):
    return numpy.frombuffer(gzip.decompress(path.read_bytes()), numpy.uint8, offset=header)


def check(path, pixels, labels):
    """Yields (check, holds, detail) for one model."""
    model = onnx.load(path)
    report = json.loads(path.with_suffix(".json").read_text())
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    dynamic = metadata["elastic.batch"] == "dynamic"

    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    known = {value.name: value.type.tensor_type.shape for value in [*inferred.graph.value_info, *inferred.graph.output]}
    open_shapes = [
        output
        for node in inferred.graph.node
        for output in node.output
        if output not in known or not (dynamic or all(d.HasField("dim_value") for d in known[output].dim))
    ]
    yield "onnx.checker and strict shape inference know every shape", not open_shapes, open_shapes

    opsets = {entry.domain: entry.version for entry in model.opset_import}
    contrib = {"com.microsoft": 1} if report["form"] == "contrib-attention" else {}
    yield "the operators are those of the form", opsets == {"": report["opset"], **contrib}, (report["form"], opsets)

    # Constants of formulas have a name that says so.
    floats = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
    learned = [t for t in floats if not t.name.startswith("float.")]
    params = sum(int(numpy.prod(t.dims)) for t in learned)
    yield "as many parameters as the report says", params == report["params"], (params, report["params"])

    # Preprocessing as a user of the file would do it, from the file alone.
    how = json.loads(metadata["elastic.preprocessing"])
    mean, std = (numpy.array(how[key]).reshape(-1, 1, 1) for key in ["mean", "std"])
    images = ((pixels * how["scale"] - mean) / std).astype(numpy.float32)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    size = 64 if dynamic else int(metadata["elastic.batch"])
    logits = numpy.concatenate(
        [session.run(["logits"], {"images": images[i : i + size]})[0] for i in range(0, len(images), size)]
    )
    accuracy = float((logits.argmax(1) == labels).mean())
    expected = report["proof"]["test-accuracy"]
    # A tie may fall either way where images were prepared in another order of operations.
    yield "test accuracy is the reported one", abs(accuracy - expected) < 1.5 / len(labels), (accuracy, expected)

    if contrib:
        return  # onnx knows the standard operators alone
    evaluator = ReferenceEvaluator(model)
    difference = max(
        float(abs(evaluator.run(["logits"], {"images": images[i : i + size]})[0] - logits[i : i + size]).max())
        for i in range(0, 4 * size, size)
    )
    yield "onnx's reference implementation agrees", difference <= TOLERANCE, difference


def tamper(path, out):
    model = onnx.load(path)
    [weight] = [tensor for tensor in model.graph.initializer if tensor.name == "head.bias"]
    values = onnx.numpy_helper.to_array(weight).copy()
    values[0] += 0.01
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(model, out)


def main(arguments):
    if arguments[0] == "--tamper":
        tamper(*arguments[1:])
        return
    data, *models = map(Path, arguments)
    pixels = idx(data / "t10k-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28)
    labels = idx(data / "t10k-labels-idx1-ubyte.gz", 8)
    for path in models:
        try:
            for name, holds, detail in check(path, pixels, labels):
                print(json.dumps({"file": str(path), "check": name, "holds": bool(holds), "detail": str(detail)}))
        except Exception as error:
            print(json.dumps({"file": str(path), "check": "can be checked", "holds": False, "detail": repr(error)}))


if __name__ == "__main__":
    main(sys.argv[1:])
