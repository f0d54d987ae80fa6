"""Exercise of evaluation/planted_scenes.py, with its points."""

import numpy as np
import pytest
import torch


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
    assert answer(lesson.pointing_game(spot(12, 25), block(10, 15, 20, 30))) is True
    assert answer(lesson.pointing_game(spot(35, 65), block(0, 5, 0, 5))) is False
    assert answer(lesson.pointing_game(spot(5, 60), block(0, 10, 55, 65), tolerance=0)) is True
    assert answer(lesson.pointing_game(spot(35, 5), block(0, 10, 0, 40), tolerance=0)) is False


@pytest.mark.points(1, exercise="8.3")
def test_tolerance_is_included_and_is_a_distance(lesson):
    region = block(10, 11, 10, 11)
    assert [answer(lesson.pointing_game(spot(10, 10 + d), region)) for d in (14, 15, 16)] == [True, True, False]
    assert answer(lesson.pointing_game(spot(22, 19), region)) is True                      # 12, 9: 15 pixels away
    assert answer(lesson.pointing_game(spot(23, 19), region)) is False                     # 13, 9: 15.8
    assert answer(lesson.pointing_game(spot(13, 14), region, tolerance=5)) is True
    assert answer(lesson.pointing_game(spot(13, 15), region, tolerance=5)) is False


@pytest.mark.points(1, exercise="8.3")
def test_the_first_maximum_counts(lesson):
    map = spot(2, 60)
    map[30, 5] = 2.0
    assert answer(lesson.pointing_game(map, block(0, 5, 58, 62), tolerance=3)) is True
    assert answer(lesson.pointing_game(map, block(28, 32, 3, 7), tolerance=3)) is False
    map = spot(30, 5)
    map[30, 60] = 2.0
    assert answer(lesson.pointing_game(map, block(29, 31, 58, 62), tolerance=3)) is False


@pytest.mark.points(1, exercise="8.3")
def test_distance_to_the_nearest_of_all_regions(lesson):
    regions = torch.stack([block(0, 3, 0, 3), block(30, 33, 60, 63)])
    assert answer(lesson.pointing_game(spot(31, 50), regions)) is True
    assert answer(lesson.pointing_game(spot(16, 31), regions)) is False            # in the middle between the two
    long = block(20, 21, 0, 70)
    assert answer(lesson.pointing_game(spot(22, 68), long, tolerance=2)) is True     # far from its centre
