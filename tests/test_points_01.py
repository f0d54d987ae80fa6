"""Exercises of lesson 01, with their points."""

import pytest
import torch
from conftest import PixelFunction, assert_tensor, drawing, factor, unchanged
from torch import nn

EXERCISES = {  # title, difficulty, minutes, when
    "1.1": ("The gradient", 1, 10, "in class"),
    "1.2": ("Simonyan's map", 1, 5, "in class"),
    "1.3": ("Break it with a softmax", 2, 10, "assign"),
    "1.4": ("Measure a slope", 2, 15, "assign"),
    "1.5": ("How much shorter?", 1, 3, "in class"),
    "1.6": ("The other way", 1, 2, "in class"),
    "1.7": ("Sum first?", 1, 3, "in class"),
}


def rows(linear: nn.Module, targets: list[int]) -> torch.Tensor:
    """The gradient of a linear model: the row of each target's class, (B, 3, 2, 4)."""
    return linear[1].weight.detach()[targets].reshape(-1, 3, 2, 4)


IMAGES = torch.rand(3, 3, 2, 4, generator=drawing(1), dtype=torch.float64) * 2 - 1


@pytest.mark.points(1, exercise="1.1")
def test_gradient_of_a_linear_model_is_its_weights(lesson, linear):
    """The slopes of a linear model's score are its weights, the same for every picture: each image's own class."""
    for targets in ([2, 0, 1], [1, 1, 0]):
        assert_tensor(lesson.vanilla_gradient(linear, IMAGES, targets), rows(linear, targets))


@pytest.mark.points(1, exercise="1.1", contract=True)
def test_gradient_keeps_its_sign_and_the_images_dtype(lesson, tiny, small_images):
    """Slopes go up and down. The answer has the images' shape and dtype, and asks for no gradient itself."""
    for dtype in (torch.float64, torch.float32):
        found = lesson.vanilla_gradient(tiny.to(dtype), small_images.to(dtype), 1)
        assert_tensor(found, found.to(dtype).reshape(small_images.shape))
        assert not found.requires_grad
        assert (found < 0).any()
        assert (found > 0).any()


@pytest.mark.points(1, exercise="1.1")
def test_gradient_of_a_batch_is_that_of_its_images(lesson, tiny, small_images):
    """Each image as if it were alone, with its own top class if none is given. One slope is measured here, too."""
    with torch.no_grad():
        top = tiny(small_images).argmax(dim=1).tolist()
    singles = [lesson.vanilla_gradient(tiny, small_images[i : i + 1], top[i]) for i in range(3)]
    assert_tensor(lesson.vanilla_gradient(tiny, small_images), torch.cat(singles))
    step = torch.zeros_like(small_images)
    step[1, 2, 3, 4] = 1e-6
    with torch.no_grad():
        slope = (tiny(small_images + step) - tiny(small_images - step))[1, 0] / 2e-6
    torch.testing.assert_close(lesson.vanilla_gradient(tiny, small_images, 0)[1, 2, 3, 4], slope, rtol=1e-5, atol=1e-8)


@pytest.mark.points(1, exercise="1.1", contract=True)
def test_gradient_leaves_no_trace(lesson, tiny, small_images):
    """Weights, their .grad, the images and the mode stay, also inside torch.no_grad(). Twice gives the same."""
    with unchanged(tiny, small_images):
        first = lesson.vanilla_gradient(tiny, small_images, 0)
        assert_tensor(lesson.vanilla_gradient(tiny, small_images, 0), first)
    with torch.no_grad(), unchanged(tiny, small_images):
        assert_tensor(lesson.vanilla_gradient(tiny, small_images, 0), first)


@pytest.mark.points(1, exercise="1.2")
def test_map_is_the_largest_absolute_value(lesson, linear):
    """How strong is a pixel whose three slopes are 1, -3 and 2?"""
    expected = rows(linear, [2, 0, 1]).abs().amax(dim=1)
    assert_tensor(lesson.saliency_map(linear, IMAGES, [2, 0, 1]), expected)


@pytest.mark.points(0.5, exercise="1.2")
def test_map_sums_absolute_values(lesson, linear):
    """With reduce="sum", slopes of 1 and -1 add up to 2, not to 0."""
    expected = rows(linear, [1, 1, 1]).abs().sum(dim=1)
    assert_tensor(lesson.saliency_map(linear, IMAGES, 1, reduce="sum"), expected)


@pytest.mark.points(0.5, exercise="1.2", contract=True)
def test_map_is_not_rescaled(lesson, linear):
    """With weights ten times as large the map is ten times as large."""
    maps = [lesson.saliency_map(linear, IMAGES, 0, reduce=how) for how in ("max", "sum")]
    assert (maps[1] >= maps[0]).all()
    with torch.no_grad():
        linear[1].weight.mul_(10)
    assert_tensor(lesson.saliency_map(linear, IMAGES, 0), 10 * maps[0])


@pytest.mark.points(1, exercise="1.3")
def test_softmax_gradient_by_hand(lesson, linear):
    """d p_c / dx = p_c (w_c - sum_k p_k w_k)."""
    p = linear(IMAGES).softmax(dim=1).detach()
    mean = torch.einsum("bk,kchw->bchw", p, rows(linear, [0, 1, 2]))
    expected = p[[0, 1, 2], [2, 0, 1], None, None, None] * (rows(linear, [2, 0, 1]) - mean)
    assert_tensor(lesson.softmax_gradient(linear, IMAGES, [2, 0, 1]), expected)


@pytest.mark.points(1, exercise="1.3")
def test_softmax_gradients_of_all_classes_cancel(lesson, tiny, small_images):
    """Probabilities sum to 1, so their gradients sum to 0. It is the probability's slope, not the logit's."""
    total = sum(lesson.softmax_gradient(tiny, small_images, c) for c in range(3))
    assert_tensor(total, torch.zeros_like(small_images), atol=1e-12, rtol=0)
    x = small_images.clone().requires_grad_()
    (expected,) = torch.autograd.grad(tiny(x).softmax(dim=1)[:, 0].sum(), x)
    assert_tensor(lesson.softmax_gradient(tiny, small_images, 0), expected)


@pytest.mark.points(1, exercise="1.3", contract=True)
def test_softmax_gradient_vanishes_where_the_network_is_certain(lesson, linear):
    """A probability of 1 cannot grow. Without a target it is each image's own top class."""
    with torch.no_grad():
        top = linear(IMAGES).argmax(dim=1).tolist()
        linear[1].bias[0] += 80
    assert lesson.softmax_gradient(linear, IMAGES, 0).abs().max() < 1e-12
    with torch.no_grad():
        linear[1].bias[0] -= 80
    assert_tensor(lesson.softmax_gradient(linear, IMAGES), lesson.softmax_gradient(linear, IMAGES, top))


@pytest.mark.points(1, exercise="1.4")
def test_slope_of_a_linear_model(lesson, linear):
    """w . v / |v| for each image: only where the direction points counts, not how long it is."""
    direction = (IMAGES * 3 + 0.5).cos()
    expected = (rows(linear, [2, 0, 1]) * direction).sum(dim=(1, 2, 3)) / direction.flatten(1).norm(dim=1)
    assert_tensor(lesson.measured_slope(linear, IMAGES, direction, [2, 0, 1]), expected)
    assert_tensor(lesson.measured_slope(linear, IMAGES, 5 * direction, [2, 0, 1]), expected)
    assert_tensor(lesson.measured_slope(linear, IMAGES, -direction, [2, 0, 1], step=0.3), -expected)


@pytest.mark.points(1, exercise="1.4")
def test_slope_is_a_central_difference(lesson):
    """On a curve, (f(x + h) - f(x - h)) / 2h of x^3 is 3x^2 + h^2, where one-sided differences give other numbers."""
    model = PixelFunction(lambda x: x.pow(3).sum((1, 2, 3))[:, None])
    x = torch.full((1, 3, 1, 1), 0.5 * factor(0), dtype=torch.float64)
    direction = torch.tensor([0.0, 2.0, 0.0], dtype=torch.float64).reshape(1, 3, 1, 1)
    for step in (0.1, 0.4):
        found = lesson.measured_slope(model, x, direction, 0, step=step)
        assert_tensor(found, torch.tensor([3 * x[0, 0, 0, 0] ** 2 + step**2], dtype=torch.float64))


@pytest.mark.points(1, exercise="1.4")
def test_slope_along_the_gradient_is_its_length(lesson, tiny, small_images):
    """Go a small step along the gradient, scaled to length 1, from each image: its own direction, its own top class."""
    with torch.no_grad():
        top = tiny(small_images).argmax(dim=1)
    parts = []
    for i in range(3):
        x = small_images[i : i + 1].clone().requires_grad_()
        parts.append(torch.autograd.grad(tiny(x)[0, top[i]], x)[0])
    gradient = torch.cat(parts)
    with unchanged(tiny, small_images):
        found = lesson.measured_slope(tiny, small_images, gradient, step=1e-6)
    assert_tensor(found, gradient.flatten(1).norm(dim=1), rtol=1e-6, atol=1e-9)


# BEGIN KEPT BACK
QUESTIONS = {
    "1.5": {
        0.0001: "p (1 - p) is about 1 - p here. The map fades although the network has never been surer.",
        0.9999: "This is p alone. The slope of a softmax has a second factor.",
        "else": "Put p = 0.9999 into p (1 - p).",
    },
    "1.6": {
        -0.8: "Ahead and behind change places, so the difference changes its sign.",
        0.8: "Is the score going up or down, if you walk back on the same road?",
        "else": "The road is the same, and just as steep. Only the walker turns round.",
    },
    "1.7": {
        "a": "Work out both numbers: the largest of the three, and the sum of the three.",
        "b": "Three slopes count, but with their signs. Work the sum out.",
        "c": "The sum is 0, the largest absolute value is 2. A change of brightness does nothing here, a change of "
             "colour does.",
        "d": "One of the two maps takes absolute values before anything can cancel.",
    },
}


def true_1_5(lesson) -> float:
    return 0.9999 * (1 - 0.9999)


def true_1_6(lesson) -> float:
    image = torch.ones(1, 3, 2, 2, dtype=torch.float64)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).double().eval()
    there, back = (lesson.measured_slope(model, image, step * image, target=torch.tensor([0])) for step in (1, -1))
    return 0.8 * (back / there).item()


SCORE = "score = target_logits(model(x), target)"
UNIT = "unit = direction / direction.flatten(1).norm(dim=1)[:, None, None, None]"

WRONG = [
    ("1.1", "loss instead of the logit", SCORE,
     "logits = model(x); labels = target_indices(target, logits)\n"
     "score = -nn.functional.cross_entropy(logits, labels, reduction='none')"),
    ("1.1", "softmax instead of the logit", SCORE,
     "logits = model(x); score = target_logits(logits.softmax(1), target_indices(target, logits))"),
    ("1.1", "log-softmax instead of the logit", SCORE,
     "logits = model(x); score = target_logits(logits.log_softmax(1), target_indices(target, logits))"),
    ("1.1", "mean over the batch", "score.sum()", "score.mean()"),
    ("1.1", "first image only", "score.sum()", "score[0]"),
    ("1.1", "target ignored", SCORE, "score = model(x).max(dim=1).values"),
    ("1.1", "first target for all", SCORE, "logits = model(x); score = logits[:, target_indices(target, logits)[0]]"),
    ("1.1", "sum of all logits", SCORE, "score = model(x).sum(dim=1)"),
    ("1.1", "absolute value", "(w,) = torch.autograd.grad(score.sum(), x)",
     "w = torch.autograd.grad(score.sum(), x)[0].abs()"),
    ("1.1", "gradient accumulated in the parameters", "(w,) = torch.autograd.grad(score.sum(), x)",
     "score.sum().backward()\nw = x.grad"),
    ("1.1", "the caller's tensor is made to require grad", "x = images.detach().clone().requires_grad_()",
     "x = images.requires_grad_()"),
    ("1.1", "normalised by its maximum", "(w,) = torch.autograd.grad(score.sum(), x)",
     "w = torch.autograd.grad(score.sum(), x)[0]\nw = w / w.abs().max()"),
    ("1.2", "no absolute value", "", "w = vanilla_gradient(model, images, target)\n"
     "return w.amax(dim=1) if reduce == 'max' else w.sum(dim=1)"),
    ("1.2", "sum over channels before the absolute value", "", "w = vanilla_gradient(model, images, target)\n"
     "return w.abs().amax(dim=1) if reduce == 'max' else w.sum(dim=1).abs()"),
    ("1.2", "reduce ignored", 'f"{reduce}_abs"', '"max_abs"'),
    ("1.2", "mean instead of sum", "", "w = vanilla_gradient(model, images, target).abs()\n"
     "return w.amax(dim=1) if reduce == 'max' else w.mean(dim=1)"),
    ("1.2", "H and W swapped", 'f"{reduce}_abs")', 'f"{reduce}_abs").transpose(1, 2)'),
    ("1.2", "scaled to its own maximum", "", "w = channel_reduce(vanilla_gradient(model, images, target), "
     "f'{reduce}_abs')\nreturn w / w.amax(dim=(1, 2), keepdim=True)"),
    ("1.3", "softmax over the batch", "logits.softmax(dim=1)", "logits.softmax(dim=0)"),
    ("1.3", "log-softmax", "logits.softmax(dim=1)", "logits.log_softmax(dim=1)"),
    ("1.3", "the logit", "logits.softmax(dim=1)", "logits"),
    ("1.3", "sigmoid", "logits.softmax(dim=1)", "logits.sigmoid()"),
    ("1.3", "target ignored", "target_indices(target, logits)", "None"),
    ("1.3", "probability times the logit's gradient", "", "x = images.detach().clone().requires_grad_()\n"
     "logits = model(x)\nlabels = target_indices(target, logits)\n"
     "(gradient,) = torch.autograd.grad(target_logits(logits, labels).sum(), x)\n"
     "gradient = gradient * target_logits(logits.detach().softmax(dim=1), labels)[:, None, None, None]"),
    ("1.4", "nothing computed", "", "return images.new_zeros(len(images))"),
    ("1.4", "the direction's length forgotten", UNIT, "unit = direction"),
    ("1.4", "one length for the whole batch", UNIT, "unit = direction / direction.norm()"),
    ("1.4", "forward difference", "return (ahead - behind) / (2 * step)",
     "return (ahead - target_logits(model(images), target)) / step"),
    ("1.4", "half the way forgotten", "(2 * step)", "step"),
    ("1.4", "never divided by the step", " / (2 * step)", ""),
    ("1.4", "behind minus ahead", "(ahead - behind)", "(behind - ahead)"),
    ("1.4", "absolute value", "(ahead - behind)", "(ahead - behind).abs()"),
    ("1.4", "largest component for the length", UNIT,
     "unit = direction / direction.flatten(1).abs().amax(dim=1)[:, None, None, None]"),
    ("1.4", "step ignored", UNIT, UNIT + "\nstep = 0.005"),
]  # fmt: skip

RIGHT = [
    ("1.1", "one image at a time", "", "parts = []\nwith torch.no_grad():\n"
     "    labels = target_indices(target, model(images))\nfor image, label in zip(images, labels, strict=True):\n"
     "    x = image[None].detach().clone().requires_grad_()\n"
     "    parts.append(torch.autograd.grad(model(x)[0, label], x)[0])\nw = torch.cat(parts)"),
    ("1.1", "grad_outputs of ones", "score.sum(), x)", "score, x, grad_outputs=torch.ones_like(score))"),
    ("1.2", "abs and max by hand", "", "w = vanilla_gradient(model, images, target).abs()\n"
     "return w.max(dim=1)[0] if reduce == 'max' else w.sum(1)"),
    ("1.3", "softmax written out", "logits.softmax(dim=1)",
     "(logits - logits.logsumexp(dim=1, keepdim=True)).exp()"),
    ("1.4", "both steps in one batch", "", "unit = nn.functional.normalize(direction.flatten(1))\n"
     "unit = unit.reshape(images.shape)\n"
     "both = model(torch.cat([images + step * unit, images - step * unit]))\n"
     "ahead, behind = target_logits(both, target.repeat(2)).chunk(2)\nreturn (ahead - behind) / step / 2"),
]  # fmt: skip
# END KEPT BACK
