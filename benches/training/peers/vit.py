"""The same elastic vision transformer as ours in plain PyTorch: a subnet's weights are leading parts of the largest ones."""

import torch
import torch.nn.functional as F
from torch import nn


class Elastic(nn.Module):
    """A fully connected layer; `parts` equal parts of the outputs each keep their leading features."""

    def __init__(self, inputs, outputs, parts=1):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(parts, outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(parts, outputs))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x, outputs):
        weight = self.weight[:, :outputs, : x.shape[-1]].reshape(-1, x.shape[-1])
        return F.linear(x, weight, self.bias[:, :outputs].reshape(-1))


class Norm(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x):
        n = x.shape[-1]
        return F.layer_norm(x, (n,), self.weight[:n], self.bias[:n], 1e-6)


class Block(nn.Module):
    def __init__(self, embed, inner, hidden):
        super().__init__()
        self.norm1, self.norm2 = Norm(embed), Norm(embed)
        self.qkv, self.proj = Elastic(embed, inner, 3), Elastic(inner, embed)
        self.fc1, self.fc2 = Elastic(embed, hidden), Elastic(hidden, embed)

    def forward(self, x, heads, width, head_dim):
        batch, tokens, embed = x.shape
        qkv = self.qkv(self.norm1(x), heads * head_dim)
        q, k, v = qkv.view(batch, tokens, 3, heads, head_dim).permute(2, 0, 3, 1, 4)
        context = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, -1)
        x = x + self.proj(context, embed)
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x), width)), embed)


class Vit(nn.Module):
    def __init__(self, space):
        super().__init__()
        largest = lambda choices: max(choices)
        embed, self.head_dim = largest(space["embed-dim"]), space["head-dim"]
        inner, hidden = largest(space["heads"]["choices"]) * self.head_dim, largest(space["mlp-width"]["choices"])
        self.patch, self.classes = space["patch-size"], space["classes"]
        side = space["image-size"] // self.patch
        self.embed = Elastic(space["channels"] * self.patch**2, embed)
        self.positions = nn.Parameter(torch.randn(1, side * side, embed) * 0.02)
        self.blocks = nn.ModuleList(Block(embed, inner, hidden) for _ in range(max(space["depth"]["choices"])))
        self.norm, self.head = Norm(embed), Elastic(embed, self.classes)

    def forward(self, images, subnet):
        batch, channels, height, width = images.shape
        p = self.patch
        x = images.view(batch, channels, height // p, p, width // p, p).permute(0, 2, 4, 1, 3, 5)
        x = self.embed(x.reshape(batch, -1, channels * p * p), subnet["embed-dim"])
        x = x + self.positions[:, :, : subnet["embed-dim"]]
        for layer in subnet["layers"]:
            x = self.blocks[layer["index"]](x, layer["heads"], layer["mlp-width"], self.head_dim)
        return self.head(self.norm(x).mean(1), self.classes)
