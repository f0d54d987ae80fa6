"""What an answer uses that no answer needs: files, other processes, the interpreter's insides, a library's method.

It costs nothing. It tells an instructor what to read.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from functools import lru_cache

from markers import replaced, solution_regions

USUAL = {
    "torch", "torchvision", "numpy", "scipy", "skimage", "pandas", "matplotlib", "PIL", "tqdm", "math", "functools",
    "itertools", "collections", "contextlib", "copy", "operator", "random", "statistics", "typing", "dataclasses",
    "time", "warnings", "threading", "numbers", "string", "re", "enum", "abc", "__future__", "utils", "course",
    "evaluation", "advanced",
}  # fmt: skip
WORDS = {"open", "exec", "eval", "compile", "globals", "locals", "vars", "getattr", "setattr", "delattr", "__import__",
         "breakpoint", "attrgetter", "methodcaller"}  # fmt: skip
FILES = {  # attributes that read, write or load something, in any library
    "open", "load", "loads", "loadtxt", "loadmat", "load_library", "load_file", "load_inline", "genfromtxt", "fromfile",
    "from_file", "memmap", "imread", "imsave", "imwrite", "save", "savez", "savetxt", "savemat", "dump", "tofile",
    "hub", "cpp_extension", "ctypeslib", "DataSource",
    "to_pickle", "to_csv", "to_json", "to_excel", "to_parquet", "to_hdf", "to_sql", "to_feather", "to_xml", "to_html",
    "read_text", "read_bytes", "write_text", "write_bytes",
}  # fmt: skip
INSIDES = {"f_back", "f_locals", "f_globals", "f_builtins", "f_code", "gi_frame", "tb_frame", "co_code", "co_consts",
           "_getframe", "_C", "attrgetter", "methodcaller"}  # fmt: skip
LONGEST = 300_000  # characters; the judge would need a kilobyte for each
ORDINARY = {"__init__", "__name__", "__class__", "__call__", "__len__", "__all__", "__main__", "__version__"}
MODULES = {"torch", "np", "numpy", "nn", "F", "plt"}  # what lessons call their packages
METHODS = {"array", "chunk", "code", "select", "signal", "trace"}  # of tensors and packages; modules are called so, too


def uses(tree: ast.AST) -> set[str]:
    """The unusual things in a piece of code, each as a word or two."""
    found = set()
    named = {id(node.func): node.args[1].value for node in ast.walk(tree) if with_a_name(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {f"import {alias.name}" for alias in node.names if strange(alias.name) or odd_part(alias.name)}
        elif isinstance(node, ast.ImportFrom):
            brought = [f"{node.module or '.'}.{alias.name}" for alias in node.names if odd_part(alias.name)]
            odd = strange(node.module or "") or odd_part(node.module or "")
            found |= {f"import {module}" for module in ([node.module] if odd else brought)}
        elif id(node) in named:                                        # getattr(x, "name") is x.name
            found |= {f".{named[id(node)]}"} if odd_attribute(named[id(node)]) else set()
        elif isinstance(node, ast.Name) and (node.id in WORDS or dunder(node.id)):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            if isinstance(node.value, ast.Name) and node.value.id in sys.stdlib_module_names and strange(node.value.id):
                found.add(f"{node.value.id}.{node.attr}")
            elif odd_attribute(node.attr):
                found.add(f".{node.attr}")
            if isinstance(node.ctx, ast.Store | ast.Del) and first_name(node) in MODULES:
                found.add(f"{ast.unparse(node)} =")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= {repr(word) for word in re.findall(r"__\w+?__", node.value) if dunder(word)}
        elif isinstance(node, ast.FunctionDef) and dunder(node.name):
            found.add(f"def {node.name}")
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "type" and len(node.args) == 3:
            found.add("type(..., ..., ...)")
    return found


def with_a_name(node: ast.AST) -> bool:
    """Whether this is getattr() with an attribute's name, not with one that is put together."""
    return (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "getattr" and len(node.args) > 1
            and isinstance(node.args[1], ast.Constant) and isinstance(node.args[1].value, str))  # fmt: skip


def odd_attribute(name: str) -> bool:
    """Whether answers do without an attribute of this name: torch.os, Image.open, pd.read_csv, f.__code__."""
    module = name in sys.stdlib_module_names and strange(name) and name not in METHODS
    return module or name in FILES | INSIDES or name.startswith("read_") or dunder(name)


def odd_part(module: str) -> bool:
    """Whether a part of a module's name is such an attribute: scipy.io."""
    return any(odd_attribute(part) for part in module.split(".") if part != "__future__")


def first_name(node: ast.expr) -> str:
    """The name that a chain of attributes begins with."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return getattr(node, "id", "")


def strange(module: str) -> bool:
    """Whether answers do without this module; import_lesson brings other lessons."""
    return module.partition(".")[0] not in USUAL


def dunder(name: str) -> bool:
    """Whether a name is one of the interpreter's own."""
    return name.startswith("__") and name.endswith("__") and name not in ORDINARY


@lru_cache(maxsize=256)
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
    if len(text) + sum(map(len, helpers.values())) > LONGEST:
        return {"": [f"more than {LONGEST} characters, which were not looked through"]}
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
    blank = replaced(text, [(region, [f"{region.indent}pass"]) for region in regions])  # an answer may be no Python
    around = (uses_in(text) | uses_in(blank)) - uses_in(reference) - inside
    around = around.union(*(uses_in(helper) for helper in helpers.values()))
    found[""] = {each for each in around if each.removeprefix("import ").partition(".")[0] not in helpers}
    return {where: sorted(what) for where, what in found.items() if what}
