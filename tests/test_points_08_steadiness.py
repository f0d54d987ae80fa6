"""Exercise of the part on steadiness, with its points."""

import math

import pytest
import torch
from conftest import PixelFunction, over_there

WEIGHTS = torch.linspace(-3, 4, 60).sin().reshape(3, 4, 5)
PICTURE = torch.linspace(5, -2, 60).cos().reshape(1, 3, 4, 5) + 0.3


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
    for radius in (0.02, 0.3):
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
    assert lesson.max_sensitivity(lambda m, x, t: torch.ones(1, 4, 5), weighing(), PICTURE) == 0
    found = lesson.max_sensitivity(linear_method, weighing(), PICTURE, radius=0)
    assert found == 0
    assert isinstance(found, float)
    large = lesson.max_sensitivity(lambda m, x, t: 1000 * x, weighing(), PICTURE, samples=3)
    assert large == pytest.approx(lesson.max_sensitivity(lambda m, x, t: x, weighing(), PICTURE, samples=3), rel=1e-3)
    assert large > 0
