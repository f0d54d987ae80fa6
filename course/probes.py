"""Small measurements that several lessons make: likeness, roughness, noise, shifts, random weights, mosaics."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from skimage.filters import sobel
from torch import Tensor, nn

from course.pictures import displayable


def correlation(first: Tensor, second: Tensor) -> float:
    """Pearson correlation of two maps, pixel by pixel; NaN if one is constant."""
    return torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1].item()


def roughness(map: Tensor) -> float:
    """Mean |difference| of neighbours over that of strangers: 0 is smooth, 1 is noise, whatever the map's values.

    Strangers are pixels paired at random, so noise treated in the same way (maximum over channels, absolute value)
    scores 1 as well. NaN for a constant map.
    """
    map = map.squeeze()
    steps = torch.cat([map.diff(dim=-1).flatten(), map.diff(dim=-2).flatten()]).abs().mean()
    order = torch.randperm(map.numel(), generator=torch.Generator().manual_seed(0)).to(map.device)
    strangers = (map.flatten() - map.flatten()[order]).abs().mean()
    return (steps / strangers).item() if strangers > 0 else float("nan")


def value_range(images: Tensor) -> Tensor:
    """max - min of each image, (B, 1, 1, 1)."""
    return images.amax(dim=(1, 2, 3), keepdim=True) - images.amin(dim=(1, 2, 3), keepdim=True)


def with_noise(images: Tensor, noise_level: float, seed: int) -> Tensor:
    """The images plus Gaussian noise of noise_level times each image's own value range; alike for every device."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    return images + noise_level * value_range(images) * noise.to(images)


def stages(model: nn.Module) -> list[str]:
    """Names of the model's parts that have weights, from the logits down; those of model.features one by one."""
    names = []
    for name, part in model.named_children():
        inside = [f"{name}.{child}" for child, _ in part.named_children()] if name == "features" else [name]
        names += [stage for stage in inside if any(True for _ in model.get_submodule(stage).parameters())]
    return names[::-1]


@torch.no_grad()
def randomize(module: nn.Module, generator: torch.Generator) -> None:
    """Draw the weights of a module anew, in place: He et al.'s initialisation, biases 0, batch norm as when new."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.reset_parameters()
        elif isinstance(getattr(part, "weight", None), Tensor) and part.weight.ndim >= 2:
            drawn = nn.init.kaiming_normal_(part.weight.cpu(), nonlinearity="relu", generator=generator)
            part.weight.copy_(drawn)
            if getattr(part, "bias", None) is not None:
                part.bias.zero_()


def randomized(model: nn.Module, names: Sequence[str] | None = None, seed: int = 0) -> nn.Module:
    """A copy of the model with random weights in the named stages, in all of them by default: it knows nothing."""
    forgetful, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    for name in stages(model) if names is None else names:
        randomize(forgetful.get_submodule(name), generator)
    return forgetful


def photo_edges(images: Tensor) -> Tensor:
    """Edges of the grey photographs (Sobel), (B, H, W): a control that knows neither network nor class."""
    return torch.from_numpy(np.stack([sobel(photo.mean(axis=2)) for photo in displayable(images)])).to(images)


def mosaic(images: Tensor) -> Tensor:
    """Four images at half size as one: (4, 3, H, W) -> (1, 3, H, W), row by row."""
    # On the CPU, because not every device has antialias
    small = F.interpolate(images.cpu(), scale_factor=0.5, mode="bilinear", antialias=True).to(images)
    return torch.cat([torch.cat([*small[:2]], dim=2), torch.cat([*small[2:]], dim=2)], dim=1)[None]


def own_quarter(maps: Tensor) -> list[float]:
    """Of each of the maps (4, H, W) of a mosaic's classes, the share in the class's own quarter; 1/4 is chance."""
    h, w = maps.shape[1] // 2, maps.shape[2] // 2
    inside = [map[i // 2 * h :, i % 2 * w :][:h, :w].sum() for i, map in enumerate(maps)]
    return [(part / map.sum()).item() for part, map in zip(inside, maps, strict=True)]


def pearson(first: Tensor, second: Tensor) -> float:
    """Correlation of two (N,) float64 tensors; NaN where one does not vary beyond rounding."""
    for values in (first, second):
        if len(values) < 2 or values.std() <= 1e-9 * values.abs().max():
            return math.nan
    return correlation(first, second)


def rank_correlation(first: Tensor, second: Tensor) -> float:
    """Spearman over all pixels; NaN if a map is constant."""
    first, second = (map.flatten().numpy() for map in (first, second))
    return float(spearmanr(first, second).statistic) if min(np.ptp(first), np.ptp(second)) > 0 else math.nan
