"""Which activation functions ran between an image and its logits, read from autograd's graph."""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor

Users = dict  # autograd node -> the nodes that use its result

# Functions of one unit, as autograd calls them. Softmax, norms and max-pooling look at several units: none of these.
NAMED = (
    "Relu", "Hardtanh", "Threshold", "LeakyRelu", "Prelu", "PreluKernel", "RreluWithNoise", "Elu", "Celu", "Gelu",
    "Silu", "Mish", "Hardswish", "Softplus", "Glu", "Tanh", "LogSigmoid", "Hardshrink", "Softshrink", "Abs", "Exp",
    "Exp2", "Expm1", "Erf", "Erfc", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh",
    "Atanh", "Sinc",
)  # fmt: skip
GATES = ("Sigmoid", "Hardsigmoid")
AGAINST_A_CONSTANT = ("Maximum", "Minimum", "Fmax", "Fmin")
MASKS = {"Mul": ("_saved_self", "_saved_other"), "Where": ("_saved_condition",), "MaskedFill": ("_saved_mask",)}
SAFE_DIVISION = 1e-3  # a lower bound up to here keeps a divisor from 0


def activations(logits: Tensor, image: Tensor) -> dict:
    """Every activation function between an image and the logits: autograd's node -> its name, "Relu" for instance.

    A function of one unit counts, however it was written: by its name in the graph, as a maximum with a constant, as a
    clamp, as a multiplication by a mask of the units' own shape, or as a torch.autograd.Function of somebody's own,
    which may do anything. What only weights pass through does not count, nor a sigmoid that weights whole channels or
    places of another signal, as in squeeze-and-excitation.

    What cannot be seen: an activation put together from products, quotients, powers or roots, which normalisation and
    attention need too, and one inside a scripted part.

    Args:
        logits: what the network returned, with its graph.
        image: the leaf tensor it was given, which requires grad.
    """
    users = nodes_between(logits, image)
    found = {node: activation_name(node, users) for node in users}
    return {node: name for node, name in found.items() if name}


def nodes_between(logits: Tensor, image: Tensor) -> Users:
    """The operations that lead from an image to the logits, each with those that use its result."""
    users, waiting = {logits.grad_fn: []}, [logits.grad_fn]
    while waiting:
        node = waiting.pop()
        for below in operands(node):
            if below not in users:
                users[below] = []
                waiting.append(below)
            users[below].append(node)
    between, waiting = set(), [node for node in users if getattr(node, "variable", None) is image]
    while waiting:
        node = waiting.pop()
        if node not in between:
            between.add(node)
            waiting += users[node]
    return {node: above for node, above in users.items() if node in between}


def operands(node) -> list:
    """The nodes whose results an operation uses; a constant has none."""
    return [below for below, _ in node.next_functions if below is not None] if node is not None else []


def operation(node) -> str:
    """What autograd calls an operation, without its ending: "Relu", "Mul"."""
    return re.sub(r"Backward\d*$", "", node.name())


def shape(node) -> tuple[int, ...]:
    """The shape of an operation's result."""
    return tuple(node._input_metadata[0].shape)


def activation_name(node, users: Users) -> str | None:
    """The name of a function of one unit; None for any other operation."""
    name = operation(node)
    if isinstance(node, torch.autograd.function.BackwardCFunction) or name in NAMED:
        return name
    if name in GATES:
        return None if is_gate(node, users) else name
    if name in AGAINST_A_CONSTANT:
        return name if len(operands(node)) == 1 else None              # of two signals it is pooling, as in maxout
    if name.startswith("Clamp"):
        return None if is_safe_division(node) else name
    if any(is_mask(getattr(node, saved), shape(node)) for saved in MASKS.get(name, ())):
        return f"{name} by a mask"
    if name == "IndexPut" and any(is_mask(index, shape(node)) for index in node._saved_indices):
        return f"{name} by a mask"
    return None


def is_gate(node, users: Users) -> bool:
    """Whether a sigmoid's result multiplies something larger: a weight for whole channels or places."""
    above = users[node]
    while len(above) == 1 and len(operands(above[0])) == 1:            # views, expansion, times a constant
        above = users[above[0]]
    size = math.prod(shape(node))
    return bool(above) and all(operation(user) == "Mul" and math.prod(shape(user)) > size for user in above)


def is_safe_division(node) -> bool:
    """Whether a clamp only keeps small positive numbers away from 0, as F.normalize does."""
    low, high = (getattr(node, name, None) for name in ("_saved_min", "_saved_max"))
    low = low.max().item() if isinstance(low, Tensor) else low
    return high is None and low is not None and 0 < low <= SAFE_DIVISION


def is_mask(factor: Tensor | None, shape: tuple[int, ...]) -> bool:
    """Whether a constant has a value of its own for every unit, and at most two different ones: open or closed."""
    if not isinstance(factor, Tensor) or factor.requires_grad or len(shape) < 2:
        return False
    if tuple(factor.shape[1 - len(shape):]) != shape[1:]:
        return False
    return factor.dtype == torch.bool or len(factor.unique()) <= 2
