"""The networks that elastic wrote, as plain PyTorch modules with the same weights, read from the portable ONNX file."""

import json

import numpy
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import nn


class Weights:
    """The tensors of a file by their names; matrices of ONNX are the transposes of PyTorch's."""

    def __init__(self, path):
        self.tensors = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}

    def get(self, name):
        return torch.from_numpy(numpy.array(self.tensors[name]))

    def linear(self, name):
        weight = self.get(f"{name}.weight").T.contiguous()
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=f"{name}.bias" in self.tensors)
        layer.weight.data = weight
        if layer.bias is not None:
            layer.bias.data = self.get(f"{name}.bias")
        return layer

    def qkv(self, name, head_dim):
        """Without the attention's factor, which the file has in the query's columns."""
        layer = self.linear(name)
        inner = layer.out_features // 3
        layer.weight.data[:inner] *= head_dim**0.5
        layer.bias.data[:inner] *= head_dim**0.5
        return layer

    def norm(self, name, epsilon):
        weight = self.get(f"{name}.weight")
        layer = nn.LayerNorm(weight.shape[0], eps=epsilon)
        layer.weight.data, layer.bias.data = weight, self.get(f"{name}.bias")
        return layer

    def conv(self, name, stride, padding, groups=1):
        weight = self.get(f"{name}.weight")
        out, inputs, kernel, _ = weight.shape
        layer = nn.Conv2d(inputs * groups, out, kernel, stride, padding, groups=groups)
        layer.weight.data, layer.bias.data = weight, self.get(f"{name}.bias")
        return layer


class Attention(nn.Module):
    def __init__(self, weights, name, heads, head_dim, bias=None):
        super().__init__()
        self.heads, self.head_dim = heads, head_dim
        self.qkv, self.proj = weights.qkv(f"{name}.qkv", head_dim), weights.linear(f"{name}.proj")
        self.register_buffer("bias", bias)

    def forward(self, x):
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        context = F.scaled_dot_product_attention(q, k, v, attn_mask=self.bias)
        return self.proj(context.transpose(1, 2).reshape(batch, tokens, -1))


class Mlp(nn.Module):
    def __init__(self, weights, name):
        super().__init__()
        self.fc1, self.fc2 = weights.linear(f"{name}.fc1"), weights.linear(f"{name}.fc2")

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class VitBlock(nn.Module):
    def __init__(self, weights, name, heads, head_dim):
        super().__init__()
        self.norm1, self.norm2 = weights.norm(f"{name}.norm1", 1e-6), weights.norm(f"{name}.norm2", 1e-6)
        self.attn, self.mlp = Attention(weights, f"{name}.attn", heads, head_dim), Mlp(weights, f"{name}.mlp")

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def patches(weights, name, channels, size):
    """Patches by a convolution, as everybody's vision transformers have it."""
    matrix = weights.get(f"{name}.weight")
    layer = nn.Conv2d(channels, matrix.shape[1], size, size)
    layer.weight.data = matrix.T.reshape(-1, channels, size, size).contiguous()
    layer.bias.data = weights.get(f"{name}.bias")
    return layer


class Vit(nn.Module):
    def __init__(self, weights, space, subnet):
        super().__init__()
        self.embed = patches(weights, "patch_embed.proj", space["channels"], space["patch-size"])
        self.positions = nn.Parameter(weights.get("pos_embed")[None])
        self.token = nn.Parameter(weights.get("cls_token")[None]) if space["pooling"] == "class-token" else None
        self.blocks = nn.ModuleList(
            VitBlock(weights, f"blocks.{place}", layer["heads"], space["head-dim"])
            for place, layer in enumerate(subnet["layers"])
        )
        self.norm, self.head = weights.norm("norm", 1e-6), weights.linear("head")

    def forward(self, images):
        x = self.embed(images).flatten(2).transpose(1, 2)
        if self.token is not None:
            x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        x = x + self.positions
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return self.head(x.mean(1) if self.token is None else x[:, 0])


class SwinBlock(nn.Module):
    """As torchvision's: pad, roll, cut into windows, attend, and back."""

    def __init__(self, weights, name, heads, head_dim, side, window, shift):
        super().__init__()
        self.side, self.window, self.shift = side, window, shift
        self.padded = -(-side // window) * window
        table = weights.get(f"{name}.attn.relative_position_bias_table")
        at = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        distance = (at[:, :, None] - at[:, None, :]).permute(1, 2, 0) + window - 1
        index = distance[..., 0] * (2 * window - 1) + distance[..., 1]
        bias = table[index].permute(2, 0, 1)[None]
        if shift:
            region = torch.zeros(self.padded)
            region[self.padded - window : self.padded - shift] = 1
            region[self.padded - shift :] = 2
            region = (3 * region[:, None] + region[None, :])[None, :, :, None]
            region = self.cut(region).squeeze(-1)
            bias = bias + torch.where(region[:, None] != region[:, :, None], -100.0, 0.0)[:, None]
        self.norm1, self.norm2 = weights.norm(f"{name}.norm1", 1e-5), weights.norm(f"{name}.norm2", 1e-5)
        self.attn = Attention(weights, f"{name}.attn", heads, head_dim, bias)
        self.mlp = Mlp(weights, f"{name}.mlp")

    def cut(self, x):
        batch, w, n = x.shape[0], self.window, self.padded // self.window
        return x.reshape(batch, n, w, n, w, -1).permute(0, 1, 3, 2, 4, 5).reshape(batch * n * n, w * w, -1)

    def join(self, x):
        w, n = self.window, self.padded // self.window
        x = x.reshape(-1, n, n, w, w, x.shape[-1]).permute(0, 1, 3, 2, 4, 5)
        return x.reshape(-1, self.padded, self.padded, x.shape[-1])

    def forward(self, x):
        y = self.norm1(x)
        if self.padded > self.side:
            y = F.pad(y, (0, 0, 0, self.padded - self.side, 0, self.padded - self.side))
        if self.shift:
            y = torch.roll(y, (-self.shift, -self.shift), (1, 2))
        y = self.join(self.attn(self.cut(y)))
        if self.shift:
            y = torch.roll(y, (self.shift, self.shift), (1, 2))
        x = x + y[:, : self.side, : self.side]
        return x + self.mlp(self.norm2(x))


class Merging(nn.Module):
    def __init__(self, weights, name, side):
        super().__init__()
        self.odd = side % 2
        self.norm, self.reduction = weights.norm(f"{name}.norm", 1e-5), weights.linear(f"{name}.reduction")

    def forward(self, x):
        if self.odd:
            x = F.pad(x, (0, 0, 0, 1, 0, 1))
        parts = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(parts, -1)))


class Swin(nn.Module):
    def __init__(self, weights, space, subnet):
        super().__init__()
        self.embed = patches(weights, "patch_embed.proj", space["channels"], space["patch-size"])
        self.embed_norm = weights.norm("patch_embed.norm", 1e-5)
        side, layers = space["image-size"] // space["patch-size"], []
        for number, stage in enumerate(subnet["stages"]):
            if number:
                layers.append(Merging(weights, f"layers.{number}.downsample", side))
                side = -(-side // 2)
            window = min(side, space["window-size"])
            for place, layer in enumerate(stage["layers"]):
                shift = window // 2 if place % 2 and side > window else 0
                name = f"layers.{number}.blocks.{place}"
                layers.append(SwinBlock(weights, name, layer["heads"], space["head-dim"], side, window, shift))
        self.layers = nn.Sequential(*layers)
        self.norm, self.head = weights.norm("norm", 1e-5), weights.linear("head")

    def forward(self, images):
        x = self.embed_norm(self.embed(images).permute(0, 2, 3, 1))
        return self.head(self.norm(self.layers(x)).mean((1, 2)))


class Conv(nn.Module):
    """Any convolutional network of elastic, layer by layer as its file has them."""

    def __init__(self, path):
        super().__init__()
        weights, graph = Weights(path), onnx.load(path).graph
        attributes = lambda node: {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        self.steps, self.layers = [], nn.ModuleDict()
        for node in graph.node:
            key = node.name.replace(".", "_")
            if node.op_type == "Conv":
                given = attributes(node)
                top, left, bottom, right = given["pads"]
                if (top, left) != (bottom, right):
                    raise ValueError(f"{node.name} has pads {given['pads']}, and PyTorch pads both sides alike")
                layer = weights.conv(node.input[1].removesuffix(".weight"), given["strides"], (top, left), given["group"])
                self.layers[key] = layer
            elif node.op_type == "Gemm":
                self.layers[key] = weights.linear(node.input[1].removesuffix(".weight"))
            self.steps.append((node.op_type, key, list(node.input), node.output[0]))

    def forward(self, images):
        values = {"images": images}
        for operator, key, inputs, output in self.steps:
            x = values[inputs[0]]
            values[output] = {
                "Conv": lambda: self.layers[key](x),
                "Gemm": lambda: self.layers[key](x),
                "Relu": lambda: F.relu(x),
                "Clip": lambda: F.relu6(x),
                "HardSwish": lambda: F.hardswish(x),
                "HardSigmoid": lambda: F.hardsigmoid(x),
                "GlobalAveragePool": lambda: F.adaptive_avg_pool2d(x, 1),
                "Reshape": lambda: x.flatten(1),
                "Add": lambda: x + values[inputs[1]],
                "Mul": lambda: x * values[inputs[1]],
            }[operator]()
        return values["logits"]


def network(folder):
    """The module, and the shape of one input."""
    description = json.loads((folder / "network.json").read_text())
    [(family, space)] = description["space"].items()
    [(_, subnet)] = description["subnet"].items()
    path = folder / "portable-fp32.onnx"
    if family == "conv":
        module = Conv(path)
    else:
        module = {"vit": Vit, "swin": Swin}[family](Weights(path), space, subnet)
    return module.eval(), family, [1, space["channels"], space["image-size"], space["image-size"]]
