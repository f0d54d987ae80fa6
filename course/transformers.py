"""torchvision's vision transformers: find the one inside a model, refuse what does not fit, tokens -> picture."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models import VisionTransformer

from course.checks import check_inputs
from utils import upsample


def find_transformer(model: nn.Module) -> VisionTransformer:
    """The one torchvision VisionTransformer that `model` is or wraps; ValueError if there is none, or several."""
    found = [module for module in model.modules() if isinstance(module, VisionTransformer)]
    if len(found) != 1:
        raise ValueError(
            f"rollout needs a torchvision VisionTransformer such as vit_b_16, and {type(model).__name__} "
            f"{f'has {len(found)}' if found else 'is none'}; for convolutional networks see grad_cam"
        )
    return found[0]


def check_transformer(model: nn.Module, images: Tensor) -> None:
    """check_inputs, and a ValueError if the model is no transformer for images of this size."""
    check_inputs(model, images)
    side = find_transformer(model).image_size
    if images.shape[-2:] != (side, side):
        raise ValueError(f"this transformer takes {side} x {side} images, got {tuple(images.shape[-2:])}")


def check_runs(model: nn.Module, weights: list[Tensor]) -> None:
    """ValueError if the layers ran more or less often than once."""
    layers = len(find_transformer(model).encoder.layers)
    if len(weights) != layers:
        raise ValueError(f"the transformer's {layers} layers ran {len(weights)} times; rollout needs one run of each")


def patch_map(R: Tensor, model: nn.Module, enlarge: bool) -> Tensor:
    """Row of CLS without CLS itself, as a picture: (B, N, N) -> (B, h, w), or bilinearly (B, H, W) if asked."""
    transformer = find_transformer(model)
    side = transformer.image_size // transformer.patch_size
    maps = R[:, 0, 1:].unflatten(1, (side, side))
    return upsample(maps, transformer.image_size) if enlarge else maps
