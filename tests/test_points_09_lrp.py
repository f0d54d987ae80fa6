"""Exercises of advanced/lrp.py, with their points."""

import pytest
import torch
from conftest import assert_tensor, drawing, factor, hook_count, over_there, seeded, unchanged
from torch import nn

EXERCISES = {  # title, difficulty, minutes, when
    "9.1": ("Rules", 2, 30, "in class"),
    "9.2": ("One line", 3, 20, "for the quick"),
    "9.16": ("The z+ rule by hand", 1, 3, "in class"),
    "9.17": ("Without detach", 2, 4, "in class"),
}


def linear(weight: list[list[float]], bias: list[float]) -> nn.Module:
    layer = nn.Linear(len(weight[0]), len(weight)).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        layer.bias.copy_(torch.tensor(bias))
    return layer.requires_grad_(False)


# Contributions 3, -2, 1 with bias 2; 1, -4, 0 with bias -1; -3, 2, 1 with bias 0; and all that many times
TIMES = factor(0)
LAYER = linear([[3.0, -1.0, 1.0], [1.0, -2.0, 0.0], [-3.0, 1.0, 1.0]], [2 * TIMES, -TIMES, 0.0])
INPUT = TIMES * torch.tensor([[1.0, 2.0, 1.0]], dtype=torch.float64)


@pytest.mark.points(1, exercise="9.1")
def test_epsilon(lesson):
    """z = 4, -4, 0: root mean square sqrt(32 / 3). Ten times the image, ten times the epsilon."""
    p, epsilon = lesson.epsilon_rule(LAYER, INPUT), (32 / 3) ** 0.5 / 4
    expected = TIMES * torch.tensor([[4 + epsilon, -4 - epsilon, epsilon]], dtype=torch.float64)
    assert_tensor(p, expected, rtol=0, atol=1e-6)
    layer = linear([[3.0, -1.0, 1.0], [1.0, -2.0, 0.0], [-3.0, 1.0, 1.0]], [0.0, 0.0, 0.0])
    batch = torch.cat([INPUT, 10 * INPUT])
    one_by_one = torch.cat([lesson.epsilon_rule(layer, INPUT), 10 * lesson.epsilon_rule(layer, INPUT)])
    assert_tensor(lesson.epsilon_rule(layer, batch), one_by_one, rtol=0, atol=1e-6)


def epsilon_and_slope(lesson, conv: nn.Module, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """p of the epsilon rule, and the gradient of its weighted sum."""
    a = IMAGES.clone().requires_grad_()
    p = lesson.epsilon_rule(conv, a)
    return p.detach(), torch.autograd.grad(p, a, weights)[0]


@pytest.mark.points(1, exercise="9.1")
def test_epsilon_of_a_convolution_is_one_number_per_image_and_constant(lesson):
    """The gradient of p is that of z: epsilon is held constant."""
    conv = network()[0]
    a = IMAGES.clone().requires_grad_()
    z = conv(a)
    size = z.detach().flatten(1).square().mean(dim=1).sqrt()[:, None, None, None]
    weights = torch.linspace(-1, 1, z.numel(), dtype=torch.float64).reshape(z.shape)
    p, slope = over_there(lesson, epsilon_and_slope, conv, weights)
    assert_tensor(p, (z + size / 4 * torch.where(z < 0, -1.0, 1.0)).detach(), rtol=0, atol=1e-6)
    assert_tensor(slope, torch.autograd.grad(z, a, weights)[0])


@pytest.mark.points(1, exercise="9.1", prediction=True)
def test_predicted_shares_with_a_bias(lesson):
    """The bias is part of z+, so a share of R stays with it; what is negative gets nothing."""
    found = [float(share) for share in lesson.predicted_with_bias()]
    assert found == pytest.approx([2, 0, 2 / 3], abs=0.01)


@pytest.mark.points(1, exercise="9.1")
def test_plus(lesson):
    """The positive contributions, and the bias if positive; also of negative inputs."""
    assert_tensor(lesson.plus_rule(LAYER, INPUT), TIMES * torch.tensor([[6.0, 1.0, 3.0]], dtype=torch.float64))
    assert_tensor(lesson.plus_rule(LAYER, -INPUT), TIMES * torch.tensor([[4.0, 4.0, 3.0]], dtype=torch.float64))


@pytest.mark.points(1, exercise="9.1")
def test_gamma(lesson):
    """z = 4, z+ = 6: 5.5. z = -4, z- = -5: -5.25. z = 0, z+ = 3: 0.75."""
    expected = TIMES * torch.tensor([[5.5, -5.25, 0.75]], dtype=torch.float64)
    assert_tensor(lesson.gamma_rule(LAYER, INPUT), expected)


@pytest.mark.points(1, exercise="9.1", contract=True)
def test_a_sum_of_zero_is_no_division_by_zero(lesson):
    """Nothing is divided by 0. Zero itself counts as positive, and a negative sum stays negative."""
    silent = linear([[0.0, 0.0, 0.0], [-1.0, -1.0, -1.0]], [0.0, 0.0])
    for rule in (lesson.epsilon_rule, lesson.plus_rule, lesson.gamma_rule):
        p = rule(silent, INPUT)
        assert (p != 0).all()
        assert p.dtype == torch.float64
    assert lesson.epsilon_rule(silent, INPUT)[0, 0] > 0
    assert lesson.epsilon_rule(linear([[0.0, 0.0, 0.0]], [0.0]), INPUT)[0, 0] > 0
    assert lesson.gamma_rule(silent, INPUT)[0, 1] < -4


def network() -> nn.Module:
    """Convolution, ReLU, pooling, linear; float64, with biases."""
    with torch.random.fork_rng():
        torch.manual_seed(seeded(4))
        layers = nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(24, 3)
        model = nn.Sequential(*layers)
    return model.double().eval()


IMAGES = torch.randn(2, 3, 7, 9, dtype=torch.float64, generator=drawing(1))[..., :8]


@pytest.mark.points(1, exercise="9.2")
def test_one_layer_by_hand(lesson):
    """Contributions 3, -2, 1; z+ in the convolution: 2 x (3, 0, 1) / 4."""
    model = nn.Sequential(nn.Conv2d(3, 1, 1, bias=False), nn.Flatten()).double().eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([3.0, -1.0, 1.0]).reshape(1, 3, 1, 1))
    image = INPUT.reshape(1, 3, 1, 1)
    expected = TIMES * torch.tensor([1.5, 0.0, 0.5], dtype=torch.float64).reshape(1, 3, 1, 1)
    assert_tensor(lesson.lrp(model, image, 0), expected)


def inside_the_rules(lesson, rule: str) -> tuple[torch.Tensor, int]:
    """Logits while a rule is in the network, and how many hooks stay."""
    model = network()
    with unchanged(model, IMAGES), lesson.relevance_rules(model, rule):
        found = model(IMAGES)
    return found.detach(), hook_count(model)


@pytest.mark.points(1, exercise="9.2", contract=True)
def test_the_value_stays(lesson):
    """The rules change the way back only: logits stay, and no hook is left."""
    model = network()
    with torch.no_grad():
        expected = model(IMAGES)
    for rule in ("epsilon", "gamma", "epsilon_plus", "composite"):
        found, hooks = over_there(lesson, inside_the_rules, rule)
        assert_tensor(found, expected, rtol=1e-6, atol=1e-8)
        assert hooks == 0


@pytest.mark.points(1, exercise="9.2")
def test_two_layers_by_matrices(lesson):
    """epsilon in the linear layer, z+ in the convolution, the winner of each pool in between."""
    model = network()
    with torch.no_grad():
        hidden = model[:2](IMAGES[:1])                                 # (1, 4, 5, 6), after ReLU
    pooled = hidden.clone().requires_grad_()
    flat = model[2:4](pooled)
    with torch.no_grad():
        z = model[4](flat)[0]
    p = z[1] + z.square().mean().sqrt() / 4 * (1 if z[1] >= 0 else -1)
    R = model[4].weight[1].detach() * flat.detach() * z[1] / p         # epsilon rule: a_i w_i z / p
    (R,) = torch.autograd.grad(flat, pooled, R)                        # (1, 4, 5, 6)
    weight = model[0].weight.detach()
    expected = torch.zeros(1, 3, 7, 8, dtype=torch.float64)
    for k in range(4):
        for y in range(5):
            for x in range(6):
                paid = (IMAGES[0, :, y : y + 3, x : x + 3] * weight[k]).clamp(min=0)
                total = paid.sum() + model[0].bias[k].detach().clamp(min=0)
                expected[0, :, y : y + 3, x : x + 3] += paid / total * R[0, k, y, x]
    assert_tensor(lesson.lrp(model, IMAGES[:1], 1), expected, rtol=1e-4, atol=1e-6)


def without_epsilon(lesson, model: nn.Module, rule: str) -> torch.Tensor:
    """Relevance with an epsilon of 0, which would take its share."""
    before, lesson.EPSILON = lesson.EPSILON, 0.0
    try:
        return lesson.lrp(model, IMAGES, [2, 0], rule=rule)
    finally:
        lesson.EPSILON = before


@pytest.mark.points(1, exercise="9.2", contract=True)
def test_nothing_is_lost_without_biases(lesson):
    """Without biases and epsilon all of the logit arrives at the pixels."""
    model = network()
    nn.init.zeros_(model[0].bias)
    nn.init.zeros_(model[4].bias)
    logits = model(IMAGES)[[0, 1], [2, 0]].detach()
    for rule in ("gamma", "epsilon_plus", "composite"):
        sums = over_there(lesson, without_epsilon, model, rule).sum(dim=(1, 2, 3))
        assert_tensor(sums, logits, rtol=1e-4, atol=1e-4)


# BEGIN KEPT BACK
QUESTIONS = {
    "9.16": {
        1.5: "Only positive contributions count: 3 of 4 parts of 2. The third input gets nothing.",
        3: "This is the zero rule's share: contribution over the whole sum.",
        1: "Not by absolute values: what is negative is left out.",
        "else": "Shares go by positive contributions only. What is their sum?",
    },
    "9.17": {
        "a": "p (z / p) is z for autograd as well, so every rule becomes the zero rule.",
        "b": "p stands above and below the line. What is left?",
        "c": "p cancels. Is what remains constant?",
        "d": "What does autograd do with a factor that is not held constant?",
    },
}


def true_9_16(lesson) -> float:
    layer, a = nn.Linear(3, 1, bias=False), torch.tensor([[3.0, 1.0, 2.0]])
    layer.weight.data = torch.tensor([[1.0, 1.0, -1.0]])
    return lesson.hand_down(lesson.plus_rule, layer, a, torch.tensor([[2.0]]))[0, 0].item()


EPSILON = "epsilon = EPSILON * z.detach().square().mean(dim=tuple(range(1, z.ndim)), keepdim=True).sqrt()"
P = "return z + (epsilon + TINY) * sign(z)"
PLUS = "return positive_part(layer, a) + TINY"
GAMMA = "return z + GAMMA * torch.where(z < 0, z - plus, plus) + TINY * sign(z)"
HAND = "return [4 * 3 / 6, 0.0, 4 * 1 / 6]"
HOOK = "return p * (z / p).detach()"

WRONG = [
    ("9.1", "nothing computed: zeros", P, "return torch.zeros_like(z)"),
    ("9.1", "no epsilon", P, "return z"),
    ("9.1", "epsilon without the sign", P, "return z + epsilon + TINY"),
    ("9.1", "epsilon subtracted", P, "return z - (epsilon + TINY) * sign(z)"),
    ("9.1", "torch's sign, 0 at 0", P, "return z + (epsilon + TINY) * torch.sign(z)"),
    ("9.1", "absolute value", P, "return z.abs() + epsilon + TINY"),
    ("9.1", "0 / 0 where all sums are 0", P, "return z + epsilon * sign(z)"),
    ("9.1", "a fixed epsilon", EPSILON, "epsilon = EPSILON"),
    ("9.1", "one epsilon for the batch", "z.detach().square().mean(dim=tuple(range(1, z.ndim)), keepdim=True).sqrt()",
     "z.detach().square().mean().sqrt()"),
    ("9.1", "one epsilon per neuron", "dim=tuple(range(1, z.ndim))", "dim=0"),
    ("9.1", "one epsilon per place", "dim=tuple(range(1, z.ndim))", "dim=1"),
    ("9.1", "root forgotten", "keepdim=True).sqrt()", "keepdim=True)"),
    ("9.1", "mean absolute value", "z.detach().square().mean(dim=tuple(range(1, z.ndim)), keepdim=True).sqrt()",
     "z.detach().abs().mean(dim=tuple(range(1, z.ndim)), keepdim=True)"),
    ("9.1", "a gradient through epsilon", "z.detach()", "z"),
    ("9.1", "positive sums instead of positive contributions", PLUS,
     "return zero_rule(layer, a).clamp(min=0) + TINY"),
    ("9.1", "positive weights only", PLUS, "return affine(layer, a, layer.weight.clamp(min=0), layer.bias) + TINY"),
    ("9.1", "without the bias", PLUS, "return positive_part(layer, a, bias=False) + TINY"),
    ("9.1", "z+: 0 / 0", PLUS, "return positive_part(layer, a)"),
    ("9.1", "gamma for positive sums only", GAMMA, "return z + GAMMA * plus + TINY * sign(z)"),
    ("9.1", "gamma of the other sign", GAMMA, "return z + GAMMA * torch.where(z < 0, plus, z - plus) + TINY * sign(z)"),
    ("9.1", "gamma in place of the sum", GAMMA, "return GAMMA * torch.where(z < 0, z - plus, plus) + TINY * sign(z)"),
    ("9.1", "1 + gamma times the sum", GAMMA, "return z * (1 + GAMMA) + TINY * sign(z)"),
    ("9.1", "predicted as if there were no bias", HAND, "return [3.0, 0.0, 1.0]"),
    ("9.1", "predicted by contribution", HAND, "return [3.0, -2.0, 1.0]"),
    ("9.1", "predicted for R = 2", HAND, "return [1.0, 0.0, 1 / 3]"),
    ("9.2", "nothing computed: zeros", HOOK, "return z * 0"),
    ("9.2", "p alone: another value", HOOK, "return p"),
    ("9.2", "z alone: the plain gradient", HOOK, "return z"),
    ("9.2", "nothing held constant", HOOK, "return p * (z / p)"),
    ("9.2", "p held constant", HOOK, "return p.detach() * (z / p)"),
    ("9.2", "value of z, gradient of p without z / p", HOOK, "return p + (z - p).detach()"),
    ("9.2", "ratio upside down", HOOK, "return z * (p / z).detach()"),
    ("9.2", "all detached", HOOK, "return (p * (z / p)).detach().requires_grad_()"),
]  # fmt: skip

RIGHT = [
    ("9.1", "epsilon by torch.where, the norm by torch.linalg",
     "epsilon = EPSILON * z.detach().square().mean(dim=tuple(range(1, z.ndim)), keepdim=True).sqrt()\n"
     "return z + (epsilon + TINY) * sign(z)",
     "size = torch.linalg.vector_norm(z.detach().flatten(1), dim=1) / z[0].numel() ** 0.5\n"
     "e = (EPSILON * size + TINY).reshape(-1, *[1] * (z.ndim - 1))\nreturn torch.where(z < 0, z - e, z + e)"),
    ("9.1", "gamma by cases", GAMMA,
     "minus = z - plus\nreturn torch.where(z < 0, z + GAMMA * minus - TINY, z + GAMMA * plus + TINY)"),
    ("9.1", "rounded by hand", HAND, "return [2, 0, 0.667]"),
    ("9.2", "two steps", HOOK, "ratio = (z / p).detach()\nreturn ratio * p"),
    ("9.2", "value fixed afterwards", HOOK, "scaled = p * (z / p).detach()\nreturn scaled + (z - scaled).detach()"),
]  # fmt: skip
# END KEPT BACK
