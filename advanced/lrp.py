"""Layer-wise relevance propagation."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from course.checks import (
    check_inputs,
    one_line,
    target_logits,
)
from course.figures import show_map, show_photo
from course.pictures import displayable
from course.probes import stages
from course.weights import fold_batch_norm
from utils import (
    channel_reduce,
    describe_targets,
    recorded_output,
)

EPSILON, GAMMA = 1e-6, 0.25


TINY = 1e-9  # keeps 0 / 0 away where a rule has no epsilon of its own


def sign(z: Tensor) -> Tensor:
    """The sign of z, 1 for 0."""
    return torch.where(z < 0, -1.0, 1.0).to(z)


def affine(layer: nn.Module, a: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A convolution or linear layer with other weights."""
    if isinstance(layer, nn.Linear):
        return F.linear(a, weight, bias)
    return F.conv2d(a, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)


def positive_part(layer: nn.Module, a: Tensor) -> Tensor:
    """z+: the sum of the positive contributions a_i w_ij, and of the bias if it is positive."""
    bias = None if layer.bias is None else layer.bias.clamp(min=0)
    z = affine(layer, a.clamp(min=0), layer.weight.clamp(min=0), bias)
    if (a < 0).any():                                                  # pixels; never after a ReLU
        z = z + affine(layer, a.clamp(max=0), layer.weight.clamp(max=0), None)
    return z


def zero_rule(layer: nn.Module, a: Tensor) -> Tensor:
    """p = z."""
    return affine(layer, a, layer.weight, layer.bias)


def epsilon_rule(layer: nn.Module, a: Tensor) -> Tensor:
    """p = z + epsilon sign(z)."""
    z = zero_rule(layer, a)
    # BEGIN SOLUTION 9.1
    return z + EPSILON * sign(z)


def plus_rule(layer: nn.Module, a: Tensor) -> Tensor:
    """p = z+."""
    # BEGIN SOLUTION 9.1
    return positive_part(layer, a) + TINY


def gamma_rule(layer: nn.Module, a: Tensor) -> Tensor:
    """p = z + gamma z+, and z + gamma z- where z is negative."""
    z, plus = zero_rule(layer, a), positive_part(layer, a)
    # BEGIN SOLUTION 9.1
    return z + GAMMA * torch.where(z < 0, z - plus, plus) + TINY * sign(z)


# Name -> rule of convolutions, rule of linear layers
RULES: dict[str, tuple[Callable, Callable]] = {
    "zero": (zero_rule, zero_rule),
    "epsilon": (epsilon_rule, epsilon_rule),
    "gamma": (gamma_rule, gamma_rule),
    "epsilon_plus": (plus_rule, epsilon_rule),
    "epsilon_plus_flat": (plus_rule, epsilon_rule),                    # and flat in the layer that sees the pixels
}


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


def first_layer(model: nn.Module) -> nn.Module:
    """The convolution or linear layer that runs first."""
    nodes = torch.fx.symbolic_trace(model).graph.nodes
    layers = (model.get_submodule(node.target) for node in nodes if node.op == "call_module")
    return next(layer for layer in layers if isinstance(layer, nn.Conv2d | nn.Linear))


@contextmanager
def relevance_rules(model: nn.Module, rule: str, skip: nn.Module | None = None) -> Iterator[None]:
    """Inside the block gradient x activation is relevance; afterwards, also after an exception, all is as before."""
    of_conv, of_linear = RULES[rule]

    def hook(layer: nn.Module, inputs: tuple, z: Tensor) -> Tensor:
        p = (of_linear if isinstance(layer, nn.Linear) else of_conv)(layer, inputs[0])
        # BEGIN SOLUTION 9.2
        return p * (z / p).detach()                                    # the value of z, the gradient of p
        # END SOLUTION

    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear) and m is not skip and rule != "zero"]
    handles = [layer.register_forward_hook(hook) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def flat_rule(layer: nn.Module, images: Tensor, R: Tensor) -> Tensor:
    """R_i = sum_j R_j / (number of j's inputs): the relevance of a layer's outputs spread evenly over its pixels."""
    ones = torch.ones_like(images).requires_grad_()
    count = affine(layer, ones, torch.ones_like(layer.weight), None)   # inputs inside the image, not the padding
    return torch.autograd.grad(count, ones, R / count.detach())[0]


@torch.inference_mode(False)
@torch.enable_grad()
def lrp(
    model: nn.Module,
    images: Tensor,
    target: int | Sequence[int] | Tensor | None = None,
    *,
    rule: str = "epsilon_plus",
) -> Tensor:
    """Layer-wise relevance propagation: the logit, shared out layer by layer down to the pixels.

    Args:
        model: classifier in eval mode of convolutions, linear layers, batch norm, ReLU, max-, average- and adaptive
            pooling, flatten, dropout, addition and concatenation (ResNet, VGG, SqueezeNet).
        images: normalised images, (B, 3, H, W), float. Left as they are.
        target: None (each image's top class), one class index for all, or one an image.
        rule: "zero" (gradient x input), "epsilon", "gamma", "epsilon_plus" (epsilon in linear layers, z+ in
            convolutions), or "epsilon_plus_flat" (flat in the first layer).

    Returns:
        (B, 3, H, W), detached, in logit units: it sums to the logit but for what biases took. Without additions of
        negative terms, z+ relevance of a positive logit is not negative.

    Raises:
        ValueError: as vanilla_gradient; an unknown rule; a layer without a rule, by name.

    Paper: Bach et al. 2015, PLOS ONE 10(7); rules as in Montavon et al. 2019, *Layer-Wise Relevance Propagation: An
    Overview*, section 10.2.
    """
    if rule not in RULES:
        raise ValueError(f"rule must be {', '.join(RULES)}, got {rule!r}")
    check_inputs(model, images)
    model = ready_for_lrp(model)
    x = images.detach().clone().requires_grad_()
    if rule != "epsilon_plus_flat":
        with relevance_rules(model, rule):
            score = target_logits(model(x), target).sum()
        return (x * torch.autograd.grad(score, x)[0]).detach()         # R_i = a_i dS/da_i of the changed network
    layer = first_layer(model)
    with relevance_rules(model, rule, skip=layer), recorded_output(layer, cut=True) as outputs:
        score = target_logits(model(x), target).sum()
    (z,) = outputs
    return flat_rule(layer, x.detach(), (z * torch.autograd.grad(score, z)[0]).detach())


@torch.enable_grad()
def relevance_sums(model: nn.Module, images: Tensor, target: int, rule: str, names: Sequence[str]) -> dict[str, float]:
    """Sum of the relevance at the pixels, at the outputs of the named layers, and at the logit, bottom first."""
    x = images.detach().clone().requires_grad_()
    with ExitStack() as stack:
        stack.enter_context(relevance_rules(model, rule))
        outputs = {name: stack.enter_context(recorded_output(model.get_submodule(name))) for name in names}
        score = target_logits(model(x), target).sum()
    activations = {"pixels": x} | {name: output[0] for name, output in outputs.items()}
    gradients = torch.autograd.grad(score, [*activations.values()])
    sums = {name: (a * g).sum().item() for (name, a), g in zip(activations.items(), gradients, strict=True)}
    return sums | {"logit": score.item()}


def check_three_neurons() -> None:
    """The table above, for a linear layer with ReLU; flat apart, as it needs the layer that sees the pixels."""
    expected = {"zero": [3, -2, 1], "epsilon": [3, -2, 1], "gamma": [2.5, -4 / 3, 5 / 6], "epsilon_plus": [3, -2, 1]}
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 1, bias=False)).eval()
    model[1].weight = nn.Parameter(torch.tensor([[3.0, -1.0, 1.0]]))
    image = torch.tensor([1.0, 2.0, 1.0]).reshape(1, 3, 1, 1)
    for rule, shares in expected.items():
        assert torch.allclose(lrp(model, image, 0, rule=rule).flatten(), torch.tensor(shares).float(), atol=1e-5), rule
    conv = nn.Sequential(nn.Conv2d(3, 1, 1, bias=False), nn.Flatten()).eval()
    conv[0].weight = nn.Parameter(torch.tensor([3.0, -1.0, 1.0]).reshape(1, 3, 1, 1))
    assert torch.allclose(lrp(conv, image, 0).flatten(), torch.tensor([1.5, 0.0, 0.5]), atol=1e-5)
    flat = lrp(conv, image, 0, rule="epsilon_plus_flat")
    assert torch.allclose(flat.flatten(), torch.full((3,), 2 / 3), atol=1e-5)


def figure_rules(model: nn.Module, image: Tensor, target: int) -> Figure:
    """Every rule on one image: relevance summed over colours, each on its own scale."""
    figure, axes = plt.subplots(1, len(RULES) + 1, figsize=(3.2 * len(RULES) + 3, 3.5), layout="constrained")
    show_photo(axes[0], displayable(image)[0], describe_targets(model, image, target)[0])
    for axis, rule in zip(axes[1:], RULES, strict=True):
        R = lrp(model, image, target, rule=rule)
        show_map(axis, channel_reduce(R, "sum")[0], title=f"{rule}: sum {R.sum():.1f}")
    figure.suptitle("LRP rules (sum over colours, each on its own scale)")
    return figure


def figure_conservation(model: nn.Module, image: Tensor, target: int) -> Figure:
    """Sum of the relevance at every stage, for each rule: what the biases took on the way down."""
    names = stages(model)[::-1]
    figure, axes = plt.subplots(1, 4, figsize=(15, 3.4), layout="constrained")
    for axis, rule in zip(axes, ("zero", "epsilon", "gamma", "epsilon_plus"), strict=True):
        sums = relevance_sums(model, image, target, rule, names[:-1])
        axis.bar(range(len(sums)), [*sums.values()], color="tab:blue")
        axis.axhline(sums["logit"], color="black", linestyle=":", linewidth=1)
        axis.set_xticks(range(len(sums)), [*sums], rotation=60, ha="right", fontsize=8)
        axis.set(title=rule)
    axes[0].set_ylabel("sum of relevance")
    figure.suptitle("Relevance from the pixels (left) to the logit (right): conserved but for the biases")
    return figure
