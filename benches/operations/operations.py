#!/usr/bin/env python3
"""Times the operations of training: ours against PyTorch eager, forward and with the backward pass.

    cargo build --release --locked --workspace --example operations
    python3 -m venv VENV && VENV/bin/pip install torch==2.9.0
    benches/operations/operations.py --python VENV/bin/python --threads 1

All do the same operation in turn, in processes that live as long as the benchmark; the first visit is discarded. Ours has the
channels last; PyTorch runs once with its own layout of images (channels first) and once with channels last. A gradient is
the operation's under a weighted sum, whose product and sum all compute. Times are medians.
"""

import argparse
import random
import statistics
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))
import allocator  # noqa: E402
from answering import Answering  # noqa: E402

ROWS = 64 * 16 * 16

# Name, and what it is.
OPERATIONS = [
    ("depthwise 7x7, 160 channels, 8x8", ("depthwise", [64, 8, 160, 7, 1])),
    ("depthwise 5x5, 96 channels, 16x16", ("depthwise", [64, 16, 96, 5, 1])),
    ("depthwise 5x5, stride 2, 96 channels, 16x16", ("depthwise", [64, 16, 96, 5, 2])),
    ("depthwise 3x3, 96 channels, 16x16", ("depthwise", [64, 16, 96, 3, 1])),
    ("pointwise 96 to 40, 16x16", ("convolution", [64, 16, 96, 40, 1, 1])),
    ("3x3 96 to 96, 16x16", ("convolution", [64, 16, 96, 96, 3, 1])),
    ("3x3 96 to 96, 8x8", ("convolution", [64, 8, 96, 96, 3, 1])),
    ("3x3 3 to 16, stride 2, 32x32", ("convolution", [64, 32, 3, 16, 3, 2])),
    ("batch norm, 96 channels, 16x16", ("batch norm", [ROWS, 96])),
    ("h-swish, 96 channels, 16x16", ("hard-swish", [ROWS, 96])),
    ("ReLU, 96 channels, 16x16", ("relu", [ROWS, 96])),
    ("ReLU6, 96 channels, 16x16", ("relu6", [ROWS, 96])),
    ("scale of channels, 96 channels, 16x16", ("scale channels", [64, 16, 96])),
    ("mean of pixels, 96 channels, 16x16", ("mean of pixels", [64, 16, 96])),
    ("linear 3200x192x768", ("linear", [3200, 192, 768])),
    ("GELU 3200x768", ("gelu", [3200, 768])),
    ("layer norm 3200x192", ("layer norm", [3200, 192])),
    ("softmax 9600x50", ("softmax", [9600, 50])),
    ("attention, 64 images, 50 tokens, 3 heads of 64", ("attention", [64, 50, 3, 64])),
]


class Contestant(Answering):
    def run(self, operation, backward, times):
        kind, sizes = operation
        return self.ask({"kind": kind, "sizes": sizes, "backward": backward, "times": times})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", type=Path, default=ROOT / "target/release/examples/operations")
    parser.add_argument("--python", required=True, help="a Python that has PyTorch")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--times", type=int, default=4, help="of one visit, after one that is discarded")
    arguments = parser.parse_args()
    threads = str(arguments.threads)
    torch = [arguments.python, HERE / "theirs.py", threads]
    ours = Contestant("ours", [arguments.ours], {"RAYON_NUM_THREADS": threads, **allocator.ELASTIC}, "[")
    theirs = [
        Contestant(f"PyTorch, {layout}", [*torch, layout], allocator.ELASTIC, "[")
        for layout in ("contiguous", "channels-last")
    ]
    contestants = [ours, *theirs]
    rng = random.Random(1)
    print(f"{threads} threads; medians in ms, and ours over PyTorch's by layout (channels first, channels last)")
    print("| operation | forward: ours | PyTorch | ratio | with backward: ours | PyTorch | ratio |")
    print("|---|---|---|---|---|---|---|")
    for name, operation in OPERATIONS:
        cells = []
        for backward in (False, True):
            samples = {contestant: [] for contestant in contestants}
            for number in range(arguments.rounds + 1):
                for contestant in rng.sample(contestants, len(contestants)):
                    milliseconds = contestant.run(operation, backward, arguments.times + 1)[1:]
                    if number > 0:
                        samples[contestant] += milliseconds
            own, *rest = (statistics.median(samples[contestant]) for contestant in contestants)
            cells += [f"{own:.2f}", ", ".join(f"{x:.2f}" for x in rest), ", ".join(f"{own / x:.2f}" for x in rest)]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    for contestant in contestants:
        contestant.close()


if __name__ == "__main__":
    sys.exit(main())
