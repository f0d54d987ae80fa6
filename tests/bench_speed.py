"""Seconds and memory of every method, ours and three libraries': one table.

    python tests/benchmark.py    (`make bench`; writes data/results/speed.csv and .md, and README's table; ten
                                  minutes on two cores. A stopped run is continued.)
    python tests/benchmark.py --rounds 1    (a try, some minutes: writes into outputs/ and leaves README alone)

Who is compared stands in bench_libraries.py. In each round all libraries take their turn, in another order each time,
so that a busy machine slows all of them: read the ratios, not the seconds. Before anything is timed, the maps are
compared: a library that computes something else is no measure.
"""

from __future__ import annotations

import os
import platform
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from bench_bfloat16 import RESULTS, markdown
from bench_libraries import LIBRARIES, SAMPLES, check, forward, installed
from bench_scale import processor, put_between
from torch import Tensor
from tqdm import tqdm

from course.files import write_text
from utils import OUTPUT_DIR, PROJECT_ROOT, load_image, load_model, preprocess_image

README = PROJECT_ROOT / "README.md"
# Method -> (title, rounds with one image, rounds with eight; 0 for the methods that make a batch of one image anyway)
METHODS = {
    "forward_pass": ("a forward pass", 15, 5),
    "vanilla_gradient": ("vanilla gradient", 15, 5),
    "gradient_times_input": ("gradient x input", 15, 5),
    "guided_backpropagation": ("guided backpropagation", 15, 5),
    "grad_cam": ("Grad-CAM", 15, 5),
    "guided_grad_cam": ("guided Grad-CAM", 15, 5),
    "lrp": ("LRP, epsilon and z+", 7, 3),
    "smoothgrad": (f"SmoothGrad, n = {SAMPLES}", 5, 0),
    "integrated_gradients": (f"Integrated Gradients, n = {SAMPLES}", 5, 0),
}
MORE = "All libraries' seconds and peak memory: [data/results/speed.md](data/results/speed.md).\n"
BATCH = ("dog.jpg", "bird.jpg", "panda.jpg", "koala.jpg")  # twice, for eight


# What is measured


def pictures(count: int) -> Tensor:
    """The photographs: (count, 3, 224, 224)."""
    return torch.cat([preprocess_image(load_image(name)) for name in (BATCH * 2)[:count]])


def seconds(call: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def in_turn(method: str, count: int, rounds: int) -> list[dict]:
    """Seconds of a method on `count` images, for all libraries that have it; after one call each, whose maps agree."""
    images, (there, _) = pictures(count), installed()
    target = forward(load_model(), images).argmax(dim=1)               # so that nobody has to look for it
    calls = {name: build(method) for name, (build, package) in LIBRARIES.items() if package in there}
    calls = {name: partial(call, images, target) for name, call in calls.items() if call}
    found = calls["ours"]()
    for library in [name for name in calls if name != "ours"]:
        check(method, library, calls[library](), found, images, target)
    rows, order = [], list(calls)
    for i in range(rounds):
        random.Random(i).shuffle(order)
        rows += [{"library": name, "round": i, "value": seconds(calls[name])} for name in order]
    return rows


PEAK = """
import sys; sys.path[:0] = [{root!r}, {tests!r}]
import bench_speed; print(bench_speed.peak({library!r}, {method!r}, {count}, {samples}))
"""


def peak(library: str, method: str, count: int, samples: int) -> float:
    """MiB that this process took at its largest, after one call. Linux."""
    build, _ = LIBRARIES[library]
    call = build(method)
    images, target = pictures(count), torch.full((count,), 235)
    options = {"smoothgrad": {"n_samples": samples}, "integrated_gradients": {"n_steps": samples}}
    call(images, target, **(options.get(method, {}) if library == "ours" else {}))
    # Not getrusage: its ru_maxrss begins with the size of the process that started this one
    return int(re.search(r"VmHWM:\s+([0-9]+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def peaks(method: str, count: int, samples: int = SAMPLES) -> list[dict]:
    """MiB at the largest, of each library in a process of its own."""
    rows, (there, _) = [], installed()
    if not Path("/proc/self/status").exists():
        return rows
    names = [name for name, (build, package) in LIBRARIES.items() if package in there and build(method)]
    for library in names if samples == SAMPLES else ["ours"]:
        code = PEAK.format(root=str(PROJECT_ROOT), tests=str(Path(__file__).parent), library=library, method=method,
                           count=count, samples=samples)  # fmt: skip
        environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, env=environment)
        rows.append({"library": library, "round": 0, "value": float(done.stdout)})
    return rows


def first_figure() -> float:
    """Seconds from the start of lesson 01 until its first figure is on disk."""
    command, start = [sys.executable, "01_vanilla_gradient_saliency.py", "--output-dir"], time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        program = subprocess.Popen([*command, folder], cwd=PROJECT_ROOT, stdout=subprocess.DEVNULL)
        try:
            while not any(Path(folder).glob("*.png")):
                assert program.poll() is None, "lesson 01 ended without a figure"
                time.sleep(0.01)
            return time.perf_counter() - start
        finally:
            program.kill()
            program.wait()


def imports() -> float:
    """Seconds from the start of a process until it has imported what lesson 01 does."""
    code = "from utils import import_lesson; import_lesson('01_vanilla_gradient_saliency'); print('done', flush=True)"
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT_ROOT, stdout=subprocess.PIPE) as program:
        program.stdout.readline()
        found = time.perf_counter() - start                            # before the process ends, which takes long too
    assert program.returncode == 0, "lesson 01 cannot be imported"
    return found


def beginnings(rounds: int) -> list[dict]:
    """Seconds to lesson 01's first figure, and of its imports alone, in turn, after one start to warm the disk."""
    imports()
    return [{"library": name, "round": i, "value": call()} for i in range(rounds)
            for name, call in (("first figure", first_figure), ("imports", imports))]  # fmt: skip


# The table


def measure(file: Path, most: int | None) -> pd.DataFrame:
    """All measured values, one a row; what the file has from the same setting is not measured again."""
    setting = versions()
    rows = pd.read_csv(file).to_dict("records") if file.exists() else []
    rows = [row for row in rows if row["setting"] == setting]
    todo = {("start", "lesson 01", 0): partial(beginnings, min(most or 5, 5))}
    for method, (_, *rounds) in METHODS.items():
        for count, some in zip((1, 8), rounds, strict=True):
            if some:
                todo["seconds", method, count] = partial(in_turn, method, count, min(most or some, some))
        todo["MiB", method, 8 if rounds[1] else 1] = partial(peaks, method, 8 if rounds[1] else 1)
        if not rounds[1]:
            todo["MiB, n = 200", method, 1] = partial(peaks, method, 1, 200)
    done = {(row["what"], row["method"], row["images"]) for row in rows}
    for key in tqdm([key for key in todo if key not in done], desc="speed"):
        group = dict(zip(("setting", "what", "method", "images"), (setting, *key), strict=True))
        rows += [{**group, **row} for row in todo[key]()]
        write_text(file, pd.DataFrame(rows).to_csv(index=False))
    return pd.DataFrame(rows)


def summary(values: pd.DataFrame) -> pd.DataFrame:
    """One row for each method, number of images and library: median and quartiles of seconds and ratio, peak memory."""
    rows = []
    for (what, method, images), group in values.groupby(["what", "method", "images"], sort=False):
        by_round = group.pivot(index="round", columns="library", values="value")
        for library in dict.fromkeys(group["library"]):
            own = "ours" if "ours" in by_round else "first figure"
            ratio = by_round[library] / by_round[own]
            parts = [s.quantile(q) for s in (by_round[library], ratio) for q in (0.5, 0.25, 0.75)]
            rows.append([what, method, images, library, len(ratio), *parts])
    names = ["value", "low", "high", "ratio", "ratio_low", "ratio_high"]
    return pd.DataFrame(rows, columns=["what", "method", "images", "library", "rounds", *names])


def versions() -> str:
    """Processor, threads and packages."""
    there, missing = installed()
    packages = ", ".join(f"{package} {version}" for package, version in there.items())
    left_out = f"; not installed, so left out: {', '.join(missing)}" if missing else ""
    return (f"{os.cpu_count()} processors ({processor()}), {torch.get_num_threads()} threads; "
            f"Python {platform.python_version()}, {packages}{left_out}")  # fmt: skip


def spread(row: pd.Series, column: str, digits: str) -> str:
    """Median (lower to upper quartile)."""
    low, high = (row[f"{column}_{end}" if column == "ratio" else end] for end in ("low", "high"))
    return f"{row[column]:{digits}} ({low:{digits}} to {high:{digits}})"


def wide(table: pd.DataFrame) -> str:
    """README's table: our seconds, and everybody's time as a multiple of ours."""
    timed = table[table["what"] == "seconds"]
    others = [name for name in LIBRARIES if name not in ("ours", "torchvision") and name in set(timed["library"])]
    rows = []
    for (method, images), group in timed.groupby(["method", "images"], sort=False):
        of = group.set_index("library")
        cells = [spread(of.loc[name], "ratio", ".2f") if name in of.index else "" for name in others]
        rows.append([METHODS[method][0], str(images), f"{of.loc['ours', 'value']:.2g}", *cells])
    return markdown(["", "images", "ours, seconds", *others], rows)


def start_sentence(table: pd.DataFrame) -> str:
    """When lesson 01 has drawn something."""
    of = table[table["what"] == "start"].set_index("library")
    seconds, share = of.loc["first figure", "value"], of.loc["imports", "ratio"]
    return (f"`python 01_vanilla_gradient_saliency.py` has its first figure on disk after {seconds:.1f} seconds; "
            f"{share:.0%} of them are imports.")  # fmt: skip


def memory_sentence(table: pd.DataFrame) -> str:
    """What 200 samples take beside 50."""
    own = table[table["what"].str.startswith("MiB") & (table["library"] == "ours")]
    of = own.set_index(["what", "method"])["value"]
    parts = [f"{METHODS[method][0].partition(',')[0]} {of['MiB, n = 200', method] / of['MiB', method]:.2f}"
             for what, method in of.index if what != "MiB"]  # fmt: skip
    return f"Peak memory with 200 samples or steps, as a multiple of that with {SAMPLES}: {', '.join(parts)}."


def section(table: pd.DataFrame, about: str) -> str:
    """What README shows of it."""
    memory = memory_sentence(table) if "MiB" in set(table["what"]) else "Peak memory is measured on Linux only."
    return f"{about}\n\n{wide(table)}\n{start_sentence(table)}\n{memory}\n"


def page(table: pd.DataFrame, about: str) -> str:
    """The whole table: data/results/speed.md."""
    rows = []
    memory = table[table["what"] == "MiB"].set_index(["method", "images", "library"])["value"]
    for row in table[table["what"] == "seconds"].to_dict("records"):
        key = row["method"], row["images"], row["library"]
        rows.append([METHODS[row["method"]][0], str(row["images"]), row["library"], str(row["rounds"]),
                     spread(row, "value", ".3f"), spread(row, "ratio", ".2f"),
                     f"{memory[key]:.0f}" if key in memory.index else ""])  # fmt: skip
    header = ["", "images", "library", "rounds", "seconds", "as a multiple of ours", "peak memory, MiB"]
    return "\n".join(["# Seconds and memory\n", section(table, about), "Median (lower to upper quartile):\n",
                      markdown(header, rows)])  # fmt: skip


def main(most: int | None = None) -> None:
    """Measure, print and write; with a limit of rounds only into outputs/."""
    folder = OUTPUT_DIR if most else RESULTS
    partial_file, load = OUTPUT_DIR / f"speed_{most or 'all'}_rounds.csv", os.getloadavg()[0]
    table = summary(measure(partial_file, most))
    write_text(folder / "speed.csv", table.to_csv(index=False, float_format="%.4g"))
    partial_file.unlink()                                              # the next run measures anew
    table = pd.read_csv(folder / "speed.csv")
    about = f"`make bench`, {date.today()}, {load:.1f} other processes at work. {versions()}."
    write_text(folder / "speed.md", page(table, about))
    print(page(table, about))
    if not most:
        put_between(README, "speed", section(table, about) + MORE)
    print(f"wrote {folder / 'speed.csv'} and speed.md")
