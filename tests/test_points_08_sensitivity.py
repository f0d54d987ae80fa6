"""Exercises of the part on sensitivity, with their points."""

import math

import pytest
import torch
from conftest import PixelFunction, unchanged

WEIGHTS = torch.linspace(-3, 4, 60).sin().reshape(3, 4, 5)
PICTURE = torch.linspace(5, -2, 60).cos().reshape(1, 3, 4, 5) + 0.3


def weighing() -> PixelFunction:
    """Two logits, the second one linear with WEIGHTS, the first the negative of it: the top class is 1 for PICTURE."""
    return PixelFunction(lambda x: torch.einsum("bchw,chw->b", x, WEIGHTS)[:, None] * torch.tensor([-1.0, 1.0]) + 0.5)


@pytest.mark.points(1, exercise="8.2")
def test_shares_of_a_linear_model_predict_its_drops(lesson):
    shares = WEIGHTS * PICTURE
    for n in (1, 5, 19):
        assert lesson.sensitivity_n(weighing(), PICTURE, shares, 1, n=n) == pytest.approx(1, abs=1e-4)
        assert lesson.sensitivity_n(weighing(), PICTURE, shares, 0, n=n) == pytest.approx(-1, abs=1e-4)


@pytest.mark.points(1, exercise="8.2")
def test_sensitivity_n_slowly(lesson):
    """A network that is not linear, subset by subset."""
    model = PixelFunction(lambda x: torch.stack([(x * WEIGHTS).tanh().sum(dim=(1, 2, 3)), x.sum(dim=(1, 2, 3))], dim=1))
    attribution = WEIGHTS.abs() * PICTURE[0]
    masks = lesson.random_subsets(30, 4, (4, 5), torch.Generator().manual_seed(3))
    sums, drops = [], []
    for mask in masks:
        sums.append(attribution[:, mask].sum().item())
        drops.append((model(PICTURE) - model(PICTURE * ~mask))[0, 0].item())
    expected = torch.corrcoef(torch.tensor([sums, drops], dtype=torch.float64))[0, 1].item()
    found = lesson.sensitivity_n(model, PICTURE, attribution, 0, n=4, samples=30,
                                 generator=torch.Generator().manual_seed(3))  # fmt: skip
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.points(1, exercise="8.2")
def test_sensitivity_n_explains_logits_of_the_top_class(lesson):
    """With a probability in place of the logit the certain network would show no drop at all."""
    model = PixelFunction(lambda x: weighing()(x) + torch.tensor([0.0, 60.0]))
    found = lesson.sensitivity_n(model, PICTURE, WEIGHTS * PICTURE, n=3)
    assert found == pytest.approx(1, abs=1e-3)
    assert isinstance(found, float)
    assert lesson.sensitivity_n(model, PICTURE, -WEIGHTS * PICTURE, n=3) == pytest.approx(-1, abs=1e-3)


@pytest.mark.points(1, exercise="8.2")
def test_sensitivity_n_without_variation_is_nan(lesson):
    model = weighing()
    with unchanged(model, PICTURE):
        assert math.isnan(lesson.sensitivity_n(model, PICTURE, WEIGHTS * PICTURE, 1, n=20))
    assert math.isnan(lesson.sensitivity_n(weighing(), PICTURE, torch.zeros(4, 5), 1, n=3))
    assert not math.isnan(lesson.sensitivity_n(weighing(), PICTURE, WEIGHTS, 1, n=3))
