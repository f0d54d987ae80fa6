# %% [markdown]
# # Sensitivity: do the numbers of a map predict what a removal costs?
#
# Deletion uses the *order* of a map only. This part takes its *numbers* at their word: if these pixels hold 3 of the 15
# logits, then the score should lose 3 without them. Does it?
#
# **After this part you can**
#
# 1. compare what a map predicts with what a removal costs: sensitivity-n and infidelity;
# 2. tell shares from slopes, and ask each only what it claims;
# 3. say how large a correlation chance makes;
# 4. say why no list of numbers can be right about pixels that work together.
#
# **Level** advanced. **Before it** lessons 02 and 04.
# **Papers** Ancona et al., 2018, arXiv:1711.06104 (sensitivity-n); Yeh et al., 2019, arXiv:1901.09392 (infidelity).

# %%
r"""Sensitivity-n and infidelity. Run `python -m evaluation.sensitivity`; --help lists the options."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from course.checks import check_counts, one_image, top_class
from course.lesson import print_table, start
from course.pictures import displayable
from course.probes import pearson
from evaluation.methods import METHODS, SHARES
from evaluation.steadiness import max_sensitivity  # noqa: F401  (Yeh et al.'s other measure, in a part of its own)
from utils import import_lesson

# %% [markdown]
# ## A picture of the idea
#
# Grey out some random blocks of the photograph. The map predicts a loss: the sum of its values inside the blocks. The
# network tells the true loss: the score before, minus the score after. Each such removal is a point in the plots, and
# three of them, A, B and C, are shown as pictures. If the map is right, the points lie along a rising line. If it is
# noise, they lie along none.


# %%
@torch.inference_mode()
def score_drops(
    model: nn.Module, image: Tensor, others: Callable[[int, int], Tensor], count: int, target: int
) -> Tensor:
    """S_c(x) - S_c(y) for `count` disturbed images y, made eight at a time by others(first, last): (count,) float64."""
    whole = model(image)[0, target]
    scores = [model(others(i, min(i + 8, count)))[:, target] for i in range(0, count, 8)]
    return (whole - torch.cat(scores)).cpu().double()


def random_subsets(
    count: int, n: int, size: Sequence[int], generator: torch.Generator | None, block: int = 1
) -> Tensor:
    """(count, H, W) masks, each with n blocks of block x block pixels drawn at random; at the border they are cut."""
    generator = generator or torch.Generator().manual_seed(0)
    rows, columns = (math.ceil(length / block) for length in size)
    chosen = torch.stack([torch.randperm(rows * columns, generator=generator)[:n] for _ in range(count)])
    masks = torch.zeros(count, rows * columns, dtype=torch.bool).scatter_(1, chosen, True).reshape(count, rows, columns)
    return masks.repeat_interleave(block, dim=1).repeat_interleave(block, dim=2)[:, : size[0], : size[1]]


def removal_drops(model: nn.Module, image: Tensor, masks: Tensor, target: int) -> Tensor:
    """What the logit loses when the masked pixels, (N, H, W), are set to 0: (N,)."""
    masks = masks[:, None].to(image.device)
    return score_drops(model, image, lambda i, j: torch.where(masks[i:j], 0, image), len(masks), target)


def sums_inside(attribution: Tensor, masks: Tensor) -> Tensor:
    """sum_{i in S} R_i for each mask, colour channels together: (N,) float64."""
    attribution = torch.as_tensor(attribution).detach().cpu().double()
    R = attribution.reshape(-1, *attribution.shape[-2:]).sum(dim=0)    # (H, W)
    return masks.flatten(1).double() @ R.flatten()


def figure_idea(image: Tensor, masks: Tensor, drops: Tensor, maps: dict[str, Tensor]) -> Figure:
    """Three removals, and for each map its predictions against what they cost."""
    figure, axes = plt.subplots(2, 3, figsize=(10, 7), layout="constrained")
    ranked = drops.argsort()
    shown = {"A": ranked[0], "B": ranked[len(drops) // 2], "C": ranked[-1]}
    for axis, (letter, i) in zip(axes[0], shown.items(), strict=True):
        axis.imshow(displayable(torch.where(masks[i], 0, image))[0])
        axis.set(xticks=[], yticks=[], title=f"{letter}: loss {drops[i]:.1f}")
    for axis, (name, map) in zip(axes[1], maps.items(), strict=True):
        predicted = sums_inside(map, masks)
        axis.scatter(predicted, drops, s=12, color="0.6")
        for letter, i in shown.items():
            axis.scatter(predicted[i], drops[i], s=30, color="tab:red")
            axis.annotate(letter, (predicted[i], drops[i]), (5, 3), textcoords="offset points", color="tab:red")
        axis.set(xlabel=f"sum inside: {name}", title=f"r = {pearson(predicted, drops):.2f}")
        axis.margins(0.12)
    axes[1, 0].set_ylabel("loss of the logit")
    figure.suptitle(f"Three of {len(drops)} removals, and what three maps say about all of them", fontsize=11)
    return figure


BLOCK = 16


if __name__ == "__main__":
    lesson = start("evaluation.sensitivity", "Do the numbers of a map predict anything?",
                   images=["bird.jpg", "panda.jpg", "dog.jpg"])  # fmt: skip
    model, samples = lesson.model, 40 if lesson.quick else 100
    images = lesson.images[: 2 if lesson.quick else None]
    targets, size = lesson.targets[: len(images)].tolist(), images.shape[-2:]
    names = ["gradient_times_input", "integrated_gradients", "grad_cam", "vanilla_gradient", "centre", "random"]
    maps = {name: METHODS[name](model, images, targets) for name in names}
    n = size[0] * size[1] // BLOCK**2 // 10                            # a tenth of the picture
    blocks = random_subsets(samples, n, size, None, BLOCK)
    lost = [removal_drops(model, image, blocks, target) for image, target in zip(images.split(1), targets, strict=True)]
    three = {name: maps[name][0] for name in ("grad_cam", "integrated_gradients", "random")}
    lesson.show(figure_idea(images[:1], blocks, lost[0], three), "idea")

# %% [markdown]
# ## An example by hand
#
# A picture of four pixels, A B C D, all of value 1. The network computes S = min(A + B, 1) + 2 C, and does not look at
# D. So S = 3. A and B say the same thing, and one of them is enough. Two maps share the 3 out:
#
# | | A | B | C | D |
# | --- | --- | --- | --- | --- |
# | gradient x input | 0 | 0 | 2 | 0 |
# | Integrated Gradients, from 0 | 0.5 | 0.5 | 2 | 0 |
#
# The slopes of A and B are 0, because more of A changes nothing. On the way from 0 they counted for the first half, so
# the integral gives each a half. Now remove two pixels in all six ways (n = 2):
#
# | removed | AB | AC | AD | BC | BD | CD |
# | --- | --- | --- | --- | --- | --- | --- |
# | S loses | 1 | 2 | 0 | 2 | 0 | 2 |
# | gradient x input predicts | 0 | 2 | 0 | 2 | 0 | 2 |
# | Integrated Gradients predicts | 1 | 2.5 | 0.5 | 2.5 | 0.5 | 2 |
#
# The first map errs once, by 1. The second errs four times, by a half. Their mean square errors are equal, 1/6. The
# correlations with the loss are 0.93 and 0.96. No map of four numbers can be right six times here, because A and B are
# not worth a fixed number each. That is the case for every network that is not linear.

# %%
class FourPixels(nn.Module):
    """min(A + B, 1) + 2 C."""

    def forward(self, images: Tensor) -> Tensor:
        A, B, C, _ = images.flatten(1).T
        return ((A + B).clamp(max=1) + 2 * C)[:, None]


if __name__ == "__main__":
    four, ones = FourPixels().eval(), torch.ones(1, 1, 1, 4)
    pairs = torch.zeros(6, 1, 4, dtype=torch.bool)
    for mask, pair in zip(pairs, combinations(range(4), 2), strict=True):
        mask[0, list(pair)] = True
    losses, rows = removal_drops(four, ones, pairs, 0), []
    by_hand = {"gradient x input": [0, 0, 2, 0], "Integrated Gradients": [0.5, 0.5, 2, 0]}
    for name, shares in by_hand.items():
        predicted = sums_inside(torch.tensor([shares]), pairs)
        error = ((predicted - losses) ** 2).mean().item()
        rows.append([name, *predicted.tolist(), error, pearson(predicted, losses)])
    heads = ["", "AB", "AC", "AD", "BC", "BD", "CD", "square error", "r"]
    print_table(heads, [["S loses", *losses.tolist(), 0.0, 1.0], *rows])

# %% [markdown]
# ## Sensitivity-n
#
# Many random subsets $S$ of $n$ pixels (or of $n$ blocks of pixels). For each, the sum of the map inside, and what the
# score loses. Then one correlation over all subsets:
#
# $$\text{sensitivity-}n = \mathrm{corr}_S\Big(\sum_{i \in S} R_i,\; S_c(x) - S_c(x_{S=0})\Big), \quad |S| = n
# \qquad\text{(Ancona et al., definition 3)}$$
#
# | symbol | meaning | shape |
# | --- | --- | --- |
# | $R$ | the map under test | (H, W), or (3, H, W) |
# | $S_c(x_{S=0})$ | the logit when the pixels of $S$ have the mean colour | a number |


# %%
def sensitivity_n(
    model: nn.Module,
    image: Tensor,
    attribution: Tensor,
    target: int | None = None,
    *,
    n: int,
    samples: int = 100,
    generator: torch.Generator | None = None,
    block: int = 1,
) -> float:
    """How well do summed attributions predict what removing n pixels costs?

    Args:
        model, image, target: as in deletion_curve.
        attribution: (H, W), (C, H, W) or (1, C, H, W), signed; channels are summed.
        n: pixels set to 0 at a time, all channels together; with `block`, blocks of pixels.
        samples: random subsets. Of a map that predicts nothing the correlation is 0, give or take 1 / sqrt(samples).
        generator: of the subsets, seeded with 0 by default.
        block: side of the blocks, 1 for single pixels.

    Returns:
        Pearson correlation, in [-1, 1], higher is better. 1 for every n if the model is linear and the attribution
        gradient x input. NaN if the sums or the costs do not vary (a constant map; n = all pixels).

    Raises:
        ValueError: as in deletion_curve, or a count below 1.

    Cost: samples + 1 forward passes. Source: Ancona et al. 2018, arXiv:1711.06104, definition 3; blocks are ours. Over
    subsets of one image: not over images, and not along the map's own order, as some libraries have it.
    """
    check_counts(n=n, samples=samples, block=block)
    image = one_image(model, image)
    masks = random_subsets(samples, n, image.shape[-2:], generator, block)
    # BEGIN SOLUTION 8.2
    drops = removal_drops(model, image, masks, top_class(model, image, target))
    return pearson(sums_inside(attribution, masks), drops)
    # END SOLUTION


if __name__ == "__main__":
    for name, shares in by_hand.items():
        drawn = sensitivity_n(four, ones, torch.tensor([shares]), 0, n=2, samples=1000)
        print(f"four pixels, {name}: {drawn:.2f} over 1000 random pairs")


# %% [markdown]
# A correlation of 0.08: is that a little, or nothing? A map that predicts nothing does not get exactly 0. It gets 0
# give or take $1 / \sqrt{\text{samples}}$: 0.1 with 100 subsets. Twice that, in either direction, is still chance. So
# the number of samples belongs beside every correlation.
#
# The second question is the size of the parts. A tenth of the picture is removed both times, once as scattered pixels,
# once as blocks of 16 x 16. Only gradient x input and Integrated Gradients claim to be *shares*. Grad-CAM, the gradient
# and the controls only name *places*: nobody promised that their sums mean a loss.

# %%
def figure_correlations(found: dict[str, list[list[float]]], names: Sequence[str], samples: int) -> Figure:
    """A panel for each kind of removal, a dot for each photograph, and in grey what chance makes."""
    figure, axes = plt.subplots(1, len(found), figsize=(5.2 * len(found), 4.2), sharey=True, layout="constrained")
    for axis, (title, rows) in zip(axes, found.items(), strict=True):
        axis.axhspan(-2 / math.sqrt(samples), 2 / math.sqrt(samples), color="0.9")
        for marker, row in zip("osD^v<>", rows, strict=False):
            axis.plot(range(len(names)), row, marker, color="tab:blue", alpha=0.8)
        labels = [f"{name}\n({'shares' if name in SHARES else 'places'})" for name in names]
        axis.set_xticks(range(len(names)), labels, rotation=40, ha="right", fontsize=8)
        axis.set_title(title, fontsize=10)
    axes[0].set_ylabel("correlation with the loss")
    figure.suptitle("A symbol for each photograph; grey: twice the standard error of a map that predicts nothing")
    return figure


if __name__ == "__main__":
    pixels, found, rows = random_subsets(samples, size[0] * size[1] // 10, size, None), {}, []
    for what, masks in (("single pixels", pixels), (f"blocks of {BLOCK} x {BLOCK}", blocks)):
        found[what] = []
        for i, (image, target) in enumerate(zip(images.split(1), targets, strict=True)):
            drops = lost[i] if masks is blocks else removal_drops(model, image, masks, target)
            found[what].append([pearson(sums_inside(maps[name][i], masks), drops) for name in names])
            rows.append([lesson.names[i], what, f"{drops.mean():.1f} +- {drops.std():.1f}",
                         *(f"{round(r, 2) + 0.0:.2f}" for r in found[what][-1])])  # fmt: skip
    print(f"a tenth of the picture removed {samples} times; chance makes |r| up to {2 / math.sqrt(samples):.2f}")
    print_table(["image", "removed", "loss", *(name.replace("_", "\n") for name in names)], rows)
    lesson.show(figure_correlations(found, names, samples), "correlations")

# %% [markdown]
# With ResNet-50: the scattered pixels separate nothing. All values lie within chance, those of noise as well. The loss
# itself is strange: panda and dog *gain* 6 logits by it. With blocks, Grad-CAM and the gradient (0.44 and 0.40) are
# clear of chance on the macaw. So is the centre (0.26), because the bird stands in it. On the panda Grad-CAM alone is,
# and just so (0.23; of 18 values one is expected outside the grey by chance). On the dog nothing is. Three photographs
# are not enough.
#
# The two maps that hold shares, and so are the only ones that promised a loss, predict none on any of the three. Their
# sums are large and change sign from pixel to pixel (lesson 02), and what a grey block does to the network is not what
# an ever so small step does.
#
# ## Shares and slopes: infidelity
#
# A correlation forgives a wrong scale. Yeh et al. ask for the loss itself: disturb the picture by $I$, let the map
# predict $I^{\mathsf T}\Phi$, and square the error. One factor $\beta$ for all disturbances is forgiven:
#
# $$\text{INFD} = \mathbb{E}_I\Big[\big(\beta\, I^{\mathsf T}\Phi - (S_c(x) - S_c(x - I))\big)^2\Big]
# \qquad\text{(Yeh et al., definition 2.1)}$$
#
# The formula multiplies the map by the disturbance. So $\Phi$ must be a *slope*: logits per unit of pixel value. A
# share has the unit logits already. Where a square is removed, $I$ is the picture itself inside it, slope times $I$ is
# gradient x input, and the prediction is the plain *sum of shares* inside. A map of absolute slopes, such as
# max |gradient|, is neither: to put it into this metric is an error of type, and any program will let you.
#
# | disturbance | the map must hold | the prediction is |
# | --- | --- | --- |
# | noise on every value | slopes, (3, H, W), signed | their product with the noise |
# | a square removed | shares, signed | their sum inside the square |
#
# The unit is squared logits, so one picture with large losses outweighs all others. Divided by the mean square loss the
# unit is gone: that is $1 - R^2$, the part of the losses that the map leaves unexplained. 0 is perfect, 1 is no better
# than the prediction "nothing happens". (For the four pixels above: 1/6 divided by 13/6, so 1/13 for both maps, as long
# as no $\beta$ is fitted.)


# %%
def random_squares(
    count: int, size: Sequence[int], generator: torch.Generator | None, side: int | None = None
) -> Tensor:
    """(count, H, W) masks, each a square anywhere inside: of that side, or of a tenth to a half of the shorter side."""
    generator = generator or torch.Generator().manual_seed(0)
    masks = torch.zeros(count, *size, dtype=torch.bool)
    for mask in masks:
        drawn = max(1, round(min(size) * (0.1 + 0.4 * torch.rand(1, generator=generator).item())))
        length = side or drawn
        y, x = (int(torch.randint(whole - length + 1, (1,), generator=generator)) for whole in size)
        mask[y : y + length, x : x + length] = True
    return masks


def mean_square_error(predicted: Tensor, drops: Tensor, rescale: bool) -> float:
    """E[(beta predicted - drops)^2] with the best beta, or with 1."""
    power = (predicted**2).mean()
    beta = (predicted * drops).mean() / power if rescale and power > 0 else 1.0
    return ((beta * predicted - drops) ** 2).mean().item()


def unexplained(predicted: Tensor, drops: Tensor, rescale: bool = True) -> float:
    """The error over E[drops^2]; with the best beta it is 1 - R^2, in [0, 1]. NaN if nothing was lost."""
    power = (drops**2).mean().item()
    return mean_square_error(predicted, drops, rescale) / power if power > 0 else math.nan


def infidelity(
    model: nn.Module,
    image: Tensor,
    attribution: Tensor,
    target: int | None = None,
    *,
    perturb: str = "noise",
    samples: int = 50,
    rescale: bool = True,
    generator: torch.Generator | None = None,
    sigma: float = 0.2,
    side: int | None = None,
    normalised: bool = False,
) -> float:
    """How far is the cost that a map predicts for a disturbance from what it costs?

    Args:
        model, image, target: as in deletion_curve.
        attribution: (C, H, W), (1, C, H, W), or (H, W) for all channels alike; signed. Absolute values fit neither.
        perturb: "noise": I ~ N(0, sigma^2) on each value, for slopes such as the gradient, and only for them.
            "squares": I = x on a random square, for shares such as gradient x input, and only for them: a share already
            holds the factor x.
        samples: disturbances.
        rescale: multiply by the beta that makes the error smallest, as the authors do.
        generator: of the disturbances, seeded with 0 by default.
        sigma: of the noise, in normalised units.
        side: of the squares, in pixels; None draws a tenth to a half of the shorter side for each.
        normalised: divide by E[(S_c(x) - S_c(x - I))^2]; rescaled as well, that is 1 - R^2, in [0, 1].

    Returns:
        INFD >= 0 in squared logits, lower is better. 0 for the exact attribution of a linear model. NaN if normalised
        and no disturbance changes the score.

    Raises:
        ValueError: as in deletion_curve, another `perturb`, or a square that does not fit.

    Cost: samples + 1 forward passes. Source: Yeh et al. 2019, arXiv:1901.09392, definition 2.1 and section 5.
    """
    check_counts(samples=samples, **({} if side is None else {"side": side}))
    image, generator = one_image(model, image), generator or torch.Generator().manual_seed(0)
    target, attribution = top_class(model, image, target), torch.as_tensor(attribution).detach().cpu().double()
    if perturb not in ("noise", "squares"):
        raise ValueError(f"perturb must be 'noise' or 'squares', got {perturb!r}")
    if side is not None and side > min(image.shape[-2:]):
        raise ValueError(f"a square of side {side} does not fit into {tuple(image.shape[-2:])}")
    if perturb == "squares":
        masks = random_squares(samples, image.shape[-2:], generator, side)
        predicted, drops = sums_inside(attribution, masks), removal_drops(model, image, masks, target)
    else:
        phi = attribution.reshape(-1, *attribution.shape[-2:]).expand(image.shape[1:]).flatten()
        I = sigma * torch.randn(samples, *image.shape[1:], generator=generator)       # noqa: E741, the paper's name
        moved = I.to(image)
        drops = score_drops(model, image, lambda i, j: image - moved[i:j], samples, target)
        predicted = I.flatten(1).double() @ phi
    return (unexplained if normalised else mean_square_error)(predicted, drops, rescale)

# %% [markdown]
# ### A check you can break
#
# A slope is exact for a disturbance small enough. So the unexplained part must go to 0 with the noise, for the gradient
# and for nothing else. Shares in its place fail, at every size of the noise: that is the error of type, in numbers.

# %%
if __name__ == "__main__":
    image, target = images[:1], targets[0]
    w = import_lesson("01_vanilla_gradient_saliency").vanilla_gradient(model, image, target)
    kinds = {"gradient (slopes)": w, "gradient x input (shares)": w * image, "|gradient| (neither)": w.abs()}
    noises = (0.2, 0.002, 0.0002)
    rows = [[name, *(infidelity(model, image, phi, target, samples=24, sigma=sigma, normalised=True)
                     for sigma in noises)] for name, phi in kinds.items()]  # fmt: skip
    print("part of the loss that is not explained, 1 - R^2: 0 is perfect, 1 is a prediction of nothing")
    print_table([lesson.names[0], *(f"noise {sigma}" for sigma in noises)], rows)
    lesson.check(rows[0][-1] < 0.2, "the gradient does not predict small disturbances")

# %% [markdown]
# ### Squares, and only for shares
#
# One size of square, because a large square costs more than a small one, and then its *area* would predict the loss.
# The reference is a map with one value everywhere: it predicts the same loss for each square. If shares leave as much
# unexplained as that, they have told us nothing about the place.

# %%
if __name__ == "__main__":
    squares, rows = random_squares(samples // 2, size, None, side=56), []
    candidates = {name: maps[name] for name in SHARES} | {"one_value": torch.ones_like(maps["random"])}
    for i, (file, image, target) in enumerate(zip(lesson.names, images.split(1), targets, strict=False)):
        drops = removal_drops(model, image, squares, target)
        sums = [sums_inside(map[i], squares) for map in candidates.values()]
        raw = mean_square_error(sums[1], drops, rescale=True)
        rows.append([file, (drops**2).mean().item(), raw, *(unexplained(predicted, drops) for predicted in sums)])
    heads = [f"{name}_1 - R^2".replace("_", "\n") for name in candidates]
    print(f"squares of 56 x 56 pixels removed, {samples // 2} times")
    print_table(["image", "mean square\nloss", "integrated\ngradients\nINFD", *heads], rows)

# %% [markdown]
# With ResNet-50 shares leave 0.89 to 1.00 unexplained. One value everywhere leaves 0.46 on the panda and 0.86 on the
# dog: it is better there than the maps, because the squares of one size cost about the same wherever they lie. And the
# column INFD, in squared logits, cannot be compared from row to row without the column before it.
#
# ## What the picture does not show
#
# - **Not whether the shares are wrong or the removal is.** The prediction is about a missing pixel. What the network
#   gets is a grey one, with edges of its own.
# - **Not which pixels interact.** No list of single shares can be right about A, about B, and about both together, if
#   one of them is enough (the four pixels above).
# - **Not the order of a map.** A map can rank the pixels well and miss every number. Deletion and insertion ask for
#   that.
# - **Not more than three photographs.** The interval of a mean over three says little; lesson 08 takes more.
#
# ## Exercises
#
# ### Predict first
#
# **8.20 Turned round** (difficulty 1, 2 minutes, 1 point). A map's sensitivity-n is 0.44. What is it for the same map
# with the opposite sign everywhere? Answer: a number.
#
# **8.21 What chance makes** (difficulty 1, 2 minutes, 1 point). A correlation over 400 random subsets is 0.04. Which
# size does chance alone give it, roughly? Answer: a number.

# %%
# BEGIN SOLUTION 8.20
ANSWER_8_20 = -0.44
# END SOLUTION
# BEGIN SOLUTION 8.21
ANSWER_8_21 = 0.05
# END SOLUTION

# %% [markdown]
# ### Then write
#
# **8.2 Sensitivity-n** (difficulty 2, 20 minutes, 4 points). Fill in the two lines. *First predict* the value for n =
# all pixels. *Then break it:* explain the probability instead of the logit. What happens to the pictures the network
# is sure of? *Hints:* one number for each subset on both sides · logits, not probabilities · over what does the
# correlation run?
#
# ## Recap
#
# Do the numbers of a map predict what a removal costs? (ResNet-50, the tables above.)
#
# 1. A share is a claim in logits, and removing tests it: by correlation (sensitivity-n) or by squared error
#    (infidelity).
# 2. A slope is a claim about small steps. For noise of 0.0002 the gradient leaves 3 % unexplained, for noise of 0.2 it
#    leaves 95 %. Shares or absolute values in the place of slopes leave 87 % or more, at any size.
# 3. Beside each correlation belongs what chance makes of it, $1 / \sqrt{\text{samples}}$. Single pixels stay within it.
#    Blocks of 16 x 16 do not, on some photographs: on the macaw Grad-CAM has 0.44 (the centre 0.26), on the dog 0.00.
# 4. The maps of shares did not predict the loss of grey blocks or squares. For squares one value everywhere did better
#    on two of the three photographs.
# 5. No list of one number per pixel can be right about pixels that stand in for one another.
