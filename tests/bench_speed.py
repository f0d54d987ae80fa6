"""Seconds and memory of every method, ours and three libraries': one table.

    python tests/benchmark.py    (`make bench`; writes data/results/speed.csv and .md, and README's table; ten
                                  minutes on two cores)
    python tests/benchmark.py --rounds 1    (a try, some minutes: writes into outputs/ and leaves README alone)

Who is compared stands in bench_libraries.py. In each round all libraries take their turn, in another order each time,
so that a busy machine slows all of them: read the ratios, not the seconds. Before anything is timed, the maps are
compared: a library that computes something else is no measure.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial

import pandas as pd
from bench_libraries import LIBRARIES, SAMPLES, check, forward, installed, pictures
from bench_memory import added_by_each
from bench_page import machine, markdown, put_between, results, write_csv
from bench_start import beginnings
from tqdm import tqdm

from course.files import write_text
from utils import PROJECT_ROOT, load_model

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
MANY = f"MiB, n = {4 * SAMPLES}"
READING = """\
Everybody takes a turn in each round. A multiple of ours is the median of the ratios to our time, in float32, within a
round: 2.00 is twice as long. It need not be the ratio of the two medians.
"""
MORE = "All libraries' seconds and memory: [data/results/speed.md](data/results/speed.md).\n"


def seconds(call: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def in_turn(method: str, count: int, rounds: int) -> list[dict]:
    """Seconds of a method on `count` images, for all libraries that have it; after one call each, whose maps agree."""
    images = pictures(count)
    target = forward(load_model(), images).argmax(dim=1)               # so that nobody has to look for it
    calls = {name: LIBRARIES[name][0](method) for name in LIBRARIES if LIBRARIES[name][1] in installed()}
    calls = {name: partial(call, images, target) for name, call in calls.items() if call}
    found = calls["ours"]()
    for library in [name for name in calls if name != "ours"]:
        check(method, library, calls[library](), found, images, target)
    rows, order = [], list(calls)
    for i in range(rounds):
        random.Random(i).shuffle(order)
        rows += [{"library": name, "round": i, "value": seconds(calls[name])} for name in order]
    return rows


def measure(most: int) -> pd.DataFrame:
    """All measured values, one a row, with `most` rounds at most."""
    rows = []

    def note(what: str, method: str, images: int, found: list[dict]) -> None:
        rows.extend({"what": what, "method": method, "images": images, **row} for row in found)

    note("start", "lesson 01", 0, beginnings(min(most, 5)))
    for method, (_, *rounds) in tqdm(METHODS.items(), desc="speed"):
        for count, some in zip((1, 8), rounds, strict=True):
            if some:
                note("seconds", method, count, in_turn(method, count, min(most, some)))
        count = 8 if rounds[1] else 1
        names = [name for name in LIBRARIES if any(row["method"] == method and row["library"] == name for row in rows)]
        note("MiB", method, count, added_by_each(method, count, names))
        if not rounds[1]:
            note(MANY, method, count, added_by_each(method, count, ["ours"], samples=4 * SAMPLES))
    return pd.DataFrame(rows)


def summary(values: pd.DataFrame) -> pd.DataFrame:
    """One row for each method, number of images and library: median and quartiles of the values and of their ratios.

    The ratio is to ours in the same round; of lesson 01's start, to its first figure.
    """
    rows = []
    for (what, method, images), group in values.groupby(["what", "method", "images"], sort=False):
        by_round = group.pivot(index="round", columns="library", values="value")
        ratios = by_round.div(by_round["ours" if "ours" in by_round else "first figure"], axis=0)
        for library in [name for name in (*LIBRARIES, "first figure", "imports") if name in by_round]:
            parts = [x[library].quantile(q) for x in (by_round, ratios) for q in (0.5, 0.25, 0.75)]
            rows.append([what, method, images, library, len(ratios), *parts])
    names = ["value", "value_low", "value_high", "ratio", "ratio_low", "ratio_high"]
    return pd.DataFrame(rows, columns=["what", "method", "images", "library", "rounds", *names])


def spread(row: pd.Series, column: str, digits: str) -> str:
    """Median (lower to upper quartile)."""
    return f"{row[column]:{digits}} ({row[f'{column}_low']:{digits}} to {row[f'{column}_high']:{digits}})"


def wide(table: pd.DataFrame) -> str:
    """README's table: our seconds, and everybody's time as a multiple of ours."""
    timed = table[table["what"] == "seconds"]
    others = [name for name in LIBRARIES if name != "ours" and name in set(timed["library"])]
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
    return (f"`python 01_vanilla_gradient_saliency.py` has its first figure on disk after {seconds:.1f} seconds, where "
            f"it ran shortly before; {share:.0%} of them are imports.")  # fmt: skip


def memory_sentence(table: pd.DataFrame) -> str:
    """What four times as many samples take."""
    own = table[table["library"] == "ours"].set_index(["what", "method"])["value"]
    parts = [f"{METHODS[method][0].partition(',')[0]} {own[what, method] / own['MiB', method]:.2f}"
             for what, method in own.index if what == MANY]  # fmt: skip
    return (f"Memory that a call adds with {4 * SAMPLES} samples or steps, as a multiple of that with {SAMPLES}: "
            f"{', '.join(parts)}.")  # fmt: skip


def section(table: pd.DataFrame, about: str) -> str:
    """What README shows of it."""
    memory = memory_sentence(table) if "MiB" in set(table["what"]) else "Memory is measured on Linux only."
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
    header = ["", "images", "library", "rounds", "seconds", "as a multiple of ours", "MiB that a call adds"]
    return "\n".join(["# Seconds and memory\n", READING, section(table, about), "Median (lower to upper quartile):\n",
                      markdown(header, rows)])  # fmt: skip


def main(most: int | None = None) -> None:
    """Measure, print and write; with a limit of rounds only into outputs/."""
    folder, there = results(complete=not most), installed()
    packages = dict.fromkeys(package for _, package in LIBRARIES.values() if package != "torch")
    about = f"`make bench`, {machine(*[package for package in packages if package in there])}."
    missing = [package for package in packages if package not in there]
    if missing:
        about += f" Not installed, so left out: {', '.join(missing)}."
    write_csv(folder / "speed.csv", summary(measure(most or 15)))
    table = pd.read_csv(folder / "speed.csv")                          # with the digits that a test will find
    write_text(folder / "speed.md", page(table, about))
    print(page(table, about))
    if not most:
        put_between(README, "speed", section(table, about) + MORE)
    print(f"wrote {folder / 'speed.csv'} and speed.md")
