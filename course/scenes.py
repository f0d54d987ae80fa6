"""Pictures whose truth is known: cut-out animals on backgrounds, boxes of the photographs."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageChops, ImageFilter, ImageOps
from torch import Tensor
from torchvision.transforms import functional as TF

from course.paths import DATA_DIR
from course.pictures import IMAGENET_MEAN, IMAGENET_STD, as_rgb, crop_picture, load_image


def cutout(name: str) -> Image.Image:
    """An animal of data/cutouts as an RGBA image whose alpha channel is its mask."""
    file = DATA_DIR / "cutouts" / f"{name}.png"
    if not file.exists():
        known = sorted(path.stem for path in file.parent.glob("*.png"))
        raise ValueError(f"there is no cutout {name!r}; there are {', '.join(known)}")
    return Image.open(file)


def cutout_classes() -> dict[str, int]:
    """Name of each cutout -> its ImageNet class."""
    return json.loads((DATA_DIR / "cutouts" / "classes.json").read_text())


def planted_scene(
    objects: Sequence[str], background: Image.Image, *, seed: int, size: int = 224, sides: tuple[int, int] = (70, 130)
) -> tuple[Tensor, Tensor, list[int]]:
    """Cut-out animals at random places of a background: a picture whose truth is known.

    Args:
        objects: names in data/cutouts; they do not overlap.
        background: any picture; its centre is used.
        seed: of places, sizes and flips.
        size: side of the scene in pixels.
        sides: smallest and largest longer side of an animal, in pixels.

    Returns:
        image (1, 3, size, size), normalised, ready for the network; masks (N, size, size), bool, of the visible pixels;
        classes, their ImageNet classes, in the order of `objects`.

    Raises:
        ValueError: an unknown name, or no room for so many.
    """
    if sides[1] > size:
        raise ValueError(f"an animal of {sides[1]} pixels does not fit into {size}")
    random, scene, masks = np.random.default_rng(seed), ImageOps.fit(as_rgb(background), (size, size)), []
    for name in objects:
        animal = cutout(name)
        for _ in range(1000):                                          # until it does not overlap the others
            factor = random.integers(sides[0], sides[1] + 1) / max(animal.size)
            width, height = (max(1, round(length * factor)) for length in animal.size)
            x, y = (int(random.integers(0, size - length + 1)) for length in (width, height))
            place = (slice(y, y + height), slice(x, x + width))
            if not any(mask[place].any() for mask in masks):
                break
        else:
            raise ValueError(f"no room for {len(objects)} animals of {sides[0]} to {sides[1]} pixels in {size}")
        animal = animal.resize((width, height), Image.Resampling.LANCZOS)
        animal = ImageOps.mirror(animal) if random.random() < 0.5 else animal
        alpha = animal.getchannel("A")
        soft = ImageChops.darker(alpha, alpha.filter(ImageFilter.GaussianBlur(1)))    # inwards only: no halo
        scene.paste(animal, (x, y), soft)
        mask = np.zeros((size, size), dtype=bool)
        mask[place] = np.asarray(soft) > 127
        masks.append(mask)
    image = TF.normalize(TF.to_tensor(scene), IMAGENET_MEAN, IMAGENET_STD)[None]
    return image, torch.from_numpy(np.stack(masks)), [cutout_classes()[name] for name in objects]


def backgrounds() -> list[Image.Image]:
    """The squares of the course's photographs that hold no animal."""
    annotations = json.loads((DATA_DIR / "annotations.json").read_text())
    return [load_image(name).crop(entry["background"]) for name, entry in annotations.items() if "background" in entry]


def box_masks(name: str, size: int = 224) -> Tensor:
    """Hand-drawn boxes of a photograph of data/, cropped as preprocess_image does: (N, size, size) masks."""
    entry, masks = json.loads((DATA_DIR / "annotations.json").read_text())[name], []
    for x0, y0, x1, y1 in entry["boxes"]:
        drawn = np.zeros(entry["size"][::-1], dtype=np.uint8)
        drawn[y0:y1, x0:x1] = 255
        masks.append(np.asarray(crop_picture(Image.fromarray(drawn), size))[..., 0] > 127)
    return torch.from_numpy(np.stack(masks))
