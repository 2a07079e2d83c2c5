#!/usr/bin/env python3
"""Holds every dependency in Cargo.lock against deny.toml: licences, sources, and who may depend on what.

It reads the same file as cargo-deny, and asks the same of the parts that this project uses; it exists because
cargo-deny takes longer to compile than the rest of the checks. Needs Python 3.11 or newer.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def allowed(expression, licences):
    """Whether an SPDX expression can be met by `licences`; the old `MIT/Apache-2.0` means OR."""
    words = re.findall(r"[()]|[^\s()/]+", expression.replace("/", " OR "))

    def either():
        value = both()
        while words and words[0] == "OR":
            words.pop(0)
            value = both() or value
        return value

    def both():
        value = one()
        while words and words[0] == "AND":
            words.pop(0)
            value = one() and value
        return value

    def one():
        word = words.pop(0)
        if word == "(":
            value = either()
            words.pop(0)
            return value
        if words and words[0] == "WITH":
            words.pop(0)
            word = f"{word} WITH {words.pop(0)}"
        return word in licences

    return either()


def tree():
    """The packages that are built for any target, tests included, as (name, version, place, licence), and for each
    name the names that depend on it.

    `cargo metadata` would also list optional dependencies that no feature turns on.
    """
    command = ["cargo", "tree", "--workspace", "--locked", "--target", "all", "--edges", "normal,build,dev"]
    command += ["--prefix", "depth", "--format", "|{p}|{l}|"]
    text = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    packages, dependents, path = set(), {}, []
    for line in filter(None, text.splitlines()):
        depth, package, licence, _ = line.split("|")
        name, version, *place = package.replace(" (proc-macro)", "").split(" ")
        packages.add((name, version, " ".join(place), licence))
        path[int(depth) :] = [name]
        if len(path) > 1:
            dependents.setdefault(name, set()).add(path[-2])
    return sorted(packages), dependents


def main():
    rules = tomllib.loads((ROOT / "deny.toml").read_text())
    packages, dependents = tree()
    everywhere = set(rules["licenses"]["allow"])
    exceptions = {e["crate"]: set(e["allow"]) for e in rules["licenses"].get("exceptions", [])}
    complaints = []
    for name, version, place, licence in packages:
        licences = everywhere | exceptions.get(name, set())
        if not licence or not allowed(licence, licences):
            complaints.append(f"{name} {version}: licence {licence or 'unknown'} is not allowed in deny.toml")
        # cargo names a package's place only if it is not cargo's own registry.
        if place and not place.strip("()").startswith(str(ROOT)):
            complaints.append(f"{name} {version}: comes from {place}, not from cargo's own registry")
    for ban in rules["bans"]["deny"]:
        for name in sorted(dependents.get(ban["crate"], set()) - set(ban.get("wrappers", []))):
            complaints.append(f"{name} depends on {ban['crate']}: {ban.get('reason', 'banned in deny.toml')}")
    for complaint in complaints:
        print(complaint)
    print(f"{len(packages)} packages, {len(complaints)} complaints")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
