#!/usr/bin/env python3
"""Writes the files of this folder: tensors as PyTorch saves them, before 1.6 and since. Needs torch."""

import collections
from pathlib import Path

import torch

counted = torch.arange(12.0)
tensors = collections.OrderedDict(
    whole=counted.reshape(3, 4),
    turned=counted.reshape(3, 4).t(),
    part=counted.reshape(3, 4)[1:, 1:3],
    half=counted[:3].half(),
    brain=counted[:3].bfloat16(),
    steps=torch.tensor(7),
)
folder = Path(__file__).parent
torch.save(tensors, folder / "legacy.pth", _use_new_zipfile_serialization=False)
torch.save(tensors, folder / "zip.pt")
