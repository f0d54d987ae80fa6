"""Layer-wise relevance propagation."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
import torchvision
from conftest import PixelFunction, TinyConvNet, assert_common_contract, relative_error, unchanged
from torch import Tensor, nn

from advanced import lrp as lesson
from utils import fold_batch_norm, import_lesson

gradient_times_input = import_lesson("02_gradient_input_saliency").gradient_times_input


# The rules


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
    # epsilon is a quarter of the only z, so that 4/5 are paid
    [("zero", [3, -2, 1]), ("epsilon", [2.4, -1.6, 0.8]), ("gamma", [2.5, -4 / 3, 5 / 6]),
     ("epsilon_plus", [1.5, 0, 0.5]), ("epsilon_plus_conserving", [1.5, 0, 0.5]),
     ("epsilon_plus_flat", [2 / 3, 2 / 3, 2 / 3]), ("composite", [2 / 3, 2 / 3, 2 / 3])],
)
def test_three_neurons_by_hand(rule, expected):
    found = lesson.lrp(one_layer([3.0, -1.0, 1.0]), pixel(1.0, 2.0, 1.0), 0, rule=rule)
    assert found.flatten().tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("bias", [0.0, 2.0])
def test_one_layer_by_the_formula_is_the_network_by_one_line(bias):
    layer, a = lesson.three_neurons(bias)
    R = layer(a)
    model = one_layer([3.0, -1.0, 1.0], bias)
    rules = {"epsilon": lesson.epsilon_rule, "gamma": lesson.gamma_rule, "epsilon_plus": lesson.plus_rule,
             "epsilon_plus_conserving": lesson.conserving_plus_rule}  # fmt: skip
    for name, rule in rules.items():
        found = lesson.lrp(model, a.reshape(1, 3, 1, 1), 0, rule=name).flatten()
        torch.testing.assert_close(lesson.hand_down(rule, layer, a, R)[0], found)


@pytest.mark.parametrize(
    ("rule", "expected"),
    # contributions 3, -2, 1 and a bias of 2: z = 4, z+ = 6
    [("zero", [3, -2, 1]), ("epsilon", [2.4, -1.6, 0.8]), ("epsilon_plus", [2, 0, 2 / 3]),
     ("epsilon_plus_conserving", [3, 0, 1]),
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


def test_z_plus_pays_positive_contributions_of_a_negative_sum_as_well():
    """Contributions 1, -4, z = R = -3: the one that was positive gets all of the negative relevance."""
    found = lesson.lrp(one_layer([1.0, -4.0, 0.0]), pixel(1.0, 1.0, 1.0), 0)
    assert found.flatten().tolist() == pytest.approx([-3, 0, 0], abs=1e-5)


def test_epsilon_pays_small_sums_little():
    """z = 6 and 2 of two neurons: root mean square sqrt(20), epsilon a quarter of it."""
    layer = nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[6.0], [2.0]]))
    p = lesson.epsilon_rule(layer, torch.tensor([[1.0], [-10.0]]))
    epsilon = 20**0.5 / 4
    assert p[0].tolist() == pytest.approx([6 + epsilon, 2 + epsilon])
    assert p[1].tolist() == pytest.approx([-60 - 10 * epsilon, -20 - 10 * epsilon])    # each image by its own size
    signs = lesson.lrp(one_layer([-3.0, 1.0, -1.0]), pixel(1.0, 2.0, 1.0), 0, rule="epsilon")
    assert signs.flatten().tolist() == pytest.approx([-2.4, 1.6, -0.8])                # z = -2, p = -2.5


@pytest.mark.slow
def test_epsilon_is_no_longer_the_zero_rule(resnet, photos):
    maps = [lesson.lrp(resnet, photos[:1], rule=rule).sum(dim=1) for rule in ("zero", "epsilon")]
    assert 0 < lesson.correlation(*maps) < 0.5


# Slow restatement: matrices, layer by layer


def shares(rule: str, a: Tensor, W: Tensor, b: Tensor, R: Tensor) -> Tensor:
    """One linear layer by the definition: loops over outputs; a (I,), W (J, I), b (J,), R (J,) -> (I,)."""
    below, size = torch.zeros_like(a), (W @ a + b).square().mean().sqrt()
    for w, bias, r in zip(W, b, R, strict=True):
        contributions, z = a * w, (a * w).sum() + bias
        plus, minus = contributions.clamp(min=0), contributions.clamp(max=0)
        if rule in ("zero", "epsilon"):
            paid, p = contributions, z + (0.25 * size * (-1) ** int(z < 0) if rule == "epsilon" else 0)
        elif rule in ("plus", "conserving"):
            paid, p = plus, plus.sum() + (bias.clamp(min=0) if rule == "plus" else 0)
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
    ("rule", "of_each"),  # of the convolutions 0 and 3, and of the linear layers 6 and 9
    [("zero", ["zero"] * 4), ("epsilon", ["epsilon"] * 4), ("gamma", ["gamma"] * 4),
     ("epsilon_plus", ["plus", "plus", "epsilon", "epsilon"]),
     ("epsilon_plus_conserving", ["conserving", "conserving", "epsilon", "epsilon"]),
     ("epsilon_plus_flat", ["flat", "plus", "epsilon", "epsilon"]),
     ("composite", ["flat", "epsilon", "zero", "zero"])],
)
def test_layer_by_layer_with_matrices(chain, rule, of_each):
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
            kind = of_each.pop()
            if kind == "flat":
                ones = (W != 0).double()
                R = (ones / ones.sum(dim=1, keepdim=True)).T @ R
            else:
                R = shares(kind, a.flatten(), W, b, R)
    found = lesson.lrp(chain, image, 2, rule=rule)
    assert relative_error(found.flatten(), R) < 1e-4


class Chain(nn.Module):
    """Two convolutions and two linear layers, as captum's LRP takes them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.relu1, self.pool = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        self.conv2, self.relu2 = nn.Conv2d(4, 5, 2, stride=2), nn.ReLU()
        self.fc1, self.relu3, self.fc2 = nn.Linear(20, 6), nn.ReLU(), nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        x = self.relu2(self.conv2(self.pool(self.relu1(self.conv1(images)))))
        return self.fc2(self.relu3(self.fc1(x.flatten(1))))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_captum_agrees(monkeypatch):
    """z+ without biases, zero in the linear layers, on positive images, for which captum's rules are made."""
    captum = pytest.importorskip("captum.attr")
    rules = pytest.importorskip("captum.attr._utils.lrp_rules")
    with torch.random.fork_rng():
        torch.manual_seed(11)
        model = Chain().double().eval()
        images = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    monkeypatch.setattr(lesson, "EPSILON", 0.0)
    found = lesson.lrp(model, images, 1, rule="epsilon_plus_conserving")
    for layer in model.children():
        if isinstance(layer, nn.Conv2d):
            layer.rule = rules.Alpha1_Beta0_Rule(set_bias_to_zero=True)
        elif isinstance(layer, nn.Linear):
            layer.rule = rules.EpsilonRule(1e-9)
    assert relative_error(found, captum.LRP(model).attribute(images.clone(), target=1)) < 1e-6


def test_a_composite_has_gamma_below_and_epsilon_above(resnet):
    rules = lesson.rules_of_layers(resnet, "composite")
    assert resnet.conv1 not in rules                                   # flat, at the pixels
    assert resnet.fc not in rules                                      # zero
    assert rules[resnet.layer1[0].conv1] is lesson.gamma_rule
    assert rules[resnet.layer4[2].conv3] is lesson.epsilon_rule
    of_each = list(rules.values())
    assert of_each == [lesson.gamma_rule] * 25 + [lesson.epsilon_rule] * 27  # 53 convolutions, the first one flat


# Properties


@pytest.mark.parametrize("network", ["chain", "tiny"])
def test_zero_is_gradient_times_input(network, request, small_images, monkeypatch):
    model = request.getfixturevalue(network)
    squares = torch.randn(3, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    images = small_images if network == "tiny" else squares
    expected = gradient_times_input(model, images)
    torch.testing.assert_close(lesson.lrp(model, images, rule="zero"), expected)
    assert relative_error(lesson.lrp(model, images, rule="epsilon"), expected) > 0.01
    monkeypatch.setattr(lesson, "EPSILON", 1e-6)
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


@pytest.mark.parametrize("rule", lesson.RULES)
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
    if network == "chain":  # one layer after the other
        sums = lesson.relevance_sums(model, images[:1], 0, rule, names)
        assert list(sums.values()) == pytest.approx([sums["logit"]] * len(sums), rel=1e-5)


@pytest.mark.parametrize("network", ["chain", "residual"])
def test_the_conserving_rule_loses_nothing_to_the_biases_of_convolutions(network, request):
    """What leaves the linear layers arrives at the pixels; under epsilon_plus the biases keep a part."""
    model = request.getfixturevalue(network)
    images = torch.rand(1, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    top = {"chain": "5", "residual": "relu"}[network]
    if network == "chain":
        sums = lesson.relevance_sums(model, images, 0, "epsilon_plus_conserving", [top])
        assert sums["pixels"] == pytest.approx(sums[top], rel=1e-6)
        leaking = lesson.relevance_sums(model, images, 0, "epsilon_plus", [top])
        assert abs(leaking["pixels"] - leaking[top]) > 0.01 * abs(leaking[top])
    else:
        nn.init.zeros_(model.fc.bias)
        found = lesson.lrp(model, images, 0, rule="epsilon_plus_conserving").sum().item()
        p = lesson.epsilon_rule(model.fc, pooled_input(model, images))[0, 0]
        logit = model(images)[0, 0]
        assert found == pytest.approx((logit**2 / p).item(), rel=1e-6)


def pooled_input(model: nn.Module, images: Tensor) -> Tensor:
    """What the last linear layer sees."""
    seen = []
    handle = model.fc.register_forward_pre_hook(lambda _layer, inputs: seen.append(inputs[0].detach()))
    model(images)
    handle.remove()
    return seen[0]


@pytest.mark.slow
def test_conservation_on_the_real_network(resnet, photos):
    """The lesson's check: the same sum at every stage below fc, where epsilon_plus arrives with less than a fifth."""
    names = lesson.stages(resnet)[:0:-1]
    sums = lesson.relevance_sums(resnet, photos[:1], 235, "epsilon_plus_conserving", names)
    logit = sums.pop("logit")
    assert list(sums.values()) == pytest.approx([sums["layer4"]] * 6, rel=1e-3)
    assert 0.95 * logit < sums["layer4"] < logit
    assert sums["pixels"] > 5 * lesson.lrp(resnet, photos[:1], 235).sum().item()


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
    for rule, paid in (("composite", 1.0), ("epsilon_plus_flat", 0.8)):                # zero and epsilon at the top
        found = lesson.lrp(model, torch.ones(1, 1, 4, 4), 0, rule=rule)[0, 0]
        assert found[:2, :2].flatten().tolist() == pytest.approx([paid * 24 / 4] * 4)  # 4 + 5 + 7 + 8
        assert found.sum().item() == pytest.approx(paid * 24)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["epsilon", "epsilon_plus", "composite"])
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
@pytest.mark.parametrize(
    "name", ["resnet18", pytest.param("vgg11_bn", marks=pytest.mark.slow), "squeezenet1_1", "alexnet"]
)
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


@pytest.mark.parametrize("rule", ["epsilon_plus", "epsilon_plus_flat", "composite"])
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


@pytest.mark.slow
def test_lrp_on_resnet50(resnet, photos):
    """The zero rule is gradient x input; biases and epsilon take most of the logit under every rule but one."""
    zero = lesson.lrp(resnet, photos[:1], 235, rule="zero")
    assert relative_error(zero, gradient_times_input(resnet, photos[:1], 235)) < 1e-4
    logit = resnet(photos[:1])[0, 235].item()
    for rule in set(lesson.RULES) - {"epsilon_plus_conserving"}:
        assert abs(lesson.lrp(resnet, photos[:1], 235, rule=rule).sum().item()) < 0.3 * logit
