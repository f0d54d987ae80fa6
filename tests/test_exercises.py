"""The student tree and the grader: what the reference, an untouched tree and hostile submissions earn."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest
from conftest import grading, run_script
from grader.box import ISOLATIONS, missing
from markers import (
    ROOMS,
    Exercise,
    announced,
    emptied,
    lesson_files,
    lesson_name,
    lesson_path,
    others_solved,
    replaced,
    solution_regions,
    untouched,
)
from questions import questions

import utils
from utils import PROJECT_ROOT

sys.path[:0] = [str(PROJECT_ROOT / "exercises"), str(PROJECT_ROOT / "tests" / "mutants")]

import make
import run as mutants

TEXTS = {lesson_name(file, PROJECT_ROOT): file.read_text(encoding="utf-8") for file in lesson_files(PROJECT_ROOT)}
HOMES = {region.exercise: name for name, text in TEXTS.items() for region in solution_regions(text, name)}
NUMBERS = dict(zip(ROOMS, ("8", "9"), strict=True))  # a room's parts belong to one lesson
ANNOUNCED = {exercise.number: exercise for text in TEXTS.values() for exercise in announced(text)}
IDIOMS = {"os.replace(partial, file)", "ys, xs = mask.nonzero(as_tuple=True)"}  # in solutions, but everybody's
GRADED = {number: exercise.points for number, exercise in ANNOUNCED.items() if exercise.points}


def run_grader(folder: Path, to: Path, *options: str) -> tuple[int, dict, str]:
    """Exit status, grades by exercise, and what was printed."""
    command = [sys.executable, "-m", "pytest", PROJECT_ROOT / "tests", f"--submission={folder}", f"--grades={to}",
               "-p", "no:cacheprovider", "-q", *options]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=to.parent)
    tests = json.loads(to.read_text())["tests"] if to.exists() else []
    results = {test["number"]: test["extra_data"]["result"] for test in tests}
    grades = {number: grade | {"result": results[number]} for number, grade in mutants.by_exercise(tests).items()}
    return done.returncode, grades, done.stdout + done.stderr


def solutions(text: str, name: str = "") -> dict[str, list[str]]:
    """The lines of each exercise's solution."""
    lines, found = text.splitlines(), {}
    for region in solution_regions(text, name):
        found.setdefault(region.exercise, []).extend(lines[region.first + 1 : region.last])
    return found


def secret_lines() -> set[str]:
    """Lines of solutions that stand nowhere else in the lessons."""
    outside = (PROJECT_ROOT / "utils.py").read_text(encoding="utf-8")
    outside += "\n".join(replaced(text, [(region, []) for region in solution_regions(text, name)])
                         for name, text in TEXTS.items())  # fmt: skip
    secret = {line.partition("  #")[0].strip() for text in TEXTS.values() for part in solutions(text).values()
              for line in part}  # fmt: skip
    return {line for line in secret - IDIOMS if len(line) > 20 and line not in outside}


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Path:
    """The student tree."""
    folder = tmp_path_factory.mktemp("made") / "student"
    assert make.main(["--to", str(folder), "--notebooks"]) == 0
    return folder


# Markers and the student tree


def test_regions_are_announced_and_the_announced_have_regions():
    with_region = {region.exercise for name, text in TEXTS.items() for region in solution_regions(text, name)}
    assert with_region == set(GRADED)
    for name, text in TEXTS.items():
        room, _, part = name.rpartition(".")
        numbers = {exercise.number.split(".")[0] for exercise in announced(text)}
        assert numbers <= {NUMBERS[room] if part and room else str(int(name[:2]))}
        assert numbers or name.startswith("09")                        # the doorway sends to its parts


def test_every_test_with_points_has_a_hint():
    """Its docstring, which a student reads when it fails. Questions have a hint for each wrong choice instead."""
    without = []
    for file in sorted((PROJECT_ROOT / "tests").glob("test_points_[01]*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and any("mark.points" in ast.unparse(d) for d in node.decorator_list):
                without += [] if ast.get_docstring(node) else [node.name]
    assert without == []


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["# BEGIN SOLUTION 5.1", "x"], r"05\.py:1: region 5\.1 is never closed"),
        (["x", "# END SOLUTION"], r"05\.py:2: END SOLUTION without a beginning"),
        (["# BEGIN SOLUTION 5.1", "  # BEGIN SOLUTION 5.2"], r"05\.py:2: a region inside the one of line 1"),
        (["x", "# BEGIN SOLUTION"], r"05\.py:2: BEGIN SOLUTION without an exercise's number"),
        (["# BEGIN SOLUTION 5.1", "# END SOLUTION", "# END SOLUTION"], r"05\.py:3"),
    ],
)
def test_unbalanced_markers_are_named_with_file_and_line(lines, message, tmp_path, capfd):
    with pytest.raises(ValueError, match=message):
        emptied("\n".join(lines), "05.py")
    (tmp_path / "05_cam.py").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=message.replace("05", "05_cam")):
        make.make(tmp_path / "student", root=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["05_cam.py"]


def test_make_does_not_touch_what_is_there(tmp_path, capfd):
    (tmp_path / "work.py").write_text("mine")
    assert make.main(["--to", str(tmp_path)]) == 1
    assert re.fullmatch(r"error: .* is there already .*\n", capfd.readouterr().err)
    assert (tmp_path / "work.py").read_text() == "mine"


def test_student_tree_is_complete_and_without_solutions(student):
    secret = secret_lines()
    assert len(secret) > 60
    texts = [file for file in student.rglob("*") if file.suffix in {".py", ".md", ".ipynb", ".toml", ".txt", ".json"}]
    for file in texts:
        content = file.read_text(encoding="utf-8")
        assert not [line for line in secret if line in content], file
    for name in ("utils.py", "README.md", "data/weights/resnet50.pt", "tests/conftest.py", "tests/test_points_05.py"):
        assert (student / name).exists()
    assert not (student / "tests" / "mutants").exists()
    secrets = [why for name in TEXTS for question in questions(name) for why in question.why.values()]
    told = "\n".join(file.read_text(encoding="utf-8") for file in (student / "tests").glob("*.py"))
    assert len(secrets) > 100
    assert not [why for why in secrets if why[:40] in told]
    assert "WRONG = [" not in told
    assert not re.search(r"^(?:from test_exercises|import (?:make|grade))\b", told, re.MULTILINE)
    assert all(question.right is None for name in TEXTS for question in questions(name, student))
    assert {file.stem for file in student.glob("*.ipynb")} == set(TEXTS)
    for room in ("course", *ROOMS):
        assert {file.name for file in (student / room).glob("*.py")} == {
            file.name for file in (PROJECT_ROOT / room).glob("*.py")
        }


def test_student_tree_offers_what_it_has(student):
    """README and Makefile name no target, folder or file that only the project has."""
    readme, makefile = ((student / name).read_text(encoding="utf-8") for name in ("README.md", "Makefile"))
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"(?:`|^    )make ([a-z-]+)", readme, re.MULTILINE)) <= targets >= {"lessons", "test"}
    assert {name for row in re.findall(r"^(?:# make|\.PHONY:) (.*)$", makefile, re.MULTILINE)
            for name in re.findall(r"[a-z-]+", row)} == targets  # fmt: skip
    links = re.findall(r"\]\((?!http)([^)#]+)", readme)
    assert [link for link in links if not (student / link).exists()] == []
    asked = re.findall(r"(?:\$\(RUN\)|python|-r) ((?!-)\S+\.(?:py|txt))\b", readme + makefile)
    asked += [f"{room}/{part}.py" for room, part in re.findall(r"-m (\w+)\.(\w+)", readme + makefile)]
    assert len(asked) > 5
    assert [name for name in asked if not (student / name).exists()] == []
    assert re.findall(r"KEPT BACK|exercises/|\bbook|\.github", readme + makefile) == []
    for text, name in ((readme, "README.md"), (makefile, "Makefile")):
        assert set(text.splitlines()) <= set((PROJECT_ROOT / name).read_text(encoding="utf-8").splitlines())
    done = subprocess.run(["make", "-n", "lessons"], cwd=student, capture_output=True, check=False)
    assert done.returncode == 0


@pytest.mark.slow
def test_tests_of_the_student_tree_can_be_collected(student):
    """None imports what students do not get."""
    done = subprocess.run([sys.executable, "-m", "pytest", "tests", "--collect-only", "-q", "-p", "no:cacheprovider"],
                          cwd=student, capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]


def test_student_lessons_differ_in_the_gaps_only(student):
    for name, text in TEXTS.items():
        stub = (student / f"{lesson_path(name)}.py").read_text(encoding="utf-8")
        gap = r'^(?: +raise NotImplementedError\("|ANSWER_)(\d+[._]\d+)(?:"\)| = None)$'
        gaps = [number.replace("_", ".") for number in re.findall(gap, stub, flags=re.MULTILINE)]
        assert gaps == [region.exercise for region in solution_regions(text, name)]
        blank = [replaced(each, [(r, []) for r in solution_regions(each, name)]) for each in (stub, text)]
        assert blank[0] == blank[1]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_student_scripts_run_up_to_a_gap_and_name_it(student, tmp_path, monkeypatch, capfd):
    """In this process: importing torch anew for each would take long."""
    monkeypatch.setattr(utils, "PROJECT_ROOT", student)
    monkeypatch.syspath_prepend(str(student))
    with patch.dict(sys.modules):
        for name in [name for name in sys.modules if name.startswith(("lesson_", *ROOMS))]:
            del sys.modules[name]
        for name in TEXTS:
            status = run_script(name, "--quick", "--output-dir", str(tmp_path), root=student)
            said = capfd.readouterr().err
            assert status == 1, name
            sentence = r"^error: exercise ([\d.]+) is not solved yet; look for EXERCISE \1 in (\S+\.py)$"
            found = re.search(sentence, said, re.M)
            assert found, said
            assert "Traceback" not in said
            assert f"EXERCISE {found[1]}:" in next(student.rglob(found[2])).read_text(encoding="utf-8")


def test_a_heading_at_the_end_of_a_lesson_keeps_the_end():
    lesson = "# %% [markdown]\n# **3.10 One** Divide.\n"
    headed = "# %% [markdown]\n# **3.10 One number** (difficulty 1, 5 minutes, 2 points) Divide.\n"
    assert make.with_headings(lesson, [Exercise("3.10", "One number", 1, 5, 2)]) == headed
    assert make.with_headings(headed, [Exercise("3.10", "One number", 1, 5, 2)]) == headed


def test_a_lesson_that_is_in_no_week_is_named(tmp_path):
    """Every lesson of the project is in one."""
    assert make.in_no_week() == []
    for pattern in ("*.py", "evaluation/*.py", "advanced/*.py", "tests/test_points_*.py", "exercises/README.md"):
        for file in PROJECT_ROOT.glob(pattern):
            copy = tmp_path / file.relative_to(PROJECT_ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
    guide = tmp_path / "exercises" / "README.md"
    guide.write_text(guide.read_text(encoding="utf-8").replace("<!-- lessons 4 5 6 7 -->\n", "<!-- lessons 4 6 -->\n"))
    assert make.in_no_week(tmp_path) == ["5", "7"]


def test_others_solved_leaves_one_exercise_as_it_was():
    text = TEXTS["03_smoothgrad"]
    mine = emptied(text, "").replace('raise NotImplementedError("3.2")', "pass  # mine")
    alone = others_solved(mine, text, "3.2")
    assert "pass  # mine" in alone
    assert solutions(alone)["3.3"] == solutions(text)["3.3"]
    assert others_solved("# END EXERCISE", text, "3.2") == "# END EXERCISE"
    assert others_solved(text, text, "3.2") == text


@pytest.mark.parametrize("step", ["  ", "\t"])
def test_the_others_are_solved_in_a_lesson_of_other_indentation(step):
    """Two spaces, or tabs: what is put in fits, and the lesson stays Python."""
    for name, text in TEXTS.items():
        mine = re.sub(r"^(?:    )+", lambda found: step * (len(found[0]) // 4), text, flags=re.MULTILINE)
        alone = others_solved(mine, text, "none of them")
        assert ast.dump(ast.parse(alone)) == ast.dump(ast.parse(mine)), name


def test_what_did_not_pass_alone_is_tried_as_it_was_handed_in():
    again = grading.again_as_it_is
    assert again(grading.Outcome("wrong"))
    assert again(grading.Outcome("error", "line 3 of the lesson did not run", look=True))
    assert not any(map(again, (grading.Outcome("passed"), grading.Outcome("gap"), grading.Outcome("error", lost=True))))


def test_an_untouched_gap_is_seen_and_nothing_else_is_taken_for_one():
    text = TEXTS["03_smoothgrad"]
    empty = emptied(text, "")
    assert untouched(empty, text, "3.2")
    assert untouched(text.replace("\n", "\r\n"), text, "3.2") is False
    solved = answered(empty, {"3.3": solutions(text)["3.3"]})
    assert [untouched(solved, text, number) for number in ("3.2", "3.3")] == [True, False]
    assert not untouched(empty + "\ndef running_means(): ...\n", text, "3.2")        # answered in another place
    assert not untouched(empty.replace("# EXERCISE 3.2: your code here", "# mine"), text, "3.2")
    assert not untouched(empty.replace('raise NotImplementedError("3.2")', "pass"), text, "3.2")


# Grading


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_reference_earns_what_the_lessons_announce(tmp_path):
    status, grades, printed = run_grader(PROJECT_ROOT, tmp_path / "grades.json", f"--junitxml={tmp_path}/junit.xml")
    assert status == 0, printed
    assert {number: grade["max_score"] for number, grade in grades.items()} == GRADED
    assert {number: grade["score"] for number, grade in grades.items()} == GRADED
    tests = json.loads((tmp_path / "grades.json").read_text())["tests"]
    assert len(ElementTree.parse(tmp_path / "junit.xml").getroot().findall(".//testcase")) == len(tests)
    assert {test["status"] for test in tests} == {"passed"}
    assert all(re.match(r"[^:]+: \w", test["name"]) for test in tests)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_an_untouched_tree_earns_nothing(student, tmp_path):
    """And its own conftest.py, which comes with the tests, is not run."""
    (student / "tests" / "conftest.py").write_text("raise SystemExit('run by the grader')")
    status, grades, printed = run_grader(student, tmp_path / "grades.json")
    assert status == 1, printed
    assert set(grades) == set(GRADED)
    assert {grade["score"] for grade in grades.values()} == {0}
    assert {grade["result"] for grade in grades.values()} == {"not attempted"}
    assert grades["5.1"]["output"] == "exercise 5.1 is not attempted"
    assert re.search(r"^5\.1 Grad-CAM +0 +4  not attempted  exercise 5\.1", printed, flags=re.MULTILINE)


def half_solved(folder: Path) -> dict[str, str]:
    """Write lessons of which every third exercise is solved, every third a gap, every third wrong: number -> which."""
    kinds = dict(zip(HOMES, cycle(("solved", "gap", "wrong")), strict=False))
    wrong = {mutant.exercise: mutant for mutant in mutants.load_mutants([]) if not mutant.right
             and mutant.name not in (mutants.NOTHING, "answer None")}  # fmt: skip
    for name, text in TEXTS.items():
        handed_out = emptied(text, name)
        gaps = {region.exercise: [] for region in solution_regions(text, name) if kinds[region.exercise] == "gap"}
        for region in solution_regions(text, name):
            if kinds[region.exercise] == "wrong" and region.exercise in wrong:
                text = mutants.mutated(text, wrong.pop(region.exercise))
        given = {}
        for region in solution_regions(handed_out, name):
            given.setdefault(region.exercise, []).append(handed_out.splitlines()[region.first : region.last + 1])
        contents = [(region, given[region.exercise].pop(0)) for region in solution_regions(text, name)
                    if region.exercise in gaps]  # fmt: skip
        file = folder / f"{lesson_path(name)}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(replaced(text, contents), encoding="utf-8")
    return kinds


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_half_solved_tree_earns_what_it_solves_and_learns_no_solution(tmp_path):
    """Neither a line of the reference, nor a path of the grader's machine, nor a colour code is in the report."""
    kinds = half_solved(tmp_path / "half")
    status, grades, printed = run_grader(tmp_path / "half", tmp_path / "grades.json")
    assert status == 1, printed
    for number, kind in kinds.items():
        score = grades[number]["score"]
        assert score == GRADED[number] if kind == "solved" else score < GRADED[number], (number, kind, grades[number])
        assert (grades[number]["result"] == "not attempted") == (kind == "gap"), (number, grades[number])
    report = (tmp_path / "grades.json").read_text(encoding="utf-8")
    said = "\n".join(test["output"] for test in json.loads(report)["tests"])
    assert not [line for line in secret_lines() if line in said]
    for folder in (PROJECT_ROOT, tmp_path, Path(sys.prefix), "/course/"):
        assert str(folder) not in report
    assert not re.search(r"\\u001b|\\x1b|\x1b|Traceback|Tensor-likes", report)


@pytest.mark.extended
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_gradings_of_one_submission_agree(tmp_path):
    """With one seed to the letter; with another the points are the same."""
    half_solved(tmp_path / "half")
    reports = []
    for i, draw in enumerate((5, 5, 5, 6)):
        run_grader(tmp_path / "half", tmp_path / f"{i}.json", f"--draw={draw}")
        reports.append(json.loads((tmp_path / f"{i}.json").read_text()))
    assert reports[0] == reports[1] == reports[2]
    points = [[test["score"] for test in report["tests"]] for report in reports]
    assert points[0] == points[3]


MAIN_ARGUMENTS = ("images", "image", "A", "x", "R", "first", "map", "curve")


def nothing(text: str, answer: str) -> str:
    """A lesson with every gap filled by an answer that computes nothing; ARGUMENT is the function's main argument."""
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    lines, contents = text.splitlines(), []
    for region in solution_regions(text, "lesson"):
        if not region.indent:                                          # a question
            contents.append((region, [f"ANSWER_{region.exercise.replace('.', '_')} = None"]))
            continue
        around = [f for f in functions if f.lineno <= region.first and f.col_offset < len(region.indent)]
        function = max(around, key=lambda f: f.lineno)
        arguments = [argument.arg for argument in function.args.args if argument.arg != "self"]
        names = [name for name in arguments if name in MAIN_ARGUMENTS] or arguments[-1:] or ["None"]
        filled = [lines[region.first].strip(), answer.replace("ARGUMENT", names[0]), lines[region.last].strip()]
        contents.append((region, [region.indent + line for line in filled]))
    return replaced(text, contents)


@pytest.mark.extended
@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("answer", ["pass", "return ARGUMENT", "return torch.zeros_like(ARGUMENT)", "return 0.0"])
def test_doing_nothing_earns_nothing(answer, tmp_path):
    """Tests that such answers pass, "no trace is left" for instance, count only beside the right value."""
    folder = tmp_path / "nothing"
    for name, text in TEXTS.items():
        file = folder / f"{lesson_path(name)}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(nothing(text, answer), encoding="utf-8")
    _, grades, printed = run_grader(folder, tmp_path / "grades.json", "--time-limit=3")
    assert set(grades) == set(GRADED), printed
    assert {number: grade["score"] for number, grade in grades.items() if grade["score"]} == {}


REFERENCE = str(PROJECT_ROOT / "05_gradcam.py")
HOSTILE = {
    "1.2": ["return ("],
    "3.1": ["while True:", "    pass"],
    "3.3": ["raise SystemExit"],
    "3.4": ["__import__('os')._exit(0)"],
    "4.1": ["while True:", "    print('x' * 10**6)"],
    "4.2": ["torch.set_default_dtype(torch.float16); torch.set_grad_enabled(False); torch.set_num_threads(7)",
            "torch.testing.assert_close = torch.allclose = torch.equal = lambda *a, **k: True"],
    "4.3": ["hoard = []", "while True:", "    hoard.append(torch.ones(1 << 26))"],
    "5.1": ["return import_lesson('05_gradcam').grad_cam(model, images, target, layer=layer, relu=relu)"],
    "5.2": [f"exec(open({REFERENCE!r}).read().replace('def cam', 'def mine'))"],
    "5.3": ["return 'a map'"],
    "8.2": ["raise KeyboardInterrupt"],
    "8.4": ["__import__('pytest').skip('no need')"],
}  # fmt: skip
EXPECTED = {
    "1.2": "SyntaxError", "3.1": "took longer than 2 seconds", "3.3": "SystemExit", "3.4": "ended the process",
    "4.1": "took longer", "4.2": "", "4.3": "alloc|memory|took longer", "5.1": "RecursionError", "5.2": "",
    "5.3": "got a str|AttributeError", "8.2": "KeyboardInterrupt", "8.4": "Skipped", "2.1": "02_.*py is missing",
    **{f"2.{i}": "missing" for i in (2, 3, 4, 5, 7, 8, 9)},
}  # fmt: skip


def answered(text: str, answers: dict[str, list[str]]) -> str:
    """A lesson with other answers to some exercises."""
    contents = []
    for region in solution_regions(text, "lesson"):
        if region.exercise in answers:
            lines = [f"# EXERCISE {region.exercise}: done", *answers[region.exercise], "# END EXERCISE"]
            contents.append((region, [region.indent + line for line in lines]))
    return replaced(text, contents)


@pytest.mark.extended
@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_hostile_answers_cost_their_exercise_and_nothing_else(isolation, tmp_path):
    """What a lesson runs at its top, an endless loop or an exit, costs nothing: it is ended and reported."""
    if reason := missing(isolation):
        pytest.skip(reason)
    folder = tmp_path / "hostile"
    folder.mkdir()
    for name, text in TEXTS.items():
        file = folder / f"{lesson_path(name)}.py"
        file.parent.mkdir(exist_ok=True)
        if name.startswith("05") or HOMES.get("8.1") == name:  # handed in as a notebook, test cells and all
            (folder / f"{name}.ipynb").write_text(make.notebook(answered(text, HOSTILE), name, tests=True))
        elif not name.startswith("02"):
            file.write_text(answered(text, HOSTILE), encoding="utf-8")
    with next(folder.glob("06_*")).open("a") as lesson:
        lesson.write("\nwhile True:\n    pass\n")
    with next(folder.glob("07_*")).open("a") as lesson:
        lesson.write("\nsys.exit(0)\n")
    status, grades, printed = run_grader(folder, tmp_path / "grades.json", "--time-limit=2", f"--isolation={isolation}")
    assert status == 1, printed
    assert set(grades) == set(GRADED)
    assert printed.count("x" * 1000) == 0
    assert ("not isolated" in printed) == (isolation == "none")
    for number, grade in grades.items():
        if number in EXPECTED:
            assert grade["score"] == 0, (number, grade)
            assert re.search(EXPECTED[number], grade["output"]), (number, grade)
        else:
            assert grade["score"] == GRADED[number], (number, grade)


def test_wrong_use_is_one_sentence(tmp_path):
    options = {"submission": str(tmp_path / "nobody"), "grades": None, "exercise": [], "draw": None}
    stash = pytest.Stash()
    with pytest.raises(pytest.UsageError, match=r"nobody is no folder; name the one with the lessons in it$"):
        grading.switch_on(SimpleNamespace(option=SimpleNamespace(**options), stash=stash))
    options |= {"submission": None, "grades": "grades.json"}
    with pytest.raises(pytest.UsageError, match=r"^--grades and --exercise need --submission FOLDER$"):
        grading.switch_on(SimpleNamespace(option=SimpleNamespace(**options), stash=stash))


# The instructors' guide


BLOCK = re.compile(r"<!-- put into (\S+)(?: (above|below) (.+?))? -->\n```python\n(.*?)```", re.DOTALL)
NEEDED = ("*.py", "course/*.py", "evaluation/*.py", "advanced/*.py", "tests/*.py", "tests/grader/*.py",
          "tests/mutants/*.py", "exercises/*.py", "exercises/*.md", "exercises/forges/*", "requirements.txt",
          "pyproject.toml")  # fmt: skip


def followed(guide: str, root: Path) -> list[str]:
    """Do what the guide's examples say, in a copy of the project; the files that were written by hand."""
    for pattern in NEEDED:
        for file in PROJECT_ROOT.glob(pattern):
            copy = root / file.relative_to(PROJECT_ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
    (root / "data").symlink_to(PROJECT_ROOT / "data")
    written = []
    for name, where, line, block in BLOCK.findall(guide):
        file, written = root / name, [*written, name]
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        if not where:
            text += block
        else:
            (place,) = re.finditer(rf"^{re.escape(line)}.*\n", text, re.MULTILINE)
            at = place.start() if where == "above" else place.end()
            text = text[:at] + block + text[at:]
        file.write_text(text, encoding="utf-8")
    return list(dict.fromkeys(written))


@pytest.mark.grading
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_guides_examples_work_as_they_stand(tmp_path):
    """An exercise takes two files, a lesson or a part two; grader, student tree and mutants take them as they are."""
    guide = (PROJECT_ROOT / "exercises" / "README.md").read_text(encoding="utf-8")
    root = tmp_path / "project"
    assert followed(guide, root) == ["03_smoothgrad.py", "tests/test_points_03.py", "10_occlusion.py",
                                     "tests/test_points_10.py"]  # fmt: skip
    for lesson, part in (("10_occlusion.py", "advanced/covering.py"),
                         ("tests/test_points_10.py", "tests/test_points_09_covering.py")):  # fmt: skip
        text = (root / lesson).read_text(encoding="utf-8").replace("10.1", "9.99")
        (root / part).write_text(text, encoding="utf-8")
    wanted = ("3.10", "9.99", "10.1")

    def done(*command: object) -> subprocess.CompletedProcess:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.run([sys.executable, *map(str, command)], cwd=root, env=environment, check=False,
                              capture_output=True, text=True)  # fmt: skip

    assert "\nlesson 10 is in no week: " in done("exercises/make.py", "--headings").stdout
    own = root / "exercises" / "README.md"
    own.write_text(own.read_text().replace("<!-- lessons 8 9 -->\n", "<!-- lessons 8 9 10 -->\n"))
    assert re.fullmatch(r"wrote \S+README.md\n", done("exercises/make.py", "--headings").stdout)
    assert re.search(r"^\| assign \| 8\.2, .* 10\.1 \|", own.read_text(), re.MULTILINE)
    assert "**10.1 Cover and measure** (difficulty 2, 15 minutes, 3 points)" in (root / "10_occlusion.py").read_text()
    assert re.search(r"\| in class \| 1\.1, .* 3\.10 \|", (root / "exercises" / "README.md").read_text())
    assert done("exercises/make.py", "--to", tmp_path / "student").returncode == 0
    for folder, status, result, points in ((root, 0, "passed", [2, 3, 3]),
                                           (tmp_path / "student", 1, "not attempted", [0, 0, 0])):  # fmt: skip
        report = tmp_path / f"{folder.name}.json"
        run = done("-m", "pytest", "tests", f"--submission={folder}", f"--grades={report}", "-q", "-p",
                   "no:cacheprovider", *(f"--exercise={number}" for number in wanted))  # fmt: skip
        assert run.returncode == status, run.stdout
        tests = json.loads(report.read_text())["tests"]
        assert {test["extra_data"]["result"] for test in tests} == {result}
        grades = mutants.by_exercise(tests)
        assert [grades[number]["score"] for number in wanted] == points
    run = done("tests/mutants/run.py", *(f"--only={number}" for number in wanted))
    assert run.returncode == 0, run.stdout + run.stderr
    assert "100 % of the wrong answers fail" in run.stdout


# Tests of the tests


def test_every_mutant_fits_and_is_python():
    found = mutants.load_mutants([])
    assert sum(not mutant.right for mutant in found) >= 60
    assert sum(mutant.right for mutant in found) >= 20
    assert {mutant.exercise for mutant in found} == set(GRADED)
    empty = {mutant.exercise for mutant in found if mutant.name in ("nothing computed", "answer None")}
    assert set(GRADED) - empty == set()
    for mutant in found:
        text = TEXTS[HOMES[mutant.exercise]]
        changed = mutants.mutated(text, mutant)
        assert changed != text
        compile(changed, mutant.name, "exec")


@pytest.mark.slow
def test_a_wrong_answer_fails_and_another_right_one_passes():
    """All of them: make mutants."""
    wrong = next(mutant for mutant in mutants.load_mutants(["5.1"]) if not mutant.right)
    right = next(mutant for mutant in mutants.load_mutants(["5.2"]) if mutant.right)
    grades = mutants.run([wrong, right])
    assert grades["5.1"]["score"] < grades["5.1"]["max_score"]
    assert grades["5.2"]["score"] == grades["5.2"]["max_score"]
