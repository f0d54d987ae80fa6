"""Rules of quadrature, and refined paths, on ResNet-50: how far Integrated Gradients' sums and maps are off.

    python tests/benchmark.py --completeness    (writes outputs/completeness.csv, about an hour)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from bench_page import write_csv
from torch import Tensor
from tqdm import tqdm

from course.figures import block_sums
from course.lesson import print_table
from course.refined_path import mean_gradient, refine_path
from utils import DATA_DIR, OUTPUT_DIR, import_lesson, load_image, load_model, preprocess_image

lesson_04 = import_lesson("04_integrated_gradients")

BUDGETS = (30, 50, 100)  # gradients per image
HEADER = ["image", "rule", "gradients", "extra_forwards", "relative_gap", "relative_distance", "distance_of_blocks"]


def remembered(along: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The same function of alpha, asked once for each alpha."""
    known = {}

    def again(alphas: Tensor) -> Tensor:
        new = torch.tensor([alpha for alpha in alphas.tolist() if alpha not in known], dtype=alphas.dtype)
        if len(new):
            known.update(zip(new.tolist(), along(new), strict=True))
        return torch.stack([known[alpha] for alpha in alphas.tolist()])

    return again


def fine_halves(gradients: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
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

    def norms(attribution: Tensor) -> list[float]:
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
        write_csv(file, pd.DataFrame(rows, columns=HEADER))            # so that a stopped run leaves what it has
    print(f"wrote {file}")
    return rows


def summary(rows: list[list]) -> list[list]:
    """Per budget and rule, over the images: gap and distances in per cent, and how often it beats Gauss-Legendre."""
    table, by = [], {tuple(row[:3]): row for row in rows}
    names = sorted({row[0] for row in rows})
    for n, rule in sorted({(row[2], row[1]) for row in rows}):
        group = [by[name, rule, n] for name in names]
        values = [float(f([100 * row[k] for row in group])) for k in (4, 5, 6) for f in (np.mean, np.median)]
        compared = n in BUDGETS and rule != "gausslegendre"
        nearer = sum(by[name, rule, n][5] < by[name, "gausslegendre", n][5] for name in names) if compared else "-"
        table.append([n, rule, group[0][3], *values, nearer])
    return table


def main() -> None:
    """Measure, print and write."""
    header = ["gradients", "rule", "extra\nforwards", "gap %\nmean", "\nmedian", "distance %\nmean", "\nmedian",
              "of blocks %\nmean", "\nmedian", "nearer than\nGauss-L."]  # fmt: skip
    print_table(header, summary(completeness()))
