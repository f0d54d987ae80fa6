"""Where a student's code runs: under bubblewrap if it is installed, in a container if that is asked for, otherwise as a
plain process, which is said.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

from markers import lesson_files, lesson_name, lesson_path

from course.checks import one_line
from course.paths import PROJECT_ROOT

HERE = Path(__file__).resolve().parent
ANSWERER = ("answerer.py", "wire.py")
SCRATCH = 256 << 20  # bytes that a submission can write, all files together
CONTAINERS = ("docker", "podman")
IMAGE = "SALIENCY_IMAGE"  # the variable that names the image, which has the packages of requirements.txt


def text_of(name: str) -> str:
    """The reference's text of a lesson, part or module."""
    return (PROJECT_ROOT / f"{lesson_path(name)}.py").read_text(encoding="utf-8")


def imports(name: str) -> set[str]:
    """Everything that a lesson, part or module of the project names as a module: "torch.nn", "utils", "05_gradcam"."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text_of(name))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "import_lesson":
            found |= {argument.value for argument in node.args if isinstance(argument, ast.Constant)}
    return found


def in_project(name: str) -> bool:
    """Whether a module is a file of the project."""
    return (PROJECT_ROOT / f"{lesson_path(name)}.py").is_file()


@cache
def below(name: str) -> tuple[str, ...]:
    """The lessons and parts that one builds on, itself excepted, in an order in which they can be imported."""
    order: list[str] = []

    def visit(other: str) -> None:
        for lower in sorted(filter(in_project, imports(other))):
            if lower not in (*order, name) and not lower.startswith(("course.", "utils")):
                visit(lower)
                order.append(lower)

    visit(name)
    return tuple(order)


@cache
def packages() -> tuple[str, ...]:
    """What the course imports from outside, and its modules below the lessons: warm before a student's code comes."""
    own = ["utils", *(f"course.{file.stem}" for file in sorted(PROJECT_ROOT.glob("course/*.py")))]
    lessons = [lesson_name(file, PROJECT_ROOT) for file in lesson_files(PROJECT_ROOT)]
    outside = {name for each in lessons for name in imports(each) if not in_project(name) and not name[0].isdigit()}
    return (*own, *sorted(outside - {"__future__"}))


def copy_course(to: Path, isolation: str) -> None:
    """What the answering process may see of the course: utils.py, course/ and the data. No lesson, no test."""
    shutil.copy(PROJECT_ROOT / "utils.py", to)
    shutil.copytree(PROJECT_ROOT / "course", to / "course", ignore=shutil.ignore_patterns("__pycache__"))
    for file in ANSWERER:
        shutil.copy(HERE / file, to / file)
    if isolation == "none":
        os.symlink(PROJECT_ROOT / "data", to / "data")
    else:
        (to / "data").mkdir()                                          # the place for a mount


@cache
def bubblewrap() -> str | None:
    """The path of bwrap, if it is installed and may be used here."""
    program = shutil.which("bwrap")
    if program is None or not sys.platform.startswith("linux"):
        return None
    trial = [program, "--unshare-all", "--ro-bind", "/", "/", "true"]
    return program if subprocess.run(trial, capture_output=True, check=False).returncode == 0 else None


def image() -> str:
    """The name of the containers' image."""
    return os.environ.get(IMAGE, "saliency-course")


def chosen(isolation: str) -> str:
    """The isolation itself where "auto" is asked for."""
    return isolation if isolation != "auto" else "bubblewrap" if bubblewrap() else "none"


def missing(isolation: str) -> str | None:
    """Why an isolation that was asked for cannot be had, in a sentence."""
    if isolation == "bubblewrap" and not bubblewrap():
        return "--isolation=bubblewrap needs the program bwrap, and the right to use it"
    if isolation not in CONTAINERS:
        return None
    if not shutil.which(isolation):
        return f"--isolation={isolation} needs the program {isolation}, which is not installed"
    asked = subprocess.run([isolation, "image", "inspect", image()], capture_output=True, text=True, check=False)
    if asked.returncode:
        return (f"--isolation={isolation} cannot have the image {image()} ({one_line(asked.stderr)}); "
                "exercises/forges/Dockerfile says how to build it")  # fmt: skip
    return None


def libraries() -> list[str]:
    """Folders from which this Python imports packages though they are not its own: a user's, another environment's."""
    own = tuple(f"{Path(prefix).resolve()}/" for prefix in (sys.base_prefix, sys.prefix))
    return [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")
            and Path(path).is_dir() and not str(Path(path).resolve()).startswith(own)]  # fmt: skip


def command(root: Path, isolation: str, name: str) -> list[str]:
    """The answering process's command line; `isolation` is "bubblewrap", "docker", "podman" or "none"."""
    if isolation == "none":
        return [sys.executable, str(root / "answerer.py"), str(root)]
    if isolation in CONTAINERS:
        return container(root, isolation, name)
    python = [str(Path(prefix).resolve()) for prefix in (sys.base_prefix, sys.prefix)]
    system = [path for path in ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/alternatives")
              if os.path.exists(path)]  # fmt: skip
    binds = [("--ro-bind", path, path) for path in dict.fromkeys([*system, *python, *libraries()])]
    binds += [("--ro-bind", str(root), "/course"), ("--ro-bind", str(PROJECT_ROOT / "data"), "/course/data")]
    return [
        bubblewrap(), "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv",
        "--proc", "/proc", "--dev", "/dev", "--size", str(SCRATCH), "--tmpfs", "/tmp",
        *(word for bind in binds for word in bind), "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp",
        *(word for item in VARIABLES.items() for word in ("--setenv", *item)), "--setenv", "PATH", "/usr/bin",
        "--setenv", "PYTHONPATH", os.pathsep.join(libraries()),
        sys.executable, "/course/answerer.py", "/course",
    ]  # fmt: skip


VARIABLES = {"OMP_NUM_THREADS": "1", "HOME": "/tmp", "MPLBACKEND": "Agg", "BOXED": "1",
             "MPLCONFIGDIR": "/tmp/matplotlib"}  # fmt: skip


def container(root: Path, engine: str, name: str) -> list[str]:
    """The same in a container: no network, nothing writable but /tmp, no rights, a limit on memory and processes.

    With --ipc=none there is no /dev/shm, which --read-only would leave writable.
    """
    binds = [f"{root}:/course:ro", f"{(PROJECT_ROOT / 'data').resolve()}:/course/data:ro"]
    return [
        engine, "run", "--rm", "--interactive", "--init", f"--name={name}", "--network=none", "--read-only",
        "--ipc=none", f"--tmpfs=/tmp:rw,size={SCRATCH}", "--cap-drop=ALL", "--security-opt=no-new-privileges",
        "--pids-limit=256", "--memory=8g", "--workdir=/tmp", f"--user={os.getuid()}:{os.getgid()}",
        *(["--userns=keep-id"] if engine == "podman" else []),
        *(f"--volume={bind}" for bind in binds), *(f"--env={key}={value}" for key, value in VARIABLES.items()),
        image(), "python", "/course/answerer.py", "/course",
    ]  # fmt: skip


def end_container(isolation: str, name: str) -> None:
    """The engine's own client is no parent of what runs in a container, so ending it would leave that running."""
    if isolation in CONTAINERS:
        with suppress(subprocess.TimeoutExpired):
            subprocess.run([isolation, "kill", name], capture_output=True, check=False, timeout=60)
