# %% [markdown]
# # 02 Gradient x input: how much did each pixel bring to the score?
#
# The gradient says how steep the score is at a pixel. It does not say how much the pixel *brought*: a steep slope
# counts for little if the pixel hardly differs from "nothing there". Multiply slope by value, and each pixel gets a
# share of the score. Two questions follow. Do the shares add up? And "nothing there", is that black, white or grey?
#
# **After this lesson you can**
#
# 1. compute gradient x input, and say why it is exact for a linear model;
# 2. say to the last digit what is missing on a real network, and where it went;
# 3. show that the map depends on where the input has its zero, although the network does not;
# 4. say what the picture of the shares hides.
#
# **Level** beginner. **Before it** lesson 01.
# **Papers** Shrikumar et al., *Not Just a Black Box*, 2016, arXiv:1605.01713; Kindermans et al., *The (Un)reliability
# of Saliency Methods*, 2017, arXiv:1711.00867; Srinivas and Fleuret, *Full-Gradient Representation for Neural Network
# Visualization*, 2019, arXiv:1905.00780.

# %%
r"""Gradient x input. Run `python 02_gradient_input_saliency.py`; --help lists the options."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.func import functional_call

from course.checks import Target, check_inputs, expand_baseline, target_indices, target_logits
from course.figures import block_sums, map_grid
from course.lesson import print_table, start
from course.probes import correlation, randomized
from utils import IMAGENET_MEAN, IMAGENET_STD, channel_reduce, import_lesson

vanilla_gradient = import_lesson("01_vanilla_gradient_saliency").vanilla_gradient

# %% [markdown]
# ## A picture of the idea
#
# A picture of five pixels and a score that is a plain sum: each pixel times its slope, plus a constant, the bias. Look
# at pixel 4: it has the steepest slope of all and brings almost nothing, because its value is close to 0. Pixel 3 is
# not steep, but there is much of it. On the right the shares are stacked. Red ones raise the score, blue ones lower it.
# They end at the score because the stack *begins* at the bias, and the bias is no pixel's share.


# %%
def figure_idea() -> Figure:
    """Slopes, values and products of five pixels, and how the products stack up to the score."""
    slopes, values, bias = np.array([2, -1.5, 0.5, 3, 1]), np.array([1, 0.8, 2.4, 0.1, -0.6]), 1.0
    shares = slopes * values
    below = bias + shares.cumsum() - shares                            # where each share begins in the stack
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.2), layout="constrained", width_ratios=[1, 1, 1, 1.5])
    names = [f"{i}" for i in range(1, 6)]
    for axis, title, heights in zip(axes, ("slope", "value", "slope x value"), (slopes, values, shares), strict=False):
        axis.bar(names, heights, color=["tab:red" if height > 0 else "tab:blue" for height in heights])
        axis.axhline(0, color="black", lw=0.8)
        axis.set(title=title, xlabel="pixel", ylim=(-2.2, 3.3))
    axes[3].bar("bias", bias, color="0.6")
    axes[3].bar(names, shares, bottom=below, color=["tab:red" if share > 0 else "tab:blue" for share in shares])
    axes[3].axhline(bias + shares.sum(), color="black", ls="--", label=f"score {bias + shares.sum():.1f}")
    axes[3].set(title="the shares, stacked up to the score", xlabel="pixel", ylim=(0, 4))
    axes[3].legend()
    return figure


if __name__ == "__main__":
    lesson = start("02_gradient_input_saliency", "How much did each pixel bring to the score?",
                   images=["dog.jpg", "bird.jpg", "panda.jpg"])  # fmt: skip
    model, images, targets = lesson.model, lesson.images, lesson.targets
    lesson.show(figure_idea(), "idea")

# %% [markdown]
# ## The formula
#
# For a linear score there is nothing to argue about: pixel $i$ brought its slope times its value. A network with ReLU
# is linear close to each picture, so one treats it the same way, with the slope *at this picture*:
#
# $$A_i = \frac{\partial S_c}{\partial x_i} \, (x_i - x'_i)$$
#
# | symbol | meaning | shape |
# | --- | --- | --- |
# | $x$ | the preprocessed photograph | (3, H, W) |
# | $x'$ | the zero point, or baseline; 0 after normalisation is ImageNet's mean colour | (3, H, W) |
# | $A$ | the attribution, signed: each pixel's share | (3, H, W) |
#
# ## The method


# %%
def gradient_times_input(
    model: nn.Module, images: Tensor, target: Target = None, *, baseline: Tensor | None = None
) -> Tensor:
    """Gradient x (input - baseline): each pixel's share of the score, if the model were linear.

    Args:
        model, images, target: as in vanilla_gradient.
        baseline: the zero point, any tensor that broadcasts to the images; None is 0, the mean colour.

    Returns:
        (B, 3, H, W), signed, detached, in logit units. Sums to S_c(images) - S_c(baseline) if the model is linear.

    Raises:
        ValueError: as vanilla_gradient, or a baseline that does not broadcast to the images.

    Paper: Shrikumar et al. 2016, arXiv:1605.01713.
    """
    check_inputs(model, images)
    zero = torch.zeros_like(images) if baseline is None else expand_baseline(baseline, images)
    # BEGIN SOLUTION 2.1
    gradient = vanilla_gradient(model, images, target)                 # dS_c / dx
    return gradient * (images.detach() - zero)                         # (B, 3, H, W)
    # END SOLUTION


# %% [markdown]
# The shares of neighbouring pixels have different signs, and drawn one by one they are purple dust. So we add them up
# in blocks of 8 x 8 pixels. A sum of shares is a share again: that of the block.

# %%
if __name__ == "__main__":
    shares = gradient_times_input(model, images, targets)
    pixels = channel_reduce(shares, "sum")                             # (B, H, W): a share each, all colours together
    blocks = block_sums(pixels)
    columns = {"pixel by pixel": pixels, "blocks of 8 x 8": blocks, "over the photograph": blocks}
    heading = "Gradient x input: red raises the score, blue lowers it"
    shown = map_grid(images, columns, overlay=["over the photograph"], titles=lesson.titles, heading=heading)
    lesson.show(shown, "shares")

# %% [markdown]
# ## A check you can break: do the shares add up?
#
# What gradient x input leaves over is easily computed: the score minus the sum of all shares.


# %%
def unexplained_score(model: nn.Module, images: Tensor, target: Target = None) -> Tensor:
    """The part of each logit that is no pixel's share.

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
# Where did it go? Make the picture twice as strong, and every bias $b$ of the network twice as large. Convolutions,
# ReLU and max-pooling pass the factor on, and the score doubles exactly. Such a function is the sum of its inputs times
# its slopes (Euler), and here the biases are inputs like the pixels:
#
# $$S_c(x) = \sum_i x_i \, \frac{\partial S_c}{\partial x_i} + \sum_j b_j \, \frac{\partial S_c}{\partial b_j}$$
#
# Srinivas and Fleuret call the two parts together the *full gradient*. So what is left over can be computed a second
# way, from the biases alone, and both must agree. In a network whose batch norm is folded into its convolutions, as
# `load_model` does, no other constants are hidden.


# %%
@torch.inference_mode(False)
@torch.enable_grad()
def bias_share(model: nn.Module, images: Tensor, target: Target = None) -> Tensor:
    """What all biases of the network brought to each logit: the sum of b dS_c / db.

    Args:
        model, images, target: as in gradient_times_input. Batch norm must be folded.

    Returns:
        (B,), in logit units, detached; 0 for a network without biases.

    Paper: Srinivas and Fleuret 2019, arXiv:1905.00780.
    """
    check_inputs(model, images)
    with torch.no_grad():
        labels = target_indices(target, model(images))
    parameters = {name: value for name, value in model.named_parameters() if name.endswith("bias")}
    biases = {name: b.detach().clone().requires_grad_() for name, b in parameters.items()}   # your own stay frozen
    brought = torch.zeros_like(images[:, 0, 0, 0])                     # (B,)
    for i, image in enumerate(images.detach().clone() if biases else []):
        # BEGIN SOLUTION 2.4
        logits = functional_call(model, biases, image[None])           # the model with these biases, for once
        score = target_logits(logits, labels[i : i + 1]).sum()
        slopes = torch.autograd.grad(score, [*biases.values()], materialize_grads=True)      # dS_c / db
        brought[i] = sum((b * slope).sum() for b, slope in zip(biases.values(), slopes, strict=True)).detach()
        # END SOLUTION
    return brought


# %% [markdown]
# Three networks answer: two trained ones, and the first one's layers with random weights and biases of 0. For all of
# them the class is the first network's.

# %%
def likeness(first: Tensor, second: Tensor) -> str:
    """The correlation of two maps as text; "empty" if one of them does not vary."""
    r = correlation(first, second)
    return "empty" if math.isnan(r) else f"{r:.2f}"


if __name__ == "__main__":
    networks = {lesson.model_name: model, lesson.other_name: lesson.other_model}
    networks["random weights"] = randomized(model, seed=lesson.seed)
    rows, maps, unsigned, notes = [], {}, {}, {}
    for name, network in networks.items():
        shares = gradient_times_input(network, images, targets)
        pixels, strength = channel_reduce(shares, "sum"), channel_reduce(shares, "sum_abs")
        left, brought = unexplained_score(network, images, targets), bias_share(network, images, targets)
        lesson.check(torch.allclose(left, brought, rtol=1e-3, atol=1e-2), "the biases do not bring what is left over")
        maps[name], unsigned[name], sums = block_sums(pixels), block_sums(strength), pixels.sum((1, 2))
        numbers = torch.stack([left + sums, strength.sum((1, 2)), sums, left, brought], dim=1).tolist()
        rows += [[name, image, *(f"{x:.1f}" for x in row[:3]), *(f"{round(x, 3) + 0:.3f}" for x in row[3:]),
                  likeness(map, photo)]
                 for image, row, map, photo in zip(lesson.names, numbers, strength, images.abs().sum(1), strict=True)]
        alike = [[likeness(*pair) for pair in zip(of[lesson.model_name], of[name], strict=True)]
                 for of in (maps, unsigned)]  # fmt: skip
        notes[name] = [f"sum {row[2]:.1f}, r = {r} (unsigned {u})" for row, r, u in zip(numbers, *alike, strict=True)]
    header = ["network", "image", "logit", "sum of\n|shares|", "sum of\nshares", "left over", "from\nbiases"]
    print_table([*header, "r of |shares|\nwith |input|"], rows)

# %% [markdown]
# "Left over" and "from biases" agree up to rounding, in every network. Without biases nothing is left over. The
# trained networks differ: SqueezeNet's pixels bring most of the logit, those of ResNet-50 bring almost nothing or less
# than nothing. Do its biases bring more than the whole logit? For the dog and the macaw they do, for the panda not
# quite (`--image data/` makes the table for all 19 photographs: they do for 9). ResNet-50 was trained with batch norm,
# which subtracts a mean behind every convolution, and folding writes these means into the biases. SqueezeNet has none.

# %%
if __name__ == "__main__":
    titles = [title.rsplit(" ", 1)[0] for title in lesson.titles]      # probabilities differ between networks
    heading = "Shares of the same class in blocks of 8 x 8, and their correlation with the first network's"
    lesson.show(map_grid(images, maps, titles=titles, notes=notes, heading=heading), "networks")

# %% [markdown]
# Two networks that name the same animal share out its score in unrelated ways: r is as close to 0 as for the network
# that knows nothing. Without the signs ("unsigned", the blocks of |shares|) they agree with 0.5 to 0.6. But with the
# random network the first one agrees nearly as well, 0.4 to 0.7: what they have in common is the photograph.
#
# ## Move the zero
#
# Take any network $f$ and an encoding of pictures that is shifted by a constant $s$. The network $g(x) = f(x - s)$
# gives the shifted picture exactly the answer that $f$ gives the original: the same function, pixel values merely
# counted from another zero. Kindermans et al. ask of a method that its map stays the same too (*input invariance*).


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


# %% [markdown]
# **Predict first.** Four things are computed twice, for a picture and for its shifted version. Which stay the same?


# %%
def survives_the_shift() -> dict[str, bool]:
    """Your prediction: True for what is the same for (f, x) and for (g, x + s), False for what changes.

    "black" is the black of each encoding: shifted like the picture.
    """
    # BEGIN SOLUTION 2.5
    return {
        "logit": True,
        "gradient": True,
        "gradient x input": False,
        "gradient x (input - black)": True,
        "left over": False,
    }
    # END SOLUTION


def zero_points(images: Tensor) -> dict[str, Tensor]:
    """Three colours that an encoding might call zero, each (3, 1, 1) in normalised units."""
    mean, std = (torch.tensor(values).to(images)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return {"mean colour": torch.zeros_like(mean), "black": (0 - mean) / std, "white": (1 - mean) / std}


if __name__ == "__main__":
    zeros, shift = zero_points(images), torch.full((3, 1, 1), 2.0).to(images)
    encodings = {"as encoded": (model, 0 * shift), "shifted": (ShiftedInput(model, shift), shift)}
    found = {name: {} for name in ("logit", "gradient", "gradient x input", "gradient x (input - black)", "left over")}
    for kind, (network, by) in encodings.items():
        picture, label = images[:1] + by, targets[:1]
        with torch.no_grad():
            found["logit"][kind] = target_logits(network(picture), label)
        found["gradient"][kind] = vanilla_gradient(network, picture, label)
        found["gradient x input"][kind] = gradient_times_input(network, picture, label)
        found["gradient x (input - black)"][kind] = gradient_times_input(
            network, picture, label, baseline=zeros["black"] + by
        )
        found["left over"][kind] = unexplained_score(network, picture, label)
    said = survives_the_shift()
    change = {name: (x["shifted"] - x["as encoded"]).norm() / x["as encoded"].norm() for name, x in found.items()}
    header = [f"{lesson.names[0]}, shifted by 2", "relative change", "you said it stays"]
    print_table(header, [[name, value.item(), said[name]] for name, value in change.items()])
    columns = {f"{name}\n{kind}": block_sums(channel_reduce(found[name][kind], "sum"))
               for name in ("gradient", "gradient x input") for kind in encodings}  # fmt: skip
    shown = map_grid(images[:1], columns, titles=lesson.titles, heading="One function, two encodings: blocks of 8 x 8")
    lesson.show(shown, "shift")

# %% [markdown]
# The gradient survives, to rounding. Gradient x input changes completely, because the shift multiplies every slope by
# another value. Whoever writes down the zero as a colour, and moves it along with the encoding, is safe. So the zero
# is a choice of yours, and it decides which pixels *can* get a share at all:


# %%
def dark_share(attribution: Tensor, images: Tensor, quantile: float = 0.2) -> Tensor:
    """Share of |attribution| on the darkest fifth of each image's pixels, (B,); 0.2 if it were spread evenly."""
    brightness = images.sum(dim=1).flatten(1)                          # (B, HW)
    strength = channel_reduce(attribution, "sum_abs").flatten(1)
    dark = brightness <= brightness.quantile(quantile, dim=1, keepdim=True)
    return (strength * dark).sum(dim=1) / strength.sum(dim=1).clamp(min=1e-12)


if __name__ == "__main__":
    columns, notes = {}, {}
    for name, zero in zeros.items():
        product = gradient_times_input(model, images, targets, baseline=zero)
        columns[f"zero = {name}"] = channel_reduce(product, "sum_abs")
        notes[f"zero = {name}"] = [f"{x:.0%} on the darkest fifth" for x in dark_share(product, images).tolist()]
    heading = "|gradient x (input - zero)|: pixels of the zero's own colour get nothing"
    shown = map_grid(images, columns, scale="row", titles=lesson.titles, notes=notes, heading=heading)
    lesson.show(shown, "zero_point")
    of_gradient = ", ".join(f"{x:.0%}" for x in dark_share(vanilla_gradient(model, images, targets), images).tolist())
    print(f"on the darkest fifth of the pixels: {of_gradient} of |gradient|; 20% of an even map")

# %% [markdown]
# ## What the picture does not show
#
# - **Not the whole score.** The map of ResNet-50 shares out a sum near 0, while the logit is between 16 and 19. Nothing
#   in the picture says so. Lesson 04 gets the shares to add up.
# - **Not how much cancels.** The dog's shares add up to 1100 logits without their signs, and to -1.7 with them. A block
#   that looks empty may hold large shares of both signs.
# - **Not pixels of the zero's colour.** The darkest fifth of the pixels holds 60 % of the dog's map with the mean
#   colour as zero, and 12 % with black. Its back is most of the map or nothing, by *your* choice of the zero.
# - **Not the network, where you see the animal.** The map is the gradient times the photograph, so the photograph
#   shines through. The last column of the long table measures it. A network with random weights shows *more* of the
#   photograph than the trained one with the same layers, and the clearest dog of the figure "networks" is its.
#
# ## Exercises
#
# ### Predict first
#
# **2.7 No biases** (difficulty 1, 3 minutes, 1 point). A ReLU network has no bias in any layer. Its logit for a
# picture is 12.5. What do the shares of gradient x input (zero: $x' = 0$) add up to? Answer: a number.
#
# **2.8 Who brought the rest?** (difficulty 1, 3 minutes, 1 point). The dog's shares add up to -1.7. Its logit is 17.0.
# How many logits do the biases bring? Answer: a number.
#
# **2.9 A pixel of the zero's colour** (difficulty 1, 3 minutes, 1 point). A pixel has exactly the colour that you
# chose as the zero. The slope of the score is very large there. What does gradient x input say?
#
# - **a** 0, whatever the slope: a pixel of this colour can never look important.
# - **b** The slope itself, because the pixel's value counts as 1.
# - **c** A large share, because the slope is large.
# - **d** Nothing is defined there; the method must leave the pixel out.

# %%
# BEGIN SOLUTION 2.7
ANSWER_2_7 = 12.5
# END SOLUTION
# BEGIN SOLUTION 2.8
ANSWER_2_8 = 18.7
# END SOLUTION
# BEGIN SOLUTION 2.9
ANSWER_2_9 = "a"
# END SOLUTION

# %% [markdown]
# ### Then write
#
# **2.1 The product** (difficulty 1, 5 minutes, 2 points). Fill in `gradient_times_input`.
# *Hints:* subtract before you multiply · keep the sign · leave the channels alone.
#
# **2.2 What is left over?** (difficulty 2, 10 minutes, 3 points). Fill in `unexplained_score`. *Hints:* the logit of
# which class? · which dimensions are summed?
#
# **2.3 Move the zero** (difficulty 2, 10 minutes, 3 points). Fill in `ShiftedInput.forward` so that the shifted picture
# gets the original's logits. *Hints:* one line · which sign?
#
# **2.4 What the biases brought** (difficulty 3, 20 minutes, 3 points). Fill in the loop of `bias_share`. Then break the
# identity: put a sigmoid behind a layer. Which step of the argument fails? *Hints:* all pictures share one bias, so a
# sum over the batch would mix them · `functional_call` runs the model with other parameters · `torch.autograd.grad`
# takes a list · each bias times its own slope.
#
# **2.5 What survives?** (difficulty 2, 10 minutes, 1 point). Fill in `survives_the_shift` *before* you run the cell
# below it. All five must be right. *Hints:* $g$ gives the same logits · what is multiplied by the slope? · if the
# shares change and the logit does not, what about the rest?
#
# **2.6 Black dogs** (difficulty 3, 20 minutes, no code to submit). In the last figure the macaw's background is the
# most important part with black as the zero, and worth nothing with white. Find another picture in which two zeros
# tell opposite stories, and say which you would show to the owner of the network.
#
# ## Recap
#
# How much did each pixel bring to the score?
#
# 1. Slope times value, counted from a zero. For a linear model this is exact.
# 2. The shares of a ReLU network miss the score by exactly what its biases bring. On ResNet-50 that is nearly all.
# 3. The same function with another zero of the input has the same gradient and another gradient x input. The zero is
#    a choice of yours: state it as a colour, and move it along with the encoding.
# 4. The picture hides the biases and what cancels. It shows the photograph, even if the network knows nothing.
