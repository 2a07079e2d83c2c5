#!/usr/bin/env python3
"""What a search saves by ending the evaluation of a subnet once it is clear that one that costs no more is more accurate.

    cargo build --release --locked --workspace
    benches/search/early_stop.py --folder FOLDER --run runs/NAME BUDGET ...

In FOLDER, which has the run and its data, each budget is searched for with and without --no-early-stop in turns, from no known
accuracies. The time is that of the whole command (median of the rounds), the images are what the searches asked for. That nothing is stopped in error
is counted by benches/search/search.py, which knows the accuracy of every subnet.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def export(arguments, budget, flags):
    """The report of one export, and its seconds."""
    run = Path(arguments.folder) / arguments.run
    (run / "accuracies.jsonl").unlink(missing_ok=True)
    words = ["export", "--run", arguments.run, "--budget", budget, "--evaluations", str(arguments.evaluations)]
    words += [*flags, "--out", "early-stop", "--format", "json"]
    words += ["--platform", arguments.platform] if arguments.platform else []
    began = time.monotonic()
    done = subprocess.run(
        [arguments.elastic, *words], cwd=arguments.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    if done.returncode:
        sys.exit(f"elastic {' '.join(words)}: exit code {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout)[0], time.monotonic() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--run", required=True, help="relative to the folder; its accuracies.jsonl is removed")
    parser.add_argument("--platform", help="whose profile the folder has")
    parser.add_argument("--elastic", type=os.path.abspath, default=ROOT / "target/release/elastic")
    parser.add_argument("--evaluations", type=int, default=125)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("budget", nargs="+")
    arguments = parser.parse_args()
    print("| budget | evaluated | ended early | images left out | time | validation accuracy in full, ended early |")
    print("|---|---|---|---|---|---|")
    for budget in arguments.budget:
        seconds = {"full": [], "early": []}
        reports = {}
        for _ in range(arguments.rounds):
            for name, flags in [("full", ["--no-early-stop"]), ("early", [])]:
                reports[name], took = export(arguments, budget, flags)
                seconds[name].append(took)
        report = reports["early"]
        images, points = report["validation-images"], report["search"]["evaluated"]
        stopped = [point["stopped-after"] for point in points if "stopped-after" in point]
        share = sum(images - seen for seen in stopped) / (images * len(points))
        full, early = (statistics.median(seconds[name]) for name in ("full", "early"))
        accuracies = ", ".join(f"{100 * reports[name]['validation-accuracy']:.2f} %" for name in ("full", "early"))
        print(
            f"| {budget} | {len(points)} | {len(stopped)} | {100 * share:.1f} % "
            f"| {full:.1f} s to {early:.1f} s | {accuracies} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
