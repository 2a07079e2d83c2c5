"""`eager.py` under `torch.compile`; a fourth argument `dynamic` compiles once for changing sizes."""

import sys

import torch

import eager
import step


def build(family, space):
    """By default each subnet is compiled by itself, so the subnets should come from a small pool."""
    torch._dynamo.config.recompile_limit = 512
    torch._dynamo.config.accumulated_recompile_limit = 1024
    model, _ = eager.build(family, space)
    return model, torch.compile(model, dynamic="dynamic" in sys.argv[4:])


if __name__ == "__main__":
    step.serve(build)
