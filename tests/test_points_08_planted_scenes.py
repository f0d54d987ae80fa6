"""Exercise of evaluation/planted_scenes.py, with its points."""

import numpy as np
import pytest
import torch
from conftest import drawing, shuffled

EXERCISES = {  # title, difficulty, minutes, when
    "8.3": ("Pointing game", 2, 15, "in class"),
    "8.16": ("A map that knows nothing", 1, 2, "in class"),
    "8.17": ("A third", 2, 3, "in class"),
}


def answer(found: object) -> bool:
    """Yes or no; NumPy's own kind will do."""
    assert isinstance(found, bool | np.bool_), f"True or False belongs here, got {type(found).__name__}"
    return bool(found)


def spot(y: int, x: int, size: tuple[int, int] = (40, 70)) -> torch.Tensor:
    """A map with its maximum at (y, x), which is negative elsewhere."""
    map = torch.full(size, -1.0)
    map[y, x] = 2.0
    map[0, 0] = -9.0
    return map


def block(top: int, bottom: int, left: int, right: int, size: tuple[int, int] = (40, 70)) -> torch.Tensor:
    """A region."""
    mask = torch.zeros(size, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


@pytest.mark.points(1, exercise="8.3")
def test_hit_and_miss(lesson):
    """Where is the map's maximum, and how far from the region is it? A pixel inside is at distance 0."""
    assert answer(lesson.pointing_game(spot(12, 25), block(10, 15, 20, 30))) is True
    assert answer(lesson.pointing_game(spot(35, 65), block(0, 5, 0, 5))) is False
    assert answer(lesson.pointing_game(spot(5, 60), block(0, 10, 55, 65), tolerance=0)) is True
    assert answer(lesson.pointing_game(spot(35, 5), block(0, 10, 0, 40), tolerance=0)) is False
    for y, x, top, left in torch.randint(1, 35, (12, 4), generator=drawing(0)).tolist():
        away = max(top - y, 0, y - top - 4) ** 2 + max(left - x, 0, x - left - 4) ** 2
        found = answer(lesson.pointing_game(spot(y, x), block(top, top + 5, left, left + 5), tolerance=9))
        assert found is (away <= 81)


@pytest.mark.points(1, exercise="8.3")
def test_tolerance_is_included_and_is_a_distance(lesson):
    """A distance as a ruler measures it, not along rows and columns. Exactly the tolerance is still a hit."""
    cases = [(10, 24, 15, True), (10, 25, 15, True), (10, 26, 15, False), (22, 19, 15, True), (23, 19, 15, False),
             (13, 14, 5, True), (13, 15, 5, False), (22, 10, 12, True), (23, 10, 12, False)]  # fmt: skip
    for y, x, tolerance, hit in shuffled(cases, 1):
        assert answer(lesson.pointing_game(spot(y, x), block(10, 11, 10, 11), tolerance=tolerance)) is hit
    assert answer(lesson.pointing_game(spot(10, 25), block(10, 11, 10, 11))) is True            # unless told, 15


@pytest.mark.points(1, exercise="8.3")
def test_the_first_maximum_counts(lesson):
    """Of two equal maxima the one further up counts, in a row the one further left."""
    at = {"above": (2, 60), "left": (30, 5), "right": (30, 60)}
    cases = [(first, second, where) for first, second in (("above", "left"), ("above", "right"), ("left", "right"))
             for where in (first, second)]  # fmt: skip
    for first, second, where in shuffled(cases, 2):
        map, (y, x) = spot(*at[first]), at[where]
        map[at[second]] = 2.0
        found = answer(lesson.pointing_game(map, block(y - 2, y + 3, x - 2, x + 3), tolerance=3))
        assert found is (where == first)


@pytest.mark.points(1, exercise="8.3")
def test_distance_to_the_nearest_of_all_regions(lesson):
    """The distance is that to the nearest pixel of any region, not to a centre."""
    regions, long = torch.stack([block(0, 3, 0, 3), block(30, 33, 60, 63)]), block(20, 21, 0, 70)
    cases = [(31, 50, regions, 15, True), (16, 31, regions, 15, False),      # in the middle between the two
             (5, 12, regions, 15, True), (5, 40, regions, 15, False),
             (22, 68, long, 2, True), (22, 35, long, 2, True), (24, 35, long, 2, False)]  # fmt: skip
    for y, x, region, tolerance, hit in shuffled(cases, 3):                # the long one: far from its centre
        assert answer(lesson.pointing_game(spot(y, x), region, tolerance=tolerance)) is hit


# BEGIN KEPT BACK
QUESTIONS = {
    "8.16": {
        0.08: "The share of the map is the share of the area. Print this beside every energy.",
        8: "As a share, not in per cent.",
        0.5: "Is half of a uniform map on the animal?",
        "else": "Each pixel has the same share. How many of them are the animal's?",
    },
    "8.17": {
        "a": "Could any map of 7 x 7 cells have put everything on the animal?",
        "b": "0.33 / 0.54 is 0.61. A value needs its ceiling and its control.",
        "c": "Energy is a share of each map, not a share of the scenes.",
        "d": "The lead is 0.07. And what would a lead say about the network?",
    },
}


def true_8_16(lesson) -> float:
    mask = torch.zeros(10, 10, dtype=torch.bool)
    mask[:2, :4] = True
    return float(lesson.energy_pointing_game(torch.ones(10, 10), mask))


HIT = "return bool(((ys - y) ** 2 + (xs - x) ** 2).min() <= tolerance**2)"

WRONG = [
    ("8.3", "nothing computed: always a hit", "", "return True"),
    ("8.3", "nothing computed: never a hit", "", "return False"),
    ("8.3", "nothing computed: no answer", "", "return None"),
    ("8.3", "tolerance excluded", "<= tolerance**2", "< tolerance**2"),
    ("8.3", "distance in one direction at a time", HIT,
     "return bool(torch.maximum((ys - y).abs(), (xs - x).abs()).min() <= tolerance)"),
    ("8.3", "city block distance", HIT, "return bool(((ys - y).abs() + (xs - x).abs()).min() <= tolerance)"),
    ("8.3", "x and y swapped", "y, x = (map", "x, y = (map"),
    ("8.3", "last maximum", ".nonzero()[0]", ".nonzero()[-1]"),
    ("8.3", "distance to the centre of the region", HIT,
     "return bool((ys.double().mean() - y) ** 2 + (xs.double().mean() - x) ** 2 <= tolerance**2)"),
    ("8.3", "tolerance not squared", "tolerance**2", "tolerance"),
    ("8.3", "largest absolute value", "map == map.max()", "map.abs() == map.abs().max()"),
    ("8.3", "any maximum may hit", "", "hits = [((mask.nonzero() - place) ** 2).sum(1).min() <= tolerance**2\n"
     "        for place in (map == map.max()).nonzero()]\nreturn any(bool(hit) for hit in hits)"),
    ("8.3", "no tolerance", HIT, "return bool(mask[y, x])"),
    ("8.3", "mask inverted", "mask.nonzero", "(~mask).nonzero"),
    ("8.3", "a tensor", "bool(", "("),
    ("8.3", "bounding box", HIT, "return bool(ys.min() - tolerance <= y <= ys.max() + tolerance "
     "and xs.min() - tolerance <= x <= xs.max() + tolerance)"),
]  # fmt: skip

RIGHT = [
    ("8.3", "divmod of argmax", "y, x = (map == map.max()).nonzero()[0]",
     "y, x = divmod(int((map == map.max()).flatten().float().argmax()), map.shape[1])"),
    ("8.3", "distances as floats", HIT,
     "return bool(torch.hypot((ys - y).double(), (xs - x).double()).min() <= tolerance)"),
    ("8.3", "distance transform", "", "from scipy.ndimage import distance_transform_edt\n"
     "distance = distance_transform_edt(~mask.numpy())\n"
     "return distance[np.unravel_index(map.numpy().argmax(), map.shape)] <= tolerance"),
]  # fmt: skip
# END KEPT BACK
