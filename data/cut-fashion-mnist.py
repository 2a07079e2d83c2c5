#!/usr/bin/env python3
"""Cuts `data/fashion-mnist-small` from the full Fashion-MNIST set.

Usage: python3 data/cut-fashion-mnist.py [FULL_FOLDER [OUT_FOLDER]]

Of each class it keeps the first 1,200 training and the first 200 test images, in their original order.
The gzip files carry no time and no name, so the same zlib writes the same bytes. The SHA-256 of each
file and of its content go to standard output in the form of the table in the README.
"""

import gzip
import hashlib
import io
import struct
import sys
from pathlib import Path

CLASSES = 10
PARTS = (("train", 1200), ("t10k", 200))  # prefix of the file names, images kept per class


def read(path: Path, dimensions: int) -> tuple[tuple[int, ...], bytes]:
    """Sizes and values of one IDX file of unsigned bytes."""
    content = gzip.decompress(path.read_bytes())
    magic, *sizes = struct.unpack_from(f">{dimensions + 1}I", content)
    if magic != 0x0800 + dimensions:
        sys.exit(f"{path}: magic {magic:#06x}, expected {0x0800 + dimensions:#06x}")
    return tuple(sizes), content[4 * (dimensions + 1) :]


def write(path: Path, sizes: tuple[int, ...], values: bytes) -> None:
    """Writes one gzip IDX file and prints its hashes."""
    content = struct.pack(f">{len(sizes) + 1}I", 0x0800 + len(sizes), *sizes) + values
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=packed, mtime=0) as stream:
        stream.write(content)
    path.write_bytes(packed.getvalue())
    print(f"| `{path.name}` | {len(packed.getvalue()):,} |", end=" ")
    print(f"`{hashlib.sha256(packed.getvalue()).hexdigest()}` | `{hashlib.sha256(content).hexdigest()}` |")


def first_per_class(labels: bytes, per_class: int) -> list[int]:
    """Positions of the first `per_class` images of every class, ascending."""
    kept, seen = [], [0] * CLASSES
    for position, label in enumerate(labels):
        if seen[label] < per_class:
            seen[label] += 1
            kept.append(position)
    if seen != [per_class] * CLASSES:
        sys.exit(f"images per class {seen}: {per_class} of each are needed")
    return kept


def main() -> None:
    here = Path(__file__).parent
    full = Path(sys.argv[1]) if len(sys.argv) > 1 else here / "fashion-mnist"
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else here / "fashion-mnist-small"
    out.mkdir(parents=True, exist_ok=True)
    for prefix, per_class in PARTS:
        (count, height, width), pixels = read(full / f"{prefix}-images-idx3-ubyte.gz", 3)
        (labelled,), labels = read(full / f"{prefix}-labels-idx1-ubyte.gz", 1)
        if count != labelled:
            sys.exit(f"{prefix}: {count} images but {labelled} labels")
        kept = first_per_class(labels, per_class)
        size = height * width
        images = b"".join(pixels[i * size : (i + 1) * size] for i in kept)
        write(out / f"{prefix}-images-idx3-ubyte.gz", (len(kept), height, width), images)
        write(out / f"{prefix}-labels-idx1-ubyte.gz", (len(kept),), bytes(labels[i] for i in kept))


if __name__ == "__main__":
    main()
