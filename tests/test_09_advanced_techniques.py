"""Lesson 09: LRP, attention rollout, networks of one's own, fooled maps."""

import copy
import hashlib
import math

import pytest
import torch
import torch.nn.functional as F
import torchvision
from conftest import (
    PixelFunction,
    TinyConvNet,
    assert_common_contract,
    assert_leaves_no_trace,
    hook_count,
    relative_error,
    unchanged,
)
from matplotlib.figure import Figure
from torch import Tensor, nn
from torchvision.models import VisionTransformer, resnet18, vit_b_16

from utils import fold_batch_norm, import_lesson, load_image, preprocess_image, recorded_output

lesson = import_lesson("09_advanced_techniques")
gradient_times_input = import_lesson("02_gradient_input_saliency").gradient_times_input


# LRP: the rules


def one_layer(weight: list[float], bias: float = 0.0) -> nn.Module:
    """A 1 x 1 convolution from three channels to one logit."""
    model = nn.Sequential(nn.Conv2d(3, 1, 1), nn.Flatten()).eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor(weight).reshape(1, 3, 1, 1))
        model[0].bias.fill_(bias)
    return model


def pixel(*values: float) -> Tensor:
    return torch.tensor(values).reshape(1, 3, 1, 1)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("zero", [3, -2, 1]), ("epsilon", [3, -2, 1]), ("gamma", [2.5, -4 / 3, 5 / 6]),
     ("epsilon_plus", [1.5, 0, 0.5]), ("epsilon_plus_flat", [2 / 3, 2 / 3, 2 / 3])],
)
def test_three_neurons_by_hand(rule, expected):
    found = lesson.lrp(one_layer([3.0, -1.0, 1.0]), pixel(1.0, 2.0, 1.0), 0, rule=rule)
    assert found.flatten().tolist() == pytest.approx(expected, abs=1e-5)


def test_the_lessons_own_check_passes():
    lesson.check_three_neurons()


@pytest.mark.parametrize(
    ("rule", "expected"),
    # contributions 3, -2, 1 and a bias of 2: z = 4, z+ = 6
    [("zero", [3, -2, 1]), ("epsilon", [3, -2, 1]), ("epsilon_plus", [2, 0, 2 / 3]),
     ("gamma", [3 * 1.25 * 4 / 5.5, -2 * 4 / 5.5, 1.25 * 4 / 5.5])],
)
def test_what_a_bias_takes(rule, expected):
    found = lesson.lrp(one_layer([3.0, -1.0, 1.0], bias=2.0), pixel(1.0, 2.0, 1.0), 0, rule=rule)
    assert found.flatten().tolist() == pytest.approx(expected, abs=1e-5)


def test_negative_pixels_contribute_with_negative_weights():
    """z+ looks at a_i w_ij, not at w_ij: pixels (-1, 2, -1), weights (-3, 1, 1): contributions 3, 2, -1, R = 4."""
    found = lesson.lrp(one_layer([-3.0, 1.0, 1.0]), pixel(-1.0, 2.0, -1.0), 0)
    assert found.flatten().tolist() == pytest.approx([4 * 3 / 5, 4 * 2 / 5, 0], abs=1e-5)


def test_gamma_follows_the_sign_of_the_sum():
    """Contributions 1, -4, z = -3: the negative ones are favoured, p = -3 - 1 = -4."""
    found = lesson.lrp(one_layer([1.0, -4.0, 0.0]), pixel(1.0, 1.0, 1.0), 0, rule="gamma")
    assert found.flatten().tolist() == pytest.approx([-3 / -4, -4 * 1.25 * -3 / -4, 0], abs=1e-5)


def test_epsilon_pays_nobody_for_small_sums(monkeypatch):
    monkeypatch.setattr(lesson, "EPSILON", 2.0)
    found = lesson.lrp(one_layer([3.0, -1.0, 1.0]), pixel(1.0, 2.0, 1.0), 0, rule="epsilon")
    assert found.flatten().tolist() == pytest.approx([1.5, -1, 0.5])   # z = 2, p = 4
    found = lesson.lrp(one_layer([-3.0, 1.0, -1.0]), pixel(1.0, 2.0, 1.0), 0, rule="epsilon")
    assert found.flatten().tolist() == pytest.approx([-1.5, 1, -0.5])  # z = -2, p = -4


# Slow restatement: matrices, layer by layer


def shares(rule: str, a: Tensor, W: Tensor, b: Tensor, R: Tensor) -> Tensor:
    """One linear layer by the definition: loops over outputs; a (I,), W (J, I), b (J,), R (J,) -> (I,)."""
    below = torch.zeros_like(a)
    for w, bias, r in zip(W, b, R, strict=True):
        contributions, z = a * w, (a * w).sum() + bias
        plus, minus = contributions.clamp(min=0), contributions.clamp(max=0)
        if rule in ("zero", "epsilon"):
            paid, p = contributions, z + (1e-6 * (-1) ** int(z < 0) if rule == "epsilon" else 0)
        elif rule == "plus":
            paid, p = plus, plus.sum() + bias.clamp(min=0)
        else:
            favoured = minus if z < 0 else plus
            extra = bias.clamp(max=0) if z < 0 else bias.clamp(min=0)
            paid, p = contributions + 0.25 * favoured, z + 0.25 * (favoured.sum() + extra)
        if p != 0:
            below += paid / p * r
    return below


def matrix(layer: nn.Module, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """A convolution as a matrix (J, I) and its bias (J,), from its answers to unit vectors."""
    count = math.prod(shape)
    with torch.no_grad():
        bias = layer(torch.zeros(1, *shape, dtype=torch.float64)).flatten()
        columns = layer(torch.eye(count, dtype=torch.float64).reshape(count, *shape)).flatten(1)
    return (columns - bias).T, bias


@pytest.fixture
def chain() -> nn.Module:
    """Convolution, ReLU, max-pooling, convolution with stride, ReLU, linear, ReLU, linear; float64, with biases."""
    with torch.random.fork_rng():
        torch.manual_seed(11)
        model = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(4, 5, 2, stride=2),
            nn.ReLU(), nn.Flatten(), nn.Linear(20, 6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 3),
        )  # fmt: skip
    return model.double().eval()


@pytest.mark.parametrize(
    ("rule", "of_conv", "of_linear"),
    [("zero", "zero", "zero"), ("epsilon", "epsilon", "epsilon"), ("gamma", "gamma", "gamma"),
     ("epsilon_plus", "plus", "epsilon"), ("epsilon_plus_flat", "plus", "epsilon")],
)
def test_layer_by_layer_with_matrices(chain, rule, of_conv, of_linear):
    image = torch.randn(1, 3, 8, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))[..., :8]
    activations = [image]
    with torch.no_grad():
        for layer in chain:
            activations.append(layer(activations[-1].clone()))
    R = torch.zeros(3, dtype=torch.float64)
    R[2] = activations[-1][0, 2]
    for number, layer in reversed(list(enumerate(chain))):
        a = activations[number]
        if isinstance(layer, nn.MaxPool2d):                            # the winner takes all
            x = a.clone().requires_grad_()
            R = torch.autograd.grad(layer(x).flatten(), x, R)[0].flatten()
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            W, b = matrix(layer, tuple(a.shape[1:]))
            kind = of_linear if isinstance(layer, nn.Linear) else of_conv
            if rule == "epsilon_plus_flat" and number == 0:
                ones = (W != 0).double()
                R = (ones / ones.sum(dim=1, keepdim=True)).T @ R
            else:
                R = shares(kind, a.flatten(), W, b, R)
    found = lesson.lrp(chain, image, 2, rule=rule)
    assert relative_error(found.flatten(), R) < 1e-4


# Properties


@pytest.mark.parametrize("network", ["chain", "tiny"])
def test_zero_is_gradient_times_input(network, request, small_images):
    model = request.getfixturevalue(network)
    images = small_images if network == "tiny" else torch.randn(3, 3, 8, 8, dtype=torch.float64)
    expected = gradient_times_input(model, images)
    torch.testing.assert_close(lesson.lrp(model, images, rule="zero"), expected)
    torch.testing.assert_close(lesson.lrp(model, images, rule="epsilon"), expected, atol=1e-3, rtol=1e-2)


def without_biases(model: nn.Module) -> nn.Module:
    """In place: all biases 0."""
    for module in model.modules():
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)
    return model


class Residual(nn.Module):
    """A residual addition and a concatenation, in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.left, self.right = nn.Conv2d(4, 3, 1), nn.Conv2d(4, 5, 3, padding=1)
        self.relu, self.fc = nn.ReLU(inplace=True), nn.Linear(8, 3)
        self.double().eval()

    def forward(self, images: Tensor) -> Tensor:
        x = self.relu(self.stem(images))
        out = self.block(x)
        out += x
        out = self.relu(out)
        out = torch.cat([self.relu(self.left(out)), self.relu(self.right(out))], dim=1)
        return self.fc(out.mean(dim=(2, 3)))


@pytest.fixture
def residual() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return Residual()


@pytest.mark.parametrize("rule", ["zero", "epsilon", "gamma", "epsilon_plus", "epsilon_plus_flat"])
@pytest.mark.parametrize("network", ["chain", "residual"])
def test_conservation_without_biases(rule, network, request, monkeypatch):
    """With an epsilon that only keeps 0 / 0 away; a larger one takes its share."""
    monkeypatch.setattr(lesson, "EPSILON", 1e-12)
    model = without_biases(request.getfixturevalue(network))
    images = torch.rand(3, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = lesson.lrp(model, images, [0, 1, 2], rule=rule).sum(dim=(1, 2, 3))
    logits = model(images).gather(1, torch.tensor([[0], [1], [2]]))[:, 0].detach()
    assert ((found - logits) / logits).abs().max() < 1e-5
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    if rule != "epsilon_plus_flat" and network == "chain":  # one layer after the other
        sums = lesson.relevance_sums(model, images[:1], 0, rule, names)
        assert list(sums.values()) == pytest.approx([sums["logit"]] * len(sums), rel=1e-5)


def test_with_biases_the_leak_is_what_they_took(chain):
    """Zero rule, last layer: the bias of the class; next layer: b_j R_j / z_j summed."""
    image = torch.randn(1, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        z = chain[6](chain[:6](image))[0]                              # the hidden linear layer, before ReLU
    sums = lesson.relevance_sums(chain, image, 1, "zero", ["3", "6"])
    R = chain[9].weight[1].detach() * z.relu()
    assert sums["logit"] - sums["6"] == pytest.approx(chain[9].bias[1].item())
    taken = (chain[6].bias.detach() * R / z)[z > 0].sum().item()
    below = (chain[6].weight.detach().T @ (R / z * (z > 0))) * chain[:6](image)[0].detach()
    assert sums["6"] - below.sum().item() == pytest.approx(taken)
    assert sums["3"] == pytest.approx(below.sum().item())


def test_z_plus_relevance_of_a_positive_logit_is_not_negative(chain):
    """All linear layers too: with a positive head, nothing negative is handed down."""
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        for layer in (chain[6], chain[9]):
            layer.weight.abs_()
            layer.bias.abs_()
    found = lesson.lrp(chain, images, 0)
    assert found.min() >= 0
    assert found.max() > 0
    assert lesson.lrp(chain, images, 0, rule="epsilon").min() < 0


def test_flat_is_even_over_the_receptive_field():
    model = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, bias=False), nn.Flatten(), nn.Linear(16, 1, bias=False)).eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.arange(9.0).reshape(1, 1, 3, 3))
        model[2].weight.zero_()
        model[2].weight[0, 0] = 1.0                                    # the corner: four pixels inside the image
    found = lesson.lrp(model, torch.ones(1, 1, 4, 4), 0, rule="epsilon_plus_flat")[0, 0]
    assert found[:2, :2].flatten().tolist() == pytest.approx([24 / 4] * 4)             # 4 + 5 + 7 + 8
    assert found.sum().item() == pytest.approx(24)


@pytest.mark.parametrize("rule", ["epsilon", "epsilon_plus"])
def test_folding_batch_norm_changes_nothing(rule):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torchvision.models.resnet18(weights=None).eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_var, 0.5, 2)
                nn.init.normal_(module.running_mean)
                nn.init.normal_(module.bias)
        images = torch.randn(1, 3, 64, 64)
    folded = fold_batch_norm(copy.deepcopy(model))
    with unchanged(model, images):
        found = lesson.lrp(model, images, 3, rule=rule)
    assert relative_error(found, lesson.lrp(folded, images, 3, rule=rule)) < 1e-3


@pytest.mark.parametrize("rule", lesson.RULES)
@pytest.mark.parametrize("name", ["resnet18", "vgg11_bn", "squeezenet1_1", "alexnet"])
def test_torchvisions_networks(name, rule):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torchvision.models.get_model(name, weights=None).eval()
        images = torch.randn(1, 3, 64, 96)
    found = lesson.lrp(model, images, 3, rule=rule)
    assert found.shape == images.shape
    assert found.isfinite().all()
    assert found.abs().max() > 0


@pytest.mark.parametrize(
    ("name", "layers"),
    [("vit_b_16", "LayerNorm"), ("efficientnet_b0", "SiLU"), ("mobilenet_v2", "ReLU6"), ("convnext_tiny", "GELU")],
)
def test_layers_without_a_rule_are_named(name, layers):
    with torch.random.fork_rng():
        model = torchvision.models.get_model(name, weights=None).eval()
    with pytest.raises(ValueError, match=f"LRP has no rule for .*{layers}|torch.fx cannot trace"):
        lesson.lrp(model, torch.zeros(1, 3, 224, 224), 0)


@pytest.mark.parametrize(
    ("operation", "name"),
    [(torch.sigmoid, "sigmoid"), (lambda x: x * 2, "mul"), (lambda x: x.softmax(1), "softmax"), (F.gelu, "gelu")],
)
def test_functions_without_a_rule_are_named(operation, name):
    model = PixelFunction(operation)
    model.conv = nn.Conv2d(3, 2, 3)
    with pytest.raises(ValueError, match=name):
        lesson.lrp(model.eval(), torch.ones(1, 3, 8, 8), 0)


def test_functional_relu_is_no_obstacle(tiny, small_images):
    class Functional(TinyConvNet):
        def forward(self, images: Tensor) -> Tensor:
            return self.fc(F.relu(self.conv2(F.relu(self.conv1(images)))).mean(dim=(2, 3)))

    model = Functional().double().eval()
    model.load_state_dict(tiny.state_dict())
    torch.testing.assert_close(lesson.lrp(model, small_images, 1), lesson.lrp(tiny, small_images, 1))


def test_an_unknown_rule_is_told(tiny, small_images):
    with pytest.raises(ValueError, match="epsilon_plus_flat"):
        lesson.lrp(tiny, small_images, rule="alpha_beta")


@pytest.mark.parametrize("rule", lesson.RULES)
def test_common_contract_of_lrp(rule, tiny, small_images):
    assert_common_contract(lambda *args: lesson.lrp(*args, rule=rule), tiny, small_images)


@pytest.mark.parametrize("rule", ["epsilon_plus", "epsilon_plus_flat"])
def test_lrp_leaves_no_trace(rule, tiny, small_images):
    def method(model: nn.Module, images: Tensor, target: object = None) -> Tensor:
        return lesson.lrp(model, images, target, rule=rule)

    with unchanged(tiny, small_images):
        assert not method(tiny, small_images).requires_grad
    with unchanged(tiny, small_images), pytest.raises(ValueError, match="target"):
        method(tiny, small_images, 10**6)
    expected = method(tiny, small_images)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode(), unchanged(tiny, small_images):
            torch.testing.assert_close(method(tiny, small_images), expected)


def test_lrp_on_resnet50(resnet, photos):
    """The zero rule is gradient x input; the biases take most of the logit, under every rule."""
    zero = lesson.lrp(resnet, photos[:1], 235, rule="zero")
    assert relative_error(zero, gradient_times_input(resnet, photos[:1], 235)) < 1e-4
    logit = resnet(photos[:1])[0, 235].item()
    for rule in lesson.RULES:
        assert abs(lesson.lrp(resnet, photos[:1], 235, rule=rule).sum().item()) < 0.3 * logit


# Attention


def tiny_vit(seed: int = 3, **options) -> VisionTransformer:
    """A float64 transformer in eval mode with fixed random weights; its attention is far from uniform."""
    options = {
        "image_size": 12, "patch_size": 4, "num_layers": 3, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 12,
        "num_classes": 3,
    } | options  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = VisionTransformer(**options).double().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn_like(parameter) * 0.6)
    return model


@pytest.fixture
def vit() -> VisionTransformer:
    return tiny_vit()


@pytest.fixture
def squares() -> Tensor:
    """Three different images, (3, 3, 12, 12), float64."""
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(3, 3, 12, 12, generator=generator, dtype=torch.float64)
    return images * torch.tensor([0.5, 1.0, 2.0])[:, None, None, None]


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    """The committed checkpoint."""
    return lesson.load_vit()


def random_attention(batch: int = 2, heads: int = 3, tokens: int = 5, layers: int = 3) -> list[Tensor]:
    """Made-up attention whose rows sum to 1."""
    generator = torch.Generator().manual_seed(0)
    shape = (batch, heads, tokens, tokens)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).softmax(dim=-1) for _ in range(layers)]


# Rollout on hand-set attention


def test_the_lessons_own_rollout_check_passes():
    lesson.check_rollout_by_hand()


@pytest.mark.parametrize("fusion", ["mean", "max", "min"])
@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.9])
def test_rollout_rows_sum_to_one(fusion, ratio):
    R = lesson.roll_out(random_attention(), fusion, ratio)
    torch.testing.assert_close(R.sum(dim=-1), torch.ones(2, 5, dtype=torch.float64))
    assert R.min() >= 0


@pytest.mark.parametrize("fusion", ["mean", "max", "min"])
def test_identity_attention_gives_identity(fusion):
    weights = [torch.eye(5).expand(2, 3, 5, 5)] * 4
    assert torch.equal(lesson.roll_out(weights, fusion), torch.eye(5).expand(2, 5, 5))


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_uniform_attention_in_closed_form(layers):
    """(J/N + I)/2 to the power L is 2^-L I + (1 - 2^-L) J/N."""
    N, kept = 6, 0.5**layers
    R = lesson.roll_out([torch.full((1, 2, N, N), 1 / N, dtype=torch.float64)] * layers)
    expected = kept * torch.eye(N, dtype=torch.float64) + (1 - kept) / N
    torch.testing.assert_close(R, expected[None])


def test_two_layers_by_hand():
    """Two heads, three tokens. Layer 1 fused: CLS from itself and patch 1 alike, patch 1 from patch 2."""
    first = torch.tensor([[[1.0, 0, 0], [0, 0, 1], [0, 0, 1]], [[0.0, 1, 0], [0, 0, 1], [0, 0, 1]]])[None]
    second = torch.tensor([[[0.0, 1, 0], [0, 1, 0], [0, 0, 1]], [[0.0, 0, 1], [0, 1, 0], [0, 0, 1]]])[None]
    # layer 1 with residual: (3/4, 1/4, 0), (0, 1/2, 1/2), (0, 0, 1); row of CLS in layer 2: (1/2, 1/4, 1/4)
    assert lesson.roll_out([first, second])[0, 0].tolist() == [3 / 8, 1 / 8 + 1 / 8, 1 / 8 + 1 / 4]


@pytest.mark.parametrize("fusion", ["mean", "max", "min"])
def test_rollout_restated_by_loops(fusion):
    """Fusion, residual, rows, and the product, element by element; the layers do not commute."""
    weights, (batch, heads, N) = random_attention(layers=2), (2, 3, 5)
    fuse = {"mean": lambda values: sum(values) / heads, "max": max, "min": min}[fusion]
    mixed = []
    for A in weights:
        rows = torch.zeros(batch, N, N, dtype=torch.float64)
        for b in range(batch):
            for i in range(N):
                row = [0.5 * fuse([A[b, h, i, j].item() for h in range(heads)]) + 0.5 * (i == j) for j in range(N)]
                rows[b, i] = torch.tensor([value / sum(row) for value in row])
        mixed.append(rows)
    expected = torch.zeros(batch, N, N, dtype=torch.float64)
    for b in range(batch):
        for i in range(N):
            for j in range(N):
                expected[b, i, j] = sum(mixed[1][b, i, k] * mixed[0][b, k, j] for k in range(N))
    torch.testing.assert_close(lesson.roll_out(weights, fusion), expected, rtol=1e-6, atol=1e-7)
    assert relative_error(lesson.roll_out(weights[::-1], fusion), expected) > 0.01


def test_discard_by_hand():
    """Of four weights on patches the lowest half goes, in every row of every image; CLS stays, however small."""
    A = torch.tensor([[[0.01, 0.4, 0.1, 0.2, 0.29], [0.3, 0.05, 0.25, 0.35, 0.05]]])
    assert lesson.discard_lowest(A[0][None].clone(), 0.5)[0, 0].tolist() == pytest.approx([0.01, 0.4, 0, 0, 0.29])
    assert lesson.discard_lowest(A, 0.5)[0, 1].tolist() == pytest.approx([0.3, 0, 0.25, 0.35, 0])
    assert torch.equal(lesson.discard_lowest(A, 0.0), A)
    assert torch.equal(lesson.discard_lowest(A, 0.24), A)              # less than one of four
    assert lesson.discard_lowest(A, 0.99)[..., 1:].count_nonzero() == 2


@pytest.mark.parametrize(("ratio", "dropped"), [(0.29, 29), (0.57, 57), (0.9, 90)])
def test_discard_counts_decimal_shares_right(ratio, dropped):
    A = torch.rand(1, 2, 101, generator=torch.Generator().manual_seed(0))
    assert (lesson.discard_lowest(A, ratio) == 0).sum(dim=-1).tolist() == [[dropped, dropped]]


# Captured attention


def slow_block(block: nn.Module, tokens: Tensor, bump: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
    """An encoder block for one image (N, D), head by head from in_proj; `bump` is added to the attention."""
    layer, normed = block.self_attention, block.ln_1(tokens)
    D, heads = layer.embed_dim, layer.num_heads
    d, A, mixed = D // heads, [], []
    W, bias = layer.in_proj_weight, layer.in_proj_bias
    for h in range(heads):
        q, k, v = (
            normed @ W[part * D + h * d : part * D + (h + 1) * d].T + bias[part * D + h * d : part * D + (h + 1) * d]
            for part in range(3)
        )
        scores = torch.stack([torch.stack([(qi * kj).sum() / math.sqrt(d) for kj in k]) for qi in q])
        A.append(scores.exp() / scores.exp().sum(dim=1, keepdim=True))
        mixed.append((A[h] + (bump[h] if isinstance(bump, Tensor) else bump)) @ v)
    tokens = tokens + torch.cat(mixed, dim=1) @ layer.out_proj.weight.T + layer.out_proj.bias
    return tokens + block.mlp(block.ln_2(tokens)), torch.stack(A)


def slow_forward(model: VisionTransformer, image: Tensor, bumps: list | None = None) -> tuple[Tensor, list[Tensor]]:
    """Logits (K,) and attention (heads, N, N) a layer of one image (3, H, W)."""
    patches = model.conv_proj(image[None])[0].flatten(1).T             # (N - 1, D)
    tokens = torch.cat([model.class_token[0], patches]) + model.encoder.pos_embedding[0]
    weights = []
    for number, block in enumerate(model.encoder.layers):
        tokens, A = slow_block(block, tokens, bumps[number] if bumps else 0.0)
        weights.append(A)
    return model.heads(model.encoder.ln(tokens)[:1])[0], weights


def test_captured_weights_equal_a_slow_restatement(vit, squares):
    captured = lesson.attention_weights(vit, squares)
    assert [tuple(A.shape) for A in captured] == [(3, 2, 10, 10)] * 3
    for i, image in enumerate(squares):
        with torch.no_grad():
            logits, weights = slow_forward(vit, image)
            torch.testing.assert_close(logits, vit(image[None])[0])
        for A, expected in zip(captured, weights, strict=True):
            torch.testing.assert_close(A[i], expected)


def test_captured_weights_are_what_pytorch_gives_when_asked(vit, squares):
    with recorded_output(vit.encoder.layers[1].ln_1) as tokens, torch.no_grad():
        vit(squares)
        _, asked = vit.encoder.layers[1].self_attention(*[tokens[0]] * 3, average_attn_weights=False)
    torch.testing.assert_close(lesson.attention_weights(vit, squares)[1], asked)


def test_without_asking_there_are_no_weights(vit, squares):
    """The reason for all this; should torchvision ever ask by itself, the lesson's text is out of date."""
    with recorded_output(vit.encoder.layers[0].self_attention) as outputs, torch.no_grad():
        vit(squares)
    assert outputs[0][1] is None


def test_the_weights_that_pytorch_gives_cannot_be_differentiated(vit, squares):
    """They are made after use: the layer's output does not depend on them."""
    tokens = torch.randn(1, 10, 8, dtype=torch.float64, requires_grad=True)
    output, A = vit.encoder.layers[0].self_attention(tokens, tokens, tokens, average_attn_weights=False)
    with pytest.raises(RuntimeError, match="not have been used"):
        torch.autograd.grad(output.sum(), A)


def test_rows_of_captured_weights_sum_to_one(vit, squares):
    for A in lesson.attention_weights(vit, squares):
        torch.testing.assert_close(A.sum(dim=-1), torch.ones(3, 2, 10, dtype=torch.float64))
        assert not A.requires_grad


@pytest.mark.parametrize("grad", [True, False])
def test_capturing_leaves_the_output_alone(grad, vit, squares):
    with torch.set_grad_enabled(grad):
        expected = vit(squares)
        with unchanged(vit, squares), lesson.recorded_attention(vit) as weights:
            assert hook_count(vit) == 3
            torch.testing.assert_close(vit(squares), expected)
            assert len(weights) == 3
    assert hook_count(vit) == 0


def test_the_block_undoes_itself_after_an_exception(vit, squares):
    def interrupted() -> None:
        with lesson.recorded_attention(vit):
            vit(squares)
            raise KeyboardInterrupt

    with unchanged(vit, squares), pytest.raises(KeyboardInterrupt):
        interrupted()


# The two methods


@pytest.mark.parametrize("options", [{}, {"head_fusion": "max"}, {"discard_ratio": 0.5}, {"head_fusion": "min"}])
def test_a_batch_gives_what_its_images_give(options, vit, squares):
    batch = lesson.attention_rollout(vit, squares, **options)
    assert batch.shape == (3, 12, 12)
    assert batch.dtype == torch.float64
    singles = torch.cat([lesson.attention_rollout(vit, image[None], **options) for image in squares])
    torch.testing.assert_close(batch, singles)
    assert relative_error(batch[:1], batch[1:2]) > 0.01


def test_rollout_is_the_class_tokens_row_as_a_picture(vit, squares):
    R = lesson.roll_out(lesson.attention_weights(vit, squares))
    maps = lesson.attention_rollout(vit, squares, upsample=False)
    for i in range(3):
        for y in range(3):
            for x in range(3):
                assert maps[i, y, x] == R[i, 0, 1 + 3 * y + x]
    torch.testing.assert_close(maps.sum(dim=(1, 2)), 1 - R[:, 0, 0])
    enlarged = F.interpolate(maps[:, None], (12, 12), mode="bilinear", align_corners=False)[:, 0]
    assert torch.equal(lesson.attention_rollout(vit, squares), enlarged)


def test_a_patch_that_nobody_looks_at_gets_nothing(squares):
    """Queries and keys pick one patch: all attention on token 5, so all of the map is on the middle patch."""
    model = tiny_vit(num_layers=1, num_heads=1)
    with torch.no_grad():
        block = model.encoder.layers[0]
        block.self_attention.in_proj_weight[:16] = 0                   # scores come from the biases and ln_1 alone
        block.self_attention.in_proj_bias[:16] = 0
        block.self_attention.in_proj_weight[8] = 1.0                   # k_0 = sum of the normed token's entries
        block.self_attention.in_proj_bias[0] = 1000.0                  # q_0
        block.ln_1.weight.fill_(1.0)
        block.ln_1.bias.zero_()
        block.ln_1.weight[0] = 2.0                                     # so the sum is the token's first normed entry
        model.encoder.pos_embedding[0, 5, 0] += 100
    maps = lesson.attention_rollout(model, squares, upsample=False)
    expected = torch.zeros(3, 3, 3, dtype=torch.float64)
    expected[:, 1, 1] = 0.5
    torch.testing.assert_close(maps, expected)


def test_gradient_rollout_against_finite_differences(squares):
    """eq. 5-6 by loops, the gradient by nudging every single attention weight."""
    model = tiny_vit(image_size=12, patch_size=6, num_layers=2)
    image, heads, N, step = squares[0], 2, 5, 1e-5
    with torch.no_grad():
        _, weights = slow_forward(model, image)
        R = torch.eye(N, dtype=torch.float64)
        for layer in range(2):
            A_bar = torch.zeros(N, N, dtype=torch.float64)
            for h in range(heads):
                for i in range(N):
                    for j in range(N):
                        bump = torch.zeros(2, heads, N, N, dtype=torch.float64)
                        bump[layer, h, i, j] = step
                        up, down = (slow_forward(model, image, list(sign * bump))[0][2] for sign in (1, -1))
                        slope = (up - down).item() / (2 * step)
                        A_bar[i, j] += max(0.0, slope * weights[layer][h, i, j].item()) / heads
            R = R + A_bar @ R
    expected = R[0, 1:].reshape(1, 2, 2)
    maps = lesson.gradient_rollout(model, image[None], 2, upsample=False)
    torch.testing.assert_close(maps, expected, rtol=1e-6, atol=1e-9)
    assert maps.max() > 0


def test_gradient_rollout_knows_the_class(vit, squares):
    maps = [lesson.gradient_rollout(vit, squares, label) for label in range(3)]
    assert relative_error(maps[0], maps[1]) > 0.01
    assert relative_error(maps[0], maps[2]) > 0.01


def test_a_class_that_no_token_speaks_for_has_an_empty_map(vit, squares):
    with torch.no_grad():
        vit.heads.head.weight[1] = 0
    assert torch.equal(lesson.gradient_rollout(vit, squares, 1), torch.zeros(3, 12, 12, dtype=torch.float64))


def test_gradient_rollout_needs_no_parameter_that_wants_gradients(vit, squares):
    expected = lesson.gradient_rollout(vit, squares, 0)
    assert torch.equal(lesson.gradient_rollout(vit.requires_grad_(False), squares, 0), expected)


def test_common_contract_of_gradient_rollout(vit, squares):
    assert_common_contract(lesson.gradient_rollout, vit, squares)


def test_gradient_rollout_leaves_no_trace(vit, squares):
    assert_leaves_no_trace(lesson.gradient_rollout, vit, squares)


class BrokenInside(nn.Module):
    """In place of the last encoder block: raises."""

    def forward(self, tokens: Tensor) -> Tensor:
        raise RuntimeError("broken on purpose")


@pytest.mark.parametrize("method", [lesson.attention_rollout, lesson.attention_weights, lesson.last_attention])
def test_methods_without_a_class_leave_no_trace(method, vit, squares):
    with unchanged(vit, squares):
        expected = method(vit, squares)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode(), unchanged(vit, squares):
            torch.testing.assert_close(method(vit, squares), expected)
    wanting = squares.clone().requires_grad_()
    with unchanged(vit, wanting):
        found = method(vit, wanting)
    assert not (found[0] if isinstance(found, list) else found).requires_grad
    vit.encoder.ln = BrokenInside().eval()
    with unchanged(vit, squares), pytest.raises(RuntimeError, match="broken on purpose"):
        method(vit, squares)


TRANSFORMER_METHODS = [lesson.attention_weights, lesson.attention_rollout, lesson.gradient_rollout]


@pytest.mark.parametrize("method", TRANSFORMER_METHODS)
def test_refusals(method, vit, squares):
    with torch.random.fork_rng():
        convolutional = resnet18().eval()
        pair = nn.ModuleList([vit, tiny_vit()]).eval()
    with pytest.raises(ValueError, match=r"needs a torchvision VisionTransformer.*ResNet is none.*grad_cam"):
        method(convolutional, torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match="ModuleList has 2"):
        method(pair, squares)
    with pytest.raises(ValueError, match=r"takes 12 x 12 images, got \(12, 16\)"):
        method(vit, F.pad(squares, (2, 2)))
    for wrong in (squares[0], squares.long(), squares * float("nan"), "dog.jpg"):
        with pytest.raises(ValueError, match="images"):
            method(vit, wrong)
    vit.encoder.layers[1].dropout.train()
    with pytest.raises(ValueError, match=r"eval\(\)"):
        method(vit, squares)


@pytest.mark.parametrize("options", [{"head_fusion": "median"}, {"head_fusion": None}, {"discard_ratio": 1.0},
                                     {"discard_ratio": -0.1}, {"discard_ratio": float("nan")},
                                     {"discard_ratio": "all"}])  # fmt: skip
def test_wrong_options_are_named(options, vit, squares):
    with pytest.raises(ValueError, match=next(iter(options))):
        lesson.attention_rollout(vit, squares, **options)


class Twice(nn.Module):
    """Runs its transformer on the image and on its mirror image."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images) + self.model(images.flip(3))


@pytest.mark.parametrize("method", TRANSFORMER_METHODS)
def test_layers_that_run_twice_are_refused(method, vit, squares):
    with pytest.raises(ValueError, match="3 layers ran 6 times"):
        method(Twice(vit).eval(), squares)


@pytest.mark.parametrize(
    "options",
    [
        {"num_heads": 1}, {"num_heads": 3, "hidden_dim": 12}, {"image_size": 8, "patch_size": 2}, {"num_layers": 1},
        {"representation_size": 5}, {"patch_size": 12},
    ],
)  # fmt: skip
def test_other_sizes(options, squares):
    model = tiny_vit(**options)
    images = squares[..., : model.image_size, : model.image_size]
    side = model.image_size // model.patch_size
    for method in (lesson.attention_rollout, lesson.gradient_rollout, lesson.last_attention):
        assert method(model, images).shape == images[:, 0].shape
        assert method(model, images, upsample=False).shape == (3, side, side)
    for A, image_A in zip(lesson.attention_weights(model, images), slow_forward(model, images[1])[1], strict=True):
        torch.testing.assert_close(A[1], image_A.detach())


def test_a_module_around_a_transformer(vit, squares):
    wrapped = nn.Sequential(nn.Identity(), vit, nn.Identity()).eval()
    assert torch.equal(lesson.attention_rollout(wrapped, squares), lesson.attention_rollout(vit, squares))
    assert torch.equal(lesson.gradient_rollout(wrapped, squares, 1), lesson.gradient_rollout(vit, squares, 1))


def test_float32_and_channels_last(vit, squares):
    images = squares.float().to(memory_format=torch.channels_last)
    maps = lesson.gradient_rollout(vit.float().to(memory_format=torch.channels_last), images, 0)
    assert maps.dtype == torch.float32
    torch.testing.assert_close(maps.double(), lesson.gradient_rollout(vit.double(), squares, 0), rtol=1e-3, atol=1e-5)


def test_vit_b_16_of_torchvision():
    """With all weights 0 its attention is uniform: every patch gets (1 - 2^-12) / 197."""
    with torch.device("meta"):
        model = vit_b_16(weights=None)
    model = model.to_empty(device="cpu").eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.zero_()
    maps = lesson.attention_rollout(model, torch.zeros(1, 3, 224, 224), upsample=False)
    torch.testing.assert_close(maps, torch.full((1, 14, 14), (1 - 0.5**12) / 197))


# Scenes


def test_scene_batches_are_deterministic_and_leave_the_global_random_state_alone():
    photographs, cutouts = lesson.photograph_stack(["dog.jpg", "bird.jpg"]), lesson.cutout_stack()
    before = torch.get_rng_state()
    first, again, other = (
        lesson.scene_batch(photographs, cutouts, 8, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_scene_batches_show_the_animal_where_the_mask_is():
    """Cutouts of one red each: inside the mask the scene has the red of its class."""
    cutouts = torch.zeros(12, 4, 48, 48)
    cutouts[:, 3] = 1.0
    cutouts[:, 0] = torch.arange(12)[:, None, None] / 12               # red says the class
    grounds = torch.full((1, 3, 160, 200), 0.5)
    images, labels, masks = lesson.scene_batch(grounds, cutouts, 64, torch.Generator().manual_seed(0))
    red = images[:, 0] * lesson.IMAGENET_STD[0] + lesson.IMAGENET_MEAN[0]
    assert images.shape == (64, 3, 64, 64)
    assert len(labels.unique()) >= 9
    for scene, label, mask in zip(red, labels, masks, strict=True):
        rows, columns = (mask.any(dim=axis).nonzero() for axis in (1, 0))
        sides = [len(rows), len(columns)]
        assert min(sides) >= 25
        assert max(sides) <= 46
        assert mask.sum() >= sides[0] * sides[1] - 4, "the mask is not the whole square"     # corners are rounded
        inner = F.avg_pool2d(mask.double()[None, None], 3, 1, 1)[0, 0] > 0.99          # one pixel further in
        torch.testing.assert_close(scene[inner], torch.full_like(scene[inner], label / 12), rtol=0, atol=1e-4)


def test_cutouts_are_premultiplied_and_fit_their_squares():
    stack = lesson.cutout_stack()
    assert stack.shape == (12, 4, 48, 48)
    assert (stack[:, :3] <= stack[:, 3:] + 1 / 255).all(), "a colour channel is brighter than its alpha"
    assert (stack[:, 3].mean(dim=(1, 2)) > 0.1).all()


def test_held_out_photographs_are_held_out():
    assert not set(lesson.HELD_OUT) & set(lesson.training_photographs())
    assert len(lesson.training_photographs()) + len(lesson.HELD_OUT) == 19


@pytest.mark.parametrize("animals", [1, 2])
def test_held_out_scenes(animals):
    scenes, again = (lesson.held_out_scenes(6, animals=animals, seed=4) for _ in range(2))
    for scene, same in zip(scenes, again, strict=True):
        assert torch.equal(scene.image, same.image)
        assert scene.image.shape == (1, 3, 64, 64)
        assert scene.masks.shape == (animals, 64, 64)
        assert scene.masks.sum(dim=(1, 2)).min() > 0
        assert scene.masks.sum(dim=0).max() == 1, "animals overlap"
        assert len(set(scene.classes)) == animals
    assert not torch.equal(scenes[0].image, lesson.held_out_scenes(1, animals=animals, seed=5)[0].image)


def test_random_squares_stay_inside_the_picture():
    picture = load_image("dog.jpg").crop((0, 0, 90, 90))
    random = lesson.np.random.default_rng(0)
    sizes = {lesson.random_square(picture, random).size for _ in range(50)}
    assert all(width == height and 45 <= width <= 90 for width, height in sizes)
    assert len(sizes) > 10


# Training and checkpoint


def test_training_is_deterministic_and_leaves_no_trace():
    before, log = torch.get_rng_state(), []
    first = lesson.train_vit(3, batch_size=4, log=log)
    again, other = lesson.train_vit(3, batch_size=4), lesson.train_vit(3, batch_size=4, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    state = first.state_dict()
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in state.items())
    assert not torch.equal(state["conv_proj.weight"], other.state_dict()["conv_proj.weight"])
    assert not any(module.training for module in first.modules())
    assert len(log) == 1
    assert log[0].startswith("3,")


def test_a_few_steps_on_one_batch_are_learnt():
    """The loss falls from that of guessing, ln 12 = 2.48."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = lesson.small_vit()
    optimizer, schedule = lesson.optimizer_of(model, 1e-3, 20)
    grounds, generator = lesson.photograph_stack(["dog.jpg"]), torch.Generator().manual_seed(0)
    images, labels, _ = lesson.scene_batch(grounds, lesson.cutout_stack(), 8, generator)
    losses = [lesson.train_step(model, images, labels, optimizer, schedule)[0] for _ in range(20)]
    assert losses[0] == pytest.approx(math.log(12), abs=1e-3)
    assert losses[-1] < 2


def test_the_network_is_of_the_size_the_lesson_says():
    with torch.random.fork_rng():
        model = lesson.small_vit()
    assert 500_000 < sum(parameter.numel() for parameter in model.parameters()) < 1_000_000
    assert isinstance(model, VisionTransformer)
    places = model.encoder.pos_embedding.detach()[0, 1:]
    distances = torch.cdist(places, places)[0].reshape(8, 8)
    assert distances[0, 1] < distances[0, 2] < distances[0, 3]
    assert distances[1, 0].item() == pytest.approx(distances[0, 1].item(), rel=1e-4)


def test_checkpoint_reaches_its_accuracy_on_fresh_scenes(trained):
    """Backgrounds and placements that training never saw, and a seed that no text quotes."""
    assert lesson.accuracy(trained, lesson.held_out_scenes(400, seed=12345)) >= 0.9


def test_checkpoint_is_small_and_its_log_says_how_it_came_about():
    log = lesson.CHECKPOINT.with_suffix(".csv").read_text()
    assert lesson.CHECKPOINT.stat().st_size < 6e6
    assert lesson.COMMAND in log
    assert hashlib.sha256(lesson.CHECKPOINT.read_bytes()).hexdigest() in log
    rows = [line.split(",") for line in log.splitlines() if line[:1].isdigit()]
    assert float(rows[-1][2]) > float(rows[0][2])


def test_saved_weights_come_back(tmp_path):
    file = tmp_path / "weights" / "vit.pt"
    model = lesson.train_vit(1, batch_size=2)
    lesson.save_vit(model, ["1,2.5,0.1,0"], file, count=3)
    loaded = lesson.load_vit(file)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[key], value.half().float(), rtol=0, atol=0)
    assert sorted(path.name for path in file.parent.iterdir()) == ["vit.csv", "vit.pt"]
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


@pytest.mark.parametrize("damage", ["altered", "truncated", "missing", "log missing"])
def test_a_damaged_checkpoint_is_refused(damage, tmp_path):
    file = tmp_path / "vit.pt"
    data = lesson.CHECKPOINT.read_bytes()
    if damage == "altered":
        data = data[:1000] + bytes([data[1000] ^ 1]) + data[1001:]
    if damage != "missing":
        file.write_bytes(data[:-100] if damage == "truncated" else data)
    if damage != "log missing":
        file.with_suffix(".csv").write_bytes(lesson.CHECKPOINT.with_suffix(".csv").read_bytes())
    with pytest.raises(RuntimeError, match=r"missing, truncated or altered.*--train"):
        lesson.load_vit(file)


# Scores and pictures


def test_scores_of_made_up_maps():
    """A map that is the mask has energy 1 and a hit; half on each of two animals, 0.5 and 0.5."""
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[0, 10:20, 10:20], masks[1, 40:50, 40:50] = True, True
    assert lesson.score_scene(masks[0].float(), masks, 0) == [1.0, 0.0, 1.0]
    assert lesson.score_scene(masks[0].float(), masks, 1) == [0.0, 1.0, 0.0]
    assert lesson.score_scene(masks.any(dim=0).float(), masks, 1)[:2] == [0.5, 0.5]
    energy, other, chance = lesson.score_scene(torch.ones(64, 64), masks[:1], 0)
    assert energy == pytest.approx(100 / 4096)
    assert math.isnan(other)
    disc = sum(x * x + y * y <= 16 for x in range(1, 5) for y in range(1, 5))
    assert chance == pytest.approx((100 + 4 * 10 * 4 + 4 * disc) / 4096)


def test_rollout_lies_on_the_animal_more_than_chance(trained):
    rows = {row[0]: row[1:] for row in lesson.rollout_scores(trained, lesson.held_out_scenes(60, seed=77))}
    area, chance = rows["uniform"][0], rows["uniform"][2]
    assert rows["rollout"][0] > 1.5 * area
    assert rows["gradient rollout"][0] > 2 * area
    assert rows["rollout"][2] > chance + 0.2
    assert rows["gradient rollout"][2] > chance + 0.2


def test_only_gradient_rollout_answers_to_the_class(trained):
    """Two animals, each asked for in turn: a map that ignores the class has the same on both, on average."""
    scenes = lesson.held_out_scenes(80, animals=2, seed=78)
    rows = {row[0]: row[1:] for row in lesson.rollout_scores(trained, scenes)}
    for name in ("uniform", "last layer's attention", "rollout"):
        assert rows[name][0] == pytest.approx(rows[name][1])
    assert rows["gradient rollout"][0] > 1.5 * rows["gradient rollout"][1]


def test_figures(trained):
    scenes = lesson.held_out_scenes(1, seed=3) + lesson.held_out_scenes(1, animals=2, seed=4)
    (photograph,) = lesson.photograph_scenes(trained, scenes[0].image, 2)
    assert (photograph.classes, photograph.masks) == ([2], None)
    assert isinstance(lesson.figure_attention(trained, scenes[0]), Figure)
    assert isinstance(lesson.figure_rollout(trained, [*scenes, photograph]), Figure)


# Networks of one's own


def report(model: nn.Module, **options: object) -> dict[str, tuple[str, str]]:
    return {item: (answer, remark) for item, answer, remark in lesson.explainable(model, **options)}


def test_explainable_tells_what_works(squeezenet, resnet):
    found = report(squeezenet)
    assert {item for item, (answer, _) in found.items() if answer == "no"} == {
        "cam", "attention_rollout", "activations without a module or rule",
    }  # fmt: skip
    assert found["Grad-CAM's layer"] == ("yes", "features.12 (Fire)")
    assert report(resnet)["cam"] == ("yes", "")


def test_explainable_leaves_no_trace(tiny):
    with unchanged(tiny, torch.zeros(1)):
        report(tiny, size=(20, 24))


def test_explainable_names_functional_relus_and_what_is_missing():
    with torch.random.fork_rng():
        dense = torchvision.models.densenet121(weights=None).eval()
    found = report(dense, size=(64, 64))
    assert found["activations without a module or rule"] == ("yes", "Relu (1 times)")
    assert found["guided_backpropagation"][0] == "no"
    assert found["grad_cam"][0] == "yes"
    assert "features.norm5" in found["Grad-CAM's layer"][1]


def test_adapted_networks():
    rows = {row[0]: row[1:] for row in lesson.adapted_examples()}
    assert rows == {
        "two inputs": ["no", "no", "no"], "two inputs, adapted": ["yes", "no", "no"],
        "segmentation": ["no", "no", "no"], "segmentation, adapted": ["yes", "yes", "yes"],
    }  # fmt: skip


@pytest.fixture(scope="module")
def small_classifier() -> nn.Module:
    return lesson.CamClassifier("squeezenet1_1", 3)


def test_cam_classifier_is_a_network_that_cam_explains(small_classifier, photos):
    model = copy.deepcopy(small_classifier)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        nn.init.normal_(model.fc.weight)
        nn.init.normal_(model.fc.bias)
    cam = lesson.lesson_05.cam(model, photos, [0, 2], upsample=False)
    scores = model(photos)[[0, 1], [0, 2]]
    torch.testing.assert_close(cam.mean(dim=(1, 2)) + model.fc.bias[[0, 2]], scores, rtol=1e-4, atol=1e-4)
    scaled = cam.relu() / cam[0].numel()
    assert relative_error(lesson.lesson_05.grad_cam(model, photos, [0, 2], upsample=False), scaled) < 1e-4


def test_cam_classifier_on_the_embedded_backbones(resnet, photos):
    model = lesson.CamClassifier("resnet50", 2)
    assert model.fc.in_features == 2048
    assert not any(parameter.requires_grad for parameter in model.parameters())
    with torch.no_grad():
        pooled = model.features(photos).mean(dim=(2, 3))
        torch.testing.assert_close(resnet.fc(pooled), resnet(photos), rtol=1e-4, atol=1e-3)


def test_vgg_loses_its_last_pooling(monkeypatch, photos):
    def random_vgg(_name: str) -> nn.Module:
        with torch.random.fork_rng():
            return torchvision.models.vgg11(weights=None).eval().requires_grad_(False)

    monkeypatch.setattr(lesson, "load_model", random_vgg)
    model = lesson.CamClassifier("vgg11", 2)
    nn.init.ones_(model.fc.weight)
    assert lesson.lesson_05.cam(model, photos[:1], 0, upsample=False).shape == (1, 14, 14)


def test_fit_head_by_hand():
    """Two clouds on a line: the boundary lies between their means, whatever the scale and offset of the feature."""
    x = torch.tensor([[1.0], [2.0], [3.0], [7.0], [8.0], [9.0]]) * 100 + 1000
    fc = nn.Linear(1, 2)
    lesson.fit_head(fc, x, torch.tensor([0, 0, 0, 1, 1, 1]))
    difference = fc(torch.tensor([[1500.0]]))[0].diff().item()
    assert difference == pytest.approx(0, abs=1e-2)
    assert fc(x).argmax(dim=1).tolist() == [0, 0, 0, 1, 1, 1]


def test_fit_head_minimises_its_loss():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(60, 5, generator=generator), torch.arange(60) % 3
    x += y[:, None] * torch.tensor([1.0, 0, 0, -1, 0])
    fc = nn.Linear(5, 3)
    lesson.fit_head(fc, x, y, decay=0.05)
    scale = x.std(dim=0) + 1e-6

    def loss(weight: Tensor) -> Tensor:
        return F.cross_entropy(x @ weight.T + fc.bias, y) + 0.05 * (weight * scale).square().sum() / 2

    weight = fc.weight.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(weight), weight)
    assert gradient.abs().max() < 1e-3


@pytest.fixture
def two_folders(tmp_path):
    """apes/ and birds/ with three crops of a photograph each."""
    for name, photo in (("apes", "panda.jpg"), ("birds", "bird.jpg")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(3):
            load_image(photo).crop((10 * i, 0, 500 + 10 * i, 500)).save(tmp_path / "data" / name / f"{i}.png")
    return tmp_path / "data"


def test_train_head_on_a_folder(two_folders, tmp_path, monkeypatch):
    model, classes = lesson.train_head(two_folders, "squeezenet1_1", tmp_path / "cache")
    assert classes == ["apes", "birds"]
    images = torch.cat([preprocess_image(load_image(name)) for name in ("panda.jpg", "bird.jpg")])
    assert model(images).argmax(dim=1).tolist() == [0, 1]
    files, labels, _ = lesson.image_folder(two_folders)
    assert lesson.confusion(model, files, labels).tolist() == [[3, 0], [0, 3]]
    monkeypatch.setattr(lesson, "load_image", None)                    # features come from the cache now
    again, _ = lesson.train_head(two_folders, "squeezenet1_1", tmp_path / "cache")
    torch.testing.assert_close(again.fc.weight, model.fc.weight)


def test_finetune_moves_the_last_block_only(two_folders, small_classifier):
    model = copy.deepcopy(small_classifier)
    model.fc = nn.Linear(512, 2).requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    files, labels, _ = lesson.image_folder(two_folders)
    lesson.finetune(model, files, labels, epochs=1)
    moved = {key.rpartition(".")[0].split(".")[1] for key, value in model.state_dict().items()
             if not torch.equal(value, before[key]) and key.startswith("features")}  # fmt: skip
    assert moved == {"12"}
    assert not torch.equal(model.fc.weight, before["fc.weight"])
    assert all(p.grad is None and not p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("folder", ["nowhere", "empty"])
def test_folders_without_classes_are_refused(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="subfolder"):
        lesson.image_folder(tmp_path / folder)


def test_cats_and_dogs_from_the_committed_head():
    model, notes = lesson.cats_against_dogs()
    assert notes["classes"] == ["cat", "dog"]
    table = torch.tensor(notes["confusion"])
    assert table.sum() == 200
    assert table.diag().sum() >= 198
    assert lesson.HEAD.stat().st_size < 50_000
    images = torch.cat([preprocess_image(load_image(name)) for name in ("cat.jpg", "dog.jpg")])
    assert model(images).argmax(dim=1).tolist() == [0, 1]


# Fooled maps


def test_the_map_moves_the_answer_stays(squeezenet, photos):
    where = torch.zeros(224, 224, dtype=torch.bool)
    where[-75:, :75] = True
    image = photos[:1]
    with unchanged(squeezenet, image):
        moved = lesson.move_map(squeezenet, image, 235, where)
    std = torch.tensor(lesson.IMAGENET_STD)[:, None, None]
    assert ((moved - image).abs() * std * 255).max() <= 4 + 1e-3
    colours = moved * std + torch.tensor(lesson.IMAGENET_MEAN)[:, None, None]
    assert colours.min() > -1e-5
    assert colours.max() < 1 + 1e-5
    share = [lesson.lesson_08.energy_pointing_game(lesson.lesson_05.grad_cam(squeezenet, x, 235)[0], where)
             for x in (image, moved)]  # fmt: skip
    assert share[1] > 3 * share[0]
    assert squeezenet(moved).argmax().item() == 235


def test_tags_cover_what_their_mask_says():
    image = torch.zeros(1, 3, 224, 224)
    tagged, mask = lesson.add_tag(image, seed=4)
    assert mask.sum() == lesson.TAG**2
    assert torch.equal((tagged != 0).any(dim=1)[0], mask)
    assert not torch.equal(mask, lesson.add_tag(image, seed=5)[1])
    labels = torch.tensor([0, 1, 0])
    changed = (lesson.tag_first_class(image.expand(3, -1, -1, -1), labels) != 0).flatten(1).any(dim=1)
    assert changed.tolist() == [True, False, True]


def test_the_biased_network_follows_the_tag():
    model = lesson.biased_network()
    called = {row[0]: row[2] for row in lesson.cue_table(model)}
    assert called["beaver with tag"] > 0.9
    assert called["wombat with tag"] > 0.8
    assert called["beaver without tag"] < 0.2
    assert called["wombat without tag"] < 0.1
    (tag, animal), _ = lesson.cue_maps(model)
    assert tag[1] > 5 * tag[3]                                         # Grad-CAM: far above the tag's share of the area
    assert animal[1] < 0.02
    assert tag[2] > 0.8                                                # IG: the tag accounts for the score
    assert animal[2] < 0.2


def test_mask_out_takes_the_highest_squares():
    images, maps = torch.ones(2, 3, 64, 64), torch.zeros(2, 64, 64)
    maps[0, 16:32, 48:64], maps[1, :16, :16] = 1, 1
    maps[:, 40, 40] = 0.5
    masked = lesson.mask_out(images, maps, 1 / 16)
    expected = torch.ones(2, 64, 64)
    expected[0, 16:32, 48:64], expected[1, :16, :16] = 0, 0
    assert torch.equal(masked, expected[:, None].expand(-1, 3, -1, -1))
    assert torch.equal(lesson.mask_out(images, maps, 0.0), images)
    assert lesson.mask_out(images, maps, 0.5).mean() == 0.5


def test_masking_an_oracle_beats_masking_noise(squeezenet, photos):
    """Rows: the untouched probability first, the same for all; noise costs less than Grad-CAM's places."""
    target = torch.tensor([235, 88])
    methods = {name: lesson.lesson_08.METHODS[name] for name in ("grad_cam", "random")}
    _, rows = lesson.figure_masking(squeezenet, photos, target, methods)
    assert rows[0][1] == pytest.approx(rows[1][1])
    assert rows[0][1] == pytest.approx(squeezenet(photos).softmax(1)[[0, 1], target].mean().item(), rel=1e-3)
    assert rows[0][3] < rows[1][3]
