"""What makes one function another: a text that differs if its results may differ, and is the same in each run."""

from __future__ import annotations

import dis
import functools
import inspect
import sys
from collections.abc import Iterator
from types import CodeType, FunctionType, MethodType, ModuleType

import numpy as np
import torch
from torch import Tensor, nn

from course.files import fingerprint

PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...), torch.dtype, torch.device, torch.Size, range)


def identity(value: object, around: tuple = ()) -> str:
    """A text for a function or a value; `around` are those that it was found in.

    A function counts by its module, name, code and defaults; one that cannot be imported (a lambda, a function inside a
    function) by the values it closes over as well, and one typed into a notebook or a script by the global ones that it
    names. A functools.partial, a method, a callable object and a container count by what they are made of.

    Raises:
        ValueError: something whose value cannot be read, such as a torch.Generator or an open file.
    """
    if any(value is other for other in around):
        return "itself"
    inner = functools.partial(identity, around=(*around, value))
    if isinstance(value, PLAIN):
        return f"{type(value).__name__} {value!r}"
    if isinstance(value, Tensor | np.ndarray | np.generic):
        tensor = torch.as_tensor(value)
        return f"{tensor.dtype} {tuple(tensor.shape)} {fingerprint(tensor)}"
    if isinstance(value, nn.Module):
        parts = [(name, inner(type(part)), inner({key: item for key, item in vars(part).items()
                                                  if isinstance(item, (*PLAIN, FunctionType))}))
                 for name, part in value.named_modules()]  # fmt: skip
        return f"{value} {parts} {fingerprint(*value.parameters(), *value.buffers())}"
    if isinstance(value, FunctionType):
        return f"function {[value.__module__, value.__qualname__, *map(inner, function_parts(value))]}"
    if isinstance(value, CodeType):
        return f"code {[value.co_code.hex(), value.co_names, value.co_argcount, *map(inner, value.co_consts)]}"
    if isinstance(value, functools.partial):
        return f"partial {[inner(part) for part in (value.func, value.args, value.keywords)]}"
    if isinstance(value, MethodType):
        return f"method {[inner(part) for part in (value.__func__, value.__self__)]}"
    if not isinstance(value, type) and hasattr(value, "__wrapped__"):  # functools.cache
        return f"{type(value).__name__} {inner(value.__wrapped__)}"
    if isinstance(value, ModuleType | type | np.ufunc) or inspect.isroutine(value):
        return f"{getattr(value, '__module__', '')} {getattr(value, '__qualname__', value.__name__)}"
    if isinstance(value, dict):
        return f"dict {[(inner(key), inner(item)) for key, item in value.items()]}"
    if isinstance(value, set | frozenset):
        return f"set {sorted(map(inner, value))}"                      # their order is another one in each run
    if isinstance(value, list | tuple):
        return f"{type(value).__name__} {list(map(inner, value))}"
    if hasattr(value, "__dict__"):
        return f"{inner(type(value))} {inner(vars(value))} {inner(type(value).__call__ if callable(value) else None)}"
    raise ValueError(f"a function of yours uses a {type(value).__name__}, whose value cannot be read, so its results "
                     "could not be told from those of another; make it inside the function")  # fmt: skip


def function_parts(function: FunctionType) -> Iterator[object]:
    """What decides what a function written in Python does, besides its name."""
    yield from (function.__code__, function.__defaults__, function.__kwdefaults__)
    yield getattr(inspect.unwrap(function), "__code__", None)          # what a decorator was put around
    if not is_importable(function):
        yield [cell.cell_contents for cell in function.__closure__ or ()]
    if function.__globals__["__name__"] == "__main__":                 # a notebook's values change while it runs
        known = function.__globals__
        yield {name: known[name] for name in sorted(global_names(function.__code__)) if name in known}


def is_importable(function: FunctionType) -> bool:
    """Whether a module other than the running program has this function under its own name."""
    module = sys.modules.get(function.__module__ or "")
    return function.__module__ != "__main__" and getattr(module, function.__qualname__, None) is function


def global_names(code: CodeType) -> set[str]:
    """The names that a code, and the functions inside it, look up in their module."""
    names = {step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return names.union(*(global_names(part) for part in code.co_consts if isinstance(part, CodeType)))
