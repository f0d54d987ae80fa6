"""Grade a student's folder: `pytest tests --submission student/ --grades grades.json`.

Runs the tests that carry points. Each exercise runs in a forked process of its own with the student's lesson; lessons
it builds on are the reference's. A test counts if it passes with the lesson's other exercises solved by the reference,
so that one wrong answer costs one exercise, or with the lesson as it was handed in.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import json
import os
import select
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
from markers import Exercise, announced, lesson_files, lesson_name, lesson_path, others_solved

from course.files import write_text
from utils import PROJECT_ROOT, import_lesson

RESULTS = pytest.StashKey[dict]()
LONGEST_TEXT = 4000      # characters of a report
LONGEST_MESSAGE = 1 << 20  # bytes
ERRORS = ("SystemExit", "KeyboardInterrupt", "MemoryError", "PermissionError", "RecursionError")


class Outcome(NamedTuple):
    """What became of one test: "passed", "wrong", "gap" (not attempted) or "error", and why."""

    kind: str
    reason: str = ""


class Grade(NamedTuple):
    """One exercise's line in the report."""

    exercise: Exercise
    earned: float
    possible: float
    result: str
    reason: str


# What pytest calls


def add_options(parser: pytest.Parser) -> None:
    """The options of grading."""
    group = parser.getgroup("grading")
    group.addoption("--submission", metavar="FOLDER", help="grade the lessons in this folder")
    group.addoption("--grades", metavar="FILE", help="write the grades as JSON, in Gradescope's format")
    group.addoption("--exercise", action="append", default=[], help="grade only this one, such as 5.1; repeatable")
    group.addoption("--time-limit", type=float, default=10, help="seconds for a test (default: %(default)s)")


def switch_on(config: pytest.Config) -> None:
    """If a submission is to be graded: check the options, register this plugin, and keep pytest's own report short."""
    options = config.option
    if options.submission is None:
        if options.grades or options.exercise:
            raise pytest.UsageError("--grades and --exercise need --submission FOLDER")
        return
    if not Path(options.submission).is_dir():
        raise pytest.UsageError(f"--submission {options.submission} is no folder; name the one with the lessons in it")
    if not hasattr(os, "fork"):
        raise pytest.UsageError("grading needs Linux or macOS, because it forks; on Windows run it in WSL")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    options.tbstyle = "no" if options.tbstyle == "auto" else options.tbstyle
    options.reportchars = "" if options.reportchars == "fE" else options.reportchars
    config.stash[RESULTS] = {}
    config.pluginmanager.register(sys.modules[__name__], "grading")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Files without points are not even imported: that would put the solutions into memory."""
    if collection_path.suffix == ".py" and "mark.points(" not in collection_path.read_text(encoding="utf-8"):
        return True
    return None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Only tests with points, in the order of the exercises."""
    wanted, chosen = config.option.exercise, []
    for item in items:
        mark = item.get_closest_marker("points")
        if mark and (not wanted or mark.kwargs["exercise"] in wanted):
            chosen.append(item)
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = sorted(chosen, key=lambda item: (lesson_order(lesson_of(item)), exercise_key(exercise_of(item))))


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool:
    """Instead of pytest's loop: lesson by lesson, exercise by exercise."""
    if session.config.option.collectonly:
        return True
    if session.testsfailed:
        raise session.Interrupted("the tests themselves could not be loaded")
    for lesson, items in groupby(session.items, lesson_of):
        grade_lesson(session.config, lesson, list(items))
    return True


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    """The table."""
    grades = all_grades(config)
    if not grades:
        return
    terminalreporter.section(f"grades of {config.option.submission}")
    rows = [(f"{g.exercise.number} {g.exercise.title}", f"{g.earned:g}", f"{g.possible:g}", g.result, g.reason)
            for g in grades]  # fmt: skip
    rows.append(("total", f"{sum(g.earned for g in grades):g}", f"{sum(g.possible for g in grades):g}", "", ""))
    width = max(len(row[0]) for row in rows)
    for row in [("exercise", "earned", "possible", "result", "reason"), *rows]:
        terminalreporter.write_line(f"{row[0]:{width}}  {row[1]:>6}  {row[2]:>8}  {row[3]:13}  {row[4]}".rstrip()[:200])


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """The JSON file."""
    if session.config.option.grades:
        write_text(Path(session.config.option.grades), json.dumps(gradescope(all_grades(session.config)), indent=1))


# Grades


def exercise_of(item: pytest.Item) -> str:
    """The exercise that a test belongs to."""
    return item.get_closest_marker("points").kwargs["exercise"]


def exercise_key(number: str) -> tuple[int, ...]:
    """Numbers in the order of counting: 5.2 before 5.10."""
    return tuple(map(int, number.split(".")))


def points_of(item: pytest.Item) -> float:
    """What a test is worth."""
    return item.get_closest_marker("points").args[0]


@cache
def homes() -> dict[str, str]:
    """Exercise -> the lesson or part whose text announces it."""
    texts = {lesson_name(file, PROJECT_ROOT): file.read_text(encoding="utf-8") for file in lesson_files(PROJECT_ROOT)}
    return {exercise.number: name for name, text in texts.items() for exercise in announced(text)}


def lesson_of(item: pytest.Item) -> str:
    """The lesson or part that a test's exercise stands in, such as "05_gradcam" or "advanced.lrp"."""
    number = exercise_of(item)
    if number not in homes():
        raise pytest.UsageError(f"{item.nodeid} is for exercise {number}, but no lesson or part announces it")
    return homes()[number]


def load_lesson(name: str) -> ModuleType:
    """A lesson or part as a module."""
    return importlib.import_module(name) if "." in name else import_lesson(name)


def lesson_order(name: str) -> tuple[bool, str]:
    """Lessons come before parts, each in the order of their names."""
    return "." in name, name


def all_grades(config: pytest.Config) -> list[Grade]:
    """One grade an exercise, in order."""
    graded: dict[str, list] = {}
    for item, outcome in config.stash[RESULTS].values():
        graded.setdefault(exercise_of(item), []).append((points_of(item), outcome))
    texts = [file.read_text(encoding="utf-8") for file in lesson_files(PROJECT_ROOT)]
    known = {exercise.number: exercise for text in texts for exercise in announced(text)}
    numbers = sorted(graded, key=exercise_key)
    return [grade(known.get(number, Exercise(number, "", 0, 0, 0)), graded[number]) for number in numbers]


def grade(exercise: Exercise, tests: list[tuple[float, Outcome]]) -> Grade:
    """Points earned and possible, and the exercise's result in a word, with the first reason."""
    earned = sum(points for points, outcome in tests if outcome.kind == "passed")
    failed = [outcome for _, outcome in tests if outcome.kind != "passed"]
    kinds = {outcome.kind for outcome in failed}
    result = "passed" if not failed else "error" if "error" in kinds else "wrong"
    if kinds == {"gap"} and not earned:
        result = "not attempted"
    # a test that ran says more than a gap, an error more than either
    reasons = sorted(failed, key=lambda outcome: ("error", "wrong", "gap").index(outcome.kind))
    return Grade(exercise, earned, sum(points for points, _ in tests), result, reasons[0].reason if reasons else "")


def gradescope(grades: list[Grade]) -> dict:
    """The grades in the format of Gradescope's results.json."""
    tests = [
        {
            "number": g.exercise.number, "name": g.exercise.title, "score": g.earned, "max_score": g.possible,
            "status": "passed" if g.result == "passed" else "failed",
            "output": f"{g.result}: {g.reason}" if g.reason else g.result,
            "visibility": "visible", "extra_data": {"result": g.result},
        } for g in grades
    ]  # fmt: skip
    total, possible = sum(g.earned for g in grades), sum(g.possible for g in grades)
    return {"score": total, "output": f"{total:g} of {possible:g} points", "visibility": "visible", "tests": tests}


# Lessons


def handed_in(folder: Path, lesson: str) -> str:
    """A student's lesson or part as text, from evaluation/<part>.py or else evaluation.<part>.ipynb.

    Raises:
        ValueError: neither is there, or it cannot be read.
    """
    script = folder / f"{lesson_path(lesson)}.py"
    notebooks = [folder / f"{name}.ipynb" for name in (lesson, lesson_path(lesson))]
    try:
        if script.is_file():
            return script.read_text(encoding="utf-8")
        for notebook in filter(Path.is_file, notebooks):
            import jupytext

            return jupytext.writes(jupytext.read(notebook), "py:percent")
    except Exception as error:  # whatever a reader of broken files may raise
        raise ValueError(f"{lesson} cannot be read: {type(error).__name__}") from error
    raise ValueError(f"{script.name} is missing")


def warm_up(lesson: str) -> None:
    """Load what the lesson builds on before forking: the lessons before it, and the modules it imports."""
    for file in lesson_files(PROJECT_ROOT):
        name = lesson_name(file, PROJECT_ROOT)
        if "." not in name and lesson_order(name) < lesson_order(lesson):
            import_lesson(name)
    for node in ast.parse((PROJECT_ROOT / f"{lesson_path(lesson)}.py").read_text(encoding="utf-8")).body:
        names = [node.module] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            importlib.import_module(name)
            for alias in node.names if isinstance(node, ast.ImportFrom) else []:
                getattr(sys.modules[name], alias.name, None)  # some packages load their parts when asked for them


def grade_lesson(config: pytest.Config, lesson: str, items: list[pytest.Item]) -> None:
    """Run a lesson's tests and report them."""
    warm_up(lesson)
    try:
        source = handed_in(Path(config.option.submission), lesson)
    except ValueError as reason:
        for item in items:
            report(config, item, broken(item, str(reason)))
        return
    reference = (PROJECT_ROOT / f"{lesson_path(lesson)}.py").read_text(encoding="utf-8")
    hopeless = None
    for exercise, group in groupby(items, exercise_of):
        group = list(group)
        results = {}
        if not hopeless:
            alone = others_solved(source, reference, exercise)
            results, hopeless = run_tests(config, lesson, alone, group)
            # answers that only fit together, with names of the student's own, need the lesson as it is
            wrong = [item for item in group if results[item.nodeid][0].kind == "wrong"]
            if wrong and alone != source:
                again, _ = run_tests(config, lesson, source, wrong)
                results.update({key: value for key, value in again.items() if value[0].kind == "passed"})
        for item in group:
            report(config, item, results.get(item.nodeid) or broken(item, hopeless))


# One exercise in its process


def run_tests(
    config: pytest.Config, lesson: str, source: str, items: list[pytest.Item]
) -> tuple[dict[str, tuple[Outcome, list]], str | None]:
    """Run tests in forked processes: a new one after each that was lost, until every test has its result.

    Returns:
        nodeid -> (Outcome, reports), and why the lesson is hopeless: its import never ends, or ends the process.
    """
    results, lost = {}, 0
    while waiting := [item for item in items if item.nodeid not in results]:
        importing, current, reason = True, waiting[0].nodeid, "the process ended early"
        with contextlib.closing(conversation(config, lesson, source, waiting)) as talk:
            for message in talk:
                if "start" in message:
                    importing, current = False, message["start"]
                elif "outcome" in message:
                    results[current] = result_of(config, message)
                elif "import_error" in message:
                    return {item.nodeid: broken(item, message["import_error"]) for item in waiting}, None
                reason = message.get("lost", reason)
        unfinished = [item for item in waiting if item.nodeid not in results]
        if importing and unfinished:
            reason = f"while it was imported: {reason}"
            return results | {item.nodeid: broken(item, reason) for item in unfinished}, reason
        lost += bool(unfinished)
        # two lost processes are patience enough; otherwise only the test that ran is given up
        given_up = unfinished if lost == 2 else [item for item in unfinished if item.nodeid == current]
        results.update({item.nodeid: broken(item, reason) for item in given_up or unfinished})
    return results, None


def result_of(config: pytest.Config, message: dict) -> tuple[Outcome, list[pytest.TestReport]]:
    """Outcome and reports as child() sent them."""
    from_data = config.hook.pytest_report_from_serializable
    return Outcome(*message["outcome"]), [from_data(config=config, data=data) for data in message["reports"]]


def conversation(config: pytest.Config, lesson: str, source: str, items: list[pytest.Item]) -> Iterator[dict]:
    """Fork, yield the child's messages, and end it. If it did not end well, the last message is {"lost": why}."""
    receive, send = os.pipe()
    scratch = tempfile.mkdtemp(dir=config._tmp_path_factory.getbasetemp())
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(receive)
            child(config, lesson, source, items, send, scratch)
        finally:
            os._exit(1)
    os.close(send)
    lost = None
    try:
        yield from messages(receive, config.option.time_limit)
        lost = how_it_ended(pid)
    except TimeoutError:
        lost = f"took longer than {config.option.time_limit:g} seconds"
    except ValueError as error:
        lost = str(error)
    finally:
        os.close(receive)
        end(pid)
        drain(config)
    if lost:
        yield {"lost": lost}


def end(pid: int) -> None:
    """Kill a child and its process group, if there still is one."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def how_it_ended(pid: int) -> str | None:
    """The end of a child that closed its pipe, in words; None for a good one, TimeoutError for none."""
    for _ in range(20):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return f"the process died: {signal.strsignal(-code)}" if code < 0 else f"ended the process (status {code})"
        time.sleep(0.05)
    raise TimeoutError


def drain(config: pytest.Config) -> None:
    """Forget what a lost child printed: its capture file is the parent's too."""
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is not None and capture.is_globally_capturing():
        capture.read_global_capture()


def messages(pipe: int, seconds: float) -> Iterator[dict]:
    """JSON lines from a pipe until it closes; TimeoutError after a silence, ValueError for nonsense."""
    rest, deadline = b"", time.monotonic() + seconds
    while True:
        if not select.select([pipe], [], [], max(0, deadline - time.monotonic()))[0]:
            raise TimeoutError
        data = os.read(pipe, 1 << 16)
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        if len(rest) > LONGEST_MESSAGE:
            raise ValueError("wrote into the grader's channel")
        for line in lines:
            try:
                message = dict(json.loads(line))
            except (ValueError, TypeError) as error:
                raise ValueError("wrote into the grader's channel") from error
            yield message
            deadline = time.monotonic() + seconds


def child(config: pytest.Config, lesson: str, source: str, items: list[pytest.Item], send: int, scratch: str) -> None:
    """In the forked process: load the student's lesson, run the tests, tell the parent."""
    import sandbox

    os.setpgid(0, 0)
    sandbox.hush()
    sandbox.limit_resources()

    def say(**message) -> None:
        data = (json.dumps(message, default=str) + "\n").encode()
        while data:
            data = data[os.write(send, data) :]

    folder = os.path.realpath(config.option.submission)
    before = sandbox.watch()
    sys.path.append(folder)
    sandbox.calm(scratch)
    sandbox.guard(secrets(lesson, folder), os.path.realpath(config._tmp_path_factory.getbasetemp()))
    try:
        sandbox.load(lesson, Path(folder) / f"{lesson_path(lesson)}.py", source)
    except BaseException as error:
        say(import_error=sandbox.sentence(error))
        os._exit(0)
    sandbox.restored(before)
    for i, item in enumerate(items):
        say(start=item.nodeid)
        sandbox.calm(scratch)
        following = items[i + 1] if i + 1 < len(items) else None
        try:
            reports, crash = run_protocol(item, following), None
        except BaseException as error:  # KeyboardInterrupt, pytest.exit
            reports, crash = [], sandbox.sentence(error)
        changed = sandbox.restored(before)
        outcome = judge(exercise_of(item), reports, crash, changed)
        if crash or changed:
            outcome, reports = broken(item, outcome.reason)
        data = [config.hook.pytest_report_to_serializable(config=config, report=short(report)) for report in reports]
        say(outcome=outcome, reports=data)
    os._exit(0)


def run_protocol(item: pytest.Item, following: pytest.Item | None) -> list[pytest.TestReport]:
    """Setup, call and teardown as pytest does them."""
    from _pytest.runner import runtestprotocol

    return runtestprotocol(item, log=False, nextitem=following)


def secrets(lesson: str, folder: str):
    """Whether a submission must not read a file: the reference of this lesson and later ones, and what quotes them."""
    root, own = os.path.realpath(PROJECT_ROOT), folder + os.sep
    names = [lesson_name(file, PROJECT_ROOT) for file in lesson_files(PROJECT_ROOT)]
    stems = [name.rpartition(".")[2] for name in names if lesson_order(name) >= lesson_order(lesson)]
    closed = tuple(os.path.join(root, *part) + os.sep for part in ((".git",), ("tests", "mutants"), ("outputs",)))

    def secret(path: str) -> bool:
        if not path.startswith(root + os.sep) or (path.startswith(own) and folder != root):
            return False
        return path.startswith(closed) or path.rsplit(os.sep, 1)[-1].split(".")[0] in stems

    return secret


def judge(exercise: str, reports: list[pytest.TestReport], crash: str | None, changed: list[str]) -> Outcome:
    """What became of a test, from its reports. A test that skips itself has not passed."""
    if crash:
        return Outcome("error", crash)
    if changed:
        return Outcome("error", f"exchanged {', '.join(changed[:3])}, which others use as well")
    bad = [report for report in reports if report.outcome != "passed" or hasattr(report, "wasxfail")]
    if not bad:
        return Outcome("passed")
    reason = first_line(bad[0])
    kind, _, text = reason.partition(": ")
    if kind == "NotImplementedError" and text in ("", exercise):
        return Outcome("gap", f"exercise {exercise} is not attempted")
    return Outcome("error" if kind in ERRORS else "wrong", reason)


def first_line(report: pytest.TestReport) -> str:
    """Why a test failed, in a line."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash else str(report.longrepr)
    return (text.strip().splitlines() or ["no reason given"])[0][:300]


def short(report: pytest.TestReport) -> pytest.TestReport:
    """The report without megabytes; a skip becomes a failure, because points are for what ran."""
    if report.outcome == "skipped":
        report.outcome = "failed"
    if report.longrepr is not None:
        text = first_line(report) + "\n" + report.longreprtext
        report.longrepr = text.encode("utf-8", "replace").decode()[:LONGEST_TEXT]
    report.sections = [(name, text[:LONGEST_TEXT]) for name, text in report.sections]
    report.user_properties = []
    return report


def broken(item: pytest.Item, reason: str) -> tuple[Outcome, list[pytest.TestReport]]:
    """Outcome and reports of a test that could not run to its end."""
    common = {"nodeid": item.nodeid, "location": item.location, "keywords": {}}
    call = pytest.TestReport(**common, outcome="failed", longrepr=reason, when="call")
    end = pytest.TestReport(**common, outcome="passed", longrepr=None, when="teardown")
    return Outcome("error", reason), [call, end]


def report(config: pytest.Config, item: pytest.Item, result: tuple[Outcome, list[pytest.TestReport]]) -> None:
    """Tell pytest, its terminal and junit reports among it, and note the grade."""
    outcome, reports = result
    earned = points_of(item) if outcome.kind == "passed" else 0
    reports[-1].user_properties = [("exercise", exercise_of(item)), ("earned", earned), ("possible", points_of(item))]
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for each in reports:
        item.ihook.pytest_runtest_logreport(report=each)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    config.stash[RESULTS][item.nodeid] = item, outcome
