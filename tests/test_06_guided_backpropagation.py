"""Lesson 06: guided backpropagation and the deconvnet."""

import gc
import warnings

import captum.attr
import pytest
import torch
import torch.nn.functional as F
import torchvision
from conftest import (
    PixelFunction,
    assert_common_contract,
    assert_leaves_no_trace,
    hook_count,
    relative_error,
    unchanged,
)
from torch import Tensor, nn

from course.probes import correlation, photo_edges, stages
from utils import channel_reduce, find_class, import_lesson

lesson = import_lesson("06_guided_backpropagation")
vanilla_gradient = import_lesson("01_vanilla_gradient_saliency").vanilla_gradient
METHODS = {"gradient": vanilla_gradient, "deconvnet": lesson.deconvnet, "guided": lesson.guided_backpropagation}
SLOW = pytest.mark.slow
BOTH = [lesson.guided_backpropagation, lesson.deconvnet]


# The rules


@pytest.mark.parametrize(
    ("name", "expected"),
    [("gradient", [3.0, -2.0, 0, 0, 0]), ("deconvnet", [3.0, 0, 5.0, 0, 7.0]), ("guided", [3.0, 0, 0, 0, 0])],
)
def test_rules_by_hand(name, expected):
    """Both positive, R negative, x negative, both negative, x exactly 0."""
    R, x = torch.tensor([3.0, -2.0, 5.0, -4.0, 7.0]), torch.tensor([1.0, 2.0, -1.0, -3.0, 0.0])
    assert lesson.RULES[name](R, x).tolist() == expected


@pytest.mark.parametrize(
    ("method", "expected"), [(lesson.guided_backpropagation, [1.0, 1.0]), (lesson.deconvnet, [4.0, -2.0])]
)
def test_three_units_by_hand(method, expected):
    """S = (1, -2, 3) . ReLU(W x), hidden inputs (3, 1, -1). Guided: row 1 of W. Deconvnet: rows 1 and 3."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 3, bias=False), nn.ReLU(), nn.Linear(3, 1, bias=False)).eval()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0, 1.0], [1.0, 0.0], [1.0, -1.0]]))
        model[3].weight.copy_(torch.tensor([[1.0, -2.0, 3.0]]))
    image = torch.tensor([1.0, 2.0]).reshape(1, 1, 1, 2)
    assert method(model, image, 0).flatten().tolist() == expected


def test_the_answer_on_paper_is_what_the_methods_compute():
    image = torch.tensor([1.0, 2.0]).reshape(1, 1, 1, 2)
    assert lesson.on_paper() == {
        name: method(lesson.three_units(), image, 0).flatten().tolist() for name, method in METHODS.items()
    }


@pytest.mark.parametrize("network", ["tiny", "squeezenet"])
def test_closed_gates_are_closed_in_a_whole_network(network, request, small_images, photos):
    """No negative signal with the deconvnet and guided, none at units that were off with the gradient and guided."""
    model, images = request.getfixturevalue(network), small_images if network == "tiny" else photos[:1]
    with unchanged(model, images):
        shares = {name: lesson.open_gates(method, model, images, 1) for name, method in METHODS.items()}
    assert shares["guided"] == (0, 0)
    assert shares["gradient"][1] == shares["deconvnet"][0] == 0
    assert shares["gradient"][0] > 0.2
    assert shares["deconvnet"][1] > 0.2


def test_open_gates_counts_by_hand():
    """Hidden inputs (3, 1, -1), weights (1, -2, 3): the gradient sends (1, -2, 0), the deconvnet (1, 0, 3)."""
    image = torch.tensor([1.0, 2.0]).reshape(1, 1, 1, 2)
    assert lesson.open_gates(vanilla_gradient, lesson.three_units(), image, 0) == (1 / 2, 0)
    assert lesson.open_gates(lesson.deconvnet, lesson.three_units(), image, 0) == (0, 1 / 2)


@pytest.mark.parametrize("rule", ["gradient", "deconvnet", "guided"])
def test_layer_by_layer(tiny, small_images, rule):
    """A slow restatement: each layer's Jacobian taken alone, the rule of the table at each ReLU."""
    below = lesson.RULES[rule]

    def through(function, x: Tensor, signal: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        return torch.autograd.grad(function(x), x, signal)[0]

    with torch.no_grad():
        first = tiny.conv1(small_images)
        second = tiny.conv2(first.relu())
    signal = through(lambda a: tiny.fc(a.mean(dim=(2, 3)))[:, 2], second.relu(), torch.ones(3, dtype=torch.float64))
    signal = through(tiny.conv2, first.relu(), below(signal, second))
    signal = through(tiny.conv1, small_images, below(signal, first))
    torch.testing.assert_close(METHODS[rule](tiny, small_images, 2), signal)


def test_all_three_agree_where_no_gate_closes(small_images):
    """Positive weights, positive pixels: every x and every R is positive."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(189, 6), nn.ReLU(), nn.Linear(6, 2)).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
    images = small_images.abs()
    torch.testing.assert_close(lesson.guided_backpropagation(model, images, 1), vanilla_gradient(model, images, 1))
    torch.testing.assert_close(lesson.deconvnet(model, images, 1), vanilla_gradient(model, images, 1))


def test_the_three_differ_elsewhere(tiny, small_images):
    maps = [method(tiny, small_images, 0) for method in METHODS.values()]
    assert relative_error(maps[0], maps[1]) > 0.01
    assert relative_error(maps[0], maps[2]) > 0.01
    assert relative_error(maps[1], maps[2]) > 0.01


def test_guided_signal_is_never_negative_at_a_relu(small_images):
    """With the identity as first layer the map is the signal below the first ReLU."""
    model = nn.Sequential(nn.ReLU(), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(140, 2)).double().eval()
    assert vanilla_gradient(model, small_images, 0).min() < 0
    for method in BOTH:
        assert method(model, small_images, 0).min() >= 0


def test_without_max_pooling_the_deconvnet_never_looks_at_the_image(tiny, small_images):
    maps = lesson.deconvnet(tiny, small_images, 1)
    torch.testing.assert_close(maps[0], maps[1])
    torch.testing.assert_close(maps[0], maps[2])
    assert maps.abs().max() > 0


# In-place, reused, classifier, ReLU6


class Shared(nn.Module):
    """Convolutions with one ReLU object throughout, and an in-place addition between, as in torchvision's ResNet."""

    def __init__(self, relus: list[nn.Module]) -> None:
        super().__init__()
        self.relus = nn.ModuleList(relus)
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.hidden, self.out = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        relu = [self.relus[i % len(self.relus)] for i in range(3)]
        stem = relu[0](self.first(images))
        block = self.second(stem)
        block += stem
        block = relu[1](block)
        return self.out(relu[2](self.hidden(block.mean(dim=(2, 3)))))


@pytest.mark.parametrize("kind", [nn.ReLU, nn.ReLU6])
@pytest.mark.parametrize("method", BOTH)
def test_in_place_and_reused_relus_equal_separate_ones(kind, method, small_images):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        separate = Shared([kind() for _ in range(3)]).double().eval()
    expected = method(separate, small_images, [0, 1, 2])
    for relus in ([kind(inplace=True)], [kind()], [kind(inplace=True) for _ in range(3)]):
        model = Shared(relus).double().eval()
        model.load_state_dict(separate.state_dict())
        with unchanged(model, small_images):
            torch.testing.assert_close(method(model, small_images, [0, 1, 2]), expected)
    plain = vanilla_gradient(separate, small_images, [0, 1, 2])
    assert relative_error(expected, plain) > 0.01


def test_relu6_closes_above_six_for_guided_only():
    """S = ReLU6(x) summed with weights (1, 1, -1) at x = (3, 9, 3): guided (1, 0, 0), deconvnet (1, 1, 0)."""
    model = nn.Sequential(nn.ReLU6(), nn.Flatten(), nn.Linear(3, 1, bias=False)).eval()
    with torch.no_grad():
        model[2].weight.copy_(torch.tensor([[1.0, 1.0, -1.0]]))
    image = torch.tensor([3.0, 9.0, 3.0]).reshape(1, 3, 1, 1)
    assert lesson.guided_backpropagation(model, image, 0).flatten().tolist() == [1.0, 0.0, 0.0]
    assert lesson.deconvnet(model, image, 0).flatten().tolist() == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("name", ["resnet18", pytest.param("vgg11", marks=SLOW), pytest.param("alexnet", marks=SLOW),
                                  "mobilenet_v2", "shufflenet_v2_x0_5", "regnet_y_400mf"])  # fmt: skip
def test_every_relu_of_torchvisions_networks_follows_the_rule(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torchvision.models.get_model(name, weights=None).eval()
        images = torch.randn(1, 3, 96, 96)
    with unchanged(model, images):
        guided = lesson.guided_backpropagation(model, images, 3)
    assert relative_error(guided, vanilla_gradient(model, images, 3)) > 0.01


# Refusals


class Functional(nn.Module):
    """A convolutional network with `activation` between its convolutions, after an nn.ReLU if asked."""

    def __init__(self, activation, relu: bool) -> None:
        super().__init__()
        self.first, self.second, self.fc = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 3)
        self.relu, self.activation = nn.ReLU(inplace=True) if relu else nn.Identity(), activation
        self.double().eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.activation(self.second(self.relu(self.first(images)))).mean(dim=(2, 3)))


AS_FUNCTIONS = {
    "F.relu": F.relu, "torch.relu": torch.relu, "relu_": lambda x: x.relu_(), "clamp": lambda x: x.clamp(min=0),
    "clamp_min": lambda x: x.clamp_min(0), "relu6": F.relu6, "in forward": lambda x: nn.ReLU()(x),
    "threshold": lambda x: F.threshold(x, 0.0, 0.0), "gelu": F.gelu, "silu": F.silu, "leaky": F.leaky_relu,
    "elu": F.elu, "hardswish": F.hardswish, "prelu": lambda x: F.prelu(x, torch.tensor(0.2, dtype=x.dtype)),
    "nn.Tanh": nn.Tanh(), "nn.Sigmoid": nn.Sigmoid(), "maximum": lambda x: torch.maximum(x, torch.zeros_like(x)),
    "mask": lambda x: x * (x > 0), "float mask": lambda x: (x > 0).to(x) * x, "where": lambda x: x.where(x > 0, 0),
    "masked_fill": lambda x: x.masked_fill(x < 0, 0), "silu by hand": lambda x: x * x.sigmoid(), "abs": torch.abs,
    "shifted": lambda x: x.clamp(min=-1), "softsign": nn.Softsign(), "hardshrink": nn.Hardshrink(),
}  # fmt: skip


@pytest.mark.parametrize("method", BOTH)
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("name", AS_FUNCTIONS)
def test_activations_that_no_hook_sees_are_refused(method, relu, name, small_images):
    model = Functional(AS_FUNCTIONS[name], relu)
    with unchanged(model, small_images), pytest.raises(ValueError, match="vanilla_gradient"):
        method(model, small_images, 0)


@pytest.mark.parametrize("method", BOTH)
def test_a_network_without_relu_is_refused(method, linear):
    with pytest.raises(ValueError, match=r"no nn\.ReLU"):
        method(linear, torch.ones(1, 3, 2, 4, dtype=torch.float64), 0)
    with pytest.raises(ValueError, match=r"Tanh \(1 times\)"):
        method(Functional(torch.tanh, relu=False), torch.ones(1, 3, 9, 9, dtype=torch.float64), 0)
    unused = PixelFunction(lambda x: x.mean(dim=(2, 3)))
    unused.relu = nn.ReLU().eval()
    with pytest.raises(ValueError, match=r"no nn\.ReLU"):
        method(unused, torch.ones(1, 3, 2, 4), 0)


@pytest.mark.parametrize(
    "gate", [lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(), F.normalize, lambda x: torch.maximum(x, x.flip(1))]
)
def test_gates_safe_divisions_and_maxima_of_signals_are_no_activations(gate, small_images):
    for method in BOTH:
        assert method(Functional(gate, relu=True), small_images, 0).abs().max() > 0


@pytest.mark.parametrize(
    "name", ["densenet121", "inception_v3", pytest.param("vit_b_16", marks=SLOW), "efficientnet_b0"]
)
def test_torchvisions_networks_with_other_activations_are_refused(name):
    options = {"init_weights": False} if name == "inception_v3" else {}
    with torch.random.fork_rng():
        model = torchvision.models.get_model(name, weights=None, **options).eval()
    side = 224 if name == "vit_b_16" else 80
    with pytest.raises(ValueError, match="also ran"):
        lesson.guided_backpropagation(model, torch.zeros(1, 3, side, side), 0)


# Contract


@pytest.mark.parametrize("method", BOTH)
def test_common_contract(method, tiny, small_images):
    assert_common_contract(method, tiny, small_images)


@pytest.mark.parametrize("method", BOTH)
def test_leaves_no_trace(method, tiny, small_images):
    assert_leaves_no_trace(method, tiny, small_images)


@pytest.mark.parametrize("rule", ["guided", "deconvnet"])
def test_the_block_undoes_itself_after_an_exception(rule, tiny, small_images):
    def interrupted() -> None:
        with lesson.rectified(tiny, rule):
            assert hook_count(tiny) == 1
            tiny(small_images)
            raise KeyboardInterrupt

    with unchanged(tiny, small_images), pytest.raises(KeyboardInterrupt):
        interrupted()


@pytest.mark.parametrize("method", BOTH)
def test_the_users_own_hooks_stay(method, tiny, small_images):
    calls = []
    handle = tiny.relu.register_forward_hook(lambda *_: calls.append(1))
    method(tiny, small_images, 0)
    assert len(calls) == 2
    assert hook_count(tiny) == 1
    handle.remove()


@SLOW
@pytest.mark.parametrize("method", BOTH)
def test_a_thousand_calls_keep_no_tensor(method, tiny, small_images):
    def alive() -> int:
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    method(tiny, small_images, 0)
    before = alive()
    for _ in range(1000):
        method(tiny, small_images, 0)
    assert alive() == before
    assert hook_count(tiny) == 0


# The catch


def test_randomize_draws_hes_weights_by_its_generator():
    model = nn.Sequential(nn.Conv2d(8, 64, 3), nn.BatchNorm2d(64), nn.Linear(64, 100)).eval()
    model[1].running_mean += 5
    with torch.random.fork_rng():
        before = torch.get_rng_state()
        lesson.randomize(model, torch.Generator().manual_seed(4))
        assert torch.equal(before, torch.get_rng_state())
    assert model[0].weight.std().item() == pytest.approx((2 / 72) ** 0.5, rel=0.05)           # sqrt(2 / fan_in)
    assert model[2].weight.std().item() == pytest.approx((2 / 64) ** 0.5, rel=0.05)
    assert model[0].bias.abs().max() == model[2].bias.abs().max() == model[1].running_mean.abs().max() == 0
    first = model[0].weight.clone()
    lesson.randomize(model, torch.Generator().manual_seed(4))
    assert torch.equal(first, model[0].weight)
    lesson.randomize(model, torch.Generator().manual_seed(5))
    assert not torch.equal(first, model[0].weight)


def test_cascade_leaves_the_model_alone_and_is_cumulative(tiny, small_images):
    image, names = small_images[:1], ["fc", "conv2"]
    with unchanged(tiny, image):
        maps = lesson.cascade(tiny, image, 0, names, seed=3)
    assert list(maps) == ["as trained", "random down to fc", "random down to conv2"]
    assert list(lesson.MAPS) == ["gradient", "guided backprop", "Grad-CAM"]
    generator = torch.Generator().manual_seed(3)
    for column, name in zip(maps.values(), [None, *names], strict=True):
        if name:
            lesson.randomize(tiny.get_submodule(name), generator)            # each test gets a fixture of its own
        torch.testing.assert_close(column[0], channel_reduce(vanilla_gradient(tiny, image, 0))[0])
        torch.testing.assert_close(column[1], channel_reduce(lesson.guided_backpropagation(tiny, image, 0))[0])
        torch.testing.assert_close(column[2], lesson.grad_cam(tiny, image, 0)[0])


def test_likeness_is_the_span_of_correlations_and_counts_empty_maps(bump):
    maps = torch.stack([bump, bump.T, torch.zeros_like(bump)])
    low = correlation(bump, bump.T)
    assert lesson.likeness(maps[:2], maps[[0, 0]]) == f"{low:.2f} to 1.00"
    assert lesson.likeness(maps, maps) == "1.00 to 1.00 (1 empty)"
    assert lesson.likeness(maps[2:], maps[:1]) == "(1 empty)"


@SLOW
def test_claims_of_the_recap(resnet, photos):
    """Guided backpropagation hardly depends on the class or on the upper layers; gradient and Grad-CAM do."""
    dog, tabby = photos[:1], find_class("tabby")
    columns = list(lesson.cascade(resnet, dog, 235, stages(resnet)[:5], seed=0).values())
    other = torch.cat([method(resnet, dog, tabby) for method in lesson.MAPS.values()])
    gradient, guided, cam = (correlation(*pair) for pair in zip(columns[0], other, strict=True))
    assert guided > 0.98
    assert max(gradient, cam) < 0.7
    gradient, guided, cam = (correlation(*pair) for pair in zip(columns[0], columns[2], strict=True))
    assert guided > 0.9
    assert max(gradient, cam) < 0.5
    fading = [correlation(columns[0][1], column[1]) for column in columns[2:]]               # layer4, 3, 2, 1
    assert fading == sorted(fading, reverse=True)
    assert fading[-1] < 0.35
    edges = photo_edges(photos)
    for i, label in enumerate((235, 88)):
        guided = channel_reduce(lesson.guided_backpropagation(resnet, photos[i : i + 1], label))[0]
        assert 0.1 < correlation(guided, edges[i]) < 0.6                                     # no mere edge filter


# Second opinion


@pytest.mark.parametrize("network", ["squeezenet", pytest.param("resnet", marks=SLOW)])
@pytest.mark.parametrize(
    ("method", "theirs"),
    [(lesson.guided_backpropagation, captum.attr.GuidedBackprop), (lesson.deconvnet, captum.attr.Deconvolution)],
)
def test_captum_agrees(network, method, theirs, photos, request):
    model, targets = request.getfixturevalue(network), torch.tensor([235, 88])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")                                                  # that it sets hooks
        expected = theirs(model).attribute(photos.clone().requires_grad_(), targets)
    assert relative_error(method(model, photos, targets), expected.detach()) < 1e-4
