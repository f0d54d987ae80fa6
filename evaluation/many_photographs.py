"""Each network's accuracy on a folder of photographs, and deletion and insertion as RISE measured them.

    python -m evaluation.many_photographs FOLDER    (writes data/results/photographs.csv; a stopped run goes on)

The course has nineteen photographs, because few may be given away. A folder of your own shows whether nineteen were
enough. Its files are named by their class, 0207_golden_retriever.jpg, or with anything else: then nothing is said of
accuracy. `python -m evaluation.results` writes README's table from what is found.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from torch import nn
from tqdm import tqdm

from course.checks import top_class
from course.files import write_text
from course.lesson import one_sentence
from course.paths import DATA_DIR
from course.pictures import list_pictures
from course.weights import EMBEDDED
from evaluation.deletion_insertion import area_under_curve, deletion_curve, insertion_curve
from evaluation.is_it_chance import estimate, hit_rate, paired_difference
from evaluation.methods import METHODS
from utils import load_image, load_model, preprocess_image

FILE = DATA_DIR / "results" / "photographs.csv"
COLUMNS = ["network", "picture", "method", "metric", "value"]
COMPARED = {"grad_cam": "Grad-CAM", "random_coarse": "noise as coarse", "centre": "a blob in the centre"}
PUBLISHED = {"deletion": 0.1232, "insertion": 0.6766}  # Petsiuk et al. 2018, arXiv:1806.07421, table of ResNet-50


def read(file: Path = FILE) -> pd.DataFrame:
    """What has been measured."""
    return pd.read_csv(file, keep_default_na=False) if file.exists() else pd.DataFrame(columns=COLUMNS)


def spread(files: Sequence[Path], count: int) -> list[Path]:
    """So many of the files, evenly taken from all."""
    count = min(count, len(files))
    return [files[i * len(files) // count] for i in range(count)]


def class_in_name(file: Path) -> int | None:
    """The class that a file's name begins with, if it does."""
    found = re.match(r"(\d{4})_", file.name)
    return int(found[1]) if found else None


def accuracy_rows(name: str, model: nn.Module, file: Path) -> list[list]:
    """Whether the network's top class is the photograph's."""
    right = class_in_name(file) == top_class(model, preprocess_image(load_image(file)), None)
    return [[name, file.name, "", "right", float(right)]]


def protocol_rows(name: str, model: nn.Module, file: Path) -> list[list]:
    """Both areas for the network's own top class, by Grad-CAM and by two maps that know nothing."""
    image, rows = preprocess_image(load_image(file)), []
    target = top_class(model, image, None)
    for method in COMPARED:
        map = METHODS[method](model, image, target)[0]
        for metric, curve in (("deletion", deletion_curve), ("insertion", insertion_curve)):
            rows.append([name, file.name, method, metric, area_under_curve(curve(model, image, map, target))])
    return rows


def measure(files: Sequence[Path], count: int, file: Path = FILE) -> pd.DataFrame:
    """Accuracy of each embedded network on all files, and the protocol with ResNet-50 on `count` of them."""
    table = read(file)
    done = set(zip(table["network"], table["picture"], table["metric"], strict=True))
    rows, named = table.to_numpy().tolist(), [photo for photo in files if class_in_name(photo) is not None]
    jobs = [(network, "right", accuracy_rows, named) for network in EMBEDDED]
    for network, metric, rows_of, photos in [*jobs, ("resnet50", "insertion", protocol_rows, spread(files, count))]:
        model = load_model(network)
        for i, photo in enumerate(tqdm(photos, desc=f"{network}, {metric}")):
            if (network, photo.name, metric) not in done:
                rows += rows_of(network, model, photo)
            if i % 10 == 9 or i == len(photos) - 1:
                text = pd.DataFrame(rows, columns=COLUMNS).to_csv(index=False, float_format="%.4g", lineterminator="\n")
                write_text(file, text)
    return pd.DataFrame(rows, columns=COLUMNS)


def lines(table: pd.DataFrame) -> list[list[str]]:
    """Header and rows of README's table: areas with intervals, their paired differences from coarse noise, RISE's."""
    found = []
    for method, title in COMPARED.items():
        cells = []
        for metric in PUBLISHED:
            values = table[(table["metric"] == metric) & (table["method"] == method)]["value"]
            difference = estimate(paired_difference(table, metric, method, "random_coarse"))
            cells += [f"{values.mean():.3f}", "" if method == "random_coarse" else str(difference)]
        found.append([title, *cells])
    n = table[table["metric"] == "deletion"]["picture"].nunique()
    head = [f"resnet50, n = {n}", *(word for metric in PUBLISHED for word in (f"{metric}", "minus noise as coarse"))]
    return [head, *found, ["Grad-CAM, as published", f"{PUBLISHED['deletion']}", "", f"{PUBLISHED['insertion']}", ""]]


def accuracies(table: pd.DataFrame) -> str:
    """One sentence: how often each network's first answer is right."""
    rights = table[table["metric"] == "right"]
    found = {network: hit_rate(its["value"]) for network, its in rights.groupby("network")}
    parts = [f"{name} {100 * rate.mean:.1f} % [{100 * rate.low:.1f}, {100 * rate.high:.1f}]"
             for name, rate in found.items()]  # fmt: skip
    return f"First answers that are right, of {rights['picture'].nunique()}: {', '.join(parts)}."


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evaluation.many_photographs", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="photographs, one a file")
    parser.add_argument("--count", type=int, default=100, help="for deletion and insertion (default: 100)")
    parser.add_argument("--to", type=Path, default=FILE, help="the table (default: data/results/photographs.csv)")
    args = parser.parse_args()
    sys.excepthook = one_sentence
    files = list_pictures([args.folder])
    if args.count < 1:
        raise ValueError(f"--count must be 1 or more, got {args.count}")
    table = measure(files, args.count, args.to)
    for line in [accuracies(table), *("  ".join(line) for line in lines(table))]:
        print(line)
    print(f"wrote {args.to}")


if __name__ == "__main__":
    main()
