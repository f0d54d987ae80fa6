"""Methods by name, and the controls that know nothing of the network."""

import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from conftest import PixelFunction, TinyConvNet, drawing, unchanged
from torch import Tensor, nn

from course.probes import randomized
from evaluation import methods
from evaluation.methods import COARSE, CONTROLS, METHODS, SHARES, matched_controls, reduced, untrained
from utils import import_lesson, upsample

vanilla_gradient = import_lesson("01_vanilla_gradient_saliency").vanilla_gradient
grad_cam = import_lesson("05_gradcam").grad_cam


@pytest.mark.parametrize("name", METHODS)
def test_methods_give_maps_and_batches_equal_singles(name, net):
    images, method = torch.randn(3, 3, 9, 11, generator=drawing(0)), METHODS[name]
    with unchanged(net, images):
        maps = method(net, images, [0, 1, 2])
    assert maps.shape == (3, 9, 11)
    assert maps.dtype == torch.float32
    assert maps.isfinite().all()
    assert not maps.requires_grad
    singles = torch.cat([method(net, images[i : i + 1], i) for i in range(3)])
    torch.testing.assert_close(maps, singles)
    assert method(net, images, None).shape == (3, 9, 11)


def test_methods_and_controls_by_name():
    assert list(METHODS) == [
        "vanilla_gradient", "gradient_times_input", "smoothgrad", "integrated_gradients", "grad_cam",
        "guided_backpropagation", "guided_grad_cam", *CONTROLS,
    ]  # fmt: skip
    assert set(SHARES) <= set(METHODS) - set(CONTROLS)
    assert set(COARSE) <= set(METHODS)
    for name in METHODS:
        assert set(matched_controls(name)) <= set(CONTROLS)
    assert matched_controls("grad_cam") == ("random_coarse", "edges_coarse")
    assert matched_controls("smoothgrad") == ("random", "edges")


def test_reduction_keeps_the_sign_of_shares_only(net):
    images = torch.randn(1, 3, 9, 11, generator=drawing(0))
    gradient = vanilla_gradient(net, images, 1)
    torch.testing.assert_close(METHODS["vanilla_gradient"](net, images, 1), gradient.abs().amax(dim=1))
    torch.testing.assert_close(METHODS["gradient_times_input"](net, images, 1), (gradient * images).sum(dim=1))
    for name in set(METHODS) - set(CONTROLS):
        assert (METHODS[name](net, images, 1).min() < 0) == (name in SHARES), name


def test_shares_add_up_to_the_score(net):
    """Of a linear network, up to its bias; the integral's from the mean colour to the image."""
    linear = nn.Sequential(nn.Flatten(), nn.Linear(297, 2)).eval()
    image = torch.randn(1, 3, 9, 11, generator=drawing(0))
    score = (linear(image) - linear(torch.zeros_like(image)))[0, 1]
    for name in SHARES:
        torch.testing.assert_close(METHODS[name](linear, image, 1).sum(), score, rtol=1e-4, atol=1e-4)


def test_controls_know_nothing_of_the_network(net):
    images = torch.randn(2, 3, 30, 40, generator=drawing(0))
    other = PixelFunction(lambda x: x.mean(dim=(2, 3)))
    for name in CONTROLS:                                              # of the network only its grain, if it is coarse
        assert torch.equal(METHODS[name](net, images, 0), METHODS[name](randomized(net), images, 2))
        if not name.endswith("coarse"):
            assert torch.equal(METHODS[name](net, images, 0), METHODS[name](other, images, 2))
    random, centre = methods.random_map(net, images), methods.centre_map(net, images)
    assert not torch.equal(random[0], random[1])
    assert random.mean().item() == pytest.approx(0.5, abs=0.03)
    assert centre[0].argmax().item() in (14 * 40 + 19, 14 * 40 + 20, 15 * 40 + 19, 15 * 40 + 20)
    torch.testing.assert_close(centre, centre.flip(1).flip(2))
    edge = torch.zeros(1, 3, 20, 20)
    edge[..., 10:] = 1
    assert methods.edge_map(net, edge)[0, 10].argmax().item() in (9, 10)
    assert methods.edge_map(net, edge)[0, :, :8].abs().max() == 0


def test_coarse_controls_are_as_coarse_as_grad_cam(net):
    """As many numbers as the network's last map has cells, spread over the picture by the same upsampling."""
    images = torch.randn(2, 3, 71, 141, generator=drawing(0))
    rows, columns = grad_cam(net, images, upsample=False).shape[1:]
    assert methods.grain(net, images) == (rows, columns) == (35, 70)
    cells = F.adaptive_avg_pool2d(methods.edge_map(net, images), (rows, columns))
    torch.testing.assert_close(methods.coarse_edge_map(net, images), upsample(cells, (71, 141)))
    noise = methods.coarse_random_map(net, images)
    assert not torch.equal(noise[0], noise[1])
    assert torch.linalg.matrix_rank(noise[0]) == 35
    assert 0 <= noise.min() < 0.1
    assert 0.9 < noise.max() <= 1


def test_edges_of_a_network_without_a_map_are_averaged_over_seven_by_seven_cells():
    """By hand, in a picture whose sides 7 divides."""
    blind = PixelFunction(lambda x: x.mean(dim=(2, 3)))
    images = torch.randn(2, 3, 70, 140, generator=drawing(0))
    edges = methods.edge_map(blind, images)
    cells = torch.stack([edges[:, 10 * i : 10 * i + 10, 20 * j : 20 * j + 20].mean(dim=(1, 2))
                         for i in range(7) for j in range(7)], dim=1).reshape(2, 7, 7)  # fmt: skip
    assert methods.grain(blind, images) == (7, 7)
    torch.testing.assert_close(methods.coarse_edge_map(blind, images), upsample(cells, (70, 140)))


@pytest.mark.parametrize(("fixture", "cells"), [("squeezenet", (13, 13)), ("resnet", (7, 7))])
def test_the_grain_of_the_embedded_networks(fixture, cells, request):
    assert methods.grain(request.getfixturevalue(fixture), torch.zeros(1, 3, 224, 224)) == cells


def test_untrained_asks_a_copy_with_random_weights_the_same_question(net):
    images, asked = torch.randn(2, 3, 9, 11, generator=drawing(0)), []

    def spy(model: nn.Module, pictures: Tensor, target: object) -> Tensor:
        asked.append((model, target))
        return pictures[:, 0]

    method = untrained(spy)
    with unchanged(net, images):
        method(net, images), method(net, images, 2), untrained(spy)(net, images, [0, 1])
    assert asked[0][1].tolist() == net(images).argmax(dim=1).tolist()
    assert [target for _, target in asked[1:]] == [2, [0, 1]]
    (copy,) = {model for model, _ in asked}                            # made once per network
    assert copy is not net
    assert not copy.training
    for mine, theirs in zip(copy.parameters(), net.parameters(), strict=True):
        assert mine.ndim < 2 or not torch.allclose(mine, theirs)
    untrained(spy)(TinyConvNet().eval(), images)
    assert asked[-1][0] is not copy


def test_untrained_maps_differ_from_trained_ones_and_are_alike_every_time(net):
    images = torch.randn(1, 3, 9, 11, generator=drawing(0))
    trained, without = METHODS["vanilla_gradient"], untrained(METHODS["vanilla_gradient"])
    assert not torch.allclose(trained(net, images, 1), without(net, images, 1))
    assert torch.equal(without(net, images, 1), without(net, images, 1))


def test_untrained_copies_do_not_outlive_their_network():
    net = TinyConvNet().eval()
    untrained(METHODS["vanilla_gradient"])(net, torch.zeros(1, 3, 9, 11), 0)
    copy = weakref.ref(methods.FORGETFUL[net])
    assert copy() is not None
    del net
    gc.collect()
    assert copy() is None


def test_reduced_passes_options_on(net):
    seen = {}

    def method(model: nn.Module, images: Tensor, target: object, *, sharpness: int) -> Tensor:
        seen["sharpness"] = sharpness
        return -images

    images = torch.randn(2, 3, 5, 6, generator=drawing(0))
    assert torch.equal(reduced(method, "sum", sharpness=3)(net, images), -images.sum(dim=1))
    assert seen == {"sharpness": 3}
