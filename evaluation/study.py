"""Every method on every picture: the runner of lesson 08. One tidy table, kept as CSV; a stopped run goes on."""

from __future__ import annotations

import io
import math
import platform
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from advanced.lrp import lrp
from course.checks import MapFunction
from course.files import fingerprint, write
from course.lesson import Lesson
from course.probes import correlation, pearson, randomized, roughness, stages
from course.scenes import Scene
from evaluation.deletion_insertion import area_under_curve, authors_blur, replacement_curve
from evaluation.methods import COARSE, CONTROLS, grain, reduced, untrained
from evaluation.methods import METHODS as METHODS_OF_LESSONS
from evaluation.methods import SHARES as SHARES_OF_LESSONS
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
from evaluation.study_pictures import Picture, mosaics, photographs, planted
from utils import channel_reduce, import_lesson

integrated_gradients = import_lesson("04_integrated_gradients").integrated_gradients

# LRP is a part of lesson 09, which rests on this folder; the study, which may use every part, adds it
METHODS: dict[str, MapFunction] = {
    **{name: method for name, method in METHODS_OF_LESSONS.items() if name not in CONTROLS},
    "lrp_composite": reduced(lrp, "sum", rule="composite"),
    "lrp_conserving": reduced(lrp, "sum", rule="epsilon_plus_conserving"),
    **{name: METHODS_OF_LESSONS[name] for name in CONTROLS},
}
SHARES = (*SHARES_OF_LESSONS, "lrp_composite", "lrp_conserving")

# The best that is possible where the place is known: the animal's mask as a map, as fine and as coarse as maps are
PERFECT = ("animal", "animal_coarse")


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
    step: int = 3584
    network: str = ""
    memory: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        network = fingerprint(self.model, *self.model.state_dict().values())
        photos = [one for one in self.pictures if one.kind == "photo"]     # the others follow from network and seed
        looked = [picture.human for picture in photos if picture.human is not None]
        seen = fingerprint(*(picture.image for picture in photos), *looked)
        self.name = f"{network}-{seen}-{self.seed}-{'quick' if self.quick else 'full'}-{self.step}"

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
        if method in PERFECT:
            cells = grain(self.model, picture.image) if method == "animal_coarse" else picture.image.shape[-2:]
            return at_resolution(union(picture.masks), cells)

        def compute() -> Tensor:
            return self.methods[method](self.model, picture.image, picture.target)[0].float().cpu()

        return self.kept(f"{picture.name}-{method}", compute) if picture.kept else compute()

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
    """Areas under four curves: removing and putting back, with the mean colour and with a blur. NaN for an empty map.

    In a scene, whose background is known, two: the animal goes, or comes, and what is put in is what was behind it.
    """
    map, found = run.map(picture, method), {}
    if picture.kind == "scene":
        grounds = {"true": picture.ground}
    else:
        grounds = {"mean": torch.zeros_like(picture.image), "blur": authors_blur(picture.image)}
    for ground, end in grounds.items():
        for name, pair in (("deletion", (picture.image, end)), ("insertion", (end, picture.image))):
            compute = partial(replacement_curve, run.model, *pair, map, picture.target, run.step)
            points = run.kept(f"{picture.name}-{method}-{name}-{ground}", compute)
            found[f"{name}_{ground}", ""] = math.nan if is_empty(map) else area_under_curve(points)
    return found


def reachable(run: Run, picture: Picture, method: str) -> float:
    """Energy of the mask itself, drawn as coarsely as the method draws: 1 for a method of single pixels."""
    if method not in (*COARSE, "animal_coarse"):
        return 1.0
    return energy_pointing_game(run.map(picture, "animal_coarse"), union(picture.masks))


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
    """Energy of the same method's map for the same network with random weights, and what training adds to it."""
    map, mask = untrained(run.methods[method])(run.model, picture.image, picture.target)[0], picture.masks
    energy, trained = energy_pointing_game(map, mask), energy_pointing_game(run.map(picture, method), mask)
    return {("untrained_energy", ""): energy, ("learned_energy", ""): trained - energy}


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
        masks = random_subsets(30 if run.quick else 300, count, size, run.generator(), block=16)
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


# What is scored together


class Group(NamedTuple):
    """One question: on how many pictures of each kind (None is all), in a quick run and in full, of which methods."""

    score: Callable[[Run, Picture, str], dict[tuple[str, str], float]]
    quick: dict[str, int | None]
    full: dict[str, int | None]
    methods: Callable[[str], bool]


def anyone(method: str) -> bool:
    """Every method and every control."""
    return method not in PERFECT


def or_perfect(_method: str) -> bool:
    """And the best that is possible."""
    return True


def no_control(method: str) -> bool:
    """What asks the network something."""
    return method not in (*CONTROLS, *PERFECT)


PHOTOS, ONE_PHOTO = {"photo": None}, {"photo": 1}
MANY = {"photo": None, "scene": 5}                                     # the nineteen photographs, and five scenes

GROUPS = {
    "map": Group(score_map, PHOTOS, PHOTOS, anyone),
    "places": Group(score_places, PHOTOS, PHOTOS, anyone),
    "scenes": Group(score_places, {"scene": None}, {"scene": None}, or_perfect),
    "curves": Group(score_curves, ONE_PHOTO, PHOTOS, anyone),
    "true_background": Group(score_curves, {"scene": 1}, {"scene": 20}, or_perfect),
    "pairs": Group(score_pair, {"pair": None}, {"pair": None}, anyone),
    "sensitivity": Group(score_sensitivity, ONE_PHOTO, MANY, anyone),
    "infidelity": Group(score_infidelity, ONE_PHOTO, MANY, (*SHARES, "uniform", "random").__contains__),
    "randomization": Group(score_randomization, ONE_PHOTO, MANY, anyone),
    "untrained": Group(score_untrained, {"scene": 1}, {"scene": 24}, no_control),
    "max_sensitivity": Group(score_steadiness, ONE_PHOTO, MANY, anyone),
    "baselines": Group(score_baselines, ONE_PHOTO, MANY, "integrated_gradients".__eq__),
    "grid": Group(score_grid, {}, {"mosaic": None}, anyone),
}

COLUMNS = ["run", "group", "picture", "method", "metric", "detail", "value"]


def counts(run_is_quick: bool, groups: Sequence[str]) -> dict[str, int]:
    """How many pictures of each made kind some groups need; none of a kind that no group asks for."""
    made = {"scene": (2, 200), "pair": (1, 50), "mosaic": (0, 50)}     # quick, full
    asked = [GROUPS[name].quick if run_is_quick else GROUPS[name].full for name in groups]
    found = {}
    for kind, numbers in made.items():
        wanted = [group[kind] for group in asked if kind in group]
        most = numbers[0 if run_is_quick else 1]
        found[kind] = max((most if number is None else number for number in wanted), default=0)
    return found


def tasks(run: Run, groups: Sequence[str]) -> Iterator[tuple[str, Picture, str]]:
    """All (group, picture, method) that are to be done, group by group, picture by picture."""
    for name in groups:
        group = GROUPS[name]
        for kind, count in (group.quick if run.quick else group.full).items():
            for picture in [one for one in run.pictures if one.kind == kind][:count]:
                yield from ((name, picture, method) for method in (*run.methods, *PERFECT) if group.methods(method))


def read_scores(file: Path) -> pd.DataFrame:
    """The table in a scores.csv, of any run; empty if there is no file. ValueError if it is another kind of table."""
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    if not text:
        return pd.DataFrame(columns=COLUMNS).astype({"value": float})
    table = pd.read_csv(io.StringIO(text[: text.rfind("\n") + 1] or "no table"), dtype=dict.fromkeys(COLUMNS[:-1], str),
                        keep_default_na=False, na_values={"value": [""]})  # fmt: skip
    if list(table.columns) != COLUMNS:
        raise ValueError(f"{file} is not this lesson's scores.csv; move it away or choose another --output-dir")
    return table


def append(file: Path, rows: pd.DataFrame) -> None:
    """Add rows in one write, which a kill does not cut; read_scores forgets a last line that a power cut left half."""
    new = not file.exists() or file.stat().st_size == 0
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8", newline="") as stream:
        stream.write(rows.to_csv(index=False, header=new, lineterminator="\n"))


def session(run: Run, groups: Sequence[str], seconds: float) -> pd.DataFrame:
    """What was run, with what, and for how long: one row of runs.csv. A killed session leaves none."""
    counted = pd.Series([picture.kind for picture in run.pictures]).value_counts()
    facts = {
        "run": run.name, "network": run.network, "groups": " ".join(groups), "methods": " ".join(run.methods),
        "pictures": " ".join(f"{count} {kind}s" for kind, count in counted.items()), "seconds": round(seconds),
        "processor": f"{platform.machine()}, {torch.get_num_threads()} threads", "python": platform.python_version(),
        "torch": torch.__version__, "numpy": np.__version__, "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip
    return pd.DataFrame([facts])


def evaluate(run: Run, groups: Sequence[str]) -> pd.DataFrame:
    """Do what is not in scores.csv yet; all rows of this run, for its groups and methods."""
    file = run.folder / "scores.csv"
    table = read_scores(file)
    done, fresh = set(table[COLUMNS[:4]].itertuples(index=False, name=None)), []
    todo = [task for task in tasks(run, groups) if (run.name, task[0], task[1].name, task[2]) not in done]
    started = time.monotonic()
    try:
        for group, picture, method in (bar := tqdm(todo, desc="scores", unit="task", mininterval=1)):
            bar.set_postfix_str(f"{group} {method}", refresh=False)
            found = GROUPS[group].score(run, picture, method) or {("nothing", ""): math.nan}
            place = (run.name, group, picture.name, method)
            rows = [[*place, metric, detail, value] for (metric, detail), value in found.items()]
            fresh.append(pd.DataFrame(rows, columns=COLUMNS).astype({"value": float}))
            append(file, fresh[-1])
    finally:
        if fresh:
            append(run.folder / "runs.csv", session(run, groups, time.monotonic() - started))
    table = pd.concat([table, *fresh], ignore_index=True).astype(dict.fromkeys(COLUMNS[:-1], str))
    mine = table["method"].isin([*run.methods, *PERFECT]) & (table["run"] == run.name) & table["group"].isin(groups)
    return table[mine]


# What the command line asks for


def chosen(names: Sequence[str] | None, known: Collection[str], what: str) -> list[str]:
    """The names asked for, all by default; ValueError for one that is not known."""
    unknown = sorted(set(names or ()) - set(known))
    if unknown:
        raise ValueError(f"there is no {what} {unknown[0]!r}; there are {', '.join(known)}")
    return [name for name in known if names is None or name in names]


def usable(methods: dict[str, MapFunction], model: nn.Module, image: Tensor) -> dict[str, MapFunction]:
    """The methods that this network lets work, the controls last; of each other one its own sentence is printed."""
    good, small = {}, image[..., ::2, ::2]                             # a quarter of the work is enough to be refused
    for name in sorted(methods, key=CONTROLS.__contains__):
        try:
            methods[name](model, small, None)
            good[name] = methods[name]
        except ValueError as refusal:
            print(f"{name} is left out: {refusal}")
    return good


def prepare(lesson: Lesson, groups: Sequence[str]) -> Run:
    """The run of a lesson: its photographs, and the scenes and mosaics that its groups need.

    Raises:
        ValueError: an unknown method, or --human is no folder.
    """
    args = lesson.args
    names = chosen(args.methods, METHODS, "method")
    if args.human is not None and not args.human.is_dir():
        raise ValueError(f"--human {args.human} is not a folder; it should hold <stem of the photo>.png or .npy")
    files = lesson.files if args.image or not args.quick else lesson.files[:2]
    photos = photographs(lesson.model, files, lesson.target, args.device, args.human)
    number = counts(args.quick, groups)
    scenes = planted(lesson.model, number["scene"], 1, args.seed, args.device)
    pairs = planted(lesson.model, number["pair"], 2, args.seed, args.device)
    fours = mosaics(lesson.model, photos, number["mosaic"], args.seed)
    methods = usable({name: METHODS[name] for name in names}, lesson.model, photos[0].image)
    step = args.step or (7168 if args.quick else 3584)
    return Run(lesson.model, methods, [*photos, *scenes, *pairs, *fours], args.output_dir, args.seed, args.quick,
               step, lesson.model_name)  # fmt: skip
