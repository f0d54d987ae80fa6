"""Pictures whose truth is known: cut-out animals on backgrounds, and boxes of the photographs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageChops, ImageFilter, ImageOps
from torch import Tensor, nn
from torchvision.transforms import functional as TF

from course.paths import DATA_DIR
from course.pictures import IMAGENET_MEAN, IMAGENET_STD, as_rgb, crop_picture, load_image


class Scene(NamedTuple):
    """A planted scene in which the network finds what was planted.

    Attributes:
        name: "zebra", or "zebra and pig" for two animals.
        image: (1, 3, H, W), normalised.
        ground: the same picture without the animals, (1, 3, H, W).
        masks: (N, H, W), bool: the visible pixels of each animal.
        classes: the ImageNet class of each.
    """

    name: str
    image: Tensor
    ground: Tensor
    masks: Tensor
    classes: list[int]


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


def backgrounds(smallest: int = 224) -> list[Image.Image]:
    """The squares of the course's photographs that hold no animal; no smaller ones, which would have to be enlarged."""
    annotations = json.loads((DATA_DIR / "annotations.json").read_text())
    squares = [(name, entry["background"]) for name, entry in annotations.items() if "background" in entry]
    return [load_image(name).crop(square) for name, square in squares if square[2] - square[0] >= smallest]


def normalised(picture: Image.Image) -> Tensor:
    """(1, 3, H, W) as the network gets it."""
    return TF.normalize(TF.to_tensor(picture), IMAGENET_MEAN, IMAGENET_STD)[None]


def counterfactual_scene(
    objects: Sequence[str], background: Image.Image, *, seed: int, size: int = 224, sides: tuple[int, int] = (70, 130)
) -> tuple[Tensor, Tensor, Tensor, list[int]]:
    """Cut-out animals at random places of a background, and the same picture without them.

    Args:
        objects: names in data/cutouts; they do not overlap.
        background: any picture; its centre is used.
        seed: of places, sizes and flips.
        size: side of the scene in pixels.
        sides: smallest and largest longer side of an animal, in pixels.

    Returns:
        image (1, 3, size, size), normalised, ready for the network; the same picture without the animals, which differs
        only at them and their soft edges; masks (N, size, size), bool, of the visible pixels; classes, their ImageNet
        classes, in the order of `objects`.

    Raises:
        ValueError: an unknown name, or no room for so many.
    """
    if sides[1] > size:
        raise ValueError(f"an animal of {sides[1]} pixels does not fit into {size}")
    random, ground, masks = np.random.default_rng(seed), ImageOps.fit(as_rgb(background), (size, size)), []
    scene = ground.copy()
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
    classes = [cutout_classes()[name] for name in objects]
    return normalised(scene), normalised(ground), torch.from_numpy(np.stack(masks)), classes


def planted_scene(
    objects: Sequence[str], background: Image.Image, *, seed: int, size: int = 224, sides: tuple[int, int] = (70, 130)
) -> tuple[Tensor, Tensor, list[int]]:
    """Cut-out animals at random places of a background: a picture whose truth is known.

    Args and Raises as in counterfactual_scene, and for the same seed the same image.

    Returns:
        image (1, 3, size, size), normalised, ready for the network; masks (N, size, size), bool, of the visible pixels;
        classes, their ImageNet classes, in the order of `objects`.
    """
    image, _, masks, classes = counterfactual_scene(objects, background, seed=seed, size=size, sides=sides)
    return image, masks, classes


@torch.inference_mode()
def finds(model: nn.Module, image: Tensor, classes: Sequence[int], within: int = 5) -> bool:
    """Whether the network gives one animal more than half of its probability, or has several among its highest five."""
    probability = model(image).softmax(dim=1)[0]
    if len(classes) == 1:
        return bool(probability[classes[0]] > 0.5)
    return set(classes) <= set(probability.topk(within).indices.tolist())


def found_scenes(
    model: nn.Module, count: int, *, animals: int = 1, seed: int = 0, device: str | torch.device = "cpu"
) -> tuple[list[Scene], int]:
    """`count` scenes of random cutouts on random backgrounds whose animals the network finds; how many were tried.

    Raises:
        ValueError: it finds hardly any: less than one of fifty.
    """
    names, grounds = list(cutout_classes()), backgrounds()
    random, kept, tried = np.random.default_rng([seed, animals]), [], 0
    while len(kept) < count:
        tried += 1
        if tried > 50 * count:
            raise ValueError(f"the network finds the animals in {len(kept)} of {tried - 1} scenes; is it trained?")
        objects = [names[i] for i in random.choice(len(names), animals, replace=False)]
        background = grounds[random.integers(len(grounds))]
        image, ground, masks, classes = counterfactual_scene(objects, background, seed=int(random.integers(2**31)))
        if finds(model, image.to(device), classes):
            kept.append(Scene(" and ".join(objects), image.to(device), ground.to(device), masks, classes))
    return kept, tried


def boxed_class(file: Path) -> int | None:
    """The annotated class of one of the course's own photographs; None for other files, or where there is none."""
    ours = not file.exists() or file.resolve().parent == DATA_DIR      # a bare name is looked up in data/
    annotations = json.loads((DATA_DIR / "annotations.json").read_text())
    return annotations.get(file.name, {}).get("class") if ours else None


def box_masks(name: str, size: int = 224) -> Tensor:
    """Hand-drawn boxes of a photograph of data/, cropped as preprocess_image does: (N, size, size) masks."""
    entry, masks = json.loads((DATA_DIR / "annotations.json").read_text())[name], []
    for x0, y0, x1, y1 in entry["boxes"]:
        drawn = np.zeros(entry["size"][::-1], dtype=np.uint8)
        drawn[y0:y1, x0:x1] = 255
        masks.append(np.asarray(crop_picture(Image.fromarray(drawn), size))[..., 0] > 127)
    return torch.from_numpy(np.stack(masks))


def load_human_map(path: Path, size: int = 224) -> Tensor:
    """A grey picture or a .npy array (H, W), of the whole photo -> (size, size), cropped as preprocess_image does."""
    array = path.suffix == ".npy"
    image = Image.fromarray(np.load(path).astype(np.float32)) if array else load_image(path)
    return torch.from_numpy(np.array(crop_picture(image, size).convert("F"))) / 255
