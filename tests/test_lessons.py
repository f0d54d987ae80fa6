"""Every lesson as a program, as a module and as a notebook."""

from __future__ import annotations

import ast
import builtins
import re
import subprocess
import sys

import jupytext
import pytest

from utils import OUTPUT_DIR, PROJECT_ROOT, import_lesson, run_lesson

LESSONS = sorted(path.stem for path in PROJECT_ROOT.glob("0*_*.py"))


def run(lesson: str, *options: str) -> int:
    """The lesson's exit status. In this process: importing torch anew for each test would take minutes."""
    module = import_lesson(lesson)
    return run_lesson(lambda: module.main(options))


@pytest.mark.parametrize("lesson", LESSONS)
def test_quick_run_writes_the_figures_it_names(lesson, tmp_path, capfd):
    assert run(lesson, "--quick", "--output-dir", str(tmp_path)) == 0
    printed = capfd.readouterr()
    named = {line.removeprefix("wrote ") for line in printed.out.splitlines() if line.startswith("wrote ")}
    figures = {str(path) for path in tmp_path.iterdir() if path.is_file()}
    assert named == figures
    assert len([name for name in figures if name.endswith(".png")]) >= 3
    assert "Warning" not in printed.err


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_failure_is_one_sentence_and_wrong_use_is_2(lesson, tmp_path, capfd):
    assert run(lesson, "--quick", "--image", "no_such_picture.jpg", "--output-dir", str(tmp_path)) == 1
    assert re.fullmatch(r"error: .*no_such_picture\.jpg.*\n", capfd.readouterr().err)
    assert not list(tmp_path.iterdir())
    with pytest.raises(SystemExit) as stop:
        run(lesson, "--no-such-option")
    assert stop.value.code == 2


def test_another_picture_class_and_network(tmp_path):
    """As a program, from another folder."""
    options = ["--image", "koala.jpg", "--target", "giant panda", "--model", "squeezenet1_1", "--seed", "3"]
    command = [sys.executable, PROJECT_ROOT / f"{LESSONS[0]}.py", *options, "--output-dir", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "koala.jpg  giant panda 0.00" in done.stdout
    assert (tmp_path / "maps.png").exists()


def test_importing_has_no_side_effects():
    """Nothing printed, drawn or written, no random number taken, no grad mode switched."""
    code = f"""
import sys, torch, numpy; sys.path.insert(0, {str(PROJECT_ROOT)!r})
import matplotlib.pyplot as plt
before = torch.get_rng_state(), numpy.random.get_state()[1].tolist()
from utils import import_lesson
for lesson in {LESSONS!r}:
    import_lesson(lesson)
assert torch.equal(before[0], torch.get_rng_state()) and before[1] == numpy.random.get_state()[1].tolist()
assert not plt.get_fignums() and torch.is_grad_enabled()
"""
    figures = set(OUTPUT_DIR.rglob("*"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert set(OUTPUT_DIR.rglob("*")) == figures


@pytest.mark.parametrize("lesson", LESSONS)
def test_percent_script_is_a_notebook(lesson):
    notebook = jupytext.read(PROJECT_ROOT / f"{lesson}.py")
    cells = notebook.cells
    assert cells[0].cell_type == "markdown"
    assert cells[0].source.startswith(f"# {lesson[:2]} ")
    live = [cell.source for cell in cells if cell.cell_type == "code"]
    assert not any("__main__" in source for source in live)
    assert any("figure = figure_" in source and not source.startswith("#") for source in live)
    texts = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    for heading in ("## The idea", "## The formula", "## What the picture does not show", "## Exercises", "## Recap"):
        assert heading in texts


@pytest.mark.parametrize("lesson", LESSONS)
def test_live_cells_use_what_is_defined_above_them(lesson):
    """Run top to bottom, a notebook must not meet a name of a later cell."""
    defined = set(dir(builtins))
    for cell in jupytext.read(PROJECT_ROOT / f"{lesson}.py").cells:
        if cell.cell_type != "code":
            continue
        code = ast.parse(cell.source)
        names = [node for node in ast.walk(code) if isinstance(node, ast.Name)]
        defined |= {name.id for name in names if isinstance(name.ctx, ast.Store)}
        if "active-ipynb" in cell.metadata.get("tags", []):
            assert {name.id for name in names if isinstance(name.ctx, ast.Load)} <= defined, cell.source
        for node in code.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                defined.add(node.name)
            if isinstance(node, ast.Import | ast.ImportFrom):
                defined |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
