"""What a student handed in: lessons found, read and chosen, whatever became of their names and encodings."""

from __future__ import annotations

import io
import os
import re
import secrets
import shutil
import time
import tokenize
import zipfile
from functools import cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from markers import ROOMS, lesson_files, lesson_name, lesson_path, solution_regions

from course.paths import PROJECT_ROOT

SUFFIXES = (".py", ".ipynb")
AS_TEXT = (".txt", ".json")  # which browsers append
ARCHIVES = (".zip", ".rar", ".7z", ".tar", ".gz", ".tgz", ".bz2", ".xz")
NOT_OPENED = "it is an archive, and was not opened"
# After a file's name: why laid() wrote a note instead of it. No student can know this; processes started here do
UNREADABLE = f".{os.environ.setdefault('GRADING_NOTES', secrets.token_hex(8))}"
LARGEST = 20 << 20          # bytes of a file that could be a lesson
DEEPEST = 6                 # folders in folders
SKIPPED = {"__MACOSX", "__pycache__", "node_modules", "venv", "site-packages"}
COURSE = {"outputs", "data", "tests", "course", "exercises"}  # the course's own, unless there is a lesson in one
LESSON = re.compile(rf"(.*/)?((?!test_)[^/]*\d\d_[a-z][^/]*|({'|'.join(ROOMS)})/[^/]*)\.(py|ipynb)(\.txt|\.json)?",
                    re.IGNORECASE)  # fmt: skip

EXERCISE = re.compile(r"# (?:EXERCISE|BEGIN SOLUTION) (\d+\.\d+)")

Files = dict[str, Path | str]  # path inside a submission -> the file, or why it cannot be read


class Found(NamedTuple):
    """A lesson as text, where it came from, and what the grader has to say about that."""

    text: str
    file: str
    notes: tuple[str, ...] = ()


def files_of(folder: Path) -> Files:
    """All that could be a lesson or a helper, in folders of folders too. Nothing is read through a link."""
    found: Files = {}
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        try:
            for path in sorted(place.iterdir()):
                name, is_link = shown(path.relative_to(folder).as_posix()), path.is_symlink()
                if path.name.startswith(".") or path.name in SKIPPED:
                    continue
                if path.is_dir() and not is_link:
                    if name.count("/") < DEEPEST:
                        waiting.append(path)
                    else:
                        found[name] = "it lies in too many folders"
                elif path.suffix == UNREADABLE and not is_link:
                    with path.open(encoding="utf-8", errors="replace") as said:
                        found[name.removesuffix(UNREADABLE)] = shown(said.read(200))
                elif (kind_of(name) or path.suffix.lower() in ARCHIVES) and (is_link or path.is_file()):
                    found[name] = why_not(path) or path
        except OSError as error:
            found[shown(place.relative_to(folder).as_posix())] = f"the folder cannot be read ({type(error).__name__})"
    lessons = [name for name in found if LESSON.fullmatch(name)]
    return {name: file for name, file in found.items() if not in_course(name, lessons)}


def kind_of(name: str) -> str:
    """".py", ".ipynb" or "": which of these a file is, "05_gradcam.py.txt" too."""
    path = PurePosixPath(name)
    path = path.with_suffix("") if path.suffix.lower() in AS_TEXT else path
    return path.suffix.lower() if path.suffix.lower() in SUFFIXES else ""


def stem_of(name: str) -> str:
    """A file's name without folders and without what says its kind."""
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in SUFFIXES else PurePosixPath(path.stem).stem


def why_not(path: Path) -> str:
    """Why a file is not read; "" if it is."""
    if path.is_symlink():
        return "it is a link, not a file"
    if path.suffix.lower() in ARCHIVES:
        return NOT_OPENED
    return f"it is larger than {LARGEST >> 20} MB" if path.stat().st_size > LARGEST else ""


def in_course(name: str, lessons: list[str]) -> bool:
    """Whether a file lies in a folder like the course's tests/, in which none of these lessons lies."""
    parts = PurePosixPath(name).parts[:-1]
    folders = ["/".join(parts[: i + 1]) + "/" for i, part in enumerate(parts) if part in COURSE]
    return not all(any(lesson.startswith(folder) for lesson in lessons) for folder in folders)


def shown(name: str) -> str:
    """A name that can be printed and written as UTF-8, whatever stands in it; two names stay two."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in name)


def candidates(lesson: str, names: list[str]) -> list[str]:
    """Of files handed in those that are this lesson, whatever people and browsers made of the name; exact names first.

    "05_gradcam (1).py", "5-gradcam - Copy.ipynb", "ada_05_gradcam_v2.py" and "student/05_gradcam.py.txt" are lesson 05.
    A part has no number, so its name may be the beginning of a helper's: only copies of it are taken.
    """
    stem = lesson.rpartition(".")[2]
    exact = {lesson_path(lesson) + suffix for suffix in SUFFIXES} | {lesson + suffix for suffix in SUFFIXES}
    words = "[ _-]+".join(re.escape(word) for word in stem.removeprefix("0").split("_"))
    copies = r"(?:[ _-]*(?:\(\d+\)|\d|copy|final|solved))*"
    zero, ending = ("0?", r"(?:[^a-z].*)?") if stem[0].isdigit() else ("", copies)
    pattern = re.compile(rf"(?!test_)(?:.*[^0-9a-z])?{zero}{words}{ending}", re.IGNORECASE | re.DOTALL)
    same = [name for name in names if kind_of(name) and pattern.fullmatch(stem_of(name))]
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


def script_of(file: Path | str) -> str:
    """The text of a script, or of a notebook as a script.

    Raises:
        ValueError: it cannot be read; the sentence says why.
    """
    if isinstance(file, str):
        raise ValueError(file)
    if kind_of(file.name) == ".py":
        return decoded(file.read_bytes())
    import jupytext  # takes a second

    try:
        book = jupytext.reads(decoded(file.read_bytes()), "ipynb")
        # a cell's tag is heeded: one that runs the course's tests becomes a comment
        book.metadata["jupytext"] = {"cell_metadata_filter": "tags,-all", "notebook_metadata_filter": "-all"}
        return jupytext.writes(book, "py:percent")
    except Exception as error:  # whatever a reader of broken notebooks may raise
        raise ValueError(f"the notebook cannot be read ({type(error).__name__})") from error


def answers_in(text: str) -> str:
    """What stands in the gaps, without the stubs."""
    begin, end = re.compile(r"# (?:EXERCISE|BEGIN SOLUTION) [\d.]+"), re.compile(r"# END (?:EXERCISE|SOLUTION)")
    stub = re.compile(r"#|raise NotImplementedError\(|ANSWER_\d+_\d+ = None|$")
    kept: list[str] = []
    inside = False
    for line in map(str.strip, text.split("\n")):
        inside = bool(begin.search(line)) or (inside and not end.search(line))
        if inside and not stub.match(line):
            kept.append(line)
    return "\n".join(kept)


def handed_in(files: Files, lesson: str) -> Found:
    """A student's lesson: of script and notebook the one that is filled in; of two filled ones the newer.

    Args:
        files: what was handed in, from files_of().
        lesson: its name, such as "05_gradcam".

    Raises:
        ValueError: it is missing or cannot be read; the sentence says so.
    """
    names = candidates(lesson, list(files))
    texts, broken = read(files, names)
    full = [name for name in texts if answers_in(texts[name])]
    if not full:
        first = numbers_of(lesson)[:1]                                 # to parse every notebook would take seconds
        others, _ = read(files, [name for name in strangers(files) if first and mentions(files[name], first[0])])
        texts |= {name: text for name, text in others.items() if EXERCISE.findall(text) == numbers_of(lesson)}
        full = [name for name in texts if answers_in(texts[name])]
    if not texts and not broken:
        closed = [f"{name}: {file}" for name, file in files.items() if isinstance(file, str) and not kind_of(name)]
        there = [*closed, *(f"{name} is there" for name in strangers(files))][:3]  # it may be in one of these
        raise ValueError(f"{lesson_path(lesson)}.py is missing" + (f" ({'; '.join(there)})" if there else ""))
    if broken and not full:                                            # the answers are in the one that is broken
        raise ValueError("; ".join(broken))
    full, notes = full or list(texts), list(broken)
    chosen = full[0]
    if len({answers_in(texts[name]) for name in full}) > 1:
        chosen = max(full, key=lambda name: files[name].stat().st_mtime)
        others = ", ".join(name for name in full if name != chosen)
        notes.append(f"{chosen} and {others} are both filled in and differ; the newer one, {chosen}, counts")
    elif chosen not in (f"{lesson_path(lesson)}.py", f"{lesson}.ipynb", f"{lesson_path(lesson)}.ipynb"):
        notes.append(f"found as {chosen}")
    return Found(texts[chosen], chosen, tuple(notes))


def read(files: Files, names: list[str]) -> tuple[dict[str, str], list[str]]:
    """The texts of those that can be read, by name, and a sentence for each other."""
    texts, broken = {}, []
    for name in names:
        try:
            texts[name] = script_of(files[name])
        except (ValueError, OSError) as error:
            broken.append(f"{name}: {error}")
    return texts, broken


def strangers(files: Files) -> list[str]:
    """Files whose names are no lesson's: one may be a lesson all the same, saved as "homework"."""
    taken = {name for lesson in lesson_names() for name in candidates(lesson, list(files))}
    return [name for name, file in files.items() if name not in taken and kind_of(name) and isinstance(file, Path)][:50]


def mentions(file: Path, exercise: str) -> bool:
    """Whether a file has the marker line of an exercise."""
    try:
        return any(f"{edge} {exercise}".encode() in file.read_bytes() for edge in ("EXERCISE", "BEGIN SOLUTION"))
    except OSError:
        return False


@cache
def lesson_names() -> tuple[str, ...]:
    """All lessons and parts of the course."""
    return tuple(lesson_name(file, PROJECT_ROOT) for file in lesson_files(PROJECT_ROOT))


@cache
def numbers_of(lesson: str) -> list[str]:
    """The exercises of a lesson's gaps, in order."""
    text = (PROJECT_ROOT / f"{lesson_path(lesson)}.py").read_text(encoding="utf-8")
    return [region.exercise for region in solution_regions(text, lesson)]


@cache
def course_modules() -> frozenset[str]:
    """Texts of the modules that stand beside the parts. Who hands in the whole tree hands them in as well."""
    return frozenset(file.read_text(encoding="utf-8") for room in ROOMS for file in PROJECT_ROOT.glob(f"{room}/*.py"))


def helpers_of(files: Files) -> dict[str, str]:
    """Modules of the student's own, by name: scripts at the top of the folder, or beside the lessons, that are none."""
    found: dict[str, str] = {}
    taken = {name for lesson in lesson_names() for name in candidates(lesson, list(files))}
    for name, path in files.items():
        module = PurePosixPath(name).stem
        if name in taken or isinstance(path, str) or path.suffix.lower() != ".py":
            continue
        if module.isidentifier() and module not in ("utils", "conftest"):
            try:
                text = decoded(path.read_bytes())
            except (ValueError, OSError):
                continue
            if text not in course_modules():
                found.setdefault(module, text)
    return found


def laid(path: Path, to: Path) -> None:
    """A copy of what was handed in: a file, a folder without its links, a .zip as a folder. No file is written over.

    What cannot be copied or unpacked is noted for files_of().
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        to.mkdir()
        for name, file in files_of(path).items():
            if isinstance(file, Path) or (file == NOT_OPENED and name.lower().endswith(".zip")):
                laid(file if isinstance(file, Path) else path / name, to / name)
            else:
                note(to / name, file)
    elif path.suffix.lower() == ".zip":
        unpacked(path, to)
    else:
        try:
            shutil.copy2(path, to)
        except OSError as error:
            note(to, f"it cannot be read ({type(error).__name__})")


def unpacked(archive: Path, to: Path, largest: int = 200 << 20) -> None:
    """The lessons and helpers in a .zip, in a new folder: without links, bombs, and paths that lead outside.

    What cannot be unpacked is noted for files_of().
    """
    to.mkdir()                                                         # fails if it is there
    try:
        with zipfile.ZipFile(archive) as package:
            members = [info for info in package.infolist() if wanted(info)]
            if sum(info.file_size for info in members) > largest or len(members) > 2000:
                note(to, "it holds too much")
                return
            for info in members:
                unpack(package, info, to.joinpath(*PurePosixPath(info.filename).parts))
    except Exception as error:                                         # whatever a reader of broken archives may raise
        note(to, f"it cannot be opened ({type(error).__name__})")


def unpack(package: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    """One member, with its date: of two answers the newer counts."""
    if target.suffix.lower() in ARCHIVES:
        note(target, NOT_OPENED)
    elif info.flag_bits & 1:
        note(target, "it is encrypted")
    elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        note(target, "it is compressed in a way that is not read here")  # bz2 and lzma: Python bounds no bombs of these
    else:
        try:
            with package.open(info) as member:
                data = member.read(info.file_size)                     # without a number a bomb would unfold first
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            written = time.mktime((*info.date_time, 0, 0, -1))
            os.utime(target, (written, written))
        except Exception as error:                                     # damaged
            note(target, f"it cannot be unpacked ({type(error).__name__})")


def note(place: Path, why: str) -> None:
    """Say for files_of() that something was handed in, and why it is not there."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.with_name(place.name + UNREADABLE).write_text(why, encoding="utf-8")


def wanted(info: zipfile.ZipInfo) -> bool:
    """Whether a member of an archive could be a lesson or a helper, or is an archive."""
    path = PurePosixPath(info.filename)
    outside = info.filename.startswith(("/", "\\")) or ".." in path.parts
    link = (info.external_attr >> 16) & 0o170000 == 0o120000
    skipped = any(part in SKIPPED or part.startswith(".") for part in path.parts)
    archive = path.suffix.lower() in ARCHIVES
    return not (info.is_dir() or outside or link or skipped) and bool(archive or kind_of(info.filename))
