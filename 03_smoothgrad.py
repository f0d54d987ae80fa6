# %% [markdown]
# # 03 SmoothGrad: what remains of the gradient when one averages over noise?
#
# Lesson 01 ended with a worry: noise that nobody sees changes most of the gradient. SmoothGrad takes the hint. If one
# gradient says little, ask for fifty, each at a slightly disturbed copy of the photograph, and average. What remains?
# And how many copies does it take until the answer no longer depends on which noise one happened to draw?
#
# **After this lesson you can**
#
# 1. compute SmoothGrad with a noise level that means the same for every image;
# 2. measure the error of an averaged map, and say how many samples a given error takes;
# 3. say what SmoothGrad-squared and VarGrad measure instead;
# 4. say why a smoother map is not thereby a truer one.
#
# **Level** beginner. **Before it** lesson 01.
# **Papers** Smilkov et al., *SmoothGrad*, 2017, arXiv:1706.03825; Hooker et al., 2019, arXiv:1806.10758 (the square);
# Adebayo et al., *Local Explanation Methods*, 2018, arXiv:1810.03307 (VarGrad).

# %%
r"""SmoothGrad. Run `python 03_smoothgrad.py`; --help lists the options."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from course.checks import Target, check_counts, check_inputs, target_indices, target_logits
from course.figures import map_grid
from course.lesson import print_table, start
from course.probes import correlation, roughness, with_noise
from course.weights import in_bfloat16
from utils import channel_reduce, import_lesson

vanilla_gradient = import_lesson("01_vanilla_gradient_saliency").vanilla_gradient

# %% [markdown]
# ## A picture of the idea
#
# Left: a score that rises in small crooked pieces, as the score of a network with ReLU does. In the middle its slope,
# the gradient. It jumps from piece to piece, and says nothing about the way up that one sees from afar. Averaged over
# a neighbourhood (red) the jumps cancel, and the common slope remains. Right: the same in a real network. We start at
# the photograph, in the middle, and walk both ways along a random direction. Written down is one single number, the
# slope at the green value of the centre pixel. At 0.02 and -0.02 nobody would notice the noise.


# %%
def averaged(curve: np.ndarray, width: float) -> np.ndarray:
    """Each value replaced by the average of its neighbours, weighted by a bell curve `width` values wide."""
    position = np.arange(len(curve))
    weights = np.exp(-(((position[:, None] - position) / width) ** 2) / 2)
    return weights @ curve / weights.sum(axis=1)


def figure_idea(levels: Sequence[float], slopes: Sequence[float]) -> Figure:
    """A crooked score and its slope, and a slope of the network along a random direction: as it is, and averaged."""
    x = np.linspace(-3, 3, 121)
    score = np.tanh(x) + 0.03 * np.random.default_rng(0).standard_normal(121)
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.4), layout="constrained")
    axes[0].plot(x, score, color="black", lw=1)
    axes[0].set(title="a score made of pieces", xlabel="value of a pixel", ylabel="score")
    middles, slope = (x[1:] + x[:-1]) / 2, np.diff(score) / np.diff(x)
    axes[1].step(middles, slope, color="0.6", lw=1, where="mid", label="slope")
    axes[1].plot(middles, averaged(slope, 8), color="tab:red", lw=3, label="averaged")
    axes[1].set(title="its slope", xlabel="value of a pixel")
    axes[2].plot(levels, slopes, color="0.6", lw=1, marker=".", label="slope")
    axes[2].plot(levels, averaged(np.array(slopes), len(levels) / 8), color="tab:red", lw=3, label="averaged")
    axes[2].set(title="a slope of the real network", xlabel="noise, as a share of the value range")
    for axis in axes[1:]:
        axis.axhline(0, color="black", lw=0.8)
        axis.legend(fontsize=9)
    return figure


if __name__ == "__main__":
    samples = {"--samples": {"type": int, "help": "n of each of the two runs, 2 or more (default: 10)"}}
    lesson = start("03_smoothgrad", "What remains of the gradient when one averages over noise?",
                   images=["dog.jpg", "cat.jpg", "bird.jpg"], options=samples)  # fmt: skip
    model, images, targets = lesson.model, lesson.images, lesson.targets
    walk = torch.linspace(-0.15, 0.15, 13 if lesson.quick else 31).tolist()
    gradients = (vanilla_gradient(model, with_noise(images[:1], t, lesson.seed), targets[:1]) for t in walk)
    lesson.show(figure_idea(walk, [gradient[0, 1, 112, 112].item() for gradient in gradients]), "idea")

# %% [markdown]
# ## The formula
#
# Draw noise, add it to the photograph, take the gradient there; do this $n$ times and average. The more copies, the
# closer one comes to the slope of the *average score* in the photograph's neighbourhood.
#
# $$\hat M_c(x) = \frac{1}{n} \sum_{i=1}^{n} \frac{\partial S_c}{\partial x}\big(x + \varepsilon_i\big), \qquad
# \varepsilon_i \sim \mathcal{N}(0, \sigma^2), \qquad \sigma = \text{noise level} \cdot (x_{\max} - x_{\min})$$
#
# | symbol | meaning | default |
# | --- | --- | --- |
# | $n$ | number of noisy copies, `n_samples` | 50 |
# | noise level | $\sigma$ as a share of *this image's* value range | 0.15 |
#
# ## The method
#
# Each sample's noise is drawn on its own and used for every image of the batch. So a batch gives what its images give
# one by one, and the result does not depend on how many samples go through the network at a time. Pitfalls that live
# on in copied code: $\sigma$ is the *standard deviation*, not the variance; it is multiplied by the range, not divided
# by it; and the range is each image's own.


# %%
def draw_noise(count: int, images: Tensor, generator: torch.Generator) -> Tensor:
    """`count` draws of standard normal noise of one image's shape: (count, C, H, W), on the images' device."""
    shape = images.shape[1:]
    draws = [torch.randn(shape, generator=generator, device=generator.device) for _ in range(count)]
    return torch.stack(draws).to(images)


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
        model, images, target: as in vanilla_gradient; None is the top class of each image *without* noise.
        n_samples: noisy copies of each image.
        noise_level: standard deviation of the noise divided by the image's max - min.
        statistic: "mean" (SmoothGrad, signed), "mean_square" (SmoothGrad-squared) or "variance" (VarGrad).
        batch_size: copies that go through the network at a time; memory does not grow with n_samples.
        generator: source of the noise; None is a new one seeded with 0. A generator given is advanced.

    Returns:
        (B, 3, H, W), detached: logit units per unit of input, squared for the two other statistics.

    Raises:
        ValueError: as vanilla_gradient, or an option out of range.

    Papers: Smilkov et al. 2017, arXiv:1706.03825, section 2.2; Hooker et al. 2019, arXiv:1806.10758;
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
    for done in range(0, n_samples, batch_size):
        noise = draw_noise(min(batch_size, n_samples - done), images, generator)             # (k, 3, H, W)
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
# A check you can break: without noise SmoothGrad is the gradient. We compare with the gradient of as many copies at a
# time, because a processor may add up a batch in another order than a single picture. The second number shows what the
# order alone does.

# %%
if __name__ == "__main__":
    dog, label = images[:1], targets[:1]
    still = smoothgrad(model, dog, label, n_samples=4, noise_level=0, batch_size=4)
    four = vanilla_gradient(model, dog.repeat(4, 1, 1, 1), label.repeat(4)).mean(dim=0)
    one = vanilla_gradient(model, dog, label)
    off, order = (((x - four).abs().max() / one.abs().max()).item() for x in (still, one))
    print(f"without noise, off the gradient by {off:.0e} of its largest value; by another order: {order:.0e}")
    assert off <= 1e-4, "SmoothGrad without noise is not the gradient"

# %% [markdown]
# ## How wrong is the map?
#
# Other noise gives another map. So run it twice, with two seeds. Both runs hold the same map $m$ and their own noise:
# $A = m + e_1$ and $B = m + e_2$. In the difference the map cancels. In the product the noises cancel, because they
# have nothing to do with each other. So both sizes can be measured, although nobody knows $m$:
#
# $$|m|^2 \approx \sum_i A_i B_i, \qquad |e|^2 \approx \tfrac{1}{2} \sum_i (A_i - B_i)^2, \qquad
# \text{relative error} = |e| \, / \, |m|$$
#
# Whoever divides by the length of $A$ instead flatters the map: that length holds the noise as well.


# %%
def signal_and_noise(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """What two independent runs say about the map they share, and about the noise in each of them.

    Args:
        first, second: (B, 3, H, W), from the same number of samples and different noise.

    Returns:
        Estimates without bias, two of shape (B,): the squared length of the map itself, which may come out below 0
        where noise is all there is, and the squared length of the noise in *one* run.
    """
    # BEGIN SOLUTION 3.5
    signal = (first * second).sum(dim=(1, 2, 3))
    noise = (first - second).square().sum(dim=(1, 2, 3)) / 2
    return signal, noise
    # END SOLUTION


def relative_error(signal: Tensor, noise: Tensor) -> Tensor:
    """Length of the noise as a share of the map's; infinite where no map is found."""
    return torch.where(signal > 0, noise / signal, torch.inf).sqrt()


def samples_needed(error: float, n_samples: int, wanted: float) -> int:
    """How many samples bring the relative error from `error`, at n_samples, to `wanted`, if the noise falls as 1/n.

    Rounded up.
    """
    # BEGIN SOLUTION 3.6
    return math.ceil(n_samples * (error / wanted) ** 2)
    # END SOLUTION


if __name__ == "__main__":
    n_maps, seeds = max(2, lesson.args.samples or (4 if lesson.quick else 10)), (lesson.seed, lesson.seed + 1)
    A, B = (
        smoothgrad(model, images, targets, n_samples=n_maps, generator=torch.Generator().manual_seed(s)) for s in seeds
    )
    mean, rest = (A + B) / 2, (A - B) / 2
    signal, noise = signal_and_noise(A, B)
    error = relative_error(signal, noise)
    maps = {f"run A, n = {n_maps}": (A, error), f"run B, n = {n_maps}": (B, error),
            f"their mean, n = {2 * n_maps}": (mean, error / 2**0.5)}  # fmt: skip
    notes = {name: [f"error {e:.0%}" for e in of.tolist()] for name, (_, of) in maps.items()}
    columns = {name: channel_reduce(x) for name, (x, _) in maps.items()}
    columns["half their difference"] = channel_reduce(rest)
    heading = "|SmoothGrad|, noise level 0.15"
    shown = map_grid(images, columns, scale="row", notes=notes, titles=lesson.titles, heading=heading)
    lesson.show(shown, "runs")
    needed = [samples_needed(e, n_maps, 0.1) if e < math.inf else "no map found" for e in error.tolist()]
    rows = zip(lesson.names, lesson.titles, error.tolist(), (error / 2**0.5).tolist(), needed, strict=True)
    header = ["image", "class", f"error\nn = {n_maps}", f"of the mean\nn = {2 * n_maps}", "extrapolated:\nn for 10 %"]
    print_table(header, list(rows))

# %% [markdown]
# An error of 1 means: as much noise as map. After ten samples there is *more* noise than map in all three pictures, and
# the default of fifty leaves an error of 0.6. For an error of 10 % one would need some 2,000 samples (the last column).
# That is extrapolated: the noise of independent samples falls like $1 / n$. We tried it on the dog with 256 samples:
# 0.255 was measured, 0.26 extrapolated. (`--image dog.jpg --samples 256` does it in some minutes, and only then the
# head has outlines.) Half the difference is the noise that is left in the mean. It lies on the animal as well, so a
# place is not certain because it is bright.
#
# ## How exact must each gradient be?
#
# A map that is wrong by 0.6 through its noise needs no gradients with seven digits. bfloat16 is a number format with
# two to three digits, and some processors and GPUs calculate in it several times as fast. `in_bfloat16` gives a copy of
# a network that does so; images, noise and sums stay float32. Below, the same noise goes through both networks.

# %%
if __name__ == "__main__":
    seeded = torch.Generator().manual_seed(lesson.seed)
    rounded = smoothgrad(in_bfloat16(model), images, targets, n_samples=n_maps, generator=seeded)
    apart = (rounded - A).square().sum(dim=(1, 2, 3))
    rows = zip(lesson.names, relative_error(signal, apart).tolist(), error.tolist(), strict=True)
    print_table(["image", "error of bfloat16", f"error of the noise, n = {n_maps}"], list(rows))

# %% [markdown]
# bfloat16 adds a quarter of the noise's error. Independent errors add by their squares, so the whole grows by some 3 %,
# which a few more samples bring back. What holds for a noisy average does not hold for every method. Medians over
# nineteen photographs, ResNet-50, each method's default settings (`python tests/benchmark.py --bfloat16`):
#
# | method | error of bfloat16 | its own sampling error | rank correlation with float32 | float32's time / bfloat16's |
# | --- | --- | --- | --- | --- |
# | Grad-CAM (lesson 05) | 0.007 | none | 1.000 | 1.6 |
# | guided backpropagation (06) | 0.087 | none | 0.991 | 1.5 |
# | LRP (09) | 0.097 | none | 0.994 | 1.3 |
# | SmoothGrad, n = 50 | 0.146 | 0.605 | 0.983 | 1.9 |
# | Integrated Gradients, n = 50 (04) | 0.268 | none | 0.951 | 1.9 |
# | vanilla gradient (01) | 0.326 | none | 0.919 | 1.5 |
#
# A single gradient is a third wrong in bfloat16: ReLUs near 0 change sides. So float32 is the default, and `--bfloat16`
# asks for the other in every lesson. The times are of two cores with AVX512-BF16. AMX does more: measured once, on
# another machine, SmoothGrad was 3.4 times as fast there.
#
# Could the noise itself be cheaper? Take it in pairs, $x + n$ and $x - n$. For as many gradients the error is
# 0.95 of the one above, as with 1.1 times as many samples (three photographs, `python tests/benchmark.py --cheaper 3`).
# We leave it out. The two of a pair are not independent, and on that rest the $1 / n$ above and VarGrad.
#
# ## How much noise, how many samples?
#
# The generator goes on where it stopped, so an average can be continued: twelve more samples, weighted by their number.


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


def figure_errors(curves: dict[float, dict[int, float]], wanted: float = 0.1) -> Figure:
    """Relative error against n, a line for each noise level, and how it would go on to the error wanted."""
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for level, curve in curves.items():
        n, error = max(curve), curve[max(curve)]
        (line,) = axis.loglog(list(curve), list(curve.values()), "o-", label=f"noise level {level:g}, measured")
        if error < math.inf:                                           # two short runs may have no map in common
            needed = samples_needed(error, n, wanted)
            label = f"extrapolated: n = {needed:,}"
            axis.loglog([n, needed], [error, wanted], ":", color=line.get_color(), label=label)
    axis.axhline(wanted, color="black", lw=0.8)
    axis.set(xlabel="samples n", ylabel="noise / map", title="Relative error of one run")
    axis.legend(fontsize=9)
    return figure


# %%
if __name__ == "__main__":
    counts, grid, notes, curves = (1, 2, 4) if lesson.quick else (1, 4, 16), {}, {}, {}
    noise_levels = (0.05, 0.15, 0.3)
    for level in noise_levels:
        first, second = (running_means(model, dog, int(label), counts, level, s) for s in seeds)
        signal, _ = signal_and_noise(first[counts[-1]], second[counts[-1]])              # the best estimate of |m|^2
        curves[level] = {n: relative_error(signal, signal_and_noise(first[n], second[n])[1]).item() for n in counts}
        for n in counts:
            grid.setdefault(f"n = {n}", []).append(channel_reduce(first[n]))
            notes.setdefault(f"n = {n}", []).append(f"error {curves[level][n]:.0%}")
    copies = torch.cat([with_noise(dog, level, lesson.seed) for level in noise_levels])
    titles = [f"one copy at noise level {level:g}" for level in noise_levels]
    columns = {name: torch.cat(maps) for name, maps in grid.items()}
    shown = map_grid(copies, columns, titles=titles, notes=notes, heading=f"|SmoothGrad|, {lesson.titles[0]}")
    lesson.show(shown, "grid")
    lesson.show(figure_errors(curves), "errors")

# %% [markdown]
# The more noise, the more samples: for an error of 10 % about 600 at level 0.05, 1,700 at 0.15 and 3,800 at 0.3, all
# for the dog. With 16 samples the map of the lowest row holds more noise than map, and looks no less convincing for it.
# Without the number above it one could not tell it from a better one.
#
# ## Three statistics of the same gradients
#
# SmoothGrad-squared averages the squared gradients. VarGrad is their variance: the mean of the squares minus the square
# of the mean. Both have no sign and other units. And VarGrad is a check: a mean of $n$ samples has the variance of one
# sample, divided by $n$. So the noise that two runs find must be what VarGrad promises from a single run.

# %%
if __name__ == "__main__":
    plain, seeded = vanilla_gradient(model, images, targets), torch.Generator().manual_seed(lesson.seed)
    variance = smoothgrad(model, images, targets, n_samples=n_maps, statistic="variance", generator=seeded)
    promised = variance.sum(dim=(1, 2, 3)) / (n_maps - 1)              # n - 1: the mean is taken from the same samples
    print_table(["image", "|e|^2 from two runs", "promised by VarGrad"],
                list(zip(lesson.names, noise.tolist(), promised.tolist(), strict=True)))  # fmt: skip
    assert ((noise / promised).log().abs() < math.log(2)).all(), "the samples are not independent"
    columns = {"|gradient|": plain, "|SmoothGrad|": A,
               "SmoothGrad-squared": A.square() + variance, "VarGrad": variance}  # fmt: skip
    columns = {name: channel_reduce(x) for name, x in columns.items()}
    heading = f"The gradient, and three statistics of {n_maps} noisy gradients: max over RGB"
    lesson.show(map_grid(images, columns, titles=lesson.titles, heading=heading), "statistics")

# %% [markdown]
# The squared mean is small beside the variance, so SmoothGrad-squared and VarGrad look alike. They are the prettiest
# maps of this lesson, and they show where the gradients *disagree*.
#
# ## What the picture does not show
#
# - **Smooth is not true.** Roughness divides the usual step between neighbours by that between two pixels picked at
#   random. White noise has 1, a smooth map is near 0. The noise that is left in the mean is about as rough as the
#   gradient (0.59 for the dog), because it is made of gradients. So averaging does not smooth the noise. It shrinks it,
#   and a smoother map comes out from under it: 0.50 with 20 samples, 0.39 with two runs of 256. Whether details were
#   lost on the way, no roughness can say. Lesson 08 measures which map is right.
# - **Not the gradient, cleaned.** The correlation of the gradient with run A is below 0.05. Two runs agree far better,
#   with 0.3 to 0.4. At this noise level SmoothGrad answers another question: what raises the average score of *noisy
#   copies*?
# - **Not always this class.** The last table shows how probable the class is on the copies whose gradients are
#   averaged. At level 0.15 the network still knows the dog and the macaw. The cat's probability has fallen from 0.78 to
#   0.04: its map is an average over pictures in which the network sees something else. At 0.3 the dog and the macaw
#   are gone as well.
# - **Not only the picture.** The faint regular grid in the maps is the network's own: it skips places wherever it
#   halves the resolution. The line below sorts the pixels into the 16 places of a 4 x 4 raster. ResNet-50's places get
#   from 0.87 to 1.15 of the average, SqueezeNet's from 0.25 to 1.49 (`--quick`).

# %%
if __name__ == "__main__":
    white = torch.randn(images.shape, generator=torch.Generator().manual_seed(lesson.seed)).to(images)
    maps = {"white\nnoise": white, "|gra-\ndient|": plain, "|Smooth-\nGrad|": mean, "its\nnoise": rest}
    maps["Var-\nGrad"] = variance
    rough = [[roughness(map) for map in channel_reduce(x)] for x in maps.values()]
    alike = [[correlation(*pair) for pair in zip(x, A, strict=True)] for x in (plain, B)]
    print_table(["roughness of:", *maps, "r of gradient\nand run A", "r of run B\nand run A"],
                list(zip(lesson.names, *rough, *alike, strict=True)))  # fmt: skip
    raster = (x.square().sum(dim=1).reshape(len(x), 56, 4, 56, 4).mean(dim=(0, 1, 3)) for x in (mean, white))
    of_mean, of_white = (f"{(x.min() / x.mean()).item():.2f} to {(x.max() / x.mean()).item():.2f}" for x in raster)
    print(f"energy at the 16 places, average 1: SmoothGrad {of_mean}, white noise {of_white}")
    known = {}
    for level in (0, *noise_levels):
        noisy = torch.cat([with_noise(images, level, lesson.seed + i) for i in range(1 if level == 0 else 5)])
        with torch.no_grad():
            p = target_logits(model(noisy).softmax(dim=1), targets.repeat(len(noisy) // len(images)))
        known[f"p at noise\nlevel {level:g}"] = p.reshape(-1, len(images)).mean(dim=0).tolist()
    print_table(["image", "class", *known], list(zip(lesson.names, lesson.titles, *known.values(), strict=True)))

# %% [markdown]
# ## Exercises
#
# ### Predict first
#
# **3.7 A pale picture** (difficulty 1, 3 minutes, 1 point). Two pictures are in a batch. The values of one span 5
# units, those of the pale one only 1. The noise level is 0.15. By mistake sigma is taken from the *larger* range for
# both. What share of its own range does the pale picture get as sigma? Answer: a number.
#
# **3.8 Ten times less** (difficulty 1, 3 minutes, 1 point). With 50 samples the error of a SmoothGrad map is 0.6. How
# many samples does an error of 0.06 need? Answer: a number.
#
# **3.9 The same run twice** (difficulty 2, 3 minutes, 1 point). Somebody gives `signal_and_noise` the same run twice,
# A and A. What does it say?
#
# - **a** It raises an error, because the runs are not independent.
# - **b** The map is 0 and everything is noise.
# - **c** Half is map and half is noise, as for any two runs.
# - **d** There is no noise, and all of the run counts as map.

# %%
# BEGIN SOLUTION 3.7
ANSWER_3_7 = 0.75
# END SOLUTION
# BEGIN SOLUTION 3.8
ANSWER_3_8 = 5000
# END SOLUTION
# BEGIN SOLUTION 3.9
ANSWER_3_9 = "d"
# END SOLUTION

# %% [markdown]
# ### Then write
#
# **3.1 Whose range?** (difficulty 1, 5 minutes, 2 points). Fill in sigma. *Hints:* one number per image · which
# dimensions?
#
# **3.2 Collect** (difficulty 2, 15 minutes, 4 points). Fill in the loop body. *Hints:* lesson 01 does the work · k
# noisy copies of one image are a batch · two running sums. *Extend, without points:* SmoothGrad is the gradient of
# what? Write a network whose logits are the mean logits of five fixed noisy copies of its input, and show with
# `measured_slope` of lesson 01 that SmoothGrad with the same noise is its gradient.
#
# **3.3 Three statistics** (difficulty 2, 10 minutes, 3 points). Turn the two sums into the three statistics.
# *Hints:* the variance is a difference of two means · could it come out below zero?
#
# **3.4 Go on** (difficulty 3, 15 minutes, 3 points). Fill in `running_means` so that no gradient is computed twice.
# *Hints:* the generator remembers where it was · weights are numbers of samples.
#
# **3.5 Map and noise** (difficulty 2, 15 minutes, 3 points). Fill in `signal_and_noise`. *First predict* both numbers
# for two runs of pure noise. Which word in its docstring forbids giving it one run twice? *Hints:* multiply out
# $(m + e_1)(m + e_2)$ · what is left of $A - B$? · one number per image.
#
# **3.6 How many samples?** (difficulty 1, 5 minutes, 1 point). *Predict* with pencil and paper: the error is 1.29 with
# ten samples. How many for half of it? For a tenth? Then fill in `samples_needed`. *Hints:* the squared error falls
# like 1 / n · `math.ceil`.
#
# ## Recap
#
# What remains of the gradient when one averages over noise?
#
# 1. The slope of the score averaged over noisy copies; sigma is a share of each image's own value range. It is not the
#    gradient without its noise: the two hardly correlate.
# 2. Two runs measure map and noise. With n = 10 there is more noise than map, with the default of 50 the error is still
#    0.6; 10 % takes some 2,000 samples. Say the error with the map.
# 3. Squares and variances of the same gradients are other statistics, with other units and no sign. VarGrad divided by
#    n - 1 is the noise of SmoothGrad.
# 4. A smoother map is what averaging must bring. It may be an average over pictures that the network no longer knows.
