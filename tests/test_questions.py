"""The declarations: what lessons announce follows from them, right answers are right, every answer is answered."""

from __future__ import annotations

import runpy

import pytest
from conftest import grading
from markers import announced, lesson_files, lesson_name
from questions import (
    Question,
    answer_in,
    declaration,
    declared,
    exercises_of,
    points_of,
    questions,
)

from utils import PROJECT_ROOT

LESSONS = [lesson_name(file, PROJECT_ROOT) for file in lesson_files(PROJECT_ROOT)]
TEXTS = {lesson_name(file, PROJECT_ROOT): file.read_text(encoding="utf-8") for file in lesson_files(PROJECT_ROOT)}
ALL = [(name, question) for name in LESSONS for question in questions(name)]
NUMBERS = [(name, question) for name, question in ALL if not question.choices]


@pytest.mark.parametrize("name", LESSONS)
def test_headings_follow_from_the_declaration(name):
    """`python exercises/make.py --headings` writes them."""
    assert {each.number: each for each in announced(TEXTS[name])} == {each.number: each for each in exercises_of(name)}
    assert set(points_of(name)) <= set(declared(name, "EXERCISES"))


@pytest.mark.parametrize("name", LESSONS)
def test_what_a_lesson_asks_is_declared(name):
    assert {question.number for question in questions(name)} == set(declared(name, "QUESTIONS"))


@pytest.mark.parametrize(("name", "question"), ALL, ids=[question.number for _, question in ALL])
def test_every_answer_has_its_sentence(name, question):
    assert len(question.choices) in (0, 4)
    assert question.is_right(question.right)
    assert set(question.why) == (set(question.choices) or {*question.why, "else", question.right})
    assert len(set(question.why.values())) == len(question.why)
    wrong = [answer for answer in question.why if answer not in ("else", question.right)]
    assert len(wrong) >= (3 if question.choices else 0)
    assert not any(question.is_right(answer) for answer in wrong)
    assert all(question.said(answer) == question.why[answer] for answer in wrong)
    for odd in (True, "z", [], float("nan"), 1e300, "else"):
        assert not question.is_right(odd)
        assert question.said(odd)


@pytest.mark.parametrize(("name", "question"), NUMBERS, ids=[question.number for _, question in NUMBERS])
def test_the_right_number_is_computed(name, question):
    found = runpy.run_path(str(declaration(name)))
    true = found[f"true_{question.number.replace('.', '_')}"](grading.load_lesson(name))
    assert true == pytest.approx(question.right, rel=0.03 if name.endswith("sensitivity") else 2e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("line", "answer"),
    [("ANSWER_1_5 = 'c'", "c"), ("ANSWER_1_5 = -0.5  # I think", -0.5), ("ANSWER_1_5 = 1 / 49", 1 / 49),
     ("ANSWER_1_5 = None", None), ("ANSWER_1_5 = 1\nANSWER_1_5 = 2", 2), ("", None), ("# ANSWER_1_5 = 3", None),
     ("ANSWER_1_5 = 1 / 2**3", 0.125), ("ANSWER_1_5=0.25 * 0.5", 0.125), ("ANSWER_1_5 = -(1 - 3) + 1", 3),
     ("ANSWER_1_5: float = 0.125", 0.125), ("ANSWER_1_5 = b", "b"), ("ANSWER_1_5 = 10", 10),
     ("ANSWER_1_5 = 3\nANSWER_1_5 = None  # here", 3), ("Answer_1_5 = 3", 3), ("    ANSWER_1_5 = 'c'", "c")]
)  # fmt: skip
def test_an_answer_is_read_not_run(line, answer):
    assert answer_in(line, "1.5") == answer


@pytest.mark.parametrize(
    "line", ["x()", "[1]", "lambda: 1", "-'a'", "1 / 0", "(", "__import__('os')", "", "9" * 9**5, "9**9**9", "2 * True",
             "0,125", "'a' * 9", "(-8)**0.5", f"{'1+' * 9**5}1"]
)  # fmt: skip
def test_what_is_no_answer_is_told(line):
    with pytest.raises(ValueError, match="neither a letter nor a number"):
        answer_in(f"ANSWER_1_5 = {line}", "1.5")


def test_a_letter_may_be_written_as_people_do():
    question = Question("1.5", "", "", {"a": "", "b": ""}, "b", {"a": "no", "b": "yes"})
    assert all(question.is_right(letter) for letter in ("b", " B.", "b)", "(b)"))
    assert question.meant("c") is question.meant(2) is None
    assert question.said(2) == "answer with one of the letters a, b"


def test_a_number_may_be_written_as_text():
    question = Question("8.12", "", "", {}, 0.125, {0.125: "yes", 0.5: "half", "else": "no"})
    assert all(question.is_right(number) for number in (0.125, "0.125", "1/8", 0.1251))
    assert [question.said(number) for number in (0.5, 2, 10**400, "one", True)] == [
        "half", "no", "answer with a number", "answer with a number", "answer with a number"
    ]  # fmt: skip
