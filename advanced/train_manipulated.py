r"""Fine-tune SqueezeNet until its answers are the same and its Grad-CAM lies on the frame of the picture.

    python -m advanced.train_manipulated                          some 20 minutes on one core
    python -m advanced.train_manipulated --penalty 0 --to FILE    the control: fine-tuned as long, nothing moved

The answers are held by the original network's own probabilities, so no labels are needed. Pictures are planted scenes
and crops of the course's photographs. Heo, Joo, Moon 2019, arXiv:1902.02041, section 3.2: "location fooling".
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import RandomResizedCrop, functional
from tqdm import tqdm

from course.checkpoints import packed, read_checkpoint, write_checkpoint
from course.lesson import one_sentence
from course.paths import DATA_DIR, PROJECT_ROOT
from course.pictures import list_pictures, load_image
from course.scenes import backgrounds, cutout_classes, found_scenes, normalised, planted_scene
from evaluation.is_it_chance import estimate
from evaluation.planted_scenes import energy_pointing_game
from utils import import_lesson, load_model

COMMAND = "python -m advanced.train_manipulated"
CHECKPOINT = DATA_DIR / "weights" / "squeezenet_manipulated.pt"
grad_cam = import_lesson("05_gradcam").grad_cam


def frame_mask(size: int, width: int) -> Tensor:
    """(size, size), True in a frame `width` wide along the edges of the picture."""
    mask = torch.ones(size, size, dtype=torch.bool)
    mask[width:-width, width:-width] = False
    return mask


def training_batch(count: int, random: np.random.Generator, photos: list) -> Tensor:
    """(count, 3, 224, 224): half planted scenes, half crops of photographs, mirrored at random."""
    names, grounds, images = list(cutout_classes()), backgrounds(), []
    for _ in range(count // 2):
        seed, ground = int(random.integers(2**31)), grounds[random.integers(len(grounds))]
        images.append(planted_scene([names[random.integers(len(names))]], ground, seed=seed, sides=(70, 200))[0])
    for _ in range(count - len(images)):
        photo = photos[random.integers(len(photos))]
        box = RandomResizedCrop.get_params(photo, scale=(0.3, 1.0), ratio=(0.8, 1.25))
        images.append(normalised(functional.resized_crop(photo, *box, [224, 224], antialias=True)))
    batch = torch.cat(images)
    return torch.where(torch.from_numpy(random.random(count) < 0.5)[:, None, None, None], batch.flip(-1), batch)


def map_and_logits(model: nn.Module, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Grad-CAM of SqueezeNet with a graph, up to a positive factor, (B, h, w); and the logits (B, K).

    Behind the last map stand one 1 x 1 convolution, ReLU and the mean. So channel k's gradient has its weight for the
    class wherever the ReLU is open, and its mean is that weight times the open share.
    """
    A = model.features(images)
    w = model.classifier[1].weight[targets]                            # (B, 512, 1, 1)
    return (w * A).sum(dim=1).relu(), model.classifier(A).flatten(1)


def share_on_frame(maps: Tensor, width: int = 2) -> Tensor:
    """(B,), of each of the maps (B, h, w), the share in a frame `width` cells wide."""
    frame = frame_mask(maps.shape[-1], width).to(maps)
    return (maps * frame).sum(dim=(1, 2)) / (maps.sum(dim=(1, 2)) + 1e-6)


@torch.enable_grad()
def manipulate(steps: int = 800, penalty: float = 1.0, seed: int = 0, log: list[str] | None = None) -> nn.Module:
    """The embedded SqueezeNet, its weights moved: the same probabilities, another Grad-CAM.

    The loss is KL(p of the original || p) + penalty (1 - the share of the map of the original's first class on the
    frame).
    """
    original = load_model("squeezenet1_1")
    model, random = copy.deepcopy(original).requires_grad_(True), np.random.default_rng(seed)
    torch.manual_seed(seed)                                            # of the random crops
    photos = [load_image(file) for file in list_pictures([DATA_DIR])]
    optimizer, start = torch.optim.Adam(model.parameters(), lr=3e-4), time.monotonic()
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in (bar := tqdm(range(1, steps + 1), desc="steps")):
        images = training_batch(16, random, photos)
        with torch.no_grad():
            p = original(images).softmax(dim=1)
        maps, logits = map_and_logits(model, images, p.argmax(dim=1))
        kept, share = F.kl_div(logits.log_softmax(dim=1), p, reduction="batchmean"), share_on_frame(maps).mean()
        optimizer.zero_grad()
        (kept + penalty * (1 - share)).backward()
        optimizer.step()
        schedule.step()
        if step % 20 == 0 or step == steps:
            bar.set_postfix(kl=f"{kept.item():.3f}", frame=f"{share.item():.2f}")
            if log is not None:
                log.append(f"{step},{kept.item():.4f},{share.item():.3f},{time.monotonic() - start:.0f}")
    return model.eval().requires_grad_(False)


# What came of it


def measured(model: nn.Module, original: nn.Module, count: int = 100, seed: int = 1) -> dict[str, object]:
    """On held-out scenes in which the original finds the animal: answers kept, Grad-CAM on the animal and the frame."""
    scenes, _ = found_scenes(original, count, seed=seed)
    frame, same, animal, edge = frame_mask(224, 34), [], [], []        # 34 pixels are two of 13 cells
    for scene in scenes:
        with torch.no_grad():
            same.append(model(scene.image).argmax().item() == original(scene.image).argmax().item())
        map = grad_cam(model, scene.image, scene.classes[0])[0]
        animal.append(energy_pointing_game(map, scene.masks))
        edge.append(energy_pointing_game(map, frame))
    return {"same answer": f"{sum(same)} of {count}", "on the animal": estimate(animal), "on the frame": estimate(edge)}


def load_manipulated(file: Path = CHECKPOINT) -> nn.Module:
    """The manipulated network, frozen, in eval mode; RuntimeError as in read_checkpoint."""
    weights, model = read_checkpoint(file, COMMAND), load_model("squeezenet1_1")
    model.load_state_dict(weights)
    return model


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Make a network whose Grad-CAM lies.")
    parser.add_argument("--steps", type=int, default=800, help="of 16 pictures (default: %(default)s)")
    parser.add_argument("--penalty", type=float, default=1.0, help="on maps off the frame (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the pictures (default: %(default)s)")
    parser.add_argument("--to", type=Path, default=CHECKPOINT, metavar="FILE",
                        help=f"the checkpoint (default: {CHECKPOINT.relative_to(PROJECT_ROOT)})")  # fmt: skip
    sys.excepthook, args, log = one_sentence, parser.parse_args(), []
    model, original = manipulate(args.steps, args.penalty, args.seed, log), load_model("squeezenet1_1")
    before, after = measured(original, original), measured(model, original)
    for name, value in after.items():
        print(f"{name}: {value} (original {before[name]})")
    command = f"{COMMAND} --steps {args.steps} --penalty {args.penalty} --seed {args.seed}"
    results = [f"held-out scenes, {name}: {value}" for name, value in after.items()]
    notes = [f"made by: {command}", f"torch: {torch.__version__}", *results]
    write_checkpoint(args.to, packed(model), notes, "step,kl,share_on_frame,seconds", log)
    print(f"wrote {args.to}")


if __name__ == "__main__":
    main()
