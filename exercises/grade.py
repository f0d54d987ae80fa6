"""Grade a class: every folder under one folder, into one table.

    python exercises/grade.py submissions/ --to grades.csv -j 2

Each folder's grades are kept in grades_each/, beside the table, in Gradescope's format. So a stopped run goes on where
it was, and a folder is graded anew only if its lessons, the tests or the reference changed.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean

from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from course.files import write_text

PATIENCE = 1800  # seconds for a folder; the time limits of the tests end long before
HANDED_IN = ("*.py", "*/*.py", "*.ipynb", "*/*.ipynb")
REFERENCE = ("*.py", "*/*.py")


def submissions(folder: Path) -> list[Path]:
    """The folders to grade, in order.

    Raises:
        ValueError: there is no such folder, or none in it.
    """
    found = sorted(path for path in folder.glob("*") if path.is_dir() and not path.name.startswith("."))
    if not found:
        raise ValueError(f"{folder} holds no folders; give the folder that holds one for each student")
    return found


def fingerprint(submission: Path) -> str:
    """Changes when a grade could: with what was handed in, helper modules too, with the reference, with the tests."""
    digest = hashlib.sha256()
    for folder, patterns in ((submission, HANDED_IN), (ROOT, REFERENCE)):
        for file in sorted(path for pattern in patterns for path in folder.glob(pattern) if path.is_file()):
            digest.update(str(file.relative_to(folder)).encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def grade(submission: Path, kept: Path, options: list[str]) -> dict:
    """One folder's grades: those kept, or fresh ones. A dict with "error" if the grader itself failed."""
    file, now = kept / f"{submission.name}.json", fingerprint(submission)
    if file.exists():
        grades = json.loads(file.read_text(encoding="utf-8"))
        if grades.get("extra_data", {}).get("fingerprint") == now:
            return grades
    fresh = kept / f".{submission.name}.{os.getpid()}.json"
    command = [sys.executable, "-m", "pytest", str(ROOT / "tests"), f"--submission={submission.resolve()}",
               f"--grades={fresh.resolve()}", "-q", "-p", "no:cacheprovider", *options]  # fmt: skip
    try:
        done = subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True,
                              text=True, errors="replace", timeout=PATIENCE, check=False)  # fmt: skip
        if done.returncode not in (0, 1):
            said = (done.stderr + done.stdout).strip().splitlines() or ["nothing"]
            return {"error": f"pytest ended with status {done.returncode} and said: {said[-1][:200]}"}
        grades = json.loads(fresh.read_text(encoding="utf-8"))
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return {"error": f"{type(error).__name__}: {error}"[:200]}
    finally:
        fresh.unlink(missing_ok=True)
    grades["extra_data"] = {"fingerprint": now}
    write_text(file, json.dumps(grades, indent=1))
    return grades


def table(graded: dict[str, dict]) -> str:
    """The CSV: a row a folder, a column an exercise."""
    numbers = list(dict.fromkeys(test["number"] for grades in graded.values() for test in grades.get("tests", [])))
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["submission", "total", "possible", *numbers, "error"])
    for name, grades in graded.items():
        points = {test["number"]: f"{test['score']:g}" for test in grades.get("tests", [])}
        possible = sum(test["max_score"] for test in grades.get("tests", []))
        total = f"{grades['score']:g}" if "score" in grades else ""
        writer.writerow([name, total, f"{possible:g}", *(points.get(number, "") for number in numbers),
                         grades.get("error", "")])  # fmt: skip
    return text.getvalue()


def summary(graded: dict[str, dict], hardest: int = 5) -> str:
    """The mean, and the exercises of which the class earned the smallest share."""
    good = [grades for grades in graded.values() if "tests" in grades]
    lines = [f"{len(good)} of {len(graded)} graded"]
    if good:
        possible = sum(test["max_score"] for test in good[0]["tests"])
        lines[0] += f", mean {mean(grades['score'] for grades in good):.1f} of {possible:g} points"
        shares: dict[str, list] = {}
        for test in (test for grades in good for test in grades["tests"]):
            shares.setdefault(f"{test['number']} {test['name']}", []).append((test["score"] / test["max_score"], test))
        lines.append("hardest:")
        for name, pairs in sorted(shares.items(), key=lambda item: mean(share for share, _ in item[1]))[:hardest]:
            tried = sum(test["extra_data"]["result"] != "not attempted" for _, test in pairs)
            share = 100 * mean(share for share, _ in pairs)
            lines.append(f"  {name:28} {share:3.0f} % of the points, tried by {tried} of {len(pairs)}")
    lines += [f"not graded: {name}: {grades['error']}" for name, grades in graded.items() if "error" in grades]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """The command line: 0 if every folder was graded, 1 if one could not be, or for a failure told in a sentence."""
    parser = argparse.ArgumentParser(prog="exercises/grade.py", description="Grade every folder of a class.")
    parser.add_argument("submissions", type=Path, help="a folder with a folder for each student")
    parser.add_argument("--to", type=Path, required=True, help="the table to write, such as grades.csv")
    parser.add_argument("-j", type=int, default=1, metavar="N", help="folders at a time (default: %(default)s)")
    parser.add_argument("--time-limit", type=float, default=10, help="seconds for a test (default: %(default)s)")
    args = parser.parse_args(argv)
    try:
        folders = submissions(args.submissions)
        kept = args.to.with_name(f"{args.to.stem}_each")
        kept.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(max(1, args.j)) as pool:
            work = pool.map(lambda folder: grade(folder, kept, [f"--time-limit={args.time_limit}"]), folders)
            results = list(tqdm(work, total=len(folders), unit="submission"))
        graded = dict(zip((folder.name for folder in folders), results, strict=True))
        write_text(args.to, table(graded))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {args.to}\n{summary(graded)}")
    return 1 if any("error" in grades for grades in results) else 0


if __name__ == "__main__":
    sys.exit(main())
