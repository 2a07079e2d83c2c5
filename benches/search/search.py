#!/usr/bin/env python3
"""How fast searches find the front of accuracy and MACs: hypervolume against the number of evaluations.

    cargo build --release --locked --workspace --examples
    elastic train --model benches/search/space.yaml --out RUN
    target/release/examples/all-accuracies RUN 2000 > TRUTH
    python3 -m venv VENV && VENV/bin/pip install pymoo pyyaml
    VENV/bin/python benches/search/search.py --truth TRUTH

The accuracy of every subnet of the space is known from TRUTH, so a search costs no time and the best front that there is
is known too. The hypervolume is that of accuracy and MACs, both scaled to the true front's ends, over that of the true front: 1 is
all of it. Contestants are our strategies and pymoo's NSGA-II (its defaults for integers, duplicates removed; subnets that were seen
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
        super().__init__(n_var=genomes.shape[1], n_obj=2, xl=genomes.min(0), xu=genomes.max(0), vtype=int)
        self.known, self.asked = known, {}

    def _evaluate(self, x, out, *args, **kwargs):
        name, accuracy, macs = self.known[tuple(int(value) for value in x)]
        self.asked.setdefault(name, (accuracy, macs))
        out["F"] = [-accuracy, macs]


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
    def run(self, strategy, population, evaluations, seed):
        return self.ask({"strategy": strategy, "seed": seed, "evaluations": evaluations, "population": population})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truth", type=Path, required=True, help="what all-accuracies printed")
    parser.add_argument("--model", type=Path, default=HERE / "space.yaml", help="the run's model file")
    parser.add_argument("--ours", type=Path, default=ROOT / "target/release/examples/search-strategies")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--population", type=int, default=32)
    arguments = parser.parse_args()
    truth = [json.loads(line) for line in arguments.truth.read_text().splitlines()]
    with tempfile.TemporaryDirectory() as folder:
        space = Path(folder) / "space.json"
        space.write_text(json.dumps(yaml.safe_load(arguments.model.read_text())["space"]))
        return table(arguments, truth, Ours("ours", [arguments.ours, space, arguments.truth], opening="["))


def table(arguments, truth, ours):
    names = [json.dumps(line["subnet"]) for line in truth]
    known = {tuple(line["genome"]): (name, line["accuracy"], line["mega-macs"]) for line, name in zip(truth, names)}
    points = numpy.array([[-accuracy, macs] for _, accuracy, macs in set(known.values())])
    front = points[NonDominatedSorting().do(points, only_non_dominated_front=True)]
    low, high = front.min(0), front.max(0)
    volume = HV(ref_point=numpy.array([1.1, 1.1]))
    scaled = lambda pairs: (numpy.array([[-a, m] for a, m in pairs]) - low) / (high - low)
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
            shares = [volume(scaled(pairs[:mark])) / best for pairs in runs]
            cells.append(f"{statistics.median(shares):.4f} ({min(shares):.3f} to {max(shares):.3f})")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    ours.close()


if __name__ == "__main__":
    sys.exit(main())
