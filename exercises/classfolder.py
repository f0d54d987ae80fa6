"""Whose is what in a class's folder: a folder or .zip for each student, or what Moodle, Canvas or Gradescope export."""

from __future__ import annotations

import re
from pathlib import Path

from grader.submission import NOT_OPENED, files_of, laid, note, shown

MOODLE = re.compile(r"(?P<who>.+?_\d+)_assignsubmission_(?P<kind>file|onlinetext)_?(?P<file>.*)")
CANVAS = re.compile(r"(?P<who>[^\W_][\w-]*?)(?:_LATE)?_(?P<id>\d+)_\d+_(?P<file>.+\.(?:py|ipynb|zip))", re.IGNORECASE)
SKIPPED = ("__MACOSX",)


def submissions(folder: Path, scratch: Path) -> tuple[dict[str, Path], list[str]]:
    """Name -> folder of each submission, in order, and what belongs to nobody.

    A name from Moodle or Canvas has the number that goes with it there: two students may have one name. Archives and
    single files are laid into a new folder in `scratch`; no folder that was given is written to.

    Raises:
        ValueError: there is no such folder, or no submission in it.
    """
    parts, others = {}, []
    for path in sorted(folder.glob("*")):
        if path.name.startswith(".") or path.name in SKIPPED:
            continue
        who, file = owner(path)
        if who:
            mine = parts.setdefault(shown(who), {})
            mine[path.name if file in mine else file] = path
        else:
            others.append(shown(path.name))
    if not parts:
        raise ValueError(f"{folder} holds no submissions; give the folder that holds one folder or .zip per student")
    return {who: place_of(graded_parts(mine), scratch / who) for who, mine in parts.items()}, others


def online_texts(folder: Path) -> list[str]:
    """Whose online text Moodle exported: a page for a person to read."""
    found = [MOODLE.fullmatch(path.name) for path in sorted(folder.glob("*"))]
    return list(dict.fromkeys(shown(each["who"]) for each in found if each and each["kind"] == "onlinetext"))


def graded_parts(parts: dict[str, Path]) -> dict[str, Path]:
    """What one student handed in, without online texts in which no file could be graded, unless it is nothing else."""
    files = {name: path for name, path in parts.items()
             if "_assignsubmission_onlinetext" not in path.name or (path.is_dir() and files_of(path))}  # fmt: skip
    return files or parts


def owner(path: Path) -> tuple[str, str]:
    """Whose a file or folder is, and what it is called there; "" if it is nobody's."""
    moodle, canvas = MOODLE.fullmatch(path.name), CANVAS.fullmatch(path.name)
    if path.is_symlink():
        return "", path.name
    if moodle:
        return moodle["who"], moodle["file"] or path.name
    if path.is_dir():
        return path.name, path.name
    if canvas:
        return f"{canvas['who']}_{canvas['id']}", canvas["file"]
    if path.suffix.lower() == ".zip":                                  # ada.zip beside ada/ is another submission
        return path.name if path.with_suffix("").is_dir() else path.stem, path.name
    return "", path.name


def place_of(parts: dict[str, Path], new: Path) -> Path:
    """The folder to grade: the one that was handed in, or a new one if there are archives or single files."""
    (first, *more) = parts.values()
    try:
        if more or not first.is_dir():
            for name, path in parts.items():
                laid(path, new / name)
        elif NOT_OPENED in files_of(first).values():
            laid(first, new)
        else:
            return first
    except Exception as error:                                         # what cannot be laid out stops no class
        note(new / "submission", f"it cannot be copied ({type(error).__name__})")
    return new
