"""course/probes.py: likeness, roughness, noise, random weights, mosaics."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course.probes import mosaic, randomized, roughness, stages, value_range, with_noise

NOISE = torch.randn(3, 200, 200, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "treated", [lambda x: x[0], lambda x: x[0].abs(), lambda x: x.abs().amax(dim=0), lambda x: 7 * x.sum(dim=0) + 100]
)
def test_noise_has_roughness_one_however_it_is_treated(treated):
    assert roughness(treated(NOISE)) == pytest.approx(1, abs=0.02)


def test_roughness_of_smooth_and_coarse_maps():
    ramp = torch.linspace(0, 1, 100).expand(100, 100)
    # neighbours differ by 1/99 in one of two directions, strangers by 1/3 on average
    assert roughness(ramp) == pytest.approx(0.5 / 99 * 3, rel=0.05)
    coarse = F.interpolate(NOISE[None, :1, :7, :7], 224, mode="bilinear")
    assert roughness(coarse) < 0.1
    assert roughness(coarse) == pytest.approx(roughness(-3 * coarse[0, 0] + 5), rel=1e-4)
    assert math.isnan(roughness(torch.ones(5, 5)))


def test_noise_is_a_share_of_each_images_range():
    images = torch.rand(2, 3, 100, 100) * torch.tensor([1.0, 50.0])[:, None, None, None]
    added = with_noise(images, 0.1, seed=3) - images
    for i in range(2):
        assert added[i].std().item() == pytest.approx(0.1 * value_range(images)[i].item(), rel=0.02)
    torch.testing.assert_close(with_noise(images, 0.1, seed=3), images + added)
    assert not torch.equal(with_noise(images, 0.1, seed=4), with_noise(images, 0.1, seed=3))


def test_randomized_is_a_copy_with_other_weights(tiny, small_images):
    before = {name: value.clone() for name, value in tiny.state_dict().items()}
    other = randomized(tiny, seed=1)
    assert all(torch.equal(value, before[name]) for name, value in tiny.state_dict().items())
    assert not torch.allclose(other(small_images), tiny(small_images))
    assert torch.equal(other(small_images), randomized(tiny, seed=1)(small_images))
    assert not torch.equal(other(small_images), randomized(tiny, seed=2)(small_images))
    assert not any(bool(bias.any()) for name, bias in other.state_dict().items() if name.endswith("bias"))


def test_only_the_named_stages_are_drawn_anew(tiny):
    other = randomized(tiny, ["fc"])
    assert torch.equal(other.conv1.weight, tiny.conv1.weight)
    assert not torch.equal(other.fc.weight, tiny.fc.weight)


def test_stages_from_the_logits_down(resnet, squeezenet):
    assert stages(resnet) == ["fc", "layer4", "layer3", "layer2", "layer1", "conv1"]
    assert stages(squeezenet)[:2] == ["classifier", "features.12"]
    assert stages(nn.Sequential(nn.Linear(2, 2), nn.ReLU())) == ["0"]


def test_a_mosaic_has_four_quarters():
    images = torch.arange(4.0)[:, None, None, None].expand(4, 3, 8, 12)
    picture = mosaic(images)
    assert picture.shape == (1, 3, 8, 12)
    top, bottom = picture[..., :4, :], picture[..., 4:, :]
    for i, quarter in enumerate((top[..., :6], top[..., 6:], bottom[..., :6], bottom[..., 6:])):
        torch.testing.assert_close(quarter, torch.full_like(quarter, i))
