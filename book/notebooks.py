"""Executed notebooks of all lessons and parts, in outputs/notebooks/; one that is up to date is kept.

    python book/notebooks.py                 all of them
    python book/notebooks.py 05_gradcam      some

A notebook is up to date if no statement of its cells, of the project's modules that these use, no file of data/ and no
library's version has changed since it ran. Text and comments may change: they are taken from the lesson, the outputs
from the earlier run.
"""

from __future__ import annotations

import argparse
import ast
import functools
import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "outputs/notebooks"
sys.path.insert(0, str(ROOT / "tests"))

from markers import ROOMS, lesson_files, lesson_name, lesson_path

LIBRARIES = ("torch", "torchvision", "numpy", "pillow", "scipy", "scikit-image", "pandas", "matplotlib")
PER_CELL = 1800  # seconds


def statements(code: str) -> str:
    """The code without comments, docstrings and layout; what is no plain Python counts as it stands."""
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return code
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value = ast.Constant(None)
    return ast.dump(tree)


@functools.cache
def modules() -> dict[str, Path]:
    """The project's modules: "utils", "05_gradcam", "course.figures"."""
    files = [*ROOT.glob("*.py"), *(file for room in ("course", *ROOMS) for file in ROOT.glob(f"{room}/*.py"))]
    return {lesson_name(file, ROOT): file for file in sorted(files)}


@functools.cache
def used_by(name: str) -> frozenset[str]:
    """The project's modules that a module names: imported, or in a text as `import_lesson` takes it."""
    found = set()
    for node in ast.walk(ast.parse(modules()[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return frozenset(found & set(modules()))


def all_used_by(name: str) -> set[str]:
    """The modules a lesson rests on, directly or not, without itself."""
    done, waiting = set(), [name]
    while waiting:
        module = waiting.pop()
        if module not in done:
            done.add(module)
            waiting += used_by(module)
    return done - {name}


@functools.cache
def data_digest() -> str:
    """Of the photographs, annotations and weights: every file of data/ that a lesson may read."""
    digest = hashlib.sha256()
    for file in sorted((ROOT / "data").rglob("*")):
        if file.is_file() and file.suffix in (".jpg", ".png", ".json", ".pt"):
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


@functools.cache
def digest_of(module: str) -> str:
    """Of a module's statements."""
    return hashlib.sha256(statements(modules()[module].read_text(encoding="utf-8")).encode()).hexdigest()


def key_of(name: str, notebook: NotebookNode) -> str:
    """What a notebook's outputs depend on, as one hash."""
    parts = [statements(cell.source) for cell in notebook.cells if cell.cell_type == "code"]
    parts += [digest_of(other) for other in sorted(all_used_by(name))]
    parts += [data_digest(), *(f"{library} {version(library)}" for library in LIBRARIES)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def with_outputs(notebook: NotebookNode, earlier: NotebookNode) -> NotebookNode:
    """A notebook with the outputs of an earlier run of the same code cells."""
    pairs = zip(*([cell for cell in one.cells if cell.cell_type == "code"] for one in (notebook, earlier)), strict=True)
    for cell, before in pairs:
        cell.outputs, cell.execution_count = before.outputs, before.execution_count
    return notebook


def path_of(name: str) -> Path:
    """Where a lesson's executed notebook lies."""
    return FOLDER / f"{name}.ipynb"


def read(name: str) -> NotebookNode:
    """A lesson as a notebook without outputs; its key is in the metadata."""
    notebook = jupytext.read(ROOT / f"{lesson_path(name)}.py")
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata["made_from"] = key_of(name, notebook)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"  # jupytext draws it at random, and a notebook should be the same twice
    return notebook


def kept(name: str) -> NotebookNode | None:
    """The lesson's notebook with the outputs of an earlier run, or None if that run is out of date or missing."""
    if not path_of(name).exists():
        return None
    earlier, notebook = nbformat.read(path_of(name), as_version=4), read(name)
    return with_outputs(notebook, earlier) if earlier.metadata.get("made_from") == notebook.metadata.made_from else None


def write(notebook: NotebookNode, path: Path) -> None:
    """Under a temporary name first, so that a file is complete or not there; an equal one is left alone."""
    text = nbformat.writes(notebook) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.with_suffix(".part").write_text(text, encoding="utf-8")
        os.replace(path.with_suffix(".part"), path)


def execute(name: str) -> NotebookNode:
    """Run a lesson from top to bottom in the project's folder.

    Raises:
        RuntimeError: a cell failed, with the lesson's name and the cell's error.
    """
    notebook = read(name)
    client = NotebookClient(notebook, timeout=PER_CELL, kernel_name="python3", resources={"metadata": {"path": ROOT}})
    try:
        client.execute(env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"})
    except CellExecutionError as error:
        raise RuntimeError(f"{name} as a notebook: {error}") from None
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of the day
        if cell.cell_type == "code":  # progress bars
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


def names() -> list[str]:
    """Of all lessons and parts."""
    return [lesson_name(file, ROOT) for file in lesson_files(ROOT)]


def executed(wanted: Sequence[str], jobs: int, say: Callable[[str], None] = print) -> dict[str, NotebookNode]:
    """The wanted notebooks, each written to outputs/notebooks/; only those that are out of date run."""

    def one(name: str) -> tuple[str, NotebookNode]:
        notebook = kept(name)
        if notebook is None:
            say(f"running {name}")
            notebook = execute(name)
        write(notebook, path_of(name))
        return name, notebook

    with ThreadPoolExecutor(jobs) as pool:
        return dict(pool.map(one, wanted))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("lesson", nargs="*", help="its name, 05_gradcam or evaluation.planted_scenes (default: all)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="how many run at once (default: %(default)s)")
    arguments = parser.parse_args()
    for unknown in set(arguments.lesson) - set(names()):
        parser.error(f"there is no lesson {unknown!r}; there are {', '.join(names())}")
    for name in executed(arguments.lesson or names(), arguments.jobs):
        print(f"outputs/notebooks/{name}.ipynb")
