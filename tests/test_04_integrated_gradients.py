"""Lesson 04: Integrated Gradients."""

import captum.attr
import numpy as np
import pytest
import torch
from conftest import (
    PixelFunction,
    assert_common_contract,
    assert_leaves_no_trace,
    relative_error,
    unchanged,
)
from torch import nn
from torchvision.transforms.functional import gaussian_blur

from course import refined_path
from utils import IMAGENET_MEAN, IMAGENET_STD, import_lesson

lesson = import_lesson("04_integrated_gradients")
integrated_gradients = lesson.integrated_gradients
gradient_times_input = import_lesson("02_gradient_input_saliency").gradient_times_input
vanilla_gradient = import_lesson("01_vanilla_gradient_saliency").vanilla_gradient
RULES = ["left", "right", "midpoint", "trapezoid", "gausslegendre"]


def pixels(*values: float) -> torch.Tensor:
    """An "image" of one row: (1, 1, 1, N), float64."""
    return torch.tensor(values, dtype=torch.float64).reshape(1, 1, 1, -1)


def function(formula) -> nn.Module:
    """A network with one class from a formula of the flat pixels (B, N) -> (B,)."""
    return PixelFunction(lambda x: formula(x.flatten(1))[:, None])


SQUARES = function(lambda x: x.pow(2).sum(1))
CUBES = function(lambda x: x.pow(3).sum(1))


# Quadrature


def test_nodes_and_weights_by_hand():
    expected = {
        "left": ([0, 0.25, 0.5, 0.75], [0.25] * 4),
        "right": ([0.25, 0.5, 0.75, 1], [0.25] * 4),
        "midpoint": ([0.125, 0.375, 0.625, 0.875], [0.25] * 4),
        "trapezoid": ([0, 1 / 3, 2 / 3, 1], [1 / 6, 1 / 3, 1 / 3, 1 / 6]),
    }
    for rule, (nodes, weights) in expected.items():
        found = lesson.quadrature(rule, 4)
        np.testing.assert_allclose(found[0], nodes)
        np.testing.assert_allclose(found[1], weights)
    nodes, weights = lesson.quadrature("gausslegendre", 2)
    np.testing.assert_allclose(nodes, [0.5 - 0.5 / 3**0.5, 0.5 + 0.5 / 3**0.5])
    np.testing.assert_allclose(weights, [0.5, 0.5])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("n_steps", [2, 5, 50])
def test_weights_sum_to_one(rule, n_steps):
    nodes, weights = lesson.quadrature(rule, n_steps)
    assert len(nodes) == len(weights) == n_steps
    assert weights.sum() == pytest.approx(1)
    assert 0 <= nodes.min() <= nodes.max() <= 1


@pytest.mark.parametrize("n", [10, 20])
def test_known_errors_on_a_square(n):
    """The slope of x^2 from 0 to 1 is 2 alpha: left and right are off by 1/n, the symmetric rules are exact."""
    expected = {"left": 1 - 1 / n, "right": 1 + 1 / n, "midpoint": 1, "trapezoid": 1, "gausslegendre": 1}
    for rule, value in expected.items():
        assert integrated_gradients(SQUARES, pixels(1), n_steps=n, rule=rule).item() == pytest.approx(value)


def test_known_errors_on_a_cube():
    """The slope is 3 alpha^2: midpoint 1 - 1/(4 n^2), trapezoid 1 + 1/(2 (n-1)^2), Gauss-Legendre exact from n = 2."""
    expected = {"midpoint": (50, 1 - 1 / 10_000), "trapezoid": (11, 1 + 1 / 200), "gausslegendre": (2, 1)}
    for rule, (n, value) in expected.items():
        assert integrated_gradients(CUBES, pixels(1), n_steps=n, rule=rule).item() == pytest.approx(value, abs=1e-12)


# The method


@pytest.mark.parametrize("rule", RULES)
def test_slow_restatement(tiny, small_images, rule):
    """Equation 3, one pixel picture and one alpha at a time."""
    n, baseline = 6, torch.full_like(small_images, 0.3)
    nodes, weights = lesson.quadrature(rule, n)
    expected = torch.zeros_like(small_images)
    for b in range(3):
        x, x0 = small_images[b : b + 1], baseline[b : b + 1]
        for alpha, weight in zip(nodes, weights, strict=True):
            expected[b] += weight * vanilla_gradient(tiny, x0 + alpha * (x - x0), b)[0]
        expected[b] *= (x - x0)[0]
    ours = integrated_gradients(tiny, small_images, [0, 1, 2], baseline=baseline, n_steps=n, rule=rule, batch_size=4)
    torch.testing.assert_close(ours, expected)


def test_linear_model_is_exact_with_one_step(linear):
    images, baseline = torch.ones(1, 3, 2, 4, dtype=torch.float64), torch.full((1, 3, 2, 4), -0.5, dtype=torch.float64)
    attribution = integrated_gradients(linear, images, 1, baseline=baseline, n_steps=1)
    torch.testing.assert_close(attribution.flatten(), 1.5 * linear[1].weight[1].detach())
    from_zero = integrated_gradients(linear, images, 1, n_steps=1)
    torch.testing.assert_close(from_zero, gradient_times_input(linear, images, 1))


def test_completeness_on_a_smooth_network(small_images):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(140, 3)).double().eval()
    attribution = integrated_gradients(model, small_images, [2, 0, 1], baseline="white", n_steps=60)
    gap = lesson.completeness_gap(model, small_images, attribution, [2, 0, 1], baseline="white")
    assert gap.abs().max() < 1e-8


@pytest.mark.parametrize(("rule", "order"), [("left", 1), ("right", 1), ("midpoint", 2)])
def test_the_gap_shrinks_as_theory_says(rule, order):
    """Twice the steps: half the gap for one-sided rules, a quarter for the midpoint rule, on a smooth function."""
    model = function(lambda x: x.exp().sum(1))
    shares = [integrated_gradients(model, pixels(1.0), n_steps=n, rule=rule) for n in (20, 40)]
    gaps = [lesson.completeness_gap(model, pixels(1.0), attribution).item() for attribution in shares]
    assert gaps[0] / gaps[1] == pytest.approx(2**order, rel=0.02)


# Axioms


def test_sensitivity_where_the_gradient_is_zero():
    model = function(lambda x: 1 - torch.relu(1 - x[:, 0]))
    assert vanilla_gradient(model, pixels(2)).item() == 0
    assert integrated_gradients(model, pixels(2), n_steps=100, rule="midpoint").item() == pytest.approx(1)


def test_a_variable_that_does_nothing_gets_nothing():
    attribution = integrated_gradients(function(lambda x: x[:, 0] ** 3), pixels(2, 5))
    assert attribution.flatten().tolist() == pytest.approx([8, 0])


def test_implementation_invariance():
    maps = [
        integrated_gradients(function(formula), pixels(1.0, 3.0), n_steps=40, rule="midpoint")
        for formula in (lambda x: x.amax(1), lambda x: x[:, 0] + torch.relu(x[:, 1] - x[:, 0]))
    ]
    torch.testing.assert_close(*maps)


def test_linearity():
    f, g = (lambda x: x[:, 0] * x[:, 1] ** 2), (lambda x: x[:, 0].exp())
    both = integrated_gradients(function(lambda x: 2 * f(x) - 3 * g(x)), pixels(1.0, 2.0))
    parts = [integrated_gradients(function(part), pixels(1.0, 2.0)) for part in (f, g)]
    torch.testing.assert_close(both, 2 * parts[0] - 3 * parts[1])


def test_symmetry():
    first, second = integrated_gradients(function(lambda x: x[:, 0] * x[:, 1]), pixels(1.7, 1.7)).flatten().tolist()
    assert first == pytest.approx(second)


def test_swapping_image_and_baseline_swaps_the_sign(tiny, small_images):
    other = small_images.flip(0)
    forth = integrated_gradients(tiny, small_images, 1, baseline=other, rule="midpoint")
    back = integrated_gradients(tiny, other, 1, baseline=small_images, rule="midpoint")
    torch.testing.assert_close(forth, -back)


def test_nothing_at_the_baseline(tiny, small_images):
    assert integrated_gradients(tiny, small_images, 0, baseline=small_images).abs().max() == 0


def test_closed_form_of_a_product():
    """f = x y from (1, 0) to (3, 4): IG_x = 2 * int 4 a da = 4, IG_y = 4 * int (1 + 2 a) da = 8, together 12."""
    model = function(lambda x: x[:, 0] * x[:, 1])
    assert integrated_gradients(model, pixels(3, 4), baseline=pixels(1, 0)).flatten().tolist() == pytest.approx([4, 8])


# Baselines


def test_baselines_are_the_named_pictures():
    images = torch.randn(2, 3, 20, 30, generator=torch.Generator().manual_seed(1))
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    rgb = {name: lesson.baseline_images(images, name) * std + mean for name in ("zeros", "black", "white", "noise")}
    torch.testing.assert_close(rgb["zeros"], mean.expand(2, 3, 20, 30))
    torch.testing.assert_close(rgb["black"], torch.zeros(2, 3, 20, 30), atol=1e-6, rtol=0)
    torch.testing.assert_close(rgb["white"], torch.ones(2, 3, 20, 30))
    assert -1e-6 < rgb["noise"].min() < 0.01 < 0.99 < rgb["noise"].max() < 1 + 1e-6
    assert torch.equal(rgb["noise"][0], rgb["noise"][1])
    torch.testing.assert_close(lesson.baseline_images(images, "blur"), gaussian_blur(images, 9, 2.0))


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (224, 100)])
def test_blur_works_at_any_size_and_keeps_flat_images(size):
    flat = torch.full((1, 3, *size), 0.4)
    torch.testing.assert_close(lesson.baseline_images(flat, "blur"), flat)


@pytest.mark.parametrize("baseline", ["zeros", "black", "white", "blur", "noise"])
def test_each_named_baseline_is_complete(tiny, small_images, baseline):
    attribution = integrated_gradients(tiny, small_images, 1, baseline=baseline, n_steps=300, rule="midpoint")
    gap = lesson.completeness_gap(tiny, small_images, attribution, 1, baseline=baseline)
    start = lesson.baseline_images(small_images, baseline)
    with torch.no_grad():
        difference = tiny(small_images)[:, 1] - tiny(start)[:, 1]
    torch.testing.assert_close(attribution.sum((1, 2, 3)) - difference, gap)
    assert (gap.abs() / attribution.abs().sum((1, 2, 3))).max() < 1e-3


def test_noise_baseline_follows_the_generator(tiny, small_images):
    def noisy(seed):
        generator = torch.Generator().manual_seed(seed)
        return integrated_gradients(tiny, small_images, 0, baseline="noise", n_steps=3, generator=generator)

    assert torch.equal(noisy(0), integrated_gradients(tiny, small_images, 0, baseline="noise", n_steps=3))
    assert not torch.allclose(noisy(0), noisy(1))


# Completeness gap


def test_gap_by_hand():
    attribution = pixels(1.0, 2.5)
    gap = lesson.completeness_gap(SQUARES, pixels(2, 1), attribution, 0, baseline=pixels(1, 1))
    assert gap.tolist() == pytest.approx([3.5 - (5 - 2)])


def test_gap_asks_both_ends_for_the_images_class():
    """The baseline's own top class is another one; the gap must not switch to it."""
    model = PixelFunction(lambda x: torch.stack([x.sum((1, 2, 3)), 1 - x.sum((1, 2, 3))], dim=1))
    images = torch.ones(1, 1, 1, 2)
    assert lesson.completeness_gap(model, images, torch.ones(1, 1, 1, 2)).tolist() == [0.0]


def test_gap_refuses_another_shape(tiny, small_images):
    with pytest.raises(ValueError, match="attribution"):
        lesson.completeness_gap(tiny, small_images, small_images[:1])


# Along the path


@pytest.mark.parametrize("batch_size", [1, 4, 50])
def test_scores_and_gradients_along_the_path(tiny, small_images, batch_size):
    image, baseline = small_images[0], small_images[1]
    alphas = torch.linspace(0, 1, 9, dtype=torch.float64)
    scores, gradients = lesson.along_path(tiny, image, baseline, 2, batch_size)
    points = torch.stack([baseline + alpha * (image - baseline) for alpha in alphas])
    with torch.no_grad():
        torch.testing.assert_close(scores(alphas), tiny(points)[:, 2])
    torch.testing.assert_close(gradients(alphas), vanilla_gradient(tiny, points, 2))


def test_profile_of_squares():
    """The slope of x^2 from 0 is 2 alpha x^2, which the midpoint rule integrates exactly: alpha^2 x^2 is won."""
    profile = lesson.path_profile(SQUARES, pixels(1, 2), n_steps=4)
    assert profile.tolist()[0] == pytest.approx([5 * alpha**2 for alpha in (0.25, 0.5, 0.75, 1)])


@pytest.mark.parametrize("baseline", ["zeros", "white", "blur"])
def test_profile_ends_at_the_sum_of_the_shares(tiny, small_images, baseline):
    classes = [2, 0, 1]
    options = {"baseline": baseline, "n_steps": 7, "batch_size": 3}
    profile = lesson.path_profile(tiny, small_images, classes, **options)
    shares = integrated_gradients(tiny, small_images, classes, rule="midpoint", **options)
    assert profile.shape == (3, 7)
    torch.testing.assert_close(profile[:, -1], shares.sum(dim=(1, 2, 3)))


def test_profile_follows_the_measured_scores(tiny, small_images):
    profile = lesson.path_profile(tiny, small_images[:1], 1, n_steps=1000, batch_size=500)[0]
    scores, _ = lesson.along_path(tiny, small_images[0], torch.zeros_like(small_images[0]), 1)
    measured = scores(torch.linspace(0, 1, 1001, dtype=torch.float64))
    torch.testing.assert_close(profile, measured[1:] - measured[0], rtol=0, atol=1e-3 * measured.abs().max().item())


def test_without_biases_the_road_is_straight(tiny, small_images):
    """Then S(alpha x) = alpha S(x): one gradient is enough, and Integrated Gradients is gradient x input."""
    with torch.no_grad():
        for part in (tiny.conv1, tiny.conv2, tiny.fc):
            part.bias.zero_()
        score = tiny(small_images)[:, 1]
    even = torch.linspace(0, 1, 6, dtype=torch.float64)[1:]
    torch.testing.assert_close(lesson.path_profile(tiny, small_images, 1, n_steps=5), score[:, None] * even)
    product = gradient_times_input(tiny, small_images, 1)
    torch.testing.assert_close(integrated_gradients(tiny, small_images, 1, n_steps=9), product)


# Refinement; the path itself is tested in test_refined_path.py


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("baseline", "tolerances"), [("zeros", (0.05, 0.005)), ("white", (0.1, 0.02))])
def test_refinement_reaches_its_tolerance(tiny, small_images, baseline, tolerances):
    for tolerance in tolerances:
        attribution = integrated_gradients(tiny, small_images, 1, baseline=baseline, tolerance=tolerance)
        gap = lesson.completeness_gap(tiny, small_images, attribution, 1, baseline=baseline)
        with torch.no_grad():
            start = lesson.baseline_images(small_images, baseline)
            difference = tiny(small_images)[:, 1] - tiny(start)[:, 1]
        assert (gap.abs() <= tolerance * difference.abs() + 1e-12).all()


def test_refinement_is_not_content_with_errors_that_cancel():
    """Two bends, one per pixel, with opposite errors under ten midpoints: the sum is right and both shares are not."""
    model = function(lambda x: x[:, 0] + torch.relu(x[:, 0] - 0.33) + torch.relu(0.67 - x[:, 1]))
    rough = integrated_gradients(model, pixels(1, 1), n_steps=10, rule="midpoint")
    assert lesson.completeness_gap(model, pixels(1, 1), rough).item() == pytest.approx(0, abs=1e-12)
    assert rough.flatten().tolist() == pytest.approx([1.7, -0.7])
    refined = integrated_gradients(model, pixels(1, 1), tolerance=0.01)
    assert refined.flatten().tolist() == pytest.approx([1.67, -0.67], abs=0.01)


def test_refinement_beats_even_steps_at_a_bend():
    model = function(lambda x: torch.relu(x[:, 0] - 0.3183))
    refined = integrated_gradients(model, pixels(1), 0, tolerance=1e-6).item()
    even = integrated_gradients(model, pixels(1), 0, n_steps=200, rule="midpoint").item()
    assert abs(refined - 0.6817) <= 1e-6 * 0.6817 < abs(even - 0.6817)


def test_refinement_that_cannot_finish_says_so(monkeypatch):
    model = function(lambda x: (50 * x[:, 0]).sin())
    monkeypatch.setattr(refined_path, "MAX_GRADIENTS", 20)
    with pytest.warns(UserWarning, match="20 gradients"):
        integrated_gradients(model, pixels(1), tolerance=1e-9)


def test_refinement_of_a_constant_score_stops(tiny):
    zero = torch.zeros(1, 3, 7, 9, dtype=torch.float64)
    assert integrated_gradients(tiny, zero, 0, tolerance=0.01).abs().max() == 0


# Half precision


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("options", [{"n_steps": 300, "batch_size": 1}, {"tolerance": 0.5, "batch_size": 1}])
def test_sums_are_not_rounded_to_half_precision(dtype, options):
    """300 shares of 1 / 300, added one by one in bfloat16, would stop growing long before 1."""
    attribution = integrated_gradients(function(lambda x: x.sum(1)), pixels(1, 2).to(dtype), **options)
    assert attribution.dtype == dtype
    assert attribution.flatten().tolist() == [1.0, 2.0]


@pytest.mark.parametrize("rule", RULES)
def test_nodes_are_not_rounded_to_half_precision(rule):
    """From -1 to 1 in bfloat16 300 nodes are 300 places; the nodes themselves, in [0, 1], are not."""
    met = []

    def formula(x):
        met.extend(x.flatten().tolist() if x.requires_grad else [])
        return x.sum(1)

    image = pixels(1).to(torch.bfloat16)
    integrated_gradients(function(formula), image, baseline=-image, n_steps=300, rule=rule)
    nodes = torch.tensor(lesson.quadrature(rule, 300)[0])
    torch.testing.assert_close(torch.tensor(met), (2 * nodes - 1).to(torch.bfloat16).float(), rtol=0, atol=0)


# Contract


@pytest.mark.parametrize(
    "options",
    [
        {"n_steps": 0}, {"n_steps": 1.5}, {"batch_size": 0}, {"rule": "simpson"}, {"tolerance": -1.0},
        {"tolerance": float("nan")}, {"baseline": "grey"}, {"baseline": torch.zeros(5)}, {"baseline": None},
    ],
)
def test_options_out_of_range_are_refused(tiny, small_images, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        integrated_gradients(tiny, small_images, **options)


def test_trapezoid_needs_two_steps(tiny, small_images):
    with pytest.raises(ValueError, match="n_steps"):
        integrated_gradients(tiny, small_images, n_steps=1, rule="trapezoid")


def test_colours_need_three_channels():
    with pytest.raises(ValueError, match="channels"):
        integrated_gradients(SQUARES, pixels(1, 2), baseline="black")


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_batch_size_does_not_matter(tiny, small_images, batch_size):
    expected = integrated_gradients(tiny, small_images, n_steps=7, batch_size=7)
    torch.testing.assert_close(integrated_gradients(tiny, small_images, n_steps=7, batch_size=batch_size), expected)


@pytest.mark.parametrize("options", [{"n_steps": 4, "batch_size": 3}, {"tolerance": 0.01}])
def test_common_contract(tiny, small_images, options):
    assert_common_contract(lambda *args: integrated_gradients(*args, **options), tiny, small_images)


@pytest.mark.parametrize("options", [{"n_steps": 2, "baseline": "noise"}, {"tolerance": 0.5}])
def test_leaves_no_trace(tiny, small_images, options):
    assert_leaves_no_trace(lambda *args: integrated_gradients(*args, **options), tiny, small_images)


def test_the_gap_leaves_no_trace(tiny, small_images):
    with unchanged(tiny, small_images):
        lesson.completeness_gap(tiny, small_images, small_images)


@pytest.mark.parametrize("options", [{"n_steps": 4, "batch_size": 3}, {"n_steps": 2, "baseline": "white"}])
def test_profile_keeps_the_contract(tiny, small_images, options):
    assert_common_contract(lambda *args: lesson.path_profile(*args, **options), tiny, small_images)
    assert_leaves_no_trace(lambda *args: lesson.path_profile(*args, **options), tiny, small_images)


@pytest.mark.parametrize("options", [{"n_steps": 0}, {"batch_size": 0}, {"baseline": "grey"}])
def test_profile_refuses_options_out_of_range(tiny, small_images, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        lesson.path_profile(tiny, small_images, **options)


# Second opinion


@pytest.mark.parametrize("rule", ["left", "right", "midpoint", "gausslegendre"])
def test_captum_agrees_on_squeezenet(squeezenet, photos, rule):
    name = rule if rule == "gausslegendre" else f"riemann_{rule.replace('midpoint', 'middle')}"
    theirs = captum.attr.IntegratedGradients(squeezenet).attribute(
        photos, torch.full_like(photos, 0.2), torch.tensor([235, 88]), n_steps=8, method=name, internal_batch_size=8
    )
    ours = integrated_gradients(squeezenet, photos, [235, 88], baseline=torch.tensor(0.2), n_steps=8, rule=rule)
    assert relative_error(ours, theirs) < 1e-4


@pytest.mark.slow
def test_captum_agrees_on_resnet(resnet, photos):
    theirs = captum.attr.IntegratedGradients(resnet).attribute(photos[:1], target=235, n_steps=5, internal_batch_size=5)
    assert relative_error(integrated_gradients(resnet, photos[:1], 235, n_steps=5), theirs) < 1e-4
