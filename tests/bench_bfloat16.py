"""What bfloat16 costs each method in accuracy, beside the error that SmoothGrad has anyway, and what it saves.

    python tests/benchmark.py --bfloat16    (writes data/results/bfloat16.csv and .md; a stopped run is continued)

Errors are lengths as shares of the float32 map's: |map in bfloat16 - map in float32| / |map in float32|, on the
embedded ResNet-50, each image's top class. SmoothGrad's own sampling error is lesson 03's, from two float32 runs with
different noise; both errors are then shares of the length of the map without noise.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from course.explainer import attribution_method
from course.files import write_text
from course.lesson import print_table
from course.probes import rank_correlation
from course.weights import in_bfloat16
from utils import DATA_DIR, channel_reduce, import_lesson, load_image, load_model, preprocess_image

lesson_03 = import_lesson("03_smoothgrad")
RESULTS = DATA_DIR / "results"
METHODS = ("grad_cam", "smoothgrad", "guided_grad_cam", "guided_backpropagation", "integrated_gradients",
           "gradient_times_input", "vanilla_gradient")  # fmt: skip


def timed(method: str, model: torch.nn.Module, image: Tensor, target: int, **options: object) -> tuple[Tensor, float]:
    """The method's answer to one image, and the seconds that the processor worked for it."""
    start = time.process_time()                                        # a busy machine does not count
    return attribution_method(method)(model, image, target, **options), time.process_time() - start


def compared(method: str, networks: tuple[torch.nn.Module, torch.nn.Module], image: Tensor, target: int) -> dict:
    """One row: error, rank correlation of the maps, seconds in float32 and bfloat16; for SmoothGrad its own error."""
    (full, slow), (half, fast) = (timed(method, model, image, target) for model in networks)
    length, own = full.norm(), float("nan")
    if method == "smoothgrad":
        other, _ = timed(method, networks[0], image, target, generator=torch.Generator().manual_seed(1))
        signal, noise = lesson_03.signal_and_noise(full, other)
        length, own = signal.clamp(min=0).sqrt()[0], lesson_03.relative_error(signal, noise).item()
    maps = [channel_reduce(x)[0] if x.ndim == 4 else x[0] for x in (full, half)]
    return {"error": ((half - full).norm() / length).item(), "sampling_error": own,
            "rank_correlation": rank_correlation(*maps), "seconds_float32": slow, "seconds_bfloat16": fast}  # fmt: skip


def measure(file: Path, count: int) -> pd.DataFrame:
    """The table of so many photographs and all methods; rows that the file has are not measured again."""
    rows = pd.read_csv(file).to_dict("records") if file.exists() else []
    done = {(row["image"], row["method"]) for row in rows}
    networks = load_model(), in_bfloat16(load_model())
    for photo in tqdm(sorted(DATA_DIR.glob("*.jpg"))[:count], desc="bfloat16"):
        image = preprocess_image(load_image(photo))
        with torch.no_grad():
            target = int(networks[0](image).argmax())
        for method in METHODS:
            if (photo.name, method) not in done:
                timed(method, networks[1], image, target, **({"n_samples": 10} if method == "smoothgrad" else {}))
                rows.append({"image": photo.name, "method": method, **compared(method, networks, image, target)})
        write_text(file, pd.DataFrame(rows).to_csv(index=False, float_format="%.4g"))
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


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main(count: int) -> None:
    """Measure, print and write."""
    table = measure(RESULTS / "bfloat16.csv", count)
    header = ["method", "error of bfloat16", "own sampling error", "rank correlation", "float32 / bfloat16, time",
              "photos"]  # fmt: skip
    rows = summary(table)
    sampled = table[table["method"] == "smoothgrad"]
    share = sampled["error"] / sampled["sampling_error"]
    says = (f"SmoothGrad: bfloat16's error is {share.median():.2f} ({share.min():.2f} to {share.max():.2f}) of its own "
            f"sampling error. Threads: {os.environ.get('OMP_NUM_THREADS', torch.get_num_threads())}; processor time.")
    print_table(header, rows)
    print(says)
    title = ("# What bfloat16 costs, and what it saves\n\nMedian (lowest to highest) over the photographs of data/, "
             "ResNet-50; `python tests/benchmark.py --bfloat16`.\n\n")  # fmt: skip
    write_text(RESULTS / "bfloat16.md", f"{title}{markdown(header, rows)}\n{says}\n")
    print(f"wrote {RESULTS / 'bfloat16.md'}")
