"""Grade a student's folder: `pytest tests --submission=student/ --grades=grades.json`.

The tests that carry points run here, in the judge's process, which never imports what was handed in. They call the
student's functions in another process (judge.py). A test counts if it passes with the lesson's other exercises solved
by the reference, so that one wrong answer costs one exercise, or with the lesson as it was handed in.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from itertools import groupby
from pathlib import Path
from types import ModuleType

import pytest
from markers import ANSWER, announced, lesson_files, lesson_name, lesson_path, others_solved, untouched
from questions import is_question

from course.files import write_text
from grader import judge, report, submission, wire
from grader.box import ISOLATIONS, chosen, copy_course, missing
from grader.gaps import mended
from grader.report import SHORT, Failed, Grade, Outcome, clean, where_handed_in
from grader.unusual import unusual
from utils import PROJECT_ROOT, import_lesson

RESULTS = pytest.StashKey[dict]()
BOX = pytest.StashKey[judge.Box]()
LESSON = pytest.StashKey[object]()
TEXT = pytest.StashKey[str]()
SEED = pytest.StashKey[int]()
NOTES = pytest.StashKey[list]()
LOOK = pytest.StashKey[dict]()  # exercise or lesson -> what a person should look at
UNTIL = pytest.StashKey[float]()  # when the submission's time is used up
WARM: dict[str, judge.Box] = {}  # isolation -> the process that goes on to the next submission
TEST, EXERCISE, SUBMISSION = 6, 12, 60  # times as long as a call may take
LOADING = "while the lesson was loaded: "


# What pytest calls


def add_options(parser: pytest.Parser) -> None:
    """The options of grading."""
    group = parser.getgroup("grading")
    group.addoption("--submission", metavar="FOLDER", help="grade the lessons in this folder")
    group.addoption("--grades", metavar="FILE", help="write the grades as JSON, in Gradescope's format")
    group.addoption("--exercise", action="append", default=[], help="grade only this one, such as 5.1; repeatable")
    group.addoption("--time-limit", type=float, default=10, help="seconds for a call (default: %(default)s)")
    group.addoption("--isolation", choices=("auto", *ISOLATIONS), default="auto",
                    help="where the student's code runs (default: bubblewrap if it is installed)")  # fmt: skip
    group.addoption("--draw", type=int, metavar="SEED", help="seed of the tests' inputs (default when grading: random)")


def switch_on(config: pytest.Config) -> None:
    """If a submission is to be graded: check the options, register this plugin, and keep pytest's own report short."""
    options = config.option
    config.stash[SEED] = 0 if options.draw is None else options.draw
    if options.submission is None:
        if options.grades or options.exercise:
            raise pytest.UsageError("--grades and --exercise need --submission FOLDER")
        return
    if not Path(options.submission).is_dir():
        raise pytest.UsageError(f"--submission {options.submission} is no folder; name the one with the lessons in it")
    if not hasattr(os, "fork"):
        raise pytest.UsageError("grading needs Linux or macOS, because it forks; on Windows run it in a container")
    if reason := missing(options.isolation):
        raise pytest.UsageError(reason)
    options.isolation = chosen(options.isolation)
    unknown = [number for number in options.exercise if number not in homes()]
    if unknown:
        raise pytest.UsageError(f"there is no exercise {', '.join(unknown)}; there are {', '.join(homes())}")
    if getattr(options, "numprocesses", None):
        raise pytest.UsageError("grading runs in one process; leave -n out (exercises/grade.py has -j)")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    options.tbstyle = "no" if options.tbstyle == "auto" else options.tbstyle
    options.reportchars = "" if options.reportchars == "fE" else options.reportchars
    config.stash[RESULTS], config.stash[NOTES], config.stash[LOOK] = {}, [], {}
    if options.draw is None:
        config.stash[SEED] = secrets.randbits(31)
    config.pluginmanager.register(sys.modules[__name__], "grading")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Files without points are not even imported."""
    if collection_path.suffix == ".py" and "mark.points(" not in collection_path.read_text(encoding="utf-8"):
        return True
    return None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Only tests with points, in the order of the exercises."""
    wanted, chosen = config.option.exercise, []
    for module in {item.module for item in items} | {sys.modules["conftest"], judge}:
        judge.pickled_by_value(module)                                 # the other side has no tests
    for item in items:
        mark = item.get_closest_marker("points")
        if mark and (not wanted or mark.kwargs["exercise"] in wanted):
            chosen.append(item)
    empty = [number for number in wanted if number not in {exercise_of(item) for item in chosen}]
    if empty:
        raise pytest.UsageError(f"in exercise {', '.join(empty)} there is nothing to hand in, so there is no test")
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = sorted(chosen, key=lambda item: (lesson_order(lesson_of(item)), exercise_key(exercise_of(item))))


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool:
    """Instead of pytest's loop: lesson by lesson, exercise by exercise."""
    if session.config.option.collectonly:
        return True
    if session.testsfailed:
        raise session.Interrupted("the tests themselves could not be loaded")
    config = session.config
    files = submission.files_of(Path(config.option.submission))
    helpers = submission.helpers_of(files)
    config.stash[UNTIL] = time.monotonic() + SUBMISSION * config.option.time_limit * wire.crowd()
    try:
        with open_box(config):
            for lesson, items in groupby(session.items, lesson_of):
                grade_lesson(config, lesson, list(items), files, helpers)
                write_grades(config, f"The grading was stopped after {lesson}; what comes after it is not graded.")
    except judge.NoBox as error:
        pytest.exit(str(error), returncode=3)
    return True


def pytest_terminal_summary(terminalreporter, exitstatus: int, config: pytest.Config) -> None:
    """The table."""
    grades = all_grades(config)
    if grades and exitstatus in (0, 1):
        terminalreporter.section(f"grades of {config.option.submission}")
        for line in report.table(grades, config.stash[NOTES]):
            terminalreporter.write_line(line)
        for where, used in config.stash[LOOK].items():
            terminalreporter.write_line(f"needs a look: {where} uses {', '.join(used)}"[:200])
        terminalreporter.write_line(f"inputs drawn from --draw={config.stash[SEED]}")
        if config.option.isolation == "none":
            terminalreporter.write_line("not isolated: the student's code ran as this user (bubblewrap is not in use)")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """The JSON file. There is none if the grader failed: no points would look like a grade."""
    if exitstatus in (0, 1):
        write_grades(session.config)
    elif session.config.option.grades:
        Path(session.config.option.grades).unlink(missing_ok=True)


def write_grades(config: pytest.Config, *more: str) -> None:
    """The JSON file, if one is asked for. It is written after each lesson, so that whoever stops a grading has some."""
    if config.option.grades:
        grades = report.gradescope(all_grades(config), [*config.stash[NOTES], *more])
        grades["extra_data"] = {"draw": config.stash[SEED], "look": config.stash[LOOK],
                                "isolation": config.option.isolation}  # fmt: skip
        write_text(Path(config.option.grades), json.dumps(grades, indent=1))


# Exercises and lessons


def exercise_of(item: pytest.Item) -> str:
    """The exercise that a test belongs to."""
    return item.get_closest_marker("points").kwargs["exercise"]


def exercise_key(number: str) -> tuple[int, ...]:
    """Numbers in the order of counting: 5.2 before 5.10."""
    return tuple(map(int, number.split(".")))


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
    """A lesson or part of the reference as a module."""
    return importlib.import_module(name) if "." in name else import_lesson(name)


def lesson_for(item: pytest.Item) -> object:
    """What a test calls: the student's lesson, in its process, when a submission is graded; otherwise the reference."""
    if LESSON in item.config.stash:
        return item.config.stash[LESSON]
    return load_lesson(lesson_of(item))


def text_for(item: pytest.Item) -> str:
    """The text of the lesson that a question stands in: the student's when a submission is graded."""
    if TEXT in item.config.stash:
        return item.config.stash[TEXT]
    return (PROJECT_ROOT / f"{lesson_path(lesson_of(item))}.py").read_text(encoding="utf-8")


def lesson_order(name: str) -> tuple[bool, str]:
    """Lessons come before parts, each in the order of their names."""
    return "." in name, name


def all_grades(config: pytest.Config) -> list[Grade]:
    """One grade an exercise, in order."""
    graded: dict[str, list] = {}
    for item, outcome in config.stash.get(RESULTS, {}).values():
        graded.setdefault(exercise_of(item), []).append((item, outcome))
    texts = [file.read_text(encoding="utf-8") for file in lesson_files(PROJECT_ROOT)]
    known = {exercise.number: exercise for text in texts for exercise in announced(text)}
    look = config.stash.get(LOOK, {})
    return [report.grade(known[n], graded[n], n in look) for n in sorted(graded, key=exercise_key)]


# Running


@contextlib.contextmanager
def open_box(config: pytest.Config) -> Iterator[None]:
    """The answering process, for as long as the submission is graded; its scratch is removed.

    tests/mutants/run.py sets GRADING_KEEPS_ITS_BOX: its answers are ours, so the warm process serves all its rounds.
    """
    kind = config.option.isolation
    box = WARM.get(kind)
    if box is None:
        root = Path(tempfile.mkdtemp(prefix="grading-"))
        copy_course(root, kind)
        box = WARM[kind] = judge.Box(root, kind)
        atexit.register(close_box, box)
    box.seconds = config.option.time_limit
    config.stash[BOX] = box
    try:
        yield
    finally:
        box.end()
        if "GRADING_KEEPS_ITS_BOX" not in os.environ:
            close_box(WARM.pop(kind))


def close_box(box: judge.Box) -> None:
    """End the answering process and remove its scratch."""
    box.stop()
    shutil.rmtree(box.root, ignore_errors=True)


def grade_lesson(
    config: pytest.Config, lesson: str, items: list[pytest.Item], files: submission.Files, helpers: dict[str, str]
) -> None:
    """Run a lesson's tests and report them; `files` and `helpers` are what was handed in."""
    try:
        found = submission.handed_in(files, lesson)
    except (ValueError, OSError) as reason:
        for item in items:
            tell(config, item, broken(item, Outcome("error", str(reason), look=True)))
        return
    reference = (PROJECT_ROOT / f"{lesson_path(lesson)}.py").read_text(encoding="utf-8")
    text, changes = mended(found.text, reference)
    config.stash[NOTES] += [clean(f"{lesson}: {note}") for note in (*found.notes, *changes)]
    asked, not_loaded, config.stash[TEXT] = {exercise_of(item) for item in items}, 0, found.text
    for where, used in unusual(text, reference, helpers).items():
        if where in asked or not where:
            config.stash[LOOK][where or lesson] = [clean(each) for each in used]
    for exercise, group in groupby(items, exercise_of):
        group = list(group)
        if is_question(reference, exercise):
            for item in group:
                reports = run_protocol(item)
                tell(config, item, (judged(exercise, reports, []), reports))
            continue
        if untouched(text, reference, exercise):                       # nothing to run
            for item in group:
                tell(config, item, broken(item, Outcome("gap", f"exercise {exercise} is not attempted")))
            continue
        if not_loaded == 2:
            for item in group:
                reason = "the lesson could not be loaded for the exercises before this one"
                tell(config, item, broken(item, Outcome("error", reason, look=True)))
            continue
        alone = others_solved(text, reference, exercise)
        results = run_tests(config, lesson, alone, helpers, group)
        not_loaded += any(outcome.reason.startswith(LOADING) for outcome, _ in results.values())
        # answers that only fit together, with names of the student's own, need the lesson as it is
        failed = [item for item in group if again_as_it_is(results[item.nodeid][0])]
        if failed and alone != text:
            again = run_tests(config, lesson, text, helpers, failed)
            results.update({key: value for key, value in again.items() if value[0].kind == "passed"})
        for item in group:
            tell(config, item, results[item.nodeid])


def again_as_it_is(outcome: Outcome) -> bool:
    """Whether a test that did not pass beside the reference may pass in the lesson as it was handed in."""
    return outcome.kind == "wrong" or (outcome.kind == "error" and not outcome.lost)


def run_tests(
    config: pytest.Config, lesson: str, source: str, helpers: dict[str, str], items: list[pytest.Item]
) -> dict[str, tuple[Outcome, list]]:
    """Run the tests of one exercise: nodeid -> Outcome and reports. A lost process costs the test that ran."""
    box, results, lost, failed, reason = config.stash[BOX], {}, 0, None, ""
    ends = time.monotonic() + EXERCISE * box.seconds * wire.crowd()
    for item in items:
        reason = reason or used_up(config, ends) or ("the process was lost twice before this test" if lost == 2 else "")
        try:
            if not reason and (failed is None or box.process is None):
                config.stash[LESSON], failed = box.load(lesson, source, helpers)
                failed = where_handed_in(failed, source.splitlines(), config.stash[TEXT].splitlines())
                config.stash[NOTES] += new_notes(config, lesson, failed)
            if not reason:
                box.ask(do="calm")
        except judge.NoBox:
            raise
        except Exception as error:                                     # lost, or an answer that makes no sense
            reason = f"{LOADING}{error}"
        if reason:                                                     # of no use to go on
            results[item.nodeid] = broken(item, Outcome("error", reason, lost=True, look=True))
            continue
        try:
            with time_limit(box, min(ends - time.monotonic(), TEST * box.seconds * wire.crowd())):
                reports = run_protocol(item)
                results[item.nodeid] = outcome, _ = judged(exercise_of(item), reports, failed), reports
        except judge.Lost as error:                                    # the alarm rang between two parts of the test
            results[item.nodeid] = outcome, _ = broken(item, Outcome("error", str(error), lost=True))
        if outcome.lost:
            lost, failed = lost + 1, None
    box.end()
    config.stash[LESSON] = None
    del config.stash[LESSON]
    return results


def used_up(config: pytest.Config, ends: float) -> str:
    """Whether the time for the submission, or for this exercise, is used up, in a sentence."""
    limit = config.option.time_limit
    if time.monotonic() > config.stash[UNTIL]:
        return f"the {SUBMISSION * limit:g} seconds for a submission were used up before this test"
    over = time.monotonic() > ends
    return f"the {EXERCISE * limit:g} seconds for an exercise were used up before this test" if over else ""


@contextlib.contextmanager
def time_limit(box: judge.Box, seconds: float) -> Iterator[None]:
    """For a test: many calls that are not too slow by themselves, or an answer that keeps the judge himself busy."""
    def ring(*_signal: object) -> None:
        box.stop()
        raise judge.Lost(f"took longer than {seconds:.0f} seconds, all calls together")

    begin, before = time.monotonic(), signal.signal(signal.SIGALRM, ring)
    another, _ = signal.setitimer(signal.ITIMER_REAL, max(seconds, 1))  # pytest's own, if a test grades
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, another and max(another - (time.monotonic() - begin), 1))
        signal.signal(signal.SIGALRM, before)


def new_notes(config: pytest.Config, lesson: str, failed: list[Failed]) -> list[str]:
    """One for each statement that did not run; ten a lesson at most. An answer to a question is read, not run."""
    notes = config.stash[NOTES]
    told = dict.fromkeys(f"{lesson}, line {each.line}: `{each.text}` did not run ({clean(each.kind)}: {each.said})"
                         for each in failed if not ANSWER.match(each.text))  # fmt: skip
    room = 10 - sum("did not run" in note and note.startswith(f"{lesson}, ") for note in notes)
    return [note for note in told if note not in notes][: max(0, room)]


def run_protocol(item: pytest.Item) -> list[pytest.TestReport]:
    """Setup, call and teardown as pytest does them; no fixture is kept for a next test, which may never run."""
    from _pytest.runner import runtestprotocol

    return runtestprotocol(item, log=False, nextitem=None)


def judged(exercise: str, reports: list[pytest.TestReport], failed: list[Failed]) -> Outcome:
    """What became of a test, from its reports; `failed` are the student's statements that did not run."""
    bad = [each for each in reports if each.outcome != "passed" or hasattr(each, "wasxfail")]
    if not bad:
        return Outcome("passed")
    skipped = bad[0].outcome == "skipped"
    try:
        kind, text = report.reason_of(bad[0])
    except Exception:                                                  # no text of a student's ends a grading
        kind, text = "AssertionError", "the reason cannot be told"
    for each in bad:
        report.shorten(each)
    if kind == "NotImplementedError" and text in ("", exercise):
        return Outcome("gap", f"exercise {exercise} is not attempted")
    if skipped:                                                        # a question, where nobody knows the answer
        return Outcome("unjudged", text)
    if kind == "Unreadable":                                           # an answer to a question
        return Outcome("wrong", text, look=True)
    if kind == "Lost":
        return Outcome("error", text, lost=True, look="channel" in text)
    if failed and kind in ("AttributeError", "NameError", "StudentError"):
        first = failed[0]
        said = clean(f"{first.kind}: {first.said}", SHORT)
        return Outcome("error", f"line {first.line} of the lesson did not run ({said})", look=True)
    return Outcome("wrong", text if kind in ("AssertionError", "StudentError") else f"{kind}: {text}".rstrip(": "))


def broken(item: pytest.Item, outcome: Outcome) -> tuple[Outcome, list[pytest.TestReport]]:
    """Outcome and reports of a test that could not run, or need not."""
    common = {"nodeid": item.nodeid, "location": item.location, "keywords": {}}
    call = pytest.TestReport(**common, outcome="failed", longrepr=outcome.reason, when="call")
    end = pytest.TestReport(**common, outcome="passed", longrepr=None, when="teardown")
    return outcome, [call, end]


def tell(config: pytest.Config, item: pytest.Item, result: tuple[Outcome, list[pytest.TestReport]]) -> None:
    """Tell pytest, its terminal and junit reports among it, and note the outcome; a student may read all of it."""
    outcome, reports = result
    outcome = outcome._replace(reason=clean(outcome.reason))
    for each in reports:
        each.longrepr = each.longrepr and clean(str(each.longrepr))
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for each in reports:
        item.ihook.pytest_runtest_logreport(report=each)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    config.stash[RESULTS][item.nodeid] = item, outcome
