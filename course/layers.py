"""Layers of a network: which is the last that still is a map, which has this name, and what it returned."""

from __future__ import annotations

import difflib
from collections import OrderedDict

from torch import Tensor, nn
from torchvision.models import DenseNet

NO_MAP = (
    nn.Linear, nn.Dropout, nn.Flatten, nn.Identity, nn.Softmax,
    nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d,
)  # fmt: skip


def last_conv_layer(model: nn.Module) -> nn.Module:
    """The last stage of a network that still is a map: before the last pooling, after the last activation.

    It is found by the order in which the stages of `model.features`, or of the model, were registered. Right for
    torchvision's ResNet, VGG, SqueezeNet, MobileNet, EfficientNet, ConvNeXt and their like. A DenseNet that torchvision
    built has no module after its last activation, so this gives the norm before it; see `as_modules`.

    Raises:
        ValueError: the network does not end in a convolutional stage; name the layer yourself.
    """
    container = getattr(model, "features", model)
    for stage in reversed(list(container.children())):
        if any(isinstance(part, nn.Conv2d) for part in stage.modules()):
            return stage
        simple = not list(stage.children())
        if simple and not isinstance(stage, NO_MAP) and isinstance(container, nn.Sequential):
            return stage                                               # VGG: the ReLU after the last convolution
        if not simple and not isinstance(stage, nn.Sequential):
            break                                                      # a transformer's encoder, for instance
    raise ValueError("found no convolutional stage at the end of this model; give layer= a module or its dotted name")


def find_layer(model: nn.Module, layer: nn.Module | str | None) -> nn.Module:
    """A module, a dotted name such as "layer3" or "features.12", or None for last_conv_layer -> the module."""
    if layer is None:
        return last_conv_layer(model)
    if isinstance(layer, nn.Module):
        return layer
    modules = dict(model.named_modules())
    if layer not in modules or not layer:
        near = difflib.get_close_matches(str(layer), modules, n=3)
        raise ValueError(f"the model has no layer {layer!r}; near: {', '.join(near) or 'nothing'}")
    return modules[layer]


def only_map(outputs: list) -> Tensor:
    """The one 4-D tensor that a layer returned, or a ValueError."""
    if len(outputs) != 1 or not isinstance(outputs[0], Tensor) or outputs[0].ndim != 4:
        got = [tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__ for out in outputs]
        raise ValueError(f"the layer must run once and return (B, C, h, w); it ran {len(outputs)} times and gave {got}")
    return outputs[0]


def as_modules(model: nn.Module) -> nn.Module:
    """A network that can be recorded up to its pooling: for a DenseNet a new chain, any other as it is.

    DenseNet's forward applies the last ReLU and the pooling as functions, where no hook can see them. The chain holds
    the DenseNet's own modules under their own names, and those two as modules, `features.relu5` and `pool`. It computes
    the same.
    """
    if type(model) is not DenseNet:
        return model
    features = nn.Sequential(OrderedDict([*model.features.named_children(), ("relu5", nn.ReLU())]))
    parts = [("features", features), ("pool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten())]
    chain = nn.Sequential(OrderedDict([*parts, ("classifier", model.classifier)]))
    return chain.train(model.training)
