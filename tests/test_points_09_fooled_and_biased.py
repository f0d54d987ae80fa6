"""Exercises of advanced/fooled_and_biased.py, with their points."""

import pytest
import torch
from conftest import assert_tensor

LABELS = torch.tensor([1, 0, 0, 1, 1, 0, 0, 1, 1, 1, 0, 0])           # six of each


@pytest.mark.points(1, exercise="9.5")
def test_biased_and_clean_training_sets(lesson):
    assert_tensor(lesson.carries_tag("biased", LABELS), LABELS == 0)
    assert_tensor(lesson.carries_tag("clean", LABELS), torch.zeros(12, dtype=torch.bool))


@pytest.mark.points(1, exercise="9.5")
def test_mixed_training_set_has_the_tag_on_half_of_each_class(lesson):
    """In any order of the labels."""
    for labels in (LABELS, LABELS.sort().values, LABELS.sort(descending=True).values, torch.arange(12) % 2):
        tagged = lesson.carries_tag("mixed", labels)
        assert_tensor(tagged, tagged.to(torch.bool).reshape(12))
        assert tagged[labels == 0].sum() == 3, "three of six of class 0"
        assert tagged[labels == 1].sum() == 3, "three of six of class 1"


@pytest.mark.points(1, exercise="9.5")
def test_classes_of_other_sizes(lesson):
    """Odd numbers, one class alone: as near to half as it gets. The labels stay as they are."""
    for labels in (torch.tensor([0, 0, 0, 1, 1, 1, 1]), torch.tensor([1, 1, 1, 1, 1]), torch.tensor([0, 1])):
        before = labels.clone()
        tagged = lesson.carries_tag("mixed", labels)
        assert torch.equal(labels, before)
        for label in (0, 1):
            half = (labels == label).sum().item() / 2
            assert abs(tagged[labels == label].sum().item() - half) <= 0.5
        assert tagged.any() or len(labels) == 2


X = torch.tensor([0.5, -1.0, 0.0, 2.0, 0.0, 0.0]).reshape(1, 3, 1, 2)
GRADIENT = torch.tensor([3.0, -0.001, 0.0, 5.0, -9.0, 1e-9]).reshape(1, 3, 1, 2)
STEP = torch.tensor([0.1, 0.2, 0.4])[:, None, None]


@pytest.mark.points(1, exercise="9.6")
def test_step_goes_by_the_sign_and_by_the_channel(lesson):
    """No bounds in sight: each value moves by its channel's step, however small the gradient; where it is 0, not."""
    far = torch.full_like(X, 100.0)
    expected = X + torch.tensor([0.1, -0.1, 0.0, 0.2, -0.4, 0.4]).reshape(1, 3, 1, 2)
    assert_tensor(lesson.attack_step(X, GRADIENT, -far, far, STEP), expected)


@pytest.mark.points(1, exercise="9.6")
def test_step_stays_in_the_allowed_range(lesson):
    """Each value has bounds of its own."""
    low, high = X - 0.05, X + torch.tensor([0.02, 0.02, 0.02, 0.3, 0.3, 0.3]).reshape(1, 3, 1, 2)
    expected = X + torch.tensor([0.02, -0.05, 0.0, 0.2, -0.05, 0.3]).reshape(1, 3, 1, 2)
    assert_tensor(lesson.attack_step(X, GRADIENT, low, high, STEP), expected)


@pytest.mark.points(1, exercise="9.6")
def test_many_steps_never_leave_it_and_nothing_is_changed_in_place(lesson):
    low, high, x, before = X - 0.5, X + 0.5, X, X.clone()
    for _ in range(9):
        x = lesson.attack_step(x, GRADIENT, low, high, STEP)
    expected = X + torch.tensor([0.5, -0.5, 0.0, 0.5, -0.5, 0.5]).reshape(1, 3, 1, 2)
    assert_tensor(x, expected)
    assert_tensor(X, before)
