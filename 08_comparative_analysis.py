# %% [markdown]
# # 08 Comparative analysis: which map is the better one, and how would you know?
#
# Seven lessons have drawn maps, and each ended with what its picture does not show. This one puts them side by side and
# measures. There is no single number for a good explanation: there are protocols, each with a question of its own. So
# we score every method by all of them, add four controls that cannot explain anything, and see which claims of the
# field survive on our pictures.
#
# **After this lesson you can**
#
# 1. say what deletion, insertion, pointing games, sensitivity-n, infidelity and randomisation tests each ask;
# 2. score a method against maps that know nothing about the network;
# 3. make pictures in which the right place is known to the pixel;
# 4. tell a difference from chance with a bootstrap interval, and leave undecided what is undecided;
# 5. choose a method for a purpose, with the number that speaks for it.
#
# **Level** advanced. **Before it** lessons 01 to 07.
# **Papers** Petsiuk et al., *RISE*, 2018, arXiv:1806.07421 (deletion, insertion); Zhang et al., 2016, arXiv:1608.00507
# (pointing game); Rao et al., 2022, arXiv:2205.10435 (grid pointing game); Ancona et al., 2018, arXiv:1711.06104
# (sensitivity-n); Yeh et al., 2019, arXiv:1901.09392 (infidelity, max-sensitivity); Adebayo et al., 2018,
# arXiv:1810.03292 (randomisation); Fel et al., 2022, arXiv:2211.04533 (human agreement).

# %%
r"""All methods side by side: faithfulness, localisation, robustness, cost.

Run `python 08_comparative_analysis.py` (some ten minutes on two cores) or `... --quick` (below one minute). Writes
figures, scores.csv with every value and 08_report.md to outputs/08_comparative_analysis/. A stopped run continues where
it stopped; another --output-dir, or an empty one, starts anew.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from PIL import Image, ImageChops, ImageFilter, ImageOps
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata, spearmanr
from skimage.filters import sobel
from skimage.metrics import structural_similarity
from torch import Tensor, nn
from torchvision.transforms import functional as TF
from tqdm import tqdm

from utils import (
    DATA_DIR,
    IMAGENET_MEAN,
    IMAGENET_STD,
    as_rgb,
    channel_reduce,
    check_counts,
    check_inputs,
    class_names,
    color_scale,
    correlation,
    crop_picture,
    displayable,
    import_lesson,
    lesson_model,
    lesson_parser,
    lesson_target,
    list_pictures,
    load_image,
    normalize_map,
    preprocess_image,
    print_table,
    run_lesson,
    save_figures,
    show_photo,
    target_indices,
)

lesson_04 = import_lesson("04_integrated_gradients")
lesson_05 = import_lesson("05_gradcam")
lesson_06 = import_lesson("06_guided_backpropagation")
lesson_07 = import_lesson("07_guided_gradcam")

# %% [markdown]
# ## The idea
#
# | question | protocol | better is |
# | --- | --- | --- |
# | does the score fall when the most important pixels go? | deletion | lower |
# | does it rise when they come back? | insertion | higher |
# | do the shares predict what a removal costs? | sensitivity-n, infidelity | higher, lower |
# | is the map where the object is? | pointing game, energy, grid, planted scenes | higher |
# | would a person look there? | human agreement | higher |
# | does the map stay when the picture hardly changes? | max-sensitivity | lower |
# | does it change when the network forgets? | parameter randomisation | lower likeness |
#
# The first three ask the network, the next two ask us, and the two groups need not agree: a network may well look at
# the grass.
#
# ## The formula
#
# $$\text{AUC} = \int_0^1 p_c\big(x^{(q)}\big)\,dq, \qquad x^{(q)}: \text{the share } q \text{ of pixels that the map
# ranks highest is replaced} \qquad\text{(RISE, section 4.1)}$$
#
# $$\text{sensitivity-}n = \mathrm{corr}_S\Big(\sum_{i \in S} R_i,\; S_c(x) - S_c(x_{S=0})\Big), \quad |S| = n
# \qquad\text{(Ancona et al., definition 3)}$$
#
# $$\text{INFD} = \mathbb{E}_I\Big[\big(\beta\, I^{\mathsf T}\Phi - (S_c(x) - S_c(x - I))\big)^2\Big], \qquad
# \text{SENS} = \max_{\|y - x\|_\infty \le r} \frac{\|\Phi(y) - \Phi(x)\|}{\|\Phi(x)\|}
# \qquad\text{(Yeh et al., definitions 2.1 and 4.1)}$$
#
# | symbol | meaning |
# | --- | --- |
# | $p_c$, $S_c$ | softmax probability and logit of class $c$ |
# | $R$, $\Phi$ | the map under test |
# | $\beta$ | the factor that makes the mean square error smallest |
#
# ## Step 1: the methods, and four controls
#
# Every method becomes a function (model, images, target) -> (B, H, W). Shares keep their sign, slopes become absolute.
# The controls know nothing about the network: what does not beat them has explained nothing. To add a method of your
# own, write `METHODS["mine"] = my_function` before `main()`.

# %%
MapFunction = Callable[[nn.Module, Tensor, "int | Sequence[int] | Tensor | None"], Tensor]


def reduced(method: Callable, how: str = "max_abs", **options: object) -> MapFunction:
    """A pixel method with its options, reduced over the colour channels."""
    return lambda model, images, target=None: channel_reduce(method(model, images, target, **options), how)


def random_map(_model: nn.Module, images: Tensor, _target: object = None) -> Tensor:
    """Control: noise, drawn anew for each image but always the same for the same image."""
    seeds = [zlib.crc32(image.detach().cpu().numpy().tobytes()) for image in images]
    maps = [torch.rand(images.shape[-2:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(maps).to(images)


def centre_map(_model: nn.Module, images: Tensor, _target: object = None) -> Tensor:
    """Control: a Gaussian about the centre, a quarter of the image wide (photographers centre)."""
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in images.shape[-2:]), indexing="ij")
    return torch.exp(-(x**2 + y**2) / (2 * 0.5**2)).to(images).expand(len(images), -1, -1)


def edge_map(_model: nn.Module, images: Tensor, _target: object = None) -> Tensor:
    """Control: the Sobel filter of the grey photo."""
    return torch.from_numpy(np.stack([sobel(photo.mean(axis=2)) for photo in displayable(images)])).to(images)


def uniform_map(_model: nn.Module, images: Tensor, _target: object = None) -> Tensor:
    """Control: the same value everywhere."""
    return torch.ones_like(images[:, 0])


METHODS: dict[str, MapFunction] = {
    "vanilla_gradient": reduced(import_lesson("01_vanilla_gradient_saliency").vanilla_gradient),
    "gradient_times_input": reduced(import_lesson("02_gradient_input_saliency").gradient_times_input, "sum"),
    "smoothgrad": reduced(import_lesson("03_smoothgrad").smoothgrad, n_samples=20),
    "integrated_gradients": reduced(lesson_04.integrated_gradients, "sum", n_steps=20),
    "grad_cam": lesson_05.grad_cam,
    "guided_backpropagation": reduced(lesson_06.guided_backpropagation),
    "guided_grad_cam": reduced(lesson_07.guided_grad_cam),
    "random": random_map,
    "centre": centre_map,
    "edges": edge_map,
    "uniform": uniform_map,
}
CONTROLS = ("random", "centre", "edges", "uniform")


# %% [markdown]
# ## Step 2: faithfulness, asked of the network


# %%
def checked(map: Tensor | np.ndarray, image: Tensor | None = None) -> Tensor:
    """A map as (H, W) float tensor; ValueError if it is none, not finite, or not of the image's size."""
    map = torch.as_tensor(map).detach().cpu().float()
    map = map[0] if map.ndim == 3 and len(map) == 1 else map
    if map.ndim != 2 or not map.isfinite().all() or (image is not None and map.shape != image.shape[-2:]):
        size = "" if image is None else f" of the image's size {tuple(image.shape[-2:])}"
        raise ValueError(f"map must be finite and (H, W){size}, got {tuple(map.shape)}; see utils.upsample")
    return map


def one_image(model: nn.Module, image: Tensor) -> Tensor:
    """(1, C, H, W) from that or from (C, H, W); ValueError for more than one image, or a model in train mode."""
    image = image[None] if image.ndim == 3 else image
    check_inputs(model, image)
    if len(image) != 1:
        raise ValueError(f"the metrics take one image at a time, got {len(image)}")
    return image.detach()


def authors_blur(image: Tensor) -> Tensor:
    """RISE's blur: 11 x 11, sigma 5, zeros outside. Its Gaussian was reflected at the kernel's border: nearly a box."""
    delta = np.zeros((11, 11))
    delta[5, 5] = 1
    kernel = torch.from_numpy(gaussian_filter(delta, 5)).to(image)
    return F.conv2d(image, kernel.expand(image.shape[1], 1, 11, 11), padding=5, groups=image.shape[1])


@torch.inference_mode()
def replacement_curve(
    model: nn.Module, start: Tensor, end: Tensor, map: Tensor, target: int, step: int, batch_size: int = 8
) -> Tensor:
    """p_c while the pixels of `start` become those of `end`, `step` at a time, in falling order of the map."""
    order = map.flatten().argsort(descending=True, stable=True)        # ties: row by row from the top left
    rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order))).reshape(map.shape).to(start.device)
    counts = step * torch.arange(math.ceil(map.numel() / step) + 1, device=start.device)
    scores = []
    for some in counts.split(batch_size):
        mixed = torch.where(rank < some[:, None, None, None], end, start)            # (b, C, H, W)
        scores.append(model(mixed.contiguous(memory_format=torch.channels_last)).softmax(dim=1)[:, target])
    return torch.cat(scores).cpu()


def top_class(model: nn.Module, image: Tensor, target: int | None) -> int:
    """The target, or the image's own top class."""
    with torch.inference_mode():
        return int(target_indices(target, model(image)))


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

    Args, Returns, Cost, Source: as deletion_curve; the blurred image comes first, the whole one last. Higher is better.
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


@torch.inference_mode()
def score_drops(
    model: nn.Module, image: Tensor, others: Callable[[int, int], Tensor], count: int, target: int
) -> Tensor:
    """S_c(x) - S_c(y) for `count` disturbed images y, made eight at a time by others(first, last): (count,) float64."""
    whole = model(image)[0, target]
    scores = [model(others(i, min(i + 8, count)))[:, target] for i in range(0, count, 8)]
    return (whole - torch.cat(scores)).double().cpu()


def pearson(first: Tensor, second: Tensor) -> float:
    """Correlation of two (N,) float64 tensors; NaN where one does not vary beyond rounding."""
    for values in (first, second):
        if len(values) < 2 or values.std() <= 1e-9 * values.abs().max():
            return math.nan
    return correlation(first, second)


def random_subsets(count: int, n: int, size: Sequence[int], generator: torch.Generator | None) -> Tensor:
    """(count, H, W) masks, each with n pixels drawn at random."""
    generator = generator or torch.Generator().manual_seed(0)
    chosen = torch.stack([torch.randperm(size[0] * size[1], generator=generator)[:n] for _ in range(count)])
    masks = torch.zeros(count, size[0] * size[1], dtype=torch.bool)
    return masks.scatter_(1, chosen, True).reshape(count, *size)


def removal_drops(model: nn.Module, image: Tensor, masks: Tensor, target: int) -> Tensor:
    """What the logit loses when the masked pixels, (N, H, W), are set to 0: (N,)."""
    masks = masks[:, None].to(image.device)
    return score_drops(model, image, lambda i, j: torch.where(masks[i:j], 0, image), len(masks), target)


def sums_inside(attribution: Tensor, masks: Tensor) -> Tensor:
    """sum_{i in S} R_i for each mask, colour channels together: (N,) float64."""
    attribution = torch.as_tensor(attribution).detach().cpu().double()
    R = attribution.reshape(-1, *attribution.shape[-2:]).sum(dim=0)    # (H, W)
    return masks.flatten(1).double() @ R.flatten()


def sensitivity_n(
    model: nn.Module,
    image: Tensor,
    attribution: Tensor,
    target: int | None = None,
    *,
    n: int,
    samples: int = 100,
    generator: torch.Generator | None = None,
) -> float:
    """How well do summed attributions predict what removing n pixels costs?

    Args:
        model, image, target: as in deletion_curve.
        attribution: (H, W), (C, H, W) or (1, C, H, W), signed; channels are summed.
        n: pixels set to 0 at a time, all channels together.
        samples: random subsets.
        generator: of the subsets, seeded with 0 by default.

    Returns:
        Pearson correlation, in [-1, 1], higher is better. 1 for every n if the model is linear and the attribution
        gradient x input. NaN if the sums or the costs do not vary (a constant map; n = all pixels).

    Cost: samples + 1 forward passes. Source: Ancona et al. 2018, arXiv:1711.06104, definition 3. Over subsets of one
    image: not over images, and not along the map's own order, as some libraries have it.
    """
    check_counts(n=n, samples=samples)
    image = one_image(model, image)
    masks = random_subsets(samples, n, image.shape[-2:], generator)
    # BEGIN SOLUTION 8.2
    drops = removal_drops(model, image, masks, top_class(model, image, target))
    return pearson(sums_inside(attribution, masks), drops)
    # END SOLUTION


def random_squares(count: int, size: Sequence[int], generator: torch.Generator | None) -> Tensor:
    """(count, H, W) masks, each a square of a tenth to a half of the shorter side, anywhere inside."""
    generator = generator or torch.Generator().manual_seed(0)
    masks = torch.zeros(count, *size, dtype=torch.bool)
    for mask in masks:
        side = max(1, round(min(size) * (0.1 + 0.4 * torch.rand(1, generator=generator).item())))
        y, x = (int(torch.randint(length - side + 1, (1,), generator=generator)) for length in size)
        mask[y : y + side, x : x + side] = True
    return masks


def mean_square_error(predicted: Tensor, drops: Tensor, rescale: bool) -> float:
    """E[(beta predicted - drops)^2] with the best beta, or with 1."""
    power = (predicted**2).mean()
    beta = (predicted * drops).mean() / power if rescale and power > 0 else 1.0
    return ((beta * predicted - drops) ** 2).mean().item()


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
) -> float:
    """How far is the cost that a map predicts for a disturbance from what it costs?

    Args:
        model, image, target: as in deletion_curve.
        attribution: (C, H, W), (1, C, H, W), or (H, W) for all channels alike.
        perturb: "noise": I ~ N(0, 0.2^2) on each value, for slopes such as the gradient. "squares": I = x on a random
            square; for shares such as gradient x input, whose Phi already holds the factor x.
        samples: disturbances.
        rescale: multiply by the beta that makes the error smallest, as the authors do.
        generator: of the disturbances, seeded with 0 by default.

    Returns:
        INFD >= 0 in squared logits, lower is better. 0 for the exact attribution of a linear model.

    Cost: samples + 1 forward passes. Source: Yeh et al. 2019, arXiv:1901.09392, definition 2.1 and section 5.
    """
    check_counts(samples=samples)
    image, generator = one_image(model, image), generator or torch.Generator().manual_seed(0)
    target = top_class(model, image, target)
    if perturb == "squares":
        masks = random_squares(samples, image.shape[-2:], generator)
        return mean_square_error(sums_inside(attribution, masks), removal_drops(model, image, masks, target), rescale)
    if perturb != "noise":
        raise ValueError(f"perturb must be 'noise' or 'squares', got {perturb!r}")
    phi = torch.as_tensor(attribution).detach().cpu().double()
    phi = phi.reshape(-1, *phi.shape[-2:]).expand(image.shape[1:]).flatten()
    I = 0.2 * torch.randn(samples, *image.shape[1:], generator=generator)             # noqa: E741, the paper's name
    moved = I.to(image)
    drops = score_drops(model, image, lambda i, j: image - moved[i:j], samples, target)
    return mean_square_error(I.flatten(1).double() @ phi, drops, rescale)


# %% [markdown]
# ## Step 3: localisation, asked of us


# %%
def union(regions: Tensor | np.ndarray) -> Tensor:
    """(H, W) or (N, H, W) masks -> one (H, W) mask: any instance counts."""
    regions = torch.as_tensor(regions).detach().cpu().bool()
    return regions if regions.ndim == 2 else regions.any(dim=0)


def pointing_game(map: Tensor, regions: Tensor, *, tolerance: float = 15) -> bool | None:
    """Does the map's maximum lie on the object?

    Args:
        map: (H, W); its first maximum counts, row by row.
        regions: (H, W) or (N, H, W) masks of the class's instances, of the map's size.
        tolerance: pixels by which it may miss, this distance included. (The reference code has it excluded.)

    Returns:
        True for a hit, False for a miss, None if the question makes no sense: no region, or a constant map.

    Cost: none beyond the map. Source: Zhang et al. 2016, arXiv:1608.00507, section 4.1.
    """
    map, mask = checked(map), union(regions)
    if mask.shape != map.shape:
        raise ValueError(f"regions are {tuple(mask.shape)}, the map {tuple(map.shape)}")
    if not mask.any() or map.max() == map.min():
        return None
    # BEGIN SOLUTION 8.3
    y, x = (map == map.max()).nonzero()[0]
    ys, xs = mask.nonzero(as_tuple=True)
    return bool(((ys - y) ** 2 + (xs - x) ** 2).min() <= tolerance**2)
    # END SOLUTION


def energy_pointing_game(map: Tensor, mask: Tensor) -> float:
    """Share of the positive map that lies on the object.

    Args:
        map: (H, W); negative values count as 0.
        mask: (H, W), or (N, H, W) for several instances.

    Returns:
        In [0, 1], higher is better; a uniform map has the object's share of the area. NaN for an empty mask, or a map
        without positive values.

    Cost: none beyond the map. Source: Wang et al. 2020, arXiv:1910.01279, section 4.3.
    """
    map, mask = checked(map).double().clamp(min=0), union(mask)
    if mask.shape != map.shape:
        raise ValueError(f"the mask is {tuple(mask.shape)}, the map {tuple(map.shape)}")
    if not mask.any() or map.sum() == 0:
        return math.nan
    return (map[mask].sum() / map.sum()).item()


def grid_pointing_game(method: MapFunction, model: nn.Module, images: Tensor, targets: Sequence[int]) -> Tensor:
    """In a mosaic of four images, what share of a class's map lies in its own quarter?

    Args:
        method: (model, images, target) -> (B, H, W).
        images: (4, 3, H, W), of four classes. They are halved, so the mosaic has the size that the network knows
            (Rao et al. leave them at full size).
        targets: the class of each.

    Returns:
        (4,) in [0, 1], higher is better; a uniform map has 1/4. NaN for a map without positive values.

    Cost: four maps. Source: Rao et al. 2022, arXiv:2205.10435, section 3.1.
    """
    if len(images) != 4 or len(targets) != 4:
        raise ValueError(f"a mosaic needs four images and their classes, got {len(images)} and {len(targets)}")
    picture = lesson_05.mosaic(images)                                 # (1, 3, H, W), row by row
    maps = method(model, picture.expand(4, -1, -1, -1), targets)
    h, w = images.shape[-2] // 2, images.shape[-1] // 2
    quarters = torch.zeros(4, *picture.shape[-2:], dtype=torch.bool)
    quarters[0, :h, :w] = quarters[1, :h, w:] = quarters[2, h:, :w] = quarters[3, h:, w:] = True
    return torch.tensor([energy_pointing_game(map, quarter) for map, quarter in zip(maps, quarters, strict=True)])


def human_agreement(map: Tensor, human_map: Tensor | np.ndarray, *, ceiling: float = 1.0) -> float:
    """Rank correlation, pixel by pixel, of a map with where people look.

    Args:
        map, human_map: (H, W), of one size; see load_human_map.
        ceiling: what people reach among themselves, if known: the result is divided by it (ClickMe: 0.6575).

    Returns:
        Spearman's correlation / ceiling, higher is better, 1 at best with a ceiling of 1. NaN if a map is constant.

    Cost: none beyond the map. Source: Fel et al. 2022, arXiv:2211.04533, section 3.
    """
    map, human_map = checked(map), checked(human_map)
    if map.shape != human_map.shape:
        raise ValueError(f"the map is {tuple(map.shape)}, the human map {tuple(human_map.shape)}; see load_human_map")
    return rank_correlation(map, human_map) / ceiling


def rank_correlation(first: Tensor, second: Tensor) -> float:
    """Spearman over all pixels; NaN if a map is constant."""
    first, second = (map.flatten().numpy() for map in (first, second))
    return float(spearmanr(first, second).statistic) if min(np.ptp(first), np.ptp(second)) > 0 else math.nan


def load_human_map(path: Path, size: int = 224) -> Tensor:
    """A grey picture or a .npy array (H, W), of the whole photo -> (size, size), cropped as preprocess_image does."""
    array = path.suffix == ".npy"
    image = Image.fromarray(np.load(path).astype(np.float32)) if array else load_image(path)
    return torch.from_numpy(np.array(crop_picture(image, size).convert("F"))) / 255


# %% [markdown]
# ## Step 4: robustness, and a network that forgets


# %%
def max_sensitivity(
    method: Callable,
    model: nn.Module,
    image: Tensor,
    target: int | None = None,
    *,
    radius: float = 0.02,
    samples: int = 10,
    generator: torch.Generator | None = None,
) -> float:
    """How far can a map move when no value of the image moves by more than `radius`?

    Args:
        method: (model, images, target) -> (B, H, W) or (B, C, H, W).
        model, image, target: as in deletion_curve; the class stays the clean image's.
        radius: of the uniform noise, in normalised units.
        samples: disturbed images tried.
        generator: of the noise, seeded with 0 by default.

    Returns:
        The largest |Phi(y) - Phi(x)| / |Phi(x)| found, >= 0, lower is better. NaN if the clean map is all zero.

    Cost: samples + 1 maps. Source: Yeh et al. 2019, arXiv:1901.09392, definition 4.1.
    """
    check_counts(samples=samples)
    image, generator = one_image(model, image), generator or torch.Generator().manual_seed(0)
    target = top_class(model, image, target)
    clean = method(model, image, target)
    if clean.norm() == 0:
        return math.nan
    # BEGIN SOLUTION 8.4
    moved = []
    for _ in range(samples):
        noise = radius * (2 * torch.rand(image.shape, generator=generator) - 1)
        moved.append((method(model, image + noise.to(image), target) - clean).norm() / clean.norm())
    return max(moved).item()
    # END SOLUTION


def likeness(first: Tensor, second: Tensor) -> dict[str, float]:
    """Spearman with and without sign, and SSIM of the absolute maps in [0, 1]; NaN where undefined."""
    first, second = checked(first), checked(second)
    sizes = [map.abs() for map in (first, second)]
    if min(map.max() - map.min() for map in sizes) > 0 and min(first.shape) >= 7:     # SSIM's window is 7 x 7
        ssim = structural_similarity(*(normalize_map(map).numpy() for map in sizes), data_range=1.0)
    else:
        ssim = math.nan
    return {"spearman": rank_correlation(first, second), "spearman_abs": rank_correlation(*sizes), "ssim": float(ssim)}


def randomized_maps(
    method: MapFunction, model: nn.Module, image: Tensor, target: int, generator: torch.Generator
) -> Iterator[tuple[str, Tensor]]:
    """("as trained", map), then a stage's name and the map once it and all stages above it are random."""
    damaged = deepcopy(model)
    yield "as trained", method(damaged, image, target)[0]
    for stage in lesson_06.stages(model):
        lesson_06.randomize(damaged.get_submodule(stage), generator)
        yield stage, method(damaged, image, target)[0]


def parameter_randomization(
    method: MapFunction,
    model: nn.Module,
    image: Tensor,
    target: int | None = None,
    *,
    generator: torch.Generator | None = None,
) -> dict[str, dict[str, float]]:
    """How like the trained network's map is the map once weights are random, from the logits downwards?

    Args:
        method: (model, images, target) -> (B, H, W).
        model, image, target: as in deletion_curve. The model itself is untouched.
        generator: of the weights, seeded with 0 by default.

    Returns:
        Stage -> {"spearman", "spearman_abs", "ssim"}, "as trained" (all 1) first; each in [-1, 1]. Lower is better: a
        map that stays does not depend on what was learnt. NaN for constant maps.

    Cost: one map for each stage and one more. Source: Adebayo et al. 2018, arXiv:1810.03292, section 3.1.
    """
    image, generator = one_image(model, image), generator or torch.Generator().manual_seed(0)
    maps = dict(randomized_maps(method, model, image, top_class(model, image, target), generator))
    return {stage: likeness(maps["as trained"], map) for stage, map in maps.items()}


# %% [markdown]
# ## Step 5: pictures whose truth is known
#
# Where should a map be? Boxes drawn by hand are rough, and a network may rightly look at what surrounds an animal. So
# we paste a cut-out animal somewhere on a background without animals: what speaks for its class can only be its
# pixels, and we know them. With two animals, only those of the class asked for count.


# %%
def cutout(name: str) -> Image.Image:
    """An animal of data/cutouts as an RGBA image whose alpha channel is its mask."""
    file = DATA_DIR / "cutouts" / f"{name}.png"
    if not file.exists():
        known = sorted(path.stem for path in file.parent.glob("*.png"))
        raise ValueError(f"there is no cutout {name!r}; there are {', '.join(known)}")
    return Image.open(file)


def cutout_classes() -> dict[str, int]:
    """Name of each cutout -> its ImageNet class."""
    return json.loads((DATA_DIR / "cutouts" / "classes.json").read_text())


def planted_scene(
    objects: Sequence[str], background: Image.Image, *, seed: int, size: int = 224, sides: tuple[int, int] = (70, 130)
) -> tuple[Tensor, Tensor, list[int]]:
    """Cut-out animals at random places of a background: a picture whose truth is known.

    Args:
        objects: names in data/cutouts; they do not overlap.
        background: any picture; its centre is used.
        seed: of places, sizes and flips.
        size: side of the scene in pixels.
        sides: smallest and largest longer side of an animal, in pixels.

    Returns:
        image (1, 3, size, size), normalised, ready for the network; masks (N, size, size), bool, of the visible pixels;
        classes, their ImageNet classes, in the order of `objects`.

    Raises:
        ValueError: an unknown name, or no room for so many.
    """
    if sides[1] > size:
        raise ValueError(f"an animal of {sides[1]} pixels does not fit into {size}")
    random, scene, masks = np.random.default_rng(seed), ImageOps.fit(as_rgb(background), (size, size)), []
    for name in objects:
        animal = cutout(name)
        for _ in range(1000):                                          # until it does not overlap the others
            factor = random.integers(sides[0], sides[1] + 1) / max(animal.size)
            width, height = (max(1, round(length * factor)) for length in animal.size)
            x, y = (int(random.integers(0, size - length + 1)) for length in (width, height))
            place = (slice(y, y + height), slice(x, x + width))
            if not any(mask[place].any() for mask in masks):
                break
        else:
            raise ValueError(f"no room for {len(objects)} animals of {sides[0]} to {sides[1]} pixels in {size}")
        animal = animal.resize((width, height), Image.Resampling.LANCZOS)
        animal = ImageOps.mirror(animal) if random.random() < 0.5 else animal
        alpha = animal.getchannel("A")
        soft = ImageChops.darker(alpha, alpha.filter(ImageFilter.GaussianBlur(1)))    # inwards only: no halo
        scene.paste(animal, (x, y), soft)
        mask = np.zeros((size, size), dtype=bool)
        mask[place] = np.asarray(soft) > 127
        masks.append(mask)
    image = TF.normalize(TF.to_tensor(scene), IMAGENET_MEAN, IMAGENET_STD)[None]
    return image, torch.from_numpy(np.stack(masks)), [cutout_classes()[name] for name in objects]


def backgrounds() -> list[Image.Image]:
    """The squares of the course's photographs that hold no animal."""
    annotations = json.loads((DATA_DIR / "annotations.json").read_text())
    return [load_image(name).crop(entry["background"]) for name, entry in annotations.items() if "background" in entry]


@dataclass(frozen=True, eq=False)
class Subject:
    """A picture to be scored: `regions` (N, H, W) of the class asked for, None if unknown."""

    name: str
    kind: str                                                          # "photo", "one animal" or "two animals"
    image: Tensor                                                      # (1, 3, H, W)
    target: int
    regions: Tensor | None
    other: int | None = None                                           # the class of the other animal
    human: Tensor | None = None                                        # where people looked, (H, W)


def scenes(model: nn.Module, count: int, seed: int, device: str | torch.device) -> tuple[list[Subject], int]:
    """`count` planted scenes whose class the network finds, half of them with two animals; how many were dropped.

    Found means a probability above 0.5 for one animal, the top five for two.
    """
    names, grounds = list(cutout_classes()), backgrounds()
    random, kept, dropped = np.random.default_rng(seed), [], 0
    while len(kept) < count:
        several = 1 + len(kept) % 2
        objects = [names[i] for i in random.choice(len(names), several, replace=False)]
        ground = grounds[random.integers(len(grounds))]
        image, masks, classes = planted_scene(objects, ground, seed=int(random.integers(2**31)))
        image = image.to(device)
        with torch.inference_mode():
            probability = model(image).softmax(dim=1)[0]
        found = probability[classes[0]] > 0.5 if several == 1 else classes[0] in probability.topk(5).indices
        if not found:
            dropped += 1
            continue
        name = f"scene{len(kept):02}_{'_and_'.join(objects)}"
        kind = "one animal" if several == 1 else "two animals"
        kept.append(Subject(name, kind, image, classes[0], masks[:1], None if several == 1 else classes[1]))
    return kept, dropped


def box_masks(name: str, size: int = 224) -> Tensor:
    """Hand-drawn boxes of a photograph of data/, cropped as preprocess_image does: (N, size, size) masks."""
    entry, masks = json.loads((DATA_DIR / "annotations.json").read_text())[name], []
    for x0, y0, x1, y1 in entry["boxes"]:
        drawn = np.zeros(entry["size"][::-1], dtype=np.uint8)
        drawn[y0:y1, x0:x1] = 255
        masks.append(np.asarray(crop_picture(Image.fromarray(drawn), size))[..., 0] > 127)
    return torch.from_numpy(np.stack(masks))


def photographs(
    model: nn.Module, files: Sequence[Path], target: int | None, device: str | torch.device, human: Path | None = None
) -> list[Subject]:
    """The pictures, explained for their top class or for `target`; with boxes where that is the annotated class.

    `human` is a folder of attention maps, <stem>.png or <stem>.npy. Where it has none, boxes stand in for people.
    """
    annotations, subjects = json.loads((DATA_DIR / "annotations.json").read_text()), []
    for file in files:
        image = preprocess_image(load_image(file)).to(device)
        label = top_class(model, image, target)
        ours = not file.exists() or file.resolve().parent == DATA_DIR  # a bare name is looked up in data/
        boxed = ours and annotations[file.name]["class"] == label
        boxes = box_masks(file.name) if boxed else None
        seen = [human / f"{file.stem}{suffix}" for suffix in (".npy", ".png")] if human else []
        seen = [path for path in seen if path.exists()]
        looked = load_human_map(seen[0]) if seen else union(boxes).float() if boxed else None
        subjects.append(Subject(file.name, "photo", image, label, boxes, human=looked))
    return subjects


# %% [markdown]
# ## Step 6: every method on every picture
#
# A run is a list of tasks: a group of scores, a picture, a method. Whatever a task finds is in scores.csv before the
# next one starts, maps and curves are kept in a folder beside it, and a task that is there is not done again.

# %%
COLUMNS = ("run", "group", "subject", "method", "metric", "detail", "value")
Row = tuple[str, str, str, str, str, str, float]


@dataclass
class Run:
    """What all tasks share: the network, the methods, the sizes of things, and where results are kept."""

    model: nn.Module
    methods: dict[str, MapFunction]
    folder: Path
    seed: int
    quick: bool
    human: str = ""

    def __post_init__(self) -> None:
        network = lesson_07.fingerprint(self.model, *self.model.state_dict().values())
        human = f"-{lesson_07.fingerprint(self.human)}" if self.human else ""
        self.name, self.memory = f"{network}-{self.seed}-{'quick' if self.quick else 'full'}{human}", {}

    def kept(self, key: str, compute: Callable[[], Tensor]) -> Tensor:
        """The tensor of that name: from the folder, or computed and put there."""
        file = self.folder / "kept" / self.name / f"{key}.npy"
        if not file.exists():
            values = compute().detach().float().cpu().numpy()
            lesson_07.write(file, lambda stream: np.save(stream, values))
        return self.found(key)

    def found(self, key: str) -> Tensor:
        """A tensor that was kept."""
        return torch.from_numpy(np.load(self.folder / "kept" / self.name / f"{key}.npy"))

    def map(self, subject: Subject, method: str) -> Tensor:
        """A method's map of a picture, (H, W)."""
        function = self.methods[method]
        return self.kept(f"{subject.name}-{method}", lambda: function(self.model, subject.image, subject.target)[0])

    def generator(self) -> torch.Generator:
        """A fresh one: every method meets the same subsets, noise and random weights."""
        return torch.Generator().manual_seed(self.seed)

    def once(self, key: tuple, compute: Callable[[], object]) -> object:
        """Computed once and shared by the methods that come one after another; only the last key is remembered."""
        if key not in self.memory:
            self.memory = {key: compute()}
        return self.memory[key]


Found = dict[tuple[str, str], float]                                   # (metric, detail) -> value


def roughness(map: Tensor) -> float:
    """Mean step between neighbouring pixels, as a share of that between any two: 0 smooth, 1 pure noise."""
    map = checked(map)
    steps = torch.cat([map.diff(dim=0).flatten(), map.diff(dim=1).flatten()]).abs().mean()
    order = torch.randperm(map.numel(), generator=torch.Generator().manual_seed(0))
    strangers = (map.flatten() - map.flatten()[order]).abs().mean()
    return (steps / strangers).item() if strangers > 0 else math.nan


def score_map(run: Run, subject: Subject, method: str) -> Found:
    """Seconds for the map, and how rough it is."""
    start = time.perf_counter()
    map = run.methods[method](run.model, subject.image, subject.target)[0].cpu()
    found = {("seconds", ""): time.perf_counter() - start, ("roughness", ""): roughness(map)}
    run.kept(f"{subject.name}-{method}", lambda: map)
    return found


def score_curves(run: Run, subject: Subject, method: str) -> Found:
    """Areas under the deletion and insertion curves, with half the steps in a quick run."""
    map, found = run.map(subject, method), {}
    for name, curve in (("deletion", deletion_curve), ("insertion", insertion_curve)):
        compute = partial(curve, run.model, subject.image, map, subject.target, step=3584 if run.quick else 1792)
        found[name, ""] = area_under_curve(run.kept(f"{subject.name}-{method}-{name}", compute))
    return found


def score_places(run: Run, subject: Subject, method: str) -> Found:
    """Pointing game and energy where the regions are known, human agreement where a human map or its stand-in is."""
    map, prefix, found = run.map(subject, method), "boxes" if subject.kind == "photo" else "scene", {}
    if subject.regions is not None:
        hit = pointing_game(map, subject.regions)
        found[f"{prefix}_pointing", ""] = math.nan if hit is None else float(hit)
        found[f"{prefix}_energy", ""] = energy_pointing_game(map, subject.regions)
    if subject.human is not None:
        found["human", ""] = human_agreement(map, subject.human)
    return found


def score_contrast(run: Run, subject: Subject, method: str) -> Found:
    """Correlation of the maps of the two animals' classes."""
    function = run.methods[method]
    other = run.kept(f"{subject.name}-{method}-other", lambda: function(run.model, subject.image, subject.other)[0])
    return {("contrast", ""): pearson(run.map(subject, method).flatten().double(), other.flatten().double())}


def score_grid(run: Run, subject: Subject, method: str) -> Found:
    """Share in the right quarter, for each of four photographs; `subject` holds all four."""
    shares = grid_pointing_game(run.methods[method], run.model, subject.image, subject.target)
    return {("grid", str(i)): share for i, share in enumerate(shares.tolist())}


def score_sensitivity_n(run: Run, subject: Subject, method: str) -> Found:
    """Correlations for several n; the forward passes are shared by all methods."""
    samples, shares = (20, (0.01, 0.1, 0.5)) if run.quick else (100, (0.001, 0.01, 0.1, 0.5))
    pixels, generator = subject.image[0, 0].numel(), run.generator()

    def drops() -> list[tuple[int, Tensor, Tensor]]:
        subsets = [(n, random_subsets(samples, n, subject.image.shape[-2:], generator))
                   for n in (round(share * pixels) for share in shares)]  # fmt: skip
        return [(n, masks, removal_drops(run.model, subject.image, masks, subject.target)) for n, masks in subsets]

    met = run.once(("sensitivity_n", subject.name), drops)
    map = run.map(subject, method)
    return {("sensitivity_n", str(n)): pearson(sums_inside(map, masks), lost) for n, masks, lost in met}


def score_infidelity(run: Run, subject: Subject, method: str) -> Found:
    """INFD of the map read as shares, with squares removed; the forward passes are shared by all methods."""
    samples = 20 if run.quick else 50

    def drops() -> tuple[Tensor, Tensor]:
        masks = random_squares(samples, subject.image.shape[-2:], run.generator())
        return masks, removal_drops(run.model, subject.image, masks, subject.target)

    masks, lost = run.once(("infidelity", subject.name), drops)
    return {("infidelity", ""): mean_square_error(sums_inside(run.map(subject, method), masks), lost, rescale=True)}


def score_max_sensitivity(run: Run, subject: Subject, method: str) -> Found:
    """SENS with three disturbed images."""
    options = {"samples": 3, "generator": run.generator()}
    value = max_sensitivity(run.methods[method], run.model, subject.image, subject.target, **options)
    return {("max_sensitivity", ""): value}


def score_randomization(run: Run, subject: Subject, method: str) -> Found:
    """Likeness to the trained network's map, stage by stage; in a quick run only down to the fourth stage."""
    found, trained = {}, None
    maps = randomized_maps(run.methods[method], run.model, subject.image, subject.target, run.generator())
    for i, (stage, map) in enumerate(maps):
        trained = map if trained is None else trained
        run.kept(f"{subject.name}-{method}-random-{i}-{stage}", lambda map=map: map)
        found |= {(metric, f"{i} {stage}"): value for metric, value in likeness(trained, map).items()}
        if run.quick and i == 4:
            break
    return found


def score_baselines(run: Run, subject: Subject, method: str) -> Found:
    """Integrated Gradients only: correlation of its map with that for another baseline."""
    if method != "integrated_gradients":
        return {}
    map, found = run.map(subject, method), {}
    for baseline in ("black", "white", "blur"):
        other = lesson_04.integrated_gradients(run.model, subject.image, subject.target, n_steps=20, baseline=baseline)
        found["baseline", baseline] = correlation(map, channel_reduce(other, "sum")[0].cpu())
    return found


# Group -> function, kind of picture, and how many of them: in a quick run, in a full one. None: all.
GROUPS: dict[str, tuple[Callable[[Run, Subject, str], Found], str, int | None, int | None]] = {
    "map": (score_map, "", None, None),
    "curves": (score_curves, "photo", None, None),
    "places": (score_places, "", None, None),
    "contrast": (score_contrast, "two animals", 2, 6),
    "grid": (score_grid, "mosaic", 1, 2),
    "sensitivity_n": (score_sensitivity_n, "photo", 1, 3),
    "infidelity": (score_infidelity, "photo", 1, 5),
    "max_sensitivity": (score_max_sensitivity, "photo", 1, 2),
    "randomization": (score_randomization, "photo", 1, 3),
    "baselines": (score_baselines, "photo", 1, 3),
}


def mosaics(photos: Sequence[Subject]) -> list[Subject]:
    """Four photographs of four classes each, as one Subject."""
    chosen, found = [], []
    for photo in photos:
        if photo.target not in [other.target for other in chosen]:
            chosen.append(photo)
        if len(chosen) == 4:
            name = "mosaic_" + "_".join(Path(other.name).stem for other in chosen)
            images = torch.cat([other.image for other in chosen])
            found.append(Subject(name, "mosaic", images, [other.target for other in chosen], None))
            chosen = []
    return found


def tasks(run: Run, subjects: Sequence[Subject], groups: Sequence[str]) -> list[tuple[str, Subject, str]]:
    """All (group, subject, method) that are to be done, group by group."""
    todo = []
    for group in groups:
        _, kind, quick, full = GROUPS[group]
        fitting = [subject for subject in subjects if kind in ("", subject.kind) and (kind or subject.kind != "mosaic")]
        some = fitting[: quick if run.quick else full]
        todo += [(group, subject, method) for subject in some for method in run.methods]
    return todo


def read_scores(file: Path) -> list[Row]:
    """The rows of scores.csv, of any run; none if it does not exist."""
    if not file.exists():
        return []
    with file.open(newline="") as stream:
        header, *rows = csv.reader(stream)
    if tuple(header) != COLUMNS:
        raise ValueError(f"{file} is not this lesson's scores.csv; move it away or choose another --output-dir")
    return [(*row[:-1], float(row[-1])) for row in rows]


def write_scores(file: Path, rows: Sequence[Row]) -> None:
    """All rows, under a temporary name, then renamed: a kill at any moment leaves the old file or the new one."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
    lesson_07.write(file, lambda stream: stream.write(text.getvalue().encode()))


def evaluate(run: Run, subjects: Sequence[Subject], groups: Sequence[str]) -> list[Row]:
    """Do what is not in scores.csv yet; all rows of this run."""
    file = run.folder / "scores.csv"
    rows = read_scores(file)
    done = {row[:4] for row in rows}
    todo = [task for task in tasks(run, subjects, groups) if (run.name, task[0], task[1].name, task[2]) not in done]
    for group, subject, method in (bar := tqdm(todo, desc="scores", unit="task")):
        bar.set_postfix_str(f"{group} {method}")
        found = GROUPS[group][0](run, subject, method) or {("nothing", ""): math.nan}
        place = (run.name, group, subject.name, method)
        rows += [(*place, metric, detail, value) for (metric, detail), value in found.items()]
        write_scores(file, rows)
    return [row for row in rows if row[0] == run.name and row[1] in groups and row[3] in run.methods]


# %% [markdown]
# ## Step 7: from scores to statements
#
# A mean over ten photographs is worth little without its interval. The percentile bootstrap draws the pictures again
# with replacement, ten thousand times. Two methods whose intervals overlap are not ranked; claims about pairs use the
# differences picture by picture, which is the sharper test.


# %%
@dataclass(frozen=True)
class Estimate:
    """Mean over pictures and its 95 % bootstrap interval, NaN for fewer than two pictures; how many."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}]" if self.n else "-"


def bootstrap(values: Sequence[float], resamples: int = 10_000) -> Estimate:
    """Percentile bootstrap of the mean; NaN values are left out (and not counted)."""
    met = np.array([value for value in values if not math.isnan(value)])
    if len(met) < 2:
        return Estimate(met.mean() if len(met) else math.nan, math.nan, math.nan, len(met))
    drawn = np.random.default_rng(0).integers(len(met), size=(resamples, len(met)))
    low, high = np.percentile(met[drawn].mean(axis=1), [2.5, 97.5])
    return Estimate(float(met.mean()), float(low), float(high), len(met))


def by_subject(rows: Sequence[Row], metric: str, method: str, detail: Callable[[str], bool] = bool) -> dict[str, float]:
    """Subject -> a method's value, averaged over those details (n, stage) that are wanted."""
    values: dict[str, list[float]] = {}
    for _, _, subject, name, found, part, value in rows:
        if (name, found) == (method, metric) and (part == "" or detail(part)):
            values.setdefault(subject, []).append(value)
    return {subject: float(np.mean(some)) for subject, some in values.items()}


# Metric -> title, whether higher (1) or lower (-1) is better
METRICS = {
    "insertion": ("insertion AUC", 1),
    "deletion": ("deletion AUC", -1),
    "sensitivity_n": ("sensitivity-n", 1),
    "infidelity": ("infidelity", -1),
    "scene_energy": ("energy, scenes", 1),
    "scene_pointing": ("pointing, scenes", 1),
    "boxes_energy": ("energy, boxes", 1),
    "boxes_pointing": ("pointing, boxes", 1),
    "human": ("agreement: people or boxes", 1),
    "grid": ("grid", 1),
    "contrast": ("likeness of classes", -1),
    "spearman_abs": ("likeness when random", -1),
    "max_sensitivity": ("max-sensitivity", -1),
    "roughness": ("roughness", -1),
    "seconds": ("seconds", -1),
}


def is_random(stage: str) -> bool:
    """Of the randomisation's details all but the trained network's; of sensitivity-n's all."""
    return not stage.startswith("0 ")


def summary(rows: Sequence[Row], methods: Sequence[str]) -> dict[str, dict[str, Estimate]]:
    """Metric -> method -> estimate, for the metrics that were computed."""
    table = {}
    for metric in METRICS:
        row = {method: bootstrap([*by_subject(rows, metric, method, is_random).values()]) for method in methods}
        if any(estimate.n for estimate in row.values()):
            table[metric] = row
    return table


def leaders(row: dict[str, Estimate], better: int) -> list[str]:
    """The best method and all whose interval overlaps its interval, controls aside; best first."""
    met = {m: e for m, e in row.items() if e.n >= 2 and m not in CONTROLS}
    ordered = sorted(met, key=lambda m: -better * met[m].mean)
    return [m for m in ordered if overlap(met[m], met[ordered[0]])]


def overlap(first: Estimate, second: Estimate) -> bool:
    """Whether two intervals have a point in common."""
    return first.low <= second.high and second.low <= first.high


def verdict(estimate: Estimate, claim: str, bound: float) -> str:
    """Of the claim that the mean lies "above" or "below" a bound."""
    if estimate.n < 3:
        return "undecided (too few pictures)"
    above, below = estimate.low > bound, estimate.high < bound
    return "undecided" if not (above or below) else "holds" if above == (claim == "above") else "does not hold"


def difference(rows: Sequence[Row], metric: str, first: str, second: str) -> Estimate:
    """First method's value minus the second's, picture by picture."""
    a, b = by_subject(rows, metric, first), by_subject(rows, metric, second)
    return bootstrap([a[subject] - b[subject] for subject in a if subject in b])


def rank_agreement(rows: Sequence[Row], methods: Sequence[str]) -> Estimate:
    """Spearman, picture by picture, between the methods' order by insertion and by deletion."""
    methods = [method for method in methods if method not in CONTROLS]
    if len(methods) < 3:
        return bootstrap([])
    insertion, deletion = ([by_subject(rows, metric, m) for m in methods] for metric in ("insertion", "deletion"))
    pairs = [([row[subject] for row in insertion], [-row[subject] for row in deletion]) for subject in insertion[0]]
    return bootstrap([float(spearmanr(*pair).statistic) for pair in pairs])


def claims(rows: Sequence[Row], methods: Sequence[str]) -> list[tuple[str, str, str]]:
    """What the field says, the number on these pictures, and whether it holds."""

    def mean(metric: str, method: str, detail: Callable[[str], bool] = bool) -> Estimate:
        return bootstrap([*by_subject(rows, metric, method, detail).values()])

    guided, others = "guided_backpropagation", [m for m in methods if m not in (*CONTROLS, "grad_cam")]
    best = {metric: max(others, key=lambda m: np.nan_to_num(mean(metric, m).mean), default="")
            for metric in ("scene_energy", "scene_pointing")}  # fmt: skip
    tests = [
        ("vanilla gradients are noisy", "roughness", mean("roughness", "vanilla_gradient"), "above", 0.5),
        ("SmoothGrad cleans them", "roughness of the gradient minus SmoothGrad's",
         difference(rows, "roughness", "vanilla_gradient", "smoothgrad"), "above", 0.0),
        ("gradient x input is still noisy", "roughness", mean("roughness", "gradient_times_input"), "above", 0.5),
        *((f"Grad-CAM localises best on planted scenes, by {metric[6:]}", f"its score minus that of {best[metric]}",
           difference(rows, metric, "grad_cam", best[metric]), "above", 0.0) for metric in best),
        ("guided backpropagation is not class-discriminative", "likeness of two classes' maps minus Grad-CAM's",
         difference(rows, "contrast", guided, "grad_cam"), "above", 0.0),
        ("guided backpropagation fails the randomisation test", "likeness with the top two stages random",
         mean("spearman_abs", guided, lambda stage: stage.startswith("2 ")), "above", 0.5),
        ("Integrated Gradients depends on its baseline", "r between maps of two baselines",
         mean("baseline", "integrated_gradients"), "below", 0.9),
        ("insertion and deletion disagree", "rank correlation of their orders of the methods",
         rank_agreement(rows, methods), "below", 0.5),
    ]  # fmt: skip
    return [
        (claim, f"{number}: {estimate}, n = {estimate.n}; {side} {bound}?", verdict(estimate, side, bound))
        for claim, number, estimate, side, bound in tests
        if estimate.n
    ]


# Question, metric that answers it, caution
GUIDELINES = (
    ("which pixels keep the answer up when they come back?", "insertion",
     "The blurred start is no natural picture, and smooth maps have an advantage: they uncover connected parts."),
    ("which pixels bring the answer down when they go?", "deletion",
     "Scattered grey pixels are as foreign to the network as any: a quick fall may be an adversarial pattern."),
    ("what would removing some pixels cost?", "sensitivity_n",
     "Correlations of random subsets are small for all methods; look at the curve over n, not at one number."),
    ("where in the picture is the animal of this class?", "scene_energy",
     "Planted animals have no surroundings: this says nothing about evidence in the background."),
    ("which of several animals in one picture is meant?", "grid",
     "A mosaic is not a photograph, and the network's confidence in it is lower."),
    ("a map that stays when the picture hardly changes?", "max_sensitivity",
     "A map that never changes is perfectly steady and says nothing: the uniform control scores 0."),
    ("a map that depends on what the network has learnt?", "spearman_abs",
     "Necessary, not sufficient; and likeness at random weights also depends on how much of the photo a map repeats."),
    ("a map for every picture of a large collection?", "seconds",
     "Seconds on this machine; the order is what carries over."),
)  # fmt: skip


def guidelines(table: dict[str, dict[str, Estimate]]) -> Iterator[str]:
    """One paragraph a question: who leads, by which number, whether a control does as well, one caution."""
    for question, metric, caution in GUIDELINES:
        if metric not in table or not leaders(table[metric], METRICS[metric][1]):
            continue
        row, (title, better) = table[metric], METRICS[metric]
        first, *same = leaders(row, better)
        text = f"- **{question}** {first} ({title} {row[first]})"
        text += f", not to be told apart from {', '.join(same)}." if same else ", alone in the lead."
        level = [c for c in CONTROLS if c in row and row[c].n >= 2
                 and (overlap(row[c], row[first]) or better * row[c].mean > better * row[first].mean)]  # fmt: skip
        if level and metric != "seconds":
            text += f" But a control that knows nothing does as well: {', '.join(level)} ({row[level[0]]})."
        yield f"{text} *{caution}*"


def report(run: Run, rows: Sequence[Row], subjects: Sequence[Subject], dropped: int, model_name: str) -> str:
    """08_report.md: what was measured, the table, the claims, the guidelines."""
    table, methods = summary(rows, list(run.methods)), list(run.methods)
    kinds = [subject.kind for subject in subjects]
    lines = [
        "# Comparative analysis", "",
        f"{model_name}, seed {run.seed}, {kinds.count('photo')} photographs, "
        f"{sum('animal' in kind for kind in kinds)} planted scenes ({dropped} more were dropped: the network did not "
        "find the class). Mean and 95 % bootstrap interval over pictures; the metrics that need many "
        "passes were computed on fewer pictures (n). Every value is in scores.csv.", "",
        "| metric | better | n | " + " | ".join(methods) + " |",
        "| --- | --- | --- |" + " --- |" * len(methods),
    ]  # fmt: skip
    for metric, row in table.items():
        title, better = METRICS[metric]
        n = max(estimate.n for estimate in row.values())
        cells = " | ".join(str(row[method]) for method in methods)
        lines.append(f"| {title} | {'higher' if better > 0 else 'lower'} | {n} | {cells} |")
    lines += ["", "## Claims of the field, on these pictures", ""]
    lines += ["| claim | measured | verdict |", "| --- | --- | --- |"]
    lines += [f"| {claim} | {number} | {verdict} |" for claim, number, verdict in claims(rows, methods)]
    lines += ["", "## Which method when", "", "Methods whose intervals overlap are not ranked; `random`, `centre`, "
              "`edges` and `uniform` are controls that know nothing about the network.", ""]  # fmt: skip
    lines += [*guidelines(table), ""]
    return "\n".join(lines)


# %% [markdown]
# ## The pictures


# %%
def figure_gallery(run: Run, subjects: Sequence[Subject]) -> Figure:
    """All methods on some pictures; one rule: each map to the 99.5th percentile of its own absolute values."""
    methods = list(run.methods)
    size = (1.75 * (len(methods) + 1), 2.0 * len(subjects) + 0.5)
    figure, axes = plt.subplots(len(subjects), len(methods) + 1, figsize=size, squeeze=False, layout="constrained")
    for row, subject in zip(axes, subjects, strict=True):
        show_photo(row[0], displayable(subject.image)[0], class_names()[subject.target][:22])
        for axis, method in zip(row[1:], methods, strict=True):
            map = run.map(subject, method)
            axis.imshow(map.numpy(), **color_scale(map), interpolation="nearest")
            axis.set_axis_off()
    for axis, method in zip(axes[0, 1:], methods, strict=True):
        axis.set_title(two_lines(method), fontsize=9)
    figure.suptitle("Every map to the 99.5th percentile of its own absolute values; red and blue: signed")
    return figure


def two_lines(method: str) -> str:
    """A method's name, broken after the first word."""
    return method.replace("_", "\n", 1).replace("_", " ")


def colors(methods: Sequence[str]) -> dict[str, tuple]:
    """A colour for each method, grey for the controls."""
    palette = iter(plt.get_cmap("tab10").colors)
    return {method: "0.6" if method in CONTROLS else next(palette, "black") for method in methods}


STYLES = dict(zip(CONTROLS, ("-", "--", ":", "-."), strict=True))


def figure_curves(run: Run, photos: Sequence[Subject], table: dict[str, dict[str, Estimate]]) -> Figure:
    """Mean deletion and insertion curves over the photographs."""
    figure, axes = plt.subplots(1, 2, figsize=(12, 4.8), sharey=True, layout="constrained")
    for axis, name in zip(axes, ("deletion", "insertion"), strict=True):
        for method, color in colors(list(run.methods)).items():
            mean = np.mean([run.found(f"{photo.name}-{method}-{name}") for photo in photos], axis=0)
            label = f"{method} {table[name][method].mean:.2f}"
            axis.plot(np.linspace(0, 1, len(mean)), mean, STYLES.get(method, "-"), color=color, label=label)
        axis.set(title=f"{name}: {'lower' if name == 'deletion' else 'higher'} is better",
                 xlabel="share of pixels, most important first")  # fmt: skip
        axis.legend(fontsize=7, title="area under the curve", title_fontsize=8)
    axes[0].set_ylabel("probability of the class")
    figure.suptitle(f"Mean over {len(photos)} photographs")
    return figure


def figure_scores(table: dict[str, dict[str, Estimate]], methods: Sequence[str]) -> Figure:
    """All scores; in each column dark is better, by rank; bold: the leader and those that overlap it."""
    figure, axis = plt.subplots(figsize=(1.25 * len(table) + 3, 0.48 * len(methods) + 2), layout="constrained")
    shades = np.full((len(methods), len(table)), np.nan)
    for column, (metric, row) in enumerate(table.items()):
        better, leading = METRICS[metric][1], leaders(row, METRICS[metric][1])
        means = np.array([better * row[method].mean for method in methods])
        known = ~np.isnan(means)
        shades[known, column] = (rankdata(means[known]) - 1) / max(1, known.sum() - 1)           # ties: one shade
        for i, method in enumerate(methods):
            weight = "bold" if method in leading else "normal"
            few = "" if row[method].n >= 2 else "*"
            text = f"{row[method].mean:.2f}{few}" if row[method].n else "-"
            axis.text(column, i, text, ha="center", va="center", fontsize=8, weight=weight)
    axis.imshow(shades, cmap="Greens", vmin=0, vmax=2, aspect="auto")
    titles = [f"{METRICS[metric][0]}\n({'higher' if METRICS[metric][1] > 0 else 'lower'})" for metric in table]
    axis.set_xticks(range(len(table)), titles, rotation=45, ha="left", fontsize=8)
    axis.xaxis.tick_top()
    axis.set_yticks(range(len(methods)), [f"({m})" if m in CONTROLS else m for m in methods], fontsize=9)
    figure.suptitle("Means; shade: rank in the column; bold: not told apart from the best; *: one picture, unranked")
    return figure


def figure_randomization(run: Run, photo: Subject) -> Figure:
    """Maps of one photograph while the weights are randomised from the logits down; each on its own scale."""
    stages = ["as trained", *lesson_06.stages(run.model)][: 5 if run.quick else None]
    methods, size = list(run.methods), (1.7 * len(stages) + 1.5, 1.7 * len(run.methods) + 0.5)
    figure, axes = plt.subplots(len(methods), len(stages), figsize=size, squeeze=False, layout="constrained")
    for row, method in zip(axes, methods, strict=True):
        for i, (axis, stage) in enumerate(zip(row, stages, strict=True)):
            map = run.found(f"{photo.name}-{method}-random-{i}-{stage}")
            axis.imshow(map.numpy(), **color_scale(map), interpolation="nearest")
            axis.set(xticks=[], yticks=[])
        row[0].set_ylabel(two_lines(method), fontsize=8)
    for axis, stage in zip(axes[0], stages, strict=True):
        axis.set_title(stage, fontsize=9)
    figure.suptitle("Random weights from the logits down to the stage named above (each map on its own scale)")
    return figure


def figure_sensitivity_n(rows: Sequence[Row], methods: Sequence[str]) -> Figure:
    """Mean correlation over photographs for each n."""
    sizes = sorted({int(row[5]) for row in rows if row[4] == "sensitivity_n"})
    figure, axis = plt.subplots(figsize=(7.5, 4.6), layout="constrained")
    for method, color in colors(methods).items():
        means = [np.mean([*by_subject(rows, "sensitivity_n", method, str(n).__eq__).values()]) for n in sizes]
        if not np.isnan(means).all():
            axis.plot(sizes, means, STYLES.get(method, "o-"), color=color, label=method, markersize=4)
    axis.axhline(0, color="black", linewidth=0.6)
    axis.set(xscale="log", xlabel="n: pixels removed at a time", ylabel="correlation", title="Sensitivity-n")
    axis.legend(fontsize=7, bbox_to_anchor=(1, 1))
    return figure


def figure_cost(table: dict[str, dict[str, Estimate]], methods: Sequence[str]) -> Figure:
    """Seconds for a map against insertion AUC, with intervals."""
    figure, axis = plt.subplots(figsize=(7.5, 4.6), layout="constrained")
    for i, (method, color) in enumerate(colors(methods).items()):
        cost, score = table["seconds"][method], table["insertion"][method]
        error = [[score.mean - score.low], [score.high - score.mean]] if score.n > 1 else None
        place, beside = (max(cost.mean, 1e-4), score.mean), (5, 3 if i % 2 else -10)
        axis.errorbar(*place, error, fmt="o", color=color, capsize=3)
        axis.annotate(method, place, xytext=beside, textcoords="offset points", fontsize=8)
    axis.set(xscale="log", xlabel="seconds a map", ylabel="insertion AUC", title="What a map costs, what it scores")
    return figure


def options():
    """The command line of this lesson."""
    images = ["dog.jpg", "bird.jpg", "panda.jpg", "koala.jpg", "bison.jpg", "chicken.jpg", "jaguar.jpg", "lemur.jpg",
              "polar_bear.jpg", "red_panda.jpg"]  # fmt: skip
    parser = lesson_parser("08_comparative_analysis", "All methods side by side, scored by protocols.", images)
    listed = {"type": lambda text: text.split(","), "metavar": "A,B"}
    parser.add_argument("--methods", **listed, help=f"some of {','.join(METHODS)} (default: all)")
    parser.add_argument("--human", type=Path, metavar="DIR", help="human maps: <stem of the photo>.png or .npy")
    parser.add_argument("--metrics", **listed, help=f"some of {','.join(GROUPS)} (default: all)")
    return parser


def chosen(names: Sequence[str] | None, known: dict, what: str) -> list[str]:
    """The names asked for, all by default; ValueError for one that is not known."""
    unknown = sorted(set(names or ()) - set(known))
    if unknown:
        raise ValueError(f"there is no {what} {unknown[0]!r}; there are {', '.join(known)}")
    return [name for name in known if names is None or name in names]


def prepare(args: argparse.Namespace) -> tuple[Run, list[Subject], int]:
    """The run, its pictures, and how many planted scenes were dropped."""
    methods = {name: METHODS[name] for name in chosen(args.methods, METHODS, "method")}
    if args.human is not None and not args.human.is_dir():
        raise ValueError(f"--human {args.human} is not a folder; it should hold <stem of the photo>.png or .npy")
    run = Run(lesson_model(args), methods, args.output_dir, args.seed, args.quick, str(args.human or ""))
    files = list_pictures(args.image or args.default_images)
    files = files if args.image or not args.quick else files[:4]
    photos = photographs(run.model, files, lesson_target(args), args.device, args.human)
    planted, dropped = scenes(run.model, 4 if args.quick else 20, args.seed, args.device)
    return run, [*photos, *planted, *mosaics(photos)], dropped


# %% tags=["active-ipynb"]
# args = options().parse_args(["--quick"])
# run, subjects, dropped = prepare(args)
# rows = evaluate(run, subjects, list(GROUPS))
# table = summary(rows, list(run.methods))
# print(report(run, rows, subjects, dropped, "squeezenet1_1"))

# %% tags=["active-ipynb"]
# figure = figure_gallery(run, subjects[:3] + subjects[5:6])

# %% tags=["active-ipynb"]
# figure = figure_curves(run, [subject for subject in subjects if subject.kind == "photo"], table)

# %% tags=["active-ipynb"]
# figure = figure_scores(table, list(run.methods))

# %% tags=["active-ipynb"]
# figure = figure_randomization(run, subjects[0])

# %% [markdown]
# ## What the picture does not show
#
# - **Not which method is the best.** Each column asks another question; a method may lead one and fail the next.
# - **Not truth about the network**, where the truth is ours: pointing games and boxes reward a map for being where
#   *we* look. A network that decides by the grass deserves a map of the grass.
# - **Not natural pictures.** Deletion and insertion feed the network images it never met; scenes and mosaics, too.
# - **Not other networks.** Two networks, some dozens of pictures, animals only. The intervals say how far pictures
#   vary, not how far networks do.
# - **Not more than its interval.** Ten photographs rarely tell two methods apart.

# %% [markdown]
# ## Exercises
#
# **8.1 Area** (difficulty 1, 10 minutes, 2 points). Fill in `area_under_curve`. *First predict:* how far off is the
# plain mean of the points, and which way? *Hints:* the end points count half · their distance is 1 / (points - 1).
#
# **8.2 Sensitivity-n** (difficulty 2, 20 minutes, 4 points). Fill in the two lines. Over what does the correlation run?
# *Hints:* one number a subset on both sides · logits, not probabilities.
#
# **8.3 Pointing game** (difficulty 2, 15 minutes, 4 points). Fill in hit or miss. *Hints:* where is the first
# maximum? · the nearest pixel of the region · compare squares.
#
# **8.4 Max-sensitivity** (difficulty 2, 15 minutes, 3 points). Fill in the loop. An early implementation divided the
# running maximum by the norm in every round, and reported thousands. *Hints:* uniform in [-r, r] · one norm below.
#
# **8.5 A method of your own** (difficulty 3, 60 minutes, no code to submit). Add SmoothGrad times Grad-CAM to
# `METHODS`, predict three of its columns, then measure them (`--methods mine,grad_cam,random`).


# %%
def main(argv: Sequence[str] | None = None) -> int:
    """Score, print the table, write figures and report."""
    args = options().parse_args(argv)
    groups = chosen(args.metrics, GROUPS, "metric")
    run, subjects, dropped = prepare(args)
    rows = evaluate(run, subjects, groups)
    methods, table = list(run.methods), summary(rows, list(run.methods))
    print_table(["metric", *methods], [[METRICS[m][0], *(e.mean for e in row.values())] for m, row in table.items()])
    photos = [subject for subject in subjects if subject.kind == "photo"]
    figures = {"gallery.png": figure_gallery(run, photos[:3] + [s for s in subjects if s.kind == "two animals"][:1])}
    if table:
        figures["scores.png"] = figure_scores(table, methods)
    if "curves" in groups:
        figures["curves.png"] = figure_curves(run, photos, table)
    if {"curves", "map"} <= set(groups):
        figures["cost.png"] = figure_cost(table, methods)
    if "randomization" in groups:
        figures["randomization.png"] = figure_randomization(run, photos[0])
    if "sensitivity_n" in groups:
        figures["sensitivity_n.png"] = figure_sensitivity_n(rows, methods)
    text = report(run, rows, subjects, dropped, args.model or ("squeezenet1_1" if args.quick else "resnet50"))
    lesson_07.write(args.output_dir / "08_report.md", lambda stream: stream.write(text.encode()))
    print(f"wrote {args.output_dir / '08_report.md'}\nwrote {args.output_dir / 'scores.csv'}")
    save_figures(args, figures)
    return 0


# %% [markdown]
# ## Recap
#
# Measured with ResNet-50 by a full run, seed 0: ten photographs, twenty planted scenes (fourteen more were dropped).
#
# 1. **No method wins everywhere.** Guided Grad-CAM leads by energy on planted scenes (0.67 of the map on the animal,
#    Grad-CAM 0.31, a uniform map 0.07) and in mosaics (0.88; Grad-CAM 0.76, the gradient 0.45). Deletion is led by
#    Integrated Gradients (0.13), where Grad-CAM has 0.35, as much as noise (0.37).
# 2. **Controls are worth their place.** By insertion AUC a Gaussian blob (0.88) cannot be told from the best method
#    (0.93), and by agreement with boxes it beats most methods: photographers centre.
# 3. **Claims.** These hold: gradients are noisy, SmoothGrad makes them less so, gradient x input stays noisy, guided
#    backpropagation is hardly class-discriminative and fails the randomisation test, Integrated Gradients depends on
#    its baseline (r = 0.39 between baselines), insertion and deletion disagree (rank correlation 0.0). That Grad-CAM
#    localises best does not hold by energy, and is undecided by pointing: it hits 95 %, but so does guided Grad-CAM.
# 4. **A metric can fail, too.** Sensitivity-n with single pixels of a 224 x 224 photograph tells no method from chance:
#    all correlations lie within 0.1 of zero, the random map's as well.
# 5. Report intervals, controls and what was left out. A table without them is a ranking of noise.

# %% tags=["active-py"]
if __name__ == "__main__":
    sys.exit(run_lesson(main))
