"""Exercises of the part on sensitivity, with their points."""

import math

import pytest
import torch
from conftest import PixelFunction, drawing, shuffled, unchanged

EXERCISES = {  # title, difficulty, minutes, when
    "8.2": ("Sensitivity-n", 2, 20, "assign"),
    "8.20": ("Turned round", 1, 2, "in class"),
    "8.21": ("What chance makes", 1, 2, "in class"),
}

WEIGHTS = 2 * torch.rand(3, 4, 5, generator=drawing(1)) - 1
PICTURE = WEIGHTS.sign()[None] * (0.1 + torch.rand(1, 3, 4, 5, generator=drawing(2)))  # so that the top class is 1


def weighing() -> PixelFunction:
    """Two logits, the second one linear with WEIGHTS, the first the negative of it: the top class is 1 for PICTURE."""
    return PixelFunction(lambda x: torch.einsum("bchw,chw->b", x, WEIGHTS)[:, None] * torch.tensor([-1.0, 1.0]) + 0.5)


@pytest.mark.points(1, exercise="8.2")
def test_shares_of_a_linear_model_predict_its_drops(lesson):
    """On a linear model removed shares and lost score agree exactly, for the score that is asked about."""
    shares = WEIGHTS * PICTURE
    for n, target in shuffled([(n, target) for n in (1, 5, 19) for target in (0, 1)], 4):
        found = lesson.sensitivity_n(weighing(), PICTURE, shares, target, n=n)
        assert found == pytest.approx(2 * target - 1, abs=1e-4)


@pytest.mark.points(1, exercise="8.2")
def test_sensitivity_n_slowly(lesson):
    """A network that is not linear, subset by subset."""
    model = PixelFunction(lambda x: torch.stack([(x * WEIGHTS).tanh().sum(dim=(1, 2, 3)), x.sum(dim=(1, 2, 3))], dim=1))
    attribution = WEIGHTS.abs() * PICTURE[0]
    masks = lesson.random_subsets(30, 4, (4, 5), drawing(3))
    sums, drops = [], []
    for mask in masks:
        sums.append(attribution[:, mask].sum().item())
        drops.append((model(PICTURE) - model(PICTURE * ~mask))[0, 0].item())
    expected = torch.corrcoef(torch.tensor([sums, drops], dtype=torch.float64))[0, 1].item()
    found = lesson.sensitivity_n(model, PICTURE, attribution, 0, n=4, samples=30,
                                 generator=drawing(3))  # fmt: skip
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.points(1, exercise="8.2")
def test_sensitivity_n_explains_logits_of_the_top_class(lesson):
    """With a probability in place of the logit the certain network would show no drop at all."""
    model = PixelFunction(lambda x: weighing()(x) + torch.tensor([0.0, 60.0]))
    for sign in shuffled([1, 1, 1, -1, -1, -1], 5):
        found = lesson.sensitivity_n(model, PICTURE, sign * WEIGHTS * PICTURE, n=3)
        assert found == pytest.approx(sign, abs=1e-3)
        assert isinstance(found, float)


@pytest.mark.points(1, exercise="8.2")
def test_sensitivity_n_without_variation_is_nan(lesson):
    """If all subsets are alike, or all sums of shares, there is nothing to correlate."""
    model, flat = weighing(), torch.zeros(4, 5)
    cases = [(WEIGHTS * PICTURE, 20, True), (flat, 3, True), (flat, 7, True), (WEIGHTS, 3, False), (WEIGHTS, 7, False),
             (WEIGHTS * PICTURE, 9, False)]  # fmt: skip
    for attribution, n, undefined in shuffled(cases, 6):
        with unchanged(model, PICTURE):
            assert math.isnan(lesson.sensitivity_n(model, PICTURE, attribution, 1, n=n)) is undefined


# BEGIN KEPT BACK
QUESTIONS = {
    "8.20": {
        -0.44: "The predictions change their sign, the drops stay.",
        0.44: "Does the correlation ignore the sign of one side?",
        "else": "The correlation of -a with b, if that of a with b is 0.44?",
    },
    "8.21": {
        0.05: "1 / sqrt(400). So 0.04 says nothing.",
        0.0025: "This is 1 / 400. The spread of a mean falls more slowly.",
        "else": "1 over the square root of the number of samples.",
    },
}


def true_8_20(lesson) -> float:
    x = torch.tensor([1.0, 2.0, 4.0, 3.0])
    y = torch.tensor([2.0, 1.0, 3.0, 5.0])
    both = [torch.corrcoef(torch.stack([side, y]))[0, 1].item() for side in (x, -x)]
    return 0.44 * both[1] / both[0]


def true_8_21(lesson) -> float:
    drawn = torch.Generator().manual_seed(0)
    pairs = torch.randn(2000, 2, 400, generator=drawn)
    return float(torch.stack([torch.corrcoef(pair)[0, 1] for pair in pairs]).std())


DROPS = "drops = removal_drops(model, image, masks, top_class(model, image, target))"

WRONG = [
    ("8.2", "nothing computed", "", "return 1.0"),
    ("8.2", "nothing but nan", "", "return math.nan"),
    ("8.2", "no correlation, whatever the map", "", "return 0.0"),
    ("8.2", "probabilities", DROPS, "probability = torch.nn.Sequential(model, nn.Softmax(dim=1)).eval()\n"
     "drops = removal_drops(probability, image, masks, top_class(model, image, target))"),
    ("8.2", "everything but the subset removed", "image, masks, top_class", "image, ~masks, top_class"),
    ("8.2", "absolute attributions", "sums_inside(attribution, masks)", "sums_inside(attribution.abs(), masks)"),
    ("8.2", "absolute drops", "masks), drops)", "masks), drops.abs())"),
    ("8.2", "target ignored", "top_class(model, image, target)", "top_class(model, image, None)"),
    ("8.2", "score left instead of score lost", "masks), drops)", "masks), -drops)"),
    ("8.2", "rank correlation", "pearson(sums_inside(attribution, masks), drops)",
     "pearson(sums_inside(attribution, masks).argsort().argsort().double(), drops.argsort().argsort().double())"),
    ("8.2", "first channel only", "sums_inside(attribution, masks)",
     "sums_inside(torch.as_tensor(attribution).reshape(-1, *image.shape[-2:])[0], masks)"),
    ("8.2", "other subsets for the sums", "sums_inside(attribution, masks)", "sums_inside(attribution, masks.flip(0))"),
    ("8.2", "removed by the image's mean", DROPS,
     "grey = image.mean()\ndrops = score_drops(model, image, lambda i, j: torch.where(masks[i:j, None], grey, image), "
     "len(masks), top_class(model, image, target))"),
    ("8.2", "cosine instead of correlation", "pearson(sums_inside(attribution, masks), drops)",
     "torch.nn.functional.cosine_similarity(sums_inside(attribution, masks), drops, dim=0).item()"),
]  # fmt: skip

RIGHT = [
    ("8.2", "corrcoef", "", "index, sums = top_class(model, image, target), sums_inside(attribution, masks)\n"
     "drops = removal_drops(model, image, masks, index)\n"
     "if drops.std() == 0 or sums.std() <= 1e-9 * sums.abs().max():\n    return math.nan\n"
     "return torch.corrcoef(torch.stack([sums, drops]))[0, 1].item()"),
]  # fmt: skip
# END KEPT BACK
