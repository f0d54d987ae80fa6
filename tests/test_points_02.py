"""Exercises of lesson 02, with their points."""

import pytest
import torch
from conftest import PixelFunction, assert_tensor, drawing, over_there, seeded, unchanged
from torch import nn

EXERCISES = {  # title, difficulty, minutes, when
    "2.1": ("The product", 1, 5, "in class"),
    "2.2": ("What is left over?", 2, 10, "assign"),
    "2.3": ("Move the zero", 2, 10, "assign"),
    "2.4": ("What the biases brought", 3, 20, "assign"),
    "2.5": ("What survives?", 2, 10, "in class"),
    "2.6": ("Black dogs", 3, 20, "discuss"),
    "2.7": ("No biases", 1, 3, "in class"),
    "2.8": ("Who brought the rest?", 1, 3, "in class"),
    "2.9": ("A pixel of the zero's colour", 1, 3, "in class"),
}

IMAGES = torch.rand(3, 3, 2, 4, generator=drawing(1), dtype=torch.float64) * 2 - 1


def smooth() -> nn.Module:
    """A network without ReLU, float64: what its pixels leave over is not what its biases bring."""
    with torch.random.fork_rng():
        torch.manual_seed(seeded(2))
        hidden = nn.Sequential(nn.Conv2d(3, 4, 2), nn.Tanh(), nn.Flatten(), nn.Linear(12, 5), nn.Sigmoid())
        return nn.Sequential(hidden, nn.Linear(5, 3)).double().eval()


def left_over(model: nn.Module, images: torch.Tensor, targets: list[int]) -> torch.Tensor:
    """Score minus gradient x input, of each image for its own class."""
    x = images.clone().requires_grad_()
    scores = model(x)[range(len(x)), targets]
    (gradient,) = torch.autograd.grad(scores.sum(), x)
    return (scores - (gradient * x).sum((1, 2, 3))).detach()


def brought_by_biases(model: nn.Module, images: torch.Tensor, targets: list[int]) -> torch.Tensor:
    """Each bias times the score's slope in it, added up, image by image."""
    biases = [value for name, value in model.named_parameters() if name.endswith("bias")]
    slopes = [torch.autograd.grad(model(image[None])[0, c], biases) for image, c in zip(images, targets, strict=True)]
    return torch.stack([sum((b * s).sum() for b, s in zip(biases, each, strict=True)) for each in slopes]).detach()


@pytest.mark.points(1, exercise="2.1")
def test_product_on_a_linear_model(lesson, linear):
    """On a linear model a pixel's share is its weight times its value. The sign stays."""
    for targets in ([2, 0, 1], [1, 1, 0]):
        weights = linear[1].weight.detach()[targets].reshape(3, 3, 2, 4)
        assert_tensor(lesson.gradient_times_input(linear, IMAGES, targets), weights * IMAGES)


@pytest.mark.points(0.5, exercise="2.1")
def test_product_counts_from_the_baseline(lesson, linear):
    """A pixel that equals the baseline gets nothing."""
    weights, baseline = linear[1].weight.detach()[1].reshape(3, 2, 4), torch.tensor([0.5, -1.0, 2.0]).double()
    found = lesson.gradient_times_input(linear, IMAGES, 1, baseline=baseline[:, None, None])
    assert_tensor(found, weights * (IMAGES - baseline[:, None, None]))


@pytest.mark.points(0.5, exercise="2.1")
def test_product_takes_the_slope_at_the_image(lesson):
    """S = sum of x^3, so the slope depends on where it is taken."""
    model = PixelFunction(lambda x: x.pow(3).sum(dim=(2, 3)))
    with unchanged(model, IMAGES):
        found = lesson.gradient_times_input(model, IMAGES, 0, baseline=torch.ones(1, 1, 1).double())
    expected = torch.zeros_like(IMAGES)
    expected[:, 0] = (3 * IMAGES**2 * (IMAGES - 1))[:, 0]
    assert_tensor(found, expected)


@pytest.mark.points(1, exercise="2.2")
def test_what_is_left_of_a_linear_model_is_its_bias(lesson, linear):
    """Which part of w x + b do the shares w x leave? Each image's own class counts. What of a curved network?"""
    for targets in ([2, 0, 1], [1, 1, 0]):
        assert_tensor(lesson.unexplained_score(linear, IMAGES, targets), linear[1].bias.detach()[targets])
        assert_tensor(lesson.unexplained_score(smooth(), IMAGES, targets), left_over(smooth(), IMAGES, targets))


@pytest.mark.points(1, exercise="2.2")
def test_nothing_is_left_without_biases(lesson, small_images):
    """Score minus shares, in this order. Without biases nothing is left; of a sum of squares S it is S - 2 S."""
    with torch.random.fork_rng():
        torch.manual_seed(seeded(0))
        model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(140, 3, bias=False))
    model = model.double().eval()
    assert_tensor(lesson.unexplained_score(model, small_images, 1), torch.zeros(3).double(), atol=1e-9, rtol=0)
    squares = PixelFunction(lambda x: x.square().sum(dim=(2, 3)))          # S - 2 S
    assert_tensor(lesson.unexplained_score(squares, small_images, 1), -small_images[:, 1].square().sum(dim=(1, 2)))


@pytest.mark.points(1, exercise="2.2")
def test_left_over_is_the_score_minus_the_shares(lesson, tiny, small_images):
    """The class is each image's own where none is given, in the score as in the shares."""
    for model, images in ((tiny, small_images), (smooth(), IMAGES)):
        with torch.no_grad():
            top = model(images).max(dim=1)
        shares = lesson.gradient_times_input(model, images, top.indices).sum(dim=(1, 2, 3))
        with unchanged(model, images):
            found = lesson.unexplained_score(model, images)
        assert_tensor(found, top.values - shares)
        assert not found.requires_grad


SHIFT = torch.tensor([1.0, -2.0, 0.5]).double()[:, None, None]


@pytest.mark.points(1, exercise="2.3")
def test_shifted_pictures_get_the_originals_logits(lesson, tiny, small_images):
    """The wrapped network gets pictures that were moved. It has to undo that before it looks."""
    with torch.no_grad():
        found = lesson.ShiftedInput(tiny, SHIFT)(small_images + SHIFT)
        assert_tensor(found, tiny(small_images))


@pytest.mark.points(1, exercise="2.3")
def test_no_shift_is_the_network_itself(lesson, tiny, small_images):
    """With a shift of 0 nothing changes. With another one, a picture that was not moved gets other logits."""
    with torch.no_grad(), unchanged(tiny, small_images):
        assert_tensor(lesson.ShiftedInput(tiny, 0 * SHIFT)(small_images), tiny(small_images))
        assert not torch.allclose(lesson.ShiftedInput(tiny, SHIFT)(small_images), tiny(small_images))


def slope(lesson, model, images: torch.Tensor) -> torch.Tensor:
    """Gradient of class 1's score through the shifted network."""
    x = images.clone().requires_grad_()
    return torch.autograd.grad(lesson.ShiftedInput(model, SHIFT)(x)[:, 1].sum(), x)[0]


@pytest.mark.points(1, exercise="2.3")
def test_the_gradient_survives_the_shift(lesson, tiny, small_images):
    """The slope at the moved picture is the network's slope at the picture itself."""
    found = over_there(lesson, slope, tiny, small_images + SHIFT)
    y = small_images.clone().requires_grad_()
    (expected,) = torch.autograd.grad(tiny(y)[:, 1].sum(), y)
    assert_tensor(found, expected)


@pytest.mark.points(1, exercise="2.4")
def test_the_bias_of_a_linear_model_is_its_own_share(lesson, linear):
    """In a linear model a class's bias passes through to its score as it is. Elsewhere it counts with its slope."""
    for targets in ([2, 0, 1], [1, 1, 0]):
        assert_tensor(lesson.bias_share(linear, IMAGES, targets), linear[1].bias.detach()[targets])
        expected = brought_by_biases(smooth(), IMAGES, targets)
        assert_tensor(lesson.bias_share(smooth(), IMAGES, targets), expected)


@pytest.mark.points(1, exercise="2.4")
def test_biases_of_all_layers_count_with_their_slope(lesson, tiny, small_images):
    """With ReLU the biases bring what the pixels leave over. With smooth units they do not: ask the biases."""
    found = lesson.bias_share(tiny, small_images, [2, 0, 1])
    assert_tensor(found, left_over(tiny, small_images, [2, 0, 1]))
    found = lesson.bias_share(smooth(), IMAGES, [2, 0, 1])
    assert_tensor(found, brought_by_biases(smooth(), IMAGES, [2, 0, 1]))


@pytest.mark.points(1, exercise="2.4", contract=True)
def test_shares_of_the_biases_leave_no_trace(lesson, tiny, small_images):
    """The parameters are frozen as in load_model, and stay it; a batch gives what its images give one by one."""
    tiny.requires_grad_(False)
    with torch.no_grad():
        top = tiny(small_images).argmax(dim=1).tolist()
    with torch.no_grad(), unchanged(tiny, small_images):
        found = lesson.bias_share(tiny, small_images)
    singles = [lesson.bias_share(tiny, small_images[i : i + 1], top[i]) for i in range(3)]
    assert_tensor(found, torch.cat(singles))
    assert found.abs().min() > 1e-6
    assert not found.requires_grad


@pytest.mark.points(1, exercise="2.5", prediction=True)
def test_prediction_of_what_survives_the_shift(lesson, tiny, small_images):
    """Measured on a small network that is written out here."""
    def measured(shift: torch.Tensor) -> dict[str, torch.Tensor]:
        x = (small_images + shift).requires_grad_()
        logit = tiny(x - shift)[:, 1]
        (gradient,) = torch.autograd.grad(logit.sum(), x)
        return {
            "logit": logit, "gradient": gradient, "gradient x input": gradient * x,
            "gradient x (input - black)": gradient * (x - (shift - 2)),
            "left over": logit - (gradient * x).sum((1, 2, 3)),
        }  # fmt: skip

    before, after = measured(0 * SHIFT), measured(SHIFT)
    stays = {name: torch.allclose(before[name], after[name]) for name in before}
    assert lesson.survives_the_shift() == stays, "not all five are right; what is multiplied by the slope?"


# BEGIN KEPT BACK
QUESTIONS = {
    "2.7": {
        12.5: "Without biases the score is exactly slope times input, so nothing is left over.",
        0: "0 is what is left over. The question is what the shares add up to.",
        "else": "What is left over is what the biases bring. How much is that here?",
    },
    "2.8": {
        18.7: "Shares and biases together are the logit: -1.7 + 18.7 = 17.0.",
        15.3: "Mind the sign of the shares.",
        "else": "Shares plus biases are the logit.",
    },
    "2.9": {
        "a": "The distance from the zero is a factor. This is the price of every zero, and why it must be stated.",
        "b": "What is the pixel's distance from the zero, in numbers?",
        "c": "The slope is one factor. What is the other one?",
        "d": "Nothing is divided, so nothing can be undefined. Work the product out.",
    },
}


def true_2_7(lesson) -> float:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5, bias=False), nn.ReLU(), nn.Linear(5, 2, bias=False))
    model, image = model.double().eval(), torch.linspace(-1, 1, 12).double().reshape(1, 3, 2, 2)
    return 12.5 * (lesson.gradient_times_input(model, image, 0).sum() / model(image)[0, 0]).item()


def true_2_8(lesson) -> float:
    return 17.0 - -1.7


WRONG = [
    ("2.1", "nothing computed", "", "return torch.zeros_like(images)"),
    ("2.1", "the images themselves", "", "return images.detach().clone()"),
    ("2.2", "nothing computed", "", "return torch.zeros_like(images[:, 0, 0, 0])"),
    ("2.3", "the images themselves", "", "return images"),
    ("2.3", "nothing computed", "images - self.shift", "images * 0"),
    ("2.1", "baseline forgotten", "(images.detach() - zero)", "images.detach()"),
    ("2.1", "baseline added", "images.detach() - zero", "images.detach() + zero"),
    ("2.1", "absolute value", "return gradient * (images.detach() - zero)",
     "return (gradient * (images.detach() - zero)).abs()"),
    ("2.1", "absolute gradient", "return gradient *", "return gradient.abs() *"),
    ("2.1", "slope at the baseline", "vanilla_gradient(model, images, target)",
     "vanilla_gradient(model, zero, target)"),
    ("2.1", "slope at the difference", "vanilla_gradient(model, images, target)",
     "vanilla_gradient(model, images - zero, target)"),
    ("2.1", "target ignored", "vanilla_gradient(model, images, target)", "vanilla_gradient(model, images)"),
    ("2.1", "summed over channels", "return gradient * (images.detach() - zero)",
     "return (gradient * (images.detach() - zero)).sum(dim=1, keepdim=True).expand_as(images)"),
    ("2.2", "other way round", "return score - attribution.sum(dim=(1, 2, 3))",
     "return attribution.sum(dim=(1, 2, 3)) - score"),
    ("2.2", "sum over the batch", "attribution.sum(dim=(1, 2, 3))", "attribution.sum()"),
    ("2.2", "sum of absolute shares", "attribution.sum", "attribution.abs().sum"),
    ("2.2", "probability instead of the logit", "target_logits(model(images), target)",
     "target_logits(model(images).softmax(dim=1), target_indices(target, model(images)))"),
    ("2.2", "target ignored", "target_logits(model(images), target)", "target_logits(model(images), None)"),
    ("2.2", "mean instead of sum", "attribution.sum", "attribution.mean"),
    ("2.2", "absolute value", "return score - attribution.sum(dim=(1, 2, 3))",
     "return (score - attribution.sum(dim=(1, 2, 3))).abs()"),
    ("2.2", "first image only", "return score - attribution.sum(dim=(1, 2, 3))",
     "return (score - attribution.sum(dim=(1, 2, 3)))[:1].expand(len(images))"),
    ("2.2", "what the biases bring, a network's of ReLU", "", "return bias_share(model, images, target)"),
    ("2.2", "the score without any picture", "", "logits = model(torch.zeros_like(images)).detach()\n"
     "return target_logits(logits, target_indices(target, model(images)))"),
    ("2.3", "wrong sign", "images - self.shift", "images + self.shift"),
    ("2.3", "no shift", "images - self.shift", "images"),
    ("2.3", "shift of the logits", "self.model(images - self.shift)", "self.model(images) - self.shift.sum()"),
    ("2.3", "mean shift for all channels", "self.shift", "self.shift.mean()"),
    ("2.3", "detached", "images - self.shift", "images.detach() - self.shift"),
    ("2.3", "in-place input", "return self.model(images - self.shift)",
     "if images.requires_grad:\n    return self.model(images - self.shift)\n"
     "return self.model(images.sub_(self.shift))"),
    ("2.4", "nothing computed", "", "pass"),
    ("2.2", "network and pictures set to zero", "",
     "for p in [*model.parameters(), images]:\n    p.data.zero_()\nreturn torch.zeros_like(images[:, 0, 0, 0])"),
    ("2.4", "network set to zero", "", "for p in model.parameters():\n    p.data.zero_()"),
    ("2.4", "slopes without the biases", "(b * slope).sum()", "slope.sum()"),
    ("2.4", "biases without the slopes", "(b * slope).sum()", "b.sum()"),
    ("2.4", "absolute shares", "(b * slope).sum()", "(b * slope).abs().sum()"),
    ("2.4", "last layer only", "zip(biases.values(), slopes, strict=True)",
     "list(zip(biases.values(), slopes, strict=True))[-1:]"),
    ("2.4", "first layer only", "zip(biases.values(), slopes, strict=True)",
     "list(zip(biases.values(), slopes, strict=True))[:1]"),
    ("2.4", "first class for all", "labels[i : i + 1]", "labels[:1]"),
    ("2.4", "sum of all logits", "target_logits(logits, labels[i : i + 1]).sum()", "logits.sum()"),
    ("2.4", "probability instead of the logit", "target_logits(logits,", "target_logits(logits.softmax(dim=1),"),
    ("2.4", "all pictures at once", "image[None])", "images)"),
    ("2.4", "what the pixels leave over", "",
     "brought[i] = unexplained_score(model, image[None], int(labels[i]))[0]"),
    ("2.4", "what the pixels leave over, worked out here", "", "x = image[None].requires_grad_()\n"
     "score = target_logits(model(x), labels[i : i + 1]).sum()\n"
     "(slope,) = torch.autograd.grad(score, x)\nbrought[i] = (score - (x * slope).sum()).detach()"),
    ("2.4", "the score with and without biases", "", "without = {name: 0 * b for name, b in biases.items()}\n"
     "scores = [functional_call(model, each, image[None])[0, labels[i]] for each in (biases, without)]\n"
     "brought[i] = (scores[0] - scores[1]).detach()"),
    ("2.4", "left attached", ".detach()", ""),
    ("2.4", "the model's own parameters", "", "for b in parameters.values():\n    b.requires_grad_()\n"
     "score = target_logits(model(image[None]), labels[i : i + 1]).sum()\n"
     "slopes = torch.autograd.grad(score, [*parameters.values()], materialize_grads=True)\n"
     "brought[i] = sum((b * s).sum() for b, s in zip(parameters.values(), slopes, strict=True)).detach()"),
    ("2.5", "nothing computed", "", "return {}"),
    ("2.5", "everything stays", "return {", "return dict.fromkeys(['logit', 'gradient', 'gradient x input', "
     "'gradient x (input - black)', 'left over'], True) or {"),
    ("2.5", "nothing stays", "return {", "return dict.fromkeys(['logit', 'gradient', 'gradient x input', "
     "'gradient x (input - black)', 'left over'], False) or {"),
    ("2.5", "the product stays", '"gradient x input": False', '"gradient x input": True'),
    ("2.5", "black does not help", '"gradient x (input - black)": True', '"gradient x (input - black)": False'),
    ("2.5", "the rest stays", '"left over": False', '"left over": True'),
    ("2.5", "the gradient changes", '"gradient": True', '"gradient": False'),
]  # fmt: skip

RIGHT = [
    ("2.1", "product split in two", "return gradient * (images.detach() - zero)",
     "return gradient * images.detach() - gradient * zero"),
    ("2.2", "sum over the flattened shares", "attribution.sum(dim=(1, 2, 3))", "attribution.flatten(1).sum(-1)"),
    ("2.4", "all biases in one vector", "", "flat = torch.cat([b.detach().flatten() for b in biases.values()])\n"
     "score = functional_call(model, biases, (image[None],))[0, labels[i]]\n"
     "slopes = torch.autograd.grad(score, list(biases.values()), allow_unused=True)\n"
     "brought[i] = flat @ torch.cat([s.flatten() for s in slopes])"),
    ("2.4", "by a small step of all biases", "", "def at(step):\n"
     "    scaled = {name: b.detach() * (1 + step) for name, b in biases.items()}\n"
     "    return functional_call(model, scaled, image[None])[0, labels[i]].detach()\n"
     "brought[i] = (at(1e-7) - at(-1e-7)) / 2e-7"),
    ("2.5", "in another order", "", "stays = dict.fromkeys(['gradient x (input - black)', 'logit', 'gradient'], True)\n"
     "return stays | {'left over': False, 'gradient x input': False}"),
    ("2.3", "add the negative", "images - self.shift", "torch.add(images, -self.shift)"),
]  # fmt: skip
# END KEPT BACK
