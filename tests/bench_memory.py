"""What a method's call adds to the memory of its process, of each library in a process of its own. Linux."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

import torch
from bench_libraries import LIBRARIES, SAMPLES, pictures

from utils import PROJECT_ROOT

STATUS = Path("/proc/self/status")


def resident(what: str) -> float:
    """MiB of this process: VmRSS now, VmHWM at its largest."""
    return int(re.search(rf"{what}:\s+([0-9]+) kB", STATUS.read_text())[1]) / 1024


def added(library: str, method: str, count: int, samples: int) -> float:
    """MiB that a first call takes at its largest, beyond what the process has before it, with network and pictures."""
    build, _ = LIBRARIES[library]
    call = build(method)
    images, target = pictures(count), torch.full((count,), 235)
    options = {"smoothgrad": {"n_samples": samples}, "integrated_gradients": {"n_steps": samples}}
    ctypes.CDLL(None).malloc_trim(0)                    # free memory that is still held would hide what a call takes
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")                      # VmHWM begins anew, after the loading
    call(images, target, **options.get(method, {}) if library.startswith("ours") else {})
    return resident("VmHWM") - before


def added_by_each(method: str, count: int, names: list[str], samples: int = SAMPLES) -> list[dict]:
    """The same for all named libraries, each in a process of its own."""
    if not STATUS.exists():
        return []
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()), "PYTHONPATH": str(PROJECT_ROOT)}
    rows = []
    for library in names:
        command = [sys.executable, __file__, library, method, str(count), str(samples)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env=environment)
        rows.append({"library": library, "round": 0, "value": float(done.stdout)})
    return rows


if __name__ == "__main__":
    print(added(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
