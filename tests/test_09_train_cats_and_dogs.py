"""The program that trains a classifier with a map built in."""

import copy

import pytest
import torch
import torch.nn.functional as F
from conftest import run_script
from torch import Tensor, nn

from advanced import train_cats_and_dogs as lesson
from advanced.your_own_network import CamClassifier
from utils import load_image, preprocess_image


@pytest.fixture(scope="module")
def small_classifier() -> CamClassifier:
    return CamClassifier("squeezenet1_1", 3)


def test_fit_head_by_hand():
    """Two clouds on a line: the boundary lies between their means, whatever the scale and offset of the feature."""
    x = torch.tensor([[1.0], [2.0], [3.0], [7.0], [8.0], [9.0]]) * 100 + 1000
    fc = nn.Linear(1, 2)
    lesson.fit_head(fc, x, torch.tensor([0, 0, 0, 1, 1, 1]))
    difference = fc(torch.tensor([[1500.0]]))[0].diff().item()
    assert difference == pytest.approx(0, abs=1e-2)
    assert fc(x).argmax(dim=1).tolist() == [0, 0, 0, 1, 1, 1]


def test_fit_head_minimises_its_loss():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(60, 5, generator=generator), torch.arange(60) % 3
    x += y[:, None] * torch.tensor([1.0, 0, 0, -1, 0])
    fc = nn.Linear(5, 3)
    lesson.fit_head(fc, x, y, decay=0.05)
    scale = x.std(dim=0) + 1e-6

    def loss(weight: Tensor) -> Tensor:
        return F.cross_entropy(x @ weight.T + fc.bias, y) + 0.05 * (weight * scale).square().sum() / 2

    weight = fc.weight.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(weight), weight)
    assert gradient.abs().max() < 1e-3


@pytest.fixture
def two_folders(tmp_path):
    """apes/ and birds/ with three crops of a photograph each."""
    for name, photo in (("apes", "panda.jpg"), ("birds", "bird.jpg")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(3):
            load_image(photo).crop((10 * i, 0, 500 + 10 * i, 500)).save(tmp_path / "data" / name / f"{i}.png")
    return tmp_path / "data"


def test_train_head_on_a_folder(two_folders, tmp_path, monkeypatch):
    model, classes = lesson.train_head(two_folders, "squeezenet1_1", tmp_path / "cache")
    assert classes == ["apes", "birds"]
    images = torch.cat([preprocess_image(load_image(name)) for name in ("panda.jpg", "bird.jpg")])
    assert model(images).argmax(dim=1).tolist() == [0, 1]
    files, labels, _ = lesson.image_folder(two_folders)
    assert lesson.confusion(model, files, labels).tolist() == [[3, 0], [0, 3]]
    monkeypatch.setattr(lesson, "load_image", None)                    # features come from the cache now
    again, _ = lesson.train_head(two_folders, "squeezenet1_1", tmp_path / "cache")
    torch.testing.assert_close(again.fc.weight, model.fc.weight)


def test_finetune_moves_the_last_block_only(two_folders, small_classifier):
    model = copy.deepcopy(small_classifier)
    model.fc = nn.Linear(512, 2).requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    files, labels, _ = lesson.image_folder(two_folders)
    lesson.finetune(model, files, labels, epochs=1)
    moved = {key.rpartition(".")[0].split(".")[1] for key, value in model.state_dict().items()
             if not torch.equal(value, before[key]) and key.startswith("features")}  # fmt: skip
    assert moved == {"12"}
    assert not torch.equal(model.fc.weight, before["fc.weight"])
    assert all(p.grad is None and not p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("folder", ["nowhere", "empty"])
def test_folders_without_classes_are_refused(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="subfolder"):
        lesson.image_folder(tmp_path / folder)


@pytest.fixture
def course_of_animals(two_folders, tmp_path):
    """train/ and test/ with apes/ and birds/ each."""
    for part in ("train", "test"):
        (tmp_path / "course" / part).parent.mkdir(exist_ok=True)
        (tmp_path / "course" / part).symlink_to(two_folders)
    return tmp_path / "course"


@pytest.mark.slow
@pytest.mark.parametrize("command", [
    ["advanced.train_cats_and_dogs", "{}"], ["09_advanced_techniques", "--cats-and-dogs", "{}"],
    ["09_advanced_techniques", "--cats-and-dogs={}"], ["09_advanced_techniques", "train_cats_and_dogs", "{}"],
])  # fmt: skip
def test_the_program_keeps_a_head_and_says_how_good_it_is(command, course_of_animals, tmp_path, capfd):
    """Also by the command that the committed head's notes quote."""
    command = [word.format(course_of_animals) for word in command]
    options = ["--backbone", "squeezenet1_1", "--output-dir", str(tmp_path / "out")]
    assert run_script(*command, *options) == 0
    said = capfd.readouterr().out
    assert "6 of 6 test pictures right: 1.00 [0.61, 1.00] (always the most frequent class: 0.50)" in said
    file = tmp_path / "out" / "cats_dogs_head.pt"
    assert f"wrote {file};" in said
    content = torch.load(file, weights_only=True)
    assert content["classes"] == ["apes", "birds"]
    assert content["confusion"] == [[3, 0], [0, 3]]
    assert content["command"] == "python -m advanced.train_cats_and_dogs FOLDER --backbone squeezenet1_1"
    assert content["weight"].shape == (2, 512)


@pytest.mark.slow
def test_a_finetuned_network_is_not_kept(course_of_animals, tmp_path, capfd):
    options = ["--backbone", "squeezenet1_1", "--finetune", "--output-dir", str(tmp_path / "out")]
    assert run_script("advanced.train_cats_and_dogs", str(course_of_animals), *options) == 0
    assert "is not kept" in capfd.readouterr().out
    assert not list((tmp_path / "out").glob("*.pt"))


def test_failures_of_the_program(tmp_path, capfd):
    assert run_script("advanced.train_cats_and_dogs", str(tmp_path)) == 1
    assert capfd.readouterr().err.startswith(f"error: {tmp_path}/train needs a subfolder of pictures for each class")
    assert run_script("advanced.train_cats_and_dogs") == 2
    assert "FOLDER" in capfd.readouterr().err


def test_a_failed_download_is_one_sentence(tmp_path, monkeypatch):
    def refused(*_args: object, **_options: object) -> None:
        raise OSError("no route\nto host")

    monkeypatch.setattr(lesson, "OxfordIIITPet", refused)
    with pytest.raises(ConnectionError, match=r"could not be downloaded \(no route to host\)"):
        lesson.download_pets(tmp_path)


def test_downloaded_pets_are_sorted_into_folders(tmp_path, monkeypatch):
    def three_pets(_folder: object, split: str, **_options: object) -> list:
        pets = [(load_image("cat.jpg"), 0), (load_image("dog.jpg"), 1), (load_image("cat.jpg"), 0)]
        return pets[:2] if split == "test" else pets

    monkeypatch.setattr(lesson, "OxfordIIITPet", three_pets)
    lesson.download_pets(tmp_path)
    found = sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.jpg"))
    assert found == ["test/cat/00000.jpg", "test/dog/00001.jpg", "train/cat/00000.jpg", "train/cat/00002.jpg",
                     "train/dog/00001.jpg"]  # fmt: skip
