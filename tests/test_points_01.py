"""Exercises of lesson 01, with their points."""

import pytest
import torch
from conftest import PixelFunction, assert_tensor, unchanged
from torch import nn


def rows(linear: nn.Module, targets: list[int]) -> torch.Tensor:
    """The gradient of a linear model: the row of each target's class, (B, 3, 2, 4)."""
    return linear[1].weight.detach()[targets].reshape(-1, 3, 2, 4)


IMAGES = torch.linspace(-2, 2, 72, dtype=torch.float64).reshape(3, 3, 2, 4).sin()


@pytest.mark.points(1, exercise="1.1")
def test_gradient_of_a_linear_model_is_its_weights(lesson, linear):
    for targets in ([2, 0, 1], [1, 1, 0]):
        assert_tensor(lesson.vanilla_gradient(linear, IMAGES, targets), rows(linear, targets))


@pytest.mark.points(1, exercise="1.1", contract=True)
def test_gradient_keeps_its_sign_and_the_images_dtype(lesson, tiny, small_images):
    for dtype in (torch.float64, torch.float32):
        found = lesson.vanilla_gradient(tiny.to(dtype), small_images.to(dtype), 1)
        assert_tensor(found, found.to(dtype).reshape(small_images.shape))
        assert not found.requires_grad
        assert (found < 0).any()
        assert (found > 0).any()


@pytest.mark.points(1, exercise="1.1")
def test_gradient_of_a_batch_is_that_of_its_images(lesson, tiny, small_images):
    with torch.no_grad():
        top = tiny(small_images).argmax(dim=1).tolist()
    singles = [lesson.vanilla_gradient(tiny, small_images[i : i + 1], top[i]) for i in range(3)]
    assert_tensor(lesson.vanilla_gradient(tiny, small_images), torch.cat(singles))
    step = torch.zeros_like(small_images)
    step[1, 2, 3, 4] = 1e-6
    with torch.no_grad():
        slope = (tiny(small_images + step) - tiny(small_images - step))[1, 0] / 2e-6
    torch.testing.assert_close(lesson.vanilla_gradient(tiny, small_images, 0)[1, 2, 3, 4], slope, rtol=1e-5, atol=1e-8)


@pytest.mark.points(1, exercise="1.1", contract=True)
def test_gradient_leaves_no_trace(lesson, tiny, small_images):
    with unchanged(tiny, small_images):
        first = lesson.vanilla_gradient(tiny, small_images, 0)
        assert_tensor(lesson.vanilla_gradient(tiny, small_images, 0), first)
    with torch.no_grad(), unchanged(tiny, small_images):
        assert_tensor(lesson.vanilla_gradient(tiny, small_images, 0), first)


@pytest.mark.points(1, exercise="1.2")
def test_map_is_the_largest_absolute_value(lesson, linear):
    expected = rows(linear, [2, 0, 1]).abs().amax(dim=1)
    assert_tensor(lesson.saliency_map(linear, IMAGES, [2, 0, 1]), expected)


@pytest.mark.points(0.5, exercise="1.2")
def test_map_sums_absolute_values(lesson, linear):
    expected = rows(linear, [1, 1, 1]).abs().sum(dim=1)
    assert_tensor(lesson.saliency_map(linear, IMAGES, 1, reduce="sum"), expected)


@pytest.mark.points(0.5, exercise="1.2", contract=True)
def test_map_is_not_rescaled(lesson, linear):
    maps = [lesson.saliency_map(linear, IMAGES, 0, reduce=how) for how in ("max", "sum")]
    assert (maps[1] >= maps[0]).all()
    with torch.no_grad():
        linear[1].weight.mul_(10)
    assert_tensor(lesson.saliency_map(linear, IMAGES, 0), 10 * maps[0])


@pytest.mark.points(1, exercise="1.3")
def test_softmax_gradient_by_hand(lesson, linear):
    """d p_c / dx = p_c (w_c - sum_k p_k w_k)."""
    p = linear(IMAGES).softmax(dim=1).detach()
    mean = torch.einsum("bk,kchw->bchw", p, rows(linear, [0, 1, 2]))
    expected = p[[0, 1, 2], [2, 0, 1], None, None, None] * (rows(linear, [2, 0, 1]) - mean)
    assert_tensor(lesson.softmax_gradient(linear, IMAGES, [2, 0, 1]), expected)


@pytest.mark.points(1, exercise="1.3")
def test_softmax_gradients_of_all_classes_cancel(lesson, tiny, small_images):
    total = sum(lesson.softmax_gradient(tiny, small_images, c) for c in range(3))
    assert_tensor(total, torch.zeros_like(small_images), atol=1e-12, rtol=0)
    assert lesson.softmax_gradient(tiny, small_images, 0).abs().amax(dim=(1, 2, 3)).min() > 1e-6


@pytest.mark.points(1, exercise="1.3", contract=True)
def test_softmax_gradient_vanishes_where_the_network_is_certain(lesson, linear):
    with torch.no_grad():
        top = linear(IMAGES).argmax(dim=1).tolist()
        linear[1].bias[0] += 80
    assert lesson.softmax_gradient(linear, IMAGES, 0).abs().max() < 1e-12
    with torch.no_grad():
        linear[1].bias[0] -= 80
    assert_tensor(lesson.softmax_gradient(linear, IMAGES), lesson.softmax_gradient(linear, IMAGES, top))


@pytest.mark.points(1, exercise="1.4")
def test_slope_of_a_linear_model(lesson, linear):
    """w . v / |v| for each image: only where the direction points counts, not how long it is."""
    direction = (IMAGES * 3 + 0.5).cos()
    expected = (rows(linear, [2, 0, 1]) * direction).sum(dim=(1, 2, 3)) / direction.flatten(1).norm(dim=1)
    assert_tensor(lesson.measured_slope(linear, IMAGES, direction, [2, 0, 1]), expected)
    assert_tensor(lesson.measured_slope(linear, IMAGES, 5 * direction, [2, 0, 1]), expected)
    assert_tensor(lesson.measured_slope(linear, IMAGES, -direction, [2, 0, 1], step=0.3), -expected)


@pytest.mark.points(1, exercise="1.4")
def test_slope_is_a_central_difference(lesson):
    """On a curve, (f(x + h) - f(x - h)) / 2h of x^3 is 3x^2 + h^2, where one-sided differences give other numbers."""
    model = PixelFunction(lambda x: x.pow(3).sum((1, 2, 3))[:, None])
    x = torch.full((1, 3, 1, 1), 0.5, dtype=torch.float64)
    direction = torch.tensor([0.0, 2.0, 0.0], dtype=torch.float64).reshape(1, 3, 1, 1)
    for step in (0.1, 0.4):
        found = lesson.measured_slope(model, x, direction, 0, step=step)
        assert_tensor(found, torch.tensor([3 * 0.25 + step**2], dtype=torch.float64))


@pytest.mark.points(1, exercise="1.4")
def test_slope_along_the_gradient_is_its_length(lesson, tiny, small_images):
    with torch.no_grad():
        top = tiny(small_images).argmax(dim=1)
    parts = []
    for i in range(3):
        x = small_images[i : i + 1].clone().requires_grad_()
        parts.append(torch.autograd.grad(tiny(x)[0, top[i]], x)[0])
    gradient = torch.cat(parts)
    with unchanged(tiny, small_images):
        found = lesson.measured_slope(tiny, small_images, gradient, step=1e-6)
    assert_tensor(found, gradient.flatten(1).norm(dim=1), rtol=1e-6, atol=1e-9)
