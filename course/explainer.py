"""Explainer: any method on any number of pictures, batch by batch, whole or not at all."""

from __future__ import annotations

import copy
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby, islice, repeat, zip_longest
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from course.checks import check_counts, check_device, check_inputs, one_line, target_indices
from course.figures import overlay
from course.files import fingerprint, safe_name, write
from course.identity import identity
from course.layers import as_modules
from course.lesson import Lesson
from course.pictures import find_picture, list_pictures, load_image
from course.weights import in_bfloat16
from utils import channel_reduce, class_labels, import_lesson, preprocess_image, recorded_output

# Name -> lesson and function; resolved when asked for, so that nothing below the lessons knows them
ATTRIBUTIONS = {
    "vanilla_gradient": "01_vanilla_gradient_saliency", "gradient_times_input": "02_gradient_input_saliency",
    "smoothgrad": "03_smoothgrad", "integrated_gradients": "04_integrated_gradients", "grad_cam": "05_gradcam",
    "hires_cam": "05_gradcam", "layer_cam": "05_gradcam", "guided_backpropagation": "06_guided_backpropagation",
    "deconvnet": "06_guided_backpropagation", "guided_grad_cam": "07_guided_gradcam",
}  # fmt: skip

NO_NUMBERS = "the map of {} has values that are no numbers, or infinite"
THREADS = 2  # that read and write while the network works
# Methods whose only forward pass is the one over the images: it gives the class as well
ONE_PASS = ("vanilla_gradient", "gradient_times_input", "grad_cam", "hires_cam", "layer_cam", "guided_backpropagation",
            "deconvnet")  # fmt: skip


def attribution_method(name: str) -> Callable:
    """The function of that name, from its lesson."""
    return getattr(import_lesson(ATTRIBUTIONS[name]), name)


@dataclass(frozen=True, eq=False)
class Explanation:
    """What was found for one input, or in `error` why nothing was.

    Attributes:
        source: the path, or "input 3" for the fourth input if that was an image or a tensor.
        image: (3, H, W), what the network saw, normalised.
        target, label, probability: the class explained; its softmax probability, in [0, 1].
        attribution: (3, H, W), or (H, W) for class activation maps; not rescaled.
        map: (H, W): the attribution's largest absolute value over channels, or the class activation map itself; finite.
        error: one sentence, or None. Tensors are float32 on the CPU; with an error all of the above but source is None.
    """

    source: str
    image: Tensor | None = None
    target: int | None = None
    label: str | None = None
    probability: float | None = None
    attribution: Tensor | None = None
    map: Tensor | None = None
    error: str | None = None

    def save(self, folder: str | os.PathLike, name: str | None = None) -> Path:
        """Write the overlay as <name>.png, then all but the image as <name>.npz; each is complete or not there.

        Args:
            folder: made if missing.
            name: without suffix; the source's name by default.

        Returns:
            The path of the .npz.

        Raises:
            ValueError: this is an error, there is nothing to save.
        """
        if self.error:
            raise ValueError(f"{self.source} was not explained ({self.error}), so there is nothing to save")
        file = Path(folder) / f"{name or safe_name(Path(self.source).stem)}.npz"
        picture = Image.fromarray((overlay(self.image, self.map) * 255).round().astype(np.uint8))
        # Level 3 writes overlays in half of the time that the default, 6, takes, and no larger
        write(file.with_name(file.stem + ".png"), lambda stream: picture.save(stream, format="png", compress_level=3))
        fields = ("source", "target", "label", "probability", "attribution", "map")
        write(file, lambda stream: np.savez_compressed(stream, **{field: getattr(self, field) for field in fields}))
        return file


LOCKS: weakref.WeakKeyDictionary[nn.Module, threading.RLock] = weakref.WeakKeyDictionary()
LOCKS_LOCK = threading.Lock()


def lock_of(model: nn.Module) -> threading.RLock:
    """The lock of a network: hooks sit on it, and would fire for another thread's picture as well.

    It is that of the first part with weights, so that a network and a wrapper around it have the same one.
    """
    parts = (part for part in model.modules() if any(True for _ in part.parameters(recurse=False)))
    with LOCKS_LOCK:
        return LOCKS.setdefault(next(parts, model), threading.RLock())


class Explainer:
    """Explains pictures with one network and one method, batch by batch; usable from several threads.

    Explainers of one network wait for one another, those of different networks do not.

    Args:
        model: classifier in eval mode, normalised (B, 3, H, W) -> logits (B, K). Never changed.
        method: a name in ATTRIBUTIONS, or a function (model, images, target) -> (B, 3, H, W) or (B, H, W).
        device: where to work, "cuda" or "mps" for instance; None is where the model is. Elsewhere works a copy.
        batch_size: images that go through the network at once. Memory grows with it, not with the number of inputs.
        bfloat16: work with a copy that calculates in bfloat16, see in_bfloat16: faster on some hardware, less memory,
            but another map: Grad-CAM is wrong by 0.7 %, a plain gradient by a third (data/results/bfloat16.md). Path,
            noise, sums and results stay float32; so too for a bfloat16 model.

    Raises:
        ValueError: unknown method or device, a batch_size below 1, a model in train mode.

    Warns:
        RuntimeWarning: bfloat16 will not be faster here.

    At the end of a `with` block, should you use one, it lets go of the network.
    """

    def __init__(
        self,
        model: nn.Module,
        method: str | Callable = "guided_grad_cam",
        *,
        device: str | torch.device | None = None,
        batch_size: int = 8,
        bfloat16: bool = False,
    ) -> None:
        if not callable(method) and (not isinstance(method, str) or method not in ATTRIBUTIONS):
            raise ValueError(f"there is no method {method!r}; there are {', '.join(ATTRIBUTIONS)}, or give a function")
        check_counts(batch_size=batch_size)
        check_device(device)
        check_inputs(model, torch.zeros(1, 3, 1, 1))                   # for the train mode
        weight = next(model.parameters(), torch.empty(0))
        self.device = weight.device
        if device is not None:
            self.device = torch.empty(0, device=device).device         # "cuda" becomes "cuda:0", as weights have it
        self.model = model if self.device == weight.device else copy.deepcopy(model).to(self.device)
        self.bfloat16 = bfloat16 or weight.dtype == torch.bfloat16
        self.model = in_bfloat16(self.model) if self.bfloat16 else self.model
        self.dtype = torch.float32 if self.bfloat16 else weight.dtype
        self.lock = lock_of(self.model)
        self.method = method if callable(method) else attribution_method(method)
        # A DenseNet's maps are taken from a chain of its parts, so its own output is not seen meanwhile
        self.one_pass = isinstance(method, str) and method in ONE_PASS and as_modules(self.model) is self.model
        self.batch_size = batch_size

    def __enter__(self) -> Explainer:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.model = None

    def explain(self, inputs: object, target: int | Iterable[int | None] | None = None) -> Iterator[Explanation]:
        """One Explanation for each input, in order; batches are computed as you ask for their results.

        Args:
            inputs: a path, a Pillow image, a normalised tensor (3, H, W) or (B, 3, H, W), or any number of these in a
                list or a generator, which may be endless. Folders are opened.
            target: None (each image's top class), one class for all, or one for each input, where None is again the
                top class.

        Raises:
            ValueError: a target that is no class, or not one for each input; whatever the method refuses; a function of
                your own that returns something else.
            RuntimeError: the explainer was closed.
        """
        pairs = with_targets(one_by_one(inputs), target)
        return self._explain((self._load(item, i), wanted) for i, (item, wanted) in enumerate(pairs))

    def _explain(self, loaded: Iterator[tuple[Explanation, int | None]]) -> Iterator[Explanation]:
        """What explain() yields for loaded images and their classes."""
        while batch := list(islice(loaded, self.batch_size)):
            # Only images of one size go together
            for shape, group in groupby(batch, key=lambda pair: None if pair[0].error else pair[0].image.shape):
                explanations, wanted = zip(*group, strict=True)
                yield from explanations if shape is None else self._explain_batch(explanations, wanted)

    def _load(self, item: object, position: int) -> Explanation:
        """An Explanation with the image alone, or with an error."""
        if self.model is None:
            raise RuntimeError("this Explainer is closed; make a new one")
        is_path = isinstance(item, str | os.PathLike)
        source = str(item) if is_path else f"input {position}"
        try:
            if isinstance(item, Tensor):
                check_inputs(self.model, item[None])
                return Explanation(source, item.detach().float().cpu())
            if is_values(item):
                raise TypeError(f"{source} is {type(item).__name__}, no picture; PIL.Image.fromarray makes one of an "
                                "array (H, W, 3) of bytes")  # fmt: skip
            return Explanation(source, preprocess_image(load_image(item) if is_path else item)[0])
        except (ValueError, TypeError, OSError) as error:
            return Explanation(source, error=one_line(error))

    def _explain_batch(self, loaded: Sequence[Explanation], wanted: Sequence[int | None]) -> list[Explanation]:
        """What explain() yields for images of one size."""
        images = torch.stack([item.image for item in loaded]).to(self.device, self.dtype)
        with self.lock:
            logits, target, attribution = self._attribute(images, list(wanted))
        attribution = checked_attribution(attribution, images).detach().float().cpu()
        maps = channel_reduce(attribution) if attribution.ndim == 4 else attribution
        probability, labels = logits.softmax(dim=1).cpu(), class_labels(logits)
        found = [
            replace(item, target=c, label=labels[c], probability=p[c].item(), attribution=a.clone(), map=m.clone())
            for item, c, p, a, m in zip(loaded, target, probability, attribution, maps, strict=True)
        ]
        return [item if item.map.isfinite().all() else Explanation(item.source, error=NO_NUMBERS.format(item.source))
                for item in found]  # fmt: skip

    def _attribute(self, images: Tensor, wanted: list[int | None]) -> tuple[Tensor, list[int], Tensor]:
        """Logits (B, K), the classes explained, and what the method answers."""
        same = all(c is None for c in wanted)
        if self.one_pass and (same or None not in wanted):
            with recorded_output(self.model) as outputs:
                attribution = self.method(self.model, images, None if same else wanted)
            logits = outputs[0].detach().float()
            return logits, target_indices(None if same else wanted, logits).tolist(), attribution
        with torch.inference_mode():
            logits = self.model(images).float()
        top = target_indices(None, logits).tolist()
        target = target_indices([top[i] if c is None else c for i, c in enumerate(wanted)], logits).tolist()
        return logits, target, self.method(self.model, images, target)

    def settings(self) -> str:
        """A fingerprint of what the results depend on besides pictures and classes.

        Raises:
            ValueError: a function of your own uses something whose value cannot be read.
        """
        return fingerprint(identity(self.method), self.dtype, self.bfloat16, identity(self.model))

    def save(
        self, folder: str | os.PathLike, inputs: object, target: int | Iterable[int | None] | None = None, *,
        progress: bool = False,
    ) -> tuple[int, list[Explanation]]:
        """Explain picture files and save each as <stem>-<fingerprint>.npz and .png. What is there is not done again.

        Args:
            folder: where to; made if missing.
            inputs: paths of files and folders, one or several. In the fingerprint a file counts by its content, the
                network by its weights, a function of your own by its code and by the values that it uses. Of two files
                in different folders with the same name and content, the second counts by its path, too.
            target: as in explain.
            progress: show a bar.

        Returns:
            How many of the inputs now lie in the folder, and those that failed, with their `error`.

        Raises:
            ValueError, RuntimeError: as explain; ValueError also for a function that uses something whose value cannot
                be read: its results could not be told from those of another.
        """
        files = list_pictures([inputs] if isinstance(inputs, str | os.PathLike) else inputs)
        whose = self.settings()
        named = list(with_names(with_targets(files, target), whose))
        todo = [(file, c, name) for file, c, name in named if not Path(folder, f"{name}.npz").exists()]
        failed, ahead = [], 4 * self.batch_size
        with ThreadPoolExecutor(THREADS) as pool:
            loaded = in_threads(pool, lambda job: (self._load(job[0], 0), job[1]), todo, ahead)
            explained = zip(self._explain(loaded), (name for _, _, name in todo), strict=True)
            saved = in_threads(pool, lambda pair: save_one(folder, *pair), explained, ahead)
            for explanation in tqdm(saved, initial=len(files) - len(todo), total=len(files), disable=not progress):
                if explanation.error:
                    failed.append(explanation)
        return len(files) - len(failed), failed


def checked_attribution(attribution: object, images: Tensor) -> Tensor:
    """What a method returned for (B, C, H, W) images; ValueError unless it is one attribution or map for each."""
    full, map = tuple(images.shape), (len(images), *images.shape[2:])
    if isinstance(attribution, Tensor) and tuple(attribution.shape) in (full, map):
        return attribution
    got = "a tensor " + str(tuple(attribution.shape)) if isinstance(attribution, Tensor) else type(attribution).__name__
    raise ValueError(f"a method must return a tensor, (B, C, H, W) or (B, H, W), of its images' size, here {full} or "
                     f"{map}; this one returned {got}")  # fmt: skip


def with_names(pairs: Iterable[tuple[Path, int | None]], settings: str) -> Iterator[tuple[Path, int | None, str]]:
    """A file, its class, and the name of its result. A file that cannot be read has one, too: its error comes later.

    A file that is like an earlier one, in another folder, has its path in the fingerprint as well.
    """
    earlier = {}
    for file, c in pairs:
        try:
            place, content = find_picture(file).resolve(), fingerprint(settings, c, find_picture(file))
        except OSError:
            place, content = file, fingerprint(settings, c, str(file))
        name = f"{safe_name(file.stem)}-{content}"
        if earlier.setdefault(name, place) != place:
            name = f"{safe_name(file.stem)}-{fingerprint(content, str(place))}"
        yield file, c, name


def save_one(folder: str | os.PathLike, explanation: Explanation, name: str) -> Explanation:
    """Save an explanation, unless it is an error; give back what is to be reported: the source and the error."""
    if not explanation.error:
        explanation.save(folder, name)
    return Explanation(explanation.source, error=explanation.error)


def in_threads(pool: ThreadPoolExecutor, work: Callable, items: Iterable, ahead: int) -> Iterator:
    """work(item) of each item, in order; up to `ahead` items are begun before their result is asked for."""
    begun = deque()
    for item in items:
        begun.append(pool.submit(work, item))
        if len(begun) > ahead:
            yield begun.popleft().result()
    yield from (future.result() for future in begun)


def one_by_one(inputs: object) -> Iterator:
    """Single pictures, however they were given."""
    if isinstance(inputs, str | os.PathLike):
        yield from list_pictures([inputs])
    elif isinstance(inputs, Image.Image) or (isinstance(inputs, Tensor) and inputs.ndim != 4):
        yield inputs
    elif isinstance(inputs, Tensor):
        yield from inputs
    elif isinstance(inputs, Iterable) and not is_values(inputs):
        for item in inputs:
            yield from one_by_one(item)
    else:
        yield inputs                                                   # no picture at all: its Explanation will say so


def is_values(inputs: object) -> bool:
    """Whether something that can be taken apart has pixels or bytes in it, not pictures."""
    return isinstance(inputs, bytes | bytearray) or (isinstance(inputs, np.ndarray) and inputs.dtype.kind in "biufc")


def with_targets(items: Iterable, target: object) -> Iterator[tuple]:
    """Pairs of an item and its class, whether there is one for all (None is one) or one for each."""
    target = target.tolist() if isinstance(target, Tensor | np.generic | np.ndarray) else target
    return in_step(items, target) if isinstance(target, Iterable) else zip(items, repeat(target))


def in_step(items: Iterable, targets: Iterable) -> Iterator[tuple]:
    """Pairs of an item and its target; ValueError if there are more of one than of the other."""
    nothing = object()
    for item, target in zip_longest(items, targets, fillvalue=nothing):
        if item is nothing or target is nothing:
            raise ValueError("target has more or fewer classes than there are inputs; give one for all, or one each")
        yield item, target


def explain_folders(lesson: Lesson) -> int:
    """The batch mode: save an explanation of every picture; status 1 if one failed."""
    args = lesson.args
    inputs = lesson.args.image or [str(name) for name in args.default_images]
    with Explainer(lesson.model, args.method, batch_size=args.batch_size) as explainer:
        explained, failed = explainer.save(args.output_dir, inputs, lesson.target, progress=True)
    for explanation in failed:
        print(f"failed: {explanation.error}", file=sys.stderr)
    print(f"{explained} explained, {len(failed)} failed")
    return 1 if failed else 0
