"""Every method on every picture."""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.stats import rankdata, spearmanr
from torch import Tensor, nn
from tqdm import tqdm

from course.checks import (
    MapFunction,
    top_class,
)
from course.figures import color_scale, show_photo
from course.files import fingerprint, write
from course.paths import DATA_DIR
from course.pictures import displayable, list_pictures, load_image
from course.probes import correlation, pearson, roughness, stages
from course.scenes import backgrounds, box_masks, cutout_classes, planted_scene
from evaluation.deletion_insertion import area_under_curve, deletion_curve, insertion_curve
from evaluation.is_it_chance import Estimate, bootstrap, overlap, verdict
from evaluation.methods import CONTROLS, METHODS
from evaluation.planted_scenes import (
    energy_pointing_game,
    grid_pointing_game,
    human_agreement,
    load_human_map,
    pointing_game,
    union,
)
from evaluation.sanity_checks import likeness, randomized_maps
from evaluation.sensitivity import (
    max_sensitivity,
    mean_square_error,
    random_squares,
    random_subsets,
    removal_drops,
    sums_inside,
)
from utils import (
    channel_reduce,
    class_names,
    import_lesson,
    preprocess_image,
)

lesson_04 = import_lesson("04_integrated_gradients")


@dataclass(frozen=True, eq=False)
class Subject:
    """A picture to be scored: `regions` (N, H, W) of the class asked for, None if unknown."""

    name: str
    kind: str                                                          # "photo", "one animal" or "two animals"
    image: Tensor                                                      # (1, 3, H, W)
    target: int
    regions: Tensor | None
    other: int | None = None                                           # the class of the other animal
    human: Tensor | None = None                                        # where people looked, (H, W)


def scenes(model: nn.Module, count: int, seed: int, device: str | torch.device) -> tuple[list[Subject], int]:
    """`count` planted scenes whose class the network finds, half of them with two animals; how many were dropped.

    Found means a probability above 0.5 for one animal, the top five for two.
    """
    names, grounds = list(cutout_classes()), backgrounds()
    random, kept, dropped = np.random.default_rng(seed), [], 0
    while len(kept) < count:
        several = 1 + len(kept) % 2
        objects = [names[i] for i in random.choice(len(names), several, replace=False)]
        ground = grounds[random.integers(len(grounds))]
        image, masks, classes = planted_scene(objects, ground, seed=int(random.integers(2**31)))
        image = image.to(device)
        with torch.inference_mode():
            probability = model(image).softmax(dim=1)[0]
        found = probability[classes[0]] > 0.5 if several == 1 else classes[0] in probability.topk(5).indices
        if not found:
            dropped += 1
            continue
        name = f"scene{len(kept):02}_{'_and_'.join(objects)}"
        kind = "one animal" if several == 1 else "two animals"
        kept.append(Subject(name, kind, image, classes[0], masks[:1], None if several == 1 else classes[1]))
    return kept, dropped


def photographs(
    model: nn.Module, files: Sequence[Path], target: int | None, device: str | torch.device, human: Path | None = None
) -> list[Subject]:
    """The pictures, explained for their top class or for `target`; with boxes where that is the annotated class.

    `human` is a folder of attention maps, <stem>.png or <stem>.npy. Where it has none, boxes stand in for people.
    """
    annotations, subjects = json.loads((DATA_DIR / "annotations.json").read_text()), []
    for file in files:
        image = preprocess_image(load_image(file)).to(device)
        label = top_class(model, image, target)
        ours = not file.exists() or file.resolve().parent == DATA_DIR  # a bare name is looked up in data/
        boxed = ours and annotations[file.name]["class"] == label
        boxes = box_masks(file.name) if boxed else None
        seen = [human / f"{file.stem}{suffix}" for suffix in (".npy", ".png")] if human else []
        seen = [path for path in seen if path.exists()]
        looked = load_human_map(seen[0]) if seen else union(boxes).float() if boxed else None
        subjects.append(Subject(file.name, "photo", image, label, boxes, human=looked))
    return subjects


COLUMNS = ("run", "group", "subject", "method", "metric", "detail", "value")


Row = tuple[str, str, str, str, str, str, float]


@dataclass
class Run:
    """What all tasks share: the network, the methods, the sizes of things, and where results are kept."""

    model: nn.Module
    methods: dict[str, MapFunction]
    folder: Path
    seed: int
    quick: bool
    human: str = ""

    def __post_init__(self) -> None:
        network = fingerprint(self.model, *self.model.state_dict().values())
        human = f"-{fingerprint(self.human)}" if self.human else ""
        self.name, self.memory = f"{network}-{self.seed}-{'quick' if self.quick else 'full'}{human}", {}

    def kept(self, key: str, compute: Callable[[], Tensor]) -> Tensor:
        """The tensor of that name: from the folder, or computed and put there."""
        file = self.folder / "kept" / self.name / f"{key}.npy"
        if not file.exists():
            values = compute().detach().float().cpu().numpy()
            write(file, lambda stream: np.save(stream, values))
        return self.found(key)

    def found(self, key: str) -> Tensor:
        """A tensor that was kept."""
        return torch.from_numpy(np.load(self.folder / "kept" / self.name / f"{key}.npy"))

    def map(self, subject: Subject, method: str) -> Tensor:
        """A method's map of a picture, (H, W)."""
        function = self.methods[method]
        return self.kept(f"{subject.name}-{method}", lambda: function(self.model, subject.image, subject.target)[0])

    def generator(self) -> torch.Generator:
        """A fresh one: every method meets the same subsets, noise and random weights."""
        return torch.Generator().manual_seed(self.seed)

    def once(self, key: tuple, compute: Callable[[], object]) -> object:
        """Computed once and shared by the methods that come one after another; only the last key is remembered."""
        if key not in self.memory:
            self.memory = {key: compute()}
        return self.memory[key]


Found = dict[tuple[str, str], float]                                   # (metric, detail) -> value


def score_map(run: Run, subject: Subject, method: str) -> Found:
    """Seconds for the map, and how rough it is."""
    start = time.perf_counter()
    map = run.methods[method](run.model, subject.image, subject.target)[0].cpu()
    found = {("seconds", ""): time.perf_counter() - start, ("roughness", ""): roughness(map)}
    run.kept(f"{subject.name}-{method}", lambda: map)
    return found


def score_curves(run: Run, subject: Subject, method: str) -> Found:
    """Areas under the deletion and insertion curves, with half the steps in a quick run."""
    map, found = run.map(subject, method), {}
    for name, curve in (("deletion", deletion_curve), ("insertion", insertion_curve)):
        compute = partial(curve, run.model, subject.image, map, subject.target, step=3584 if run.quick else 1792)
        found[name, ""] = area_under_curve(run.kept(f"{subject.name}-{method}-{name}", compute))
    return found


def score_places(run: Run, subject: Subject, method: str) -> Found:
    """Pointing game and energy where the regions are known, human agreement where a human map or its stand-in is."""
    map, prefix, found = run.map(subject, method), "boxes" if subject.kind == "photo" else "scene", {}
    if subject.regions is not None:
        hit = pointing_game(map, subject.regions)
        found[f"{prefix}_pointing", ""] = math.nan if hit is None else float(hit)
        found[f"{prefix}_energy", ""] = energy_pointing_game(map, subject.regions)
    if subject.human is not None:
        found["human", ""] = human_agreement(map, subject.human)
    return found


def score_contrast(run: Run, subject: Subject, method: str) -> Found:
    """Correlation of the maps of the two animals' classes."""
    function = run.methods[method]
    other = run.kept(f"{subject.name}-{method}-other", lambda: function(run.model, subject.image, subject.other)[0])
    return {("contrast", ""): pearson(run.map(subject, method).flatten().double(), other.flatten().double())}


def score_grid(run: Run, subject: Subject, method: str) -> Found:
    """Share in the right quarter, for each of four photographs; `subject` holds all four."""
    shares = grid_pointing_game(run.methods[method], run.model, subject.image, subject.target)
    return {("grid", str(i)): share for i, share in enumerate(shares.tolist())}


def score_sensitivity_n(run: Run, subject: Subject, method: str) -> Found:
    """Correlations for several n; the forward passes are shared by all methods."""
    samples, shares = (20, (0.01, 0.1, 0.5)) if run.quick else (100, (0.001, 0.01, 0.1, 0.5))
    pixels, generator = subject.image[0, 0].numel(), run.generator()

    def drops() -> list[tuple[int, Tensor, Tensor]]:
        subsets = [(n, random_subsets(samples, n, subject.image.shape[-2:], generator))
                   for n in (round(share * pixels) for share in shares)]  # fmt: skip
        return [(n, masks, removal_drops(run.model, subject.image, masks, subject.target)) for n, masks in subsets]

    met = run.once(("sensitivity_n", subject.name), drops)
    map = run.map(subject, method)
    return {("sensitivity_n", str(n)): pearson(sums_inside(map, masks), lost) for n, masks, lost in met}


def score_infidelity(run: Run, subject: Subject, method: str) -> Found:
    """INFD of the map read as shares, with squares removed; the forward passes are shared by all methods."""
    samples = 20 if run.quick else 50

    def drops() -> tuple[Tensor, Tensor]:
        masks = random_squares(samples, subject.image.shape[-2:], run.generator())
        return masks, removal_drops(run.model, subject.image, masks, subject.target)

    masks, lost = run.once(("infidelity", subject.name), drops)
    return {("infidelity", ""): mean_square_error(sums_inside(run.map(subject, method), masks), lost, rescale=True)}


def score_max_sensitivity(run: Run, subject: Subject, method: str) -> Found:
    """SENS with three disturbed images."""
    options = {"samples": 3, "generator": run.generator()}
    value = max_sensitivity(run.methods[method], run.model, subject.image, subject.target, **options)
    return {("max_sensitivity", ""): value}


def score_randomization(run: Run, subject: Subject, method: str) -> Found:
    """Likeness to the trained network's map, stage by stage; in a quick run only down to the fourth stage."""
    found, trained = {}, None
    maps = randomized_maps(run.methods[method], run.model, subject.image, subject.target, run.generator())
    for i, (stage, map) in enumerate(maps):
        trained = map if trained is None else trained
        run.kept(f"{subject.name}-{method}-random-{i}-{stage}", lambda map=map: map)
        found |= {(metric, f"{i} {stage}"): value for metric, value in likeness(trained, map).items()}
        if run.quick and i == 4:
            break
    return found


def score_baselines(run: Run, subject: Subject, method: str) -> Found:
    """Integrated Gradients only: correlation of its map with that for another baseline."""
    if method != "integrated_gradients":
        return {}
    map, found = run.map(subject, method), {}
    for baseline in ("black", "white", "blur"):
        other = lesson_04.integrated_gradients(run.model, subject.image, subject.target, n_steps=20, baseline=baseline)
        found["baseline", baseline] = correlation(map, channel_reduce(other, "sum")[0].cpu())
    return found


# Group -> function, kind of picture, and how many of them: in a quick run, in a full one. None: all.
GROUPS: dict[str, tuple[Callable[[Run, Subject, str], Found], str, int | None, int | None]] = {
    "map": (score_map, "", None, None),
    "curves": (score_curves, "photo", None, None),
    "places": (score_places, "", None, None),
    "contrast": (score_contrast, "two animals", 2, 6),
    "grid": (score_grid, "mosaic", 1, 2),
    "sensitivity_n": (score_sensitivity_n, "photo", 1, 3),
    "infidelity": (score_infidelity, "photo", 1, 5),
    "max_sensitivity": (score_max_sensitivity, "photo", 1, 2),
    "randomization": (score_randomization, "photo", 1, 3),
    "baselines": (score_baselines, "photo", 1, 3),
}


def mosaics(photos: Sequence[Subject]) -> list[Subject]:
    """Four photographs of four classes each, as one Subject."""
    chosen, found = [], []
    for photo in photos:
        if photo.target not in [other.target for other in chosen]:
            chosen.append(photo)
        if len(chosen) == 4:
            name = "mosaic_" + "_".join(Path(other.name).stem for other in chosen)
            images = torch.cat([other.image for other in chosen])
            found.append(Subject(name, "mosaic", images, [other.target for other in chosen], None))
            chosen = []
    return found


def tasks(run: Run, subjects: Sequence[Subject], groups: Sequence[str]) -> list[tuple[str, Subject, str]]:
    """All (group, subject, method) that are to be done, group by group."""
    todo = []
    for group in groups:
        _, kind, quick, full = GROUPS[group]
        fitting = [subject for subject in subjects if kind in ("", subject.kind) and (kind or subject.kind != "mosaic")]
        some = fitting[: quick if run.quick else full]
        todo += [(group, subject, method) for subject in some for method in run.methods]
    return todo


def read_scores(file: Path) -> list[Row]:
    """The rows of scores.csv, of any run; none if it does not exist."""
    if not file.exists():
        return []
    with file.open(newline="") as stream:
        header, *rows = csv.reader(stream)
    if tuple(header) != COLUMNS:
        raise ValueError(f"{file} is not this lesson's scores.csv; move it away or choose another --output-dir")
    return [(*row[:-1], float(row[-1])) for row in rows]


def write_scores(file: Path, rows: Sequence[Row]) -> None:
    """All rows, under a temporary name, then renamed: a kill at any moment leaves the old file or the new one."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
    write(file, lambda stream: stream.write(text.getvalue().encode()))


def evaluate(run: Run, subjects: Sequence[Subject], groups: Sequence[str]) -> list[Row]:
    """Do what is not in scores.csv yet; all rows of this run."""
    file = run.folder / "scores.csv"
    rows = read_scores(file)
    done = {row[:4] for row in rows}
    todo = [task for task in tasks(run, subjects, groups) if (run.name, task[0], task[1].name, task[2]) not in done]
    for group, subject, method in (bar := tqdm(todo, desc="scores", unit="task")):
        bar.set_postfix_str(f"{group} {method}")
        found = GROUPS[group][0](run, subject, method) or {("nothing", ""): math.nan}
        place = (run.name, group, subject.name, method)
        rows += [(*place, metric, detail, value) for (metric, detail), value in found.items()]
        write_scores(file, rows)
    return [row for row in rows if row[0] == run.name and row[1] in groups and row[3] in run.methods]


def by_subject(rows: Sequence[Row], metric: str, method: str, detail: Callable[[str], bool] = bool) -> dict[str, float]:
    """Subject -> a method's value, averaged over those details (n, stage) that are wanted."""
    values: dict[str, list[float]] = {}
    for _, _, subject, name, found, part, value in rows:
        if (name, found) == (method, metric) and (part == "" or detail(part)):
            values.setdefault(subject, []).append(value)
    return {subject: float(np.mean(some)) for subject, some in values.items()}


# Metric -> title, whether higher (1) or lower (-1) is better
METRICS = {
    "insertion": ("insertion AUC", 1),
    "deletion": ("deletion AUC", -1),
    "sensitivity_n": ("sensitivity-n", 1),
    "infidelity": ("infidelity", -1),
    "scene_energy": ("energy, scenes", 1),
    "scene_pointing": ("pointing, scenes", 1),
    "boxes_energy": ("energy, boxes", 1),
    "boxes_pointing": ("pointing, boxes", 1),
    "human": ("agreement: people or boxes", 1),
    "grid": ("grid", 1),
    "contrast": ("likeness of classes", -1),
    "spearman_abs": ("likeness when random", -1),
    "max_sensitivity": ("max-sensitivity", -1),
    "roughness": ("roughness", -1),
    "seconds": ("seconds", -1),
}


def is_random(stage: str) -> bool:
    """Of the randomisation's details all but the trained network's; of sensitivity-n's all."""
    return not stage.startswith("0 ")


def summary(rows: Sequence[Row], methods: Sequence[str]) -> dict[str, dict[str, Estimate]]:
    """Metric -> method -> estimate, for the metrics that were computed."""
    table = {}
    for metric in METRICS:
        row = {method: bootstrap([*by_subject(rows, metric, method, is_random).values()]) for method in methods}
        if any(estimate.n for estimate in row.values()):
            table[metric] = row
    return table


def leaders(row: dict[str, Estimate], better: int) -> list[str]:
    """The best method and all whose interval overlaps its interval, controls aside; best first."""
    met = {m: e for m, e in row.items() if e.n >= 2 and m not in CONTROLS}
    ordered = sorted(met, key=lambda m: -better * met[m].mean)
    return [m for m in ordered if overlap(met[m], met[ordered[0]])]


def difference(rows: Sequence[Row], metric: str, first: str, second: str) -> Estimate:
    """First method's value minus the second's, picture by picture."""
    a, b = by_subject(rows, metric, first), by_subject(rows, metric, second)
    return bootstrap([a[subject] - b[subject] for subject in a if subject in b])


def rank_agreement(rows: Sequence[Row], methods: Sequence[str]) -> Estimate:
    """Spearman, picture by picture, between the methods' order by insertion and by deletion."""
    methods = [method for method in methods if method not in CONTROLS]
    if len(methods) < 3:
        return bootstrap([])
    insertion, deletion = ([by_subject(rows, metric, m) for m in methods] for metric in ("insertion", "deletion"))
    pairs = [([row[subject] for row in insertion], [-row[subject] for row in deletion]) for subject in insertion[0]]
    return bootstrap([float(spearmanr(*pair).statistic) for pair in pairs])


def claims(rows: Sequence[Row], methods: Sequence[str]) -> list[tuple[str, str, str]]:
    """What the field says, the number on these pictures, and whether it holds."""

    def mean(metric: str, method: str, detail: Callable[[str], bool] = bool) -> Estimate:
        return bootstrap([*by_subject(rows, metric, method, detail).values()])

    guided, others = "guided_backpropagation", [m for m in methods if m not in (*CONTROLS, "grad_cam")]
    best = {metric: max(others, key=lambda m: np.nan_to_num(mean(metric, m).mean), default="")
            for metric in ("scene_energy", "scene_pointing")}  # fmt: skip
    tests = [
        ("vanilla gradients are noisy", "roughness", mean("roughness", "vanilla_gradient"), "above", 0.5),
        ("SmoothGrad cleans them", "roughness of the gradient minus SmoothGrad's",
         difference(rows, "roughness", "vanilla_gradient", "smoothgrad"), "above", 0.0),
        ("gradient x input is still noisy", "roughness", mean("roughness", "gradient_times_input"), "above", 0.5),
        *((f"Grad-CAM localises best on planted scenes, by {metric[6:]}", f"its score minus that of {best[metric]}",
           difference(rows, metric, "grad_cam", best[metric]), "above", 0.0) for metric in best),
        ("guided backpropagation is not class-discriminative", "likeness of two classes' maps minus Grad-CAM's",
         difference(rows, "contrast", guided, "grad_cam"), "above", 0.0),
        ("guided backpropagation fails the randomisation test", "likeness with the top two stages random",
         mean("spearman_abs", guided, lambda stage: stage.startswith("2 ")), "above", 0.5),
        ("Integrated Gradients depends on its baseline", "r between maps of two baselines",
         mean("baseline", "integrated_gradients"), "below", 0.9),
        ("insertion and deletion disagree", "rank correlation of their orders of the methods",
         rank_agreement(rows, methods), "below", 0.5),
    ]  # fmt: skip
    return [
        (claim, f"{number}: {estimate}, n = {estimate.n}; {side} {bound}?", verdict(estimate, side, bound))
        for claim, number, estimate, side, bound in tests
        if estimate.n
    ]


# Question, metric that answers it, caution
GUIDELINES = (
    ("which pixels keep the answer up when they come back?", "insertion",
     "The blurred start is no natural picture, and smooth maps have an advantage: they uncover connected parts."),
    ("which pixels bring the answer down when they go?", "deletion",
     "Scattered grey pixels are as foreign to the network as any: a quick fall may be an adversarial pattern."),
    ("what would removing some pixels cost?", "sensitivity_n",
     "Correlations of random subsets are small for all methods; look at the curve over n, not at one number."),
    ("where in the picture is the animal of this class?", "scene_energy",
     "Planted animals have no surroundings: this says nothing about evidence in the background."),
    ("which of several animals in one picture is meant?", "grid",
     "A mosaic is not a photograph, and the network's confidence in it is lower."),
    ("a map that stays when the picture hardly changes?", "max_sensitivity",
     "A map that never changes is perfectly steady and says nothing: the uniform control scores 0."),
    ("a map that depends on what the network has learnt?", "spearman_abs",
     "Necessary, not sufficient; and likeness at random weights also depends on how much of the photo a map repeats."),
    ("a map for every picture of a large collection?", "seconds",
     "Seconds on this machine; the order is what carries over."),
)  # fmt: skip


def guidelines(table: dict[str, dict[str, Estimate]]) -> Iterator[str]:
    """One paragraph a question: who leads, by which number, whether a control does as well, one caution."""
    for question, metric, caution in GUIDELINES:
        if metric not in table or not leaders(table[metric], METRICS[metric][1]):
            continue
        row, (title, better) = table[metric], METRICS[metric]
        first, *same = leaders(row, better)
        text = f"- **{question}** {first} ({title} {row[first]})"
        text += f", not to be told apart from {', '.join(same)}." if same else ", alone in the lead."
        level = [c for c in CONTROLS if c in row and row[c].n >= 2
                 and (overlap(row[c], row[first]) or better * row[c].mean > better * row[first].mean)]  # fmt: skip
        if level and metric != "seconds":
            text += f" But a control that knows nothing does as well: {', '.join(level)} ({row[level[0]]})."
        yield f"{text} *{caution}*"


def report(run: Run, rows: Sequence[Row], subjects: Sequence[Subject], dropped: int, model_name: str) -> str:
    """08_report.md: what was measured, the table, the claims, the guidelines."""
    table, methods = summary(rows, list(run.methods)), list(run.methods)
    kinds = [subject.kind for subject in subjects]
    lines = [
        "# Comparative analysis", "",
        f"{model_name}, seed {run.seed}, {kinds.count('photo')} photographs, "
        f"{sum('animal' in kind for kind in kinds)} planted scenes ({dropped} more were dropped: the network did not "
        "find the class). Mean and 95 % bootstrap interval over pictures; the metrics that need many "
        "passes were computed on fewer pictures (n). Every value is in scores.csv.", "",
        "| metric | better | n | " + " | ".join(methods) + " |",
        "| --- | --- | --- |" + " --- |" * len(methods),
    ]  # fmt: skip
    for metric, row in table.items():
        title, better = METRICS[metric]
        n = max(estimate.n for estimate in row.values())
        cells = " | ".join(str(row[method]) for method in methods)
        lines.append(f"| {title} | {'higher' if better > 0 else 'lower'} | {n} | {cells} |")
    lines += ["", "## Claims of the field, on these pictures", ""]
    lines += ["| claim | measured | verdict |", "| --- | --- | --- |"]
    lines += [f"| {claim} | {number} | {verdict} |" for claim, number, verdict in claims(rows, methods)]
    lines += ["", "## Which method when", "", "Methods whose intervals overlap are not ranked; `random`, `centre`, "
              "`edges` and `uniform` are controls that know nothing about the network.", ""]  # fmt: skip
    lines += [*guidelines(table), ""]
    return "\n".join(lines)


def figure_gallery(run: Run, subjects: Sequence[Subject]) -> Figure:
    """All methods on some pictures; one rule: each map to the 99.5th percentile of its own absolute values."""
    methods = list(run.methods)
    size = (1.75 * (len(methods) + 1), 2.0 * len(subjects) + 0.5)
    figure, axes = plt.subplots(len(subjects), len(methods) + 1, figsize=size, squeeze=False, layout="constrained")
    for row, subject in zip(axes, subjects, strict=True):
        show_photo(row[0], displayable(subject.image)[0], class_names()[subject.target][:22])
        for axis, method in zip(row[1:], methods, strict=True):
            map = run.map(subject, method)
            axis.imshow(map.numpy(), **color_scale(map), interpolation="nearest")
            axis.set_axis_off()
    for axis, method in zip(axes[0, 1:], methods, strict=True):
        axis.set_title(two_lines(method), fontsize=9)
    figure.suptitle("Every map to the 99.5th percentile of its own absolute values; red and blue: signed")
    return figure


def two_lines(method: str) -> str:
    """A method's name, broken after the first word."""
    return method.replace("_", "\n", 1).replace("_", " ")


def colors(methods: Sequence[str]) -> dict[str, tuple]:
    """A colour for each method, grey for the controls."""
    palette = iter(plt.get_cmap("tab10").colors)
    return {method: "0.6" if method in CONTROLS else next(palette, "black") for method in methods}


STYLES = dict(zip(CONTROLS, ("-", "--", ":", "-."), strict=True))


def figure_curves(run: Run, photos: Sequence[Subject], table: dict[str, dict[str, Estimate]]) -> Figure:
    """Mean deletion and insertion curves over the photographs."""
    figure, axes = plt.subplots(1, 2, figsize=(12, 4.8), sharey=True, layout="constrained")
    for axis, name in zip(axes, ("deletion", "insertion"), strict=True):
        for method, color in colors(list(run.methods)).items():
            mean = np.mean([run.found(f"{photo.name}-{method}-{name}") for photo in photos], axis=0)
            label = f"{method} {table[name][method].mean:.2f}"
            axis.plot(np.linspace(0, 1, len(mean)), mean, STYLES.get(method, "-"), color=color, label=label)
        axis.set(title=f"{name}: {'lower' if name == 'deletion' else 'higher'} is better",
                 xlabel="share of pixels, most important first")  # fmt: skip
        axis.legend(fontsize=7, title="area under the curve", title_fontsize=8)
    axes[0].set_ylabel("probability of the class")
    figure.suptitle(f"Mean over {len(photos)} photographs")
    return figure


def figure_scores(table: dict[str, dict[str, Estimate]], methods: Sequence[str]) -> Figure:
    """All scores; in each column dark is better, by rank; bold: the leader and those that overlap it."""
    figure, axis = plt.subplots(figsize=(1.25 * len(table) + 3, 0.48 * len(methods) + 2), layout="constrained")
    shades = np.full((len(methods), len(table)), np.nan)
    for column, (metric, row) in enumerate(table.items()):
        better, leading = METRICS[metric][1], leaders(row, METRICS[metric][1])
        means = np.array([better * row[method].mean for method in methods])
        known = ~np.isnan(means)
        shades[known, column] = (rankdata(means[known]) - 1) / max(1, known.sum() - 1)           # ties: one shade
        for i, method in enumerate(methods):
            weight = "bold" if method in leading else "normal"
            few = "" if row[method].n >= 2 else "*"
            text = f"{row[method].mean:.2f}{few}" if row[method].n else "-"
            axis.text(column, i, text, ha="center", va="center", fontsize=8, weight=weight)
    axis.imshow(shades, cmap="Greens", vmin=0, vmax=2, aspect="auto")
    titles = [f"{METRICS[metric][0]}\n({'higher' if METRICS[metric][1] > 0 else 'lower'})" for metric in table]
    axis.set_xticks(range(len(table)), titles, rotation=45, ha="left", fontsize=8)
    axis.xaxis.tick_top()
    axis.set_yticks(range(len(methods)), [f"({m})" if m in CONTROLS else m for m in methods], fontsize=9)
    figure.suptitle("Means; shade: rank in the column; bold: not told apart from the best; *: one picture, unranked")
    return figure


def figure_randomization(run: Run, photo: Subject) -> Figure:
    """Maps of one photograph while the weights are randomised from the logits down; each on its own scale."""
    names = ["as trained", *stages(run.model)][: 5 if run.quick else None]
    methods, size = list(run.methods), (1.7 * len(stages) + 1.5, 1.7 * len(run.methods) + 0.5)
    figure, axes = plt.subplots(len(methods), len(stages), figsize=size, squeeze=False, layout="constrained")
    for row, method in zip(axes, methods, strict=True):
        for i, (axis, stage) in enumerate(zip(row, stages, strict=True)):
            map = run.found(f"{photo.name}-{method}-random-{i}-{stage}")
            axis.imshow(map.numpy(), **color_scale(map), interpolation="nearest")
            axis.set(xticks=[], yticks=[])
        row[0].set_ylabel(two_lines(method), fontsize=8)
    for axis, stage in zip(axes[0], stages, strict=True):
        axis.set_title(stage, fontsize=9)
    figure.suptitle("Random weights from the logits down to the stage named above (each map on its own scale)")
    return figure


def figure_sensitivity_n(rows: Sequence[Row], methods: Sequence[str]) -> Figure:
    """Mean correlation over photographs for each n."""
    sizes = sorted({int(row[5]) for row in rows if row[4] == "sensitivity_n"})
    figure, axis = plt.subplots(figsize=(7.5, 4.6), layout="constrained")
    for method, color in colors(methods).items():
        means = [np.mean([*by_subject(rows, "sensitivity_n", method, str(n).__eq__).values()]) for n in sizes]
        if not np.isnan(means).all():
            axis.plot(sizes, means, STYLES.get(method, "o-"), color=color, label=method, markersize=4)
    axis.axhline(0, color="black", linewidth=0.6)
    axis.set(xscale="log", xlabel="n: pixels removed at a time", ylabel="correlation", title="Sensitivity-n")
    axis.legend(fontsize=7, bbox_to_anchor=(1, 1))
    return figure


def figure_cost(table: dict[str, dict[str, Estimate]], methods: Sequence[str]) -> Figure:
    """Seconds for a map against insertion AUC, with intervals."""
    figure, axis = plt.subplots(figsize=(7.5, 4.6), layout="constrained")
    for i, (method, color) in enumerate(colors(methods).items()):
        cost, score = table["seconds"][method], table["insertion"][method]
        error = [[score.mean - score.low], [score.high - score.mean]] if score.n > 1 else None
        place, beside = (max(cost.mean, 1e-4), score.mean), (5, 3 if i % 2 else -10)
        axis.errorbar(*place, error, fmt="o", color=color, capsize=3)
        axis.annotate(method, place, xytext=beside, textcoords="offset points", fontsize=8)
    axis.set(xscale="log", xlabel="seconds a map", ylabel="insertion AUC", title="What a map costs, what it scores")
    return figure


def chosen(names: Sequence[str] | None, known: dict, what: str) -> list[str]:
    """The names asked for, all by default; ValueError for one that is not known."""
    unknown = sorted(set(names or ()) - set(known))
    if unknown:
        raise ValueError(f"there is no {what} {unknown[0]!r}; there are {', '.join(known)}")
    return [name for name in known if names is None or name in names]


def prepare(args: argparse.Namespace) -> tuple[Run, list[Subject], int]:
    """The run, its pictures, and how many planted scenes were dropped."""
    methods = {name: METHODS[name] for name in chosen(args.methods, METHODS, "method")}
    if args.human is not None and not args.human.is_dir():
        raise ValueError(f"--human {args.human} is not a folder; it should hold <stem of the photo>.png or .npy")
    run = Run(lesson_model(args), methods, args.output_dir, args.seed, args.quick, str(args.human or ""))
    files = list_pictures(args.image or args.default_images)
    files = files if args.image or not args.quick else files[:4]
    photos = photographs(run.model, files, lesson_target(args), args.device, args.human)
    planted, dropped = scenes(run.model, 4 if args.quick else 20, args.seed, args.device)
    return run, [*photos, *planted, *mosaics(photos)], dropped
