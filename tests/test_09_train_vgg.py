"""The program that trains a small VGG."""

import argparse
import math

import pytest
import torch
from PIL import Image
from torch import nn

from advanced import train_vgg as program
from advanced.train_vgg import (
    disturbed,
    folded,
    normalised,
    random_crops,
    save_vgg,
    step_loss,
    train,
)
from course.small_vgg import SmallVgg, load_vgg


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch_normed(seed: int = 0) -> SmallVgg:
    """With random weights and statistics that are not the identity."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = SmallVgg(batch_norm=True)
        for part in model.features:
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_(0, 0.1)
                part.running_var.uniform_(0.5, 2)
    return model.eval()


def test_folding_changes_nothing():
    model, images = batch_normed(), torch.randn(2, 3, 64, 64, generator=seeded())
    with torch.no_grad():
        expected = model(images)
        found = folded(model)(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in folded(batch_normed()).modules())


def test_crops_are_parts_of_their_file(tmp_path):
    for name, colour in (("a", (200, 10, 10)), ("b", (10, 200, 10))):
        Image.new("RGB", (300, 200), colour).save(tmp_path / f"{name}.png")
    crops = random_crops([tmp_path / "a.png", tmp_path / "b.png"], 2, seed=0)
    assert crops.shape == (4, 3, program.CROP, program.CROP)
    assert crops[:, :, 0, 0].tolist() == [[200, 10, 10]] * 2 + [[10, 200, 10]] * 2


def test_disturbed_crops_are_parts_with_other_colours():
    """The order of grey values along a row is kept or mirrored: only brightness, contrast and colour change."""
    ramp = torch.arange(program.CROP, dtype=torch.uint8).expand(8, 3, program.CROP, program.CROP).contiguous()
    images = disturbed(ramp, seeded())
    assert images.shape == (8, 3, program.SIDE, program.SIDE)
    steps = images[:, 0, 0].diff(dim=1)
    rising, falling = (steps > 0).all(dim=1), (steps < 0).all(dim=1)
    assert (rising | falling).all()
    assert rising.any()
    assert falling.any()
    assert torch.equal(disturbed(ramp, seeded()), images)
    smaller = disturbed(ramp, seeded(), 64)                            # the same parts, two pixels averaged
    assert smaller.shape == (8, 3, 64, 64)
    torch.testing.assert_close(smaller.mean(dim=(2, 3)), images.mean(dim=(2, 3)))


def test_the_loss_by_hand():
    """One labelled crop of two: 1 - mean cosine + half the smoothed cross entropy of that one."""
    model, to_teacher = SmallVgg().eval(), nn.Linear(256, 4)
    images, taught = torch.randn(2, 3, 64, 64, generator=seeded()), torch.randn(2, 4, generator=seeded(1)).half()
    with torch.no_grad():
        loss = step_loss(model, to_teacher, images, taught, torch.tensor([1, -1])).item()
        with torch.autocast("cpu", torch.bfloat16):
            A = model.features(images)
        pooled = A.float().mean(dim=(2, 3))
        said, p = to_teacher(pooled), model.fc(pooled).softmax(dim=1)
        cosine = ((said * taught).sum(dim=1) / said.norm(dim=1) / taught.float().norm(dim=1)).mean().item()
        entropy = -(0.05 * p[0, 0].log() + 0.95 * p[0, 1].log()).item()
        alone = step_loss(model, to_teacher, images, taught, torch.tensor([-1, -1])).item()
    assert loss == pytest.approx(1 - cosine + 0.5 * entropy, abs=1e-3)
    assert alone == pytest.approx(1 - cosine, abs=1e-3)


@pytest.mark.slow
def test_a_killed_training_goes_on(tmp_path, monkeypatch):
    """Two epochs at once, and one that is killed and continued, give the same weights."""
    crops = torch.randint(0, 256, (64, 3, program.CROP, program.CROP), generator=seeded(), dtype=torch.uint8)
    taught, labels = torch.randn(64, 2048, generator=seeded(1)).half(), torch.arange(64) % 2
    whole, _ = train(crops, taught, labels, 2, tmp_path / "whole.pt")
    real, saved = program.write, []

    def killed_after_the_first(file, fill):
        real(file, fill)
        saved.append(file)
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "write", killed_after_the_first)
    with pytest.raises(KeyboardInterrupt):
        train(crops, taught, labels, 2, tmp_path / "killed.pt")
    monkeypatch.setattr(program, "write", real)
    again, log = train(crops, taught, labels, 2, tmp_path / "killed.pt")
    assert [line.split(",")[0] for line in log] == ["1", "2"]
    for first, second in zip(whole.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(first, second)


def test_what_is_saved_is_loaded_and_damage_is_told(tmp_path, capsys):
    for part in ("cat", "dog"):
        (tmp_path / "test" / part).mkdir(parents=True)
        Image.new("RGB", (224, 224), (90, 90, 90)).save(tmp_path / "test" / part / "1.png")
    args = argparse.Namespace(folder=tmp_path, more=[], crops=1, epochs=2, seed=0, to=tmp_path / "vgg.pt")
    model, image = folded(batch_normed()), normalised(torch.full((1, 3, 64, 64), 90, dtype=torch.uint8))
    right, n = save_vgg(model, args, ["cat", "dog"], ["1,0.5,3"])
    assert (right, n) == (1, 2)                                        # it must say the same of two equal pictures
    assert "1 of 2 test pictures right" in args.to.with_suffix(".csv").read_text()
    assert torch.equal(load_vgg(args.to)(image), model(image))
    args.to.write_bytes(args.to.read_bytes()[:-1])
    with pytest.raises(RuntimeError, match=r"vgg\.pt.*git checkout"):
        load_vgg(args.to)
    assert not math.isnan(model(image).sum().item())
    capsys.readouterr()
