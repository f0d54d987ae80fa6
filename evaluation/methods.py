"""The methods of lessons 01 to 07 as functions (model, images, target) -> (B, H, W) map, and controls that know nothing
of the network. Lesson 08's METHODS has LRP as well.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course.checks import MapFunction, Target
from course.layers import last_conv_layer
from course.probes import photo_edges, randomized
from utils import channel_reduce, import_lesson, recorded_output, upsample

CELLS = (7, 7)  # the grain of a network without a last convolutional map: as a ResNet has it
GRAINS: WeakKeyDictionary[nn.Module, dict[torch.Size, tuple[int, int]]] = WeakKeyDictionary()


def reduced(method: Callable, how: str = "max_abs", **options: object) -> MapFunction:
    """A pixel method with its options, reduced over the colour channels."""
    return lambda model, images, target=None: channel_reduce(method(model, images, target, **options), how)


# Controls: what does not beat them has explained nothing


@torch.inference_mode()
def grain(model: nn.Module, images: Tensor) -> tuple[int, int]:
    """Rows and columns of the network's Grad-CAM for images of this size, before it is upsampled: (7, 7) for a ResNet
    at 224 x 224, (13, 13) for a SqueezeNet. Found once for each network and size.
    """
    sizes = GRAINS.setdefault(model, {})
    if images.shape[-2:] not in sizes:
        try:
            with recorded_output(last_conv_layer(model)) as outputs:
                model(images[:1])
            sizes[images.shape[-2:]] = tuple(outputs[0].shape[-2:])
        except ValueError:
            sizes[images.shape[-2:]] = CELLS
    return sizes[images.shape[-2:]]


def noise(images: Tensor, *size: int) -> Tensor:
    """Uniform noise in [0, 1], (B, *size): drawn anew for each image, but always the same for the same image."""
    seeds = [zlib.crc32(image.detach().cpu().numpy().tobytes()) for image in images]
    maps = [torch.rand(size, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(maps).to(images)


def random_map(_model: nn.Module, images: Tensor, _target: Target = None) -> Tensor:
    """Control: noise, a value for each pixel."""
    return noise(images, *images.shape[-2:])


def centre_map(_model: nn.Module, images: Tensor, _target: Target = None) -> Tensor:
    """Control: a Gaussian about the centre, a quarter of the image wide (photographers centre)."""
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in images.shape[-2:]), indexing="ij")
    return torch.exp(-(x**2 + y**2) / (2 * 0.5**2)).to(images).expand(len(images), -1, -1)


def edge_map(_model: nn.Module, images: Tensor, _target: Target = None) -> Tensor:
    """Control: the Sobel filter of the grey photo."""
    return photo_edges(images)


def uniform_map(_model: nn.Module, images: Tensor, _target: Target = None) -> Tensor:
    """Control: the same value everywhere."""
    return torch.ones_like(images[:, 0])


def coarse_random_map(model: nn.Module, images: Tensor, _target: Target = None) -> Tensor:
    """Control: noise as coarse as Grad-CAM, upsampled as Grad-CAM is."""
    return upsample(noise(images, *grain(model, images)), images.shape[-2:])


def coarse_edge_map(model: nn.Module, images: Tensor, _target: Target = None) -> Tensor:
    """Control: the mean of the edges in each of Grad-CAM's cells, upsampled as Grad-CAM is."""
    cells = F.adaptive_avg_pool2d(edge_map(model, images)[:, None], grain(model, images))[:, 0]
    return upsample(cells, images.shape[-2:])


FORGETFUL: WeakKeyDictionary[nn.Module, nn.Module] = WeakKeyDictionary()


def untrained(method: MapFunction) -> MapFunction:
    """The same method, asked of a copy of the network with random weights: what it draws without any knowledge.

    The copy is made once per network. Maps may be all zero: Grad-CAM's ReLU can leave nothing of random weights.
    """

    def map_without_knowledge(model: nn.Module, images: Tensor, target: Target = None) -> Tensor:
        with torch.inference_mode():
            target = model(images).argmax(dim=1) if target is None else target       # the question stays the same
        if model not in FORGETFUL:
            FORGETFUL[model] = randomized(model)
        return method(FORGETFUL[model].to(images.device), images, target)

    return map_without_knowledge


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
    "random_coarse": coarse_random_map,
    "edges_coarse": coarse_edge_map,
}

CONTROLS = ("random", "centre", "edges", "uniform", "random_coarse", "edges_coarse")

# Maps whose values are shares of the score, signed, so that a sum of them predicts a loss. The others are absolute
# slopes, or places: their sum predicts nothing, and only their order and their position can be asked about.
SHARES = ("gradient_times_input", "integrated_gradients")

# Maps without detail, to be compared with noise and edges that have none either. Scattered pixels spoil a picture in
# another way than one large patch does, wherever they are.
COARSE = ("grad_cam", "centre", "random_coarse", "edges_coarse")


def matched_controls(name: str) -> tuple[str, str]:
    """The names of the noise and of the edges that are as fine or as coarse as a method's map."""
    return ("random_coarse", "edges_coarse") if name in COARSE else ("random", "edges")
