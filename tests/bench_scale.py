"""Pictures per second: one process, and workers of Ray; and the arithmetic from there to a million and a billion.

    python tests/benchmark.py --scale        (`make ray` first; writes data/results/scale.csv and book/scale.md)
    python tests/benchmark.py --scale 100    (a try with fewer pictures, into outputs/)

Grad-CAM with its class, ResNet-50, copies of the photographs of data/. Of each run the rate is what came after as many
files as there are workers, because a worker starts for seconds and a collection runs for hours; the start is given
beside it.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

import pandas as pd
import torch
from bench_page import RESULTS, machine, markdown, put_between, results, write_csv

from course.explainer import Explainer
from course.scale import explain_dataset
from utils import DATA_DIR, PROJECT_ROOT, load_image, load_model, preprocess_image

PAGE = PROJECT_ROOT / "book" / "scale.md"
PICTURES = 500
PART = 10  # pictures in a file
COLUMNS = ["how", "precision", "pictures", "seconds", "start", "per_second", "kilobytes"]


def copies(folder: Path, count: int) -> list[Path]:
    """Copies of the photographs, each under several names, so that no file is in a cache for its name."""
    folder.mkdir()
    photos = sorted(DATA_DIR.glob("*.jpg"))
    files = [folder / f"{i:05d}.jpg" for i in range(count)]
    for file, photo in zip(files, islice(cycle(photos), count), strict=True):
        shutil.copy(photo, file)
    return files


def rate_of(folder: Path, kind: str, each: int, skip: int) -> tuple[float, float, float]:
    """When the first `skip` results were there, results per second after that, kilobytes per picture."""
    files = sorted(file.stat().st_mtime for file in folder.glob(f"*.{kind}"))
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1000 / (len(files) * each)
    return files[skip - 1], (len(files) - skip) * each / (files[-1] - files[skip - 1]), size


def forward_passes(model: torch.nn.Module, seconds: float = 10) -> float:
    """Images per second of the bare network, in batches of 8."""
    images, done = preprocess_image(load_image("dog.jpg")).repeat(8, 1, 1, 1), 0
    with torch.inference_mode():
        model(images)                                                  # the first call is slower
        begin = time.perf_counter()
        while time.perf_counter() - begin < seconds:
            model(images)
            done += 8
    return done / (time.perf_counter() - begin)


def measure(count: int) -> pd.DataFrame:
    """One row for each way and precision."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        pictures, model = copies(Path(name, "pictures"), count), load_model()
        rows.append(["a forward pass alone, one process", "float32", None, None, None, forward_passes(model), None])
        for precision in ("float32", "bfloat16"):
            half = precision == "bfloat16"
            for workers in (0, 1, 2):
                folder, begin = Path(name, f"{precision}{workers}"), time.time()
                if workers:
                    explain_dataset(pictures, folder, method="grad_cam", model=model, workers=workers, bfloat16=half,
                                    shard_size=PART)  # fmt: skip
                    first, rate, size = rate_of(folder, "parquet", PART, workers)
                    how = f"Ray, {workers} worker{'s' * (workers > 1)} of one thread, Parquet"
                else:
                    Explainer(model, "grad_cam", bfloat16=half).save(folder, pictures)
                    first, rate, size = rate_of(folder, "npz", 1, 8)
                    how = f"one process, {torch.get_num_threads()} threads, .npz and .png"
                rows.append([how, precision, count, time.time() - begin, first - begin, rate, size])
                shutil.rmtree(folder)
    return pd.DataFrame(rows, columns=COLUMNS)


def rounded(number: float) -> str:
    """Two significant digits."""
    return f"{float(f'{number:.2g}'):,.10g}"


def arithmetic(table: pd.DataFrame) -> list[list[str]]:
    """Processor hours, hours on 1,000 processors and storage for many pictures, from the rate of two workers of Ray."""
    rows = []
    for precision in ("float32", "bfloat16"):
        (two,) = table[(table["precision"] == precision) & table["how"].str.contains("2 workers")].to_dict("records")
        for pictures, word in ((10**6, "a million"), (10**9, "a billion")):
            hours = pictures / (two["per_second"] / 2) / 3600
            terabytes = pictures * two["kilobytes"] / 1e9
            rows.append([word, precision, rounded(hours), rounded(hours / 1000), rounded(terabytes)])
    return rows


def section(table: pd.DataFrame, about: str) -> str:
    """What book/scale.md shows of it."""
    digits = {"seconds": ".0f", "start": ".0f", "per_second": ".1f", "kilobytes": ".0f"}
    shown = [[row["how"], row["precision"], *("" if pd.isna(row[c]) else f"{row[c]:{d}}" for c, d in digits.items())]
             for row in table.to_dict("records")]  # fmt: skip
    header = ["how", "precision", "seconds", "of them until the first results", "pictures per second after that",
              "kilobytes per picture"]  # fmt: skip
    further = ["pictures", "precision", "processor hours", "hours on 1,000 processors", "terabytes"]
    return f"{about}\n\n{markdown(header, shown)}\n{markdown(further, arithmetic(table))}"


def main(count: int | None) -> None:
    """Measure, print and write; with a number of pictures into outputs/."""
    if count and count < 10 * PART:
        raise SystemExit(f"--scale {count}: at least {10 * PART} pictures, for a rate after the first files")
    about, folder, count = machine("ray"), results(complete=not count), count or PICTURES
    write_csv(folder / "scale.csv", measure(count))
    about = f"`python tests/benchmark.py --scale`, {about}: {count} pictures, Grad-CAM and class, ResNet-50."
    text = section(pd.read_csv(folder / "scale.csv"), about)
    print(text)
    if folder == RESULTS:
        put_between(PAGE, "scale", text)
    print(f"wrote {folder / 'scale.csv'}")
