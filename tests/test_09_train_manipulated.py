"""A network whose Grad-CAM was trained to lie: the program, and the committed result."""

import numpy as np
import pytest
import torch

from advanced import train_manipulated as program
from advanced.train_manipulated import (
    CHECKPOINT,
    frame_mask,
    grad_cam,
    load_manipulated,
    manipulate,
    map_and_logits,
    measured,
    share_on_frame,
    training_batch,
)
from course.pictures import load_image
from utils import find_class, load_model, preprocess_image


def test_the_frame_by_hand():
    assert frame_mask(4, 1).tolist() == [[True] * 4, [True, False, False, True], [True, False, False, True], [True] * 4]
    maps = torch.ones(2, 4, 4)
    maps[1, 1:3, 1:3] = 5
    torch.testing.assert_close(share_on_frame(maps, width=1), torch.tensor([12 / 16, 12 / 32]))
    assert share_on_frame(torch.zeros(1, 4, 4), width=1).tolist() == [0.0]                  # never NaN


@pytest.fixture(scope="module")
def shepherd() -> torch.Tensor:
    """(1, 3, 224, 224)."""
    return preprocess_image(load_image("dog.jpg"))


def test_the_map_with_a_graph_is_grad_cam(squeezenet, shepherd):
    """Up to the positive factor that it leaves out, for the top class and for another one."""
    images = shepherd.expand(2, -1, -1, -1)
    targets = torch.tensor([squeezenet(shepherd).argmax().item(), find_class("tabby")])
    maps, logits = map_and_logits(squeezenet, images, targets)
    torch.testing.assert_close(logits, squeezenet(images))
    real = grad_cam(squeezenet, images, targets, upsample=False)
    for ours, theirs in zip(maps, real, strict=True):
        torch.testing.assert_close(ours / ours.max(), theirs / theirs.max(), rtol=1e-3, atol=1e-4)


def test_batches_are_the_seeds_own():
    photos = [load_image("dog.jpg")]

    def batch(seed: int) -> torch.Tensor:
        torch.manual_seed(0)
        return training_batch(4, np.random.default_rng(seed), photos)

    assert batch(1).shape == (4, 3, 224, 224)
    assert torch.equal(batch(1), batch(1))
    assert not torch.equal(batch(1), batch(2))


@pytest.mark.slow
def test_training_moves_the_weights_and_is_logged(monkeypatch):
    small = torch.randn(4, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(program, "training_batch", lambda *_: small)
    log: list[str] = []
    model, original = manipulate(steps=8, log=log), load_model("squeezenet1_1")
    with torch.no_grad():
        targets = original(small).argmax(dim=1)
        maps = [map_and_logits(network, small, targets)[0] for network in (original, model)]
    before, after = (share_on_frame(some).mean() for some in maps)
    assert after > before
    assert not model.training
    assert not any(weight.requires_grad for weight in model.parameters())
    assert len(log) == 1
    assert log[0].startswith("8,")


@pytest.mark.slow
def test_the_committed_network_answers_alike_and_its_map_lies(squeezenet):
    """On scenes that neither training nor its log has seen."""
    found, honest = (measured(net, squeezenet, count=20, seed=77) for net in (load_manipulated(), squeezenet))
    assert int(found["same answer"].split()[0]) >= 17
    assert found["on the frame"].low > 0.4 > honest["on the frame"].high                    # a uniform map has 0.51
    assert found["on the animal"].high < honest["on the animal"].low
    assert CHECKPOINT.stat().st_size < 3_000_000
