"""What a network consists of, as torch.fx lists it: its layers in the order in which they run, and other operations."""

from __future__ import annotations

import copy
import operator

import torch
import torch.nn.functional as F
from torch import nn

from course.checks import one_line
from course.weights import fold_batch_norm

# Layers, functions and methods that pass relevance on by gradient x activation
LAYERS = (
    nn.Conv2d, nn.Linear, nn.ReLU, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Flatten,
    nn.Dropout, nn.Dropout2d, nn.Identity,
)  # fmt: skip
FUNCTIONS = (
    operator.add, operator.iadd, torch.add, torch.cat, torch.flatten, torch.relu, F.relu, F.max_pool2d, F.avg_pool2d,
    F.adaptive_avg_pool2d, F.dropout, operator.getitem, getattr,
)  # fmt: skip
METHODS = ("add", "add_", "flatten", "mean", "relu", "relu_", "view", "reshape", "size", "contiguous")


def without_rule(model: nn.Module) -> list[str]:
    """Names of the model's layers and other operations that LRP has no rule for."""
    try:
        nodes = torch.fx.symbolic_trace(model).graph.nodes
    except Exception as error:  # tracing runs the user's forward, which may raise anything
        raise ValueError(f"torch.fx cannot trace this model ({one_line(error)}): LRP cannot see its layers") from error
    layers, others = [], []
    for node in nodes:
        if node.op == "call_module":
            layer = model.get_submodule(node.target)
            if not isinstance(layer, LAYERS) or getattr(layer, "padding_mode", "zeros") != "zeros":
                layers.append(type(layer).__name__)
        elif node.op == "call_function" and node.target not in FUNCTIONS:
            others.append(getattr(node.target, "__name__", str(node.target)))
        elif node.op == "call_method" and node.target not in METHODS:
            others.append(node.target)
    return list(dict.fromkeys(layers + others))


def ready_for_lrp(model: nn.Module) -> nn.Module:
    """The model itself, or a copy with its batch norm folded; ValueError for layers without a rule."""
    if any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        model = fold_batch_norm(copy.deepcopy(model))
    missing = without_rule(model)
    if missing:
        raise ValueError(f"LRP has no rule for {', '.join(missing)}, which this model uses; try integrated_gradients")
    return model


def layers_in_order(model: nn.Module) -> list[nn.Module]:
    """Convolutions and linear layers, in the order in which they run."""
    nodes = torch.fx.symbolic_trace(model).graph.nodes
    layers = dict.fromkeys(model.get_submodule(node.target) for node in nodes if node.op == "call_module")
    return [layer for layer in layers if isinstance(layer, nn.Conv2d | nn.Linear)]
