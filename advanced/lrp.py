# %% [markdown]
# # Layer-wise relevance propagation: who gets which share of the score?
#
# The gradient asks for slopes: what would change the score? Layer-wise relevance propagation (LRP) asks for shares. It
# takes the score and hands it down through the network, layer by layer, until all of it lies on pixels. A rule says who
# gets how much. There are several rules, and their maps differ.
#
# **After this lesson you can**
#
# 1. share out the relevance of one neuron by hand, under five rules;
# 2. do it for a whole network with one line;
# 3. follow the sum from layer to layer, and say where it goes;
# 4. take other rules at other depths, and measure what that changes.
#
# **Level** advanced. **Before it** lesson 02 (gradient x input). **Papers** Bach et al., *On Pixel-Wise Explanations for
# Non-Linear Classifier Decisions by Layer-Wise Relevance Propagation*, PLOS ONE 10(7), 2015; Montavon et al.,
# *Layer-Wise Relevance Propagation: An Overview*, 2019 (chapter 10 of *Explainable AI*, Springer LNCS 11700).

# %%
r"""Layer-wise relevance propagation. Run `python -m advanced.lrp`; --help lists the options."""

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

from course.checks import Target, check_inputs, one_line, target_logits
from course.figures import map_grid
from course.lesson import print_table, start
from course.probes import correlation, randomized, stages
from course.scenes import backgrounds, planted_scene
from course.weights import fold_batch_norm
from evaluation.planted_scenes import energy_pointing_game
from utils import channel_reduce, find_class, recorded_output

# %% [markdown]
# ## A picture of the idea
#
# A neuron adds up what three inputs bring: 3, -2 and 1. It has got 2 units of relevance from above, and now it pays its
# inputs. It may pay each one what it brought (left): then the second input has to give something back. It may pay only
# those that brought something positive (middle). Or it may pay all alike (right). In all three cases the payments add
# up to 2: nothing is lost, nothing is made.


# %%
def figure_idea() -> Figure:
    """One neuron pays its three inputs, in three ways."""
    ways = {"by what each one brought": (3.0, -2.0, 1.0), "only what helped": (1.5, 0.0, 0.5), "all alike": (2 / 3,) * 3}
    figure, axes = plt.subplots(1, 3, figsize=(12, 4), layout="constrained")
    for axis, (way, shares) in zip(axes, ways.items(), strict=True):
        axis.scatter([0, -1, 0, 1], [1, 0, 0, 0], s=1700, color="white", edgecolor="black", zorder=3)
        axis.text(0, 1, "2", ha="center", va="center", fontsize=15, zorder=4)
        for x, brought, share in zip((-1, 0, 1), (3, -2, 1), shares, strict=True):
            axis.text(x, 0, f"{share:.2g}", ha="center", va="center", fontsize=15, zorder=4)
            axis.text(x, -0.32, f"brought {brought}", ha="center", fontsize=10)
            color = "tab:red" if share > 0 else "tab:blue" if share < 0 else "0.75"
            axis.plot([0, x], [1, 0], color=color, lw=1 + 5 * abs(share), solid_capstyle="butt", zorder=1)
        axis.set(title=way, xlim=(-1.5, 1.5), ylim=(-0.5, 1.4))
        axis.set_axis_off()
    figure.suptitle("A neuron with relevance 2 pays its inputs (red: gets, blue: gives back)")
    return figure


if __name__ == "__main__":
    lesson = start("advanced.lrp", "Who gets which share of the score?", images=["dog.jpg", "koala.jpg", "bird.jpg"])
    model, images, targets = lesson.model, lesson.images, lesson.targets
    lesson.show(figure_idea(), "idea")

# %% [markdown]
# ## The formula
#
# Neuron $j$ of a layer computes a sum $z_j$. What input $i$ brings to it is $a_i w_{ij}$. A rule says which sum $p_j$ of
# contributions the neuron pays for; input $i$ gets its part of that sum, and the parts from all neurons are added up.
#
# $$z_j = \sum_i a_i w_{ij} + b_j, \qquad R_i = a_i \sum_j \frac{\partial p_j}{\partial a_i}\,\frac{R_j}{p_j}
# \qquad\text{(Bach et al. 2015; Montavon et al. 2019, section 10.2)}$$
#
# | symbol | meaning | shape, for a linear layer |
# | --- | --- | --- |
# | $a_i$, $w_{ij}$, $b_j$ | inputs, weights, biases of a layer | (I,), (J, I), (J,) |
# | $R_j$, $R_i$ | relevance of its outputs and of its inputs | (J,), (I,) |
# | $p_j$ | what neuron $j$ pays for: the rule | (J,) |
#
# | rule | $p_j$ | in words |
# | --- | --- | --- |
# | zero | $z_j$ | by contribution; for a whole network this is gradient x input |
# | epsilon | $z_j + \varepsilon\,\mathrm{sign}(z_j)$ | the same, but sums that are small for their layer pay little |
# | z+ | $z_j^+ = \sum_i (a_i w_{ij})^+ + b_j^+$ | only positive contributions are paid |
# | gamma | $z_j + \gamma z_j^+$; where $z_j < 0$, $z_j + \gamma z_j^-$ | those that pulled the sum to its side get more |
# | flat | the number of inputs | all are paid alike: smears over the receptive field |
#
# Three remarks. *Epsilon* is a quarter of the layer's typical size, the root mean square of $z$, as in the authors'
# tutorial. An epsilon that only keeps 0 / 0 away would give the zero rule again. *z+* pays positive contributions even
# where $z_j$ is negative: if $R_j$ is negative there, they get a negative share. And *a bias is paid like an input*,
# but hands nothing down: its share is gone. Whoever wants to keep it leaves the bias out of $p_j$.
#
# ## Step 1: one layer


# %%
EPSILON, GAMMA = 0.25, 0.25  # epsilon is this many times the root mean square of z
TINY = 1e-9                  # keeps 0 / 0 away
Rule = Callable[[nn.Module, Tensor], Tensor]  # (layer, its input a) -> p


def sign(z: Tensor) -> Tensor:
    """The sign of z, 1 for 0."""
    return torch.where(z < 0, -1.0, 1.0).to(z)


def affine(layer: nn.Module, a: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A convolution or linear layer with other weights."""
    if isinstance(layer, nn.Linear):
        return F.linear(a, weight, bias)
    return F.conv2d(a, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)


def positive_part(layer: nn.Module, a: Tensor, *, bias: bool = True) -> Tensor:
    """z+: the sum of the positive contributions a_i w_ij, and of the bias if it is positive and wanted."""
    b = layer.bias.clamp(min=0) if bias and layer.bias is not None else None
    z = affine(layer, a.clamp(min=0), layer.weight.clamp(min=0), b)
    if (a < 0).any():                                                  # pixels; never after a ReLU
        z = z + affine(layer, a.clamp(max=0), layer.weight.clamp(max=0), None)
    return z


def zero_rule(layer: nn.Module, a: Tensor) -> Tensor:
    """p = z."""
    return affine(layer, a, layer.weight, layer.bias)


def epsilon_rule(layer: nn.Module, a: Tensor) -> Tensor:
    """p = z + epsilon sign(z), with epsilon = EPSILON times the root mean square of z, image by image."""
    z = zero_rule(layer, a)
    # BEGIN SOLUTION 9.1
    epsilon = EPSILON * z.detach().square().mean(dim=tuple(range(1, z.ndim)), keepdim=True).sqrt()
    return z + (epsilon + TINY) * sign(z)
    # END SOLUTION


def plus_rule(layer: nn.Module, a: Tensor) -> Tensor:
    """p = z+."""
    # BEGIN SOLUTION 9.1
    return positive_part(layer, a) + TINY
    # END SOLUTION


def conserving_plus_rule(layer: nn.Module, a: Tensor) -> Tensor:
    """p = z+ without the bias, so that the inputs get all."""
    return positive_part(layer, a, bias=False) + TINY


def gamma_rule(layer: nn.Module, a: Tensor) -> Tensor:
    """p = z + gamma z+, and z + gamma z- where z is negative."""
    z, plus = zero_rule(layer, a), positive_part(layer, a)
    # BEGIN SOLUTION 9.1
    return z + GAMMA * torch.where(z < 0, z - plus, plus) + TINY * sign(z)
    # END SOLUTION


def flat_rule(layer: nn.Module, a: Tensor, R: Tensor) -> Tensor:
    """R_i = sum_j R_j / (number of j's inputs): spread evenly, whatever the inputs and weights are."""
    ones = torch.ones_like(a).requires_grad_()
    count = affine(layer, ones, torch.ones_like(layer.weight), None)   # inputs inside the image, not the padding
    return torch.autograd.grad(count, ones, R / count.detach())[0]


@torch.enable_grad()
def hand_down(rule: Rule, layer: nn.Module, a: Tensor, R: Tensor) -> Tensor:
    """One layer by the formula: relevance of its outputs -> of its inputs, of the shape of `a`."""
    a = a.detach().clone().requires_grad_()
    p = rule(layer, a)
    return a.detach() * torch.autograd.grad(p, a, R / p.detach())[0]


def three_neurons(bias: float = 0.0) -> tuple[nn.Linear, Tensor]:
    """The picture above: weights 3, -1, 1 and inputs 1, 2, 1, which bring 3, -2, 1."""
    layer = nn.Linear(3, 1).requires_grad_(False)
    layer.weight.copy_(torch.tensor([[3.0, -1.0, 1.0]]))
    layer.bias.fill_(bias)
    return layer, torch.tensor([[1.0, 2.0, 1.0]])


def predicted_with_bias() -> list[float]:
    """R_1, R_2, R_3 of the three neurons under z+, if their bias is 2 and R = z = 4. By hand: numbers, no tensors."""
    # BEGIN SOLUTION 9.1
    return [4 * 3 / 6, 0.0, 4 * 1 / 6]                                 # z+ = 3 + 1 + 2; the bias keeps 4/3
    # END SOLUTION


if __name__ == "__main__":
    layer, a = three_neurons()
    by_hand = {zero_rule: (3, -2, 1), epsilon_rule: (2.4, -1.6, 0.8), plus_rule: (1.5, 0, 0.5),
               gamma_rule: (2.5, -4 / 3, 5 / 6), flat_rule: (2 / 3, 2 / 3, 2 / 3)}  # fmt: skip
    rows = []
    for rule, expected in by_hand.items():
        R = torch.full((1, 1), 2.0)
        shares = (flat_rule(layer, a, R) if rule is flat_rule else hand_down(rule, layer, a, R))[0].tolist()
        rows.append([rule.__name__, *shares, sum(shares), " ".join(f"{share:.3g}" for share in expected)])
        assert torch.allclose(torch.tensor(shares), torch.tensor(expected, dtype=torch.float), atol=1e-5)
    print_table(["three neurons, R = 2", "R1", "R2", "R3", "sum", "by hand"], rows)
    found = hand_down(plus_rule, *three_neurons(bias=2.0), torch.full((1, 1), 4.0))[0].tolist()
    print("z+ with a bias of 2, R = 4:", *(f"{share:.3g}" for share in found), "  predicted:",
          *(f"{share:.3g}" for share in predicted_with_bias()))  # fmt: skip

# %% [markdown]
# ## Step 2: one line for all layers
#
# Handing relevance down needs a rule for every kind of layer. There is a shorter way (Montavon et al. 2019, section
# 10.2.2). Give each layer the output $p_j \cdot (z_j / p_j)$ and hold the second factor constant. The value is $z_j$ as
# before. The gradient is $\partial p_j / \partial a_i \cdot z_j / p_j$. So *gradient x activation* of the changed network
# is the formula above. ReLU, pooling, addition and concatenation need no change: gradient x activation already divides by
# contribution there, and max-pooling pays the winner.
#
# A name in the table below stands for three rules: one for linear layers, one for the upper half of the convolutions,
# one for the lower half. The last name is the chapter's main advice (section 10.3): **other rules at other depths**.
# At the top few neurons with a clear meaning decide, so zero. In the middle epsilon removes what is small. Below, where
# contributions are many and noisy, gamma. At the pixels, which have no zero that means "nothing", flat.

# %%
RULES: dict[str, tuple[Rule, Rule, Rule]] = {
    "zero": (zero_rule, zero_rule, zero_rule),
    "epsilon": (epsilon_rule, epsilon_rule, epsilon_rule),
    "gamma": (gamma_rule, gamma_rule, gamma_rule),
    "epsilon_plus": (epsilon_rule, plus_rule, plus_rule),
    "epsilon_plus_conserving": (epsilon_rule, conserving_plus_rule, conserving_plus_rule),
    "epsilon_plus_flat": (epsilon_rule, plus_rule, plus_rule),
    "composite": (zero_rule, epsilon_rule, gamma_rule),
}
FLAT = ("epsilon_plus_flat", "composite")  # these are flat in the layer that sees the pixels


def layers_in_order(model: nn.Module) -> list[nn.Module]:
    """Convolutions and linear layers, in the order in which they run."""
    nodes = torch.fx.symbolic_trace(model).graph.nodes
    layers = dict.fromkeys(model.get_submodule(node.target) for node in nodes if node.op == "call_module")
    return [layer for layer in layers if isinstance(layer, nn.Conv2d | nn.Linear)]


def rules_of_layers(model: nn.Module, rule: str) -> dict[nn.Module, Rule]:
    """Layer -> its rule, for the layers whose rule is neither zero nor flat."""
    (of_linear, upper, lower), layers = RULES[rule], layers_in_order(model)
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    rules = dict.fromkeys(layers, of_linear) | dict.fromkeys(convolutions, upper)
    rules |= dict.fromkeys(convolutions[: len(convolutions) // 2], lower)
    if rule in FLAT:
        del rules[layers[0]]
    return {layer: its_rule for layer, its_rule in rules.items() if its_rule is not zero_rule}


@contextmanager
def relevance_rules(model: nn.Module, rule: str) -> Iterator[None]:
    """Inside the block gradient x activation is relevance; afterwards, also after an exception, all is as before."""
    rules = rules_of_layers(model, rule)

    def hook(layer: nn.Module, inputs: tuple, z: Tensor) -> Tensor:
        p = rules[layer](layer, inputs[0])
        # BEGIN SOLUTION 9.2
        return p * (z / p).detach()                                    # the value of z, the gradient of p
        # END SOLUTION

    handles = [layer.register_forward_hook(hook) for layer in rules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


# %% [markdown]
# The shortcut is silent about layers it does not know: the gradient of a sigmoid times its input is no relevance. So we
# look at the operations of the network first (torch.fx lists them) and refuse the others by name. Batch norm is folded
# into the convolution before it, in a copy; otherwise it would take its own share.

# %%
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


# %% [markdown]
# ## The method


# %%
@torch.inference_mode(False)
@torch.enable_grad()
def lrp(model: nn.Module, images: Tensor, target: Target = None, *, rule: str = "epsilon_plus") -> Tensor:
    """Layer-wise relevance propagation: the logit, shared out layer by layer down to the pixels.

    Args:
        model: classifier in eval mode of convolutions, linear layers, batch norm, ReLU, max-, average- and adaptive
            pooling, flatten, dropout, addition and concatenation (ResNet, VGG, SqueezeNet).
        images, target: as in vanilla_gradient.
        rule: "zero" (gradient x input), "epsilon", "gamma", "epsilon_plus" (epsilon in linear layers, z+ in
            convolutions), "epsilon_plus_conserving" (the same without the biases of the convolutions),
            "epsilon_plus_flat" (flat in the first layer), or "composite" (zero in linear layers, epsilon in the upper
            half of the convolutions, gamma in the lower, flat in the first).

    Returns:
        (B, 3, H, W), signed, detached, in logit units. It sums to the logit but for what epsilon and biases took.

    Raises:
        ValueError: as vanilla_gradient; an unknown rule; a layer without a rule, by name.

    Paper: Bach et al. 2015, PLOS ONE 10(7); rules as in Montavon et al. 2019, sections 10.2 and 10.3.
    """
    if rule not in RULES:
        raise ValueError(f"rule must be {', '.join(RULES)}, got {rule!r}")
    check_inputs(model, images)
    model = ready_for_lrp(model)
    x = images.detach().clone().requires_grad_()
    if rule not in FLAT:
        with relevance_rules(model, rule):
            score = target_logits(model(x), target).sum()
        return (x * torch.autograd.grad(score, x)[0]).detach()         # R_i = a_i dS/da_i of the changed network
    first = layers_in_order(model)[0]
    with relevance_rules(model, rule), recorded_output(first, cut=True) as outputs:
        score = target_logits(model(x), target).sum()
    (z,) = outputs
    return flat_rule(first, x.detach(), (z * torch.autograd.grad(score, z)[0]).detach())


if __name__ == "__main__":
    maps = {rule: lrp(model, images, targets, rule=rule) for rule in RULES}
    columns = {rule.replace("epsilon_plus_", "epsilon_plus\n"): R.sum(dim=1) for rule, R in maps.items()}
    notes = {name: [f"sum {total:.1f}" for total in R.sum(dim=(1, 2)).tolist()] for name, R in columns.items()}
    heading = "LRP: relevance summed over the colours"
    lesson.show(map_grid(images, columns, titles=lesson.titles, notes=notes, heading=heading, size=2.4), "rules")
