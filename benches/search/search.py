#!/usr/bin/env python3
"""How fast searches find the front of accuracy and MACs: hypervolume against the number of evaluations.

    cargo build --release --locked --workspace --examples
    elastic train --model benches/search/space.yaml --out RUN
    target/release/examples/all-accuracies RUN 2000 > TRUTH
    python3 -m venv VENV && VENV/bin/pip install pymoo pyyaml
    VENV/bin/python benches/search/search.py --truth TRUTH

The accuracy of every subnet of the space is known from TRUTH, so a search costs no time and the best front that there is
is known too. The hypervolume is that of accuracy and MACs (with --three of the parameters too), scaled to the true front's ends, over
that of the true front: 1 is all of it. Contestants are our strategies and pymoo's NSGA-II (its defaults for integers, duplicates removed; subnets that were seen
before cost it nothing), each with as many seeds. Figures are medians, with the lowest and the highest.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import numpy
import yaml
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.problem import ElementwiseProblem
from pymoo.indicators.hv import HV
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.operators.repair.rounding import RoundingRepair
from pymoo.operators.sampling.rnd import IntegerRandomSampling
from pymoo.optimize import minimize
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))
from answering import Answering  # noqa: E402

MARKS = [32, 64, 100, 125, 150, 200, 300, 400, 500]


class Subnets(ElementwiseProblem):
    """The known subnets; remembers in which order they were asked for."""

    def __init__(self, known):
        genomes = numpy.array(list(known))
        objectives = len(next(iter(known.values()))) - 1
        super().__init__(n_var=genomes.shape[1], n_obj=objectives, xl=genomes.min(0), xu=genomes.max(0), vtype=int)
        self.known, self.asked = known, {}

    def _evaluate(self, x, out, *args, **kwargs):
        name, accuracy, *costs = self.known[tuple(int(value) for value in x)]
        self.asked.setdefault(name, (accuracy, *costs))
        out["F"] = [-accuracy, *costs]


def pymoo(known, population, evaluations, seed):
    problem = Subnets(known)
    algorithm = NSGA2(
        pop_size=population,
        sampling=IntegerRandomSampling(),
        crossover=SBX(prob=0.9, eta=15, vtype=float, repair=RoundingRepair()),
        mutation=PM(eta=20, vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=True,
    )
    generations = 4 * evaluations // population
    minimize(problem, algorithm, ("n_gen", generations), seed=seed + 1, verbose=False)
    return list(problem.asked.values())[:evaluations]


class Ours(Answering):
    """Counts the images of its searches and those that were left out since fewer decided, the subnets that were not seen in full, and
    those of them that no subnet beats that was seen before and costs no more."""

    def __init__(self, *arguments, early_stop, objectives, **named):
        super().__init__(*arguments, **named)
        self.early_stop, self.objectives = early_stop, objectives
        self.forget()

    def forget(self):
        self.images = self.left_out = self.stopped = self.in_error = 0

    def run(self, strategy, population, evaluations, seed):
        order = {"strategy": strategy, "seed": seed, "evaluations": evaluations, "population": population}
        points = self.ask(order | {"early-stop": self.early_stop, "objectives": self.objectives})
        all_images, found = max(images for *_, images in points), []
        for accuracy, macs, params, images in points:
            costs = (macs, params)[: len(self.objectives)]
            self.images += all_images
            self.left_out += all_images - images
            if images == all_images:
                found.append((accuracy, *costs))
                continue
            self.stopped += 1
            no_dearer = [other for other, *own in found if all(cost <= limit for cost, limit in zip(own, costs))]
            self.in_error += max(no_dearer) <= accuracy
            # An evaluation that found nothing.
            found.append((0, *costs))
        return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truth", type=Path, required=True, help="what all-accuracies printed")
    parser.add_argument("--model", type=Path, default=HERE / "space.yaml", help="the run's model file")
    parser.add_argument("--ours", type=Path, default=ROOT / "target/release/examples/search-strategies")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--population", type=int, default=32)
    parser.add_argument("--three", action="store_true", help="parameters as a third objective")
    parser.add_argument("--no-early-stop", action="store_true", help="our searches see each subnet in full")
    arguments = parser.parse_args()
    truth = [json.loads(line) for line in arguments.truth.read_text().splitlines()]
    with tempfile.TemporaryDirectory() as folder:
        space = Path(folder) / "space.json"
        space.write_text(json.dumps(yaml.safe_load(arguments.model.read_text())["space"]))
        command = [arguments.ours, space, arguments.truth]
        objectives = ["macs", "params"] if arguments.three else ["macs"]
        ours = Ours("ours", command, opening="[", early_stop=not arguments.no_early_stop, objectives=objectives)
        return table(arguments, truth, ours)


def table(arguments, truth, ours):
    names = [json.dumps(line["subnet"]) for line in truth]
    costs = ["mega-macs", "kilo-params"][: len(ours.objectives)]
    values = lambda line: (line["accuracy"], *(line[cost] for cost in costs))
    known = {tuple(line["genome"]): (name, *values(line)) for line, name in zip(truth, names)}
    points = numpy.array([[-accuracy, *own] for _, accuracy, *own in set(known.values())])
    front = points[NonDominatedSorting().do(points, only_non_dominated_front=True)]
    low, high = front.min(0), front.max(0)
    volume = HV(ref_point=numpy.full(1 + len(costs), 1.1))
    scaled = lambda found: (numpy.array([[-accuracy, *own] for accuracy, *own in found]) - low) / (high - low)
    best = volume((front - low) / (high - low))
    contestants = {name: lambda seed, name=name: ours.run(name, arguments.population, MARKS[-1], seed)
                   for name in ("random", "nsga2", "predictor")}
    contestants["pymoo NSGA-II"] = lambda seed: pymoo(known, arguments.population, MARKS[-1], seed)
    print(f"{len(points)} subnets, {len(front)} of them on the front; {arguments.seeds} seeds")
    print("| evaluations | " + " | ".join(str(mark) for mark in MARKS) + " |")
    print("|---|" + "---|" * len(MARKS))
    for name, run in contestants.items():
        runs = [run(seed) for seed in range(arguments.seeds)]
        cells = []
        for mark in MARKS:
            shares = [volume(scaled(found[:mark])) / best for found in runs]
            cells.append(f"{statistics.median(shares):.4f} ({min(shares):.3f} to {max(shares):.3f})")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
        if ours.stopped:
            print(
                f"{name}: {100 * ours.left_out / ours.images:.1f} % of the images left out, {ours.stopped} subnets stopped, "
                f"{ours.in_error} of them in error",
                file=sys.stderr,
            )
        ours.forget()
    ours.close()


if __name__ == "__main__":
    sys.exit(main())
