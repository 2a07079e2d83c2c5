"""Contestants are processes that do the same training steps in turn."""

import json
import os
import statistics
import subprocess
from pathlib import Path


class Contestant:
    """A process that answers lines of JSON on its input by lines on its output."""

    def __init__(self, name, command, environment):
        self.name, self.milliseconds, self.warm_up = name, [], 0.0
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
        )

    def ask(self, order):
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        # Some packages print their warnings among the answers.
        line = next((line for line in self.process.stdout if line.startswith("{")), None)
        if line is None:
            raise SystemExit(f"{self.name} ended with status {self.process.wait()}; its error is above")
        return json.loads(line)

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

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def race(contestants, warm_up, rounds, rng):
    """All contestants do the steps of each round, in an order drawn anew; `warm_up` is kept apart."""
    for contestant in contestants:
        contestant.warm_up = sum(contestant.run(warm_up)) / 1e3
    for steps in rounds:
        for contestant in rng.sample(contestants, len(contestants)):
            contestant.milliseconds += contestant.run(steps)
