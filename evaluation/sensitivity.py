"""Sensitivity-n, infidelity, max-sensitivity."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from course.checks import (
    check_counts,
    one_image,
    top_class,
)
from course.probes import pearson


@torch.inference_mode()
def score_drops(
    model: nn.Module, image: Tensor, others: Callable[[int, int], Tensor], count: int, target: int
) -> Tensor:
    """S_c(x) - S_c(y) for `count` disturbed images y, made eight at a time by others(first, last): (count,) float64."""
    whole = model(image)[0, target]
    scores = [model(others(i, min(i + 8, count)))[:, target] for i in range(0, count, 8)]
    return (whole - torch.cat(scores)).double().cpu()


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
