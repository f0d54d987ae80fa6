# %% [markdown]
# # 06 Guided backpropagation: a sharp picture, but of what?
#
# Change one rule in the backward pass of every ReLU, and the noisy gradient turns into a drawing: eyes, whiskers, the
# edge of a beak. No other map of this course is as sharp. Does it show why the network chose *this class*, and does it
# show what the network *has learnt*?
#
# **After this lesson you can**
#
# 1. write down the backward rules of the gradient, the deconvnet and guided backpropagation, and say how they differ;
# 2. put a rule into a network and take it out again, for in-place and reused ReLUs;
# 3. notice activation functions that a hook cannot see;
# 4. put two questions to any map: does it change with the class, does it change when the network forgets?
#
# **Level** intermediate. **Before it** lessons 01 and 05.
# **Papers** Springenberg et al., *Striving for Simplicity*, 2014, arXiv:1412.6806 (guided backpropagation);
# Zeiler, Fergus, 2013, arXiv:1311.2901 (deconvnet); Adebayo et al., *Sanity Checks for Saliency Maps*, 2018,
# arXiv:1810.03292; Nie et al., 2018, arXiv:1805.07039 (why the map is close to a recovered image).

# %%
r"""Guided backpropagation and the deconvnet. Run `python 06_guided_backpropagation.py`; --help lists the options."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from course.activations import activations
from course.checks import Target, check_inputs, target_logits
from course.figures import map_grid
from course.lesson import print_table, start
from course.probes import correlation, photo_edges, randomize, randomized, stages
from utils import channel_reduce, class_names, find_class, import_lesson

vanilla_gradient = import_lesson("01_vanilla_gradient_saliency").vanilla_gradient
grad_cam = import_lesson("05_gradcam").grad_cam

# %% [markdown]
# ## A picture of the idea
#
# Look at one unit of the network, a ReLU. Two things are known about it. In the forward pass it was *on* or *off*. In
# the backward pass a signal arrives from the layers above: they want *more* of this unit, or *less*. So there are four
# cases. The unit is a gate: it sends the signal on to the layers below, or it stops it. The three methods differ in
# nothing but this: which of the four cases may pass?


# %%
def figure_idea() -> Figure:
    """Three gates: which of the four cases of one unit each method lets through."""
    passes = {"gradient": lambda on, more: on, "deconvnet": lambda on, more: more,
              "guided backpropagation": lambda on, more: on and more}  # fmt: skip
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.8), sharey=True, layout="constrained")
    for axis, (name, rule) in zip(axes, passes.items(), strict=True):
        for on, more in ((0, 0), (0, 1), (1, 0), (1, 1)):
            open_gate, closed_gate = ("passes", ("tab:blue", "tab:red")[more], "white"), ("stopped", "0.9", "0.4")
            word, color, text = open_gate if rule(on, more) else closed_gate
            axis.add_patch(plt.Rectangle((on, more), 1, 1, facecolor=color, edgecolor="white", linewidth=3))
            axis.text(on + 0.5, more + 0.5, word, ha="center", va="center", color=text, fontsize=12)
        axis.set(title=name, xlim=(0, 2), ylim=(0, 2), aspect="equal")
        axis.set_xticks([0.5, 1.5], ["unit was off", "unit was on"])
        axis.set_yticks([0.5, 1.5], ["above wants\nless of it", "above wants\nmore of it"])
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
    return figure


if __name__ == "__main__":
    lesson = start("06_guided_backpropagation", "A sharp map, but of what? Three backward rules, two sanity checks.",
                   images=["dog.jpg", "bird.jpg", "panda.jpg", "koala.jpg"])  # fmt: skip
    model, images, targets = lesson.model, lesson.images, lesson.targets
    lesson.show(figure_idea(), "idea")

# %% [markdown]
# The gradient sends on what the forward pass let through, wishes for less (blue) included. The deconvnet does not ask
# whether the unit was on. Guided backpropagation asks both questions, and lets one case of four pass.
#
# ## The formula
#
# A ReLU gets an input $x$ in the forward pass and a signal $R$ in the backward pass. "On" means $x > 0$, "above wants
# more" means $R > 0$. A bracket is 1 if what it says is true, else 0.
#
# | method | what a ReLU sends below (Springenberg et al., figure 1) |
# | --- | --- |
# | gradient | $R_{\text{below}} = R \cdot [x > 0]$ |
# | deconvnet | $R_{\text{below}} = R \cdot [R > 0]$ |
# | guided backpropagation | $R_{\text{below}} = R \cdot [R > 0] \cdot [x > 0]$ |
#
# All three have one shape, that of the ReLU's output. Every other layer passes its signal on as the gradient does. Only
# the first rule gives the derivative of the score. The others drop signals on the way, and what arrives at the pixels
# is the derivative of no function.
#
# ## The method
#
# First the rules themselves, for one ReLU.


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

# %%
if __name__ == "__main__":
    x, R = torch.tensor([2.0, 1.0, -1.0, -2.0]), torch.tensor([3.0, -3.0, 3.0, -3.0])
    rows = {"x, the input": x, "R, from above": R} | {f"{name} sends": rule(R, x) + 0.0 for name, rule in RULES.items()}
    print_table(["unit", *"1234"], [[name, *values.tolist()] for name, values in rows.items()])

# %% [markdown]
# Now the rule must go into a network. autograd applies $[x > 0]$ itself. For guided backpropagation only $[R > 0]$ is
# missing. A hook on the *tensor* that a ReLU returns sees $R$ on its way down, and may change it. Such hooks do not
# mind in-place ReLUs, and each run of a ReLU used twice has a tensor of its own.
#
# The deconvnet leaves $[x > 0]$ out. So it needs a ReLU with a backward pass of its own.


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
            module.inplace = module.inplace and rule != "deconvnet"    # x must survive the forward pass
        yield ran
    finally:
        for handle in handles:
            handle.remove()
        for module, flag in zip(relus, in_place, strict=True):
            module.inplace = flag


# %% [markdown]
# ### What a hook cannot see
#
# Our hooks sit on nn.ReLU modules. A network may call `F.relu(x)`, `x * (x > 0)` or a tanh instead. No hook runs then,
# and the "guided" map would be the plain gradient without a word. So we do not count modules. We look at what ran:
# autograd keeps a node for every operation between the image and the logits, and `course.activations` picks out those
# that are a function of one unit. Each must be one of ours, or the network is refused.


# %%
def check_rectifiers(logits: Tensor, image: Tensor, ran: list) -> None:
    """Refuse a network whose activation functions did not all follow the rule; `ran` as rectified() yields it."""
    # BEGIN SOLUTION 6.3
    others = Counter(name for node, name in activations(logits, image).items() if node not in ran)
    # END SOLUTION
    if others:
        found = ", ".join(f"{name} ({count} times)" for name, count in others.items())
        raise ValueError(
            f"the backward rules hold for nn.ReLU and nn.ReLU6 modules only, and this model also ran {found}, "
            "as a function or as another activation: make them such modules, or use vanilla_gradient"
        )
    if not ran:
        raise ValueError("no nn.ReLU or nn.ReLU6 ran in this model: the map would be the plain gradient, lesson 01's")


@torch.inference_mode(False)
@torch.enable_grad()
def backpropagate(model: nn.Module, images: Tensor, target: Target, rule: str) -> Tensor:
    """Signal of a class score at the pixels, (B, 3, H, W), with `rule` in every ReLU."""
    check_inputs(model, images)
    x = images.detach().clone().requires_grad_()
    with rectified(model, rule) as ran:
        logits = model(x)                                              # (B, K)
        score = target_logits(logits, target)                          # (B,)
    check_rectifiers(logits, x, ran)
    (signal,) = torch.autograd.grad(score.sum(), x)
    return signal


def guided_backpropagation(model: nn.Module, images: Tensor, target: Target = None) -> Tensor:
    """Backward pass in which every ReLU lets only positive signals to active units through.

    Args:
        model: classifier in eval mode whose activations are nn.ReLU or nn.ReLU6 modules, (B, 3, H, W) -> logits (B, K).
        images, target: as in vanilla_gradient.

    Returns:
        (B, 3, H, W), signed (the first convolution has weights of both signs), detached.

    Raises:
        ValueError: as vanilla_gradient; ReLUs called as functions, other activations, or none. A sigmoid that weights
            whole channels or places of another signal is no activation; course.activations says what cannot be seen.

    Paper: Springenberg et al. 2014, arXiv:1412.6806, section 3.4.
    """
    return backpropagate(model, images, target, "guided")


def deconvnet(model: nn.Module, images: Tensor, target: Target = None) -> Tensor:
    """Backward pass in which every ReLU lets only positive signals through, to active units or not.

    Args, Returns and Raises as in guided_backpropagation. Max-pooling sends its signal to the place of the maximum,
    as the switches of the paper do.

    Paper: Zeiler, Fergus 2013, arXiv:1311.2901, section 2.1.
    """
    return backpropagate(model, images, target, "deconvnet")


# %% [markdown]
# One layer, written in seven ways: what does the graph show? Whatever is seen and is not one of our ReLUs is refused.

# %%
WRITTEN = {
    "nn.ReLU()(x)": nn.ReLU(),
    "F.relu(x)": F.relu,
    "x * (x > 0)": lambda x: x * (x > 0),
    "torch.tanh(x)": torch.tanh,
    "x * x.sigmoid()": lambda x: x * x.sigmoid(),
    "x * x.mean((2, 3), keepdim=True).sigmoid()": lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(),
    "x ** 2": lambda x: x**2,
}

if __name__ == "__main__":
    x = images[:1].clone().requires_grad_()
    seen = {name: activations(written(x), x).values() for name, written in WRITTEN.items()}
    print_table(["written as", "seen"], [[name, ", ".join(names) or "nothing"] for name, names in seen.items()])

# %% [markdown]
# The last but one is a gate that weights whole channels, as in squeeze-and-excitation. It switches no single unit on or
# off, and its signal passes as the gradient does. The last line shows a limit: powers, quotients and products of
# signals are what normalisation and attention are made of, and an activation made of them is not noticed.
#
# ## A check you can break
#
# First three units that you can do on paper. An image of two pixels (1, 2) goes through
# $W = \begin{pmatrix} 1 & 1 \\ 1 & 0 \\ 1 & -1 \end{pmatrix}$, three ReLUs, and the weights (1, -2, 3).


# %%
def three_units() -> nn.Module:
    """S = (1, -2, 3) . ReLU(W x) for an image (1, 1, 1, 2)."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 3, bias=False), nn.ReLU(), nn.Linear(3, 1, bias=False)).eval()
    model[1].weight = nn.Parameter(torch.tensor([[1.0, 1.0], [1.0, 0.0], [1.0, -1.0]]))
    model[3].weight = nn.Parameter(torch.tensor([[1.0, -2.0, 3.0]]))
    return model


def on_paper() -> dict[str, list[float]]:
    """What each method sends to the two pixels of the image (1, 2), worked out without a computer."""
    # BEGIN SOLUTION 6.4
    return {"gradient": [-1.0, 1.0], "deconvnet": [4.0, -2.0], "guided": [1.0, 1.0]}
    # END SOLUTION


METHODS = {"gradient": vanilla_gradient, "deconvnet": deconvnet, "guided": guided_backpropagation}

if __name__ == "__main__":
    two_pixels = torch.tensor([1.0, 2.0]).reshape(1, 1, 1, 2)
    computed = {name: method(three_units(), two_pixels, 0).flatten().tolist() for name, method in METHODS.items()}
    print_table(["method", "on paper", "computed"], [[name, on_paper()[name], computed[name]] for name in METHODS])
    assert on_paper() == computed, "paper and computer disagree"

# %% [markdown]
# Now the real network. We watch the signal below *every* ReLU, and ask two things: how much of it is negative, and how
# much of it lies at units that were off? A rule that closes a gate must give exactly 0. The gradient and the deconvnet
# are the reference for the gate that is left open.


# %%
def open_gates(method: Callable, model: nn.Module, images: Tensor, target: Target = None) -> tuple[float, float]:
    """Of all signals below ReLUs that are not 0, the share that is negative, and the share at units that were off."""
    found = []

    def watch(_module: nn.Module, inputs: tuple) -> None:
        off = inputs[0].detach() <= 0                                  # now: an in-place ReLU will overwrite it
        inputs[0].register_hook(
            lambda R: found.append(torch.stack([(R < 0).sum(), (R[off] != 0).sum(), (R != 0).sum()]))
        )

    relus = [part for part in model.modules() if isinstance(part, nn.ReLU | nn.ReLU6)]
    handles = [relu.register_forward_pre_hook(watch) for relu in relus]
    try:
        method(model, images, target)
    finally:
        for handle in handles:
            handle.remove()
    negative, at_units_off, every = torch.stack(found).sum(dim=0).tolist()
    return negative / every, at_units_off / every


if __name__ == "__main__":
    shares = {name: open_gates(method, model, images[:1], targets[:1]) for name, method in METHODS.items()}
    print_table(["method", "negative signals", "signals at units that were off"],
                [[name, f"{negative:.1%}", f"{off:.1%}"] for name, (negative, off) in shares.items()])  # fmt: skip
    assert shares["guided"] == (0, 0), "a gate was left open"
    assert shares["gradient"][1] == shares["deconvnet"][0] == 0, "a gate was left open"

# %% [markdown]
# ## Sharp, but are these the edges of the photograph?
#
# The last column knows neither the network nor a class: it is a plain edge filter (Sobel) on the grey photograph. The
# number above each map is its correlation with these edges. Two maps of noise would have 0.00.

# %%
if __name__ == "__main__":
    some, edges = images[:3], photo_edges(images)
    columns = {name: channel_reduce(method(model, some, targets[:3])) for name, method in METHODS.items()}
    notes = {name: [f"r with the edges = {correlation(*pair):.2f}" for pair in zip(maps, edges[:3], strict=True)]
             for name, maps in columns.items()}  # fmt: skip
    shown = map_grid(some, columns | {"edges of the photo": edges[:3]}, titles=lesson.titles, notes=notes,
                     heading="Three backward rules, max |.| over channels")  # fmt: skip
    lesson.show(shown, "maps")
    alike = {name: correlation(*maps[:2]) for name, maps in (columns | {"edges": edges}).items() if len(maps) > 1}
    print("r of the first two photos' maps:", ", ".join(f"{name} {r:.2f}" for name, r in alike.items()))

# %% [markdown]
# So guided backpropagation is more than an edge filter: it leaves out most of the background. The deconvnet draws much
# the same pattern for every photograph (0.29 for dog and macaw with ResNet-50, where their edges have -0.02). It
# ignores which units were on, so the photograph has a say only in where max-pooling finds its maxima, in one layer.
#
# ## Does it depend on the class?
#
# We explain the photograph's own class, and then a class that is not there. Two numbers say what changes. The
# correlation r compares *places*: 1 means the same drawing. The strength compares *size*: the length of the second map,
# as a share of the first.


# %%
MAPS: dict[str, Callable[[nn.Module, Tensor, Target], Tensor]] = {
    "gradient": lambda *args: channel_reduce(vanilla_gradient(*args)),
    "guided backprop": lambda *args: channel_reduce(guided_backpropagation(*args)),
    "Grad-CAM": lambda *args: grad_cam(*args),
}
TABBY, MACAW = find_class("tabby"), find_class("macaw")

if __name__ == "__main__":
    absent = torch.where(targets == TABBY, MACAW, TABBY)               # (N,): classes that are not in the photographs
    own, other = (torch.cat([f(model, images[:1], c[:1]) for f in MAPS.values()]) for c in (targets, absent))
    pairs = zip(own, other, strict=True)
    notes = [f"r = {correlation(a, b):.2f}, strength {b.norm() / a.norm():.2f}" for a, b in pairs]
    asked = f"the same for {class_names()[absent[0]]}"
    shown = map_grid(images[:1].expand(3, -1, -1, -1), {lesson.titles[0]: own, asked: other}, titles=list(MAPS),
                     notes={asked: notes}, heading="Two classes of one photograph")  # fmt: skip
    lesson.show(shown, "classes")

# %% [markdown]
# Ask for a tabby, and guided backpropagation draws the same dog, only fainter. The place does not answer to the class;
# the size does. The size is no privilege of this method: the gradient's falls as much.
#
# ## Does it depend on what the network has learnt?
#
# Put random numbers in place of the weights, first in the layer of the logits, then also in the one below, and so on
# (Adebayo et al. 2018, cascading randomisation). A network without its upper half recognises nothing. A map that
# explains its decision has to change.


# %%
def cascade(model: nn.Module, image: Tensor, target: int, names: Sequence[str], seed: int) -> dict[str, Tensor]:
    """Maps (len(MAPS), H, W) as trained, then with more and more of `names` randomised in a copy of the model."""
    damaged, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    columns = {"as trained": torch.cat([f(model, image, target) for f in MAPS.values()])}
    for name in names:
        randomize(damaged.get_submodule(name), generator)
        columns[f"random down to {name}"] = torch.cat([f(damaged, image, target) for f in MAPS.values()])
    return columns


def likeness(first: Tensor, second: Tensor) -> str:
    """Lowest and highest correlation of N pairs of maps, as text, and how many had an empty map."""
    known = [correlation(*pair) for pair in zip(first, second, strict=True) if pair[0].any() and pair[1].any()]
    span = f"{min(known):.2f} to {max(known):.2f}" if known else ""
    return span if len(known) == len(first) else f"{span} ({len(first) - len(known)} empty)".strip()


if __name__ == "__main__":
    columns = cascade(model, images[:1], int(targets[0]), stages(model)[: 3 if lesson.quick else 5], lesson.seed)
    notes = {
        name: [f"r = {correlation(*pair):.2f}" if pair[1].any() else "empty"
               for pair in zip(columns["as trained"], maps, strict=True)]
        for name, maps in columns.items()
    }  # fmt: skip
    shown = map_grid(images[:1].expand(3, -1, -1, -1), columns, titles=list(MAPS), notes=notes, size=2.6,
                     heading="Random weights from the logits downwards")  # fmt: skip
    lesson.show(shown, "randomized")

# %% [markdown]
# ## Both questions, all photographs
#
# Each entry is the lowest and the highest correlation over the photographs with the map of the trained network for the
# photograph's own class. Two rows are there as a scale. The edges of the photograph cannot change, whatever we ask:
# 1.00. Noise, drawn anew each time, has nothing in common with itself: 0.00.

# %%
if __name__ == "__main__":
    tops = stages(model)[:2]
    questions = {
        "class that is\nnot there": (model, images, absent),
        f"random weights in\n{' and '.join(tops)}": (randomized(model, tops, lesson.seed), images, targets),
        f"another network\n({lesson.other_name})": (lesson.other_model, images, targets),
    }
    noise = torch.Generator().manual_seed(lesson.seed)
    scale = {"edges of the photo": lambda _model, images, _target: photo_edges(images),
             "noise": lambda _model, images, _target: torch.rand(images[:, 0].shape, generator=noise)}  # fmt: skip
    rows = []
    for name, function in (MAPS | scale).items():
        reference = function(model, images, targets)
        rows.append([name, *(likeness(reference, function(*question)) for question in questions.values())])
    print_table(["likeness to the map of\nthe trained network", *questions], rows)

# %% [markdown]
# ## What the picture does not show
#
# - **Hardly the class.** Its drawings for the right and for an absent class correlate 0.98 to 1.00 (gradient 0.36 to
#   0.56, Grad-CAM -0.06 to 0.58; the table above, ResNet-50). If two animals share a picture, the one asked for gets
#   brighter, but both are drawn: lesson 07 measures that.
# - **Hardly what the upper half of the network has learnt.** With random numbers in fc and layer4 it keeps 0.94 to
#   0.99. Nie et al. explain why: the rule partly recovers the image, whatever the upper layers want.
# - **Not sensitivity.** The map is no derivative. Its values have no unit, and neither size nor sign can be read.
# - **Not nothing.** It fades once the *lower* layers are random: 0.68 with layer3, 0.26 with layer1. And the two
#   networks of this course draw alike: 0.53 to 0.62, where their gradients agree by 0.21 to 0.28. So it shows which
#   details of the photograph the lower layers respond to. That is of use, but it explains no decision.
#
# ## Exercises
#
# ### Predict first
#
# **6.6 Three gates** (difficulty 1, 3 minutes, 1 point). The input of a ReLU was $x = -2$. From above the signal $R =
# 3$ arrives. What does the *deconvnet* pass down? Answer: a number.
#
# **6.7 Another unit** (difficulty 1, 2 minutes, 1 point). Now $x = 2$ and $R = -3$. What does the plain *gradient*
# pass down? Answer: a number.
#
# **6.8 Sharp and steady** (difficulty 2, 3 minutes, 1 point). With random fc and layer4 a guided map stays as it was
# (r = 0.94 to 0.99). Edges of the photograph would keep 1. What follows?
#
# - **a** The map says little about what the upper layers have learnt; a picture that knows no network would do as well
#   in this test.
# - **b** The map is reliable, because it does not depend on accidents of training.
# - **c** Guided backpropagation is an edge detector and does not use the network at all.
# - **d** The upper layers of the network are not needed for its answer.

# %%
# BEGIN SOLUTION 6.6
ANSWER_6_6 = 3
# END SOLUTION
# BEGIN SOLUTION 6.7
ANSWER_6_7 = -3
# END SOLUTION
# BEGIN SOLUTION 6.8
ANSWER_6_8 = "a"
# END SOLUTION

# %% [markdown]
# ### Then write
#
# **6.1 Two rules** (difficulty 1, 10 minutes, 3 points). Fill in `deconvnet_rule` and `guided_rule`. *First predict:*
# for which signs of x and R do all three rules agree? *Hints:* a gate is a comparison · a comparison times a number.
#
# **6.2 One hook** (difficulty 2, 15 minutes, 4 points). Put the guided rule into the network. *Hints:* who applies
# [x > 0]? · `Tensor.register_hook` may return another gradient · the hook belongs to the tensor, not to the module.
#
# **6.3 What ran?** (difficulty 2, 15 minutes, 4 points). Count, by name, the activations that did not follow the rule.
# *Hints:* `activations` returns a dictionary from autograd's node to its name · leave out the nodes that `rectified`
# collected · `Counter` counts.
#
# **6.4 Three units on paper** (difficulty 2, 15 minutes, 2 points). Work out what each method sends to the two pixels,
# with a pencil, before you run the cell. *Hints:* which of the three units is on? · the signals that arrive are the
# weights (1, -2, 3) · what passes is multiplied by the rows of W and added up.
#
# **6.5 Break an assumption** (difficulty 2, 15 minutes, no code to submit). *First predict* which method changes first,
# and which last, if the stages are randomised from the image upwards. Then reverse the list that `cascade` is given.
#
# ## Recap
#
# A sharp picture, but of what?
#
# 1. The gradient closes a ReLU's gate by the forward signal, the deconvnet by the backward signal, guided
#    backpropagation by both. Half of the signals that the gradient passes down ResNet-50 are negative. None of the
#    guided ones is.
# 2. A hook on the tensor that a ReLU returns puts the rule in, and leaves nothing behind. Look at what ran: an
#    activation called as a function follows no hook.
# 3. The drawing hardly depends on the class, and hardly on the upper layers. It depends on the photograph and on the
#    lower layers.
# 4. So it is a picture of details that the lower layers respond to. A map can be sharp and stable, and still say little
#    about the decision. Only the two questions told us that.
