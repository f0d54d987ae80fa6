"""course/figures.py: the one mechanism for panels of photographs and maps, overlays, forest plots."""

import numpy as np
import pytest
import torch

from course.figures import block_sums, color_scale, forest_plot, map_grid, overlay
from utils import displayable

MAPS = {"first": torch.arange(8.0).reshape(2, 2, 2), "second": torch.arange(8.0).reshape(2, 2, 2) * 10 - 5}


def panels(figure):
    """The axes of photographs and maps, in rows; colour bars left out."""
    return [axis for axis in figure.axes if axis.get_label() != "<colorbar>"]


def limits(axis):
    """Colour limits of the map in a panel."""
    return axis.images[-1].get_clim()


def test_a_row_an_image_a_column_a_name(photos):
    figure = map_grid(photos, MAPS, titles=["dog", "bird"], notes={"second": ["r = 1", "r = 2"]}, heading="Maps")
    axes = panels(figure)
    assert [axis.get_title() for axis in axes] == [
        "dog", "first", "second\nr = 1", "bird", "first", "second\nr = 2",
    ]
    for i in range(2):
        np.testing.assert_allclose(axes[3 * i].images[0].get_array(), displayable(photos)[i], atol=1e-6)
        for j, name in enumerate(MAPS):
            np.testing.assert_array_equal(axes[3 * i + 1 + j].images[-1].get_array(), MAPS[name][i])
    assert figure.get_suptitle() == "Maps (each map on its own scale)"


def test_a_long_heading_stays_inside_a_narrow_figure(photos):
    figure = map_grid(photos, {"first": MAPS["first"]}, heading="A heading of many words over two columns" * 2)
    figure.canvas.draw()
    box = figure._suptitle.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1


def test_every_map_has_a_colour_bar(photos):
    for layer in (False, True):
        figure = map_grid(photos, MAPS, overlay=layer)
        assert len(figure.axes) - len(panels(figure)) == 4


@pytest.mark.parametrize(
    ("scale", "same"),
    [("own", []), ("row", [(1, 2), (4, 5)]), ("all", [(1, 2), (2, 4), (4, 5)])],
)
def test_scales(scale, same, photos):
    axes = panels(map_grid(photos, MAPS, scale=scale))
    for i in (1, 2, 4, 5):
        for j in (1, 2, 4, 5):
            expected = i == j or scale == "all" or (scale == "row" and (i < 3) == (j < 3))
            assert (limits(axes[i]) == limits(axes[j])) == expected, (i, j)
    for i, j in same:
        assert limits(axes[i]) == limits(axes[j])


def test_one_scale_covers_the_largest_map(photos):
    axes = panels(map_grid(photos, {"small": torch.ones(2, 4, 4), "large": torch.full((2, 4, 4), 9.0)}, scale="all"))
    assert limits(axes[1]) == (0, 9)


def test_overlays_lie_on_the_grey_photo(photos):
    axes = panels(map_grid(photos, MAPS, overlay=["second"]))
    assert [len(axis.images) for axis in axes[:3]] == [1, 1, 2]
    grey, drawn = axes[2].images
    np.testing.assert_allclose(grey.get_array(), displayable(photos)[0].mean(axis=2), atol=1e-6)
    assert list(grey.get_extent()) == list(drawn.get_extent())
    assert all(len(axis.images) == 2 for axis in panels(map_grid(photos, MAPS, overlay=True))[1:3])


def test_refusals(photos):
    with pytest.raises(ValueError, match="scale"):
        map_grid(photos, MAPS, scale="column")
    for wrong in (torch.ones(2, 2), torch.ones(3, 2, 2), torch.ones(2, 1, 2, 2)):
        with pytest.raises(ValueError, match="'first'"):
            map_grid(photos, {"first": wrong})


def test_the_overlay_array_mixes_colour_and_grey(photos):
    map = torch.zeros(224, 224)
    map[:, 112:] = 1.0
    mixed = overlay(photos[0], map)
    grey = displayable(photos)[0].mean(axis=2, keepdims=True)
    assert mixed.shape == (224, 224, 3)
    np.testing.assert_allclose(mixed[:, :112], np.broadcast_to(grey, mixed.shape)[:, :112], atol=1e-6)
    hottest = np.array([0.988, 0.998, 0.645])                          # the last colour of inferno
    np.testing.assert_allclose(mixed[:, 112:], 0.15 * grey[:, 112:] + 0.85 * hottest, atol=2e-3)


def test_block_sums():
    maps = torch.arange(32.0).reshape(2, 4, 4)
    expected = [[[maps[b, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].sum() for j in (0, 1)] for i in (0, 1)] for b in (0, 1)]
    torch.testing.assert_close(block_sums(maps, 2), torch.tensor(expected))


def test_a_forest_plot_marks_what_lies_on_one_side():
    rows = [("clear", 0.3, 0.1, 0.5, 20), ("open", 0.1, -0.1, 0.3, 12), ("below", -0.2, -0.3, -0.1, 11)]
    axis, same = forest_plot({"mixed": rows, "same": rows[:1] * 2}, xlabel="difference", heading="Differences").axes
    assert (axis.get_title(), same.get_title()) == ("mixed", "same (n = 20)")
    assert [text.get_text() for text in same.get_yticklabels()] == ["clear", "clear"]
    labels = [text.get_text() for text in axis.get_yticklabels()]
    assert labels == ["clear  (n = 20)", "open  (n = 12)", "below  (n = 11)"]
    intervals = axis.lines[:-1:2]
    assert [[*line.get_xdata()] for line in intervals] == [[0.1, 0.5], [-0.1, 0.3], [-0.3, -0.1]]
    assert [line.get_color() for line in intervals] == ["black", "0.6", "black"]
    assert axis.yaxis_inverted()


def test_a_scale_of_zeros_is_no_division_by_zero():
    assert color_scale(torch.zeros(3))["vmax"] == 1.0
