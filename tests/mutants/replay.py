"""Paste answers: what every graded test says to the reference's answers to the same questions with other numbers.

    python tests/mutants/replay.py

Runs the tests three times: with one seed, noting what the reference answers to each test; with the same seed, giving
these answers again; and with another seed. Whoever pastes what was right for one class must not pass in the next one.
Prints for each test whether it passed in each run and what it checks: a value, a contract, which counts only beside the
right value, or a prediction, which is the same number for everybody like a question's. Exits with 1 if one that checks
a value takes the pasted answer.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

import pytest
from markers import solution_regions

SEEDS = {"noted": 1, "replayed, same seed": 1, "replayed, other seed": 2}
NOTED: dict[str, list] = {}  # test -> what the reference answered, call by call
OURS = ("conftest", "test_points", "grader")


class Played:
    """Looks like a thing of the lesson's; its answers are noted, or the noted ones are given again."""

    def __init__(self, thing: object, names: set[str], answers: list | None, note: Callable[[object], None]) -> None:
        self._thing, self._names, self._answers, self._note = thing, names, answers, note

    def _played(self, value: object) -> Played:
        return Played(value, set(), self._answers, self._note)

    def _wrapped(self, value: object) -> object:
        return self._played(value) if isinstance(self._thing, type) else value

    def __getattr__(self, name: str) -> object:
        value = getattr(self._thing, name)
        return self._played(value) if name in self._names else value

    def __setattr__(self, name: str, value: object) -> None:
        if name.startswith("_"):
            object.__setattr__(self, name, value)
        else:
            setattr(self._thing, name, value)

    def __call__(self, *args: object, **kwargs: object) -> object:
        if self._answers is not None:
            kind, value = self._answers.pop(0)
            if kind == "raised":
                raise value
            return self._wrapped(copied(value))
        args = [getattr(arg, "_thing", arg) for arg in args]
        try:
            value = self._thing(*args, **kwargs)
        except Exception as error:
            self._note(("raised", error))
            raise
        self._note(("returned", copied(value)))
        return self._wrapped(value)


def copied(value: object) -> object:
    """A copy where one can be had: tensors that are part of a graph come without it."""
    if hasattr(value, "detach"):
        return value.detach().clone()
    if isinstance(value, list | tuple):
        return type(value)(copied(item) for item in value)
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    with contextlib.suppress(Exception):
        return copy.deepcopy(value)
    return value


def filled_in(lesson: str, exercise: str) -> set[str]:
    """The functions and classes of a lesson that an exercise fills in, with those that call them."""
    text = (TESTS.parent / f"{lesson.replace('.', '/')}.py").read_text(encoding="utf-8")
    lines = [region.first for region in solution_regions(text, lesson) if region.exercise == exercise]
    tops = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    found = {node.name for node in tops for line in lines if node.lineno <= line < node.end_lineno}
    calls = {node.name: {getattr(part, "id", "") for part in ast.walk(node)} for node in tops}
    while callers := {name for name, called in calls.items() if called & found} - found:
        found |= callers
    return found


class Results:
    """Notes which tests pass."""

    def __init__(self) -> None:
        self.passed: dict[str, bool] = {}
        self.checks: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.passed[report.nodeid] = report.passed and self.passed.get(report.nodeid, True)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            mark = item.get_closest_marker("points")
            kinds = [kind for kind in ("contract", "prediction") if mark.kwargs.get(kind)]
            self.checks[item.nodeid] = kinds[0] if kinds else "value"


def played(run: str) -> Results:
    """Run the graded tests, questions excepted; modules that drew their inputs when they were imported are new."""
    for name in [name for name in sys.modules if name.startswith(OURS)]:
        del sys.modules[name]
    from grader import plugin

    load, results = plugin.load_lesson, Results()

    def lesson_for(item: pytest.Item) -> Played:
        noted, lesson = NOTED.setdefault(item.nodeid, []), plugin.lesson_of(item)
        names = filled_in(lesson, plugin.exercise_of(item))
        return Played(load(lesson), names, None if run == "noted" else list(noted), noted.append)

    plugin.lesson_for = lesson_for
    files = [str(file) for file in sorted(TESTS.glob("test_points_[0-9]*.py"))]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        options = [f"--rootdir={TESTS.parent}", f"--draw={SEEDS[run]}", "-p", "no:cacheprovider", "-p", "no:xdist"]
        status = pytest.main([*files, *options], plugins=[results])
    if status not in (0, 1):
        raise RuntimeError(said.getvalue()[-600:])
    return results


def main() -> int:
    """0 if no test that checks a value takes the answers of another seed."""
    results = {run: played(run) for run in SEEDS}
    noted, same, other = results.values()
    table = {test.rpartition("/")[2]: [noted.passed[test], same.passed[test], other.passed[test], kind]
             for test, kind in other.checks.items()}  # fmt: skip
    print(json.dumps(table, indent=0))
    return int(any(passed and kind == "value" for *_, passed, kind in table.values()))


if __name__ == "__main__":
    sys.exit(main())
