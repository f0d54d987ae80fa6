"""Lesson 07: guided Grad-CAM and the Explainer."""

import gc
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from itertools import count, islice

import captum.attr
import numpy as np
import pytest
import torch
from conftest import assert_common_contract, assert_leaves_no_trace, hook_count, relative_error, unchanged
from PIL import Image
from torch import Tensor, nn

from utils import DATA_DIR, PROJECT_ROOT, channel_reduce, class_names, displayable, import_lesson, predict, run_lesson

lesson = import_lesson("07_guided_gradcam")
lesson_05, lesson_06 = import_lesson("05_gradcam"), import_lesson("06_guided_backpropagation")


# Guided Grad-CAM


def test_it_is_the_product(tiny, small_images):
    for layer in ("conv1", "conv2", tiny.conv2):
        product = lesson_06.guided_backpropagation(tiny, small_images, [0, 1, 2])
        product = product * lesson_05.grad_cam(tiny, small_images, [0, 1, 2], layer=layer)[:, None]
        torch.testing.assert_close(lesson.guided_grad_cam(tiny, small_images, [0, 1, 2], layer=layer), product)
    assert product.abs().max() > 0
    assert product.min() < 0


def test_by_hand():
    """S = ReLU(a) - ReLU(b) for the two halves of one row, a = (2, 1), b = (1, 3); Grad-CAM of the ReLU layer."""
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4, 1, bias=False)).eval()
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[0].bias.fill_(0.0)
        model[3].weight.copy_(torch.tensor([[3.0, 1.0, -1.0, -1.0]]))
    image = torch.tensor([2.0, 1.0, 1.0, 3.0]).reshape(1, 1, 1, 4)
    # alpha = (3 + 1 - 1 - 1) / 4 = 1/2, the map is x / 2; guided keeps the positive weights 3 and 1
    assert lesson.guided_grad_cam(model, image, 0, layer="1").flatten().tolist() == [3.0, 0.5, 0.0, 0.0]


def test_zero_where_grad_cam_is_zero_and_finite_where_all_is(tiny, small_images):
    dead = lesson_05.grad_cam(tiny, small_images, 1) == 0
    assert 0 < dead.sum() < dead.numel()
    assert lesson.guided_grad_cam(tiny, small_images, 1).abs().amax(dim=1)[dead].max() == 0
    with torch.no_grad():
        tiny.fc.weight[0] = 0
    assert lesson.guided_grad_cam(tiny, small_images, 0).abs().max() == 0


def test_common_contract(tiny, small_images):
    assert_common_contract(lesson.guided_grad_cam, tiny, small_images)


def test_leaves_no_trace(tiny, small_images):
    assert_leaves_no_trace(lesson.guided_grad_cam, tiny, small_images)


def test_a_layer_that_is_not_there(tiny, small_images):
    with pytest.raises(ValueError, match="conv2"):
        lesson.guided_grad_cam(tiny, small_images, 0, layer="conv9")


@pytest.mark.parametrize(("network", "layer"), [("squeezenet", "features.12"), ("resnet", "layer4")])
def test_captum_agrees(network, layer, photos, request):
    model, targets = request.getfixturevalue(network), torch.tensor([235, 88])
    theirs = captum.attr.GuidedGradCam(model, model.get_submodule(layer))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = theirs.attribute(photos.clone().requires_grad_(), targets, interpolate_mode="bilinear")
    assert relative_error(lesson.guided_grad_cam(model, photos, targets), expected.detach()) < 1e-4


# Explainer.explain


def same(first, second) -> bool:
    """Whether two explanations hold the same values; the source may differ."""
    return torch.equal(first.map, second.map) and torch.equal(first.attribution, second.attribution) and (
        (first.target, first.label, first.probability) == (second.target, second.label, second.probability)
    )


def test_an_explanation_says_what_the_method_and_the_network_say(squeezenet, photos):
    (found,) = lesson.Explainer(squeezenet, "vanilla_gradient").explain(photos[0], 88)
    gradient = lesson.lesson_01.vanilla_gradient(squeezenet, photos[:1], 88)
    assert (found.source, found.target, found.label, found.error) == ("input 0", 88, "macaw", None)
    torch.testing.assert_close(found.attribution, gradient[0])
    torch.testing.assert_close(found.map, channel_reduce(gradient)[0])
    torch.testing.assert_close(found.image, photos[0])
    with torch.no_grad():
        assert found.probability == pytest.approx(squeezenet(photos[:1]).softmax(1)[0, 88].item(), rel=1e-4)
    assert {tensor.dtype for tensor in (found.attribution, found.map, found.image)} == {torch.float32}


def test_class_activation_maps_are_their_own_attribution(squeezenet, photos):
    (found,) = lesson.Explainer(squeezenet, "grad_cam").explain(photos[:1])
    torch.testing.assert_close(found.map, lesson_05.grad_cam(squeezenet, photos[:1])[0])
    assert torch.equal(found.map, found.attribution)
    assert (found.target, found.label) == predict(squeezenet, photos[:1], 1)[0][0][:2]


@pytest.mark.parametrize("method", [*lesson.ATTRIBUTIONS, lesson_05.grad_cam_plus_plus])
def test_every_method_by_name_or_as_a_function(method, tiny):
    images = torch.randn(3, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    with unchanged(tiny, images):
        found = list(lesson.Explainer(tiny, method, batch_size=2).explain(images, 1))
    function = lesson.ATTRIBUTIONS.get(method, method)
    expected = function(tiny, images.double(), 1).float()
    for item, attribution in zip(found, expected, strict=True):
        torch.testing.assert_close(item.attribution, attribution, rtol=1e-4, atol=1e-6)


def test_all_kinds_of_input_give_the_same_map(squeezenet, photos, dog):
    explainer = lesson.Explainer(squeezenet, "grad_cam")
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
    singles = [next(lesson.Explainer(tiny, "grad_cam").explain(x, c)) for x, c in zip(inputs, targets, strict=True)]
    for size in (1, 2, 3, 100):
        found = list(lesson.Explainer(tiny, "grad_cam", batch_size=size).explain(inputs, targets))
        assert [item.source for item in found] == [f"input {i}" for i in range(7)]
        assert [item.target for item in found] == targets
        for item, single in zip(found, singles, strict=True):
            torch.testing.assert_close(item.map, single.map)
    for given in (torch.tensor(targets), np.array(targets), iter(targets)):
        assert [item.target for item in lesson.Explainer(tiny, "grad_cam").explain(inputs, given)] == targets


def test_it_streams(tiny, small_images):
    """An endless generator: only what is asked for is read, one batch ahead at most, and nothing is kept."""
    read = []

    def endless():
        for i in count():
            read.append(i)
            yield small_images[i % 3]

    found = list(islice(lesson.Explainer(tiny, "grad_cam", batch_size=4).explain(endless()), 10))
    assert len(found) == 10
    assert len(read) == 12


def test_memory_does_not_grow_with_the_number_of_inputs(tiny, small_images):
    def alive() -> int:
        gc.collect()
        return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())

    explainer = lesson.Explainer(tiny, batch_size=5)
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
    found = list(lesson.Explainer(squeezenet, "grad_cam", batch_size=3).explain(folder))
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
    found = list(lesson.Explainer(tiny, "grad_cam").explain(
        [small_images[0], 7, small_images[0] * float("nan"), small_images[0].long(), "nothing.jpg", small_images[1]], 0
    ))
    assert [item.error is None for item in found] == [True, False, False, False, False, True]
    assert "int" in found[1].error
    assert "NaN" in found[2].error
    assert "nothing.jpg" in found[4].error


@pytest.mark.parametrize("targets", [[0], [0, 1], [0, 1, 2, 0], []])
def test_not_one_target_for_each_input(tiny, small_images, targets):
    with pytest.raises(ValueError, match="target"):
        list(lesson.Explainer(tiny, "grad_cam").explain(small_images, targets))
    with pytest.raises(ValueError, match="target"):
        list(lesson.Explainer(tiny, "grad_cam", batch_size=1).explain(list(small_images), targets))


@pytest.mark.parametrize("target", [3, -1, 1.5, [0, 1.5, 1], [0, 1, 5], "dog"])
def test_a_target_that_is_no_class(tiny, small_images, target):
    with pytest.raises(ValueError, match="target"):
        list(lesson.Explainer(tiny, "grad_cam").explain(small_images, target))


def test_refusals(tiny):
    with pytest.raises(ValueError, match="guided_grad_cam"):
        lesson.Explainer(tiny, "gradcam")
    with pytest.raises(ValueError, match="batch_size"):
        lesson.Explainer(tiny, batch_size=0)
    with pytest.raises(ValueError, match="cpu"):
        lesson.Explainer(tiny, device="abacus")
    tiny.fc.train()
    with pytest.raises(ValueError, match=r"eval\(\)"):
        lesson.Explainer(tiny)


def test_what_the_method_refuses_is_raised(linear):
    explainer = lesson.Explainer(linear, "guided_backpropagation")
    with pytest.raises(ValueError, match=r"nn\.ReLU"):
        list(explainer.explain(torch.ones(1, 3, 2, 4), 0))


def test_context_manager(tiny, small_images):
    with lesson.Explainer(tiny, "grad_cam") as explainer:
        assert len(list(explainer.explain(small_images))) == 3
    with pytest.raises(RuntimeError, match="closed"):
        list(explainer.explain(small_images))
    assert hook_count(tiny) == 0


def test_an_explanation_is_frozen(tiny, small_images):
    (found,) = lesson.Explainer(tiny, "grad_cam").explain(small_images[:1])
    with pytest.raises(AttributeError):
        found.label = "cat"


def test_another_device_means_a_copy(tiny, small_images):
    """On "meta", the one other device that every machine has, tensors have shapes but no values."""
    with unchanged(tiny, small_images):
        explainer = lesson.Explainer(tiny, "grad_cam", device="meta")
    assert explainer.model is not tiny
    assert {parameter.device.type for parameter in explainer.model.parameters()} == {"meta"}
    assert lesson.Explainer(tiny, "grad_cam", device="cpu").model is tiny


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees(squeezenet, photos):
    ours = list(lesson.Explainer(squeezenet).explain(photos))
    theirs = list(lesson.Explainer(squeezenet, device="cuda").explain(photos))
    for first, second in zip(ours, theirs, strict=True):
        assert relative_error(first.map, second.map) < 1e-2


@pytest.mark.parametrize("method", ["vanilla_gradient", "grad_cam", "guided_grad_cam"])
def test_bfloat16(method, squeezenet, photos):
    full = list(lesson.Explainer(squeezenet, method).explain(photos, [235, 88]))
    half = list(lesson.Explainer(squeezenet, method, bfloat16=True).explain(photos, [235, 88]))
    for first, second in zip(full, half, strict=True):
        assert second.map.dtype == torch.float32
        assert np.corrcoef(first.map.flatten(), second.map.flatten())[0, 1] > (0.8 if "gradient" in method else 0.98)
        assert not torch.equal(first.map, second.map)
        assert second.probability == pytest.approx(first.probability, abs=0.05)


@pytest.mark.parametrize("method", ["guided_backpropagation", "guided_grad_cam", "deconvnet"])
def test_two_threads_give_what_one_gives(method, squeezenet, photos):
    """Without the lock, one thread's hooks act on the other's backward pass."""
    inputs = [*photos, *photos.flip(3), *photos.flip(2)] * 2
    expected = list(lesson.Explainer(squeezenet, method, batch_size=2).explain(inputs))
    results, shared = {}, lesson.Explainer(squeezenet, method, batch_size=2)
    explainers = [shared, shared, lesson.Explainer(squeezenet, "grad_cam", batch_size=2)]

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


# Saving


def test_saved_numbers_and_picture(squeezenet, tmp_path):
    (found,) = lesson.Explainer(squeezenet, "gradient_times_input").explain("dog.jpg")
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
    drawn = lesson.overlay(photos[0], map)
    gray = displayable(photos[:1])[0].mean(axis=2)
    assert drawn[112:] == pytest.approx(np.repeat(gray[112:, :, None], 3, axis=2))
    assert np.ptp(drawn[:112], axis=2).min() > 0.1
    assert lesson.overlay(photos[0], torch.zeros(224, 224)).min() >= 0
    assert lesson.overlay(photos[0], -map)[50, 50, 2] > lesson.overlay(photos[0], -map)[50, 50, 0]         # blue


def test_an_error_cannot_be_saved(tmp_path):
    with pytest.raises(ValueError, match=r"cat\.jpg"):
        lesson.Explanation("cat.jpg", error="it is empty").save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_names_are_safe():
    assert lesson.safe_name("input 3/../Ä b:c*.x") == "input_3_.._Ä_b_c_.x"
    assert len(lesson.safe_name("a" * 300)) == 100


def test_write_is_all_or_nothing(tmp_path):
    file = tmp_path / "deep" / "file.bin"
    lesson.write(file, lambda stream: stream.write(b"first"))
    assert file.read_bytes() == b"first"

    def fails(stream) -> None:
        stream.write(b"half")
        stream.flush()
        assert file.read_bytes() == b"first"                           # nobody sees the new one before it is whole
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        lesson.write(file, fails)
    assert file.read_bytes() == b"first"
    assert [found.name for found in file.parent.iterdir()] == ["file.bin"]


@pytest.mark.skipif(os.name != "posix", reason="Windows does not replace a file that is open")
def test_a_reader_of_the_old_file_keeps_it(tmp_path):
    """Replaced, not overwritten: who has opened the old file reads it to its end."""
    lesson.write(tmp_path / "x", lambda stream: stream.write(b"old"))
    with (tmp_path / "x").open("rb") as reader:
        lesson.write(tmp_path / "x", lambda stream: stream.write(b"new"))
        assert reader.read() == b"old"
    assert (tmp_path / "x").read_bytes() == b"new"


def test_two_threads_do_not_write_into_one_file(tmp_path):
    """Both are halfway at the same time; what has the name in the end is one of the two, whole."""
    together = threading.Barrier(2)

    def fill(letter: bytes):
        def write(stream) -> None:
            stream.write(letter * 1000)
            stream.flush()
            together.wait(timeout=20)
            stream.write(letter * 1000)

        return write

    threads = [threading.Thread(target=lesson.write, args=(tmp_path / "x", fill(letter))) for letter in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "x").read_bytes() in (b"a" * 2000, b"b" * 2000)
    assert len(list(tmp_path.iterdir())) == 1


def saved(folder) -> dict:
    """Name -> time of last change, of everything in a folder, hidden files included."""
    return {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}


def test_save_a_folder_and_again(squeezenet, folder, tmp_path):
    out = tmp_path / "out"
    explained, failed = lesson.Explainer(squeezenet, "grad_cam", batch_size=2).save(out, folder)
    assert explained == 4
    assert [item.source for item in failed] == [str(folder / name) for name in BROKEN]
    first = saved(out)
    assert len(first) == 8
    assert all(re.fullmatch(r"[abcg]_\w+-[0-9a-f]{10}\.(npz|png)", name) for name in first)
    assert lesson.Explainer(squeezenet, "grad_cam").save(out, [folder])[0] == 4
    assert saved(out) == first                                         # nothing done twice


def test_what_is_done_is_not_computed_again(squeezenet, tmp_path):
    calls = []

    def counted(model, images, target) -> Tensor:
        calls.append(len(images))
        return lesson_05.grad_cam(model, images, target)

    names = ["dog.jpg", "bird.jpg", "koala.jpg"]
    files = [shutil.copy(DATA_DIR / name, tmp_path / name) for name in names]
    out = tmp_path / "out"
    lesson.Explainer(squeezenet, counted).save(out, files[:2])
    lesson.Explainer(squeezenet, counted).save(out, files)
    assert calls == [2, 1]
    next(out.glob("bird*.npz")).unlink()
    lesson.Explainer(squeezenet, counted).save(out, files)
    assert calls == [2, 1, 1]


def test_another_method_class_network_or_picture_is_another_result(squeezenet, tmp_path):
    picture, out = tmp_path / "x.png", tmp_path / "out"
    shutil.copy(DATA_DIR / "dog.jpg", picture)
    runs = [("grad_cam", None), ("hires_cam", None), ("grad_cam", 5)]
    for method, target in runs * 2:
        lesson.Explainer(squeezenet, method).save(out, picture, target)
    assert len(saved(out)) == 6
    shutil.copy(DATA_DIR / "bird.jpg", picture)
    lesson.Explainer(squeezenet, "grad_cam").save(out, str(picture))
    assert len(saved(out)) == 8
    lesson.Explainer(squeezenet, "grad_cam", bfloat16=True).save(out, picture)
    assert len(saved(out)) == 10
    other = lesson.copy.deepcopy(squeezenet)
    with torch.no_grad():
        other.classifier[1].bias[0] += 1e-3
    lesson.Explainer(other, "grad_cam").save(out, picture)
    assert len(saved(out)) == 12


# The command line


def main(*options: object) -> int:
    return run_lesson(lambda: lesson.main([str(option) for option in options]))


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
    with pytest.raises(SystemExit) as stop:
        main(*options, "--method", "gradcam")
    assert stop.value.code == 2
    assert "guided_grad_cam" in capsys.readouterr().err


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
