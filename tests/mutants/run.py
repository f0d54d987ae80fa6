"""Test the tests: every wrong answer must fail, no other right one may.

    python tests/mutants/run.py [--only 5.1] [--verbose]

The lists stand with the exercises, in tests/test_points_*.py: WRONG and RIGHT, each entry (exercise, name, old, new).
`old` is a part of the reference's solution, or "" for all of it. Of a question every other answer is wrong. Applied in
a temporary copy, one answer to each exercise at a time.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import runpy
import sys
import tempfile
import textwrap
from contextlib import redirect_stderr, redirect_stdout
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
sys.path.insert(0, str(TESTS))

import pytest
from markers import lesson_files, lesson_name, replaced, solution_regions
from questions import Question, declaration, name_of_answer, questions

NOTHING = "nothing computed"  # every exercise has such an answer


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
    for file in lesson_files(ROOT):
        name = lesson_name(file, ROOT)
        lists = runpy.run_path(str(declaration(name)))
        found += [Mutant(*entry, right=key == "RIGHT") for key in ("WRONG", "RIGHT") for entry in lists.get(key, [])]
        found += [mutant for question in questions(name) for mutant in other_answers(question)]
        empty = {mutant.exercise for mutant in found if mutant.name in (NOTHING, "answer None")}
        regions = solution_regions(file.read_text(encoding="utf-8"), name)
        missing = dict.fromkeys(region.exercise for region in regions if region.exercise not in empty)
        found += [Mutant(number, NOTHING, "", "pass", right=False) for number in missing]
    return [mutant for mutant in found if not only or mutant.exercise in only]


def other_answers(question: Question) -> list[Mutant]:
    """Every answer to a question that its declaration knows, and none."""
    known = dict.fromkeys([*question.why, *question.choices, None])
    return [Mutant(question.number, f"answer {answer}", "", f"{name_of_answer(question.number)} = {answer!r}", False)
            for answer in known if answer not in ("else", question.right)]  # fmt: skip


def mutated(text: str, mutant: Mutant) -> str:
    """The lesson with another answer.

    Raises:
        ValueError: what is to be exchanged is not there, or more than once.
    """
    lines, fits = text.splitlines(), []
    if (mutant.name, mutant.new) == (NOTHING, "pass"):
        regions = [region for region in solution_regions(text, "lesson") if region.exercise == mutant.exercise]
        return replaced(text, [(r, [lines[r.first], f"{r.indent}pass", lines[r.last]]) for r in regions])
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
    """Grade mutants of different exercises in one temporary copy: exercise -> score, max_score, output.

    In this process, which never runs them: the answering process stays warm from one round to the next.
    """
    os.environ["GRADING_KEEPS_ITS_BOX"] = "1"
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
        report, said = Path(folder) / "grades.json", io.StringIO()
        command = [str(TESTS), f"--rootdir={ROOT}", f"--submission={folder}", f"--grades={report}", "-q",
                   "-p", "no:cacheprovider", *(f"--exercise={mutant.exercise}" for mutant in mutants)]  # fmt: skip
        with redirect_stdout(said), redirect_stderr(said):
            status = int(pytest.main(command))
        if not report.exists():
            raise RuntimeError(f"the grader ended with status {status} and said: {said.getvalue()[-600:]}")
        return by_exercise(json.loads(report.read_text())["tests"])


def by_exercise(tests: list[dict]) -> dict[str, dict]:
    """Entries of results.json, a test each -> exercise -> points, and why the first failed."""
    grades: dict[str, dict] = {}
    for test in tests:
        grade = grades.setdefault(test["number"], {"score": 0.0, "max_score": 0.0, "output": ""})
        grade["score"] += test["score"]
        grade["max_score"] += test["max_score"]
        if test["status"] == "failed" and not grade["output"]:
            grade["output"] = test["output"].split("\n")[0]
    return grades


def rounds(mutants: list[Mutant]) -> list[list[Mutant]]:
    """Groups with at most one mutant an exercise."""
    columns: dict[str, list] = {}
    for mutant in mutants:
        columns.setdefault(mutant.exercise, []).append(mutant)
    return [[mutant for mutant in group if mutant] for group in zip_longest(*columns.values())]


def print_shares(results: list[tuple[Mutant, dict]]) -> None:
    """A row a lesson: wrong answers that failed, what share of the points they earned, right ones that passed."""
    lessons = sorted({int(mutant.exercise.split(".")[0]) for mutant, _ in results})
    print(f"{'lesson':8} {'wrong':>6} {'failed':>7} {'earned':>7} {'right':>7} {'passed':>7}")
    for lesson in [*lessons, None]:
        rows = [(m, g) for m, g in results if lesson in (None, int(m.exercise.split(".")[0]))]
        wrong, right = ([g["score"] == g["max_score"] for m, g in rows if m.right is kind] for kind in (False, True))
        shares = [g["score"] / g["max_score"] for m, g in rows if not m.right]
        earned = f"{sum(shares) / len(shares):.0%}" if shares else ""
        name = "all" if lesson is None else f"{lesson:02d}"
        print(f"{name:8} {len(wrong):6} {wrong.count(False):7} {earned:>7} {len(right):7} {right.count(True):7}")
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
