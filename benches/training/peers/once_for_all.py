"""The layers of the package `ofa` (Once-for-All) in our convolutional network's table of stages."""

from torch import nn
from ofa.imagenet_classification.elastic_nn.modules.dynamic_layers import DynamicMBConvLayer
from ofa.imagenet_classification.elastic_nn.modules.dynamic_op import DynamicSeparableConv2d
from ofa.utils.layers import ConvLayer, IdentityLayer, ResidualBlock

import plain
import step

NAMES = {"relu": "relu", "relu6": "relu6", "hard-swish": "h_swish"}


class Network(nn.Module):
    def __init__(self, space):
        super().__init__()
        plain.refuse_elastic_widths(space)
        activation, channels = NAMES[space["activation"]], max(space["stem"]["width"])
        self.stem = ConvLayer(space["channels"], channels, 3, space["stem"]["stride"], act_func=activation)
        self.stages = nn.ModuleList()
        for stage in space["stages"]:
            blocks, outputs = [], max(stage["width"])
            for index in range(max(stage["depth"]["choices"])):
                stride = stage["stride"] if index == 0 else 1
                hidden = stage["hidden"]["choices"] if "hidden" in stage else [channels]
                layer = DynamicMBConvLayer(
                    [channels], [outputs], stage["kernel"]["choices"], [width / channels for width in hidden], stride,
                    NAMES[stage.get("activation", space["activation"])], stage.get("squeeze-excite", False),
                )
                shortcut = IdentityLayer(channels, channels) if stride == 1 and channels == outputs else None
                blocks.append(ResidualBlock(layer, shortcut))
                channels = outputs
            self.stages.append(nn.ModuleList(blocks))
        features, hidden = max(space["head"]["width"]), max(space["head"].get("hidden") or [0])
        self.head = ConvLayer(channels, features, 1, act_func=activation)
        inside = plain.ACTIVATIONS[space["activation"]]
        self.hidden = nn.Sequential(nn.Linear(features, hidden), inside()) if hidden else None
        self.classifier = nn.Linear(hidden or features, space["classes"])

    def forward(self, images, subnet):
        x = self.stem(images)
        for blocks, stage in zip(self.stages, subnet["stages"]):
            for layer in stage["layers"]:
                block = blocks[layer["index"]]
                block.conv.active_kernel_size = layer["kernel"]
                block.conv.active_expand_ratio = layer["hidden"] / x.shape[1] if "hidden" in layer else 1
                x = block(x)
        x = self.head(x).mean(3).mean(2)
        return self.classifier(self.hidden(x) if self.hidden else x)


def build(family, space):
    if family != "conv":
        raise SystemExit("Once-for-All has convolutional layers only")
    if "kernel" not in space.get("transforms", {}):
        DynamicSeparableConv2d.KERNEL_TRANSFORM_MODE = None
    model = Network(space)
    return model, model


if __name__ == "__main__":
    step.serve(build)
