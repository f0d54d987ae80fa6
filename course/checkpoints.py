"""Networks that were trained here: weights as float16, and beside them a log that names their SHA-256."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from course.files import write, write_text


def packed(model: nn.Module) -> bytes:
    """The weights as a file of float16 tensors."""
    buffer = io.BytesIO()
    torch.save({name: tensor.half() for name, tensor in model.state_dict().items()}, buffer)
    return buffer.getvalue()


def unpacked(data: bytes) -> dict[str, Tensor]:
    """The weights in such a file, as float32."""
    return {name: tensor.float() for name, tensor in torch.load(io.BytesIO(data), weights_only=True).items()}


def write_checkpoint(file: Path, data: bytes, notes: Sequence[str], header: str, log: Sequence[str]) -> None:
    """`file`, and beside it <stem>.csv: the notes as comments, the SHA-256 of the data, then header and log."""
    lines = [*(f"# {note}" for note in notes), f"# sha256 {hashlib.sha256(data).hexdigest()}", header, *log, ""]
    write(file, lambda stream: stream.write(data))
    write_text(file.with_suffix(".csv"), "\n".join(lines))


def read_checkpoint(file: Path, command: str) -> dict[str, Tensor]:
    """The weights in `file` as float32, once its SHA-256 is the one in its log.

    Args:
        file: data/weights/<stem>.pt, with <stem>.csv beside it.
        command: that trains the network anew, for the message.

    Raises:
        RuntimeError: the file or its log is missing, truncated, or does not belong to the other.
    """
    log = file.with_suffix(".csv")
    data, text = (path.read_bytes() if path.exists() else b"" for path in (file, log))
    if not data or f"# sha256 {hashlib.sha256(data).hexdigest()}\n".encode() not in text:
        raise RuntimeError(
            f"{file.name} or {log.name} in {file.parent} is missing, truncated or altered; restore both with "
            f"`git checkout -- data/weights/{file.stem}.*`, or train anew with `{command}`"
        )
    return unpacked(data)
