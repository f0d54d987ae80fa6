"""Derive what students get from the lessons: every solution region becomes a gap.

    python exercises/make.py --to student/                       lessons with gaps, utils.py, data, tests, README
    python exercises/make.py --to student/ --notebooks           and each lesson as a notebook
    python exercises/make.py --to course/source/maps --nbgrader  notebooks with solutions and tests, for nbgrader
    python exercises/make.py --gradescope autograder.zip         what Gradescope runs; holds the reference
    python exercises/make.py --headings                          lessons and README say what the declarations say
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import textwrap
import zipfile
from pathlib import Path

import jupytext

ROOT = Path(__file__).resolve().parent.parent
FORGES = Path(__file__).resolve().parent / "forges"  # what Gradescope and a forge run
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from markers import (
    ANSWER,
    NUMBER,
    ROOMS,
    Exercise,
    announced,
    emptied,
    lesson_files,
    lesson_name,
    replaced,
    solution_regions,
)
from questions import declared, exercises_of, heading

from course.files import write_text

COPIED = ("utils.py", "course", *ROOMS, "README.md", "LICENSE", "requirements.txt", "requirements-bench.txt",
          "requirements-ray.txt", "pyproject.toml", "Makefile", ".gitignore", "data", "tests",
          "outputs/gallery")  # fmt: skip
# Wrong answers tell what the right one is; the book and what students are graded with are not there
KEPT_BACK = ("mutants", "test_book*", "test_class*", "test_exercises*", "test_explorer*", "test_forges*",
             "test_grader*", "test_questions*", "__pycache__")
SECRET = re.compile(r"\n*(?:#|<!--) BEGIN KEPT BACK(?: -->)?\n.*?(?:#|<!--) END KEPT BACK(?: -->)?\n", re.DOTALL)
WEEK = re.compile(r"<!-- lessons ([\d ]+) -->\n")  # stands above a week's table in the instructors' guide


def copy_rest(root: Path, to: Path) -> None:
    """Everything but the lessons and parts. What the project does not have is not copied."""
    lessons, kept = {str(file) for file in lesson_files(root)}, shutil.ignore_patterns(*KEPT_BACK)

    def kept_back(folder: str, names: list[str]) -> set[str]:
        return kept(folder, names) | {name for name in names if os.path.join(folder, name) in lessons}

    for name in COPIED:
        source, copy = root / name, to / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy, ignore=kept_back, dirs_exist_ok=True)  # a room may hold parts already
        elif source.exists():
            shutil.copy(source, copy)
    for file in (*to.glob("tests/test_points_*.py"), *to.glob("README.md"), *to.glob("Makefile")):
        file.write_text(SECRET.sub("\n", file.read_text(encoding="utf-8")), encoding="utf-8")


def nbgrader_metadata(name: str, points: int | None = None, locked: bool = False) -> dict:
    """What nbgrader wants to know of a cell: a student's to fill in, a test worth `points`, or one that stays."""
    test = {} if points is None else {"points": points}
    locked = locked or points is not None
    return {
        "grade": points is not None, "grade_id": re.sub(r"[^\w-]", "-", name), "locked": locked,
        "schema_version": 3, "solution": not locked, "task": False, **test,
    }  # fmt: skip


def cell_of_the_course(source: str, metadata: dict) -> dict:
    """A cell that students leave as it is."""
    cell = jupytext.reads(f"# %%\n{source}\n", "py:percent").cells[0]
    cell.metadata["nbgrader"] = metadata
    cell.metadata["tags"] = ["active-ipynb"]  # a comment once the notebook is a script, or tests would start tests
    return cell


def project_cell() -> dict:
    """The first cell: an assignment's folder holds notebooks only, so they are told where the project's modules are."""
    source = 'import os\nimport sys\n\nsys.path.insert(0, os.environ.get("SALIENCY_COURSE", "."))'
    return cell_of_the_course(source, nbgrader_metadata("project", locked=True))


def test_cell(lesson: str, exercise: Exercise) -> dict:
    """A cell that runs the course's tests of one exercise; its value is the points earned."""
    source = f'from tests.notebook import points\n\npoints("{lesson}", "{exercise.number}")'
    return cell_of_the_course(source, nbgrader_metadata(f"test {exercise.number}", exercise.points))


def for_nbgrader(text: str, name: str) -> str:
    """A lesson with nbgrader's markers inside ours: nbgrader removes its own, ours show the grader the place.

    It leaves "raise NotImplementedError()", which names no variable: that of an answer stands above, and is None.
    """
    lines, contents = text.splitlines(), []
    for region in solution_regions(text, name):
        answer = ANSWER.match(lines[region.first + 1])
        first = [f"# EXERCISE {region.exercise}: your code here", "# BEGIN SOLUTION"]
        if answer:
            first = [f"# EXERCISE {region.exercise}: your answer in place of None; then remove the line that raises",
                     f"{answer[0]} None", "# BEGIN SOLUTION"]  # fmt: skip
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
        tests = [test_cell(lesson, exercise) for exercise in announced(text) if exercise.points]
        book.cells = [project_cell(), *book.cells, *tests]
    return jupytext.writes(book, "ipynb")


def write_lessons(root: Path, to: Path, notebooks: bool, nbgrader: bool) -> None:
    """The lessons and parts with gaps, and as notebooks if asked; for nbgrader the notebooks keep their solutions.

    Notebooks stand at the top, "evaluation.planted_scenes.ipynb" too: there the project's modules can be imported.
    """
    for file in lesson_files(root):
        text, name = file.read_text(encoding="utf-8"), lesson_name(file, root)
        student, copy = emptied(text, file.name), to / file.relative_to(root)
        if not nbgrader:
            copy.parent.mkdir(exist_ok=True)
            copy.write_text(student, encoding="utf-8")
        if notebooks or nbgrader:
            book = notebook(for_nbgrader(text, file.name) if nbgrader else student, name, tests=nbgrader)
            (to / f"{name}.ipynb").write_text(book, encoding="utf-8")


def wrapped(paragraph: str) -> str:
    """A paragraph of a lesson, in lines of 120 columns."""
    text = " ".join(line.removeprefix("#").strip() for line in paragraph.splitlines())
    return textwrap.fill(text, 118, initial_indent="# ", subsequent_indent="# ", break_long_words=False,
                         break_on_hyphens=False)  # fmt: skip


def with_headings(text: str, exercises: list[Exercise]) -> str:
    """A lesson whose headings say what its declaration says; a paragraph that is right is left as it is."""
    for exercise in exercises:
        found = re.search(rf"^# \*\*{re.escape(exercise.number)} .*?(?=\n#\n|\n\n|\n?\Z)", text, re.M | re.S)
        if found is None:
            raise ValueError(f"no paragraph of the lesson begins with **{exercise.number}; write one")
        if announced(found[0]) != [exercise]:
            flat = wrapped(found[0]).replace("\n# ", " ")
            old = re.search(r"\*\*\d+\.\d+ [^*]+\*\*(?: \([^)]*\))?", flat)[0]
            flat = flat.replace(old, heading(exercise), 1)
            text = text[: found.start()] + wrapped(flat) + text[found.end() :]
    return text


def schedule(root: Path) -> dict[str, dict[str, list[Exercise]]]:
    """Lesson's number -> when -> its exercises, in order."""
    found: dict[str, dict[str, list]] = {}
    for name in (lesson_name(file, root) for file in lesson_files(root)):
        table = declared(name, "EXERCISES", root)
        for exercise in exercises_of(name, root):
            number = exercise.number.split(".")[0]
            found.setdefault(number, {}).setdefault(table[exercise.number][3], []).append(exercise)
    return found


def with_tables(readme: str, root: Path) -> str:
    """The instructors' guide, its tables of a week filled anew: "<!-- lessons 1 2 3 -->" stands above each."""
    planned = schedule(root)

    def table(found: re.Match) -> str:
        rows = ["| | exercises | minutes |", "| --- | --- | --- |"]
        for when in ("in class", "assign", "for the quick", "discuss"):
            these = [each for number in found[1].split() for each in planned.get(number, {}).get(when, [])]
            these.sort(key=lambda each: [int(part) for part in each.number.split(".")])
            if these:
                rows.append(f"| {when} | {', '.join(e.number for e in these)} | {sum(e.minutes for e in these)} |")
        return f"<!-- lessons {found[1]} -->\n" + "\n".join(rows) + "\n"

    return re.sub(rf"{WEEK.pattern}(?:\|.*\n)*", table, readme)


def in_no_week(root: Path = ROOT) -> list[str]:
    """Lessons whose exercises stand in no table of the instructors' guide, by number."""
    guide = root / "exercises" / "README.md"
    weeks = WEEK.findall(guide.read_text(encoding="utf-8")) if guide.exists() else []
    return sorted(schedule(root).keys() - {number for week in weeks for number in week.split()}, key=int)


def write_headings(root: Path = ROOT) -> list[Path]:
    """Bring lessons and instructors' guide in line with the declarations; the files that changed."""
    new = {file: with_headings(file.read_text(encoding="utf-8"), exercises_of(lesson_name(file, root), root))
           for file in lesson_files(root)}  # fmt: skip
    guide = root / "exercises" / "README.md"
    if guide.exists():
        new[guide] = with_tables(guide.read_text(encoding="utf-8"), root)
    changed = [file for file, text in new.items() if file.read_text(encoding="utf-8") != text]
    for file in changed:
        write_text(file, new[file])
    return changed


def autograder(to: Path, root: Path = ROOT) -> None:
    """Write Gradescope's zip: setup.sh, run_autograder, the reference, the tests with points; no weights."""
    partial = to.with_name(f".{to.name}.{os.getpid()}.part")
    patterns = ("*.py", "course/*.py", *(f"{room}/*.py" for room in ROOMS), "requirements.txt", "pyproject.toml",
                "tests/conftest.py", "tests/markers.py", "tests/questions.py", "tests/grader/*.py",
                "tests/test_points_*.py", "data/*")  # fmt: skip
    files = sorted({file for pattern in patterns for file in root.glob(pattern) if file.is_file()})
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as package:
            for file in (FORGES / "setup.sh", FORGES / "run_autograder"):
                info = zipfile.ZipInfo(file.name, (2020, 1, 1, 0, 0, 0))
                info.external_attr = 0o755 << 16
                package.writestr(info, file.read_bytes())
            for file in files:
                package.write(file, file.relative_to(root))
        os.replace(partial, to)
    finally:
        partial.unlink(missing_ok=True)


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
        if not nbgrader:                                               # 69 MB for each student of a class otherwise
            copy_rest(root, partial)
            forge = partial / ".github" / "workflows"
            forge.mkdir(parents=True)
            shutil.copy(FORGES / "feedback.yml", forge)
        os.replace(partial, to)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def main(argv: list[str] | None = None) -> int:
    """The command line; 1 and one sentence for a failure."""
    parser = argparse.ArgumentParser(prog="exercises/make.py", description="Derive the student tree from the lessons.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--to", type=Path, help="the folder to write, which must not hold anything yet")
    what.add_argument("--gradescope", type=Path, metavar="ZIP", help="write an autograder for Gradescope")
    what.add_argument("--headings", action="store_true", help="write what the declarations say into lessons and README")
    parser.add_argument("--notebooks", action="store_true", help="write each lesson as a notebook as well")
    parser.add_argument("--nbgrader", action="store_true",
                        help="notebooks with solutions and test cells: an assignment's source folder")  # fmt: skip
    args = parser.parse_args(argv)
    try:
        if args.headings:
            print("\n".join(f"wrote {file}" for file in write_headings()) or "all lessons say it already")
            for number in in_no_week():
                print(f"lesson {number} is in no week: write it into a <!-- lessons ... --> of exercises/README.md")
            return 0
        if args.gradescope:
            autograder(args.gradescope.resolve())
            print(f"wrote {args.gradescope}")
            return 0
        make(args.to.resolve(), notebooks=args.notebooks, nbgrader=args.nbgrader)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {args.to}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
