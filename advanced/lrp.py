# %% [markdown]
# # Layer-wise relevance propagation: who gets which share of the score?
#
# The gradient asks for slopes: what would change the score? Layer-wise relevance propagation (LRP) asks for shares. It
# takes the score and hands it down through the network, layer by layer, until all of it lies on pixels. A rule says who
# gets how much. There are several rules, and their maps differ.
#
# **After this part you can**
#
# 1. share out the relevance of one neuron by hand, under five rules;
# 2. do it for a whole network with one line;
# 3. follow the sum from layer to layer, and say where it goes;
# 4. take other rules at other depths, and measure what that changes.
#
# **Level** advanced. **Before it** lesson 02 (gradient x input).
# **Papers** Bach et al., *On Pixel-Wise Explanations for Non-Linear Classifier Decisions by Layer-Wise Relevance
# Propagation*, PLOS ONE 10(7), 2015; Montavon et al., *Layer-Wise Relevance Propagation: An Overview*, chapter 10 of
# *Explainable AI*, Springer 2019.

# %%
r"""Layer-wise relevance propagation. Run `python -m advanced.lrp`; --help lists the options."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from course.checks import Target, check_inputs, target_logits
from course.figures import map_grid
from course.lesson import print_table, start
from course.probes import correlation, randomized, stages
from course.scenes import Scene, found_scenes
from course.traced import layers_in_order, ready_for_lrp
from evaluation.is_it_chance import estimate
from evaluation.planted_scenes import energy_pointing_game
from utils import find_class, recorded_output

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
    ways = {"by what each one brought": (3, -2, 1), "only what helped": (1.5, 0, 0.5), "all alike": (2 / 3,) * 3}
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.7), layout="constrained")
    for axis, (way, shares) in zip(axes, ways.items(), strict=True):
        axis.scatter([0, -1, 0, 1], [1, 0, 0, 0], s=1700, color="white", edgecolor="black", zorder=3)
        axis.text(0, 1, "2", ha="center", va="center", fontsize=15, zorder=4)
        for x, brought, share in zip((-1, 0, 1), (3, -2, 1), shares, strict=True):
            axis.text(x, 0, f"{share:.2g}", ha="center", va="center", fontsize=15, zorder=4)
            axis.text(x, -0.32, f"brought {brought}", ha="center", fontsize=10)
            color = "tab:red" if share > 0 else "tab:blue" if share < 0 else "0.75"
            axis.plot([0, x], [1, 0], color=color, lw=1 + 5 * abs(share), solid_capstyle="butt", zorder=1)
        axis.set(title=way, xlim=(-1.5, 1.5), ylim=(-0.45, 1.2))
        axis.set_axis_off()
    figure.suptitle("A neuron with relevance 2 pays its inputs (red: gets, blue: gives back)")
    return figure


if __name__ == "__main__":
    scenes = {"type": int, "default": 6, "help": "planted scenes per network, in the last table (default: %(default)s)"}
    lesson = start("advanced.lrp", "Who gets which share of the score?", images=["dog.jpg", "koala.jpg", "bird.jpg"],
                   options={"--scenes": scenes})  # fmt: skip
    model, images, targets = lesson.model, lesson.images, lesson.targets
    lesson.show(figure_idea(), "idea")

# %% [markdown]
# ## The formula
#
# Neuron $j$ of a layer computes a sum $z_j$. What input $i$ brings to it is $a_i w_{ij}$. A rule says which sum $p_j$
# of contributions the neuron pays for; input $i$ gets its part of that sum, and the parts from all neurons are added
# up.
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
# | gamma | $z_j + \gamma z_j^+$; where $z_j < 0$, $z_j + \gamma z_j^-$ | those on the side of the sum get more |
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
# before. The gradient is $\partial p_j / \partial a_i \cdot z_j / p_j$. So *gradient x activation* of the changed
# network is the formula above. ReLU, pooling, addition and concatenation need no change: gradient x activation already
# divides by contribution there, and max-pooling pays the winner.
#
# A name in the table below stands for three rules: one for linear layers, one for the upper half of the convolutions,
# one for the lower half. The last name is the chapter's main advice (section 10.3): **other rules at other depths**.
# At the top few neurons with a clear meaning decide, so zero. In the middle epsilon removes what is small. Below, where
# contributions are many and noisy, gamma. At the pixels, where 0 is a colour and does not mean "nothing", flat. (There
# the chapter has a rule of its own for bounded values; flat is simpler.)

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
    return flat_rule(first, x.detach().to(z), (z * torch.autograd.grad(score, z)[0]).detach()).to(images)


if __name__ == "__main__":
    maps = {rule: lrp(model, images, targets, rule=rule) for rule in RULES}
    columns = {rule.replace("epsilon_plus_", "epsilon_plus\n"): R.sum(dim=1) for rule, R in maps.items()}
    notes = {name: [f"sum {total:.2f}" for total in R.sum(dim=(1, 2)).tolist()] for name, R in columns.items()}
    heading = "LRP: relevance summed over the colours"
    lesson.show(map_grid(images, columns, titles=lesson.titles, notes=notes, heading=heading, size=2.4), "rules")
# %% [markdown]
# Look at the sums above the maps. The score of the dog is 16.5. Of that, the rule "epsilon_plus" brings 1.4 to the
# pixels, and its conserving sister 16.0. Where does the rest stay?
#
# ## A check you can break: follow the sum
#
# Gradient x activation is the relevance at *every* layer, not only at the pixels. So we can add it up stage by stage.
# Without biases in $p_j$, and without epsilon, nothing may get lost between the logit and the pixels.


# %%
@torch.enable_grad()
def relevance_sums(
    model: nn.Module, images: Tensor, target: Target, rule: str, names: Sequence[str]
) -> dict[str, float]:
    """Sum of the relevance at the pixels, at the outputs of the named layers, and at the logit, bottom first.

    Args:
        model: as in lrp, but batch norm must be folded already.
        images, target, rule: as in lrp.
        names: of modules, the lowest first.
    """
    pixels = lrp(model, images, target, rule=rule).sum().item()
    x = images.detach().clone().requires_grad_()
    with ExitStack() as stack:
        stack.enter_context(relevance_rules(model, rule))
        outputs = {name: stack.enter_context(recorded_output(model.get_submodule(name))) for name in names}
        score = target_logits(model(x), target).sum()
    activations = {name: output[0] for name, output in outputs.items()}
    gradients = torch.autograd.grad(score, [*activations.values()])
    sums = {name: (a * g).sum().item() for (name, a), g in zip(activations.items(), gradients, strict=True)}
    return {"pixels": pixels} | sums | {"logit": score.item()}


def figure_sums(sums: dict[str, dict[str, float]]) -> Figure:
    """Sum of the relevance from the logit (left) down to the pixels (right), one line per rule."""
    figure, axis = plt.subplots(figsize=(8.5, 4), layout="constrained")
    for rule, totals in sums.items():
        names = [name.removeprefix("features.") for name in totals]
        axis.plot(names[::-1], [*totals.values()][::-1], "o-", label=rule)
    axis.axhline(0, color="black", lw=0.8)
    axis.set(xlabel="from the logit down to the pixels", ylabel="sum of relevance", title="Where the score stays")
    axis.legend(fontsize=8)
    return figure


if __name__ == "__main__":
    names = stages(model)[:0:-1]                                       # without the last stage: its output is the logit
    sums = {rule: relevance_sums(model, images[:1], targets[:1], rule, names) for rule in RULES}
    header = ["rule", *(name.removeprefix("features.") for name in sums["zero"])]
    print_table(header, [[rule, *(round(total, 1) + 0.0 for total in of.values())] for rule, of in sums.items()])
    lesson.show(figure_sums(sums), "sums")
    conserved = [sums["epsilon_plus_conserving"][name] for name in ("pixels", *names)]
    lesson.check(max(conserved) - min(conserved) < 0.01 * abs(conserved[0]) + 0.01, "relevance is lost on the way")

# %% [markdown]
# With the conserving rule every stage holds the same sum. Only epsilon in the last linear layer took a little from the
# logit. Under the other rules the sums shrink: a bias was paid, or epsilon swallowed a small sum. (Zero and gamma can
# even create relevance on the way, and take it back below: a negative bias pays.) None of these choices is wrong. But
# "the map sums to the score" is true for one of them only. So whoever reads a map in logit units has to say which rule
# made it.
#
# ## Does the map know the class, and the network?
#
# Two questions to every method of this course. We ask for a class that is not in the picture, a tabby cat: a map that
# looks the same cannot be about the class. And we ask a network with random weights: a map that looks the same shows
# the picture, not what was learnt. The row "zero", which is gradient x input, is the reference.


# %%
def likeness(first: Tensor, second: Tensor) -> str:
    """Correlation of two attributions, summed over the colours, image by image."""
    return " ".join(f"{correlation(a.sum(dim=0), b.sum(dim=0)):5.2f}" for a, b in zip(first, second, strict=True))


if __name__ == "__main__":
    untrained, tabby, rows = randomized(model, seed=lesson.seed), find_class("tabby"), []
    for rule in ("zero", "epsilon", "epsilon_plus", "composite"):
        of_zero = likeness(maps[rule], maps["zero"])
        of_tabby = likeness(maps[rule], lrp(model, images, tabby, rule=rule))
        rows.append([rule, of_zero, of_tabby, likeness(maps[rule], lrp(untrained, images, targets, rule=rule))])
    print("r of the maps:", *lesson.names)
    print_table(["rule", "with zero", "with tabby", "with random weights"], rows)

# %% [markdown]
# It depends on the picture. "epsilon_plus" draws nearly the same koala for both classes, and quite different dogs. The
# composite's maps depend on the class most. No map is the untrained network's map; 0.35 for the dog's comes nearest.
#
# ## Which rule is right?
#
# No sum and no correlation can say that. Planted scenes can say a little. There are two animals in each, and we know
# where. We ask for the first one: which share of the positive relevance lies on it, and which on the other? A uniform
# map has the animals' shares of the area. The table has a second network as well, because the chapter shows its
# composite on VGG-16. That is a plain chain of layers, as SqueezeNet nearly is. ResNet-50 adds its layers up.


# %%
def energies(model: nn.Module, scenes: Sequence[Scene], rule: str) -> np.ndarray:
    """Share of the positive relevance of the first animal's class on the first and on the second animal, (N, 2)."""
    rows = []
    for scene in scenes:
        map = lrp(model, scene.image, scene.classes[0], rule=rule)[0].sum(dim=0)
        rows.append([energy_pointing_game(map, mask) for mask in scene.masks])
    return np.array(rows)


if __name__ == "__main__":
    networks = {lesson.model_name: model, lesson.other_name: lesson.other_model}
    for name in [*networks][: 1 if lesson.quick else 2]:
        count = 2 if lesson.quick else lesson.args.scenes
        scenes, _ = found_scenes(networks[name], count, animals=2, seed=lesson.seed, device=lesson.args.device)
        shares = {rule: energies(networks[name], scenes, rule) for rule in ("zero", "epsilon_plus", "composite")}
        rows = [[rule, *values.mean(axis=0).tolist()] for rule, values in shares.items()]
        area = np.array([scene.masks.float().mean(dim=(1, 2)).tolist() for scene in scenes]).mean(axis=0)
        rows.append(["uniform map", *area.tolist()])
        print_table([f"{name}, {count} scenes", "on the animal", "on the other"], rows)
        print("composite minus epsilon_plus:", estimate((shares["composite"] - shares["epsilon_plus"])[:, 0]))

# %% [markdown]
# Six scenes decide nothing. With 30 (`python -m advanced.lrp --scenes 30`) the composite is better than "epsilon_plus"
# by 0.13 [0.11, 0.15] on SqueezeNet, and not on ResNet-50: -0.03 [-0.09, 0.02]. So the chapter's advice holds where it
# was found, in a plain chain of layers, and a recipe has to be measured again for another kind of network.
#
# ## What the picture does not show
#
# - **Not the one fair division.** Seven rules, seven maps, one network. The zero map and the z+ map of the dog do not
#   correlate at all (r = -0.01). Who writes the rule decides what counts as fair.
# - **Not the whole score.** Only the conserving rule brings the logit down to the pixels, and only because it pays no
#   bias there. What a bias stands for is open: each folded batch norm made one.
# - **Not always the class.** With z+ the koala's map for "tabby" is nearly the map for "koala" (r = 0.71). z+ forgets
#   which inputs spoke against (Sixt et al. 2020, arXiv:1912.09818, on why such maps forget the upper layers).
# - **Not the network alone.** The regular dots are places that the convolutions of size 1 and stride 2 look at: every
#   second row and column, in each stage. Between them that branch sees nothing.
# - **Not every network.** A sigmoid, a layer norm or attention need rules of their own; `lrp` refuses them by name.
#
# ## Exercises
#
# ### Predict first
#
# **9.16 The z+ rule by hand** (difficulty 1, 3 minutes, 1 point). Three inputs contribute 3, 1 and -2 to a neuron. It
# has a relevance of 2 to hand down, and no bias. What does the first input get under the z+ rule? Answer: a number.
#
# **9.17 Without detach** (difficulty 2, 4 minutes, 1 point). In the line $p\,(z / p)$ somebody forgets to hold the
# second factor constant. Which map comes out?
#
# - **a** Gradient x input: the product is z, and its gradient is the ordinary one.
# - **b** The z+ map, because p is still there.
# - **c** An empty map, because the two p cancel.
# - **d** The same map as before; `detach` only saves memory.

# %%
# BEGIN SOLUTION 9.16
ANSWER_9_16 = 1.5
# END SOLUTION
# BEGIN SOLUTION 9.17
ANSWER_9_17 = "a"
# END SOLUTION

# %% [markdown]
# ### Then write
#
# **9.1 Rules** (difficulty 2, 30 minutes, 6 points). Fill in $p$ of the epsilon, z+ and gamma rules. *First predict,*
# by hand, the shares of the three neurons under z+ if there is a bias of 2 and $R = z = 4$: `predicted_with_bias`.
# *Hints:* `positive_part` is z+ · what is left of z is z- · epsilon is one number per image, and constant: `detach` · a
# sum of exactly 0 must not be divided by.
#
# **9.2 One line** (difficulty 3, 20 minutes, 4 points). Fill in the line that makes gradient x activation a
# relevance. *Hints:* the value must stay z · the gradient must be that of p, times z / p · `detach`. *Then extend:*
# add a composite of your own to `RULES` and `FLAT`, z+ in place of gamma in the lower half for instance, and measure
# it on 30 scenes of both networks. (We got 0.51 on ResNet-50 and 0.42 on SqueezeNet.)
#
# ## Recap
#
# Who gets which share of the score?
#
# 1. Who the rule says: $R_i = a_i \sum_j \partial p_j / \partial a_i \cdot R_j / p_j$. For one neuron it is a sum by
#    hand, for a network one line: $p\,(z / p)$ with the second factor held constant.
# 2. Follow the sum. Of the dog's 16.5, 1.4 arrive under epsilon_plus and 16.0 if no bias of a convolution is paid.
# 3. Zero is gradient x input. Epsilon, z+ and gamma each drop something on purpose, and draw steadier maps for it.
# 4. Other rules at other depths are the authors' advice. Whether a recipe helps depends on the network: measure it.
