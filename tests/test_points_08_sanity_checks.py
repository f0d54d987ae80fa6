"""Exercise of the part on sanity checks, with its points."""

import copy

import pytest
import torch
from conftest import TinyConvNet, assert_tensor, drawing, hook_count, over_there, seeded
from torch import Tensor, nn

from course.probes import randomize

EXERCISES = {  # title, difficulty, minutes, when
    "8.7": ("From the logits down", 2, 20, "assign"),
    "8.18": ("Edges", 1, 2, "in class"),
    "8.19": ("Who passes?", 2, 3, "in class"),
}

IMAGE = torch.linspace(-2, 3, 3 * 9 * 11).sin().reshape(1, 3, 9, 11)
TARGETS = (0, 2)


def network() -> nn.Module:
    """A TinyConvNet: stages fc, conv2, conv1."""
    with torch.random.fork_rng():
        torch.manual_seed(seeded(11))
        return TinyConvNet().eval()


def weights(model: nn.Module, images: Tensor, target: int) -> Tensor:
    """A map that shows the sum of each stage's weights, in three rows, and the class."""
    sums = [part.weight.sum() for part in (model.fc, model.conv2, model.conv1)]
    map = torch.stack([*sums, torch.tensor(float(target))])[:, None].expand(4, images.shape[-1])
    return map[None].detach().clone()


def all_maps(lesson, model: nn.Module, target: int, generator: torch.Generator) -> tuple:
    """What randomized_maps yields, and what the model itself is like afterwards."""
    maps = list(lesson.randomized_maps(weights, model, IMAGE, target, generator))
    return maps, dict(model.state_dict()), [module.training for module in model.modules()], hook_count(model)


def maps_of(lesson, model: nn.Module, target: int, seed: int) -> list[tuple[str, Tensor]]:
    """The maps, made where the lesson is: its generator goes on from map to map there. The model must be as it was."""
    before = copy.deepcopy(model.state_dict())
    maps, after, training, hooks = over_there(lesson, all_maps, model, target, drawing(seed))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before), "parameters or buffers changed"
    assert not any(training), "the model was left in train mode"
    assert hooks == 0, "hooks were left behind"
    return maps


@pytest.mark.points(1, exercise="8.7")
def test_stage_by_stage_from_the_logits_down(lesson):
    """What was random stays random; what is below is as trained."""
    model = network()
    trained = weights(model, IMAGE, 1)[0]
    found = maps_of(lesson, model, 1, 5)
    assert [stage for stage, _ in found] == ["as trained", "fc", "conv2", "conv1"]
    assert_tensor(found[0][1], trained)
    for i, (_, map) in enumerate(found):
        assert [bool(map[row, 0] != trained[row, 0]) for row in range(3)] == [row < i for row in range(3)]
        if i > 1:
            assert_tensor(map[: i - 1], found[i - 1][1][: i - 1])      # not drawn again


@pytest.mark.points(1, exercise="8.7")
def test_the_models_weights_stay(lesson):
    """The first map is of the network as it is. It is a copy that forgets, stage after stage."""
    model = network()
    found = maps_of(lesson, model, 1, 5)
    assert_tensor(found[0][1], weights(model, IMAGE, 1)[0])
    assert len({map[:3].sum().item() for _, map in found}) == 4        # and yet its copy forgets


@pytest.mark.points(1, exercise="8.7")
def test_weights_come_from_the_generator_and_the_class_from_the_caller(lesson):
    """From the logits downwards, one stage after the other, all from one generator; the class stays the one given."""
    for target, seed in zip(TARGETS, (3, 4), strict=True):
        model, generator = network(), drawing(seed)
        forgetful = copy.deepcopy(model)
        expected = [weights(forgetful, IMAGE, target)[0]]
        for stage in ("fc", "conv2", "conv1"):
            randomize(forgetful.get_submodule(stage), generator)
            expected.append(weights(forgetful, IMAGE, target)[0])
        found = [map for _, map in maps_of(lesson, model, target, seed)]
        assert len(found) == 4
        for mine, theirs in zip(found, expected, strict=True):
            assert_tensor(mine, theirs)


# BEGIN KEPT BACK
QUESTIONS = {
    "8.18": {
        1: "The photograph did not change. This is the reference for a map that is not about the network.",
        0: "What would have to change for this map to change?",
        "else": "Do edges of a photograph depend on weights?",
    },
    "8.19": {
        "a": "What does noise explain?",
        "b": "A likeness of 1 is what fails this test.",
        "c": "It asks one question, and noise meets it. What does it not ask?",
        "d": "A test that noise passes best can fail a method, and cannot pass one.",
    },
}


def true_8_18(lesson) -> float:
    x = torch.arange(16.0).reshape(4, 4).sin()
    return torch.corrcoef(torch.stack([x.flatten(), x.flatten()]))[0, 1].item()


COPY = "damaged = deepcopy(model)"
FIRST = 'yield "as trained", method(damaged, image, target)[0]'
DRAW = "randomize(damaged.get_submodule(stage), generator)"

WRONG = [
    ("8.7", "nothing computed", "", 'for stage in ["as trained", *stages(model)]:\n'
     "    yield stage, torch.zeros(image.shape[-2:])"),
    ("8.7", "nothing is random", DRAW, "pass"),
    ("8.7", "the model itself", COPY, "damaged = model"),
    ("8.7", "from the first layer up", "stages(model)", "stages(model)[::-1]"),
    ("8.7", "one stage at a time", DRAW, "damaged = deepcopy(model)\n    " + DRAW),
    ("8.7", "everything at once", DRAW, "for other in stages(model):\n"
     "        randomize(damaged.get_submodule(other), generator)"),
    ("8.7", "all above drawn again", DRAW, "for other in stages(model)[: stages(model).index(stage) + 1]:\n"
     "        randomize(damaged.get_submodule(other), generator)"),
    ("8.7", "a generator of its own", "(stage), generator)", "(stage), torch.Generator().manual_seed(0))"),
    ("8.7", "maps of the trained network", "yield stage, method(damaged,", "yield stage, method(model,"),
    ("8.7", "class ignored", FIRST, 'target = int(model(image).argmax())\n' + FIRST),
    ("8.7", "without the first map", FIRST, ""),
    ("8.7", "a batch of one", "yield stage, method(damaged, image, target)[0]",
     "yield stage, method(damaged, image, target)"),
    ("8.7", "map before the drawing", DRAW + "\n    yield stage, method(damaged, image, target)[0]",
     "yield stage, method(damaged, image, target)[0]\n    " + DRAW),
    ("8.7", "only the logits", "stages(model)", "stages(model)[:1]"),
]  # fmt: skip

RIGHT = [
    ("8.7", "a list", "", 'network = deepcopy(model)\nfound = [("as trained", method(network, image, target)[0])]\n'
     "for name in stages(network):\n    randomize(dict(network.named_modules())[name], generator)\n"
     "    found.append((name, method(network, image, target)[0]))\nreturn iter(found)"),
    ("8.7", "a fresh copy of the last network", DRAW, "damaged = deepcopy(damaged)\n    " + DRAW),
]  # fmt: skip
# END KEPT BACK
