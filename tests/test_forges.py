"""What other programs run and collect: Gradescope's autograder, nbgrader's notebooks, a forge's workflow."""

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
from grader.submission import answers_in, files_of, handed_in
from questions import answer_in, is_question, name_of_answer, points_of, questions
from test_class import grade_class
from test_exercises import TEXTS, answered, make, secret_lines

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


@pytest.mark.parametrize("allowed", [True, False])
def test_the_autograder_takes_another_user_where_bubblewrap_is_not_allowed(allowed, autograder, tmp_path):
    """Then the reference, the submission and the result are closed to that user."""
    base, programs = tmp_path / "autograder", tmp_path / "bin"
    for folder in (base / "source", base / "submission", programs):
        folder.mkdir(parents=True, mode=0o755)
    (programs / "bwrap").write_text(f"#!/bin/sh\nexit {int(not allowed)}\n")
    (programs / "bwrap").chmod(0o755)
    done = bash(f"bash {autograder}/source/run_autograder", base, AUTOGRADER=str(base), PYTHON="echo",
                PATH=f"{programs}:{os.environ['PATH']}")  # fmt: skip
    assert f"--isolation={'bubblewrap' if allowed else 'user'}" in done.stdout
    for folder in ("source", "submission", "results"):
        assert ((base / folder).stat().st_mode & 0o077 == 0) == (not allowed)


FLOW = ROOT / "exercises" / "forges" / "feedback.yml"


def test_the_workflow_has_nothing_that_a_student_must_not_have():
    """Students can change it, and print what it can read: their repository, and nothing else."""
    text = FLOW.read_text(encoding="utf-8")
    flow = yaml.safe_load(text)
    assert "${{" not in text                                           # no secret, no variable
    assert flow["permissions"] == {"contents": "read"}
    steps = flow["jobs"]["feedback"]["steps"]
    assert [step["with"] for step in steps if "checkout" in step.get("uses", "")] == [{"persist-credentials": False}]
    (install,) = [step["run"] for step in steps if "requirements" in step.get("run", "")]
    assert (ROOT / install.rpartition(" ")[2]).exists()
    (upload,) = [step for step in steps if "upload" in step.get("uses", "")]
    assert upload["if"] == "always()"


@pytest.mark.grading
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_workflow_gives_feedback_on_a_push(tmp_path):
    """Its step, word for word, in a student tree with one solved lesson; questions wait for the right answers."""
    flow = yaml.safe_load(FLOW.read_text(encoding="utf-8"))
    (step,) = [step for step in flow["jobs"]["feedback"]["steps"] if "--submission" in step.get("run", "")]
    assert make.main(["--to", str(tmp_path / "ada")]) == 0
    assert (tmp_path / "ada" / ".github" / "workflows" / "feedback.yml").read_text() == FLOW.read_text()
    (tmp_path / "ada" / f"{LESSON}.py").write_text(TEXTS[LESSON], encoding="utf-8")
    done = bash(step["run"], tmp_path / "ada", **step["env"])
    assert done.returncode == 1, done.stdout + done.stderr
    tests = json.loads((tmp_path / "ada" / "grades.json").read_text())["tests"]
    solved = {number for number in POINTS if not is_question(TEXTS[LESSON], number)}
    assert {test["number"] for test in tests if test["score"]} == solved
    assert all(test["score"] == test["max_score"] for test in tests if test["number"] in solved)
    asked = {test["output"].split("\n")[0] for test in tests if test["number"] in POINTS and not test["score"]}
    assert asked == {"whoever grades has the right answer"}


def test_a_class_on_a_forge_is_fetched(tmp_path):
    """The guide's lines, up to the one that grades: a folder for each student."""
    guide = (ROOT / "exercises" / "README.md").read_text(encoding="utf-8")
    lines = re.search(r"<!-- a class on a forge -->\n```sh\n(.*?)(python exercises/grade.*?)\n```", guide, re.DOTALL)
    for name in ("ada", "bob"):
        (tmp_path / "forge" / name).mkdir(parents=True)
        (tmp_path / "forge" / name / f"{LESSON}.py").write_text(f"# {name}")
        identity = "-c user.name=x -c user.email=x@example.org"
        made = bash(f"git init -q && git add . && git {identity} commit -qm x", tmp_path / "forge" / name)
        assert made.returncode == 0, made.stderr
    addresses = [f"{name} file://{tmp_path}/forge/{name}\n" for name in ("ada", "bob")]
    (tmp_path / "students.txt").write_text("".join(addresses))
    done = bash(lines[1], tmp_path)
    assert done.returncode == 0, done.stderr
    assert lines[2].startswith("python exercises/grade.py submissions/ --to")
    found, _ = grade_class.submissions(tmp_path / "submissions", tmp_path)
    assert list(found) == ["ada", "bob"]
    assert handed_in(files_of(found["bob"]), LESSON).text == "# bob"


def test_what_nbgrader_collected_is_a_class(tmp_path):
    """submitted/STUDENT/ASSIGNMENT/: a notebook for each lesson and part, as nbgrader handed it out."""
    lessons = (LESSON, "evaluation.sanity_checks")
    for student in ("ada", "bob"):
        folder = tmp_path / "submitted" / student / "maps"
        folder.mkdir(parents=True)
        (folder / "timestamp.txt").write_text("2026-01-01 00:00:00 UTC")
        for name in lessons:
            text = make.for_nbgrader(TEXTS[name], name)
            (folder / f"{name}.ipynb").write_text(make.notebook(text, name, tests=True), encoding="utf-8")
    found, _ = grade_class.submissions(tmp_path / "submitted", tmp_path / "scratch")
    assert list(found) == ["ada", "bob"]
    before = grade_class.fingerprint(found["bob"], [])
    for name in lessons:
        handed = handed_in(files_of(found["bob"]), name)
        assert handed.file == f"maps/{name}.ipynb"
        assert answers_in(handed.text) == answers_in(make.for_nbgrader(TEXTS[name], name)) != ""
        assert len(re.findall(r"^# points\(", handed.text, re.MULTILINE)) == len(points_of(name))
        assert not re.search(r"^(points\(|sys\.path\.)", handed.text, re.MULTILINE)
    (tmp_path / "submitted" / "bob" / "maps" / f"{LESSON}.ipynb").write_text("{}")
    assert grade_class.fingerprint(found["bob"], []) != before


STUB = r"\1# YOUR CODE HERE\n\1raise NotImplementedError()"  # what nbgrader writes where its markers are


def test_what_nbgrader_releases_has_gaps_with_names_and_cells_with_numbers():
    """As `nbgrader generate_assignment` does it: no solution, an answer's variable, a test cell for each exercise."""
    secret = secret_lines()
    for name, text in TEXTS.items():
        cells = json.loads(make.notebook(make.for_nbgrader(text, name), name, tests=True))["cells"]
        marked = [cell["metadata"]["nbgrader"] for cell in cells if "nbgrader" in cell["metadata"]]
        ids = [each["grade_id"] for each in marked]
        assert len(ids) == len(set(ids)), name
        assert all(re.fullmatch(r"[\w-]+", each) for each in ids)
        points = {each["grade_id"].removeprefix("test-"): each["points"] for each in marked if each["grade"]}
        assert {number.replace("-", "."): worth for number, worth in points.items()} == points_of(name)
        filled = "\n".join("".join(cell["source"]) for cell in cells)
        released = re.sub(r"^( *)# BEGIN SOLUTION\n.*?# END SOLUTION$", STUB, filled, flags=re.MULTILINE | re.DOTALL)
        assert not [line for line in secret if line in released]
        for question in questions(name):
            assert answer_in(filled, question.number) == question.right
            assert f"{name_of_answer(question.number)} = None" in released
            assert answer_in(released, question.number) is None


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
