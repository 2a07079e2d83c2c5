#!/usr/bin/env python3
"""What is lost, and what is printed, when something fails while a device is profiled.

    benches/profiling/faults.py --run RUN

Each fault happens in a call of its own, through an agent at the other end of a pipe. Needs Linux (unshare, for a full disk).
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

# The agent's first start is the check before anything is built; the second measures.
FAULTS = {
    "none": 'exec "$ELASTIC" agent --work work',
    "agent killed": """n=$(cat n 2>/dev/null || echo 0); echo $((n + 1)) > n
if [ $n = 1 ]; then "$ELASTIC" agent --work work <&0 & pid=$!; (sleep 2; kill -9 $pid) & wait $pid; else exec "$ELASTIC" agent --work work; fi""",
    "link cut": """n=$(cat n 2>/dev/null || echo 0); echo $((n + 1)) > n
if [ $n = 1 ]; then "$ELASTIC" agent --work work | dd bs=1 count=15000 status=none; else exec "$ELASTIC" agent --work work; fi""",
    "disk full": """mkdir -p work; exec unshare --mount --map-root-user sh -c 'mount -t tmpfs -o size=64k tmpfs work && exec "$ELASTIC" agent --work work'""",
    "hung run": 'exec "$ELASTIC" agent --work work',
    "wrong library": """export ELASTIC_ORT_LIBRARY=$(ldd /bin/sh | awk '/libc.so/ {print $3}'); exec "$ELASTIC" agent --work work""",
    "another version": """echo '{"hello": {"protocol": "elastic.agent/v0", "elastic-version": "0.0.1", "host": {"arch": "a", "os": "b", "models": [], "threads": 1, "memory-mb": 1}}}'; cat""",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elastic", default=ROOT / "target/release/elastic")
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished run")
    arguments = parser.parse_args()
    elastic, run = Path(arguments.elastic).absolute(), arguments.run.absolute()
    described = (ROOT / "platforms/host-1t.yaml").read_text()
    for name, script in FAULTS.items():
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            (folder / "link").write_text(script)
            timeout = 60
            command = ["sh", "link"]
            if name == "hung run":
                # Nothing that the runtime does can be told from a run that hangs but its time: a second is not enough to load.
                timeout = 1
            text = described.replace("transport: local ", "transport: " + json.dumps(
                {"exec": {"command": command, "timeout-s": timeout}}) + " ")
            (folder / "device.yaml").write_text(text)
            count = "200" if name == "hung run" else "6"
            done = subprocess.run(
                [elastic, "profile", "--quiet", "--platform", "device.yaml", "--run", run, "--subnets", count, "--out", "out.json"],
                cwd=folder, env=os.environ | {"ELASTIC": str(elastic)}, capture_output=True, text=True)
            written = folder / "out.json"
            rounds = json.loads(written.read_text())["course"]["rounds"] if written.exists() else None
            starts = (folder / "n").read_text().strip() if (folder / "n").exists() else "-"
            print(f"## {name}\nexit code {done.returncode}; rounds in the profile: {rounds}; starts of the agent: {starts}")
            print(done.stderr.strip().replace(str(folder), "FOLDER"))
            shutil.rmtree(folder / "work", ignore_errors=True)


if __name__ == "__main__":
    main()
