"""Processes that answer lines of JSON on their input by lines on their output, so that contestants can take turns."""

import json
import os
import subprocess


class Answering:
    """One such process; `environment` is added to this one's. Each answer is a line that begins with `opening`."""

    def __init__(self, name, command, environment=None, opening="{"):
        self.name, self.opening = name, opening
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})}
        )

    def ask(self, order):
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        # Some packages print their warnings among the answers.
        line = next((line for line in self.process.stdout if line.startswith(self.opening)), None)
        if line is None:
            raise SystemExit(f"{self.name} ended with status {self.process.wait()}; its error is above")
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()
