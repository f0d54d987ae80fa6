"""What bfloat16 costs each method in accuracy, beside the error that SmoothGrad has anyway, and what it saves.

    python tests/benchmark.py --bfloat16    (writes data/results/bfloat16.csv and .md, some minutes)
    python tests/benchmark.py --bfloat16 1    (a try with one photograph, into outputs/)

Errors are lengths as shares of the float32 map's: |map in bfloat16 - map in float32| / |map in float32|, on the
embedded ResNet-50, each image's top class. SmoothGrad's own sampling error is lesson 03's, from two float32 runs with
different noise; both errors are then shares of the length of the map without noise.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from bench_libraries import Call, ours
from bench_page import machine, markdown, results, write_csv
from torch import Tensor
from tqdm import tqdm

from course.files import write_text
from course.lesson import print_table
from course.probes import rank_correlation
from utils import DATA_DIR, channel_reduce, import_lesson, load_image, load_model, preprocess_image

lesson_03 = import_lesson("03_smoothgrad")
METHODS = ("grad_cam", "smoothgrad", "guided_grad_cam", "guided_backpropagation", "integrated_gradients",
           "gradient_times_input", "vanilla_gradient", "lrp")  # fmt: skip
READING = """\
The error of bfloat16 is the length of (map in bfloat16 - map in float32), as a share of the float32 map's length.
SmoothGrad draws noise, so its map has an error in float32, too: its own sampling error, as a share of the length of the
map without noise (there bfloat16's error is a share of that length as well). Rank correlation is between the two maps.
The last column but one says how many times as long float32 takes.
"""


def timed(call: Callable[[], Tensor]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def compared(calls: list[Call], image: Tensor, target: Tensor, *, sampled: bool) -> dict:
    """One row: error, rank correlation of the maps, seconds in float32 and bfloat16; own error of what is sampled."""
    calls = [partial(call, image, target) for call in calls]
    full, half = (call() for call in calls)                            # first calls are slower, so they are not timed
    length, own = full.norm(), float("nan")
    if sampled:
        signal, noise = lesson_03.signal_and_noise(full, calls[0](generator=torch.Generator().manual_seed(1)))
        length, own = signal.clamp(min=0).sqrt()[0], lesson_03.relative_error(signal, noise).item()
    maps = [channel_reduce(x)[0] if x.ndim == 4 else x[0] for x in (full, half)]
    slow, fast = (timed(call) for call in calls)
    return {"error": ((half - full).norm() / length).item(), "sampling_error": own,
            "rank_correlation": rank_correlation(*maps), "seconds_float32": slow, "seconds_bfloat16": fast}  # fmt: skip


def measure(photos: list[Path]) -> pd.DataFrame:
    """One row for each photograph and method."""
    rows, model = [], load_model()
    both = {method: [ours(method), ours(method, half=True)] for method in METHODS}
    for photo in tqdm(photos, desc="bfloat16"):
        image = preprocess_image(load_image(photo))
        with torch.no_grad():
            target = model(image).argmax(dim=1)
        for method, calls in both.items():
            found = compared(calls, image, target, sampled=method == "smoothgrad")
            rows.append({"image": photo.name, "method": method, **found})
    return pd.DataFrame(rows)


def summary(table: pd.DataFrame) -> list[list[str]]:
    """Per method: median (lowest to highest) over the photographs."""
    table = table.assign(faster=table["seconds_float32"] / table["seconds_bfloat16"])
    columns = ("error", "sampling_error", "rank_correlation", "faster")
    rows = []
    for method in METHODS:
        part = table[table["method"] == method]
        digits = "{:.3f} ({:.3f} to {:.3f})"
        texts = [digits.format(part[c].median(), part[c].min(), part[c].max()) for c in columns]
        rows.append([method, *(text if "nan" not in text else "none" for text in texts), str(len(part))])
    return rows


def main(count: int | None) -> None:
    """Measure, print and write; with a number of photographs into outputs/."""
    about, folder, photos = machine(), results(complete=not count), sorted(DATA_DIR.glob("*.jpg"))[:count]
    table = measure(photos)
    write_csv(folder / "bfloat16.csv", table)
    header = ["method", "error of bfloat16", "own sampling error", "rank correlation", "float32's time / bfloat16's",
              "photos"]  # fmt: skip
    rows = summary(table)
    sampled = table[table["method"] == "smoothgrad"]
    share = sampled["error"] / sampled["sampling_error"]
    says = (f"SmoothGrad: bfloat16's error is {share.median():.2f} ({share.min():.2f} to {share.max():.2f}) of its own "
            "sampling error.")  # fmt: skip
    print_table(header, rows)
    print(says)
    title = ("# What bfloat16 costs, and what it saves\n\nMedian (lowest to highest) over the photographs of data/, "
             f"ResNet-50; `python tests/benchmark.py --bfloat16`, {about}.\n\n{READING}\n")  # fmt: skip
    write_text(folder / "bfloat16.md", f"{title}{markdown(header, rows)}\n{says}\n")
    print(f"wrote {folder / 'bfloat16.csv'} and bfloat16.md")
