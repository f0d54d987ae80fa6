"""Exercises of lesson 01, with their points."""

import math

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


@pytest.mark.points(1, exercise="1.1")
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


@pytest.mark.points(1, exercise="1.1")
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


@pytest.mark.points(0.5, exercise="1.2")
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


@pytest.mark.points(1, exercise="1.3")
def test_softmax_gradient_vanishes_where_the_network_is_certain(lesson, linear):
    with torch.no_grad():
        top = linear(IMAGES).argmax(dim=1).tolist()
        linear[1].bias[0] += 80
    assert lesson.softmax_gradient(linear, IMAGES, 0).abs().max() < 1e-12
    with torch.no_grad():
        linear[1].bias[0] -= 80
    assert_tensor(lesson.softmax_gradient(linear, IMAGES), lesson.softmax_gradient(linear, IMAGES, top))


def chain() -> nn.Module:
    """Two stages with a spatial output that multiply by 3 and by -2, then the sum of all values."""
    first, second = nn.Conv2d(1, 1, 1, bias=False), nn.Conv2d(1, 1, 1, bias=False)
    nn.init.constant_(first.weight, 3.0)
    nn.init.constant_(second.weight, -2.0)
    model = nn.Sequential(first, second, nn.Flatten(), nn.Linear(6, 2, bias=False))
    nn.init.constant_(model[3].weight, 0.5)
    return model.eval()


@pytest.mark.points(1, exercise="1.4")
def test_flow_by_hand(lesson):
    found = lesson.gradient_flow(chain(), torch.ones(1, 1, 2, 3), 0)
    assert {name: float(value) for name, value in found.items()} == pytest.approx({"pixels": 3, "0": 1, "1": 0.5})


@pytest.mark.points(1, exercise="1.4")
def test_flow_is_a_root_mean_square(lesson):
    weights = torch.tensor([3.0, -4.0, 0.0, 0.0])
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.Flatten(), nn.Linear(4, 1, bias=False)).eval()
    nn.init.ones_(model[0].weight)
    model[2].weight = nn.Parameter(weights[None])
    found = lesson.gradient_flow(model, torch.ones(1, 1, 2, 2))
    assert isinstance(found["pixels"], float)
    assert found["0"] == pytest.approx(math.sqrt(25 / 4))


@pytest.mark.points(1, exercise="1.4")
def test_flow_of_the_class_asked_for(lesson, tiny, small_images):
    image = small_images[:1]
    gradient = lesson.vanilla_gradient(tiny, image, 2)
    with unchanged(tiny, image):
        found = lesson.gradient_flow(tiny, image, 2)
    assert found["pixels"] == pytest.approx(gradient.square().mean().sqrt().item())
    assert list(found) == ["pixels", "conv1", "conv2"]  # the ReLU ran twice
    assert lesson.gradient_flow(PixelFunction(lambda x: x.sum(dim=(2, 3))), image) == pytest.approx(
        {"pixels": math.sqrt(1 / 3)}
    )
