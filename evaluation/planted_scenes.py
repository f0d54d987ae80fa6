"""Pointing games on pictures whose truth is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from course.checks import (
    MapFunction,
    checked,
)
from course.pictures import crop_picture, load_image
from course.probes import mosaic, rank_correlation


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
    picture = mosaic(images)                                 # (1, 3, H, W), row by row
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


def load_human_map(path: Path, size: int = 224) -> Tensor:
    """A grey picture or a .npy array (H, W), of the whole photo -> (size, size), cropped as preprocess_image does."""
    array = path.suffix == ".npy"
    image = Image.fromarray(np.load(path).astype(np.float32)) if array else load_image(path)
    return torch.from_numpy(np.array(crop_picture(image, size).convert("F"))) / 255
