"""Every method on every picture: the runner of lesson 08. One tidy table, kept as CSV; a stopped run goes on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from course.checks import MapFunction, top_class
from course.files import fingerprint, write
from course.lesson import Lesson
from course.pictures import load_image
from course.probes import correlation, pearson, randomized, roughness, stages
from course.scenes import Scene, box_masks, boxed_class, found_scenes, load_human_map
from evaluation.deletion_insertion import area_under_curve, deletion_curve, insertion_curve
from evaluation.methods import CELLS, CONTROLS, SHARES, untrained
from evaluation.planted_scenes import (
    at_resolution,
    energy_pointing_game,
    grid_pointing_game,
    human_agreement,
    pointing_game,
    right_of_two,
    union,
)
from evaluation.sanity_checks import is_empty, likeness
from evaluation.sensitivity import random_squares, random_subsets, removal_drops, sums_inside, unexplained
from evaluation.steadiness import max_sensitivity
from utils import channel_reduce, import_lesson, preprocess_image

integrated_gradients = import_lesson("04_integrated_gradients").integrated_gradients
grad_cam = import_lesson("05_gradcam").grad_cam


class Group(NamedTuple):
    """What is scored together: on which kind of picture, on how many (quick, full; None is all), by which methods."""

    score: Callable[[Run, Picture, str], dict[tuple[str, str], float]]
    kind: str
    quick: int | None
    full: int | None
    who: Callable[[str], bool]


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture to be scored.

    Attributes:
        kind: "photo", "scene" (one planted animal), "pair" (two of them) or "mosaic" (four photographs).
        image: (1, 3, H, W); (4, 3, H, W) for a mosaic.
        target: the class asked for; a mosaic's are four.
        masks: (N, H, W) where the place is known: of the scene's animals, or the boxes of the photograph.
        other: the class of a pair's second animal.
        human: where people looked, or the boxes in their place, (H, W).
    """

    name: str
    kind: str
    image: Tensor
    target: int | list[int]
    masks: Tensor | None = None
    other: int | None = None
    human: Tensor | None = None


def photographs(
    model: nn.Module, files: Sequence[Path], target: int | None, device: str | torch.device, human: Path | None = None
) -> list[Picture]:
    """The files, explained for their top class or for `target`; with boxes where that is the annotated class.

    `human` is a folder of attention maps, <stem>.png or <stem>.npy. Where it has none, boxes stand in for people.
    """
    pictures = []
    for file in files:
        image = preprocess_image(load_image(file)).to(device)
        label = top_class(model, image, target)
        boxes = box_masks(file.name) if boxed_class(file) == label else None
        seen = [human / f"{file.stem}{suffix}" for suffix in (".npy", ".png")] if human else []
        seen = [path for path in seen if path.exists()]
        looked = load_human_map(seen[0]) if seen else union(boxes).float() if boxes is not None else None
        pictures.append(Picture(file.name, "photo", image, label, boxes, human=looked))
    return pictures


def planted(model: nn.Module, count: int, animals: int, seed: int, device: str | torch.device) -> list[Picture]:
    """Scenes with one or two animals that the network finds."""
    kind, scenes = "scene" if animals == 1 else "pair", found_scenes(
        model, count, animals=animals, seed=seed, device=device)[0]  # fmt: skip
    return [
        Picture(f"{kind}{i:02} {s.name}", kind, s.image, s.classes[0], s.masks, s.classes[1] if animals == 2 else None)
        for i, s in enumerate(scenes)
    ]


def mosaics(photos: Sequence[Picture]) -> list[Picture]:
    """Four photographs of four classes each, as one Picture."""
    chosen, found = [], []
    for photo in photos:
        if photo.target not in [other.target for other in chosen]:
            chosen.append(photo)
        if len(chosen) == 4:
            name = "mosaic " + " ".join(Path(other.name).stem for other in chosen)
            images = torch.cat([other.image for other in chosen])
            found.append(Picture(name, "mosaic", images, [other.target for other in chosen]))
            chosen = []
    return found


# A run


@dataclass
class Run:
    """What all scores share: the network, the methods, the pictures, and the folder where results are kept."""

    model: nn.Module
    methods: dict[str, MapFunction]
    pictures: list[Picture]
    folder: Path
    seed: int = 0
    quick: bool = False
    memory: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        network = fingerprint(self.model, *self.model.state_dict().values())
        looked = [picture.human for picture in self.pictures if picture.human is not None]
        seen = fingerprint(*(picture.image for picture in self.pictures), *looked)
        self.name = f"{network}-{seen}-{self.seed}-{'quick' if self.quick else 'full'}"

    def kept(self, key: str, compute: Callable[[], Tensor]) -> Tensor:
        """The tensor of that name: from the folder, or computed and put there."""
        file = self.folder / "kept" / self.name / f"{key}.npy"
        if not file.exists():
            values = compute().detach().float().cpu().numpy()
            write(file, lambda stream: np.save(stream, values))
        return torch.from_numpy(self.found(key))

    def found(self, key: str) -> np.ndarray:
        """An array that was kept."""
        return np.load(self.folder / "kept" / self.name / f"{key}.npy")

    def map(self, picture: Picture, method: str) -> Tensor:
        """A method's map of a picture, (H, W)."""
        function = self.methods[method]
        return self.kept(f"{picture.name}-{method}", lambda: function(self.model, picture.image, picture.target)[0])

    def once(self, key: object, compute: Callable[[], object]) -> object:
        """Computed once and shared by the methods that come one after another; only the last key is remembered."""
        if key not in self.memory:
            self.memory = {key: compute()}
        return self.memory[key]

    def generator(self) -> torch.Generator:
        """A fresh one: every method meets the same subsets, noise and squares."""
        return torch.Generator().manual_seed(self.seed)


# Scores: (run, picture, method) -> {(metric, detail): value}, NaN where a map is empty


def score_map(run: Run, picture: Picture, method: str) -> dict:
    """Seconds of processor time for the map (a busy machine does not lengthen them), and how rough the map is."""
    start = time.process_time()
    map = run.methods[method](run.model, picture.image, picture.target)[0].cpu()
    seconds = time.process_time() - start
    run.kept(f"{picture.name}-{method}", lambda: map)
    return {("seconds", ""): seconds, ("roughness", ""): roughness(map)}


def score_curves(run: Run, picture: Picture, method: str) -> dict:
    """Areas under the deletion and insertion curves in 14 steps; 7 in a quick run. An empty map has no order."""
    map, found = run.map(picture, method), {}
    for name, curve in (("deletion", deletion_curve), ("insertion", insertion_curve)):
        compute = partial(curve, run.model, picture.image, map, picture.target, step=7168 if run.quick else 3584)
        points = run.kept(f"{picture.name}-{method}-{name}", compute)
        found[name, ""] = math.nan if is_empty(map) else area_under_curve(points)
    return found


def reachable(run: Run, picture: Picture, method: str) -> float:
    """Energy of the mask itself, drawn as coarsely as the method draws: 1 for a method of single pixels."""
    if method == "grad_cam":
        cells = grad_cam(run.model, picture.image, picture.target, upsample=False).shape[-1]
    else:
        cells = CELLS if method.endswith("7x7") else None
    mask = union(picture.masks)
    return energy_pointing_game(at_resolution(mask, cells), mask) if cells else 1.0


def score_places(run: Run, picture: Picture, method: str) -> dict:
    """Energy and hit where the place is known, agreement where a human map or its stand-in is."""
    map, found = run.map(picture, method), {}
    if picture.kind == "scene":
        hit, energy = pointing_game(map, picture.masks), energy_pointing_game(map, picture.masks)
        found |= {("energy", ""): energy, ("reachable", ""): energy / reachable(run, picture, method),
                  ("hit", ""): math.nan if hit is None else float(hit)}  # fmt: skip
    elif picture.masks is not None:
        found["box_energy", ""] = energy_pointing_game(map, picture.masks)
    if picture.human is not None:
        found["human", ""] = human_agreement(map, picture.human)
    return found


def score_untrained(run: Run, picture: Picture, method: str) -> dict:
    """Energy of the same method's map for the same network with random weights."""
    map = untrained(run.methods[method])(run.model, picture.image, picture.target)[0]
    return {("untrained_energy", ""): energy_pointing_game(map, picture.masks)}


def score_pair(run: Run, picture: Picture, method: str) -> dict:
    """Of the energy on two animals, the share on the one asked for."""
    classes = [picture.target, picture.other]
    scene = Scene(picture.name, picture.image, picture.image, picture.masks, classes)
    return {("right_of_two", ""): right_of_two(run.methods[method], run.model, scene)}


def score_grid(run: Run, picture: Picture, method: str) -> dict:
    """Share in the right quarter, for each of four photographs."""
    shares = grid_pointing_game(run.methods[method], run.model, picture.image, picture.target)
    return {("grid", str(i)): share for i, share in enumerate(shares.tolist())}


def score_sensitivity(run: Run, picture: Picture, method: str) -> dict:
    """Sensitivity-n with blocks of 16 x 16, a tenth of the picture removed; all methods share the forward passes."""
    size = picture.image.shape[-2:]
    count = max(1, math.ceil(size[0] / 16) * math.ceil(size[1] / 16) // 10)

    def removals() -> tuple[Tensor, Tensor]:
        masks = random_subsets(30 if run.quick else 200, count, size, run.generator(), block=16)
        return masks, removal_drops(run.model, picture.image, masks, picture.target)

    masks, drops = run.once(("sensitivity", picture.name), removals)
    return {("sensitivity_n", f"{count} blocks"): pearson(sums_inside(run.map(picture, method), masks), drops)}


def score_infidelity(run: Run, picture: Picture, method: str) -> dict:
    """1 - R^2 of the losses by squares of a quarter of the side, predicted by sums of shares."""
    size = picture.image.shape[-2:]

    def removals() -> tuple[Tensor, Tensor]:
        masks = random_squares(30 if run.quick else 60, size, run.generator(), side=min(size) // 4)
        return masks, removal_drops(run.model, picture.image, masks, picture.target)

    masks, drops = run.once(("infidelity", picture.name), removals)
    return {("unexplained", ""): unexplained(sums_inside(run.map(picture, method), masks), drops)}


def score_steadiness(run: Run, picture: Picture, method: str) -> dict:
    """How far the map moves, the larger of two tries."""
    options = {"samples": 2, "generator": run.generator()}
    value = max_sensitivity(run.methods[method], run.model, picture.image, picture.target, **options)
    return {("max_sensitivity", ""): value}


def score_randomization(run: Run, picture: Picture, method: str) -> dict:
    """Rank correlation, without signs, with the map for random weights: in the top two stages, and in all.

    A map that random weights leave empty has nothing in common with the trained one: 0. It is counted as well.
    """
    trained, found = run.map(picture, method), {}
    parts = {"top_likeness": stages(run.model)[:2], "likeness": None}
    damaged = run.once("random", lambda: {key: randomized(run.model, names, run.seed) for key, names in parts.items()})
    for metric, network in damaged.items():
        map = run.methods[method](network, picture.image, picture.target)[0].cpu()
        empty = is_empty(map) and not is_empty(trained)
        found[metric, ""] = 0.0 if empty else likeness(trained, map)["spearman_abs"]
        found[f"{metric}_empty", ""] = float(empty)
    return found


def score_baselines(run: Run, picture: Picture, method: str) -> dict:
    """Correlation of Integrated Gradients' map with that for another baseline, and with that for half the steps."""
    map, found = run.map(picture, method), {}
    others = {("same_baseline", ""): {"n_steps": 10}} | {
        ("other_baseline", name): {"n_steps": 20, "baseline": name} for name in ("black", "white")}  # fmt: skip
    for key, options in others.items():
        other = integrated_gradients(run.model, picture.image, picture.target, **options)
        found[key] = correlation(map, channel_reduce(other, "sum")[0].cpu())
    return found


def anyone(_method: str) -> bool:
    """Every method and every control."""
    return True


def no_control(method: str) -> bool:
    """What asks the network something."""
    return method not in CONTROLS


GROUPS = {
    "map": Group(score_map, "photo", None, None, anyone),
    "places": Group(score_places, "photo", None, None, anyone),
    "scenes": Group(score_places, "scene", None, None, anyone),
    "curves": Group(score_curves, "photo", 2, 10, anyone),
    "pairs": Group(score_pair, "pair", None, None, anyone),
    "sensitivity": Group(score_sensitivity, "photo", 1, 10, anyone),
    "infidelity": Group(score_infidelity, "photo", 1, 10, (*SHARES, "uniform", "random").__contains__),
    "randomization": Group(score_randomization, "photo", 1, 10, anyone),
    "untrained": Group(score_untrained, "scene", 1, 6, no_control),
    "max_sensitivity": Group(score_steadiness, "photo", 1, 10, anyone),
    "baselines": Group(score_baselines, "photo", 1, 10, "integrated_gradients".__eq__),
    "grid": Group(score_grid, "mosaic", 1, 1, anyone),
}

COLUMNS = ["run", "group", "picture", "method", "metric", "detail", "value"]


def tasks(run: Run, groups: Sequence[str]) -> list[tuple[str, Picture, str]]:
    """All (group, picture, method) that are to be done, group by group."""
    todo = []
    for name in groups:
        group = GROUPS[name]
        some = [picture for picture in run.pictures if picture.kind == group.kind][: group.quick if run.quick else
                                                                                   group.full]  # fmt: skip
        todo += [(name, picture, method) for picture in some for method in run.methods if group.who(method)]
    return todo


def read_scores(file: Path) -> pd.DataFrame:
    """The table in a scores.csv, of any run; empty if there is no file. ValueError if it is another kind of table."""
    if not file.exists():
        return pd.DataFrame(columns=COLUMNS).astype({"value": float})
    table = pd.read_csv(file, dtype=dict.fromkeys(COLUMNS[:-1], str), keep_default_na=False, na_values={"value": [""]})
    if list(table.columns) != COLUMNS:
        raise ValueError(f"{file} is not this lesson's scores.csv; move it away or choose another --output-dir")
    return table


def write_scores(file: Path, table: pd.DataFrame) -> None:
    """The whole table under a temporary name, then renamed: a kill at any moment leaves the old file or the new one."""
    write(file, lambda stream: stream.write(table.to_csv(index=False, lineterminator="\n").encode()))


def evaluate(run: Run, groups: Sequence[str]) -> pd.DataFrame:
    """Do what is not in scores.csv yet; all rows of this run, for its groups and methods."""
    file = run.folder / "scores.csv"
    rows = read_scores(file).values.tolist()
    done = {tuple(row[:4]) for row in rows}
    todo = [task for task in tasks(run, groups) if (run.name, task[0], task[1].name, task[2]) not in done]
    for group, picture, method in (bar := tqdm(todo, desc="scores", unit="task")):
        bar.set_postfix_str(f"{group} {method}")
        found = GROUPS[group].score(run, picture, method) or {("nothing", ""): math.nan}
        place = (run.name, group, picture.name, method)
        rows += [[*place, metric, detail, value] for (metric, detail), value in found.items()]
        write_scores(file, pd.DataFrame(rows, columns=COLUMNS))
    table = pd.DataFrame(rows, columns=COLUMNS).astype({"value": float})
    mine = (table["run"] == run.name) & table["group"].isin(groups) & table["method"].isin(list(run.methods))
    return table[mine]


# What the command line asks for


def chosen(names: Sequence[str] | None, known: Collection[str], what: str) -> list[str]:
    """The names asked for, all by default; ValueError for one that is not known."""
    unknown = sorted(set(names or ()) - set(known))
    if unknown:
        raise ValueError(f"there is no {what} {unknown[0]!r}; there are {', '.join(known)}")
    return [name for name in known if names is None or name in names]


def prepare(lesson: Lesson, methods: dict[str, MapFunction]) -> Run:
    """The run of a lesson: its photographs, planted scenes that its network finds, mosaics of the photographs.

    Raises:
        ValueError: an unknown method, or --human is no folder.
    """
    args = lesson.args
    methods = {name: methods[name] for name in chosen(args.methods, methods, "method")}
    if args.human is not None and not args.human.is_dir():
        raise ValueError(f"--human {args.human} is not a folder; it should hold <stem of the photo>.png or .npy")
    files = lesson.files if args.image or not args.quick else lesson.files[:4]
    photos = photographs(lesson.model, files, lesson.target, args.device, args.human)
    ones, twos = (3, 1) if args.quick else (20, 10)
    scenes = planted(lesson.model, ones, 1, args.seed, args.device)
    scenes += planted(lesson.model, twos, 2, args.seed, args.device)
    return Run(lesson.model, methods, [*photos, *scenes, *mosaics(photos)], args.output_dir, args.seed, args.quick)
