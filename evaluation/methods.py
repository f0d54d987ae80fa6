"""Every method as a function (model, images, target) -> (B, H, W) map, and controls that know nothing of the network."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import torch
from skimage.filters import sobel
from torch import Tensor, nn

from course.checks import (
    MapFunction,
)
from course.pictures import displayable
from utils import (
    channel_reduce,
    import_lesson,
)


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
    "integrated_gradients": reduced(import_lesson("04_integrated_gradients").integrated_gradients, "sum", n_steps=20),
    "grad_cam": import_lesson("05_gradcam").grad_cam,
    "guided_backpropagation": reduced(import_lesson("06_guided_backpropagation").guided_backpropagation),
    "guided_grad_cam": reduced(import_lesson("07_guided_gradcam").guided_grad_cam),
    "random": random_map,
    "centre": centre_map,
    "edges": edge_map,
    "uniform": uniform_map,
}


CONTROLS = ("random", "centre", "edges", "uniform")
