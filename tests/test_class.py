"""A class: whose is what in its folder, what is kept, the table, and the page."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest
from grader.submission import UNREADABLE, files_of, handed_in

from utils import PROJECT_ROOT

sys.path.insert(0, str(PROJECT_ROOT / "exercises"))

import classfolder
import classlook
import classpage
import grade as grade_class


def graded(score: float, result: str) -> dict:
    """A grade file with two exercises, the first of two tests."""
    first = ("1.1", "First", score / 2, 2, result)
    rows = [first, first, ("1.2", "Second", 2, 2, "passed")]
    tests = [
        {"number": number, "name": f"{title}: its value", "score": points, "max_score": most,
         "status": "passed" if points == most else "failed", "output": "got a list, not a map",
         "extra_data": {"exercise": title, "result": what}} for number, title, points, most, what in rows
    ]  # fmt: skip
    return {"score": score + 2, "tests": tests}


def test_table_and_summary_of_a_class():
    grades = {"ada": graded(4, "passed"), "bob": graded(0, "not attempted"), "cyd": graded(2, "needs a look"),
              "eve": {"error": "no lesson"}}  # fmt: skip
    assert grade_class.table(grades).splitlines() == [
        "submission,total,possible,exercise 1.1,exercise 1.2,needs a look,error", "ada,6,6,4,2,,", "bob,2,6,0,2,,",
        "cyd,4,6,2,2,exercise 1.1,", "eve,,0,,,,no lesson",
    ]  # fmt: skip
    said = ["3 of 4 graded", "left out, neither folder nor .zip: fay.rar", "needs a look, for what the page says: cyd",
            "not graded: eve: no lesson"]  # fmt: skip
    assert grade_class.summary(grades, ["fay.rar"], []).splitlines() == said
    grades["ada"]["extra_data"] = {"isolation": "none"}
    assert grade_class.summary(grades, ["fay.rar"], []).splitlines() == [*said, grade_class.OPEN]
    assert "\nwrote an online text as well, to read and not graded: ada\n" in grade_class.summary(grades, [], ["ada"])


def test_a_spreadsheet_reads_the_table_as_it_is_meant():
    """No name is a formula, wherever a spreadsheet splits the line; 8.1 and 8.10 are two texts, and no numbers."""
    names = ["+cmd", '=HYPERLINK("http://x","a")', "-1", "@sum", " =1", "\tx", "\rx", "a;=1", "\uff1d1", "ada-b @c; d"]
    first = graded(2, "needs a look")["tests"][:2]
    tests = [test | {"number": number} for number in ("8.1", "8.10") for test in first]
    grades = {name: {"score": 4, "tests": tests} for name in names} | {"eve": {"error": "=1"}}
    header, *rows = csv.reader(io.StringIO(grade_class.table(grades), newline=""))
    assert [row[0] for row in rows] == [
        "'+cmd", "'=HYPERLINK(\"http://x\",\"a\")", "'-1", "'@sum", "' =1", "'\tx", "'\rx", "a;'=1", "'\uff1d1",
        "ada-b @c; d", "eve",
    ]  # fmt: skip
    assert header[3:5] == ["exercise 8.1", "exercise 8.10"]
    assert rows[0][3:] == ["2", "2", "exercises 8.1 8.10", ""]
    assert rows[-1][-1] == "'=1"


def test_the_page_of_a_class_is_one_file_and_escapes_what_students_named():
    grades = {"ada": graded(4, "passed"), "<b>bob": graded(0, "wrong"), "cyd": graded(2, "needs a look")}
    grades["bob2"] = graded(4, "passed") | {"extra_data": {"look": {"1.2": ["os.kill", "<open>"]}}}
    found = {name: grade_class.exercises(each) for name, each in grades.items()}
    text = classpage.page(found, {name: grade_class.looks(each) for name, each in grades.items()},
                          {"eve": "no <lesson>"}, "<all> in the open")  # fmt: skip
    assert "<p class=look>&lt;all&gt; in the open</p>" in text
    assert "<b>bob" not in text
    assert "&lt;b&gt;bob" in text
    assert "no &lt;lesson&gt;" in text
    assert not re.search(r"(?:src|href)=", text)
    assert classpage.what_failed({"name": "Sum first?: answer", "output": "you answered b. Not quite."}) == "answer b"
    assert "Mean 4.5, median 5.0 of 6 points." in text
    assert "<td>bob2</td><td>1.2</td><td>uses os.kill, &lt;open&gt;</td>" in text
    assert re.search(r"1\.1 First.*62%.*its value \(4\)", text)
    assert text.index("1.1 First") < text.index("1.2 Second")
    assert "<td>cyd</td><td>1.1</td><td>got a list, not a map</td>" in text


def handing_in(lessons: str, result: str = "passed", maybe: str = "") -> dict:
    """Grades of who handed in the lessons and parts whose names match, with this result, and nothing else.

    Args:
        maybe: what the grader says of a file that the others may be in.
    """
    tests = []
    for number, home in classlook.homes().items():
        is_there = re.match(lessons, home)
        said = "its reason" if is_there else f"{home}.py is missing{maybe and f' ({maybe})'}"
        its = result if is_there else "needs a look"
        tests.append({"number": number, "name": f"{number}: a test", "score": float(its == "passed"), "max_score": 1,
                      "status": "passed" if its == "passed" else "failed", "output": f"{said}\nHint: think",
                      "extra_data": {"exercise": number, "result": its}})  # fmt: skip
    return {"score": sum(test["score"] for test in tests), "tests": tests}


def test_who_hands_in_what_was_asked_for_needs_no_look():
    """A lesson that is missing is told once; not at all if hardly anybody handed it in, and something else is there."""
    grades = {f"student{i}": handing_in("0[1-3]") for i in range(8)}
    grades |= {"tree": handing_in(".", "not attempted"), "late": handing_in("0[12]"), "nobody": handing_in("none"),
               "closed": handing_in("0[1-3]", maybe="a.rar: it is an archive, and was not opened"),
               "stuck": handing_in("0[1-3]", "needs a look"), "eve": {"error": "no lesson"}}  # fmt: skip
    header, *rows = csv.reader(io.StringIO(grade_class.table(grades), newline=""))
    told = {row[0]: row[header.index("needs a look")] for row in rows}
    numbers = " ".join(number for number, home in classlook.homes().items() if home < "04")
    assert {name: look for name, look in told.items() if look} == {
        "late": "not handed in: 03", "nobody": "not handed in: 01 to 09", "closed": "not handed in: 04 to 09",
        "stuck": f"exercises {numbers}",
    }  # fmt: skip
    said = grade_class.summary(grades, [], [])
    assert "hardly anybody handed in 04 to 09: nobody needs a look for that\n" in said
    assert "needs a look, for what the page says: late, nobody, closed, stuck\n" in said
    text = grade_class.page_of(grades)
    assert "Hardly anybody handed in 04 to 09. Nobody stands here for that." in text
    assert "<td>late</td><td>03</td><td>not handed in</td>" in text
    assert "not read: a.rar: it is an archive, and was not opened</td>" in text
    assert text.count("<td>student0</td>") == text.count("<td>tree</td>") == 1
    assert text.count("<td>late</td>") == text.count("<td>closed</td>") == text.count("<td>stuck</td>") == 2


def test_a_class_that_was_asked_for_all_is_told_who_left_a_lesson_out():
    grades = {f"student{i}": handing_in(".") for i in range(3)} | {"late": handing_in("(?!07|advanced/lrp)")}
    assert classlook.rare(grades) == set()
    assert classlook.looks(grades["late"]) == {"07, advanced/lrp": "not handed in"}
    assert classlook.rare({"late": grades["late"]}) == {"07_guided_gradcam", "advanced/lrp"}
    assert classlook.rare({"nobody": handing_in("none")}) == set(classlook.homes().values())
    assert classlook.in_short({"1.1": "x", "2.1": "y", "07": "not handed in"}) == "exercises 1.1 2.1; not handed in: 07"
    assert classlook.in_words([9, 1, 4, 2, 6, 5]) == "01, 02, 04 to 06, 09"


def test_a_file_that_is_there_is_no_file_that_is_missing():
    """Nor is an exercise whose answer says what the grader would."""
    grades = handing_in(".", "needs a look")
    grades["tests"][0]["output"] = "02_gradient_input_saliency.py is missing"
    grades["tests"][1] |= {"output": f"{classlook.homes()['1.2']}.py is missing",
                           "extra_data": {"exercise": "", "result": "wrong"}}  # fmt: skip
    assert classlook.absent(grades) == {}
    assert classlook.looks(grades)["1.1"] == "02_gradient_input_saliency.py is missing"


def test_what_the_grader_says_of_a_missing_file_is_understood():
    for files, maybe in (({}, None), ({"a.rar": "it is an archive"}, "a.rar: it is an archive")):
        for home in set(classlook.homes().values()):
            with pytest.raises(ValueError, match="missing") as error:
                handed_in(files, home.replace("/", "."))
            assert classlook.MISSING.fullmatch(str(error.value)).groups() == (home, maybe)


def test_what_nobody_tried_is_not_hardest():
    """It comes last, without a row. What one of many tried and solved is not harder than what all of them failed."""
    good = {f"tree{i}": handing_in(".", "not attempted") for i in range(3)} | {"bob": handing_in("0[12]")}
    for grades in good.values():
        for test in grades["tests"]:
            if test["number"] == "1.4":
                test |= {"score": 0, "status": "failed", "extra_data": {"exercise": "1.4", "result": "wrong"}}
    text = classpage.hardest({name: grade_class.exercises(grades) for name, grades in good.items()})
    names = re.findall(r"<tr><td>(\S+) \S+</td><td class=number>(\d of \d)</td>", text)
    assert names[0] == ("1.4", "4 of 4")
    assert ("1.1", "1 of 4") in names
    assert re.search(r"<td>1\.1 1\.1</td>.*?</span> 100%", text)
    assert {name for name, _ in names} == {n for n, home in classlook.homes().items() if home < "03"}
    untried = ", ".join(number for number, home in classlook.homes().items() if home >= "03")
    assert text.endswith(f"<p>Tried by nobody: {untried}.</p>")
    nobody = classpage.hardest({"tree": grade_class.exercises(handing_in(".", "not attempted"))})
    assert "<table" not in nobody


def test_exercises_and_lessons_that_were_asked_for():
    assert classlook.asked_for([], []) == []
    assert classlook.asked_for(["8.10", "1.2", "8.2"], []) == ["1.2", "8.2", "8.10"]
    first = [number for number in classlook.homes() if number.startswith("1.")]
    assert classlook.asked_for(["3.1", "1.2"], [1]) == [*first, "3.1"]
    parts = {classlook.homes()[number] for number in classlook.asked_for([], [9])}
    assert {"advanced/lrp", "advanced/attention_rollout"} < parts
    with pytest.raises(ValueError, match=r"^there is no exercise 1\.99, 2\.6 with points; there are 1\.1, "):
        classlook.asked_for(["1.99", "1.1", "2.6"], [])                # 2.6 asks for no code
    with pytest.raises(ValueError, match=r"^there is no lesson 12 with points; there are 01 to 09$"):
        classlook.asked_for([], [12])


def test_submissions_of_every_form_are_found(tmp_path):
    """Folders, archives, and the exports of Moodle and Canvas; two students of one name stay two."""
    folder, scratch = tmp_path / "class", tmp_path / "scratch"
    for name in ("ada", "Bob Ray_123_assignsubmission_file_", "Bob Ray_124_assignsubmission_file_", "__MACOSX", ".hid"):
        (folder / name).mkdir(parents=True)
        (folder / name / "05_gradcam.py").write_text("x = 1")
    for name, member in (("cyd.zip", "work/05_gradcam.py"), ("eve_7_8_05_gradcam.zip", "../../05_gradcam.py"),
                         ("ada.zip", "05_gradcam.py")):  # fmt: skip
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr(member, "x = 2")
            archive.writestr("__MACOSX/._05_gradcam.py", "junk")
    for name in ("dan_LATE_1_2_05_gradcam.py", "dan_LATE_1_3_06_guided_backpropagation.py", "dan_4_5_05_gradcam.py",
                 "dan_4_6_05_gradcam.py", "Bob Ray_125_assignsubmission_file_05_gradcam.py"):  # fmt: skip
        (folder / name).write_text("x = 3")
    (folder / "fay.zip").write_bytes(b"no archive")
    (folder / "gus.rar").write_bytes(b"no zip")
    (folder / "J\udcf6rg").mkdir()                                     # a name in another encoding than this system's
    (folder / "J\udcfcrg").mkdir()
    found, others = grade_class.submissions(folder, scratch)
    files = {name: sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file())
             for name, place in found.items()}  # fmt: skip
    assert files == {
        "Bob Ray_123": ["05_gradcam.py"], "Bob Ray_124": ["05_gradcam.py"], "Bob Ray_125": ["05_gradcam.py"],
        "J\\udcf6rg": [], "J\\udcfcrg": [], "ada": ["05_gradcam.py"], "ada.zip": ["ada.zip/05_gradcam.py"],
        "cyd": ["cyd.zip/work/05_gradcam.py"], "dan_1": ["05_gradcam.py", "06_guided_backpropagation.py"],
        "dan_4": ["05_gradcam.py", "dan_4_6_05_gradcam.py"], "eve_7": [], "fay": [f"fay.zip{UNREADABLE}"],
    }  # fmt: skip
    assert others == ["gus.rar"]
    assert (folder / "ada" / "05_gradcam.py").read_text() == "x = 1"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["class", "scratch"]
    with pytest.raises(ValueError, match="holds no submissions"):
        grade_class.submissions(tmp_path / "nothing", scratch)


def test_moodles_online_text_belongs_to_the_student_who_wrote_it(tmp_path):
    """It is named, and no submission of its own; a lesson in it counts; alone it is a submission with nothing."""
    folder = tmp_path / "class"
    for name, file in (("Ada_7_assignsubmission_file_", "05_gradcam.py"), ("Bob_8_assignsubmission_file_", "a.py"),
                       ("Ada_7_assignsubmission_onlinetext_", "onlinetext.html"),
                       ("Bob_8_assignsubmission_onlinetext_", "05_gradcam.py"),
                       ("Cyd_9_assignsubmission_onlinetext_", "onlinetext.html")):  # fmt: skip
        (folder / name).mkdir(parents=True)
        (folder / name / file).write_text("<p>See my file.</p>")
    for name in ("Dan_10_assignsubmission_onlinetext_onlinetext.html", "Dan_10_assignsubmission_file_05_gradcam.py"):
        (folder / name).write_text("x = 1")
    found, others = grade_class.submissions(folder, tmp_path / "scratch")
    assert (list(found), others) == (["Ada_7", "Bob_8", "Cyd_9", "Dan_10"], [])
    assert found["Ada_7"] == folder / "Ada_7_assignsubmission_file_"
    assert {Path(name).name for name in files_of(found["Bob_8"])} == {"a.py", "05_gradcam.py"}
    assert files_of(found["Cyd_9"]) == {}
    assert list(files_of(found["Dan_10"])) == ["05_gradcam.py"]
    assert classfolder.online_texts(folder) == list(found)


def test_a_students_link_leads_nowhere(tmp_path):
    """Neither what is unpacked nor what is read goes through it."""
    outside, ada = tmp_path / "outside", tmp_path / "class" / "ada"
    for folder in (outside, ada):
        folder.mkdir(parents=True)
    for name in ("conftest.py", "05_gradcam.py"):
        (outside / name).write_text("the course's")
    (ada / "w").symlink_to(outside)
    (ada / "05_gradcam.py").symlink_to(outside / "05_gradcam.py")
    members = ("w/conftest.py", "05_gradcam.py", "more/06_guided_backpropagation.py")
    for name in ("a.zip", "w.zip"):
        with zipfile.ZipFile(ada / name, "w") as archive:
            for member in members:
                archive.writestr(member, "mine")
    found, _ = grade_class.submissions(tmp_path / "class", tmp_path / "scratch")
    assert {path.name: path.read_text() for path in outside.iterdir()} == {
        "conftest.py": "the course's", "05_gradcam.py": "the course's"
    }  # fmt: skip
    assert sorted(path.name for path in ada.iterdir()) == ["05_gradcam.py", "a.zip", "w", "w.zip"]
    read = {name: file if isinstance(file, str) else file.read_text() for name, file in files_of(found["ada"]).items()}
    assert read.pop("05_gradcam.py") == "it is a link, not a file"
    assert set(read) == {f"{name}/{member}" for name in ("a.zip", "w.zip") for member in members}
    assert set(read.values()) == {"mine"}


def test_a_grade_is_kept_only_for_what_was_graded(tmp_path):
    """A part three folders down, a helper, an option: each changes the fingerprint. What cannot be read is no error."""
    part = tmp_path / "work" / "student" / "evaluation" / "planted_scenes.py"
    part.parent.mkdir(parents=True)
    part.write_text("x = 1")
    found = [grade_class.fingerprint(tmp_path, ["--draw=1"]), grade_class.fingerprint(tmp_path, ["--draw=2"])]
    assert grade_class.fingerprint(tmp_path, ["--draw=1"]) == found[0]
    part.write_text("x = 2")
    found.append(grade_class.fingerprint(tmp_path, ["--draw=1"]))
    (tmp_path / "my_helper.py").symlink_to(tmp_path / "no_file")
    found.append(grade_class.fingerprint(tmp_path, ["--draw=1"]))
    with patch.object(Path, "read_bytes", side_effect=PermissionError):
        found.append(grade_class.fingerprint(tmp_path, ["--draw=1"]))
    assert len(set(found)) == 5


def test_a_worker_that_dies_or_never_ends_costs_one_submission():
    """The next one gets a new worker."""
    ended = {"error": "the process that graded it was ended: too little memory, or too long. Grade this one by hand"}
    assert grade_class.apart(os._exit, 1) == ended
    assert grade_class.apart(partial(grade_class.within, 0.5, time.sleep), 60) == ended
    assert grade_class.apart(str, 5) == grade_class.within(30, str, 5) == "5"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in Linux's /proc")
def test_workers_end_with_a_class_that_is_killed():
    """SIGKILL leaves the program no time to end them."""
    code = ("import os, time, grade; from functools import partial\n"
            "if __name__ == '__main__':\n"
            "    print(grade.apart(partial(eval, \"__import__('os').getpid()\"), {}), flush=True); time.sleep(60)")
    environment = {**os.environ, "PYTHONPATH": str(Path(grade_class.__file__).parent)}
    program = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
    worker = int(program.stdout.readline())
    program.kill()
    program.wait()
    for _ in range(100):
        if not is_running(worker):
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("a worker outlived the program that started it")


def is_running(process: int) -> bool:
    """Whether a process is there, and is no zombie that nobody has asked for."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_class_is_resumed(tmp_path, monkeypatch, capfd):
    """With its seed; only what changed is graded again. A folder on which the grader fails does not stop the others."""
    asked, wanted = [], []

    def run(command):
        options = dict(part.lstrip("-").split("=", 1) for part in command if "=" in part)
        asked.append((Path(options["submission"]).name, options["draw"]))
        wanted.extend(part for part in command if part.startswith("--exercise"))
        if asked[-1][0] == "eve":
            print("broken")
            return 3
        if asked[-1][0] == "fay":
            raise MemoryError
        Path(options["grades"]).write_text(json.dumps(graded(4, "passed")))
        return 1

    monkeypatch.setattr(pytest, "main", run)
    monkeypatch.setattr(grade_class, "apart", lambda work, named: work(named))
    for name in ("ada", "bob", "eve", "fay"):
        (tmp_path / "class" / name).mkdir(parents=True)
    options = [str(tmp_path / "class"), "--to", str(tmp_path / "grades.csv")]
    assert grade_class.main(options) == 1
    seed = asked[0][1]
    assert asked == [(name, seed) for name in ("ada", "bob", "eve", "fay")]
    assert (tmp_path / "grades.csv").read_text().count("\n") == 5
    assert (tmp_path / "grades.html").exists()
    (tmp_path / "class" / "bob" / "my_helpers.py").write_text("changed")
    (tmp_path / "grades_each" / "ada.json").write_text("half a grade, of a full dis")
    asked.clear()
    assert grade_class.main(options) == 1
    assert asked == [(name, seed) for name in ("ada", "bob", "eve", "fay")]
    asked.clear()
    assert grade_class.main(options) == 1
    assert asked == [("eve", seed), ("fay", seed)]
    assert grade_class.main([*options, "--draw=5"]) == 1
    assert asked[2:] == [(name, "5") for name in ("ada", "bob", "eve", "fay")]
    said = capfd.readouterr().out
    assert said.count(f"--draw={seed}, isolation: ") == 3
    assert wanted == []
    for week in (["--lesson=01", "--exercise=8.10"], ["--exercise=8.10", "--lesson=1"], ["--exercise=8.10"]):
        asked.clear()
        wanted.clear()
        assert grade_class.main([*options, *week]) == 1
        assert len(asked) == (2 if week[1:] == ["--lesson=1"] else 4)  # the same in another order: two are kept
    assert wanted == ["--exercise=8.10"] * 4
    asked.clear()
    assert grade_class.main([*options, "--exercise=1.99"]) == 1
    assert (asked, capfd.readouterr().err.count("error: there is no exercise 1.99 ")) == ([], 1)
    assert "2 of 4 graded\nnot graded: eve: RuntimeError: pytest ended with status 3 and said: broken\n" in said
    assert grade_class.main([str(tmp_path / "nothing"), "--to", str(tmp_path / "grades.csv")]) == 1
    assert re.fullmatch(r"(.*\n)*error: .*nothing holds no submissions; .*\n", capfd.readouterr().err)
