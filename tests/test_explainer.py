"""course/explainer.py: any method on any number of pictures, batch by batch, whole or not at all."""

import copy
import functools
import gc
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count, islice
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from conftest import hook_count, relative_error, run_script, unchanged
from PIL import Image
from torch import Tensor, nn

from course import explainer
from course.explainer import ATTRIBUTIONS, ONE_PASS, Explainer, Explanation, attribution_method, in_step, in_threads
from course.figures import overlay
from utils import DATA_DIR, PROJECT_ROOT, channel_reduce, class_names, displayable, import_lesson, predict

lesson_01, lesson_05 = import_lesson("01_vanilla_gradient_saliency"), import_lesson("05_gradcam")


# Explainer.explain


def same(first, second) -> bool:
    """Whether two explanations hold the same values; the source may differ."""
    return torch.equal(first.map, second.map) and torch.equal(first.attribution, second.attribution) and (
        (first.target, first.label, first.probability) == (second.target, second.label, second.probability)
    )


def test_an_explanation_says_what_the_method_and_the_network_say(squeezenet, photos):
    (found,) = Explainer(squeezenet, "vanilla_gradient").explain(photos[0], 88)
    gradient = lesson_01.vanilla_gradient(squeezenet, photos[:1], 88)
    assert (found.source, found.target, found.label, found.error) == ("input 0", 88, "macaw", None)
    torch.testing.assert_close(found.attribution, gradient[0])
    torch.testing.assert_close(found.map, channel_reduce(gradient)[0])
    torch.testing.assert_close(found.image, photos[0])
    with torch.no_grad():
        assert found.probability == pytest.approx(squeezenet(photos[:1]).softmax(1)[0, 88].item(), rel=1e-4)
    assert {tensor.dtype for tensor in (found.attribution, found.map, found.image)} == {torch.float32}


def test_class_activation_maps_are_their_own_attribution(squeezenet, photos):
    (found,) = Explainer(squeezenet, "grad_cam").explain(photos[:1])
    torch.testing.assert_close(found.map, lesson_05.grad_cam(squeezenet, photos[:1])[0])
    assert torch.equal(found.map, found.attribution)
    assert (found.target, found.label) == predict(squeezenet, photos[:1], 1)[0][0][:2]


@pytest.mark.parametrize("method", [*ATTRIBUTIONS, lesson_05.grad_cam_plus_plus])
def test_every_method_by_name_or_as_a_function(method, tiny):
    images = torch.randn(3, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    with unchanged(tiny, images):
        found = list(Explainer(tiny, method, batch_size=2).explain(images, 1))
    function = attribution_method(method) if isinstance(method, str) else method
    expected = function(tiny, images.double(), 1).float()
    for item, attribution in zip(found, expected, strict=True):
        torch.testing.assert_close(item.attribution, attribution, rtol=1e-4, atol=1e-6)


def test_all_kinds_of_input_give_the_same_map(squeezenet, photos, dog):
    explainer = Explainer(squeezenet, "grad_cam")
    path = DATA_DIR / "dog.jpg"
    kinds = [str(path), path, "dog.jpg", dog, photos[0], photos[:1]]
    one_by_one = [next(explainer.explain(kind)) for kind in kinds]
    together = list(explainer.explain(kinds))
    assert [item.source for item in together] == [str(path), str(path), "dog.jpg", "input 3", "input 4", "input 5"]
    for item in one_by_one + together:
        torch.testing.assert_close(item.map, one_by_one[0].map)
        assert item.label == "German shepherd"


def test_batches_equal_singles_and_keep_the_order(tiny, small_images):
    """Seven inputs of two sizes, in batches that do not divide seven."""
    inputs = [*small_images, small_images[0, :, :6], *small_images.flip(3)]
    targets = [0, 1, 2, 0, 1, 2, 0]
    singles = [next(Explainer(tiny, "grad_cam").explain(x, c)) for x, c in zip(inputs, targets, strict=True)]
    for size in (1, 2, 3, 100):
        found = list(Explainer(tiny, "grad_cam", batch_size=size).explain(inputs, targets))
        assert [item.source for item in found] == [f"input {i}" for i in range(7)]
        assert [item.target for item in found] == targets
        for item, single in zip(found, singles, strict=True):
            torch.testing.assert_close(item.map, single.map)
    for given in (torch.tensor(targets), np.array(targets), iter(targets)):
        assert [item.target for item in Explainer(tiny, "grad_cam").explain(inputs, given)] == targets


def test_it_streams(tiny, small_images):
    """An endless generator: only what is asked for is read, one batch ahead at most, and nothing is kept."""
    read = []

    def endless():
        for i in count():
            read.append(i)
            yield small_images[i % 3]

    found = list(islice(Explainer(tiny, "grad_cam", batch_size=4).explain(endless()), 10))
    assert len(found) == 10
    assert len(read) == 12


def test_memory_does_not_grow_with_the_number_of_inputs(tiny, small_images):
    def alive() -> int:
        gc.collect()
        return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())

    explainer = Explainer(tiny, batch_size=5)
    numbers = []
    for i, _ in enumerate(explainer.explain(small_images[j % 3] for j in range(1000))):
        if i in (103, 903):                                            # the same place in a batch
            numbers.append(alive())
    assert numbers[0] == numbers[1]
    assert hook_count(tiny) == 0


BROKEN = ("d_broken.jpg", "e_empty.jpg", "f_text.jpg")


@pytest.fixture
def folder(tmp_path):
    """Good, rotated, gray, broken and empty files, and one that is no picture."""
    inside = tmp_path / "pictures"
    inside.mkdir()
    dog = Image.open(DATA_DIR / "dog.jpg")
    dog.save(inside / "a_good.png")
    exif = Image.Exif()
    exif[0x0112] = 6                                                   # shown turned by 90 degrees clockwise
    dog.rotate(90, expand=True).save(inside / "b_rotated.jpg", exif=exif, quality=98)
    dog.convert("L").save(inside / "c_gray.jpg")
    (inside / "d_broken.jpg").write_bytes((DATA_DIR / "dog.jpg").read_bytes()[:9000])
    (inside / "e_empty.jpg").touch()
    (inside / "f_text.jpg").write_text("not a picture")
    shutil.copy(DATA_DIR / "bird.jpg", inside / "g_last.jpg")
    (inside / "notes.txt").write_text("not asked for")
    return inside


def test_a_folder_with_broken_files(squeezenet, folder):
    found = list(Explainer(squeezenet, "grad_cam", batch_size=3).explain(folder))
    names = ["a_good.png", "b_rotated.jpg", "c_gray.jpg", "d_broken.jpg", "e_empty.jpg", "f_text.jpg", "g_last.jpg"]
    assert [item.source for item in found] == [str(folder / name) for name in names]
    good, rotated, gray, *broken, last = found
    assert good.label == rotated.label == "German shepherd"
    assert np.corrcoef(good.map.flatten(), rotated.map.flatten())[0, 1] > 0.99
    assert gray.error is None
    assert last.label == "macaw"
    for item, name in zip(broken, names[3:6], strict=True):
        assert name in item.error
        assert "\n" not in item.error
        assert (item.target, item.label, item.probability, item.attribution, item.map, item.image) == (None,) * 6


def test_what_is_no_picture_is_an_error_of_its_own(tiny, small_images):
    found = list(Explainer(tiny, "grad_cam").explain(
        [small_images[0], 7, small_images[0] * float("nan"), small_images[0].long(), "nothing.jpg", small_images[1]], 0
    ))
    assert [item.error is None for item in found] == [True, False, False, False, False, True]
    assert "int" in found[1].error
    assert "NaN" in found[2].error
    assert "nothing.jpg" in found[4].error


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_map_with_values_that_are_no_numbers_is_that_pictures_error(value, tiny, small_images, tmp_path):
    def method(model, images, target) -> Tensor:
        return images.sum(dim=1) * torch.where(images.amax(dim=(1, 2, 3)) > 90, value, 1)[:, None, None]

    inputs = [small_images[0], small_images[1] + 99, small_images[2]]
    found = list(Explainer(tiny, method).explain(inputs, 0))
    assert [item.error for item in found] == [None, "the map of input 1 has values that are no numbers, or infinite",
                                              None]  # fmt: skip
    explained, failed = Explainer(tiny, lambda m, x, c: x * value).save(tmp_path / "out", "dog.jpg")
    assert (explained, len(failed)) == (0, 1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("values", [np.zeros((2, 224, 224, 3), np.uint8), np.zeros((3, 8, 8)), b"picture"])
def test_pixels_and_bytes_are_one_input_that_is_no_picture(values, tiny, small_images):
    for inputs, place in ((values, 0), ([small_images[0], values], 1)):
        found = list(Explainer(tiny, "grad_cam").explain(inputs))
        assert len(found) == place + 1
        assert found[place].error.startswith(f"input {place} is {type(values).__name__}, no picture; PIL.Image.from")
    names = np.array([str(DATA_DIR / "dog.jpg"), "bird.jpg"])
    assert [item.error for item in Explainer(tiny, "grad_cam").explain(names)] == [None, None]


@pytest.mark.parametrize(
    ("method", "got"),
    [
        (lambda m, x, c: x[:, 0].numpy(), "ndarray"),
        (lambda m, x, c: 3.5, "float"),
        (lambda m, x, c: None, "NoneType"),
        (lambda m, x, c: x.abs().sum(), r"a tensor \(\)"),
        (lambda m, x, c: x[:1], r"a tensor \(1, 3, "),
        (lambda m, x, c: x[:, 0, :7, :7], r"a tensor \(3, 7, 7\)"),
    ],
)
def test_what_a_function_of_ones_own_must_return(method, got, tiny, small_images):
    images = torch.nn.functional.pad(small_images, (4, 4, 4, 4))
    with pytest.raises(ValueError, match=rf"a method must return a tensor, \(B, C, H, W\) or .* returned {got}"):
        list(Explainer(tiny, method).explain(images))


def test_a_map_that_still_has_its_graph_can_be_saved(tiny, tmp_path):
    assert Explainer(tiny, lambda m, x, c: (x * torch.ones((), requires_grad=True))).save(tmp_path, "dog.jpg")[0] == 1


@pytest.mark.parametrize("targets", [[0], [0, 1], [0, 1, 2, 0], []])
def test_not_one_target_for_each_input(tiny, small_images, targets):
    with pytest.raises(ValueError, match="target"):
        list(Explainer(tiny, "grad_cam").explain(small_images, targets))
    with pytest.raises(ValueError, match="target"):
        list(Explainer(tiny, "grad_cam", batch_size=1).explain(list(small_images), targets))


@pytest.mark.parametrize("targets", [[None, 2, 0], [1, None, None], [None, None, None], (2, 2, None)])
@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_none_in_the_list_is_that_inputs_top_class(tiny, small_images, targets, batch_size):
    with torch.no_grad():
        top = tiny(small_images).argmax(dim=1).tolist()
    expected = [top[i] if c is None else c for i, c in enumerate(targets)]
    found = list(Explainer(tiny, "grad_cam", batch_size=batch_size).explain(small_images, targets))
    assert [item.target for item in found] == expected
    maps = lesson_05.grad_cam(tiny, small_images, expected).float()
    torch.testing.assert_close(torch.stack([item.map for item in found]), maps, rtol=1e-4, atol=1e-6)


def test_an_array_of_objects_and_numbers_of_numpy_are_targets_too(tiny, small_images):
    for given in (np.array([None, 2, 0], dtype=object), [None, np.int64(2), torch.tensor(0)]):
        found = list(Explainer(tiny, "grad_cam").explain(small_images, given))
        assert [item.target for item in found][1:] == [2, 0]


@pytest.mark.parametrize("target", [3, -1, 1.5, [0, 1.5, 1], [0, 1, 5], [None, 5, None], [None, "cat", 0], "dog"])
def test_a_target_that_is_no_class(tiny, small_images, target):
    with pytest.raises(ValueError, match="target"):
        list(Explainer(tiny, "grad_cam").explain(small_images, target))


def test_refusals(tiny):
    with pytest.raises(ValueError, match=", ".join(ATTRIBUTIONS)):
        Explainer(tiny, "gradcam")
    with pytest.raises(ValueError, match=r"there is no method \['grad_cam'\]"):
        Explainer(tiny, ["grad_cam"])
    with pytest.raises(ValueError, match="batch_size"):
        Explainer(tiny, batch_size=0)
    with pytest.raises(ValueError, match="cpu"):
        Explainer(tiny, device="abacus")
    tiny.fc.train()
    with pytest.raises(ValueError, match=r"eval\(\)"):
        Explainer(tiny)


def test_what_the_method_refuses_is_raised(linear):
    explainer = Explainer(linear, "guided_backpropagation")
    with pytest.raises(ValueError, match=r"nn\.ReLU"):
        list(explainer.explain(torch.ones(1, 3, 2, 4), 0))


def test_context_manager(tiny, small_images):
    with Explainer(tiny, "grad_cam") as explainer:
        assert len(list(explainer.explain(small_images))) == 3
    with pytest.raises(RuntimeError, match="closed"):
        list(explainer.explain(small_images))
    assert hook_count(tiny) == 0


def test_an_explanation_is_frozen(tiny, small_images):
    (found,) = Explainer(tiny, "grad_cam").explain(small_images[:1])
    with pytest.raises(AttributeError):
        found.label = "cat"


def test_another_device_means_a_copy(tiny, small_images):
    """On "meta", the one other device that every machine has, tensors have shapes but no values."""
    with unchanged(tiny, small_images):
        explainer = Explainer(tiny, "grad_cam", device="meta")
    assert explainer.model is not tiny
    assert {parameter.device.type for parameter in explainer.model.parameters()} == {"meta"}
    assert Explainer(tiny, "grad_cam", device="cpu").model is tiny


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees(squeezenet, photos):
    ours = list(Explainer(squeezenet).explain(photos))
    theirs = list(Explainer(squeezenet, device="cuda").explain(photos))
    for first, second in zip(ours, theirs, strict=True):
        assert relative_error(first.map, second.map) < 1e-2


@pytest.mark.parametrize("method", ["vanilla_gradient", "grad_cam", "guided_grad_cam"])
def test_bfloat16(method, squeezenet, photos):
    full = list(Explainer(squeezenet, method).explain(photos, [235, 88]))
    half = list(Explainer(squeezenet, method, bfloat16=True).explain(photos, [235, 88]))
    for first, second in zip(full, half, strict=True):
        assert second.map.dtype == torch.float32
        assert np.corrcoef(first.map.flatten(), second.map.flatten())[0, 1] > (0.8 if "gradient" in method else 0.98)
        assert not torch.equal(first.map, second.map)
        assert second.probability == pytest.approx(first.probability, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["guided_backpropagation", "guided_grad_cam", "deconvnet"])
def test_two_threads_give_what_one_gives(method, squeezenet, photos):
    """Without the lock, one thread's hooks act on the other's backward pass."""
    inputs = [*photos, *photos.flip(3), *photos.flip(2)] * 2
    expected = list(Explainer(squeezenet, method, batch_size=2).explain(inputs))
    results, shared = {}, Explainer(squeezenet, method, batch_size=2)
    explainers = [shared, shared, Explainer(squeezenet, "grad_cam", batch_size=2)]

    def work(number: int) -> None:
        results[number] = list(explainers[number].explain(inputs))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in (0, 1):
        assert len(results[number]) == len(expected)
        assert all(same(first, second) for first, second in zip(results[number], expected, strict=True))
    assert len(results[2]) == len(inputs)


def test_two_networks_do_not_wait_for_one_another(tiny, small_images):
    """One explainer is inside its method and stays there until the other network has explained its picture."""
    inside, other_done = threading.Event(), threading.Event()

    def slow(model, images, target) -> Tensor:
        inside.set()
        assert other_done.wait(timeout=20), "the other network was kept waiting"
        return lesson_05.grad_cam(model, images, target)

    results = []
    thread = threading.Thread(target=lambda: results.extend(Explainer(tiny, slow).explain(small_images)))
    thread.start()
    assert inside.wait(timeout=20)
    assert len(list(Explainer(copy.deepcopy(tiny), "grad_cam").explain(small_images))) == 3
    other_done.set()
    thread.join()
    assert len(results) == 3


@pytest.mark.parametrize("wrapped", [False, True])
def test_explainers_of_one_network_take_turns(wrapped, tiny, small_images):
    """Two explainers with methods of their own; a wrapper around a network is the same network."""
    busy, most = [], []

    def method(model, images, target) -> Tensor:
        busy.append(1)
        most.append(len(busy))
        time.sleep(0.02)
        busy.pop()
        return lesson_05.grad_cam(model, images, target, layer=tiny.conv2)

    second = nn.Sequential(nn.Identity(), tiny).eval() if wrapped else tiny
    explainers = [Explainer(model, method, batch_size=1) for model in (tiny, second)]
    nine = small_images.repeat(3, 1, 1, 1)
    threads = [threading.Thread(target=lambda own=own: list(own.explain(nine))) for own in explainers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 18
    assert max(most) == 1


def test_locks_do_not_keep_networks_alive(small_images):
    before = len(explainer.LOCKS)
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).double().eval()
    list(Explainer(model, "vanilla_gradient").explain(small_images))
    assert len(explainer.LOCKS) == before + 1
    del model
    gc.collect()
    assert len(explainer.LOCKS) == before


# Saving


def test_saved_numbers_and_picture(squeezenet, tmp_path):
    (found,) = Explainer(squeezenet, "gradient_times_input").explain("dog.jpg")
    path = found.save(tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "dog.npz"
    with np.load(path) as saved:
        assert np.array_equal(saved["attribution"], found.attribution.numpy())
        assert np.array_equal(saved["map"], found.map.numpy())
        assert (saved["target"].item(), saved["label"].item()) == (235, "German shepherd")
        assert saved["probability"].item() == found.probability
        assert saved["source"].item() == "dog.jpg"
    assert Image.open(path.with_suffix(".png")).size == (224, 224)
    assert {file.name for file in path.parent.iterdir()} == {"dog.npz", "dog.png"}


def test_overlay_is_the_grey_photo_where_the_map_is_zero_and_coloured_where_it_is_not(photos):
    map = torch.zeros(224, 224)
    map[:112] = 1
    drawn = overlay(photos[0], map)
    gray = displayable(photos[:1])[0].mean(axis=2)
    assert drawn[112:] == pytest.approx(np.repeat(gray[112:, :, None], 3, axis=2))
    assert np.ptp(drawn[:112], axis=2).min() > 0.1
    assert overlay(photos[0], torch.zeros(224, 224)).min() >= 0
    assert overlay(photos[0], -map)[50, 50, 2] > overlay(photos[0], -map)[50, 50, 0]         # blue


def test_an_error_cannot_be_saved(tmp_path):
    with pytest.raises(ValueError, match=r"cat\.jpg"):
        Explanation("cat.jpg", error="it is empty").save(tmp_path)
    assert not list(tmp_path.iterdir())


def saved(folder) -> dict:
    """Name -> time of last change, of everything in a folder, hidden files included."""
    return {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}


def test_save_a_folder_and_again(squeezenet, folder, tmp_path):
    out = tmp_path / "out"
    explained, failed = Explainer(squeezenet, "grad_cam", batch_size=2).save(out, folder)
    assert explained == 4
    assert [item.source for item in failed] == [str(folder / name) for name in BROKEN]
    first = saved(out)
    assert len(first) == 8
    assert all(re.fullmatch(r"[abcg]_\w+-[0-9a-f]{10}\.(npz|png)", name) for name in first)
    assert Explainer(squeezenet, "grad_cam").save(out, [folder])[0] == 4
    assert saved(out) == first                                         # nothing done twice


CALLS: list[int] = []


def counted(model: nn.Module, images: Tensor, target: object) -> Tensor:
    """Grad-CAM that notes how many images it was given. What a function of a module does with globals is its own."""
    CALLS.append(len(images))
    return lesson_05.grad_cam(model, images, target)


def test_what_is_done_is_not_computed_again(squeezenet, tmp_path):
    CALLS.clear()
    names = ["dog.jpg", "bird.jpg", "koala.jpg"]
    files = [shutil.copy(DATA_DIR / name, tmp_path / name) for name in names]
    out = tmp_path / "out"
    Explainer(squeezenet, counted).save(out, files[:2])
    Explainer(squeezenet, counted).save(out, files)
    assert CALLS == [2, 1]
    next(out.glob("bird*.npz")).unlink()
    Explainer(squeezenet, counted).save(out, files)
    assert CALLS == [2, 1, 1]


def constant(value: float):
    """A method that gives one value everywhere: the functions of two calls share name and code."""
    return lambda model, images, target: torch.full_like(images[:, 0], value)


class Constant:
    """The same as an object."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self, model, images, target) -> Tensor:
        return torch.full_like(images[:, 0], self.value)


def filled(model, images, target, *, value: float) -> Tensor:
    """The same with an argument."""
    return torch.full_like(images[:, 0], value)


UNNAMED = {
    "lambdas": (lambda m, x, c: torch.full_like(x[:, 0], 1.0), lambda m, x, c: torch.full_like(x[:, 0], 2.0)),
    "closures": (constant(1.0), constant(2.0)),
    "partials": (functools.partial(filled, value=1.0), functools.partial(filled, value=2.0)),
    "objects": (Constant(1.0), Constant(2.0)),
    "methods": (Constant(1.0).__call__, Constant(2.0).__call__),
    "defaults": tuple(lambda m, x, c, value=value: torch.full_like(x[:, 0], value) for value in (1.0, 2.0)),
}


@pytest.mark.parametrize("kind", UNNAMED)
def test_functions_of_one_name_have_results_of_their_own(kind, tiny, tmp_path):
    first, second = UNNAMED[kind]
    picture, out = DATA_DIR / "dog.jpg", tmp_path / "out"
    model = tiny.float()
    for method, expected in ((first, 1), (second, 2), (first, 2), (second, 2)):
        assert Explainer(model, method).save(out, picture)[0] == 1
        assert len(list(out.glob("*.npz"))) == expected
    values = {np.load(file)["map"].max() for file in out.glob("*.npz")}
    assert values == {1.0, 2.0}


def test_a_function_whose_values_cannot_be_read_is_refused_when_saving(tiny, small_images, tmp_path):
    generator = torch.Generator().manual_seed(0)

    def noise(model, images, target) -> Tensor:
        return torch.rand(images[:, 0].shape, generator=generator)

    own = Explainer(tiny.float(), noise)
    assert len(list(own.explain(small_images.float()))) == 3
    with pytest.raises(ValueError, match="Generator"):
        own.save(tmp_path / "out", DATA_DIR / "dog.jpg")
    assert not (tmp_path / "out").exists()


def test_save_takes_a_class_for_each_picture(squeezenet, tmp_path):
    out, files = tmp_path / "out", ["dog.jpg", "bird.jpg", "dog.jpg"]
    explained, failed = Explainer(squeezenet, "grad_cam").save(out, files, [None, 5, 7])
    assert (explained, failed) == (3, [])
    assert {np.load(file)["target"].item() for file in out.glob("*.npz")} == {235, 5, 7}
    before = saved(out)
    assert Explainer(squeezenet, "grad_cam").save(out, files, [None, 5, 7])[0] == 3
    assert saved(out) == before
    with pytest.raises(ValueError, match="target"):
        Explainer(squeezenet, "grad_cam").save(out, files, [None, 5])


def test_another_method_class_network_or_picture_is_another_result(squeezenet, tmp_path):
    picture, out = tmp_path / "x.png", tmp_path / "out"
    shutil.copy(DATA_DIR / "dog.jpg", picture)
    runs = [("grad_cam", None), ("hires_cam", None), ("grad_cam", 5)]
    for method, target in runs * 2:
        Explainer(squeezenet, method).save(out, picture, target)
    assert len(saved(out)) == 6
    shutil.copy(DATA_DIR / "bird.jpg", picture)
    Explainer(squeezenet, "grad_cam").save(out, str(picture))
    assert len(saved(out)) == 8
    Explainer(squeezenet, "grad_cam", bfloat16=True).save(out, picture)
    assert len(saved(out)) == 10
    other = copy.deepcopy(squeezenet)
    with torch.no_grad():
        other.classifier[1].bias[0] += 1e-3
    Explainer(other, "grad_cam").save(out, picture)
    assert len(saved(out)) == 12


@pytest.mark.parametrize("method", ONE_PASS)
def test_one_forward_pass_for_class_and_map(method, tiny, small_images):
    """Unless some classes are given and others are not; the values are those of two passes."""
    calls = []
    tiny.register_forward_hook(lambda *_: calls.append(1))
    attribution_method(method)(tiny, small_images, [0, 1, 2])
    alone = len(calls)
    two_passes = list(Explainer(tiny, attribution_method(method)).explain(small_images))
    for target in (None, [0, 1, 2]):
        calls.clear()
        found = list(Explainer(tiny, method).explain(small_images, target))
        assert len(calls) == alone
        if target is None:
            assert all(same(first, second) for first, second in zip(found, two_passes, strict=True))
    calls.clear()
    assert len(list(Explainer(tiny, method).explain(small_images, [0, None, 2]))) == 3
    assert len(calls) == alone + 1


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("method", ["grad_cam", "hires_cam", "layer_cam", "vanilla_gradient"])
def test_densenet_as_torchvision_builds_it(method, bfloat16, photos):
    """Its maps come from a chain of its parts; its logits are its own."""
    torch.manual_seed(0)
    net = torchvision.models.DenseNet(8, (1, 1), 8, num_classes=5).eval()
    image = photos[:1, :, :64, :64]
    with torch.no_grad():
        logits = net(image)
    (found,) = Explainer(net, method, bfloat16=bfloat16).explain(image)
    expected = attribution_method(method)(net, image)[0]
    if bfloat16:
        assert torch.cosine_similarity(found.attribution.flatten(), expected.flatten(), dim=0) > 0.7
    else:
        assert found.target == logits.argmax()
        assert found.probability == pytest.approx(logits.softmax(1).max().item())
        torch.testing.assert_close(found.attribution, expected)


def test_saving_in_threads_gives_the_values_of_explain(squeezenet, tmp_path):
    names = ["dog.jpg", "bird.jpg", "koala.jpg", "panda.jpg", "cat.jpg"]
    out = tmp_path / "out"
    Explainer(squeezenet, "grad_cam", batch_size=2).save(out, names, [None, 5, None, None, 7])
    for found in Explainer(squeezenet, "grad_cam", batch_size=2).explain(names, [None, 5, None, None, 7]):
        (file,) = out.glob(f"{found.source[:-4]}-*.npz")
        with np.load(file) as kept:
            assert np.array_equal(kept["map"], found.map.numpy())
            assert (kept["target"], kept["label"], kept["probability"], kept["source"]) == (
                found.target, found.label, found.probability, str(found.source))  # fmt: skip


def test_in_threads_keeps_the_order_and_stays_near():
    begun = []

    def work(item: int) -> int:
        time.sleep(0.002 * (item % 3))
        return 10 * item

    def items():
        for i in count():
            begun.append(i)
            yield i

    with ThreadPoolExecutor(3) as pool:
        assert list(islice(in_threads(pool, work, items(), 4), 20)) == [10 * i for i in range(20)]
    assert len(begun) == 24
    with ThreadPoolExecutor(3) as pool:
        assert list(in_threads(pool, work, [1, 2], 4)) == [10, 20]
        with pytest.raises(ZeroDivisionError):
            list(in_threads(pool, lambda i: 1 // i, [1, 0], 4))


def test_a_bare_name_counts_by_its_content(squeezenet, tmp_path, monkeypatch):
    """"dog.jpg" is a file of data/ or of the folder one is in, and these are not the same picture."""
    explainer, work = Explainer(squeezenet, "grad_cam"), tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    assert explainer.save(tmp_path / "out", ["dog.jpg", DATA_DIR / "dog.jpg"]) == (2, [])
    assert len(list((tmp_path / "out").glob("*.npz"))) == 1
    monkeypatch.setattr("course.pictures.DATA_DIR", tmp_path / "data")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dog.jpg").write_bytes((DATA_DIR / "bird.jpg").read_bytes())
    assert explainer.save(tmp_path / "out", "dog.jpg") == (1, [])
    assert len(list((tmp_path / "out").glob("*.npz"))) == 2


def test_two_files_of_one_name_and_content_have_two_results(squeezenet, tmp_path):
    files = [tmp_path / folder / "dog.jpg" for folder in "ab"]
    for file in files:
        file.parent.mkdir()
        shutil.copy(DATA_DIR / "dog.jpg", file)
    for _ in range(2):
        assert Explainer(squeezenet, "grad_cam").save(tmp_path / "out", [*files, files[0]]) == (3, [])
        sources = [str(np.load(file)["source"]) for file in (tmp_path / "out").glob("*.npz")]
        assert sorted(sources) == sorted(map(str, files))


def test_a_file_that_may_not_be_read_is_its_own_error(squeezenet, folder, tmp_path, monkeypatch):
    """The others go on. The fingerprint reads it first; who runs the tests may be allowed to read everything."""
    read_bytes, is_open, locked = Path.read_bytes, Image.open, folder / "a_good.png"

    def guarded(read):
        def may_read(file, *arguments):
            if Path(file) == locked:
                raise PermissionError(13, "Permission denied", str(file))
            return read(file, *arguments)

        return may_read

    monkeypatch.setattr(Path, "read_bytes", guarded(read_bytes))
    monkeypatch.setattr(Image, "open", guarded(is_open))
    explained, failed = Explainer(squeezenet, "grad_cam").save(tmp_path / "out", folder)
    assert explained == 3
    assert [item.source for item in failed] == [str(locked), *(str(folder / name) for name in BROKEN)]
    assert "Permission denied" in failed[0].error


def test_what_cannot_be_written_is_raised(squeezenet, tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(OSError, match="out"):
        Explainer(squeezenet, "grad_cam").save(tmp_path / "out", "dog.jpg")


# Pairs


def test_in_step_gives_pairs():
    assert list(in_step([1, 2, 3], "abc")) == [(1, "a"), (2, "b"), (3, "c")]
    assert list(in_step([None, 0], (value for value in (0, None)))) == [(None, 0), (0, None)]
    assert list(in_step([], [])) == []


def test_in_step_refuses_different_lengths():
    for items, targets in (([1, 2], [1]), ([1], [1, 2]), ([], [None]), ([None], []), ([1, 2, None], [1, 2])):
        with pytest.raises(ValueError, match="target"):
            list(in_step(items, targets))


def test_in_step_is_lazy():
    """Ten thousand pictures are not read before the first is explained, nor endless ones."""
    taken = []

    def pictures():
        for i in count():
            taken.append(i)
            yield i

    pairs = in_step(pictures(), itertools.repeat(7))
    assert [next(pairs), next(pairs)] == [(0, 7), (1, 7)]
    assert len(taken) <= 3
    pairs = in_step([torch.zeros(2), torch.ones(2)], [torch.tensor(1), torch.tensor(2)])
    assert [int(target) for _, target in pairs] == [1, 2]


def test_the_lesson_has_the_explainer():
    assert import_lesson("07_guided_gradcam").Explainer is Explainer


# The command line


def main(*options: object) -> int:
    return run_script("07_guided_gradcam", *map(str, options))


def test_command_line(folder, tmp_path, capsys):
    out = tmp_path / "out"
    status = main("--image", folder, "--method", "grad_cam", "--model", "squeezenet1_1", "--output-dir", out)
    printed = capsys.readouterr()
    assert status == 1
    assert printed.out.splitlines()[-1] == "4 explained, 3 failed"
    assert "7/7" in printed.err
    assert all(name in printed.err for name in BROKEN)
    assert len(saved(out)) == 8
    for name in BROKEN:
        (folder / name).unlink()
    assert main("--image", folder, "--method", "grad_cam", "--quick", "--output-dir", out) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "4 explained, 0 failed"


def test_command_line_takes_a_label_and_refuses_an_unknown_method(tmp_path, capsys):
    options = ["--image", "dog.jpg", "--quick", "--target", "tabby", "--output-dir", tmp_path]
    assert main(*options, "--method", "vanilla_gradient") == 0
    with np.load(next(tmp_path.glob("*.npz"))) as found:
        assert class_names()[found["target"].item()] == "tabby"
    assert main(*options, "--method", "gradcam") == 2
    assert "guided_grad_cam" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--ray"], "--ray needs --method"),
        (["--method", "grad_cam", "--workers", "2"], "--workers needs --ray"),
        (["--method", "grad_cam", "--shard-size", "5"], "--shard-size needs --ray"),
        (["--method", "grad_cam", "--ray", "--device", "mps"], "--ray works with --device cpu and cuda, not with mps"),
        (["--method", "grad_cam", "--ray", "--gpus-per-worker", "0.5"], "--gpus-per-worker needs --device cuda"),
        (["--method", "grad_cam", "--ray", "--device", "cuda:1"],
         "--ray works with --device cpu and cuda, not with cuda:1"),
        (["--method", "grad_cam", "--ray", "--device", "cuda", "--gpus-per-worker", "0"],
         "--gpus-per-worker must be more than 0"),
        (["--batch-size", "4"], "--batch-size needs --method"),
        (["--method", "smoothgrad", "--seed", "5"], "--method takes no --seed: SmoothGrad draws its noise from seed 0"),
        (["--method", "grad_cam", "--show"], "--method has no figures to --show"),
        (["--method", "grad_cam", "--image", "dog.jpg", "--image", "list.txt"],
         "list.txt: a list of pictures needs --ray"),
    ],
)
def test_options_that_would_be_ignored_are_wrong_use(options, sentence, tmp_path, capsys):
    assert main(*options, "--output-dir", tmp_path) == 2
    assert capsys.readouterr().err.endswith(f"07_guided_gradcam.py: error: {sentence}\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_run_is_continued(tmp_path):
    pictures, out = tmp_path / "pictures", tmp_path / "out"
    pictures.mkdir()
    with Image.open(DATA_DIR / "dog.jpg") as dog:
        for i in range(60):
            dog.crop((i, 0, i + 300, 300)).save(pictures / f"{i:02}.png")
    options = ["--image", pictures, "--method", "guided_backpropagation", "--quick", "--batch-size", "2"]
    command = [sys.executable, PROJECT_ROOT / "07_guided_gradcam.py", *options, "--output-dir", out]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        deadline = time.monotonic() + 90
        while len(list(out.glob("*.npz"))) < 5 and time.monotonic() < deadline:
            time.sleep(0.02)
        running.send_signal(signal.SIGKILL)
    before = saved(out)
    done = [name for name in before if name.endswith(".npz")]
    assert 5 <= len(done) < 60
    for name in done:                                                  # each is whole
        with np.load(out / name) as found:
            assert found["map"].shape == (224, 224)
    assert main(*options, "--output-dir", out) == 0
    after = saved(out)
    assert len(list(out.glob("*.npz"))) == len(list(out.glob("[!.]*.png"))) == 60
    assert all(after[name] == before[name] for name in done)
