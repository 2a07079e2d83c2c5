#!/usr/bin/env python3
"""How many validation images a search could leave out by ending an evaluation once it is decided.

    benches/search/early_stop.py RUN exports/NAME.json ...

For each subnet that a search evaluated, in their order, what it answered to each image is known from the run's `accuracies.jsonl`. It
is held against the most accurate one that was evaluated before at no higher cost: after every 250 images, in an order drawn at random,
the upper end of the confidence interval of the difference of their accuracies on all images is computed, from the images where only one of the
two is right (with the correction for a finite population, at 1 - 1e-3). Below zero, the subnet can neither win nor enter the front,
and the rest of its images could be left out. The model would then be fitted to fewer answers; that is not simulated.
"""

import argparse
import base64
import json
import math
import random
from pathlib import Path

BATCH = 250
Z = 3.0902  # one side, 1e-3


def answers(run):
    """Of each number of images and each subnet whether it is right, image by image."""
    known = {}
    for line in map(json.loads, (Path(run) / "accuracies.jsonl").read_text().splitlines()):
        # Margins are signed bytes: above zero where the answer is right.
        right = [0 < byte < 128 for byte in base64.b64decode(line["margins"])]
        known[line["key"]["images"], json.dumps(line["subnet"])] = right
    return known


def evaluate(subnet, rival, order):
    """Images seen until the subnet is known to be no better than its rival."""
    better = worse = 0
    for seen, image in enumerate(order, 1):
        better += subnet[image] and not rival[image]
        worse += rival[image] and not subnet[image]
        if seen % BATCH or seen == len(order):
            continue
        difference = (better - worse) / seen
        variance = (better + worse) / seen - difference * difference
        # Of few images where they differ the deviation is not known: as if there were one.
        deviation = math.sqrt(max(variance, 1 / seen) / seen * (len(order) - seen) / (len(order) - 1))
        if difference + Z * deviation < 0:
            return seen
    return len(order)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the run's folder")
    parser.add_argument("report", nargs="+", help="NAME.json beside an exported model")
    arguments = parser.parse_args()
    rng, known = random.Random(1), answers(arguments.run)
    print("| search | evaluated | lowest to highest accuracy | of no use in the end | images left out | stopped in error |")
    print("|---|---|---|---|---|---|")
    for path in arguments.report:
        report = json.loads(Path(path).read_text())
        images, points = report["validation-images"], report["search"]["evaluated"]
        usage = lambda point: max((cost for _, cost in point["costs"]), default=0)
        seen = useless = wrong = 0
        for place, point in enumerate(points):
            earlier = [other for other in points[:place] if usage(other) <= usage(point)]
            rival = max(earlier, key=lambda other: other["accuracy"], default=None)
            if rival is None:
                seen += images
                continue
            of = lambda one: known[images, json.dumps(one["subnet"])]
            took = evaluate(of(point), of(rival), rng.sample(range(images), images))
            seen += took
            useless += point["accuracy"] < rival["accuracy"]
            wrong += took < images and point["accuracy"] > rival["accuracy"]
        accuracies = [100 * point["accuracy"] for point in points]
        share = 1 - seen / (images * len(points))
        print(
            f"| {Path(path).stem} | {len(points)} | {min(accuracies):.2f} to {max(accuracies):.2f} % "
            f"| {useless} | {100 * share:.1f} % | {wrong} |"
        )


if __name__ == "__main__":
    main()
