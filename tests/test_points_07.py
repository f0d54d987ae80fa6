"""Exercises of lesson 07, with their points."""

import pytest
import torch
from conftest import assert_tensor, unchanged

from utils import import_lesson


@pytest.mark.points(1, exercise="7.1")
def test_guided_grad_cam_is_the_product(lesson, tiny, small_images):
    guided = import_lesson("06_guided_backpropagation").guided_backpropagation(tiny, small_images, [2, 0, 1])
    maps = import_lesson("05_gradcam").grad_cam(tiny, small_images, [2, 0, 1])
    found = lesson.guided_grad_cam(tiny, small_images, [2, 0, 1])
    assert_tensor(found, torch.stack([guided[:, c] * maps for c in range(3)], dim=1))


@pytest.mark.points(0.5, exercise="7.1")
def test_guided_grad_cam_takes_the_layer(lesson, tiny, small_images):
    guided = import_lesson("06_guided_backpropagation").guided_backpropagation(tiny, small_images, 0)
    for layer in ("conv1", tiny.conv2):
        maps = import_lesson("05_gradcam").grad_cam(tiny, small_images, 0, layer=layer)
        assert_tensor(lesson.guided_grad_cam(tiny, small_images, 0, layer=layer), guided * maps[:, None])


@pytest.mark.points(0.5, exercise="7.1", contract=True)
def test_guided_grad_cam_of_no_evidence_is_zero(lesson, tiny, small_images):
    with torch.no_grad():
        tiny.fc.weight[1] = -tiny.fc.weight[1].abs()
        tiny.conv2.bias.abs_()
        tiny.conv2.weight.abs_()
        tiny.conv1.bias.abs_()
    maps = import_lesson("05_gradcam").grad_cam(tiny, small_images, 1)
    with unchanged(tiny, small_images):
        found = lesson.guided_grad_cam(tiny, small_images, 1)
    assert not maps.any()
    assert_tensor(found, torch.zeros_like(small_images))


FIRST = torch.tensor([[[1.0, 3.0, 0.0], [4.0, 0.0, 2.0]], [[0.0, 0.5, 0.5], [0.0, 0.0, 1.0]]])
SECOND = torch.tensor([[[2.0, 0.0, 2.0], [0.0, 0.0, 0.0]], [[8.0, 4.0, 0.0], [0.0, 4.0, 0.0]]])


@pytest.mark.points(1, exercise="7.2")
def test_contrast_is_the_difference_of_shares(lesson):
    """The sums are 10 and 4 for the first picture, 2 and 16 for the second."""
    before = FIRST.clone(), SECOND.clone()
    expected = torch.stack([FIRST[0] / 10 - SECOND[0] / 4, FIRST[1] / 2 - SECOND[1] / 16])
    assert_tensor(lesson.class_contrast(FIRST, SECOND), expected)
    assert_tensor(lesson.class_contrast(SECOND, FIRST), -expected)
    assert torch.equal(FIRST, before[0])
    assert torch.equal(SECOND, before[1])


@pytest.mark.points(1, exercise="7.2")
def test_contrast_does_not_see_the_strength(lesson):
    """A map ten times stronger is the same map; the whole adds up to 0, the positive part to what has moved."""
    found = lesson.class_contrast(FIRST, SECOND)
    assert_tensor(lesson.class_contrast(10 * FIRST, SECOND / 7), found)
    assert_tensor(found.sum(dim=(1, 2)), torch.zeros(2), atol=1e-6, rtol=0)
    assert_tensor(lesson.moved(FIRST, SECOND), torch.tensor([0.9, 0.75]))
    assert_tensor(lesson.class_contrast(3 * FIRST, FIRST), torch.zeros_like(FIRST), atol=1e-6, rtol=0)


@pytest.mark.points(1, exercise="7.2")
def test_contrast_with_an_empty_map_is_no_nan(lesson):
    half = torch.stack([FIRST[0], torch.zeros(2, 3)])
    expected = torch.stack([FIRST[0] / 10 - SECOND[0] / 4, -SECOND[1] / 16])
    assert_tensor(lesson.class_contrast(half, SECOND), expected)
    assert_tensor(lesson.class_contrast(SECOND, half), -expected)
    assert_tensor(lesson.class_contrast(1e-12 * FIRST, SECOND), lesson.class_contrast(FIRST, SECOND))


def factors(model, images, target, **options):
    """Guided backpropagation (B, 3, H, W), and Grad-CAM (B, 1, H, W)."""
    lines = import_lesson("06_guided_backpropagation").guided_backpropagation(model, images, target)
    return lines, import_lesson("05_gradcam").grad_cam(model, images, target, **options)[:, None]


@pytest.mark.points(1, exercise="7.3")
def test_the_lines_are_exchanged_first(lesson, tiny, small_images):
    (_, place), (lines, _) = factors(tiny, small_images, [0, 1, 2]), factors(tiny, small_images, [2, 2, 1])
    found = lesson.with_one_exchanged(tiny, small_images, [0, 1, 2], [2, 2, 1])
    assert len(found) == 2
    assert_tensor(found[0], lines * place)


@pytest.mark.points(1, exercise="7.3")
def test_the_place_is_exchanged_second(lesson, tiny, small_images):
    (lines, _), (_, place) = factors(tiny, small_images, [0, 1, 2]), factors(tiny, small_images, [2, 2, 1])
    with unchanged(tiny, small_images):
        found = lesson.with_one_exchanged(tiny, small_images, [0, 1, 2], [2, 2, 1])
    assert_tensor(found[1], lines * place)


@pytest.mark.points(1, exercise="7.3")
def test_the_layer_and_the_top_class_are_passed_on(lesson, tiny, small_images):
    with torch.no_grad():
        top = tiny(small_images).argmax(dim=1).tolist()
    lines, place = factors(tiny, small_images, top, layer="conv1")
    lines_of_1, place_of_1 = factors(tiny, small_images, 1, layer="conv1")
    found = lesson.with_one_exchanged(tiny, small_images, None, 1, layer="conv1")
    assert_tensor(found[0], lines_of_1 * place)
    assert_tensor(found[1], lines * place_of_1)
