#!/usr/bin/env python3
"""The same subnets measured in separate calls: how far the results are apart.

    benches/profiling/repeatability.py --run RUN [--platform host-1t] [--subnets 10] [--calls 5] [--load]

For each subnet the range over the calls, in percent of its median: of the raw median, and of the ratio to the reference.
--load keeps one core busy meanwhile.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def spread(values):
    return 100 * (max(values) - min(values)) / statistics.median(values)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elastic", default=ROOT / "target/release/elastic")
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished run")
    parser.add_argument("--platform", default=ROOT / "platforms/host-1t.yaml")
    parser.add_argument("--subnets", type=int, default=10)
    parser.add_argument("--calls", type=int, default=5)
    parser.add_argument("--load", action="store_true", help="keep one core busy")
    arguments = parser.parse_args()
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if arguments.load else None
    ratios, raw, courses = {}, {}, []
    try:
        with tempfile.TemporaryDirectory() as folder:
            for call in range(arguments.calls):
                out = Path(folder) / f"{call}.json"
                # The seed chooses the subnets, so it is the same.
                command = [arguments.elastic, "profile", "--quiet", "--run", arguments.run, "--platform", arguments.platform]
                command += ["--subnets", str(arguments.subnets), "--seed", "1", "--out", out]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ)
                profile = json.loads(out.read_text())
                courses.append(profile["course"])
                for measured in profile["measurements"][1:]:
                    key = json.dumps(measured["subnet"])
                    ratios.setdefault(key, []).append(measured["latency"]["ratio_to_reference"])
                    raw.setdefault(key, []).append(measured["latency"]["raw_p50_us"])
    finally:
        if busy:
            busy.kill()
    for name, values in [("raw p50", raw), ("ratio to the reference", ratios)]:
        spreads = sorted(spread(list(calls)) for calls in values.values())
        print(f"{name}: spread over {arguments.calls} calls, median {statistics.median(spreads):.2f} %, "
              f"worst {spreads[-1]:.2f} %, of {len(spreads)} subnets")
    print("rounds of each call:", [course["rounds"] for course in courses],
          "voided blocks:", [course["voided_blocks"] for course in courses])


if __name__ == "__main__":
    main()
