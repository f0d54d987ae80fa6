"""Exercises of the part on deletion and insertion, with their points."""

import pytest
import torch
from conftest import assert_tensor, drawing, factor, kept

EXERCISES = {  # title, difficulty, minutes, when
    "8.1": ("Area", 1, 10, "in class"),
    "8.6": ("Ranks", 2, 15, "assign"),
    "8.12": ("Down in one step", 1, 3, "in class"),
    "8.13": ("A rank", 1, 2, "in class"),
}


@pytest.mark.points(1, exercise="8.1")
def test_area_by_hand(lesson):
    """Straight lines between the points, over a width of 1. The two ends belong to one piece only."""
    assert lesson.area_under_curve([1.0, 0.5, 0.0]) == pytest.approx(0.5)
    assert lesson.area_under_curve(torch.tensor([0.0, 1.0, 0.0, 0.0])) == pytest.approx(1 / 3)
    assert lesson.area_under_curve([1, 0, 0, 0, 1]) == pytest.approx(0.25)
    curve = torch.rand(9, generator=drawing(0))
    assert lesson.area_under_curve(curve) == pytest.approx(((curve[1:] + curve[:-1]) / 2).mean().item())


@pytest.mark.points(0.5, exercise="8.1")
def test_area_of_a_constant_is_the_constant(lesson):
    """However many points: a height times a width of 1. The answer is a Python float."""
    for points in (2, 3, 29):
        assert lesson.area_under_curve(torch.full((points,), factor(points))) == pytest.approx(factor(points))
    assert isinstance(lesson.area_under_curve([0.2, 0.4]), float)


@pytest.mark.points(0.5, exercise="8.1")
def test_area_does_not_depend_on_direction_or_step(lesson):
    """Read backwards, the area is the same. More points make it more exact, not larger."""
    line = factor(0) * torch.linspace(0, 1, 11)
    assert lesson.area_under_curve(line) == pytest.approx(lesson.area_under_curve(line.flip(0)))
    assert lesson.area_under_curve(line) == pytest.approx(factor(0) / 2)
    assert lesson.area_under_curve(torch.linspace(0, 1, 101) ** 2) == pytest.approx(1 / 3, abs=1e-4)


@pytest.mark.points(1, exercise="8.6")
def test_ranks_of_four_pixels(lesson):
    """Not the numbers of the pixels in order: the place of each pixel in it."""
    assert_tensor(lesson.ranks(torch.tensor([[0.2, 0.9], [0.7, 0.1]])), torch.tensor([[2, 0], [1, 3]]))
    assert_tensor(lesson.ranks(torch.tensor([[5, 9, 7.0]])), torch.tensor([[2, 0, 1]]))
    order = torch.randperm(30, generator=drawing(0)).reshape(5, 6)
    assert_tensor(lesson.ranks(-order.float()), order)
    assert_tensor(lesson.ranks(torch.tensor([[-3.0], [0.0], [-9.0], [4.0]])), torch.tensor([[2], [1], [3], [0]]))


@pytest.mark.points(1, exercise="8.6")
def test_ties_go_row_by_row(lesson):
    """Of equal values the one further up comes first, in a row the one further left."""
    assert_tensor(lesson.ranks(torch.zeros(3, 4)), torch.arange(12).reshape(3, 4))
    assert_tensor(lesson.ranks(torch.tensor([[1, 2, 1], [2, 1, 2.0]])), torch.tensor([[3, 0, 4], [1, 5, 2]]))
    few = torch.randint(4, (5, 6), generator=drawing(1)).float()           # ranks, pixel by pixel
    flat = few.flatten().tolist()
    slowly = [sum(other > mine or (other == mine and j < i) for j, other in enumerate(flat))
              for i, mine in enumerate(flat)]  # fmt: skip
    assert_tensor(lesson.ranks(few), torch.tensor(slowly).reshape(5, 6))
    steps = (torch.arange(1200) // 100).float().reshape(30, 40)        # a hundred pixels of each value
    expected = 1100 - 100 * (torch.arange(1200) // 100) + torch.arange(1200) % 100
    assert_tensor(lesson.ranks(steps), expected.reshape(30, 40))


@pytest.mark.points(1, exercise="8.6")
def test_each_place_is_taken_once_in_falling_order(lesson):
    """The rank of a pixel is the number of pixels that are larger. The map stays."""
    map = torch.randn(17, 23, generator=drawing(4))
    with kept(map):
        found = lesson.ranks(map)
    slowly = torch.stack([(map > value).sum() for value in map.flatten()]).reshape(17, 23)
    assert_tensor(found, slowly)


# BEGIN KEPT BACK
QUESTIONS = {
    "8.12": {
        0.125: "Four pieces of 1/4; only the first has an area, half of 1/4. The plain mean would say 0.2.",
        0.2: "This is the plain mean of the points. The ends count half, and five points make four pieces.",
        0.25: "The curve falls inside the first piece. What is the area of that triangle?",
        "else": "Five points make four pieces. Add the area of each.",
    },
    "8.13": {
        2: "9 and 8 come before it.",
        1: "Counted from below, or from the wrong end?",
        3: "Two pixels are higher, and counting starts at 0.",
        "else": "How many pixels have a higher value?",
    },
}


def true_8_12(lesson) -> float:
    return float(lesson.area_under_curve([1.0, 0.0, 0.0, 0.0, 0.0]))


def true_8_13(lesson) -> float:
    return float(lesson.ranks(torch.tensor([[4.0, 8.0], [6.0, 9.0]]))[1, 0])


TRAPEZOID = "torch.trapezoid(curve, dx=1 / (len(curve) - 1)).item()"
SORT = "map.flatten().argsort(descending=True, stable=True)"

WRONG = [
    ("8.1", "nothing computed", TRAPEZOID, "0.0"),
    ("8.1", "its argument", TRAPEZOID, "curve"),
    ("8.1", "plain mean", TRAPEZOID, "curve.mean().item()"),
    ("8.1", "left sum", TRAPEZOID, "curve[:-1].mean().item()"),
    ("8.1", "right sum", TRAPEZOID, "curve[1:].mean().item()"),
    ("8.1", "divided by the number of points", "(len(curve) - 1)", "len(curve)"),
    ("8.1", "not divided", "dx=1 / (len(curve) - 1)", "dx=1"),
    ("8.1", "sum", TRAPEZOID, "curve.sum().item()"),
    ("8.1", "a tensor", ".item()", ""),
    ("8.6", "nothing computed", "", "return torch.zeros(map.shape, dtype=torch.long)"),
    ("8.6", "its argument", "", "return map"),
    ("8.6", "row by row, whatever the map", "", "return torch.arange(map.numel()).reshape(map.shape)"),
    ("8.6", "numbers of the pixels in order", "places[order] = torch.arange(len(order), device=order.device)",
     "places = order"),
    ("8.6", "rising order", "descending=True", "descending=False"),
    ("8.6", "negative map in falling order", "map.flatten()", "(-map).flatten()"),
    ("8.6", "absolute values", "map.flatten()", "map.abs().flatten()"),
    ("8.6", "ties from the bottom right", SORT, "map.flatten().flip(0).argsort(descending=True, stable=True)\n"
     "order = len(order) - 1 - order"),
    ("8.6", "ties share a rank", "", "return torch.stack([(map > value).sum() for value in map.flatten()])"
     ".reshape(map.shape)"),
    ("8.6", "counted from 1", "torch.arange(len(order), device=order.device)",
     "torch.arange(1, len(order) + 1, device=order.device)"),
    ("8.6", "column by column", SORT, "map.T.flatten().argsort(descending=True, stable=True)"),
    ("8.6", "flat", "places.reshape(map.shape)", "places"),
    ("8.6", "each row for itself", "", "return map.argsort(dim=1, descending=True, stable=True).argsort(dim=1)"),
]  # fmt: skip

RIGHT = [
    ("8.1", "end points half", TRAPEZOID, "float((curve.sum() - (curve[0] + curve[-1]) / 2) / (len(curve) - 1))"),
    ("8.1", "mean of neighbours", TRAPEZOID, "((curve[1:] + curve[:-1]) / 2).mean().item()"),
    ("8.6", "argsort twice", "", "return map.flatten().argsort(descending=True, stable=True).argsort()"
     ".reshape(map.shape)"),
    ("8.6", "python's sort", "", "values, places = map.flatten().tolist(), [0] * map.numel()\n"
     "for rank, pixel in enumerate(sorted(range(len(values)), key=lambda i: -values[i])):\n    places[pixel] = rank\n"
     "return torch.tensor(places).reshape(map.shape)"),
]  # fmt: skip
# END KEPT BACK
