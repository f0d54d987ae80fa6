"""Checks of inputs, targets, counts and baselines: what would make a map wrong, refused in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

MapFunction = Callable[[nn.Module, Tensor, "Target"], Tensor]  # (model, images, target) -> maps (B, H, W)
Target = int | Sequence[int] | Tensor | None  # the class of all images, of each, or None: each image's top class


def one_line(value: object) -> str:
    """A value's text without line breaks, for error messages."""
    return " ".join(str(value).split())


def check_inputs(model: nn.Module, images: Tensor) -> None:
    """Refuse, in one sentence, what would make an attribution wrong without a word.

    Raises:
        ValueError: images are no finite float (B, C, H, W) tensor, or a part of the model is in train mode.
    """
    if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point():
        got = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(f"images must be a float tensor (B, C, H, W), see preprocess_image; got {got}")
    if not images.isfinite().all():
        raise ValueError("images contain NaN or infinity; look at how they were preprocessed")
    if any(module.training for module in model.modules()):
        raise ValueError("the model is in train mode, where dropout and batch norm change the map: call model.eval()")


def check_counts(**counts: int) -> None:
    """Refuse an argument that is not a whole number of at least 1."""
    for name, value in counts.items():
        if not is_whole(value) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")


def is_whole(value: object) -> bool:
    """Whether a value is an integer of Python or NumPy; True and False are none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def check_device(device: str | torch.device | None) -> None:
    """Raise ValueError if tensors cannot live on `device` here."""
    try:
        torch.empty(0, device=device)
    except Exception as error:  # RuntimeError, AssertionError or ImportError, as the device's module likes
        raise ValueError(f"device {str(device)!r} is not available here; use 'cpu'") from error


def expand_baseline(baseline: Tensor, images: Tensor) -> Tensor:
    """A baseline that broadcasts to the images -> (B, C, H, W) in their dtype and on their device; else ValueError."""
    try:
        fits = torch.broadcast_shapes(baseline.shape, images.shape) == images.shape
    except RuntimeError:
        fits = False
    if not fits or not baseline.isfinite().all():
        raise ValueError(f"baseline {tuple(baseline.shape)} must be finite and broadcast to {tuple(images.shape)}")
    return baseline.detach().to(images).expand_as(images)


def check_logits(logits: Tensor) -> Tensor:
    """The logits themselves, or a ValueError if they are not (B, K)."""
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"the model must return logits (B, K), got {got}; wrap it so that it does")
    return logits


def target_indices(target: Target, logits: Tensor) -> Tensor:
    """One class per image, (B,) int64.

    Args:
        target: None (each image's own top class), one class for all, or one per image.
        logits: (B, K), for B, K and the top classes.

    Raises:
        ValueError: not whole numbers, not B of them, or outside 0..K-1.
    """
    batch, classes = check_logits(logits).shape
    if target is None:
        return logits.argmax(dim=1)
    values = target.tolist() if isinstance(target, Tensor | np.ndarray) else target
    values = list(values) if isinstance(values, list | tuple | range) else [values] * batch
    values = [value.tolist() if isinstance(value, Tensor | np.generic) else value for value in values]
    if len(values) != batch:
        raise ValueError(f"target has {len(values)} classes for {batch} images; give one, or one per image")
    if not all(map(is_whole, values)):
        raise ValueError(f"target must be class indices (find_class finds a label's), got {one_line(repr(target))}")
    if any(not 0 <= value < classes for value in values):
        raise ValueError(f"target {values} is outside 0..{classes - 1}")
    return torch.tensor(values, device=logits.device, dtype=torch.long)


def target_logits(logits: Tensor, target: Target) -> Tensor:
    """S_c of each image: (B, K) logits -> (B,), `target` as in target_indices."""
    return logits.gather(1, target_indices(target, logits)[:, None])[:, 0]


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


def top_class(model: nn.Module, image: Tensor, target: int | None) -> int:
    """The target, or the image's own top class."""
    with torch.inference_mode():
        return int(target_indices(target, model(image)))
