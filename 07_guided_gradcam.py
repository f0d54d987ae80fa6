# %% [markdown]
# # 07 Guided Grad-CAM, and an explainer for production
#
# Guided backpropagation draws fine lines and hardly knows the class. Grad-CAM knows the class and draws blobs. Multiply
# them. That is one line; the rest of the lesson is about what has to stand around such a line once other people rely on
# it: ten thousand files, three of them broken, two threads, half the memory, and a run that is interrupted.
#
# **After this lesson you can**
#
# 1. compute guided Grad-CAM, and say which of its two factors makes it depend on the class;
# 2. explain any number of pictures in batches, with bounded memory and without one broken file stopping the rest;
# 3. write results so that an interrupted run loses nothing and does nothing twice;
# 4. list what to check before you trust a map in production.
#
# **Level** advanced. **Before it** lessons 05 and 06.
# **Papers** Selvaraju et al., *Grad-CAM*, 2017, arXiv:1610.02391, section 3.2; Adebayo et al., 2018, arXiv:1810.03292.

# %%
r"""Guided Grad-CAM, and Explainer: batches, broken files, threads, resuming.

Run `python 07_guided_gradcam.py` (seconds on two cores). Writes product.png, classes.png and scales.png to
outputs/07_guided_gradcam/. With --method it explains whole folders instead:

    python 07_guided_gradcam.py --image folder/ --method grad_cam --output-dir out/
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import groupby, islice, repeat, zip_longest
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from utils import (
    channel_reduce,
    check_counts,
    check_device,
    check_inputs,
    class_labels,
    color_scale,
    correlation,
    describe_targets,
    displayable,
    import_lesson,
    lesson_images,
    lesson_model,
    lesson_parser,
    lesson_target,
    list_pictures,
    load_image,
    one_line,
    preprocess_image,
    print_table,
    run_lesson,
    save_figures,
    show_map,
    show_photo,
    target_indices,
)

lesson_01 = import_lesson("01_vanilla_gradient_saliency")
lesson_02 = import_lesson("02_gradient_input_saliency")
lesson_03 = import_lesson("03_smoothgrad")
lesson_04 = import_lesson("04_integrated_gradients")
lesson_05 = import_lesson("05_gradcam")
lesson_06 = import_lesson("06_guided_backpropagation")
grad_cam, guided_backpropagation = lesson_05.grad_cam, lesson_06.guided_backpropagation

# %% [markdown]
# ## The idea
#
# Where Grad-CAM is zero, the product is zero; elsewhere the drawing of guided backpropagation shows through. The class
# comes in through Grad-CAM alone, or nearly so.
#
# ## The formula
#
# $$\text{Guided Grad-CAM}_c = \text{guided backpropagation}_c \odot \text{bilinear}(L_c)
# \qquad\text{(Selvaraju et al., section 3.2)}$$
#
# | symbol | meaning | shape |
# | --- | --- | --- |
# | $L_c$ | Grad-CAM of class $c$, after ReLU | (h, w) |
# | bilinear | upsampling to the image's size | (H, W) |
# | $\odot$ | product pixel by pixel, the same map for each colour channel | (3, H, W) |
#
# ## Step 1: one product


# %%
def guided_grad_cam(
    model: nn.Module,
    images: Tensor,
    target: int | Sequence[int] | Tensor | None = None,
    *,
    layer: nn.Module | str | None = None,
) -> Tensor:
    """Guided backpropagation where Grad-CAM found evidence for the class.

    Args:
        model: as guided_backpropagation, with a layer that Grad-CAM can use.
        images: normalised images, (B, 3, H, W), float. Left as they are.
        target: None (each image's top class), one class index for all, or one an image.
        layer: Grad-CAM's target layer: a module, its dotted name, or None for last_conv_layer(model).

    Returns:
        (B, 3, H, W), signed, detached; all zero where nothing in `layer` spoke for the class.

    Raises:
        ValueError: as guided_backpropagation and grad_cam.

    Paper: Selvaraju et al. 2017, arXiv:1610.02391, section 3.2.
    """
    # BEGIN SOLUTION 7.1
    L = grad_cam(model, images, target, layer=layer)                   # (B, H, W), bilinear
    return guided_backpropagation(model, images, target) * L[:, None]
    # END SOLUTION


# %% [markdown]
# ## Step 2: what production asks for
#
# - **Eval mode, and the logit.** The methods refuse the train mode and explain the logit.
# - **Batches.** One image at a time wastes the machine, all at once needs memory without end: so a stream of batches.
# - **One result for each input, in order.** A broken file is a result too: it must not stop the others, nor vanish.
# - **Nothing half-written.** Write under a temporary name, then rename: what has its final name is complete.
# - **Resume.** A file's name holds a fingerprint of all that decides its content: the picture, the weights, the method,
#   the target. If the file exists, the work is done.
# - **One thread at a time.** Hooks sit on the network and would fire for another thread's picture as well: a lock.
# - **The network stays as it is.** Hooks are removed; for another device it is copied.
# - **Numbers, not colours.** What is saved is the raw map. Normalisation belongs to the display, and maps that are to
#   be compared share one scale (scales.png).


# %%
@dataclass(frozen=True, eq=False)
class Explanation:
    """What was found for one input, or in `error` why nothing was.

    Attributes:
        source: the path, or "input 3" for the fourth input if that was an image or a tensor.
        image: (3, H, W), what the network saw, normalised.
        target, label, probability: the class explained; its softmax probability, in [0, 1].
        attribution: (3, H, W), or (H, W) for class activation maps; not rescaled.
        map: (H, W): the attribution's largest absolute value over channels, or the class activation map itself.
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
        write(file.with_name(file.stem + ".png"), lambda stream: picture.save(stream, format="png"))
        fields = ("source", "target", "label", "probability", "attribution", "map")
        write(file, lambda stream: np.savez_compressed(stream, **{field: getattr(self, field) for field in fields}))
        return file


def safe_name(text: str) -> str:
    """A name with an underscore for everything but letters, digits, dots and dashes."""
    return re.sub(r"[^\w.-]", "_", text)[:100]


def write(file: Path, fill: Callable) -> None:
    """Let fill(stream) write a file under a temporary name, then rename it. The folder is made if missing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    # BEGIN SOLUTION 7.2
    partial = file.with_name(f".{file.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with partial.open("wb") as stream:
            fill(stream)
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)
    # END SOLUTION


def overlay(image: Tensor, map: Tensor) -> np.ndarray:
    """The map in colour over the grey photo, (H, W, 3) in [0, 1]; on the map's own scale, for display only."""
    scale, map = color_scale(map), map.numpy()
    position = (map - scale["vmin"]) / (scale["vmax"] - scale["vmin"])
    colors = matplotlib.colormaps[scale["cmap"]](position.clip(0, 1))[..., :3]
    opacity = 0.85 * np.sqrt((np.abs(map) / scale["vmax"]).clip(0, 1))[..., None]
    gray = displayable(image[None])[0].mean(axis=2, keepdims=True)
    return (1 - opacity) * gray + opacity * colors


# %% [markdown]
# ## Step 3: the explainer
#
# Any method of the course can be named. A function of your own, of the same form, does as well.


# %%
ATTRIBUTIONS: dict[str, Callable] = {
    "vanilla_gradient": lesson_01.vanilla_gradient,
    "gradient_times_input": lesson_02.gradient_times_input,
    "smoothgrad": lesson_03.smoothgrad,
    "integrated_gradients": lesson_04.integrated_gradients,
    "grad_cam": grad_cam,
    "hires_cam": lesson_05.hires_cam,
    "layer_cam": lesson_05.layer_cam,
    "guided_backpropagation": guided_backpropagation,
    "deconvnet": lesson_06.deconvnet,
    "guided_grad_cam": guided_grad_cam,
}

NETWORK_LOCK = threading.RLock()  # of all networks: two explainers may share one


class Explainer:
    """Explains pictures with one network and one method, batch by batch; usable from several threads.

    Args:
        model: classifier in eval mode, normalised (B, 3, H, W) -> logits (B, K). Never changed.
        method: a name in ATTRIBUTIONS, or a function (model, images, target) -> (B, 3, H, W) or (B, H, W).
        device: where to work, "cuda" or "mps" for instance; None is where the model is. Elsewhere works a copy.
        batch_size: images that go through the network at once. Memory grows with it, not with the number of inputs.
        bfloat16: autocast to bfloat16: less memory, faster on some hardware, two to three significant digits.

    Raises:
        ValueError: unknown method or device, a batch_size below 1, a model in train mode.

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
        if not callable(method) and method not in ATTRIBUTIONS:
            raise ValueError(f"there is no method {method!r}; there are {', '.join(ATTRIBUTIONS)}, or give a function")
        check_counts(batch_size=batch_size)
        check_device(device)
        check_inputs(model, torch.zeros(1, 3, 1, 1))                   # for the train mode
        weight = next(model.parameters(), torch.empty(0))
        self.dtype, self.device = weight.dtype, weight.device
        if device is not None:
            self.device = torch.empty(0, device=device).device         # "cuda" becomes "cuda:0", as weights have it
        self.model = model if self.device == weight.device else copy.deepcopy(model).to(self.device)
        self.method = method if callable(method) else ATTRIBUTIONS[method]
        self.batch_size, self.bfloat16 = batch_size, bfloat16

    def __enter__(self) -> Explainer:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.model = None

    def explain(self, inputs: object, target: int | Iterable[int] | None = None) -> Iterator[Explanation]:
        """One Explanation for each input, in order; batches are computed as you ask for their results.

        Args:
            inputs: a path, a Pillow image, a normalised tensor (3, H, W) or (B, 3, H, W), or any number of these in a
                list or a generator, which may be endless. Folders are opened.
            target: None (each image's top class), one class for all, or one for each input.

        Raises:
            ValueError: a target that is no class, or not one for each input; whatever the method refuses.
            RuntimeError: the explainer was closed.
        """
        target = target.tolist() if isinstance(target, Tensor | np.generic | np.ndarray) else target
        each = isinstance(target, Iterable)
        pairs = in_step(one_by_one(inputs), target) if each else zip(one_by_one(inputs), repeat(target))
        position = 0
        while batch := list(islice(pairs, self.batch_size)):
            if self.model is None:
                raise RuntimeError("this Explainer is closed; make a new one")
            loaded = [(self._load(item, position + i), wanted) for i, (item, wanted) in enumerate(batch)]
            position += len(batch)
            # Only images of one size go together
            for shape, group in groupby(loaded, key=lambda pair: None if pair[0].error else pair[0].image.shape):
                explanations, wanted = zip(*group, strict=True)
                yield from explanations if shape is None else self._explain_batch(explanations, wanted)

    def _load(self, item: object, position: int) -> Explanation:
        """An Explanation with the image alone, or with an error."""
        is_path = isinstance(item, str | os.PathLike)
        source = str(item) if is_path else f"input {position}"
        try:
            if isinstance(item, Tensor):
                check_inputs(self.model, item[None])
                return Explanation(source, item.detach().float().cpu())
            return Explanation(source, preprocess_image(load_image(item) if is_path else item)[0])
        except (ValueError, TypeError, OSError) as error:
            return Explanation(source, error=one_line(error))

    def _explain_batch(self, loaded: Sequence[Explanation], wanted: Sequence[int | None]) -> list[Explanation]:
        """What explain() yields for images of one size."""
        images = torch.stack([item.image for item in loaded]).to(self.device, self.dtype)
        autocast = torch.autocast(self.device.type, torch.bfloat16) if self.bfloat16 else nullcontext()
        with NETWORK_LOCK, autocast:
            with torch.inference_mode():
                logits = self.model(images).float()                    # (B, K)
            target = target_indices(None, logits) if wanted[0] is None else target_indices(wanted, logits)
            attribution = self.method(self.model, images, target.tolist()).float().cpu()
        maps = channel_reduce(attribution) if attribution.ndim == 4 else attribution
        probability, target, labels = logits.softmax(dim=1).cpu(), target.tolist(), class_labels(logits)
        return [
            replace(item, target=c, label=labels[c], probability=p[c].item(), attribution=a.clone(), map=m.clone())
            for item, c, p, a, m in zip(loaded, target, probability, attribution, maps, strict=True)
        ]

    def save(
        self, folder: str | os.PathLike, inputs: object, target: int | None = None, *, progress: bool = False
    ) -> tuple[int, list[Explanation]]:
        """Explain picture files and save each as <stem>-<fingerprint>.npz and .png. What is there is not done again.

        Args:
            folder: where to; made if missing.
            inputs: paths of files and folders, one or several. In the fingerprint a file counts by its content, the
                network by its weights, a function of your own by its name.
            target: None (each image's top class) or one class for all.
            progress: show a bar.

        Returns:
            How many of the inputs now lie in the folder, and those that failed, with their `error`.

        Raises:
            ValueError, RuntimeError: as explain.
        """
        files = list_pictures([inputs] if isinstance(inputs, str | os.PathLike) else inputs)
        method = getattr(self.method, "__qualname__", self.method)
        network = fingerprint(method, self.dtype, self.bfloat16, target, self.model, *self.model.state_dict().values())
        names = {file: f"{safe_name(file.stem)}-{fingerprint(network, file)}" for file in files}
        todo = [file for file in files if not Path(folder, f"{names[file]}.npz").exists()]
        failed = []
        bar = tqdm(self.explain(todo, target), initial=len(files) - len(todo), total=len(files), disable=not progress)
        for file, explanation in zip(todo, bar, strict=True):
            if explanation.error:
                failed.append(explanation)
            else:
                explanation.save(folder, names[file])
        return len(files) - len(failed), failed


def one_by_one(inputs: object) -> Iterator:
    """Single pictures, however they were given."""
    if isinstance(inputs, str | os.PathLike):
        yield from list_pictures([inputs])
    elif isinstance(inputs, Image.Image) or (isinstance(inputs, Tensor) and inputs.ndim != 4):
        yield inputs
    elif isinstance(inputs, Tensor):
        yield from inputs
    elif isinstance(inputs, Iterable):
        for item in inputs:
            yield from one_by_one(item)
    else:
        yield inputs                                                   # no picture at all: its Explanation will say so


def in_step(items: Iterable, targets: Iterable) -> Iterator[tuple]:
    """Pairs of an item and its target; ValueError if there are more of one than of the other."""
    # BEGIN SOLUTION 7.3
    nothing = object()
    for item, target in zip_longest(items, targets, fillvalue=nothing):
        if item is nothing or target is nothing:
            raise ValueError("target has more or fewer classes than there are inputs; give one for all, or one each")
        yield item, target
    # END SOLUTION


def fingerprint(*parts: object) -> str:
    """Ten hexadecimal digits of SHA-256 over the content of files, the values of tensors, and other things' text."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            data = part.read_bytes() if part.exists() else b""
        elif isinstance(part, Tensor):
            data = part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        else:
            data = str(part).encode()
        digest.update(hashlib.sha256(data).digest())
    return digest.hexdigest()[:10]


# %% [markdown]
# ## The pictures


# %%
def figure_product(model: nn.Module, images: Tensor, target: Tensor) -> Figure:
    """The two factors and their product; one row an image, each map on its own scale."""
    columns = {
        "guided backprop": channel_reduce(guided_backpropagation(model, images, target)),
        "Grad-CAM": grad_cam(model, images, target),
        "guided Grad-CAM": channel_reduce(guided_grad_cam(model, images, target)),
    }
    titles = describe_targets(model, images, target)
    figure, axes = plt.subplots(len(images), 4, figsize=(14, 3.3 * len(images)), squeeze=False, layout="constrained")
    for i, (row, photo) in enumerate(zip(axes, displayable(images), strict=True)):
        show_photo(row[0], photo, titles[i])
        for axis, (name, maps) in zip(row[1:], columns.items(), strict=True):
            show_map(axis, maps[i], title=name)
    figure.suptitle("Fine lines times the class's place (max |.| over channels, each map on its own scale)")
    return figure


def figure_classes(model: nn.Module, images: Tensor, targets: Sequence[int]) -> Figure:
    """One picture of four animals: guided backpropagation and guided Grad-CAM of each one's class, a scale a row."""
    picture = lesson_05.mosaic(images).expand(4, -1, -1, -1)
    titles = describe_targets(model, picture, torch.tensor(targets))
    figure, axes = plt.subplots(2, 5, figsize=(16, 6.6), layout="constrained")
    for row, method in zip(axes, (guided_backpropagation, guided_grad_cam), strict=True):
        maps = channel_reduce(method(model, picture, targets))
        show_photo(row[0], displayable(picture)[0], method.__name__)
        for axis, map, title in zip(row[1:], maps, titles, strict=True):
            show_map(axis, map, color_scale(*maps), title)
    figure.suptitle("Four classes of one picture: the class comes in through Grad-CAM")
    return figure


def figure_scales(explanations: Sequence[Explanation]) -> Figure:
    """The same maps, each on its own scale above, all on one scale below."""
    figure, axes = plt.subplots(2, len(explanations), figsize=(3.6 * len(explanations), 7), layout="constrained")
    together = color_scale(*(item.map for item in explanations))
    for column, item in zip(axes.reshape(2, -1).T, explanations, strict=True):
        show_map(column[0], item.map, title=f"{item.label} {item.probability:.2f}")
        show_map(column[1], item.map, together)
    figure.suptitle("Own scale above, one scale below: only the lower row can be compared")
    return figure


def options():
    """The command line of this lesson."""
    images = ["dog.jpg", "bird.jpg", "panda.jpg", "koala.jpg"]
    parser = lesson_parser("07_guided_gradcam", "Guided Grad-CAM; with --method, explain whole folders.", images)
    parser.add_argument("--method", choices=ATTRIBUTIONS, help="explain every picture with it and save the results")
    parser.add_argument("--batch-size", type=int, default=8, help="images at once (default: %(default)s)")
    parser.add_argument("--bfloat16", action="store_true", help="autocast to bfloat16")
    return parser


# %% tags=["active-ipynb"]
# args = options().parse_args([])
# model = lesson_model(args)
# names, images = lesson_images(args)
# labels = model(images).argmax(dim=1)
# figure = figure_product(model, images[:3], labels[:3])

# %% tags=["active-ipynb"]
# figure = figure_classes(model, images, labels.tolist())

# %% tags=["active-ipynb"]
# with Explainer(model, "guided_grad_cam") as explainer:
#     figure = figure_scales(list(explainer.explain(images)))

# %% [markdown]
# ## What the picture does not show
#
# - **Not fine evidence.** The lines are guided backpropagation's, which draws them for any class; Grad-CAM's 7 x 7
#   values only choose where they are shown. Sharp does not mean exact.
# - **Not the evidence against**, which the ReLU of Grad-CAM removed.
# - **Not how sure the network is.** Each overlay is on a scale of its own. Look at `probability`, and at one scale.
# - **Not a test of the network.** Adebayo et al. report that guided Grad-CAM, too, hardly changes with the upper
#   layers; the table says what is left here with random weights in the last two stages.

# %% [markdown]
# ## Exercises
#
# **7.1 The product** (difficulty 1, 5 minutes, 2 points). Fill in guided Grad-CAM. *First predict* its map for a class
# whose Grad-CAM is empty. *Hints:* one factor has a channel dimension · `None` as an index adds one.
#
# **7.2 Nothing half-written** (difficulty 2, 20 minutes, 3 points). Fill in `write`: other programs must never see an
# unfinished file, two threads must not share one, and nothing may be left behind when `fill` raises.
# *Hints:* `os.replace` is atomic within a folder · what makes a name unique? · `finally`.
#
# **7.3 In step** (difficulty 2, 10 minutes, 3 points). Fill in `in_step`. `zip` stops at the shorter one without a
# word: the second picture of a batch then gets no map, or a wrong one. *Hints:* `itertools.zip_longest` · a fill value
# that nobody else can have.
#
# **7.4 Your own method** (difficulty 2, 20 minutes, no code to submit). Give `Explainer` a function that multiplies
# Grad-CAM by SmoothGrad in place of guided backpropagation. What is lost, what is gained?


# %%
def explain_folders(args: argparse.Namespace) -> int:
    """The batch mode: save an explanation of every picture; status 1 if one failed."""
    inputs = args.image or [str(name) for name in args.default_images]
    with Explainer(lesson_model(args), args.method, batch_size=args.batch_size, bfloat16=args.bfloat16) as explainer:
        explained, failed = explainer.save(args.output_dir, inputs, lesson_target(args), progress=True)
    for explanation in failed:
        print(f"failed: {explanation.error}", file=sys.stderr)
    print(f"{explained} explained, {len(failed)} failed")
    return 1 if failed else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, write the figures; with --method, explain and save."""
    args = options().parse_args(argv)
    if args.method:
        return explain_folders(args)
    model = lesson_model(args)
    names, images = lesson_images(args)
    with torch.no_grad():
        labels = target_indices(lesson_target(args), model(images))
    random, generator = copy.deepcopy(model), torch.Generator().manual_seed(args.seed)
    tops = lesson_06.stages(model)[:2]
    for stage in tops:
        lesson_06.randomize(random.get_submodule(stage), generator)
    rows = []
    for name, image, label in zip(names, images[:, None], labels.tolist(), strict=True):
        row = [name, *describe_targets(model, image, label)]
        for method in (guided_backpropagation, grad_cam, guided_grad_cam):
            map = method(model, image, label).abs()
            row += [correlation(map, method(model, image, lesson_05.ABSENT).abs()),
                    correlation(map, method(random, image, label).abs())]  # fmt: skip
        rows.append(row)
    methods = ("guided backprop", "Grad-CAM", "guided Grad-CAM")
    print_table(["image", "class", *(f"{what}: {name}" for name in methods for what in ("tabby", "random"))], rows)
    print("Correlation of the map with that of the class tabby, and with that of the same class after the weights of "
          f"{' and '.join(tops)} were drawn anew (nan: that map is empty).")  # fmt: skip
    with Explainer(model) as explainer:
        explanations = list(explainer.explain(images, labels))
    figures = {
        "product.png": figure_product(model, images[:3], labels[:3]),
        "scales.png": figure_scales(explanations[:4]),
    }
    if len(images) >= 4:
        figures["classes.png"] = figure_classes(model, images[:4], labels.tolist()[:4])
    save_figures(args, figures)
    return 0


# %% [markdown]
# ## Recap
#
# 1. Guided Grad-CAM is a product: guided backpropagation draws, Grad-CAM chooses where.
# 2. So its dependence on the class is Grad-CAM's. On the four photographs its map correlates 0.06 to 0.78 with that of
#    an absent tabby, where guided backpropagation alone has 0.98 to 1.00 and Grad-CAM -0.06 to 0.61.
# 3. With random weights in fc and layer4 it is empty for two photographs of four (Grad-CAM is), and correlates 0.16 and
#    0.73 with the trained network's map for the others: neither passed nor failed in one word.
# 4. In production: eval mode, the logit, batches, a lock, errors as results, files that are complete or absent, names
#    that say what they hold, and raw numbers next to every picture.

# %% tags=["active-py"]
if __name__ == "__main__":
    sys.exit(run_lesson(main))
