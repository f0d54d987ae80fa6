"""What a student handed in: lessons found, read and chosen, whatever became of their names and encodings."""

from __future__ import annotations

import io
import re
import tokenize
import zipfile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import jupytext
from markers import lesson_path

SUFFIXES = (".py", ".ipynb")
LARGEST = 20 << 20       # bytes of a file that could be a lesson
DEEPEST = 4              # folders in folders
SKIPPED = {"__MACOSX", "__pycache__", "outputs", "data", "tests", "course", "exercises", "node_modules", "venv"}


class Found(NamedTuple):
    """A lesson as text, where it came from, and what the grader has to say about that."""

    text: str
    file: str
    notes: tuple[str, ...] = ()


def files_of(folder: Path) -> dict[str, Path]:
    """Path inside the folder -> file, for all that could be a lesson or a helper; symbolic links are left out."""
    found, waiting = {}, [(folder, 0)]
    while waiting:
        place, depth = waiting.pop()
        for path in sorted(place.iterdir()):
            if path.is_symlink() or path.name.startswith("."):
                continue
            if path.is_dir() and depth < DEEPEST and path.name not in SKIPPED:
                waiting.append((path, depth + 1))
            elif path.is_file() and path.suffix in SUFFIXES and path.stat().st_size <= LARGEST:
                found[path.relative_to(folder).as_posix()] = path
    return found


def candidates(lesson: str, names: list[str]) -> list[str]:
    """Of files handed in those that are this lesson, whatever a browser or a forge made of the name; exact names first.

    "05_gradcam (1).py", "05_gradcam-2.ipynb", "ada_05_gradcam.py" and "student/05_gradcam.py" are lesson 05.
    """
    stem = lesson.rpartition(".")[2]
    exact = {lesson_path(lesson) + suffix for suffix in SUFFIXES} | {lesson + suffix for suffix in SUFFIXES}
    pattern = re.compile(rf"(?:.*[^0-9A-Za-z])?{re.escape(stem)}(?:[ _-]?(?:\(\d+\)|copy|\d{{1,2}}|final|solved))*")
    same = [name for name in names if pattern.fullmatch(PurePosixPath(name).stem)]
    return sorted(same, key=lambda name: (name not in exact, name.count("/"), len(name), name))


def decoded(data: bytes) -> str:
    """Python source as text: with a byte order mark, a coding cookie, any line ends.

    Raises:
        ValueError: bytes that are no text.
    """
    marks = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
    marked = next((encoding for mark, encoding in marks.items() if data.startswith(mark)), None)
    try:
        return plain(data.decode(marked or tokenize.detect_encoding(io.BytesIO(data).readline)[0]))
    except (SyntaxError, UnicodeDecodeError, LookupError) as error:
        raise ValueError(f"the file is no text in the encoding it names ({type(error).__name__})") from error


def plain(text: str) -> str:
    """Text with \\n line ends, and without a coding cookie, which would contradict a text that is decoded already."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    cookie = re.compile(r"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
    return "\n".join("#" if i < 2 and cookie.match(line) else line for i, line in enumerate(lines))


def script_of(file: Path) -> str:
    """The text of a script, or of a notebook as a script."""
    if file.suffix == ".py":
        return decoded(file.read_bytes())
    try:
        return jupytext.writes(jupytext.reads(decoded(file.read_bytes()), "ipynb"), "py:percent")
    except Exception as error:  # whatever a reader of broken notebooks may raise
        raise ValueError(f"the notebook cannot be read ({type(error).__name__})") from error


def answers_in(text: str) -> str:
    """What stands in the gaps, without the stubs."""
    gaps = re.findall(r"# (?:EXERCISE|BEGIN SOLUTION) [\d.]+.*?\n(.*?)# END (?:EXERCISE|SOLUTION)", text, re.DOTALL)
    kept = [line.strip() for gap in gaps for line in gap.split("\n")]
    stub = re.compile(r"#|raise NotImplementedError\(|ANSWER_\d+_\d+ = None|$")
    return "\n".join(line for line in kept if not stub.match(line))


def handed_in(files: dict[str, Path], lesson: str) -> Found:
    """A student's lesson: of script and notebook the one that is filled in; of two filled ones the newer.

    Args:
        files: what was handed in, from files_of().
        lesson: its name, such as "05_gradcam".

    Raises:
        ValueError: it is missing or cannot be read; the sentence says so.
    """
    names = candidates(lesson, list(files))
    if not names:
        raise ValueError(f"{lesson_path(lesson)}.py is missing")
    texts, broken = {}, []
    for name in names:
        try:
            texts[name] = script_of(files[name])
        except (ValueError, OSError) as error:
            broken.append(f"{name}: {error}")
    if not texts:
        raise ValueError("; ".join(broken))
    full = [name for name in texts if answers_in(texts[name])] or list(texts)
    notes = list(broken)
    chosen = full[0]
    if len({answers_in(texts[name]) for name in full}) > 1:
        chosen = max(full, key=lambda name: files[name].stat().st_mtime)
        others = ", ".join(name for name in full if name != chosen)
        notes.append(f"{chosen} and {others} are both filled in and differ; the newer one, {chosen}, counts")
    elif chosen not in (f"{lesson_path(lesson)}.py", f"{lesson}.ipynb", f"{lesson_path(lesson)}.ipynb"):
        notes.append(f"found as {chosen}")
    return Found(texts[chosen], chosen, tuple(notes))


def helpers_of(files: dict[str, Path], lessons: list[str]) -> dict[str, str]:
    """Modules of the student's own, by name: scripts at the top of the folder, or beside the lessons, that are none."""
    found: dict[str, str] = {}
    taken = {name for lesson in lessons for name in candidates(lesson, list(files))}
    for name, path in files.items():
        module = PurePosixPath(name).stem
        if path.suffix == ".py" and name not in taken and module.isidentifier() and module not in ("utils", "conftest"):
            try:
                found.setdefault(module, decoded(path.read_bytes()))
            except (ValueError, OSError):
                continue
    return found


def unpacked(archive: Path, to: Path, largest: int = 200 << 20) -> None:
    """The lessons and helpers in a .zip, without paths that lead outside, links, or bombs.

    Raises:
        ValueError: it is no archive, or holds too much.
    """
    try:
        with zipfile.ZipFile(archive) as package:
            members = [info for info in package.infolist() if wanted(info)]
            if sum(info.file_size for info in members) > largest or len(members) > 2000:
                raise ValueError(f"{archive.name} holds too much")
            for info in members:
                target = to.joinpath(*PurePosixPath(info.filename).parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(package.read(info))
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError) as error:
        raise ValueError(f"{archive.name} is no archive that can be opened ({type(error).__name__})") from error


def wanted(info: zipfile.ZipInfo) -> bool:
    """Whether a member of an archive could be a lesson or a helper."""
    parts = PurePosixPath(info.filename).parts
    outside = info.filename.startswith(("/", "\\")) or ".." in parts or ":" in info.filename
    link = (info.external_attr >> 16) & 0o170000 == 0o120000
    skipped = any(part in SKIPPED or part.startswith(".") for part in parts)
    return not (info.is_dir() or outside or link or skipped) and PurePosixPath(info.filename).suffix in SUFFIXES
