r"""The student's toolbox: picture -> tensor, network, class, map -> picture.

The methods themselves are not here: each is defined once, in its lesson. What stands behind these functions, such as
reading damaged pictures or downloading weights, is in course/.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import functional as TF

from course.checks import Target, check_counts, check_device, check_inputs, check_logits, target_indices, target_logits
from course.figures import save_figure, show_map, show_photo
from course.layers import as_modules
from course.paths import DATA_DIR, OUTPUT_DIR, PROJECT_ROOT
from course.pictures import IMAGENET_MEAN, IMAGENET_STD, as_rgb, crop_picture, displayable, load_image
from course.weights import EMBEDDED, embedded_network, fold_batch_norm, torchvision_network

__all__ = [
    "DATA_DIR", "IMAGENET_MEAN", "IMAGENET_STD", "OUTPUT_DIR", "PROJECT_ROOT", "channel_reduce", "class_labels",
    "class_names", "describe_targets", "displayable", "find_class", "import_lesson", "load_image", "load_model",
    "normalize_map", "predict", "preprocess_image", "recorded_output", "upsample", "visualize_saliency",
]  # fmt: skip


# Picture -> tensor


def preprocess_image(image: Image.Image, size: int = 224) -> Tensor:
    """Picture -> network input.

    Args:
        image: any Pillow image.
        size: side of the square the network gets, in pixels.

    Returns:
        (1, 3, size, size) float32 leaf tensor, normalised with ImageNet's mean and standard
        deviation: 0 is the mean colour, the values lie between about -2.1 and 2.6.

    Raises:
        TypeError: not a Pillow image.
    """
    if not isinstance(image, Image.Image):
        raise TypeError(f"preprocess_image needs a Pillow image, got {type(image).__name__}; see load_image")
    pixels = TF.to_tensor(crop_picture(image, size))                   # (3, size, size) in [0, 1]
    return TF.normalize(pixels, IMAGENET_MEAN, IMAGENET_STD)[None]


# Networks


def load_model(name: str = "resnet50", device: str | torch.device | None = None) -> nn.Module:
    """A classifier prepared for attribution: eval mode, frozen, batch norm folded, channels_last.

    Args:
        name: "resnet50", "squeezenet1_1" or "efficientnet_lite0" (embedded in data/weights/, never any network
            access), or any other classification model of torchvision, with torchvision's default weights. A few of
            those want another size or normalisation than preprocess_image's; their weights' transforms() say so.
        device: where to put it; None is the CPU.

    Returns:
        Module: normalised images (B, 3, H, W) -> logits (B, 1000).

    Raises:
        ValueError: unknown name (the message lists the nearest), or no such device here.
        RuntimeError: a weight file is missing or damaged.
        ConnectionError: torchvision's weights could not be downloaded.
    """
    known = list(dict.fromkeys([*EMBEDDED, *torchvision.models.list_models(module=torchvision.models)]))
    if name not in known:
        near = difflib.get_close_matches(str(name).lower(), known, n=3, cutoff=0.4) or list(EMBEDDED)
        raise ValueError(f"there is no model {name!r}; did you mean {', '.join(near)}?")
    check_device(device)
    model = embedded_network(name) if name in EMBEDDED else torchvision_network(name)
    model = as_modules(fold_batch_norm(model.eval())).requires_grad_(False)
    return model.to(device=device, memory_format=torch.channels_last)


@contextmanager
def recorded_output(layer: nn.Module, *, cut: bool = False) -> Iterator[list]:
    """Collect what `layer` returns, one entry a call; the hook is gone on exit, after an error too.

    With `cut` the graph starts at the record: it is detached and requires grad, and nothing below is differentiated.
    """
    outputs = []

    def hook(_layer: nn.Module, _inputs: tuple, output):
        if cut and isinstance(output, Tensor):
            output = output.detach().requires_grad_()
        outputs.append(output)
        # Pitfall: a later in-place ReLU would overwrite our record, so the network goes on with a copy
        return output.clone() if isinstance(output, Tensor) else None

    handle = layer.register_forward_hook(hook)
    try:
        yield outputs
    finally:
        handle.remove()


# Classes


def class_names() -> list[str]:
    """The 1000 ImageNet labels in the order of the logits, from torchvision's weights metadata."""
    return list(torchvision.models.ResNet50_Weights.DEFAULT.meta["categories"])


def find_class(name: str | int) -> int:
    """A label, a unique part of one, or an index -> index; ValueError lists what else it could be."""
    names, text = class_names(), str(name).strip()
    if re.fullmatch(r"-?[0-9]+", text):
        if 0 <= int(text) < len(names):
            return int(text)
        raise ValueError(f"class index {text} is outside 0..{len(names) - 1}")
    if text in names:  # "Cardigan" is a dog, "cardigan" a garment
        return names.index(text)
    parts = [index for index, label in enumerate(names) if text and text.lower() in label.lower()]
    whole = [index for index in parts if names[index].lower() == text.lower()]
    for found in (whole, parts):
        if len(found) == 1:
            return found[0]
    near = [names[i] for i in parts] or difflib.get_close_matches(text, names, n=3, cutoff=0.5)
    hint = f"; it could be {', '.join(near[:8])}" if near else ""
    raise ValueError(f"{name!r} is not one ImageNet label{hint}")


def class_labels(logits: Tensor) -> list[str]:
    """A label for each of the K logits: ImageNet's if there are 1000, else "class 0", "class 1" ..."""
    classes = logits.shape[1]
    return class_names() if classes == 1000 else [f"class {i}" for i in range(classes)]


@torch.inference_mode()
def predict(model: nn.Module, images: Tensor, k: int = 5) -> list[list[tuple[int, str, float]]]:
    """Per image, the k most probable classes as (index, label, probability), best first."""
    check_inputs(model, images)
    check_counts(k=k)
    logits = check_logits(model(images))
    labels = class_labels(logits)
    top = logits.float().softmax(dim=1).topk(min(k, len(labels)))
    return [
        [(index, labels[index], probability) for index, probability in zip(*row, strict=True)]
        for row in zip(top.indices.tolist(), top.values.tolist(), strict=True)
    ]


def describe_targets(model: nn.Module, images: Tensor, target: Target = None) -> list[str]:
    """Per image "label 0.98", the target's (default: the top class's) label and probability."""
    with torch.inference_mode():
        logits = model(images)
    indices = target_indices(target, logits)
    probabilities = target_logits(logits.softmax(dim=1), indices)
    labels = class_labels(logits)
    return [f"{labels[i]} {p:.2f}" for i, p in zip(indices.tolist(), probabilities.tolist(), strict=True)]


# Attribution -> map -> picture


def channel_reduce(attribution: Tensor, how: str = "max_abs") -> Tensor:
    """(B, C, H, W) -> (B, H, W): "max_abs" (Simonyan et al.), "sum_abs", or "sum", which keeps the sign."""
    if attribution.ndim != 4:
        raise ValueError(f"attribution must be (B, C, H, W), got {tuple(attribution.shape)}")
    if how == "max_abs":
        return attribution.abs().amax(dim=1)
    if how == "sum_abs":
        return attribution.abs().sum(dim=1)
    if how == "sum":
        return attribution.sum(dim=1)
    raise ValueError(f"how must be 'max_abs', 'sum_abs' or 'sum', got {how!r}")


def normalize_map(maps: Tensor) -> Tensor:
    """Each map of (..., H, W) to [0, 1] by its own minimum and maximum; a constant one becomes zeros.

    For display only: two maps scaled this way cannot be compared, and the zero of a signed map moves.
    """
    if not maps.isfinite().all():
        raise ValueError("a map contains NaN or infinity and cannot be normalised")
    maps = maps.to(torch.promote_types(maps.dtype, torch.float32))     # max - min could overflow in float16
    low, high = maps.amin(dim=(-2, -1), keepdim=True), maps.amax(dim=(-2, -1), keepdim=True)
    span = high - low
    return (maps - low) / torch.where(span > 0, span, 1)


def upsample(maps: Tensor, size: int | tuple[int, int]) -> Tensor:
    """(B, h, w) -> (B, H, W), bilinear, align_corners=False; size is (H, W) or one number for both."""
    return F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def visualize_saliency(
    image: Image.Image | Tensor,
    saliency: Tensor | np.ndarray,
    path: str | os.PathLike | None = None,
    title: str | None = None,
) -> Figure:
    """Photo, map and overlay side by side, aligned as preprocess_image crops.

    Args:
        image: the picture given to preprocess_image, or a normalised tensor (3, H, W) or (1, 3, H, W).
        saliency: (H, W), (1, H, W) or (1, 1, H, W), finite. Signed maps get a diverging scale about 0.
        path: where to save the figure; its folder is made. Without it, plt.show() opens a window.
        title: heading of the figure: method, class, probability.

    Raises:
        ValueError: the map has another shape, NaN or infinity, or does not fit the image.
        TypeError: the image is neither a Pillow image nor a tensor.
    """
    map = saliency if isinstance(saliency, Tensor) else torch.from_numpy(np.ascontiguousarray(saliency))
    shape, map = tuple(map.shape), map.detach().cpu().float()
    while map.ndim > 2 and map.shape[0] == 1:
        map = map[0]
    if map.ndim != 2 or map.numel() == 0:
        raise ValueError(f"saliency must be one map (H, W), got {shape}")
    if not map.isfinite().all():
        raise ValueError("saliency contains NaN or infinity; a picture of it would mislead")
    height, width = map.shape
    if isinstance(image, Tensor):
        if image.ndim == 4 and len(image) != 1:
            raise ValueError(f"one map needs one image, got {len(image)}")
        photo = displayable(image if image.ndim == 4 else image[None])[0]
        if photo.shape[:2] != map.shape:
            raise ValueError(f"the map is {tuple(map.shape)}, the image {photo.shape[:2]}; see upsample")
    elif not isinstance(image, Image.Image):
        raise TypeError(f"image must be a Pillow image (see load_image) or a tensor, got {type(image).__name__}")
    elif height == width:  # what preprocess_image cropped; a coarse map covers the same square
        photo = np.asarray(crop_picture(image, max(height, 224))) / 255
    elif (width, height) == image.size:
        photo = np.asarray(as_rgb(image)) / 255
    else:
        raise ValueError(f"a {height} x {width} map fits neither the centre crop nor the {image.size} picture")
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
    show_photo(axes[0], photo, "input")
    show_map(axes[1], map, title="map")
    show_map(axes[2], map, title="overlay", photo=photo)
    figure.suptitle(title or "")
    if path is not None:
        return save_figure(figure, path)
    if "inline" in matplotlib.get_backend():  # a notebook shows what a cell returns; open, it would do so twice
        plt.close(figure)
    return figure


# Lessons


def import_lesson(name: str) -> ModuleType:
    """A lesson as a module: import_lesson("05_gradcam"). (Python's import takes no name that starts with a digit.)"""
    file, key = PROJECT_ROOT / f"{name}.py", f"lesson_{name}"
    if key not in sys.modules:
        if not file.exists():
            lessons = sorted(path.stem for path in PROJECT_ROOT.glob("[0-9][0-9]_*.py"))
            raise ValueError(f"there is no lesson {name!r}; there are {', '.join(lessons)}")
        spec = importlib.util.spec_from_file_location(key, file)
        module = importlib.util.module_from_spec(spec)
        sys.modules[key] = module  # before it runs: dataclasses look their module up there
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[key]
            raise
    return sys.modules[key]
