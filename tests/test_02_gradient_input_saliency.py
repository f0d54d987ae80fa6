"""Lesson 02: gradient x input."""

import captum.attr
import pytest
import torch
from conftest import PixelFunction, assert_common_contract, assert_leaves_no_trace, relative_error
from torch import nn

from utils import IMAGENET_MEAN, IMAGENET_STD, import_lesson

lesson = import_lesson("02_gradient_input_saliency")
vanilla_gradient = import_lesson("01_vanilla_gradient_saliency").vanilla_gradient


def test_linear_model_by_hand(linear):
    images = torch.arange(24.0, dtype=torch.float64).reshape(1, 3, 2, 4)
    expected = (linear[1].weight[1] * images.flatten()).reshape(1, 3, 2, 4).detach()
    torch.testing.assert_close(lesson.gradient_times_input(linear, images, 1), expected)


def test_linear_model_sums_to_the_difference_of_the_scores(linear):
    images, baseline = torch.ones(1, 3, 2, 4, dtype=torch.float64), torch.full((3, 1, 1), -0.7, dtype=torch.float64)
    shares = lesson.gradient_times_input(linear, images, 2, baseline=baseline)
    difference = linear(images)[0, 2] - linear(baseline.expand_as(images))[0, 2]
    torch.testing.assert_close(shares.sum(), difference.detach())


def test_closed_form_of_a_square():
    model = PixelFunction(lambda x: x.pow(2).sum((1, 2, 3))[:, None])
    images = torch.tensor([[[[3.0, -1.0]]]])
    assert lesson.gradient_times_input(model, images).tolist() == [[[[18.0, 2.0]]]]          # x * 2x
    baseline = torch.tensor([[[[1.0, 1.0]]]])
    assert lesson.gradient_times_input(model, images, baseline=baseline).tolist() == [[[[12.0, 4.0]]]]


def test_by_loops(tiny, small_images):
    gradient = vanilla_gradient(tiny, small_images, 1)
    expected = torch.zeros_like(small_images)
    for b in range(3):
        for c in range(3):
            for i in range(7):
                for j in range(9):
                    expected[b, c, i, j] = gradient[b, c, i, j] * (small_images[b, c, i, j] - 0.25 * c)
    baseline = 0.25 * torch.arange(3.0, dtype=torch.float64)[:, None, None]
    torch.testing.assert_close(lesson.gradient_times_input(tiny, small_images, 1, baseline=baseline), expected)


def test_a_pixel_of_the_baseline_gets_nothing(tiny, small_images):
    baseline = small_images.clone()
    baseline[:, :, 2:] += 1
    attribution = lesson.gradient_times_input(tiny, small_images, 0, baseline=baseline)
    assert attribution[:, :, :2].abs().max() == 0
    assert attribution[:, :, 2:].abs().max() > 0


def test_each_image_has_its_own_baseline(tiny, small_images):
    baselines = small_images.flip(0)
    batch = lesson.gradient_times_input(tiny, small_images, 0, baseline=baselines)
    single = lesson.gradient_times_input(tiny, small_images[2:], 0, baseline=baselines[2:])
    torch.testing.assert_close(batch[2:], single)


def test_shares_add_up_without_biases(small_images):
    """Euler: a ReLU network without biases is homogeneous of degree 1."""
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 4, bias=False)
    )
    model = model.double().eval()
    assert lesson.unexplained_score(model, small_images, [0, 3, 1]).abs().max() < 1e-12


def test_what_is_left_over_is_the_bias(linear):
    images = torch.ones(2, 3, 2, 4, dtype=torch.float64)
    torch.testing.assert_close(lesson.unexplained_score(linear, images, [0, 1]), linear[1].bias[:2].detach())


def test_the_biases_bring_what_is_left_over(tiny, small_images):
    """Two computations of one number: score minus shares, and the sum of b dS/db, for three classes and all biases."""
    for labels in ([2, 0, 1], None, 1):
        brought = lesson.bias_share(tiny, small_images, labels)
        torch.testing.assert_close(brought, lesson.unexplained_score(tiny, small_images, labels))
    assert brought.abs().min() > 1e-3


def test_share_of_each_bias_by_hand():
    """S = 3 relu(2 x + 0.5) + 4 relu(-x + 0.25) + 7: the second unit sleeps, so its bias brings nothing."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2), nn.ReLU(inplace=True), nn.Linear(2, 1)).eval()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[2.0], [-1.0]]))
        model[1].bias.copy_(torch.tensor([0.5, 0.25]))
        model[3].weight.copy_(torch.tensor([[3.0, 4.0]]))
        model[3].bias.fill_(7)
    images = torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1)
    assert lesson.bias_share(model, images, 0).tolist() == [3 * 0.5 + 7, 4 * 0.25 + 7]


def test_a_network_without_biases_brings_nothing(small_images):
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(140, 3, bias=False))
    assert lesson.bias_share(model.double().eval(), small_images, 0).tolist() == [0, 0, 0]


def test_a_bias_that_the_class_does_not_use_counts_nothing(small_images):
    """As in networks with a second head for training only."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(189, 3)).double().eval()
    model.register_module("idle", nn.Linear(2, 2).double().eval())
    model.forward = lambda images: model[1](model[0](images))
    torch.testing.assert_close(lesson.bias_share(model, small_images, [0, 1, 2]), model[1].bias.detach())


@pytest.mark.parametrize("network", ["squeezenet", pytest.param("resnet", marks=pytest.mark.slow)])
def test_the_biases_of_real_networks(network, photos, request):
    model = request.getfixturevalue(network)
    left = lesson.unexplained_score(model, photos[:1], 235)
    torch.testing.assert_close(lesson.bias_share(model, photos[:1], 235), left, rtol=1e-4, atol=1e-3)


def test_bias_share_common_contract(tiny, small_images):
    assert_common_contract(lesson.bias_share, tiny, small_images)


def test_bias_share_leaves_no_trace(tiny, small_images):
    assert_leaves_no_trace(lesson.bias_share, tiny.requires_grad_(False), small_images)


def test_shifted_network_is_the_same_function(tiny, small_images):
    shift = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)[:, None, None]
    shifted, moved = lesson.ShiftedInput(tiny, shift), small_images + shift
    assert not any(module.training for module in shifted.modules())
    torch.testing.assert_close(shifted(moved), tiny(small_images))
    torch.testing.assert_close(vanilla_gradient(shifted, moved, 0), vanilla_gradient(tiny, small_images, 0))


def test_the_shift_moves_gradient_times_input_by_gradient_times_shift(tiny, small_images):
    shift = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)[:, None, None]
    before = lesson.gradient_times_input(tiny, small_images, 0)
    after = lesson.gradient_times_input(lesson.ShiftedInput(tiny, shift), small_images + shift, 0)
    torch.testing.assert_close(after - before, vanilla_gradient(tiny, small_images, 0) * shift)
    assert (after - before).abs().max() > 0.01


def test_zero_points_are_the_named_colours():
    zeros = lesson.zero_points(torch.zeros(1, 3, 2, 2))
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    colours = {"mean colour": mean, "black": torch.zeros(3, 1, 1), "white": torch.ones(3, 1, 1)}
    for name, zero in zeros.items():
        torch.testing.assert_close(zero * std + mean, colours[name])


def test_dark_share_by_hand():
    images = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0]).expand(1, 3, 1, 5)
    attribution = torch.tensor([-3.0, 1.0, 0.0, -5.0, 1.0]).expand(1, 3, 1, 5)
    assert lesson.dark_share(attribution, images).tolist() == pytest.approx([0.3])           # 9 of 30
    assert lesson.dark_share(torch.zeros(1, 3, 1, 5), images).tolist() == [0.0]


@pytest.mark.parametrize("baseline", [torch.zeros(2, 3, 7, 9), torch.zeros(4), torch.full((3, 1, 1), float("inf"))])
def test_a_baseline_that_does_not_fit_is_refused(tiny, small_images, baseline):
    with pytest.raises(ValueError, match="baseline"):
        lesson.gradient_times_input(tiny, small_images, baseline=baseline)


def test_common_contract(tiny, small_images):
    assert_common_contract(lesson.gradient_times_input, tiny, small_images)


def test_leaves_no_trace(tiny, small_images):
    assert_leaves_no_trace(lesson.gradient_times_input, tiny, small_images)


def test_captum_agrees_on_squeezenet(squeezenet, photos):
    ours = lesson.gradient_times_input(squeezenet, photos, [235, 88])
    theirs = captum.attr.InputXGradient(squeezenet).attribute(photos.clone().requires_grad_(), torch.tensor([235, 88]))
    assert relative_error(ours, theirs.detach()) < 1e-4


def test_captum_agrees_on_resnet(resnet, photos):
    ours = lesson.gradient_times_input(resnet, photos[:1], 235)
    theirs = captum.attr.InputXGradient(resnet).attribute(photos[:1].clone().requires_grad_(), 235)
    assert relative_error(ours, theirs.detach()) < 1e-4
