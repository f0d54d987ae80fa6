"""Exercises of advanced/lrp.py, with their points."""

import pytest
import torch
from conftest import assert_tensor, hook_count, over_there, unchanged
from torch import nn


def linear(weight: list[list[float]], bias: list[float]) -> nn.Module:
    layer = nn.Linear(len(weight[0]), len(weight)).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        layer.bias.copy_(torch.tensor(bias))
    return layer.requires_grad_(False)


# Contributions 3, -2, 1 with bias 2; 1, -4, 0 with bias -1; -3, 2, 1 with bias 0
LAYER = linear([[3.0, -1.0, 1.0], [1.0, -2.0, 0.0], [-3.0, 1.0, 1.0]], [2.0, -1.0, 0.0])
INPUT = torch.tensor([[1.0, 2.0, 1.0]], dtype=torch.float64)


@pytest.mark.points(1, exercise="9.1")
def test_epsilon(lesson):
    """z = 4, -4, 0: root mean square sqrt(32 / 3). Ten times the image, ten times the epsilon."""
    p, epsilon = lesson.epsilon_rule(LAYER, INPUT), (32 / 3) ** 0.5 / 4
    expected = torch.tensor([[4 + epsilon, -4 - epsilon, epsilon]], dtype=torch.float64)
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


@pytest.mark.points(1, exercise="9.1")
def test_predicted_shares_with_a_bias(lesson):
    """z+ = 3 + 1 + 2 = 6, R = 4: 4 x 3 / 6, nothing, 4 x 1 / 6."""
    found = [float(share) for share in lesson.predicted_with_bias()]
    assert found == pytest.approx([2, 0, 2 / 3], abs=0.01)


@pytest.mark.points(1, exercise="9.1")
def test_plus(lesson):
    """The positive contributions, and the bias if positive; also of negative inputs."""
    assert_tensor(lesson.plus_rule(LAYER, INPUT), torch.tensor([[6.0, 1.0, 3.0]], dtype=torch.float64))
    assert_tensor(lesson.plus_rule(LAYER, -INPUT), torch.tensor([[4.0, 4.0, 3.0]], dtype=torch.float64))


@pytest.mark.points(1, exercise="9.1")
def test_gamma(lesson):
    """z = 4, z+ = 6: 5.5. z = -4, z- = -5: -5.25. z = 0, z+ = 3: 0.75."""
    assert_tensor(lesson.gamma_rule(LAYER, INPUT), torch.tensor([[5.5, -5.25, 0.75]], dtype=torch.float64))


@pytest.mark.points(1, exercise="9.1")
def test_a_sum_of_zero_is_no_division_by_zero(lesson):
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
        torch.manual_seed(4)
        layers = nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(24, 3)
        model = nn.Sequential(*layers)
    return model.double().eval()


IMAGES = torch.randn(2, 3, 7, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))[..., :8]


@pytest.mark.points(1, exercise="9.2")
def test_one_layer_by_hand(lesson):
    """Contributions 3, -2, 1; z+ in the convolution: 2 x (3, 0, 1) / 4."""
    model = nn.Sequential(nn.Conv2d(3, 1, 1, bias=False), nn.Flatten()).double().eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([3.0, -1.0, 1.0]).reshape(1, 3, 1, 1))
    image = INPUT.reshape(1, 3, 1, 1)
    expected = torch.tensor([1.5, 0.0, 0.5], dtype=torch.float64).reshape(1, 3, 1, 1)
    assert_tensor(lesson.lrp(model, image, 0), expected)


def inside_the_rules(lesson, rule: str) -> tuple[torch.Tensor, int]:
    """Logits while a rule is in the network, and how many hooks stay."""
    model = network()
    with unchanged(model, IMAGES), lesson.relevance_rules(model, rule):
        found = model(IMAGES)
    return found.detach(), hook_count(model)


@pytest.mark.points(1, exercise="9.2", contract=True)
def test_the_value_stays(lesson):
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
    model = network()
    nn.init.zeros_(model[0].bias)
    nn.init.zeros_(model[4].bias)
    logits = model(IMAGES)[[0, 1], [2, 0]].detach()
    for rule in ("gamma", "epsilon_plus", "composite"):
        sums = over_there(lesson, without_epsilon, model, rule).sum(dim=(1, 2, 3))
        assert_tensor(sums, logits, rtol=1e-4, atol=1e-4)
