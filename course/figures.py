"""Figures: photographs, maps, their colours and scales, and files that are complete or not there."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from course.files import write
from course.pictures import displayable

SCALES = {"own": "each map on its own scale", "row": "one scale per row", "all": "one scale for all maps"}


def color_scale(*maps: Tensor | np.ndarray, percentile: float = 99.5) -> dict:
    """matplotlib colours for one or several maps on one scale.

    Any negative value: diverging and symmetric about 0. None: sequential from 0. The scale ends at the
    given percentile of |map|, because a few extreme pixels would leave the rest of the picture blank.
    """
    values = np.concatenate([np.ravel(torch.as_tensor(map).detach().cpu().float()) for map in maps])
    limit = float(np.percentile(np.abs(values), percentile)) or float(np.abs(values).max()) or 1.0
    signed = values.min() < 0
    return {"cmap": "RdBu_r" if signed else "inferno", "vmin": -limit if signed else 0.0, "vmax": limit}


def opacity(values: np.ndarray, scale: dict) -> np.ndarray:
    """How opaque a map is over its photo, in [0, 0.85]: stronger values more, with a root so that weak ones show."""
    return 0.85 * np.sqrt(np.clip(np.abs(values) / scale["vmax"], 0, 1))


def overlay(image: Tensor, map: Tensor) -> np.ndarray:
    """A (H, W) map in colour over the grey photo of (3, H, W), as (H, W, 3) RGB in [0, 1]; on the map's own scale."""
    scale, values = color_scale(map), map.detach().cpu().float().numpy()
    position = (values - scale["vmin"]) / (scale["vmax"] - scale["vmin"])
    colors = matplotlib.colormaps[scale["cmap"]](position.clip(0, 1))[..., :3]
    gray = displayable(image[None])[0].mean(axis=2, keepdims=True)
    alpha = opacity(values, scale)[..., None]
    return (1 - alpha) * gray + alpha * colors


def block_sums(maps: Tensor, size: int = 8) -> Tensor:
    """Sums over size x size blocks, (B, H, W) -> (B, H / size, W / size): signed fuzz becomes readable."""
    return F.avg_pool2d(maps[:, None], size)[:, 0] * size**2


def show_photo(axis: Axes, photo: np.ndarray, title: str = "") -> None:
    """Draw an RGB array without ticks."""
    axis.imshow(photo)
    axis.set_title(title, fontsize=10)
    axis.set_axis_off()


def show_map(
    axis: Axes, map: Tensor, scale: dict | None = None, title: str = "", photo: np.ndarray | None = None
) -> None:
    """Draw a (H, W) map with its colour bar; if a `photo` is given, over its grey version."""
    values = map.detach().cpu().float().numpy()
    scale = scale or color_scale(values)
    extent = None if photo is None else (0, photo.shape[1], photo.shape[0], 0)
    if photo is not None:
        axis.imshow(photo.mean(axis=2), cmap="gray", vmin=0, vmax=1, extent=extent)
    alpha = None if photo is None else opacity(values, scale)
    drawn = axis.imshow(values, **scale, alpha=alpha, extent=extent, interpolation="nearest")
    bar = axis.figure.colorbar(drawn, ax=axis, fraction=0.046, pad=0.03)
    bar.ax.tick_params(labelsize=7)
    bar.formatter.set_powerlimits((-2, 3))
    axis.set_title(title, fontsize=10)
    axis.set_axis_off()


def map_grid(
    images: Tensor,
    maps: dict[str, Tensor],
    *,
    scale: str = "own",
    overlay: bool | Collection[str] = False,
    titles: Sequence[str] | None = None,
    notes: dict[str, Sequence[str]] | None = None,
    heading: str = "",
    size: float = 3.1,
) -> Figure:
    """Photographs and their maps side by side: a row an image, a column a name.

    Args:
        images: (B, 3, H, W), normalised. For several classes or methods of one picture, `expand` it.
        maps: name -> (B, h, w), finite; of the images' size or coarser.
        scale: of the colours: "own" (each map's own), "row" or "all" (one for the maps of a row, of the figure).
        overlay: draw the maps over the grey photograph: True for all, or the names of some columns.
        titles: B texts, above the photographs.
        notes: name -> B texts, a second line above that column's maps: a number, for instance.
        heading: of the figure; the scale is added in words.
        size: of a panel, in inches.

    Returns:
        The Figure, with a colour bar beside every map.

    Raises:
        ValueError: another scale, or maps that are not one (h, w) per image.
    """
    if scale not in SCALES:
        raise ValueError(f"scale must be {', '.join(SCALES)}, got {scale!r}")
    for name, column in maps.items():
        if column.ndim != 3 or len(column) != len(images):
            raise ValueError(f"maps {name!r} must be ({len(images)}, h, w), one per image, got {tuple(column.shape)}")
    overlaid = (maps if overlay else ()) if isinstance(overlay, bool) else overlay
    shape, width = (len(images), len(maps) + 1), size * (1.15 * len(maps) + 1)
    figure, axes = plt.subplots(*shape, figsize=(width, size * len(images) + 0.4), squeeze=False, layout="constrained")
    for i, (row, photo) in enumerate(zip(axes, displayable(images), strict=True)):
        show_photo(row[0], photo, titles[i] if titles else "")
        shared = {"own": [], "row": [column[i] for column in maps.values()], "all": [*maps.values()]}[scale]
        for axis, (name, column) in zip(row[1:], maps.items(), strict=True):
            title = f"{name}\n{notes[name][i]}" if notes and name in notes else name
            colors = color_scale(*shared) if shared else color_scale(column[i])
            show_map(axis, column[i], colors, title, photo if name in overlaid else None)
    figure.suptitle(f"{heading} ({SCALES[scale]})" if heading else SCALES[scale], fontsize=11, wrap=True)
    return figure


ForestRow = tuple[str, float, float, float, int]


def forest_plot(panels: dict[str, Sequence[ForestRow]], *, xlabel: str, heading: str = "", columns: int = 3) -> Figure:
    """Estimates with their intervals, a row each, about a line at 0: what lies on one side of it is a difference.

    Black: the interval does. Grey: it does not, or low and high are NaN, and there is none.

    Args:
        panels: title -> rows (label, estimate, low, high, n), drawn from the top down.
        xlabel: what the estimates are.
        heading: of the figure.
        columns: panels beside one another.
    """
    tallest, across = max(map(len, panels.values())), min(columns, len(panels))
    lines = -(-len(panels) // across)                                  # rounded up
    figure, axes = plt.subplots(lines, across, figsize=(2 + 3.2 * across, lines * (0.27 * tallest + 1.1)),
                                squeeze=False, layout="constrained")  # fmt: skip
    for axis, (title, rows) in zip(axes.flat, panels.items(), strict=False):
        for y, (_, estimate, low, high, _) in enumerate(rows):
            clear = low > 0 or high < 0
            axis.plot([low, high], [y, y], color="black" if clear else "0.6", lw=1.5)
            axis.plot(estimate, y, "s", color="black" if clear else "0.6", markersize=4)
        axis.axvline(0, color="tab:red", lw=1)
        numbers = {n for *_, n in rows}
        labels = [label if len(numbers) == 1 else f"{label}  (n = {n})" for label, *_, n in rows]
        axis.set_yticks(range(len(rows)), labels, fontsize=8)
        axis.set_ylim(len(rows) - 0.4, -0.6)                           # from the top down, without margins
        axis.set_title(f"{title} (n = {numbers.pop()})" if len(numbers) == 1 else title, fontsize=9)
        axis.tick_params(axis="x", labelsize=8)
    for axis in axes.flat[len(panels):]:
        axis.set_axis_off()
    figure.supxlabel(xlabel, fontsize=9)
    figure.suptitle(heading, fontsize=10)
    return figure


def describe(figure: Figure) -> str:
    """What is written in a figure, as a text for those who cannot see it: heading, panels, axes and legends."""
    parts = [figure.get_suptitle()]
    for axis in figure.axes:
        titles = [axis.get_title(loc) for loc in ("left", "center", "right")]
        legend = axis.get_legend()
        lines = [text.get_text() for text in legend.get_texts()] if legend else []
        named = {"across": axis.get_xlabel(), "up": axis.get_ylabel()}
        axes = [f"{label} ({way})" for way, label in named.items() if label]
        parts.append(", ".join(filter(None, [*titles, *axes, *lines])))
    parts = list(dict.fromkeys(" ".join(part.split()) for part in parts if part))  # each once, in order
    return ". ".join(parts) or "A figure without words"


def save_figure(figure: Figure, path: str | os.PathLike, *, keep_open: bool = False) -> Figure:
    """Save under a temporary name, rename, and close the figure unless it is to stay open."""
    path = Path(path)
    try:
        write(path, lambda stream: figure.savefig(stream, dpi=110, format=path.suffix[1:] or "png"))
    finally:
        if not keep_open:
            plt.close(figure)
    return figure
