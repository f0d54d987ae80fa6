"""Pictures per second: one process, and workers of Ray; and the arithmetic from there to a million and a billion.

    python tests/benchmark.py --scale    (`make ray` first; writes data/results/scale.csv and book/scale.md, minutes)

Grad-CAM with its class, ResNet-50, copies of the photographs of data/. Of each run the rate is what came after every
worker's first file, because a worker starts for seconds and a collection runs for hours; the start is given beside it.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from datetime import date
from itertools import cycle, islice
from pathlib import Path

import pandas as pd
import torch
from bench_bfloat16 import RESULTS, markdown

from course.explainer import Explainer
from course.files import write_text
from course.scale import explain_dataset
from utils import DATA_DIR, PROJECT_ROOT, load_image, load_model, preprocess_image

PAGE = PROJECT_ROOT / "book" / "scale.md"
PART = 10  # pictures in a file
COLUMNS = ["how", "precision", "pictures", "seconds", "start", "per_second", "kilobytes"]


def copies(folder: Path, count: int) -> list[Path]:
    """Links to the photographs, each under several names."""
    folder.mkdir()
    photos = sorted(DATA_DIR.glob("*.jpg"))
    links = [folder / f"{i:05d}.jpg" for i in range(count)]
    for link, photo in zip(links, islice(cycle(photos), count), strict=True):
        shutil.copy(photo, link)                                       # of its own, so that no name is a hit in a cache
    return links


def rate_of(folder: Path, kind: str, each: int, skip: int) -> tuple[float, float, float]:
    """When the first `skip` results were there, results per second after that, kilobytes per picture."""
    files = sorted(file.stat().st_mtime for file in folder.glob(f"*.{kind}"))
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1000 / (len(files) * each)
    return files[skip - 1], (len(files) - skip) * each / (files[-1] - files[skip - 1]), size


def forward_passes(model: torch.nn.Module, seconds: float = 10) -> float:
    """Images per second of the bare network, in batches of 8."""
    images, done, begin = preprocess_image(load_image("dog.jpg")).repeat(8, 1, 1, 1), 0, time.perf_counter()
    with torch.inference_mode():
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


def main(count: int) -> None:
    """Measure, print and write."""
    load = os.getloadavg()[0]
    table = measure(count)
    write_text(RESULTS / "scale.csv", table.to_csv(index=False, float_format="%.4g"))
    about = (f"`python tests/benchmark.py --scale {count}`, {date.today()}: {count} pictures, Grad-CAM and "
             f"class, ResNet-50. {os.cpu_count()} processors ({processor()}), {load:.1f} other processes at work, "
             f"torch {torch.__version__}.")  # fmt: skip
    text = section(pd.read_csv(RESULTS / "scale.csv"), about)
    print(text)
    put_between(PAGE, "scale", text)
    print(f"wrote {RESULTS / 'scale.csv'} and the tables in {PAGE}")


def put_between(file: Path, name: str, section: str) -> None:
    """Exchange what stands in a page between <!-- name --> and <!-- end of name -->."""
    before, found, rest = file.read_text(encoding="utf-8").partition(f"<!-- {name} -->\n")
    _, ends, after = rest.partition(f"<!-- end of {name} -->\n")
    if not (found and ends):
        raise ValueError(f"{file} has no <!-- {name} --> with an <!-- end of {name} --> after it")
    write_text(file, f"{before}{found}\n{section}\n{ends}{after}")


def processor() -> str:
    """The processor's name, and what it has for bfloat16."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    has = [name for name, there in torch.cpu.get_capabilities().items() if "bf16" in name and there is True]
    return ", ".join([names[0] if names else platform.processor() or platform.machine(), *has])
