"""Train the head of a CamClassifier on a folder of pictures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.datasets import OxfordIIITPet
from tqdm import tqdm

from advanced.your_own_network import HEAD, CamClassifier
from course.checks import (
    one_line,
)
from course.files import fingerprint, write
from course.lesson import print_table
from course.paths import DATA_DIR, OUTPUT_DIR
from course.pictures import list_pictures, load_image
from utils import (
    preprocess_image,
)


def image_folder(folder: Path) -> tuple[list[Path], Tensor, list[str]]:
    """Pictures of a folder with one subfolder a class: files, labels (N,), class names in alphabetical order."""
    classes = sorted(path.name for path in Path(folder).iterdir() if path.is_dir()) if Path(folder).is_dir() else []
    if len(classes) < 2:
        raise ValueError(f"{folder} needs a subfolder of pictures for each class, cat/ and dog/ for instance")
    files = [list_pictures([Path(folder, name)]) for name in classes]
    labels = torch.cat([torch.full((len(some),), label) for label, some in enumerate(files)])
    return [file for some in files for file in some], labels, classes


@torch.inference_mode()
def pooled_features(model: CamClassifier, files: Sequence[Path], cache: Path) -> Tensor:
    """What the linear layer sees, (N, C): each file once through the backbone, then from `cache`."""
    key = fingerprint(*model.features.state_dict().values(), *files)
    file = cache / f"features-{key}.npy"
    if not file.exists():
        device, rows = model.fc.weight.device, []
        for start in tqdm(range(0, len(files), 16), desc="features", unit="batch"):
            images = torch.cat([preprocess_image(load_image(name)) for name in files[start : start + 16]])
            rows.append(model.features(images.to(device)).mean(dim=(2, 3)).cpu())
        features = torch.cat(rows).numpy()
        write(file, lambda stream: np.save(stream, features))
    return torch.from_numpy(np.load(file))


@torch.inference_mode(False)
@torch.enable_grad()
def fit_head(fc: nn.Linear, features: Tensor, labels: Tensor, decay: float = 0.1, steps: int = 100) -> None:
    """Logistic regression in place: cross entropy plus decay |w|^2 / 2 on standardised features, by L-BFGS."""
    mean, std = features.mean(dim=0), features.std(dim=0) + 1e-6
    x, w = (features.clone() - mean) / std, torch.zeros(fc.weight.shape, requires_grad=True)
    b = torch.zeros(len(w), requires_grad=True)
    optimizer = torch.optim.LBFGS([w, b], max_iter=steps, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(x @ w.T + b, labels) + decay * w.square().sum() / 2
        value.backward()
        return value

    optimizer.step(loss)
    with torch.no_grad():                                              # the same line in terms of x
        fc.weight.copy_(w / std)
        fc.bias.copy_(b - (w * mean / std).sum(dim=1))


def train_head(
    folder: Path | str, backbone: str = "resnet50", cache: Path | None = None
) -> tuple[CamClassifier, list[str]]:
    """Fit the head of a CamClassifier to a folder with one subfolder a class; the backbone stays as it is.

    Args:
        folder: pictures, cat/ and dog/ for instance. Other numbers of classes do as well.
        backbone: as in CamClassifier.
        cache: where features are kept; None is outputs/09_advanced_techniques.

    Returns:
        The classifier, in eval mode and frozen, and the names of its classes.

    Raises:
        ValueError: no such subfolders, or no pictures in them.
    """
    files, labels, classes = image_folder(Path(folder))
    model = CamClassifier(backbone, len(classes))
    features = pooled_features(model, files, Path(cache or OUTPUT_DIR / "09_advanced_techniques"))
    fit_head(model.fc, features, labels)
    return model, classes


@torch.inference_mode(False)
@torch.enable_grad()
def finetune(model: CamClassifier, files: Sequence[Path], labels: Tensor, epochs: int = 2, seed: int = 0) -> None:
    """Train the last block and the head together, in place, by SGD. No batch norm is left: eval mode is right."""
    block = list(model.features.children())[-1]
    weights = [*block.parameters(), *model.fc.parameters()]
    for weight in weights:
        weight.requires_grad_(True)
    optimizer, generator = torch.optim.SGD(weights, lr=1e-4, momentum=0.9), torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        for some in tqdm(torch.randperm(len(files), generator=generator).split(16), desc=f"epoch {epoch + 1}"):
            images = torch.cat([preprocess_image(load_image(files[i])) for i in some])
            loss = F.cross_entropy(model(images.to(model.fc.weight.device)), labels[some].to(model.fc.weight.device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for weight in weights:
        weight.grad = None
        weight.requires_grad_(False)


@torch.inference_mode()
def confusion(model: nn.Module, files: Sequence[Path], labels: Tensor) -> Tensor:
    """(K, K) counts: row is the right class, column the predicted one."""
    table = torch.zeros(model.fc.out_features, model.fc.out_features, dtype=torch.long)
    for file, label in zip(tqdm(files, desc="test", unit="image"), labels.tolist(), strict=True):
        table[label, model(preprocess_image(load_image(file)).to(model.fc.weight.device)).argmax()] += 1
    return table


def save_head(file: Path, model: CamClassifier, notes: dict) -> None:
    """The linear layer alone (some kB), and what is known about it: backbone, classes, confusion matrix, command."""
    content = {"weight": model.fc.weight.detach().cpu(), "bias": model.fc.bias.detach().cpu(), **notes}
    write(file, lambda stream: torch.save(content, stream))


def download_pets(folder: Path) -> None:
    """torchvision's OxfordIIITPet as folder/train/cat, folder/train/dog, folder/test/... (800 MB)."""
    for split, name in (("trainval", "train"), ("test", "test")):
        try:
            pets = OxfordIIITPet(folder / "download", split=split, target_types="binary-category", download=True)
        except Exception as error:  # urllib's errors, tar's errors, a full disk
            raise ConnectionError(f"the pictures could not be downloaded ({one_line(error)})") from error
        for i, (picture, label) in enumerate(tqdm(pets, desc=name)):
            file = folder / name / ("cat", "dog")[label] / f"{i:05}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            picture.convert("RGB").save(file)


def train_cats_and_dogs(args: argparse.Namespace) -> int:
    """--cats-and-dogs: fit a head, print its confusion matrix, keep it where the lesson finds it."""
    folder = Path(args.cats_and_dogs)
    if args.download:
        download_pets(folder)
    model, classes = train_head(folder / "train", args.backbone, args.output_dir)
    if args.finetune:
        files, labels, _ = image_folder(folder / "train")
        finetune(model, files, labels, seed=args.seed)
    files, labels, _ = image_folder(folder / "test")
    table = confusion(model, files, labels)
    rows = [[name, *row] for name, row in zip(classes, table.tolist(), strict=True)]
    print_table(["right \\ predicted", *classes], rows)
    accuracy = (table.diag().sum() / table.sum()).item()
    print(f"{accuracy:.1%} of {int(table.sum())} test pictures right")
    command = f"python 09_advanced_techniques.py --cats-and-dogs FOLDER --backbone {args.backbone}"
    notes = {"backbone": args.backbone, "classes": classes, "confusion": table.tolist(), "command": command}
    file = args.output_dir / HEAD.name
    if args.finetune:
        print("the fine-tuned network is not kept: its last block is larger than a head")
        return 0
    save_head(file, model, notes)
    print(f"wrote {file} (copy it to {HEAD.relative_to(DATA_DIR.parent)} to make it the lesson's)")
    return 0
