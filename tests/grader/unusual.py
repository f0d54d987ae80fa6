"""What an answer uses that no answer needs: files, other processes, the interpreter's insides, a library's method.

It costs nothing. It tells an instructor what to read.
"""

from __future__ import annotations

import ast
import sys
import textwrap

from markers import solution_regions

USUAL = {
    "torch", "torchvision", "numpy", "scipy", "skimage", "pandas", "matplotlib", "PIL", "tqdm", "math", "functools",
    "itertools", "collections", "contextlib", "copy", "operator", "random", "statistics", "typing", "dataclasses",
    "time", "warnings", "threading", "numbers", "string", "re", "enum", "abc", "__future__", "utils", "course",
    "evaluation", "advanced",
}  # fmt: skip
WORDS = {"open", "exec", "eval", "compile", "globals", "locals", "vars", "setattr", "delattr", "__import__"}
ATTRIBUTES = {"io", "load", "save", "loadtxt", "fromfile", "tofile", "memmap", "read_text", "read_bytes", "write_text",
              "write_bytes", "f_back", "f_locals", "f_globals", "_getframe"}  # fmt: skip
ORDINARY = {"__init__", "__name__", "__class__", "__call__", "__len__", "__all__"}
MODULES = {"torch", "np", "numpy", "nn", "F", "plt"}  # what lessons call their packages


def uses(tree: ast.AST) -> set[str]:
    """The unusual things in a piece of code, each as a word or two."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {f"import {alias.name}" for alias in node.names if strange(alias.name)}
        elif isinstance(node, ast.ImportFrom) and strange(node.module or ""):
            found.add(f"import {node.module}")
        elif isinstance(node, ast.Name) and (node.id in WORDS or dunder(node.id)):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            if node.attr in ATTRIBUTES or dunder(node.attr):
                found.add(f".{node.attr}")
            if isinstance(node.value, ast.Name) and node.value.id in sys.stdlib_module_names and strange(node.value.id):
                found.add(f"{node.value.id}.{node.attr}")
            if isinstance(node.ctx, ast.Store | ast.Del) and getattr(node.value, "id", "") in MODULES:
                found.add(f"{node.value.id}.{node.attr} =")
        elif isinstance(node, ast.FunctionDef) and dunder(node.name):
            found.add(f"def {node.name}")
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "type" and len(node.args) == 3:
            found.add("type(..., ..., ...)")
    return found


def strange(module: str) -> bool:
    """Whether answers do without this module; import_lesson brings other lessons."""
    return module.partition(".")[0] not in USUAL


def dunder(name: str) -> bool:
    """Whether a name is one of the interpreter's own."""
    return name.startswith("__") and name.endswith("__") and name not in ORDINARY


def uses_in(text: str) -> set[str]:
    """The same for source text; what is no Python has none."""
    try:
        return uses(ast.parse(textwrap.dedent(text)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()


def unusual(text: str, reference: str, helpers: dict[str, str]) -> dict[str, list[str]]:
    """Exercise -> what its answer uses; "" -> what the rest of the lesson and its helper modules use.

    Args:
        text: a lesson as it was handed in.
        reference: the course's own.
        helpers: texts of modules that were handed in with it.
    """
    found: dict[str, set[str]] = {}
    try:
        regions = solution_regions(text, "submission")
    except ValueError:
        regions = []
    lines = text.splitlines()
    for region in regions:
        answer = "\n".join(lines[region.first + 1 : region.last])
        found.setdefault(region.exercise, set()).update(uses_in(answer))
    inside = set().union(*found.values())
    around = set().union(uses_in(text) - uses_in(reference) - inside, *(uses_in(helper) for helper in helpers.values()))
    found[""] = {each for each in around if each.removeprefix("import ").partition(".")[0] not in helpers}
    return {where: sorted(what) for where, what in found.items() if what}
