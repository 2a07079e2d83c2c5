#!/usr/bin/env python3
"""How many validation images a search could leave out by ending an evaluation once it is decided.

    benches/search/early_stop.py exports/NAME.json ...

For each subnet that a search evaluated, in their order, its right and wrong answers are drawn in a random order, as the images have
none of their own. After every 250 the upper end of the Wilson interval of its final accuracy (with the correction for a finite
population, at 1 - 1e-3) is held against the best that was found before at no higher cost: below it, the subnet can
neither win nor enter the front, and the rest of its images could be left out. The model of the accuracy would then be fitted to
fewer images; that is not simulated.
"""

import argparse
import json
import math
import random

BATCH = 250
Z = 3.0902  # one side, 1e-3


def upper(right, seen, images):
    """Of the accuracy on all images, after `seen` of them."""
    left = (images - seen) / (images - 1)
    if not left:
        return right / images
    n = seen / left
    share = right / seen
    middle = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    return middle + Z / (1 + Z * Z / n) * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))


def evaluate(right, images, rival, rng):
    """Images seen until the subnet is known to be no better than its rival."""
    answers = [1] * right + [0] * (images - right)
    rng.shuffle(answers)
    count = 0
    for begin in range(0, images, BATCH):
        count += sum(answers[begin:begin + BATCH])
        seen = min(begin + BATCH, images)
        if seen < images and upper(count, seen, images) < rival:
            return seen
    return images


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", nargs="+", help="NAME.json beside an exported model")
    reports = parser.parse_args().report
    rng = random.Random(1)
    print("| search | evaluated | lowest to highest accuracy | of no use in the end | images left out | stopped in error |")
    print("|---|---|---|---|---|---|")
    for path in reports:
        report = json.load(open(path))
        images, points = report["validation-images"], report["search"]["evaluated"]
        usage = lambda point: max((cost for _, cost in point["costs"]), default=0)
        seen = useless = wrong = 0
        for place, point in enumerate(points):
            earlier = [other["accuracy"] for other in points[:place] if usage(other) <= usage(point)]
            rival = max(earlier, default=0)
            took = evaluate(round(point["accuracy"] * images), images, rival, rng)
            seen += took
            useless += point["accuracy"] < rival
            wrong += took < images and point["accuracy"] > rival
        accuracies = [100 * point["accuracy"] for point in points]
        share = 1 - seen / (images * len(points))
        print(
            f"| {path.split('/')[-1].removesuffix('.json')} | {len(points)} | {min(accuracies):.2f} to {max(accuracies):.2f} % "
            f"| {useless} | {100 * share:.1f} % | {wrong} |"
        )


if __name__ == "__main__":
    main()
