"""Checkpoints of networks that were trained here."""

import hashlib

import pytest
import torch
from torch import nn

from course.checkpoints import packed, read_checkpoint, unpacked, write_checkpoint


@pytest.fixture
def layer() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(3, 2)


def test_weights_come_back_to_half_precision(layer):
    again = unpacked(packed(layer))
    assert set(again) == {"weight", "bias"}
    for name, tensor in layer.state_dict().items():
        assert again[name].dtype == torch.float32
        assert torch.equal(again[name], tensor.half().float())


def test_the_log_holds_notes_and_hash(layer, tmp_path):
    file, data = tmp_path / "net.pt", packed(layer)
    write_checkpoint(file, data, ["made by: a test"], "step,loss", ["1,0.5"])
    digest = hashlib.sha256(data).hexdigest()
    assert (tmp_path / "net.csv").read_text() == f"# made by: a test\n# sha256 {digest}\nstep,loss\n1,0.5\n"
    assert torch.equal(read_checkpoint(file, "train")["weight"], layer.weight.half().float())


@pytest.mark.parametrize("damage", ["shorter", "no log", "another log", "no file"])
def test_damage_is_told_in_one_sentence(layer, tmp_path, damage):
    file = tmp_path / "net.pt"
    write_checkpoint(file, packed(layer), [], "step", [])
    if damage == "shorter":
        file.write_bytes(file.read_bytes()[:-1])
    elif damage == "another log":
        (tmp_path / "net.csv").write_text("# sha256 0123\n")
    else:
        (file if damage == "no file" else tmp_path / "net.csv").unlink()
    with pytest.raises(RuntimeError, match=r"net\.pt or net\.csv .*git checkout.*or train anew with `train it`"):
        read_checkpoint(file, "train it")
