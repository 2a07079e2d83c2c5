"""The operations of `ours.rs` in plain PyTorch, for `operations.py`; answers as `ours.rs` does."""

import json
import sys
import time

import torch
import torch.nn.functional as F

LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}


def operation(kind, sizes):
    """The function and the shapes of its inputs."""
    images = lambda batch, side, channels: (batch, channels, side, side)
    rows = tuple(sizes)
    if kind == "depthwise":
        batch, side, channels, kernel, stride = sizes
        convolve = lambda x, w: F.conv2d(x, w, stride=stride, padding=kernel // 2, groups=channels)
        return convolve, [images(batch, side, channels), (channels, 1, kernel, kernel)]
    if kind == "convolution":
        batch, side, inputs, outputs, kernel, stride = sizes
        convolve = lambda x, w: F.conv2d(x, w, stride=stride, padding=kernel // 2)
        return convolve, [images(batch, side, inputs), (outputs, inputs, kernel, kernel)]
    if kind == "linear":
        return F.linear, [(sizes[0], sizes[1]), (sizes[2], sizes[1]), (sizes[2],)]
    if kind == "batch norm":
        norm = lambda x, w, b: F.batch_norm(x, None, None, w, b, True, 0.0, 1e-5)
        return norm, [images(64, round((sizes[0] / 64) ** 0.5), sizes[1]), (sizes[1],), (sizes[1],)]
    if kind == "layer norm":
        return lambda x, w, b: F.layer_norm(x, (sizes[1],), w, b, 1e-6), [rows, (sizes[1],), (sizes[1],)]
    if kind == "softmax":
        return lambda x: F.softmax(x, -1), [rows]
    if kind == "attention":
        batch, tokens, heads, features = sizes

        def attend(qkv):
            q, k, v = qkv.view(batch, tokens, 3, heads, features).permute(2, 0, 3, 1, 4)
            return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch * tokens, -1)

        return attend, [(batch * tokens, 3 * heads * features)]
    if kind == "scale channels":
        return lambda x, gate: x * gate[:, :, None, None], [images(*sizes), (sizes[0], sizes[2])]
    if kind == "mean of pixels":
        return lambda x: x.mean((2, 3)), [images(*sizes)]
    functions = {
        "gelu": F.gelu, "relu": F.relu, "relu6": F.relu6, "hard-swish": F.hardswish, "hard-sigmoid": F.hardsigmoid
    }
    return functions[kind], [rows]


def run(order, layout):
    function, shapes = operation(order["kind"], order["sizes"])
    inputs = [torch.randn(shape) for shape in shapes]
    if len(shapes[0]) == 4:
        inputs[0] = inputs[0].contiguous(memory_format=layout)
    inputs = [x.requires_grad_(order["backward"]) for x in inputs]
    with torch.no_grad():
        gradient = torch.randn_like(function(*inputs))

    def once():
        began = time.perf_counter()
        y = function(*inputs)
        if order["backward"]:
            for x in inputs:
                x.grad = None
            (y * gradient).sum().backward()
        return 1e3 * (time.perf_counter() - began)

    with torch.set_grad_enabled(order["backward"]):
        return [once() for _ in range(order["times"])]


def main():
    torch.set_num_threads(int(sys.argv[1]))
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line), LAYOUTS[sys.argv[2]])), flush=True)


if __name__ == "__main__":
    main()
