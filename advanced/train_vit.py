r"""Train the small vision transformer of attention_rollout.py: scenes, training, checkpoint, log.

Run `python -m advanced.train_vit` (some fifteen minutes on two cores); `--help` lists the options.

Transformers have no built-in liking for neighbourhoods, and learn by heart what little they are given. What counts is
variety: one of twelve cut-out animals stands on a random crop of a photograph, turned, mirrored, blended, half of them
recoloured. The network is told which animal it is, never where. Four photographs take no part in training: on their
animal-free parts the network is tested. (The twelve animals are the same in training and test.)
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageChops, ImageFilter, ImageOps
from torch import Tensor, nn
from torchvision.models import VisionTransformer
from tqdm import tqdm

from course.checkpoints import packed, read_checkpoint, unpacked, write_checkpoint
from course.checks import check_counts
from course.lesson import one_sentence
from course.paths import DATA_DIR, PROJECT_ROOT
from course.pictures import IMAGENET_MEAN, IMAGENET_STD, load_image
from course.scenes import cutout, planted_scene

SCENE_SIZE = 64
SCENE_CLASSES = (
    "camel", "duck", "gorilla", "lark", "penguin", "pig", "pink_flamingo", "rainbow_lorikeet", "sheep",
    "tiger_sumatran", "tucan", "zebra",
)  # fmt: skip
SCENE_SIDES = (26, 45)  # longer side of an animal, in pixels
HELD_OUT = ("giraffe.jpg", "owl.jpg", "pika.jpg", "red_panda.jpg")  # no training scene has a pixel of these
CHECKPOINT = DATA_DIR / "weights" / "vit_scenes.pt"
COMMAND = "python 09_advanced_techniques.py --train"  # as the checkpoint's log quotes it


# The network


def small_vit() -> VisionTransformer:
    """64 x 64 pixels, 8 x 8 patches, 12 classes, random weights from the global generator, places as sines.

    torchvision draws the position embedding at random; waves over rows and columns tell neighbours from the start.
    """
    model = VisionTransformer(
        image_size=SCENE_SIZE, patch_size=8, num_layers=5, num_heads=4, hidden_dim=128, mlp_dim=256,
        num_classes=len(SCENE_CLASSES),
    )  # fmt: skip
    places = torch.arange(8.0)[:, None] * torch.logspace(0, -2, 33)[:-1]               # (8, 32) phases
    waves = torch.cat([places.sin(), places.cos()], dim=1)                             # (8, 64)
    rows, columns = waves[:, None].expand(8, 8, 64), waves[None].expand(8, 8, 64)
    with torch.no_grad():
        model.encoder.pos_embedding[0, 1:] = 0.3 * torch.cat([rows, columns], dim=2).flatten(0, 1)
    return model


def partly_random(model: nn.Module, parts: Sequence[str], seed: int = 0) -> nn.Module:
    """A copy of a small_vit() with new random weights wherever the weight's name begins with one of `parts`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        copy = small_vit()
        nn.init.normal_(copy.heads.head.weight, std=0.1)               # torchvision begins with a head of zeros
    fresh = copy.state_dict()
    copy.load_state_dict({k: fresh[k] if k.startswith(tuple(parts)) else v for k, v in model.state_dict().items()})
    return copy.eval().requires_grad_(False)


# Scenes to train on. planted_scene takes milliseconds for one; here a whole batch is drawn at once: affine_grid says
# for every pixel where in the source it comes from, grid_sample fetches it.


def cutout_stack(side: int = SCENE_SIDES[1] + 3) -> Tensor:
    """The twelve animals on squares, (12, 4, side, side): RGB multiplied by alpha, and alpha, in [0, 1]."""
    stack = []
    for name in SCENE_CLASSES:
        animal = ImageOps.pad(cutout(name), (side, side))
        alpha = animal.getchannel("A")
        animal.putalpha(ImageChops.darker(alpha, alpha.filter(ImageFilter.GaussianBlur(1))))   # as planted_scene does
        stack.append(torch.from_numpy(np.array(animal.convert("RGBa"))).permute(2, 0, 1) / 255)
    return torch.stack(stack)


def photograph_stack(names: Sequence[str]) -> Tensor:
    """Photographs of data/ as (P, 3, 160, 200), in [0, 1]."""
    fitted = [np.array(ImageOps.fit(load_image(name), (200, 160))) for name in names]
    return torch.from_numpy(np.stack(fitted)).permute(0, 3, 1, 2) / 255


def training_photographs() -> list[str]:
    """Names of the course's photographs, the held-out ones excepted."""
    return sorted(set(json.loads((DATA_DIR / "annotations.json").read_text())) - set(HELD_OUT))


def uniform(low: float, high: float, count: int, generator: torch.Generator) -> Tensor:
    """(count,) random numbers in [low, high)."""
    return low + (high - low) * torch.rand(count, generator=generator)


def coin(probability: float, count: int, generator: torch.Generator) -> Tensor:
    """(count, 1, 1, 1) booleans."""
    return torch.rand(count, 1, 1, 1, generator=generator) < probability


def sampled(sources: Tensor, scale: Tensor, shift: Tensor, angle: Tensor, padding: str, mirror: Tensor) -> Tensor:
    """Read (B, C, H, W) sources into (B, C, 64, 64) scenes: turned, scaled by (B, 2) in x and y, moved by (B, 2)."""
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([cos, -sin, sin, cos], dim=1).unflatten(1, (2, 2))              # (B, 2, 2)
    theta = torch.cat([scale[:, :, None] * turn, shift[:, :, None]], dim=2)            # (B, 2, 3): scene -> source
    theta[:, 0] *= mirror[:, None]
    grid = F.affine_grid(theta, [len(sources), 1, SCENE_SIZE, SCENE_SIZE], align_corners=False)
    return F.grid_sample(sources, grid, padding_mode=padding, align_corners=False)


def recolored(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Channels exchanged, a quarter inverted, tinted, lighter or darker: (B, 3, H, W) in [0, 1], as before."""
    count = len(pictures)
    order = torch.rand(count, 3, generator=generator).argsort(dim=1)[:, :, None, None]
    pictures = pictures.gather(1, order.expand_as(pictures))
    pictures = torch.where(coin(0.25, count, generator), 1 - pictures, pictures)
    tint = 0.75 + 0.5 * torch.rand(count, 3, 1, 1, generator=generator)
    return (pictures * tint + uniform(-0.25, 0.25, count, generator)[:, None, None, None]).clamp(0, 1)


def background_batch(photographs: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Random crops, turned, mirrored, some blended, half of them recoloured: (count, 3, 64, 64) in [0, 1]."""
    which = torch.randint(len(photographs), (count,), generator=generator)
    scale = uniform(0.3, 0.9, count, generator)[:, None]               # of the photograph's height
    shift = (1 - scale) * (2 * torch.rand(count, 2, generator=generator) - 1)
    angle = uniform(-math.pi, math.pi, count, generator)
    mirror = torch.randint(2, (count,), generator=generator) * 2.0 - 1
    aspect = torch.tensor([160 / 200, 1.0])
    pictures = sampled(photographs[which], scale * aspect, shift, angle, "reflection", mirror)
    share = uniform(0, 0.5, count, generator)[:, None, None, None] * coin(0.4, count, generator)
    blended = torch.lerp(pictures, pictures.roll(1, dims=0), share)
    return torch.where(coin(0.5, count, generator), recolored(blended, generator), pictures)


def scene_batch(
    photographs: Tensor, cutouts: Tensor, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """A batch of training scenes.

    Args:
        photographs, cutouts: as photograph_stack and cutout_stack give them.
        count: B.
        generator: of everything random.

    Returns:
        images (B, 3, 64, 64), normalised; classes (B,); masks (B, 64, 64), bool.
    """
    scenes = background_batch(photographs, count, generator)
    labels = torch.randint(len(cutouts), (count,), generator=generator)
    size = uniform(SCENE_SIDES[0] / SCENE_SIZE, SCENE_SIDES[1] / SCENE_SIZE, count, generator)[:, None]
    place = (1 - size) * (2 * torch.rand(count, 2, generator=generator) - 1)           # centre, in [-1, 1]
    mirror = torch.randint(2, (count,), generator=generator) * 2.0 - 1
    scale = (1 / size).expand(-1, 2)
    animals = sampled(cutouts[labels], scale, -place / size, torch.zeros(count), "zeros", mirror)
    alpha = animals[:, 3:]
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return ((1 - alpha) * scenes + animals[:, :3] - mean) / std, labels, alpha[:, 0] > 0.5


# Scenes to test on: planted_scene itself, with animals of the same sizes, on photographs that training never saw


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture whose classes are known, and perhaps where they are."""

    image: Tensor                                                      # (1, 3, H, W), normalised
    classes: list[int]
    masks: Tensor | None = None                                        # (N, H, W), bool, in the order of the classes


def held_out_backgrounds() -> list[Image.Image]:
    """The animal-free squares of the four photographs that training never saw."""
    annotations = json.loads((DATA_DIR / "annotations.json").read_text())
    return [load_image(name).crop(annotations[name]["background"]) for name in HELD_OUT]


def random_square(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    """Half to all of a square picture, anywhere in it."""
    side = int(picture.width * random.uniform(0.5, 1))
    x, y = (int(random.integers(0, picture.width - side + 1)) for _ in range(2))
    return picture.crop((x, y, x + side, y + side))


def held_out_scenes(count: int, *, animals: int = 1, seed: int = 0) -> list[Scene]:
    """Planted scenes with one animal or two different ones on backgrounds that training never saw."""
    check_counts(count=count, animals=animals)
    random, grounds, scenes = np.random.default_rng(seed), held_out_backgrounds(), []
    sides = SCENE_SIDES if animals == 1 else (SCENE_SIDES[0], SCENE_SIDES[0] + 4)      # two large ones find no room
    while len(scenes) < count:
        classes = random.choice(len(SCENE_CLASSES), animals, replace=False).tolist()
        ground = random_square(grounds[random.integers(len(grounds))], random)
        image, masks, _ = planted_scene(
            [SCENE_CLASSES[i] for i in classes], ground, seed=int(random.integers(2**31)), size=SCENE_SIZE, sides=sides
        )
        scenes.append(Scene(image, classes, masks))
    return scenes


@torch.inference_mode()
def named_scenes(model: nn.Module, scenes: Sequence[Scene]) -> list[Scene]:
    """Those of the scenes whose animals are the network's highest classes, in any order."""
    batches = (torch.cat([scene.image for scene in scenes[i : i + 100]]) for i in range(0, len(scenes), 100))
    pairs = zip(torch.cat([model(images) for images in batches]), scenes, strict=True)
    return [scene for row, scene in pairs if {*row.topk(len(scene.classes)).indices.tolist()} == {*scene.classes}]


def accuracy(model: nn.Module, scenes: Sequence[Scene]) -> float:
    """Share of scenes whose animals the network names."""
    return len(named_scenes(model, scenes)) / len(scenes)


# Training


def optimizer_of(model: nn.Module, learning_rate: float, steps: int):
    """AdamW, weight decay on matrices only, and its one-cycle schedule."""
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": 0.05},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer, cycle = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True), torch.optim.lr_scheduler.OneCycleLR
    return optimizer, cycle(optimizer, learning_rate, total_steps=steps, pct_start=0.1, cycle_momentum=False)


def train_step(model: nn.Module, images: Tensor, labels: Tensor, optimizer, schedule) -> tuple[float, float]:
    """One update; loss and accuracy of the batch before it."""
    logits = model(images)
    loss = F.cross_entropy(logits, labels, label_smoothing=0.05)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    schedule.step()
    return loss.item(), (logits.argmax(dim=1) == labels).float().mean().item()


def train_vit(
    steps: int = 2000, *, batch_size: int = 64, learning_rate: float = 1e-3, seed: int = 0, log: list[str] | None = None
) -> nn.Module:
    """Train small_vit() on planted scenes; the same weights each time on the same machine and number of threads.

    Args:
        steps, batch_size, learning_rate: of AdamW; the learning rate is the schedule's highest.
        seed: of the first weights and of the scenes.
        log: a list that receives a line of CSV every hundred steps.

    Returns:
        The network in eval mode, frozen.
    """
    check_counts(steps=steps, batch_size=batch_size)
    with torch.random.fork_rng(devices=[]):                            # leaves the global random state alone
        torch.manual_seed(seed)
        model = small_vit()
    generator = torch.Generator().manual_seed(seed + 1)
    photographs, cutouts = photograph_stack(training_photographs()), cutout_stack()
    optimizer, schedule = optimizer_of(model, learning_rate, steps)
    recent, start = [], time.monotonic()
    for step in (bar := tqdm(range(1, steps + 1), desc="training", unit="step")):
        images, labels, _ = scene_batch(photographs, cutouts, batch_size, generator)
        recent.append(train_step(model, images, labels, optimizer, schedule))
        if step % 100 == 0 or step == steps:
            loss, correct = np.mean(recent, axis=0)
            bar.set_postfix(loss=f"{loss:.2f}", accuracy=f"{correct:.2f}")
            if log is not None:
                log.append(f"{step},{loss:.3f},{correct:.3f},{time.monotonic() - start:.0f}")
            recent = []
    return model.eval().requires_grad_(False)


# The checkpoint


def save_vit(model: nn.Module, log: Sequence[str], file: Path = CHECKPOINT, *, count: int = 1000) -> float:
    """Write the weights as float16, and the log with their SHA-256 beside them; accuracy of what was written."""
    data = packed(model)
    saved = vit_from(unpacked(data))
    one, two = (accuracy(saved, held_out_scenes(count, animals=n, seed=n)) for n in (1, 2))
    notes = [
        f"made by `{COMMAND}`",
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {os.cpu_count()} cores",
        f"{sum(p.numel() for p in saved.parameters())} parameters",
        f"accuracy on {count} held-out scenes with one animal {one:.3f}; both of two animals found {two:.3f}",
    ]  # fmt: skip
    write_checkpoint(file, data, notes, "step,loss,accuracy,seconds", log)
    return one


def vit_from(weights: dict[str, Tensor]) -> nn.Module:
    """The network with these weights, in eval mode, frozen."""
    with torch.random.fork_rng(devices=[]):
        model = small_vit()
    model.load_state_dict(weights)
    return model.eval().requires_grad_(False)


def load_vit(file: Path = CHECKPOINT) -> nn.Module:
    """The trained network of a checkpoint; RuntimeError as in read_checkpoint."""
    return vit_from(read_checkpoint(file, COMMAND))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m advanced.train_vit", description="Train the small transformer.")
    parser.add_argument("--steps", type=int, default=2000, help="of 64 scenes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and scenes (default: %(default)s)")
    parser.add_argument("--scenes", type=int, default=1000, help="to test on (default: %(default)s)")
    parser.add_argument("--to", type=Path, default=CHECKPOINT, metavar="FILE",
                        help=f"the checkpoint (default: {CHECKPOINT.relative_to(PROJECT_ROOT)})")  # fmt: skip
    sys.excepthook, args, log = one_sentence, parser.parse_args(), []
    right = save_vit(train_vit(args.steps, seed=args.seed, log=log), log, args.to, count=args.scenes)
    print(f"{right:.1%} of {args.scenes} held-out scenes right (chance {1 / len(SCENE_CLASSES):.1%})")
    print(f"wrote {args.to}")


if __name__ == "__main__":
    main()
