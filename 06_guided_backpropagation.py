# %% [markdown]
# # 06 Guided backpropagation: a sharp picture, but of what?
#
# Change one line in the backward pass of every ReLU, and the noisy gradient turns into a drawing: eyes, whiskers, the
# edge of a beak. It is the prettiest map of the course. This lesson takes it apart: whether it depends on the class
# one asks for, and whether it depends on what the network has learnt.
#
# **After this lesson you can**
#
# 1. write down the backward rules of the gradient, the deconvnet and guided backpropagation, and say how they differ;
# 2. put a rule into a network and take it out again, for in-place and reused ReLUs;
# 3. notice ReLUs that a hook cannot see;
# 4. put two questions to any map: does it change with the class, does it change when the network forgets?
#
# **Level** intermediate. **Before it** lessons 01 and 05.
# **Papers** Springenberg et al., *Striving for Simplicity*, 2014, arXiv:1412.6806 (guided backpropagation);
# Zeiler, Fergus, 2013, arXiv:1311.2901 (deconvnet); Adebayo et al., *Sanity Checks for Saliency Maps*, 2018,
# arXiv:1810.03292; Nie et al., 2018, arXiv:1805.07039 (why the map is close to a recovered image).

# %%
r"""Guided backpropagation and the deconvnet: three backward rules of ReLU, and what the sharp ones fail to show.

Run `python 06_guided_backpropagation.py` (seconds on two cores). Writes rules.png, maps.png, classes.png and
randomized.png to outputs/06_guided_backpropagation/.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from course.checks import Target, check_inputs, target_logits
from course.figures import color_scale, show_map, show_photo
from course.probes import correlation, randomize
from utils import channel_reduce, describe_targets, displayable, find_class, import_lesson

ABSENT = find_class("tabby")

vanilla_gradient = import_lesson("01_vanilla_gradient_saliency").vanilla_gradient
lesson_05 = import_lesson("05_gradcam")

# %% [markdown]
# ## The idea
#
# In the forward pass a ReLU lets a unit's input $x$ through if it is positive. In the backward pass a signal $R$
# arrives from above, and the rule says what goes on to the layer below. The gradient closes the gate that the forward
# pass closed. The deconvnet looks at the arriving signal instead, and lets only positive values through. Guided
# backpropagation does both: the unit must have been active *and* what lies above must want more of it.
#
# ## The formula
#
# | method | backward rule of ReLU (Springenberg et al., figure 1) |
# | --- | --- |
# | gradient | $R_{\text{below}} = R \cdot [x > 0]$ |
# | deconvnet | $R_{\text{below}} = R \cdot [R > 0]$ |
# | guided backpropagation | $R_{\text{below}} = R \cdot [R > 0] \cdot [x > 0]$ |
#
# | symbol | meaning |
# | --- | --- |
# | $x$ | the input of a ReLU in the forward pass |
# | $R$ | the signal that arrives at its output in the backward pass |
# | $R_{\text{below}}$ | the signal that leaves at its input |
#
# Every other layer passes the signal on as the gradient does. Only the first rule gives the derivative of
# something; the two others drop signals on the way, and what arrives is the derivative of no function.
#
# ## Step 1: three rules, side by side


# %%
def gradient_rule(R: Tensor, x: Tensor) -> Tensor:
    """The derivative: closed where the forward pass was closed."""
    return R * (x > 0)


def deconvnet_rule(R: Tensor, x: Tensor) -> Tensor:
    """Only positive signals go on, whatever the forward pass did (Zeiler, Fergus 2013). Shapes alike."""
    # BEGIN SOLUTION 6.1
    return R * (R > 0)
    # END SOLUTION


def guided_rule(R: Tensor, x: Tensor) -> Tensor:
    """Both gates (Springenberg et al. 2014, section 3.4). Shapes alike."""
    # BEGIN SOLUTION 6.1
    return R * (R > 0) * (x > 0)
    # END SOLUTION


RULES = {"gradient": gradient_rule, "deconvnet": deconvnet_rule, "guided": guided_rule}

# %% [markdown]
# ## Step 2: a rule into the network
#
# autograd applies the forward gate $[x > 0]$ itself. For guided backpropagation only $[R > 0]$ is missing, and a hook
# on the *tensor* that a ReLU returns sees $R$ on its way down. Hooks on tensors, unlike backward hooks on modules, do
# not mind in-place ReLUs, and each run of a reused ReLU has its own tensor.
#
# The deconvnet leaves the forward gate out, so it needs a ReLU with a backward pass of its own, and its input $x$ from
# before an in-place ReLU overwrote it.


# %%
class DeconvnetReLU(torch.autograd.Function):
    """Returns the output of a ReLU as it is; backward follows the deconvnet rule."""

    @staticmethod
    def forward(ctx, x: Tensor, output: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return output.clone()

    @staticmethod
    def backward(ctx, R: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return deconvnet_rule(R, x), None


@contextmanager
def rectified(model: nn.Module, rule: str) -> Iterator[list]:
    """Inside the block the model's nn.ReLU and nn.ReLU6 follow `rule`, "guided" or "deconvnet", in the backward pass.

    Yields the autograd nodes of the ReLUs as they run. Afterwards, also after an exception, the model is as it was.
    """
    relus = [module for module in model.modules() if isinstance(module, nn.ReLU | nn.ReLU6)]
    in_place = [module.inplace for module in relus]
    ran, handles = [], []

    def hook(_module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        if not output.requires_grad:
            return output
        if rule == "deconvnet":
            output = DeconvnetReLU.apply(inputs[0], output.detach())
        else:
            # BEGIN SOLUTION 6.2
            output.register_hook(lambda R: R.clamp(min=0))             # R [R > 0]; autograd multiplies by [x > 0]
            # END SOLUTION
        ran.append(output.grad_fn)
        return output

    try:
        for module in relus:
            handles.append(module.register_forward_hook(hook))
            module.inplace = module.inplace and rule != "deconvnet"
        yield ran
    finally:
        for handle in handles:
            handle.remove()
        for module, flag in zip(relus, in_place, strict=True):
            module.inplace = flag


# %% [markdown]
# ## Step 3: ReLUs that no hook sees
#
# `F.relu(x)`, `x.relu()`, or an `nn.ReLU()` made inside `forward` runs without any hook: guided backpropagation would
# silently become the plain gradient. So we do not count modules, we look at what ran. autograd's graph holds a node for
# every operation between the logits and the image, and an activation among them that is not ours is refused.


# %%
ACTIVATIONS = (
    "Relu", "Hardtanh", "Threshold", "LeakyRelu", "Prelu", "PreluKernel", "RreluWithNoise", "Elu", "Celu", "Gelu",
    "Silu", "Mish", "Hardswish", "Softplus",
)  # fmt: skip


def graph_nodes(tensor: Tensor) -> list:
    """All operations that autograd recorded on the way to `tensor`."""
    nodes, waiting = {}, [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in nodes:
            nodes[node] = None
            waiting += [below for below, _ in node.next_functions]
    return list(nodes)


def activation_name(node) -> str | None:
    """What an activation function is called in autograd's graph, "Relu" for instance; None for other operations."""
    name = node.name().partition("Backward")[0]
    clamp_at_0 = name in ("Clamp", "ClampMin") and isinstance(node._saved_min, int | float) and node._saved_min == 0
    return name if name in ACTIVATIONS or clamp_at_0 else None


def check_rectifiers(logits: Tensor, ran: list) -> None:
    """Refuse a model whose activations did not all follow the rule; `ran` as rectified() yields it."""
    # BEGIN SOLUTION 6.3
    others = Counter(activation_name(node) for node in graph_nodes(logits) if node not in ran)
    others.pop(None, None)
    # END SOLUTION
    if others:
        found = ", ".join(f"{name} ({count} times)" for name, count in others.items())
        raise ValueError(
            f"the backward rules hold for nn.ReLU and nn.ReLU6 modules only, and this model also ran {found}, "
            "as a function or as another activation: make them such modules, or use vanilla_gradient"
        )
    if not ran:
        raise ValueError("no nn.ReLU or nn.ReLU6 ran in this model: the map would be the plain gradient, lesson 01's")


# %% [markdown]
# ## Step 4: the two methods
#
# They are the vanilla gradient of lesson 01 with other ReLUs.


# %%
@torch.inference_mode(False)
@torch.enable_grad()
def backpropagate(model: nn.Module, images: Tensor, target: Target, rule: str) -> Tensor:
    """Signal of a class score at the pixels, (B, 3, H, W), with `rule` in every ReLU."""
    check_inputs(model, images)
    x = images.detach().clone().requires_grad_()
    with rectified(model, rule) as ran:
        logits = model(x)                                              # (B, K)
        score = target_logits(logits, target)                          # (B,)
    check_rectifiers(logits, ran)
    (signal,) = torch.autograd.grad(score.sum(), x)
    return signal


def guided_backpropagation(
    model: nn.Module, images: Tensor, target: Target = None
) -> Tensor:
    """Backward pass in which every ReLU lets only positive signals to active units through.

    Args:
        model: classifier in eval mode whose activations are nn.ReLU or nn.ReLU6 modules, (B, 3, H, W) -> logits (B, K).
        images: normalised images, (B, 3, H, W), float. Left as they are.
        target: None (each image's top class), one class index for all, or one per image.

    Returns:
        (B, 3, H, W), signed (the first convolution has weights of both signs), detached.

    Raises:
        ValueError: as vanilla_gradient; ReLUs called as functions, other activations, or none.

    Paper: Springenberg et al. 2014, arXiv:1412.6806, section 3.4.
    """
    return backpropagate(model, images, target, "guided")


def deconvnet(model: nn.Module, images: Tensor, target: Target = None) -> Tensor:
    """Backward pass in which every ReLU lets only positive signals through, to active units or not.

    Max-pooling sends its signal to the place of the maximum, as Zeiler and Fergus's switches do.

    Args:
        model, images, target: as in guided_backpropagation.

    Returns:
        (B, 3, H, W), signed, detached.

    Raises:
        ValueError: as guided_backpropagation.

    Paper: Zeiler, Fergus 2013, arXiv:1311.2901, section 2.1.
    """
    return backpropagate(model, images, target, "deconvnet")


# %% [markdown]
# A sanity check you can break: three units between an image of two pixels and a score, by hand.


# %%
def check_by_hand() -> None:
    """S = (1, -2, 3) . ReLU(W x) for x = (1, 2), whose hidden inputs are (3, 1, -1): the third gate is closed."""
    W, v = torch.tensor([[1.0, 1.0], [1.0, 0.0], [1.0, -1.0]]), torch.tensor([[1.0, -2.0, 3.0]])
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 3, bias=False), nn.ReLU(), nn.Linear(3, 1, bias=False)).eval()
    model[1].weight, model[3].weight = nn.Parameter(W), nn.Parameter(v)
    image = torch.tensor([1.0, 2.0]).reshape(1, 1, 1, 2)
    for method, name in ((vanilla_gradient, "gradient"), (deconvnet, "deconvnet"), (guided_backpropagation, "guided")):
        below = RULES[name](v[0], W @ image.flatten())                 # (1, -2, 0), (1, 0, 3), (1, 0, 0)
        assert torch.equal(method(model, image, 0).flatten(), below @ W), name


# %% [markdown]
# ## Step 5: the catch
#
# Two questions. Does the map depend on the class? And does it depend on what the network has learnt: if we put random
# numbers in place of its weights, from the logits downwards, when does the map notice (Adebayo et al. 2018)?


# %%




MAPS: dict[str, Callable[[nn.Module, Tensor, int], Tensor]] = {
    "gradient": lambda *args: channel_reduce(vanilla_gradient(*args)),
    "guided backprop": lambda *args: channel_reduce(guided_backpropagation(*args)),
    "Grad-CAM": lambda *args: lesson_05.grad_cam(*args),
}


def cascade(model: nn.Module, image: Tensor, target: int, names: Sequence[str], seed: int) -> dict[str, list[Tensor]]:
    """Maps (H, W) of each method: of the model, then with more and more of `names` randomised in a copy of it."""
    damaged, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    maps = {method: [function(model, image, target)[0]] for method, function in MAPS.items()}
    for name in names:
        randomize(damaged.get_submodule(name), generator)
        for method, function in MAPS.items():
            maps[method].append(function(damaged, image, target)[0])
    return maps


def likeness(maps: Tensor) -> str:
    """Lowest and highest correlation between any two of (N, H, W) maps, as text."""
    pairs = torch.corrcoef(maps.flatten(1))[torch.triu_indices(len(maps), len(maps), offset=1).unbind()]
    return f"{pairs.min():.2f} to {pairs.max():.2f}"


# %% [markdown]
# ## The pictures


# %%
def figure_rules() -> Figure:
    """Eight units by hand: input, arriving signal, and what each rule sends below."""
    x = torch.tensor([2.0, 1.0, -1.0, -2.0, 1.5, -0.5, 0.5, -1.5])
    R = torch.tensor([1.0, -1.0, 2.0, -2.0, -0.5, 0.5, 1.5, -1.0])
    rows = {"x: input": x, "R: signal from above": R} | {name: rule(R, x) for name, rule in RULES.items()}
    figure, axes = plt.subplots(1, 5, figsize=(14, 2.6), sharey=True, layout="constrained")
    for axis, (name, values) in zip(axes, rows.items(), strict=True):
        axis.bar(range(8), values.tolist(), color=["tab:red" if value > 0 else "tab:blue" for value in values])
        axis.axhline(0, color="black", linewidth=0.8)
        axis.set(title=name, xlabel="unit", xticks=range(8))
    figure.suptitle("Backward rules of ReLU: the gradient closes by x, the deconvnet by R, guided by both")
    return figure


def figure_maps(model: nn.Module, images: Tensor, target: Tensor) -> Figure:
    """Gradient, deconvnet, guided backpropagation; one row an image, each map on its own scale."""
    methods = {"gradient": vanilla_gradient, "deconvnet": deconvnet, "guided backprop": guided_backpropagation}
    columns = {name: channel_reduce(method(model, images, target)) for name, method in methods.items()}
    titles = describe_targets(model, images, target)
    figure, axes = plt.subplots(len(images), 4, figsize=(14, 3.3 * len(images)), squeeze=False, layout="constrained")
    for i, (row, photo) in enumerate(zip(axes, displayable(images), strict=True)):
        show_photo(row[0], photo, titles[i])
        for axis, (name, maps) in zip(row[1:], columns.items(), strict=True):
            show_map(axis, maps[i], title=f"{name}, max |.| over channels")
    figure.suptitle("Three backward rules (each map on its own scale)")
    return figure


def figure_classes(model: nn.Module, image: Tensor, targets: Sequence[int]) -> Figure:
    """Two classes of one image: each method's two maps, on one scale a row, and their correlation."""
    photo, names = displayable(image)[0], describe_targets(model, image.expand(2, -1, -1, -1), targets)
    figure, axes = plt.subplots(len(MAPS), 3, figsize=(10.5, 3.3 * len(MAPS)), layout="constrained")
    for row, (method, function) in zip(axes, MAPS.items(), strict=True):
        pair = [function(model, image, target)[0] for target in targets]
        show_photo(row[0], photo, f"{method}: r = {correlation(*pair):.2f}")
        for axis, map, name in zip(row[1:], pair, names, strict=True):
            show_map(axis, map, color_scale(*pair), name, photo if method == "Grad-CAM" else None)
    figure.suptitle("Does the map depend on the class? Two classes, one scale a row")
    return figure


def figure_randomized(maps: dict[str, list[Tensor]], names: Sequence[str], photo) -> Figure:
    """One row a method: the map, then with more and more stages randomised; each map on its own scale."""
    figure, axes = plt.subplots(len(maps), len(names) + 1, figsize=(3.1 * len(names) + 3, 9.3), layout="constrained")
    for row, (method, series) in zip(axes, maps.items(), strict=True):
        for axis, map, name in zip(row, series, ["as trained", *names], strict=True):
            r = correlation(series[0], map)
            title = f"{method}, {name}" if map is series[0] else f"down to {name}: r = {r:.2f}"
            show_map(axis, map, color_scale(map), title, photo if method == "Grad-CAM" else None)
    figure.suptitle("Random weights from the logits downwards (each map on its own scale)")
    return figure




# %% [markdown]
# ## What the picture does not show
#
# - **Hardly the class.** Ask for a tabby, and guided backpropagation draws the same dog (classes.png). With four
#   animals in one picture the right one gets brighter, but all four are drawn for each class.
# - **Hardly what the upper half of the network has learnt.** With random numbers in the last stages the drawing stays
#   (randomized.png). Nie et al. explain why: the rule partly recovers the image, edges first.
# - **The deconvnet: hardly the photograph** (maps.png). Without forward gates the image has a say only in where
#   max-pooling finds its maxima, one layer of ResNet-50. On a network without max-pooling every image has the same map.
# - **Not sensitivity.** The map is no derivative: its values have no unit, and neither size nor sign can be read.
# - **Not nothing.** It fades once the *lower* layers are randomised, so it is more than an edge detector of the photo:
#   it shows which edges the lower layers pass on. As a display of features it is of use, as an explanation of a
#   decision it is not.

# %% [markdown]
# ## Exercises
#
# **6.1 Two rules** (difficulty 1, 10 minutes, 3 points). Fill in `deconvnet_rule` and `guided_rule`. *First predict:*
# for which signs of x and R do all three rules agree? *Hints:* a gate is a comparison · a comparison times a number.
#
# **6.2 One hook** (difficulty 2, 15 minutes, 4 points). Put the guided rule into the network. *Hints:* who applies
# [x > 0]? · `Tensor.register_hook` may return another gradient · the hook belongs to the tensor, not to the module.
#
# **6.3 What ran?** (difficulty 3, 25 minutes, 4 points). Count the activations that did not follow the rule.
# *Hints:* start from the logits' graph · leave out the nodes that `rectified` collected · an operation that is no
# activation has no name.
#
# **6.4 Break an assumption** (difficulty 2, 15 minutes, no code to submit). Randomise the stages from the image upwards
# instead. Which method changes first now, and which last?


# %%


# %% [markdown]
# ## Recap
#
# 1. The gradient closes a ReLU's gate by the forward signal, the deconvnet by the backward signal, guided
#    backpropagation by both.
# 2. A hook on the tensor a ReLU returns is enough for the guided rule, and is gone afterwards. Look at what ran: a ReLU
#    called as a function follows no hook.
# 3. Guided backpropagation answers hardly to the class: on the four photographs its map of the right class correlates
#    0.98 to 1.00 with that of an absent tabby (gradient 0.36 to 0.56); between four animals of one mosaic 0.66 to 0.82.
# 4. Nor to the upper layers: with random weights in fc and layer4 it correlates 0.93 to 0.99 with the trained network's
#    map, where the gradient keeps 0.27 to 0.44 and Grad-CAM nothing (below 0.08, or an empty map). Only further down it
#    goes too: 0.02 for the dog once layer1 is random. Adebayo et al.'s finding holds here, with their own erratum.
# 5. The sharper map is not the truer one.

