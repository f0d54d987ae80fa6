"""Every lesson and part as a program, as a module, as a notebook, and as a text to read."""

from __future__ import annotations

import ast
import builtins
import re
import subprocess
import sys

import jupytext
import pytest
from conftest import run_script
from markers import lesson_files, lesson_name, lesson_path

from utils import OUTPUT_DIR, PROJECT_ROOT

SCRIPTS = [lesson_name(file, PROJECT_ROOT) for file in lesson_files(PROJECT_ROOT)]
WIDEST = 100  # columns of a table


def cells_of(script: str) -> list:
    """The cells of a lesson or part as a notebook has them."""
    return jupytext.read(PROJECT_ROOT / f"{lesson_path(script)}.py").cells


def is_guard(node: ast.stmt) -> bool:
    """Whether a statement is `if __name__ == "__main__":`."""
    return isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_quick_run_writes_what_it_names_and_prints_narrow_tables(script, tmp_path, capfd):
    assert run_script(script, "--quick", "--output-dir", str(tmp_path)) == 0
    printed = capfd.readouterr()
    named = {line.removeprefix("wrote ") for line in printed.out.splitlines() if line.startswith("wrote ")}
    assert named == {str(path) for path in tmp_path.iterdir() if path.is_file()}
    assert len([name for name in named if name.endswith(".png")]) >= 2
    assert "Warning" not in printed.err
    lines = [line for line in printed.out.splitlines() if not line.startswith("wrote ")]
    assert max(map(len, lines)) <= WIDEST, max(lines, key=len)
    assert "nan" not in re.findall(r"[\w.]+", printed.out)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_failure_is_one_sentence_and_wrong_use_is_2(script, tmp_path, capfd):
    assert run_script(script, "--quick", "--image", "no_such_picture.jpg", "--output-dir", str(tmp_path)) == 1
    assert re.fullmatch(r"error: .*no_such_picture\.jpg.*\n", capfd.readouterr().err)
    assert not list(tmp_path.iterdir())
    assert run_script(script, "--no-such-option") == 2


def test_another_picture_class_and_network(tmp_path):
    """As a program, from another folder."""
    options = ["--image", "koala.jpg", "--target", "giant panda", "--model", "squeezenet1_1", "--seed", "3"]
    command = [sys.executable, PROJECT_ROOT / f"{SCRIPTS[0]}.py", *options, "--output-dir", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "koala.jpg  giant panda 0.00" in done.stdout
    assert (tmp_path / "maps.png").exists()


def test_importing_has_no_side_effects():
    """Nothing printed, drawn or written, no random number taken, no grad mode switched."""
    code = f"""
import sys, torch, numpy; sys.path[:0] = [{str(PROJECT_ROOT)!r}, {str(PROJECT_ROOT / "tests")!r}]
import matplotlib.pyplot as plt
before = torch.get_rng_state(), numpy.random.get_state()[1].tolist()
import importlib
from utils import import_lesson
for script in {SCRIPTS!r}:
    importlib.import_module(script) if "." in script else import_lesson(script)
assert torch.equal(before[0], torch.get_rng_state()) and before[1] == numpy.random.get_state()[1].tolist()
assert not plt.get_fignums() and torch.is_grad_enabled()
"""
    figures = set(OUTPUT_DIR.rglob("*"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert set(OUTPUT_DIR.rglob("*")) == figures


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_form_of_a_lesson(script):
    """Question, picture, formula, code, limits, exercises, recap; nothing commented out, no second copy."""
    cells = cells_of(script)
    assert cells[0].cell_type == "markdown"
    assert cells[0].source.startswith("# ")
    assert "." in script or cells[0].source.startswith(f"# {script[:2]} ")
    headings = [re.sub(r"^#+ ", "", line) for cell in cells if cell.cell_type == "markdown"
                for line in cell.source.splitlines() if line.startswith("## ")]  # fmt: skip
    order = ["A picture of the idea", "What the picture does not show", "Exercises", "Recap"]
    assert [heading for heading in headings if heading in order] == order
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    assert "def main(" not in code
    assert "def options(" not in code
    assert not any("active-ipynb" in cell.metadata.get("tags", []) for cell in cells)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_picture_comes_before_the_first_formula(script):
    seen = []
    for cell in cells_of(script):
        shows = cell.cell_type == "code" and "lesson.show(" in cell.source
        formula = cell.cell_type == "markdown" and "$$" in cell.source
        seen += ["picture"] * shows + ["formula"] * formula
    assert seen[0] == "picture"


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_runs_stands_in_live_cells(script):
    """Every top-level statement defines something or is guarded; figures are shown in more than one cell."""
    live = 0
    for cell in cells_of(script):
        if cell.cell_type == "code":
            code = ast.parse(cell.source)
            live += any(is_guard(node) for node in code.body)
            for node in code.body:
                call = node.value if isinstance(node, ast.Expr) else None
                assert not isinstance(call, ast.Call), f"runs at import: {ast.unparse(node)}"
    assert live >= 4


@pytest.mark.parametrize("script", SCRIPTS)
def test_live_cells_use_what_is_defined_above_them(script):
    """Run top to bottom, a notebook must not meet a name of a later cell."""
    defined = set(dir(builtins))
    for cell in cells_of(script):
        if cell.cell_type != "code":
            continue
        code = ast.parse(cell.source)
        for node in code.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                defined.add(node.name)
            if isinstance(node, ast.Import | ast.ImportFrom):
                defined |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        names = [node for node in ast.walk(code) if isinstance(node, ast.Name)]
        defined |= {name.id for name in names if isinstance(name.ctx, ast.Store)}
        for guard in filter(is_guard, code.body):
            defined |= {arg.arg for node in ast.walk(guard) if isinstance(node, ast.arguments) for arg in node.args}
            inside = [node for node in ast.walk(guard) if isinstance(node, ast.Name)]
            used = {name.id for name in inside if isinstance(name.ctx, ast.Load)}
            assert used - {"__name__"} <= defined, used - defined
