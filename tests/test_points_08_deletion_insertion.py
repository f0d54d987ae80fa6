"""Exercises of the part on deletion and insertion, with their points."""

import pytest
import torch
from conftest import assert_tensor


@pytest.mark.points(1, exercise="8.1")
def test_area_by_hand(lesson):
    assert lesson.area_under_curve([1.0, 0.5, 0.0]) == pytest.approx(0.5)
    assert lesson.area_under_curve(torch.tensor([0.0, 1.0, 0.0, 0.0])) == pytest.approx(1 / 3)
    assert lesson.area_under_curve([1, 0, 0, 0, 1]) == pytest.approx(0.25)


@pytest.mark.points(0.5, exercise="8.1")
def test_area_of_a_constant_is_the_constant(lesson):
    for points in (2, 3, 29):
        assert lesson.area_under_curve(torch.full((points,), 0.7)) == pytest.approx(0.7)
    assert isinstance(lesson.area_under_curve([0.2, 0.4]), float)


@pytest.mark.points(0.5, exercise="8.1")
def test_area_does_not_depend_on_direction_or_step(lesson):
    line = torch.linspace(0, 1, 11)
    assert lesson.area_under_curve(line) == pytest.approx(lesson.area_under_curve(line.flip(0)))
    assert lesson.area_under_curve(line) == pytest.approx(0.5)
    assert lesson.area_under_curve(torch.linspace(0, 1, 101) ** 2) == pytest.approx(1 / 3, abs=1e-4)


@pytest.mark.points(1, exercise="8.6")
def test_ranks_of_four_pixels(lesson):
    """Not the numbers of the pixels in order: the place of each pixel in it."""
    assert_tensor(lesson.ranks(torch.tensor([[0.2, 0.9], [0.7, 0.1]])), torch.tensor([[2, 0], [1, 3]]))
    assert_tensor(lesson.ranks(torch.tensor([[5, 9, 7.0]])), torch.tensor([[2, 0, 1]]))
    assert_tensor(lesson.ranks(torch.tensor([[-3.0], [0.0], [-9.0], [4.0]])), torch.tensor([[2], [1], [3], [0]]))


@pytest.mark.points(1, exercise="8.6")
def test_ties_go_row_by_row(lesson):
    assert_tensor(lesson.ranks(torch.zeros(3, 4)), torch.arange(12).reshape(3, 4))
    assert_tensor(lesson.ranks(torch.tensor([[1, 2, 1], [2, 1, 2.0]])), torch.tensor([[3, 0, 4], [1, 5, 2]]))
    steps = (torch.arange(1200) // 100).float().reshape(30, 40)        # a hundred pixels of each value
    expected = 1100 - 100 * (torch.arange(1200) // 100) + torch.arange(1200) % 100
    assert_tensor(lesson.ranks(steps), expected.reshape(30, 40))


@pytest.mark.points(1, exercise="8.6")
def test_each_place_is_taken_once_in_falling_order(lesson):
    map = torch.randn(17, 23, generator=torch.Generator().manual_seed(4))
    before, found = map.clone(), lesson.ranks(map)
    assert torch.equal(map, before)
    slowly = torch.stack([(map > value).sum() for value in map.flatten()]).reshape(17, 23)
    assert_tensor(found, slowly)
