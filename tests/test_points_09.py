"""Exercises of lesson 09, with their points."""

import pytest
import torch
from conftest import assert_tensor, hook_count, unchanged
from torch import Tensor, nn
from torchvision.models import VisionTransformer


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
    p = lesson.epsilon_rule(LAYER, INPUT)
    assert_tensor(p, torch.tensor([[4 + 1e-6, -4 - 1e-6, 1e-6]], dtype=torch.float64), rtol=0, atol=1e-9)


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


@pytest.mark.points(1, exercise="9.2")
def test_the_value_stays(lesson):
    model = network()
    with torch.no_grad():
        expected = model(IMAGES)
    for rule in ("epsilon", "gamma", "epsilon_plus"):
        with unchanged(model, IMAGES), lesson.relevance_rules(model, rule):
            found = model(IMAGES)
        assert_tensor(found.detach(), expected, rtol=1e-6, atol=1e-8)
    assert hook_count(model) == 0


@pytest.mark.points(1, exercise="9.2")
def test_two_layers_by_matrices(lesson):
    """epsilon in the linear layer, z+ in the convolution, the winner of each pool in between."""
    model = network()
    with torch.no_grad():
        hidden = model[:2](IMAGES[:1])                                 # (1, 4, 5, 6), after ReLU
    pooled = hidden.clone().requires_grad_()
    flat = model[2:4](pooled)
    R = model[4].weight[1].detach() * flat.detach()                    # zero rule: a_i w_i
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


@pytest.mark.points(1, exercise="9.2")
def test_nothing_is_lost_without_biases(lesson):
    model = network()
    nn.init.zeros_(model[0].bias)
    nn.init.zeros_(model[4].bias)
    logits = model(IMAGES)[[0, 1], [2, 0]].detach()
    for rule in ("gamma", "epsilon_plus"):
        sums = lesson.lrp(model, IMAGES, [2, 0], rule=rule).sum(dim=(1, 2, 3))
        assert_tensor(sums, logits, rtol=1e-4, atol=1e-4)


def attention(layers: int = 3) -> list[Tensor]:
    """Made-up attention of two images, two heads, five tokens; rows sum to 1."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 2, 5, 5, generator=generator, dtype=torch.float64).softmax(dim=-1) for _ in range(layers)]


@pytest.mark.points(1, exercise="9.3")
def test_residual_by_hand(lesson):
    """Rows that do not sum to 1, as after discarding: (0.2 + 1, 0.2) / 1.4 and (0, 1 + 1) / 2."""
    A = torch.tensor([[[0.2, 0.2], [0.0, 1.0]]], dtype=torch.float64)
    expected = torch.tensor([[[6 / 7, 1 / 7], [0.0, 1.0]]], dtype=torch.float64)
    assert_tensor(lesson.with_residual(A), expected)
    assert_tensor(lesson.with_residual(A.expand(3, -1, -1)), expected.expand(3, -1, -1).clone())


@pytest.mark.points(1, exercise="9.3")
def test_two_layers_by_hand(lesson):
    """Layer 1: patch 1 from patch 2. Layer 2: CLS from patch 1. A quarter of CLS comes from patch 2."""
    A1 = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, 0, 1]])[None, None]
    A2 = torch.tensor([[0.0, 1, 0], [0, 1, 0], [0, 0, 1]])[None, None]
    assert lesson.roll_out([A1, A2])[0, 0].tolist() == [0.5, 0.25, 0.25]


@pytest.mark.points(1, exercise="9.3")
def test_rollout_by_loops(lesson):
    weights = attention()
    expected = torch.eye(5, dtype=torch.float64).repeat(2, 1, 1)
    for A in weights:
        for b in range(2):
            mixed = 0.5 * A[b].mean(dim=0) + 0.5 * torch.eye(5, dtype=torch.float64)
            expected[b] = mixed / mixed.sum(dim=1)[:, None] @ expected[b]
    assert_tensor(lesson.roll_out(weights), expected)


@pytest.mark.points(1, exercise="9.3")
def test_rows_sum_to_one_and_identity_stays(lesson):
    for ratio in (0.0, 0.5):
        sums = lesson.roll_out(attention(), "max", ratio).sum(dim=-1)
        assert_tensor(sums, torch.ones(2, 5, dtype=torch.float64))
    same = lesson.roll_out([torch.eye(4).expand(2, 3, 4, 4)] * 3)
    assert_tensor(same.clone(), torch.eye(4).repeat(2, 1, 1))


def transformer() -> VisionTransformer:
    """Two layers, two heads, four patches; float64, random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(6)
        model = VisionTransformer(8, 4, 2, 2, 8, 12, num_classes=3).double().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(0.6 * torch.randn_like(parameter))
    return model


SQUARES = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def gradients(lesson, model: nn.Module, images: Tensor, target: int) -> list[tuple[Tensor, Tensor]]:
    """Attention of each layer and the gradient of the summed logits with respect to it."""
    with lesson.recorded_attention(model) as weights:
        score = model(images.clone().requires_grad_())[:, target].sum()
    found = torch.autograd.grad(score, weights)
    return [(A.detach(), dA) for A, dA in zip(weights, found, strict=True)]


@pytest.mark.points(1, exercise="9.4")
def test_gradient_rollout_by_loops(lesson):
    model, maps = transformer(), torch.zeros(2, 2, 2, dtype=torch.float64)
    layers = gradients(lesson, model, SQUARES, 1)
    for b in range(2):
        R = torch.eye(5, dtype=torch.float64)
        for A, dA in layers:
            A_bar = torch.zeros(5, 5, dtype=torch.float64)
            for head in range(2):
                A_bar += (dA[b, head] * A[b, head]).clamp(min=0) / 2
            R = R + A_bar @ R
        maps[b] = R[0, 1:].reshape(2, 2)
    assert_tensor(lesson.gradient_rollout(model, SQUARES, 1, upsample=False), maps)


@pytest.mark.points(1, exercise="9.4")
def test_it_knows_the_class_and_the_image(lesson):
    model = transformer()
    maps = [lesson.gradient_rollout(model, SQUARES, label, upsample=False) for label in range(3)]
    assert not torch.allclose(maps[0], maps[1])
    assert not torch.allclose(maps[1], maps[2])
    mixed = lesson.gradient_rollout(model, SQUARES, [2, 0], upsample=False)
    assert_tensor(mixed, torch.stack([maps[2][0], maps[0][1]]))


@pytest.mark.points(1, exercise="9.4")
def test_heads_against_the_class_do_not_silence_those_for_it(lesson):
    """Clamped head by head: nothing is negative, and all is at least what the mean of the heads would leave."""
    model = transformer()
    layers = gradients(lesson, model, SQUARES, 0)
    R = torch.eye(5, dtype=torch.float64).repeat(2, 1, 1)
    for A, dA in layers:
        R = R + (dA * A).mean(dim=1).clamp(min=0) @ R
    found = lesson.gradient_rollout(model, SQUARES, 0, upsample=False)
    assert found.min() >= 0
    assert (found >= R[:, 0, 1:].reshape(2, 2, 2) - 1e-9).all()
    assert (found > R[:, 0, 1:].reshape(2, 2, 2) + 1e-6).any()


@pytest.mark.points(1, exercise="9.4")
def test_a_class_that_nothing_speaks_for_is_empty_and_nothing_is_left(lesson):
    model = transformer()
    with torch.no_grad():
        model.heads.head.weight[1] = 0
    with unchanged(model, SQUARES):
        found = lesson.gradient_rollout(model, SQUARES, 1)
    assert_tensor(found, torch.zeros(2, 8, 8, dtype=torch.float64))
