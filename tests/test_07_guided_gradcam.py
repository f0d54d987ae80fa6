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


@pytest.mark.parametrize(
    ("network", "layer"),
    [("squeezenet", "features.12"), pytest.param("resnet", "layer4", marks=pytest.mark.slow)],
)
def test_captum_agrees(network, layer, photos, request):
    model, targets = request.getfixturevalue(network), torch.tensor([235, 88])
    theirs = captum.attr.GuidedGradCam(model, model.get_submodule(layer))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = theirs.attribute(photos.clone().requires_grad_(), targets, interpolate_mode="bilinear")
    assert relative_error(lesson.guided_grad_cam(model, photos, targets), expected.detach()) < 1e-4


# The contrast of two classes


def test_contrast_by_hand():
    first = torch.tensor([[[1.0, 3.0]], [[2.0, 0.0]]])
    second = torch.tensor([[[5.0, 5.0]], [[0.0, 7.0]]])
    torch.testing.assert_close(lesson.class_contrast(first, second), torch.tensor([[[-0.25, 0.25]], [[1.0, -1.0]]]))
    torch.testing.assert_close(lesson.moved(first, second), torch.tensor([0.25, 1.0]))


def test_contrast_forgets_the_strength_and_survives_an_empty_map(bump):
    maps = torch.stack([bump, bump.T])
    found = lesson.class_contrast(maps, maps.flip(0))
    torch.testing.assert_close(lesson.class_contrast(maps, 10 * maps.flip(0)), found)
    assert lesson.class_contrast(maps, maps).abs().max() == 0
    empty = torch.zeros_like(maps)
    torch.testing.assert_close(lesson.class_contrast(maps, empty).sum(dim=(1, 2)), torch.ones(2))
    assert not lesson.class_contrast(empty, empty).any()
    assert lesson.moved(maps, empty).tolist() == pytest.approx([1, 1])
    assert lesson.moved(empty, maps).tolist() == [0, 0]


def test_noise_moves_a_third(bump):
    """E |a - b| / 2 over E a, of uniform values: (1/3) / 2 / (1/2)."""
    noise = torch.rand(2, 1, 500, 500, generator=torch.Generator().manual_seed(0))
    assert lesson.moved(*noise).item() == pytest.approx(1 / 3, abs=0.01)


def test_one_factor_is_exchanged(tiny, small_images):
    with unchanged(tiny, small_images):
        lines_only, place_only = lesson.with_one_exchanged(tiny, small_images, [0, 1, 2], 1, layer="conv1")
    guided = [lesson_06.guided_backpropagation(tiny, small_images, c) for c in ([0, 1, 2], 1)]
    maps = [lesson_05.grad_cam(tiny, small_images, c, layer="conv1")[:, None] for c in ([0, 1, 2], 1)]
    torch.testing.assert_close(lines_only, guided[1] * maps[0])
    torch.testing.assert_close(place_only, guided[0] * maps[1])
    both = lesson.with_one_exchanged(tiny, small_images, 2, 2)
    torch.testing.assert_close(both[0], lesson.guided_grad_cam(tiny, small_images, 2))
    torch.testing.assert_close(both[1], both[0])


def test_the_share_in_a_quarter():
    maps = torch.zeros(4, 4, 6)
    maps[0, 0, 0], maps[0, 3, 5] = 3, 1                                # top left, bottom right
    maps[1, 1, 3] = 2                                                  # top right
    maps[2, 2:, :3] = 1                                                # bottom left
    assert lesson.in_own_quarter(maps) == [0.75, 1.0, 1.0, 0.0]        # the last is empty
    assert lesson.in_own_quarter(torch.ones(4, 4, 6)) == [0.25] * 4


def test_negative_share_by_hand():
    """S = ReLU(a) - ReLU(b): alpha is 1/2, so Grad-CAM is x / 2 of the ReLU layer; a class that it speaks against."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)).eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1))                 # x and -x, rectified
        model[0].bias.fill_(0.0)
        model[4].weight.copy_(torch.tensor([[1.0, -1.0], [1.0, 1.0]]))
    image = torch.tensor([3.0, -1.0, 1.0, 0.0]).reshape(1, 1, 1, 4)
    assert lesson.negative_share(model, image, 0) == pytest.approx([1 / 5])
    assert lesson.negative_share(model, image, 1) == [0.0]


@pytest.mark.slow
def test_claims_of_the_recap(resnet):
    """Among four animals the place decides; the lines alone, and edges in their stead, find the animal less well."""
    names = ("dog.jpg", "bird.jpg", "panda.jpg", "koala.jpg")
    four = torch.cat([preprocess_image(load_image(name)) for name in names])
    with torch.no_grad():
        asked = resnet(four).argmax(dim=1)
    picture = mosaic(four).expand(4, -1, -1, -1)
    lines = channel_reduce(lesson_06.guided_backpropagation(resnet, picture, asked))
    place, edges = lesson_05.grad_cam(resnet, picture, asked), photo_edges(picture)
    product = lines * place
    lines_only = channel_reduce(lesson.with_one_exchanged(resnet, picture, asked, asked.roll(1))[0])
    place_only = channel_reduce(lesson.with_one_exchanged(resnet, picture, asked, asked.roll(1))[1])
    assert lesson.moved(product, lines_only).max() < 0.3
    assert lesson.moved(product, place_only).min() > 0.6
    share = {name: lesson.in_own_quarter(maps) for name, maps in
             {"product": product, "place": place, "lines": lines, "edges": edges * place}.items()}  # fmt: skip
    assert min(share["product"]) > 0.8
    assert all(a > max(rest) for a, *rest in zip(*share.values(), strict=True))
    earlier = lesson.in_own_quarter(lesson_05.grad_cam(resnet, picture, asked, layer="layer2"))
    assert max(earlier) < 0.45
    drawn = [lesson.guided_grad_cam(randomized(resnet, stages(resnet)[:2], seed), four, asked) for seed in range(3)]
    assert any(not maps[i].any() for maps in drawn for i in range(4))


def test_the_batch_mode_of_the_lesson_is_the_explainers():
    assert lesson.Explainer is Explainer
