"""The judge's side: a lesson whose functions are answered by another process.

To a test a Remote looks like the lesson: it calls functions, reads constants, enters context managers. Values come back
as plain data; networks and tensors that were given as arguments stay as they are, except for a test in changes_seen().
"""

from __future__ import annotations

import builtins
import os
import pickle
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import torch
from torch import nn

from grader import wire
from grader.box import (
    CONTAINERS,
    below,
    command,
    end_container,
    end_user,
    packages,
    stranger,
    surroundings,
    text_of,
)
from grader.report import SHORT


class Lost(RuntimeError):
    """The answering process is gone, or said something that is no answer; the reason is the text."""


class NoBox(RuntimeError):
    """The answering process does not start: no student's fault, so nothing is graded."""


class StudentError(Exception):
    """An exception of the student's code that Python itself does not have."""


class Box:
    """A warm answering process: load() a student's lesson for each exercise, end() it, stop() the process.

    A box serves one submission, because what runs in it could harm the processes that the next exercise is forked from.

    Args:
        root: the course without lessons, as box.copy_course() made it.
        isolation: one of box.ISOLATIONS.
        seconds: for a request.
    """

    def __init__(self, root: Path, isolation: str, seconds: float = 10) -> None:
        self.root, self.isolation, self.seconds = root, isolation, seconds
        self.name, self.user = "", 0                                   # of a container, of another user
        self.process: subprocess.Popen | None = None
        self.lesson: str | None = None                                 # whose lower lessons are loaded
        self.serving, self.answering = False, 0                        # the process with the student's code
        self.limit = self.deadline = self.latest = 0.0
        self.waited: float | None = None                               # for a processor, until the request was sent

    def allow(self, seconds: float) -> None:
        """Time for what comes next. While the process waits for a processor, it does not run: up to ten times."""
        self.limit, self.waited = seconds, wire.waited(self.answering)
        self.latest = time.monotonic() + 10 * seconds
        self.deadline = time.monotonic() + seconds * (wire.crowd() if self.waited is None else 1)

    def start(self) -> None:
        """Start the process and wait until it is warm."""
        self.name = f"grading-{os.getpid()}-{secrets.token_hex(4)}"    # the engine may still be removing the last one
        self.user = stranger() if self.isolation == "user" else 0
        with tempfile.TemporaryFile() as complaint:                    # not what students print
            self.process = subprocess.Popen(
                command(self.root, self.isolation, self.name), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=complaint, start_new_session=True, cwd=self.root,
                **surroundings(self.root, self.isolation, self.user),
            )  # fmt: skip
            os.set_blocking(self.process.stdin.fileno(), False)
            self.allow(120)
            try:
                self.send(pickle.dumps(packages()))
                self.expect_ready(0)
            except Lost as error:
                complaint.seek(0)
                why = (complaint.read().decode(errors="replace").strip().splitlines() or [str(error)])[-1][:300]
                raise NoBox(f"the process that runs students' code does not start with --isolation={self.isolation}: "
                            f"{why}") from error  # fmt: skip

    def turn_to(self, lesson: str) -> None:
        """Have the lessons below this one loaded, in a fork that its exercises share."""
        fresh = self.process is None
        if fresh:
            self.start()
        self.allow(60)
        try:
            if self.lesson is not None:
                self.send(b"back")
                self.expect_ready(0)
            self.send(b"begin")
            self.send(pickle.dumps({name: text_of(name) for name in below(lesson)}))
            self.expect_ready(1)
        except Lost as error:
            if fresh:                                                  # nothing of a student's has run in it
                raise NoBox(f"the lessons below {lesson} cannot be loaded: {error}") from error
            raise
        self.lesson = lesson

    def expect_ready(self, level: int) -> None:
        """Between two exercises the process says so: at level 0 without lessons, at level 1 with those below."""
        if self.receive() != b"ready %d" % level:
            self.stop()
            raise Lost("wrote into the grader's channel")

    def load(self, lesson: str, source: str, helpers: dict[str, str]) -> tuple[Remote, list]:
        """A student's lesson in a fresh fork, and its top-level statements that failed: [line, exception names, text].

        If the process is lost meanwhile, once more in a fresh one: an exercise before may have harmed it.

        Args:
            lesson: its name, such as "05_gradcam".
            source: its text.
            helpers: texts of modules that were handed in with it, by their names.
        """
        try:
            return self.loaded(lesson, source, helpers)
        except Lost:
            self.stop()
            return self.loaded(lesson, source, helpers)

    def loaded(self, lesson: str, source: str, helpers: dict[str, str]) -> tuple[Remote, list]:
        """What load() does, tried once."""
        self.end()
        if self.process is None or self.lesson != lesson:
            self.turn_to(lesson)
        self.send(b"begin")
        self.serving = True
        failed = self.ask(60, do="load", name=lesson, source=source, helpers=helpers).get("failed")
        if not is_list_of_failures(failed):
            raise Lost("wrote into the grader's channel")
        # What runs in a container is no descendant of the engine's client
        self.answering = 0 if self.isolation in CONTAINERS else youngest(self.process.pid)
        return Remote(self, 0, "module"), failed

    def end(self) -> None:
        """The exercise is over; its process is ended, with what it started."""
        if self.process is None or not self.serving:
            return
        self.serving, self.answering = False, 0
        self.allow(10)
        try:
            self.send(b"end")
            self.expect_ready(1)
        except Lost:
            self.stop()

    def stop(self) -> None:
        """End the process and all that it started."""
        process, self.process, self.lesson = self.process, None, None
        self.serving, self.answering = False, 0
        if process is not None:
            end_container(self.isolation, self.name)
            for kill in (os.killpg, os.kill):
                try:
                    kill(process.pid, signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    continue
            process.stdin.close()
            process.stdout.close()
            process.wait()
        if self.user:
            end_user(self.user)
            self.user = 0

    def ask(self, seconds: float | None = None, **request: object) -> dict:
        """Send a request and wait for its answer; an exception over there is raised here."""
        number = secrets.randbits(60)
        self.allow(seconds or self.seconds)
        self.send(cloudpickle.dumps((number, request)))
        data = self.receive()
        if data == b"ready 1":                                         # its parent speaks: the fork is gone
            self.serving, self.answering = False, 0
            raise Lost("ended the process")
        try:
            answer = wire.unpack(data.removeprefix(b"="))
        except wire.Nonsense as error:
            self.end()
            raise Lost("wrote into the grader's channel") from error
        if type(answer) is not dict or answer.get("number") != number:
            self.end()
            raise Lost("wrote into the grader's channel")
        if "error" in answer:
            raise_again(answer["error"], answer.get("text"))
        return answer

    def send(self, data: bytes) -> None:
        """A message to the process, before the deadline: it may read none."""
        if self.process is None:
            raise Lost("the process ended")
        pipe = self.process.stdin.fileno()
        try:
            wire.write_all(pipe, data, lambda: self.wait([], [pipe]))
        except OSError as error:
            self.stop()
            raise Lost("the process ended") from error

    def wait(self, reading: list[int], writing: list[int]) -> None:
        """Until a pipe is ready, or the deadline has passed."""
        while not any(select.select(reading, writing, [], max(0, self.deadline - time.monotonic()))):
            before, self.waited = self.waited, wire.waited(self.answering)
            more = (self.waited or 0) - (before or 0)
            if more < 0.1 or time.monotonic() > self.latest:
                self.stop()
                raise Lost(f"took longer than {self.limit:g} seconds")
            self.deadline = min(time.monotonic() + more, self.latest)

    def receive(self) -> bytes:
        """A message from the process, before the deadline."""
        pipe = self.process.stdout.fileno()
        try:
            return wire.read_message(pipe, lambda: self.wait([pipe], []))
        except EOFError as error:
            self.stop()
            raise Lost("ended the process") from error
        except wire.Nonsense as error:
            self.stop()
            raise Lost("wrote into the grader's channel") from error


def youngest(process: int) -> int:
    """The last of a process's descendants; 0 where the system does not tell."""
    try:
        while True:
            with open(f"/proc/{process}/task/{process}/children") as file:
                children = file.read().split()
            if not children:
                return process
            process = int(children[-1])
    except OSError:
        return 0


def is_list_of_failures(failed: object) -> bool:
    """Whether load() answered what it should: [line, exception names, text] for each."""
    return type(failed) is list and all(
        type(each) is list and [type(part) for part in each] == [int, list, str] and each[1]
        and all(type(name) is str for name in each[1]) for each in failed
    )  # fmt: skip


def raise_again(names: object, text: object) -> None:
    """An exception of the other side: the first of its classes that Python has, and the beginning of its text."""
    names = [str(name)[:80] for name in names] if isinstance(names, list) else []
    text = str(text)[: SHORT if "AssertionError" in names else 300]
    for name in names:
        kind = getattr(builtins, name, None)
        if isinstance(kind, type) and issubclass(kind, Exception) and kind is not Exception:
            raise kind(text)
    raise StudentError(f"{names[0] if names else 'an error'}: {text}")


class Remote:
    """Something in the answering process: the lesson, a function, an object of the student's."""

    def __init__(self, box: Box, number: int, kind: str) -> None:
        self._box, self._number, self._kind = box, number, kind

    def __reduce__(self) -> tuple:
        return remote_stand_in, (self._number,)                        # over there it is the thing itself

    def _value(self, value: Any) -> Any:
        """Handles become Remotes."""
        if type(value) is wire.Handle:
            return Remote(self._box, *value)
        if type(value) in (list, tuple):
            return type(value)(self._value(item) for item in value)
        if type(value) is dict:
            return {key: self._value(item) for key, item in value.items()}
        return value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = self._value(self._box.ask(do="get", object=self._number, name=name)["result"])
        if isinstance(value, Remote):
            self.__dict__[name] = value                                # a function: no need to ask again
        return value

    def __call__(self, *args: object, **kwargs: object) -> Any:
        answer = self._box.ask(do="call", object=self._number, args=args, kwargs=kwargs, grad=torch.is_grad_enabled(),
                               inference=torch.is_inference_mode_enabled())  # fmt: skip
        if SEEN:
            for thing, seen in zip(wire.parts_of([args, kwargs], []), answer["changed"], strict=True):
                if seen is not None:
                    apply(thing, seen)
            if answer["drawn"]:
                UNDO.append(partial(torch.set_rng_state, torch.get_rng_state()))
                torch.rand(1)                                          # the global random state moved over there
        return self._value(answer["result"])

    def __enter__(self) -> Any:
        return self._value(self._box.ask(do="enter", object=self._number)["result"])

    def __exit__(self, *_exception: object) -> None:
        self._box.ask(do="exit", object=self._number)

    def __iter__(self):
        return iter(self._value(self._box.ask(do="list", object=self._number)["result"]))

    def __repr__(self) -> str:
        return f"<a {self._kind}>"


def over_there(lesson: object, function: Callable, *args: object) -> Any:
    """function(lesson, *args), where the lesson lives: for tests that need its objects, not only their values.

    What comes back is plain data all the same, and is compared here. What the function itself checks is not.
    """
    if not isinstance(lesson, Remote):
        return function(lesson, *args)
    box = lesson._box
    return lesson._value(box.ask(do="run", object=lesson._number, function=function, args=args)["result"])


def remote_stand_in(number: int) -> object:
    """In the answering process: what a Remote stands for."""
    return sys.modules["__main__"].kept(number)


def left_behind(*_anything: object) -> None:
    """Stands for a hook that a student's code left on a network."""


SEEN: list[bool] = []                  # one for each changes_seen() that a test is in
UNDO: list[Callable[[], object]] = []  # what brings the arguments back to what they were before the call


@contextmanager
def changes_seen() -> Iterator[None]:
    """Here arguments look as the calls leave them: for tests which assert that they stay as they are.

    Nowhere else: what a test works out with its own networks and tensors is not for an answer to move.
    """
    SEEN.append(True)
    try:
        yield
    finally:
        SEEN.pop()
        while UNDO:
            UNDO.pop()()


def put(tensor: torch.Tensor, values: torch.Tensor, wants_grad: bool, grad: torch.Tensor | None) -> None:
    """Give a tensor these values, flag and gradient."""
    tensor.data = values.to(tensor.dtype) if values.shape == tensor.shape else values
    if tensor.is_leaf:
        tensor.requires_grad_(wants_grad)
    tensor.grad = grad


def exchange(owner: object, name: str, value: object) -> None:
    """Set an attribute, until changes_seen() ends."""
    UNDO.append(partial(setattr, owner, name, getattr(owner, name)))
    setattr(owner, name, value)


def apply(thing: object, seen: Any) -> None:
    """Make an argument look as the call left it, until changes_seen() ends."""
    if isinstance(thing, torch.Generator):
        UNDO.append(partial(thing.set_state, thing.get_state()))
        thing.set_state(seen)
    elif isinstance(thing, torch.Tensor):
        UNDO.append(partial(put, thing, thing.detach().clone(), thing.requires_grad, thing.grad))
        put(thing, *seen)
    else:
        tensors = dict([*thing.named_parameters(), *thing.named_buffers()])
        for name, picture in seen["tensors"].items():
            if name in tensors:
                apply(tensors[name], picture)
        modules = dict(thing.named_modules())
        for name, _kind, training, in_place, hooks in seen["modules"]:
            if name not in modules:
                thing.add_module("added_by_the_call", nn.Identity())
                UNDO.append(partial(thing._modules.pop, "added_by_the_call", None))
                continue
            module = modules[name]
            exchange(module, "training", training)
            if hasattr(module, "inplace"):
                exchange(module, "inplace", in_place)
            for count, attribute in zip(hooks, wire.HOOKS, strict=True):
                if count > len(getattr(module, attribute)):            # however many: one is enough to be seen
                    register(module, attribute)


def register(module: nn.Module, attribute: str) -> None:
    """A hook that does nothing, where the other side found one."""
    kinds = {"_forward_hooks": module.register_forward_hook, "_forward_pre_hooks": module.register_forward_pre_hook,
             "_backward_hooks": module.register_full_backward_hook,
             "_backward_pre_hooks": module.register_full_backward_pre_hook}  # fmt: skip
    UNDO.append(kinds[attribute](left_behind).remove)


def pickled_by_value(module: ModuleType) -> None:
    """The other side does not have the tests: their networks and functions travel as code."""
    cloudpickle.register_pickle_by_value(module)
