#!/usr/bin/env python3
"""Checks that what the documents name exists: files behind relative links, and tests named as `file: function`."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
NAMED_TEST = re.compile(r"`([\w.-]+/[\w./-]+): (\w+)`")


def documents():
    """Every Markdown file that git would track."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    listed = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [ROOT / line for line in listed.splitlines() if (ROOT / line).exists()]


def complaints(document):
    text = document.read_text()
    for target in LINK.findall(text):
        path = target.split("#")[0]
        if path and "://" not in path and not (document.parent / path).exists():
            yield f"links to {target}, which is not there"
    for file, function in NAMED_TEST.findall(text):
        source = ROOT / file
        if not source.exists() or not re.search(rf"\b(fn|def) {function}\b", source.read_text()):
            yield f"names {file}: {function}, which is not there"


def main():
    pages = documents()
    wrong = [f"{page.relative_to(ROOT)} {text}" for page in pages for text in complaints(page)]
    print("\n".join([*wrong, f"{len(pages)} documents, {len(wrong)} complaints"]))
    return 1 if wrong or not pages else 0


if __name__ == "__main__":
    sys.exit(main())
