"""A collection of any size, on one machine or many: Ray shares it out, workers explain, results are Parquet files.

    explain_dataset("pictures/", "maps/", method="grad_cam", model="resnet50", batch_size=8)
    pandas.read_parquet("maps/")

The list of pictures is cut into parts of shard_size. A worker explains a part and writes it as one file, whose name
follows from the part's pictures and from the settings. So a part that is done twice, after a crash say, is one file
all the same, and a run that was stopped in any way goes on with the parts that are not there.
"""

from __future__ import annotations

import _thread
import argparse
import copy
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from course.checks import check_counts, one_line
from course.explainer import Explainer, Explanation
from course.files import fingerprint, safe_name, write
from course.lesson import Lesson
from course.shards import count_rows, first_errors, missing, read_listing, write_listing, write_rows
from utils import load_model

SAVED = "_saved"  # what save=True writes
# A GPU that failed is lost to its process: no later picture can be explained there
LOST = getattr(torch, "AcceleratorError", ())
NO_ROOM = (MemoryError, torch.OutOfMemoryError)  # too many workers, or other programs; not the picture's fault
BATCH, PART = 8, 100  # images at once, pictures in a file, where nothing else is asked for
SHOWN = 3  # reasons of failed pictures that the command prints
CPUS = 0.5  # asked for by a worker: if half of the machines are lost, those that are left can take all workers


def explain_dataset(
    paths: object, folder: str | os.PathLike, *, method: str | Callable, model: str | nn.Module,
    target: int | None = None, batch_size: int = BATCH, workers: int | None = None, gpus_per_worker: float = 0,
    address: str | None = None, shard_size: int = PART, patience: float = 1800, bfloat16: bool = False,
    save: bool = False, progress: bool = False,
) -> tuple[int, int]:
    """Explain pictures on a Ray cluster and write the results as Parquet files; what is there is not done again.

    All machines see the project, the pictures and the folder under the same paths.

    Args:
        paths: a folder (with all folders inside), a text file of paths (.txt, one a line), a picture, an iterable of
            these, or a ray.data.Dataset with a column "path". What is named twice is explained twice.
        folder: of the results, made if missing. Columns: source, target, label, probability, map (float16, row by
            row), height and width (of the map), error (a sentence; then all of them but source are empty).
        method, target, bfloat16: as in Explainer; target is None or one class for all.
        model: a network in eval mode, or a name for load_model.
        batch_size: images at once in each worker.
        workers: how many; by default one for each processor but one, which Ray itself needs, or as many as there
            are GPUs for.
        gpus_per_worker: 0.5 for two workers on a GPU; with 0 they work on processors.
        address: of a cluster, "auto" for the one of this machine; by default RAY_ADDRESS or one that is started here.
        shard_size: pictures per file.
        patience: seconds without a finished file after which the run ends.
        save: write <part>-<number>-<name>.npz and .png of every picture, too, in _saved/. A setting like the others:
            what was begun without it does not go on with it.
        progress: show a bar.

    Returns:
        How many of the pictures are explained in the folder, and how many failed: together all that were named.

    Raises:
        OSError: a path that is not there and has no picture's ending; a folder that may not be read.
        ValueError: whatever Explainer and the method refuse; no pictures; a folder with results, or the list, of
            other pictures or settings; GPUs that are not there.
        TimeoutError: nothing was finished for `patience` seconds.
        RuntimeError: Ray is not installed, or a worker could not work.
    """
    import_ray()
    check_counts(batch_size=batch_size, shard_size=shard_size, workers=1 if workers is None else workers)
    folder = Path(folder).absolute()
    model = load_model(model) if isinstance(model, str) else copy.deepcopy(model).cpu()
    explainer = Explainer(model, method, bfloat16=bfloat16)
    list(explainer.explain(torch.zeros(3, 224, 224), target))          # what the method refuses, it refuses here
    settings = fingerprint(explainer.settings(), target, save)
    shards = write_listing(paths, folder, settings, shard_size)
    todo = [shard for shard in shards if not (folder / shard["name"]).exists()]
    total, ahead = (sum(shard["count"] for shard in some) for some in (shards, todo))
    with tqdm(initial=total - ahead, total=total, unit=" pictures", disable=not progress) as bar:
        if todo:
            settings = str(folder), model, method, target, batch_size, bfloat16, save
            with connected(address):
                try:
                    for shard in in_time(written(explain_shards(todo, settings, workers, gpus_per_worker)), patience):
                        bar.update(shard["count"])
                except TimeoutError as error:
                    raise TimeoutError(f"{error}; {missing(folder, todo)}") from None
    for part in folder.glob(".*.part"):                                # of workers that were killed
        part.unlink(missing_ok=True)
    return count_rows(folder, shards)


def explain_shards(todo: list[dict], settings: tuple, workers: int | None, gpus_per_worker: float) -> Iterator[dict]:
    """The parts, as Ray's workers finish them. What is lost with a worker or a machine, Ray gives to another."""
    ray = import_ray()
    pool = ray.data.ActorPoolStrategy(size=count_workers(workers, gpus_per_worker), max_tasks_in_flight_per_actor=2)
    folder, model, *rest = settings
    arguments = (folder, ray.put(model), *rest, gpus_per_worker > 0)
    parts = ray.data.from_items(todo, override_num_blocks=len(todo))   # one at a time for a worker
    return parts.map(Worker, fn_constructor_args=arguments, compute=pool, num_cpus=CPUS,
                     num_gpus=gpus_per_worker or None).iter_rows()  # fmt: skip


def written(shards: Iterable[dict]) -> Iterator[dict]:
    """The same parts; RuntimeError for one that its worker could not write."""
    for shard in shards:
        if shard["error"]:
            raise RuntimeError(f"a worker could not work: {shard['error']}")
        yield shard


class Worker:
    """What Ray keeps in each worker process: a network, ready to explain the pictures of one part after another."""

    def __init__(
        self, folder: str, model: object, method: str | Callable, target: int | None, batch_size: int, bfloat16: bool,
        save: bool, on_gpu: bool,
    ) -> None:
        torch.set_num_threads(1)                                       # there is a worker for each processor
        self.folder, self.target, self.size, self.save = Path(folder), target, batch_size, save
        self.explainer = Explainer(import_ray().get(model), method, device="cuda" if on_gpu else "cpu",
                                   batch_size=batch_size, bfloat16=bfloat16)  # fmt: skip

    def __call__(self, shard: dict) -> dict:
        """Write the file of a part, unless another worker has; why that was not possible stands in "error".

        What is raised here would end the run as well, but Ray loses its cause on the way.
        """
        try:
            self._write(shard)
        except Exception as error:                                     # whatever it is, somebody has to read it
            return shard | {"error": reason(error)}
        return shard | {"error": ""}

    def _write(self, shard: dict) -> None:
        file = self.folder / shard["name"]
        if not file.exists():
            explained = explain_each(self.explainer, read_listing(self.folder, shard), self.target, self.size)
            if self.save:
                explained = self._saved(explained, file.stem)
            write(file, lambda stream: write_rows(stream, explained), on_disk=True)

    def _saved(self, explained: Iterable[Explanation], name: str) -> Iterator[Explanation]:
        """The same, each saved under the part's name, its place in the part, and its own name."""
        for i, item in enumerate(explained):
            if not item.error:
                item.save(self.folder / SAVED, f"{name}-{i:05d}-{safe_name(Path(item.source).stem)}")
            yield item


def explain_each(explainer: Explainer, paths: Iterable[str], target: int | None, size: int) -> Iterator[Explanation]:
    """Explanations in order. If a batch raises, its pictures go one by one, and the error belongs to some of them.

    A GPU that failed and too little memory for one picture are raised: a row would blame the picture, for good.
    """
    paths = iter(paths)
    while batch := list(islice(paths, size)):
        try:
            yield from list(explainer.explain(batch, target))
        except LOST:
            raise
        except (ValueError, TypeError, ArithmeticError, LookupError, OSError, RuntimeError, MemoryError) as error:
            if size > 1:
                yield from explain_each(explainer, batch, target, 1)
            elif isinstance(error, NO_ROOM):
                raise
            else:
                yield Explanation(batch[0], error=one_line(error) or type(error).__name__)


# Ray


def import_ray() -> object:
    """The package; RuntimeError if it is not installed."""
    try:
        import ray.data
    except ImportError as error:
        raise RuntimeError("Ray is not installed; run `pip install -r requirements-ray.txt`") from error
    return ray


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connected to a cluster; to one that is there already, or that is started here and ends afterwards."""
    ray = import_ray()
    ours = not ray.is_initialized()
    if ours:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:                                     # Ray raises that, if nothing more exact
            raise RuntimeError(f"Ray did not start: {one_line(error)}") from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        yield
    except ray.exceptions.RayError as error:
        raise RuntimeError(f"a worker could not work: {reason(error)}") from error
    finally:
        if ours:
            ray.shutdown()


def reason(error: BaseException) -> str:
    """The sentence of what was raised first."""
    while (inner := getattr(error, "cause", None) or error.__cause__) is not None:
        error = inner
    return one_line(error) or type(error).__name__


def count_workers(workers: int | None, gpus_per_worker: float) -> int:
    """How many workers: as many as asked for, or as there is room for."""
    ray = import_ray()
    if gpus_per_worker > 0:
        gpus = [node["Resources"].get("GPU", 0) for node in ray.nodes() if node["Alive"]]
        room = sum(int(here / gpus_per_worker) for here in gpus)       # a worker's GPUs are those of one machine
        if not room:
            raise ValueError(f"gpus_per_worker is {gpus_per_worker:g}, but no machine of the cluster has that; "
                             f"the most is {max(gpus):g}; give less, or leave it out")  # fmt: skip
        return workers or room
    return workers or max(int(ray.cluster_resources().get("CPU", 1)) - 1, 1)


def in_time(items: Iterable, seconds: float) -> Iterator:
    """The same items; TimeoutError if one takes longer to come. Outside the main thread there is no limit.

    Ray's waiting is ended as Ctrl-C would end it, also where Ctrl-C is ignored, as in a job in the background.
    """
    items, late, before = iter(items), threading.Event(), signal.getsignal(signal.SIGINT)
    limited = threading.current_thread() is threading.main_thread()

    def interrupt() -> None:
        late.set()
        if hasattr(signal, "pthread_kill"):                            # wakes a thread that waits for a lock, too
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        else:
            _thread.interrupt_main()

    def handle(number: int, frame: object) -> None:
        if late.is_set() or before is signal.SIG_DFL:
            raise KeyboardInterrupt
        if callable(before):
            before(number, frame)

    if limited:
        signal.signal(signal.SIGINT, handle)
    try:
        while True:
            timer = threading.Timer(seconds, interrupt)
            timer.daemon = True
            if limited:
                timer.start()
            item = next(items, late)                                   # any value that is no item
            timer.cancel()
            if item is late:
                return
            yield item
    except KeyboardInterrupt:
        if not late.is_set():
            raise
        raise TimeoutError(f"nothing was finished for {seconds:g} seconds, so the run ends; `ray status` says what the "
                           "cluster does; the same command goes on with the rest") from None  # fmt: skip
    finally:
        timer.cancel()
        if limited:
            signal.signal(signal.SIGINT, before)


# The command line

RAY_OPTIONS = {
    "--ray": {"nargs": "?", "const": "", "metavar": "ADDRESS", "help": "share the pictures out with Ray; --image then "
              "takes folders with all folders inside them (without Ray: without those), and .txt files of paths"},
    "--workers": {"type": int, "help": "of Ray (default: one for each processor but one, or for each GPU)"},
    "--gpus-per-worker": {"type": float, "help": "of Ray: 0.5 for two workers on a GPU (default: 1 with cuda)"},
    "--shard-size": {"type": int, "help": f"of Ray: pictures in a file (default: {PART})"},
}


def check_options(args: argparse.Namespace) -> None:
    """End with status 2 if an option would be ignored; then give those that were not named their defaults."""
    given = [name for name in RAY_OPTIONS if getattr(args, name[2:].replace("-", "_")) is not None]
    if given and args.ray is None:
        args.refuse(f"{given[0]} needs --ray")
    if given and not args.method:
        args.refuse("--ray needs --method")
    if given and args.device not in ("cpu", "cuda"):
        args.refuse(f"--ray works with --device cpu and cuda, not with {args.device}")
    if args.gpus_per_worker is not None and args.device != "cuda":
        args.refuse("--gpus-per-worker needs --device cuda")
    if args.gpus_per_worker is not None and not args.gpus_per_worker > 0:
        args.refuse("--gpus-per-worker must be more than 0")
    if args.batch_size is not None and not args.method:
        args.refuse("--batch-size needs --method")
    if args.method and args.seed:
        args.refuse("--method takes no --seed: SmoothGrad draws its noise from seed 0")
    if args.method and args.show:
        args.refuse("--method has no figures to --show")
    lists = [name for name in args.image or () if name.endswith(".txt")]
    if args.method and args.ray is None and lists:
        args.refuse(f"{lists[0]}: a list of pictures needs --ray")
    args.batch_size = BATCH if args.batch_size is None else args.batch_size
    args.shard_size = PART if args.shard_size is None else args.shard_size


def explain_with_ray(lesson: Lesson) -> int:
    """Lesson 07 with --ray: status 1 if a picture failed."""
    args = lesson.args
    folder = args.output_dir / args.method                             # readers read every file that is in it
    gpus = (args.gpus_per_worker or 1) if args.device == "cuda" else 0
    explained, failed = explain_dataset(
        args.image or args.default_images, folder, method=args.method, model=lesson.model_name, target=lesson.target,
        batch_size=args.batch_size, workers=args.workers, gpus_per_worker=gpus, address=args.ray or None,
        shard_size=args.shard_size, bfloat16=args.bfloat16, progress=True,
    )  # fmt: skip
    for error in first_errors(folder, SHOWN) if failed else ():
        print(f"failed: {error}", file=sys.stderr)
    if failed > SHOWN:
        print(f"failed: {failed - SHOWN} more", file=sys.stderr)
    print(f"{explained} explained, {failed} failed: pandas.read_parquet({str(folder)!r})")
    return 1 if failed else 0
