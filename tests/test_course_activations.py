"""course/activations.py: which functions of one unit ran, read from autograd's graph."""

from collections import Counter

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from course.activations import activations

MANY_UNITS = ("Softmax", "Softmax2d", "Softmin", "LogSoftmax", "MultiheadAttention")
CLASSES = [name for name in nn.modules.activation.__all__ if name not in MANY_UNITS]


class Twice(torch.autograd.Function):
    """An operation of somebody's own, of which autograd knows nothing."""

    @staticmethod
    def forward(_ctx, x: Tensor) -> Tensor:
        return x.clamp(min=0)

    @staticmethod
    def backward(_ctx, R: Tensor) -> Tensor:
        return R


def zero_by_index(x: Tensor) -> Tensor:
    x = x.clone()
    x[x < 0] = 0
    return x


def seen(function, classes: int = 4) -> Counter:
    """The activations in a convolution, `function`, a mean over places and a linear layer."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        conv, fc = nn.Conv2d(3, classes, 3), nn.Linear(classes, 2)
        image = torch.randn(2, 3, 7, 10).requires_grad_()
    hidden = function(conv(image))
    return Counter(activations(fc.weight[:, : hidden.shape[1]] @ hidden.mean(dim=(2, 3)).T, image).values())


@pytest.mark.parametrize("name", CLASSES)
def test_every_activation_of_torch_nn_is_seen(name):
    module = getattr(nn, name)(*((0.1, 0.0) if name == "Threshold" else ())).eval()
    assert sum(seen(module).values()) == 1


WRITTEN = {
    "torch.relu": torch.relu, "relu_": lambda x: x.relu_(), "F.relu6": F.relu6, "clamp": lambda x: x.clamp(min=0),
    "clamp above": lambda x: x.clamp(max=1), "both": lambda x: x.clamp(-1, 1), "clamp_min": lambda x: x.clamp_min(0),
    "shifted clamp": lambda x: x.clamp(min=-1), "clamp by a tensor": lambda x: x.clamp(min=torch.zeros(1)),
    "maximum": lambda x: torch.maximum(x, torch.zeros(())), "max": lambda x: torch.max(torch.zeros_like(x), x),
    "minimum": lambda x: -torch.minimum(-x, torch.zeros(1)), "fmax": lambda x: torch.fmax(x, torch.zeros(1)),
    "mask": lambda x: x * (x > 0), "mask first": lambda x: (x > 0) * x, "float mask": lambda x: x * (x > 0).float(),
    "mul_": lambda x: x.mul_(x > 0), "leaky mask": lambda x: x * torch.where(x > 0, 1.0, 0.1),
    "heaviside": lambda x: x * torch.heaviside(x.detach(), torch.tensor(0.0)), "where": lambda x: x.where(x > 0, 0.0),
    "two branches": lambda x: torch.where(x > 0, x, 0.1 * x), "masked_fill": lambda x: x.masked_fill(x < 0, 0),
    "index": zero_by_index, "sigmoid": torch.sigmoid, "silu by hand": lambda x: x * x.sigmoid(), "abs": torch.abs,
    "quick gelu": lambda x: x * (1.702 * x).sigmoid(), "gelu by hand": lambda x: x * (1 + torch.erf(x / 2**0.5)) / 2,
    "by exp": lambda x: x / (1 + (-x).exp()), "weighted tanh": lambda x: x.tanh() * x.mean((2, 3), keepdim=True),
    "glu by hand": lambda x: x[:, :2] * x[:, 2:].sigmoid(), "own function": Twice.apply,
}  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
def test_an_activation_is_seen_however_it_is_written(name):
    assert sum(seen(WRITTEN[name]).values()) == 1


def test_names_say_what_ran():
    assert seen(F.relu) == {"Relu": 1}
    assert seen(lambda x: F.relu(F.silu(x.relu()))) == {"Relu": 2, "Silu": 1}
    assert seen(WRITTEN["mask"]) == {"Mul by a mask": 1}
    assert seen(WRITTEN["where"]) == {"Where by a mask": 1}
    assert seen(WRITTEN["maximum"]) == {"Maximum": 1}
    assert seen(Twice.apply) == {"Twice": 1}


def squeeze_excite(x: Tensor) -> Tensor:
    return x * x.mean(dim=(2, 3), keepdim=True).sigmoid()


NO_ACTIVATION = {
    "nothing": lambda x: x, "squeeze-excite": squeeze_excite, "hard gate": lambda x: F.hardsigmoid(
        x.mean((2, 3)))[:, :, None, None] * x, "gate for places": lambda x: x * x.mean(1, keepdim=True).sigmoid(),
    "doubled gate": lambda x: x * (2 * x.mean((2, 3)).sigmoid()).view(2, 4, 1, 1).expand_as(x),
    "normalize": F.normalize, "norm by hand": lambda x: (x - x.mean()) / ((x - x.mean()) ** 2 + 1e-5).mean().sqrt(),
    "max-pooling": lambda x: F.max_pool2d(x, 2), "maxout": lambda x: torch.maximum(x[:, :2], x[:, 2:]),
    "softmax": lambda x: x.softmax(dim=1), "per channel": lambda x: x * torch.tensor([0.0, 1, 1, 0])[:, None, None],
    "mask of places": lambda x: x * (torch.arange(x.shape[3]) > 2), "times a number": lambda x: 2 * x,
    "constant factors": lambda x: x * torch.linspace(-1, 1, x[0].numel()).view_as(x[0]), "dropout": nn.Dropout().eval(),
    "fixed positions": lambda x: torch.where(torch.arange(x.shape[3]) > 2, x, 0.0), "mean of squares": lambda x: x**2,
}  # fmt: skip


@pytest.mark.parametrize("name", NO_ACTIVATION)
def test_gates_norms_pooling_and_constants_are_no_activations(name):
    """`x ** 2` is one, and is not seen: the docstring says so."""
    assert seen(NO_ACTIVATION[name]) == {}


def test_what_only_weights_pass_through_does_not_count():
    """A pruned, a squashed and a rectified weight that requires grad."""
    weight = torch.linspace(-1, 1, 36).cos().reshape(4, 3, 1, 3).requires_grad_()
    image = torch.randn(1, 3, 5, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    for changed in (weight * (weight > 0), weight.tanh(), weight.relu()):
        assert activations(F.conv2d(image, changed).mean(dim=(2, 3)), image) == {}


NETWORKS = {"resnet18": 17, "vgg11": 10, "mobilenet_v2": 35, "shufflenet_v2_x0_5": 37, "regnet_y_400mf": 65}


@pytest.mark.parametrize("name", NETWORKS)
def test_torchvisions_networks_of_relus(name):
    """As many as their forward passes run; regnet_y's squeeze-and-excitation gates are none."""
    model = torchvision.models.get_model(name, weights=None).eval()
    image = torch.zeros(1, 3, 64, 64).requires_grad_()
    counted = Counter(activations(model(image), image).values())
    assert counted == {"Hardtanh" if name == "mobilenet_v2" else "Relu": NETWORKS[name]}


@pytest.mark.parametrize(("name", "expected"), [("efficientnet_b0", "Silu"), ("convnext_tiny", "Gelu"),
                                                ("mobilenet_v3_small", "Hardswish")])  # fmt: skip
def test_torchvisions_networks_of_other_activations(name, expected):
    model = torchvision.models.get_model(name, weights=None).eval()
    image = torch.zeros(1, 3, 64, 64).requires_grad_()
    assert expected in activations(model(image), image).values()
