"""Files that are complete or not there, and names that say what they hold."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write(file: Path, fill: Callable[[BinaryIO], object], *, on_disk: bool = False) -> None:
    """Let fill(stream) write a file under a temporary name, then rename it. The folder is made if missing.

    Other programs see the old file or the new one, never half of it. The name is the process's and the thread's own.
    With on_disk that holds after a power failure, too: the name is given when the disk has the content. That takes
    milliseconds, several times what a small file takes without it.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with partial.open("wb") as stream:
            fill(stream)
            if on_disk:
                stream.flush()
                os.fsync(stream.fileno())
        os.replace(partial, file)
    except OSError as error:
        if error.errno and not error.filename:                         # of a full disk the system does not say where
            error.filename = str(file)
        raise
    finally:
        partial.unlink(missing_ok=True)


def write_text(file: Path, text: str) -> None:
    """A text as a UTF-8 file, complete or not there."""
    write(file, lambda stream: stream.write(text.encode()))


def safe_name(text: str) -> str:
    """A name with an underscore for everything but letters, digits, dots and dashes, of at most 100 bytes.

    File systems count bytes, 255 at most, and a Japanese letter has three.
    """
    return re.sub(r"[^\w.-]", "_", text).encode()[:100].decode(errors="ignore")


def fingerprint(*parts: object) -> str:
    """Ten hexadecimal digits of SHA-256 over the content of files, the values of tensors, and other things' text."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            data = part.read_bytes() if part.exists() else b""
        elif hasattr(part, "detach"):  # a tensor; torch is not imported above because the graders start without it
            import torch

            data = part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        else:
            data = str(part).encode()
        digest.update(hashlib.sha256(data).digest())
    return digest.hexdigest()[:10]
