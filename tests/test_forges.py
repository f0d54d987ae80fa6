"""What other programs run: Gradescope's autograder, nbgrader's test cells, a forge's workflow."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from questions import points_of
from test_exercises import TEXTS, answered, make

ROOT = make.ROOT
LESSON = "05_gradcam"
POINTS = points_of(LESSON)


def bash(command: str, folder: Path, **variables: str) -> subprocess.CompletedProcess:
    """Run a line as a forge does, with this Python first on the path."""
    python = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{python}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"} | variables
    return subprocess.run(["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True,
                          check=False)  # fmt: skip


@pytest.fixture(scope="module")
def autograder(tmp_path_factory) -> Path:
    """Gradescope's layout: /autograder with source, submission and results."""
    base = tmp_path_factory.mktemp("autograder")
    assert make.main(["--gradescope", str(base / "autograder.zip")]) == 0
    with zipfile.ZipFile(base / "autograder.zip") as package:
        modes = {info.filename: info.external_attr >> 16 & 0o777 for info in package.infolist()}
        package.extractall(base / "source")
    assert modes["setup.sh"] == modes["run_autograder"] == 0o755
    (base / "submission").mkdir()
    (base / "submission" / f"{LESSON}.py").write_text(TEXTS[LESSON], encoding="utf-8")
    return base


def test_the_autograder_is_small_and_complete(autograder):
    """It holds the reference and the tests with points; no weights, no cheats."""
    assert (autograder / "autograder.zip").stat().st_size < 8 << 20
    names = {path.relative_to(autograder / "source").as_posix() for path in (autograder / "source").rglob("*")}
    assert {"setup.sh", "run_autograder", "requirements.txt", f"{LESSON}.py", "tests/grader/judge.py",
            "tests/test_points_05.py", "evaluation/planted_scenes.py", "course/paths.py"} <= names  # fmt: skip
    assert not [name for name in names if name.endswith((".pt", ".ipynb")) or "mutants" in name]
    setup = (autograder / "source" / "setup.sh").read_text()
    assert "/autograder/source/requirements.txt" in setup
    assert bash("bash -n setup.sh && bash -n run_autograder", autograder / "source").returncode == 0


@pytest.mark.grading
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_autograder_writes_results(autograder):
    done = bash("bash source/run_autograder", autograder, AUTOGRADER=str(autograder), PYTHON=sys.executable)
    results = json.loads((autograder / "results" / "results.json").read_text())
    assert results["score"] == sum(POINTS.values()), done.stdout[-2000:]
    assert results["output"].startswith(f"{results['score']:g} of ")
    for test in results["tests"]:
        assert set(test) == {"number", "name", "score", "max_score", "status", "output", "visibility", "extra_data"}
        assert test["status"] in ("passed", "failed")
        assert test["score"] == (test["max_score"] if test["number"] in POINTS else 0)


def test_an_autograder_that_fails_gives_no_grade(autograder):
    base = autograder / "failing"
    (base / "source").mkdir(parents=True)
    bash(f"bash {autograder}/source/run_autograder", base, AUTOGRADER=str(base), PYTHON="false")
    results = json.loads((base / "results" / "results.json").read_text())
    assert "This is no grade" in results["output"]


def test_the_workflow_runs_what_there_is():
    """Its steps name files that exist, options that the grader has, and no action that writes to the repository."""
    flow = yaml.safe_load((ROOT / "exercises" / "forges" / "grade.yml").read_text(encoding="utf-8"))
    assert flow["permissions"] == {"contents": "read"}
    steps = flow["jobs"]["grade"]["steps"]
    checkouts = [step["with"]["path"] for step in steps if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts == ["submission", "course"]
    (install,) = [step["run"] for step in steps if "requirements" in step.get("run", "")]
    assert (ROOT / install.rpartition("course/")[2]).exists()
    (upload,) = [step for step in steps if "upload" in step.get("uses", "")]
    assert upload["if"] == "always()"


@pytest.mark.grading
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_workflow_grades_a_push(tmp_path):
    """Its grading step, word for word, in the layout that its checkouts make."""
    flow = yaml.safe_load((ROOT / "exercises" / "forges" / "grade.yml").read_text(encoding="utf-8"))
    (step,) = [step for step in flow["jobs"]["grade"]["steps"] if "--submission" in step.get("run", "")]
    (tmp_path / "course").symlink_to(ROOT)
    (tmp_path / "submission").mkdir()
    (tmp_path / "submission" / f"{LESSON}.py").write_text(TEXTS[LESSON], encoding="utf-8")
    where = f"--submission={tmp_path}/submission --grades={tmp_path}/grades.json"
    line = step["run"].replace("--submission=../submission --grades=../grades.json", where)
    assert line != step["run"]                                         # a link's ".." is not the checkout's
    done = bash(line, tmp_path / step["working-directory"], **step["env"])
    assert done.returncode == 1, done.stdout + done.stderr
    assert json.loads((tmp_path / "grades.json").read_text())["score"] == sum(POINTS.values())


@pytest.mark.grading
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_notebook_asks_for_its_points(tmp_path):
    """As nbgrader's test cells do: one grading for all cells, the reason for what is missing, halves too."""
    text = answered(TEXTS[LESSON], {"5.2": ["maps = A.sum(dim=1)"]})
    (tmp_path / f"{LESSON}.ipynb").write_text(make.notebook(make.for_nbgrader(text, LESSON), LESSON, tests=True))
    cells = [cell["source"] for cell in json.loads((tmp_path / f"{LESSON}.ipynb").read_text())["cells"]]
    cells = ["".join(cell) for cell in cells]
    asking = [cell for cell in cells if cell.startswith("from tests.notebook")]
    assert len(asking) == len(POINTS)
    values = [re.sub(r"^(points\(.*\))$", r"print('earned', \1)", cell, flags=re.MULTILINE) for cell in asking]
    program = [cells[0], *values, "from tests import notebook", "print(notebook.graded.cache_info())"]
    (tmp_path / "cells.py").write_text("\n".join(program))
    done = bash("python cells.py", tmp_path, SALIENCY_COURSE=str(ROOT))
    assert done.returncode == 0, done.stderr
    numbers = re.findall(r"points\(\"05_gradcam\", \"(.+?)\"\)", "\n".join(asking))
    earned = [float(points) for points in re.findall(r"earned (\S+)", done.stdout)]
    assert dict(zip(numbers, earned, strict=True)) == {**POINTS, "5.2": 0}
    assert re.search(r"0 of 1  CAM: .*: ", done.stdout)
    assert "misses=1" in done.stdout
    assert str(ROOT) not in done.stdout
