"""Exercises of your_own_network.py, with their points."""

from functools import partial

import pytest
import torch
from conftest import assert_tensor, drawing, over_there, seeded, unchanged
from torch import Tensor, nn

EXERCISES = {  # title, difficulty, minutes, when
    "9.7": ("Two adapters", 2, 20, "for the quick"),
    "9.8": ("Every step a module", 2, 15, "for the quick"),
    "9.18": ("A function becomes a module", 1, 3, "in class"),
    "9.19": ("A bison", 1, 3, "in class"),
}

IMAGES = torch.randn(3, 3, 6, 7, dtype=torch.float64, generator=drawing(0))


class Ages(nn.Module):
    """Two scores: the image's mean, and 10 times its age plus its number in the batch."""

    def forward(self, images: Tensor, ages: Tensor) -> Tensor:
        assert ages.shape == (len(images), 1)
        assert ages.dtype == images.dtype
        number = torch.arange(len(images), dtype=images.dtype)
        return torch.stack([images.mean(dim=(1, 2, 3)), 10 * ages[:, 0] + number], dim=1)


@pytest.mark.points(1, exercise="9.7")
def test_every_image_gets_the_age(lesson):
    """One age for the whole batch, in the images' dtype, and the pictures as they are."""
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
    """The mean over the pixels of the region, image by image, channel by channel."""
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
        torch.manual_seed(seeded(3))
        return lesson.Functional().double().eval()


def both(lesson) -> tuple[Tensor, Tensor]:
    """Logits of the rewritten network and of the network itself, which is left as it was."""
    network = functional(lesson)
    with torch.no_grad(), unchanged(network, IMAGES):
        return lesson.as_modules(network)(IMAGES), network(IMAGES)


@pytest.mark.points(1, exercise="9.8", contract=True)
def test_the_function_is_the_same(lesson):
    """ReLU as a module computes what ReLU as a function did."""
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
    found, expected = over_there(lesson, both)
    assert_tensor(found, expected)
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
    """A new module is in train mode. The network it comes into may not be."""
    assert not any(over_there(lesson, modes, False))
    assert all(over_there(lesson, modes, True))


# BEGIN KEPT BACK
QUESTIONS = {
    "9.18": {
        "a": "It is the same function of the same numbers.",
        "b": "A hook that nobody registers does nothing.",
        "c": "The function is the same. Only what hooks can see has changed.",
        "d": "Why did guided backpropagation refuse the network before?",
    },
    "9.19": {
        "a": "Who has checked that, and how?",
        "b": "Two classes and a softmax must give an answer. An exact map explains that answer, however absurd.",
        "c": "Two classes share a probability of 1. Could the network have said neither?",
        "d": "The map belongs to this picture.",
    },
}


AGES = "ages = torch.full((len(images), 1), age, dtype=images.dtype, device=images.device)"
MEAN = "return network(images)[:, :, region].mean(dim=2)"
STEPS = ("steps = network.conv1, nn.ReLU(), network.conv2, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), "
         "network.fc")  # fmt: skip
MODE = "return nn.Sequential(*steps).train(network.training)"

WRONG = [
    ("9.7", "nothing computed, ages", "return network(images, ages)", "return images.mean(dim=(2, 3))"),
    ("9.7", "nothing computed, region", MEAN, "return images.new_zeros(len(images), images.shape[1])"),
    ("9.7", "one age for the whole batch", AGES, "ages = torch.full((1, 1), age, dtype=images.dtype)"),
    ("9.7", "ages in one dimension", AGES, "ages = torch.full((len(images),), age, dtype=images.dtype)"),
    ("9.7", "ages of PyTorch's own dtype", AGES, "ages = torch.full((len(images), 1), age)"),
    ("9.7", "whole ages", AGES, "ages = torch.full((len(images), 1), int(age), dtype=images.dtype)"),
    ("9.7", "ages of 1", AGES, "ages = torch.ones(len(images), 1, dtype=images.dtype)"),
    ("9.7", "sum over the region", MEAN, "return network(images)[:, :, region].sum(dim=2)"),
    ("9.7", "maximum over the region", MEAN, "return network(images)[:, :, region].amax(dim=2)"),
    ("9.7", "divided by the whole picture", MEAN, "return (network(images) * region).mean(dim=(2, 3))"),
    ("9.7", "the region's bounding box", MEAN,
     "ys, xs = region.nonzero(as_tuple=True)\n"
     "return network(images)[:, :, ys.min() : ys.max() + 1, xs.min() : xs.max() + 1].mean(dim=(2, 3))"),
    ("9.7", "the picture masked, not its scores", MEAN, "return network(images * region).mean(dim=(2, 3))"),
    ("9.7", "mean over the images too", MEAN,
     "return network(images)[:, :, region].mean(dim=(0, 2)).expand(len(images), -1)"),
    ("9.7", "detached", MEAN, "return network(images.detach())[:, :, region].mean(dim=2)"),
    ("9.8", "nothing computed", "", "return network"),
    ("9.8", "the functional network in a box", "", "return nn.Sequential(network)"),
    ("9.8", "one ReLU forgotten", STEPS, STEPS.replace("network.conv2, nn.ReLU()", "network.conv2")),
    ("9.8", "ReLU before the convolution", STEPS,
     STEPS.replace("network.conv2, nn.ReLU()", "nn.ReLU(), network.conv2")),
    ("9.8", "maximum for the mean", STEPS, STEPS.replace("Avg", "Max")),
    ("9.8", "copies of the layers", STEPS,
     "import copy\nnetwork = copy.deepcopy(network)\n" + STEPS),
    ("9.8", "new layers", STEPS,
     STEPS.replace("network.conv1", "nn.Conv2d(3, 6, 3).to(network.conv1.weight)")),
    ("9.8", "always in train mode", MODE, "return nn.Sequential(*steps).train()"),
    ("9.8", "always in eval mode", MODE, "return nn.Sequential(*steps).eval()"),
    ("9.8", "mode forgotten", MODE, "return nn.Sequential(*steps)"),
    ("9.8", "another activation", STEPS, STEPS.replace("network.conv2, nn.ReLU()", "network.conv2, nn.ReLU6()")),
]  # fmt: skip

RIGHT = [
    ("9.7", "zeros plus the age", AGES, "ages = images.new_zeros(len(images), 1) + age"),
    ("9.7", "an average with weights", MEAN,
     "scores = network(images)\nreturn (scores * region).sum(dim=(2, 3)) / region.sum()"),
    ("9.7", "image by image", MEAN,
     "return torch.stack([torch.stack([c[region].mean() for c in scores]) for scores in network(images)])"),
    ("9.8", "names for the steps", STEPS,
     "steps = [nn.Sequential(OrderedDict(conv1=network.conv1, relu1=nn.ReLU(), conv2=network.conv2, relu2=nn.ReLU(),\n"
     "                                   pool=nn.AdaptiveAvgPool2d((1, 1)), flat=nn.Flatten(1), fc=network.fc))]"),
    ("9.8", "one ReLU used twice, in place", STEPS,
     "relu = nn.ReLU(inplace=True)\nsteps = (network.conv1, relu, network.conv2, relu, nn.AdaptiveAvgPool2d(1), "
     "nn.Flatten(), network.fc)"),
]  # fmt: skip
# END KEPT BACK
