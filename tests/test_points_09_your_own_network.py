"""Exercises of your_own_network.py, with their points."""

from functools import partial

import pytest
import torch
from conftest import assert_tensor, over_there, unchanged
from torch import Tensor, nn

IMAGES = torch.randn(3, 3, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Ages(nn.Module):
    """Two scores: the image's mean, and 10 times its age plus its number in the batch."""

    def forward(self, images: Tensor, ages: Tensor) -> Tensor:
        assert ages.shape == (len(images), 1)
        assert ages.dtype == images.dtype
        number = torch.arange(len(images), dtype=images.dtype)
        return torch.stack([images.mean(dim=(1, 2, 3)), 10 * ages[:, 0] + number], dim=1)


@pytest.mark.points(1, exercise="9.7")
def test_every_image_gets_the_age(lesson):
    for images in (IMAGES, IMAGES[:1], IMAGES.float()):
        found = lesson.with_age(Ages(), images, age=4.5)
        assert_tensor(found[:, 1], 45 + torch.arange(len(images), dtype=images.dtype))
        assert_tensor(found[:, 0], images.mean(dim=(1, 2, 3)))


@pytest.mark.points(1, exercise="9.7")
def test_mean_inside_by_loops(lesson):
    """Two classes, a region that is no rectangle."""
    region = torch.zeros(6, 7, dtype=torch.bool)
    region[0, 0] = region[2, 5] = region[5, 1] = True
    layer = nn.Conv2d(3, 2, 1).double().requires_grad_(False)
    scores, expected = layer(IMAGES), torch.zeros(3, 2, dtype=torch.float64)
    for y, x in ((0, 0), (2, 5), (5, 1)):
        expected += scores[:, :, y, x] / 3
    assert_tensor(lesson.mean_inside(layer, IMAGES, region=region), expected)


@pytest.mark.points(1, exercise="9.7")
def test_one_pixel_and_all_pixels(lesson):
    layer, region = nn.Identity(), torch.zeros(6, 7, dtype=torch.bool)
    assert_tensor(lesson.mean_inside(layer, IMAGES, region=~region), IMAGES.mean(dim=(2, 3)))
    region[3, 2] = True
    assert_tensor(lesson.mean_inside(layer, IMAGES, region=region), IMAGES[:, :, 3, 2].clone())


@pytest.mark.points(1, exercise="9.7")
def test_adapted_networks_can_be_explained(lesson):
    """The gradient of a corner's score lies in the 2 x 2 pixels that it sees; a mean's is the same everywhere."""
    corner = torch.zeros(6, 7, dtype=torch.bool)
    corner[0, 0] = True
    layer = nn.Conv2d(3, 2, 3, padding=1).double().eval()
    gradient = over_there(lesson, slope_of_a_region, layer, corner)
    assert gradient[:, :, :2, :2].abs().min() > 0
    assert gradient[:, :, 2:].abs().max() == gradient[:, :, :, 2:].abs().max() == 0
    assert_tensor(over_there(lesson, slope_of_the_mean), torch.full_like(IMAGES, 1 / 126))


def slope_of_a_region(lesson, layer: nn.Module, region: Tensor) -> Tensor:
    """Gradient of class 1's mean score inside a region."""
    x = IMAGES.clone().requires_grad_()
    model = lesson.Adapter(layer, partial(lesson.mean_inside, region=region))
    return torch.autograd.grad(model(x)[:, 1].sum(), x)[0]


def slope_of_the_mean(lesson) -> Tensor:
    """Gradient of class 0's score of the network that wants an age."""
    x = IMAGES.clone().requires_grad_()
    return torch.autograd.grad(lesson.Adapter(Ages(), partial(lesson.with_age, age=2.0))(x)[:, 0].sum(), x)[0]


def functional(lesson) -> nn.Module:
    """With fixed random weights, float64."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return lesson.Functional().double().eval()


def both(lesson) -> tuple[Tensor, Tensor]:
    """Logits of the rewritten network and of the network itself, which is left as it was."""
    network = functional(lesson)
    with torch.no_grad(), unchanged(network, IMAGES):
        return lesson.as_modules(network)(IMAGES), network(IMAGES)


@pytest.mark.points(1, exercise="9.8", contract=True)
def test_the_function_is_the_same(lesson):
    found, expected = over_there(lesson, both)
    assert_tensor(found, expected)
    assert expected.std() > 0


def inspected(lesson) -> tuple[bool, list[str], list[tuple]]:
    """Whether it is a Sequential, its parts that are not of torch.nn, and the shapes its ReLUs return."""
    network, ran = lesson.as_modules(functional(lesson)), []
    kinds = {type(part) for part in network.modules()}
    own = [kind.__name__ for kind in kinds if not kind.__module__.startswith("torch.nn.modules")]
    for part in network.modules():
        if isinstance(part, nn.ReLU):
            part.register_forward_hook(lambda layer, inputs, output: ran.append(tuple(output.shape[1:])))
    network(IMAGES)
    return isinstance(network, nn.Sequential), own, ran


@pytest.mark.points(1, exercise="9.8")
def test_every_step_is_a_module(lesson):
    """Two ReLUs, each of which runs; and no function hides in a module of the student's own."""
    sequential, own, ran = over_there(lesson, inspected)
    assert sequential, "the network belongs into an nn.Sequential"
    assert not own, f"modules of its own: {own}"
    assert ran == [(6, 4, 5), (8, 1, 2)]


def shared(lesson) -> bool:
    """Whether the rewritten network has the very parameters of the other."""
    network = functional(lesson)
    return {id(p) for p in lesson.as_modules(network).parameters()} == {id(p) for p in network.parameters()}


@pytest.mark.points(1, exercise="9.8", contract=True)
def test_the_layers_themselves(lesson):
    """A weight that is changed in one is changed in the other."""
    assert over_there(lesson, shared), "the layers were copied or made anew"


def modes(lesson, training: bool) -> list[bool]:
    """The mode of each part of a rewritten network."""
    return [part.training for part in lesson.as_modules(functional(lesson).train(training)).modules()]


@pytest.mark.points(1, exercise="9.8", contract=True)
def test_the_mode_is_the_networks(lesson):
    assert not any(over_there(lesson, modes, False))
    assert all(over_there(lesson, modes, True))
