"""The rooms: arrows point down only."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from markers import ROOMS

from utils import PROJECT_ROOT

FILES = sorted([
    *PROJECT_ROOT.glob("*.py"), *PROJECT_ROOT.glob("course/*.py"),
    *(file for room in ROOMS for file in PROJECT_ROOT.glob(f"{room}/*.py")),
])  # fmt: skip


def name_of(file: Path) -> str:
    """"utils", "05_gradcam", "course.figures"."""
    return ".".join(file.relative_to(PROJECT_ROOT).with_suffix("").parts)


def imports(file: Path) -> set[str]:
    """The project's own modules that a file imports, at the top or inside a function, import_lesson included."""
    known, found = {name_of(other) for other in FILES}, set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "import_lesson":
            found |= {argument.value for argument in node.args if isinstance(argument, ast.Constant)}
    return found & known


STUDY = {f"evaluation.{name}" for name in ("study", "study_pictures", "study_figures", "verdicts", "results")}
ARROWS = {name_of(file): imports(file) for file in FILES}


def floor_of(name: str) -> str:
    """The room, "lesson" for a numbered script, or "study", which stands on all parts."""
    room = name.split(".")[0]
    if name in STUDY:
        return "study"
    return "lesson" if room[:2].isdigit() else room


@pytest.mark.parametrize("name", ARROWS)
def test_nothing_below_knows_what_is_above(name):
    """course/ and utils know no lesson and no part; a lesson knows earlier lessons; 08 and 09 know their parts."""
    for other in ARROWS[name]:
        mine, theirs = floor_of(name), floor_of(other)
        if mine in ("course", "utils"):
            assert theirs in ("course", "utils")
        elif mine == "lesson" and theirs == "lesson":
            assert other < name
        elif mine == "lesson":
            rooms = {"08": ("evaluation", "study"), "09": ("evaluation", "advanced")}.get(name[:2], ())
            assert theirs in ("course", "utils", *rooms)
        elif mine == "study":
            assert theirs in ("course", "utils", "lesson", "evaluation", "advanced", "study")
            assert not other.startswith(("08_", "09_"))
        else:
            assert theirs in ("course", "utils", "lesson", "evaluation", mine)
            assert not other.startswith(("08_", "09_"))


def test_there_are_no_circles():
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path, name])
        if name not in done:
            for other in sorted(ARROWS[name]):
                visit(other, (*path, name))
            done.add(name)

    for name in ARROWS:
        visit(name, ())


def test_the_arrows_are_found():
    """The test would pass on an empty graph."""
    assert "course.pictures" in ARROWS["utils"]
    assert "01_vanilla_gradient_saliency" in ARROWS["02_gradient_input_saliency"]
