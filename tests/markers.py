"""The lines that mark an exercise in a lesson: found, checked, emptied for students and filled in again.

The lessons have `# BEGIN SOLUTION 5.1` ... `# END SOLUTION`, students get `# EXERCISE 5.1: ...` ... `# END EXERCISE`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

MARKER = re.compile(r"(?P<indent>\s*)#+\s*(?P<edge>BEGIN SOLUTION|END SOLUTION|EXERCISE|END EXERCISE)\b(?P<rest>.*)")
ROOMS = ("evaluation", "advanced")  # folders of parts
NUMBER = re.compile(r"\d+\.\d+")
ANSWER = re.compile(r"ANSWER_\d+_\d+ =")  # to a question: no code, a letter or a number
HEADING = re.compile(
    r"\*\*(\d+\.\d+) ([^*]+)\*\* \(difficulty (\d), (\d+) minutes, (?:([\d.]+) points?|no code to submit)\)"
)


class Region(NamedTuple):
    """One gap of a lesson: its exercise, its two marker lines (counted from 0), and how far they are indented."""

    exercise: str
    first: int
    last: int
    indent: str


class Exercise(NamedTuple):
    """An exercise as its lesson announces it; points is 0 where there is no code to submit."""

    number: str
    title: str
    difficulty: int
    minutes: int
    points: float


def lesson_files(folder: Path) -> list[Path]:
    """The lessons in a folder, and the parts in its rooms: of what lies there, the scripts that begin with text."""
    parts = [file for room in ROOMS for file in sorted(folder.glob(f"{room}/*.py"))]
    parts = [file for file in parts if file.read_text(encoding="utf-8").startswith("# %% [markdown]")]
    return [*sorted(folder.glob("[0-9][0-9]_*.py")), *parts]


def lesson_name(file: Path, folder: Path) -> str:
    """How a lesson or part is called: "05_gradcam", or "evaluation.planted_scenes"."""
    return ".".join(file.relative_to(folder).with_suffix("").parts)


def lesson_path(name: str) -> str:
    """The path of a lesson or part inside its folder, without suffix: "evaluation/planted_scenes"."""
    return name.replace(".", "/")


def announced(text: str) -> list[Exercise]:
    """What a lesson's text says about its exercises."""
    text = re.sub(r"\n# ?", " ", text)  # a heading may run over the end of a line
    return [Exercise(n, title, int(d), int(m), float(p or 0)) for n, title, d, m, p in HEADING.findall(text)]


def solution_regions(text: str, name: str) -> list[Region]:
    """The regions of a lesson, in order.

    Raises:
        ValueError: markers that are not balanced or lack their number, with file and line.
    """
    regions, begun = [], None
    for i, line in enumerate(text.splitlines()):
        marker = MARKER.fullmatch(line)
        if marker is None:
            continue
        where, number = f"{name}:{i + 1}", NUMBER.search(marker["rest"])
        if marker["edge"].startswith("END"):
            if begun is None:
                raise ValueError(f"{where}: {marker['edge']} without a beginning; remove it, or put the marker above")
            regions.append(begun._replace(last=i))
            begun = None
        elif begun is not None:
            raise ValueError(f"{where}: a region inside the one of line {begun.first + 1}; close that one first")
        elif number is None:
            raise ValueError(f"{where}: {marker['edge']} without an exercise's number; write BEGIN SOLUTION 5.1")
        else:
            begun = Region(number[0], i, -1, marker["indent"])
    if begun is not None:
        raise ValueError(f"{name}:{begun.first + 1}: region {begun.exercise} is never closed; add # END SOLUTION")
    return regions


def replaced(text: str, contents: list[tuple[Region, list[str]]]) -> str:
    """The text with each region, markers included, exchanged for other lines."""
    lines = text.splitlines()
    # from the end, so that line numbers stay right
    for region, new in sorted(contents, key=lambda pair: pair[0].first, reverse=True):
        lines[region.first : region.last + 1] = new
    return "\n".join(lines) + "\n"


def emptied(text: str, name: str) -> str:
    """A lesson as students get it: gaps that raise NotImplementedError with their number, answers that are None."""
    contents, lines = [], text.splitlines()
    for region in solution_regions(text, name):
        answer = ANSWER.match(lines[region.first + 1])
        here = f"{answer[0]} None" if answer else f'raise NotImplementedError("{region.exercise}")'
        kind = "answer" if answer else "code"
        gap = (f"# EXERCISE {region.exercise}: your {kind} here", here, "# END EXERCISE")
        contents.append((region, [region.indent + line for line in gap]))
    return replaced(text, contents)


def untouched(text: str, reference: str, exercise: str) -> bool:
    """Whether a student's lesson leaves an exercise as it was handed out, and all that is outside the gaps as well."""
    try:
        mine, theirs = solution_regions(text, "submission"), solution_regions(reference, "reference")
    except ValueError:
        return False
    handed_out = emptied(reference, "reference").splitlines()
    given = solution_regions("\n".join(handed_out), "handed out")
    if [region.exercise for region in mine] != [region.exercise for region in theirs]:
        return False
    around = [replaced(each, [(region, []) for region in regions])
              for each, regions in ((text, mine), (reference, theirs))]  # fmt: skip
    lines = text.splitlines()
    return around[0] == around[1] and all(
        lines[a.first : a.last + 1] == handed_out[b.first : b.last + 1]
        for a, b in zip(mine, given, strict=True) if a.exercise == exercise
    )  # fmt: skip


def others_solved(text: str, reference: str, exercise: str) -> str:
    """A student's lesson with every *other* exercise as in the reference, so that one exercise is judged alone.

    Where the student removed or moved the markers, the text is returned as it is.
    """
    try:
        mine, theirs = solution_regions(text, "submission"), solution_regions(reference, "reference")
    except ValueError:
        return text
    if [region.exercise for region in mine] != [region.exercise for region in theirs]:
        return text
    lines = reference.splitlines()
    pairs = [(a, moved(lines[b.first : b.last + 1], b.indent, a.indent))
             for a, b in zip(mine, theirs, strict=True) if a.exercise != exercise]  # fmt: skip
    return replaced(text, pairs)


def moved(lines: list[str], old: str, new: str) -> list[str]:
    """Lines with another indentation, for a lesson that indents with two spaces, or tabs."""
    return [new + line.removeprefix(old) if line.strip() else line for line in lines]
