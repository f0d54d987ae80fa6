"""What runs a lesson: its command line, its pictures and network, its figures and tables, one-sentence errors."""

from __future__ import annotations

import argparse
import atexit
import re
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from types import TracebackType

import matplotlib
import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import utils
from course.checks import one_line, target_indices
from course.figures import describe, save_figure
from course.paths import OUTPUT_DIR
from course.pictures import list_pictures
from course.weights import EMBEDDED, in_bfloat16

EXPECTED = (ValueError, TypeError, OSError, RuntimeError, AssertionError)  # of these a sentence is enough
OTHER = {"resnet50": "squeezenet1_1"}  # to look at a picture with two networks


def in_notebook() -> bool:
    """Whether this runs in a Jupyter kernel."""
    return "ipykernel" in sys.modules


class Lesson:
    """A running lesson: what its command line names, loaded when it is first asked for.

    Attributes:
        args: the command line. args.quick asks for the small network and less of everything.
        model, model_name: the network and its name.
        other_model, other_name: another embedded network, to look at the same picture with.
        names, images: the pictures' file names, and (N, 3, 224, 224).
        targets: (N,), the class explained of each: --target, or its top class.
        titles: N texts, label and probability of the target.
        seed: of all random draws.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.seed, self.quick = args, args.seed, args.quick
        self.model_name = args.model or ("squeezenet1_1" if args.quick else "resnet50")
        self.other_name = OTHER.get(self.model_name, "resnet50")

    @cached_property
    def model(self) -> nn.Module:
        return self.load(self.model_name)

    @cached_property
    def other_model(self) -> nn.Module:
        return self.load(self.other_name)

    def load(self, name: str) -> nn.Module:
        """A network on --device; with --bfloat16 one that calculates in it."""
        model = utils.load_model(name, self.args.device)
        return in_bfloat16(model) if self.args.bfloat16 else model

    def check(self, holds: bool, otherwise: str) -> None:
        """Assert that an equation holds; with --bfloat16, which may be too coarse for it, say so instead."""
        assert holds or self.args.bfloat16, otherwise
        if not holds:
            print(f"in bfloat16 only: {otherwise}")

    @cached_property
    def files(self) -> list[Path]:
        return list_pictures(self.args.image or self.args.default_images)

    @property
    def names(self) -> list[str]:
        return [file.name for file in self.files]

    @cached_property
    def images(self) -> Tensor:
        images = [utils.preprocess_image(utils.load_image(file)) for file in self.files]
        return torch.cat(images).to(self.args.device)

    @property
    def target(self) -> int | None:
        """--target as a class index, None if it was not given."""
        return None if self.args.target is None else utils.find_class(self.args.target)

    @cached_property
    def targets(self) -> Tensor:
        with torch.no_grad():
            return target_indices(self.target, self.model(self.images))

    @cached_property
    def titles(self) -> list[str]:
        return utils.describe_targets(self.model, self.images, self.targets)

    def show(self, figure: Figure, name: str) -> None:
        """Display the figure in a notebook; in a script write it to --output-dir as <name>.png, and say where."""
        if in_notebook():
            from IPython.display import display

            # a value inside `if __name__ ...` is not displayed by itself
            display(figure, metadata={"image/png": {"alt": describe(figure)}, "name": name})
            plt.close(figure)
            return
        file = self.args.output_dir / f"{name}.png"
        save_figure(figure, file, keep_open=self.args.show)
        print(f"wrote {file}")
        if self.args.show:
            plt.show()  # until its window is closed
            plt.close(figure)


def start(
    name: str,
    question: str,
    images: Sequence[str] = ("bird.jpg",),
    *,
    options: dict[str, dict] | None = None,
    in_notebooks: Sequence[str] = (),
) -> Lesson:
    """Begin a lesson as a program: from here on a failure is one sentence and exit status 1.

    Args:
        name: of the lesson, "05_gradcam", or of the part, "evaluation.planted_scenes".
        question: what the lesson answers, for --help.
        images: the pictures it explains unless --image names others.
        options: further options of its command line: {"--steps": {"type": int, "default": 5, "help": ...}}.
        in_notebooks: the command line that a notebook, which has none, runs with.
    """
    parser = lesson_parser(name, question, images)
    for option, settings in (options or {}).items():
        parser.add_argument(option, **settings)
    if in_notebook():
        return Lesson(parser.parse_args([*in_notebooks]))
    sys.excepthook = one_sentence
    args = parser.parse_args()
    if not args.show:
        matplotlib.use("Agg")  # no window, no display needed
    return Lesson(args)


def lesson_parser(name: str, question: str, images: Sequence[str]) -> argparse.ArgumentParser:
    """The options every lesson has."""
    prog = f"python -m {name}" if "." in name else f"{name}.py"
    parser = argparse.ArgumentParser(prog=prog, description=question)
    folder, shown = OUTPUT_DIR / name.replace(".", "/"), f"outputs/{name.replace('.', '/')}"
    add = parser.add_argument
    add("--image", action="append", metavar="PATH", help=f"file or folder, repeatable (default: {' '.join(images)})")
    networks = f"{', '.join(EMBEDDED)} or a torchvision name"
    add("--model", help=f"{networks} (default: resnet50; squeezenet1_1 with --quick)")
    add("--target", help="class index or label to explain (default: each image's top class)")
    add("--device", default="cpu", help="cpu, cuda or mps (default: %(default)s)")
    faster = ("let the network calculate in bfloat16: faster with AMX, AVX512-BF16 or a GPU, but a plain gradient is a "
              "third wrong (lesson 03)")  # fmt: skip
    add("--bfloat16", action="store_true", help=faster)
    add("--seed", type=int, default=0, help="of all random draws (default: %(default)s)")
    add("--output-dir", type=Path, default=folder, help=f"for figures (default: {shown})")
    add("--quick", action="store_true", help="the small network and less of everything")
    add("--show", action="store_true", help="open each figure in a window as well, and wait until it is closed")
    parser.set_defaults(default_images=tuple(images), refuse=parser.error)  # refuse(sentence): wrong use, status 2
    return parser


def one_sentence(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Report an exception as one line on standard error; what nobody expected keeps its traceback."""
    sentence = one_line(error) or kind.__name__
    if isinstance(error, NotImplementedError) and re.fullmatch(r"\d+\.\d+", sentence):
        file = Path(traceback.extract_tb(trace)[-1].filename).name
        sentence = f"exercise {sentence} is not solved yet; look for EXERCISE {sentence} in {file}"
    elif issubclass(kind, KeyboardInterrupt):
        sentence = "interrupted"
    elif not isinstance(error, EXPECTED):
        sys.__excepthook__(kind, error, trace)
        return
    print(f"error: {sentence}", file=sys.stderr)
    if issubclass(kind, KeyboardInterrupt):
        end_as_interrupted()


def end_as_interrupted() -> None:
    """End this program as Ctrl-C ends one, so that a shell stops the loop around it, too.

    Python would do the same, but it forgets that it was interrupted if a function that runs at exit compiles code. One
    of torch's does: it imports tabulate, where that is installed.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second Ctrl-C does not wait for what follows
    with suppress(OSError, ValueError):  # nobody reads the output any more, or it is closed
        sys.stdout.flush()
    atexit._run_exitfuncs()
    signal.raise_signal(signal.SIGINT)


def print_table(header: Sequence[str], rows: Sequence[Sequence]) -> None:
    """Columns as wide as their longest entry; floats with three significant digits. A header may have several lines."""
    cells = [[f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    heads = [str(cell).split("\n") for cell in header]
    tall = max(map(len, heads))
    lines = [list(line) for line in zip(*([""] * (tall - len(head)) + head for head in heads), strict=True)] + cells
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
