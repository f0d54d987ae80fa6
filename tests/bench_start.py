"""How long a student waits for the first figure of lesson 01, and how much of that is imports."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from utils import PROJECT_ROOT

LESSON = "01_vanilla_gradient_saliency"


def first_figure() -> float:
    """Seconds from the start of lesson 01 until its first figure is on disk."""
    command, start = [sys.executable, f"{LESSON}.py", "--output-dir"], time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        program = subprocess.Popen([*command, folder], cwd=PROJECT_ROOT, stdout=subprocess.DEVNULL)
        try:
            while not any(Path(folder).glob("*.png")):
                assert program.poll() is None, "lesson 01 ended without a figure"
                time.sleep(0.01)
            return time.perf_counter() - start
        finally:
            program.kill()
            program.wait()


def imports() -> float:
    """Seconds from the start of a process until it has imported what lesson 01 does."""
    code = f"from utils import import_lesson; import_lesson('{LESSON}'); print('done', flush=True)"
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT_ROOT, stdout=subprocess.PIPE) as program:
        program.stdout.readline()
        found = time.perf_counter() - start                            # before the process ends, which takes long too
    assert program.returncode == 0, "lesson 01 cannot be imported"
    return found


def beginnings(rounds: int) -> list[dict]:
    """Both in turn, after one start to bring the files into memory."""
    imports()
    return [{"library": name, "round": i, "value": call()} for i in range(rounds)
            for name, call in (("first figure", first_figure), ("imports", imports))]  # fmt: skip
