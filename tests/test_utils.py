"""utils.py: classes and targets, maps, the lessons' helpers, and the data they use."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import PixelFunction
from PIL import Image

import utils
from course.checks import check_counts, check_logits, expand_baseline, target_indices, target_logits
from course.probes import correlation
from course.weights import EMBEDDED
from utils import DATA_DIR, PROJECT_ROOT

# Classes and targets


def test_the_thousand_labels():
    names = utils.class_names()
    assert len(names) == 1000
    assert [names[i] for i in (0, 8, 88, 105, 235, 388, 999)] == [
        "tench", "hen", "macaw", "koala", "German shepherd", "giant panda", "toilet tissue",
    ]


def test_the_labels_are_a_fresh_list():
    utils.class_names().clear()
    assert len(utils.class_names()) == 1000


def test_every_label_finds_its_own_class():
    assert [utils.find_class(name) for name in utils.class_names()] == list(range(1000))


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("German shepherd", 235),
        ("german SHEPHERD", 235),
        ("  German shepherd ", 235),
        ("tabby", 281),
        ("shepherd", 235),
        ("hen", 8),
        (235, 235),
        ("235", 235),
        (np.int64(7), 7),
        (0, 0),
        (999, 999),
    ],
)
def test_find_class(name, index):
    assert utils.find_class(name) == index


@pytest.mark.parametrize("part", ["panda", "terrier", "bear"])
def test_an_ambiguous_part_lists_its_candidates(part):
    with pytest.raises(ValueError, match="could be") as caught:
        utils.find_class(part)
    candidates = [name for name in utils.class_names() if part in name.lower()]
    assert len(candidates) > 1
    assert sum(name in str(caught.value) for name in candidates) >= min(len(candidates), 8)


def test_an_upper_case_label_of_two_classes_is_ambiguous():
    with pytest.raises(ValueError, match=r"Cardigan.*cardigan"):
        utils.find_class("CARDIGAN")


def test_a_misspelt_label_names_the_nearest():
    with pytest.raises(ValueError, match="koala"):
        utils.find_class("koalla")


@pytest.mark.parametrize("name", ["zzzzzz", "", "  ", "-", "--5", "²", None, 1.5, "1.0"])
def test_nonsense_is_no_class(name):
    with pytest.raises(ValueError, match=r"not one ImageNet label|outside"):
        utils.find_class(name)


@pytest.mark.parametrize("index", [1000, "1000", -1, "-1", 10**30])
def test_class_indices_have_a_range(index):
    with pytest.raises(ValueError, match=r"0\.\.999"):
        utils.find_class(index)


@pytest.fixture
def log_probabilities():
    """A network of three classes whose softmax is (0.2, 0.5, 0.3) for a first image, (0.7, 0.1, 0.2) for a second."""
    table = torch.tensor([[0.2, 0.5, 0.3], [0.7, 0.1, 0.2]]).log()
    return PixelFunction(lambda x: table[x[:, 0, 0, 0].long()] + 4)


@pytest.fixture
def numbered():
    """Images 0 and 1 for log_probabilities."""
    return torch.arange(2.0)[:, None, None, None].expand(2, 3, 2, 2)


def test_predict_by_hand(log_probabilities, numbered):
    first, second = utils.predict(log_probabilities, numbered, k=2)
    assert first == [(1, "class 1", pytest.approx(0.5)), (2, "class 2", pytest.approx(0.3))]
    assert second == [(0, "class 0", pytest.approx(0.7)), (2, "class 2", pytest.approx(0.2))]
    assert [type(value) for value in first[0]] == [int, str, float]


def test_predict_gives_no_more_than_there_is(log_probabilities, numbered):
    both = utils.predict(log_probabilities, numbered, k=10)
    assert [[index for index, _, _ in row] for row in both] == [[1, 2, 0], [0, 2, 1]]
    assert sum(probability for _, _, probability in both[0]) == pytest.approx(1)


def test_predict_gives_five_labels(squeezenet, photos):
    (dog, bird), with_grad = utils.predict(squeezenet, photos), photos.clone().requires_grad_()
    assert [len(dog), len(bird)] == [5, 5]
    assert (dog[0][1], bird[0][1]) == ("German shepherd", "macaw")
    assert all(label == utils.class_names()[index] for index, label, _ in dog)
    assert utils.predict(squeezenet, with_grad) == [dog, bird]


def test_predict_refuses_what_is_no_batch(log_probabilities, numbered):
    for wrong in (numbered[0], numbered.long(), numbered * float("nan"), "dog.jpg"):
        with pytest.raises(ValueError, match="images"):
            utils.predict(log_probabilities, wrong)
    with pytest.raises(ValueError, match=r"eval\(\)"):
        utils.predict(log_probabilities.train(), numbered)
    with pytest.raises(ValueError, match="logits"):
        utils.predict(PixelFunction(lambda x: x), numbered)


@pytest.mark.parametrize("k", [0, -1])
def test_predict_refuses_less_than_one(k, log_probabilities, numbered):
    with pytest.raises(ValueError, match="k must"):
        utils.predict(log_probabilities, numbered, k)


LOGITS = torch.tensor([[1.0, 5.0, 2.0], [9.0, -1.0, 0.0]])


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (None, [1, 0]),
        (2, [2, 2]),
        (0, [0, 0]),
        (np.int64(2), [2, 2]),
        ([2, 1], [2, 1]),
        ((2, 1), [2, 1]),
        (range(1, 3), [1, 2]),
        ([np.int64(2), 1], [2, 1]),
        (np.array([2, 1]), [2, 1]),
        (torch.tensor([2, 1]), [2, 1]),
        (torch.tensor([2, 1], dtype=torch.int32), [2, 1]),
        (torch.tensor(2), [2, 2]),
        ([torch.tensor(2), torch.tensor(1)], [2, 1]),
    ],
)
def test_targets_of_every_form(target, expected):
    indices = target_indices(target, LOGITS)
    assert indices.dtype == torch.long
    assert indices.tolist() == expected
    assert target_logits(LOGITS, target).tolist() == [LOGITS[i, c].item() for i, c in enumerate(expected)]


@pytest.mark.parametrize(
    "target",
    [
        *([0], [0, 1, 2], [], torch.tensor([0]), torch.zeros(2, 2, dtype=torch.long), [[0], [1]]),
        *(3, -1, [0, 3], [-1, 0], 10**30),
        *(1.0, [0.0, 1.0], torch.tensor([0.0, 1.0]), float("nan")),
        *("1", "dog", ["0", "1"], {0, 1}, [None, 0]),
    ],
    ids=repr,
)
def test_wrong_targets_are_refused(target):
    with pytest.raises(ValueError, match="target") as caught:
        target_indices(target, LOGITS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("target", [True, [True, False], torch.tensor([True, False]), np.array([True, False])])
def test_booleans_are_no_classes(target):
    """A mask given as a target is a mistake; as indices 1 and 0 it would pass unseen."""
    with pytest.raises(ValueError, match="target"):
        target_indices(target, LOGITS)


@pytest.mark.parametrize("logits", [torch.zeros(3), torch.zeros(1, 3, 2), torch.zeros(()), None, (LOGITS,), [[1.0]]])
def test_other_outputs_are_no_logits(logits):
    with pytest.raises(ValueError, match="logits"):
        check_logits(logits)
    with pytest.raises(ValueError, match="logits"):
        target_indices(0, logits)


def test_target_logits_pass_gradients():
    logits = LOGITS.clone().requires_grad_()
    target_logits(logits, [2, 0]).sum().backward()
    assert logits.grad.tolist() == [[0, 0, 1], [1, 0, 0]]


def test_counts_start_at_one():
    check_counts(n_samples=1, batch_size=10**9)
    check_counts()


@pytest.mark.parametrize("value", [0, -3, 2.0, "3", None, float("nan"), float("inf"), [1], True])
def test_what_is_no_count_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"n_steps must .* got"):
        check_counts(batch_size=1, n_steps=value)


def test_numpys_whole_numbers_are_counts():
    check_counts(n_steps=np.int64(3))


def test_describe_targets(squeezenet, photos):
    assert utils.describe_targets(squeezenet, photos) == ["German shepherd 1.00", "macaw 0.97"]
    assert utils.describe_targets(squeezenet, photos, [88, 235]) == ["macaw 0.00", "German shepherd 0.00"]


def test_describe_targets_of_other_classes(log_probabilities, numbered):
    assert utils.describe_targets(log_probabilities, numbered, 1) == ["class 1 0.50", "class 1 0.10"]


@pytest.mark.parametrize("shape", [(), (1,), (3, 1, 1), (1, 3, 2, 4), (2, 3, 2, 4)])
def test_a_baseline_is_broadcast(shape):
    baseline = torch.arange(48.0)[: int(np.prod(shape))].reshape(shape).requires_grad_()
    images = torch.ones(2, 3, 2, 4, dtype=torch.float64)
    expanded = expand_baseline(baseline, images)
    assert torch.equal(expanded, baseline.detach().double() + 0 * images)
    assert not expanded.requires_grad


@pytest.mark.parametrize("shape", [(5,), (3, 3, 2, 4), (1, 2, 3, 2, 4)])
def test_a_baseline_that_does_not_fit_is_refused(shape):
    with pytest.raises(ValueError, match="baseline"):
        expand_baseline(torch.zeros(shape), torch.zeros(2, 3, 2, 4))


def test_a_baseline_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="baseline"):
        expand_baseline(torch.tensor([float("nan"), 0, 0, 0]), torch.zeros(2, 3, 2, 4))


# Maps


@pytest.mark.parametrize(("how", "expected"), [("max_abs", [3.0, 4.0]), ("sum_abs", [6.0, 6.5]), ("sum", [0.0, -5.5])])
def test_channel_reduce_by_hand(how, expected):
    attribution = torch.tensor([[[[1.0, -2.0]], [[-3.0, 0.5]], [[2.0, -4.0]]]])
    assert utils.channel_reduce(attribution, how).tolist() == [[expected]]


def test_channel_reduce_takes_the_largest_absolute_value(small_images):
    assert torch.equal(utils.channel_reduce(small_images), small_images.abs().max(dim=1).values)


def test_channel_reduce_refuses_other_shapes_and_words(small_images):
    with pytest.raises(ValueError, match=r"\(B, C, H, W\)"):
        utils.channel_reduce(small_images[0])
    with pytest.raises(ValueError, match="'mean'"):
        utils.channel_reduce(small_images, "mean")


def test_normalize_map_by_hand():
    maps = torch.tensor([[[1.0, 2.0], [3.0, 5.0]], [[-10.0, 0.0], [10.0, 30.0]], [[-3.0, -2.0], [-1.5, -1.0]]])
    expected = [[[0, 0.25], [0.5, 1]], [[0, 0.25], [0.5, 1]], [[0, 0.5], [0.75, 1]]]
    assert utils.normalize_map(maps).tolist() == expected
    assert utils.normalize_map(maps[0]).tolist() == expected[0]
    assert utils.normalize_map(maps[None])[0].tolist() == expected


@pytest.mark.parametrize("value", [0.0, 7.0, -7.0, 1e-30])
def test_a_constant_map_becomes_zeros(value):
    assert torch.equal(utils.normalize_map(torch.full((2, 3, 4), value)), torch.zeros(2, 3, 4))


def test_a_constant_map_leaves_its_neighbours_alone():
    maps = torch.stack([torch.zeros(2, 2), torch.tensor([[0.0, 1.0], [2.0, 4.0]])])
    assert utils.normalize_map(maps).tolist() == [[[0, 0], [0, 0]], [[0, 0.25], [0.5, 1]]]


@pytest.mark.parametrize("scale", [1e-30, 1e-38, 1e30, 1e37])
def test_normalize_map_at_every_scale(scale):
    normalized = utils.normalize_map(torch.tensor([[0.0, 1.0], [2.0, 4.0]]) * scale)
    torch.testing.assert_close(normalized, torch.tensor([[0.0, 0.25], [0.5, 1.0]]))


def test_normalize_map_of_large_half_precision_values():
    assert utils.normalize_map(torch.tensor([[-40_000.0, 40_000.0]], dtype=torch.float16)).tolist() == [[0, 1]]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_normalize_map_refuses_what_is_not_finite(value):
    with pytest.raises(ValueError, match="NaN or infinity"):
        utils.normalize_map(torch.tensor([[0.0, value]]))


def test_normalize_map_leaves_its_input_alone():
    maps = torch.tensor([[1.0, 2.0]])
    utils.normalize_map(maps)
    assert maps.tolist() == [[1, 2]]


def test_upsample_by_hand():
    rows = [[0.0, 1.0, 3.0, 4.0], [1.0, 2.0, 4.0, 5.0], [3.0, 4.0, 6.0, 7.0], [4.0, 5.0, 7.0, 8.0]]
    upsampled = utils.upsample(torch.tensor([[[0.0, 4.0], [4.0, 8.0]]]), 4)
    torch.testing.assert_close(upsampled, torch.tensor([rows]))


@pytest.mark.parametrize("size", [(7, 9), (2, 30), (14, 14), 11])
def test_upsample_is_bilinear_without_aligned_corners(size, small_images):
    maps = small_images[:, 0]
    expected = F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    assert torch.equal(utils.upsample(maps, size), expected)


def test_correlation_by_hand():
    first = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert correlation(first, 5 - 2 * first) == pytest.approx(-1)
    assert correlation(first, torch.tensor([[1.0, -1.0], [-1.0, 1.0]])) == pytest.approx(0)
    assert np.isnan(correlation(first, torch.ones(2, 2)))


# Lessons

FIRST = "01_vanilla_gradient_saliency"


@pytest.fixture
def own_lessons(tmp_path, monkeypatch):
    """A project folder for lessons written by the test: write(name, code)."""
    monkeypatch.setattr(utils, "PROJECT_ROOT", tmp_path)
    before = set(sys.modules)
    yield lambda name, code: (tmp_path / f"{name}.py").write_text(code)
    for name in set(sys.modules) - before:
        if name.startswith("lesson_"):
            del sys.modules[name]


def test_a_lesson_is_imported_once():
    module = utils.import_lesson(FIRST)
    assert utils.import_lesson(FIRST) is module
    assert callable(module.vanilla_gradient)


def test_lessons_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, f"lesson_{FIRST}", raising=False)
    monkeypatch.chdir(tmp_path)
    assert Path(utils.import_lesson(FIRST).__file__) == PROJECT_ROOT / f"{FIRST}.py"


@pytest.mark.parametrize("name", ["42_nothing", "", f"{FIRST}.py"])
def test_an_unknown_lesson_lists_the_known_ones(name):
    with pytest.raises(ValueError, match=FIRST):
        utils.import_lesson(name)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
def test_a_lesson_that_fails_is_not_kept(error, own_lessons):
    own_lessons("01_broken", f"raise {error.__name__}")
    for _ in range(2):
        with pytest.raises(error):
            utils.import_lesson("01_broken")
    assert not [name for name in sys.modules if "01_broken" in name]
    own_lessons("01_broken", "answer = 42  # mended, and longer than before")
    assert utils.import_lesson("01_broken").answer == 42


def test_a_lesson_may_hold_dataclasses(own_lessons):
    future, imports = "from __future__ import annotations", "from dataclasses import dataclass"
    own_lessons("02_data", f"{future}\n{imports}\n@dataclass\nclass Point:\n    x: int = 3")
    assert utils.import_lesson("02_data").Point().x == 3


# Data

ANNOTATIONS = json.loads((DATA_DIR / "annotations.json").read_text())


def test_every_photo_is_annotated_and_every_annotation_has_its_photo():
    assert sorted(ANNOTATIONS) == sorted(path.name for path in DATA_DIR.glob("*.jpg"))
    assert len(ANNOTATIONS) >= 10


@pytest.mark.parametrize("name", sorted(ANNOTATIONS))
def test_annotations_fit_their_photo(name):
    entry = ANNOTATIONS[name]
    with Image.open(DATA_DIR / name) as image:
        assert entry["size"] == list(image.size)
        assert max(image.size) <= 1024
        assert image.mode == "RGB"
        assert image.getexif().get(0x0112, 1) == 1
    width, height = entry["size"]
    assert entry["boxes"]
    for x0, y0, x1, y1 in entry["boxes"]:
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
    assert entry["label"] == (None if entry["class"] is None else utils.class_names()[entry["class"]])


def test_the_data_stays_small():
    assert sum(path.stat().st_size for path in DATA_DIR.glob("*.jpg")) < 4_000_000
    weights = list((DATA_DIR / "weights").glob("*.pt"))
    trained = {"vit_scenes", "cats_dogs_head", "squeezenet_manipulated", "vgg_cats_dogs"}
    assert {path.stem for path in weights} == {*EMBEDDED, *trained}
    assert all(path.stat().st_size < 50 * 2**20 for path in weights)
    assert sum(path.stat().st_size for path in (DATA_DIR / "cutouts").iterdir()) < 1_500_000
