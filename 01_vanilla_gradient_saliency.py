# %% [markdown]
# # 01 Vanilla gradient: which pixels is a class score sensitive to?
#
# A network looks at a photograph and answers "macaw". The oldest question one can ask it: *if I changed this pixel a
# little, how much would the score change?* One backward pass answers it for all 150,528 numbers of the picture at once.
#
# **After this lesson you can**
#
# 1. compute the gradient of a class score for a batch of pictures, and leave no trace;
# 2. turn it into Simonyan's map, and say what is lost on the way;
# 3. say why we explain the logit and not the probability;
# 4. check a gradient with nothing but forward passes;
# 5. say what the map does not show.
#
# **Level** beginner. **Before it** the chain rule and basic PyTorch.
# **Paper** Simonyan, Vedaldi, Zisserman, *Deep Inside Convolutional Networks*, 2013, arXiv:1312.6034, section 3.

# %%
r"""Vanilla gradient saliency. Run `python 01_vanilla_gradient_saliency.py`; --help lists the options."""

from __future__ import annotations

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from course.checks import Target, check_inputs, target_indices, target_logits
from course.figures import map_grid
from course.lesson import print_table, start
from course.probes import correlation, randomized, with_noise
from utils import channel_reduce

# %% [markdown]
# ## A picture of the idea
#
# Think of a picture with a single pixel. The score is a curve over the pixel's value. The gradient is the slope of the
# curve *at the place where we stand*. On the left the slope is 1: the score is sensitive. On the right it is 0,
# although the pixel has raised the score from 0 to 1 on its way there.


# %%
def figure_idea() -> Figure:
    """The score of a picture with one pixel, and its tangent at two places."""
    x = torch.linspace(0, 3, 200)
    figure, axis = plt.subplots(figsize=(6.5, 3.4), layout="constrained")
    axis.plot(x, 1 - torch.relu(1 - x), color="black", lw=2, label="score")
    for at, slope, meaning in ((0.5, 1.0, "slope 1: sensitive"), (2.2, 0.0, "slope 0: not sensitive here")):
        near, height = torch.tensor([at - 0.4, at + 0.4]), min(at, 1.0)
        axis.plot(near, height + slope * (near - at), lw=6, alpha=0.5, label=meaning)
        axis.plot(at, height, "o", color="black")
    axis.set(xlabel="value of the pixel", ylabel="score of the class", ylim=(0, 1.3))
    axis.legend(fontsize=9, loc="lower right")
    return figure


if __name__ == "__main__":
    lesson = start("01_vanilla_gradient_saliency", "Which pixels is a class score sensitive to?",
                   images=["bird.jpg", "cat.jpg", "dog.jpg"])  # fmt: skip
    model, images, targets = lesson.model, lesson.images, lesson.targets
    lesson.show(figure_idea(), "idea")

# %% [markdown]
# ## The formula
#
# A real picture has 150,528 values, and the score is a surface over all of them. Close to one picture the surface is
# almost flat, like a tilted plane. The tilt of the plane, one number for each value of the picture, is the gradient:
#
# $$S_c(x') \approx S_c(x) + w \cdot (x' - x), \qquad w = \left.\frac{\partial S_c}{\partial x}\right|_{x}
# \quad\text{(Simonyan et al., eq. 3-4)}$$
#
# | symbol | meaning | shape |
# | --- | --- | --- |
# | $x$ | the preprocessed photograph | (3, H, W) |
# | $S_c$ | the logit of class $c$: the score before the softmax | a number |
# | $w$ | the gradient, with its sign | (3, H, W) |
#
# ## The method
#
# Three lines. The input is copied, so that your own tensor stays as it is. The scores of a batch are added up first: no
# picture changes another one's score, so the gradient of the sum holds the gradient of each. `torch.autograd.grad`
# returns the gradient and writes nothing into `.grad`, which `.backward()` would. The two lines above the function make
# it work inside your `torch.no_grad()` as well.


# %%
@torch.inference_mode(False)
@torch.enable_grad()
def vanilla_gradient(model: nn.Module, images: Tensor, target: Target = None) -> Tensor:
    """The slope of a class score at each pixel.

    Args:
        model: classifier in eval mode, (B, 3, H, W) -> logits (B, K).
        images: normalised images, (B, 3, H, W), float. Left as they are.
        target: None (each image's top class), one class index for all, or one per image.

    Returns:
        (B, 3, H, W), signed, detached: logit units per unit of normalised input.

    Raises:
        ValueError: model in train mode, malformed images, or a target that is no class.

    Paper: Simonyan et al. 2013, arXiv:1312.6034, eq. 4.
    """
    check_inputs(model, images)
    # BEGIN SOLUTION 1.1
    x = images.detach().clone().requires_grad_()
    score = target_logits(model(x), target)                            # (B,): S_c(x) of each image
    (w,) = torch.autograd.grad(score.sum(), x)                         # (B, 3, H, W): dS_c / dx
    # END SOLUTION
    return w


# %%
if __name__ == "__main__":
    w = vanilla_gradient(model, images, targets)
    print(f"gradient of {len(images)} images: {tuple(w.shape)}, from {w.min():.3f} to {w.max():.3f}")

# %% [markdown]
# ## A check you can break
#
# A slope predicts what a small step does. So we take a small step along the gradient, one back, and measure. Two
# forward passes are enough, and no backward pass takes part. As a reference we also walk in a random direction: in
# 150,528 dimensions it is nearly at a right angle to the gradient, and the score hardly moves.


# %%
def measured_slope(
    model: nn.Module, images: Tensor, direction: Tensor, target: Target = None, *, step: float = 0.005
) -> Tensor:
    """How fast the score really grows along a direction, by central differences.

    Args:
        model, images, target: as in vanilla_gradient.
        direction: (B, 3, H, W), of any length but 0; only where it points counts.
        step: how far to walk each way, in units of normalised input.

    Returns:
        (B,), in logits per unit of length.
    """
    check_inputs(model, images)
    with torch.no_grad():
        target = target_indices(target, model(images))                 # a step must not change the question
        # BEGIN SOLUTION 1.4
        unit = direction / direction.flatten(1).norm(dim=1)[:, None, None, None]
        ahead = target_logits(model(images + step * unit), target)
        behind = target_logits(model(images - step * unit), target)
        return (ahead - behind) / (2 * step)
        # END SOLUTION


if __name__ == "__main__":
    predicted = w.flatten(1).norm(dim=1)                               # the slope along w / |w| is |w|
    measured = measured_slope(model, images, w, targets)
    random = torch.randn(images.shape, generator=torch.Generator().manual_seed(lesson.seed)).to(images)
    elsewhere = measured_slope(model, images, random, targets)
    rows = zip(lesson.names, lesson.titles, *(x.tolist() for x in (predicted, measured, elsewhere)), strict=True)
    print_table(["image", "class", "predicted slope", "measured", "in a random direction"], list(rows))
    lesson.check(torch.allclose(measured, predicted, rtol=0.1), "the gradient does not predict the change of the score")

# %% [markdown]
# ## From the gradient to a map
#
# A colour picture has three slopes at each place. Simonyan et al. keep the largest absolute value:
#
# $$M_{ij} = \max_k |w_{kij}| \qquad\text{(section 3.1)}$$
#
# The sum of the absolute values is just as common. Both lose the sign: a pixel that speaks against the class looks like
# one that speaks for it.


# %%
def saliency_map(model: nn.Module, images: Tensor, target: Target = None, *, reduce: str = "max") -> Tensor:
    """Simonyan's image-specific class saliency map.

    Args:
        model, images, target: as in vanilla_gradient.
        reduce: "max" (the paper) or "sum", of the absolute gradient over channels.

    Returns:
        (B, H, W), >= 0, not rescaled, so that maps stay comparable.

    Raises:
        ValueError: as in vanilla_gradient, or another `reduce`.

    Paper: Simonyan et al. 2013, arXiv:1312.6034, section 3.1.
    """
    if reduce not in ("max", "sum"):
        raise ValueError(f"reduce must be 'max' or 'sum', got {reduce!r}")
    # BEGIN SOLUTION 1.2
    return channel_reduce(vanilla_gradient(model, images, target), f"{reduce}_abs")
    # END SOLUTION


# %%
if __name__ == "__main__":
    maps = saliency_map(model, images, targets)
    columns = {"signed: sum over RGB": channel_reduce(w, "sum"), "max over RGB of |gradient|": maps, "overlay": maps}
    shown = map_grid(images, columns, overlay=["overlay"], titles=lesson.titles, heading="Vanilla gradient")
    lesson.show(shown, "maps")
    both = correlation(maps, saliency_map(model, images, targets, reduce="sum"))
    noise = channel_reduce(random), channel_reduce(random, "sum_abs")
    print(f"max against sum over channels: r = {both:.3f}; for white noise {correlation(*noise):.3f}")

# %% [markdown]
# Does it matter whether one takes the maximum or the sum? Hardly: the two maps nearly agree, more than they would for
# noise, because the three slopes at a place rise and fall together.
#
# ## Logit or probability?
#
# The probability of a class also grows when another class loses. Its gradient is the *difference* between the class and
# its rivals, times a factor that says how open the race still is:
#
# $$\frac{\partial p_c}{\partial x} = p_c\,(1 - p_c) \left( \frac{\partial S_c}{\partial x}
# - \sum_{k \ne c} q_k \frac{\partial S_k}{\partial x} \right), \qquad q_k = \frac{p_k}{1 - p_c}$$
#
# The factor $p_c (1 - p_c)$ goes to 0 when the network is certain: the map fades for exactly those pictures that the
# network knows best. The bracket is another question: not "what raises the macaw's score" but "what raises it *more
# than its rivals'*", a contrast. This course explains the logit.


# %%
@torch.inference_mode(False)
@torch.enable_grad()
def softmax_gradient(model: nn.Module, images: Tensor, target: Target = None) -> Tensor:
    """The gradient of the softmax probability, for comparison only: it vanishes where the network is certain.

    Args, Returns and Raises as in vanilla_gradient, in probability instead of logit units.
    """
    check_inputs(model, images)
    # BEGIN SOLUTION 1.3
    x = images.detach().clone().requires_grad_()
    logits = model(x)
    probability = target_logits(logits.softmax(dim=1), target_indices(target, logits))
    (gradient,) = torch.autograd.grad(probability.sum(), x)
    # END SOLUTION
    return gradient


# %%
if __name__ == "__main__":
    p = softmax_gradient(model, images, targets)
    rows = [
        [name, title, *(x.norm().item() for x in (of_logit, of_p)), correlation(of_logit, of_p)]
        for name, title, of_logit, of_p in zip(lesson.names, lesson.titles, w, p, strict=True)
    ]
    print_table(["image", "class", "|gradient of the logit|", "of the probability", "r of the two"], rows)
    columns = {"of the logit": maps, "of the probability": channel_reduce(p)}
    shown = map_grid(images, columns, titles=lesson.titles, heading="The same places, another size: |gradient|")
    lesson.show(shown, "softmax")

# %% [markdown]
# On its own scale the map of the probability looks much like that of the logit, above all for a certain network. Look
# at the colour bars: its values are smaller by the factor $p_c (1 - p_c)$. The cat's differ most, because the network
# hesitates there, and its rivals have gradients of their own.
#
# ## Two networks, one picture
#
# Another network gives another map. The number above it is its correlation with the first network's map. The reference
# is a network that has learnt nothing: the same layers with random weights.

# %%
if __name__ == "__main__":
    others = {lesson.other_name: lesson.other_model, "random weights": randomized(model, seed=lesson.seed)}
    columns, notes = {lesson.model_name: maps}, {}
    for name, network in others.items():
        columns[name] = saliency_map(network, images, targets)
        notes[name] = [f"r = {correlation(*pair):.2f}" for pair in zip(maps, columns[name], strict=True)]
    titles = [title.rsplit(" ", 1)[0] for title in lesson.titles]      # probabilities differ between networks
    lesson.show(map_grid(images, columns, titles=titles, notes=notes, heading="The same class"), "networks")

# %% [markdown]
# ## Why not scale each map to [0, 1]?
#
# Because a scaled map always looks equally strong. Whatever the network found, the brightest pixel becomes 1. Below all
# maps share one scale: now one sees that the score of one picture reacts more than that of another. Whoever compares
# pictures, classes or networks needs *one* scale, or at least the numbers beside the colours.

# %%
if __name__ == "__main__":
    same = map_grid(images, {"max over RGB of |gradient|": maps}, scale="all", titles=lesson.titles, heading="Gradient")
    lesson.show(same, "one_scale")

# %% [markdown]
# ## Are saliency maps causal?
#
# No. A map is computed from a network's slopes, and says nothing about what *would happen* without some pixels. That is
# an experiment, and it needs a control. Replace the tenth of the pixels that the map ranks highest by the mean colour.
# Then replace as many at random, and compare.


# %%
def without(images: Tensor, maps: Tensor, share: float = 0.1) -> Tensor:
    """The images with the highest `share` of each map's pixels set to 0, the mean colour."""
    limits = maps.flatten(1).quantile(1 - share, dim=1)[:, None, None]
    return images * (maps < limits)[:, None]


if __name__ == "__main__":
    with torch.no_grad():
        probabilities = [
            target_logits(model(pictures).softmax(dim=1), targets).tolist()
            for pictures in (images, without(images, maps), without(images, random[:, 0]))
        ]
    print_table(["image", "class", "p", "p without the map's tenth", "p without a random tenth"],
                list(zip(lesson.names, lesson.titles, *probabilities, strict=True)))  # fmt: skip

# %% [markdown]
# With ResNet-50 the macaw's probability falls to 0.35 without the map's tenth, and not at all without a random one:
# here the map found something that matters. The dog loses nothing either way. The cat loses *more* by the random tenth.
# So a map is a hypothesis, the experiment tests it, and without the last column we would not know what the numbers
# mean. Lesson 08 does this with more pictures and better replacements.
#
# ## What the picture does not show
#
# - **Not contribution.** In the first figure the slope at 2.2 is 0, although the pixel did all the work. A feature that
#   has had its full effect is invisible (lesson 04).
# - **Not a steady quantity.** Noise of 2 % of the value range changes nothing that a person would see. It changes most
#   of the gradient: see the numbers below. Most of the map belongs to this exact pattern of pixels, not to the animal
#   (lesson 03).
# - **Not only the object.** The network may be sensitive to a corner of plain background, and the map says so.
# - **Not the direction.** The absolute value hides whether brighter would mean more or less of the class.

# %%
if __name__ == "__main__":
    noisy = with_noise(images, 0.02, lesson.seed)
    moved = vanilla_gradient(model, noisy, targets)
    rows = [
        [name, correlation(*photos), correlation(*gradients)]
        for name, photos, gradients in zip(
            lesson.names, zip(images, noisy, strict=True), zip(w, moved, strict=True), strict=True
        )
    ]
    print_table(["with 2 % noise", "r of the photographs", "r of the gradients"], rows)

# %% [markdown]
# ## Exercises
#
# ### Predict first
#
# **1.5 How much shorter?** (difficulty 1, 3 minutes, 1 point). The network gives the macaw a probability of 0.9999. By
# what factor does $p_c (1 - p_c)$ then shorten the gradient of the probability? Answer: a number.
#
# **1.6 The other way** (difficulty 1, 2 minutes, 1 point). Along some direction `measured_slope` finds a slope of 0.8.
# What does it find along the opposite direction? Answer: a number.
#
# **1.7 Sum first?** (difficulty 1, 3 minutes, 1 point). The three slopes of a pixel are 2, -1.5 and -0.5. Simonyan's
# map takes the largest absolute value. Somebody adds the channels up first, and takes the absolute value of the sum.
# What happens to this pixel?
#
# - **a** Nothing: both maps show it equally strong.
# - **b** It looks stronger after the sum, because three slopes count.
# - **c** It disappears from the map of the sum, although the score is sensitive to its colour.
# - **d** It disappears from both maps, because its slopes add up to 0.

# %%
# BEGIN SOLUTION 1.5
ANSWER_1_5 = 0.0001
# END SOLUTION
# BEGIN SOLUTION 1.6
ANSWER_1_6 = -0.8
# END SOLUTION
# BEGIN SOLUTION 1.7
ANSWER_1_7 = "c"
# END SOLUTION

# %% [markdown]
# ### Then write
#
# **1.1 The gradient** (difficulty 1, 10 minutes, 4 points). Fill in `vanilla_gradient`.
# *Hints:* what must require grad? · which of the K logits is the score? · one call of `torch.autograd.grad` does the
# whole batch, if you give it one number.
#
# **1.2 Simonyan's map** (difficulty 1, 5 minutes, 2 points). Fill in `saliency_map`. *Hints:* `utils.channel_reduce`
# · the order of abs and max.
#
# **1.3 Break it with a softmax** (difficulty 2, 10 minutes, 3 points). Fill in `softmax_gradient`. *Hints:* softmax
# over which dimension? · the target must be found from the logits, once.
#
# **1.4 Measure a slope** (difficulty 2, 15 minutes, 3 points). Fill in `measured_slope`. Then try steps of 0.5 and
# 0.000001: why do both fail? *Hints:* only the direction counts, so divide by its length, image by image · one step
# ahead, one back.
#
# ## Recap
#
# Which pixels is the score sensitive to?
#
# 1. One backward pass says it: $\partial S_c / \partial x$. On a copy, with `torch.autograd.grad`, it leaves no trace.
# 2. Simonyan's map keeps the largest absolute channel. Sign and colour are gone.
# 3. The gradient of the probability is a contrast with the rivals, and fades as the network becomes certain.
# 4. Two forward passes confirm the gradient to a few per cent on a real network.
# 5. The map shows where the score is *sensitive*, at this very picture. It does not say what made the score, and it
#    does not say what would happen without those pixels.
