#!/usr/bin/env python3
"""Whether budgets are kept, and what a fleet costs.

    cargo build --release --locked --workspace
    benches/search/fleet.py --folder FOLDER --library LIBRARY

FOLDER gets a run of models/vit-fashion.yaml, if it has none, and profiles of four platforms, if it has none. LIBRARY is the
libonnxruntime.so of the wheel onnxruntime-openvino==1.24.1, which has the CPU provider too. Then

- budgets: five latencies on each of four platforms, between what the fastest and the slowest measured subnet take: asked,
  predicted, measured, kept;
- fleet, at-most, shared: twelve platforms from one supernet, in one command: one model for each, four for all, one for all.

To save time the platforms ask for fewer samples than those in platforms/; `--samples` says how many. A fleet's twelve platforms
are four devices three times, with other limits.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DEVICES = ["host-1t", "host-2t", "openvino", "host-tract"]
# Of the way from the fastest to the slowest measured subnet.
SHARES = [0.15, 0.3, 0.5, 0.7, 0.9]
COMMANDS = {"fleet": [], "at-most": ["--at-most", 4], "shared": ["--shared"]}
FLEET = {"tight": (0.2, "150KB"), "middle": (0.5, "300KB"), "loose": (0.8, "600KB")}


class Bench:
    def __init__(self, arguments):
        self.folder = Path(arguments.folder).resolve()
        self.samples, self.subnets = arguments.samples, arguments.subnets
        self.elastic = Path(arguments.elastic).resolve()
        self.environment = os.environ | ({"ELASTIC_ORT_LIBRARY": arguments.library} if arguments.library else {})
        for name in ["platforms", "profiles"]:
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        for name in ["models", "data"]:
            if not (self.folder / name).exists():
                (self.folder / name).symlink_to(ROOT / name)

    def run(self, *words):
        """Standard output and seconds of a command that may end with any code."""
        began = time.monotonic()
        done = subprocess.run(
            [self.elastic, *map(str, words)], cwd=self.folder, env=self.environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        return done, time.monotonic() - began

    def succeed(self, *words):
        done, seconds = self.run(*words)
        if done.returncode:
            sys.exit(f"elastic {' '.join(map(str, words))}: exit code {done.returncode}\n{done.stderr}")
        return done.stdout, seconds

    def json(self, *words):
        output, seconds = self.succeed(*words, "--format", "json")
        return json.loads(output), seconds

    def prepare(self):
        if not (self.folder / "runs/vit-fashion/supernet.safetensors").exists():
            self.succeed("train", "--model", "models/vit-fashion.yaml")
        for device in DEVICES:
            text = (ROOT / f"platforms/{device}.yaml").read_text()
            few = {"subnets": self.subnets, "min-samples": self.samples, "max-samples": 2 * self.samples}
            for field, value in few.items():
                text = re.sub(rf"(?m)^(  {field}:) \d+", rf"\1 {value}", text)
            (self.folder / f"platforms/{device}.yaml").write_text(text)
            if not (self.folder / f"profiles/{device}.json").exists():
                self.succeed("profile", "--platform", device)

    def profile(self, device):
        return json.loads((self.folder / f"profiles/{device}.json").read_text())


def budgets(bench):
    print("| platform | asked | predicted | measured | kept | validation accuracy | candidates measured |")
    print("|---|---|---|---|---|---|---|")
    kept = 0
    for device in DEVICES:
        for share in SHARES:
            asked = between(bench.profile(device), share)
            words = ["export", "--budget", f"{asked}us", "--platform", device, "--out", "budgets", "--format", "json"]
            done, _ = bench.run(*words)
            tried = 1 + done.stderr.count("over the budget")
            if done.returncode:
                message = json.loads(done.stdout)["error"]["message"]
                print(f"| {device} | {asked} us | | | no: exit code {done.returncode}, {message} | | {tried - 1} |", flush=True)
                continue
            [report] = json.loads(done.stdout)
            [budget] = report["budgets"]
            holds = budget["measured"] <= asked
            kept += holds
            print(
                f"| {device} | {asked} us | {report['predicted-latency-us']:.1f} us | {budget['measured']:.1f} us "
                f"| {'yes' if holds else 'NO'} | {100 * report['validation-accuracy']:.2f} % | {tried} |",
                flush=True,
            )
    print(f"\n{kept} of {len(DEVICES) * len(SHARES)} kept\n")


def fleet(bench, evaluations, commands):
    own = {device: bench.profile(device) for device in DEVICES}
    for device in DEVICES:
        (bench.folder / f"profiles/{device}.json").unlink()
    try:
        for device in DEVICES:
            for name, (share, size) in FLEET.items():
                text = (bench.folder / f"platforms/{device}.yaml").read_text()
                limits = f"limits: {{latency: {between(own[device], share)}us, file-size: {size}}}\n"
                (bench.folder / f"platforms/{device}-{name}.yaml").write_text(text.replace("\nmeasure:", f"\n{limits}measure:"))
                profile = own[device] | {"name": f"{device}-{name}"}
                (bench.folder / f"profiles/{device}-{name}.json").write_text(json.dumps(profile))
        accuracies = bench.folder / "runs/vit-fashion/accuracies.jsonl"
        print("| command | files | wall time | accuracies measured | mean accuracy | all limits kept |")
        print("|---|---|---|---|---|---|")
        for flags in commands:
            accuracies.unlink(missing_ok=True)
            words = ["export", "--all-platforms", "--evaluations", evaluations, *flags, "--out", "fleet"]
            result, seconds = bench.json(*words)
            platforms = result if not flags else result["platforms"]
            measured = sum(1 for _ in accuracies.open())
            files = len({platform["file"] for platform in platforms})
            mean = sum(platform["validation-accuracy"] for platform in platforms) / len(platforms)
            kept = sum(holds(budget) for platform in platforms for budget in platform["budgets"])
            asked = sum(len(platform["budgets"]) for platform in platforms)
            command = " ".join(map(str, words[:-2]))
            print(f"| `elastic {command}` | {files} | {seconds:.0f} s | {measured} | {100 * mean:.2f} % | {kept} of {asked} |", flush=True)
            if not flags:
                known = [len(report["search"]["evaluated"]) for report in result]
                asked_for = [report["search"]["evaluations"] for report in result]
                shared = sum(known) - sum(asked_for)
                print(f"shared: {shared} accuracies of earlier platforms' searches, {sum(asked_for)} measured", file=sys.stderr)
            else:
                print(json.dumps({key: value for key, value in result.items() if key.startswith(("mean", "exact", "subnets"))}), file=sys.stderr)
    finally:
        for device in DEVICES:
            for name in FLEET:
                (bench.folder / f"profiles/{device}-{name}.json").unlink(missing_ok=True)
            (bench.folder / f"profiles/{device}.json").write_text(json.dumps(own[device]))


def between(profile, share):
    """A latency in whole microseconds, so far between the fastest and the slowest measured subnet."""
    measured = [subnet["latency"]["p50_us"] for subnet in profile["measurements"]]
    return round(min(measured) + share * (max(measured) - min(measured)))


def holds(budget):
    number, unit = re.fullmatch(r"([\d.]+)(\w+)", budget["asked"]).groups()
    return budget["measured"] <= float(number) * {"us": 1, "ms": 1e3, "s": 1e6, "KB": 1e3, "MB": 1e6}[unit]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--library", help="libonnxruntime.so of onnxruntime-openvino")
    parser.add_argument("--elastic", default=ROOT / "target/release/elastic")
    parser.add_argument("--samples", type=int, default=100, help="timed runs of each subnet, at least")
    parser.add_argument("--subnets", type=int, default=24, help="subnets that each profile measures")
    parser.add_argument("--evaluations", type=int, default=60, help="accuracies of each of the fleet's searches")
    parser.add_argument("part", nargs="*", choices=["prepare", "budgets", *COMMANDS])
    arguments = parser.parse_args()
    bench = Bench(arguments)
    parts = arguments.part or ["budgets", *COMMANDS]
    bench.prepare()
    if "budgets" in parts:
        budgets(bench)
    commands = [flags for part, flags in COMMANDS.items() if part in parts]
    if commands:
        fleet(bench, arguments.evaluations, commands)


if __name__ == "__main__":
    main()
