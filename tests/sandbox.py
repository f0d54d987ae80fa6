"""What a submission may do while it is graded, in the process forked for it.

This keeps accidents, and cheating by the obvious ways, from costing more than the exercise. It is no jail: code that
runs in one process with its judge can, if it sets out to, reach him. exercises/README.md says what follows from that.
"""

from __future__ import annotations

import builtins
import faulthandler
import gc
import importlib
import linecache
import math
import os
import random
import resource
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import utils

MEMORY = 2 << 30    # bytes beyond what the grader itself holds
FILE_SIZE = 64 << 20  # bytes in one file, captured output included
WATCHED = (builtins, math, np, np.testing, pytest, torch, torch.Tensor, torch.autograd, torch.testing, nn, nn.Module,
           nn.Conv2d, nn.Linear, nn.ReLU, nn.Sequential, F, utils, os, os.path, sys.modules[__name__])  # fmt: skip

REFUSED = {
    "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "subprocess.Popen", "os.kill",
    "os.killpg", "signal.pthread_kill", "resource.setrlimit", "resource.prlimit", "ctypes.dlopen", "socket.connect",
    "socket.bind", "socket.getaddrinfo",
}  # fmt: skip
CHANGES = {
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown",
    "os.utime",
}  # fmt: skip
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def limit_resources() -> None:
    """Memory and file size, for good: a process can lower its limits but hardly raise them."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux counts private memory; address space would count libraries that are only mapped
        held = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmData"))
        resource.setrlimit(resource.RLIMIT_DATA, (1024 * held + MEMORY,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_SIZE, FILE_SIZE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def guard(secret: Callable[[str], bool], writable: str) -> None:
    """From now on refuse to read secret files, to write outside `writable`, and to start or end processes."""
    realpath, fspath, fsdecode, join = os.path.realpath, os.fspath, os.fsdecode, os.path.join
    readable_devices, inside = ("/dev/null", "/dev/urandom"), (writable, writable + os.sep)

    def full(path: object, folder: object = -1) -> str:
        base = f"/proc/self/fd/{folder}" if isinstance(folder, int) and folder >= 0 else ""
        return realpath(join(base, fsdecode(fspath(path))))

    def is_writable(path: str) -> bool:
        return path == inside[0] or path.startswith(inside[1]) or path in readable_devices

    def refuse(what: str) -> None:
        raise PermissionError(f"the grader does not let a submission {what}")

    def hook(event: str, args: tuple) -> None:
        if event in REFUSED:
            refuse(f"use {event}")
        elif event == "open" and not isinstance(args[0], int):
            path = full(args[0])
            if isinstance(args[2], int) and args[2] & WRITES and not is_writable(path):
                refuse(f"write {path}")
            if secret(path):
                refuse(f"read {path}")
        elif event in CHANGES and not isinstance(args[0], int):
            folders = [part for part in args[1:] if isinstance(part, int)]
            paths = [part for part in args[:2] if isinstance(part, str | bytes | os.PathLike)]
            for path in paths if event in ("os.rename", "os.link", "os.symlink") else paths[:1]:
                if not is_writable(full(path, folders[-1] if folders else -1)):
                    refuse(f"change {path}")

    sys.addaudithook(hook)


def hush() -> None:
    """No terminal, no crash report, no compiled files."""
    faulthandler.disable()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    sys.dont_write_bytecode = True


def calm(folder: str) -> None:
    """The global state every test starts from, whatever the submission made of it."""
    os.chdir(folder)
    tempfile.tempdir = folder
    sys.setrecursionlimit(1000)
    gc.enable()
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.set_grad_enabled(True)
    torch.set_num_threads(1)
    torch.autograd.set_detect_anomaly(False)
    torch.use_deterministic_algorithms(False)
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)


def watch() -> list[tuple]:
    """What the watched modules and classes hold, for restored()."""
    return [(owner, dict(vars(owner))) for owner in WATCHED]


def restored(before: list[tuple]) -> list[str]:
    """Put back what was exchanged since watch(), and name it."""
    changed, missing = [], object()
    for owner, values in before:
        now = vars(owner)
        for name, value in values.items():
            if now.get(name, missing) is not value:
                setattr(owner, name, value)
                changed.append(f"{owner.__name__}.{name}")
    return changed


def load(name: str, file: Path, source: str) -> None:
    """Run a submission's lesson or part; import_lesson(name), or import, gives it from now on."""
    room, _, part = name.rpartition(".")
    module = ModuleType(name if room else f"lesson_{name}")
    module.__file__ = str(file)
    code = compile(source, str(file), "exec", dont_inherit=True)
    linecache.cache[str(file)] = (len(source), None, source.splitlines(keepends=True), str(file))
    sys.modules[module.__name__] = module
    if room:
        setattr(importlib.import_module(room), part, module)
    exec(code, vars(module))


def sentence(error: BaseException) -> str:
    """Type and first line of an exception, even of one that lies about itself."""
    try:
        text = (str(error).strip().splitlines() or [""])[0][:200]
    except BaseException:
        text = "(no text)"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
