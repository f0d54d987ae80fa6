"""Derive what students get from the lessons: every solution region becomes a gap.

    python exercises/make.py --to student/                       lessons with gaps, utils.py, data, tests, README
    python exercises/make.py --to student/ --notebooks           and each lesson as a notebook
    python exercises/make.py --to course/source/maps --nbgrader  notebooks with solutions and tests, for nbgrader
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from pathlib import Path

import jupytext

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from markers import NUMBER, ROOMS, Exercise, announced, emptied, lesson_files, lesson_name, replaced, solution_regions

COPIED = ("utils.py", "course", *ROOMS, "README.md", "LICENSE", "requirements.txt", "pyproject.toml", "Makefile",
          ".gitignore", "data", "tests", "outputs/gallery")  # fmt: skip
# Wrong answers tell what the right one is
KEPT_BACK = ("mutants", "test_exercises.py", "test_grader.py", "__pycache__")


def copy_rest(root: Path, to: Path) -> None:
    """Everything but the lessons and parts. What the project does not have is not copied."""
    lessons = {str(file) for file in lesson_files(root)}

    def kept_back(folder: str, names: list[str]) -> set[str]:
        return {name for name in names if name in KEPT_BACK or os.path.join(folder, name) in lessons}

    for name in COPIED:
        source, copy = root / name, to / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy, ignore=kept_back, dirs_exist_ok=True)  # a room may hold parts already
        elif source.exists():
            shutil.copy(source, copy)


def nbgrader_metadata(name: str, points: int | None = None) -> dict:
    """What nbgrader wants to know of a cell: a student's to fill in, or a test worth `points`."""
    test = {} if points is None else {"points": points}
    return {
        "grade": points is not None, "grade_id": re.sub(r"[^\w-]", "-", name), "locked": points is not None,
        "schema_version": 3, "solution": points is None, "task": False, **test,
    }  # fmt: skip


def test_cell(lesson: str, exercise: Exercise) -> dict:
    """A cell that runs the course's tests of one exercise; its value is the points earned."""
    source = f'from tests.notebook import points\n\npoints("{lesson}", "{exercise.number}")'
    cell = jupytext.reads(f"# %%\n{source}\n", "py:percent").cells[0]
    cell.metadata["nbgrader"] = nbgrader_metadata(f"test {exercise.number}", exercise.points)
    cell.metadata["tags"] = ["active-ipynb"]  # a comment once the notebook is a script, or tests would start tests
    return cell


def for_nbgrader(text: str, name: str) -> str:
    """A lesson with nbgrader's markers inside ours: nbgrader removes its own, ours show the grader the place."""
    lines, contents = text.splitlines(), []
    for region in solution_regions(text, name):
        first = [f"# EXERCISE {region.exercise}: your code here", "# BEGIN SOLUTION"]
        last = ["# END SOLUTION", "# END EXERCISE"]
        around = [[region.indent + line for line in part] for part in (first, last)]
        contents.append((region, around[0] + lines[region.first + 1 : region.last] + around[1]))
    return replaced(text, contents)


def notebook(text: str, lesson: str, tests: bool) -> str:
    """A lesson as .ipynb text, its gaps with nbgrader's metadata, and with test cells if asked."""
    book = jupytext.reads(text, "py:percent")
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    for cell in book.cells:
        gaps = re.findall(rf"# EXERCISE ({NUMBER.pattern})", cell.source)
        if cell.cell_type == "code" and gaps:
            cell.metadata["nbgrader"] = nbgrader_metadata("exercise " + " ".join(dict.fromkeys(gaps)))
    if tests:
        book.cells += [test_cell(lesson, exercise) for exercise in announced(text) if exercise.points]
    return jupytext.writes(book, "ipynb")


def write_lessons(root: Path, to: Path, notebooks: bool, nbgrader: bool) -> None:
    """The lessons and parts with gaps, and as notebooks if asked; for nbgrader the notebooks keep their solutions.

    Notebooks stand at the top, "evaluation.planted_scenes.ipynb" too: there the project's modules can be imported.
    """
    for file in lesson_files(root):
        text, name = file.read_text(encoding="utf-8"), lesson_name(file, root)
        student, copy = emptied(text, file.name), to / file.relative_to(root)
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(student, encoding="utf-8")
        if notebooks or nbgrader:
            book = notebook(for_nbgrader(text, file.name) if nbgrader else student, name, tests=nbgrader)
            (to / f"{name}.ipynb").write_text(book, encoding="utf-8")


def make(to: Path, *, root: Path = ROOT, notebooks: bool = False, nbgrader: bool = False) -> None:
    """Write the student tree, all of it or nothing.

    Raises:
        ValueError: unbalanced markers, with file and line, or a folder that is there already.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ValueError(f"{to} is there already and may hold somebody's work; remove it, or name another folder")
    partial = to.with_name(f".{to.name}.{os.getpid()}.part")
    try:
        partial.mkdir(parents=True)
        write_lessons(root, partial, notebooks, nbgrader)
        copy_rest(root, partial)
        os.replace(partial, to)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def main(argv: list[str] | None = None) -> int:
    """The command line; 1 and one sentence for a failure."""
    parser = argparse.ArgumentParser(prog="exercises/make.py", description="Derive the student tree from the lessons.")
    parser.add_argument("--to", type=Path, required=True, help="the folder to write, which must not hold anything yet")
    parser.add_argument("--notebooks", action="store_true", help="write each lesson as a notebook as well")
    parser.add_argument("--nbgrader", action="store_true",
                        help="notebooks with solutions and test cells: an assignment's source folder")  # fmt: skip
    args = parser.parse_args(argv)
    try:
        make(args.to.resolve(), notebooks=args.notebooks, nbgrader=args.nbgrader)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {args.to}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
