"""Lesson 07: guided Grad-CAM, the contrast of two classes, and which factor decides."""

import warnings

import captum.attr
import pytest
import torch
from conftest import assert_common_contract, assert_leaves_no_trace, relative_error, unchanged
from torch import nn

from course.explainer import Explainer
from course.probes import mosaic, photo_edges, randomized, stages
from utils import channel_reduce, import_lesson, load_image, preprocess_image

lesson = import_lesson("07_guided_gradcam")
lesson_05, lesson_06 = import_lesson("05_gradcam"), import_lesson("06_guided_backpropagation")


# Guided Grad-CAM


def test_it_is_the_product(tiny, small_images):
    for layer in ("conv1", "conv2", tiny.conv2):
        product = lesson_06.guided_backpropagation(tiny, small_images, [0, 1, 2])
        product = product * lesson_05.grad_cam(tiny, small_images, [0, 1, 2], layer=layer)[:, None]
        torch.testing.assert_close(lesson.guided_grad_cam(tiny, small_images, [0, 1, 2], layer=layer), product)
    assert product.abs().max() > 0
    assert product.min() < 0


def test_by_hand():
    """S = ReLU(a) - ReLU(b) for the two halves of one row, a = (2, 1), b = (1, 3); Grad-CAM of the ReLU layer."""
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4, 1, bias=False)).eval()
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[0].bias.fill_(0.0)
        model[3].weight.copy_(torch.tensor([[3.0, 1.0, -1.0, -1.0]]))
    image = torch.tensor([2.0, 1.0, 1.0, 3.0]).reshape(1, 1, 1, 4)
    # alpha = (3 + 1 - 1 - 1) / 4 = 1/2, the map is x / 2; guided keeps the positive weights 3 and 1
    assert lesson.guided_grad_cam(model, image, 0, layer="1").flatten().tolist() == [3.0, 0.5, 0.0, 0.0]


def test_zero_where_grad_cam_is_zero_and_finite_where_all_is(tiny, small_images):
    dead = lesson_05.grad_cam(tiny, small_images, 1) == 0
    assert 0 < dead.sum() < dead.numel()
    assert lesson.guided_grad_cam(tiny, small_images, 1).abs().amax(dim=1)[dead].max() == 0
    with torch.no_grad():
        tiny.fc.weight[0] = 0
    assert lesson.guided_grad_cam(tiny, small_images, 0).abs().max() == 0


def test_common_contract(tiny, small_images):
    assert_common_contract(lesson.guided_grad_cam, tiny, small_images)


def test_leaves_no_trace(tiny, small_images):
    assert_leaves_no_trace(lesson.guided_grad_cam, tiny, small_images)


def test_a_layer_that_is_not_there(tiny, small_images):
    with pytest.raises(ValueError, match="conv2"):
        lesson.guided_grad_cam(tiny, small_images, 0, layer="conv9")


@pytest.mark.parametrize(("network", "layer"), [("squeezenet", "features.12"), ("resnet", "layer4")])
def test_captum_agrees(network, layer, photos, request):
    model, targets = request.getfixturevalue(network), torch.tensor([235, 88])
    theirs = captum.attr.GuidedGradCam(model, model.get_submodule(layer))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = theirs.attribute(photos.clone().requires_grad_(), targets, interpolate_mode="bilinear")
    assert relative_error(lesson.guided_grad_cam(model, photos, targets), expected.detach()) < 1e-4
