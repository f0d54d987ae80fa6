"""Lesson 01: the vanilla gradient."""

import captum.attr
import pytest
import torch
from conftest import PixelFunction, assert_common_contract, assert_leaves_no_trace, relative_error

from utils import import_lesson

lesson = import_lesson("01_vanilla_gradient_saliency")
METHODS = [lesson.vanilla_gradient, lesson.saliency_map, lesson.softmax_gradient]


def test_linear_model_gives_its_weights(linear):
    images = torch.arange(48.0, dtype=torch.float64).reshape(2, 3, 2, 4)
    gradient = lesson.vanilla_gradient(linear, images, [2, 0])
    torch.testing.assert_close(gradient, linear[1].weight[[2, 0]].reshape(2, 3, 2, 4).detach())


def test_closed_form_of_a_curved_score():
    model = PixelFunction(lambda x: torch.stack([x.pow(2).sum((1, 2, 3)), x.pow(3).sum((1, 2, 3))], dim=1))
    images = torch.tensor([[[[1.0, -2.0], [0.5, 3.0]]]])
    torch.testing.assert_close(lesson.vanilla_gradient(model, images, 0), 2 * images)
    torch.testing.assert_close(lesson.vanilla_gradient(model, images, 1), 3 * images**2)


def test_finite_differences_pixel_by_pixel(tiny, small_images):
    images, step = small_images[:1], 1e-6
    gradient = lesson.vanilla_gradient(tiny, images, 2)
    for index in [(0, 0, 0), (1, 3, 8), (2, 6, 4), (0, 5, 1)]:
        nudge = torch.zeros_like(images)
        nudge[(0, *index)] = step
        with torch.no_grad():
            slope = (tiny(images + nudge)[0, 2] - tiny(images - nudge)[0, 2]) / (2 * step)
        assert gradient[(0, *index)].item() == pytest.approx(slope.item(), abs=1e-8)


def test_signs_are_kept(tiny, small_images):
    gradient = lesson.vanilla_gradient(tiny, small_images, 0)
    assert gradient.min() < 0 < gradient.max()


def test_input_shift_absorbed_by_the_bias_changes_nothing(tiny, small_images):
    shifted = PixelFunction(lambda x: tiny(x - 0.75))
    torch.testing.assert_close(
        lesson.vanilla_gradient(shifted, small_images + 0.75, 1), lesson.vanilla_gradient(tiny, small_images, 1)
    )


def test_saliency_map_by_hand():
    weight = torch.tensor([[[1.0, -5.0]], [[-3.0, 2.0]], [[0.5, 4.0]]])                      # (3, 1, 2)
    model = PixelFunction(lambda x: (x * weight).sum((1, 2, 3))[:, None])
    images = torch.ones(1, 3, 1, 2)
    assert lesson.saliency_map(model, images).tolist() == [[[3.0, 5.0]]]
    assert lesson.saliency_map(model, images, reduce="sum").tolist() == [[[4.5, 11.0]]]
    with pytest.raises(ValueError, match="reduce"):
        lesson.saliency_map(model, images, reduce="mean")


def test_saliency_map_by_loops(tiny, small_images):
    gradient = lesson.vanilla_gradient(tiny, small_images, 1)
    expected = torch.zeros(3, 7, 9, dtype=torch.float64)
    for b in range(3):
        for i in range(7):
            for j in range(9):
                expected[b, i, j] = max(abs(gradient[b, c, i, j].item()) for c in range(3))
    torch.testing.assert_close(lesson.saliency_map(tiny, small_images, 1), expected)


def test_softmax_gradient_follows_its_formula(tiny, small_images):
    """dp_c/dx = p_c (dS_c/dx - sum_k p_k dS_k/dx)."""
    with torch.no_grad():
        p = tiny(small_images).softmax(dim=1)[:, :, None, None, None]                        # (B, K, 1, 1, 1)
    dS = torch.stack([lesson.vanilla_gradient(tiny, small_images, k) for k in range(3)], dim=1)
    torch.testing.assert_close(lesson.softmax_gradient(tiny, small_images, 1), p[:, 1] * (dS[:, 1] - (p * dS).sum(1)))


def test_softmax_fades_where_the_logit_does_not():
    model = PixelFunction(lambda x: torch.stack([40 * x.sum((1, 2, 3)), 0 * x.sum((1, 2, 3))], dim=1))
    images = torch.ones(1, 3, 2, 2)
    assert lesson.vanilla_gradient(model, images, 0).min() == 40
    assert lesson.softmax_gradient(model, images, 0).abs().max() < 1e-6


def test_the_softmax_gradient_is_a_contrast_with_the_rivals(tiny, small_images):
    """dp_c/dx = p_c (1 - p_c) (dS_c/dx - sum over the others of q_k dS_k/dx), q_k = p_k / (1 - p_c)."""
    with torch.no_grad():
        p = tiny(small_images).softmax(dim=1)[:, :, None, None, None]                        # (B, K, 1, 1, 1)
    dS = torch.stack([lesson.vanilla_gradient(tiny, small_images, k) for k in range(3)], dim=1)
    rivals = (p[:, [0, 2]] / (1 - p[:, 1:2]) * dS[:, [0, 2]]).sum(dim=1)
    torch.testing.assert_close(
        lesson.softmax_gradient(tiny, small_images, 1), p[:, 1] * (1 - p[:, 1]) * (dS[:, 1] - rivals)
    )


def test_measured_slope_of_a_linear_model_is_exact(linear):
    """w . v / |v| for each image, whatever the length of v and the step."""
    images = torch.arange(48.0, dtype=torch.float64).reshape(2, 3, 2, 4)
    direction = torch.linspace(-3, 2, 48, dtype=torch.float64).reshape(2, 3, 2, 4)
    w = linear[1].weight.detach()[[2, 0]].reshape(2, 3, 2, 4)
    expected = (w * direction).sum(dim=(1, 2, 3)) / direction.flatten(1).norm(dim=1)
    for scale, step in ((1, 0.005), (7, 0.5)):
        found = lesson.measured_slope(linear, images, scale * direction, [2, 0], step=step)
        torch.testing.assert_close(found, expected)


def test_measured_slope_confirms_the_gradient(tiny, small_images):
    gradient = lesson.vanilla_gradient(tiny, small_images, [0, 1, 2])
    measured = lesson.measured_slope(tiny, small_images, gradient, [0, 1, 2], step=1e-6)
    torch.testing.assert_close(measured, gradient.flatten(1).norm(dim=1), rtol=1e-6, atol=1e-9)


def test_removing_a_tenth_of_the_pixels():
    """The tenth that the map ranks highest becomes 0 in all channels, the rest stays."""
    images, maps = torch.ones(1, 3, 10, 10), torch.arange(100.0).reshape(1, 10, 10)
    found = lesson.without(images, maps)
    assert (found[0, :, :9] == 1).all()
    assert (found[0, :, 9] == 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_common_contract(method, tiny, small_images):
    assert_common_contract(method, tiny, small_images)


@pytest.mark.parametrize("method", METHODS)
def test_leaves_no_trace(method, tiny, small_images):
    assert_leaves_no_trace(method, tiny, small_images)


def test_calling_twice_does_not_add_up(tiny, small_images):
    first = lesson.vanilla_gradient(tiny, small_images, 0)
    assert torch.equal(first, lesson.vanilla_gradient(tiny, small_images, 0))


def test_images_that_require_grad_keep_their_own(tiny, small_images):
    images = small_images.clone().requires_grad_()
    lesson.vanilla_gradient(tiny, images, 0)
    assert images.requires_grad
    assert images.grad is None


def test_half_precision_stays_finite(linear):
    gradient = lesson.vanilla_gradient(linear.half(), torch.ones(1, 3, 2, 4, dtype=torch.float16), 0)
    assert gradient.dtype == torch.float16
    assert gradient.isfinite().all()


def test_a_model_without_logits_is_refused(small_images):
    with pytest.raises(ValueError, match="logits"):
        lesson.vanilla_gradient(PixelFunction(lambda x: x), small_images)


def test_captum_agrees_on_squeezenet(squeezenet, photos):
    ours = lesson.vanilla_gradient(squeezenet, photos, [235, 88])
    saliency, images = captum.attr.Saliency(squeezenet), photos.clone().requires_grad_()
    theirs = saliency.attribute(images, torch.tensor([235, 88]), abs=False)
    assert relative_error(ours, theirs) < 1e-4


def test_captum_agrees_on_resnet(resnet, photos):
    ours = lesson.vanilla_gradient(resnet, photos[:1], 235)
    theirs = captum.attr.Saliency(resnet).attribute(photos[:1].clone().requires_grad_(), 235, abs=False)
    assert relative_error(ours, theirs) < 1e-4
