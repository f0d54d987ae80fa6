"""What a class was asked for, what it handed in, and where an instructor should look."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cache
from itertools import groupby
from pathlib import Path

from markers import announced, lesson_files, lesson_name, lesson_path

ROOT = Path(__file__).resolve().parent.parent
MISSING = re.compile(r"(\S+)\.py is missing(?: \((.*?)\)?)?")  # what the grader says; in brackets what it may be in
NOT_HANDED_IN = "not handed in"
HARDLY = 1 / 5  # of those who handed in something


@cache
def homes() -> dict[str, str]:
    """Exercise with points -> its lesson or part, such as "evaluation/planted_scenes"; in the order of the numbers."""
    found = {exercise.number: lesson_path(lesson_name(file, ROOT)) for file in lesson_files(ROOT)
             for exercise in announced(file.read_text(encoding="utf-8")) if exercise.points}  # fmt: skip
    return dict(sorted(found.items(), key=lambda pair: [int(part) for part in pair[0].split(".")]))


def lesson_of(exercise: str) -> int:
    """The lesson's number: an exercise of a part belongs to lesson 08 or 09."""
    return int(exercise.split(".")[0])


def asked_for(numbers: list[str], lessons: list[int]) -> list[str]:
    """The exercises that are named, and those of the lessons that are, in order.

    Raises:
        ValueError: there is no such exercise or lesson.
    """
    unknown = [number for number in numbers if number not in homes()]
    if unknown:
        raise ValueError(f"there is no exercise {', '.join(unknown)} with points; there are {', '.join(homes())}")
    known = {lesson_of(number) for number in homes()}
    if strange := [f"{lesson:02}" for lesson in lessons if lesson not in known]:
        raise ValueError(f"there is no lesson {', '.join(strange)} with points; there are {in_words(known)}")
    return [number for number in homes() if number in numbers or lesson_of(number) in lessons]


def exercises(grades: dict) -> dict[str, dict]:
    """Exercise -> its title, score, max_score, result and tests."""
    found: dict[str, dict] = {}
    for test in grades.get("tests", []):
        extra = test.get("extra_data", {})
        entry = found.setdefault(test["number"], {"title": extra.get("exercise", ""), "score": 0.0, "max_score": 0.0,
                                                  "result": extra.get("result", ""), "tests": []})  # fmt: skip
        entry["score"] += test["score"]
        entry["max_score"] += test["max_score"]
        entry["tests"].append(test)
    for number, entry in found.items():
        said = MISSING.fullmatch(first_line(entry["tests"][0]))
        if entry["result"] == "needs a look" and said and said[1] == homes().get(number):
            entry["result"] = NOT_HANDED_IN
    return found


def first_line(test: dict) -> str:
    """What went wrong in a test, without the hint."""
    return test["output"].partition("\n")[0]


def absent(grades: dict) -> dict[str, str]:
    """Lesson or part that a student did not hand in -> what it may be in, and why that was not read."""
    gone = [each for each in exercises(grades).values() if each["result"] == NOT_HANDED_IN]
    said = [MISSING.fullmatch(first_line(each["tests"][0])) for each in gone]
    return {each[1]: each[2] or "" for each in said}


def has_nothing(grades: dict) -> bool:
    """Whether nothing of what was asked for was handed in."""
    return all(each["result"] == NOT_HANDED_IN for each in exercises(grades).values())


def rare(graded: dict[str, dict]) -> set[str]:
    """Lessons and parts that hardly anybody handed in: they were not asked for, and are no reason to look."""
    each = [absent(grades) for grades in graded.values() if not has_nothing(grades)]
    files = {file for gone in map(absent, graded.values()) for file in gone}
    return {file for file in files if sum(file not in gone for gone in each) <= HARDLY * len(each)}


def looks(grades: dict, unasked: Collection[str] = ()) -> dict[str, str]:
    """Exercise, or lessons, that a person should look at -> why.

    Lessons and parts of `unasked` may be missing, unless they could be in a file that was not read, or all is missing.
    """
    found: dict[str, str] = {}
    for number, entry in exercises(grades).items():
        if entry["result"] == "needs a look":
            found[number] = next(first_line(test) for test in entry["tests"] if test["status"] == "failed")
    for where, used in grades.get("extra_data", {}).get("look", {}).items():
        found[where] = "; ".join([f"uses {', '.join(used)}", *([found[where]] if where in found else [])])
    gone, nothing = absent(grades), has_nothing(grades)
    for why in dict.fromkeys(gone.values()):
        files = [file for file in gone if gone[file] == why and (why or nothing or file not in unasked)]
        if files:
            found[lessons_in_words(files)] = f"{NOT_HANDED_IN}; not read: {why}" if why else NOT_HANDED_IN
    return found


def in_short(found: dict[str, str]) -> str:
    """Where somebody should look, in one cell of a table."""
    lessons = [where for where, why in found.items() if why.startswith(NOT_HANDED_IN)]
    numbers = [where for where in found if where not in lessons]
    told = [f"exercise{'s' * (len(numbers) > 1)} {' '.join(numbers)}"] if numbers else []
    return "; ".join([*told, *([f"{NOT_HANDED_IN}: {', '.join(lessons)}"] if lessons else [])])


def lessons_in_words(files: Collection[str]) -> str:
    """Lessons by number, "04 to 07, 09". A part is named where not all files of its lesson are among these."""
    by_lesson: dict[int, set[str]] = {}
    for number, file in homes().items():
        by_lesson.setdefault(lesson_of(number), set()).add(file)
    whole = {lesson for lesson, its in by_lesson.items() if its <= set(files)}
    parts = [file for file in files if not any(file in by_lesson[lesson] for lesson in whole)]
    return ", ".join([*([in_words(whole)] if whole else []), *parts])


def in_words(lessons: Collection[int]) -> str:
    """Numbers of lessons with two digits, three or more in a row as a range: "01, 02, 04 to 07"."""
    rows = [[lesson for _, lesson in row] for _, row in
            groupby(enumerate(sorted(lessons)), key=lambda pair: pair[1] - pair[0])]  # fmt: skip
    said = [[f"{row[0]:02} to {row[-1]:02}"] if len(row) > 2 else [f"{lesson:02}" for lesson in row] for row in rows]
    return ", ".join(each for row in said for each in row)
