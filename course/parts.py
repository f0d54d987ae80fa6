"""Parts of a lesson as programs: `python 08_comparative_analysis.py planted_scenes` runs that part."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from typing import NoReturn

from course.lesson import in_notebook, one_sentence


def run_part(module: str, arguments: Sequence[str]) -> NoReturn:
    """Run a module as a program with these arguments, and end."""
    sys.modules.pop(module, None)  # it runs anew, as __main__; that a lesson has imported it would be warned of
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__")
    sys.exit(0)


def hand_over(room: str, parts: Sequence[str], old_options: dict[str, str] | None = None) -> None:
    """Run the part that the command line names first, with the rest of its options, and end; return if it names none.

    Args:
        room: the folder of the parts, "advanced".
        parts: their names, and those of programs that live there.
        old_options: option -> part: what once was an option of the lesson, and still runs that part.

    Raises:
        ValueError: another first word.
    """
    if in_notebook():
        return
    sys.excepthook = one_sentence
    arguments = sys.argv[1:]
    for option, part in (old_options or {}).items():
        for i, word in enumerate(arguments):
            name, equals, value = word.partition("=")
            if name == option:
                run_part(f"{room}.{part}", [*arguments[:i], *([value] if equals else []), *arguments[i + 1 :]])
    if arguments and not arguments[0].startswith("-"):
        if arguments[0] not in parts:
            raise ValueError(f"there is no part {arguments[0]!r}; there are {', '.join(parts)}")
        run_part(f"{room}.{arguments[0]}", arguments[1:])
