# %% [markdown]
# # Deletion and insertion: does the score follow the map?
#
# A map says: these pixels matter most. So take them away, and look whether the network loses the class. Then do the
# opposite: begin with a ruined picture, put the same pixels back, and look whether the class returns.
#
# **After this part you can**
#
# 1. draw a deletion and an insertion curve, and compute the area under it by hand;
# 2. tell the order of the pixels from what is put in their place, and test one at a time;
# 3. read an area only beside the area of noise, of the centre and of the photograph's edges;
# 4. say why a grey pixel is not a missing pixel.
#
# **Level** advanced. **Before it** lessons 01 and 05.
# **Paper** Petsiuk, Das, Saenko, *RISE*, 2018, arXiv:1806.07421, section 4.1.

# %%
r"""Deletion and insertion curves. Run `python -m evaluation.deletion_insertion`; --help lists the options."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import permutations, product

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from course.checks import check_counts, checked, one_image, top_class
from course.lesson import print_table, start
from course.pictures import displayable
from evaluation.methods import METHODS, matched_controls

# %% [markdown]
# ## A picture of the idea
#
# Two orders of pixels: that of a Grad-CAM map, highest first, and a random one. In the upper half pixels become grey,
# in the lower half a blurred picture becomes sharp. Beneath each frame stands the probability of the class. A good
# order loses the class early above, and finds it early below.


# %%
def authors_blur(image: Tensor) -> Tensor:
    """RISE's blur: 11 x 11, sigma 5, zeros outside. Its Gaussian was reflected at the kernel's border: nearly a box."""
    delta = np.zeros((11, 11))
    delta[5, 5] = 1
    kernel = torch.from_numpy(gaussian_filter(delta, 5)).to(image)
    return F.conv2d(image, kernel.expand(image.shape[1], 1, 11, 11), padding=5, groups=image.shape[1])


def ranks(map: Tensor) -> Tensor:
    """Each pixel's place in the map's order, (H, W) int64: 0 for the highest value; ties row by row from the top left.

    The highest value of [[5, 9, 7]] is in the middle, so the ranks are [[2, 0, 1]].
    """
    # BEGIN SOLUTION 8.6
    order = map.flatten().argsort(descending=True, stable=True)        # numbers of the pixels, the highest value first
    places = torch.empty_like(order)
    places[order] = torch.arange(len(order), device=order.device)
    return places.reshape(map.shape)
    # END SOLUTION


def frame(start: Tensor, end: Tensor, map: Tensor, share: float) -> Tensor:
    """`start` with the `share` of pixels that the map ranks highest taken from `end`, (1, C, H, W)."""
    return torch.where(ranks(map).to(start.device) < share * map.numel(), end, start)


def figure_frames(model: nn.Module, image: Tensor, maps: dict[str, Tensor], target: int) -> Figure:
    """Frames of deletion and insertion with the probability of the class beneath them; a row for each order."""
    shares = (0, 0.1, 0.3, 0.6)
    ends = {"remove": (image, torch.zeros_like(image)), "insert": (authors_blur(image), image)}
    rows = [(f"{what}: {name}", *pair, map) for what, pair in ends.items() for name, map in maps.items()]
    figure, axes = plt.subplots(len(rows), len(shares), figsize=(8.2, 2.25 * len(rows)), layout="constrained")
    for line, (label, before, after, map) in zip(axes, rows, strict=True):
        frames = torch.cat([frame(before, after, map, share) for share in shares])
        with torch.no_grad():
            p = model(frames).softmax(dim=1)[:, target]
        for axis, photo, value in zip(line, displayable(frames), p.tolist(), strict=True):
            axis.imshow(photo)
            axis.set(xticks=[], yticks=[], xlabel=f"p = {value:.2f}")
        line[0].set_ylabel(label)
    for axis, share in zip(axes[0], shares, strict=True):
        axis.set_title(f"{share:.0%} of the pixels", fontsize=10)
    return figure


if __name__ == "__main__":
    lesson = start("evaluation.deletion_insertion", "Does the score follow the map?",
                   images=["bird.jpg", "panda.jpg", "koala.jpg", "jaguar.jpg"])  # fmt: skip
    model, images = lesson.model, lesson.images[: 2 if lesson.quick else None]
    targets = lesson.targets[: len(images)].tolist()
    names = ["grad_cam", "vanilla_gradient", "centre", "edges", "random", "random_coarse"]
    maps = {name: METHODS[name](model, images, targets) for name in names}
    two = {"Grad-CAM first": maps["grad_cam"][0], "random order": maps["random"][0]}
    lesson.show(figure_frames(model, images[:1], two, targets[0]), "idea")

# %% [markdown]
# With ResNet-50 the upper half is as expected: without the 30 % that Grad-CAM ranks highest the macaw is at 0.39,
# without 30 % at random it is at 0.79. The lower half has a surprise. The random order does not only help less. At 10 %
# it does *harm*: from 0.70 to 0.08. Sharp dots on a blurred picture are something new, which no photograph has. Keep
# that in mind.
#
# ## An example by hand
#
# A picture of four pixels, A B C D, all of value 1. The network's odds for the class are 1 : 1 without any pixel. A and
# B multiply them by 3 each, C and D do nothing. So the whole picture has odds 9 : 1, which is p = 0.9; without A they
# are 3 : 1, p = 0.75; without A and B they are 1 : 1, p = 0.5. Now remove one pixel after another:
#
# | order | p after 0, 1, 2, 3, 4 pixels | area |
# | --- | --- | --- |
# | A B C D, the right one | 0.9, 0.75, 0.5, 0.5, 0.5 | (0.45 + 0.75 + 0.5 + 0.5 + 0.25) / 4 = 0.6125 |
# | A C B D | 0.9, 0.75, 0.75, 0.5, 0.5 | 0.675 |
# | D C B A, the wrong one | 0.9, 0.9, 0.9, 0.75, 0.5 | 0.8125 |
#
# Read the rows from right to left, and they are insertions: putting back D C B A from nothing gives 0.5, 0.5, 0.5,
# 0.75, 0.9, an area of 0.6125, and A B C D gives 0.8125. A good order has a *small* area of deletion and a *large* one
# of insertion. But small compared with what? With all orders: their mean is what noise would get.
#
# ## The formula
#
# Let $q$ be the share of the pixels that have been exchanged, the highest values of the map first. The probability of
# the class is a curve over $q$, and the score of the map is the area under it:
#
# $$\text{AUC} = \int_0^1 p_c\big(x^{(q)}\big)\,dq \qquad\text{(RISE, section 4.1)}$$
#
# | protocol | the curve begins at | and ends at | better is |
# | --- | --- | --- | --- |
# | deletion | the picture | the mean colour everywhere | a small area |
# | insertion | the blurred picture | the picture | a large area |
#
# ## The method
#
# One function does both: it knows what it begins with, what it ends with, and the order.


# %%
@torch.inference_mode()
def replacement_curve(
    model: nn.Module, start: Tensor, end: Tensor, map: Tensor, target: int, step: int, batch_size: int = 8
) -> Tensor:
    """p_c while the pixels of `start` become those of `end`, `step` at a time, in falling order of the map."""
    rank = ranks(map).to(start.device)
    counts = step * torch.arange(math.ceil(map.numel() / step) + 1, device=start.device)
    scores = []
    for some in counts.split(batch_size):
        mixed = torch.where(rank < some[:, None, None, None], end, start)            # (b, C, H, W)
        scores.append(model(mixed.contiguous(memory_format=torch.channels_last)).softmax(dim=1)[:, target])
    return torch.cat(scores).cpu()


def deletion_curve(
    model: nn.Module, image: Tensor, map: Tensor, target: int | None = None, *, step: int = 1792
) -> Tensor:
    """Probability of the class while the most important pixels are replaced by the mean colour.

    Args:
        model: classifier in eval mode, (B, C, H, W) -> logits.
        image: normalised, (1, C, H, W) or (C, H, W).
        map: (H, W), finite. Equal values go row by row from the top left.
        target: the class; None is the image's own top class.
        step: pixels replaced at once; the last step takes what is left.

    Returns:
        (ceil(HW / step) + 1,), in [0, 1]: the whole image first, no pixel of it last. Lower is better.

    Raises:
        ValueError: as in vanilla_gradient, a map of another size or not finite, or a step below 1.

    Cost: that many forward passes. Source: Petsiuk et al. 2018, arXiv:1806.07421, section 4.1, and the authors' code
    (softmax; zeros in normalised space; 1792 pixels at once are 28 steps at 224 x 224).
    """
    check_counts(step=step)
    image, map = one_image(model, image), checked(map, image)
    return replacement_curve(model, image, torch.zeros_like(image), map, top_class(model, image, target), step)


def insertion_curve(
    model: nn.Module, image: Tensor, map: Tensor, target: int | None = None, *, step: int = 1792
) -> Tensor:
    """Probability of the class while the most important pixels return to the blurred image.

    Args, Returns, Raises, Cost, Source: as in deletion_curve; the blurred image comes first, the whole one last. Higher
    is better.
    """
    check_counts(step=step)
    image, map = one_image(model, image), checked(map, image)
    return replacement_curve(model, authors_blur(image), image, map, top_class(model, image, target), step)


def area_under_curve(curve: Tensor | Sequence[float]) -> float:
    """Trapezoid rule over [0, 1] with equal steps, both end points included: in [0, 1] for probabilities."""
    curve = torch.as_tensor(curve, dtype=torch.float64)
    if curve.ndim != 1 or len(curve) < 2:
        raise ValueError(f"a curve needs at least two points, got {tuple(curve.shape)}")
    # BEGIN SOLUTION 8.1
    return torch.trapezoid(curve, dx=1 / (len(curve) - 1)).item()
    # END SOLUTION


# %% [markdown]
# First the example by hand. The network is one linear layer: adding ln 3 to a logit multiplies the odds by 3.

# %%
if __name__ == "__main__":
    four, pixels = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False)).eval(), torch.ones(1, 1, 2, 2)
    with torch.no_grad():
        four[1].weight.copy_(torch.tensor([[0.0, 0, 0, 0], [math.log(3), math.log(3), 0, 0]]))
    rows = []
    for order in ("ABCD", "ACBD", "DCBA"):
        values = torch.tensor([-float(order.index(letter)) for letter in "ABCD"]).reshape(2, 2)      # first: highest
        curve = deletion_curve(four, pixels, values, 1, step=1)
        rows.append([order, "  ".join(f"{p:.2f}" for p in curve), f"{area_under_curve(curve):.4f}"])
    every = [area_under_curve(deletion_curve(four, pixels, torch.tensor(values).reshape(2, 2), 1, step=1))
             for values in permutations(range(4))]  # fmt: skip
    print_table(["order", "p while removing", "area"], [*rows, ["mean of all 24", "", f"{np.mean(every):.4f}"]])
    assert [row[2] for row in rows] == ["0.6125", "0.6750", "0.8125"]

# %% [markdown]
# ## A check you can break
#
# Removing in falling order and putting back in rising order pass through the same pictures, one forwards, the other
# backwards. So on *one* ground the two curves are one curve. Deletion and insertion can only disagree because their
# grounds differ. The ends of the curves do not depend on the map at all.

# %%
if __name__ == "__main__":
    step = images[0, 0].numel() // 8                                   # an eighth of the pixels
    image, grey, order = images[:1], torch.zeros_like(images[:1]), maps["random"][0]
    falling = replacement_curve(model, image, grey, order, targets[0], step)
    rising = replacement_curve(model, grey, image, -order, targets[0], step)
    difference = (falling - rising.flip(0)).abs().max().item()
    print(f"largest difference {difference:.1e}; the curve runs from {falling[0]:.4f} to {falling[-1]:.4f}")
    lesson.check(difference < 1e-3, "removing is not putting back, read backwards")

# %% [markdown]
# ## Curves of several photographs, and controls
#
# One area says nothing. Below are two methods, and two maps that know nothing of the network: a spot in the centre, and
# the edges of the photograph. The dashed line is noise *as fine or as coarse as the map*: noise of single pixels for
# the gradient and the edges, noise of 7 x 7 cells, upsampled, for Grad-CAM and the centre. (Why that matters is the
# trap below.) Thin lines are single photographs, thick ones their mean.

# %%
WAYS = {
    "remove,\nmean colour": (True, "mean colour"), "remove,\nblur": (True, "blur"),
    "insert,\nmean colour": (False, "mean colour"), "insert,\nblur": (False, "blur"),
}  # fmt: skip


def curves_of(model: nn.Module, image: Tensor, map: Tensor, target: int, step: int) -> dict[str, Tensor]:
    """The curve of each way, for one image and map."""
    grounds, found = {"mean colour": torch.zeros_like(image), "blur": authors_blur(image)}, {}
    for way, (removed, ground) in WAYS.items():
        ends = (image, grounds[ground]) if removed else (grounds[ground], image)
        found[way] = replacement_curve(model, *ends, map, target, step)
    return found


def figure_curves(curves: dict[str, list[dict[str, Tensor]]], names: Sequence[str], ways: Sequence[str]) -> Figure:
    """A row for each way, a column for each map; `curves` holds one dictionary per photograph."""
    figure, axes = plt.subplots(len(ways), len(names), figsize=(2.8 * len(names), 2.7 * len(ways)), sharex=True,
                                sharey=True, layout="constrained")  # fmt: skip
    for line, way in zip(axes, ways, strict=True):
        for axis, name in zip(line, names, strict=True):
            control, _ = matched_controls(name)
            single, noise = (torch.stack([one[way] for one in curves[key]]) for key in (name, control))
            x, areas = torch.linspace(0, 1, single.shape[1]), [area_under_curve(y.mean(dim=0)) for y in (single, noise)]
            axis.plot(x, single.T, color="tab:blue", lw=0.8, alpha=0.5)
            axis.plot(x, single.mean(dim=0), color="tab:blue", lw=2.5)
            axis.plot(x, noise.mean(dim=0), "--", color="black", lw=1.2)
            axis.set_title(f"{name}\narea {areas[0]:.2f}, noise {areas[1]:.2f}", fontsize=9)
        line[0].set_ylabel("p, " + way.replace("\n", " "))
    figure.supxlabel("share of the pixels, highest values of the map first", fontsize=10)
    figure.suptitle("Thin: single photographs. Thick: their mean. Dashed: noise as fine as the map, mean", fontsize=11)
    return figure


if __name__ == "__main__":
    curves = {name: [curves_of(model, *these, step) for these in zip(images.split(1), maps[name], targets, strict=True)]
              for name in names}  # fmt: skip
    shown = ["grad_cam", "vanilla_gradient", "centre", "edges"]
    lesson.show(figure_curves(curves, shown, ["remove,\nmean colour", "insert,\nblur"]), "curves")

# %% [markdown]
# ## Two questions at once: what is done, and what is put in
#
# Deletion and insertion differ in two things. One *removes* the best pixels, the other *puts them back*. One puts in
# the *mean colour*, the other a *blur*. When the two disagree, which of the differences is it? Run all four:

# %%
def cell(found: Sequence[dict], noise: Sequence[dict], way: str) -> str:
    """The mean area, and in how many photographs it is better than that of noise."""
    areas, chance = ([area_under_curve(one[way]) for one in these] for these in (found, noise))
    removed, _ = WAYS[way]
    better = sum((a < b) if removed else (a > b) for a, b in zip(areas, chance, strict=True))
    return f"{np.mean(areas):.2f}" + ("" if found is noise else f" ({better} of {len(areas)})")


if __name__ == "__main__":
    rows = [[name, *(cell(curves[name], curves[matched_controls(name)[0]], way) for way in WAYS)] for name in names]
    print("mean area, and how often it beats its noise: smaller is better for remove, larger for insert")
    print_table(["map", *WAYS], rows)
    with torch.no_grad():
        left = model(authors_blur(images)).softmax(dim=1)[range(len(targets)), targets]
    print("p of the blurred photographs:", "  ".join(f"{p:.2f}" for p in left.tolist()))

# %% [markdown]
# Measured with ResNet-50. Is it the ground? No. On the *same* ground the two methods change places: with the mean
# colour, removing prefers the gradient (0.21, Grad-CAM 0.35), and putting back prefers Grad-CAM (0.84, the gradient
# 0.46). With the blur it is the same.
#
# Look at the two kinds of noise instead. Fine noise has the smaller area in all four columns, and it knows as little as
# coarse noise does. A fine map spoils the picture everywhere. That helps if the score is to fall, and hurts if it is to
# rise. So an area measures the *grain* of a map as well as its order. Against noise of its own grain, each of the two
# methods is better in all four columns. Against the wrong noise, Grad-CAM's 0.35 beside 0.40 would look like a failure.
#
# Now the maps that know nothing. Putting the *centre* back into the blur gives 0.88, as much as Grad-CAM. Edges are as
# good as the gradient on the blur. And a blurred panda is still a panda to the network (p = 1.00): there is nothing to
# insert, and every map gets an area near 1.
#
# ## The trap: a grey pixel is not a missing pixel
#
# Take an eighth, or a quarter, of the picture away at *random* places: as single pixels, as squares of 4 x 4, and so
# on up to 56 x 56. On average the same share of the animal is gone each time. Only the pattern differs.

# %%
def scattered(size: Sequence[int], side: int, seed: int) -> Tensor:
    """A random order of squares of side x side pixels, (H, W)."""
    cells = torch.rand([length // side for length in size], generator=torch.Generator().manual_seed(seed))
    return cells.repeat_interleave(side, dim=0).repeat_interleave(side, dim=1)


if __name__ == "__main__":
    rows, grounds = [], {"mean colour": torch.zeros_like(images), "blur": authors_blur(images)}
    for side in (1, 4, 8, 16, 56):
        order, row = scattered(images.shape[-2:], side, lesson.seed), [f"{side} x {side} pixels"]
        for ground, share in product(grounds.values(), (0.125, 0.25)):
            with torch.no_grad():
                p = model(frame(images, ground, order, share)).softmax(dim=1)
            row.append(p[range(len(targets)), targets].mean().item())
        rows.append(row)
    print("mean p of the class when random squares are replaced")
    print_table(["squares of", *(f"{share} by\n{ground}" for ground in grounds for share in ("1/8", "1/4"))], rows)

# %% [markdown]
# A quarter of the picture in grey squares of 56 x 56: p = 0.99. The same quarter in squares of 8 x 8: p = 0.18. Nobody
# chose these pixels, no map took part. The network does not miss what was there, it is confused by what is there now: a
# pattern of small grey squares that no photograph has. With the blur in place of the grey, little happens at any size.
# So whoever reports an area must say what was put in, and how fine the map is.
#
# ## What the picture does not show
#
# - **Not whether a pixel mattered in the photograph.** A patch of grey is a thing of its own. The network reacts to the
#   patch, to its edge and its shape, and not only to what is missing.
# - **Not the size of anything.** Only the order of a map counts. Multiply it by ten, or take its root: the same curves.
# - **Not evidence against the class.** A signed map puts it last. The curves show its effect at their ends, where
#   hardly anything of the picture is left.
# - **Not a fair race between fine and coarse maps.** Compare a map with noise of its own grain, and methods of one
#   grain with one another.
#
# ## Exercises
#
# ### Predict first
#
# **8.12 Down in one step** (difficulty 1, 3 minutes, 1 point). A deletion curve has five points: 1, 0, 0, 0, 0. What
# is the area under it, by the trapezoid rule, if the whole axis has length 1? Answer: a number.
#
# **8.13 A rank** (difficulty 1, 2 minutes, 1 point). Four pixels have the values 4, 8, 6 and 9. The highest has rank
# 0. Which rank has the pixel with the value 6? Answer: a number.

# %%
# BEGIN SOLUTION 8.12
ANSWER_8_12 = 0.125
# END SOLUTION
# BEGIN SOLUTION 8.13
ANSWER_8_13 = 2
# END SOLUTION

# %% [markdown]
# ### Then write
#
# **8.1 Area** (difficulty 1, 10 minutes, 2 points). Fill in `area_under_curve`. *Hints:* the end points count half ·
# their distance is 1 / (points - 1).
#
# **8.6 Ranks** (difficulty 2, 15 minutes, 3 points). Fill in `ranks`. *First predict:* `argsort` of (5, 9, 7), falling,
# is (1, 2, 0). The ranks are (2, 0, 1). When are the two the same? *Then break it:* return the argsort itself, and look
# at the frames. *Then extend it:* exchange whole 16 x 16 blocks, by their mean value. Does Grad-CAM change? Does the
# gradient?
# *Hints:* argsort says *which pixel* is in each place, you want *which place* each pixel has · one indexing turns one
# into the other · `stable=True` keeps ties in reading order.
#
# ## Recap
#
# Does the score follow the map? (ResNet-50, four photographs, the tables above.)
#
# 1. Better than noise does: without the pixels that Grad-CAM or the gradient rank high the score falls sooner, and with
#    them it rises sooner, on both grounds. The reference must be noise as fine as the map.
# 2. On one ground removing and putting back are one experiment, read forwards and backwards.
# 3. Deletion and insertion rank fine and coarse maps in opposite order, whatever is put in. That says more about grey
#    dots than about the maps.
# 4. A spot in the centre inserts as well as Grad-CAM. No area without its controls.
# 5. A quarter of the picture in grey squares of 8 x 8 destroys the class, in squares of 56 x 56 it costs nothing.
