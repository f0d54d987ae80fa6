"""Grade a class: every submission in a folder, into one table and one page.

    python exercises/grade.py submissions/ --to grades.csv -j 2
    python exercises/grade.py submissions/ --to week1.csv --lesson 01 --lesson 02 --lesson 03

A submission is a folder, a .zip, or the files of one student in a folder as Moodle, Canvas or Gradescope export it.
Each one's grades are kept in grades_each/, beside the table, in Gradescope's format, and the class's seed with them. So
a stopped run goes on where it was, and a submission is graded anew only if it, the tests, the reference or the options
changed. grades.html is for the instructor.
"""

from __future__ import annotations

import argparse
import csv
import faulthandler
import hashlib
import io
import json
import multiprocessing
import os
import re
import secrets
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import cache, partial
from pathlib import Path

from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from classfolder import online_texts, submissions
from classlook import asked_for, exercises, in_short, lessons_in_words, looks, rare
from classpage import page
from grader.box import ISOLATIONS, chosen, missing
from grader.submission import files_of, shown

from course.files import write_text

REFERENCE = ("*.py", "*/*.py", "tests/grader/*.py")
MINE = threading.local()  # each thread's worker process
LONGEST = 720  # times as long as a call may take: more than the grader's own limit can be, which hangs with the grader
SPARED = ("cacheprovider", "logging", "unraisableexception", "faulthandler")  # plugins of pytest
OPEN = ("not isolated: what students wrote ran as this user, and could read and change what this user can, grades too "
        "(exercises/README.md: How a submission is kept apart)")  # fmt: skip


def content(file: Path | str) -> bytes:
    """What a file holds, or why it cannot be read, in 32 bytes."""
    try:
        data = file.encode() if isinstance(file, str) else file.read_bytes()
    except OSError as error:
        data = type(error).__name__.encode()
    return hashlib.sha256(data).digest()


@cache
def reference() -> bytes:
    """What the reference and the tests hold."""
    files = sorted({path for pattern in REFERENCE for path in ROOT.glob(pattern)})
    return b"".join(str(file).encode() + content(file) for file in files)


def fingerprint(submission: Path, options: list[str]) -> str:
    """Changes when a grade could: with what was handed in, helper modules too, reference, tests and options."""
    digest = hashlib.sha256(reference() + repr(options).encode())
    for name, file in sorted(files_of(submission).items()):
        digest.update(name.encode() + content(file))
    return digest.hexdigest()[:16]


def grade(kept: Path, options: list[str], named: tuple[str, Path]) -> dict:
    """One submission's grades: those kept, or fresh ones. A dict with "error" if the grader itself failed.

    Runs in a worker process, which keeps torch and the tests warm from one to the next.
    """
    name, folder = named
    try:
        file, now = kept / f"{name}.json", fingerprint(folder, options)
        with suppress(OSError, ValueError, LookupError, TypeError):
            grades = json.loads(file.read_text(encoding="utf-8"))
            if grades["extra_data"]["fingerprint"] == now:
                return grades
        grades = graded_anew(folder, kept / f".{name}.{os.getpid()}.json", options)
        grades["extra_data"] = {**grades.get("extra_data", {}), "fingerprint": now}
        write_text(file, json.dumps(grades, indent=1))
        return grades
    except Exception as error:                                         # one submission does not end a class
        return {"error": shown(f"{type(error).__name__}: {error}"[:200])}


def graded_anew(folder: Path, report: Path, options: list[str]) -> dict:
    """The report that pytest writes.

    Raises:
        RuntimeError: it wrote none; what it said last.
    """
    import pytest

    report.unlink(missing_ok=True)
    said = io.StringIO()
    command = [str(ROOT / "tests"), f"--rootdir={ROOT}", f"--submission={folder.resolve()}",
               f"--grades={report.resolve()}", "-q", *(f"-pno:{plugin}" for plugin in SPARED), *options]  # fmt: skip
    try:
        with redirect_stdout(said), redirect_stderr(said):
            status = int(pytest.main(command))
        if status not in (0, 1):
            last = said.getvalue().strip().splitlines() or ["nothing"]
            raise RuntimeError(f"pytest ended with status {status} and said: {last[-1]}")
        return json.loads(report.read_text(encoding="utf-8"))
    finally:
        report.unlink(missing_ok=True)


def graded_class(found: dict[str, Path], work: Callable[[tuple], dict], jobs: int) -> Iterator[dict]:
    """work() of each submission, in order; `jobs` worker processes."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ThreadPoolExecutor(jobs) as threads:                          # each waits for a worker process of its own
        yield from threads.map(partial(apart, work), found.items())


def within(seconds: float, work: Callable[[tuple], dict], named: tuple[str, Path]) -> dict:
    """work(named); a process in which that takes longer ends, whatever it does."""
    faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__)
    try:
        return work(named)
    finally:
        faulthandler.cancel_dump_traceback_later()


def end_with_parent() -> None:
    """In a worker: when the program that started it is killed, it ends, too. It would wait for work for ever."""

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def apart(work: Callable[[tuple], dict], named: tuple[str, Path]) -> dict:
    """work(named) in this thread's worker process. If that dies, it costs this submission; the next gets a new one."""
    if not hasattr(MINE, "worker"):
        MINE.worker = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=end_with_parent)
    try:
        return MINE.worker.submit(work, named).result()
    except BrokenProcessPool:
        del MINE.worker
        return {"error": "the process that graded it was ended: too little memory, or too long. Grade this one by hand"}


def table(graded: dict[str, dict]) -> str:
    """The CSV: a row a submission, a column an exercise. A spreadsheet would take 8.10 alone for the number 8.1."""
    numbers = list(dict.fromkeys(number for grades in graded.values() for number in exercises(grades)))
    unasked = rare(graded)
    text = io.StringIO()
    writer = csv.writer(text)
    headers = [f"exercise {number}" for number in numbers]
    writer.writerow(["submission", "total", "possible", *headers, "needs a look", "error"])
    for name, grades in graded.items():
        each = exercises(grades)
        possible = sum(entry["max_score"] for entry in each.values())
        total = f"{grades['score']:g}" if "score" in grades else ""
        points = [f"{each[number]['score']:g}" if number in each else "" for number in numbers]
        look, error = in_short(looks(grades, unasked)), no_formula(grades.get("error", ""))
        writer.writerow([no_formula(name), total, f"{possible:g}", *points, look, error])
    return plain(text.getvalue())


def no_formula(text: str) -> str:
    """A text that no spreadsheet runs: ' stands before what begins a formula, where a cell begins, or may begin."""
    return re.sub(r"(^|[;\t\r\n])(?=\s*[=+@\-\uff1d\uff0b\uff20\uff0d]|[\t\r\n])", r"\1'", text)


def page_of(graded: dict[str, dict]) -> str:
    """The page for the instructor."""
    unasked = rare(graded)
    errors = {name: grades["error"] for name, grades in graded.items() if "error" in grades}
    found = {name: looks(grades, unasked) for name, grades in graded.items()}
    return plain(page({name: exercises(grades) for name, grades in graded.items()}, found, errors,
                      OPEN if unboxed(graded) else "", lessons_in_words(unasked)))  # fmt: skip


def plain(text: str) -> str:
    """A text that can be written as UTF-8, whatever a student's exception said."""
    return text.encode(errors="replace").decode()


def summary(graded: dict[str, dict], others: list[str], texts: list[str]) -> str:
    """What needs an instructor; how the class did stands on the page.

    Args:
        others: what lay in the folder and is nobody's.
        texts: whose online text is to be read.
    """
    lines = [f"{sum('tests' in grades for grades in graded.values())} of {len(graded)} graded"]
    lines += [f"left out, neither folder nor .zip: {', '.join(others)}"] if others else []
    lines += [f"wrote an online text as well, to read and not graded: {', '.join(texts)}"] if texts else []
    unasked = rare(graded)
    look = [name for name, grades in graded.items() if looks(grades, unasked)]
    lines += [f"hardly anybody handed in {lessons_in_words(unasked)}: nobody needs a look for that"] if unasked else []
    lines += [f"needs a look, for what the page says: {', '.join(look)}"] if look else []
    lines += [f"not graded: {name}: {grades['error']}" for name, grades in graded.items() if "error" in grades]
    lines += [OPEN] if unboxed(graded) else []
    return "\n".join(lines)


def unboxed(graded: dict[str, dict]) -> bool:
    """Whether a submission was graded without isolation."""
    return any(grades.get("extra_data", {}).get("isolation") == "none" for grades in graded.values())


def seed(kept: Path, asked: int | None) -> int:
    """The class's: the one asked for, that of an earlier run, or a new one."""
    file = kept / ".draw"
    if asked is None and file.exists():
        return int(file.read_text(encoding="utf-8"))
    draw = secrets.randbits(31) if asked is None else asked
    write_text(file, str(draw))
    return draw


def main(argv: list[str] | None = None) -> int:
    """The command line: 0 if every submission was graded, 1 if one could not be, or for a failure in a sentence."""
    parser = argparse.ArgumentParser(prog="exercises/grade.py", description="Grade every submission of a class.")
    parser.add_argument("submissions", type=Path, help="a folder with a folder or .zip for each student")
    parser.add_argument("--to", type=Path, required=True, help="the table to write, such as grades.csv")
    parser.add_argument("-j", type=int, default=1, metavar="N", help="submissions at a time (default: %(default)s)")
    parser.add_argument("--time-limit", type=float, default=10, help="seconds for a call (default: %(default)s)")
    parser.add_argument("--draw", type=int, metavar="SEED",
                        help="of the tests' inputs, one for all (default: the last run's, or random)")  # fmt: skip
    parser.add_argument("--exercise", action="append", default=[], metavar="5.1", help="grade only this; repeatable")
    parser.add_argument("--lesson", action="append", default=[], type=int, metavar="05",
                        help="grade only this lesson's exercises, its parts' too; repeatable")  # fmt: skip
    parser.add_argument("--isolation", choices=("auto", *ISOLATIONS), default="auto")
    args = parser.parse_args(argv)
    isolation, kept = chosen(args.isolation), args.to.with_name(f"{args.to.stem}_each")
    try:
        if reason := missing(isolation):
            raise ValueError(reason)
        asked = asked_for(args.exercise, args.lesson)
        with tempfile.TemporaryDirectory(prefix="class-") as scratch:
            found, others = submissions(args.submissions, Path(scratch))
            draw = seed(kept, args.draw)
            options = [f"--time-limit={args.time_limit}", f"--isolation={isolation}", f"--draw={draw}",
                       *(f"--exercise={number}" for number in asked)]  # fmt: skip
            work = partial(within, LONGEST * args.time_limit, partial(grade, kept, options))
            results = list(tqdm(graded_class(found, work, max(1, args.j)), total=len(found), unit="submission"))
        graded = dict(zip(found, results, strict=True))
        write_text(args.to, table(graded))
        write_text(args.to.with_suffix(".html"), page_of(graded))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"inputs drawn from --draw={draw}, isolation: {isolation}\nwrote {args.to}")
    print(f"wrote {args.to.with_suffix('.html')}\n{summary(graded, others, online_texts(args.submissions))}")
    return 1 if any("error" in grades for grades in graded.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
