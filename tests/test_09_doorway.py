"""The doorway of lesson 09: it hands out the methods, and hands over to its parts and programs."""

import sys

import pytest
from conftest import run_script

from course import parts
from utils import PROJECT_ROOT, import_lesson


def test_the_doorway_hands_out_what_the_contract_names():
    lesson = import_lesson("09_advanced_techniques")
    for name in ("lrp", "attention_rollout"):
        function = getattr(lesson, name)
        assert (function.__module__, function.__qualname__) == (f"advanced.{name}", name)


def test_every_part_has_its_file_and_its_page():
    lesson = import_lesson("09_advanced_techniques")
    text = (PROJECT_ROOT / "09_advanced_techniques.py").read_text(encoding="utf-8")
    files = {file.stem for file in (PROJECT_ROOT / "advanced").glob("*.py")} - {"__init__"}
    assert set(lesson.PARTS) == files
    for part in files:
        assert f"`python 09_advanced_techniques.py {part}" in text


@pytest.fixture
def ran(monkeypatch) -> list:
    """What would be run as a program, with its arguments."""
    calls = []

    def noted(module: str, run_name: str) -> None:
        calls.append((module, run_name, sys.argv[1:]))

    monkeypatch.setattr(parts.runpy, "run_module", noted)
    return calls


@pytest.mark.parametrize(
    ("options", "module", "rest"),
    [
        (["lrp"], "lrp", []),
        (["attention_rollout", "--model", "vit_b_16"], "attention_rollout", ["--model", "vit_b_16"]),
        (["your_own_network", "--help"], "your_own_network", ["--help"]),
        (["fooled_and_biased", "--seed", "3"], "fooled_and_biased", ["--seed", "3"]),
        (["train_vit", "--steps", "5"], "train_vit", ["--steps", "5"]),
        (["--train"], "train_vit", []),
        (["--seed", "2", "--train"], "train_vit", ["--seed", "2"]),
        (["--cats-and-dogs", "pets", "--download"], "train_cats_and_dogs", ["pets", "--download"]),
        (["--backbone", "vgg16", "--cats-and-dogs=pets"], "train_cats_and_dogs", ["--backbone", "vgg16", "pets"]),
        (["--quick", "--model", "vit_b_16"], "attention_rollout", ["--quick", "--model", "vit_b_16"]),
    ],
)
def test_parts_run_with_the_rest_of_the_options(options, module, rest, ran):
    assert run_script("09_advanced_techniques", *options) == 0
    assert ran == [(f"advanced.{module}", "__main__", rest)]


def test_an_unknown_part_is_one_sentence(ran, capfd):
    assert run_script("09_advanced_techniques", "lpr") == 1
    said = capfd.readouterr()
    assert said.err.startswith("error: there is no part 'lpr'; there are lrp, attention_rollout")
    assert (said.out, said.err.count("\n"), ran) == ("", 1, [])


def test_a_failure_inside_a_part_is_one_sentence(tmp_path, capfd):
    options = ["--quick", "--image", "no_such_picture.jpg", "--output-dir", str(tmp_path)]
    assert run_script("09_advanced_techniques", "attention_rollout", *options) == 1
    assert capfd.readouterr().err.startswith("error: there is no picture no_such_picture.jpg")
    assert run_script("09_advanced_techniques", "attention_rollout", "--no-such-option") == 2
    assert "usage: python -m advanced.attention_rollout" in capfd.readouterr().err


def test_no_part_runs_inside_a_notebook(ran, monkeypatch):
    """There the command line is the kernel's."""
    monkeypatch.setattr(parts, "in_notebook", lambda: True)
    monkeypatch.setattr(sys, "argv", ["kernel", "lrp"])
    parts.hand_over("advanced", ["lrp"])
    assert ran == []
