"""Sensitivity-n and infidelity: do the numbers of a map predict what a removal costs?"""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from conftest import Sum, drawing, unchanged
from torch import Tensor

from evaluation import sensitivity as part
from evaluation import steadiness
from utils import import_lesson

vanilla_gradient = import_lesson("01_vanilla_gradient_saliency").vanilla_gradient


# Sensitivity-n


@pytest.mark.parametrize("block", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_sensitivity_n_of_a_linear_model_is_one(n, block):
    w, image = torch.randn(3, 6, 8, generator=drawing(1)), torch.randn(1, 3, 6, 8, generator=drawing(2))
    exact, options = w * image[0], {"n": n, "block": block}
    for attribution in (exact, exact[None], exact.sum(dim=0), 5 * exact):
        assert part.sensitivity_n(Sum(w), image, attribution, 1, **options) == pytest.approx(1, abs=1e-4)
    assert part.sensitivity_n(Sum(w), image, -exact, 1, **options) == pytest.approx(-1, abs=1e-4)
    assert abs(part.sensitivity_n(Sum(w), image, torch.randn(6, 8, generator=drawing(9)), 1, **options)) < 0.8


@pytest.mark.parametrize("n", [1, 2, 10, 47])
def test_sensitivity_n_of_single_pixels(n):
    w, image = torch.randn(3, 6, 8, generator=drawing(1)), torch.randn(1, 3, 6, 8, generator=drawing(2))
    assert part.sensitivity_n(Sum(w), image, w * image[0], 1, n=n) == pytest.approx(1, abs=1e-4)
    assert abs(part.sensitivity_n(Sum(w), image, torch.randn(6, 8, generator=drawing(9)), 1, n=n)) < 0.5


@pytest.mark.parametrize(("block", "n"), [(1, 12), (2, 4), (4, 2)])
def test_sensitivity_n_by_loops(net, photo, block, n):
    R = torch.randn(3, 6, 8, generator=drawing(5))
    masks = part.random_subsets(30, n, (6, 8), drawing(4), block)
    sums, drops = [], []
    for mask in masks:
        removed = photo.clone()
        removed[:, :, mask] = 0
        sums.append(R[:, mask].sum().item())
        drops.append((net(photo) - net(removed))[0, 2].item())         # logits
    found = part.sensitivity_n(net, photo, R, 2, n=n, samples=30, generator=drawing(4), block=block)
    assert found == pytest.approx(np.corrcoef(sums, drops)[0, 1], abs=1e-4)


def test_subsets_have_n_pixels_anywhere():
    masks = part.random_subsets(400, 5, (6, 8), None)
    assert masks.flatten(1).sum(dim=1).eq(5).all()
    share = masks.float().mean(dim=0)
    assert share.min() > 0.03
    assert share.max() < 0.19
    assert torch.equal(masks, part.random_subsets(400, 5, (6, 8), drawing(0)))


def test_blocks_lie_on_a_grid_and_are_cut_at_the_border():
    masks = part.random_subsets(300, 2, (10, 14), None, block=4)       # 3 x 4 blocks, the last ones 2 pixels high, wide
    assert masks.shape == (300, 10, 14)
    cells = masks[:, ::4, ::4]
    assert cells.flatten(1).sum(dim=1).eq(2).all()
    whole = cells.repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)[:, :10, :14]
    assert torch.equal(masks, whole)
    assert cells.float().mean(dim=0).min() > 0.08
    assert set(part.random_subsets(300, 1, (10, 14), None, block=4).flatten(1).sum(dim=1).tolist()) == {16, 8, 4}


def test_chance_makes_correlations_of_one_over_the_root_of_the_samples():
    """The standard error printed beside them, measured over maps of noise."""
    w, image = torch.randn(3, 12, 12, generator=drawing(1)), torch.randn(1, 3, 12, 12, generator=drawing(2))
    masks = part.random_subsets(50, 14, (12, 12), None)
    drops = part.removal_drops(Sum(w), image, masks, 1)
    maps = (torch.randn(12, 12, generator=drawing(i)) for i in range(300))
    found = [part.pearson(part.sums_inside(map, masks), drops) for map in maps]
    assert np.std(found) == pytest.approx(1 / math.sqrt(50), rel=0.15)
    assert abs(np.mean(found)) < 0.03


def test_sensitivity_n_undefined_is_nan(net, photo):
    assert math.isnan(part.sensitivity_n(net, photo, torch.full((6, 8), 0.1), 0, n=5))
    assert math.isnan(part.sensitivity_n(net, photo, torch.rand(6, 8), 0, n=48))
    assert math.isnan(part.sensitivity_n(net, photo, torch.rand(6, 8), 0, n=12, block=2))
    assert math.isnan(part.sensitivity_n(Sum(torch.zeros(3, 6, 8)), photo, torch.rand(6, 8), 1, n=5))
    for wrong in ({"n": 0}, {"n": 2, "samples": 0}, {"n": 2, "block": 0}):
        with pytest.raises(ValueError, match="must be a whole number"):
            part.sensitivity_n(net, photo, torch.rand(6, 8), 0, **wrong)


def test_the_example_of_the_text():
    """min(A + B, 1) + 2 C: equal errors, other correlations."""
    masks = torch.zeros(6, 1, 4, dtype=torch.bool)
    for mask, pair in zip(masks, combinations(range(4), 2), strict=True):
        mask[0, list(pair)] = True
    drops = part.removal_drops(part.FourPixels().eval(), torch.ones(1, 1, 1, 4), masks, 0)
    assert drops.tolist() == [1, 2, 0, 2, 0, 2]
    by_gradient, by_integral = [0, 2, 0, 2, 0, 2], [1, 2.5, 0.5, 2.5, 0.5, 2]
    for shares, predicted, r in (([0, 0, 2, 0], by_gradient, 0.928), ([0.5, 0.5, 2, 0], by_integral, 0.965)):
        sums = part.sums_inside(torch.tensor([shares]), masks)
        assert sums.tolist() == predicted
        assert part.mean_square_error(sums, drops, rescale=False) == pytest.approx(1 / 6)
        assert part.pearson(sums, drops) == pytest.approx(r, abs=1e-3)
    gradient = vanilla_gradient(part.FourPixels().eval(), torch.ones(1, 1, 1, 4), 0)
    assert gradient.flatten().tolist() == [0, 0, 2, 0]


# Infidelity


@pytest.mark.parametrize("perturb", ["noise", "squares"])
def test_infidelity_of_the_exact_attribution_is_zero(perturb):
    w, image = torch.randn(3, 20, 30, generator=drawing(1)), torch.randn(1, 3, 20, 30, generator=drawing(2))
    exact = w if perturb == "noise" else w * image[0]
    for rescale in (True, False):
        found = part.infidelity(Sum(w), image, exact, 1, perturb=perturb, rescale=rescale)
        assert found == pytest.approx(0, abs=1e-6)
    assert part.infidelity(Sum(w), image, 7 * exact, 1, perturb=perturb) == pytest.approx(0, abs=1e-5)
    assert part.infidelity(Sum(w), image, 7 * exact, 1, perturb=perturb, rescale=False) > 1
    assert part.infidelity(Sum(w), image, torch.randn(3, 20, 30, generator=drawing(8)), 1, perturb=perturb) > 0.1


def test_slopes_are_for_noise_and_shares_for_squares():
    """Each is exact for its own disturbance of a linear model, and explains little of the other one's."""
    w, image = torch.randn(3, 20, 30, generator=drawing(1)), torch.randn(1, 3, 20, 30, generator=drawing(2))
    for perturb, right, wrong in (("noise", w, w * image[0]), ("squares", w * image[0], w)):
        options = {"perturb": perturb, "normalised": True, "samples": 200}
        assert part.infidelity(Sum(w), image, right, 1, **options) < 1e-5
        assert part.infidelity(Sum(w), image, wrong, 1, **options) > 0.5


@pytest.mark.parametrize("sigma", [0.2, 0.05])
def test_infidelity_by_loops(net, photo, sigma):
    phi, noise = torch.randn(3, 6, 8, generator=drawing(5)), sigma * torch.randn(20, 3, 6, 8, generator=drawing(4))
    predicted = [(noise[i] * phi).sum().item() for i in range(20)]
    cost = [(net(photo) - net(photo - noise[i]))[0, 1].item() for i in range(20)]
    beta = np.dot(predicted, cost) / np.dot(predicted, predicted)
    options = {"samples": 20, "sigma": sigma}
    for factor, rescale in ((1, False), (beta, True)):
        expected = np.mean([(factor * a - b) ** 2 for a, b in zip(predicted, cost, strict=True)])
        found = part.infidelity(net, photo, phi, 1, rescale=rescale, generator=drawing(4), **options)
        assert found == pytest.approx(expected, rel=1e-3)
        shared = part.infidelity(net, photo, phi, 1, rescale=rescale, generator=drawing(4), normalised=True, **options)
        assert shared == pytest.approx(expected / np.mean(np.square(cost)), rel=1e-3)


def test_the_unexplained_part():
    """0 for a multiple, 1 for what is at a right angle or nothing; the losses themselves are the unit."""
    drops = torch.tensor([1.0, 2, 0, 2, 0, 2]).double()
    assert part.unexplained(5 * drops, drops) == pytest.approx(0)
    assert part.unexplained(torch.zeros(6).double(), drops) == 1
    assert part.unexplained(torch.tensor([0.0, 0, 1, 0, 1, 0]).double(), drops) == 1
    constant = torch.ones(6).double()                                  # (sum of drops)^2 / 6 is explained: 49 / 78
    assert part.unexplained(constant, drops) == pytest.approx(1 - 49 / 78)
    assert part.unexplained(constant, 1000 * drops) == pytest.approx(1 - 49 / 78)
    assert math.isnan(part.unexplained(constant, 0 * drops))


def test_infidelity_squares_and_refusal(net, photo):
    masks = part.random_squares(100, (20, 30), None)
    for mask in masks:
        ys, xs = mask.nonzero(as_tuple=True)
        side = ys.max() - ys.min() + 1
        assert side == xs.max() - xs.min() + 1
        assert mask.sum() == side**2
        assert 2 <= side <= 10
    assert masks.any(dim=0).float().mean() > 0.9
    assert len({mask.sum().item() for mask in masks}) > 4
    assert {mask.sum().item() for mask in part.random_squares(100, (20, 30), None, side=7)} == {49}
    assert part.infidelity(net, photo, torch.zeros(6, 8), 0) > 0     # it predicts that nothing costs anything
    with pytest.raises(ValueError, match="perturb"):
        part.infidelity(net, photo, torch.zeros(6, 8), 0, perturb="gauss")
    for side, message in ((7, "does not fit"), (0, "side must")):
        with pytest.raises(ValueError, match=message):
            part.infidelity(net, photo, torch.zeros(6, 8), 0, perturb="squares", side=side)


def test_infidelity_of_squares_by_loops(net, photo):
    R, masks = torch.randn(3, 6, 8, generator=drawing(5)), part.random_squares(30, (6, 8), drawing(4), side=3)
    predicted = np.array([R[:, mask].sum().item() for mask in masks])
    cost = np.array([(net(photo) - net(torch.where(mask, 0, photo)))[0, 1].item() for mask in masks])
    beta = predicted @ cost / (predicted @ predicted)
    found = part.infidelity(net, photo, R, 1, perturb="squares", samples=30, side=3, generator=drawing(4))
    assert found == pytest.approx(np.mean((beta * predicted - cost) ** 2), rel=1e-3)


def test_infidelity_as_captum_has_it(net, photo):
    """The same noise, handed to both."""
    metrics = pytest.importorskip("captum.metrics")
    phi, noise = torch.randn(1, 3, 6, 8, generator=drawing(5)), 0.2 * torch.randn(20, 3, 6, 8, generator=drawing(4))
    rows = iter(noise)

    def disturb(inputs: Tensor) -> tuple[Tensor, Tensor]:
        moved = torch.stack([next(rows) for _ in inputs])
        return moved, inputs - moved

    theirs = metrics.infidelity(net, disturb, photo, phi, target=1, n_perturb_samples=20).item()
    ours = part.infidelity(net, photo, phi, 1, samples=20, rescale=False, generator=drawing(4))
    assert ours == pytest.approx(theirs, rel=1e-3)


@pytest.mark.parametrize("score", [
    lambda model, image: part.sensitivity_n(model, image, image[0], n=4, samples=3),
    lambda model, image: part.infidelity(model, image, image[0], samples=3),
    lambda model, image: part.infidelity(model, image, image[0], samples=3, perturb="squares"),
])  # fmt: skip
def test_scores_leave_no_trace_and_take_one_image(score, net, photo):
    with unchanged(net, photo):
        first = score(net, photo)
    assert score(net, photo) == first                                  # seeded
    with pytest.raises(ValueError, match="one image"):
        score(net, photo.expand(2, -1, -1, -1))
    net.fc.train()
    with pytest.raises(ValueError, match=r"eval\(\)"):
        score(net, photo)


def test_max_sensitivity_can_be_had_from_here():
    """It moved into a part of its own."""
    assert part.max_sensitivity is steadiness.max_sensitivity
