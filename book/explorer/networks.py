"""The two networks of the explorer, layer by layer, from the embedded weights to a graph and a weights file."""

from __future__ import annotations

import onnx
import torch
from torch import Tensor, nn

from book.explorer.graph import Graph, add, average, concatenate, conv, finish, linear, max_pool, relu
from course.weights import embedded_network

# Name -> what the page calls it, and the layers that Grad-CAM can look at, the last one first
NETWORKS = {
    "squeezenet1_1": ("SqueezeNet 1.1", ["features.12", "features.10", "features.7", "features.4"]),
    "resnet50": ("ResNet-50", ["layer4", "layer3", "layer2", "layer1"]),
}


def plain_conv(graph: Graph, x: str, module: nn.Conv2d, name: str) -> str:
    """A convolution with a bias of its own, then ReLU."""
    W, b = graph.weight(f"{name}.weight", module.weight), graph.weight(f"{name}.bias", module.bias)
    return relu(graph, conv(graph, x, W, b, module.stride[0], module.padding[0]))


def fire(graph: Graph, x: str, module: nn.Module, name: str) -> str:
    """SqueezeNet's block: few channels, then many from 1 x 1 and 3 x 3 side by side."""
    small = plain_conv(graph, x, module.squeeze, f"{name}.squeeze")
    parts = [plain_conv(graph, small, getattr(module, part), f"{name}.{part}") for part in ("expand1x1", "expand3x3")]
    return concatenate(graph, parts)


def squeezenet(graph: Graph, model: nn.Module, layers: list[str]) -> str:
    """The graph of torchvision's squeezenet1_1; the name of its logits."""
    x = "image"
    for index, module in enumerate(model.features):
        name = f"features.{index}"
        if isinstance(module, nn.Conv2d):
            x = plain_conv(graph, x, module, name)
        elif isinstance(module, nn.MaxPool2d):
            x = max_pool(graph, x, 3, 2, 0)
        elif not isinstance(module, nn.ReLU):                          # the first convolution has its ReLU already
            x = fire(graph, x, module, name)
        if name in layers:
            graph.layers[name] = x
    return average(graph, plain_conv(graph, x, model.classifier[1], "classifier.1"))


def folded_conv(graph: Graph, x: str, module: nn.Conv2d, norm: nn.BatchNorm2d, name: str) -> str:
    """A convolution with its batch norm folded in, as course.weights.fold_batch_norm does.

    The file keeps the convolution's own float16 weights, which lose nothing, and one factor for each channel; the
    runtime multiplies them once, when it loads the graph. Folded weights in float16 would be rounded a second time.
    """
    scale: Tensor = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    W = graph.weight(f"{name}.weight", module.weight, half=True)
    factor = graph.weight(f"{name}.factor", scale[:, None, None, None])
    b = graph.weight(f"{name}.bias", norm.bias - norm.running_mean * scale)
    W = graph.emit("Mul", [W, factor], graph.shapes[W])
    return conv(graph, x, W, b, module.stride[0], module.padding[0])


def bottleneck(graph: Graph, x: str, block: nn.Module, name: str) -> str:
    """ResNet's block: 1 x 1, 3 x 3, 1 x 1, plus what came in."""
    y = relu(graph, folded_conv(graph, x, block.conv1, block.bn1, f"{name}.conv1"))
    y = relu(graph, folded_conv(graph, y, block.conv2, block.bn2, f"{name}.conv2"))
    y = folded_conv(graph, y, block.conv3, block.bn3, f"{name}.conv3")
    beside = x if block.downsample is None else folded_conv(graph, x, *block.downsample, f"{name}.downsample")
    return relu(graph, add(graph, y, beside))


def resnet(graph: Graph, model: nn.Module, layers: list[str]) -> str:
    """The graph of the embedded resnet50; the name of its logits."""
    x = relu(graph, folded_conv(graph, "image", model.conv1, model.bn1, "conv1"))
    x = max_pool(graph, x, 3, 2, 1)
    for stage in ("layer1", "layer2", "layer3", "layer4"):
        for index, block in enumerate(getattr(model, stage)):
            x = bottleneck(graph, x, block, f"{stage}.{index}")
        if stage in layers:
            graph.layers[stage] = x
    W, b = graph.weight("fc.weight", model.fc.weight, half=True), graph.weight("fc.bias", model.fc.bias)
    return linear(graph, average(graph, x), W, b)


def export(name: str) -> tuple[onnx.ModelProto, bytes, dict]:
    """The graph, the weights file's bytes, and what the page must know of the network "squeezenet1_1" or "resnet50"."""
    title, layers = NETWORKS[name]
    graph, model = Graph(), embedded_network(name).eval()
    with torch.no_grad():
        logits = (resnet if name == "resnet50" else squeezenet)(graph, model, layers)
    facts = {
        "title": title,
        "layers": [{"name": layer, "shape": list(graph.shapes[graph.layers[layer]])} for layer in layers],
        "cam": name == "resnet50",                                     # average pooling, then one linear layer
        "weights": graph.manifest,
    }
    return finish(graph, logits, "weights.bin"), bytes(graph.data), facts
