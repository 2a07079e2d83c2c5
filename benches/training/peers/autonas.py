"""AutoNAS of `nvidia-modelopt`: it finds the elastic dimensions of a plain network itself.

Of the vision transformer it finds depth and MLP widths; attention and the residual stream it leaves as they are.
"""

import math

import modelopt.torch.nas as mtn

import plain
import step


def build(family, space):
    network, rules, config = {"vit": vit, "conv": conv}[family](space)
    model = mtn.convert(network, mode=[("autonas", rules)])
    largest = mtn.get_subnet_config(model, configurable=True)

    def forward(images, subnet):
        chosen = {**largest, **config(subnet)}
        if chosen.keys() != largest.keys():
            raise SystemExit(f"AutoNAS has no elastic {sorted(chosen.keys() - largest.keys())}")
        mtn.select(model, chosen, strict=False)
        # Its patch would draw a random subnet instead of the chosen one.
        with mtn.no_modelopt_patches():
            return model(images)

    return model, forward


def ratios(choices):
    return sorted({choice / max(choices) for choice in choices})


def vit(space):
    widths, depth = space["mlp-width"]["choices"], space["depth"]["choices"]
    linear = {"features_ratio": ratios(widths), "feature_divisor": math.gcd(*widths)}
    rules = {
        "nn.Linear": {"*": linear},
        "nn.LayerNorm": {"*": {"features_ratio": [1.0], "feature_divisor": 1}},
        "nn.Sequential": {"*": {"min_depth": min(depth)}},
    }

    def config(subnet):
        found = {f"blocks.{layer['index']}.fc1.out_features": layer["mlp-width"] for layer in subnet["layers"]}
        return found | ({"blocks.depth": len(subnet["layers"])} if len(depth) > 1 else {})

    return plain.Vit(space), rules, config


def conv(space):
    found, kernels, depths = {1.0}, set(), set()
    for stage in space["stages"]:
        kernels |= set(stage["kernel"]["choices"])
        depths |= set(stage["depth"]["choices"])
        if "hidden" in stage:
            widths = stage["hidden"]["choices"]
            found |= {*ratios(widths), *ratios([plain.squeeze_width(width) for width in widths])}
    # Every layer may be cut, but only what a subnet names is; all else stays at its largest.
    rules = {
        "nn.Conv2d": {"*": {
            "channels_ratio": sorted(found), "channel_divisor": 1, "kernel_size": [(k, k) for k in sorted(kernels)]
        }},
        "nn.BatchNorm2d": {"*": {"features_ratio": sorted(found), "feature_divisor": 1}},
        "nn.Linear": {"*": {"features_ratio": [1.0], "feature_divisor": 1}},
        "nn.Sequential": {"*": {"min_depth": min(depths)}},
    }

    def config(subnet):
        found = {}
        for number, (stage, choices) in enumerate(zip(subnet["stages"], space["stages"])):
            if len(choices["depth"]["choices"]) > 1:
                found[f"stages.{number}.depth"] = len(stage["layers"])
            for layer in stage["layers"]:
                place = f"stages.{number}.{layer['index']}"
                if len(choices["kernel"]["choices"]) > 1:
                    found[f"{place}.depthwise.0.kernel_size"] = (layer["kernel"], layer["kernel"])
                if len(choices.get("hidden", {}).get("choices", [])) > 1:
                    found[f"{place}.expand.0.out_channels"] = layer["hidden"]
                    if choices.get("squeeze-excite", False):
                        found[f"{place}.squeeze.reduce.out_channels"] = plain.squeeze_width(layer["hidden"])
        return found

    return plain.Conv(space), rules, config


if __name__ == "__main__":
    step.serve(build)
