r"""Train a small VGG with a map built in: cats against dogs, taught by the embedded ResNet-50.

    python -m advanced.train_vgg FOLDER                   FOLDER/train/cat, FOLDER/test/dog ...; 2 hours on one core
    python -m advanced.train_vgg FOLDER --more PICTURES   further pictures, of anything, for the features only

VGG-11's convolutions at half their width, global average pooling, one linear layer. 600 labels are few for a network
that starts from nothing, so it also learns to say what the ResNet-50's pooled features say of each crop (distillation:
Hinton, Vinyals, Dean 2015, arXiv:1503.02531; of features: Romero et al. 2014, arXiv:1412.6550). It is trained with
batch norm, which is folded into the convolutions at the end. A killed run goes on from its last epoch.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, RandomResizedCrop, functional
from tqdm import tqdm

from advanced.train_cats_and_dogs import confusion, image_folder
from course.checkpoints import packed, unpacked, write_checkpoint
from course.files import fingerprint, write
from course.lesson import one_sentence, print_table
from course.paths import OUTPUT_DIR
from course.pictures import IMAGENET_MEAN, IMAGENET_STD, list_pictures, load_image
from course.small_vgg import CHECKPOINT, COMMAND, SmallVgg
from evaluation.is_it_chance import hit_rate
from utils import fold_batch_norm, load_model

CROP, SIDE = 144, 128  # pixels of a kept crop, and of what the network sees of it
FIRST_SIDE = 96  # in the first 70 % of the epochs the network sees it smaller: 0.44 s a batch instead of 0.94, one core


# Pictures, and what the teacher says of them


def random_crops(files: Sequence[Path], count: int, seed: int) -> Tensor:
    """`count` crops of each file, (len(files) * count, 3, CROP, CROP) uint8: those of one file stand together."""
    torch.manual_seed(seed)                                            # of get_params
    crops = torch.empty(len(files) * count, 3, CROP, CROP, dtype=torch.uint8)
    for i, file in enumerate(tqdm(files, desc="crops")):
        photo = load_image(file)
        for j in range(count):
            box = RandomResizedCrop.get_params(photo, scale=(0.2, 1.0), ratio=(0.75, 1.33))
            crop = functional.resized_crop(photo, *box, [CROP, CROP], InterpolationMode.BICUBIC, antialias=True)
            crops[i * count + j] = functional.pil_to_tensor(crop)
    return crops


def normalised(crops: Tensor) -> Tensor:
    """uint8 (B, 3, H, W) -> as the networks get them."""
    return functional.normalize(crops.float() / 255, IMAGENET_MEAN, IMAGENET_STD)


@torch.inference_mode()
def teachers_features(crops: Tensor) -> Tensor:
    """ResNet-50's pooled features of the crops, (N, 2048): each with mean 0 and deviation 1 over the crops, float16."""
    teacher, rows = load_model("resnet50"), []
    teacher.fc = nn.Identity()
    for some in tqdm(crops.split(32), desc="teacher"):
        with torch.autocast("cpu", torch.bfloat16):
            rows.append(teacher(F.interpolate(normalised(some), 224, mode="bilinear", antialias=True)).float())
    features = torch.cat(rows)
    return ((features - features.mean(dim=0)) / (features.std(dim=0) + 1e-3)).half()


def disturbed(crops: Tensor, generator: torch.Generator, side: int = SIDE) -> Tensor:
    """A SIDE x SIDE part of each crop at side x side, perhaps mirrored, with other brightness, contrast and colours."""
    def draw(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(len(crops), *shape, 1, 1, generator=generator)

    y, x = torch.randint(0, CROP - SIDE + 1, (2, len(crops)), generator=generator).tolist()
    parts = torch.stack([crop[:, i : i + SIDE, j : j + SIDE] for crop, i, j in zip(crops, y, x, strict=True)])
    images = F.interpolate(normalised(parts), side, mode="bilinear", antialias=True)
    images = images * draw(0.7, 1.3, 1) + draw(-0.4, 0.4, 1) + draw(-0.15, 0.15, 3)
    return torch.where(torch.rand(len(crops), 1, 1, 1, generator=generator) < 0.5, images.flip(-1), images)


# Training


def step_loss(model: SmallVgg, to_teacher: nn.Linear, images: Tensor, taught: Tensor, labels: Tensor) -> Tensor:
    """1 - the cosine of what is said and what the teacher says, plus cross entropy where there is a label (not -1)."""
    with torch.autocast("cpu", torch.bfloat16):
        A = model.features(images)
    pooled = A.float().mean(dim=(2, 3))                                # (B, 256)
    alike = F.cosine_similarity(to_teacher(pooled), taught.float()).mean()
    known = labels >= 0
    right = F.cross_entropy(model.fc(pooled)[known], labels[known], label_smoothing=0.1) if known.any() else 0.0
    return 1 - alike + 0.5 * right


def train(
    crops: Tensor, taught: Tensor, labels: Tensor, epochs: int, kept: Path, seed: int = 0
) -> tuple[SmallVgg, list[str]]:
    """Train from nothing, or from the last epoch in the file `kept`; the network in train mode, and its log."""
    torch.manual_seed(seed)
    model, to_teacher = SmallVgg(batch_norm=True), nn.Linear(256, taught.shape[1])
    model = model.to(memory_format=torch.channels_last)
    weights = [*model.parameters(), *to_teacher.parameters()]
    optimizer, steps = torch.optim.AdamW(weights, lr=2e-3, weight_decay=0.05), epochs * (len(crops) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.1)
    parts, first, log = (model, to_teacher, optimizer, schedule), 0, []
    if kept.exists():
        state = torch.load(kept, weights_only=True)
        first, log = state["epoch"], state["log"]
        for part, its in zip(parts, state["parts"], strict=True):
            part.load_state_dict(its)
    for epoch in range(first, epochs):
        generator, started, losses = torch.Generator().manual_seed(1000 * seed + epoch), time.monotonic(), []
        order = torch.randperm(len(crops), generator=generator)[: len(crops) // 64 * 64]
        side = FIRST_SIDE if epoch < 0.7 * epochs else SIDE
        for some in tqdm(order.split(64), desc=f"epoch {epoch + 1} of {epochs}"):
            images = disturbed(crops[some], generator, side).to(memory_format=torch.channels_last)
            loss = step_loss(model, to_teacher, images, taught[some], labels[some])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        log.append(f"{epoch + 1},{np.mean(losses):.4f},{time.monotonic() - started:.0f}")
        state = {"epoch": epoch + 1, "log": log, "parts": [part.state_dict() for part in parts]}
        write(kept, lambda stream, state=state: torch.save(state, stream))
    return model, log


def folded(model: SmallVgg) -> SmallVgg:
    """The same function without batch norm, in eval mode, frozen."""
    source = [part for part in fold_batch_norm(model.eval()).features if isinstance(part, nn.Conv2d)]
    plain = SmallVgg().requires_grad_(False).eval()
    for layer, its in zip([part for part in plain.features if isinstance(part, nn.Conv2d)], source, strict=True):
        layer.load_state_dict(its.state_dict())
    plain.fc.load_state_dict(model.fc.state_dict())
    return plain


def save_vgg(model: SmallVgg, args: argparse.Namespace, classes: list[str], log: list[str]) -> tuple[int, int]:
    """Weights as float16, beside them the log; how many test pictures the saved network gets right, and of how many."""
    data = packed(model)
    model.load_state_dict(unpacked(data))
    table = confusion(model, *image_folder(args.folder / "test")[:2])
    rows = [[name, *row] for name, row in zip(classes, table.tolist(), strict=True)]
    print_table(["right \\ predicted", *classes], rows)
    right, n = int(table.diag().sum()), int(table.sum())
    options = f"{'--more PICTURES ' * bool(args.more)}--crops {args.crops} --epochs {args.epochs} --seed {args.seed}"
    notes = [f"made by: {COMMAND} FOLDER {options}", f"torch {torch.__version__}",
             f"{right} of {n} test pictures right; rows are the right class: {table.tolist()}"]  # fmt: skip
    write_checkpoint(args.to, data, notes, "epoch,loss,seconds", log)
    return right, n


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Train a small VGG that CAM explains exactly.")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="has train/ and test/, with cat/ and dog/ in each")
    parser.add_argument("--more", type=Path, action="append", default=[], metavar="PICTURES", help="without labels")
    parser.add_argument("--crops", type=int, default=12, help="of each picture (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=48, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of crops and weights (default: %(default)s)")
    parser.add_argument("--to", type=Path, default=CHECKPOINT, metavar="FILE", help="the checkpoint")
    sys.excepthook, args = one_sentence, parser.parse_args()
    files, labels, classes = image_folder(args.folder / "train")
    more = list_pictures(args.more) if args.more else []
    labels = torch.cat([labels, torch.full((len(more),), -1)]).repeat_interleave(args.crops)
    key = fingerprint(*files, *more, args.crops, args.epochs, args.seed)
    kept = OUTPUT_DIR / "advanced" / "train_vgg" / key
    crops = random_crops([*files, *more], args.crops, args.seed)
    if not (kept / "taught.npy").exists():
        taught = teachers_features(crops).numpy()
        write(kept / "taught.npy", lambda stream: np.save(stream, taught))
    taught = torch.from_numpy(np.load(kept / "taught.npy"))
    trained, log = train(crops, taught, labels, args.epochs, kept / "last.pt", args.seed)
    right, n = save_vgg(folded(trained), args, classes, log)
    print(f"{right} of {n} test pictures right: {hit_rate([1] * right + [0] * (n - right))} (chance 0.50)")
    print(f"wrote {args.to}")


if __name__ == "__main__":
    main()
