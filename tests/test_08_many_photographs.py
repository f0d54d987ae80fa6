"""Accuracy, and the published protocol, on a folder of photographs."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from conftest import PixelFunction
from PIL import Image

from evaluation import many_photographs as many
from evaluation.many_photographs import COLUMNS, COMPARED, PUBLISHED, accuracies, class_in_name, lines, measure, spread


@pytest.fixture
def folder(tmp_path):
    """Four pictures, of which the first two are redder than blue; two are named by a class."""
    for name, colour in (("0000_red.jpg", "red"), ("0001_red.png", "darkred"), ("blue.png", "blue"), ("z.png", "navy")):
        Image.new("RGB", (64, 64), colour).save(tmp_path / name)
    return tmp_path


@pytest.fixture
def networks(monkeypatch):
    """Both embedded networks of this test say class 0 for red and class 1 for blue."""
    def formula(images: torch.Tensor) -> torch.Tensor:
        return torch.stack([images[:, 0].mean(dim=(1, 2)), images[:, 2].mean(dim=(1, 2))], dim=1)

    monkeypatch.setattr(many, "EMBEDDED", {"squeezenet1_1": None, "resnet50": None})
    monkeypatch.setattr(many, "load_model", lambda name: PixelFunction(formula))
    monkeypatch.setattr(many, "METHODS", dict.fromkeys(COMPARED, lambda model, images, target: images[:, 0]))


def test_files_are_taken_evenly():
    assert spread(range(10), 5) == [0, 2, 4, 6, 8]
    assert spread(range(3), 5) == [0, 1, 2]


def test_the_class_is_in_the_name(tmp_path):
    assert class_in_name(tmp_path / "0207_golden_retriever.jpg") == 207
    assert class_in_name(tmp_path / "207 dogs.jpg") is None
    assert class_in_name(tmp_path / "dog.jpg") is None


def test_accuracy_counts_only_what_is_named_by_a_class(folder, networks, tmp_path):
    table = measure(sorted(folder.glob("*.*")), 2, tmp_path / "out" / "photographs.csv")
    right = table[table["metric"] == "right"]
    assert set(right["picture"]) == {"0000_red.jpg", "0001_red.png"}
    assert right.groupby("picture")["value"].mean().to_dict() == {"0000_red.jpg": 1, "0001_red.png": 0}
    assert "of 2: resnet50 50.0 % [" in accuracies(table)


def test_areas_are_those_of_the_curves(folder, networks, tmp_path):
    """A plain red picture: each exchanged share of it takes the logit down in proportion."""
    table = measure(sorted(folder.glob("*.*")), 4, tmp_path / "photographs.csv")
    rows = table[(table["picture"] == "0000_red.jpg") & (table["metric"] == "deletion")]
    red, blue = ((value - mean) / std for value, mean, std in ((1, 0.485, 0.229), (0, 0.406, 0.225)))
    shares = torch.arange(29, dtype=torch.float64) / 28
    curve = torch.sigmoid((1 - shares) * (red - blue))
    expected = float(torch.trapezoid(curve, dx=1 / 28))
    assert rows["value"].tolist() == pytest.approx([expected] * 3, abs=2e-3)          # JPEG's red is not quite red
    inserted = table[(table["picture"] == "0000_red.jpg") & (table["metric"] == "insertion")]["value"]
    whole = float(torch.sigmoid(torch.tensor(red - blue)))             # a blurred plain picture is the picture
    assert inserted.tolist() == pytest.approx([whole] * 3, abs=2e-3)
    misnamed = table[(table["picture"] == "0001_red.png") & (table["metric"] == "insertion")]["value"]
    assert (misnamed > 0.5).all()                                      # the network's own answer, not the name's class
    assert set(table[table["metric"] == "insertion"]["picture"]) == {file.name for file in folder.glob("*.*")
                                                                     if file.suffix != ".csv"}  # fmt: skip


def test_a_stopped_run_goes_on(folder, networks, tmp_path, monkeypatch):
    files, out = sorted(folder.glob("*.*")), tmp_path / "photographs.csv"
    first = measure(files, 2, out)
    monkeypatch.setattr(many, "deletion_curve", lambda *_: pytest.fail("measured again"))
    again = measure(files, 2, out)
    pd.testing.assert_frame_equal(again, first, check_dtype=False, rtol=1e-3)
    assert not again.duplicated(COLUMNS[:-1]).any()


def test_the_table_has_rises_numbers_and_paired_differences():
    rows = [["resnet50", f"p{i}", method, metric, base + 0.01 * i + (0.1 if method == "grad_cam" else 0)]
            for method in COMPARED for metric, base in (("deletion", 0.2), ("insertion", 0.5))
            for i in range(12)]  # fmt: skip
    found = lines(pd.DataFrame(rows, columns=COLUMNS))
    assert found[0][0] == "resnet50, n = 12"
    assert found[1] == ["Grad-CAM", "0.355", "0.10 [0.10, 0.10]", "0.655", "0.10 [0.10, 0.10]"]
    assert found[2][2] == ""
    assert found[-1][1::2] == [str(value) for value in PUBLISHED.values()]


def test_a_folder_without_pictures_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["many_photographs", str(tmp_path)])
    with pytest.raises(ValueError, match="has no pictures in it"):
        many.main()
