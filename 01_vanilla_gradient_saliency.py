# %% [markdown]
# # 01 Vanilla gradient: which pixels is a class score sensitive to?
#
# A network looks at a photograph and answers "German shepherd, 98 %". The oldest question one can put to
# it costs a single backward pass: *if I changed this pixel a little, how much would the score change?*
#
# **After this lesson you can**
#
# 1. compute the gradient of a class score with respect to the pixels, for a batch, without leaving traces;
# 2. turn the signed (3, H, W) gradient into Simonyan's map and say what the reduction throws away;
# 3. explain why the score is the logit and not the softmax probability;
# 4. check a gradient with finite differences;
# 5. say what the picture does not show.
#
# **Level** beginner. **Before it** the chain rule and basic PyTorch.
# **Paper** Simonyan, Vedaldi, Zisserman, *Deep Inside Convolutional Networks*, 2013, arXiv:1312.6034, section 3.

# %%
r"""Vanilla gradient saliency: which pixels is a class score sensitive to?

Run `python 01_vanilla_gradient_saliency.py` (seconds on a CPU). Writes maps.png, saturation.png,
max_or_sum.png and gradient_flow.png to outputs/01_vanilla_gradient_saliency/.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from utils import (
    channel_reduce,
    check_inputs,
    color_scale,
    correlation,
    describe_targets,
    displayable,
    lesson_images,
    lesson_model,
    lesson_parser,
    lesson_target,
    print_table,
    recorded_output,
    run_lesson,
    save_figures,
    show_map,
    show_photo,
    target_indices,
    target_logits,
)

# %% [markdown]
# ## The idea
#
# A network is a function from pixels to one score per class. Near one photograph that function is almost
# a plane, and the plane's slope says, pixel by pixel, how fast the score rises or falls. A large slope means
# "sensitive here". Whether the pixel *contributed* to the score is another question, which lesson 02 asks.
#
# ## The formula
#
# $$S_c(x') \approx S_c(x) + w \cdot (x' - x), \qquad w = \left.\frac{\partial S_c}{\partial x}\right|_{x}
# \quad\text{(Simonyan et al., eq. 3-4)}, \qquad M_{ij} = \max_k |w_{kij}|$$
#
# | symbol | meaning | shape |
# | --- | --- | --- |
# | $x$ | the preprocessed photograph | (3, H, W) |
# | $S_c$ | the logit of class $c$, before the softmax | a number |
# | $w$ | the signed gradient | (3, H, W) |
# | $M$ | the saliency map: the largest of the three channels | (H, W) |

# %% [markdown]
# ## Step 1: the signed gradient
#
# Four decisions are hidden in these few lines. `torch.autograd.grad` returns the gradient and writes nothing into any
# `.grad`, which `.backward()` would. The scores of a batch are summed first: no image influences another's score, so
# the gradient of the sum holds each image's own gradient. The input is a copy, so the caller's tensor does not start
# to require grad. And the two decorators make it work inside the caller's `torch.no_grad()` or
# `torch.inference_mode()`.


# %%
@torch.inference_mode(False)
@torch.enable_grad()
def vanilla_gradient(model: nn.Module, images: Tensor, target: int | Sequence[int] | Tensor | None = None) -> Tensor:
    """The slope of a class score at each pixel.

    Args:
        model: classifier in eval mode, (B, 3, H, W) -> logits (B, K).
        images: normalised images, (B, 3, H, W), float. Left as they are.
        target: None (each image's top class), one class index for all, or one an image.

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


# %% [markdown]
# ## Step 2: Simonyan's map
#
# A colour picture has three gradients at each place. The paper keeps the largest absolute value. The sum of the
# absolute values is just as common. Both lose the sign: a pixel that speaks against the class looks like one
# that speaks for it.


# %%
def saliency_map(
    model: nn.Module, images: Tensor, target: int | Sequence[int] | Tensor | None = None, *, reduce: str = "max"
) -> Tensor:
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


# %% [markdown]
# ## Step 3: a sanity check you can break
#
# A derivative predicts a small change. Walk a little along the gradient and back, and compare the measured slope
# with the predicted one. Replace `vanilla_gradient` by anything else and the check fails.


# %%
def check_slope(model: nn.Module, images: Tensor, target: Tensor, step: float = 0.005) -> tuple[Tensor, Tensor]:
    """Predicted and measured slope along the gradient's own direction, both (B,), in logits per unit length."""
    w = vanilla_gradient(model, images, target)
    length = w.flatten(1).norm(dim=1)                                  # the slope along w / |w| is |w|
    direction = w / length.clamp(min=1e-12)[:, None, None, None]
    with torch.no_grad():
        ahead = target_logits(model(images + step * direction), target)
        behind = target_logits(model(images - step * direction), target)
    measured = (ahead - behind) / (2 * step)
    assert torch.allclose(measured, length, rtol=0.1), "the gradient does not predict the change of the score"
    return length, measured


# %% [markdown]
# ## Step 4: logit or softmax?
#
# The probability $p_c$ also grows when another class loses:
#
# $$\frac{\partial p_c}{\partial x} = p_c \left( \frac{\partial S_c}{\partial x}
# - \sum_k p_k \frac{\partial S_k}{\partial x} \right)$$
#
# When the network is certain, $p_c \to 1$, the bracket goes to zero, and the map fades for exactly those images
# that the network knows best. That is why every method of this course explains the logit.


# %%
@torch.inference_mode(False)
@torch.enable_grad()
def softmax_gradient(model: nn.Module, images: Tensor, target: int | Sequence[int] | Tensor | None = None) -> Tensor:
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


# %% [markdown]
# ## Step 5: how the gradient flows
#
# On its way from the logit to the pixels the gradient passes every layer. Recording what each stage returns lets
# us differentiate with respect to it, and see whether the signal grows, shrinks or dies on the way.


# %%
@torch.enable_grad()
def gradient_flow(model: nn.Module, image: Tensor, target: int | None = None) -> dict[str, float]:
    """Root mean square of dS_c / d(output) at every top-level stage of the network that has a spatial output.

    Args:
        model: classifier in eval mode.
        image: one image, (1, 3, H, W).
        target: class index; None is the top class.

    Returns:
        Stage name -> RMS gradient, from the pixels to the last stage.
    """
    check_inputs(model, image)
    stages = getattr(model, "features", model).named_children()  # the stages of torchvision's networks
    x = image.detach().clone().requires_grad_()
    with ExitStack() as hooks:
        records = {
            name: hooks.enter_context(recorded_output(stage))
            for name, stage in stages
            if not isinstance(stage, nn.Identity)  # a folded batch norm
        }
        score = target_logits(model(x), target)
    outputs = {name: record[0] for name, record in records.items() if len(record) == 1 and record[0].ndim == 4}
    # BEGIN SOLUTION 1.4
    gradients = torch.autograd.grad(score.sum(), [x, *outputs.values()])
    sizes = [gradient.square().mean().sqrt().item() for gradient in gradients]
    # END SOLUTION
    return dict(zip(["pixels", *outputs], sizes, strict=True))


# %% [markdown]
# ## The pictures
#
# Signed data gets a diverging colour map centred on 0; non-negative data a sequential one. The colour scale of
# every panel ends at the 99.5th percentile of the absolute values, or a handful of pixels would leave the rest
# black.


# %%
def figure_maps(model: nn.Module, images: Tensor, target: int | None = None) -> Figure:
    """Photo, signed gradient (summed over channels), Simonyan's map and overlay; one row an image."""
    titles = describe_targets(model, images, target)
    signed = channel_reduce(vanilla_gradient(model, images, target), "sum")
    maps = saliency_map(model, images, target)
    figure, axes = plt.subplots(len(images), 4, figsize=(13, 3.3 * len(images)), squeeze=False, layout="constrained")
    for row, photo, title, gradient, map in zip(axes, displayable(images), titles, signed, maps, strict=True):
        show_photo(row[0], photo, title)
        show_map(row[1], gradient, title="signed gradient (sum over RGB)")
        show_map(row[2], map, title="max over RGB of |gradient|")
        show_map(row[3], map, title="overlay", photo=photo)
    figure.suptitle("Vanilla gradient of the top class's logit" if target is None else "Vanilla gradient of one logit")
    return figure


def figure_saturation(model: nn.Module, images: Tensor, target: int | None = None) -> Figure:
    """Gradient of the logit, and of the softmax probability on the same and on its own scale; one row an image."""
    titles = describe_targets(model, images, target)
    logit_maps = saliency_map(model, images, target)
    softmax_maps = channel_reduce(softmax_gradient(model, images, target))
    figure, axes = plt.subplots(len(images), 4, figsize=(13, 3.3 * len(images)), squeeze=False, layout="constrained")
    for row, photo, title, logit, softmax in zip(
        axes, displayable(images), titles, logit_maps, softmax_maps, strict=True
    ):
        show_photo(row[0], photo, title)
        show_map(row[1], logit, title=f"of the logit, largest {logit.max():.2g}")
        show_map(row[2], softmax, color_scale(logit), "of the softmax, on the logit's scale")
        show_map(row[3], softmax, title=f"of the softmax, largest {softmax.max():.2g}")
    figure.suptitle("|gradient| of the logit and of the softmax probability (max over RGB)")
    return figure


def figure_max_or_sum(model: nn.Module, image: Tensor, target: int | None = None) -> Figure:
    """The two reductions over channels of one image, and their pixels against each other."""
    largest = saliency_map(model, image, target)[0]
    total = saliency_map(model, image, target, reduce="sum")[0]
    figure, axes = plt.subplots(1, 3, figsize=(11.5, 3.6), layout="constrained")
    show_map(axes[0], largest, title="max over RGB")
    show_map(axes[1], total, title="sum over RGB")
    axes[2].scatter(largest.flatten().cpu(), total.flatten().cpu(), s=1, alpha=0.2)
    axes[2].axline((0, 0), slope=1, color="grey", lw=1, label="sum = max: one channel has it all")
    axes[2].axline((0, 0), slope=3, color="black", lw=1, label="sum = 3 max: all three are equal")
    axes[2].set(xlabel="max", ylabel="sum", title=f"correlation {correlation(largest, total):.3f}")
    axes[2].legend(fontsize=8)
    figure.suptitle(f"{describe_targets(model, image, target)[0]}: does the reduction matter?")
    return figure


def figure_gradient_flow(flow: dict[str, float], title: str) -> Figure:
    """RMS gradient at each stage as a bar plot on a logarithmic axis, pixels first."""
    figure, axis = plt.subplots(figsize=(8, 3.4), layout="constrained")
    axis.bar(list(flow), list(flow.values()))
    axis.set(yscale="log", ylabel="RMS of dS/d(output)", xlabel="stage, from the input to the last one")
    axis.set_title(f"{title}: the gradient on its way back to the pixels", fontsize=10)
    return figure


# %%
def options():
    """The command line of this lesson."""
    summary = "Vanilla gradient saliency: which pixels is a class score sensitive to?"
    return lesson_parser("01_vanilla_gradient_saliency", summary, ["dog.jpg", "cat.jpg", "bird.jpg"])


# %% tags=["active-ipynb"]
# args = options().parse_args([])
# model = lesson_model(args)
# names, images = lesson_images(args)
# figure = figure_maps(model, images)

# %% tags=["active-ipynb"]
# figure = figure_saturation(model, images)

# %% tags=["active-ipynb"]
# figure = figure_max_or_sum(model, images[:1])

# %% tags=["active-ipynb"]
# figure = figure_gradient_flow(gradient_flow(model, images[:1]), names[0])

# %% [markdown]
# ## What the picture does not show
#
# - **Not contribution.** For $f(x) = 1 - \mathrm{ReLU}(1 - x)$ the gradient at $x = 2$ is 0, although moving $x$
#   from 0 to 2 raised $f$ from 0 to 1. A feature that has had its full effect is invisible (lesson 04).
# - **Not a smooth quantity.** The table's last column adds noise of 2 % of the value range, which a person hardly
#   sees, and correlates the new gradient with the old one. Most of the map is a property of this exact pixel pattern,
#   not of the animal (lesson 03).
# - **Not only the object.** The cat's map is strong on plain fur in a corner. The network *is* sensitive there.
# - **Not direction.** The absolute value hides whether brighter would mean more or less of the class.


# %%
def noise_correlation(model: nn.Module, images: Tensor, target: Tensor, seed: int, noise_level: float = 0.02) -> list:
    """Correlation of each image's gradient with that of a slightly noisy copy; sigma = noise_level (max - min)."""
    generator = torch.Generator().manual_seed(seed)
    span = images.amax(dim=(1, 2, 3), keepdim=True) - images.amin(dim=(1, 2, 3), keepdim=True)
    noise = torch.randn(images.shape, generator=generator).to(images.device)
    clean = vanilla_gradient(model, images, target)
    noisy = vanilla_gradient(model, images + noise_level * span * noise, target)
    return [correlation(*pair) for pair in zip(clean, noisy, strict=True)]


# %% [markdown]
# ## Exercises
#
# **1.1 The gradient** (difficulty 1, 10 minutes, 4 points). Fill in `vanilla_gradient`.
# *Hints:* what must require grad? · which of the K logits is the score? · one call of `torch.autograd.grad` does the
# whole batch, if you give it one number.
#
# **1.2 Simonyan's map** (difficulty 1, 5 minutes, 2 points). Fill in `saliency_map`. *First predict:* is the sum over
# channels before the absolute value the same? *Hints:* `utils.channel_reduce` · the order of abs and max.
#
# **1.3 Break it with a softmax** (difficulty 2, 10 minutes, 3 points). Fill in `softmax_gradient`, then explain with
# the formula of step 4 why the macaw's gradient is some thousand times shorter than its logit's, and the cat's is not.
# *Hints:* softmax over which dimension? · the target must be found from the logits, once.
#
# **1.4 Follow the gradient** (difficulty 3, 15 minutes, 3 points). Fill in `gradient_flow`. Which stage shrinks the
# gradient most, and why do max-pooling and a stride let single entries grow?
# *Hints:* `torch.autograd.grad` takes a list · root mean square, not sum: stages differ in size.


# %%
def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, write the figures."""
    args = options().parse_args(argv)
    model = lesson_model(args)
    names, images = lesson_images(args)
    target = lesson_target(args)
    with torch.no_grad():
        labels = target_indices(target, model(images))
    predicted, measured = check_slope(model, images, labels)
    softmax = softmax_gradient(model, images, labels).flatten(1).norm(dim=1)
    stability = noise_correlation(model, images, labels, args.seed)
    columns = [predicted.tolist(), measured.tolist(), softmax.tolist(), stability]
    print_table(
        ["image", "class", "|gradient|", "measured slope", "|softmax gradient|", "correlation after 2 % noise"],
        list(zip(names, describe_targets(model, images, labels), *columns, strict=True)),
    )
    flow = gradient_flow(model, images[:1], labels[:1])
    save_figures(
        args,
        {
            "maps.png": figure_maps(model, images, target),
            "saturation.png": figure_saturation(model, images, target),
            "max_or_sum.png": figure_max_or_sum(model, images[:1], target),
            "gradient_flow.png": figure_gradient_flow(flow, names[0]),
        },
    )
    return 0


# %% [markdown]
# ## Recap
#
# 1. One backward pass gives $\partial S_c / \partial x$; `torch.autograd.grad` on a copy leaves no trace.
# 2. Simonyan's map is the largest absolute channel; sign and colour are gone.
# 3. The softmax gradient fades as the network becomes certain; explain the logit.
# 4. Finite differences along the gradient confirm it to a few per cent on a real network, kinks included.
# 5. A map shows where the score is *sensitive*, at this very input. It does not say what made the score.

# %% tags=["active-py"]
if __name__ == "__main__":
    sys.exit(run_lesson(main))
