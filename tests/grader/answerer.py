"""The process that answers with a student's code. It judges nothing and knows no right answer.

    python answerer.py ROOT

ROOT holds utils.py, course/ and data/ of the course, no lesson. Requests come on standard input, answers go to what was
standard output. A fork of the warm process gets the text of the lessons below the one that is graded, and a fork of
that, for each exercise, the student's lesson. That last one has pipes of its own: it can neither write to the judge
nor leave anything in his pipes. What an exercise leaves behind, files or processes, ends with it.
"""

from __future__ import annotations

import ast
import contextlib
import ctypes
import gc
import importlib
import importlib.abc
import os
import pickle
import random
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import torch
import wire
from torch import nn

MEMORY = 2 << 30     # bytes beyond what the warm process holds
FILE_SIZE = 64 << 20  # bytes in one file
PROCESSES = 64
STATEMENT = 5         # seconds for one statement at the top of a file
TOGETHER = 20         # for all of them; when these are used up, each of the others has a fifth of the time

BOXED = "BOXED" in os.environ  # every process is then this program's
APART = "APART" in os.environ  # every process of this user is

KEPT: list = []       # things that stay here, by number


class Alarm(BaseException):
    """A statement took too long; no `except Exception` of a student's stops it."""


def keep(thing: object) -> int:
    """The number of a thing that the judge may ask for again."""
    KEPT.append(thing)
    return len(KEPT) - 1


def kept(number: int) -> object:
    """What handles in a request stand for."""
    return KEPT[number]


def limit_resources() -> None:
    """Memory, file size, processes, for good: a process can lower its limits but hardly raise them."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux counts private memory; address space, shared memory too, also what is only mapped
        held = dict(re.findall(r"(Vm\w+):\s+(\d+) kB", status.read_text()))
        resource.setrlimit(resource.RLIMIT_DATA, (1024 * int(held["VmData"]) + MEMORY,) * 2)
        resource.setrlimit(resource.RLIMIT_AS, (1024 * int(held["VmSize"]) + 2 * MEMORY,) * 2)
        resource.setrlimit(resource.RLIMIT_MSGQUEUE, (0, 0))           # message queues would outlive the exercise
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_SIZE, FILE_SIZE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NPROC, (PROCESSES, PROCESSES))


CALMING = (  # bound before a lesson can write `torch.manual_seed = 0`
    (os.chdir, tempfile.gettempdir()), (sys.setrecursionlimit, 1000), (gc.enable,),
    (torch.set_default_dtype, torch.float32), (torch.set_default_device, None), (torch.set_num_threads, 1),
    (torch.autograd.set_detect_anomaly, False), (torch.use_deterministic_algorithms, False),
    (torch.manual_seed, 0), (np.random.seed, 0), (random.seed, 0),
)  # fmt: skip


def calm() -> None:
    """The global state every call starts from, whatever an earlier one made of it."""
    for restore, *values in CALMING:
        restore(*values)


def sentence(error: BaseException) -> str:
    """First line of an exception, even of one that lies about itself."""
    try:
        return (str(error).strip().splitlines() or [""])[0][:300]
    except BaseException:
        return ""


def names(error: BaseException) -> list[str]:
    """The names of an exception's class and of what it is derived from."""
    return [kind.__name__[:80] for kind in type(error).__mro__[:10]]


def file_of(name: str) -> str:
    """What a lesson's file is called in reports; here there is none of that name."""
    return f"{name.replace('.', '/')}.py"


def new_module(name: str) -> ModuleType:
    """An empty module under the name by which import, or import_lesson, finds it from now on."""
    room, _, part = name.rpartition(".")
    key = f"lesson_{name}" if name[0].isdigit() else name
    module = sys.modules[key] = ModuleType(key)
    module.__file__ = file_of(name)
    if room:
        if room not in sys.modules:
            sys.modules[room] = ModuleType(room)
            sys.modules[room].__path__ = []
        setattr(sys.modules[room], part, module)
    return module


def prepare(sources: dict[str, str]) -> None:
    """The lessons and parts below, from their text and in an order in which one may import another."""
    for name, source in sources.items():
        module = new_module(name)
        exec(compile(source, module.__file__, "exec", dont_inherit=True), vars(module))


class HandedIn(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the helper modules that were handed in with a lesson."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.texts = texts

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in self.texts else None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.texts[module.__name__], f"{module.__name__}.py", "exec", dont_inherit=True), vars(module))


def compiled(name: str, source: str) -> tuple[list[tuple[int, CodeType]], list[list]]:
    """A lesson's statements with their lines, and what failed, as load() gives it.

    The text holds the reference's solutions of other exercises: no caller of a student's statement keeps it, or a tree.
    """
    codes, failed = [], []
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return [], [[getattr(error, "lineno", None) or 1, names(error), sentence(error)]]
    future = [node for node in body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    for node in body:
        statement = ast.Module([*(future if node not in future else []), node], type_ignores=[])
        try:
            codes.append((node.lineno, compile(statement, file_of(name), "exec", dont_inherit=True)))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            failed.append([node.lineno, names(error), sentence(error)])
    return codes, failed


def load(name: str, codes: list[tuple[int, CodeType]], failed: list[list], helpers: dict[str, str]) -> list[list]:
    """Run a lesson statement by statement; what fails is reported and does not stop the rest.

    Returns:
        [line, exception names, sentence] for each statement that failed.
    """
    sys.meta_path.append(HandedIn(helpers))
    module = new_module(name)
    keep(module)
    begin = worked()
    signal.signal(signal.SIGALRM, ring)
    for line, code in codes:
        seconds = STATEMENT if worked() - begin < TOGETHER else STATEMENT / 5
        try:
            CLOCK.update(begin=worked(), seconds=seconds, latest=time.monotonic() + 10 * seconds, swallowed=0)
            signal.setitimer(signal.ITIMER_REAL, seconds, 0.5)
            exec(code, vars(module))
        except BaseException as error:
            failed.append([line, names(error), sentence(error)])
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    return sorted(failed, key=lambda each: each[0])


CLOCK = {"begin": 0.0, "seconds": 0, "latest": 0.0, "swallowed": 0}  # of the statement that runs


def worked() -> float:
    """Seconds, without those for which this process waited for a processor."""
    return time.monotonic() - (wire.waited("self") or 0)


def ring(_number: int, _frame: object) -> None:
    """What the alarm clock does, twice a second: nothing as long as a busy machine has kept the statement waiting.

    A statement that catches everything, the alarm as well, would run for ever: then this process ends.
    """
    if worked() - CLOCK["begin"] < 0.9 * CLOCK["seconds"] and time.monotonic() < CLOCK["latest"]:
        return
    CLOCK["swallowed"] += 1
    if CLOCK["swallowed"] > 10:
        os._exit(1)
    raise Alarm(f"took longer than {CLOCK['seconds']:g} seconds")


def picture(thing: object) -> object:
    """What could be changed about an argument, copied."""
    if isinstance(thing, torch.Generator):
        return thing.get_state()
    if isinstance(thing, torch.Tensor):
        return [thing.detach().clone(), thing.requires_grad, None if thing.grad is None else thing.grad.clone()]
    return {
        "tensors": {name: picture(tensor) for name, tensor in tensors_of(thing)},
        "modules": [[name, type(m).__name__, m.training, bool(getattr(m, "inplace", False)),
                     [len(getattr(m, hooks)) for hooks in wire.HOOKS]] for name, m in thing.named_modules()],
    }  # fmt: skip


def tensors_of(model: nn.Module) -> list:
    """Parameters and buffers with their names."""
    return [*model.named_parameters(), *model.named_buffers()]


def same(first: object, second: object) -> bool:
    """Whether two pictures show the same."""
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, list):
        return len(first) == len(second) and all(same(*pair) for pair in zip(first, second, strict=True))
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    return first == second


def call(request: dict) -> dict:
    """Call something with the arguments of a request; the result, and what the call changed."""
    things = wire.parts_of([request["args"], request["kwargs"]], [])
    before, drawn = [picture(thing) for thing in things], torch.get_rng_state()
    with torch.set_grad_enabled(request["grad"]), torch.inference_mode(request["inference"]):
        result = kept(request["object"])(*request["args"], **request["kwargs"])
    after = [picture(thing) for thing in things]
    changed = [None if same(*pair) else pair[1] for pair in zip(before, after, strict=True)]
    return {"result": result, "changed": changed, "drawn": not torch.equal(drawn, torch.get_rng_state())}


def answer(request: dict) -> dict:
    """What the judge asked for."""
    do = request["do"]
    if do == "load":
        codes, failed = compiled(request["name"], request.pop("source"))
        return {"failed": load(request["name"], codes, failed, request["helpers"])}
    if do == "calm":
        return {"result": calm()}
    if do == "get":
        return {"result": getattr(kept(request["object"]), request["name"])}
    if do == "enter":
        return {"result": kept(request["object"]).__enter__()}
    if do == "exit":
        return {"result": bool(kept(request["object"]).__exit__(None, None, None))}
    if do == "run":
        return {"result": request["function"](kept(request["object"]), *request["args"])}
    if do == "list":
        return {"result": list(kept(request["object"]))}
    return call(request)


def serve(receive: int, send: int) -> None:
    """Answer requests until the exercise is over, when this process is ended."""
    while True:
        number, request = pickle.loads(wire.read_message(receive))
        try:
            outcome = answer(request)
        except BaseException as error:
            outcome = {"error": names(error), "text": sentence(error)}
        try:
            data = wire.pack({"number": number, **outcome}, keep)
        except BaseException as error:
            data = wire.pack({"number": number, "error": names(error), "text": sentence(error)}, keep)
        wire.write_all(send, data)


def channel() -> tuple[int, int]:
    """Standard input and output as a channel of their own; what a student prints goes nowhere."""
    receive, send, nowhere = os.dup(0), os.dup(1), os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    return receive, send


def started() -> set[int]:
    """The processes that an exercise started: in a box all but the first, this one and the one above it."""
    if not BOXED and not APART:
        return set()
    found = {int(name) for name in os.listdir("/proc") if name.isdigit()} - {1, os.getpid(), os.getppid()}
    return found if BOXED else {process for process in found if of_this_user(process)}


def of_this_user(process: int) -> bool:
    """Whether a process runs, and as the same user; /proc/PID itself may be root's."""
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{process}/status").read_text()
        return f"\nUid:\t{os.getuid()}\t" in status and "\nState:\tZ" not in status
    return False


def tidy() -> None:
    """End what an exercise started and remove what it wrote."""
    while others := started():
        for process in others:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    for entry in os.scandir(tempfile.gettempdir()) if BOXED or APART else ():
        with contextlib.suppress(OSError):
            shutil.rmtree(entry) if entry.is_dir(follow_symlinks=False) else os.unlink(entry)
    for kind in ("shm", "msg", "sem") if BOXED or APART else ():       # System V's memory, queues and semaphores
        with contextlib.suppress(OSError), open(f"/proc/sysvipc/{kind}") as file:
            for line in [*file][1:]:
                getattr(ctypes.CDLL(None), f"{kind}ctl")(int(line.split()[1]), 0, 0)   # 0 is IPC_RMID


def exercise(receive: int, send: int) -> None:
    """Fork for an exercise; carry requests to the fork and its answers back until the judge says "end" or it is gone.

    The judge knows an answer by the = before it: nothing that the fork says can look like "ready".
    """
    (asked, ask), (answers, reply) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        for pipe in (receive, send, ask, answers):
            os.close(pipe)
        limit_resources()
        calm()
        serve(asked, reply)
    os.close(asked)
    os.close(reply)

    over = False

    def wait() -> None:
        nonlocal over
        while not select.select([answers], [], [], 0.1)[0]:
            over = os.waitpid(child, os.WNOHANG)[0] == child           # though one that it started may live
            if over or hung_up(receive):
                raise EOFError

    try:
        while (request := wire.read_message(receive)) != b"end":
            wire.write_all(ask, request)
            wire.write_all(send, b"=" + wire.read_message(answers, wait))
    except (EOFError, OSError):
        pass
    except wire.Nonsense:
        wire.write_all(send, b"=")
    if not over:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    os.close(ask)
    os.close(answers)


def hung_up(pipe: int) -> bool:
    """Whether nobody can write into a pipe any more: the judge was killed, and its question needs no answer."""
    poll = select.poll()
    poll.register(pipe, 0)                                             # no event but the end
    return bool(poll.poll(0))


def forks(receive: int, send: int, level: int) -> None:
    """Say "ready"; for each "begin" fork and hand over; tidy up after an exercise. "back" ends this level."""
    gc.collect()
    gc.freeze()                                                        # or a fork that collects copies all of it
    while True:
        wire.write_all(send, b"ready %d" % level)
        if wire.read_message(receive) != b"begin":
            os._exit(0)
        if level == 1:
            exercise(receive, send)
            tidy()
            continue
        child = os.fork()
        if child == 0:
            prepare(pickle.loads(wire.read_message(receive)))
            forks(receive, send, level + 1)
        os.waitpid(child, 0)


def main(root: str) -> None:
    """Warm up with everything that the course's own modules import, then fork."""
    receive, send = channel()
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")            # if memory runs out, this ends and not the judge
    keyctl = {"x86_64": 250, "aarch64": 219}.get(os.uname().machine) if sys.platform == "linux" else None
    if keyctl:                                                         # a keyring of its own; the judge's is for all
        ctypes.CDLL(None).syscall(keyctl, 1, 0)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(4, 0)                                  # PR_SET_DUMPABLE: no fork looks into its parent
    sys.dont_write_bytecode = True
    sys.path.insert(0, root)
    for name in pickle.loads(wire.read_message(receive)):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    forks(receive, send, 0)


if __name__ == "__main__":
    main(sys.argv[1])
