"""Time and memory against other libraries, refined Integrated Gradients, where Grad-CAM's cells lie: tables of numbers.

    python tests/benchmark.py                  (`make bench`; writes data/results/speed.csv and .md, and README's table)
    python tests/benchmark.py --completeness   (writes outputs/completeness.csv, about an hour)
    python tests/benchmark.py --alignment      (writes outputs/alignment.csv, some minutes)
    python tests/benchmark.py --bfloat16       (writes data/results/bfloat16.csv and .md, some minutes)
    python tests/benchmark.py --cheaper        (writes data/results/cheaper.csv and .md, some minutes)
    python tests/benchmark.py --scale          (writes data/results/scale.csv and book/scale.md, some minutes)
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import ttest_1samp
from torch import Tensor
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import bench_bfloat16
import bench_cheaper
import bench_scale
import bench_speed

from course.figures import block_sums
from course.lesson import print_table
from course.refined_path import mean_gradient, refine_path
from course.scenes import found_scenes
from utils import DATA_DIR, OUTPUT_DIR, import_lesson, load_image, load_model, preprocess_image

lesson_04 = import_lesson("04_integrated_gradients")
grad_cam = import_lesson("05_gradcam").grad_cam

BUDGETS = (30, 50, 100)  # gradients per image
OFFSETS = (0.0, 4.0, 8.0, 12.0, 15.5)  # pixel of the first cell's centre; 15.5 is what upsample takes
HEADER = ["image", "rule", "gradients", "extra_forwards", "relative_gap", "relative_distance", "distance_of_blocks"]


def remembered(along: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """The same function of alpha, asked once for each alpha."""
    known = {}

    def again(alphas: torch.Tensor) -> torch.Tensor:
        new = torch.tensor([alpha for alpha in alphas.tolist() if alpha not in known], dtype=alphas.dtype)
        if len(new):
            known.update(zip(new.tolist(), along(new), strict=True))
        return torch.stack([known[alpha] for alpha in alphas.tolist()])

    return again


def fine_halves(gradients: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor) -> torch.Tensor:
    """Integrated Gradients by the even and by the odd ones of 320 midpoints, (2, C, H, W); their mean is the fine map.

    No coarser rule of the survey shares a node with it.
    """
    halves = torch.zeros(2, *image.shape)
    for alphas in torch.tensor(lesson_04.quadrature("midpoint", 320)[0]).split(10):
        found = gradients(alphas) * image / 160
        halves += torch.stack([found[::2].sum(dim=0), found[1::2].sum(dim=0)])
    return halves


def completeness() -> list[list]:
    """Rows: image, rule, gradients, extra forward passes, relative gap, relative distance of the map to a fine one.

    ResNet-50, zero baseline, the network's own top class. The gap is |sum - (f(x) - f(x'))| / |f(x) - f(x')|, the
    distance |map - fine| / |fine|, pixel by pixel and of the sums over blocks of 8 x 8, as the lessons draw them. The
    rule "fine" gives half the distance between the two halves of the fine map: about its own error.
    """

    def norms(attribution: torch.Tensor) -> list[float]:
        return [attribution.norm().item(), block_sums(attribution.sum(dim=0)[None]).norm().item()]

    model, rows, file = load_model(), [], OUTPUT_DIR / "completeness.csv"
    for photo in tqdm(sorted(DATA_DIR.glob("*.jpg")), desc="completeness"):
        image = preprocess_image(load_image(photo))[0]
        with torch.no_grad():
            label = int(model(image[None]).argmax())
        scores, gradients = lesson_04.along_path(model, image, torch.zeros_like(image), label)
        gained = (scores(torch.ones(1)) - scores(torch.zeros(1))).item()
        halves = fine_halves(gradients, image)
        fine = halves.mean(dim=0)
        scores, gradients = remembered(scores), remembered(gradients)
        maps = {("fine", 320, 0): fine}
        for n in BUDGETS:
            for rule in ("midpoint", "gausslegendre") if n == 50 else ("gausslegendre",):
                maps[rule, n, 0] = lesson_04.integrated_gradients(model, image[None], label, n_steps=n, rule=rule)[0]
            pieces, costs = refine_path(scores, gradients, image, 0, max_gradients=n)
            maps["refined", n, costs[-1].forwards] = mean_gradient(pieces) * image
        for key, attribution in maps.items():
            gap = abs(attribution.sum().item() / gained - 1)
            error = (halves[0] - halves[1]) / 2 if key[0] == "fine" else attribution - fine
            distances = [part / whole for part, whole in zip(norms(error), norms(fine), strict=True)]
            rows.append([photo.name, *key, gap, *distances])
        write_csv(file, HEADER, rows)                                  # so that a stopped run leaves what it has
    print(f"wrote {file}")
    return rows


def summary(rows: list[list]) -> list[list]:
    """Per budget and rule, over the images: gap and distances in per cent, and how often it beats Gauss-Legendre."""
    table, by = [], {tuple(row[:3]): row for row in rows}
    names = sorted({row[0] for row in rows})
    for n, rule in sorted({(row[2], row[1]) for row in rows}):
        group = [by[name, rule, n] for name in names]
        values = [float(f([100 * row[k] for row in group])) for k in (4, 5, 6) for f in (np.mean, np.median)]
        nearer = sum(by[name, rule, n][5] < by[name, "gausslegendre", n][5] for name in names) if n in BUDGETS else "-"
        table.append([n, rule, group[0][3], *values, nearer])
    return table


def read_cells(maps: Tensor, offset: float, size: int = 224) -> Tensor:
    """(B, n, n) -> (B, size, size), bilinear: cell i at pixel offset + i size / n; the outer cells go on outside."""
    cells = maps.shape[-1]
    place = ((torch.arange(size) - offset) * cells / size).clamp(0, cells - 1)
    weights = (1 - (place[:, None] - torch.arange(cells)).abs()).clamp(min=0)              # (size, n)
    return torch.einsum("yi,bij,xj->byx", weights, maps, weights)


def alignment(count: int) -> pd.DataFrame:
    """One row per scene and offset: per cent of Grad-CAM's energy on the animal, and 100 if its maximum lies on it."""
    model, rows = load_model(), []
    scenes, tried = found_scenes(model, count, seed=5)
    print(f"{count} scenes of {tried}: those in which the network gives the animal p > 0.5")
    for i, scene in enumerate(tqdm(scenes, desc="alignment")):
        cells, mask = grad_cam(model, scene.image, scene.classes, upsample=False), scene.masks.any(dim=0)
        for offset in OFFSETS:
            (map,) = read_cells(cells, offset)
            hit, energy = mask.flatten()[map.argmax()], map[mask].sum() / map.sum()
            rows.append([i, scene.name, offset, 100 * energy.item(), 100.0 * hit.item()])
    return pd.DataFrame(rows, columns=["scene", "animal", "offset", "energy", "maximum"])


def gains(table: pd.DataFrame) -> list[list]:
    """Per offset and score: its mean, and the mean paired difference from upsample's offset with a 95 % t interval.

    Scenes of one animal are alike, so the interval is that of the animals' mean differences.
    """
    rows = []
    for score in ("energy", "maximum"):
        wide = table.pivot_table(index=["animal", "scene"], columns="offset", values=score)
        gained = wide.sub(wide[OFFSETS[-1]], axis=0).groupby("animal").mean()
        for offset in OFFSETS[:-1]:
            low, high = ttest_1samp(gained[offset], 0).confidence_interval()
            means = wide[offset].mean(), wide[OFFSETS[-1]].mean(), gained[offset].mean()
            rows.append([score, f"{offset:g}", *(f"{x:.2f}" for x in (*means, low, high)), len(wide), len(gained)])
    return rows


def write_csv(file: Path, header: Sequence[str], rows: list[list]) -> None:
    """Write under a temporary name, rename."""
    file.parent.mkdir(exist_ok=True)
    partial = file.with_suffix(".part")
    with partial.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    os.replace(partial, file)


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed and memory against other libraries, or a survey.")
    parser.add_argument("--rounds", type=int, metavar="N", help="a try of at most N rounds, into outputs/ only")
    parser.add_argument("--completeness", action="store_true", help="the completeness survey over data/ instead")
    parser.add_argument("--alignment", type=int, nargs="?", const=300, metavar="SCENES",
                        help="where Grad-CAM's cells lie, on planted scenes (default: 300)")  # fmt: skip
    parser.add_argument("--bfloat16", type=int, nargs="?", const=1000, metavar="PHOTOS",
                        help="what bfloat16 costs and saves, over the photographs of data/ (default: all)")  # fmt: skip
    parser.add_argument("--cheaper", type=int, nargs="?", const=6, metavar="PHOTOS",
                        help="what antithetic noise and a shared pass would save (default: 6)")  # fmt: skip
    parser.add_argument("--scale", type=int, nargs="?", const=400, metavar="PICTURES",
                        help="pictures per second, in one process and with Ray (default: 400)")  # fmt: skip
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 2)))
    if args.bfloat16:
        bench_bfloat16.main(args.bfloat16)
        return
    if args.cheaper:
        bench_cheaper.main(args.cheaper)
        return
    if args.scale:
        bench_scale.main(args.scale)
        return
    if args.completeness:
        header = ["gradients", "rule", "extra\nforwards", "gap %\nmean", "\nmedian", "distance %\nmean", "\nmedian",
                  "of blocks %\nmean", "\nmedian", "nearer than\nGauss-L."]  # fmt: skip
        print_table(header, summary(completeness()))
        return
    if args.alignment:
        table = alignment(args.alignment)
        header = ["on the animal, %", "cell 0 at", "mean", "at 15.5", "gain", "low", "high", "scenes", "animals"]
        print_table(header, gains(table))
        write_csv(OUTPUT_DIR / "alignment.csv", list(table), table.to_numpy().tolist())
        print(f"wrote {OUTPUT_DIR / 'alignment.csv'}")
        return
    bench_speed.main(args.rounds)


if __name__ == "__main__":
    main()
