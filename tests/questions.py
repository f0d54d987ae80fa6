"""The questions of the lessons: read from a lesson's text and its declaration, and an answer judged.

A lesson shows the question, its choices and, in the reference, the right answer. What is said to each choice stands in
QUESTIONS of the lesson's tests/test_points_*.py. Nothing is imported, so the book can use this as well.
"""

from __future__ import annotations

import ast
import math
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from markers import HEADING, Exercise, lesson_path, solution_regions

ROOT = Path(__file__).resolve().parent.parent
CHOICE = re.compile(r"^- \*\*([a-d])\*\* ", re.MULTILINE)
POINTS = 1  # of every question


class Question(NamedTuple):
    """A question.

    Attributes:
        choices: letter -> sentence; empty if a number is asked for.
        right: a letter or a number; None in a student's folder.
        why: letter or number -> what is said to this answer, "else" -> to any other number.
    """

    number: str
    title: str
    text: str
    choices: dict[str, str]
    right: str | float | None
    why: dict[str | float, str]

    @property
    def close(self) -> float:
        """How far off a number may be: 1 per cent."""
        return 0.01 * abs(self.right) if isinstance(self.right, float) else 0.0

    def is_right(self, answer: object) -> bool:
        """Whether this is the right answer."""
        return self.key(answer) == self.right

    def key(self, answer: object) -> str | float | None:
        """The answer as a key of `why`: a letter, the number there that is meant, or None."""
        if self.choices:
            letter = answer.strip(" .").lower() if isinstance(answer, str) else None
            return letter if letter in self.choices else None
        if isinstance(answer, bool) or not isinstance(answer, int | float):
            return None
        known = [self.right, *(value for value in self.why if value != "else")]
        return next((v for v in known if math.isclose(answer, v, rel_tol=0.01, abs_tol=1e-9)), None)

    def said(self, answer: object) -> str:
        """What is said to this answer."""
        key = self.key(answer)
        if key is not None:
            return self.why[key]
        number = not isinstance(answer, bool) and isinstance(answer, int | float)
        if self.choices or not number:
            return f"answer with {'one of the letters ' + ', '.join(self.choices) if self.choices else 'a number'}"
        return self.why["else"]


def name_of_answer(number: str) -> str:
    """The variable that an answer is written to: ANSWER_1_7."""
    return f"ANSWER_{number.replace('.', '_')}"


def declaration(lesson: str, root: Path = ROOT) -> Path:
    """The file that declares a lesson's exercises: tests/test_points_05.py, tests/test_points_08_planted_scenes.py."""
    room, _, part = lesson.rpartition(".")
    stem = part if room else lesson
    found = [root / f"tests/test_points_{stem}.py", root / f"tests/test_points_{stem[:2]}.py"]
    found += sorted(root.glob(f"tests/test_points_[0-9][0-9]_{stem}.py"))
    return next((file for file in found if file.exists()), found[0])


def declared(lesson: str, name: str, root: Path = ROOT) -> dict:
    """A table of a declaration, such as QUESTIONS or EXERCISES; empty if it has none."""
    file = declaration(lesson, root)
    code = ast.parse(file.read_text(encoding="utf-8")) if file.exists() else ast.Module([], [])
    for node in code.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
            return ast.literal_eval(node.value)
    return {}


def answer_in(text: str, number: str) -> object:
    """The answer in a lesson's text: a literal, also a fraction such as 1 / 49; None if there is none. Nothing is run.

    Raises:
        ValueError: what stands there is neither a letter nor a number.
    """
    found = re.findall(rf"^{name_of_answer(number)}\s*=[ \t]*(.*)$", text, re.MULTILINE)
    try:
        return value_of(ast.parse(found[-1].strip(), mode="eval").body) if found else None
    except (SyntaxError, ValueError, ZeroDivisionError, OverflowError, RecursionError, MemoryError) as error:
        raise ValueError(f"{name_of_answer(number)} is neither a letter nor a number") from error


def value_of(node: ast.expr) -> object:
    """A constant, with a sign, or the quotient of two."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str | int | float | None):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = value_of(node.operand)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        value = value_of(node.left), value_of(node.right)
    else:
        raise ValueError("no literal")
    try:
        return value[0] / value[1] if isinstance(value, tuple) else -value if isinstance(node.op, ast.USub) else value
    except TypeError as error:
        raise ValueError("no number") from error


@cache
def questions(lesson: str, root: Path = ROOT) -> list[Question]:
    """The questions of a lesson or part, such as "05_gradcam" or "advanced.lrp", in the order of its text."""
    text = (root / f"{lesson_path(lesson)}.py").read_text(encoding="utf-8")
    numbers = {region.exercise for region in solution_regions(text, lesson) if is_question(text, region.exercise)}
    plain = re.sub(r"^# ?", "", text, flags=re.MULTILINE)
    whys, found = declared(lesson, "QUESTIONS", root), []
    for paragraphs in re.split(r"\n(?=\*\*\d+\.\d+ |#+ |%%)", plain):
        heading = HEADING.match(re.sub(r"\s+", " ", paragraphs[:300]))
        if heading and heading[1] in numbers:
            body = re.split(r"point\)\.?\s*", paragraphs, maxsplit=1)[1]
            said, *choices = CHOICE.split(body)
            choices = {a: " ".join(b.split()) for a, b in zip(choices[::2], choices[1::2], strict=True)}
            right = answer_in(text, heading[1])
            right = float(right) if isinstance(right, int) else right
            found.append(Question(heading[1], heading[2], said.strip(), choices, right, whys.get(heading[1], {})))
    return found


def is_question(text: str, number: str) -> bool:
    """Whether an exercise of a lesson asks for an answer, not for code."""
    return re.search(rf"^{name_of_answer(number)}\b", text, re.MULTILINE) is not None


def points_of(lesson: str, root: Path = ROOT) -> dict[str, float]:
    """Exercise -> the points of its tests, from the marks in the declaration, and of the questions."""
    file, found = declaration(lesson, root), dict.fromkeys(declared(lesson, "QUESTIONS", root), POINTS)
    marks = re.findall(r"mark\.points\(([\d.]+), exercise=\"([\d.]+)\"", file.read_text(encoding="utf-8"))
    for points, number in marks:
        found[number] = found.get(number, 0) + float(points)
    return found


def exercises_of(lesson: str, root: Path = ROOT) -> list[Exercise]:
    """What the declaration of a lesson says of its exercises, questions among them."""
    table, points = declared(lesson, "EXERCISES", root), points_of(lesson, root)
    return [Exercise(number, title, difficulty, minutes, points.get(number, 0))
            for number, (title, difficulty, minutes, _) in table.items()]  # fmt: skip


def heading(exercise: Exercise) -> str:
    """How a lesson announces an exercise."""
    worth = f"{exercise.points:g} point{'s' * (exercise.points != 1)}" if exercise.points else "no code to submit"
    about = f"(difficulty {exercise.difficulty}, {exercise.minutes} minutes, {worth})"
    return f"**{exercise.number} {exercise.title}** {about}"
