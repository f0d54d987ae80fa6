# %% [markdown]
# # 03 SmoothGrad: removing noise by adding noise
#
# Lesson 01 ended with a worry: noise that nobody sees changes most of the gradient. SmoothGrad takes the hint.
# If one gradient says little, ask for fifty, each at a slightly disturbed copy of the photograph, and average.
#
# **After this lesson you can**
#
# 1. compute SmoothGrad with a noise level that means the same for every image;
# 2. choose noise level and number of samples from pictures and from a convergence curve;
# 3. say what SmoothGrad-squared and VarGrad measure instead;
# 4. say why a smoother map is not thereby a truer one.
#
# **Level** beginner. **Before it** lesson 01.
# **Papers** Smilkov et al., *SmoothGrad*, 2017, arXiv:1706.03825; Hooker et al., 2019, arXiv:1806.10758 (the square);
# Adebayo et al., *Local Explanation Methods*, 2018, arXiv:1810.03307 (VarGrad).

# %%
r"""SmoothGrad: the gradient, averaged over noisy copies of the photograph.

Run `python 03_smoothgrad.py` (well below a minute on two cores). Writes grid.png, convergence.png and
statistics.png to outputs/03_smoothgrad/.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from tqdm import tqdm

from course.checks import Target, check_counts, check_inputs, target_indices
from course.figures import show_map, show_photo
from course.probes import roughness
from utils import channel_reduce, displayable, import_lesson

vanilla_gradient = import_lesson("01_vanilla_gradient_saliency").vanilla_gradient

# %% [markdown]
# ## The idea
#
# A ReLU network is made of flat pieces, and the gradient jumps from piece to piece. Averaged over a small
# neighbourhood the jumps cancel, and the slope that the pieces have in common remains: the gradient of a blurred
# version of the score.
#
# ## The formula
#
# $$\hat M_c(x) = \frac{1}{n} \sum_{i=1}^{n} \frac{\partial S_c}{\partial x}\big(x + \varepsilon_i\big), \qquad
# \varepsilon_i \sim \mathcal{N}(0, \sigma^2), \qquad \sigma = \text{noise level} \cdot (x_{\max} - x_{\min})$$
#
# | symbol | meaning | default |
# | --- | --- | --- |
# | $n$ | number of noisy copies, `n_samples` | 50 |
# | noise level | $\sigma$ as a share of *this image's* value range | 0.15 |
#
# SmoothGrad-squared averages the squared gradients, VarGrad is their variance, mean of squares minus square of mean.
#
# ## Step 1: noise that belongs to the sample
#
# Each sample's noise is drawn on its own and used for every image of the batch. So a batch gives what its images
# give one by one, and the result does not depend on how many samples go through the network at a time.


# %%
def draw_noise(count: int, images: Tensor, generator: torch.Generator) -> Tensor:
    """`count` draws of standard normal noise of one image's shape: (count, C, H, W), on the images' device."""
    shape = images.shape[1:]
    draws = [torch.randn(shape, generator=generator, device=generator.device) for _ in range(count)]
    return torch.stack(draws).to(images)


# %% [markdown]
# ## Step 2: the average
#
# Pitfalls that live on in copied code: $\sigma$ is the *standard deviation*, not the variance; it multiplies the range,
# it is not divided by it; and the range is each image's own.


# %%
def smoothgrad(
    model: nn.Module,
    images: Tensor,
    target: Target = None,
    *,
    n_samples: int = 50,
    noise_level: float = 0.15,
    statistic: str = "mean",
    batch_size: int = 10,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The gradient of a class score, averaged over noisy copies of each image.

    Args:
        model: classifier in eval mode, (B, 3, H, W) -> logits (B, K).
        images: normalised images, (B, 3, H, W), float. Left as they are.
        target: None (the top class of each image without noise), one class index for all, or one per image.
        n_samples: noisy copies of each image.
        noise_level: standard deviation of the noise divided by the image's max - min.
        statistic: "mean" (SmoothGrad, signed), "mean_square" (SmoothGrad-squared) or "variance" (VarGrad).
        batch_size: copies that go through the network at a time; memory does not grow with n_samples.
        generator: source of the noise; None is a new one seeded with 0. A generator given is advanced.

    Returns:
        (B, 3, H, W), detached: logit units per unit of input, squared for the two other statistics.

    Raises:
        ValueError: as vanilla_gradient, or an option out of range.

    Papers: Smilkov et al. 2017, arXiv:1706.03825, section 3; Hooker et al. 2019, arXiv:1806.10758;
        Adebayo et al. 2018, arXiv:1810.03307.
    """
    check_inputs(model, images)
    check_counts(n_samples=n_samples, batch_size=batch_size)
    if not noise_level >= 0:
        raise ValueError(f"noise_level must be 0 or more, got {noise_level!r}")
    if statistic not in ("mean", "mean_square", "variance"):
        raise ValueError(f"statistic must be 'mean', 'mean_square' or 'variance', got {statistic!r}")
    generator = generator or torch.Generator().manual_seed(0)
    images = images.detach()
    with torch.no_grad():
        target = target_indices(target, model(images))                 # the noise must not change the question
    # BEGIN SOLUTION 3.1
    sigma = noise_level * (images.amax(dim=(1, 2, 3)) - images.amin(dim=(1, 2, 3)))          # (B,)
    # END SOLUTION
    total, total_square = torch.zeros_like(images), torch.zeros_like(images)
    for start in range(0, n_samples, batch_size):
        noise = draw_noise(min(batch_size, n_samples - start), images, generator)            # (k, 3, H, W)
        for i in range(len(images)):
            # BEGIN SOLUTION 3.2
            gradients = vanilla_gradient(model, images[i] + sigma[i] * noise, int(target[i]))    # (k, 3, H, W)
            total[i] += gradients.sum(dim=0)
            total_square[i] += gradients.square().sum(dim=0)
            # END SOLUTION
    # BEGIN SOLUTION 3.3
    mean, mean_square = total / n_samples, total_square / n_samples
    if statistic == "mean":
        return mean
    if statistic == "mean_square":
        return mean_square
    return (mean_square - mean.square()).clamp(min=0)                  # rounding could leave -1e-12
    # END SOLUTION


# %% [markdown]
# A sanity check you can break: without noise SmoothGrad is the gradient, and for a linear model it is the weights
# at any noise level.


# %%
def check_no_noise(model: nn.Module, image: Tensor) -> None:
    """noise_level = 0 gives the vanilla gradient."""
    plain, smooth = vanilla_gradient(model, image), smoothgrad(model, image, n_samples=2, noise_level=0)
    assert torch.allclose(plain, smooth, atol=1e-5 * plain.abs().max().item())


# %% [markdown]
# ## Step 3: how many samples?
#
# The generator goes on where it stopped, so an average can be continued: ten more samples, weighted by their number.
# Two runs with different seeds estimate the same map, and their distance shows how far both still are from it. For
# independent samples it falls like $1/\sqrt{n}$: four times the samples for half the distance.


# %%
def running_means(
    model: nn.Module, image: Tensor, target: int, counts: Sequence[int], noise_level: float, seed: int
) -> dict[int, Tensor]:
    """SmoothGrad after each number of samples in `counts` (increasing), each continuing the one before.

    Returns:
        n -> (1, 3, H, W); n samples in all, no gradient computed twice.
    """
    generator = torch.Generator().manual_seed(seed)
    means, done = {0: torch.zeros_like(image)}, 0
    for count in counts:
        # BEGIN SOLUTION 3.4
        more = smoothgrad(
            model, image, target, n_samples=count - done, noise_level=noise_level, generator=generator
        )
        means[count] = (done * means[done] + (count - done) * more) / count
        # END SOLUTION
        done = count
    return {count: means[count] for count in counts}




def noise_runs(
    model: nn.Module, image: Tensor, target: int, levels: Sequence[float], counts: Sequence[int], seed: int
) -> dict[float, tuple[dict[int, Tensor], dict[int, Tensor]]]:
    """Noise level -> running_means of two independent runs, with `seed` and `seed + 1`."""
    return {
        level: tuple(running_means(model, image, target, counts, level, s) for s in (seed, seed + 1))
        for level in tqdm(levels, desc="noise levels", leave=False)
    }


def convergence(first: dict[int, Tensor], second: dict[int, Tensor]) -> dict[int, float]:
    """n -> |A_n - B_n| / |(A_N + B_N) / 2|: how far two runs are apart, in units of the best estimate at hand."""
    best = (first[max(first)] + second[max(second)]) / 2
    return {n: ((first[n] - second[n]).norm() / best.norm()).item() for n in first}


@torch.no_grad()
def probability_under_noise(
    model: nn.Module, images: Tensor, target: Tensor, noise_level: float, seed: int, n_samples: int = 10
) -> list[float]:
    """Mean softmax probability of each image's target over noisy copies: does the network still know it?"""
    generator = torch.Generator().manual_seed(seed)
    noise = draw_noise(n_samples, images, generator)
    sigma = noise_level * (images.amax(dim=(1, 2, 3)) - images.amin(dim=(1, 2, 3)))
    return [
        model(image + s * noise).softmax(dim=1)[:, label].mean().item()
        for image, s, label in zip(images, sigma, target, strict=True)
    ]


# %% [markdown]
# ## The pictures


# %%
def figure_grid(runs: dict, counts: Sequence[int], image: Tensor, title: str) -> Figure:
    """A row for each noise level: a noisy copy, and a map (max over RGB, on its own scale) for each n."""
    figure, axes = plt.subplots(
        len(runs), len(counts) + 1, figsize=(3.4 * len(counts) + 3, 3.1 * len(runs)), layout="constrained"
    )
    for row, (level, (means, _)) in zip(axes, runs.items(), strict=True):
        sigma = level * (image.max() - image.min())
        noisy = image + sigma * draw_noise(1, image, torch.Generator().manual_seed(0))
        show_photo(row[0], displayable(noisy)[0], f"one copy at noise level {level:g}")
        for axis, count in zip(row[1:], counts, strict=True):
            map = channel_reduce(means[count])[0]
            show_map(axis, map, title=f"n = {count}, roughness {roughness(map):.2f}")
    figure.suptitle(f"SmoothGrad, {title}")
    return figure


def figure_convergence(runs: dict, title: str) -> Figure:
    """Distance of two independent runs against n, one line a noise level, beside the 1/sqrt(n) law."""
    figure, axis = plt.subplots(figsize=(6.5, 4), layout="constrained")
    for level, (first, second) in runs.items():
        curve = convergence(first, second)
        axis.loglog(list(curve), list(curve.values()), "o-", label=f"noise level {level:g}")
        axis.loglog(list(curve), [curve[min(curve)] / n**0.5 for n in curve], "k:", lw=1)
    axis.plot([], [], "k:", lw=1, label="1 / sqrt(n) from n = 1")
    axis.set(xlabel="samples n", ylabel="distance of two runs / length of the map")
    axis.set_title(f"{title}: two independent runs approach each other", fontsize=10)
    axis.legend()
    return figure


def figure_statistics(images: Tensor, titles: Sequence[str], plain: Tensor, mean: Tensor, variance: Tensor) -> Figure:
    """Photo, vanilla gradient, SmoothGrad, SmoothGrad-squared and VarGrad; one row an image."""
    columns = {"|gradient|": plain, "|SmoothGrad|": mean, "SmoothGrad-squared": mean.square() + variance,
               "VarGrad": variance}
    figure, axes = plt.subplots(len(images), 5, figsize=(15.5, 3.1 * len(images)), squeeze=False, layout="constrained")
    for i, photo in enumerate(displayable(images)):
        show_photo(axes[i, 0], photo, titles[i])
        for axis, (name, attribution) in zip(axes[i, 1:], columns.items(), strict=True):
            show_map(axis, channel_reduce(attribution)[i], title=name)
    figure.suptitle("Three statistics of the same noisy gradients (max over RGB, each on its own scale)")
    return figure


# %%


# %% [markdown]
# ## What the picture does not show
#
# - **Smooth is not true.** A map becomes smoother because noise is averaged out, and also because details are. The
#   roughness falls either way. Which of the two happened, lesson 08 measures with deletion and insertion.
# - **It explains noisy pictures.** The table's "p under noise" is the probability that the network still gives the
#   class on the copies whose gradients are averaged. For the cat it has collapsed: the map is an average over pictures
#   in which the network sees something else.
# - **Not only the picture.** The faint regular grid in the maps is the network's own: ResNet-50 drops three of four
#   positions where a stage begins (a 1 x 1 convolution with stride 2), and only the positions it keeps pass gradient.
# - **The square is another method.** SmoothGrad-squared and VarGrad have no sign, and where the gradient only
#   fluctuates about zero they are large and SmoothGrad is small. They look like each other, because on these pictures
#   the squared mean is small beside the variance: the prettiest maps of this lesson show where gradients *disagree*.

# %% [markdown]
# ## Exercises
#
# **3.1 Whose range?** (difficulty 1, 5 minutes, 2 points). Fill in sigma. *First predict* what happens to the map of a
# pale picture if the range is taken over the whole batch. *Hints:* one number an image · which dimensions?
#
# **3.2 Collect** (difficulty 2, 15 minutes, 4 points). Fill in the loop body. *Hints:* lesson 01 does the work · k
# noisy copies of one image are a batch · two running sums.
#
# **3.3 Three statistics** (difficulty 2, 10 minutes, 3 points). Turn the two sums into the three statistics.
# *Hints:* the variance is a difference of two means · could it come out below zero?
#
# **3.4 Go on** (difficulty 3, 15 minutes, 3 points). Fill in `running_means` so that no gradient is computed twice.
# *Hints:* the generator remembers where it was · weights are numbers of samples.


# %%


# %% [markdown]
# ## Recap
#
# 1. SmoothGrad averages the gradient over noisy copies; sigma is a share of each image's own value range.
# 2. Two seeds approach each other like 1/sqrt(n); more noise needs more samples.
# 3. Squares and variances of the same gradients are other statistics with other units and no sign.
# 4. Less roughness is what averaging must bring; whether the map became more faithful is a question for lesson 08.

