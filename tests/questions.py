"""The questions of the lessons: read from a lesson's text and its declaration, and an answer judged.

A lesson shows the question, its choices and, in the reference, the right answer. What is said to each choice stands in
QUESTIONS of the lesson's tests/test_points_*.py. Nothing is imported, so the book can use this as well.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from markers import HEADING, Exercise, lesson_path, solution_regions

ROOT = Path(__file__).resolve().parent.parent
CHOICE = re.compile(r"^- \*\*([a-d])\*\* ", re.MULTILINE)
POINTS = 1  # of every question
LONGEST = 500  # characters of an answer that are read
NOTHING = re.compile(r"None\s*(#.*)?")
OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
             ast.Pow: math.pow}  # fmt: skip


class Unreadable(ValueError):
    """An answer that a person has to read."""


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
        answer = self.meant(answer)
        if self.choices or answer is None:
            return answer
        known = [self.right, *(value for value in self.why if value != "else")]
        return next((v for v in known if math.isclose(answer, v, rel_tol=0.01, abs_tol=1e-9)), None)

    def meant(self, answer: object) -> str | float | None:
        """The letter or number that is meant, "b)" and "1/8" too; None if it is neither."""
        if self.choices:
            letter = answer.strip(" ().").lower() if isinstance(answer, str) else None
            return letter if letter in self.choices else None
        try:
            return number_in(read(answer)) if isinstance(answer, str) else number_in(answer)
        except (Unreadable, OverflowError):
            return None

    def said(self, answer: object) -> str:
        """What is said to this answer."""
        if self.meant(answer) is None:
            return f"answer with {'one of the letters ' + ', '.join(self.choices) if self.choices else 'a number'}"
        key = self.key(answer)
        return self.why["else" if key is None else key]


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
    """The last answer in a lesson's text; None if there is none. Nothing is run.

    Indented, in capitals or not, with the `= None` that was handed out left above or below it.

    Raises:
        Unreadable: what stands there is neither a letter nor a number.
    """
    line = rf"^[ \t]*{name_of_answer(number)}[ \t]*(?::[^=\n]*)?=(?!=)[ \t]*(.*)$"
    found = [said for said in re.findall(line, text, re.MULTILINE | re.IGNORECASE) if not NOTHING.fullmatch(said)]
    try:
        return read(found[-1]) if found else None
    except Unreadable as error:
        raise Unreadable(f"{name_of_answer(number)} is neither a letter nor a number") from error


def read(text: str) -> object:
    """A constant, a letter without quotes, or arithmetic with numbers, such as 1 / 2**3.

    Raises:
        Unreadable: it is something else.
    """
    if len(text) > LONGEST:
        raise Unreadable("too long")
    try:
        return value_of(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError) as error:
        raise Unreadable("neither a letter nor a number") from error


def value_of(node: ast.expr) -> object:
    """The value of an expression; with floats, so that 9**9**9 is an error and no long wait."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str | int | float | None):
        return node.value
    if isinstance(node, ast.Name) and len(node.id) == 1:
        return node.id
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = number_in(value_of(node.operand))
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        left, right = (number_in(value_of(side)) for side in (node.left, node.right))
        return OPERATORS[type(node.op)](left, right)
    raise Unreadable("something else")


def number_in(value: object) -> float:
    """A number as a float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unreadable("no number")
    return float(value)


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
