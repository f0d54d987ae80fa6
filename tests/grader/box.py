"""Where a student's code runs: under bubblewrap if it is installed; in a container or as another user if that is asked
for; otherwise as a plain process, which is said.
"""

from __future__ import annotations

import ast
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
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
ISOLATIONS = ("bubblewrap", *CONTAINERS, "user", "none")
STRANGERS = range(20_000, 60_000)  # numbers of users that no account has; containers know numbers below 65,536
OPEN_TO_ALL = ("/tmp", "/var/tmp", "/dev/shm")
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
    elif isolation == "user":                                          # who may not look into the project
        shutil.copytree(PROJECT_ROOT / "data", to / "data")
        for path in (to, *to.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
    else:
        (to / "data").mkdir()                                          # the place for a mount


@cache
def bubblewrap() -> str | None:
    """The path of bwrap, if it is installed and may be used here."""
    program = shutil.which("bwrap")
    if program is None or not sys.platform.startswith("linux"):
        return None
    # Many containers allow all of it but the mount of /proc
    trial = [program, "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true"]
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
    if isolation == "user":
        return within_reach()
    if isolation not in CONTAINERS:
        return None
    if not shutil.which(isolation):
        return f"--isolation={isolation} needs the program {isolation}, which is not installed"
    asked = subprocess.run([isolation, "image", "inspect", image()], capture_output=True, text=True, check=False)
    if asked.returncode:
        return (f"--isolation={isolation} cannot have the image {image()} ({one_line(asked.stderr)}); "
                "exercises/forges/Dockerfile says how to build it")  # fmt: skip
    return None


def within_reach() -> str | None:
    """Why another user's process would not be kept apart from the project, in a sentence."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "--isolation=user needs root, who may run a program as another user"
    look = "import os, sys; print(os.access(sys.argv[1], os.R_OK))"
    try:
        said = subprocess.run([sys.executable, "-I", "-c", look, PROJECT_ROOT / "tests"], capture_output=True,
                              text=True, check=True, cwd="/", **as_user(stranger()))  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return f"--isolation=user: other users cannot start {sys.executable}; install Python where they can"
    if said.stdout != "False\n":
        return f"--isolation=user: other users can read the project, so run `chmod 700 {PROJECT_ROOT}`"
    return None


def stranger() -> int:
    """The number of a user that has nothing here."""
    return secrets.choice(STRANGERS)


def as_user(number: int) -> dict:
    """What has subprocess start a program as this user, without root's rights."""
    return {"user": number, "group": number, "extra_groups": []}


def end_user(number: int) -> None:
    """End all that runs as this user, and remove what is left in folders where everybody may write."""
    subprocess.run(["/bin/sh", "-c", "kill -9 -1"], capture_output=True, check=False, cwd="/", **as_user(number))
    for entry in (entry for folder in OPEN_TO_ALL if os.path.isdir(folder) for entry in os.scandir(folder)):
        with suppress(OSError):
            if entry.stat(follow_symlinks=False).st_uid == number:
                shutil.rmtree(entry) if entry.is_dir(follow_symlinks=False) else os.unlink(entry)


def libraries() -> list[str]:
    """Folders from which this Python imports packages though they are not its own: a user's, another environment's."""
    own = tuple(f"{Path(prefix).resolve()}/" for prefix in (sys.base_prefix, sys.prefix))
    return [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")
            and Path(path).is_dir() and not str(Path(path).resolve()).startswith(own)]  # fmt: skip


def command(root: Path, isolation: str, name: str) -> list[str]:
    """The answering process's command line; `isolation` is one of ISOLATIONS."""
    if isolation in ("user", "none"):
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


def surroundings(root: Path, isolation: str, user: int) -> dict:
    """What subprocess is told besides the command line: variables, and with "user" who runs it."""
    if isolation in CONTAINERS:
        return {}                                                      # the engine's client has settings of its own
    if isolation == "bubblewrap":
        return {"env": {}}
    variables = {"PATH": os.environ.get("PATH", ""), "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "HOME": str(root),
                 "PYTHONPATH": os.pathsep.join(libraries())}  # fmt: skip
    if isolation == "none":
        return {"env": variables}
    own = tempfile.mkdtemp(dir=root)
    os.chown(own, user, user)
    return {"env": {**variables, "HOME": own, "TMPDIR": own, "APART": "1"}, **as_user(user)}


def container(root: Path, engine: str, name: str) -> list[str]:
    """The same in a container: no network, nothing writable but /tmp, no rights, a limit on memory and processes.

    With --ipc=none there is no /dev/shm, which --read-only would leave writable. Podman's own limits on files and
    processes are higher than some machines allow; and as root it needs no keep-id, and refuses it.
    """
    binds = [f"{root}:/course:ro", f"{(PROJECT_ROOT / 'data').resolve()}:/course/data:ro"]
    return [
        engine, "run", "--rm", "--interactive", "--init", f"--name={name}", "--network=none", "--read-only",
        "--ipc=none", f"--tmpfs=/tmp:rw,size={SCRATCH}", "--cap-drop=ALL", "--security-opt=no-new-privileges",
        "--pids-limit=256", "--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096", "--memory=8g", "--workdir=/tmp",
        f"--user={os.getuid()}:{os.getgid()}", *(["--userns=keep-id"] if engine == "podman" and os.getuid() else []),
        *(f"--volume={bind}" for bind in binds), *(f"--env={key}={value}" for key, value in VARIABLES.items()),
        image(), "python", "/course/answerer.py", "/course",
    ]  # fmt: skip


def end_container(isolation: str, name: str) -> None:
    """The engine's own client is no parent of what runs in a container, so ending it would leave that running."""
    if isolation in CONTAINERS:
        with suppress(subprocess.TimeoutExpired):
            subprocess.run([isolation, "kill", name], capture_output=True, check=False, timeout=60)
