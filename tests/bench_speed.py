"""Seconds and memory of every method, ours and three libraries': one table.

    python tests/benchmark.py    (`make bench`; writes data/results/speed.csv and .md, and README's table; ten
                                  minutes on two cores. A stopped run is continued.)
    python tests/benchmark.py --rounds 1    (a try, some minutes: writes into outputs/ and leaves README alone)

The libraries get the network as their users have it, torchvision's ResNet-50 in eval mode; ours is the one that
load_model prepares (batch norm folded, frozen, channels_last). Same weights, images, classes, settings and threads. In
each round all libraries take their turn, in another order each time, so that a busy machine slows all of them: read
the ratios, not the seconds. Before anything is timed, the maps are compared: a library that computes something else
is no measure.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path

import pandas as pd
import torch
import torchvision
from bench_bfloat16 import RESULTS, markdown
from bench_scale import processor, put_between
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from course.explainer import attribution_method
from course.files import write_text
from course.weights import in_bfloat16, put_stride_in_first_convolution, read_embedded
from utils import OUTPUT_DIR, PROJECT_ROOT, load_image, load_model, normalize_map, preprocess_image

README = PROJECT_ROOT / "README.md"
Call = Callable[[Tensor, Tensor], Tensor]  # images, their classes -> maps
SAMPLES = 50  # of SmoothGrad, and steps of Integrated Gradients
# Method -> (title, rounds with one image, rounds with eight; 0 for the methods that make a batch of one image anyway)
METHODS = {
    "forward_pass": ("a forward pass", 15, 5),
    "vanilla_gradient": ("vanilla gradient", 15, 5),
    "gradient_times_input": ("gradient x input", 15, 5),
    "guided_backpropagation": ("guided backpropagation", 15, 5),
    "grad_cam": ("Grad-CAM", 15, 5),
    "guided_grad_cam": ("guided Grad-CAM", 15, 5),
    "lrp": ("LRP, epsilon and z+", 7, 3),
    "smoothgrad": (f"SmoothGrad, n = {SAMPLES}", 5, 0),
    "integrated_gradients": (f"Integrated Gradients, n = {SAMPLES}", 5, 0),
}
# |theirs - ours| / |ours| at most. The order of sums differs, so some ReLUs near 0 are on one side in one network and
# on the other in the other, which a gradient feels more than a sum over places or samples
TOLERANCE = {"vanilla_gradient": 0.05, "gradient_times_input": 0.05}
OTHERS = 0.02
MORE = "All libraries' seconds and peak memory: [data/results/speed.md](data/results/speed.md).\n"
BATCH = ("dog.jpg", "bird.jpg", "panda.jpg", "koala.jpg")  # twice, for eight


# Who is compared. Each gives the call of a method, on a network of its own, or None.


def ours(method: str, *, half: bool = False) -> Call | None:
    """This course, on the network that load_model prepares."""
    model = in_bfloat16(load_model()) if half else load_model()
    if method == "forward_pass":
        return lambda images, target: forward(model, images)
    if method == "lrp":
        from advanced.lrp import lrp

        return partial(lrp, model)
    return partial(attribution_method(method), model)


def torchvisions(method: str) -> Call | None:
    """The plain network; it has no methods."""
    model = plain_resnet50()
    return (lambda images, target: forward(model, images)) if method == "forward_pass" else None


def captums(method: str) -> Call | None:
    """captum. Its LRP refuses a network with batch norm."""
    import captum.attr as captum

    warnings.filterwarnings("ignore", message="Setting backward hooks")  # at every call
    model = plain_resnet50()
    tunnel, path = captum.NoiseTunnel(captum.Saliency(model)), captum.IntegratedGradients(model)
    cam, guided_cam = captum.LayerGradCam(model, model.layer4), captum.GuidedGradCam(model, model.layer4)

    def smoothgrad(images: Tensor, target: Tensor) -> Tensor:
        sigma = 0.15 * (images.max() - images.min()).item()            # of one image
        return tunnel.attribute(fresh(images), nt_samples=SAMPLES, nt_samples_batch_size=10, stdevs=sigma,
                                target=target, abs=False)  # fmt: skip

    def grad_cam(images: Tensor, target: Tensor) -> Tensor:
        maps = cam.attribute(fresh(images), target, relu_attributions=True)
        return captum.LayerAttribution.interpolate(maps, tuple(images.shape[-2:]), "bilinear")[:, 0]

    return {
        "vanilla_gradient": lambda x, target: captum.Saliency(model).attribute(fresh(x), target, abs=False),
        "gradient_times_input": lambda x, target: captum.InputXGradient(model).attribute(fresh(x), target),
        "guided_backpropagation": lambda x, target: captum.GuidedBackprop(model).attribute(fresh(x), target),
        "grad_cam": grad_cam,
        "guided_grad_cam": lambda x, t: guided_cam.attribute(fresh(x), t, interpolate_mode="bilinear"),
        "smoothgrad": smoothgrad,
        "integrated_gradients": lambda x, t: path.attribute(x, target=t, n_steps=SAMPLES, internal_batch_size=10),
    }.get(method)


def grad_cams(method: str) -> Call | None:
    """pytorch-grad-cam. Its guided backpropagation takes one image at a time."""
    from pytorch_grad_cam import GradCAM, GuidedBackpropReLUModel
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model = plain_resnet50()
    cam, guided = GradCAM(model=model, target_layers=[model.layer4]), GuidedBackpropReLUModel(model=model)

    def grad_cam(images: Tensor, target: Tensor) -> Tensor:
        return torch.from_numpy(cam(input_tensor=images, targets=[ClassifierOutputTarget(int(t)) for t in target]))

    def guided_backpropagation(images: Tensor, target: Tensor) -> Tensor:
        pairs = zip(images, target.tolist(), strict=True)
        return torch.stack([torch.from_numpy(guided(fresh(x[None]), t)).permute(2, 0, 1) for x, t in pairs])

    return {
        "grad_cam": grad_cam, "guided_backpropagation": guided_backpropagation,
        "guided_grad_cam": lambda x, target: guided_backpropagation(x, target) * grad_cam(x, target)[:, None],
    }.get(method)  # fmt: skip


def zennits(method: str) -> Call | None:
    """zennit, with its rules put into the network once, not at every call."""
    from zennit.attribution import Gradient, IntegratedGradients, SmoothGrad
    from zennit.composites import EpsilonPlus, GuidedBackprop
    from zennit.torchvision import ResNetCanonizer

    model = plain_resnet50()
    if method == "guided_backpropagation":
        GuidedBackprop().register(model)
    elif method == "lrp":
        from advanced.lrp import EPSILON, TINY, sign

        def stabilized(z: Tensor) -> Tensor:                           # as our epsilon_rule
            size = z.flatten(1).square().mean(dim=1).sqrt().reshape(-1, *[1] * (z.ndim - 1))
            return sign(z) * (z.abs() + EPSILON * size + TINY)

        EpsilonPlus(epsilon=stabilized, canonizers=[ResNetCanonizer()]).register(model)
    gradient = Gradient(model)
    attributor = {
        "vanilla_gradient": gradient, "guided_backpropagation": gradient, "lrp": gradient,
        "smoothgrad": SmoothGrad(model, noise_level=0.15, n_iter=SAMPLES),
        "integrated_gradients": IntegratedGradients(model, n_iter=SAMPLES),
    }.get(method)  # fmt: skip

    def call(images: Tensor, target: Tensor) -> Tensor:
        chosen = F.one_hot(target, 1000).to(images)
        return attributor(images, (lambda logits: logits * chosen) if method == "lrp" else chosen)[1]

    return attributor and call


# Name -> (its calls, its package)
LIBRARIES = {
    "ours": (ours, "torch"), "ours in bfloat16": (partial(ours, half=True), "torch"),
    "torchvision": (torchvisions, "torchvision"), "captum": (captums, "captum"),
    "pytorch-grad-cam": (grad_cams, "grad-cam"), "zennit": (zennits, "zennit"),
}  # fmt: skip


def plain_resnet50() -> nn.Module:
    """The embedded network without load_model's preparation, as torchvision would build it."""
    model = torchvision.models.resnet50()
    put_stride_in_first_convolution(model)
    model.load_state_dict(read_embedded("resnet50"), strict=False)  # it has no count of batches seen
    return model.eval()


@torch.inference_mode()
def forward(model: nn.Module, images: Tensor) -> Tensor:
    """Logits, as a network in use computes them."""
    return model(images)


def fresh(images: Tensor) -> Tensor:
    """A copy that wants a gradient, as the libraries ask for."""
    return images.clone().requires_grad_()


def installed() -> tuple[dict[str, str], list[str]]:
    """Package -> version of those that are there; what the others are."""
    there, missing = {}, []
    for package in dict.fromkeys(package for _, package in LIBRARIES.values()):
        try:
            there[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    return there, missing


# What is measured


def pictures(count: int) -> Tensor:
    """The photographs: (count, 3, 224, 224)."""
    return torch.cat([preprocess_image(load_image(name)) for name in (BATCH * 2)[:count]])


def distance(theirs: Tensor, expected: Tensor) -> float:
    """|theirs - expected| / |expected|."""
    return ((theirs - expected).norm() / expected.norm()).item()


def check(method: str, library: str, theirs: Tensor, found: Tensor, images: Tensor, target: Tensor) -> None:
    """AssertionError if a library's maps are not ours."""
    if library == "ours in bfloat16":
        return                                                         # `--bfloat16` measures how far they are apart
    expected, limit = found, TOLERANCE.get(method, OTHERS)
    own = partial(ours, method)
    if library == "pytorch-grad-cam" and method == "grad_cam":
        expected = normalize_map(found)                                # its maps are scaled to [0, 1]
    elif library == "pytorch-grad-cam" and method == "guided_grad_cam":
        cam = normalize_map(ours("grad_cam")(images, target))
        expected = ours("guided_backpropagation")(images, target) * cam[:, None]
    elif library == "zennit" and method == "integrated_gradients":
        expected = own()(images, target, rule="right", n_steps=SAMPLES)
    elif method == "smoothgrad":                                       # other noise: as far apart as two runs of ours
        limit = 1.1 * distance(own()(images, target, generator=torch.Generator().manual_seed(1)), found)
    far = distance(theirs, expected)
    assert far <= limit, f"{library}'s {method} differs from ours by {far:.3g}, more than {limit:.3g}"


def seconds(call: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def in_turn(method: str, count: int, rounds: int) -> list[dict]:
    """Seconds of a method on `count` images, for all libraries that have it; after one call each, whose maps agree."""
    images, (there, _) = pictures(count), installed()
    target = forward(load_model(), images).argmax(dim=1)               # so that nobody has to look for it
    calls = {name: build(method) for name, (build, package) in LIBRARIES.items() if package in there}
    calls = {name: partial(call, images, target) for name, call in calls.items() if call}
    found = calls["ours"]()
    for library in [name for name in calls if name != "ours"]:
        check(method, library, calls[library](), found, images, target)
    rows, order = [], list(calls)
    for i in range(rounds):
        random.Random(i).shuffle(order)
        rows += [{"library": name, "round": i, "value": seconds(calls[name])} for name in order]
    return rows


PEAK = """
import sys; sys.path[:0] = [{root!r}, {tests!r}]
import bench_speed; print(bench_speed.peak({library!r}, {method!r}, {count}, {samples}))
"""


def peak(library: str, method: str, count: int, samples: int) -> float:
    """MiB that this process took at its largest, after one call. Linux."""
    build, _ = LIBRARIES[library]
    call = build(method)
    images, target = pictures(count), torch.full((count,), 235)
    options = {"smoothgrad": {"n_samples": samples}, "integrated_gradients": {"n_steps": samples}}
    call(images, target, **(options.get(method, {}) if library == "ours" else {}))
    # Not getrusage: its ru_maxrss begins with the size of the process that started this one
    return int(re.search(r"VmHWM:\s+([0-9]+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def peaks(method: str, count: int, samples: int = SAMPLES) -> list[dict]:
    """MiB at the largest, of each library in a process of its own."""
    rows, (there, _) = [], installed()
    if not Path("/proc/self/status").exists():
        return rows
    names = [name for name, (build, package) in LIBRARIES.items() if package in there and build(method)]
    for library in names if samples == SAMPLES else ["ours"]:
        code = PEAK.format(root=str(PROJECT_ROOT), tests=str(Path(__file__).parent), library=library, method=method,
                           count=count, samples=samples)  # fmt: skip
        environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, env=environment)
        rows.append({"library": library, "round": 0, "value": float(done.stdout)})
    return rows


def first_figure() -> float:
    """Seconds from the start of lesson 01 until its first figure is on disk."""
    command, start = [sys.executable, "01_vanilla_gradient_saliency.py", "--output-dir"], time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        program = subprocess.Popen([*command, folder], cwd=PROJECT_ROOT, stdout=subprocess.DEVNULL)
        try:
            while not any(Path(folder).glob("*.png")):
                assert program.poll() is None, "lesson 01 ended without a figure"
                time.sleep(0.01)
            return time.perf_counter() - start
        finally:
            program.kill()
            program.wait()


def imports() -> float:
    """Seconds from the start of a process until it has imported what lesson 01 does."""
    code = "from utils import import_lesson; import_lesson('01_vanilla_gradient_saliency'); print('done', flush=True)"
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT_ROOT, stdout=subprocess.PIPE) as program:
        program.stdout.readline()
        found = time.perf_counter() - start                            # before the process ends, which takes long too
    assert program.returncode == 0, "lesson 01 cannot be imported"
    return found


def beginnings(rounds: int) -> list[dict]:
    """Seconds to lesson 01's first figure, and of its imports alone, in turn, after one start to warm the disk."""
    imports()
    return [{"library": name, "round": i, "value": call()} for i in range(rounds)
            for name, call in (("first figure", first_figure), ("imports", imports))]  # fmt: skip


# The table


def measure(file: Path, most: int | None) -> pd.DataFrame:
    """All measured values, one a row; what the file has from the same setting is not measured again."""
    setting = versions()
    rows = pd.read_csv(file).to_dict("records") if file.exists() else []
    rows = [row for row in rows if row["setting"] == setting]
    todo = {("start", "lesson 01", 0): partial(beginnings, min(most or 5, 5))}
    for method, (_, *rounds) in METHODS.items():
        for count, some in zip((1, 8), rounds, strict=True):
            if some:
                todo["seconds", method, count] = partial(in_turn, method, count, min(most or some, some))
        todo["MiB", method, 8 if rounds[1] else 1] = partial(peaks, method, 8 if rounds[1] else 1)
        if not rounds[1]:
            todo["MiB, n = 200", method, 1] = partial(peaks, method, 1, 200)
    done = {(row["what"], row["method"], row["images"]) for row in rows}
    for key in tqdm([key for key in todo if key not in done], desc="speed"):
        group = dict(zip(("setting", "what", "method", "images"), (setting, *key), strict=True))
        rows += [{**group, **row} for row in todo[key]()]
        write_text(file, pd.DataFrame(rows).to_csv(index=False))
    return pd.DataFrame(rows)


def summary(values: pd.DataFrame) -> pd.DataFrame:
    """One row for each method, number of images and library: median and quartiles of seconds and ratio, peak memory."""
    rows = []
    for (what, method, images), group in values.groupby(["what", "method", "images"], sort=False):
        by_round = group.pivot(index="round", columns="library", values="value")
        for library in dict.fromkeys(group["library"]):
            own = "ours" if "ours" in by_round else "first figure"
            ratio = by_round[library] / by_round[own]
            parts = [s.quantile(q) for s in (by_round[library], ratio) for q in (0.5, 0.25, 0.75)]
            rows.append([what, method, images, library, len(ratio), *parts])
    names = ["value", "low", "high", "ratio", "ratio_low", "ratio_high"]
    return pd.DataFrame(rows, columns=["what", "method", "images", "library", "rounds", *names])


def versions() -> str:
    """Processor, threads and packages."""
    there, missing = installed()
    packages = ", ".join(f"{package} {version}" for package, version in there.items())
    left_out = f"; not installed, so left out: {', '.join(missing)}" if missing else ""
    return (f"{os.cpu_count()} processors ({processor()}), {torch.get_num_threads()} threads; "
            f"Python {platform.python_version()}, {packages}{left_out}")  # fmt: skip


def spread(row: pd.Series, column: str, digits: str) -> str:
    """Median (lower to upper quartile)."""
    low, high = (row[f"{column}_{end}" if column == "ratio" else end] for end in ("low", "high"))
    return f"{row[column]:{digits}} ({low:{digits}} to {high:{digits}})"


def wide(table: pd.DataFrame) -> str:
    """README's table: our seconds, and everybody's time as a multiple of ours."""
    timed = table[table["what"] == "seconds"]
    others = [name for name in LIBRARIES if name not in ("ours", "torchvision") and name in set(timed["library"])]
    rows = []
    for (method, images), group in timed.groupby(["method", "images"], sort=False):
        of = group.set_index("library")
        cells = [spread(of.loc[name], "ratio", ".2f") if name in of.index else "" for name in others]
        rows.append([METHODS[method][0], str(images), f"{of.loc['ours', 'value']:.2g}", *cells])
    return markdown(["", "images", "ours, seconds", *others], rows)


def start_sentence(table: pd.DataFrame) -> str:
    """When lesson 01 has drawn something."""
    of = table[table["what"] == "start"].set_index("library")
    seconds, share = of.loc["first figure", "value"], of.loc["imports", "ratio"]
    return (f"`python 01_vanilla_gradient_saliency.py` has its first figure on disk after {seconds:.1f} seconds; "
            f"{share:.0%} of them are imports.")  # fmt: skip


def memory_sentence(table: pd.DataFrame) -> str:
    """What 200 samples take beside 50."""
    own = table[table["what"].str.startswith("MiB") & (table["library"] == "ours")]
    of = own.set_index(["what", "method"])["value"]
    parts = [f"{METHODS[method][0].partition(',')[0]} {of['MiB, n = 200', method] / of['MiB', method]:.2f}"
             for what, method in of.index if what != "MiB"]  # fmt: skip
    return f"Peak memory with 200 samples or steps, as a multiple of that with {SAMPLES}: {', '.join(parts)}."


def section(table: pd.DataFrame, about: str) -> str:
    """What README shows of it."""
    memory = memory_sentence(table) if "MiB" in set(table["what"]) else "Peak memory is measured on Linux only."
    return f"{about}\n\n{wide(table)}\n{start_sentence(table)}\n{memory}\n"


def page(table: pd.DataFrame, about: str) -> str:
    """The whole table: data/results/speed.md."""
    rows = []
    memory = table[table["what"] == "MiB"].set_index(["method", "images", "library"])["value"]
    for row in table[table["what"] == "seconds"].to_dict("records"):
        key = row["method"], row["images"], row["library"]
        rows.append([METHODS[row["method"]][0], str(row["images"]), row["library"], str(row["rounds"]),
                     spread(row, "value", ".3f"), spread(row, "ratio", ".2f"),
                     f"{memory[key]:.0f}" if key in memory.index else ""])  # fmt: skip
    header = ["", "images", "library", "rounds", "seconds", "as a multiple of ours", "peak memory, MiB"]
    return "\n".join(["# Seconds and memory\n", section(table, about), "Median (lower to upper quartile):\n",
                      markdown(header, rows)])  # fmt: skip


def main(most: int | None = None) -> None:
    """Measure, print and write; with a limit of rounds only into outputs/."""
    folder = OUTPUT_DIR if most else RESULTS
    partial_file, load = OUTPUT_DIR / f"speed_{most or 'all'}_rounds.csv", os.getloadavg()[0]
    table = summary(measure(partial_file, most))
    write_text(folder / "speed.csv", table.to_csv(index=False, float_format="%.4g"))
    partial_file.unlink()                                              # the next run measures anew
    table = pd.read_csv(folder / "speed.csv")
    about = f"`make bench`, {date.today()}, {load:.1f} other processes at work. {versions()}."
    write_text(folder / "speed.md", page(table, about))
    print(page(table, about))
    if not most:
        put_between(README, "speed", section(table, about) + MORE)
    print(f"wrote {folder / 'speed.csv'} and speed.md")
