"""Grade an exercise from inside its notebook: the value of the last line is the points, as nbgrader wants them.

    from tests.notebook import points
    points("05_gradcam", "5.1")

The first call grades the whole notebook, the others read what it found. The reference is the project this file lies in,
or the one that the environment variable SALIENCY_COURSE names: a folder that was given to students has gaps where
earlier lessons should be.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))

from questions import points_of


@cache
def graded(lesson: str, changed: int) -> list[dict]:
    """The entries of results.json for a notebook of the current folder, as it was saved at that time."""
    course = Path(os.environ.get("SALIENCY_COURSE") or Path(__file__).resolve().parent.parent)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(f"{lesson}.ipynb", folder)
        report = Path(folder) / "grades.json"
        command = [sys.executable, "-m", "pytest", str(course / "tests"), f"--submission={folder}",
                   f"--grades={report}", "-q", "-p", "no:cacheprovider",
                   *(f"--exercise={number}" for number in points_of(lesson, course))]  # fmt: skip
        done = subprocess.run(command, cwd=course, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1):
            said = done.stdout[-300:] + done.stderr[-300:]
            raise RuntimeError(f"the grader ended with status {done.returncode} and said: {said}")
        return json.loads(report.read_text())["tests"]


def points(lesson: str, exercise: str) -> float:
    """Points earned by the notebook as it was last saved, from the current folder; the reason for less is printed."""
    tests = graded(lesson, Path(f"{lesson}.ipynb").stat().st_mtime_ns)
    tests = [test for test in tests if test["number"] == exercise]
    score, possible = (sum(test[key] for test in tests) for key in ("score", "max_score"))
    print(f"{exercise}: {score:g} of {possible:g} points")
    for test in tests:
        print(f"  {test['score']:g} of {test['max_score']:g}  {test['name']}: {test['output']}")
    return score
