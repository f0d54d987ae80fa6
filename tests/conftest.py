"""Small networks whose answers are known by hand, the embedded ones, and a check that nothing was left behind."""

from __future__ import annotations

import copy
import runpy
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

matplotlib.use("Agg")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from grader import plugin as grading
from grader.judge import changes_seen, over_there  # noqa: F401, for the tests of exercises
from markers import lesson_path

from utils import PROJECT_ROOT, load_image, load_model, preprocess_image


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """--submission, --grades and their like."""
    # In `pytest tests --submission student` pytest takes student for a test folder as long as it does not know the
    # option, and would run the conftest.py in it.
    strangers = [plugin for plugin in pluginmanager.get_plugins() if Path(getattr(plugin, "__file__", None) or "").name
                 == "conftest.py" and plugin.__file__ != __file__]  # fmt: skip
    if strangers or Path(grading.__file__).parent.parent != Path(__file__).parent:
        raise pytest.UsageError("another conftest.py was loaded first; write `pytest tests --submission=FOLDER`")
    pluginmanager._noconftest = True
    grading.add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Before pytest sets its reports up."""
    config.addinivalue_line("markers", "points(points, exercise, contract, prediction): a graded test's worth")
    grading.switch_on(config)
    CHOSEN["seed"] = config.stash[grading.SEED]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, so that two processes end at the same time: the short ones are left for the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


CHOSEN = {"seed": 0}  # what the grader draws the tests' inputs from: --draw


def seeded(number: int) -> int:
    """A seed of a test's own, which nobody knows before the grader has chosen."""
    return number + CHOSEN["seed"]


def drawing(number: int) -> torch.Generator:
    """A generator for a test's inputs."""
    return torch.Generator().manual_seed(seeded(number))


def factor(number: int) -> float:
    """A number between 1 and 2 by which answers worked out by hand are larger; exact in every float type."""
    return 1 + int(torch.randint(1, 64, (1,), generator=drawing(number))) / 64


def shuffled(items: Iterable, number: int) -> list:
    """Cases in an order that the seed decides."""
    items = list(items)
    return [items[i] for i in torch.randperm(len(items), generator=drawing(number))]


class TinyConvNet(nn.Module):
    """Convolution, in-place ReLU used twice, pooling, linear: small enough for float64 and loops."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 5, 3, stride=2)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(5, 3)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.relu(self.conv2(self.relu(self.conv1(images))))
        return self.fc(hidden.mean(dim=(2, 3)))


class Broken(nn.Module):
    """Runs a network and raises afterwards, as a network with a bug in its head would."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        self.model(images)
        raise RuntimeError("broken on purpose")


class PixelFunction(nn.Module):
    """A network from a formula: logits = formula(images), for closed-form answers."""

    def __init__(self, formula: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.formula = formula
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.formula(images)


class Sum(nn.Module):
    """Logits (0, sum of w x), so that p_1 = sigmoid(sum of w x)."""

    def __init__(self, w: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(w, requires_grad=False)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        score = (images * self.w).sum(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(score), score], dim=1)


@pytest.fixture
def photo() -> Tensor:
    """(1, 3, 6, 8), float32: not square, and 48 pixels that 7 does not divide."""
    return torch.randn(1, 3, 6, 8, generator=drawing(2))


@pytest.fixture
def net() -> nn.Module:
    """A float32 TinyConvNet."""
    with torch.random.fork_rng():
        torch.manual_seed(seeded(7))
        return TinyConvNet().eval()


@pytest.fixture
def lesson(request: pytest.FixtureRequest) -> ModuleType:
    """The lesson or part that a test with points is about: the student's when a submission is graded, else ours."""
    return grading.lesson_for(request.node)


@pytest.fixture
def lesson_text(request: pytest.FixtureRequest) -> str:
    """The text of that lesson, for its questions. Nothing of it is run."""
    return grading.text_for(request.node)


@pytest.fixture
def tiny() -> nn.Module:
    """A float64 TinyConvNet in eval mode with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seeded(7))
        return TinyConvNet().double().eval()


@pytest.fixture
def linear() -> nn.Module:
    """S_c(x) = w_c . x + b_c on 3 x 2 x 4 images, three classes, float64."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(24, 3)).double().eval()
    with torch.no_grad():
        model[1].weight.copy_((torch.linspace(-2, 3, 72).reshape(3, 24) + seeded(0) % 1000).cos())
        model[1].bias.copy_(factor(1) * torch.tensor([0.5, -1.0, 2.0]))
    return model


@pytest.fixture
def small_images() -> Tensor:
    """Three different non-square images, (3, 3, 7, 9), float64, with different value ranges."""
    generator = drawing(3)
    images = torch.randn(3, 3, 7, 9, generator=generator, dtype=torch.float64)
    return images * torch.tensor([0.5, 1.0, 3.0])[:, None, None, None]


@pytest.fixture(scope="session")
def squeezenet() -> nn.Module:
    """The embedded SqueezeNet as load_model prepares it."""
    return load_model("squeezenet1_1")


@pytest.fixture(scope="session")
def resnet() -> nn.Module:
    """The embedded ResNet-50 as load_model prepares it."""
    return load_model("resnet50")


@pytest.fixture(scope="session")
def photos() -> Tensor:
    """Dog and bird, (2, 3, 224, 224)."""
    return torch.cat([preprocess_image(load_image(name)) for name in ("dog.jpg", "bird.jpg")])


@pytest.fixture
def picture() -> Image.Image:
    """60 x 40 pixels of smooth colour."""
    y, x = np.mgrid[0:40, 0:60]
    return Image.fromarray(np.stack([4 * x, 6 * y, 2 * x + 3 * y], axis=2).astype(np.uint8))


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    """No test leaves open figures to the next."""
    yield
    plt.close("all")


@pytest.fixture(scope="session")
def dog() -> Image.Image:
    """The photograph before preprocessing."""
    return load_image("dog.jpg")


@pytest.fixture
def bump() -> Tensor:
    """A non-negative (224, 224) map."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 224), torch.linspace(-1, 1, 224), indexing="ij")
    return torch.exp(-4 * (x - 0.3) ** 2 - 6 * y**2)


def run_script(name: str, *options: str, root: Path = PROJECT_ROOT) -> int:
    """Run a lesson or part as a program, and give its exit status.

    In this process: importing torch anew for each test would take minutes.
    """
    before = sys.argv, sys.excepthook
    sys.argv = [name, *options]
    try:
        runpy.run_path(str(root / f"{lesson_path(name)}.py"), run_name="__main__")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except Exception as error:
        sys.excepthook(type(error), error, error.__traceback__)
        return 1
    finally:
        sys.argv, sys.excepthook = before
        plt.close("all")
    return 0


def hook_count(model: nn.Module) -> int:
    """How many forward and backward hooks the model's modules carry."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)


@contextmanager
def unchanged(model: nn.Module, images: Tensor) -> Iterator[None]:
    """Assert that model, images and the global random state are afterwards exactly as before."""
    before = copy.deepcopy(model.state_dict())
    flags = [(module.training, getattr(module, "inplace", None)) for module in model.modules()]
    modules = [(name, id(module)) for name, module in model.named_modules()]
    frozen = [parameter.requires_grad for parameter in model.parameters()]
    pixels, wants_grad = images.detach().clone(), images.requires_grad
    hooks, random_state, grad_mode = hook_count(model), torch.get_rng_state(), torch.is_grad_enabled()
    with changes_seen():
        yield
        after = model.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before), "parameters or buffers changed"
        assert flags == [(module.training, getattr(module, "inplace", None)) for module in model.modules()]
        assert modules == [(name, id(module)) for name, module in model.named_modules()], "modules were exchanged"
        assert frozen == [parameter.requires_grad for parameter in model.parameters()]
        assert all(parameter.grad is None for parameter in model.parameters()), ".grad was written"
        assert hook_count(model) == hooks, "hooks were left behind"
        assert torch.equal(pixels, images.detach()), "the images were modified"
        assert images.requires_grad == wants_grad
        assert images.grad is None, ".grad of the images was written"
        assert torch.equal(random_state, torch.get_rng_state()), "the global random state moved"
        assert torch.is_grad_enabled() == grad_mode


@contextmanager
def kept(*tensors: Tensor) -> Iterator[None]:
    """Assert that arguments which are no network and no images are afterwards as before."""
    before = [tensor.clone() for tensor in tensors]
    with changes_seen():
        yield
        assert all(torch.equal(*pair) for pair in zip(tensors, before, strict=True)), "an argument was modified"


def assert_leaves_no_trace(method: Callable, model: nn.Module, images: Tensor) -> None:
    """Success, a wrong target, and a forward pass that raises: each leaves everything as it was."""
    with unchanged(model, images):
        assert not method(model, images).requires_grad
    with unchanged(model, images), pytest.raises(ValueError, match="target"):
        method(model, images, 10**6)
    broken = Broken(model)
    with unchanged(broken, images), pytest.raises(RuntimeError, match="broken on purpose"):
        method(broken, images, 0)
    expected = method(model, images)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode(), unchanged(model, images):
            torch.testing.assert_close(method(model, images), expected)


def assert_common_contract(method: Callable, model: nn.Module, images: Tensor, classes: int = 3) -> None:
    """Batch = singles, targets of every form, dtype and detachment, refusals, for any (B, C, H, W) method.

    `images` is a batch of three or more, so that mixed-up or ignored items show.
    """
    labels = [i % classes for i in range(len(images))]
    batch = method(model, images, labels)
    assert batch.dtype == images.dtype
    assert batch.shape[0] == len(images)
    assert not batch.requires_grad
    singles = torch.cat([method(model, images[i : i + 1], labels[i]) for i in range(len(images))])
    torch.testing.assert_close(batch, singles)
    torch.testing.assert_close(method(model, images, torch.tensor(labels)), batch)
    with torch.no_grad():
        top = model(images).argmax(dim=1)
    torch.testing.assert_close(method(model, images), method(model, images, top))
    torch.testing.assert_close(method(model, images, 1), method(model, images, [1] * len(images)))
    too_many = torch.zeros(len(images) + 1, dtype=torch.long)
    for wrong in ([0] * (len(images) - 1), [0], too_many, classes, -1, "dog", 1.5):
        with pytest.raises(ValueError, match="target"):
            method(model, images, wrong)
    for wrong_images in (images[0], images.long(), images * float("nan")):
        with pytest.raises(ValueError, match="images"):
            method(model, wrong_images, 0)
    part = next(module for module in model.modules() if not list(module.children()))
    part.train()
    with pytest.raises(ValueError, match=r"eval\(\)"):
        method(model, images, 0)
    part.eval()


def relative_error(first: Tensor, second: Tensor) -> float:
    """Largest difference as a share of the second map's largest absolute value."""
    return ((first - second).abs().max() / second.abs().max()).item()


NEAR = {torch.float32: {"rtol": 1.3e-6, "atol": 1e-5}, torch.float64: {"rtol": 1e-7, "atol": 1e-7}}  # PyTorch's own


def assert_tensor(actual: object, expected: Tensor, **tolerances: float) -> None:
    """A plain tensor of that shape, dtype and value. A subclass could answer every question about itself."""
    if isinstance(actual, tuple) and len(actual) == 2 and all(type(part) is Tensor for part in actual):
        raise AssertionError("got two tensors where one belongs; .max(dim=...) returns .values and .indices")
    assert type(actual) is Tensor, f"got a {type(actual).__name__} where a Tensor belongs"
    assert actual.shape == expected.shape, f"the shape is {tuple(actual.shape)}, not {tuple(expected.shape)}"
    assert actual.dtype == expected.dtype, f"the dtype is {actual.dtype}, not {expected.dtype}"
    near = tolerances or NEAR.get(expected.dtype, {"rtol": 0, "atol": 0})
    try:
        torch.testing.assert_close(actual, expected, **near)
    except AssertionError:
        raise AssertionError(how_far(actual.detach(), expected.detach(), **near)) from None


def how_far(actual: Tensor, expected: Tensor, rtol: float, atol: float) -> str:
    """How wrong a tensor is, and where, without the right values. Counted is what lies outside the tolerances."""
    off = ~torch.isclose(actual, expected, rtol, atol)
    actual, expected = actual.double(), expected.double()
    if actual.isnan().any() and not expected.isnan().any():
        return f"{actual.isnan().sum()} of {actual.numel()} values are NaN"
    error, size = off * (actual - expected).abs().nan_to_num(), expected.abs().max().item()
    place = tuple(int(i) for i in torch.unravel_index(error.argmax(), error.shape))
    where = f", at place {place}" if place else ""
    text = f"{off.sum()} of {error.numel()} values are off, by {error.max():.3g} at most{where}"
    factor = (actual * expected).sum() / expected.square().sum()
    if not actual.any():
        return f"{text}; all of yours are 0"
    if size and abs(factor - 1) > 1e-3 and torch.allclose(actual, factor * expected, rtol=1e-4, atol=1e-6 * size):
        return f"{text}; all of yours are {factor:.4g} times as large as they should be"
    if (actual * expected < 0).any() and torch.allclose(actual.abs(), expected.abs(), rtol=1e-4, atol=1e-6 * size):
        return f"{text}; only signs are wrong"
    return f"{text}; the right ones go up to {size:.3g} in absolute value"
