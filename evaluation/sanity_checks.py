"""Does the map change when the network forgets?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import deepcopy

import torch
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from course.checks import (
    MapFunction,
    checked,
    one_image,
    top_class,
)
from course.probes import randomize, rank_correlation, stages
from utils import (
    normalize_map,
)


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
    for stage in stages(model):
        randomize(damaged.get_submodule(stage), generator)
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
