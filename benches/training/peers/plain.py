"""The largest networks without any elasticity, for peers that add their own."""

import torch
import torch.nn.functional as F
from torch import nn

ACTIVATIONS = {"relu": nn.ReLU, "relu6": nn.ReLU6, "hard-swish": nn.Hardswish}


class Block(nn.Module):
    """A layer of the vision transformer; queries, keys and values apart, so that a peer can cut each."""

    def __init__(self, embed, heads, head_dim, hidden):
        super().__init__()
        inner, self.head_dim = heads * head_dim, head_dim
        self.norm1, self.norm2 = nn.LayerNorm(embed, eps=1e-6), nn.LayerNorm(embed, eps=1e-6)
        self.q, self.k, self.v = (nn.Linear(embed, inner) for _ in range(3))
        self.proj = nn.Linear(inner, embed)
        self.fc1, self.fc2 = nn.Linear(embed, hidden), nn.Linear(hidden, embed)

    def forward(self, x):
        batch, tokens = x.shape[0], x.shape[1]
        y = self.norm1(x)
        q, k, v = (f(y).view(batch, tokens, -1, self.head_dim).transpose(1, 2) for f in (self.q, self.k, self.v))
        context = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, -1)
        x = x + self.proj(context)
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Vit(nn.Module):
    def __init__(self, space):
        super().__init__()
        self.channels, self.patch = space["channels"], space["patch-size"]
        self.side = space["image-size"] // self.patch
        embed = max(space["embed-dim"])
        sizes = (embed, max(space["heads"]["choices"]), space["head-dim"], max(space["mlp-width"]["choices"]))
        self.embed = nn.Linear(self.channels * self.patch**2, embed)
        self.positions = nn.Parameter(torch.randn(1, self.side**2, embed) * 0.02)
        self.blocks = nn.Sequential(*(Block(*sizes) for _ in range(max(space["depth"]["choices"]))))
        self.norm, self.head = nn.LayerNorm(embed, eps=1e-6), nn.Linear(embed, space["classes"])

    def forward(self, images):
        s, p = self.side, self.patch
        x = images.view(-1, self.channels, s, p, s, p).permute(0, 2, 4, 1, 3, 5)
        x = self.embed(x.reshape(-1, s * s, self.channels * p * p)) + self.positions
        return self.head(self.norm(self.blocks(x)).mean(1))


def convolution(inputs, outputs, kernel, stride=1, groups=1, activation=None):
    parts = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs)]
    return parts + ([activation()] if activation else [])


def squeeze_width(hidden):
    """A quarter to the nearest multiple of 8, as MobileNetV3 has it."""
    quarter = hidden // 4
    nearest = max((quarter + 4) // 8 * 8, 8)
    return nearest + 8 if 10 * nearest < 9 * quarter else nearest


class Squeeze(nn.Module):
    def __init__(self, channels):
        super().__init__()
        squeezed = squeeze_width(channels)
        self.reduce, self.expand = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)

    def forward(self, x):
        gates = F.hardsigmoid(self.expand(F.relu(self.reduce(F.adaptive_avg_pool2d(x, 1)))))
        return x * gates


class InvertedResidual(nn.Module):
    def __init__(self, inputs, hidden, outputs, kernel, stride, squeeze, activation):
        super().__init__()
        self.residual = stride == 1 and inputs == outputs
        self.expand = nn.Sequential(*convolution(inputs, hidden, 1, activation=activation)) if hidden else None
        hidden = hidden or inputs
        self.depthwise = nn.Sequential(*convolution(hidden, hidden, kernel, stride, hidden, activation))
        self.squeeze = Squeeze(hidden) if squeeze else None
        self.project = nn.Sequential(*convolution(hidden, outputs, 1))

    def forward(self, x):
        y = self.expand(x) if self.expand else x
        y = self.depthwise(y)
        y = self.squeeze(y) if self.squeeze else y
        y = self.project(y)
        return x + y if self.residual else y


class Conv(nn.Module):
    """The convolutional network; stages are sequences, so that a peer can shorten them."""

    def __init__(self, space):
        super().__init__()
        refuse_elastic_widths(space)
        activation = ACTIVATIONS[space["activation"]]
        channels = max(space["stem"]["width"])
        self.stem = nn.Sequential(*convolution(space["channels"], channels, 3, space["stem"]["stride"], 1, activation))
        self.stages = nn.ModuleList()
        for stage in space["stages"]:
            layers = []
            hidden = max(stage["hidden"]["choices"]) if "hidden" in stage else None
            for index in range(max(stage["depth"]["choices"])):
                kernel, stride = max(stage["kernel"]["choices"]), stage["stride"] if index == 0 else 1
                inside = ACTIVATIONS[stage.get("activation", space["activation"])]
                squeeze = stage.get("squeeze-excite", False)
                outputs = max(stage["width"])
                layers.append(InvertedResidual(channels, hidden, outputs, kernel, stride, squeeze, inside))
                channels = outputs
            self.stages.append(nn.Sequential(*layers))
        self.head = nn.Sequential(*convolution(channels, max(space["head"]["width"]), 1, activation=activation))
        features, hidden = max(space["head"]["width"]), max(space["head"].get("hidden") or [0])
        self.hidden = nn.Sequential(nn.Linear(features, hidden), activation()) if hidden else None
        self.classifier = nn.Linear(hidden or features, space["classes"])

    def forward(self, images):
        x = self.stem(images)
        for stage in self.stages:
            x = stage(x)
        x = F.adaptive_avg_pool2d(self.head(x), 1).flatten(1)
        return self.classifier(self.hidden(x) if self.hidden else x)


def refuse_elastic_widths(space):
    """The peers cut hidden channels, not the channels between layers."""
    widths = [space["resolution"], space["stem"]["width"], space["head"]["width"], space["head"].get("hidden", [])]
    if any(len(choices) > 1 for choices in widths + [stage["width"] for stage in space["stages"]]):
        raise SystemExit("peers need one choice of resolution, stem, stage widths and head: pass --fix resolution,width")
