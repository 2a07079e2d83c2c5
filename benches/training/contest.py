"""Contestants are processes that do the same training steps in turn."""

import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from answering import Answering  # noqa: E402


class Contestant(Answering):
    def __init__(self, name, command, environment):
        super().__init__(name, command, environment)
        self.milliseconds, self.warm_up = [], 0.0

    def run(self, steps):
        return self.ask({"steps": steps})["milliseconds"]

    def median(self):
        return statistics.median(self.milliseconds)

    def against(self, base):
        """The median of the ratio of the same step."""
        return statistics.median(a / b for a, b in zip(self.milliseconds, base.milliseconds))

    def peak_megabytes(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def race(contestants, warm_up, rounds, rng):
    """All contestants do the steps of each round, in an order drawn anew; `warm_up` is kept apart."""
    for contestant in contestants:
        contestant.warm_up = sum(contestant.run(warm_up)) / 1e3
    for steps in rounds:
        for contestant in rng.sample(contestants, len(contestants)):
            contestant.milliseconds += contestant.run(steps)
