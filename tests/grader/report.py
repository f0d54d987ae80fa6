"""What a student and an instructor read: points, what was compared, how large the error was, a hint."""

from __future__ import annotations

import inspect
import re
from typing import NamedTuple

import pytest
from markers import Exercise

NUMBER = r"(-?\d+(?:\.\d+)?(?:e[-+]\d+)?)"
NEAR = re.compile(rf"assert {NUMBER} == {NUMBER} ± ")
SCALARS = re.compile(rf"Scalars are not .*?Expected {NUMBER} but got {NUMBER}", re.DOTALL)
LONGEST = 400  # characters of a reason
TOLD = 200     # statements that did not run: more are not looked at
SHORT = 120    # characters of what an exception of the student's says
COLOURS = re.compile(r"(?:\x1b\[|\x9b)[0-9;]*[A-Za-z]")
PATHS = re.compile(r"(?<=')/[^']+(?=')|(?<![\w.])(?:/[\w.+-]+){2,}/?|[A-Za-z]:\\[\w\\.-]+")


class Outcome(NamedTuple):
    """What became of one test: "passed", "wrong", "gap" (not attempted), "unjudged" or "error", and why."""

    kind: str
    reason: str = ""
    lost: bool = False  # the answering process is gone
    look: bool = False  # a person should look at it


class Failed(NamedTuple):
    """A statement at the top of a lesson that did not run: its line in the file handed in, its text, and why."""

    line: int
    text: str
    kind: str
    said: str


class Test(NamedTuple):
    """One test's line in the report."""

    name: str
    function: str
    points: float
    contract: bool
    hint: str
    outcome: Outcome
    earned: float


class Grade(NamedTuple):
    """One exercise's part of the report."""

    exercise: Exercise
    tests: list[Test]
    result: str

    @property
    def earned(self) -> float:
        return sum(test.earned for test in self.tests)

    @property
    def possible(self) -> float:
        return sum(test.points for test in self.tests)


def clean(text: str, longest: int = LONGEST) -> str:
    """A line that a student may read: nothing that steers a screen, no paths of the grader's machine, not too long."""
    text = "".join(letter if letter.isprintable() else " " for letter in COLOURS.sub("", text[: 100 * longest]))
    line = " ".join(PATHS.sub("...", text).split())
    return line if len(line) <= longest else line[: longest - 3] + "..."


def where_handed_in(failed: list, source: list[str], own: list[str]) -> list[Failed]:
    """The student's own statements that did not run; `source` is what ran, with the reference's other exercises."""
    found = []
    for line, (kind, *_), said in failed[:TOLD]:                       # each is looked for in all of the file
        text = source[line - 1] if 0 < line <= len(source) else ""
        places = [i for i, each in enumerate(own, 1) if each == text]
        if places and text.strip():
            said = clean(re.sub(r" \([^()]*, line \d+\)$", "", said), SHORT)
            found.append(Failed(min(places, key=lambda i: abs(i - line)), clean(text.strip()[:60]), kind, said))
    return found


def reason_of(report: pytest.TestReport) -> tuple[str, str]:
    """The exception's name and its text, of the first thing that went wrong."""
    crash = getattr(report.longrepr, "reprcrash", None)
    skipped = isinstance(report.longrepr, tuple) and report.longrepr[2].removeprefix("Skipped: ")
    text = (crash.message if crash else skipped or str(report.longrepr)).strip() or "no reason given"
    kind, colon, rest = text.partition(":")
    if not re.fullmatch(r"[\w.]+" if colon else r"[\w.]*Error", kind):
        kind, rest = "AssertionError", text
    kind, rest = kind.rpartition(".")[2], rest.strip()
    return ("AssertionError", plainly(rest)) if kind in ("AssertionError", "Failed") else (kind, clean(rest, SHORT))


def plainly(text: str) -> str:
    """What a failed comparison says, in words: what came, how far off it is and where; never the right value."""
    error = re.search(r"(?:Greatest|Max) absolute difference[a-z ]*: (\S+)(?: at index (\([\d, ]*\)))?", text)
    if error:
        where = f", at place {error[2]}" if error[2] and error[2] != "()" else ""
        share = re.search(r"Mismatched elements: (\d+) / (\d+)", text)
        return f"{f'{share[1]} of {share[2]}' if share else 'some'} values are off, by {error[1]} at most{where}"
    shapes = re.search(r"\(shapes (\([\d, ]*\)), (\([\d, ]*\)) mismatch\)", text)
    if shapes:
        return f"the shape is {shapes[1]}, not {shapes[2]}"
    near = NEAR.match(text)
    if near:
        return f"got {near[1]}, which is off by {abs(float(near[1]) - float(near[2])):.3g}"
    scalars = SCALARS.match(text)
    if scalars:
        return f"got {scalars[2]}, which is off by {abs(float(scalars[1]) - float(scalars[2])):.3g}"
    if "DID NOT RAISE" in text:
        kind = re.search(r"DID NOT RAISE .*?(\w+)'?>?$", text.splitlines()[0])
        return f"no {kind[1] if kind else 'error'} was raised, but should be"
    if text.startswith("Regex pattern did not match"):
        return "the right kind of error was raised, but its text does not name what is wrong"
    came = re.match(r"assert (.+?) == ", text)
    if came and "(" not in came[1][:40].split(" ")[0]:
        return clean(f"got {came[1][:120]}, which is not right")
    return "what the test asks for is not so" if text.startswith("assert ") else clean(text.split("\nassert ")[0])


def shorten(report: pytest.TestReport) -> None:
    """Keep the reason only: a traceback would quote the tests, and could be long. A skip is a failure."""
    if report.outcome == "skipped":
        report.outcome = "failed"
    if report.longrepr is not None:
        report.longrepr = ": ".join(reason_of(report))
    report.sections = []


def readable(item: pytest.Item) -> str:
    """A test's name in words."""
    return item.originalname.removeprefix("test_").replace("_", " ")


def hint_of(item: pytest.Item) -> str:
    """What helps: the mark's hint, or the first sentences of the test's docstring."""
    mark = item.get_closest_marker("points")
    return mark.kwargs.get("hint") or clean(" ".join((inspect.getdoc(item.function) or "").split()))


def grade(exercise: Exercise, results: list[tuple[pytest.Item, Outcome]], unusual: bool = False) -> Grade:
    """Points of an exercise. Contract tests count only where its value is right: "nothing" leaves no trace, too.

    An answer that fails and uses what no answer needs is one to look at.
    """
    marks = [(item, item.get_closest_marker("points"), outcome) for item, outcome in results]
    value = all(outcome.kind == "passed" for _, mark, outcome in marks if not mark.kwargs.get("contract"))
    tests = []
    for item, mark, outcome in marks:
        contract = bool(mark.kwargs.get("contract"))
        counts = outcome.kind == "passed" and (value or not contract)
        if outcome.kind == "passed" and not counts:
            outcome = Outcome("wrong", "passed, but counts only together with the right value")
        earned = mark.args[0] if counts else 0
        tests.append(
            Test(readable(item), item.originalname, mark.args[0], contract, hint_of(item), outcome, earned)
        )
    kinds = {test.outcome.kind for test in tests}
    if kinds == {"passed"}:
        return Grade(exercise, tests, "passed")
    if unusual or any(test.outcome.look for test in tests):
        return Grade(exercise, tests, "needs a look")
    if kinds == {"gap"}:
        return Grade(exercise, tests, "not attempted")
    if kinds == {"unjudged"}:
        return Grade(exercise, tests, "not judged")
    return Grade(exercise, tests, "error" if "error" in kinds else "wrong")


def why(grade: Grade) -> str:
    """The reason that says most: an error more than a wrong value, that more than a gap."""
    failed = [test.outcome for test in grade.tests if test.outcome.kind != "passed"]
    order = ("error", "wrong", "gap", "unjudged")
    return min(failed, key=lambda outcome: order.index(outcome.kind)).reason if failed else ""


def table(grades: list[Grade], notes: list[str]) -> list[str]:
    """Lines for the terminal: a row an exercise."""
    rows = [(f"{g.exercise.number} {g.exercise.title}", f"{g.earned:g}", f"{g.possible:g}", g.result, why(g))
            for g in grades]  # fmt: skip
    rows.append(("total", f"{sum(g.earned for g in grades):g}", f"{sum(g.possible for g in grades):g}", "", ""))
    width = max(len(row[0]) for row in rows)
    lines = [f"{row[0]:{width}}  {row[1]:>6}  {row[2]:>8}  {row[3]:13}  {row[4]}".rstrip()[:200]
             for row in [("exercise", "earned", "possible", "result", "reason"), *rows]]  # fmt: skip
    return lines + [f"note: {note}" for note in notes]


def gradescope(grades: list[Grade], notes: list[str]) -> dict:
    """The grades in the format of Gradescope's results.json: an entry a test."""
    tests = []
    for g in grades:
        for test in g.tests:
            passed = test.outcome.kind == "passed"
            said = [] if passed else [test.outcome.reason, *([f"Hint: {test.hint}"] if test.hint else [])]
            tests.append({
                "number": g.exercise.number, "name": f"{g.exercise.title}: {test.name}", "score": test.earned,
                "max_score": test.points, "status": "passed" if passed else "failed",
                "output": "\n".join(said) or "passed", "visibility": "visible",
                "extra_data": {"exercise": g.exercise.title, "result": g.result, "contract": test.contract,
                               "test": test.function},
            })  # fmt: skip
    total, possible = sum(g.earned for g in grades), sum(g.possible for g in grades)
    lines = [f"{total:g} of {possible:g} points", *notes]
    return {"score": total, "output": "\n".join(lines), "visibility": "visible", "tests": tests}
