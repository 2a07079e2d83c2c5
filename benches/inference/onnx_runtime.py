"""An exported subnet in ONNX Runtime, for `inference.py`."""

import sys

import onnxruntime

from serve import serve


def main():
    _, model, folder, threads = sys.argv
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(threads)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    serve(folder, given.shape[1:], lambda images: session.run(None, {given.name: images})[0])


if __name__ == "__main__":
    main()
