"""The small transformer's scenes, training and checkpoint."""

import hashlib
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import run_script
from torch import nn
from torchvision.models import VisionTransformer

from advanced import train_vit as lesson
from course.pictures import IMAGENET_MEAN, IMAGENET_STD
from utils import load_image


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    """The committed checkpoint."""
    return lesson.load_vit()


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
    red = images[:, 0] * IMAGENET_STD[0] + IMAGENET_MEAN[0]
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
    random = np.random.default_rng(0)
    sizes = {lesson.random_square(picture, random).size for _ in range(50)}
    assert all(width == height and 45 <= width <= 90 for width, height in sizes)
    assert len(sizes) > 10


# Training and checkpoint


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_partly_random_weights(trained):
    """New where asked for, the trained ones elsewhere; the head is not torchvision's zeros."""
    before = torch.get_rng_state()
    state, other = trained.state_dict(), lesson.partly_random(trained, ["heads", "encoder.layers.encoder_layer_4"])
    assert torch.equal(before, torch.get_rng_state())
    for key, value in other.state_dict().items():
        constant = value.std() == 0                                    # biases and layer norms begin alike
        fresh = key.startswith(("heads", "encoder.layers.encoder_layer_4"))
        assert torch.equal(value, state[key]) != fresh or constant, key
    assert other.heads.head.weight.std() > 0.05
    assert not any(module.training for module in other.modules())
    again, third = lesson.partly_random(trained, [""]), lesson.partly_random(trained, [""], seed=1)
    assert torch.equal(again.conv_proj.weight, lesson.partly_random(trained, [""]).conv_proj.weight)
    assert not torch.equal(again.conv_proj.weight, third.conv_proj.weight)


@pytest.mark.slow
@pytest.mark.parametrize("command", [["advanced.train_vit"], ["09_advanced_techniques", "--train"]])
def test_the_program_trains_and_says_where_the_checkpoint_is(command, tmp_path, capfd):
    """Also by the command that the committed log quotes."""
    file = tmp_path / "vit.pt"
    assert run_script(*command, "--steps", "2", "--scenes", "30", "--to", str(file)) == 0
    said = capfd.readouterr().out
    assert "of 30 held-out scenes right (chance 8.3%)" in said
    assert f"wrote {file}" in said
    assert lesson.COMMAND in file.with_suffix(".csv").read_text()
    assert "on 30 held-out scenes" in file.with_suffix(".csv").read_text()
    assert isinstance(lesson.load_vit(file), VisionTransformer)


@pytest.mark.parametrize("wrong", [["--steps", "many"], ["--backbone", "vgg16"]])
def test_wrong_use_of_the_program_is_2(wrong, capfd):
    assert run_script("advanced.train_vit", *wrong) == 2
    assert "usage: python -m advanced.train_vit" in capfd.readouterr().err


def test_a_failure_of_the_program_is_one_sentence(capfd):
    assert run_script("advanced.train_vit", "--steps", "0") == 1
    assert capfd.readouterr().err == "error: steps must be a whole number of at least 1, got 0\n"
