"""Plain data between the judge and the process that answers with a student's code.

Requests are pickled: they come from the judge, whom the other side may trust. Answers are not: a pickle could run any
code in the judge. They are JSON and raw numbers, and what is neither stays where it is, as a handle.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import torch

LARGEST = 1 << 28  # bytes of an answer
TREE = 4 << 20     # of these, what is JSON; a reader needs thirty times as much memory for it
DEEPEST = 20       # lists in lists

# hooks of a network, by the attributes that hold them
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Handle(NamedTuple):
    """Something that stays in the answering process: its number there, and the name of its type."""

    number: int
    kind: str


class Nonsense(ValueError):
    """What came is no answer."""


def pack(value: object, keep: Callable[[object], int]) -> bytes:
    """An answer as bytes; keep(thing) gives the number of a thing that is not plain data."""
    buffers: list[bytes] = []
    tree = describe(value, buffers, keep, 0)
    head = json.dumps([tree, [len(buffer) for buffer in buffers]]).encode()
    data = struct.pack(">Q", len(head)) + head + b"".join(buffers)
    if len(head) > TREE or len(data) > LARGEST:
        raise ValueError("what the function returned is too large for the grader")
    return data


def describe(value: object, buffers: list[bytes], keep: Callable[[object], int], depth: int) -> list:
    """JSON for a value. Only exact types count: a subclass could answer every question about itself."""
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return ["plain", value]
    if kind is float:
        return ["float", value.hex()]
    plain_pair = kind.__module__ == "torch.return_types" and isinstance(value, tuple)  # of .max(dim=1)
    if (kind in (list, tuple, torch.Size) or plain_pair) and depth < DEEPEST:
        return ["list" if kind is list else "tuple", [describe(item, buffers, keep, depth + 1) for item in value]]
    if kind is dict and depth < DEEPEST:
        items = [[describe(part, buffers, keep, depth + 1) for part in pair] for pair in value.items()]
        return ["dict", items]
    if kind in (torch.Tensor, torch.nn.Parameter) and value.layout == torch.strided:
        flat = value.detach().cpu().flatten().clone(memory_format=torch.contiguous_format)
        buffers.append(flat.view(torch.uint8).numpy().tobytes())
        return ["tensor", str(value.dtype), list(value.shape), len(buffers) - 1, value.requires_grad]
    if (kind is np.ndarray or isinstance(value, np.generic)) and value.dtype.kind in "biufc":
        buffers.append(np.ascontiguousarray(value).tobytes())
        return ["array" if kind is np.ndarray else "number", value.dtype.str, list(value.shape), len(buffers) - 1]
    return ["handle", keep(value), kind.__name__[:80]]


def unpack(data: bytes) -> Any:
    """An answer's value; what stayed behind is a Handle.

    Raises:
        Nonsense: bytes that pack() does not write.
    """
    try:
        (length,) = struct.unpack_from(">Q", data)
        if length > TREE:
            raise Nonsense("an answer of too many parts")
        tree, sizes = json.loads(data[8 : 8 + length])
        if min(sizes, default=0) < 0 or 8 + length + sum(sizes) != len(data):
            raise Nonsense("an answer of another length")
        ends = [8 + length + end for end in accumulate(sizes)]
        return build(tree, [data[end - size : end] for end, size in zip(ends, sizes, strict=True)])
    except Exception as error:  # whatever malformed bytes may bring about
        raise Nonsense(f"an answer that is none ({type(error).__name__})") from error


def build(tree: list, buffers: list[bytes | None]) -> Any:
    """The value that describe() described. Each buffer serves once, or a short answer could fill the memory."""
    kind, *rest = tree
    if kind == "plain" and (rest[0] is None or type(rest[0]) in (bool, int, str)):
        return rest[0]
    if kind == "float":
        return float.fromhex(rest[0])
    if kind in ("list", "tuple"):
        return {"list": list, "tuple": tuple}[kind](build(item, buffers) for item in rest[0])
    if kind == "dict":
        return {build(key, buffers): build(value, buffers) for key, value in rest[0]}
    if kind == "tensor":
        name, shape, index, wants_grad = rest
        dtype = getattr(torch, name.removeprefix("torch."))
        data, buffers[index] = bytearray(buffers[index]), None
        flat = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
        return flat.reshape(shape).clone().requires_grad_(bool(wants_grad))
    if kind in ("array", "number"):
        dtype, shape, index = rest
        array = np.frombuffer(buffers[index], dtype=np.dtype(dtype)).reshape(shape).copy()
        buffers[index] = None
        return array if kind == "array" else array[()]
    if kind == "handle":
        return Handle(int(rest[0]), str(rest[1]))
    raise Nonsense(f"an answer of kind {kind!r}")


def parts_of(value: object, found: list) -> list:
    """The tensors, networks and generators in an argument, in an order that both sides find."""
    if isinstance(value, torch.Tensor | torch.nn.Module | torch.Generator):
        found.append(value)
    elif isinstance(value, list | tuple):
        for item in value:
            parts_of(item, found)
    elif isinstance(value, dict):
        parts_of([*value.values()], found)
    return found


def crowd() -> float:
    """How many programs share a processor, from 1 to 10: on a busy machine everything may take as much longer."""
    return min(10.0, max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)))


def waited(process: int | str) -> float | None:
    """Seconds for which a process was ready to run and had no processor; None where the system does not tell."""
    try:
        with open(f"/proc/{process}/schedstat") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return None


def write_all(pipe: int, data: bytes, wait: Callable[[], None] = lambda: None) -> None:
    """A message, with its length before it; wait() returns when the pipe takes some."""
    rest = memoryview(struct.pack(">Q", len(data)) + data)
    while rest:
        wait()
        rest = rest[os.write(pipe, rest) :]


def read_exactly(pipe: int, count: int, wait: Callable[[], None]) -> bytes:
    """So many bytes; wait() returns when there are some. EOFError at the end of the pipe."""
    parts, missing = [], count
    while missing:
        wait()
        part = os.read(pipe, min(missing, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def read_message(pipe: int, wait: Callable[[], None] = lambda: None) -> bytes:
    """A message as write_all() wrote it. EOFError at the end of the pipe, Nonsense for one that is too large."""
    (length,) = struct.unpack(">Q", read_exactly(pipe, 8, wait))
    if length > LARGEST:
        raise Nonsense("an answer that is too large")
    return read_exactly(pipe, length, wait)
