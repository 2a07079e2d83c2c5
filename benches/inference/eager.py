"""A subnet of a run's shared weights in the PyTorch network of the training benchmark, for `inference.py`."""

import sys
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file

from serve import serve

TRAINING = Path(__file__).resolve().parent.parent / "training"
sys.path[1:1] = [str(TRAINING), str(TRAINING / "peers")]
import draw  # noqa: E402
import vit  # noqa: E402


def main():
    _, run, name, folder, threads = sys.argv
    torch.set_num_threads(int(threads))
    model = yaml.safe_load((Path(run) / "config.yaml").read_text())
    space = model["space"]["vit"]
    extremes = {"largest": max, "smallest": min}
    subnet = draw.vit(space, extremes[name]) if name in extremes else model["subnets"][name]["vit"]
    network = vit.Vit(space)
    network.load_state_dict(dict(renamed(load_file(Path(run) / "supernet.safetensors"))))

    def logits(images):
        with torch.inference_mode():
            return network(torch.from_numpy(images), subnet).numpy()

    serve(folder, (space["channels"], space["image-size"], space["image-size"]), logits)


def renamed(weights):
    """The names and shapes of `vit.py`; ours are `[inputs, .., outputs]`."""
    for name, tensor in weights.items():
        own = name.replace("patch_embed.proj", "embed").replace("pos_embed", "positions")
        own = own.replace("attn.", "").replace("mlp.", "")
        if "norm" not in own and own != "positions":
            if own.endswith("weight"):
                tensor = (tensor if tensor.dim() == 3 else tensor[:, None]).permute(1, 2, 0)
            elif tensor.dim() == 1:
                tensor = tensor[None]
        yield own, tensor.contiguous()


if __name__ == "__main__":
    main()
