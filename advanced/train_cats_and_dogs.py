r"""Train a classifier with a map built in (see your_own_network.py): cats against dogs, or any folders of pictures.

    python -m advanced.train_cats_and_dogs FOLDER --download          fetches pictures first (800 MB)
    python -m advanced.train_cats_and_dogs FOLDER                     FOLDER/train/cat, FOLDER/test/dog ...
    python -m advanced.train_cats_and_dogs FOLDER --backbone vgg16    another network below the head
    python -m advanced.train_cats_and_dogs FOLDER --finetune          train the backbone's last block as well

The backbone stays as it is, so each picture goes through it once. Its pooled features are kept in a file, and the head,
one linear layer, is fitted to them in a second.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.datasets import OxfordIIITPet
from tqdm import tqdm

from advanced.your_own_network import HEAD, CamClassifier
from course.checks import one_line
from course.files import fingerprint, write
from course.lesson import one_sentence, print_table
from course.paths import OUTPUT_DIR, PROJECT_ROOT
from course.pictures import list_pictures, load_image
from evaluation.is_it_chance import hit_rate
from utils import preprocess_image

COMMAND = "python -m advanced.train_cats_and_dogs"
CACHE = OUTPUT_DIR / "advanced" / "train_cats_and_dogs"  # for features and the new head


# Pictures


def image_folder(folder: Path) -> tuple[list[Path], Tensor, list[str]]:
    """Pictures of a folder with one subfolder per class: files, labels (N,), class names in alphabetical order."""
    classes = sorted(path.name for path in Path(folder).iterdir() if path.is_dir()) if Path(folder).is_dir() else []
    if len(classes) < 2:
        raise ValueError(f"{folder} needs a subfolder of pictures for each class, cat/ and dog/ for instance")
    files = [list_pictures([Path(folder, name)]) for name in classes]
    labels = torch.cat([torch.full((len(some),), label) for label, some in enumerate(files)])
    return [file for some in files for file in some], labels, classes


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


# Training


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
    """Fit the head of a CamClassifier to a folder with one subfolder per class; the backbone stays as it is.

    Args:
        folder: pictures, cat/ and dog/ for instance. Other numbers of classes do as well.
        backbone: as in CamClassifier.
        cache: where features are kept; None is outputs/advanced/train_cats_and_dogs.

    Returns:
        The classifier, in eval mode and frozen, and the names of its classes.

    Raises:
        ValueError: no such subfolders, or no pictures in them.
    """
    files, labels, classes = image_folder(Path(folder))
    model = CamClassifier(backbone, len(classes))
    features = pooled_features(model, files, Path(cache or CACHE))
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


def train(args: argparse.Namespace) -> None:
    """Fit a head, print its confusion matrix, keep it where the lesson can find it."""
    if args.download:
        download_pets(args.folder)
    model, classes = train_head(args.folder / "train", args.backbone, args.output_dir)
    if args.finetune:
        files, labels, _ = image_folder(args.folder / "train")
        finetune(model, files, labels, seed=args.seed)
    table = confusion(model, *image_folder(args.folder / "test")[:2])
    rows = [[name, *row] for name, row in zip(classes, table.tolist(), strict=True)]
    print_table(["right \\ predicted", *classes], rows)
    right, n, most = int(table.diag().sum()), int(table.sum()), int(table.sum(dim=1).max())
    rate = hit_rate([1] * right + [0] * (n - right))
    print(f"{right} of {n} test pictures right: {rate} (always the most frequent class: {most / n:.2f})")
    if args.finetune:
        print("the fine-tuned network is not kept: its last block is larger than a head")
        return
    command = f"{COMMAND} FOLDER --backbone {args.backbone}"
    notes = {"backbone": args.backbone, "classes": classes, "confusion": table.tolist(), "command": command}
    save_head(args.output_dir / HEAD.name, model, notes)
    print(f"wrote {args.output_dir / HEAD.name}; copied to {HEAD.relative_to(PROJECT_ROOT)} it is the lesson's")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Train a classifier that CAM explains exactly.")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="has train/ and test/, with a folder per class")
    parser.add_argument("--backbone", default="resnet50", help="resnet50, squeezenet1_1, vgg16 ... (default: resnet50)")
    parser.add_argument("--finetune", action="store_true", help="train the backbone's last block as well")
    parser.add_argument("--download", action="store_true", help="torchvision's OxfordIIITPet into FOLDER, first")
    parser.add_argument("--seed", type=int, default=0, help="of --finetune (default: %(default)s)")
    parser.add_argument("--output-dir", type=Path, default=CACHE, help="for features and the head (default: "
                        f"{CACHE.relative_to(PROJECT_ROOT)})")  # fmt: skip
    sys.excepthook = one_sentence
    train(parser.parse_args())


if __name__ == "__main__":
    main()
