"""The pictures of the study: photographs, planted scenes, mosaics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from course.checks import top_class
from course.pictures import load_image
from course.probes import mosaic
from course.scenes import box_masks, boxed_class, finds, found_scenes, load_human_map
from evaluation.planted_scenes import union
from utils import preprocess_image

KEPT = 24  # scenes whose maps are kept on disk: several groups use the first ones


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture to be scored.

    Attributes:
        kind: "photo", "scene" (one planted animal), "pair" (two of them) or "mosaic" (four photographs).
        image: (1, 3, H, W); (4, 3, H, W) for a mosaic.
        target: the class asked for; a mosaic's are four.
        masks: (N, H, W) where the place is known: of the scene's animals, or the boxes of the photograph.
        ground: the scene without its animal, (1, 3, H, W).
        other: the class of a pair's second animal.
        human: where people looked, or the boxes in their place, (H, W).
        kept: whether its maps are written down, because several groups need them.
    """

    name: str
    kind: str
    image: Tensor
    target: int | list[int]
    masks: Tensor | None = None
    ground: Tensor | None = None
    other: int | None = None
    human: Tensor | None = None
    kept: bool = True


def photographs(
    model: nn.Module, files: Sequence[Path], target: int | None, device: str | torch.device, human: Path | None = None
) -> list[Picture]:
    """The files, explained for their top class or for `target`; with boxes where that is the annotated class.

    `human` is a folder of attention maps, <stem>.png or <stem>.npy. Where it has none, boxes stand in for people.
    """
    pictures = []
    for file in files:
        image = preprocess_image(load_image(file)).to(device)
        label = top_class(model, image, target)
        boxes = box_masks(file.name) if boxed_class(file) == label else None
        seen = [human / f"{file.stem}{suffix}" for suffix in (".npy", ".png")] if human else []
        seen = [path for path in seen if path.exists()]
        looked = load_human_map(seen[0]) if seen else union(boxes).float() if boxes is not None else None
        pictures.append(Picture(file.name, "photo", image, label, boxes, human=looked))
    return pictures


def planted(model: nn.Module, count: int, animals: int, seed: int, device: str | torch.device) -> list[Picture]:
    """Scenes with one or two animals that the network finds."""
    scenes, _ = found_scenes(model, count, animals=animals, seed=seed, device=device)
    if animals == 1:
        return [Picture(f"scene{i:03} {one.name}", "scene", one.image, one.classes[0], one.masks, one.ground,
                        kept=i < KEPT)
                for i, one in enumerate(scenes)]  # fmt: skip
    return [Picture(f"pair{i:02} {two.name}", "pair", two.image, two.classes[0], two.masks, other=two.classes[1])
            for i, two in enumerate(scenes)]  # fmt: skip


def mosaics(model: nn.Module, photos: Sequence[Picture], count: int, seed: int, tries: int = 4000) -> list[Picture]:
    """Mosaics of four photographs of four classes, all of them among the network's highest fifty; at most `count`.

    Four animals at half size, side by side, are hard: all four are among the highest five in 2 of 120 mosaics of
    ResNet-50, and in none of SqueezeNet.
    """
    random, found = np.random.default_rng(seed), {}
    for _ in range(tries if len({photo.target for photo in photos}) >= 4 else 0):
        four = [photos[i] for i in random.choice(len(photos), 4, replace=False)]
        targets, name = [photo.target for photo in four], " ".join(Path(photo.name).stem for photo in four)
        images = torch.cat([photo.image for photo in four])
        if len(set(targets)) == 4 and name not in found and finds(model, mosaic(images), targets, within=50):
            found[name] = Picture(f"mosaic{len(found):02} {name}", "mosaic", images, targets)
        if len(found) == count:
            break
    return list(found.values())
