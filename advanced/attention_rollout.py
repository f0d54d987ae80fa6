"""Attention rollout."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from advanced.train_vit import SCENE_CLASSES, Scene, held_out_scenes, named_scenes
from course.checks import (
    check_inputs,
    target_indices,
    target_logits,
)
from course.figures import color_scale, show_map, show_photo
from course.lesson import print_table
from course.pictures import displayable
from evaluation.planted_scenes import energy_pointing_game, pointing_game
from utils import (
    class_labels,
    upsample,
)


def self_attention(layer: nn.MultiheadAttention, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """What a self-attention layer computes, written out.

    Args:
        layer: with one in_proj_weight for queries, keys and values, as torchvision builds it.
        tokens: (B, N, D).

    Returns:
        The layer's output (B, N, D) and the attention (B, heads, N, N) it came by, whose rows sum to 1.

    Paper: Vaswani et al. 2017, arXiv:1706.03762, eq. 1.
    """
    projected = F.linear(tokens, layer.in_proj_weight, layer.in_proj_bias)             # (B, N, 3 D)
    q, k, v = projected.unflatten(2, (3, layer.num_heads, -1)).permute(2, 0, 3, 1, 4)  # each (B, heads, N, d)
    A = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(dim=-1)             # (B, heads, N, N)
    mixed = (A @ v).transpose(1, 2).flatten(2)                                         # (B, N, D)
    return F.linear(mixed, layer.out_proj.weight, layer.out_proj.bias), A


def find_transformer(model: nn.Module) -> VisionTransformer:
    """The one torchvision VisionTransformer that `model` is or wraps; ValueError if there is none, or several."""
    found = [module for module in model.modules() if isinstance(module, VisionTransformer)]
    if len(found) != 1:
        raise ValueError(
            f"rollout needs a torchvision VisionTransformer such as vit_b_16, and {type(model).__name__} "
            f"{f'has {len(found)}' if found else 'is none'}; for convolutional networks see grad_cam"
        )
    return found[0]


@contextmanager
def recorded_attention(model: nn.Module) -> Iterator[list[Tensor]]:
    """Inside the block every run of the model fills the list: attention (B, heads, N, N) of each layer, in order.

    With gradients enabled the graph goes through these tensors. The hooks are gone on exit, after an error too.
    """
    weights, handles = [], []

    def hook(layer: nn.MultiheadAttention, inputs: tuple, _output: tuple) -> tuple[Tensor, None]:
        output, A = self_attention(layer, inputs[0])
        weights.append(A)
        return output, None                                           # Pitfall: the fused output does not hang on our A

    try:
        for block in find_transformer(model).encoder.layers:
            handles.append(block.self_attention.register_forward_hook(hook))
        yield weights
    finally:
        for handle in handles:
            handle.remove()


def check_transformer(model: nn.Module, images: Tensor) -> VisionTransformer:
    """The transformer inside `model`, or a ValueError that says what does not fit."""
    check_inputs(model, images)
    transformer = find_transformer(model)
    side = transformer.image_size
    if images.shape[-2:] != (side, side):
        raise ValueError(f"this transformer takes {side} x {side} images, got {tuple(images.shape[-2:])}")
    return transformer


def run_recorded(model: nn.Module, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logits (B, K) and the attention of every layer, each (B, heads, N, N), of one forward pass."""
    layers = len(find_transformer(model).encoder.layers)
    with recorded_attention(model) as weights:
        logits = model(images)
    if len(weights) != layers:
        raise ValueError(f"the transformer's {layers} layers ran {len(weights)} times; rollout needs one run of each")
    return logits, weights


@torch.inference_mode(False)
@torch.no_grad()
def attention_weights(model: nn.Module, images: Tensor) -> list[Tensor]:
    """The attention of every layer.

    Args:
        model: a torchvision VisionTransformer in eval mode, or a module around one.
        images: normalised images of its size, (B, 3, H, W), float. Left as they are.

    Returns:
        One tensor (B, heads, N, N) a layer, from the image upwards; N = 1 + patches, token 0 is CLS, rows sum to 1.

    Raises:
        ValueError: as vanilla_gradient; no such transformer; images of another size.
    """
    check_transformer(model, images)
    return run_recorded(model, images)[1]


FUSIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda A: A.mean(dim=1),
    "max": lambda A: A.amax(dim=1),
    "min": lambda A: A.amin(dim=1),
}


def discard_lowest(A: Tensor, ratio: float) -> Tensor:
    """In every row of (B, N, N), set the lowest `ratio` of the weights on patches to 0; those on CLS stay."""
    count = int(ratio * (A.shape[-1] - 1) + 1e-9)                      # 0.29 * 100 is 28.999...
    lowest = A[..., 1:].topk(count, dim=-1, largest=False).indices + 1
    return A.scatter(-1, lowest, 0.0)


def with_residual(A: Tensor) -> Tensor:
    """Half attention, half identity, every row scaled to sum 1 (Abnar, Zuidema 2020, section 3): (B, N, N)."""
    # BEGIN SOLUTION 9.3
    A = 0.5 * A + 0.5 * torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
    return A / A.sum(dim=-1, keepdim=True)                             # Pitfall: without keepdim, columns are divided


def roll_out(weights: Sequence[Tensor], head_fusion: str = "mean", discard_ratio: float = 0.0) -> Tensor:
    """Attention of all layers, each (B, heads, N, N) -> R (B, N, N), whose rows sum to 1."""
    R = torch.eye(weights[0].shape[-1], dtype=weights[0].dtype, device=weights[0].device)
    for A in weights:                                                  # from the image upwards
        fused = discard_lowest(FUSIONS[head_fusion](A), discard_ratio)
        # BEGIN SOLUTION 9.3
        R = with_residual(fused) @ R                                   # eq. 1: the upper layer stands on the left
        # END SOLUTION
    return R


def patch_map(R: Tensor, model: nn.Module, images: Tensor, enlarge: bool) -> Tensor:
    """Row of CLS without CLS itself, as a picture: (B, N, N) -> (B, h, w), or (B, H, W) if asked."""
    transformer = find_transformer(model)
    side = transformer.image_size // transformer.patch_size
    maps = R[:, 0, 1:].unflatten(1, (side, side))
    return upsample(maps, images.shape[-2:]) if enlarge else maps


def attention_rollout(
    model: nn.Module, images: Tensor, *, head_fusion: str = "mean", discard_ratio: float = 0.0, upsample: bool = True
) -> Tensor:
    """Attention rollout: how much of each patch reaches the class token, whatever the class.

    Args:
        model: a torchvision VisionTransformer in eval mode, or a module around one.
        images: normalised images of its size, (B, 3, H, W), float. Left as they are.
        head_fusion: "mean" (the paper), "max" or "min" over the heads of a layer.
        discard_ratio: share of every row's weights on patches, the lowest, that is dropped in each layer, 0 <= . < 1.
            Weights on CLS are never dropped. The paper drops none; others rank all rows of an image together.
        upsample: bilinearly to (B, H, W); False leaves (B, h, w), one value a patch.

    Returns:
        (B, H, W) or (B, h, w), detached, >= 0. A (B, h, w) map sums to 1 less what CLS keeps of itself.

    Raises:
        ValueError: as attention_weights; an unknown head_fusion; a discard_ratio outside [0, 1).

    Paper: Abnar, Zuidema 2020, arXiv:2005.00928, eq. 1.
    """
    if head_fusion not in FUSIONS:
        raise ValueError(f"head_fusion must be one of {', '.join(FUSIONS)}, got {head_fusion!r}")
    if not isinstance(discard_ratio, int | float) or not 0 <= discard_ratio < 1:
        raise ValueError(f"discard_ratio must be a number of at least 0 and below 1, got {discard_ratio!r}")
    R = roll_out(attention_weights(model, images), head_fusion, discard_ratio)
    return patch_map(R, model, images, upsample)


@torch.inference_mode(False)
@torch.enable_grad()
def gradient_rollout(
    model: nn.Module, images: Tensor, target: int | Sequence[int] | Tensor | None = None, *, upsample: bool = True
) -> Tensor:
    """Gradient-weighted rollout: along which attention did evidence *for the class* reach the class token?

    Args:
        model, images, upsample: as in attention_rollout.
        target: None (each image's top class), one class index for all, or one an image.

    Returns:
        (B, H, W) or (B, h, w), detached, >= 0, in logit units, not rescaled.

    Raises:
        ValueError: as attention_weights; as vanilla_gradient for the target.

    Paper: Chefer, Gur, Wolf 2021, arXiv:2103.15679, eq. 5-6, for an encoder with self-attention only.
    """
    check_transformer(model, images)
    x = images.detach().clone().requires_grad_()                       # so that the graph exists with frozen weights
    logits, weights = run_recorded(model, x)
    gradients = torch.autograd.grad(target_logits(logits, target).sum(), weights)
    R = torch.eye(weights[0].shape[-1], dtype=x.dtype, device=x.device).expand(len(x), -1, -1)
    for A, dA in zip(weights, gradients, strict=True):
        # BEGIN SOLUTION 9.4
        A_bar = (dA * A).clamp(min=0).mean(dim=1)                      # eq. 5: (B, N, N)
        R = R + A_bar @ R                                              # eq. 6
        # END SOLUTION
    return patch_map(R.detach(), model, images, upsample)


def last_attention(model: nn.Module, images: Tensor, _target: object = None, *, upsample: bool = True) -> Tensor:
    """What is often shown instead: CLS's row of the last layer's attention, mean over heads. (B, H, W) or (B, h, w)."""
    return patch_map(attention_weights(model, images)[-1].mean(dim=1), model, images, upsample)


def check_rollout_by_hand() -> None:
    """R = (A2 + I)/2 (A1 + I)/2; the row of CLS is (1/2, 1/4, 1/4)."""
    A1 = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, 0, 1]])[None, None]
    A2 = torch.tensor([[0.0, 1, 0], [0, 1, 0], [0, 0, 1]])[None, None]
    R = roll_out([A1, A2])
    assert R[0, 0].tolist() == [0.5, 0.25, 0.25]
    assert torch.equal(R.sum(dim=-1), torch.ones(1, 3))


MAPS_OF_ATTENTION: dict[str, Callable[[nn.Module, Tensor, list[int]], Tensor]] = {
    "uniform": lambda _model, images, _target: torch.ones_like(images[:, 0]),
    "last layer's attention": last_attention,
    "rollout": lambda model, images, _target: attention_rollout(model, images),
    "rollout, max": lambda model, images, _target: attention_rollout(model, images, head_fusion="max"),
    "rollout, discard 0.9": lambda model, images, _target: attention_rollout(model, images, discard_ratio=0.9),
    "gradient rollout": gradient_rollout,
}


TOLERANCE = 4


def hit_chance(mask: Tensor) -> float:
    """Share of pixels that count as a hit in the pointing game: on the (H, W) mask or within the tolerance."""
    return float((distance_transform_edt(~mask.numpy()) <= TOLERANCE).mean())


def score_scene(map: Tensor, masks: Tensor, asked: int) -> list[float]:
    """Energy on the animal asked for, on the other (NaN if there is none), and the pointing game."""
    others = masks[torch.arange(len(masks)) != asked]
    hit = pointing_game(map, masks[asked], tolerance=TOLERANCE)
    return [
        energy_pointing_game(map, masks[asked]),
        energy_pointing_game(map, others) if len(others) else math.nan,
        hit_chance(masks[asked]) if hit is None else float(hit),       # a constant map points nowhere
    ]


def rollout_scores(model: nn.Module, scenes: Sequence[Scene]) -> list[list]:
    """Rows [map, energy on the animal asked for, on the other one, pointing]: means over the scenes' animals.

    Scenes whose animals are not the network's highest classes are left out; all scenes have as many animals.
    """
    kept = named_scenes(model, scenes)
    if not kept:
        raise ValueError("the network names the animals of none of the scenes, so there is nothing to score")
    images, rows = torch.cat([scene.image for scene in kept]), []
    for name, method in MAPS_OF_ATTENTION.items():
        scores = []
        for asked in range(len(kept[0].classes)):
            maps = method(model, images, [scene.classes[asked] for scene in kept])
            scores += [score_scene(map, scene.masks, asked) for map, scene in zip(maps, kept, strict=True)]
        rows.append([name, *np.mean(scores, axis=0).tolist()])
    return rows


def print_rollout_scores(model: nn.Module, count: int = 100, seed: int = 3) -> None:
    """Both tables in one: fresh scenes with one animal, and with two."""
    one, two = (rollout_scores(model, held_out_scenes(count, animals=n, seed=seed + n)) for n in (1, 2))
    header = ["map", "energy", "pointing", "two animals: on the one asked for", "on the other", "pointing"]
    rows = [[a[0], a[1], a[3], b[1], b[2], b[3]] for a, b in zip(one, two, strict=True)]
    print_table(header, [[name, *(f"{value:.2f}" for value in values)] for name, *values in rows])


def class_name(model: nn.Module, label: int) -> str:
    """Name of a class of our transformer; of another one as in lesson 01."""
    classes = find_transformer(model).num_classes
    if classes == len(SCENE_CLASSES):
        return SCENE_CLASSES[label].replace("_", " ")
    return class_labels(torch.empty(1, classes))[label]


def example_scenes(model: nn.Module, seed: int = 1) -> list[Scene]:
    """Two scenes with one animal and three with two, whose animals the network names."""
    one, two = (held_out_scenes(20, animals=n, seed=seed + n - 1) for n in (1, 2))
    return named_scenes(model, one)[:2] + named_scenes(model, two)[:3]


def photograph_scenes(model: nn.Module, images: Tensor, target: int | Sequence[int] | Tensor | None) -> list[Scene]:
    """Pictures without masks for figure_rollout: each with its `target`, by default its top class."""
    with torch.inference_mode():
        labels = target_indices(target, model(images))
    return [Scene(image[None], [label]) for image, label in zip(images, labels.tolist(), strict=True)]


def figure_attention(model: nn.Module, scene: Scene) -> Figure:
    """Row of CLS in four heads of the first, a middle and the last layer: where it takes from, patch by patch."""
    weights = attention_weights(model, scene.image)
    figure, axes = plt.subplots(3, 5, figsize=(13, 7.8), layout="constrained")
    for row, layer in zip(axes, (0, len(weights) // 2, len(weights) - 1), strict=True):
        show_photo(row[0], displayable(scene.image)[0], f"{class_name(model, scene.classes[0])}, layer {layer + 1}")
        heads = patch_map(weights[layer][0, :4], model, scene.image, False)            # heads in place of images
        for number, (axis, map) in enumerate(zip(row[1:], heads, strict=False), start=1):
            title = f"head {number}, CLS itself {weights[layer][0, number - 1, 0, 0]:.2f}"
            show_map(axis, map, color_scale(*heads, percentile=100), title)
    figure.suptitle("Attention of the class token, one scale a layer (each row of weights sums to 1)")
    return figure


def map_title(name: str, map: Tensor, scene: Scene, asked: int) -> str:
    """Name of the map, and what share of it lies on each of the scene's animals, that asked for first."""
    if scene.masks is None:
        return name
    order = sorted(range(len(scene.masks)), key=lambda i: i != asked)
    shares = [f"{energy_pointing_game(map, scene.masks[i]):.2f}" for i in order]
    return f"{name}\non it {' / on the other '.join(shares)}"


def figure_rollout(model: nn.Module, scenes: Sequence[Scene]) -> Figure:
    """One row a scene: last attention, rollout, and gradient rollout for the first class and for another.

    The other class is that of the second animal, or the network's next one where there is no second animal.
    """
    figure, axes = plt.subplots(len(scenes), 5, figsize=(14.5, 3.2 * len(scenes)), squeeze=False, layout="constrained")
    for row, scene in zip(axes, scenes, strict=True):
        with torch.inference_mode():
            ranked = model(scene.image)[0].argsort(descending=True).tolist()
        first, other = (scene.classes + [label for label in ranked if label not in scene.classes])[:2]
        photo = displayable(scene.image)[0]
        show_photo(row[0], photo, " and ".join(class_name(model, label) for label in scene.classes))
        pair = [gradient_rollout(model, scene.image, label)[0] for label in (first, other)]
        plain = [last_attention(model, scene.image)[0], attention_rollout(model, scene.image)[0]]
        second = len(scene.classes) - 1
        for axis, map, name, asked in (
            (row[1], plain[0], "last layer's attention", 0),
            (row[2], plain[1], "rollout", 0),
            (row[3], pair[0], f"gradient rollout: {class_name(model, first)}", 0),
            (row[4], pair[1], f"gradient rollout: {class_name(model, other)}", second),
        ):
            scale = color_scale(*pair) if axis in row[3:] else color_scale(map)
            show_map(axis, map, scale, map_title(name, map, scene, asked), photo)
    figure.suptitle("Numbers: share of the map on the animal (gradient rollout on one scale a row)")
    return figure
