"""Lesson 08: metrics, planted scenes, and a run that can be stopped."""

import math
import os
import re
import signal
import subprocess
import sys
import time
from itertools import product

import numpy as np
import pytest
import torch
from conftest import PixelFunction, TinyConvNet, unchanged
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from utils import PROJECT_ROOT, channel_reduce, find_class, import_lesson, run_lesson

lesson = import_lesson("08_comparative_analysis")
vanilla_gradient = import_lesson("01_vanilla_gradient_saliency").vanilla_gradient


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Sum(nn.Module):
    """Logits (0, sum of w x): p_1 = sigmoid(w x)."""

    def __init__(self, w: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(w, requires_grad=False)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        score = (images * self.w).sum(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(score), score], dim=1)


@pytest.fixture
def photo() -> Tensor:
    """(1, 3, 6, 8), float32: not square, and 48 pixels that 7 does not divide."""
    return torch.randn(1, 3, 6, 8, generator=seeded(2))


@pytest.fixture
def net() -> nn.Module:
    """A float32 TinyConvNet."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return TinyConvNet().eval()


# The methods


@pytest.mark.parametrize("name", lesson.METHODS)
def test_methods_give_maps_and_batches_equal_singles(name, net):
    images, method = torch.randn(3, 3, 9, 11, generator=seeded()), lesson.METHODS[name]
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
    assert list(lesson.METHODS) == [
        "vanilla_gradient", "gradient_times_input", "smoothgrad", "integrated_gradients", "grad_cam",
        "guided_backpropagation", "guided_grad_cam", *lesson.CONTROLS,
    ]  # fmt: skip


def test_reduction_keeps_the_sign_of_shares_only(net):
    images = torch.randn(1, 3, 9, 11, generator=seeded())
    gradient = vanilla_gradient(net, images, 1)
    torch.testing.assert_close(lesson.METHODS["vanilla_gradient"](net, images, 1), gradient.abs().amax(dim=1))
    torch.testing.assert_close(lesson.METHODS["gradient_times_input"](net, images, 1), (gradient * images).sum(dim=1))
    assert lesson.METHODS["integrated_gradients"](net, images, 1).min() < 0


def test_controls_know_nothing_of_the_network(net):
    images = torch.randn(2, 3, 30, 40, generator=seeded())
    other = PixelFunction(lambda x: x.mean(dim=(2, 3)))
    for name in lesson.CONTROLS:
        assert torch.equal(lesson.METHODS[name](net, images, 0), lesson.METHODS[name](other, images, 2))
    random, centre = lesson.random_map(net, images), lesson.centre_map(net, images)
    assert not torch.equal(random[0], random[1])
    assert random.mean().item() == pytest.approx(0.5, abs=0.03)
    assert centre[0].argmax().item() in (14 * 40 + 19, 14 * 40 + 20, 15 * 40 + 19, 15 * 40 + 20)
    torch.testing.assert_close(centre, centre.flip(1).flip(2))
    edge = torch.zeros(1, 3, 20, 20)
    edge[..., 10:] = 1
    assert lesson.edge_map(net, edge)[0, 10].argmax().item() in (9, 10)
    assert lesson.edge_map(net, edge)[0, :, :8].abs().max() == 0


# Deletion and insertion


def by_hand(model: nn.Module, start: Tensor, end: Tensor, map: Tensor, target: int, step: int) -> list[float]:
    """RISE, pixel by pixel: the highest values first, ties in reading order."""
    places = sorted(product(range(map.shape[0]), range(map.shape[1])), key=lambda p: (-map[p].item(), p))
    mixed, curve = start.clone(), []
    for i, (y, x) in enumerate(places):
        if i % step == 0:
            curve.append(model(mixed).softmax(dim=1)[0, target].item())
        mixed[0, :, y, x] = end[0, :, y, x]
    return [*curve, model(mixed).softmax(dim=1)[0, target].item()]


@pytest.mark.parametrize("step", [1, 7, 16, 48, 100])
def test_curves_step_by_step(net, photo, step):
    map = torch.rand(6, 8, generator=seeded(1)).mul(5).round()         # with ties
    deleted = lesson.deletion_curve(net, photo, map, 2, step=step)
    assert deleted.tolist() == pytest.approx(by_hand(net, photo, torch.zeros_like(photo), map, 2, step), abs=1e-6)
    inserted = lesson.insertion_curve(net, photo, map, 2, step=step)
    assert inserted.tolist() == pytest.approx(by_hand(net, lesson.authors_blur(photo), photo, map, 2, step), abs=1e-6)
    assert len(deleted) == len(inserted) == math.ceil(48 / step) + 1


def test_end_points_and_default_step(squeezenet, photos):
    map = torch.rand(224, 224, generator=seeded())
    with torch.no_grad():
        p = [squeezenet(x).softmax(1)[0, 235].item()
             for x in (photos[:1], torch.zeros(1, 3, 224, 224), lesson.authors_blur(photos[:1]))]  # fmt: skip
    deleted = lesson.deletion_curve(squeezenet, photos[:1], map)
    inserted = lesson.insertion_curve(squeezenet, photos[0], map)
    assert len(deleted) == len(inserted) == 29
    assert deleted[[0, -1]].tolist() == pytest.approx(p[:2], rel=1e-3)
    assert inserted[[0, -1]].tolist() == pytest.approx([p[2], p[0]], rel=1e-3)


def test_deletion_is_insertion_backwards_on_the_same_ground(net, photo):
    """Removing in falling order is adding in rising order, read from the end."""
    map, zeros = torch.rand(6, 8, generator=seeded(1)), torch.zeros_like(photo)
    down = lesson.replacement_curve(net, photo, zeros, map, 1, 6)
    up = lesson.replacement_curve(net, zeros, photo, -map, 1, 6)
    torch.testing.assert_close(down, up.flip(0))


def test_a_constant_map_goes_row_by_row(net, photo):
    rows = -torch.arange(48.0).reshape(6, 8)
    found = [lesson.deletion_curve(net, photo, map, 1, step=5) for map in (torch.ones(6, 8), rows)]
    torch.testing.assert_close(*found)


def test_the_exact_map_of_an_additive_model_is_best():
    """Positive contributions: their own order deletes fastest and inserts best, up to a linear blur."""
    w = torch.rand(1, 6, 8, generator=seeded(3)) * 0.2
    model, image = Sum(w), torch.ones(1, 1, 6, 8)
    exact = lesson.area_under_curve(lesson.deletion_curve(model, image, w[0], 1, step=4))
    for seed in range(20):
        shuffled = w.flatten()[torch.randperm(48, generator=seeded(seed))].reshape(6, 8)
        assert exact <= lesson.area_under_curve(lesson.deletion_curve(model, image, shuffled, 1, step=4)) + 1e-6


def test_an_area_by_hand():
    """Two pixels of weight ln 3 and ln 1: p goes 3/4, 1/2, 1/2 or 3/4, 3/4, 1/2."""
    model, image = Sum(torch.tensor([[[math.log(3), 0.0]]])), torch.ones(1, 1, 1, 2)
    curve = lesson.deletion_curve(model, image, torch.tensor([[2.0, 1.0]]), 1, step=1)
    assert curve.tolist() == pytest.approx([0.75, 0.5, 0.5])
    assert lesson.area_under_curve(curve) == pytest.approx((0.75 / 2 + 0.5 + 0.5 / 2) / 2)
    worst = lesson.deletion_curve(model, image, torch.tensor([[1.0, 2.0]]), 1, step=1)
    assert lesson.area_under_curve(worst) == pytest.approx((0.75 / 2 + 0.75 + 0.5 / 2) / 2)


def test_area_under_curve():
    assert lesson.area_under_curve([1.0, 1.0, 1.0]) == 1
    assert lesson.area_under_curve([0.0, 1.0]) == 0.5
    assert lesson.area_under_curve([0.0, 0.0, 1.0]) == 0.25            # the plain mean would be 1/3
    assert lesson.area_under_curve(torch.linspace(0, 1, 29) ** 2) == pytest.approx(1 / 3, abs=1e-3)
    for wrong in ([1.0], [], torch.ones(2, 2)):
        with pytest.raises(ValueError, match="two points"):
            lesson.area_under_curve(wrong)


def test_the_authors_blur():
    """A dot becomes their kernel: 11 x 11, sum 1, nearly a box; the border loses to the zeros outside."""
    dot = torch.zeros(1, 3, 31, 31)
    dot[0, 1, 15, 15] = 1
    found = lesson.authors_blur(dot)
    delta = np.zeros((11, 11))
    delta[5, 5] = 1
    assert found[0, 1, 10:21, 10:21].numpy() == pytest.approx(gaussian_filter(delta, 5), abs=1e-6)
    assert found.sum().item() == pytest.approx(1, abs=1e-5)
    assert 0.00774 - 1e-5 < found[0, 1, 10:21, 10:21].min() < found.max() < 0.00883 + 1e-5
    assert found[0, [0, 2]].abs().max() == 0
    assert lesson.authors_blur(torch.ones(1, 3, 31, 31))[0, 0, 0, 0] < 0.5


@pytest.mark.parametrize("curve", [lesson.deletion_curve, lesson.insertion_curve])
def test_curves_leave_no_trace_and_refuse_what_does_not_fit(curve, net, photo):
    map = torch.rand(6, 8, generator=seeded())
    with unchanged(net, photo):
        curve(net, photo, map, step=10)
    torch.testing.assert_close(curve(net, photo, map[None], step=10), curve(net, photo[0], map.numpy(), step=10))
    for wrong in (map.T, map * math.nan, torch.rand(2, 6, 8), map.flatten()):
        with pytest.raises(ValueError, match="map"):
            curve(net, photo, wrong)
    with pytest.raises(ValueError, match="step"):
        curve(net, photo, map, step=0)
    with pytest.raises(ValueError, match="one image"):
        curve(net, photo.expand(2, -1, -1, -1), map)
    with pytest.raises(ValueError, match="target"):
        curve(net, photo, map, 3)
    net.fc.train()
    with pytest.raises(ValueError, match=r"eval\(\)"):
        curve(net, photo, map)


# Sensitivity-n and infidelity


@pytest.mark.parametrize("n", [1, 2, 10, 47])
def test_sensitivity_n_of_a_linear_model_is_one(n):
    w, image = torch.randn(3, 6, 8, generator=seeded(1)), torch.randn(1, 3, 6, 8, generator=seeded(2))
    exact = w * image[0]
    for attribution in (exact, exact[None], exact.sum(dim=0), 5 * exact):
        assert lesson.sensitivity_n(Sum(w), image, attribution, 1, n=n) == pytest.approx(1, abs=1e-4)
    assert lesson.sensitivity_n(Sum(w), image, -exact, 1, n=n) == pytest.approx(-1, abs=1e-4)
    assert abs(lesson.sensitivity_n(Sum(w), image, torch.randn(6, 8, generator=seeded(9)), 1, n=n)) < 0.5


def test_sensitivity_n_by_loops(net, photo):
    R = torch.randn(3, 6, 8, generator=seeded(5))
    masks = lesson.random_subsets(30, 12, (6, 8), seeded(4))
    sums, drops = [], []
    for mask in masks:
        removed = photo.clone()
        removed[:, :, mask] = 0
        sums.append(R[:, mask].sum().item())
        drops.append((net(photo) - net(removed))[0, 2].item())         # logits
    found = lesson.sensitivity_n(net, photo, R, 2, n=12, samples=30, generator=seeded(4))
    assert found == pytest.approx(np.corrcoef(sums, drops)[0, 1], abs=1e-4)


def test_subsets_have_n_pixels_anywhere():
    masks = lesson.random_subsets(400, 5, (6, 8), None)
    assert masks.flatten(1).sum(dim=1).eq(5).all()
    share = masks.float().mean(dim=0)
    assert share.min() > 0.03
    assert share.max() < 0.19
    assert torch.equal(masks, lesson.random_subsets(400, 5, (6, 8), seeded(0)))


def test_sensitivity_n_undefined_is_nan(net, photo):
    assert math.isnan(lesson.sensitivity_n(net, photo, torch.full((6, 8), 0.1), 0, n=5))
    assert math.isnan(lesson.sensitivity_n(net, photo, torch.rand(6, 8), 0, n=48))
    assert math.isnan(lesson.sensitivity_n(Sum(torch.zeros(3, 6, 8)), photo, torch.rand(6, 8), 1, n=5))
    with pytest.raises(ValueError, match="n must"):
        lesson.sensitivity_n(net, photo, torch.rand(6, 8), 0, n=0)


@pytest.mark.parametrize("perturb", ["noise", "squares"])
def test_infidelity_of_the_exact_attribution_is_zero(perturb):
    w, image = torch.randn(3, 20, 30, generator=seeded(1)), torch.randn(1, 3, 20, 30, generator=seeded(2))
    exact = w if perturb == "noise" else w * image[0]
    for rescale in (True, False):
        found = lesson.infidelity(Sum(w), image, exact, 1, perturb=perturb, rescale=rescale)
        assert found == pytest.approx(0, abs=1e-6)
    assert lesson.infidelity(Sum(w), image, 7 * exact, 1, perturb=perturb) == pytest.approx(0, abs=1e-5)
    assert lesson.infidelity(Sum(w), image, 7 * exact, 1, perturb=perturb, rescale=False) > 1
    assert lesson.infidelity(Sum(w), image, torch.randn(3, 20, 30, generator=seeded(8)), 1, perturb=perturb) > 0.1


def test_infidelity_by_loops(net, photo):
    phi, noise = torch.randn(3, 6, 8, generator=seeded(5)), 0.2 * torch.randn(20, 3, 6, 8, generator=seeded(4))
    predicted = [(noise[i] * phi).sum().item() for i in range(20)]
    cost = [(net(photo) - net(photo - noise[i]))[0, 1].item() for i in range(20)]
    beta = np.dot(predicted, cost) / np.dot(predicted, predicted)
    for factor, rescale in ((1, False), (beta, True)):
        expected = np.mean([(factor * a - b) ** 2 for a, b in zip(predicted, cost, strict=True)])
        found = lesson.infidelity(net, photo, phi, 1, samples=20, rescale=rescale, generator=seeded(4))
        assert found == pytest.approx(expected, rel=1e-3)


def test_infidelity_squares_and_refusal(net, photo):
    masks = lesson.random_squares(100, (20, 30), None)
    for mask in masks:
        ys, xs = mask.nonzero(as_tuple=True)
        side = ys.max() - ys.min() + 1
        assert side == xs.max() - xs.min() + 1
        assert mask.sum() == side**2
        assert 2 <= side <= 10
    assert masks.any(dim=0).float().mean() > 0.9
    assert lesson.infidelity(net, photo, torch.zeros(6, 8), 0) > 0     # it predicts that nothing costs anything
    with pytest.raises(ValueError, match="perturb"):
        lesson.infidelity(net, photo, torch.zeros(6, 8), 0, perturb="gauss")


# Localisation


def dot(y: int, x: int, size: tuple[int, int] = (60, 100)) -> Tensor:
    map = torch.zeros(size)
    map[y, x] = 1
    return map


@pytest.mark.parametrize(("x", "hit"), [(50, True), (64, True), (65, True), (66, False), (99, False)])
def test_pointing_game_at_its_boundary(x, hit):
    """The region ends at column 50: 14 and 15 pixels away are hits, 16 a miss."""
    region = torch.zeros(60, 100, dtype=torch.bool)
    region[30, 40:51] = True
    assert lesson.pointing_game(dot(30, x), region) is hit
    assert lesson.pointing_game(dot(30, x), region, tolerance=0) is (x == 50)


def test_pointing_game_measures_straight_distance_and_knows_x_from_y():
    region = dot(20, 70).bool()
    assert lesson.pointing_game(dot(29, 82), region) is True            # 9, 12: 15 pixels
    assert lesson.pointing_game(dot(30, 82), region) is False
    assert lesson.pointing_game(dot(20, 30), dot(30, 20).bool(), tolerance=5) is False


def test_pointing_game_any_instance_first_maximum():
    regions = torch.stack([dot(5, 5), dot(50, 90)]).bool()
    assert lesson.pointing_game(dot(50, 80), regions) is True
    tie = dot(5, 5) + dot(59, 0)
    assert lesson.pointing_game(tie, regions[:1]) is True
    assert lesson.pointing_game(tie, dot(59, 0).bool()) is False        # the later maximum does not count
    assert lesson.pointing_game(dot(5, 5) - 2 * dot(50, 90), regions[:1]) is True    # the largest, not the largest |.|


def test_pointing_game_that_makes_no_sense_is_none():
    nothing = torch.zeros(60, 100, dtype=torch.bool)
    assert lesson.pointing_game(dot(3, 3), nothing) is None
    assert lesson.pointing_game(dot(3, 3), nothing[None].expand(0, -1, -1)) is None
    assert lesson.pointing_game(torch.ones(60, 100), ~nothing) is None
    with pytest.raises(ValueError, match="regions"):
        lesson.pointing_game(dot(3, 3), nothing.T)


def test_energy_pointing_game():
    mask = torch.zeros(4, 5, dtype=torch.bool)
    mask[:2, :3] = True
    assert lesson.energy_pointing_game(torch.ones(4, 5), mask) == pytest.approx(6 / 20)
    assert lesson.energy_pointing_game(mask.float(), mask) == 1
    assert lesson.energy_pointing_game((~mask).float(), mask) == 0
    map = torch.full((4, 5), -9.0)
    map[0, 0], map[3, 4] = 3.0, 1.0
    assert lesson.energy_pointing_game(map, mask) == 0.75              # negative values are no evidence
    instances = torch.stack([dot(0, 0, (4, 5)), dot(3, 4, (4, 5))]).bool()
    assert lesson.energy_pointing_game(map, instances) == 1
    assert math.isnan(lesson.energy_pointing_game(-torch.ones(4, 5), mask))
    assert math.isnan(lesson.energy_pointing_game(torch.ones(4, 5), torch.zeros(4, 5)))


def test_grid_pointing_game(net):
    images = torch.randn(4, 3, 16, 20, generator=seeded())

    def oracle(_model, pictures: Tensor, target) -> Tensor:
        """All in the quarter whose number is the class."""
        assert pictures.shape == (4, 3, 16, 20)
        maps = -torch.ones(4, 16, 20)
        for map, number in zip(maps, target, strict=True):
            y, x = divmod(number, 2)
            map[8 * y : 8 * y + 8, 10 * x : 10 * x + 10] = 1
        return maps

    assert lesson.grid_pointing_game(oracle, net, images, [0, 1, 2, 3]).tolist() == [1, 1, 1, 1]
    assert lesson.grid_pointing_game(oracle, net, images, [1, 0, 2, 3]).tolist() == [0, 0, 1, 1]
    assert lesson.grid_pointing_game(lesson.uniform_map, net, images, [0, 1, 2, 0]).tolist() == [0.25] * 4
    negative = lesson.grid_pointing_game(lambda *_: -torch.ones(4, 16, 20), net, images, [0, 1, 2, 0])
    assert negative.isnan().all()
    with pytest.raises(ValueError, match="four"):
        lesson.grid_pointing_game(oracle, net, images[:3], [0, 1, 2])


def test_human_agreement():
    map = torch.rand(20, 30, generator=seeded(1))
    assert lesson.human_agreement(map, map) == pytest.approx(1)
    assert lesson.human_agreement(map, torch.exp(5 * map)) == pytest.approx(1)                # any monotone function
    assert lesson.human_agreement(map, -map) == pytest.approx(-1)
    assert abs(lesson.human_agreement(map, torch.rand(20, 30, generator=seeded(2)))) < 0.15
    assert lesson.human_agreement(map, map, ceiling=0.5) == pytest.approx(2)
    ranks = [m.flatten().argsort().argsort().numpy() for m in (map, map.T.reshape(20, 30))]
    assert lesson.human_agreement(map, map.T.reshape(20, 30)) == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert math.isnan(lesson.human_agreement(map, torch.ones(20, 30)))
    assert math.isnan(lesson.human_agreement(torch.zeros(20, 30), map))
    with pytest.raises(ValueError, match="load_human_map"):
        lesson.human_agreement(map, map.T)


def test_human_maps_from_files(tmp_path):
    """As an array or as a picture, cropped as the photograph is."""
    values = np.zeros((300, 400), dtype=np.uint8)
    values[100:200, 150:250] = 255
    np.save(tmp_path / "map.npy", values)
    Image.fromarray(values).save(tmp_path / "map.png")
    for name in ("map.npy", "map.png"):
        map = lesson.load_human_map(tmp_path / name)
        assert map.shape == (224, 224)
        assert map[112, 112] == pytest.approx(1)
        assert map[0, 0] == 0
        assert (map > 0.5).float().mean().item() == pytest.approx((100 * 256 / 300 / 224) ** 2, rel=0.03)


# Robustness, randomisation


def test_max_sensitivity_of_a_constant_explainer_is_zero(net, photo):
    assert lesson.max_sensitivity(lesson.uniform_map, net, photo, 0) == 0
    assert lesson.max_sensitivity(lesson.METHODS["vanilla_gradient"], net, photo, 0, radius=0) == 0
    assert math.isnan(lesson.max_sensitivity(lambda _m, x, _t: 0 * x[:, 0], net, photo, 0))


def test_max_sensitivity_by_loops(net, photo):
    def method(model: nn.Module, images: Tensor, target: int) -> Tensor:
        return channel_reduce(images**2, "sum")

    generator, clean, found = seeded(6), (photo**2).sum(dim=1), []
    for _ in range(5):
        noise = 0.3 * (2 * torch.rand(photo.shape, generator=generator) - 1)
        found.append((((photo + noise) ** 2).sum(dim=1) - clean).norm() / clean.norm())
    value = lesson.max_sensitivity(method, net, photo, 0, radius=0.3, samples=5, generator=seeded(6))
    assert value == pytest.approx(max(found).item(), rel=1e-5)
    assert value > min(found)


def test_max_sensitivity_keeps_the_clean_class(photo):
    """The class of the clean image, also where noise changes the answer; and noise stays within its radius."""
    seen = []

    def spy(_model, images: Tensor, target: int) -> Tensor:
        seen.append((target, (images - photo).abs().max().item()))
        return images[:, 0]

    model = Sum(torch.full((3, 6, 8), 1e-3 * photo.sum().sign().item()))
    lesson.max_sensitivity(spy, model, photo, radius=2.0, samples=20)
    assert {target for target, _ in seen} == {1}
    assert 1.9 < max(distance for _, distance in seen) <= 2.0


def test_randomization_of_a_map_that_ignores_the_model_stays_one(net):
    image = torch.randn(1, 3, 9, 11, generator=seeded())
    with unchanged(net, image):
        for method in (lesson.random_map, lesson.edge_map):
            for scores in lesson.parameter_randomization(method, net, image).values():
                assert list(scores.values()) == pytest.approx([1, 1, 1])
    for scores in lesson.parameter_randomization(lesson.uniform_map, net, image).values():
        assert all(math.isnan(value) for value in scores.values())


def test_randomization_step_by_step(net):
    """A copy, randomised from the top; the original untouched; its own map is compared."""
    image = torch.randn(1, 3, 16, 16, generator=seeded())
    method = lesson.METHODS["gradient_times_input"]
    with unchanged(net, image):
        found = lesson.parameter_randomization(method, net, image, 1, generator=seeded(3))
    assert list(found) == ["as trained", "fc", "conv2", "conv1"]
    assert list(found["as trained"].values()) == pytest.approx([1, 1, 1])
    trained, generator = method(net, image, 1)[0], seeded(3)
    for stage in ("fc", "conv2", "conv1"):
        lesson.lesson_06.randomize(net.get_submodule(stage), generator)
        assert found[stage] == pytest.approx(lesson.likeness(trained, method(net, image, 1)[0]))
    assert min(found["conv1"].values()) < 0.9


def test_likeness():
    map = torch.randn(20, 30, generator=seeded(1))
    assert lesson.likeness(map, 3 * map) == pytest.approx({"spearman": 1, "spearman_abs": 1, "ssim": 1})
    turned = lesson.likeness(map, -map)
    assert turned["spearman"] == pytest.approx(-1)
    assert turned["spearman_abs"] == pytest.approx(1)
    assert turned["ssim"] == pytest.approx(1)
    for pair in ((map, torch.ones(20, 30)), (torch.zeros(20, 30), map)):
        assert all(math.isnan(value) for value in lesson.likeness(*pair).values())
    signs = lesson.likeness(map.sign(), map)
    assert math.isnan(signs["spearman_abs"])
    assert signs["spearman"] > 0.5


# Planted scenes


GROUND = Image.new("RGB", (300, 400), (90, 120, 60))


def test_a_scene_is_background_plus_animals_where_the_masks_say():
    image, masks, classes = lesson.planted_scene(["zebra", "pig"], GROUND, seed=4)
    assert image.shape == (1, 3, 224, 224)
    assert masks.shape == (2, 224, 224)
    assert masks.dtype == torch.bool
    assert classes == [find_class("zebra"), find_class("hog")]
    assert not (masks[0] & masks[1]).any()
    photo = lesson.displayable(image)[0]
    near = torch.from_numpy(np.abs(photo - np.array([90, 120, 60]) / 255).max(axis=2) < 0.02)
    grown = torch.nn.functional.max_pool2d(masks.any(dim=0).float()[None], 7, stride=1, padding=3)[0].bool()
    assert near[~grown].all()                                          # nothing but background elsewhere
    assert near[masks.any(dim=0)].float().mean() < 0.2


def test_scenes_are_seeded_and_vary():
    scenes = [lesson.planted_scene(["duck"], GROUND, seed=seed)[1][0] for seed in range(60)]
    assert torch.equal(scenes[7], lesson.planted_scene(["duck"], GROUND, seed=7)[1][0])
    sides, centres, lean = [], [], []
    for mask in scenes:
        ys, xs = mask.nonzero(as_tuple=True)
        sides.append(max(ys.max() - ys.min(), xs.max() - xs.min()).item() + 1)
        centres.append((ys.double().mean().item(), xs.double().mean().item()))
        lean.append(((2 * xs.double().mean() - xs.min() - xs.max()) / (xs.max() - xs.min())).item())
    assert 66 <= min(sides) < 80
    assert 118 < max(sides) <= 130
    assert np.ptp(centres, axis=0).min() > 70
    assert 15 < sum(value > 0 for value in lean) < 45                  # about half of them are mirrored


def test_edges_are_soft():
    image, masks, _ = lesson.planted_scene(["penguin"], Image.new("RGB", (224, 224), "black"), seed=0)
    brightness = lesson.displayable(image)[0].mean(axis=2)
    rim = torch.nn.functional.max_pool2d(masks.float(), 3, stride=1, padding=1)[0].bool() & ~masks[0]
    assert ((brightness[rim] > 0.02) & (brightness[rim] < 0.5)).mean() > 0.2


def test_scene_refusals():
    with pytest.raises(ValueError, match="zebra"):
        lesson.planted_scene(["unicorn"], GROUND, seed=0)
    with pytest.raises(ValueError, match="no room"):
        lesson.planted_scene(["zebra"] * 30, GROUND, seed=0)
    with pytest.raises(ValueError, match="does not fit"):
        lesson.planted_scene(["zebra"], GROUND, seed=0, size=64)
    assert lesson.planted_scene(["zebra"], GROUND, seed=0, size=64, sides=(20, 40))[0].shape == (1, 3, 64, 64)


def test_cutouts_have_classes_and_backgrounds_no_animals():
    classes = lesson.cutout_classes()
    assert len(classes) == len(set(classes.values())) == 25
    for name in classes:
        alpha = np.asarray(lesson.cutout(name).getchannel("A"))
        assert 0.1 < (alpha > 127).mean() < 0.95
    assert (PROJECT_ROOT / "data" / "cutouts" / "COPYING").read_text().count("GNU GENERAL PUBLIC LICENSE") >= 1
    annotations = lesson.json.loads((PROJECT_ROOT / "data" / "annotations.json").read_text())
    for entry in annotations.values():
        if "background" in entry:
            x0, y0, x1, y1 = entry["background"]
            assert all(x1 <= a or x0 >= c or y1 <= b or y0 >= d for a, b, c, d in entry["boxes"])
    assert len(lesson.backgrounds()) == 15


@pytest.fixture(scope="module")
def kept(squeezenet) -> tuple:
    return lesson.scenes(squeezenet, 6, 0, "cpu")


def test_only_scenes_count_in_which_the_network_finds_the_class(kept, squeezenet):
    scenes, dropped = kept
    assert len(scenes) == 6
    assert dropped > 0
    for scene in scenes:
        with torch.no_grad():
            p = squeezenet(scene.image).softmax(1)[0]
        found = p[scene.target] > 0.5 if scene.kind == "one animal" else scene.target in p.topk(5).indices
        assert found
        assert scene.regions.shape == (1, 224, 224)
    assert [scene.kind for scene in scenes] == ["one animal", "two animals"] * 3
    again, same = lesson.scenes(squeezenet, 6, 0, "cpu")
    assert same == dropped
    assert all(torch.equal(a.image, b.image) for a, b in zip(scenes, again, strict=True))


def test_the_mask_is_the_best_map_and_noise_the_expected_one(kept):
    for scene in kept[0]:
        mask, noise = scene.regions[0], lesson.random_map(None, scene.image)[0]
        assert lesson.energy_pointing_game(mask.float(), mask) == 1
        assert lesson.pointing_game(mask.float(), mask) is True
        assert lesson.human_agreement(mask.float(), mask.float()) == pytest.approx(1)
        assert lesson.energy_pointing_game(noise, mask) == pytest.approx(mask.float().mean().item(), rel=0.05)


def test_boxes_are_cropped_as_the_photograph_is(dog):
    """The dog's box, drawn on the photograph, then preprocessed."""
    masks = lesson.box_masks("dog.jpg")
    x0, y0, x1, y1 = lesson.json.loads((PROJECT_ROOT / "data" / "annotations.json").read_text())["dog.jpg"]["boxes"][0]
    scale = 256 / min(dog.size)
    left, top = (dog.width * scale - 224) / 2, (dog.height * scale - 224) / 2
    ys, xs = masks[0].nonzero(as_tuple=True)
    rows, columns = ([y * scale - top for y in (y0, y1)], [x * scale - left for x in (x0, x1)])
    expected = np.clip([*rows, *columns], 0, 224).tolist()
    assert [ys.min(), ys.max() + 1, xs.min(), xs.max() + 1] == pytest.approx(expected, abs=1.5)


# Statistics


def test_bootstrap():
    assert lesson.bootstrap([2.0] * 9) == lesson.Estimate(2.0, 2.0, 2.0, 9)
    values = [*np.random.default_rng(1).normal(3, 2, 400), math.nan]
    found = lesson.bootstrap(values)
    assert found.n == 400
    assert found.mean == pytest.approx(np.nanmean(values))
    assert [found.low, found.high] == pytest.approx([found.mean - 0.196, found.mean + 0.196], abs=0.03)
    for few in ([1.0], [], [math.nan, 4.0]):
        assert math.isnan(lesson.bootstrap(few).low)
        assert lesson.bootstrap(few).n == sum(not math.isnan(value) for value in few)


def estimate(low: float, high: float, n: int = 10):
    return lesson.Estimate((low + high) / 2, low, high, n)


def test_leaders_are_all_that_overlap_the_best():
    row = {"a": estimate(0.5, 0.7), "b": estimate(0.65, 0.9), "c": estimate(0.1, 0.6), "random": estimate(0.9, 1.0),
           "d": lesson.Estimate(5.0, math.nan, math.nan, 1)}  # fmt: skip
    assert lesson.leaders(row, 1) == ["b", "a"]
    assert lesson.leaders(row, -1) == ["c", "a"]


@pytest.mark.parametrize(
    ("low", "high", "side", "expected"),
    [(0.6, 0.8, "above", "holds"), (0.4, 0.8, "above", "undecided"), (0.1, 0.4, "above", "does not hold"),
     (0.6, 0.8, "below", "does not hold"), (0.1, 0.4, "below", "holds"), (0.4, 0.6, "below", "undecided")],
)
def test_verdicts(low, high, side, expected):
    assert lesson.verdict(estimate(low, high), side, 0.5) == expected
    assert lesson.verdict(estimate(low, high, n=2), side, 0.5).startswith("undecided")


def test_differences_are_taken_picture_by_picture():
    """Pictures differ by ten, methods by one: paired, the difference is certain."""
    values = {"a": [10.0 * i + 1 for i in range(8)], "b": [10.0 * i for i in range(8)]}
    rows = [("r", "g", f"picture{i}", m, "m", "", value) for m in values for i, value in enumerate(values[m])]
    assert lesson.difference(rows, "m", "a", "b") == lesson.Estimate(1.0, 1.0, 1.0, 8)


def test_roughness():
    assert lesson.roughness(torch.rand(200, 200, generator=seeded())) == pytest.approx(1, abs=0.02)
    assert lesson.roughness(torch.linspace(0, 1, 200).expand(200, 200)) < 0.02
    assert math.isnan(lesson.roughness(torch.ones(9, 9)))


# A run


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory):
    """Two cheap methods and one control on two pictures: folder and printed text."""
    out = tmp_path_factory.mktemp("run")
    assert run("--image", "dog.jpg", "--image", "koala.jpg", "--methods", "grad_cam,vanilla_gradient,random",
               "--output-dir", out) == 0  # fmt: skip
    return out


def run(*options: object) -> int:
    return run_lesson(lambda: lesson.main(["--quick", *(str(option) for option in options)]))


def test_what_a_run_writes(quick_run):
    names = {path.name for path in quick_run.iterdir()}
    figures = {"gallery.png", "scores.png", "curves.png", "cost.png", "randomization.png", "sensitivity_n.png"}
    assert names == figures | {"scores.csv", "08_report.md", "kept"}
    rows = lesson.read_scores(quick_run / "scores.csv")
    assert {row[3] for row in rows} == {"grad_cam", "vanilla_gradient", "random"}
    table = lesson.summary(rows, ["grad_cam"])
    assert set(lesson.METRICS) - set(table) == {"grid"}                # two photographs make no mosaic
    curve = np.load(next(quick_run.glob("kept/*/dog.jpg-grad_cam-insertion.npy")))
    (value,) = (row[-1] for row in rows if row[2:6] == ("dog.jpg", "grad_cam", "insertion", ""))
    assert value == pytest.approx(lesson.area_under_curve(curve))


def test_the_report_repeats_the_numbers_and_ranks_no_overlap(quick_run):
    report = (quick_run / "08_report.md").read_text()
    table = lesson.summary(lesson.read_scores(quick_run / "scores.csv"), ["grad_cam", "vanilla_gradient", "random"])
    for metric, row in table.items():
        line = next(line for line in report.splitlines() if line.startswith(f"| {lesson.METRICS[metric][0]} |"))
        assert all(str(found) in line for found in row.values())
    first, second = (table["insertion"][method] for method in ("grad_cam", "vanilla_gradient"))
    assert lesson.overlap(first, second)
    (line,) = (line for line in report.splitlines() if "come back?" in line)
    assert "not to be told apart from" in line
    assert "| undecided |" in report


def test_a_second_run_computes_nothing(quick_run, monkeypatch, capsys):
    def never(*_: object) -> None:
        raise AssertionError("computed again")

    before = (quick_run / "scores.csv").read_bytes()
    for name in ("grad_cam", "vanilla_gradient", "random"):
        monkeypatch.setitem(lesson.METHODS, name, never)
    monkeypatch.setattr(lesson, "replacement_curve", never)
    monkeypatch.setattr(lesson, "score_drops", never)
    assert run("--image", "dog.jpg", "--image", "koala.jpg", "--methods", "grad_cam,vanilla_gradient,random",
               "--output-dir", quick_run) == 0  # fmt: skip
    assert (quick_run / "scores.csv").read_bytes() == before


def test_a_students_method_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(lesson.METHODS, "mine", lambda model, images, target: images[:, 0])
    options = ["--image", "dog.jpg", "--methods", "mine", "--metrics", "map,curves,places"]
    assert run(*options, "--output-dir", tmp_path) == 0
    assert {row[3] for row in lesson.read_scores(tmp_path / "scores.csv")} == {"mine"}


def test_human_maps_of_a_folder_take_the_place_of_boxes(tmp_path):
    """The centred Gaussian as human map, the same as method: they agree; without the folder the boxes stand in."""
    options = ["--image", "koala.jpg", "--methods", "centre", "--metrics", "places"]
    np.save(tmp_path / "koala.npy", lesson.centre_map(None, torch.zeros(1, 3, 300, 300))[0].numpy())
    values = []
    for i, more in enumerate((["--human", tmp_path], [])):
        assert run(*options, *more, "--output-dir", tmp_path / str(i)) == 0
        values += [row[-1] for row in lesson.read_scores(tmp_path / str(i) / "scores.csv") if row[4] == "human"]
    assert values[0] > 0.99
    assert values[-1] < 0.9


def test_a_missing_human_folder_is_told(tmp_path, capsys):
    assert run("--human", tmp_path / "none", "--output-dir", tmp_path) == 1
    assert "--human" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "known"), [("--methods", "grad_cam"), ("--metrics", "curves")])
def test_unknown_names_are_told(option, known, tmp_path, capsys):
    assert run(option, "nonsense", "--output-dir", tmp_path) == 1
    error = capsys.readouterr().err
    assert re.fullmatch(rf"error: .*nonsense.*{known}.*\n", error)


def test_a_foreign_scores_csv_is_not_overwritten(tmp_path, capsys):
    (tmp_path / "scores.csv").write_text("name,points\nanna,3\n")
    assert run("--image", "dog.jpg", "--metrics", "map", "--methods", "random", "--output-dir", tmp_path) == 1
    assert "move it away" in capsys.readouterr().err
    assert (tmp_path / "scores.csv").read_text() == "name,points\nanna,3\n"


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_run_loses_nothing(tmp_path):
    methods, metrics = "vanilla_gradient,grad_cam,random", "map,curves,places"
    options = ["--quick", "--image", "dog.jpg", "--methods", methods, "--metrics", metrics]
    command = [sys.executable, PROJECT_ROOT / "08_comparative_analysis.py", *options, "--output-dir", tmp_path]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and len(lesson.read_scores(tmp_path / "scores.csv")) < 8:
            time.sleep(0.01)
        running.send_signal(signal.SIGKILL)
    before = lesson.read_scores(tmp_path / "scores.csv")
    assert 8 <= len(before) < 60
    assert run(*options[1:], "--output-dir", tmp_path) == 0
    after = lesson.read_scores(tmp_path / "scores.csv")
    assert after[: len(before)] == before
    assert len({row[:6] for row in after}) == len(after)
    assert not list(tmp_path.rglob("*.part"))
