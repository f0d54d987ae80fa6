"""What the benchmarks' pages have in common: tables in Markdown, where they stand, and which machine it was."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from datetime import date
from pathlib import Path

import pandas as pd
import torch

from course.files import write_text
from utils import DATA_DIR, OUTPUT_DIR

RESULTS = DATA_DIR / "results"


def results(complete: bool) -> Path:
    """Where tables go: those of a try with fewer rounds or pictures into outputs/, beside nothing that is quoted."""
    return RESULTS if complete else OUTPUT_DIR


def machine(*packages: str) -> str:
    """The date, the processor, its threads and its load now, and versions."""
    load = f", load average {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in ("torch", *packages))
    threads = f"{torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"
    return (f"{date.today()}; {os.cpu_count()} processors ({processor()}), {threads}{load}; "
            f"Python {platform.python_version()}, {versions}")  # fmt: skip


def processor() -> str:
    """The processor's name, and what it has for bfloat16."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    has = [name for name, there in torch.cpu.get_capabilities().items() if "bf16" in name and there is True]
    return ", ".join([names[0] if names else platform.processor() or platform.machine(), *has])


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def put_between(file: Path, name: str, section: str) -> None:
    """Exchange what stands in a page between <!-- name --> and <!-- end of name -->."""
    before, found, rest = file.read_text(encoding="utf-8").partition(f"<!-- {name} -->\n")
    _, ends, after = rest.partition(f"<!-- end of {name} -->\n")
    if not (found and ends):
        raise ValueError(f"{file} has no <!-- {name} --> with an <!-- end of {name} --> after it")
    write_text(file, f"{before}{found}\n{section}\n{ends}{after}")


def write_csv(file: Path, table: pd.DataFrame) -> None:
    """Numbers with four digits, under a temporary name first."""
    write_text(file, table.to_csv(index=False, float_format="%.4g"))
