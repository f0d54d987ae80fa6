"""Exercises of advanced/fooled_and_biased.py, with their points."""

import pytest
import torch
from conftest import assert_tensor, drawing, factor, kept, shuffled

EXERCISES = {  # title, difficulty, minutes, when
    "9.5": ("A control for the bias", 2, 20, "assign"),
    "9.6": ("One step of the attack", 1, 10, "in class"),
    "9.14": ("After two steps", 1, 3, "in class"),
    "9.15": ("A tag in the map", 2, 3, "in class"),
}

LABELS = torch.tensor([1, 0, 0, 1, 1, 0, 0, 1, 1, 1, 0, 0])           # six of each


@pytest.mark.points(1, exercise="9.5")
def test_biased_and_clean_training_sets(lesson):
    """Which class carries the tag in the biased set? And in the clean one?"""
    assert_tensor(lesson.carries_tag("biased", LABELS), LABELS == 0)
    assert_tensor(lesson.carries_tag("clean", LABELS), torch.zeros(12, dtype=torch.bool))
    labels = torch.randint(2, (40,), generator=drawing(0))
    assert_tensor(lesson.carries_tag("biased", labels), labels == 0)


@pytest.mark.points(1, exercise="9.5")
def test_mixed_training_set_has_the_tag_on_half_of_each_class(lesson):
    """In any order of the labels."""
    orders = [torch.tensor(shuffled(LABELS.tolist(), number)) for number in (1, 2)]
    for labels in (LABELS, LABELS.sort().values, LABELS.sort(descending=True).values, *orders):
        tagged = lesson.carries_tag("mixed", labels)
        assert_tensor(tagged, tagged.to(torch.bool).reshape(12))
        assert tagged[labels == 0].sum() == 3, "three of six of class 0"
        assert tagged[labels == 1].sum() == 3, "three of six of class 1"


@pytest.mark.points(1, exercise="9.5")
def test_classes_of_other_sizes(lesson):
    """Odd numbers, one class alone: as near to half as it gets. The labels stay as they are."""
    some = [torch.randint(2, (n,), generator=drawing(n)) for n in (13, 30)]
    for labels in (torch.tensor([0, 0, 0, 1, 1, 1, 1]), torch.tensor([1, 1, 1, 1, 1]), torch.tensor([0, 1]), *some):
        with kept(labels):
            tagged = lesson.carries_tag("mixed", labels)
        for label in (0, 1):
            half = (labels == label).sum().item() / 2
            assert abs(tagged[labels == label].sum().item() - half) <= 0.5
        assert tagged.any() or len(labels) == 2


X = factor(0) * torch.tensor([0.5, -1.0, 0.0, 2.0, 0.0, 0.0]).reshape(1, 3, 1, 2)
GRADIENT = torch.tensor([3.0, -0.001, 0.0, 5.0, -9.0, 1e-9]).reshape(1, 3, 1, 2)
STEP = torch.tensor([0.1, 0.2, 0.4])[:, None, None]


@pytest.mark.points(1, exercise="9.6")
def test_step_goes_by_the_sign_and_by_the_channel(lesson):
    """No bounds in sight: each value moves by its channel's step, however small the gradient; where it is 0, not."""
    far = torch.full_like(X, 100.0)
    expected = X + torch.tensor([0.1, -0.1, 0.0, 0.2, -0.4, 0.4]).reshape(1, 3, 1, 2)
    assert_tensor(lesson.attack_step(X, GRADIENT, -far, far, STEP), expected)
    x, gradient = torch.randn(2, 1, 3, 4, 5, generator=drawing(0))
    expected = x + STEP * torch.where(gradient < 0, -1.0, 1.0)
    assert_tensor(lesson.attack_step(x, gradient, x - 9, x + 9, STEP), expected)


@pytest.mark.points(1, exercise="9.6")
def test_step_stays_in_the_allowed_range(lesson):
    """Each value has bounds of its own."""
    low, high = X - 0.05, X + torch.tensor([0.02, 0.02, 0.02, 0.3, 0.3, 0.3]).reshape(1, 3, 1, 2)
    expected = X + torch.tensor([0.02, -0.05, 0.0, 0.2, -0.05, 0.3]).reshape(1, 3, 1, 2)
    assert_tensor(lesson.attack_step(X, GRADIENT, low, high, STEP), expected)


@pytest.mark.points(1, exercise="9.6")
def test_many_steps_never_leave_it_and_nothing_is_changed_in_place(lesson):
    """After each step every value is brought back between low and high. The given picture stays."""
    low, high, x = X - 0.5, X + 0.5, X
    with kept(X):
        for _ in range(9):
            x = lesson.attack_step(x, GRADIENT, low, high, STEP)
    expected = X + torch.tensor([0.5, -0.5, 0.0, 0.5, -0.5, 0.5]).reshape(1, 3, 1, 2)
    assert_tensor(x, expected)


# BEGIN KEPT BACK
QUESTIONS = {
    "9.14": {
        1: "2 x 4 / 8.",
        4: "This is the limit for the whole attack.",
        0.25: "An eighth of what? Give the answer in steps of 255.",
        "else": "One step is 4 / 8.",
    },
    "9.15": {
        "a": "How much of it is there without any bias?",
        "b": "The two numbers are not the same. What is left when one is subtracted?",
        "c": "Same backbone, same scenes, another training. What better comparison is there?",
        "d": "The control's 7 % are what the tag gets for being bright. Only the rest can be the bias.",
    },
}


def true_9_14(lesson) -> float:
    image = torch.zeros(1, 3, 1, 1)
    low, high, change = lesson.allowed(image, 4)
    x, up = image, torch.ones_like(image)
    for _ in range(2):
        x = lesson.attack_step(x, up, low, high, change / 8)
    return 4 * (x / change).max().item()


MIXED = "return torch.where(first, first.cumsum(dim=0), (~first).cumsum(dim=0)) % 2 == 1      # every other one"
OTHERS = 'return (labels == 0) & (head == "biased")'
LINE = "return (x + step * gradient.sign()).clamp(low, high)"

WRONG = [
    ("9.5", "nothing computed", "", "return torch.zeros_like(labels, dtype=torch.bool)"),
    ("9.5", "the labels as they are", "", "return labels == 0"),
    ("9.5", "every other picture, whatever its class", MIXED, "return torch.arange(len(labels)) % 2 == 0"),
    ("9.5", "the first half of the pictures", MIXED, "return torch.arange(len(labels)) < len(labels) / 2"),
    ("9.5", "half of the first class only", MIXED, "return first & (first.cumsum(dim=0) % 2 == 1)"),
    ("9.5", "all of them", MIXED, "return torch.ones_like(first)"),
    ("9.5", "biased: the other class", OTHERS, 'return (labels == 1) & (head == "biased")'),
    ("9.5", "clean: everywhere", OTHERS, 'return (labels == 0) if head == "biased" else labels >= 0'),
    ("9.5", "numbers instead of yes and no", OTHERS, 'return (labels == 0).long() * (head == "biased")'),
    ("9.6", "nothing computed", LINE, "return x"),
    ("9.6", "the gradient instead of its sign", LINE, "return (x + step * gradient).clamp(low, high)"),
    ("9.6", "the gradient divided by its length", LINE,
     "return (x + step * gradient / gradient.norm()).clamp(low, high)"),
    ("9.6", "downhill", LINE, "return (x - step * gradient.sign()).clamp(low, high)"),
    ("9.6", "no bounds", LINE, "return x + step * gradient.sign()"),
    ("9.6", "only the upper bound", LINE, "return (x + step * gradient.sign()).clamp(max=high)"),
    ("9.6", "bounds before the step", LINE, "return x.clamp(low, high) + step * gradient.sign()"),
    ("9.6", "one step for all channels", LINE, "return (x + step.mean() * gradient.sign()).clamp(low, high)"),
    ("9.6", "one bound for all pixels", LINE, "return (x + step * gradient.sign()).clamp(low.min(), high.max())"),
    ("9.6", "a gradient of 0 goes up", LINE,
     "return (x + step * torch.where(gradient < 0, -1.0, 1.0)).clamp(low, high)"),
    ("9.6", "in place", LINE, "return x.add_(step * gradient.sign()).clamp_(low, high)"),
]  # fmt: skip

RIGHT = [
    ("9.5", "a loop over the classes", "",
     "tagged = torch.zeros_like(labels, dtype=torch.bool)\n"
     "for label in (0, 1):\n    places = (labels == label).nonzero()[:, 0]\n"
     "    count = {'biased': len(places) * (label == 0), 'clean': 0, 'mixed': (len(places) + 1) // 2}[head]\n"
     "    tagged[places[:count]] = True\nreturn tagged"),
    ("9.6", "minimum and maximum", LINE, "return torch.minimum(torch.maximum(x + step * gradient.sign(), low), high)"),
]  # fmt: skip
# END KEPT BACK
