"""Exercises of lesson 02, with their points."""

import pytest
import torch
from conftest import PixelFunction, assert_tensor, over_there, unchanged
from torch import nn

IMAGES = torch.linspace(-2, 2, 72, dtype=torch.float64).reshape(3, 3, 2, 4).sin()


@pytest.mark.points(1, exercise="2.1")
def test_product_on_a_linear_model(lesson, linear):
    for targets in ([2, 0, 1], [1, 1, 0]):
        weights = linear[1].weight.detach()[targets].reshape(3, 3, 2, 4)
        assert_tensor(lesson.gradient_times_input(linear, IMAGES, targets), weights * IMAGES)


@pytest.mark.points(0.5, exercise="2.1")
def test_product_counts_from_the_baseline(lesson, linear):
    weights, baseline = linear[1].weight.detach()[1].reshape(3, 2, 4), torch.tensor([0.5, -1.0, 2.0]).double()
    found = lesson.gradient_times_input(linear, IMAGES, 1, baseline=baseline[:, None, None])
    assert_tensor(found, weights * (IMAGES - baseline[:, None, None]))


@pytest.mark.points(0.5, exercise="2.1")
def test_product_takes_the_slope_at_the_image(lesson):
    """S = sum of x^3, so the slope depends on where it is taken."""
    model = PixelFunction(lambda x: x.pow(3).sum(dim=(2, 3)))
    with unchanged(model, IMAGES):
        found = lesson.gradient_times_input(model, IMAGES, 0, baseline=torch.ones(1, 1, 1).double())
    expected = torch.zeros_like(IMAGES)
    expected[:, 0] = (3 * IMAGES**2 * (IMAGES - 1))[:, 0]
    assert_tensor(found, expected)


@pytest.mark.points(1, exercise="2.2")
def test_what_is_left_of_a_linear_model_is_its_bias(lesson, linear):
    for targets in ([2, 0, 1], [1, 1, 0]):
        assert_tensor(lesson.unexplained_score(linear, IMAGES, targets), linear[1].bias.detach()[targets])


@pytest.mark.points(1, exercise="2.2")
def test_nothing_is_left_without_biases(lesson, small_images):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(140, 3, bias=False))
    model = model.double().eval()
    assert_tensor(lesson.unexplained_score(model, small_images, 1), torch.zeros(3).double(), atol=1e-9, rtol=0)
    assert lesson.unexplained_score(PixelFunction(lambda x: x.square().sum(dim=(2, 3))), small_images).abs().min() > 1


@pytest.mark.points(1, exercise="2.2")
def test_left_over_is_the_score_minus_the_shares(lesson, tiny, small_images):
    """The class is each image's own where none is given, in the score as in the shares."""
    with torch.no_grad():
        top = tiny(small_images).max(dim=1)
    shares = lesson.gradient_times_input(tiny, small_images, top.indices).sum(dim=(1, 2, 3))
    with unchanged(tiny, small_images):
        found = lesson.unexplained_score(tiny, small_images)
    assert_tensor(found, top.values - shares)
    assert not found.requires_grad


SHIFT = torch.tensor([1.0, -2.0, 0.5]).double()[:, None, None]


@pytest.mark.points(1, exercise="2.3")
def test_shifted_pictures_get_the_originals_logits(lesson, tiny, small_images):
    with torch.no_grad():
        found = lesson.ShiftedInput(tiny, SHIFT)(small_images + SHIFT)
        assert_tensor(found, tiny(small_images))


@pytest.mark.points(1, exercise="2.3")
def test_no_shift_is_the_network_itself(lesson, tiny, small_images):
    with torch.no_grad(), unchanged(tiny, small_images):
        assert_tensor(lesson.ShiftedInput(tiny, 0 * SHIFT)(small_images), tiny(small_images))
        assert not torch.allclose(lesson.ShiftedInput(tiny, SHIFT)(small_images), tiny(small_images))


def slope(lesson, model, images: torch.Tensor) -> torch.Tensor:
    """Gradient of class 1's score through the shifted network."""
    x = images.clone().requires_grad_()
    return torch.autograd.grad(lesson.ShiftedInput(model, SHIFT)(x)[:, 1].sum(), x)[0]


@pytest.mark.points(1, exercise="2.3")
def test_the_gradient_survives_the_shift(lesson, tiny, small_images):
    found = over_there(lesson, slope, tiny, small_images + SHIFT)
    y = small_images.clone().requires_grad_()
    (expected,) = torch.autograd.grad(tiny(y)[:, 1].sum(), y)
    assert_tensor(found, expected)


@pytest.mark.points(1, exercise="2.4")
def test_the_bias_of_a_linear_model_is_its_own_share(lesson, linear):
    for targets in ([2, 0, 1], [1, 1, 0]):
        assert_tensor(lesson.bias_share(linear, IMAGES, targets), linear[1].bias.detach()[targets])


@pytest.mark.points(1, exercise="2.4")
def test_biases_of_all_layers_count_with_their_slope(lesson, tiny, small_images):
    """Score minus gradient x input, computed here; each image with its own class."""
    x = small_images.clone().requires_grad_()
    scores = tiny(x)[[0, 1, 2], [2, 0, 1]]
    (gradient,) = torch.autograd.grad(scores.sum(), x)
    assert_tensor(lesson.bias_share(tiny, small_images, [2, 0, 1]), (scores - (gradient * x).sum((1, 2, 3))).detach())


@pytest.mark.points(1, exercise="2.4", contract=True)
def test_shares_of_the_biases_leave_no_trace(lesson, tiny, small_images):
    """The parameters are frozen as in load_model, and stay it; a batch gives what its images give one by one."""
    tiny.requires_grad_(False)
    with torch.no_grad():
        top = tiny(small_images).argmax(dim=1).tolist()
    with torch.no_grad(), unchanged(tiny, small_images):
        found = lesson.bias_share(tiny, small_images)
    singles = [lesson.bias_share(tiny, small_images[i : i + 1], top[i]) for i in range(3)]
    assert_tensor(found, torch.cat(singles))
    assert found.abs().min() > 1e-6
    assert not found.requires_grad


@pytest.mark.points(1, exercise="2.5")
def test_prediction_of_what_survives_the_shift(lesson, tiny, small_images):
    """Measured on a small network that is written out here."""
    def measured(shift: torch.Tensor) -> dict[str, torch.Tensor]:
        x = (small_images + shift).requires_grad_()
        logit = tiny(x - shift)[:, 1]
        (gradient,) = torch.autograd.grad(logit.sum(), x)
        return {
            "logit": logit, "gradient": gradient, "gradient x input": gradient * x,
            "gradient x (input - black)": gradient * (x - (shift - 2)),
            "left over": logit - (gradient * x).sum((1, 2, 3)),
        }  # fmt: skip

    before, after = measured(0 * SHIFT), measured(SHIFT)
    stays = {name: torch.allclose(before[name], after[name]) for name in before}
    assert lesson.survives_the_shift() == stays, "not all five are right; what is multiplied by the slope?"
