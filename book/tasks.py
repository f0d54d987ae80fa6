"""A page for each exercise: its task, the gap to fill in, and hints that unfold one by one."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from markers import HEADING, Exercise, announced, emptied, solution_regions
from questions import is_question

WRAPPED = re.compile(HEADING.pattern.replace(" ", r"\s+"))  # a heading may run over the end of a line
HINTS = re.compile(r"\*Hints?:\*(.*?)(?=\*(?:Then|First|Extend|Predict)\b|\Z)", re.DOTALL)


class Task(NamedTuple):
    """An exercise as its page shows it: what the lesson announces, its text without hints, its hints, its gaps."""

    exercise: Exercise
    lesson: str
    text: str
    hints: list[str]
    gaps: list[str]


def section(text: str, title: str) -> str:
    """What a lesson's Markdown has below a heading of the second level, up to the next one."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    return found[1].strip() if found else ""


def split_hints(paragraph: str) -> tuple[str, list[str]]:
    """An exercise's text without its hints, and the hints: they stand after *Hints:*, with a middle dot between."""
    found = HINTS.search(paragraph)
    if not found:
        return paragraph.strip(), []
    hints = [hint.strip() for hint in " ".join(found[1].split()).split("·")]
    rest = paragraph[: found.start()].rstrip() + " " + paragraph[found.end() :].lstrip()
    return rest.strip(), [hint[0].upper() + hint[1:] if hint[0].isalpha() else hint for hint in hints]


def gaps_of(code: str, name: str) -> dict[str, list[str]]:
    """Exercise -> the functions, with their gaps, that a student has to fill in."""
    text = emptied(code, name)
    tree = ast.parse(text)
    lines, found = text.splitlines(), {}
    for region in solution_regions(text, name):
        gap = region.first + 2  # the line that raises, counted from 1
        outer = next(node for node in tree.body if node.lineno <= gap <= node.end_lineno)
        first = min([outer.lineno, *(line.lineno for line in getattr(outer, "decorator_list", []))]) - 1
        shown = "\n".join(lines[first : max(outer.end_lineno, region.last + 1)])
        if shown not in found.setdefault(region.exercise, []):
            found[region.exercise].append(shown)
    return found


def tasks_of(name: str, markdown: str, code: str) -> list[Task]:
    """The exercises of a lesson or part to write code for or to think about, from its Markdown and its code."""
    body, gaps = section(markdown, "Exercises"), gaps_of(code, name)
    begins = [match.start() for match in WRAPPED.finditer(body)]
    tasks, ends = [], [*begins, len(body)][1:]
    for exercise, start, end in zip(announced(body), begins, ends, strict=True):
        if is_question(code, exercise.number):
            continue
        paragraph = re.split(r"^#", body[WRAPPED.match(body, start).end() : end], flags=re.MULTILINE)[0]
        paragraph = re.sub(r"^[.\s]+", "", paragraph)
        text, hints = split_hints(paragraph)
        tasks.append(Task(exercise, name, text, hints, gaps.get(exercise.number, [])))
    return tasks


def facts(exercise: Exercise) -> str:
    """Difficulty, minutes and points."""
    points = f"{exercise.points:g} point{'s' * (exercise.points != 1)}" if exercise.points else "no code to submit"
    return f"difficulty {exercise.difficulty} of 5, {exercise.minutes} minutes, {points}"


def page(task: Task, lesson_title: str, lesson_page: str, script: str) -> str:
    """The exercise's page in MyST Markdown."""
    number = task.exercise.number
    origin = f"From [{lesson_title}](../{lesson_page})."
    parts = [f"# {number} {task.exercise.title}", f"*{facts(task.exercise)}*", origin, task.text]
    for gap in task.gaps:
        parts.append(f"```python\n{gap}\n```")
    if task.hints:
        parts.append("## Hints\n\nOpen one at a time, and try again before you open the next.")
        for i, hint in enumerate(task.hints, 1):
            parts.append(f":::{{dropdown}} Hint {i} of {len(task.hints)}\n{hint}\n:::")
    if task.exercise.points:
        parts.append(
            "## Try it\n\n"
            f"Search for `EXERCISE {number}` in `{script}` of your student folder (`make student` makes one), fill in "
            "the gap, and run in that folder:\n\n"
            f"```\npytest tests --submission=. --exercise={number}\n```"
        )
    return "\n\n".join(parts) + "\n"


def overview(tasks: list[Task], lessons: dict[str, tuple[str, str]]) -> str:
    """All exercises, a table for each lesson or part, and the list of their pages for the sidebar.

    Args:
        tasks: in the order of their numbers.
        lessons: name -> (title, page), in the order of the book.
    """
    minutes, points = (sum(getattr(task.exercise, what) for task in tasks) for what in ("minutes", "points"))
    parts = [
        f"# Exercises\n\n{len(tasks)} exercises, {points:g} points, about {round(minutes / 60)} hours. Each has a page "
        "of its own with hints that unfold one at a time. Before them come questions to predict: they stand as a quiz "
        "at the end of each lesson.",
    ]
    for name, (title, page) in lessons.items():
        rows = [f"| [{t.exercise.number} {t.exercise.title}]({t.exercise.number}.md) | {dots(t.exercise)} | "
                f"{t.exercise.minutes} | {t.exercise.points or 0:g} |" for t in tasks if t.lesson == name]  # fmt: skip
        if rows:
            head = "| exercise | difficulty | minutes | points |\n| --- | --- | --- | --- |"
            parts.append("\n".join([f"## [{title}]({page})\n", head, *rows]))
    pages = "\n".join(f"{t.exercise.number} {t.exercise.title} <{t.exercise.number}>" for t in tasks)
    return "\n\n".join(parts) + f"\n\n```{{toctree}}\n:hidden:\n\n{pages}\n```\n"


def dots(exercise: Exercise) -> str:
    """Difficulty for the eye and, in words, for the ear."""
    filled = exercise.difficulty
    return f'<span role="img" aria-label="{filled} of 5">{"●" * filled}{"○" * (5 - filled)}</span>'


def links(tasks: list[Task], up: str) -> str:
    """A lesson's exercises as its own page has them: one line each, which leads to the exercise's page."""
    return "\n".join(f"- [**{t.exercise.number} {t.exercise.title}**]({up}exercises/{t.exercise.number}.md): "
                     f"{facts(t.exercise)}" for t in tasks)  # fmt: skip
