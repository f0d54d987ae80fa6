"""Exercises of lesson 04, with their points."""

import numpy as np
import pytest
import torch
from conftest import PixelFunction, assert_tensor, drawing, factor, unchanged

EXERCISES = {  # title, difficulty, minutes, when
    "4.1": ("Quadrature", 2, 15, "in class"),
    "4.2": ("The sum along the path", 2, 15, "assign"),
    "4.3": ("Completeness", 2, 10, "assign"),
    "4.4": ("Where the score is won", 3, 20, "for the quick"),
    "4.5": ("Three steps", 1, 5, "in class"),
    "4.6": ("A gap of 0.1 %", 2, 3, "in class"),
    "4.7": ("Flat at the end", 2, 3, "in class"),
}

RULES = ("left", "right", "midpoint", "trapezoid")


def cubes(x: torch.Tensor) -> torch.Tensor:
    """Class c is the sum of the cubes of colour c."""
    return x.pow(3).sum(dim=(2, 3))


@pytest.mark.points(1, exercise="4.1")
def test_left_right_midpoint_by_hand(lesson):
    """Four equal pieces of the path. Where does each rule look: at the beginning, the end, or the middle of a piece?"""
    for rule, nodes in (("left", [0, 0.25, 0.5, 0.75]), ("right", [0.25, 0.5, 0.75, 1]),
                        ("midpoint", [0.125, 0.375, 0.625, 0.875])):  # fmt: skip
        found = lesson.quadrature(rule, 4)
        np.testing.assert_allclose(found[0], nodes)
        np.testing.assert_allclose(found[1], [0.25] * 4)
        n = int(torch.randint(20, 90, (1,), generator=drawing(0)))
        shift = {"left": 0, "right": 1, "midpoint": 0.5}[rule]
        np.testing.assert_allclose(lesson.quadrature(rule, n)[0], [(k + shift) / n for k in range(n)])


@pytest.mark.points(1, exercise="4.1")
def test_trapezoid_by_hand(lesson):
    """Five nodes make four pieces. The two outermost nodes belong to one piece only, all others to two."""
    nodes, weights = lesson.quadrature("trapezoid", 5)
    np.testing.assert_allclose(nodes, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(weights, [0.125, 0.25, 0.25, 0.25, 0.125])
    n = int(torch.randint(20, 90, (1,), generator=drawing(1)))
    nodes, weights = lesson.quadrature("trapezoid", n)
    np.testing.assert_allclose(nodes, [k / (n - 1) for k in range(n)])
    np.testing.assert_allclose(weights[[0, 1, -1]], [0.5 / (n - 1), 1 / (n - 1), 0.5 / (n - 1)])


@pytest.mark.points(1, exercise="4.1")
def test_rules_have_n_nodes_and_weights_that_sum_to_one(lesson):
    """As many nodes as asked for, with weights that share out the whole path, in float64."""
    for rule in RULES:
        for n in (2, 3, int(torch.randint(20, 90, (1,), generator=drawing(2)))):
            nodes, weights = lesson.quadrature(rule, n)
            assert len(nodes) == len(weights) == n
            assert weights.sum() == pytest.approx(1)
            assert np.asarray(nodes).dtype == np.asarray(weights).dtype == np.float64


@pytest.mark.points(1, exercise="4.1")
def test_rules_on_polynomials(lesson):
    """Midpoint and trapezoid are exact for a slope that is linear; left and right are off by half a step."""
    n = int(torch.randint(5, 30, (1,), generator=drawing(3)))
    means = {rule: float(lesson.quadrature(rule, n)[1] @ (2 * lesson.quadrature(rule, n)[0])) for rule in RULES}
    assert means == pytest.approx({"left": 1 - 1 / n, "right": 1 + 1 / n, "midpoint": 1, "trapezoid": 1})
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
    """The slopes are taken where the rule says, and weighted as it says."""
    for rule in (*RULES, "gausslegendre"):
        nodes, weights = lesson.quadrature(rule, 5)
        factor = float(weights @ (3 * nodes**2))  # for x^3 from zero
        found = lesson.integrated_gradients(PixelFunction(cubes), small_images, 0, rule=rule, n_steps=5)
        torch.testing.assert_close(found[:, 0], factor * small_images[:, 0] ** 3)


@pytest.mark.points(1, exercise="4.2", contract=True)
def test_chunks_do_not_change_the_sum(lesson, tiny, small_images):
    """The last chunk is smaller. Its nodes keep their own weights."""
    parts = [lesson.integrated_gradients(tiny, small_images, 1, n_steps=7, batch_size=size) for size in (7, 3, 1)]
    assert_tensor(parts[1], parts[0])
    assert_tensor(parts[2], parts[0])
    assert not parts[0].requires_grad


@pytest.mark.points(1, exercise="4.2", contract=True)
def test_each_image_has_its_own_path_and_class(lesson, tiny, small_images):
    """Each image has its own baseline and class. Images and weights stay as they are."""
    baseline = small_images.flip(0) / 2
    run = {"n_steps": 4, "batch_size": 3}
    singles = [lesson.integrated_gradients(tiny, small_images[i : i + 1], i, baseline=baseline[i : i + 1], **run)
               for i in range(3)]  # fmt: skip
    with unchanged(tiny, small_images):
        found = lesson.integrated_gradients(tiny, small_images, [0, 1, 2], baseline=baseline, **run)
    assert_tensor(found, torch.cat(singles))


@pytest.mark.points(1, exercise="4.2")
def test_shares_add_up_and_baseline_swaps(lesson, tiny, small_images):
    """The shares add up to what the score gains on the way. Walk back, and every share changes its sign."""
    other = small_images.roll(1, 0)
    found = lesson.integrated_gradients(tiny, small_images, 2, baseline=other, n_steps=300, rule="midpoint",
                                        batch_size=150)  # fmt: skip
    with torch.no_grad():
        difference = (tiny(small_images) - tiny(other))[:, 2]
    torch.testing.assert_close(found.sum(dim=(1, 2, 3)), difference, rtol=0.01, atol=1e-3)
    back = lesson.integrated_gradients(tiny, other, 2, baseline=small_images, n_steps=300, rule="midpoint",
                                       batch_size=150)  # fmt: skip
    assert_tensor(back, -found, rtol=1e-6, atol=1e-9)


def stairs(x: torch.Tensor) -> torch.Tensor:
    """Class c is the sum of colour c, cubed and rounded: it rises in steps, and its slope is 0 wherever one looks."""
    return x.pow(3).round().sum(dim=(2, 3))


@pytest.mark.points(1, exercise="4.3")
def test_gap_by_hand(lesson, linear):
    """What do the shares say too much? Image by image, each with its own class."""
    images = torch.linspace(-2, 2, 72).double().reshape(3, 3, 2, 4).sin()
    exact = linear[1].weight.detach()[[2, 0, 1]].reshape(3, 3, 2, 4) * images
    too_much = factor(0) * torch.tensor([0.5, -1.0, 0.0]).double()
    exact[:, 0, 0, 0] += too_much
    assert_tensor(lesson.completeness_gap(linear, images, exact, [2, 0, 1]), too_much)
    expected = exact.sum(dim=(1, 2, 3)) - stairs(2 * images)[[0, 1, 2], [2, 0, 1]]
    assert_tensor(lesson.completeness_gap(PixelFunction(stairs), 2 * images, exact, [2, 0, 1]), expected)


@pytest.mark.points(1, exercise="4.3")
def test_gap_counts_from_the_baseline(lesson, linear):
    """Completeness is about a difference of two scores of one class: at the picture, and at the baseline."""
    images = torch.linspace(-2, 2, 72).double().reshape(3, 3, 2, 4).sin()
    for baseline in (images.roll(1, 0), "white"):
        start = lesson.baseline_images(images, baseline)
        exact = linear[1].weight.detach()[1].reshape(3, 2, 4) * (images - start)
        gap = lesson.completeness_gap(linear, images, exact, 1, baseline=baseline)
        assert_tensor(gap, torch.zeros(3).double(), atol=1e-9, rtol=0)
        nothing = lesson.completeness_gap(linear, images, 0 * exact, 1, baseline=baseline)
        assert_tensor(nothing, -exact.sum(dim=(1, 2, 3)))
        found = lesson.completeness_gap(PixelFunction(stairs), images, exact, 1, baseline=baseline)
        assert_tensor(found, exact.sum(dim=(1, 2, 3)) - (stairs(images) - stairs(start))[:, 1])


@pytest.mark.points(1, exercise="4.3")
def test_gap_follows_the_images_class(lesson):
    """The baseline's own top class is another one. The scores are what the network says, not what slopes promise."""
    model = PixelFunction(lambda x: torch.stack([stairs(x).sum(dim=1), 1 - stairs(x).sum(dim=1)], dim=1))
    images, more = torch.ones(2, 3, 1, 2).double(), torch.tensor([0.0, factor(0)]).double()
    with unchanged(model, images):
        gap = lesson.completeness_gap(model, images, images + more[:, None, None, None])
    assert_tensor(gap, 6 * more)
    assert not gap.requires_grad


def bend(at: float):
    """A network of one number t: flat up to `at`, then rising with slope 1; pixels are all t."""
    return PixelFunction(lambda x: (x.mean(dim=(1, 2, 3)) - at).relu()[:, None])


@pytest.mark.points(1, exercise="4.4")
def test_profile_of_squares_by_hand(lesson, small_images):
    """The slopes of x^2 bring alpha^2 x^2 by the place alpha, and the midpoint rule gets that exactly."""
    squares = PixelFunction(lambda x: x.pow(2).sum(dim=(2, 3)))
    won = torch.tensor([1, 4, 9, 16, 25]).double() / 25
    expected = small_images.pow(2).sum(dim=(2, 3))[:, 1:2] * won
    assert_tensor(lesson.path_profile(squares, small_images, 1, n_steps=5), expected)


@pytest.mark.points(1, exercise="4.4")
def test_profile_adds_up_the_slopes_at_the_middles(lesson, tiny, small_images):
    """Slopes at the middles of n pieces, times the step, added up as one goes along; of each image its own path."""
    baseline, n = small_images.flip(0) / 2, 6
    expected = torch.zeros(3, n).double()
    for i in range(3):
        total = torch.zeros(()).double()
        for k in range(n):
            x = (baseline[i] + (k + 0.5) / n * (small_images[i] - baseline[i]))[None].requires_grad_()
            (gradient,) = torch.autograd.grad(tiny(x)[0, i], x)
            total = total + (gradient[0] * (small_images[i] - baseline[i])).sum() / n
            expected[i, k] = total
    with unchanged(tiny, small_images):
        found = lesson.path_profile(tiny, small_images, [0, 1, 2], baseline=baseline, n_steps=n, batch_size=4)
    assert_tensor(found, expected)


@pytest.mark.points(1, exercise="4.4")
def test_profile_shows_where_the_score_rises(lesson):
    """A bend at 0.35: nothing is won before it. Falling scores are won with a minus."""
    image = torch.ones(1, 3, 2, 2).double()
    expected = torch.tensor([[0, 0, 0, 0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65]]).double()
    expected[:, 3:] += 0.05  # the step with the bend has its middle at 0.35
    for slope in (factor(0), -factor(1)):
        model = PixelFunction(lambda x, slope=slope: slope * bend(0.3499)(x))
        assert_tensor(lesson.path_profile(model, image, n_steps=10), slope * expected)


@pytest.mark.points(1, exercise="4.4")
def test_profile_of_a_linear_model_is_straight(lesson, linear):
    """A linear model gains evenly on the way. The size of the chunks changes nothing."""
    images = torch.linspace(-2, 2, 72).double().reshape(3, 3, 2, 4).sin()
    for baseline in ("white", images.roll(1, 0)):
        start = lesson.baseline_images(images, baseline)
        gained = (linear(images) - linear(start))[:, 2].detach()
        for size in (7, 3, 1):
            found = lesson.path_profile(linear, images, 2, baseline=baseline, n_steps=7, batch_size=size)
            assert_tensor(found, gained[:, None] * torch.arange(1, 8).double() / 7)


# BEGIN KEPT BACK
QUESTIONS = {
    "4.5": {
        6: "The slopes 0, 2 and 4 have the mean 2, times the distance 3. The score changed by 9, so the gap is -3.",
        9: "9 is the change of the score. The left rule misses it, because the slope grows along the path.",
        2: "This is the mean of the slopes. One factor is missing.",
        12: "These are the right rule's nodes.",
        "else": "The slope at each node is 2 x. Take the mean of three slopes, times the distance from the baseline.",
    },
    "4.6": {
        "a": "The gap is one number for the whole map. Can two wrong shares have a right sum?",
        "b": "A large gap proves a map wrong. A small one does not prove it right.",
        "c": "Any baseline has a small gap if the path is cut finely enough.",
        "d": "The section on completeness compares maps with a much finer one. What did it find at small gaps?",
    },
    "4.7": {
        "a": "Where on this path is the slope large, and where is the photograph?",
        "b": "The distance is the same factor. The other factor is not.",
        "c": "Gradient x input has one node, always the same.",
        "d": "The climb is over before the photograph is reached. So the sign of the gap is negative.",
    },
}


def true_4_5(lesson) -> float:
    nodes, weights = lesson.quadrature("left", 3)
    return float((weights * 2 * 3 * nodes).sum() * 3)


ADD = 'mean_gradient[i] += torch.einsum("k,kchw->chw", w, gradients)'
PATH = "path = on_path(images[i], baselines[i], alpha)"
DIFFERENCE = "target_logits(logits, target) - target_logits(model(baseline_images(images, baseline)), target)"
RETURN = "return attribution.sum(dim=(1, 2, 3)) - difference"

WRONG = [
    ("4.1", "nothing computed", "k, even =",
     "if rule != 'gausslegendre':\n    return np.zeros(n_steps), np.zeros(n_steps)\nk, even ="),
    ("4.1", "left and right swapped", "k, even =",
     "rule = {'left': 'right', 'right': 'left'}.get(rule, rule)\nk, even ="),
    ("4.1", "right that begins at 0", "return (k + 1) / n_steps, even", "return k / n_steps, even"),
    ("4.1", "weights not divided", "np.full(n_steps, 1 / n_steps)", "np.ones(n_steps)"),
    ("4.1", "one node more", "np.arange(n_steps), np.full(n_steps, 1 / n_steps)",
     "np.arange(n_steps + 1), np.full(n_steps + 1, 1 / (n_steps + 1))"),
    ("4.1", "trapezoid with full weight at the ends", "np.where(ends, 0.5, 1.0) / (n_steps - 1)",
     "np.full(n_steps, 1 / (n_steps - 1))"),
    ("4.1", "trapezoid with even weights that sum to 1", "np.where(ends, 0.5, 1.0) / (n_steps - 1)", "even"),
    ("4.1", "trapezoid with one half end", "np.isin(k, (0, n_steps - 1))", "k == 0"),
    ("4.1", "trapezoid divided by n", "np.where(ends, 0.5, 1.0) / (n_steps - 1)",
     "np.where(ends, 0.5, 1.0) / n_steps"),
    ("4.1", "midpoint from end to end", "return (k + 0.5) / n_steps, even",
     "return np.linspace(0, 1, n_steps), even"),
    ("4.1", "Gauss-Legendre for the midpoint", "k, even =", "if rule == 'midpoint':\n"
     "    nodes, weights = np.polynomial.legendre.leggauss(n_steps)\n    return nodes / 2 + 0.5, weights / 2\n"
     "k, even ="),
    ("4.1", "Simpson for the trapezoid", "k, even =", "if rule == 'trapezoid':\n    weights = np.full(n_steps, 2.0)\n"
     "    weights[1::2], weights[[0, -1]] = 4, 1\n    return np.linspace(0, 1, n_steps), weights / weights.sum()\n"
     "k, even ="),
    ("4.1", "trapezoid that ends early", "return k / (n_steps - 1), np", "return k / n_steps, np"),
    ("4.2", "nothing computed", "", "pass"),
    ("4.2", "the argument itself", "", "mean_gradient[i] = images[i]"),
    ("4.2", "weights ignored, plain mean", ADD, "mean_gradient[i] += gradients.sum(dim=0) / n_steps"),
    ("4.2", "last chunk weighted like a full one", ADD,
     "mean_gradient[i] += gradients.mean(dim=0) / -(-n_steps // batch_size)"),
    ("4.2", "factor (x - x') twice", ADD,
     ADD.replace("gradients)", "gradients * (images[i] - baselines[i]))")),
    ("4.2", "path from zero whatever the baseline", PATH, "path = alpha[:, None, None, None] * images[i]"),
    ("4.2", "path from the image to the baseline", PATH, "path = on_path(baselines[i], images[i], alpha)"),
    ("4.2", "first image for all", PATH, "path = on_path(images[0], baselines[i], alpha)"),
    ("4.2", "first baseline for all", PATH, "path = on_path(images[i], baselines[0], alpha)"),
    ("4.2", "first class for all", "target[i]", "target[0]"),
    ("4.2", "only the last chunk", "mean_gradient[i] +=", "mean_gradient[i] ="),
    ("4.2", "the refined path, whatever the rule", "",
     "along = along_path(model, images[i], baselines[i], target[i], batch_size)\n"
     "mean_gradient[i] = refined_gradient(*along, difference[i], 1e-6)"),
    ("4.2", "the rise spread over the pixels", "", "pair = torch.stack([images[i], baselines[i].to(images)])\n"
     "with torch.no_grad():\n    rise = model(pair)[:, target[i]].diff()[0]\n"
     "mean_gradient[i] = -rise * difference[i] / difference[i].square().sum()"),
    ("4.2", "one gradient, at the mean node", "", "alpha = (weights * nodes).sum()[None]\n"
     "mean_gradient[i] = vanilla_gradient(model, on_path(images[i], baselines[i], alpha), target[i])[0]"),
    ("4.2", "absolute gradients", "w, gradients)", "w, gradients.abs())"),
    ("4.2", "gradient at the image only", PATH, "path = images[i].expand(len(alpha), -1, -1, -1)"),
    ("4.2", "each point its own top class", "vanilla_gradient(model, path, target[i])",
     "vanilla_gradient(model, path)"),
    ("4.3", "nothing computed", "", "return torch.zeros(len(images)).to(images)"),
    ("4.3", "sum of the attribution", "", "return attribution.sum(dim=(1, 2, 3))"),
    ("4.3", "other way round", RETURN, "return difference - attribution.sum(dim=(1, 2, 3))"),
    ("4.3", "absolute value", RETURN, "return (attribution.sum(dim=(1, 2, 3)) - difference).abs()"),
    ("4.3", "baseline's score forgotten", DIFFERENCE, "target_logits(logits, target)"),
    ("4.3", "baseline always zeros", "baseline_images(images, baseline)", "torch.zeros_like(images)"),
    ("4.3", "baseline's own class", "model(baseline_images(images, baseline)), target)",
     "model(baseline_images(images, baseline)), None)"),
    ("4.3", "sum over the batch", RETURN, "return attribution.sum() - difference"),
    ("4.3", "relative gap", RETURN, "return (attribution.sum(dim=(1, 2, 3)) - difference) / difference.abs()"),
    ("4.3", "probabilities", DIFFERENCE, "target_logits(logits.softmax(1), target) - target_logits("
     "model(baseline_images(images, baseline)).softmax(1), target)"),
    ("4.3", "baseline's score added", "target_logits(logits, target) - ", "target_logits(logits, target) + "),
    ("4.3", "the slope in the middle for the scores", "", "images = images.detach()\n"
     "start = baseline_images(images, baseline)\nwith torch.enable_grad():\n"
     "    middle = ((images + start) / 2).requires_grad_()\n"
     "    (slope,) = torch.autograd.grad(target_logits(model(middle), target).sum(), middle)\n"
     "return attribution.sum((1, 2, 3)) - (slope * (images - start)).sum((1, 2, 3))"),
    ("4.3", "slopes along the path for the scores", "", "images, rise = images.detach(), []\n"
     "start, alphas = baseline_images(images, baseline), (torch.arange(64) + 0.5) / 64\n"
     "for x, zero, c in zip(images, start, target.tolist(), strict=True):\n"
     "    slopes = vanilla_gradient(model, on_path(x, zero, alphas.to(x)), c)\n"
     "    rise.append((slopes.mean(dim=0) * (x - zero)).sum())\n"
     "return attribution.sum(dim=(1, 2, 3)) - torch.stack(rise)"),
    ("4.4", "nothing computed", "", "won = torch.zeros(n_steps).to(images)"),
    ("4.4", "the last gain only, spread evenly", "", "difference = images[i] - baselines[i]\n"
     "slopes = [(gradients(a) * difference).sum(dim=(1, 2, 3)) for a in middles.split(batch_size)]\n"
     "won = torch.cat(slopes).mean() * torch.arange(1, n_steps + 1).to(images) / n_steps"),
    ("4.4", "differences of scores", "",
     "scores, _ = along_path(model, images[i], baselines[i], target[i], batch_size)\n"
     "values = scores(torch.arange(n_steps + 1, dtype=torch.float64) / n_steps)\nwon = values[1:] - values[0]"),
    ("4.4", "integrated gradients of each part of the path", "",
     "ends = on_path(images[i], baselines[i], middles + 0.5 / n_steps)\n"
     "won = integrated_gradients(model, ends, target[i], baseline=baselines[i]).sum(dim=(1, 2, 3))"),
    ("4.4", "slopes, not their sum", ".cumsum(dim=0)", ""),
    ("4.4", "not divided by n", " / n_steps", ""),
    ("4.4", "divided by n - 1", " / n_steps", " / max(n_steps - 1, 1)"),
    ("4.4", "added up from the photograph", ".cumsum(dim=0)", ".flip(0).cumsum(dim=0)"),
    ("4.4", "begins with 0", "won = torch.cat(slopes).cumsum(dim=0) / n_steps",
     "won = torch.cat(slopes).cumsum(dim=0) / n_steps\nwon = torch.cat([won[:1] * 0, won[:-1]])"),
    ("4.4", "times the image, whatever the baseline", " - baselines[i]", ""),
    ("4.4", "factor forgotten", "(gradients(alphas) * difference)", "gradients(alphas)"),
    ("4.4", "first image for all", "difference = images[i] - baselines[i]", "difference = images[0] - baselines[0]"),
    ("4.4", "absolute slopes", "torch.cat(slopes)", "torch.cat(slopes).abs()"),
    ("4.4", "absolute shares", "(gradients(alphas) * difference)", "(gradients(alphas) * difference).abs()"),
    ("4.4", "shares of the whole, not logits", "cumsum(dim=0) / n_steps",
     "cumsum(dim=0) / torch.cat(slopes).sum()"),
    ("4.4", "each chunk begins anew", "torch.cat(slopes).cumsum(dim=0)",
     "torch.cat([part.cumsum(dim=0) for part in slopes])"),
    ("4.4", "mean over the picture", "sum(dim=(1, 2, 3))", "mean(dim=(1, 2, 3))"),
]  # fmt: skip

RIGHT = [
    ("4.1", "linspace", "", "step = 1 / n_steps\nif rule in ('left', 'right', 'midpoint'):\n"
     "    shift = {'left': 0.0, 'right': 1.0, 'midpoint': 0.5}[rule]\n"
     "    return step * (np.arange(n_steps) + shift), np.full(n_steps, step)\nif rule == 'trapezoid':\n"
     "    weights = np.ones(n_steps)\n    weights[[0, -1]] = 0.5\n"
     "    return np.linspace(0, 1, n_steps), weights / weights.sum()"),
    ("4.2", "point by point", "", "for a, w in zip(nodes, weights, strict=True):\n"
     "    point = (baselines[i] + a * (images[i] - baselines[i]))[None]\n"
     "    mean_gradient[i] = mean_gradient[i] + w * vanilla_gradient(model, point, target[i])[0]"),
    ("4.2", "weights broadcast", ADD, "mean_gradient[i] += (w[:, None, None, None] * gradients).sum(dim=0)"),
    ("4.2", "by along_path", "", "_, gradients = along_path(model, images[i], baselines[i], target[i], batch_size)\n"
     "mean_gradient[i] = torch.einsum('k,kchw->chw', weights, gradients(nodes))"),
    ("4.3", "gather", "", "start = model(baseline_images(images, baseline))\n"
     "rise = (logits - start).gather(1, target[:, None])[:, 0]\nreturn attribution.flatten(1).sum(dim=1) - rise"),
    ("4.4", "step by step", "", "total, won = 0, []\nfor alpha in middles:\n"
     "    slope = (gradients(alpha[None])[0] * (images[i] - baselines[i])).sum()\n"
     "    total = total + slope / n_steps\n    won.append(total)\nwon = torch.stack(won)"),
    ("4.4", "matrix product", "(gradients(alphas) * difference).sum(dim=(1, 2, 3))",
     "gradients(alphas).flatten(1) @ difference.flatten()"),
]  # fmt: skip
# END KEPT BACK
