"""Exercise of the part on steadiness, with its points."""

import math

import pytest
import torch
from conftest import PixelFunction, drawing, over_there, shuffled

EXERCISES = {  # title, difficulty, minutes, when
    "8.4": ("Max-sensitivity", 2, 15, "assign"),
    "8.22": ("The picture as its own map", 2, 4, "in class"),
    "8.23": ("Zero", 1, 3, "in class"),
}

WEIGHTS = 2 * torch.rand(3, 4, 5, generator=drawing(1)) - 1
PICTURE = WEIGHTS.sign()[None] * (0.3 + torch.rand(1, 3, 4, 5, generator=drawing(2)))  # so that the top class is 1


def weighing() -> PixelFunction:
    """Two logits, the second one linear with WEIGHTS, the first the negative of it: the top class is 1 for PICTURE."""
    return PixelFunction(lambda x: torch.einsum("bchw,chw->b", x, WEIGHTS)[:, None] * torch.tensor([-1.0, 1.0]) + 0.5)


def linear_method(model, images, target=None) -> torch.Tensor:
    """A map that is the image itself, so that it moves as far as the image does."""
    return images[:, 0] * 3


@pytest.mark.points(1, exercise="8.4")
def test_max_sensitivity_slowly(lesson):
    """A large picture, so that its length shows."""
    large = 4 * PICTURE
    for radius in shuffled([0.01, 0.04, 0.16, 0.64], 3):
        generator = torch.Generator().manual_seed(0)
        ratios = []
        for _ in range(6):
            noise = radius * (2 * torch.rand(large.shape, generator=generator) - 1)
            ratios.append((noise[:, 0].norm() / large[:, 0].norm()).item())
        found = lesson.max_sensitivity(linear_method, weighing(), large, 1, radius=radius, samples=6)
        assert 0.8 * min(ratios) < found < 1.2 * max(ratios)
        assert found <= radius * math.sqrt(20) / large[:, 0].norm().item()


def noted(lesson) -> tuple[float, list[tuple]]:
    """The answer, and what the explainer was asked: change of the picture, target."""
    asked = []

    def method(model, images, target=None) -> torch.Tensor:
        asked.append((images - PICTURE, target))
        return images.square().sum(dim=1)

    return lesson.max_sensitivity(method, weighing(), PICTURE, radius=0.1, samples=40), asked


@pytest.mark.points(1, exercise="8.4")
def test_max_sensitivity_is_the_largest_ratio_seen(lesson):
    """The explainer notes what it was asked; the noise is uniform, centred, and within the radius."""
    found, asked = over_there(lesson, noted)
    noise = torch.cat([change for change, _ in asked if change.any()])
    clean = PICTURE.square().sum(dim=1)
    ratios = [((PICTURE + one).square().sum(dim=1) - clean).norm() / clean.norm() for one in noise]
    assert len(noise.flatten(1).unique(dim=0)) == len(noise) == 40
    assert found == pytest.approx(max(ratios).item(), rel=1e-4)
    assert 0.095 < noise.abs().max() <= 0.1 + 1e-6
    assert noise.mean().abs() < 0.01
    assert noise.std().item() == pytest.approx(0.1 / math.sqrt(3), rel=0.05)
    assert {target for _, target in asked} == {1}


@pytest.mark.points(1, exercise="8.4")
def test_max_sensitivity_of_a_map_that_stays_is_zero(lesson):
    """The largest move of the map, in units of the map's own length; the noise stays within the radius."""
    assert lesson.max_sensitivity(lambda m, x, t: torch.ones(1, 4, 5), weighing(), PICTURE) == 0
    found = lesson.max_sensitivity(linear_method, weighing(), PICTURE, radius=0)
    assert found == 0
    assert isinstance(found, float)
    for radius in shuffled([0.01, 0.04, 0.16, 0.64], 4):
        run = {"radius": radius, "samples": 3}
        large = lesson.max_sensitivity(lambda m, x, t: 1000 * x, weighing(), PICTURE, **run)
        assert large == pytest.approx(lesson.max_sensitivity(lambda m, x, t: x, weighing(), PICTURE, **run), rel=1e-3)
        assert 0.4 < large * PICTURE.norm().item() / (radius * math.sqrt(60)) < 1


# BEGIN KEPT BACK
QUESTIONS = {
    "8.22": {
        0.2: "0.1 x sqrt(10,000) = 10, over the length 50.",
        0.1: "This is how far one value moves. How long is a change in which all of them move?",
        10: "This is the length of the change. It is divided by the length of the map.",
        "else": "The length of a change with 10,000 values of 0.1, over the length of the map.",
    },
    "8.23": {
        "a": "Does a constant map say anything about the network?",
        "b": "Which value has a map of ones everywhere?",
        "c": "Low values count only for maps that depend on the network. Lesson 08's other parts ask for that.",
        "d": "The noise may have been strong. What else makes a map hold still?",
    },
}


def true_8_22(lesson) -> float:
    return torch.full((10000,), 0.1).norm().item() / 50


NOISE = "noise = radius * (2 * torch.rand(image.shape, generator=generator) - 1)"
RATIO = "(method(model, image + noise.to(image), target) - clean).norm() / clean.norm()"

WRONG = [
    ("8.4", "nothing computed", "", "return 0.0"),
    ("8.4", "the radius", "", "return radius"),
    ("8.4", "mean instead of max", "max(moved).item()", "(sum(moved) / len(moved)).item()"),
    ("8.4", "last instead of max", "max(moved).item()", "moved[-1].item()"),
    ("8.4", "not divided by the clean norm", " / clean.norm()", ""),
    ("8.4", "running maximum divided in every round", "", "largest = torch.tensor(0.0)\nfor _ in range(samples):\n"
     "    " + NOISE + "\n    now = (method(model, image + noise.to(image), target) - clean).norm()\n"
     "    largest = torch.maximum(largest, now) / clean.norm()\nreturn largest.item()"),
    ("8.4", "noise from 0 to r", "(2 * torch.rand(image.shape, generator=generator) - 1)",
     "torch.rand(image.shape, generator=generator)"),
    ("8.4", "Gaussian noise", "(2 * torch.rand(image.shape, generator=generator) - 1)",
     "torch.randn(image.shape, generator=generator)"),
    ("8.4", "noise reused", "moved = []\nfor _ in range(samples):\n    " + NOISE,
     "moved = []\n" + NOISE + "\nfor _ in range(samples):"),
    ("8.4", "norm of the map instead of the difference", RATIO,
     "method(model, image + noise.to(image), target).norm() / clean.norm()"),
    ("8.4", "the disturbed image's own class", "image + noise.to(image), target)", "image + noise.to(image), None)"),
    ("8.4", "noise added up", "moved.append(", "image = image + noise.to(image)\nmoved.append("),
    ("8.4", "a tensor", ".item()", ""),
    ("8.4", "one sample less", "range(samples)", "range(samples - 1)"),
    ("8.4", "divided by the radius", "max(moved).item()", "max(moved).item() / max(radius, 1e-12)"),
    ("8.4", "same number for every pixel", "torch.rand(image.shape, generator=generator)",
     "torch.rand(1, generator=generator)"),
]  # fmt: skip

RIGHT = [
    ("8.4", "running maximum", "", "largest = 0.0\nfor _ in range(samples):\n"
     "    noise = (torch.rand(image.shape, generator=generator) * 2 - 1) * radius\n"
     "    moved = method(model, image + noise.to(image), target) - clean\n"
     "    largest = max(largest, float(moved.norm()))\nreturn largest / float(clean.norm())"),
]  # fmt: skip
# END KEPT BACK
