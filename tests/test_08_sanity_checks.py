"""Parameter randomisation: does the map change when the network forgets?"""

import math

import pytest
import torch
from conftest import drawing, unchanged
from torch import nn

from course.probes import randomize
from evaluation import sanity_checks as part
from evaluation.methods import METHODS, edge_map, random_map, uniform_map

LIKENESS = ("spearman", "spearman_abs", "ssim")


def test_randomization_of_a_map_that_ignores_the_model_stays_one(net):
    image = torch.randn(1, 3, 9, 11, generator=drawing(0))
    with unchanged(net, image):
        for method in (random_map, edge_map):
            for scores in part.parameter_randomization(method, net, image).values():
                assert [scores[measure] for measure in LIKENESS] == pytest.approx([1, 1, 1])
                assert scores["empty"] == 0
    for scores in part.parameter_randomization(uniform_map, net, image).values():
        assert all(math.isnan(scores[measure]) for measure in LIKENESS)
        assert scores["empty"] == 1


def test_randomization_step_by_step(net):
    """A copy, randomised from the top; the original untouched; its own map is compared."""
    image = torch.randn(1, 3, 16, 16, generator=drawing(0))
    method = METHODS["gradient_times_input"]
    with unchanged(net, image):
        found = part.parameter_randomization(method, net, image, 1, generator=drawing(3))
    assert list(found) == ["as trained", "fc", "conv2", "conv1"]
    assert found["as trained"] == pytest.approx({"spearman": 1, "spearman_abs": 1, "ssim": 1, "empty": 0})
    trained, generator = method(net, image, 1)[0], drawing(3)
    for stage in ("fc", "conv2", "conv1"):
        randomize(net.get_submodule(stage), generator)
        assert found[stage] == pytest.approx(part.likeness(trained, method(net, image, 1)[0]) | {"empty": 0})
    assert min(found["conv1"][measure] for measure in LIKENESS) < 0.9


def test_an_empty_map_is_counted(net):
    """Grad-CAM of random weights may be all zero. Here it is, once the second convolution is random."""
    image, trained = torch.randn(1, 3, 16, 16, generator=drawing(0)), net.conv2.weight.clone()

    def method(model: nn.Module, images: torch.Tensor, target: int) -> torch.Tensor:
        return images[:, 0] * torch.equal(model.conv2.weight, trained)

    found = part.parameter_randomization(method, net, image, 1)
    assert [scores["empty"] for scores in found.values()] == [0, 0, 1, 1]
    assert [math.isnan(scores["spearman"]) for scores in found.values()] == [False, False, True, True]


def test_a_map_that_only_appears_later_has_nothing_to_be_compared_with(net):
    image, trained = torch.randn(1, 3, 16, 16, generator=drawing(0)), net.conv2.weight.clone()

    def method(model: nn.Module, images: torch.Tensor, target: int) -> torch.Tensor:
        return images[:, 0] * (not torch.equal(model.conv2.weight, trained))

    found = part.parameter_randomization(method, net, image, 1)
    assert [scores["empty"] for scores in found.values()] == [1] * 4


def test_in_words():
    full = {"spearman": 0.5, "empty": 0.0}
    none = {"spearman": math.nan, "empty": 1.0}
    assert part.in_words([full, full], "spearman") == "0.50"
    assert part.in_words([full, none, {"spearman": 0.1, "empty": 0.0}], "spearman") == "0.30, 1 empty"
    assert part.in_words([none, none], "spearman") == "2 empty"
    assert part.in_words([{"spearman": -0.001, "empty": 0.0}], "spearman") == "0.00"


def test_likeness():
    map = torch.randn(20, 30, generator=drawing(1))
    assert part.likeness(map, 3 * map) == pytest.approx({"spearman": 1, "spearman_abs": 1, "ssim": 1})
    turned = part.likeness(map, -map)
    assert turned["spearman"] == pytest.approx(-1)
    assert turned["spearman_abs"] == pytest.approx(1)
    assert turned["ssim"] == pytest.approx(1)
    for pair in ((map, torch.ones(20, 30)), (torch.zeros(20, 30), map)):
        assert all(math.isnan(value) for value in part.likeness(*pair).values())
    signs = part.likeness(map.sign(), map)
    assert math.isnan(signs["spearman_abs"])
    assert signs["spearman"] > 0.5


def test_the_example_of_the_text():
    """Ranks 4 3 2 1 and 4 1 2 3; without signs they are equal."""
    found = part.likeness(torch.tensor([[4.0, 2, 1, -3]]), torch.tensor([[5.0, -2, 1, 3]]))
    assert found["spearman"] == pytest.approx(1 - 6 * 8 / (4 * 15)) == pytest.approx(0.2)
    assert found["spearman_abs"] == pytest.approx(1)


def test_fresh_noise_is_like_nothing(net):
    """The best score a "method" can have."""
    image = torch.randn(1, 3, 64, 64, generator=drawing(0))
    found = part.parameter_randomization(part.fresh_noise(0), net, image, 1)
    del found["as trained"]
    assert max(abs(scores["spearman"]) for scores in found.values()) < 0.05
    assert max(abs(scores["ssim"]) for scores in found.values()) < 0.1
