"""Where in the picture the cells of Grad-CAM's layer lie, by planted scenes.

    python tests/benchmark.py --alignment    (writes outputs/alignment.csv, some minutes)
"""

from __future__ import annotations

import pandas as pd
import torch
from bench_page import write_csv
from scipy.stats import ttest_1samp
from torch import Tensor
from tqdm import tqdm

from course.lesson import print_table
from course.scenes import found_scenes
from utils import OUTPUT_DIR, import_lesson, load_model

grad_cam = import_lesson("05_gradcam").grad_cam
SCENES = 300
OFFSETS = (0.0, 4.0, 8.0, 12.0, 15.5)  # pixel of the first cell's centre; 15.5 is what upsample takes


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


def main(count: int | None) -> None:
    """Measure, print and write."""
    table = alignment(count or SCENES)
    header = ["on the animal, %", "cell 0 at", "mean", "at 15.5", "gain", "low", "high", "scenes", "animals"]
    print_table(header, gains(table))
    write_csv(OUTPUT_DIR / "alignment.csv", table)
    print(f"wrote {OUTPUT_DIR / 'alignment.csv'}")
