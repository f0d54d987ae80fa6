"""Test the tests: every wrong answer must fail, no other right one may.

    python tests/mutants/run.py [--only 5.1] [--verbose]

The lists stand beside this file, one a lesson: WRONG and RIGHT, each entry (exercise, name, old, new). `old` is a part
of the reference's solution, or "" for all of it. Applied in a temporary copy, one answer to each exercise at a time.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import subprocess
import sys
import tempfile
import textwrap
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
sys.path.insert(0, str(TESTS))

from markers import lesson_files, replaced, solution_regions


class Mutant(NamedTuple):
    """Another answer to an exercise, and whether it is right."""

    exercise: str
    name: str
    old: str
    new: str
    right: bool


def load_mutants(only: list[str]) -> list[Mutant]:
    """All of them, or those of some exercises."""
    found = []
    for file in sorted(Path(__file__).parent.glob("lesson_*.py")):
        lists = runpy.run_path(str(file))
        found += [Mutant(*entry, right=key == "RIGHT") for key in ("WRONG", "RIGHT") for entry in lists[key]]
    return [mutant for mutant in found if not only or mutant.exercise in only]


def mutated(text: str, mutant: Mutant) -> str:
    """The lesson with another answer.

    Raises:
        ValueError: what is to be exchanged is not there, or more than once.
    """
    lines, fits = text.splitlines(), []
    for region in solution_regions(text, mutant.exercise):
        if region.exercise == mutant.exercise:
            body = textwrap.dedent("\n".join(lines[region.first + 1 : region.last]))
            if not mutant.old or body.count(mutant.old) == 1:
                fits.append((region, body))
    if len(fits) != 1:
        raise ValueError(f"mutant {mutant.exercise} {mutant.name!r} fits {len(fits)} regions; correct its `old`")
    region, body = fits[0]
    new = body.replace(mutant.old, mutant.new) if mutant.old else mutant.new
    answer = textwrap.indent(textwrap.dedent(new).strip("\n"), region.indent).splitlines()
    return replaced(text, [(region, [lines[region.first], *answer, lines[region.last]])])


def run(mutants: list[Mutant]) -> dict[str, dict]:
    """Grade mutants of different exercises in one temporary copy: exercise -> grade."""
    with tempfile.TemporaryDirectory() as folder:
        for file in lesson_files(ROOT):
            text = file.read_text(encoding="utf-8")
            own = {region.exercise for region in solution_regions(text, file.name)}
            for mutant in mutants:
                if mutant.exercise in own:
                    text = mutated(text, mutant)
            copy = Path(folder) / file.relative_to(ROOT)
            copy.parent.mkdir(exist_ok=True)
            copy.write_text(text, encoding="utf-8")
        report = Path(folder) / "grades.json"
        command = [sys.executable, "-m", "pytest", str(TESTS), f"--submission={folder}", f"--grades={report}", "-q",
                   "-p", "no:cacheprovider", *(f"--exercise={mutant.exercise}" for mutant in mutants)]  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True,
                              text=True, check=False)  # fmt: skip
        if not report.exists():
            said = done.stdout[-300:] + done.stderr[-300:]
            raise RuntimeError(f"the grader ended with status {done.returncode} and said: {said}")
        return {grade["number"]: grade for grade in json.loads(report.read_text())["tests"]}


def rounds(mutants: list[Mutant]) -> list[list[Mutant]]:
    """Groups with at most one mutant an exercise."""
    columns: dict[str, list] = {}
    for mutant in mutants:
        columns.setdefault(mutant.exercise, []).append(mutant)
    return [[mutant for mutant in group if mutant] for group in zip_longest(*columns.values())]


def print_shares(results: list[tuple[Mutant, dict]]) -> None:
    """A row a lesson: wrong answers that failed, right ones that passed."""
    lessons = sorted({int(mutant.exercise.split(".")[0]) for mutant, _ in results})
    print(f"{'lesson':8} {'wrong':>6} {'failed':>7} {'right':>7} {'passed':>7}")
    for lesson in [*lessons, None]:
        rows = [(m, g) for m, g in results if lesson in (None, int(m.exercise.split(".")[0]))]
        wrong, right = ([g["score"] == g["max_score"] for m, g in rows if m.right is kind] for kind in (False, True))
        name = "all" if lesson is None else f"{lesson:02d}"
        print(f"{name:8} {len(wrong):6} {wrong.count(False):7} {len(right):7} {right.count(True):7}")
    wrong = [g["score"] < g["max_score"] for m, g in results if not m.right]
    if wrong:
        print(f"{100 * sum(wrong) / len(wrong):.0f} % of the wrong answers fail")


def main(argv: list[str] | None = None) -> int:
    """0 if every wrong answer failed and every right one passed."""
    parser = argparse.ArgumentParser(prog="tests/mutants/run.py", description="Run the tests on wrong answers.")
    parser.add_argument("--only", action="append", default=[], metavar="5.1", help="an exercise; repeatable")
    parser.add_argument("--verbose", action="store_true", help="say for every answer why it failed")
    args = parser.parse_args(argv)
    results = []
    try:
        groups = rounds(load_mutants(args.only))
        for i, group in enumerate(groups):
            print(f"round {i + 1} of {len(groups)}: {len(group)} answers", file=sys.stderr)
            grades = run(group)
            results += [(mutant, grades[mutant.exercise]) for mutant in group]
    except (ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    results.sort(key=lambda result: result[0].exercise)
    amiss = [(m, g) for m, g in results if (g["score"] == g["max_score"]) != m.right]
    for mutant, grade in results if args.verbose else []:
        print(f"{mutant.exercise} {'right' if mutant.right else 'wrong'} {mutant.name}: "
              f"{grade['score']:g} of {grade['max_score']:g}, {grade['output']}")  # fmt: skip
    print_shares(results)
    for mutant, grade in amiss:
        kind = "right, but fails" if mutant.right else "wrong, but passes"
        print(f"{kind}: {mutant.exercise} {mutant.name} ({grade['output']})")
    return 1 if amiss else 0


if __name__ == "__main__":
    sys.exit(main())
