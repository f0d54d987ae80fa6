"""Figures of the study: maps, curves with bands, differences from the controls."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from course.figures import forest_plot, map_grid
from evaluation.methods import CONTROLS, matched_controls
from evaluation.planted_scenes import energy_pointing_game, union
from evaluation.study import Picture, Run, reachable
from evaluation.verdicts import METRICS
from utils import class_names


def two_lines(method: str) -> str:
    """A method's name, broken after the first word."""
    return method.replace("_", "\n", 1).replace("_", " ")


def known(run: Run) -> list[str]:
    """The run's methods, its controls aside; the controls if there is nothing else."""
    return [method for method in run.methods if method not in CONTROLS] or list(run.methods)


def figure_gallery(run: Run, pictures: Sequence[Picture]) -> Figure:
    """Every method on some pictures."""
    images = torch.cat([picture.image for picture in pictures])
    maps = {two_lines(method): torch.stack([run.map(picture, method) for picture in pictures]) for method in known(run)}
    titles = [class_names()[picture.target][:22] for picture in pictures]
    return map_grid(images, maps, titles=titles, size=1.9, heading="Every method")


def figure_scenes(run: Run, scenes: Sequence[Picture]) -> Figure:
    """Planted scenes: the mask, and each map with its energy; in brackets as a share of what its grain can reach."""
    masks = torch.stack([union(scene.masks) for scene in scenes])
    columns, notes = {"the animal": masks.float()}, {}
    for method in [*known(run), *(method for method in ("edges", "edges_coarse") if method in run.methods)]:
        maps = torch.stack([run.map(scene, method) for scene in scenes])
        energies = [energy_pointing_game(*pair) for pair in zip(maps, masks, strict=True)]
        most = [reachable(run, scene, method) for scene in scenes]
        columns[two_lines(method)] = maps
        notes[two_lines(method)] = ["empty" if np.isnan(energy) else f"{energy:.2f} ({energy / best:.2f})"
                                    for energy, best in zip(energies, most, strict=True)]  # fmt: skip
    images, titles = torch.cat([scene.image for scene in scenes]), [scene.name.split(" ", 1)[1] for scene in scenes]
    heading = "Share on the animal (of what is reachable)"
    return map_grid(images, columns, notes=notes, size=1.8, titles=titles, heading=heading)


def band(axis: Axes, curves: np.ndarray, color: str, style: str) -> None:
    """The mean of (N, steps) curves, and two standard errors about it."""
    x, mean = np.linspace(0, 1, curves.shape[1]), curves.mean(axis=0)
    axis.plot(x, mean, style, color=color)
    if len(curves) > 1:
        half = 2 * curves.std(axis=0, ddof=1) / np.sqrt(len(curves))
        axis.fill_between(x, mean - half, mean + half, color=color, alpha=0.2, lw=0)


def figure_curves(run: Run, table: pd.DataFrame) -> Figure:
    """Deletion and insertion: each method's mean curve beside that of noise as fine as its map, with bands."""
    methods, shown = known(run), table[table["group"] == "curves"]
    figure, axes = plt.subplots(2, len(methods), figsize=(1.9 * len(methods) + 0.8, 4.6), sharex=True, sharey=True,
                                squeeze=False, layout="constrained")  # fmt: skip
    for line, (name, ground) in zip(axes, (("deletion", "mean"), ("insertion", "blur")), strict=True):
        for axis, method in zip(line, methods, strict=True):
            for which, color, style in ((matched_controls(method)[0], "black", "--"), (method, "tab:blue", "-")):
                pictures = shown[(shown["method"] == which) & (shown["metric"] == f"{name}_{ground}")]["picture"]
                if len(pictures):
                    some = [run.found(f"{picture}-{which}-{name}-{ground}") for picture in pictures]
                    band(axis, np.stack(some), color, style)
            axis.set_ylim(0, 1)
        line[0].set_ylabel(f"{name}: p of the class")
    for axis, method in zip(axes[0], methods, strict=True):
        axis.set_title(two_lines(method), fontsize=9)
    figure.supxlabel("share of the pixels, highest values of the map first", fontsize=9)
    count = shown["picture"].nunique()
    mean = f"Mean of {count} photographs and two standard errors" if count > 1 else "One photograph"
    heading = f"{mean}; dashed: noise as fine as the map"
    figure.suptitle(heading, fontsize=10)
    return figure


def figure_forest(judged: pd.DataFrame, metrics: Sequence[str]) -> Figure:
    """Paired differences from the controls: a panel for each metric, a row for each method; positive is better."""
    panels = {}
    for metric in metrics:
        rows = judged[(judged["metric"] == metric) & (judged["n"] > 1)].copy()
        if len(rows):
            title = f"{METRICS[metric].title}".replace("\n", " ") + f"\nagainst {METRICS[metric].control}"
            rows.loc[rows["verdict"] == "too few pictures", ["low", "high"]] = float("nan")
            panels[title] = [(row.method.replace("_", " "), row.mean, row.low, row.high, row.n)
                             for row in rows.itertuples()]  # fmt: skip
    heading = "Paired differences; 95 % intervals where there are ten pictures or more"
    return forest_plot(panels, xlabel="better than the control by", heading=heading)
