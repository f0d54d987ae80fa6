"""The grader itself: answers that accidents must not cost, cheats that must not earn, damage that must stay inside."""

from __future__ import annotations

import codecs
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from datetime import datetime
from itertools import cycle
from pathlib import Path
from threading import Timer
from time import monotonic, sleep
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from conftest import assert_tensor, grading
from grader import answerer, report, wire
from grader.box import CONTAINERS, ISOLATIONS, bubblewrap, command, missing
from grader.judge import Box, Lost, NoBox, raise_again, youngest
from grader.submission import LARGEST, answers_in, candidates, decoded, files_of, handed_in, helpers_of, laid
from grader.unusual import unusual
from mutants.cheats import DAMAGE, FORGERIES
from questions import is_question
from test_exercises import GRADED, HOMES, TEXTS, answered, make, mutants, run_grader

# What was handed in


LESSON = "05_gradcam"
SOLVED = TEXTS[LESSON]
EMPTY = make.emptied(SOLVED, LESSON)
OTHER = answered(EMPTY, {"5.1": ["maps = A.sum(dim=1)"]})


def notebook(text: str) -> str:
    """A lesson as .ipynb."""
    return make.notebook(text, LESSON, tests=False)


def hand_in(folder: Path, **files: str | bytes) -> Path:
    """Files by name; a double underscore stands for a dot, three for a slash."""
    for name, content in files.items():
        file = folder / name.replace("___", "/").replace("__", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def test_the_filled_one_of_script_and_notebook_counts(tmp_path):
    folder = hand_in(tmp_path / "a", **{f"{LESSON}__py": EMPTY, f"{LESSON}__ipynb": notebook(SOLVED)})
    found = handed_in(files_of(folder), LESSON)
    assert found.file == f"{LESSON}.ipynb"
    assert answers_in(found.text) == answers_in(SOLVED)
    folder = hand_in(tmp_path / "b", **{f"{LESSON}__py": SOLVED, f"{LESSON}__ipynb": notebook(EMPTY)})
    found = handed_in(files_of(folder), LESSON)
    assert found.file == f"{LESSON}.py"


def test_of_two_filled_ones_the_newer_counts_and_is_named(tmp_path):
    hand_in(tmp_path, **{f"{LESSON}__py": OTHER, f"{LESSON}__ipynb": notebook(SOLVED)})
    for newer, older in ((".py", ".ipynb"), (".ipynb", ".py")):
        os.utime(tmp_path / f"{LESSON}{older}", (1000, 1000))
        os.utime(tmp_path / f"{LESSON}{newer}", (2000, 2000))
        found = handed_in(files_of(tmp_path), LESSON)
        assert found.file == f"{LESSON}{newer}"
        assert "differ; the newer one" in found.notes[0]


@pytest.mark.parametrize(
    "data",
    [
        codecs.BOM_UTF8 + "x = 'é'\n".encode(),
        b"# -*- coding: latin-1 -*-\nx = '\xe9'\n",
        b"x = '\xc3\xa9'\r\n",
        "x = 'é'\n".encode("utf-16"),
        b"# coding: utf-8\rx = '\xc3\xa9'\r",
    ],
)
def test_every_encoding_is_read(data):
    found: dict = {}
    exec(compile(decoded(data), "lesson", "exec"), found)
    assert found["x"] == "é"


@pytest.mark.parametrize("data", [b"x = '\xe9'\n", b"# coding: no-such\nx = 1", b"\xff\xfe\x00"])
def test_what_is_no_text_is_told(data):
    with pytest.raises(ValueError, match="the file is no text in the encoding it names"):
        decoded(data)


@pytest.mark.parametrize(
    "name", ["05_gradcam (1).py", "05_gradcam-2.ipynb", "ada_05_gradcam.py", "student/05_gradcam.py",
             "work/lessons/05_gradcam copy.py", "05_gradcam_final.py", "05_gradcam - Copy (2).py", "5-gradcam.py",
             "05_gradcam - Kopie.py", "05_gradcam_v2_ada.py", "05_gradcam.py.txt", "05_GradCAM-checkpoint.ipynb",
             "05_gradcam.ipynb.json", "homework.py", "Untitled.ipynb"]
)  # fmt: skip
def test_renamed_and_nested_files_are_found_and_named(name, tmp_path):
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(notebook(SOLVED) if "ipynb" in name else SOLVED)
    (tmp_path / "06_guided_backpropagation.py").write_text(TEXTS["06_guided_backpropagation"])
    found = handed_in(files_of(tmp_path), LESSON)
    assert found.notes == (f"found as {name}",)
    laid(zipped(tmp_path / "a.zip", {name: file.read_text()}), tmp_path / "laid")
    assert handed_in(files_of(tmp_path / "laid"), LESSON).file == name
    assert candidates("06_guided_backpropagation", [name]) == []


def test_names_that_only_look_like_a_lesson_are_left(tmp_path):
    names = ["105_gradcam.py", "test_05_gradcam.py", "05_gradcams.py", "gradcam.py", "05_gradcam.md"]
    assert candidates(LESSON, names) == []
    assert candidates("advanced.lrp", ["lrp_rules.py", "lrp (1).py", "lrps.py"]) == ["lrp (1).py"]
    hand_in(tmp_path, my_work__py="x = 1")
    with pytest.raises(ValueError, match=r"05_gradcam\.py is missing \(my_work\.py is there\)"):
        handed_in(files_of(tmp_path), LESSON)


@pytest.mark.parametrize("piece", ["1", " 1", "copy", "(1)", "-_ "])
def test_a_long_name_is_read_at_once(piece):
    begin = monotonic()
    for stem, lesson in (("05_gradcam", LESSON), ("lrp", "advanced.lrp")):
        candidates(lesson, [f"{stem}{piece * 60}x.py"])
    assert monotonic() - begin < 1


def test_what_the_grader_says_about_a_file_cannot_be_written_by_a_student(tmp_path):
    hand_in(tmp_path, **{f"{LESSON}__py__{ending}": "it had full points" for ending in ("unreadable", "0" * 16)})
    assert files_of(tmp_path) == {}


def test_a_pair_of_tensors_is_named(linear):
    """The commonest slip: .max(dim=1) without .values."""
    pair = torch.arange(6.0).reshape(2, 3).max(dim=1)
    sent = wire.unpack(wire.pack(pair, lambda _: 0))
    assert type(sent) is tuple
    for found in (pair, sent):
        with pytest.raises(AssertionError, match=r"got two tensors where one belongs; \.max\(dim=\.\.\.\) returns"):
            assert_tensor(found, torch.tensor([2.0, 5.0]))


def test_more_text_than_the_judge_can_look_through_is_for_a_person():
    """A parsed line takes a kilobyte: two megabytes would take two gigabytes of the judge."""
    for text, helpers in (("a\n" * 200_000, {}), (SOLVED, {"mine": "a\n" * 200_000})):
        assert unusual(text, SOLVED, helpers) == {"": ["more than 300000 characters, which were not looked through"]}


def test_links_are_no_submission(tmp_path):
    (tmp_path / f"{LESSON}.py").symlink_to(make.ROOT / f"{LESSON}.py")
    (tmp_path / "evaluation").symlink_to(make.ROOT / "evaluation")
    assert files_of(tmp_path) == {f"{LESSON}.py": "it is a link, not a file"}
    with pytest.raises(ValueError, match=r"05_gradcam\.py: it is a link"):
        handed_in(files_of(tmp_path), LESSON)


def zipped(file: Path, members: dict[str, str], how: int = zipfile.ZIP_DEFLATED) -> Path:
    """A .zip; the first member is the newest."""
    with zipfile.ZipFile(file, "w", how) as package:
        for i, (name, text) in enumerate(members.items()):
            package.writestr(zipfile.ZipInfo(name, (max(1990, 2024 - i), 5, 6, 7, 8, 10)), text, how)
    return file


def test_of_two_filled_ones_in_a_zip_the_newer_counts(tmp_path):
    """By the dates in the archive: an old draft that is stored after the finished notebook."""
    new = tmp_path / "new"
    laid(zipped(tmp_path / "a.zip", {f"{LESSON}.ipynb": notebook(SOLVED), f"{LESSON}.py": OTHER}), new)
    found = handed_in(files_of(new), LESSON)
    assert found.file == f"{LESSON}.ipynb"
    assert datetime.fromtimestamp((new / found.file).stat().st_mtime) == datetime(2024, 5, 6, 7, 8, 10)


def test_one_damaged_member_of_an_archive_costs_that_lesson(tmp_path):
    texts = {f"{name}.py": TEXTS[name] for name in (LESSON, "06_guided_backpropagation")}
    archive = zipped(tmp_path / "a.zip", texts)
    data = bytearray(archive.read_bytes())
    data[300:320] = bytes(20)
    archive.write_bytes(data)
    laid(archive, tmp_path / "new")
    files = files_of(tmp_path / "new")
    assert handed_in(files, "06_guided_backpropagation").text == TEXTS["06_guided_backpropagation"]
    with pytest.raises(ValueError, match=rf"^{LESSON}\.py: it cannot be unpacked \((error|BadZipFile|EOFError)\)$"):
        handed_in(files, LESSON)


@pytest.mark.parametrize(
    ("what", "reason"),
    [("no archive", r"is missing \(a\.zip: it cannot be opened \(BadZipFile\)\)"), ("encrypted", "it is encrypted"),
     ("bz2", "compressed in a way that is not read here"), ("too much", r"is missing \(a\.zip: it holds too much\)"),
     ("archive in it", r"is missing \(a\.zip/b\.7z: it is an archive, and was not opened\)"),
     ("rar", r"is missing \(a\.rar: it is an archive, and was not opened\)"),
     ("large notebook", r"05_gradcam\.ipynb: it is larger than 20 MB")],
)  # fmt: skip
def test_what_is_not_read_is_named(what, reason, tmp_path):
    """Also beside a lesson that is still empty."""
    ada, file = tmp_path / "ada", tmp_path / "ada" / "a.zip"
    ada.mkdir()
    if what == "no archive":
        file.write_bytes(b"<html>Please log in</html>")
    elif what == "encrypted":
        data = bytearray(zipped(file, {f"{LESSON}.py": SOLVED}).read_bytes())
        data[6] = data[data.rindex(b"PK\1\2") + 8] = 1                 # the flag, in both headers
        file.write_bytes(data)
    elif what == "bz2":
        zipped(file, {f"{LESSON}.py": SOLVED}, zipfile.ZIP_BZIP2)
    elif what == "too much":
        zipped(file, {f"{i}.py": "" for i in range(2001)} | {f"{LESSON}.py": SOLVED})
    elif what == "archive in it":
        zipped(file, {"b.7z": "x"})
    elif what == "rar":
        (ada / "a.rar").write_bytes(b"Rar!")
    else:
        (ada / f"{LESSON}.ipynb").write_bytes(b" " * (LARGEST + 1))
        (ada / f"{LESSON}.py").write_text(EMPTY)
    laid(ada, tmp_path / "new")
    with pytest.raises(ValueError, match=reason):
        handed_in(files_of(tmp_path / "new"), LESSON)


def test_a_bomb_does_not_unfold(tmp_path):
    """A member that says it has ten bytes and has 300 MB."""
    file = zipped(tmp_path / "a.zip", {f"{LESSON}.py": "0" * (300 << 20)})
    file.write_bytes(file.read_bytes().replace(struct.pack("<I", 300 << 20), struct.pack("<I", 10)))
    tracemalloc.start()
    laid(file, tmp_path / "new")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "cannot be unpacked" in files_of(tmp_path / "new")[f"{LESSON}.py"]
    assert most < 10 << 20


@pytest.mark.parametrize(
    "name", ["05_GradCAM.py", "05_gradcam.PY", "course/05_gradcam.py", "exercises/work/05_gradcam.IPYNB",
             "data/tests/05_gradcam.py"]
)  # fmt: skip
def test_lessons_are_found_without_case_and_in_folders_called_like_the_courses(name, tmp_path):
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(notebook(SOLVED) if name.endswith("IPYNB") else SOLVED)
    for own in ("course/paths.py", "tests/test_05_gradcam.py", "outputs/x.py"):
        (file.parent / own).parent.mkdir(parents=True, exist_ok=True)
        (file.parent / own).write_text("no = 1")
    files = files_of(tmp_path)
    assert list(files) == [name]
    assert answers_in(handed_in(files, LESSON).text) == answers_in(SOLVED)


def test_gaps_are_read_in_one_go():
    """However many beginnings have no end."""
    assert answers_in("# EXERCISE 5.1\nx = 1\n" * 10**5) == "\n".join(["x = 1"] * 10**5)


def test_helper_modules_come_along(tmp_path):
    helpers = {"mine__py": "y = 5", "sub___more__py": "z = 6", "utils__py": "no = 1"}
    hand_in(tmp_path, **{f"{LESSON}__py": SOLVED}, **helpers)
    room = make.ROOT / "evaluation"
    for file in room.glob("*.py"):                                     # what the course has there is no student's
        hand_in(tmp_path, **{f"evaluation___{file.stem}__py": file.read_bytes() + b"#" * (file.stem == "study")})
    study = (room / "study.py").read_text(encoding="utf-8") + "#"
    assert helpers_of(files_of(tmp_path)) == {"mine": "y = 5", "more": "z = 6", "study": study}


# Accidents: each befalls a lesson that is solved, and costs none of its points


def with_more(text: str, *statements: str) -> str:
    """A lesson with these statements after its imports."""
    head, begin, rest = text.partition("\ndef ")
    return "\n".join([head, *statements, begin + rest])


def saved(text: str, lesson: str) -> bytes:
    """A notebook as nbgrader hands it out, with test cells, solved."""
    return make.notebook(make.for_nbgrader(text, lesson), lesson, tests=True).encode()


def timed(book: str) -> bytes:
    """A notebook with %%time above each cell that holds a solution."""
    cells = json.loads(book)
    for cell in cells["cells"]:
        if cell["cell_type"] == "code" and "BEGIN SOLUTION" in "".join(cell["source"]):
            cell["source"] = ["%%time\n", *cell["source"]]
    return json.dumps(cells).encode()


DISTANCES = [
    "import numpy as np, scipy.ndimage",
    "y, x = np.unravel_index(map.argmax().item(), map.shape)",
    "return (scipy.ndimage.distance_transform_edt(~mask.numpy()) <= tolerance)[y, x]",
]
ZIPPED = [
    "classes = (target, other)",
    "lines = [guided_backpropagation(model, images, c) for c in classes]",
    "places = [grad_cam(model, images, c, layer=layer)[:, None] for c in classes]",
    "return [a * b for a, b in zip(lines[::-1], places, strict=True)]",
]
LOCKED = ["import threading", "with threading.RLock():", "    p, q = (m / m.sum((1, 2), keepdim=True).clamp(min=1e-30) "
          "for m in (first, second))", "    return p - q"]  # fmt: skip

ACCIDENTS = {  # lesson -> what happened, the files that were handed in
    "01_vanilla_gradient_saliency": ("byte order mark, CRLF", lambda name, text: {
        f"{name}.py": codecs.BOM_UTF8 + text.replace("\n", "\r\n").encode()}),
    "02_gradient_input_saliency": ("a coding cookie", lambda name, text: {
        f"{name}.py": ("# -*- coding: latin-1 -*-\n# f\xfcr\n" + text).encode("latin-1", "replace")}),
    "03_smoothgrad": ("UTF-16", lambda name, text: {f"{name}.py": text.encode("utf-16")}),
    "04_integrated_gradients": ("statements at the top that fail", lambda name, text: {
        f"{name}.py": with_more(text, "1 / 0", "from google.colab import drive", "drive.mount('/content')",
                                "plt.savefig('outputs/mine.png')", "torch.randn(2, 3) @ torch.randn(2, 3)").encode()}),
    "05_gradcam": ("solved notebook beside the untouched script", lambda name, text: {
        f"{name}.py": make.emptied(text, name).encode(), f"{name}.ipynb": make.notebook(text, name, False).encode()}),
    "06_guided_backpropagation": ("a browser's name", lambda name, text: {f"{name} (1).py": text.encode()}),
    "07_guided_gradcam": ("zip, a lock, a sleep of 12 s, a drawn figure", lambda name, text: {
        f"{name}.py": with_more(answered(text, {"7.2": LOCKED, "7.3": ZIPPED}), "import time; time.sleep(12)",
                                "import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()").encode()}),
    "08_comparative_analysis": ("folders in folders", lambda name, text: {f"work/student/{name}.py": text.encode()}),
    "09_advanced_techniques": ("a notebook of a forge", lambda name, text: {f"{name}.ipynb": saved(text, name)}),
    "evaluation.planted_scenes": ("a distance transform: NumPy's own True", lambda name, text: {
        "evaluation/planted_scenes.py": answered(text, {"8.3": DISTANCES}).encode()}),
    "evaluation.sensitivity": ("a notebook in the room's folder", lambda name, text: {
        "evaluation/sensitivity.ipynb": saved(text, name)}),
    "evaluation.is_it_chance": ("a helper module of the student's own", lambda name, text: {
        "evaluation/is_it_chance.py": with_more(text, "from my_numbers import NEEDED").encode(),
        "my_numbers.py": b"NEEDED = 10\n"}),
    "advanced.lrp": ("lines of a shell, and a cell that is timed", lambda name, text: {
        f"{name}.ipynb": timed(make.notebook(f"# %%\n# !pip install captum\n# %cd /content\n\n{text}", name, False))}),
}  # fmt: skip


@pytest.mark.grading
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_accidents_cost_nothing(tmp_path):
    folder = tmp_path / "ada"
    for name, text in TEXTS.items():
        _, files = ACCIDENTS.get(name, ("", lambda name, text: {f"{name.replace('.', '/')}.py": text.encode()}))
        for path, data in files(name, text).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
    status, grades, printed = run_grader(folder, tmp_path / "grades.json")
    lost = {number: (ACCIDENTS.get(HOMES[number], ("",))[0], grade) for number, grade in grades.items()
            if grade["score"] != GRADED[number]}  # fmt: skip
    assert lost == {}, printed
    assert set(grades) == set(GRADED)
    assert status == 0
    for name in ("06_guided_backpropagation (1).py", "work/student/08_comparative_analysis.py"):
        assert f"found as {name}" in printed


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_what_cannot_be_judged_is_for_a_person_to_look_at(tmp_path):
    """No Python, no text, a missing file, a statement that others need, no number: with the reason."""
    broken = {
        "01_vanilla_gradient_saliency": TEXTS["01_vanilla_gradient_saliency"] + "\nreturn (\n",
        "02_gradient_input_saliency": b"\xff\xfe\x00",
        "04_integrated_gradients": with_more(TEXTS["04_integrated_gradients"], "import a_module_of_mine", "del np"),
        LESSON: re.sub(r"ANSWER_5_8 = .*", "ANSWER_5_8 = about 14", SOLVED),
    }
    for name, content in broken.items():
        hand_in(tmp_path / "ada", **{f"{name}__py": content})
    exercises = [f"--exercise={number}" for number in ("1.1", "2.1", "3.1", "4.1", "5.8")]
    status, grades, printed = run_grader(tmp_path / "ada", tmp_path / "grades.json", *exercises)
    assert status == 1
    assert {grade["result"] for grade in grades.values()} == {"needs a look"}, printed
    reasons = {"1.1": r"line \d+ of the lesson did not run \(SyntaxError",
               "2.1": r"02_gradient_input_saliency\.py: the file is no text", "3.1": r"03_smoothgrad\.py is missing",
               "4.1": r"line \d+ of the lesson did not run \(ModuleNotFoundError",
               "5.8": "ANSWER_5_8 is neither a letter nor a number"}  # fmt: skip
    for number, reason in reasons.items():
        assert re.match(reason, grades[number]["output"]), grades[number]
    more = json.loads((tmp_path / "grades.json").read_text())["extra_data"]
    assert more["isolation"] == ("bubblewrap" if bubblewrap() else "none")


# Plain data


VALUES = [
    None, True, -3, 2.5, float("inf"), "text", [1, (2.0, [None])], {"a": [1], 2: "b"}, torch.arange(6.0).reshape(2, 3),
    torch.ones(2, 3).t(), torch.zeros(0, 4), torch.tensor(3), torch.ones(2, dtype=torch.bfloat16), torch.tensor([True]),
    torch.ones(1, 4)[:, :1].expand(3, 1), np.float64(2.5), np.arange(4, dtype=np.int32), np.bool_(True),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__}")
def test_plain_data_comes_back_as_it_was(value):
    found = wire.unpack(wire.pack(value, lambda _thing: 0))
    assert type(found) is type(value)
    if isinstance(value, torch.Tensor):
        assert found.dtype == value.dtype
        assert torch.equal(found, value)
    elif isinstance(value, np.ndarray):
        np.testing.assert_array_equal(found, value)
    else:
        assert found == value


def test_what_is_not_plain_stays_there():
    class Lying(float):
        def __eq__(self, _other):
            return True

        __hash__ = None

    things = [Lying(0), torch.nn.Linear(1, 1), torch.ones(2).to_sparse()]
    found = wire.unpack(wire.pack(things, lambda _thing: 7))
    assert [type(item) for item in found] == [wire.Handle] * 3
    assert [item.kind for item in found] == ["Lying", "Linear", "Tensor"]


@pytest.mark.parametrize(
    "data", [b"", b"x" * 20, struct.pack(">Q", 1 << 40), struct.pack(">Q", 2) + b"[]",
             struct.pack(">Q", 30) + b'[["tensor","os",[2],0,1],[0]] ',
             struct.pack(">Q", 27) + b'[["object","x",[],0],[0]]  ']
)  # fmt: skip
def test_nonsense_is_no_answer(data):
    with pytest.raises(wire.Nonsense):
        wire.unpack(data)


# What a student reads


@pytest.mark.parametrize(
    ("actual", "said"),
    [([1.0, 2.0, 6.0], r"1 of 3 values are off, by 2 at most, at place \(2,\); the right ones go up to 4"),
     ([0.5, 1.0, 2.0], r"3 of 3 .*; all of yours are 0.5 times as large as they should be"),
     ([0.0, 0.0, 0.0], r"3 of 3 .*; all of yours are 0"),
     ([1.0, -2.0, 4.0], r"1 of 3 .*; only signs are wrong"),
     ([1.0, float("nan"), 4.0], r"1 of 3 values are NaN"),
     ([[1.0, 2.0, 4.0]], r"the shape is \(1, 3\), not \(3,\)"),
     ([1, 2, 4], r"the dtype is torch.int64, not torch.float32")],
)  # fmt: skip
def test_an_error_is_told_with_its_size_and_place(actual, said):
    with pytest.raises(AssertionError, match=said):
        assert_tensor(torch.tensor(actual), torch.tensor([1.0, 2.0, 4.0]))


@pytest.mark.parametrize(
    ("dtype", "error", "near", "said"),
    [(torch.float64, [3e-6, 0, -6e-6], {}, "2 of 3 values are off, by 6e-06 at most, at place (2,); the right ones"),
     (torch.float64, [0, 1e-8, 4e-7], {}, "1 of 3 values are off, by 4e-07 at most, at place (2,); the right ones"),
     (torch.float32, [2e-5, 0, 8e-6], {"rtol": 1e-5, "atol": 0}, "1 of 3 values are off, by 2e-05 at most, at"),
     (torch.float64, [0, 5e-6, 2e-6], {"rtol": 0, "atol": 3e-6}, "1 of 3 values are off, by 5e-06 at most, at")],
)  # fmt: skip
def test_as_many_values_are_off_as_the_comparison_refuses(dtype, error, near, said):
    """Small errors of small values as well: "0 of 3 values are off" is no reason to fail."""
    expected = torch.tensor([0.1, 0.2, 1.0], dtype=dtype)
    with pytest.raises(AssertionError) as failed:
        assert_tensor(expected + torch.tensor(error, dtype=dtype), expected, **near)
    assert said in str(failed.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [("Tensor-likes are not close!\n\nMismatched elements: 3 / 4 (75.0%)\nGreatest absolute difference: 2.5 at index "
      "(0, 1) (up to 1e-05 allowed)\n", "3 of 4 values are off, by 2.5 at most, at place (0, 1)"),
     ("Not equal to tolerance rtol=1e-07, atol=0\n\nMismatched elements: 2 / 5 (40%)\nMismatch at indices:\n [0]: 0.25 "
      "(ACTUAL), 0.125 (DESIRED)\n [4]: 0.25 (ACTUAL), 0.125 (DESIRED)\nMax absolute difference among violations: "
      "0.125\nMax relative difference among violations: 1.\n", "2 of 5 values are off, by 0.125 at most"),
     ("Not equal to tolerance rtol=1e-07, atol=0\n\n(shapes (5,), (4,) mismatch)\n ACTUAL: array([0. , 0.25, 0.5 ]) "
      "DESIRED: array([0. , 0.25, 0.5 , 0.75])", "the shape is (5,), not (4,)"),
     ("assert 0.2 == 0.125 ± 1.2e-07\n  comparison failed", "got 0.2, which is off by 0.075"),
     ("Scalars are not close!\n\nExpected 1.5 but got 2.0.\n", "got 2.0, which is off by 0.5"),
     ("assert [1, 2] == [2, 1]\n  At index 0", "got [1, 2], which is not right"),
     ("DID NOT RAISE <class 'ValueError'>", "no ValueError was raised, but should be"),
     ("Regex pattern did not match.\n  Expected", "the right kind of error was raised, but its text does not name"),
     ("the images were modified\nassert False", "the images were modified"),
     ("\x1b[31mred\x1b[0m in /home/ada/x.py", "red in ..."), ("a\x9b1mb\u202ec\udc80 \x07d", "ab c d"),
     ("cannot import name 'x' from 'torch' (/home/ada/.venv/lib/torch/__init__.py)", "cannot import name 'x' from "
      "'torch' (...)"), ("No such file: '/home/ada/My Course/05.py'", "No such file: '...'"),
     ("evaluation/sanity_checks.py and a/b/c.py", "evaluation/sanity_checks.py and a/b/c.py")],
)  # fmt: skip
def test_a_reason_is_a_sentence_without_the_right_value(text, said):
    told = report.plainly(text)
    assert told.startswith(said)
    assert "DESIRED" not in told


def test_what_goes_out_can_be_printed_and_names_no_path():
    """Whoever wrote it: notes, reasons, and reports for pytest's own outputs. An exception's text is short."""
    config = SimpleNamespace(stash={grading.RESULTS: {}})
    told: list = []
    hook = SimpleNamespace(**{f"pytest_runtest_log{what}": lambda **given: told.append(given)
                              for what in ("start", "report", "finish")})  # fmt: skip
    item = SimpleNamespace(ihook=hook, nodeid="a", location=("a", 1, "a"))
    grading.tell(config, item, grading.broken(item, report.Outcome("error", "\x1b[31m(1) /home/ada/x.py: no text")))
    assert config.stash[grading.RESULTS]["a"][1].reason == "(1) ...: no text"
    assert [given["report"].longrepr for given in told if "report" in given] == ["(1) ...: no text", None]
    failed = report.where_handed_in([[3, ["\x1b[31mMine"], "from '/home/ada/torch': " + "x" * 1000]], "abc", "abc")
    crash = SimpleNamespace(longrepr="NameError: x", outcome="failed", sections=[])
    reason = grading.judged("5.1", [crash], failed).reason
    assert reason.startswith("line 3 of the lesson did not run (Mine: from '...': xxx")
    assert len(reason) < 200
    for names, longest in ((["ValueError"], 300), (["AssertionError"], report.SHORT), ([], 350)):
        with pytest.raises(Exception, match="xxx") as error:
            raise_again(names, "x" * 10**4)
        assert len(str(error.value)) <= longest
    unjudged = SimpleNamespace(longrepr=("x.py", 3, "Skipped: nobody knows"), outcome="skipped", sections=[])
    assert grading.judged("1.7", [unjudged], []) == report.Outcome("unjudged", "nobody knows")
    for said, kind in (("NotImplementedError", "gap"), ("NotImplementedError: 5.1", "gap"), ("KeyError", "wrong"),
                       ("NotImplementedError: 5.2", "wrong"), ("NotImplementedErrors", "wrong")):  # fmt: skip
        crash.longrepr = said
        assert grading.judged("5.1", [crash], []).kind == kind, said
    crash.longrepr = "ValueError: " + "x" * 300
    assert len(grading.judged("5.1", [crash], []).reason) <= report.SHORT + len("ValueError: ")


def test_no_statement_of_a_lesson_finds_the_others_text(monkeypatch):
    """Neither the text nor a tree of it is in its callers' variables."""
    for name, value in (("signal", MagicMock()), ("KEPT", [])):        # the alarm is pytest's here
        monkeypatch.setattr(answerer, name, value)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.setattr(sys, "modules", {**sys.modules})
    spy = ["import sys", "frame, SEEN = sys._getframe(), ''",
           "while frame.f_code.co_name != 'answer': SEEN, frame = SEEN + repr(frame.f_locals), frame.f_back",
           "SEEN += repr(frame.f_locals)"]
    request = {"do": "load", "name": "05_gradcam", "helpers": {}}
    lines = ["def solution(): return 1  # the " + "reference", *spy, "return 3", "1 / 0"]
    found = answerer.answer({**request, "source": "\n".join(lines)})
    assert [(line, names[0]) for line, names, _ in found["failed"]] == [(6, "SyntaxError"), (7, "ZeroDivisionError")]
    seen = answerer.KEPT[0].SEEN
    assert "05_gradcam" in seen
    assert "the " + "reference" not in seen
    assert "ast." not in seen


# A busy machine


@pytest.mark.parametrize("starved", [True, False])
def test_time_that_was_spent_waiting_for_a_processor_does_not_count(starved, tmp_path, monkeypatch):
    """An answer that comes after twice the time limit; without such waiting, none that comes in time."""
    waits = iter([0.0] + [0.2 * starved] * 9)
    monkeypatch.setattr(wire, "waited", lambda _process: next(waits))
    receive, send = os.pipe()
    box = Box(tmp_path, "none", seconds=0.1)
    monkeypatch.setattr(box, "stop", lambda: None)
    monkeypatch.setattr(box, "send", lambda data: asked.append(pickle.loads(data)))
    asked: list = []
    with os.fdopen(receive, "rb") as stdout:
        box.process = SimpleNamespace(stdout=stdout)
        later = Timer(0.2, lambda: wire.write_all(send, wire.pack({"number": asked[0][0], "result": 5}, lambda _: 0)))
        if starved:
            later.start()
            assert box.ask(do="calm")["result"] == 5
            later.join()
        else:
            with pytest.raises(Lost, match=r"took longer than 0\.1 seconds"):
                box.ask(do="calm")
    os.close(send)


@pytest.mark.parametrize(
    ("said", "reason"), [(b"ready 1", "ended the process"), (b"well done", "wrote into the grader's channel")]
)
def test_an_exercise_that_ends_its_process_is_told_from_one_that_forges(said, reason, tmp_path, monkeypatch):
    """When the exercise's process is gone, the one above it says that it is ready for the next."""
    receive, send = os.pipe()
    box = Box(tmp_path, "none")
    monkeypatch.setattr(box, "stop", lambda: None)
    monkeypatch.setattr(box, "send", lambda _data: wire.write_all(send, said))
    with os.fdopen(receive, "rb") as stdout:
        box.process = SimpleNamespace(stdout=stdout)
        with pytest.raises(Lost, match=reason):
            box.ask(do="calm")
    os.close(send)


@pytest.mark.parametrize(("isolation", "followed"), [("none", 7), ("docker", 0), ("podman", 0)])
def test_a_containers_process_cannot_be_followed(isolation, followed, tmp_path, monkeypatch):
    """It is no descendant of the engine's client, whose waiting says nothing; then the crowd of the machine counts."""
    monkeypatch.setattr("grader.judge.youngest", lambda _process: 7)
    box = Box(tmp_path, isolation)
    box.process, box.lesson = SimpleNamespace(pid=5), "05_gradcam"
    monkeypatch.setattr(box, "send", lambda _data: None)
    monkeypatch.setattr(box, "ask", lambda _seconds, **_request: {"failed": []})
    box.load("05_gradcam", "", {})
    assert box.answering == followed


@pytest.mark.skipif(wire.waited("self") is None, reason="this system does not tell for how long a process waited")
def test_the_youngest_descendant_is_found():
    assert wire.waited("self") >= 0
    assert wire.waited(0) is None
    with subprocess.Popen(["sh", "-c", "sleep 60 & wait"]) as shell:
        try:
            sleep(1)
            child = youngest(shell.pid)
            assert child not in (0, shell.pid)
            assert Path(f"/proc/{child}/comm").read_text() == "sleep\n"
            os.kill(child, 9)
        finally:
            shell.kill()


# The environment


@pytest.mark.grading
@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("isolation", ["auto", "none"])
def test_packages_of_another_environment_are_found(isolation, tmp_path):
    """An environment that takes its packages from elsewhere: a path file, a user's own folder, the system's."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    (site,) = (tmp_path / "env").glob("lib/python*/site-packages")
    elsewhere = Path(pytest.__file__).parent.parent
    (site / "elsewhere.pth").write_text(f"{elsewhere}\n")
    folder = hand_in(tmp_path / "ada", **{f"{LESSON}__py": SOLVED})
    report = tmp_path / "grades.json"
    python, tests = tmp_path / "env" / "bin" / "python", make.ROOT / "tests"
    command = [python, "-m", "pytest", tests, f"--submission={folder}", f"--grades={report}", "--exercise=5.2",
               f"--isolation={isolation}", "-p", "no:cacheprovider"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(report.read_text())["score"] == GRADED["5.2"]


# Containers


FAKE = """#!/bin/bash
# Says what it was asked, and runs the answering process without any container
echo "$@" >> {log}
[ "$1" = kill ] || [ "$1" = image ] && exit
for word; do case $word in --volume=*:/course:ro) root=${{word#--volume=}}; root=${{root%:/course:ro}};; esac; done
exec env -u BOXED {python} "$root/answerer.py" "$root"
"""


def test_a_container_has_no_network_no_rights_and_nothing_to_write(tmp_path):
    for engine in CONTAINERS:
        line = command(tmp_path, engine, "a-name")
        assert line[:2] == [engine, "run"]
        assert {"--rm", "--network=none", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges",
                "--ipc=none", "--name=a-name", f"--volume={tmp_path}:/course:ro"} <= set(line)  # fmt: skip
        assert all(word.endswith(":ro") for word in line if word.startswith("--volume="))
        assert not any(str(make.ROOT) in word for word in line if not word.startswith(f"--volume={make.ROOT}/data"))
        assert line[-4:] == ["saliency-course", "python", "/course/answerer.py", "/course"]


@pytest.mark.parametrize(
    ("engine", "user", "kept"), [("podman", 1000, True), ("podman", 0, False), ("docker", 1000, False)]
)
def test_the_user_of_podman_stays_who_it_is(engine, user, kept, tmp_path, monkeypatch):
    """Otherwise the folder of the course could not be read; root needs no such thing, and Podman refuses it."""
    monkeypatch.setattr(os, "getuid", lambda: user)
    line = command(tmp_path, engine, "a-name")
    assert ("--userns=keep-id" in line) == kept
    assert any(word.startswith(f"--user={user}:") for word in line)


def test_an_isolation_that_cannot_be_had_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert missing("docker") == "--isolation=docker needs the program docker, which is not installed"
    assert missing("none") is None
    (tmp_path / "docker").write_text("#!/bin/sh\necho 'No such' >&2\necho image >&2\nexit 1\n")
    (tmp_path / "docker").chmod(0o755)
    assert missing("docker") == ("--isolation=docker cannot have the image saliency-course (No such image); "
                                 "exercises/forges/Dockerfile says how to build it")  # fmt: skip


@pytest.mark.grading
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_grading_asks_the_container_and_ends_it(tmp_path, monkeypatch):
    """With a program named docker that is none: what it is told, and that the answers come from it."""
    log, programs = tmp_path / "log", tmp_path / "bin"
    programs.mkdir()
    (programs / "docker").write_text(FAKE.format(log=log, python=sys.executable))
    (programs / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("SALIENCY_IMAGE", "mine:3")
    folder = hand_in(tmp_path / "ada", **{f"{LESSON}__py": SOLVED})
    status, grades, printed = run_grader(folder, tmp_path / "grades.json", "--exercise=5.2", "--isolation=docker")
    assert status == 0, printed
    assert grades["5.2"]["result"] == "passed"
    asked = log.read_text().splitlines()
    assert asked[0] == "image inspect mine:3"
    assert " mine:3 python /course/answerer.py /course" in asked[1]
    name = re.search(r"--name=(\S+)", asked[1])[1]
    assert asked[2:] == [f"kill {name}"]
    box = Box(tmp_path, "docker")
    names = []
    for _ in range(2):
        with pytest.raises(NoBox, match=r"can't open file '.*answerer\.py'"):
            box.start()
        names.append(box.name)
        box.stop()
    assert len(set(names)) == 2                                        # Docker removes the first one later
    (programs / "docker").write_text('#!/bin/sh\n[ "$1" = image ] && exit\necho permission denied >&2\nexit 125\n')
    status, grades, printed = run_grader(folder, tmp_path / "none.json", "--exercise=5.2", "--isolation=docker")
    assert (status, grades) == (3, {})
    assert "the process that runs students' code does not start with --isolation=docker: permission denied" in printed


# Cheats and damage: tests/mutants/cheats.py


PLAIN = {  # wrong, endless or too large, but with nothing that an answer could not have
    "own assertion", "endless generator", "memory", "a huge answer", "a deep answer", "no end", "no end that catches",
    "threads without end", "recursion", "an error of ten megabytes", "a flood of words",
}  # fmt: skip


def test_cheats_are_flagged():
    """In an answer, at the top of a lesson, and in a helper module."""
    for name, code in (FORGERIES | DAMAGE).items():
        flagged = unusual(answered(SOLVED, {"5.1": code.split("\n")}), SOLVED, {})
        assert set(flagged) == (set() if name in PLAIN else {"5.1"}), (name, flagged)
    top = with_more(SOLVED, "import os", "os.kill(1, 9)")
    assert unusual(top, SOLVED, {}) == {"": ["import os", "os.kill"]}
    assert unusual(SOLVED, SOLVED, {"mine": "from conftest import assert_tensor"}) == {"": ["import conftest"]}


@pytest.mark.parametrize(
    "code",
    ["torch.os.system('id')", "torch.sys.modules['__main__']", "getattr(f, '__co' 'de__')", "getattr(f, name)",
     "getattr(torch, 'os')", "g = getattr", "PIL.Image.open('x')", "pandas.read_csv('x')", "pandas.read_pickle('x')",
     "torch.from_file('x')", "from scipy.io import loadmat", "import scipy.io", "from torch import os", "torch.hub.x",
     "operator.attrgetter(a)(f)", "'{0.__globals__}'.format(f)", "torch.nn.functional.relu = f", "table.to_pickle('x')",
     "(i for i in x).gi_frame"],
)  # fmt: skip
def test_ways_to_files_and_into_the_interpreter_are_flagged(code):
    assert set(unusual(answered(SOLVED, {"5.1": [code]}), SOLVED, {})) == {"5.1"}
    assert set(unusual(with_more(answered(SOLVED, {"5.2": ["("]}), code), SOLVED, {})) == {""}


@pytest.mark.parametrize(
    "code", ["getattr(layer, 'inplace', False)", "x.select(0, 1)", "x.to_sparse()", "np.random.rand()", "x.copy()",
             "torch.compile(f)", "scipy.signal.convolve(x, y)", "model.load_state_dict(state)", "np.array(x.chunk(2))",
             "'the __init__ method'", "print(torch.__version__)"],
)  # fmt: skip
def test_what_answers_may_well_use_is_not_flagged(code):
    assert unusual(answered(SOLVED, {"5.1": [code]}), SOLVED, {}) == {}


def test_right_answers_are_not_flagged():
    """The reference's, and all other right ones that are known; a module of the student's own is no stranger."""
    for text in TEXTS.values():
        assert unusual(text, text, {}) == {}
    for mutant in mutants.load_mutants([]):
        if mutant.right:
            text = TEXTS[HOMES[mutant.exercise]]
            assert unusual(mutants.mutated(text, mutant), text, {}) == {}, mutant.name
    assert unusual(with_more(SOLVED, "import my_numbers"), SOLVED, {"my_numbers": "N = 1"}) == {}


@pytest.mark.grading
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_pasted_answers_fail():
    """What is right with one seed of the inputs is wrong with another; with its own seed it passes."""
    program = make.ROOT / "tests" / "mutants" / "replay.py"
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False)
    table = json.loads(done.stdout)
    assert [test for test, (*_, other, kind) in table.items() if other and kind == "value"] == []
    assert done.returncode == 0
    assert [test for test, (noted, *_) in table.items() if not noted] == []
    assert sum(same for _, same, *_ in table.values()) > 0.8 * len(table)
    assert [test for test, (*_, other, kind) in table.items() if kind == "prediction" and not other] == []


def folder_with(answers: dict[str, list[str]], folder: Path) -> Path:
    """The reference with other answers to some exercises."""
    for name, text in TEXTS.items():
        file = folder / f"{name.replace('.', '/')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(answered(text, answers), encoding="utf-8")
    return folder


def spread(cheats: dict[str, str]) -> list[dict[str, tuple[str, str]]]:
    """Rounds of exercise -> (name, code), no exercise twice in a round, and one in two left to the reference."""
    code = [number for number, name in HOMES.items() if not is_question(TEXTS[name], number)]
    numbers, rounds = code[::2], [{}]
    for (name, code), number in zip(cheats.items(), cycle(numbers), strict=False):
        if number in rounds[-1]:
            rounds.append({})
        rounds[-1][number] = (name, code)
    return rounds


@pytest.mark.extended
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("isolation", ISOLATIONS)
@pytest.mark.parametrize("tried", [FORGERIES, DAMAGE], ids=["forgeries", "damage"])
def test_cheats_earn_nothing_and_harm_nobody(tried, isolation, tmp_path):
    """Each costs its exercise; every other exercise keeps its points; nothing outside changes."""
    if isolation == "none" and tried is DAMAGE:
        pytest.skip("without a box it would be done")
    if reason := missing(isolation):
        pytest.skip(reason)
    if isolation == "none":
        tried = {name: code for name, code in tried.items() if "os.kill" not in code and "os.write" not in code}
    outside, kept = tmp_path / "outside", tmp_path / "grades_each" / "ada.json"
    kept.parent.mkdir()
    kept.write_text("ada's grade")
    for i, chosen in enumerate(spread(tried)):
        places = {"COURSE": str(make.ROOT), "OUTSIDE": str(outside), "KEPT": str(kept), "FOLDER": str(kept.parent)}
        codes = {number: code for number, (_, code) in chosen.items()}
        for word, path in places.items():
            codes = {number: code.replace(word, path) for number, code in codes.items()}
        folder = folder_with({number: code.split("\n") for number, code in codes.items()}, tmp_path / f"class{i}")
        _, grades, printed = run_grader(folder, tmp_path / f"{i}.json", "--time-limit=5", f"--isolation={isolation}")
        assert set(grades) == set(GRADED), printed
        for number, grade in grades.items():
            if number in chosen:
                assert grade["score"] == 0, (chosen[number][0], grade)
                assert grade["result"] == "needs a look" or chosen[number][0] in PLAIN, (chosen[number][0], grade)
            else:
                assert grade["score"] == GRADED[number], (number, grade)
        assert str(make.ROOT) not in json.dumps(grades)
    assert not outside.exists()
    assert kept.read_text() == "ada's grade"


@pytest.mark.slow
def test_an_exercise_without_tests_is_told(tmp_path):
    """2.6 is for a discussion."""
    folder = hand_in(tmp_path / "ada", **{f"{LESSON}__py": SOLVED})
    status, grades, printed = run_grader(folder, tmp_path / "grades.json", "--exercise=2.6", "--exercise=5.2")
    assert (status, grades) == (4, {})
    assert "in exercise 2.6 there is nothing to hand in, so there is no test" in printed
