"""The committed results of the study: collected from its runs, and written into README and lesson 08.

    python -m evaluation.results                    tables and texts anew from data/results
    python -m evaluation.results outputs/study/*    first take over the full runs in these folders
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from course.files import write_text
from course.lesson import one_sentence
from course.paths import DATA_DIR, PROJECT_ROOT
from course.weights import EMBEDDED
from evaluation import many_photographs
from evaluation.methods import CONTROLS
from evaluation.study import COLUMNS, METHODS, read_scores
from evaluation.verdicts import against_controls, claims, markdown

RESULTS = DATA_DIR / "results"
NETWORKS = tuple(EMBEDDED)  # those that have been measured come into the tables
README, LESSON = PROJECT_ROOT / "README.md", PROJECT_ROOT / "08_comparative_analysis.py"

COMPARED = {
    "insertion_blur": "insertion, above noise", "deletion_mean": "deletion, below noise",
    "energy": "share on a planted animal, above edges", "right_of_two": "right one of two animals, above one half",
}  # fmt: skip
TITLES = {
    "vanilla_gradient": "vanilla gradient", "gradient_times_input": "gradient x input",
    "smoothgrad": "SmoothGrad, 20 samples", "integrated_gradients": "Integrated Gradients, 20 steps",
    "grad_cam": "Grad-CAM (coarse controls)", "guided_backpropagation": "guided backpropagation",
    "guided_grad_cam": "guided Grad-CAM", "lrp_composite": "LRP, composite", "lrp_conserving": "LRP, z+ conserving",
}  # fmt: skip


def collect(folder: Path, results: Path = RESULTS) -> None:
    """A folder's full runs with seed 0 of the embedded networks -> results/<network>.csv, and their rows of runs.csv.

    Raises:
        ValueError: the folder holds no such run.
    """
    file = folder / "runs.csv"
    sessions = pd.read_csv(file) if file.exists() else pd.DataFrame(columns=["run", "network"])
    full = sessions[sessions["run"].str.contains("-0-full-") & sessions["network"].isin(NETWORKS)]
    if full.empty:
        raise ValueError(f"{folder} holds no full run of an embedded network with seed 0; run lesson 08 in full")
    scores = read_scores(folder / "scores.csv")
    for network, its in full.groupby("network"):
        last = its["run"].iloc[-1]
        table = scores.loc[scores["run"] == last, COLUMNS[1:]]
        write_text(results / f"{network}.csv", table.to_csv(index=False, float_format="%.4g", lineterminator="\n"))
        known = results / "runs.csv"
        others = pd.read_csv(known) if known.exists() else its.head(0)
        rows = pd.concat([others[others["network"] != network], its[its["run"] == last]])
        write_text(known, rows.to_csv(index=False, lineterminator="\n"))


def table_of(network: str, results: Path = RESULTS) -> pd.DataFrame:
    """The committed scores of a network, as a study has them; empty if there are none."""
    file = results / f"{network}.csv"
    if not file.exists():
        return pd.DataFrame(columns=COLUMNS[1:])
    table = pd.read_csv(file, dtype=dict.fromkeys(COLUMNS[1:-1], str), keep_default_na=False, na_values={"value": [""]})
    return table


def judged(results: Path = RESULTS) -> dict[str, pd.DataFrame]:
    """"controls" and "claims": what the committed scores say on each network, in one table each."""
    found = {"controls": [], "claims": []}
    for network in NETWORKS:
        table = table_of(network, results)
        methods = [name for name in METHODS if name in set(table["method"])]
        found["controls"].append(against_controls(table, methods).assign(network=network))
        found["claims"].append(claims(table).assign(network=network))
    return {name: pd.concat(tables, ignore_index=True) for name, tables in found.items()}


def interval(mean: float, low: float, high: float) -> str:
    """"0.09 [0.04, 0.16]", and no -0.00."""
    mean, low, high = (round(value, 2) + 0.0 for value in (mean, low, high))
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def with_interval(row: object) -> str:
    """"0.09 [0.04, 0.16]", bold where it holds, with a word where the opposite does."""
    text = interval(row.mean, row.low, row.high)
    return {"holds": f"**{text}**", "does not hold": f"{text}, worse"}.get(row.verdict, text)


def block_of_controls(controls: pd.DataFrame) -> list[str]:
    """README's table: on the first network, each method against the control that is as fine or as coarse as its map."""
    network = next(name for name in NETWORKS if name in set(controls["network"]))
    rows, lines = controls[controls["network"] == network], []
    for method in METHODS:
        cells = [rows[(rows["method"] == method) & (rows["metric"] == metric)] for metric in COMPARED]
        if method not in CONTROLS and all(len(cell) for cell in cells):
            lines.append([TITLES[method], *(with_interval(next(cell.itertuples())) for cell in cells)])
    n = [rows.loc[rows["metric"] == metric, "n"].max() for metric in COMPARED]
    heads = [f"{title} (n = {count})" for title, count in zip(COMPARED.values(), n, strict=True)]
    return markdown([network, *heads], lines)


def overall(verdicts: Sequence[str]) -> str:
    """A claim holds if it holds on all networks that were asked, two at least; its opposite likewise."""
    if len(verdicts) < 2:
        return "one network only"
    for word, said in (("holds", "holds"), ("does not hold", "the opposite holds")):
        if all(verdict == word for verdict in verdicts):
            return said
    return "depends on the network" if {"holds", "does not hold"} <= set(verdicts) else "not shown on all"


def block_of_claims(said: pd.DataFrame, numbers: bool = True) -> list[str]:
    """The field's claims on each network; with the paired differences, or as one word each."""
    lines, words = [], {"does not hold": "opposite", "too few pictures": "too few"}
    networks = [name for name in NETWORKS if name in set(said["network"])]
    for claim in said["claim"].unique():
        rows = said[said["claim"] == claim].set_index("network")
        cells = []
        for network in networks:
            if network not in rows.index:
                cells.append("")
                continue
            row = rows.loc[network]
            number = f"{interval(row['mean'], row['low'], row['high'])}, n = {row['n']}: " * numbers
            cells.append(number + words.get(row["verdict"], row["verdict"]))
        lines.append([claim, *cells, overall(list(rows["verdict"]))])
    return markdown(["claim", *networks, "on all"], lines)


def block_of_photographs(table: pd.DataFrame) -> list[str]:
    """The published protocol on photographs in number, and how often each network is right there."""
    head, *rows = many_photographs.lines(table)
    return [*markdown(head, rows), "", many_photographs.accuracies(table)]


def replaced(text: str, name: str, lines: Sequence[str], prefix: str = "") -> str:
    """The text with other lines between the marks <!-- name --> and <!-- end of name -->."""
    begin, end = f"{prefix}<!-- {name} -->\n", f"{prefix}<!-- end of {name} -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"there must be one mark {begin.strip()} and one {end.strip()}")
    before, rest = text.split(begin)
    _, after = rest.split(end)
    body = "".join(f"{prefix}{line}".rstrip() + "\n" for line in ["", *lines, ""])
    return before + begin + body + end + after


def written(controls: pd.DataFrame, said: pd.DataFrame) -> dict[Path, str]:
    """README and lesson 08 with the tables that these results give."""
    readme = replaced(README.read_text(encoding="utf-8"), "controls", block_of_controls(controls))
    readme = replaced(readme, "claims", block_of_claims(said))
    if many_photographs.FILE.exists():
        readme = replaced(readme, "photographs", block_of_photographs(many_photographs.read()))
    lesson = replaced(LESSON.read_text(encoding="utf-8"), "claims", block_of_claims(said, numbers=False), "# ")
    return {README: readme, LESSON: lesson}


def read_judged(results: Path = RESULTS) -> dict[str, pd.DataFrame]:
    """The committed tables of judged statements."""
    return {name: pd.read_csv(results / f"{name}.csv", keep_default_na=False) for name in ("controls", "claims")}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evaluation.results", description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="*", type=Path, help="output folders of full runs to take over first")
    sys.excepthook = one_sentence
    for folder in parser.parse_args().folders:
        collect(folder)
        print(f"took over {folder}")
    for name, table in judged().items():
        write_text(RESULTS / f"{name}.csv", table.to_csv(index=False, float_format="%.4g", lineterminator="\n"))
    again = read_judged()
    for file, text in written(again["controls"], again["claims"]).items():
        write_text(file, text)
        print(f"wrote {file.name}")


if __name__ == "__main__":
    main()
