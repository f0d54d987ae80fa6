# %% [markdown]
# # 04 Integrated Gradients: do the shares add up to the score?
#
# Lesson 02 gave each pixel slope times value, and on a real network the shares missed the score by far. The slope at
# the photograph is only the slope at the end of a path. Integrated Gradients walks the whole path, from a picture with
# nothing in it to the photograph, and adds up the slopes it meets. Do the shares now add up? And what are they shares
# of?
#
# **After this lesson you can**
#
# 1. compute Integrated Gradients with five rules of quadrature;
# 2. check its sum with two forward passes, and say what this check cannot see;
# 3. say where on the path the score is won, and what the network is shown there;
# 4. show each axiom on a function of one or two numbers;
# 5. choose a baseline, and say what the choice does.
#
# **Level** intermediate. **Before it** lessons 01 and 02.
# **Paper** Sundararajan, Taly, Yan, *Axiomatic Attribution for Deep Networks*, 2017, arXiv:1703.01365.

# %%
r"""Integrated Gradients. Run `python 04_integrated_gradients.py`; --help lists the options."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from course.checks import Target, check_counts, check_inputs, expand_baseline, target_indices, target_logits
from course.figures import block_sums, map_grid, show_photo
from course.lesson import print_table, start
from course.probes import correlation, randomized
from course.refined_path import Along, refined_gradient
from utils import IMAGENET_MEAN, IMAGENET_STD, channel_reduce, displayable, import_lesson

vanilla_gradient = import_lesson("01_vanilla_gradient_saliency").vanilla_gradient
gradient_times_input = import_lesson("02_gradient_input_saliency").gradient_times_input

# %% [markdown]
# ## A picture of the idea
#
# Lesson 01 began with a pixel whose score rises from 0 to 1 and then stays there. At the value 2 its slope is 0, and
# gradient x input gives it nothing. On the left is the slope on the *whole path* from 0 to 2. The area under it is 1,
# and that is what the score gained. A real network has many such bends, one for each unit that switches on or off on
# the way. Then the slope is a jagged staircase, as on the right, and we guess its area from a few places.


# %%
def figure_idea() -> Figure:
    """The area under the slope of one pixel, and the area of a jagged staircase guessed from five nodes."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained")
    left.stairs([1, 0], [0, 1, 2], fill=True, alpha=0.4, label="area 1: what the score gained")
    left.stairs([1, 0], [0, 1, 2], color="black", lw=2, baseline=None)
    left.plot(2, 0, "o", color="tab:red", label="slope at the photograph: 0", clip_on=False)
    left.set(xlabel="value of the pixel, from nothing (0) to the photograph (2)", ylim=(0, 1.5))
    steps = np.array([0.2, 0.5, 0.3, 2.6, 1.7, 2.9, 0.9, 1.2, 0.4, 0.6, 0.1, 0.3, 0.2, 0.35, 0.25, 0.3])
    nodes = (np.arange(5) + 0.5) / 5
    met = steps[(nodes * len(steps)).astype(int)]
    right.stairs(steps, np.linspace(0, 1, len(steps) + 1), fill=True, alpha=0.4, label=f"area {steps.mean():.2f}")
    right.bar(nodes, met, width=0.2, fill=False, edgecolor="tab:red", label=f"guessed from 5 places: {met.mean():.2f}")
    right.plot(nodes, met, "o", color="tab:red")
    right.set(xlabel="share of the path", ylim=(0, 3.2))
    for axis in (left, right):
        axis.set_ylabel("slope of the score")
        axis.legend(fontsize=9, loc="upper right")
    return figure


if __name__ == "__main__":
    lesson = start("04_integrated_gradients", "Do the shares of the pixels add up to the score?",
                   images=["dog.jpg", "bird.jpg"])  # fmt: skip
    model, images, targets = lesson.model, lesson.images, lesson.targets
    lesson.show(figure_idea(), "idea")

# %% [markdown]
# ## The formula
#
# For a whole picture the path is a straight line. At $\alpha = 0$ stands the baseline, at $\alpha = 1$ the photograph,
# in between the photograph faded. Each pixel gets its distance from the baseline times the mean of its slopes. The
# integral is replaced by a sum over nodes $\alpha_k$ with weights $w_k$:
#
# $$\mathrm{IG}_i(x) = (x_i - x'_i) \int_0^1
# \frac{\partial S_c}{\partial x_i}\big(x' + \alpha (x - x')\big)\, d\alpha
# \;\approx\; (x_i - x'_i) \sum_{k} w_k \frac{\partial S_c}{\partial x_i}\big(x' + \alpha_k (x - x')\big)$$
#
# | symbol | meaning | shape |
# | --- | --- | --- |
# | $x, x'$ | the photograph, and the baseline that stands for "nothing there" | (3, H, W) |
# | $\alpha_k, w_k$ | nodes and weights of a quadrature rule, $\sum_k w_k = 1$ | (n,) |
#
# ## Where to look: quadrature
#
# Left and right use one end of each step: for a smooth function they are off by a number of the size $1 / n$. Midpoint
# and trapezoid are off by $1 / n^2$. Gauss-Legendre is exact for polynomials of degree $2n - 1$, and its nodes stand
# closer together near both ends of the path.


# %%
def quadrature(rule: str, n_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes in [0, 1] and weights that sum to 1, both (n_steps,), float64.

    Args:
        rule: "left", "right", "midpoint", "trapezoid" (end points with half weight) or "gausslegendre".
        n_steps: number of nodes, which is the number of gradients; at least 2 for "trapezoid".

    Raises:
        ValueError: unknown rule, or too few steps.
    """
    check_counts(n_steps=n_steps)
    if rule == "trapezoid" and n_steps < 2:
        raise ValueError("rule 'trapezoid' needs n_steps of at least 2, one for each end")
    # BEGIN SOLUTION 4.1
    k, even = np.arange(n_steps), np.full(n_steps, 1 / n_steps)
    if rule == "left":
        return k / n_steps, even
    if rule == "right":
        return (k + 1) / n_steps, even
    if rule == "midpoint":
        return (k + 0.5) / n_steps, even
    if rule == "trapezoid":
        ends = np.isin(k, (0, n_steps - 1))
        return k / (n_steps - 1), np.where(ends, 0.5, 1.0) / (n_steps - 1)
    # END SOLUTION
    if rule == "gausslegendre":
        nodes, weights = np.polynomial.legendre.leggauss(n_steps)      # on [-1, 1], weights sum to 2
        return (nodes + 1) / 2, weights / 2
    raise ValueError(f"rule must be left, right, midpoint, trapezoid or gausslegendre, got {rule!r}")


if __name__ == "__main__":
    slopes = {"2 a": lambda a: 2 * a, "3 a^2": lambda a: 3 * a**2, "2 up to 1/2, then 0": lambda a: 2.0 * (a < 0.5)}
    rows = []
    for rule in ("left", "right", "midpoint", "trapezoid", "gausslegendre"):
        alpha, weight = quadrature(rule, 7)
        rows.append([rule, *(float(weight @ slope(alpha)) for slope in slopes.values())])
    print_table(["area from 7 nodes", *slopes], [*rows, ["true", 1.0, 1.0, 1.0]])

# %% [markdown]
# On the smooth slopes the better rules are better. On the last one, the step of the first figure, they are not: whoever
# has four of the seven nodes on it is too high, whoever has three too low. The promises are about *smooth* functions.
#
# ## What stands for nothing: baselines
#
# A pixel equal to its baseline gets exactly nothing, whatever it shows. After normalisation 0 is the mean colour.


# %%
def baseline_images(images: Tensor, baseline: str | Tensor, generator: torch.Generator | None = None) -> Tensor:
    """The baseline x' of each image, (B, C, H, W) in the images' dtype and on their device.

    Args:
        images: normalised images, (B, C, H, W).
        baseline: "zeros" (the mean colour), "black", "white", "blur" (Gaussian, sigma a tenth of the shorter side),
            "noise" (uniform random RGB, the same for every image of the batch) or a tensor that broadcasts.
        generator: source of the noise; None is a new one seeded with 0.

    Raises:
        ValueError: unknown name, a colour for images without three channels, or a tensor that does not fit.
    """
    if isinstance(baseline, Tensor):
        return expand_baseline(baseline, images)
    if baseline == "zeros":
        return torch.zeros_like(images)
    if baseline == "blur":
        sigma = min(images.shape[-2:]) / 10
        radius = int(min(2 * sigma, min(images.shape[-2:]) - 1))       # reflection needs that many pixels
        return gaussian_blur(images, 2 * radius + 1, sigma)
    if baseline not in ("black", "white", "noise"):
        raise ValueError(f"baseline must be zeros, black, white, blur, noise or a tensor, got {baseline!r}")
    if images.shape[1] != 3:
        raise ValueError(f"baseline {baseline!r} is an RGB colour, the images have {images.shape[1]} channels")
    rgb = {"black": torch.zeros(3, 1, 1), "white": torch.ones(3, 1, 1)}.get(baseline)
    if baseline == "noise":
        generator = generator or torch.Generator().manual_seed(0)
        rgb = torch.rand(images.shape[1:], generator=generator, device=generator.device).cpu()
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return expand_baseline((rgb - mean) / std, images)


# %% [markdown]
# ## The method
#
# Three mistakes live on in copied code: the factor $(x - x')$ is forgotten, or is $x$ although the baseline is not 0;
# the end points of the trapezoid get full weight; the last chunk of a batch is weighted like a full one.


# %%
def on_path(image: Tensor, baseline: Tensor, alpha: Tensor) -> Tensor:
    """x' + alpha (x - x') for each alpha: (C, H, W), (C, H, W), (k,) -> (k, C, H, W) in the image's dtype."""
    return (baseline + alpha[:, None, None, None] * (image.to(alpha) - baseline)).to(image)


def along_path(
    model: nn.Module, image: Tensor, baseline: Tensor, target: int, batch_size: int = 10
) -> tuple[Along, Along]:
    """Two functions of alpha (k,): the score at these places of the path, (k,), and its gradient, (k, C, H, W)."""
    exact = torch.promote_types(image.dtype, torch.float32)

    def places(alphas: Tensor) -> list[Tensor]:
        return [on_path(image, baseline, part) for part in alphas.to(exact).to(image.device).split(batch_size)]

    def scores(alphas: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([target_logits(model(part), target) for part in places(alphas)]).to(exact)

    def gradients(alphas: Tensor) -> Tensor:
        return torch.cat([vanilla_gradient(model, part, target) for part in places(alphas)]).to(exact)

    return scores, gradients


def integrated_gradients(
    model: nn.Module, images: Tensor, target: Target = None, *, baseline: str | Tensor = "zeros", n_steps: int = 50,
    rule: str = "gausslegendre", batch_size: int = 10, tolerance: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:  # fmt: skip
    """Each pixel's share of S_c(image) - S_c(baseline).

    Args:
        model, images, target: as in vanilla_gradient.
        baseline: "zeros" (the mean colour), "black", "white", "blur", "noise" or a tensor; see baseline_images.
        n_steps: gradients per image.
        rule: see quadrature.
        batch_size: points of the path that go through the network at a time.
        tolerance: if given, n_steps and rule are ignored. The path is cut finer until the |gaps| of its pieces sum to
            at most tolerance x |S_c(image) - S_c(baseline)|, or a warning says that they do not. See
            course/refined_path.py. It bounds the gap, and does not promise a better map.
        generator: source of the "noise" baseline; None is a new one seeded with 0.

    Returns:
        (B, 3, H, W), signed, detached, in logit units; sums to S_c(image) - S_c(baseline) up to quadrature.

    Raises:
        ValueError: as vanilla_gradient, or an option out of range.

    Paper: Sundararajan et al. 2017, arXiv:1703.01365, eq. 1 (integral) and eq. 3 (sum).
    """
    check_inputs(model, images)
    check_counts(batch_size=batch_size)
    if tolerance is not None and not tolerance >= 0:
        raise ValueError(f"tolerance must be 0 or more, got {tolerance!r}")
    images = images.detach()
    baselines = baseline_images(images, baseline, generator)
    exact = torch.promote_types(images.dtype, torch.float32)           # weights in bfloat16 would not sum to 1
    nodes, weights = (torch.tensor(x, dtype=exact, device=images.device) for x in quadrature(rule, n_steps))
    difference = images.to(exact) - baselines                          # (B, 3, H, W): x - x'
    with torch.no_grad():
        target = target_indices(target, model(images)).tolist()
    mean_gradient = torch.zeros_like(difference)
    for i in range(len(images)):
        if tolerance is not None:
            along = along_path(model, images[i], baselines[i], target[i], batch_size)
            mean_gradient[i] = refined_gradient(*along, difference[i], tolerance)
            continue
        # BEGIN SOLUTION 4.2
        for alpha, w in zip(nodes.split(batch_size), weights.split(batch_size), strict=True):
            path = on_path(images[i], baselines[i], alpha)             # (k, 3, H, W)
            gradients = vanilla_gradient(model, path, target[i]).to(w)
            mean_gradient[i] += torch.einsum("k,kchw->chw", w, gradients)
        # END SOLUTION
    return (difference * mean_gradient).to(images.dtype)


# %%
def block_map(shares: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, H / 8, W / 8): the shares of blocks of 8 x 8 pixels, as in lesson 02."""
    return block_sums(channel_reduce(shares, "sum"))


if __name__ == "__main__":
    n_steps = 20 if lesson.quick else 50
    ig = integrated_gradients(model, images, targets, n_steps=n_steps)
    product = gradient_times_input(model, images, targets)
    columns, notes = {}, {}
    for name, shares in (("gradient x input", product), ("Integrated Gradients", ig)):
        columns[name] = block_map(shares)
        notes[name] = [f"sum {share.sum():.1f}, sum of |.| {share.abs().sum():.0f}" for share in shares]
    columns["over the photograph"] = columns["Integrated Gradients"]
    heading = "Shares of blocks of 8 x 8 pixels: red raises the score, blue lowers it"
    lesson.show(map_grid(images, columns, overlay=["over the photograph"], titles=lesson.titles, notes=notes,
                         heading=heading), "maps")  # fmt: skip

# %% [markdown]
# ## A check you can break: completeness
#
# The slopes along a path, added up, are the rise from its start to its end. So the shares of all pixels must sum to
# what the score gained (the paper's proposition 1):
#
# $$\sum_i \mathrm{IG}_i(x) = S_c(x) - S_c(x')$$
#
# The right side costs two forward passes. The difference of both sides is the gap, and every map can be checked.


# %%
def completeness_gap(
    model: nn.Module, images: Tensor, attribution: Tensor, target: Target = None, *, baseline: str | Tensor = "zeros"
) -> Tensor:
    """How far the shares miss the score: sum of the attribution minus (S_c(image) - S_c(baseline)).

    Args:
        model, images, target, baseline: as given to integrated_gradients ("noise" means seed 0).
        attribution: (B, 3, H, W).

    Returns:
        (B,), in logit units; the sign says whether the shares are too large. 0 is necessary for a right map, not
        sufficient: errors of single pixels cancel in the sum.

    Raises:
        ValueError: as integrated_gradients, or an attribution of another shape than the images.
    """
    check_inputs(model, images)
    if attribution.shape != images.shape:
        raise ValueError(f"attribution is {tuple(attribution.shape)}, the images are {tuple(images.shape)}")
    with torch.no_grad():
        logits = model(images)
        target = target_indices(target, logits)                        # the images' class, for both terms
        # BEGIN SOLUTION 4.3
        difference = target_logits(logits, target) - target_logits(model(baseline_images(images, baseline)), target)
        return attribution.sum(dim=(1, 2, 3)) - difference
        # END SOLUTION


# %%
if __name__ == "__main__":
    gaps = [completeness_gap(model, images, shares, targets) for shares in (ig, product)]
    with torch.no_grad():
        score = target_logits(model(images), targets)
    sums = ig.sum(dim=(1, 2, 3))
    columns = (x.tolist() for x in (score, sums - gaps[0], sums, *gaps))
    print_table(["image", "class", "logit\nS(x)", "gained\nS(x) - S(x')", "sum\nof IG", "gap\nof IG",
                 "gap of\ngradient x input"],
                list(zip(lesson.names, lesson.titles, *columns, strict=True)))  # fmt: skip
    moved = ig.abs().sum(dim=(1, 2, 3))
    lesson.check((gaps[0].abs() < 0.05 * moved).all(), "the shares do not add up")

# %% [markdown]
# The gap of gradient x input is larger than the score itself: its shares sum to less than nothing. Integrated Gradients
# misses the sum by 3 % and 1 % of the gain.
#
# Break it: write `images` for `difference` in the last line of the method, and give another baseline. But know what the
# check cannot see. Any shares with the right *sum* pass it: give the whole gain to one pixel, and the gap is 0. So a
# gap of 0 is necessary, not sufficient.
#
# ## Where on the path is the score won?
#
# Completeness holds for every part of the path too: the slopes up to $\alpha$ must bring $S(\alpha) - S(0)$. Added up
# step by step they say *where* the score was won. By the chain rule the slope along the path is
#
# $$\frac{dS_c}{d\alpha} = \sum_i (x_i - x'_i) \, \frac{\partial S_c}{\partial x_i}\big(x' + \alpha (x - x')\big)$$


# %%
def path_profile(
    model: nn.Module, images: Tensor, target: Target = None, *, baseline: str | Tensor = "zeros", n_steps: int = 50,
    batch_size: int = 10,
) -> Tensor:  # fmt: skip
    """How much of the score has been won by which place of the path.

    Args:
        model, images, target, baseline, batch_size: as in integrated_gradients.
        n_steps: equal steps of alpha, each with the slope at its middle.

    Returns:
        (B, n_steps), detached, in logit units: entry k is what the slopes have brought from the baseline up to
        alpha = (k + 1) / n_steps. The last one is the sum of Integrated Gradients by the midpoint rule.

    Raises:
        ValueError: as integrated_gradients.
    """
    check_inputs(model, images)
    check_counts(n_steps=n_steps, batch_size=batch_size)
    middles = (torch.arange(n_steps, dtype=torch.float64) + 0.5) / n_steps
    images = images.detach()
    baselines = baseline_images(images, baseline)
    with torch.no_grad():
        target = target_indices(target, model(images)).tolist()
    profiles = []
    for i in range(len(images)):
        _, gradients = along_path(model, images[i], baselines[i], target[i], batch_size)
        # BEGIN SOLUTION 4.4
        difference = images[i] - baselines[i]
        slopes = [(gradients(alphas) * difference).sum(dim=(1, 2, 3)) for alphas in middles.split(batch_size)]
        won = torch.cat(slopes).cumsum(dim=0) / n_steps                # (n_steps,)
        # END SOLUTION
        profiles.append(won)
    return torch.stack(profiles).to(images.dtype)


def figure_path(model: nn.Module, image: Tensor, target: int, won: Tensor, measured: Tensor) -> Figure:
    """Above: the photograph on its way, with the class's p. Below: the slope, and what it has won.

    `won` (n,) by the slopes and `measured` (n,) by forward passes belong to the ends of n equal steps.
    """
    figure = plt.figure(figsize=(12, 7), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1, 2])
    places = torch.tensor([0, 0.1, 0.2, 0.3, 0.5, 1])
    faded = on_path(image, torch.zeros_like(image), places.to(image))
    with torch.no_grad():
        p = model(faded).softmax(dim=1)[:, target]
    for axis, photo, alpha, chance in zip(above.subplots(1, len(places)), displayable(faded), places, p, strict=True):
        show_photo(axis, photo, f"alpha = {alpha:g}\np = {chance:.2f}")
    ends = torch.linspace(0, 1, len(won) + 1)
    slope, total = below.subplots(2, 1, sharex=True)
    slope.stairs(len(won) * won.diff(prepend=won.new_zeros(1)), ends, fill=True, alpha=0.5)
    slope.axhline(measured[-1], color="black", ls="--", label="constant slope: a network without biases")
    slope.set(ylabel="slope of the logit")
    total.plot(ends[1:], won, "o", markersize=4, label="area under the slopes so far")
    total.plot(ends[1:], measured, color="tab:red", label="what the logit gained so far (forward passes)")
    total.plot([0, 1], [0, measured[-1]], color="black", ls="--")
    total.set(xlabel="alpha: 0 is the mean colour, 1 the photograph", ylabel="logits")
    for axis in (slope, total):
        axis.legend(fontsize=9)
    figure.suptitle("What the network is shown on the way, and where the score is won", fontsize=11)
    return figure


# %%
if __name__ == "__main__":
    steps, places = 20 if lesson.quick else 40, torch.tensor([0.1, 0.2, 0.3, 0.5, 1.0])
    rows = []
    for image, name, target in zip(images, lesson.names, targets.tolist(), strict=True):
        scores, _ = along_path(model, image, torch.zeros_like(image), target)
        gains = scores(places) - scores(torch.zeros(1))
        rows.append([name, *(100 * gains / gains[-1]).tolist()])
    print_table(["% of the logit won by alpha =", *(f"{alpha:.1f}" for alpha in places)],
                [*rows, ["with a constant slope", *(100 * places).tolist()]])  # fmt: skip
    won = path_profile(model, images[:1], targets[:1], n_steps=steps)[0].cpu()
    scores, _ = along_path(model, images[0], torch.zeros_like(images[0]), targets[0].item())
    along = scores(torch.linspace(0, 1, steps + 1)).cpu()
    lesson.show(figure_path(model, images[0], targets[0].item(), won, along[1:] - along[0]), "path")

# %% [markdown]
# Look at the strip. At $\alpha = 0.1$ the dog has a tenth of its contrast, and the network already says German shepherd
# with p = 0.90. By then 120 % of its logit have been won, and the rest of the path takes the surplus away again. The
# macaw takes longer: 30 % by there, 75 % at 0.3. So these maps are mostly maps of *faint pictures*. The dashed line is
# the reference: without biases the logit of a ReLU network grows in proportion to $\alpha$, the slope is constant, and
# Integrated Gradients is gradient x input.
#
# Red line and dots are the check: the slopes bring what the forward passes measure, all along the path.
#
# ## How many gradients?
#
# More nodes cost more time. On the left is the gap of two rules. On the right is what the gap cannot see: how far the
# *map* is from a map with more nodes. The rule "right" with one node is gradient x input.


# %%
if __name__ == "__main__":
    sizes, gained = (3, 5, 10) if lesson.quick else (5, 10, 20), (sums - gaps[0])[0]
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), sharey=True, layout="constrained")
    for rule in ("right", "gausslegendre"):
        counts, errors = (1, *sizes) if rule == "right" else sizes, []
        for n in counts:
            rough = integrated_gradients(model, images[:1], targets[:1], n_steps=n, rule=rule)
            gap = completeness_gap(model, images[:1], rough, targets[:1]) / gained
            errors.append((100 * gap.abs().item(), 100 * ((rough - ig[:1]).norm() / ig[:1].norm()).item()))
        for axis, values in zip(axes, zip(*errors, strict=True), strict=True):
            axis.loglog(counts, values, "o-", label=rule)
    titles = "|gap|, % of what the score gained", f"distance to the map with {n_steps} nodes, % of its length"
    for axis, title in zip(axes, titles, strict=True):
        axis.set_xticks((1, *sizes), (1, *sizes))
        axis.set_xticks([], minor=True)
        axis.yaxis.set_major_formatter("{x:g}")
        axis.set(xlabel="gradients", title=title)
    axes[1].legend()
    figure.suptitle(lesson.titles[0])
    lesson.show(figure, "completeness")

# %% [markdown]
# The peak in the dog's slope is so narrow that one node more or less in it decides: ten nodes of Gauss-Legendre miss
# the sum by more than all of it. And the gap does not tell which map is better. Five nodes of Gauss-Legendre have a gap
# of 16 %, 20 of "right" one of 43 %, but the second map is twice as near to the fine one.
#
# ## A finer path?
#
# Completeness holds for every piece of the path. So one can look where a piece misses most, and cut it finer there.
# `integrated_gradients(..., tolerance=0.05)` does this; course/refined_path.py has the code. It stops when the |gaps|
# of the *pieces* sum to 5 % of the gain, because signed gaps cancel.
#
# Are the maps better? No: the survey `python tests/benchmark.py --completeness` compares them with very fine ones.
#
# ## The axioms
#
# The paper asks what one may demand of any method, and shows that the integral fulfils it. Each demand can be tried on
# a function of one or two numbers, with baseline 0. The last column shows what gradient x input answers.


# %%
class Formula(nn.Module):
    """A function of a few numbers as a network with one class: the numbers are the pixels of a (1, 1, 1, N) image."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, 1)."""
        return self.function(images.flatten(1))[:, None]


if __name__ == "__main__":
    demands = [
        ("sensitivity", "1 - ReLU(1 - x)", lambda x: 1 - torch.relu(1 - x[:, 0]), [2], [1]),
        ("dummy", "x^2, ignores y", lambda x: x[:, 0] ** 2, [3, 5], [9, 0]),
        ("symmetry", "x y", lambda x: x[:, 0] * x[:, 1], [2, 2], [2, 2]),
        ("linearity", "2 x y + 3 x^2", lambda x: 2 * x[:, 0] * x[:, 1] + 3 * x[:, 0] ** 2, [1, 2], [5, 2]),
        ("invariance", "max(x, y)", lambda x: x.amax(dim=1), [1, 3], [0, 3]),
        ("invariance", "x + ReLU(y - x)", lambda x: x[:, 0] + torch.relu(x[:, 1] - x[:, 0]), [1, 3], [0, 3]),
    ]
    rows = []
    for axiom, name, function, at, demanded in demands:
        network, x = Formula(function), torch.tensor(at).float().reshape(1, 1, 1, -1)
        found = integrated_gradients(network, x, 0, n_steps=100, rule="midpoint").flatten()
        assert torch.allclose(found, torch.tensor(demanded).float(), atol=1e-4), f"{axiom} does not hold"
        answers = found, gradient_times_input(network, x, 0).flatten()
        rows.append([axiom, name, at, demanded, *([round(share, 3) + 0 for share in a.tolist()] for a in answers)])
    print_table(["axiom", "function", "at", "demanded", "found by IG", "by gradient x input"], rows)

# %% [markdown]
# Gradient x input gives 0 where the pixel did all the work, and twice the score to a square. The last two rows are one
# and the same function, written in two ways. A method that looks only at values and slopes cannot tell them apart.
#
# ## The baseline is part of the question
#
# Below the same photograph is explained from five baselines. Another baseline asks another question, "what does this
# picture have that a black one has not?", so even the sums differ. Each map has its own scale. Its sum and gap stand
# above it.


# %%
if __name__ == "__main__":
    names = ("zeros", "black", "white", "blur", "noise")
    begin = torch.cat([baseline_images(images[:1], name) for name in names])
    same = images[:1].expand_as(begin)                                 # one photograph, five paths to it
    shares = integrated_gradients(model, same, targets[0].item(), baseline=begin, n_steps=10 if lesson.quick else 20)
    gaps = completeness_gap(model, same, shares, targets[0].item(), baseline=begin)
    columns = {"pixel by pixel": channel_reduce(shares, "sum"), "blocks of 8 x 8": block_map(shares)}
    pairs = zip(shares.sum(dim=(1, 2, 3)), gaps, strict=True)
    notes = {"pixel by pixel": [f"sum of |.| {share.abs().sum():.0f}" for share in shares],
             "blocks of 8 x 8": [f"sum {total:.1f}, gap {gap:.1f}" for total, gap in pairs]}  # fmt: skip
    lesson.show(map_grid(begin, columns, titles=[f"baseline: {name}" for name in names], notes=notes, size=2.4,
                         heading=f"IG of {lesson.titles[0]}"), "baselines")  # fmt: skip
    light = images[:1].mean(dim=1)                                     # (1, H, W)
    tenths = {"darkest": light <= light.quantile(0.1), "lightest": light >= light.quantile(0.9)}
    strength = shares.abs().sum(dim=1)                                 # (5, H, W)
    rows = [[name, *((100 * (map * part).sum() / map.sum()).item() for part in tenths.values())]
            for name, map in zip(names, strength, strict=True)]  # fmt: skip
    print_table(["baseline", "% of |IG| on the\ndarkest tenth", "\non the lightest tenth"],
                [*rows, ["by chance", 10.0, 10.0]])  # fmt: skip

# %% [markdown]
# Why each its own scale? All five maps sum to 14 to 21, but red and blue shares cancel in that sum, and how much
# cancels differs: the |shares| add up to 800 with noise and to 6,200 with white. On white's scale the map from noise
# would look empty, although it shares out no less. Compare the *numbers*, and the places.
#
# The table shows what the factor $x - x'$ does. The darkest tenth of the pixels, the dog's black back, gets 4 % of the
# |shares| when the baseline is black, and 19 % when it is white.
#
# ## Two networks, one picture
#
# Another trained network is a second opinion. A network with random weights is the reference: it knows nothing. (It has
# no biases either, so one gradient is enough for it.) The last column uses no network at all: it is the distance of
# each block from the baseline, $|x - x'|$.

# %%
if __name__ == "__main__":
    other = integrated_gradients(lesson.other_model, images, targets, n_steps=5 if lesson.quick else 30)
    unlearnt = integrated_gradients(randomized(model, seed=lesson.seed), images, targets, n_steps=1)
    mine, columns = block_map(ig), {lesson.other_name: block_map(other), "random weights": block_map(unlearnt),
                                    "no network: |x - x'|": block_map(images.abs())}  # fmt: skip
    notes = {name: [f"r = {correlation(*pair):.2f}, of |.| {correlation(*map(torch.abs, pair)):.2f}"
                    for pair in zip(mine, column, strict=True)] for name, column in columns.items()}  # fmt: skip
    titles = [title.rsplit(" ", 1)[0] for title in lesson.titles]      # probabilities differ between networks
    shown = map_grid(images, {lesson.model_name: mine} | columns, titles=titles, notes=notes, size=2.7,
                     heading=f"IG of the same class, and its correlation with {lesson.model_name}'s map")  # fmt: skip
    lesson.show(shown, "networks")

# %% [markdown]
# ## What the picture does not show
#
# - **Not "the" contribution.** Completeness fixes the sum, not how it is shared. Another baseline gives another map,
#   and another sum.
# - **Not only what the network knows.** The map has $x - x'$ as a factor. How far a block is from the mean colour says
#   as much about the dog's |map| (r = 0.52) as the other trained network does (0.50). For the macaw it says
#   less (0.11 against 0.33). With their signs the two networks do not agree at all (0.04 and 0.02).
# - **Not a few large shares.** The dog's shares sum to 18, their absolute values to 1,665. Red and blue next to one
#   another are a difference; read blocks and regions, not pixels.
# - **Mostly the faint picture.** The dog's logit is won before $\alpha = 0.1$. The map says how the score got there,
#   not what the network would miss now.
# - **Not features of the baseline's colour**, see the table of tenths: lesson 02's problem stays.
# - **Not an exact integral.** The gap is the error of the sum. The error of the map is larger: see completeness.png.
#
# ## Exercises
#
# ### Predict first
#
# **4.5 Three steps** (difficulty 1, 5 minutes, 1 point). A score is $f(x) = x^2$, the baseline is 0 and the picture is
# one pixel with $x = 3$. Integrated gradients uses the *left* rule with three nodes, $\alpha$ = 0, 1/3 and 2/3. What
# share does the pixel get? Answer: a number.
#
# **4.6 A gap of 0.1 %** (difficulty 2, 3 minutes, 1 point). A map of integrated gradients has a completeness gap of
# 0.1 %. What follows?
#
# - **a** Every share in the map is right to 0.1 %.
# - **b** The sum of the shares is right; single shares may still be wrong, because errors of both signs cancel.
# - **c** The baseline was a good choice.
# - **d** More nodes would not change the map.
#
# **4.7 Flat at the end** (difficulty 2, 3 minutes, 1 point). The dog's score climbs steeply while the picture is still
# faint, and hardly at all after that. Gradient x input uses the slope at the photograph only. Compared with the change
# of the score, what do its shares add up to?
#
# - **a** Too much: the slope at the photograph is the largest on the path.
# - **b** The same, because both multiply by the distance from the baseline.
# - **c** That depends on the number of nodes.
# - **d** Far too little: the slope at the end knows nothing of the climb.

# %%
# BEGIN SOLUTION 4.5
ANSWER_4_5 = 6
# END SOLUTION
# BEGIN SOLUTION 4.6
ANSWER_4_6 = "b"
# END SOLUTION
# BEGIN SOLUTION 4.7
ANSWER_4_7 = "d"
# END SOLUTION

# %% [markdown]
# ### Then write
#
# **4.1 Quadrature** (difficulty 2, 15 minutes, 4 points). Fill in the four even rules. *First predict* which are exact
# for $f(x) = x^2$, whose slope is linear. *Hints:* n nodes, not n + 1 · weights sum to 1 · which nodes get half of it?
#
# **4.2 The sum along the path** (difficulty 2, 15 minutes, 5 points). Fill in the loop body. *Then break it:* multiply
# by `images` instead of `difference` at the end. With which baseline does the gap not notice?
# *Hints:* lesson 01 differentiates a batch of points · weight each gradient, then add · the factor comes at the end.
#
# **4.3 Completeness** (difficulty 2, 10 minutes, 3 points). Fill in `completeness_gap`. *Hints:* two forward passes ·
# the class is the image's, also for the baseline · which sign?
#
# **4.4 Where the score is won** (difficulty 3, 20 minutes, 4 points). Fill in `path_profile`. *First predict* by which
# $\alpha$ half of the score is won, and what the profile of a network without biases looks like. *Extend:* draw the
# profile of a class that is *not* in the picture. *Hints:* `gradients(alphas)` is (k, 3, H, W) · one slope for each
# place, summed over the picture · `cumsum`, and each step is 1 / n of the path.
#
# ## Recap
#
# Do the shares add up, and what are they shares of?
#
# 1. They do: the gradient averaged along the path, times the distance, sums to $S_c(x) - S_c(x')$, up to quadrature.
#    Gradient x input missed that by more than the score itself.
# 2. Print the gap of every map you show. A large one proves the map wrong. A small one does not prove it right.
# 3. They are shares of a *difference* between two pictures. The baseline is part of the question: state it.
# 4. The score can be won where the picture is hardly visible. Look at the profile.
# 5. Cutting the path finer where its pieces miss makes the gap small, and the map no better.
# 6. Sensitivity, dummy, symmetry, linearity and invariance can be tried on one or two numbers.
