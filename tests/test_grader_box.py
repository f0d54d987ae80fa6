"""Between the judge and the process that answers: what one exercise can do to the next, to the judge, to the clock."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import re
import signal
import struct
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from types import SimpleNamespace

import pytest
import torch
from conftest import kept, unchanged
from grader import answerer, plugin, report, wire
from grader import box as box_module
from grader.box import as_user, bubblewrap, copy_course, end_user, missing, surroundings
from grader.judge import Box, Lost, Remote, is_list_of_failures
from mutants.run import by_exercise
from test_exercises import GRADED, HOMES, PROJECT_ROOT, TEXTS, answered, solutions
from torch import nn

LESSON, SLOW = "01_vanilla_gradient_saliency", "04_integrated_gradients"
NUMBERS = {"x86_64": (248, 250), "aarch64": (217, 219)}
KEYS = NUMBERS.get(platform.machine()) if sys.platform == "linux" else None  # of the system calls add_key and keyctl
boxed = pytest.mark.skipif(not bubblewrap(), reason="needs bubblewrap")


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    """A box whose calls may take two seconds."""
    root, kind = tmp_path_factory.mktemp("box"), "bubblewrap" if bubblewrap() else "none"
    copy_course(root, kind)
    if KEYS:
        ctypes.CDLL(None).syscall(KEYS[1], 1, 0)
        ctypes.CDLL(None).syscall(KEYS[0], b"user", b"left", b"the answer", 10, -3)
    box = Box(root, kind, seconds=2)
    yield box
    box.stop()


def asked(box: Box, source: str) -> object:
    """What f() of a lesson with this text returns, in an exercise of its own."""
    return box.load(LESSON, source, {})[0].f()


# What one exercise leaves to the next

STORES = """
import ctypes, os
system = ctypes.CDLL(None, use_errno=True)
PLACES = [f"{folder}/left" for folder in ("", "/tmp", "/dev", "/dev/shm", "/course", "/var/tmp", "/run")]
KEYS = {"shm": (77, 4096, 0o1600), "msg": (77, 0o1600), "sem": (77, 1, 0o1600)}

def leave():
    for place in PLACES:
        try:
            with open(place, "w") as file:
                file.write("the answer")
        except OSError:
            pass
    for kind, how in KEYS.items():
        getattr(system, f"{kind}get")(*how)
    system.mq_open(b"/left", os.O_CREAT | os.O_RDWR, 0o600, None)

def found():
    kinds = {kind: getattr(system, f"{kind}get")(*how[:-1], 0) for kind, how in KEYS.items()}
    kinds["queue"] = system.mq_open(b"/left", os.O_RDWR)
    return [place for place in PLACES if os.path.exists(place)] + [kind for kind, n in kinds.items() if n >= 0]
"""


@boxed
def test_an_exercise_leaves_nothing_to_the_next(box):
    """No file anywhere, no shared memory, queue or semaphore; and the warm process lives on."""
    assert {"/tmp/left", "shm", "msg", "sem"} == set(asked(box, STORES + "f = lambda: [leave(), found()][1]"))
    process = box.process
    assert asked(box, STORES + "f = found") == []
    assert box.process is process


@pytest.mark.skipif(not KEYS, reason="needs Linux on a processor whose numbers are known here")
def test_the_keyring_of_who_started_the_grader_is_out_of_reach(box):
    """It would go on from one submission to the next."""
    find = f"ctypes.CDLL(None).syscall({KEYS and KEYS[1]}, 10, -3, b'user', b'left', 0)"
    assert eval(find) > 0
    assert asked(box, f"import ctypes\nf = lambda: {find}") == -1


SAYS = """
import os, struct

def say(words, heard=False):                 # to the judge, or into the pipe on which his requests come
    words = struct.pack(">Q", len(words)) + words
    for fd in range(3, 40):
        try:
            os.write(fd, b"" if heard else words)
        except OSError:
            if heard and os.path.exists(f"/proc/self/fd/{fd}"):
                os.write(os.open(f"/proc/self/fd/{fd}", os.O_WRONLY), words)
    return 1
"""


@boxed
def test_nothing_that_an_exercise_says_is_taken_for_the_warm_process(box):
    """That one says "ready 1" when an exercise is over; who says it as well would leave one to the next student."""
    late = "def f():\n    end = os._exit\n    os._exit = lambda n: (say(b'ready 1'), end(n))\n    return 1"
    assert asked(box, SAYS + late.replace("end =", "global end; end =")) == 1
    process = box.process
    assert asked(box, SAYS + "f = lambda: say(b'back', heard=True)") == 1
    assert asked(box, "f = lambda: 2") == 2
    assert box.process is process
    with pytest.raises(Lost, match="wrote into the grader's channel"):
        asked(box, SAYS + "f = lambda: say(b'ready 1')")


@boxed
def test_memory_that_is_shared_has_a_limit(box):
    """And where all memory is used up, Linux ends the processes of the box first."""
    assert asked(box, "f = lambda: 1") == 1
    assert Path(f"/proc/{box.answering}/oom_score_adj").read_text() == "1000\n"
    with pytest.raises(OSError, match="memory"):
        asked(box, "import mmap\nf = lambda: mmap.mmap(-1, 5 << 30)")


def lost(function: Callable) -> None:
    """Call what never answers."""
    with pytest.raises(Lost):
        function()


@pytest.mark.parametrize("kind", ["none", pytest.param("bubblewrap", marks=boxed)])
def test_an_answer_without_end_ends_with_the_judge(kind, tmp_path):
    """A judge that is killed cannot stop it; what is heard of that is the end of a pipe."""
    copy_course(tmp_path, kind)
    box = Box(tmp_path, kind, seconds=60)
    try:
        endless, process = box.load(LESSON, "def f():\n    while True:\n        pass", {})[0].f, box.process
        asking = threading.Thread(target=lost, args=[endless])
        asking.start()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        process.stdin.close()
        process.wait(20)
        asking.join(20)
    finally:
        box.stop()


def test_a_process_lost_while_loading_is_started_once_more(tmp_path, monkeypatch):
    answers, box = iter([Lost("ended the process"), ("lesson", [])]), Box(tmp_path, "none")

    def loaded(*_args: object) -> tuple:
        answer = next(answers)
        if isinstance(answer, Lost):
            raise answer
        return answer

    monkeypatch.setattr(box, "loaded", loaded)
    assert box.load(LESSON, "", {}) == ("lesson", [])
    answers = iter([Lost("ended the process"), Lost("ended the process")])
    with pytest.raises(Lost):
        box.load(LESSON, "", {})


def test_the_limit_that_was_passed_is_named(tmp_path, monkeypatch):
    """That for loading, for instance, not that for a call."""
    (receive, _), box = os.pipe(), Box(tmp_path, "none")
    monkeypatch.setattr(box, "stop", lambda: None)
    monkeypatch.setattr(box, "send", lambda _data: None)
    monkeypatch.setattr(wire, "crowd", lambda: 1.0)
    with os.fdopen(receive, "rb") as stdout:
        box.process = SimpleNamespace(stdout=stdout)
        with pytest.raises(Lost, match=r"took longer than 0\.2 seconds"):
            box.ask(0.2, do="load")


# Answers that would fill the judge's memory


def message(tree: object, sizes: list[int], data: bytes) -> bytes:
    """An answer as a process could write it by itself."""
    head = json.dumps([tree, sizes]).encode()
    return struct.pack(">Q", len(head)) + head + data


def test_an_answer_is_no_larger_than_what_came():
    """No more JSON than a few megabytes, and no buffer that is used, or cut out, again and again."""
    four = ["tensor", "torch.uint8", [4], 0, False]
    assert wire.unpack(message(four, [4], b"abcd")).tolist() == [97, 98, 99, 100]
    for data in (message(["list", [["plain", None]] * 300_000], [], b""), message(["list", [four, four]], [4], b"abcd"),
                 message(["list", [["array", "|u1", [4], 0]] * 2], [4], b"abcd"),
                 message(four, [4, -4, 4], b"abcd")):  # fmt: skip
        with pytest.raises(wire.Nonsense):
            wire.unpack(data)
    with pytest.raises(ValueError, match="too large for the grader"):
        wire.pack([None] * 300_000, lambda _thing: 0)


@pytest.mark.parametrize(("answer", "fits"), [
    ([], True), ([[3, ["NameError"], "x"]], True), (None, False), ([[3, [], "x"]], False), ([["3", ["E"], "x"]], False),
    ([[3, ["E"]]], False), ([[3, [5], "x"]], False), ([3], False),
])  # fmt: skip
def test_what_loading_answers_is_checked(answer, fits):
    assert is_list_of_failures(answer) == fits


# What a call changes


def test_what_a_call_changes_is_seen_only_by_a_test_that_looks_for_it():
    """And is as before when the test has looked: no answer moves what is worked out from the test's own tensors."""
    model, images = nn.Linear(2, 1).eval(), torch.ones(3, 2)
    weight = model.weight.detach().clone()
    zeros = [[torch.zeros(3, 2), False, None], {"tensors": {"weight": [torch.zeros(1, 2), True, None]}, "modules": []}]
    box = SimpleNamespace(ask=lambda **_request: {"result": 1, "changed": zeros, "drawn": True})
    method, state = Remote(box, 0, "function"), torch.get_rng_state()
    assert method(images, model) == 1
    assert torch.equal(images, torch.ones(3, 2))
    assert torch.equal(model.weight, weight)
    with pytest.raises(AssertionError, match="parameters or buffers changed"), unchanged(model, images):
        method(images, model)
    zeros[1] = {"tensors": {}, "modules": [["", "Linear", False, False, [0, 10**12, 0, 0]]]}
    with pytest.raises(AssertionError, match="hooks were left behind"), unchanged(model, torch.ones(1)):
        method(images, model)
    zeros[1] = None
    with pytest.raises(AssertionError, match="the images were modified"), unchanged(model, images):
        method(images, model)
    with pytest.raises(AssertionError, match="an argument was modified"), kept(images):
        method(images, model)
    zeros[0] = None
    with pytest.raises(AssertionError, match="the global random state moved"), unchanged(model, images):
        method(images, model)
    assert torch.equal(images, torch.ones(3, 2))
    assert torch.equal(model.weight, weight)
    assert torch.equal(torch.get_rng_state(), state)


# Accidents at the top of a lesson


def test_a_seed_that_is_overwritten_costs_nothing(box):
    slip = "import random, torch\nimport numpy as np\ntorch.manual_seed = np.random.seed = random.seed = 0\n"
    lesson, failed = box.load(LESSON, slip + "f = lambda: torch.rand(1).item()", {})
    assert failed == []
    first = lesson.f()
    box.ask(do="calm")
    assert lesson.f() == first


LOADING = """
import os, sys
import answerer
answerer.STATEMENT, answerer.TOGETHER = 0.5, 1
def load(source):
    return answerer.load("01_a", *answerer.compiled("01_a", source), {})
print(load("import time\\n" + "time.sleep(60)\\n" * 4 + "f = 5"), answerer.kept(0).f)
if os.fork() == 0:
    load("import time\\nwhile True:\\n    try:\\n        time.sleep(60)\\n    except: pass\\n")
    os._exit(7)
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def test_slow_statements_at_the_top_share_their_time(monkeypatch):
    """A dozen slow cells do not use up the time for loading; one that catches the alarm as well ends the process."""
    monkeypatch.chdir(Path(plugin.__file__).parent)
    done = subprocess.run([sys.executable, "-c", LOADING], capture_output=True, text=True, check=True, timeout=60)
    slow = "['Alarm', 'BaseException', 'object'], 'took longer than {} seconds']"
    lines = [f"[{line}, {slow.format(0.5 if line < 4 else 0.1)}" for line in range(2, 6)]
    assert done.stdout == f"[{', '.join(lines)}] 5\n1\n"


def test_statements_that_fail_are_noted_once_and_where_the_student_finds_them():
    """What ran has the reference's lines in between, so its line numbers are others."""
    own = "import a\n\n    x + 1\n".splitlines()
    source = "import a\nour_own = 1\n" * 3 + "    x + 1\n"
    failed = [[7, ["NameError"], "name 'x' is not defined"], [1, ["SyntaxError"], "bad (05_gradcam.py, line 5)"],
              [1, ["SyntaxError"], "bad (<unknown>, line 1)"], [70, ["E"], "beyond the end"],
              [2, ["E"], "no line of the student's"]]  # fmt: skip
    found = report.where_handed_in(failed, source.splitlines(), own)
    assert [(each.line, each.text) for each in found] == [(3, "x + 1"), (1, "import a"), (1, "import a")]
    notes: list = []
    config = SimpleNamespace(stash={plugin.NOTES: notes})
    notes += plugin.new_notes(config, LESSON, found)
    assert notes == [f"{LESSON}, line 3: `x + 1` did not run (NameError: name 'x' is not defined)",
                     f"{LESSON}, line 1: `import a` did not run (SyntaxError: bad)"]  # fmt: skip
    assert plugin.new_notes(config, LESSON, found) == []
    assert [each.line for each in report.where_handed_in([[4, ["E"], ""]], list("aaax"), list("xaax"))] == [4]
    more = [report.Failed(i, "x", "E", str(i)) for i in range(1000)]
    assert len(plugin.new_notes(config, LESSON, more)) == 8
    assert plugin.new_notes(config, "02_other", [report.Failed(1, "ANSWER_2_9 = a", "NameError", "a")]) == []


def test_a_file_of_failing_lines_does_not_keep_the_judge_busy():
    begin, lines = monotonic(), ["a"] * 200_000
    failed = [[i, ["NameError"], "name 'a' is not defined"] for i in range(1, len(lines) + 1)]
    assert len(report.where_handed_in(failed, lines, lines)) == report.TOLD
    assert monotonic() - begin < 60


# Time


def endless() -> None:
    """What a judge could be kept busy with."""
    while True:
        pass


def test_a_test_has_a_time_limit_of_its_own():
    """It ends what the judge does as well, and leaves another alarm that was set before."""
    box, rung = SimpleNamespace(stop=lambda: rung.append(True)), []
    before = signal.setitimer(signal.ITIMER_REAL, 300)
    try:
        with pytest.raises(Lost, match="took longer than 1 seconds, all calls"), plugin.time_limit(box, 1):
            endless()
        assert rung == [True]
        assert 290 < signal.getitimer(signal.ITIMER_REAL)[0] < 300
    finally:
        signal.setitimer(signal.ITIMER_REAL, *before)


@pytest.mark.grading
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_slow_answers_end_and_what_is_graded_is_written(tmp_path, monkeypatch):
    """Calls of 0.9 seconds, where 1 is allowed, and 6 for a test. After each lesson there is a report."""
    slow = ["import time; time.sleep(0.9)", *textwrap.dedent("\n".join(solutions(TEXTS[SLOW])["4.1"])).splitlines()]
    for name, answers in ((LESSON, {}), (SLOW, {"4.1": slow})):
        (tmp_path / f"{name}.py").write_text(answered(TEXTS[name], answers), encoding="utf-8")
    report, write, written = tmp_path / "grades.json", plugin.write_grades, []
    monkeypatch.setattr(wire, "crowd", lambda: 1.0)
    monkeypatch.setattr(plugin, "write_grades", lambda *args: (write(*args), written.append(report.read_text())))
    pytest.main([f"{PROJECT_ROOT / 'tests'}", f"--rootdir={PROJECT_ROOT}", f"--submission={tmp_path}", "-q",
                 f"--grades={report}", "--time-limit=1", "-p", "no:cacheprovider",
                 *(f"--exercise={number}" for number in ("1.1", "4.1", "4.2"))])  # fmt: skip
    first, *_, last = map(json.loads, written)
    assert first["output"].endswith(f"The grading was stopped after {LESSON}; what comes after it is not graded.")
    assert {test["number"] for test in first["tests"]} == {"1.1"}
    assert "stopped" not in last["output"]
    earned, said = by_exercise(last["tests"]), [test["output"] for test in last["tests"]]
    assert [earned[number]["score"] for number in ("1.1", "4.2")] == [GRADED["1.1"], GRADED["4.2"]]
    assert earned["4.1"]["score"] < GRADED["4.1"]
    assert re.search(r"took longer than [56] seconds, all calls together", " ".join(said))


HARMS = """
import os, resource, sys
for process in (os.getppid(), int(open(f"/proc/{os.getppid()}/stat").read().split()[3])):
    resource.prlimit(process, resource.RLIMIT_FSIZE, (0, 0))
sys.modules["__main__"].os._exit = lambda n: None
return [0]
"""


@boxed
@pytest.mark.grading
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_one_submission_costs_the_next_nothing(tmp_path):
    """It harms the processes that it was forked from, and the same worker grades both."""
    for name, answers in (("ada", {"5.6": HARMS.strip().split("\n")}), ("zoe", {})):
        (tmp_path / "class" / name).mkdir(parents=True)
        (tmp_path / "class" / name / "05_gradcam.py").write_text(answered(TEXTS["05_gradcam"], answers))
    command = [sys.executable, PROJECT_ROOT / "exercises" / "grade.py", tmp_path / "class", "--to", tmp_path / "a.csv"]
    subprocess.run(command, check=True, capture_output=True)
    scores = {name: json.loads((tmp_path / "a_each" / f"{name}.json").read_text())["score"] for name in ("ada", "zoe")}
    full = sum(points for number, points in GRADED.items() if HOMES[number] == "05_gradcam")
    assert scores == {"ada": full - GRADED["5.6"], "zoe": full}


def test_a_box_serves_one_submission(tmp_path, monkeypatch):
    monkeypatch.delenv("GRADING_KEEPS_ITS_BOX", raising=False)
    monkeypatch.setattr(Box, "stop", lambda box: stopped.append(box))
    config, used, stopped = SimpleNamespace(option=SimpleNamespace(isolation="none", time_limit=1), stash={}), [], []
    for _ in range(2):
        with plugin.open_box(config):
            used.append(config.stash[plugin.BOX])
            assert used[-1].root.is_dir()
    assert stopped == used
    assert used[0] is not used[1]
    assert not any(box.root.exists() for box in used)


def test_a_process_that_does_not_read_hangs_nobody(box):
    """The request is larger than what a pipe holds."""
    deaf = "import sys, time\ndef f(_x):\n    sys.modules['__main__'].wire.read_message = lambda *a: time.sleep(60)"
    lesson, _ = box.load(LESSON, deaf, {})
    assert lesson.f(1) is None
    with pytest.raises(Lost, match="took longer than 2 seconds"):
        lesson.f(torch.zeros(1 << 18))


# Another user's process. In earnest: test_cheats_earn_nothing_and_harm_nobody[...user], where it can be had


def test_another_user_needs_root_and_a_closed_project(monkeypatch):
    said = iter(["True\n", "False\n"])
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert missing("user") == "--isolation=user needs root, who may run a program as another user"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(subprocess, "run", lambda *_args, **_options: SimpleNamespace(stdout=next(said)))
    assert missing("user") == f"--isolation=user: other users can read the project, so run `chmod 700 {PROJECT_ROOT}`"
    assert missing("user") is None

    def refused(*_args: object, **options: object) -> None:
        assert options["user"] == options["group"] in box_module.STRANGERS
        assert options["extra_groups"] == []
        raise PermissionError

    monkeypatch.setattr(subprocess, "run", refused)
    assert "other users cannot start" in missing("user")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
def test_another_user_gets_a_copy_a_folder_and_nothing_stays(tmp_path):
    copy_course(tmp_path, "user")
    assert (tmp_path / "data" / "dog.jpg").is_file()
    assert not (tmp_path / "data").is_symlink()
    assert all(path.stat().st_mode & 0o7777 == (0o755 if path.is_dir() else 0o644) for path in tmp_path.rglob("*"))
    options = surroundings(tmp_path, "user", 23456)
    assert {"user": 23456, "group": 23456, "extra_groups": []}.items() <= options.items()
    own = Path(options["env"]["TMPDIR"])
    assert (options["env"]["APART"], options["env"]["HOME"]) == ("1", str(own))
    assert (own.stat().st_uid, own.stat().st_mode & 0o777, own.parent) == (23456, 0o700, tmp_path)
    for name in ("file", "folder", "mine"):
        path = Path(f"/tmp/left-{os.getpid()}-{name}")
        path.mkdir() if name == "folder" else path.touch()
        os.chown(path, 0 if name == "mine" else 23456, 0)
    with subprocess.Popen(["sleep", "60"], **as_user(23456)) as left:
        end_user(23456)
        assert left.wait(10) == -signal.SIGKILL
    assert [path.name for path in Path("/tmp").glob(f"left-{os.getpid()}-*")] == [f"left-{os.getpid()}-mine"]
    Path(f"/tmp/left-{os.getpid()}-mine").unlink()


@pytest.mark.skipif(KEYS is None, reason="needs Linux")
def test_only_what_runs_as_this_user_is_ended(monkeypatch):
    """Without a box other programs run beside it; a process that has ended and was not yet waited for, does not."""
    monkeypatch.setattr(answerer, "APART", True)
    with subprocess.Popen(["sleep", "60"]) as running, subprocess.Popen(["true"]) as over:
        sleep(0.5)
        found = answerer.started()
        monkeypatch.setattr(os, "getuid", lambda: 23456)
        assert (running.pid in found, over.pid in found, answerer.started()) == (True, False, set())
        running.kill()
    monkeypatch.setattr(answerer, "APART", False)
    assert answerer.started() == set()
