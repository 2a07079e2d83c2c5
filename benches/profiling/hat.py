#!/usr/bin/env python3
"""The latency predictor of HAT (Wang et al., ACL 2020) on HAT's own measurements and on ours.

    python3 -m venv VENV && VENV/bin/pip install torch==2.9.0
    VENV/bin/python benches/profiling/hat.py CSV LATENCY_NORM       # of the repository's latency_dataset and its configs
    VENV/bin/python benches/profiling/hat.py PROFILE.json 100 300   # a vision transformer's: fitted to so many, asked for the last 200

Written anew from `latency_predictor.py` of mit-han-lab/hardware-aware-transformers: a multi-layer perceptron of four hidden layers of 400
on averages over the layers, 5,000 steps of Adam at 1e-5 with batches of 128, 80 % of the data for training, the last 10 % for the test.
Three seeds, each with its own split.
"""

import csv
import json
import random
import sys
from pathlib import Path
from statistics import mean, median

import torch
from torch import nn

HIDDEN, LAYERS, STEPS, BATCH, RATE = 400, 4, 5000, 128, 1e-5
FEATURE_NORM = [640, 6, 2048, 6, 640, 6, 2048, 6, 6, 2]
HELD_OUT = 200


def theirs(path):
    """Features and latencies of a CSV; encoder and decoder are added up."""
    for row in list(csv.reader(path.open()))[1:]:
        features, latencies = row[: len(FEATURE_NORM)], row[len(FEATURE_NORM) :]
        yield [float(value) / norm for value, norm in zip(features, FEATURE_NORM)], sum(map(float, latencies[:2]))


def ours(path):
    """What HAT's features are of a vision transformer: embedding, depth, mean heads and mean MLP width."""
    for measured in json.loads(path.read_text())["measurements"]:
        subnet = measured["subnet"]["vit"]
        layers = subnet["layers"]
        over_layers = [mean(layer[name] for layer in layers) for name in ["heads", "mlp-width"]]
        yield [subnet["embed-dim"], len(layers), *over_layers], measured["latency"]["p50_us"]


def fitted(features, latencies, seed):
    torch.manual_seed(seed)
    sizes = [features.shape[1], *[HIDDEN] * LAYERS]
    hidden = [layer for size in zip(sizes, sizes[1:]) for layer in (nn.Linear(*size), nn.ReLU())]
    network = nn.Sequential(*hidden, nn.Linear(HIDDEN, 1), nn.Flatten(0))
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    for _ in range(STEPS):
        batch = torch.randperm(len(features))[:BATCH]
        optimizer.zero_grad()
        nn.functional.mse_loss(network(features[batch]), latencies[batch]).backward()
        optimizer.step()
    return network.requires_grad_(False)


def report(name, data, measured, latency_norm):
    """Fits to the first `measured`, asks for the last 200; the middle of three seeds."""
    figures = []
    for seed in range(3):
        shuffled = random.Random(seed).sample(data, len(data)) if measured is None else data
        count = measured or len(data) * 8 // 10
        features, latencies = (torch.tensor(column) for column in zip(*shuffled))
        latencies /= latency_norm or latencies[:count].max()
        if measured is not None:
            features /= features[:count].max(0).values
        network = fitted(features[:count], latencies[:count], seed)
        errors = network(features[-HELD_OUT:]) / latencies[-HELD_OUT:] - 1
        figures.append([100 * errors.abs().mean(), *(100 * (errors.abs() <= within).float().mean() for within in (0.05, 0.1))])
    error, within_5, within_10 = (median(map(float, column)) for column in zip(*figures))
    print(f"| {name} | {count} | {within_5:.1f} % | {within_10:.1f} % | {error:.2f} % |", flush=True)


def main():
    torch.set_num_threads(1)
    path, numbers = Path(sys.argv[1]), sys.argv[2:]
    print("| data | measured | within 5 % | within 10 % | mean error |\n|---|---|---|---|---|")
    if path.suffix == ".csv":
        return report(path.stem, list(theirs(path)), None, float(numbers[0]))
    for count in numbers:
        report(path.stem, list(ours(path)), int(count), None)


if __name__ == "__main__":
    main()
