"""Exercises of lesson 04, with their points."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import PixelFunction, assert_tensor, unchanged

RULES = ("left", "right", "midpoint", "trapezoid")


def cubes(x: torch.Tensor) -> torch.Tensor:
    """Class c is the sum of the cubes of colour c."""
    return x.pow(3).sum(dim=(2, 3))


@pytest.mark.points(1, exercise="4.1")
def test_left_right_midpoint_by_hand(lesson):
    for rule, nodes in (("left", [0, 0.25, 0.5, 0.75]), ("right", [0.25, 0.5, 0.75, 1]),
                        ("midpoint", [0.125, 0.375, 0.625, 0.875])):  # fmt: skip
        found = lesson.quadrature(rule, 4)
        np.testing.assert_allclose(found[0], nodes)
        np.testing.assert_allclose(found[1], [0.25] * 4)


@pytest.mark.points(1, exercise="4.1")
def test_trapezoid_by_hand(lesson):
    nodes, weights = lesson.quadrature("trapezoid", 5)
    np.testing.assert_allclose(nodes, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(weights, [0.125, 0.25, 0.25, 0.25, 0.125])


@pytest.mark.points(1, exercise="4.1")
def test_rules_have_n_nodes_and_weights_that_sum_to_one(lesson):
    for rule in RULES:
        for n in (2, 3, 50):
            nodes, weights = lesson.quadrature(rule, n)
            assert len(nodes) == len(weights) == n
            assert weights.sum() == pytest.approx(1)
            assert np.asarray(nodes).dtype == np.asarray(weights).dtype == np.float64


@pytest.mark.points(1, exercise="4.1")
def test_rules_on_polynomials(lesson):
    """Midpoint and trapezoid are exact for a slope that is linear; left and right are off by half a step."""
    means = {rule: float(lesson.quadrature(rule, 10)[1] @ (2 * lesson.quadrature(rule, 10)[0])) for rule in RULES}
    assert means == pytest.approx({"left": 0.9, "right": 1.1, "midpoint": 1, "trapezoid": 1})
    assert lesson.quadrature("midpoint", 1)[0].tolist() == [0.5]


@pytest.mark.points(1, exercise="4.2")
def test_shares_of_cubes(lesson, small_images):
    """IG of x^3 from x' is x^3 - x'^3, which two Gauss-Legendre nodes give exactly."""
    expected = torch.zeros_like(small_images)
    expected[:, 1] = (small_images**3 - 0.5**3)[:, 1]
    half = torch.full((3, 1, 1), 0.5).double()
    found = lesson.integrated_gradients(PixelFunction(cubes), small_images, 1, baseline=half, n_steps=2)
    assert_tensor(found, expected)


@pytest.mark.points(1, exercise="4.2")
def test_nodes_and_weights_of_the_rule_are_used(lesson, small_images):
    for rule in (*RULES, "gausslegendre"):
        nodes, weights = lesson.quadrature(rule, 5)
        factor = float(weights @ (3 * nodes**2))  # for x^3 from zero
        found = lesson.integrated_gradients(PixelFunction(cubes), small_images, 0, rule=rule, n_steps=5)
        torch.testing.assert_close(found[:, 0], factor * small_images[:, 0] ** 3)


@pytest.mark.points(1, exercise="4.2")
def test_chunks_do_not_change_the_sum(lesson, tiny, small_images):
    parts = [lesson.integrated_gradients(tiny, small_images, 1, n_steps=7, batch_size=size) for size in (7, 3, 1)]
    assert_tensor(parts[1], parts[0])
    assert_tensor(parts[2], parts[0])
    assert not parts[0].requires_grad


@pytest.mark.points(1, exercise="4.2")
def test_each_image_has_its_own_path_and_class(lesson, tiny, small_images):
    baseline = small_images.flip(0) / 2
    run = {"n_steps": 4, "batch_size": 3}
    singles = [lesson.integrated_gradients(tiny, small_images[i : i + 1], i, baseline=baseline[i : i + 1], **run)
               for i in range(3)]  # fmt: skip
    with unchanged(tiny, small_images):
        found = lesson.integrated_gradients(tiny, small_images, [0, 1, 2], baseline=baseline, **run)
    assert_tensor(found, torch.cat(singles))


@pytest.mark.points(1, exercise="4.2")
def test_shares_add_up_and_baseline_swaps(lesson, tiny, small_images):
    other = small_images.roll(1, 0)
    found = lesson.integrated_gradients(tiny, small_images, 2, baseline=other, n_steps=1000, rule="midpoint",
                                        batch_size=500)  # fmt: skip
    with torch.no_grad():
        difference = (tiny(small_images) - tiny(other))[:, 2]
    torch.testing.assert_close(found.sum(dim=(1, 2, 3)), difference, rtol=0.01, atol=1e-3)
    back = lesson.integrated_gradients(tiny, other, 2, baseline=small_images, n_steps=1000, rule="midpoint",
                                       batch_size=500)  # fmt: skip
    assert_tensor(back, -found, rtol=1e-6, atol=1e-9)


@pytest.mark.points(1, exercise="4.3")
def test_gap_by_hand(lesson, linear):
    images = torch.linspace(-2, 2, 72).double().reshape(3, 3, 2, 4).sin()
    exact = linear[1].weight.detach()[[2, 0, 1]].reshape(3, 3, 2, 4) * images
    too_much = torch.tensor([0.5, -1.0, 0.0]).double()
    exact[:, 0, 0, 0] += too_much
    assert_tensor(lesson.completeness_gap(linear, images, exact, [2, 0, 1]), too_much)


@pytest.mark.points(1, exercise="4.3")
def test_gap_counts_from_the_baseline(lesson, linear):
    images = torch.linspace(-2, 2, 72).double().reshape(3, 3, 2, 4).sin()
    for baseline in (images.roll(1, 0), "white"):
        start = lesson.baseline_images(images, baseline)
        exact = linear[1].weight.detach()[1].reshape(3, 2, 4) * (images - start)
        gap = lesson.completeness_gap(linear, images, exact, 1, baseline=baseline)
        assert_tensor(gap, torch.zeros(3).double(), atol=1e-9, rtol=0)
    assert lesson.completeness_gap(linear, images, 0 * exact, 1, baseline="white").abs().min() > 1e-3


@pytest.mark.points(1, exercise="4.3")
def test_gap_follows_the_images_class(lesson):
    """The baseline's own top class is another one."""
    model = PixelFunction(lambda x: torch.stack([x.sum(dim=(1, 2, 3)), 1 - x.sum(dim=(1, 2, 3))], dim=1))
    images = torch.ones(2, 3, 1, 2).double()
    with unchanged(model, images):
        gap = lesson.completeness_gap(model, images, torch.ones_like(images))
    assert_tensor(gap, torch.zeros(2).double())
    assert not gap.requires_grad


def bend(at: float):
    """A network of one number t: flat up to `at`, then rising with slope 1; pixels are all t."""
    return PixelFunction(lambda x: (x.mean(dim=(1, 2, 3)) - at).relu()[:, None])


def refine(lesson, model, most: int, tolerance: float = 0, image: torch.Tensor | None = None, **options):
    """refine_path from zeros to ones."""
    image = torch.ones(3, 2, 2).double() if image is None else image
    return lesson.refine_path(model, image, torch.zeros_like(image), 0, tolerance, max_gradients=most, **options)


@pytest.mark.points(1, exercise="4.4")
def test_pieces_cover_the_path(lesson, tiny, small_images):
    pieces, costs = refine(lesson, tiny, 47, image=small_images[2])
    pieces = sorted(pieces, key=lambda piece: piece.left)
    assert pieces[0].left == pytest.approx(0)
    assert pieces[-1].right == pytest.approx(1)
    for before, after in pairwise(pieces):
        assert before.right == pytest.approx(after.left)
        assert before.score_right == pytest.approx(after.score_left)
    assert len(pieces) == costs[-1].gradients <= 47
    assert len(costs) > 1


@pytest.mark.points(1, exercise="4.4")
def test_pieces_know_their_scores_and_gradients(lesson, tiny, small_images):
    image = small_images[2]
    for piece in refine(lesson, tiny, 40, image=image)[0]:
        alphas = torch.tensor([piece.left, piece.right]).double()[:, None, None, None]
        with torch.no_grad():
            scores = tiny(alphas * image)[:, 0].tolist()
        assert [piece.score_left, piece.score_right] == pytest.approx(scores)
        x = ((piece.left + piece.right) / 2 * image)[None].requires_grad_()
        (gradient,) = torch.autograd.grad(tiny(x)[0, 0], x)
        assert_tensor(piece.gradient, gradient[0])
        assert piece.slope == pytest.approx((gradient[0] * image).sum().item())


@pytest.mark.points(1, exercise="4.4")
def test_a_round_costs_two_gradients_a_piece(lesson, small_images):
    computed = []

    def formula(x: torch.Tensor) -> torch.Tensor:
        computed.extend(x.detach().flatten(1).tolist() if x.requires_grad else [])
        return x.pow(3).sum(dim=(2, 3))

    pieces, costs = refine(lesson, PixelFunction(formula), 60, image=small_images[2])
    assert len(computed) == len(pieces) == costs[-1].gradients == 60
    assert [cost.gradients for cost in costs] == [10, 20, 30, 40, 50, 60]


@pytest.mark.points(1, exercise="4.4")
def test_cuts_go_where_the_gap_is(lesson):
    """One bend, at 0.33: all pieces but those about it are exact, whatever the sign of its gap."""
    for at in (0.33, 0.37):
        for model in (bend(at), PixelFunction(lambda x, at=at: -bend(at)(x))):
            pieces, costs = refine(lesson, model, 200, 1e-4)
            assert abs(costs[-1].gap) <= 1e-4 * 0.7
            assert costs[-1].gradients <= 60
            bent = next(piece for piece in pieces if piece.left <= at <= piece.right)
            assert bent.width < 0.02


@pytest.mark.points(1, exercise="4.4")
def test_refined_shares_add_up(lesson, tiny, small_images):
    pieces, costs = refine(lesson, tiny, 150, 1e-3, image=small_images[1])
    mean = sum((piece.right - piece.left) * piece.gradient for piece in pieces)
    with torch.no_grad():
        difference = (tiny(small_images[1:2]) - tiny(0 * small_images[1:2]))[0, 0].item()
    gap = (mean * small_images[1]).sum().item() - difference
    assert gap == pytest.approx(costs[-1].gap, abs=1e-9)
    assert abs(gap) <= 1e-3 * abs(difference)
