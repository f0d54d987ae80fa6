# %% [markdown]
# # 04 Integrated Gradients: shares that add up
#
# Lesson 02 gave each pixel slope times value, and on a real network the shares missed the score by far. The slope at
# the photograph is only the slope at the end of the journey. Integrated Gradients walks the whole way, from a picture
# with nothing in it to the photograph, and adds up the slopes it meets.
#
# **After this lesson you can**
#
# 1. compute Integrated Gradients with five quadrature rules and say what each step costs;
# 2. use completeness as a test that needs no second opinion, and read its gap;
# 3. refine the path where the gap arises instead of everywhere;
# 4. choose a baseline and say what the choice does;
# 5. state the axioms and show each on a function of one or two numbers.
#
# **Level** intermediate. **Before it** lessons 01 and 02.
# **Paper** Sundararajan, Taly, Yan, *Axiomatic Attribution for Deep Networks*, 2017, arXiv:1703.01365.

# %%
r"""Integrated Gradients: how much did each pixel bring to the score, compared with a baseline?

Run `python 04_integrated_gradients.py` (below a minute on two cores). Writes baselines.png, completeness.png and
path.png to outputs/04_integrated_gradients/.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur
from tqdm import tqdm

from course.checks import Target, check_counts, check_inputs, expand_baseline, target_indices, target_logits
from course.figures import color_scale, show_map, show_photo
from course.refined_path import Along, refined_gradient
from utils import IMAGENET_MEAN, IMAGENET_STD, channel_reduce, describe_targets, displayable, import_lesson

vanilla_gradient = import_lesson("01_vanilla_gradient_saliency").vanilla_gradient

# %% [markdown]
# ## The idea
#
# For $f(x) = 1 - \mathrm{ReLU}(1 - x)$ the gradient at $x = 2$ is 0, although going from 0 to 2 raised $f$ from 0 to 1.
# The slope was 1 on the first half of the way and 0 on the second; its average, 0.5, times the distance, 2, is the 1.
#
# ## The formula
#
# $$\mathrm{IG}_i(x) = (x_i - x'_i) \int_0^1
# \frac{\partial S_c}{\partial x_i}\big(x' + \alpha (x - x')\big)\, d\alpha
# \;\approx\; (x_i - x'_i) \sum_{k} w_k \frac{\partial S_c}{\partial x_i}\big(x' + \alpha_k (x - x')\big)$$
#
# | symbol | meaning |
# | --- | --- |
# | $x'$ | the baseline, a picture that stands for "nothing there" |
# | $\alpha_k, w_k$ | nodes and weights of a quadrature rule, $\sum_k w_k = 1$ |
#
# **Completeness** (the paper's proposition 1): $\sum_i \mathrm{IG}_i = S_c(x) - S_c(x')$. The sum is known from two
# forward passes, so every map can be checked.
#
# ## Step 1: quadrature
#
# Left and right use one end of each step and are off by half a step. Midpoint and trapezoid are off by its square,
# Gauss-Legendre is exact for polynomials of degree $2n - 1$: promises about *smooth* functions. A ReLU network's
# slope along the path is a staircase, and path.png shows that most of it can lie in one narrow, jagged peak.


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


# %% [markdown]
# ## Step 2: baselines
#
# A pixel equal to its baseline gets exactly nothing, whatever it shows. Zero after normalisation is the mean colour.


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
# ## Step 3: the sum along the path
#
# Pitfalls that live on in copied code: the factor $(x - x')$ is forgotten, or is $x$ although the baseline is not 0;
# the end points get full weight; the last chunk of a batch is weighted like a full one.


# %%
def integrated_gradients(
    model: nn.Module,
    images: Tensor,
    target: Target = None,
    *,
    baseline: str | Tensor = "zeros",
    n_steps: int = 50,
    rule: str = "gausslegendre",
    batch_size: int = 10,
    tolerance: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Each pixel's share of S_c(image) - S_c(baseline).

    Args:
        model: classifier in eval mode, (B, 3, H, W) -> logits (B, K).
        images: normalised images, (B, 3, H, W), float. Left as they are.
        target: None (each image's top class), one class index for all, or one per image.
        baseline: "zeros" (the mean colour), "black", "white", "blur", "noise" or a tensor; see baseline_images.
        n_steps: gradients per image.
        rule: see quadrature.
        batch_size: points of the path that go through the network at a time.
        tolerance: if given, n_steps and rule are ignored and the path is refined until the completeness gap is at
            most tolerance x |S_c(image) - S_c(baseline)|; at MAX_GRADIENTS it stops with a warning. See refine_path.
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
    exact = torch.promote_types(images.dtype, torch.float32)           # 300 weights in bfloat16 would not sum to 1
    nodes, weights = (torch.tensor(x, dtype=exact, device=images.device) for x in quadrature(rule, n_steps))
    difference = images.to(exact) - baselines
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
            path = on_path(images[i], baselines[i], alpha)                                   # (k, 3, H, W)
            gradients = vanilla_gradient(model, path, target[i]).to(w)
            mean_gradient[i] += torch.einsum("k,kchw->chw", w, gradients)
        # END SOLUTION
    return (difference * mean_gradient).to(images.dtype)


def on_path(image: Tensor, baseline: Tensor, alpha: Tensor) -> Tensor:
    """x' + alpha (x - x') for each alpha: (C, H, W), (C, H, W), (k,) -> (k, C, H, W) in the image's dtype."""
    return (baseline + alpha[:, None, None, None] * (image.to(alpha) - baseline)).to(image)


def along_path(
    model: nn.Module, image: Tensor, baseline: Tensor, target: int, batch_size: int = 10
) -> tuple[Along, Along]:
    """Two functions of alpha (k,): the score at these points of the path, (k,), and its gradient, (k, C, H, W)."""
    exact = torch.promote_types(image.dtype, torch.float32)

    def points(alphas: Tensor) -> list[Tensor]:
        return [on_path(image, baseline, part) for part in alphas.to(image.device, exact).split(batch_size)]

    def scores(alphas: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([target_logits(model(part), target) for part in points(alphas)]).to(exact)

    def gradients(alphas: Tensor) -> Tensor:
        return torch.cat([vanilla_gradient(model, part, target) for part in points(alphas)]).to(exact)

    return scores, gradients


# %% [markdown]
# ## Step 4: completeness, the test that needs no second opinion


# %%
def completeness_gap(
    model: nn.Module,
    images: Tensor,
    attribution: Tensor,
    target: Target = None,
    *,
    baseline: str | Tensor = "zeros",
) -> Tensor:
    """How far the shares miss the score: sum of the attribution minus (S_c(image) - S_c(baseline)).

    Args:
        model, images, target, baseline: as given to integrated_gradients ("noise" means seed 0).
        attribution: (B, 3, H, W).

    Returns:
        (B,), in logit units; 0 is perfect, the sign says whether the shares are too large.

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


# %% [markdown]
# ## Step 6: the axioms, as checks you can break


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


def check_axioms() -> list[tuple[str, list[float], list[float]]]:
    """Rows (axiom, what it demands, what Integrated Gradients gives), with baseline 0; asserts that they agree."""

    def ig(function: Callable[[Tensor], Tensor], *numbers: float) -> Tensor:
        x = torch.tensor(numbers, dtype=torch.float32).reshape(1, 1, 1, -1)
        return integrated_gradients(Formula(function), x, 0, n_steps=100, rule="midpoint").flatten()

    def saturated(x: Tensor) -> Tensor:
        return 1 - torch.relu(1 - x[:, 0])

    assert vanilla_gradient(Formula(saturated), torch.full((1, 1, 1, 1), 2.0)).item() == 0
    f, g = (lambda x: x[:, 0] * x[:, 1]), (lambda x: x[:, 0] ** 2)
    rows = [
        ("sensitivity: 1 - ReLU(1 - x) at 2, where the gradient is 0", torch.ones(1), ig(saturated, 2)),
        ("dummy: x^2 ignores y, at (3, 5)", torch.tensor([9.0, 0]), ig(g, 3, 5)),
        ("implementation invariance: max(x, y) and x + ReLU(y - x) at (1, 3)",
         ig(lambda x: x.amax(dim=1), 1, 3), ig(lambda x: x[:, 0] + torch.relu(x[:, 1] - x[:, 0]), 1, 3)),
        ("linearity: 2 xy + 3 x^2 at (1, 2)",
         2 * ig(f, 1, 2) + 3 * ig(g, 1, 2), ig(lambda x: 2 * f(x) + 3 * g(x), 1, 2)),
    ]
    assert all(torch.allclose(demanded, found) for _, demanded, found in rows)
    return [(name, *([round(v, 4) for v in values.tolist()] for values in pair)) for name, *pair in rows]


# %% [markdown]
# ## The pictures


# %%
def figure_baselines(model: nn.Module, image: Tensor, target: int, generator: torch.Generator) -> Figure:
    """Top: five baselines. Bottom: the map that each gives for one image, refined to 5 %, all on one scale."""
    maps, pictures = {}, {}
    for name in tqdm(("zeros", "black", "white", "blur", "noise"), desc="baselines", leave=False):
        pictures[name] = baseline_images(image, name, generator)
        attribution = integrated_gradients(model, image, target, baseline=pictures[name], tolerance=0.05)
        maps[name] = channel_reduce(attribution, "sum")[0]
    scale = color_scale(*maps.values())
    figure, axes = plt.subplots(2, 6, figsize=(17, 5.8), layout="constrained")
    show_photo(axes[0, 0], displayable(image)[0], describe_targets(model, image, target)[0])
    axes[1, 0].set_axis_off()
    for column, name in zip(axes[:, 1:].T, maps, strict=True):
        show_photo(column[0], displayable(pictures[name])[0], f"baseline: {name}")
        show_map(column[1], maps[name], scale, f"sums to {maps[name].sum():.1f}")
    figure.suptitle("Integrated Gradients of one picture from five baselines (sum over RGB, one scale)")
    return figure


def slopes_along_path(model: nn.Module, image: Tensor, target: int, alphas: np.ndarray) -> np.ndarray:
    """dS/d(alpha) at each alpha for the zero baseline; weighted and added up it is the sum of IG over all pixels."""
    zero = torch.zeros_like(image[0])
    slopes = [
        (vanilla_gradient(model, on_path(image[0], zero, alpha), target) * image).sum(dim=(1, 2, 3))
        for alpha in tqdm(torch.tensor(alphas, dtype=image.dtype, device=image.device).split(10), leave=False)
    ]
    return torch.cat(slopes).cpu().double().numpy()


def compare_rules(
    model: nn.Module, image: Tensor, target: int, steps: Sequence[int]
) -> tuple[dict[str, dict[int, float]], tuple[np.ndarray, np.ndarray], list[Piece]]:
    """Completeness gap of every rule, and of refinement, by number of gradients; zero baseline.

    Returns:
        Rule -> gradients -> gap relative to f(x) - f(x'); the slopes met, as (alphas, slopes); the refined pieces.
    """
    pieces, costs = refine_path(model, image[0], torch.zeros_like(image[0]), target, 0, max_gradients=3 * max(steps))
    difference = sum(piece.score_right - piece.score_left for piece in pieces)
    rules = {}
    for rule in ("left", "right", "trapezoid", "midpoint", "gausslegendre"):
        sizes = [n + (rule == "trapezoid") for n in steps]             # n steps have n + 1 ends
        rules[rule] = {n: quadrature(rule, n) for n in sizes}
    alphas = np.unique(np.concatenate([nodes for rule in rules.values() for nodes, _ in rule.values()]))
    slopes = slopes_along_path(model, image, target, alphas)           # rules share nodes: each is visited once
    gaps = {
        rule: {n: abs(slopes[np.searchsorted(alphas, x)] @ w / difference - 1) for n, (x, w) in sizes.items()}
        for rule, sizes in rules.items()
    }
    gaps["refined"] = {cost.gradients: abs(cost.gap / difference) for cost in costs}
    return gaps, (alphas, slopes), pieces


def figure_completeness(gaps: dict[str, dict[int, float]], title: str) -> Figure:
    """Relative completeness gap against the number of gradients, one line a rule."""
    figure, axis = plt.subplots(figsize=(7.5, 4.4), layout="constrained")
    styles = {"left": "o--", "refined": "ko-"}
    for rule, curve in gaps.items():
        axis.loglog(list(curve), list(curve.values()), styles.get(rule, "o-"), label=rule, zorder=2 + (rule == "left"))
    axis.set(xlabel="gradients", ylabel="|sum of IG - (f(x) - f(x'))| / |f(x) - f(x')|")
    axis.set_title(f"{title}: completeness gap (left and right differ by one node)", fontsize=10)
    axis.legend()
    return figure


def figure_path(met: tuple[np.ndarray, np.ndarray], pieces: list[Piece], title: str) -> Figure:
    """The logit along the path, and its slope: where the rules looked, and where refinement did."""
    figure, (above, below) = plt.subplots(2, 1, figsize=(8, 5), sharex=True, layout="constrained")
    ends = sorted({(piece.left, piece.score_left) for piece in pieces} | {(p.right, p.score_right) for p in pieces})
    above.plot(*zip(*ends, strict=True), ".-")
    above.set(ylabel="logit")
    below.plot(*met, "-", color="grey", lw=1, label="nodes of all rules")
    below.plot([(p.left + p.right) / 2 for p in pieces], [p.slope for p in pieces], "r.", label="refined path")
    below.set(ylabel="slope", xlabel="alpha: 0 is the baseline, 1 the image")
    below.legend()
    above.set_title(f"{title}: the logit and its slope from the mean colour to the photograph", fontsize=10)
    return figure


# %%


# %% [markdown]
# ## What the picture does not show
#
# - **Not "the" contribution.** Completeness fixes the sum, not how it is shared. Another baseline answers another
#   question: see baselines.png, where even the sums differ.
# - **Not features of the baseline's colour.** With black as baseline the dog's back gets nothing, with white it gets
#   the most: lesson 02's problem stays.
# - **Not an exact integral.** The gap is the total error only. Errors of pixels may cancel in it, so a gap of 0 is
#   necessary, not sufficient.
# - **Mostly the faint picture.** In path.png nearly all of the logit is won before $\alpha = 0.3$, on a photograph
#   faded to a third of its contrast. IG explains how the score got there, not what the network would miss now.
# - **More steps are not always better.** On a staircase the gap of an even rule jumps about: see completeness.png.
#
# How much refinement helps, over all 19 photographs of data/ (ResNet-50, zero baseline; relative gap in per cent,
# measured with `python tests/benchmark.py --completeness`, a quarter of an hour):
#
# | gradients | rule | extra forward passes | mean | median | largest |
# | --- | --- | --- | --- | --- | --- |
# | 30 | Gauss-Legendre | 0 | 4.5 | 2.9 | 15.6 |
# | 30 | refined | 31 | 3.5 | 2.5 | 9.9 |
# | 50 | Gauss-Legendre | 0 | 3.5 | 2.5 | 11.0 |
# | 50 | refined | 51 | 0.8 | 0.7 | 2.1 |
# | 100 | Gauss-Legendre | 0 | 1.2 | 1.0 | 4.0 |
# | 100 | refined | 101 | 0.4 | 0.4 | 1.3 |
#
# At 30 gradients it gains little: two rounds are too few to find the steep part. The extra forward passes are not
# free, each costs about half a gradient (`make bench`); 50 refined ones cost like 75 and still beat 100 of
# Gauss-Legendre.

# %% [markdown]
# ## Exercises
#
# **4.1 Quadrature** (difficulty 2, 15 minutes, 4 points). Fill in the four even rules. *First predict* which are exact
# for $f(x) = x^2$, whose slope is linear. *Hints:* n nodes, not n + 1 · weights sum to 1 · which nodes get half of it?
#
# **4.2 The sum along the path** (difficulty 2, 15 minutes, 5 points). Fill in the loop body.
# *Hints:* lesson 01 differentiates a batch of points · weight each gradient, then add · the factor comes at the end.
#
# **4.3 Completeness** (difficulty 2, 10 minutes, 3 points). Fill in `completeness_gap`. What is the gap of gradient x
# input? *Hints:* two forward passes · the class is the image's, also for the baseline · which sign?
#
# **4.4 Refine** (difficulty 4, 40 minutes, 5 points). Fill in a round of `refine_path`. Can you spend the same
# gradients better? *Hints:* sort by |gap| · a third's midpoint · which gradient need not be computed again?


# %%


# %% [markdown]
# ## Recap
#
# 1. IG averages the gradient along the way from a baseline to the image and multiplies by the distance, once.
# 2. Its sum must be f(x) - f(x'): check the gap of every map you show.
# 3. The slope along the path is a staircase; refining where pieces fail completeness left less than half of
#    Gauss-Legendre's mean gap at 50 and 100 gradients, and little less at 30.
# 4. The baseline is part of the question. State it.
# 5. Sensitivity, implementation invariance and linearity are properties you can test on one number.

