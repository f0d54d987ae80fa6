"""course/shards.py: the list of pictures, its parts, and the rows of their results."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch

from course.explainer import Explanation
from course.shards import LISTING, list_paths, read_listing, row_of, write_listing

PICTURES = 5


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Five files with names of pictures in two folders, and another one."""
    for name in ("00.png", "02.JPG", "b/01.png", "b/03.png", "b/broken.jpg", "notes.txt"):
        (tmp_path / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pictures" / name).touch()
    return tmp_path / "pictures"


# The list of pictures


def test_paths_in_every_form(pictures, tmp_path, monkeypatch):
    inside = list(list_paths(pictures))
    assert len(inside) == PICTURES
    assert inside == sorted(inside, key=lambda path: (Path(path).parent, path))
    assert all(Path(path).is_absolute() for path in inside)
    monkeypatch.chdir(pictures)
    (tmp_path / "list.txt").write_text("\ufeff00.png\n\nb/01.png\r\n", encoding="utf-8")  # Notepad's byte order mark
    assert list(list_paths(tmp_path / "list.txt")) == [inside[0], str(pictures / "b/01.png")]
    assert list(list_paths(["00.png", Path("b"), tmp_path / "list.txt", "dog.jpg"])) == [
        inside[0], *(path for path in inside if "/b/" in path), inside[0], str(pictures / "b/01.png"), "dog.jpg",
    ]  # fmt: skip


def test_what_is_there_is_a_picture_whatever_its_name_says(tmp_path):
    (tmp_path / "photo").touch()
    assert list(list_paths(tmp_path / "photo")) == [str(tmp_path / "photo")]
    assert list(list_paths([tmp_path / "lost.png"])) == [str(tmp_path / "lost.png")]


def test_a_folder_is_listed_lazily(tmp_path):
    """An endless list, of which only the first parts are read."""
    endless = list_paths(f"{i}.png" for i in count())
    assert [next(endless) for _ in range(3)] == ["0.png", "1.png", "2.png"]


@pytest.mark.skipif(os.name != "posix", reason="needs symbolic links")
def test_linked_folders_are_followed_but_not_in_circles(tmp_path):
    for name in ("a/1.png", "b/2.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    (tmp_path / "a" / "to_b").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "to_a").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "3.png").symlink_to(tmp_path / "b" / "2.png")
    found = [str(Path(path).relative_to(tmp_path)) for path in list_paths(tmp_path / "a")]
    assert found == ["a/1.png", "a/3.png", "a/to_b/2.png"]


def test_a_folder_that_may_not_be_read_is_an_error(pictures, monkeypatch):
    """Its pictures would be missing, and nobody would know."""
    scandir = os.scandir

    def guarded(folder: object) -> object:
        if str(folder).endswith("b"):
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(PermissionError, match=r"Permission denied: '.*/b'"):
        list(list_paths(pictures))


@pytest.mark.parametrize("size", [1, 4, 100])
def test_the_parts_of_a_list(tmp_path, size):
    paths = [f"/nowhere/{name}.png" for name in ("a", "b\nc", "d\udcff", "e", "é", "a")]
    shards = write_listing(paths, tmp_path, "settings", size)
    assert [path for shard in shards for path in read_listing(tmp_path, shard)] == paths
    assert [shard["count"] for shard in shards] == [min(size, 6 - start) for start in range(0, 6, size)]
    assert len({shard["name"] for shard in shards}) == len(shards)
    assert write_listing(paths, tmp_path, "settings", size) == shards
    assert {shard["name"] for shard in write_listing(paths, tmp_path / "b", "others", size)}.isdisjoint(
        shard["name"] for shard in shards
    )


def test_results_of_something_else_are_not_mixed_or_overwritten(tmp_path):
    paths = [f"/nowhere/{i}.png" for i in range(4)]
    shards = write_listing(paths, tmp_path, "settings", 2)
    (tmp_path / shards[0]["name"]).touch()
    (listing,) = tmp_path.glob(f"{LISTING}-*.jsonl")
    before = listing.read_bytes()
    for changed, settings, size in ((paths[1:], "settings", 2), (paths, "others", 2), (paths, "settings", 3)):
        with pytest.raises(ValueError, match="results for other pictures or settings; name another folder"):
            write_listing(changed, tmp_path, settings, size)
    longer = write_listing([*paths, "/nowhere/4.png"], tmp_path, "settings", 2)
    assert [shard["name"] for shard in longer[:2]] == [shard["name"] for shard in shards]
    assert write_listing(paths, tmp_path, "settings", 2) == shards
    assert listing.read_bytes() == before
    with pytest.raises(ValueError, match="no pictures in"):
        write_listing([], tmp_path, "settings", 2)


def test_another_list_is_refused_and_never_exchanged(tmp_path):
    """The workers of a run that has no results yet read its list while the second run begins."""
    paths = [f"/nowhere/{i}.png" for i in range(4)]
    shards = write_listing(paths, tmp_path, "settings", 2)
    for changed, settings, size in ((paths[1:], "settings", 2), (paths, "others", 2), (paths, "settings", 3)):
        with pytest.raises(ValueError, match="list of a run with other pictures or settings"):
            write_listing(changed, tmp_path, settings, size)
    longer = write_listing([*paths, "/nowhere/4.png"], tmp_path, "settings", 2)
    for run, inside in ((shards, paths), (longer, [*paths, "/nowhere/4.png"])):
        assert [path for shard in run for path in read_listing(tmp_path, shard)] == inside


# Rows


def test_a_row_holds_the_map_as_float16():
    map = torch.linspace(0, 3, 12).reshape(3, 4)
    row = row_of(Explanation("a.png", map, 7, "cock", 0.5, map, map))
    assert (row["source"], row["target"], row["label"], row["probability"]) == ("a.png", 7, "cock", 0.5)
    assert row["map"].dtype == np.float16
    np.testing.assert_array_equal(row["map"].reshape(row["height"], row["width"]), map.numpy().astype(np.float16))


def test_what_cannot_be_a_row_is_a_sentence():
    map = torch.tensor([[1.0, 1e6]])
    row = row_of(Explanation("d\udcff.png", map, 7, "cock", 0.5, map, map))
    assert row == {"source": "d\\xff.png", "error": "the map of d\\xff.png has values that float16 cannot hold "
                                                    "(above 65504)"}  # fmt: skip
    assert row_of(Explanation("b.png", error="b.png is broken")) == {"source": "b.png", "error": "b.png is broken"}
