# %% [markdown]
# # 02 Gradient x input: from sensitivity to contribution
#
# The gradient says how steep the score is at a pixel. It does not say how much the pixel *brought*: a steep
# slope counts for little if the pixel hardly differs from "nothing there". Multiply slope by value, and each pixel
# gets a share of the score. The question hides in the word "nothing": zero of what?
#
# **After this lesson you can**
#
# 1. compute gradient x input and say why it is exact for a linear model;
# 2. say when the shares add up to the score, and what is missing on a real network;
# 3. show that the map depends on where the input has its zero, although the network does not.
#
# **Level** beginner. **Before it** lesson 01.
# **Papers** Shrikumar et al., *Not Just a Black Box*, 2016, arXiv:1605.01713; Kindermans et al., *The (Un)reliability
# of Saliency Methods*, 2017, arXiv:1711.00867.

# %%
r"""Gradient x input: how much did each pixel bring to the score?

Run `python 02_gradient_input_saliency.py` (seconds on a CPU). Writes compare.png, zero_point.png and shift.png
to outputs/02_gradient_input_saliency/.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from course.checks import Target, check_inputs, expand_baseline, target_logits
from course.figures import color_scale, show_map, show_photo
from utils import IMAGENET_MEAN, IMAGENET_STD, channel_reduce, describe_targets, displayable, import_lesson

vanilla_gradient = import_lesson("01_vanilla_gradient_saliency").vanilla_gradient

# %% [markdown]
# ## The idea
#
# For a linear model $S(x) = w \cdot x + b$ there is nothing to argue about: pixel $i$ brought $w_i x_i$, and all
# shares together give $S(x) - b$. A ReLU network is linear around each image, so one treats it the same way.
#
# ## The formula
#
# $$A_i = \frac{\partial S_c}{\partial x_i} \, (x_i - x'_i)$$
#
# | symbol | meaning | shape |
# | --- | --- | --- |
# | $x$ | the preprocessed photograph | (3, H, W) |
# | $x'$ | the zero point, or baseline; 0 after normalisation is ImageNet's mean colour | (3, H, W) |
# | $A$ | the attribution, signed | (3, H, W) |
#
# ## Step 1: the product


# %%
def gradient_times_input(
    model: nn.Module,
    images: Tensor,
    target: Target = None,
    *,
    baseline: Tensor | None = None,
) -> Tensor:
    """Gradient x (input - baseline): each pixel's share of the score, if the model were linear.

    Args:
        model: classifier in eval mode, (B, 3, H, W) -> logits (B, K).
        images: normalised images, (B, 3, H, W), float. Left as they are.
        target: None (each image's top class), one class index for all, or one per image.
        baseline: the zero point, any tensor that broadcasts to the images; None is 0, the mean colour.

    Returns:
        (B, 3, H, W), signed, detached, in logit units. Sums to S_c(images) - S_c(baseline) if the model is linear.

    Raises:
        ValueError: as vanilla_gradient, or a baseline that does not broadcast to the images.

    Paper: Shrikumar et al. 2016, arXiv:1605.01713, section 2.
    """
    check_inputs(model, images)
    zero = torch.zeros_like(images) if baseline is None else expand_baseline(baseline, images)
    # BEGIN SOLUTION 2.1
    gradient = vanilla_gradient(model, images, target)                 # dS_c / dx
    return gradient * (images.detach() - zero)                         # (B, 3, H, W)
    # END SOLUTION


# %% [markdown]
# ## Step 2: do the shares add up?
#
# A network of convolutions, ReLU and max-pooling *without biases* is homogeneous: $S(\lambda x) = \lambda S(x)$ for
# $\lambda > 0$. Differentiate by $\lambda$ at 1 (Euler): $\sum_i x_i \, \partial S / \partial x_i = S(x)$. Real
# networks have biases, in batch norm at the latest, and what they bring is nobody's share.


# %%
def unexplained_score(model: nn.Module, images: Tensor, target: Target = None) -> Tensor:
    """The part of each logit that gradient x input leaves to the biases.

    Args:
        model, images, target: as in gradient_times_input.

    Returns:
        (B,), in logit units: S_c(x) minus the sum of the attribution; 0 for a ReLU network without biases.
    """
    # BEGIN SOLUTION 2.2
    attribution = gradient_times_input(model, images, target)
    with torch.no_grad():
        score = target_logits(model(images), target)                   # (B,)
    return score - attribution.sum(dim=(1, 2, 3))
    # END SOLUTION


# %% [markdown]
# A sanity check you can break: give the linear model a bias, or a ReLU network two layers with biases.


# %%
def check_linear() -> None:
    """On S(x) = w . x the attribution is w_i x_i and nothing is left over."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2, bias=False)).eval()
    x = torch.arange(12.0).reshape(1, 3, 2, 2)
    shares = gradient_times_input(model, x, 1)
    assert torch.allclose(shares.flatten(), model[1].weight[1] * x.flatten())
    assert unexplained_score(model, x, 1).abs() < 1e-4


# %% [markdown]
# ## Step 3: move the zero
#
# Take any network $f$ and an encoding of pictures that is shifted by a constant $s$. The network
# $g(x) = f(x - s)$ gives the shifted picture exactly the answer that $f$ gives the original: the same function, pixel
# values merely counted from another zero, with $s$ absorbed by the first layer's bias. Its gradient is the same too.
# Gradient x input is not (Kindermans et al. call this a failure of *input invariance*).


# %%
class ShiftedInput(nn.Module):
    """g(x) = f(x - shift): the same network for pictures encoded with another zero.

    Args:
        model: f, (B, 3, H, W) -> logits.
        shift: tensor that broadcasts to the images, such as (3, 1, 1).
    """

    def __init__(self, model: nn.Module, shift: Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("shift", shift)
        self.train(model.training)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of f for the pictures in f's own encoding."""
        # BEGIN SOLUTION 2.3
        return self.model(images - self.shift)
        # END SOLUTION


def zero_points(images: Tensor) -> dict[str, Tensor]:
    """Three colours that an encoding might call zero, each (3, 1, 1) in normalised units."""
    mean, std = (torch.tensor(values).to(images)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return {"mean colour": torch.zeros_like(mean), "black": (0 - mean) / std, "white": (1 - mean) / std}


def dark_share(attribution: Tensor, images: Tensor, quantile: float = 0.2) -> Tensor:
    """Share of |attribution| on the darkest fifth of each image's pixels, (B,); 0.2 if it were spread evenly."""
    brightness = images.sum(dim=1).flatten(1)                          # (B, HW)
    strength = channel_reduce(attribution, "sum_abs").flatten(1)
    dark = brightness <= brightness.quantile(quantile, dim=1, keepdim=True)
    return (strength * dark).sum(dim=1) / strength.sum(dim=1).clamp(min=1e-12)


# %% [markdown]
# ## The pictures


# %%
def figure_compare(model: nn.Module, images: Tensor, target: int | None = None) -> Figure:
    """Photo, vanilla gradient, gradient x input and overlay; both maps summed over channels, one row an image."""
    gradients = channel_reduce(vanilla_gradient(model, images, target), "sum")
    products = channel_reduce(gradient_times_input(model, images, target), "sum")
    titles = describe_targets(model, images, target)
    figure, axes = plt.subplots(len(images), 4, figsize=(13, 3.3 * len(images)), squeeze=False, layout="constrained")
    for row, photo, title, gradient, product in zip(
        axes, displayable(images), titles, gradients, products, strict=True
    ):
        show_photo(row[0], photo, title)
        show_map(row[1], gradient, title="gradient (sum over RGB)")
        show_map(row[2], product, title="gradient x input (sum over RGB)")
        show_map(row[3], product, title="overlay", photo=photo)
    figure.suptitle("Sensitivity and contribution: red raises the score, blue lowers it")
    return figure


def figure_zero_point(model: nn.Module, image: Tensor, target: int | None = None) -> Figure:
    """Gradient x (input - zero) of one image for three zeros, on one scale."""
    maps = {
        name: channel_reduce(gradient_times_input(model, image, target, baseline=zero), "sum_abs")[0]
        for name, zero in zero_points(image).items()
    }
    scale = color_scale(*maps.values())
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.6), layout="constrained")
    show_photo(axes[0], displayable(image)[0], describe_targets(model, image, target)[0])
    for axis, (name, map) in zip(axes[1:], maps.items(), strict=True):
        show_map(axis, map, scale, f"zero = {name}")
    figure.suptitle("|gradient x (input - zero)|: pixels of the zero's own colour get nothing")
    return figure


def figure_shift(model: nn.Module, image: Tensor, target: int | None = None, shift: float = 2.0) -> Figure:
    """The same picture in two encodings, for the same network: the gradients agree, the products do not."""
    offset = torch.full((3, 1, 1), shift).to(image)
    versions = {"as encoded": (model, image), f"shifted by {shift:g}": (ShiftedInput(model, offset), image + offset)}
    maps = {}
    for name, (network, picture) in versions.items():
        maps[f"gradient, {name}"] = channel_reduce(vanilla_gradient(network, picture, target), "sum")[0]
        maps[f"gradient x input, {name}"] = channel_reduce(gradient_times_input(network, picture, target), "sum")[0]
    figure, axes = plt.subplots(1, 4, figsize=(14, 3.6), layout="constrained")
    for axis, name in zip(axes, sorted(maps), strict=True):
        show_map(axis, maps[name], title=name)
    figure.suptitle(f"{describe_targets(model, image, target)[0]}: one function, two encodings")
    return figure


# %%


# %% [markdown]
# ## What the picture does not show
#
# - **Not the whole score.** The table's "left to biases" is often larger than the logit itself: the shares of a real
#   network do not add up, and nothing in the picture says so. Lesson 04 repairs this.
# - **Not pixels of the zero's colour.** With black as zero, the dog's black back is worth nothing by construction.
#   The column "dark fifth" gives the share of the map on the darkest fifth of the pixels for three zeros.
# - **Not less noise.** The gradient's noise is only multiplied by the picture. That the picture shines through looks
#   convincing, and proves nothing about the network.

# %% [markdown]
# ## Exercises
#
# **2.1 The product** (difficulty 1, 5 minutes, 2 points). Fill in `gradient_times_input`.
# *Hints:* subtract before you multiply · keep the sign · leave the channels alone.
#
# **2.2 What is left over?** (difficulty 2, 10 minutes, 3 points). Fill in `unexplained_score`. *First predict* its
# value for a ReLU network without biases. *Hints:* the logit of which class? · which dimensions are summed?
#
# **2.3 Move the zero** (difficulty 2, 10 minutes, 3 points). Fill in `ShiftedInput.forward` so that the shifted picture
# gets the original's logits. Which methods of this course would survive the shift?
# *Hints:* one line · which sign?
#
# **2.4 Black dogs** (difficulty 3, 20 minutes, no code to submit). Find a picture in which a baseline of black and one
# of white tell opposite stories, and say which you would show to the owner of the network.


# %%


# %% [markdown]
# ## Recap
#
# 1. Gradient x input gives each pixel slope times value, which is exact for a linear model.
# 2. The shares of a ReLU network add up to the score only without biases; the table shows how far ResNet-50 is off.
# 3. The same function with another zero of the input has the same gradient and another gradient x input: the zero
#    is a choice of yours, so state it.

