"""Deletion and insertion."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from course.checks import (
    check_counts,
    checked,
    one_image,
    top_class,
)


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
