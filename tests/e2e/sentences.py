#!/usr/bin/env python3
"""Holds an ONNX file of all-MiniLM-L6-v2 against its authors' code on real sentences.

    sentences.py MODEL TOKENIZER      one line of JSON a check: file, check, holds, detail

The sentences, their tokens and their embeddings stand in reference/minilm.json, which reference/minilm.py writes. The file
is that of a classifier with mean pooling; the mean, before the head, is the embedding.
"""

import json
import sys
from pathlib import Path

import numpy
import onnx
import onnxruntime
from tokenizers import Tokenizer

REFERENCE = Path(__file__).parent / "reference/minilm.json"
TOLERANCE = 1e-4
EMBEDDING = "pool.mean"


def main(path, tokenizer):
    model = onnx.load(path)
    [info] = [info for info in model.graph.value_info if info.name == EMBEDDING]
    model.graph.output.append(info)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    length = session.get_inputs()[0].shape[1]
    tokenizer = Tokenizer.from_file(tokenizer)
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length)
    reference = json.loads(REFERENCE.read_text())
    same, worst = 0, [0.0, 0.0]
    for sentence, expected in reference.items():
        encoded = tokenizer.encode(sentence)
        ids, mask = (numpy.array([row], numpy.int64) for row in [encoded.ids, encoded.attention_mask])
        same += ids[0][mask[0] == 1].tolist() == expected["tokens"]
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": numpy.zeros_like(ids)}
        [embedding] = session.run([EMBEDDING], inputs)[0]
        other = numpy.array(expected["embedding"])
        unit = lambda vector: vector / numpy.linalg.norm(vector)
        distances = [abs(embedding - other).max(), abs(unit(embedding) - unit(other)).max()]
        worst = [max(pair) for pair in zip(worst, distances)]
    report(path, f"{same} of {len(reference)} sentences have the tokens of the authors' code", same == len(reference), same)
    for what, distance in zip(["an embedding", "a normalised embedding"], worst):
        report(path, f"largest difference of {what} to the authors' code: {distance:.1e}", distance <= TOLERANCE, distance)


def report(path, name, holds, detail):
    print(json.dumps({"file": str(path), "check": name, "holds": bool(holds), "detail": str(detail)}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
