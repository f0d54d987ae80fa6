"""course/lesson.py: what runs a lesson. The command line, pictures, targets, figures, tables, one-sentence errors."""

import os
import signal
import subprocess
import sys

import matplotlib.pyplot as plt
import pytest
import torch

import utils
from course import lesson as running
from course.lesson import Lesson, lesson_parser, one_sentence, print_table, start
from utils import PROJECT_ROOT


def begun(*arguments):
    return Lesson(lesson_parser("05_gradcam", "Grad-CAM", ["dog.jpg", "bird.jpg"]).parse_args(arguments))


@pytest.fixture
def command_line(monkeypatch):
    """Sets sys.argv, and puts back what start() installs."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    return lambda *arguments: monkeypatch.setattr(sys, "argv", ["05_gradcam.py", *arguments])


def test_default_options():
    args = begun().args
    assert args.output_dir == PROJECT_ROOT / "outputs" / "05_gradcam"
    assert (args.seed, args.device, args.target, args.model) == (0, "cpu", None, None)
    assert not args.quick
    assert not args.show


def test_a_part_writes_into_a_folder_of_its_room():
    args = lesson_parser("evaluation.planted_scenes", "", []).parse_args([])
    assert args.output_dir == PROJECT_ROOT / "outputs" / "evaluation" / "planted_scenes"


def test_without_image_the_defaults_are_loaded(photos):
    lesson = begun()
    assert lesson.names == ["dog.jpg", "bird.jpg"]
    assert torch.equal(lesson.images, photos)


def test_several_images_keep_their_order(photos, tmp_path, picture):
    picture.save(tmp_path / "own.png")
    lesson = begun("--image", str(tmp_path / "own.png"), "--image", "dog.jpg")
    assert lesson.names == ["own.png", "dog.jpg"]
    assert torch.equal(lesson.images, torch.cat([utils.preprocess_image(picture), photos[:1]]))


def test_a_folder_stands_for_its_pictures(tmp_path, picture, photos):
    for name in ("b.png", "a.JPG", "c.webp"):
        picture.save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    lesson = begun("--image", str(tmp_path), "--image", "dog.jpg")
    assert lesson.names == ["a.JPG", "b.png", "c.webp", "dog.jpg"]
    assert torch.equal(lesson.images[1], utils.preprocess_image(picture)[0])
    assert torch.equal(lesson.images[3], photos[0])


def test_a_folder_may_hold_more_than_pictures(tmp_path, picture):
    """Pillow writes PDF but does not read it."""
    picture.save(tmp_path / "a.png")
    (tmp_path / "report.pdf").write_bytes(b"%PDF-1.7")
    (tmp_path / "old.png").mkdir()
    assert begun("--image", str(tmp_path)).names == ["a.png"]


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=rf"{tmp_path.name}.*no pictures"):
        _ = begun("--image", str(tmp_path)).images


def test_a_folder_of_folders_is_refused_with_a_way_out(tmp_path, picture):
    (tmp_path / "inside").mkdir()
    picture.save(tmp_path / "inside" / "a.png")
    with pytest.raises(ValueError, match=rf"{tmp_path.name} has no pictures in it, only folders; .*--ray"):
        _ = begun("--image", str(tmp_path)).images


def test_one_missing_image_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        _ = begun("--image", "dog.jpg", "--image", str(tmp_path / "gone.png")).images


def test_the_targets_of_the_command_line():
    assert begun().target is None
    assert begun("--target", "koala").target == 105
    assert begun("--target", "0").target == 0
    with pytest.raises(ValueError, match="outside"):
        _ = begun("--target", "1000").target


def test_targets_and_titles(squeezenet, monkeypatch):
    monkeypatch.setattr(utils, "load_model", lambda name, device: squeezenet)
    assert begun("--quick").targets.tolist() == [235, 88]
    assert begun("--quick").titles == ["German shepherd 1.00", "macaw 0.97"]
    assert begun("--quick", "--target", "koala").targets.tolist() == [105, 105]
    assert begun("--quick", "--target", "koala").titles == ["koala 0.00", "koala 0.00"]


@pytest.mark.parametrize(
    ("arguments", "expected", "other"),
    [
        ([], ("resnet50", "cpu"), "squeezenet1_1"),
        (["--quick"], ("squeezenet1_1", "cpu"), "resnet50"),
        (["--quick", "--model", "vgg16", "--device", "mps"], ("vgg16", "mps"), "resnet50"),
    ],
)
def test_the_networks_of_the_command_line(arguments, expected, other, monkeypatch):
    monkeypatch.setattr(utils, "load_model", lambda name, device: (name, device))
    lesson = begun(*arguments)
    assert lesson.model == expected
    assert lesson.other_model == (other, expected[1])


def test_start_reads_the_command_line_and_adds_options(command_line):
    command_line("--seed", "3", "--steps", "7")
    lesson = start("05_gradcam", "Where?", ["dog.jpg"], options={"--steps": {"type": int, "default": 5}})
    assert (lesson.seed, lesson.args.steps) == (3, 7)
    assert sys.excepthook is one_sentence


def test_a_notebook_has_no_command_line(command_line, monkeypatch):
    """Its kernel's arguments are not the lesson's."""
    command_line("-f", "kernel.json")
    monkeypatch.setattr(running, "in_notebook", lambda: True)
    hook = sys.excepthook
    assert not start("05_gradcam", "Where?").quick
    assert start("05_gradcam", "Where?", in_notebooks=["--quick"]).quick
    assert sys.excepthook is hook


def test_wrong_use_ends_with_status_2(command_line, capsys):
    command_line("--no-such-option")
    with pytest.raises(SystemExit) as stop:
        start("05_gradcam", "Where?")
    assert stop.value.code == 2
    assert "05_gradcam.py" in capsys.readouterr().err


def test_figures_are_written_and_named(tmp_path, capsys):
    lesson = begun("--output-dir", str(tmp_path / "new"))
    lesson.show(plt.figure(), "a")
    assert capsys.readouterr().out == f"wrote {tmp_path / 'new' / 'a.png'}\n"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]
    assert not plt.get_fignums()


def test_show_opens_each_figure_and_closes_it(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(plt, "show", lambda: opened.append(plt.get_fignums()))
    begun("--output-dir", str(tmp_path), "--show").show(plt.figure(), "a")
    assert len(opened) == len(opened[0]) == 1
    assert not plt.get_fignums()


def test_a_notebook_displays_the_figure_and_writes_nothing(tmp_path, monkeypatch):
    displayed = []
    monkeypatch.setattr(running, "in_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda *shown, metadata: displayed.extend([*shown, metadata]))
    figure = plt.figure()
    figure.suptitle("Two maps")
    begun("--output-dir", str(tmp_path / "new")).show(figure, "a")
    assert displayed == [figure, {"image/png": {"alt": "Two maps"}, "name": "a"}]
    assert not (tmp_path / "new").exists()
    assert not plt.get_fignums()


def test_tables_are_aligned(capsys):
    print_table(["method", "score"], [["gradient", 0.123456], ["x", 12], ["", 1234567.0]])
    assert capsys.readouterr().out == "method    score\ngradient  0.123\nx         12\n          1.23e+06\n"


def test_a_header_may_have_several_lines(capsys):
    print_table(["method", "its\nscore"], [["gradient", 1]])
    assert capsys.readouterr().out == "          its\nmethod    score\ngradient  1\n"


def reported(error, capsys):
    """What one_sentence prints of an exception that was raised."""
    try:
        raise error
    except BaseException as caught:
        one_sentence(type(caught), caught, caught.__traceback__)
    out, err = capsys.readouterr()
    assert out == ""
    return err


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a wrong target"),
        FileNotFoundError(2, "No such file", "a wrong target"),
        ConnectionError("a wrong target"),
        TypeError("a wrong target"),
        AssertionError("a wrong target"),
        RuntimeError("a wrong target\nwith a second line\n\tand a third"),
    ],
)
def test_a_failing_lesson_says_so_in_one_line(error, capsys):
    err = reported(error, capsys)
    assert err.startswith("error: ")
    assert "a wrong target" in err
    assert err.count("\n") == 1
    assert err.endswith("\n")


def test_an_exercise_that_is_not_solved_is_named_with_its_file(capsys):
    assert reported(NotImplementedError("5.10"), capsys) == (
        "error: exercise 5.10 is not solved yet; look for EXERCISE 5.10 in test_course_lesson.py\n"
    )


def test_an_interruption_is_one_word(capsys, monkeypatch):
    ended = []
    monkeypatch.setattr(running, "end_as_interrupted", lambda: ended.append(True))
    assert reported(KeyboardInterrupt(), capsys) == "error: interrupted\n"
    assert ended == [True]
    reported(ValueError("a wrong target"), capsys)
    assert ended == [True]


def interrupted(at_exit: str) -> subprocess.CompletedProcess:
    """A program that is stopped by Ctrl-C, and has a function that runs at exit."""
    code = (f"import atexit, signal, sys; sys.path.insert(0, {str(PROJECT_ROOT)!r})\n"
            "from course.lesson import one_sentence; sys.excepthook = one_sentence\n"
            f"atexit.register(lambda: {at_exit}); print('begun'); raise KeyboardInterrupt")  # fmt: skip
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_an_interrupted_program_has_the_status_of_ctrl_c():
    """Functions that run at exit do run, and none of them changes the status; this one makes Python forget it."""
    ended = interrupted("print(eval('6 * 7'))")
    assert (ended.stdout, ended.stderr) == ("begun\n42\n", "error: interrupted\n")
    assert ended.returncode == -signal.SIGINT


def test_a_second_ctrl_c_ends_at_once():
    ended = interrupted("[signal.raise_signal(signal.SIGINT), print('waited for', flush=True)]")
    assert (ended.stdout, ended.stderr) == ("begun\n", "error: interrupted\n")
    assert ended.returncode == -signal.SIGINT


def test_an_interrupted_program_whose_output_nobody_reads():
    """`python 05_gradcam.py | head`, and Ctrl-C."""
    code = (f"import sys; sys.path.insert(0, {str(PROJECT_ROOT)!r}); from course.lesson import one_sentence\n"
            "sys.excepthook = one_sentence; print('begun'); raise KeyboardInterrupt")  # fmt: skip
    reads, writes = os.pipe()
    os.close(reads)
    ended = subprocess.run([sys.executable, "-c", code], stdout=writes, stderr=subprocess.PIPE, text=True, check=False,
                           env={**os.environ, "PYTHONUNBUFFERED": ""})  # fmt: skip
    os.close(writes)
    assert ended.stderr == "error: interrupted\n"
    assert ended.returncode == -signal.SIGINT


def test_bugs_of_a_lesson_keep_their_traceback(capsys):
    err = reported(ZeroDivisionError("division by zero"), capsys)
    assert "Traceback" in err
    assert "test_course_lesson.py" in err
