"""Exercises of attention_rollout.py, with their points."""

import pytest
import torch
from conftest import assert_tensor, drawing, factor, over_there, seeded, unchanged
from torch import Tensor, nn
from torchvision.models import VisionTransformer

EXERCISES = {  # title, difficulty, minutes, when
    "9.3": ("Roll it out", 2, 20, "assign"),
    "9.4": ("Ask for a class", 2, 20, "assign"),
    "9.9": ("Predict", 2, 15, "assign"),
    "9.12": ("Each for itself", 1, 3, "in class"),
    "9.13": ("Two animals", 1, 3, "in class"),
}


def attention(layers: int = 3) -> list[Tensor]:
    """Made-up attention of two images, two heads, five tokens; rows sum to 1."""
    generator = drawing(0)
    return [torch.randn(2, 2, 5, 5, generator=generator, dtype=torch.float64).softmax(dim=-1) for _ in range(layers)]


@pytest.mark.points(1, exercise="9.3")
def test_residual_by_hand(lesson):
    """Rows that do not sum to 1, as after discarding: (0.2 + 1, 0.2) / 1.4 and (0, 1 + 1) / 2."""
    A = torch.tensor([[[0.2, 0.2], [0.0, 1.0]]], dtype=torch.float64)
    expected = torch.tensor([[[6 / 7, 1 / 7], [0.0, 1.0]]], dtype=torch.float64)
    assert_tensor(lesson.with_residual(A), expected)
    assert_tensor(lesson.with_residual(A.expand(3, -1, -1)), expected.expand(3, -1, -1).clone())
    A = torch.rand(2, 3, 3, generator=drawing(1), dtype=torch.float64)
    expected = torch.stack([torch.stack([(a + one) / (a.sum() + 1) for a, one in zip(rows, torch.eye(3), strict=True)])
                            for rows in A])  # fmt: skip
    assert_tensor(lesson.with_residual(A), expected)


@pytest.mark.points(1, exercise="9.3")
def test_two_layers_by_hand(lesson):
    """Layer 1: patch 1 from patch 2. Layer 2: CLS from patch 1. A quarter of CLS comes from patch 2.

    And less, if CLS looks at patch 1 with a part of its attention only.
    """
    A1 = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, 0, 1]])[None, None]
    for part in (1.0, factor(0) - 1):
        A2 = torch.tensor([[1 - part, part, 0], [0, 1, 0], [0, 0, 1]])[None, None]
        assert lesson.roll_out([A1, A2])[0, 0].tolist() == [1 - part / 2, part / 4, part / 4]


@pytest.mark.points(1, exercise="9.3")
def test_rollout_by_loops(lesson):
    """Mean over heads, half of it and half the identity, rows to sum 1, layer times what came before."""
    weights = attention()
    expected = torch.eye(5, dtype=torch.float64).repeat(2, 1, 1)
    for A in weights:
        for b in range(2):
            mixed = 0.5 * A[b].mean(dim=0) + 0.5 * torch.eye(5, dtype=torch.float64)
            expected[b] = mixed / mixed.sum(dim=1)[:, None] @ expected[b]
    assert_tensor(lesson.roll_out(weights), expected)


@pytest.mark.points(1, exercise="9.3", contract=True)
def test_rows_sum_to_one_and_identity_stays(lesson):
    """What a token has comes from tokens, so each row sums to 1. Where all look at themselves, nothing moves."""
    for ratio in (0.0, 0.5):
        sums = lesson.roll_out(attention(), "max", ratio).sum(dim=-1)
        assert_tensor(sums, torch.ones(2, 5, dtype=torch.float64))
    same = lesson.roll_out([torch.eye(4).expand(2, 3, 4, 4)] * 3)
    assert_tensor(same.clone(), torch.eye(4).repeat(2, 1, 1))


def transformer() -> VisionTransformer:
    """Two layers, two heads, four patches; float64, random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seeded(6))
        model = VisionTransformer(8, 4, 2, 2, 8, 12, num_classes=3).double().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(0.6 * torch.randn_like(parameter))
    return model


SQUARES = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=drawing(2))


def gradients(lesson, model: nn.Module, images: Tensor, target: int) -> list[tuple[Tensor, Tensor]]:
    """Attention of each layer and the gradient of the summed logits with respect to it."""
    with lesson.recorded_attention(model) as weights:
        score = model(images.clone().requires_grad_())[:, target].sum()
    found = torch.autograd.grad(score, weights)
    return [(A.detach(), dA) for A, dA in zip(weights, found, strict=True)]


@pytest.mark.points(1, exercise="9.4")
def test_gradient_rollout_by_loops(lesson):
    """Gradient times attention, its positive part, the mean over heads; then it is added to what came before."""
    model, maps = transformer(), torch.zeros(2, 2, 2, dtype=torch.float64)
    layers = over_there(lesson, gradients, model, SQUARES, 1)
    for b in range(2):
        R = torch.eye(5, dtype=torch.float64)
        for A, dA in layers:
            A_bar = torch.zeros(5, 5, dtype=torch.float64)
            for head in range(2):
                A_bar += (dA[b, head] * A[b, head]).clamp(min=0) / 2
            R = R + A_bar @ R
        maps[b] = R[0, 1:].reshape(2, 2)
    assert_tensor(lesson.gradient_rollout(model, SQUARES, 1, upsample=False), maps)


@pytest.mark.points(1, exercise="9.4", contract=True)
def test_it_knows_the_class_and_the_image(lesson):
    """Another class gives another map. Each image of a batch has its own class."""
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
    squares = torch.randn(8, 3, 8, 8, dtype=torch.float64, generator=drawing(3))
    most = 0.0                                                         # of 24 maps some have heads that disagree
    for label in range(3):
        R = torch.eye(5, dtype=torch.float64).repeat(8, 1, 1)
        for A, dA in over_there(lesson, gradients, model, squares, label):
            R = R + (dA * A).mean(dim=1).clamp(min=0) @ R
        found = lesson.gradient_rollout(model, squares, label, upsample=False)
        gained = found - R[:, 0, 1:].reshape(8, 2, 2)
        assert found.min() >= 0
        assert gained.min() >= -1e-9
        most = max(most, gained.max().item())
    assert most > 1e-6


@pytest.mark.points(1, exercise="9.4", contract=True)
def test_a_class_that_nothing_speaks_for_is_empty_and_nothing_is_left(lesson):
    """Without a weight for the class no attention speaks for it: a map of zeros. Nothing is left in the network."""
    model = transformer()
    with torch.no_grad():
        model.heads.head.weight[1] = 0
    with unchanged(model, SQUARES):
        found = lesson.gradient_rollout(model, SQUARES, 1)
    assert_tensor(found, torch.zeros(2, 8, 8, dtype=torch.float64))


@pytest.mark.points(1, exercise="9.9")
def test_one_layer(lesson):
    """Three tokens: a half is kept, and of the other half a third comes from CLS itself. No layer: all is kept."""
    assert lesson.kept_by_cls(1, 3) == pytest.approx(1 / 2 + 1 / 6)
    assert lesson.kept_by_cls(0, 3) == pytest.approx(1)
    tokens = int(torch.randint(20, 900, (1,), generator=drawing(0)))
    assert lesson.kept_by_cls(1, tokens) == pytest.approx(1 / 2 + 1 / 2 / tokens)


@pytest.mark.points(1, exercise="9.9")
def test_many_layers_by_matrices(lesson):
    """The product of ((J / N + I) / 2), for several numbers of layers and tokens."""
    some = [int(torch.randint(3, 90, (1,), generator=drawing(number))) for number in (1, 2)]
    for layers, tokens in ((2, 2), (3, 5), (5, 65), (12, 197), (2, some[0]), (7, some[1])):
        one_layer = 0.5 * torch.eye(tokens, dtype=torch.float64) + 0.5 / tokens
        expected = torch.linalg.matrix_power(one_layer, layers)[0, 0].item()
        assert lesson.kept_by_cls(layers, tokens) == pytest.approx(expected)


# BEGIN KEPT BACK
QUESTIONS = {
    "9.12": {
        1: "Half of the identity plus half of the identity, in every layer.",
        0.5: "What is mixed with the residual half is the same here.",
        0: "Where else could anything have come from?",
        "else": "The attention is the identity. Mix it with the identity, and multiply.",
    },
    "9.13": {
        "a": "The network answers rightly. Where does the class enter this map?",
        "b": "Does the formula contain anything that depends on the class?",
        "c": "Nothing in rollout depends on the class, so its map cannot answer a question about a class.",
        "d": "Would another factor without the class bring the class in?",
    },
}


def true_9_12(lesson) -> float:
    return lesson.roll_out([torch.eye(3)[None, None] for _ in range(4)])[0, 0, 0].item()


MIX = "A = 0.5 * A + 0.5 * torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)"
A_BAR = "A_bar = (dA * A).clamp(min=0).mean(dim=1)"
LAST = "return kept + (1 - kept) / tokens"

WRONG = [
    ("9.3", "nothing computed", MIX, "return A\n" + MIX),
    ("9.3", "nothing rolled out", "R = with_residual(fused) @ R", "R = R.expand(len(A), -1, -1)"),
    ("9.3", "no identity", MIX, "A = 1.0 * A"),
    ("9.3", "identity in full", MIX, "A = A + 0.25 * torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)"),
    ("9.3", "no keepdim", "A.sum(dim=-1, keepdim=True)", "A.sum(dim=-1)"),
    ("9.3", "columns divided", "A.sum(dim=-1, keepdim=True)", "A.sum(dim=-2, keepdim=True)"),
    ("9.3", "not divided", "return A / A.sum(dim=-1, keepdim=True)", "return A"),
    ("9.3", "layers the wrong way round", "R = with_residual(fused) @ R", "R = R @ with_residual(fused)"),
    ("9.3", "first layer forgotten", "R = with_residual(fused) @ R", "R = with_residual(fused)"),
    ("9.3", "sum in place of product", "R = with_residual(fused) @ R", "R = with_residual(fused) + R"),
    ("9.3", "place by place", "R = with_residual(fused) @ R", "R = with_residual(fused) * R"),
    ("9.4", "nothing computed", "", "R = R + 0 * A.mean(dim=1)"),
    ("9.4", "no gradient", A_BAR, "A_bar = A.mean(dim=1)"),
    ("9.4", "gradient alone", A_BAR, "A_bar = dA.clamp(min=0).mean(dim=1)"),
    ("9.4", "no clamp", A_BAR, "A_bar = (dA * A).mean(dim=1)"),
    ("9.4", "clamp after the mean", A_BAR, "A_bar = (dA * A).mean(dim=1).clamp(min=0)"),
    ("9.4", "absolute value", A_BAR, "A_bar = (dA * A).abs().mean(dim=1)"),
    ("9.4", "sum of the heads", A_BAR, "A_bar = (dA * A).clamp(min=0).sum(dim=1)"),
    ("9.4", "first image only", A_BAR, "A_bar = (dA * A).clamp(min=0).mean(dim=1)[:1]"),
    ("9.4", "without what was there", "R = R + A_bar @ R", "R = A_bar @ R"),
    ("9.4", "from the right", "R = R + A_bar @ R", "R = R + R @ A_bar"),
    ("9.4", "last layer only", "R = R + A_bar @ R", "R = torch.eye(R.shape[-1]).to(R) + A_bar"),
    ("9.9", "nothing computed", "", "return 0.0"),
    ("9.9", "what was never taken away, alone", LAST, "return kept"),
    ("9.9", "all tokens alike", "", "return 1 / tokens"),
    ("9.9", "one layer's, to the power of their number", "", "return (0.5 + 0.5 / tokens) ** layers"),
    ("9.9", "a half, whatever the number of layers", "kept = 0.5**layers", "kept = 0.5"),
    ("9.9", "a layer too many", "kept = 0.5**layers", "kept = 0.5 ** (layers + 1)"),
    ("9.9", "patches without CLS", LAST, "return kept + (1 - kept) / (tokens - 1)"),
    ("9.9", "no residual connection", "", "return float(layers == 0) or 1 / tokens"),
]  # fmt: skip

RIGHT = [
    ("9.3", "half of the sum", MIX, "A = (A + torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)) / 2"),
    ("9.3", "einsum", "R = with_residual(fused) @ R",
     "R = torch.einsum('bij,bjk->bik', with_residual(fused), R.expand(len(fused), -1, -1))"),
    ("9.4", "relu", A_BAR, "A_bar = torch.relu(A * dA).sum(dim=1) / A.shape[1]"),
    ("9.9", "layer by layer", "", "share = 1.0\nfor _ in range(layers):\n"
     "    share = share / 2 + 1 / (2 * tokens)\nreturn share"),
    ("9.9", "a matrix after all", "",
     "mixed = torch.full((tokens, tokens), 0.5 / tokens, dtype=torch.float64) + 0.5 * torch.eye(tokens)\n"
     "return float(torch.linalg.matrix_power(mixed, layers)[0, 0])"),
]  # fmt: skip
# END KEPT BACK
