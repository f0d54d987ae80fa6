"""Grade a class: every submission in a folder, into one table and one page.

    python exercises/grade.py submissions/ --to grades.csv -j 2

A submission is a folder, a .zip, or the files of one student in a folder as Moodle, Canvas or Gradescope export it.
Each one's grades are kept in grades_each/, beside the table, in Gradescope's format. So a stopped run goes on where it
was, and a submission is graded anew only if it, the tests or the reference changed. grades.html is for the instructor.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import multiprocessing
import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from statistics import mean

from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from classpage import page

from course.files import write_text

HANDED_IN = ("*.py", "*/*.py", "*.ipynb", "*/*.ipynb")
REFERENCE = ("*.py", "*/*.py", "tests/grader/*.py")
MOODLE = re.compile(r"(?P<who>.+?)_\d+_assignsubmission_file_?")
CANVAS = re.compile(r"(?P<who>[^\W_][\w-]*?)(?:_LATE)?_\d+_\d+_(?P<file>.+\.(?:py|ipynb|zip))", re.IGNORECASE)
SKIPPED = ("__MACOSX",)


def submissions(folder: Path, scratch: Path) -> dict[str, Path]:
    """Name -> folder of each submission, in order; archives and loose files are laid into `scratch` first.

    Raises:
        ValueError: there is no such folder, or no submission in it.
    """
    from grader.submission import unpacked

    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*")):
        if path.is_symlink() or path.name.startswith(".") or path.name in SKIPPED:
            continue
        moodle, canvas = MOODLE.fullmatch(path.name), CANVAS.fullmatch(path.name)
        if path.is_dir():
            found[moodle["who"] if moodle else path.name] = opened(path, scratch)
        elif path.suffix.lower() == ".zip" or canvas:
            name = canvas["who"] if canvas else path.stem
            place = found.setdefault(name, scratch / name)
            place.mkdir(parents=True, exist_ok=True)
            if path.suffix.lower() == ".zip":
                try:
                    unpacked(path, place)
                except ValueError as error:
                    (place / "unreadable.txt").write_text(str(error), encoding="utf-8")
            else:
                shutil.copy2(path, place / canvas["file"])
    if not found:
        raise ValueError(f"{folder} holds no submissions; give the folder that holds one folder or .zip per student")
    return found


def opened(folder: Path, scratch: Path) -> Path:
    """A student's folder; if a .zip lies in it, a copy with the archive unpacked."""
    from grader.submission import unpacked

    archives = [path for path in sorted(folder.glob("*.zip")) if not path.is_symlink()]
    if not archives:
        return folder
    place = scratch / folder.name
    shutil.copytree(folder, place, symlinks=True, ignore=shutil.ignore_patterns("*.zip"))
    for archive in archives:
        try:
            unpacked(archive, place)
        except ValueError as error:
            (place / "unreadable.txt").write_text(str(error), encoding="utf-8")
    return place


def fingerprint(submission: Path) -> str:
    """Changes when a grade could: with what was handed in, helper modules too, with the reference, with the tests."""
    digest = hashlib.sha256()
    for folder, patterns in ((submission, HANDED_IN), (ROOT, REFERENCE)):
        for file in sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}):
            digest.update(str(file.relative_to(folder)).encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def grade(kept: Path, options: list[str], named: tuple[str, Path]) -> dict:
    """One submission's grades: those kept, or fresh ones. A dict with "error" if the grader itself failed.

    Runs in a worker process, which keeps torch, the tests and the answering process warm from one to the next.
    """
    import pytest

    name, folder = named
    file, now = kept / f"{name}.json", fingerprint(folder)
    if file.exists():
        grades = json.loads(file.read_text(encoding="utf-8"))
        if grades.get("extra_data", {}).get("fingerprint") == now:
            return grades
    fresh, said = kept / f".{name}.{os.getpid()}.json", io.StringIO()
    fresh.unlink(missing_ok=True)
    spared = [f"-pno:{plugin}" for plugin in ("cacheprovider", "logging", "unraisableexception")]
    command = [str(ROOT / "tests"), f"--rootdir={ROOT}", f"--submission={folder.resolve()}",
               f"--grades={fresh.resolve()}", "-q", *spared, *options]  # fmt: skip
    os.environ["GRADING_KEEPS_ITS_BOX"] = "1"
    try:
        with redirect_stdout(said), redirect_stderr(said):
            status = int(pytest.main(command))
        if status not in (0, 1):
            last = said.getvalue().strip().splitlines() or ["nothing"]
            return {"error": f"pytest ended with status {status} and said: {last[-1][:200]}"}
        grades = json.loads(fresh.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return {"error": f"{type(error).__name__}: {error}"[:200]}
    finally:
        fresh.unlink(missing_ok=True)
    grades["extra_data"] = {**grades.get("extra_data", {}), "fingerprint": now}
    write_text(file, json.dumps(grades, indent=1))
    return grades


def graded_class(found: dict[str, Path], kept: Path, options: list[str], jobs: int) -> Iterator[dict]:
    """The grades of all, in order; `jobs` worker processes."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    work = partial(grade, kept, options)
    if jobs == 1:
        yield from map(work, found.items())
        return
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(work, found.items())


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
    return found


def looks(grades: dict) -> dict[str, str]:
    """Exercise or lesson that a person should look at -> why."""
    found: dict[str, str] = {}
    for number, entry in exercises(grades).items():
        if entry["result"] == "needs a look":
            found[number] = next(t["output"].split("\n")[0] for t in entry["tests"] if t["status"] == "failed")
    for where, used in grades.get("extra_data", {}).get("look", {}).items():
        found[where] = "; ".join([f"uses {', '.join(used)}", *([found[where]] if where in found else [])])
    return found


def table(graded: dict[str, dict]) -> str:
    """The CSV: a row a submission, a column an exercise."""
    numbers = list(dict.fromkeys(number for grades in graded.values() for number in exercises(grades)))
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["submission", "total", "possible", *numbers, "needs a look", "error"])
    for name, grades in graded.items():
        each = exercises(grades)
        possible = sum(entry["max_score"] for entry in each.values())
        total = f"{grades['score']:g}" if "score" in grades else ""
        points = [f"{each[number]['score']:g}" if number in each else "" for number in numbers]
        writer.writerow([name, total, f"{possible:g}", *points, " ".join(looks(grades)), grades.get("error", "")])
    return text.getvalue()


def summary(graded: dict[str, dict], hardest: int = 5) -> str:
    """The mean, and the exercises of which the class earned the smallest share."""
    good = [exercises(grades) for grades in graded.values() if "tests" in grades]
    lines = [f"{len(good)} of {len(graded)} graded"]
    if good:
        totals = [sum(entry["score"] for entry in each.values()) for each in good]
        possible = sum(entry["max_score"] for entry in good[0].values())
        lines[0] += f", mean {mean(totals):.1f} of {possible:g} points"
        shares: dict[str, list] = {}
        for number, entry in ((number, entry) for each in good for number, entry in each.items()):
            shares.setdefault(f"{number} {entry['title']}", []).append((entry["score"] / entry["max_score"], entry))
        lines.append("hardest:")
        for name, pairs in sorted(shares.items(), key=lambda item: mean(share for share, _ in item[1]))[:hardest]:
            tried = sum(entry["result"] != "not attempted" for _, entry in pairs)
            share = 100 * mean(share for share, _ in pairs)
            lines.append(f"  {name:28} {share:3.0f} % of the points, tried by {tried} of {len(pairs)}")
    look = {name: " ".join(looks(grades)) for name, grades in graded.items() if looks(grades)}
    lines += [f"needs a look: {', '.join(f'{name} ({numbers})' for name, numbers in look.items())}"] if look else []
    lines += [f"not graded: {name}: {grades['error']}" for name, grades in graded.items() if "error" in grades]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """The command line: 0 if every submission was graded, 1 if one could not be, or for a failure in a sentence."""
    parser = argparse.ArgumentParser(prog="exercises/grade.py", description="Grade every submission of a class.")
    parser.add_argument("submissions", type=Path, help="a folder with a folder or .zip for each student")
    parser.add_argument("--to", type=Path, required=True, help="the table to write, such as grades.csv")
    parser.add_argument("-j", type=int, default=1, metavar="N", help="submissions at a time (default: %(default)s)")
    parser.add_argument("--time-limit", type=float, default=10, help="seconds for a call (default: %(default)s)")
    parser.add_argument("--draw", type=int, metavar="SEED", help="of the tests' inputs, one for all (default: random)")
    parser.add_argument("--isolation", choices=("auto", "bubblewrap", "docker", "podman", "none"), default="auto")
    args = parser.parse_args(argv)
    draw = secrets.randbits(31) if args.draw is None else args.draw
    options = [f"--time-limit={args.time_limit}", f"--isolation={args.isolation}", f"--draw={draw}"]
    try:
        with tempfile.TemporaryDirectory(prefix="class-") as scratch:
            found = submissions(args.submissions, Path(scratch))
            kept = args.to.with_name(f"{args.to.stem}_each")
            kept.mkdir(parents=True, exist_ok=True)
            work = graded_class(found, kept, options, max(1, args.j))
            results = list(tqdm(work, total=len(found), unit="submission"))
        graded = dict(zip(found, results, strict=True))
        write_text(args.to, table(graded))
        write_text(args.to.with_suffix(".html"), page({name: exercises(grades) for name, grades in graded.items()},
                                                      {name: looks(grades) for name, grades in graded.items()},
                                                      {n: g["error"] for n, g in graded.items() if "error" in g}))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"inputs drawn from --draw={draw}\nwrote {args.to}\nwrote {args.to.with_suffix('.html')}\n{summary(graded)}")
    return 1 if any("error" in grades for grades in results) else 0


if __name__ == "__main__":
    sys.exit(main())
