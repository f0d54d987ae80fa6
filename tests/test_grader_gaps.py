"""tests/grader/gaps.py: marker lines that are lost, stubs that are left beside an answer."""

import textwrap

import pytest
from grader.gaps import marks, mended, stub
from markers import emptied, lesson_files, lesson_name, solution_regions
from test_exercises import GRADED, TEXTS, answered, run_grader, solutions

from utils import PROJECT_ROOT

NAMES = [lesson_name(file, PROJECT_ROOT) for file in lesson_files(PROJECT_ROOT)]


def handed_in(text: str) -> str:
    """The solved lesson with a student's marker lines."""
    return answered(text, {exercise: dedented(lines) for exercise, lines in solutions(text).items()})


def dedented(lines: list[str]) -> list[str]:
    """Lines of a solution without their common indentation."""
    return textwrap.dedent("\n".join(lines)).split("\n")


@pytest.mark.parametrize("name", NAMES)
def test_each_marker_line_that_is_lost_is_put_back(name):
    reference = TEXTS[name]
    for text in (emptied(reference, name), handed_in(reference)):
        lines = text.splitlines()
        for place, _ in marks(lines):
            lost = "\n".join(lines[:place] + lines[place + 1 :]) + "\n"
            found, notes = mended(lost, reference)
            assert len(notes) == 1
            assert "was missing; it was put before line" in notes[0]
            assert [line.strip() for line in found.splitlines() if "# EXERCISE" not in line] == [
                line.strip() for line in lines if "# EXERCISE" not in line
            ]


def test_two_marker_lines_that_are_lost():
    text = handed_in(TEXTS["03_smoothgrad"])
    lines = text.splitlines()
    gone = {place for place, _ in marks(lines)[1:3]}                   # the end of one, the beginning of the next
    lost = "\n".join(line for i, line in enumerate(lines) if i not in gone) + "\n"
    found, notes = mended(lost, TEXTS["03_smoothgrad"])
    assert len(notes) == 2
    assert [region.exercise for region in solution_regions(found, "")] == [
        region.exercise for region in solution_regions(text, "")
    ]


def test_what_needs_no_mending_is_left_as_it_is():
    for name, text in TEXTS.items():
        for whole in (emptied(text, name), handed_in(text), text):
            assert mended(whole, text) == (whole, [])


def test_what_cannot_be_mended_is_told():
    text = "\n".join(line for line in TEXTS["03_smoothgrad"].splitlines() if "SOLUTION" not in line)
    found, notes = mended(text, TEXTS["03_smoothgrad"])
    assert found == text
    assert notes == ["its marker lines are not as they were handed out, so its exercises are judged together"]


@pytest.mark.parametrize("left", ["raise NotImplementedError('3.2')", 'raise NotImplementedError("3.2")'])
@pytest.mark.parametrize("above", [True, False])
def test_a_stub_that_is_left_beside_an_answer_is_taken_out(left, above):
    reference = TEXTS["03_smoothgrad"]
    answer = dedented(solutions(reference)["3.2"])
    text = answered(reference, {"3.2": [left, *answer] if above else [*answer, left]})
    found, notes = mended(text, reference)
    assert left not in found
    assert notes == [f"`{stub('3.2')}` was left beside the answer; it was taken out"]
    alone = answered(reference, {"3.2": ["# my idea:", left]})
    assert mended(alone, reference) == (alone, [])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_lost_line_and_a_stub_cost_nothing(tmp_path):
    """3.1 is not solved and has lost its last line; 3.2 has its stub above the answer."""
    reference = TEXTS["03_smoothgrad"]
    answer = dedented(solutions(reference)["3.2"])
    text = answered(reference, {"3.1": [stub("3.1")], "3.2": [stub("3.2"), *answer]})
    lines = text.splitlines()
    end = solution_regions(text, "")[0].last
    (tmp_path / "ada").mkdir()
    (tmp_path / "ada" / "03_smoothgrad.py").write_text("\n".join(lines[:end] + lines[end + 1 :]), encoding="utf-8")
    options = [f"--exercise=3.{i}" for i in range(1, 5)]
    _, grades, printed = run_grader(tmp_path / "ada", tmp_path / "grades.json", *options)
    assert [grades[f"3.{i}"]["score"] for i in range(1, 5)] == [0, *(GRADED[f"3.{i}"] for i in range(2, 5))], printed
    assert grades["3.1"]["result"] == "not attempted"
    assert "the line `# END EXERCISE` was missing" in printed
