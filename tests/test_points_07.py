"""Exercises of lesson 07, with their points."""

import itertools
import threading

import pytest
import torch
from conftest import assert_tensor, unchanged

from utils import import_lesson


@pytest.mark.points(1, exercise="7.1")
def test_guided_grad_cam_is_the_product(lesson, tiny, small_images):
    guided = import_lesson("06_guided_backpropagation").guided_backpropagation(tiny, small_images, [2, 0, 1])
    maps = import_lesson("05_gradcam").grad_cam(tiny, small_images, [2, 0, 1])
    found = lesson.guided_grad_cam(tiny, small_images, [2, 0, 1])
    assert_tensor(found, torch.stack([guided[:, c] * maps for c in range(3)], dim=1))


@pytest.mark.points(0.5, exercise="7.1")
def test_guided_grad_cam_takes_the_layer(lesson, tiny, small_images):
    guided = import_lesson("06_guided_backpropagation").guided_backpropagation(tiny, small_images, 0)
    for layer in ("conv1", tiny.conv2):
        maps = import_lesson("05_gradcam").grad_cam(tiny, small_images, 0, layer=layer)
        assert_tensor(lesson.guided_grad_cam(tiny, small_images, 0, layer=layer), guided * maps[:, None])


@pytest.mark.points(0.5, exercise="7.1")
def test_guided_grad_cam_of_no_evidence_is_zero(lesson, tiny, small_images):
    with torch.no_grad():
        tiny.fc.weight[1] = -tiny.fc.weight[1].abs()
        tiny.conv2.bias.abs_()
        tiny.conv2.weight.abs_()
        tiny.conv1.bias.abs_()
    maps = import_lesson("05_gradcam").grad_cam(tiny, small_images, 1)
    with unchanged(tiny, small_images):
        found = lesson.guided_grad_cam(tiny, small_images, 1)
    assert not maps.any()
    assert_tensor(found, torch.zeros_like(small_images))


@pytest.mark.points(1, exercise="7.2")
def test_write_is_seen_when_complete(lesson, tmp_path):
    """While fill runs, the old content stands; afterwards the new one, and nothing else."""
    file, seen = tmp_path / "map.npz", []
    file.write_bytes(b"old")

    def fill(stream) -> None:
        stream.write(b"new")
        stream.flush()
        seen.append(file.read_bytes())

    lesson.write(file, fill)
    assert seen == [b"old"]
    assert file.read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["map.npz"]
    lesson.write(tmp_path / "new" / "map.npz", fill=lambda stream: stream.write(b"first"))
    assert (tmp_path / "new" / "map.npz").read_bytes() == b"first"


@pytest.mark.points(1, exercise="7.2")
def test_write_leaves_nothing_behind_when_fill_raises(lesson, tmp_path):
    def fill(stream) -> None:
        stream.write(b"half")
        raise KeyboardInterrupt

    (tmp_path / "kept.png").write_bytes(b"old")
    for name in ("kept.png", "absent.png"):
        with pytest.raises(KeyboardInterrupt):
            lesson.write(tmp_path / name, fill)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.png"]
    assert (tmp_path / "kept.png").read_bytes() == b"old"


@pytest.mark.points(1, exercise="7.2")
def test_two_threads_do_not_share_a_file(lesson, tmp_path):
    """Both are inside `fill` at the same time, writing different bytes under the same final name."""
    inside, errors = threading.Barrier(2, timeout=5), []

    def run(letter: bytes) -> None:
        def fill(stream) -> None:
            stream.write(letter * 1000)
            stream.flush()
            inside.wait()
            stream.write(letter * 1000)

        try:
            lesson.write(tmp_path / "map.npz", fill)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(letter,), daemon=True) for letter in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(8)
    if errors:
        raise errors[0]
    assert (tmp_path / "map.npz").read_bytes() in (b"a" * 2000, b"b" * 2000)
    assert [path.name for path in tmp_path.iterdir()] == ["map.npz"]


@pytest.mark.points(1, exercise="7.3")
def test_in_step_gives_pairs(lesson):
    assert list(lesson.in_step([1, 2, 3], "abc")) == [(1, "a"), (2, "b"), (3, "c")]
    assert list(lesson.in_step([None, 0], (value for value in (0, None)))) == [(None, 0), (0, None)]
    assert list(lesson.in_step([], [])) == []


@pytest.mark.points(1, exercise="7.3")
def test_in_step_refuses_different_lengths(lesson):
    for items, targets in (([1, 2], [1]), ([1], [1, 2]), ([], [None]), ([None], []), ([1, 2, None], [1, 2])):
        with pytest.raises(ValueError, match="target"):
            list(lesson.in_step(items, targets))


@pytest.mark.points(1, exercise="7.3")
def test_in_step_is_lazy(lesson):
    """Ten thousand pictures are not read before the first is explained, nor endless ones."""
    taken = []

    def pictures():
        for i in itertools.count():
            taken.append(i)
            yield i

    pairs = lesson.in_step(pictures(), itertools.repeat(7))
    assert [next(pairs), next(pairs)] == [(0, 7), (1, 7)]
    assert len(taken) <= 3
    pairs = lesson.in_step([torch.zeros(2), torch.ones(2)], [torch.tensor(1), torch.tensor(2)])
    assert [int(target) for _, target in pairs] == [1, 2]
