"""course/scale.py: a collection on Ray. Every picture is one row, whoever is killed."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import run_script
from PIL import Image

from course import scale
from course.explainer import Explainer
from course.scale import explain_dataset, explain_each, in_time
from course.shards import list_paths
from utils import DATA_DIR, PROJECT_ROOT, import_lesson

NO_RAY = "Ray is not installed: pip install -r requirements-ray.txt"
PAGE = PROJECT_ROOT / "book" / "scale.md"
PICTURES = 13


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Twelve pictures in two folders, and a broken one."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "b").mkdir()
    for i, photo in enumerate(sorted(DATA_DIR.glob("*.jpg"))[: PICTURES - 1]):
        Image.open(photo).resize((240, 240)).save(folder / ("b" if i % 2 else ".") / f"{i:02d}.png")
    (folder / "b" / "broken.jpg").write_bytes((DATA_DIR / "dog.jpg").read_bytes()[:9000])
    (folder / "notes.txt").write_text("not a picture")
    return folder


# Pictures that fail


def test_a_picture_that_fails_in_the_method_is_not_the_others_failure(tiny, tmp_path):
    for i, colour in enumerate(("red", "white", "blue")):
        Image.new("RGB", (230, 230), colour).save(tmp_path / f"{i}.png")

    def refuses_white(model, images, target):
        if (images > 2).all(dim=3).all(dim=2).all(dim=1).any():
            raise RuntimeError("too bright")
        return images.sum(dim=1)

    paths = [str(tmp_path / name) for name in ("0.png", "1.png", "2.png", "lost.png")]
    found = list(explain_each(Explainer(tiny, refuses_white), paths, 0, 4))
    assert [item.source for item in found] == paths
    assert [item.error and item.error.split(";")[0] for item in found[:3]] == [None, "too bright", None]
    assert "lost.png" in found[3].error


@pytest.mark.parametrize("full", [MemoryError, torch.OutOfMemoryError])
def test_a_full_memory_is_no_pictures_failure(tiny, full):
    """Smaller batches are tried; if one picture is too much, it is raised, because a row would be there for good."""

    def method(room: int) -> Callable:
        def too_large(model, images, target):
            if len(images) > room:
                raise full("out of memory")
            return images.sum(dim=1)

        return too_large

    pictures = [str(DATA_DIR / "dog.jpg")] * 2
    assert [item.error for item in explain_each(Explainer(tiny, method(1)), pictures, 0, 2)] == [None, None]
    with pytest.raises(full):
        list(explain_each(Explainer(tiny, method(0)), pictures, 0, 2))


# Ray


@pytest.fixture(params=["default_int_handler", "SIG_IGN"])
def ctrl_c(request) -> Iterator[object]:
    """How this process takes Ctrl-C: as usual, or not at all, as a job that a script starts in the background."""
    before = signal.signal(signal.SIGINT, getattr(signal, request.param))
    yield signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)


def test_nothing_for_too_long_ends_with_a_sentence(ctrl_c):
    def slow() -> Iterator[int]:
        yield 1
        queue.Queue().get(timeout=30)                                  # as Ray waits: for a lock, without waking up

    items, begin = in_time(slow(), 2), time.monotonic()
    assert next(items) == 1
    with pytest.raises(TimeoutError, match="nothing was finished for 2 seconds"):
        next(items)
    assert time.monotonic() - begin < 15
    assert signal.getsignal(signal.SIGINT) is ctrl_c


def test_what_comes_in_time_passes(ctrl_c):
    assert list(in_time([1, 2], 0.5)) == [1, 2]
    time.sleep(0.6)                                                    # no alarm goes off afterwards
    with pytest.raises(ZeroDivisionError):
        list(in_time((1 // i for i in (1, 0)), 5))
    assert signal.getsignal(signal.SIGINT) is ctrl_c


def test_ctrl_c_is_what_it_was(ctrl_c):
    def interrupted() -> Iterator[int]:
        signal.raise_signal(signal.SIGINT)
        yield 1

    if ctrl_c is signal.SIG_IGN:
        assert list(in_time(interrupted(), 5)) == [1]
    else:
        with pytest.raises(KeyboardInterrupt):
            list(in_time(interrupted(), 5))


def test_a_worker_gets_its_gpus_from_one_machine(monkeypatch):
    def workers(gpus: list[float], each: float, asked: int | None = None) -> int:
        nodes = [{"Alive": True, "Resources": {"CPU": 8.0, "GPU": there}} for there in gpus]
        nodes += [{"Alive": True, "Resources": {"CPU": 4.0}}, {"Alive": False, "Resources": {"GPU": 8.0}}]
        ray = SimpleNamespace(nodes=lambda: nodes, cluster_resources=lambda: {"CPU": 12.0, "GPU": sum(gpus)})
        monkeypatch.setattr(scale, "import_ray", lambda: ray)
        return scale.count_workers(asked, each)

    assert workers([1, 4], 0.5) == 10
    assert workers([3, 3], 2) == 2
    assert workers([1], 1, asked=7) == 7
    assert workers([1], 0) == 11
    for gpus, each in (([1], 2), ([1, 1], 2), ([], 0.5)):
        with pytest.raises(ValueError, match=f"gpus_per_worker is {each}, .*; the most is {len(gpus) > 0:d};"):
            workers(gpus, each)


@pytest.fixture
def here(monkeypatch) -> None:
    """explain_dataset with one worker in this process, without Ray; Parquet is needed."""
    pytest.importorskip("pyarrow", reason=NO_RAY)
    monkeypatch.setattr(scale, "import_ray", lambda: SimpleNamespace(get=lambda model: model))
    monkeypatch.setattr(scale, "connected", lambda address: nullcontext())
    monkeypatch.setattr(scale, "explain_shards", lambda todo, settings, *_: map(scale.Worker(*settings, False), todo))


def sums_colours(model, images, target):
    """A method that takes no time."""
    return images.sum(dim=1)


def test_save_is_a_setting(here, tiny, tmp_path):
    """What is finished would not be saved afterwards, and nobody would know."""
    explain = partial(explain_dataset, ["dog.jpg", "bird.jpg"], method=sums_colours, model=tiny, target=0, shard_size=1)
    assert explain(tmp_path / "out") == (2, 0)
    with pytest.raises(ValueError, match="results for other pictures or settings"):
        explain(tmp_path / "out", save=True)
    assert explain(tmp_path / "saved", save=True) == (2, 0)
    first, second = finished(tmp_path / "saved")
    names = [f"{first.stem}-00000-dog.npz", f"{first.stem}-00000-dog.png", f"{second.stem}-00000-bird.npz",
             f"{second.stem}-00000-bird.png"]  # fmt: skip
    assert sorted(file.name for file in (tmp_path / "saved" / scale.SAVED).iterdir()) == names


@pytest.mark.parametrize("at_once", [False, True])
def test_two_runs_in_one_folder_never_mix_without_a_word(at_once, here, tiny, tmp_path, monkeypatch):
    """The second begins before the first has a result; both may find the folder empty if they begin at once."""
    pd, work, second = pytest.importorskip("pandas", reason=NO_RAY), scale.explain_shards, []
    explain = partial(explain_dataset, folder=tmp_path, method=sums_colours, model=tiny, target=0)
    if at_once:
        monkeypatch.setattr("course.shards.check_alone", lambda *_: None)

    def late(todo: list[dict], *settings: object) -> Iterator[dict]:
        if not second:
            second.append("begun")
            with nullcontext() if at_once else pytest.raises(ValueError, match="list of a run with other pictures"):
                explain(["panda.jpg", "koala.jpg"])
        return work(todo, *settings)

    monkeypatch.setattr(scale, "explain_shards", late)
    with pytest.raises(RuntimeError, match="another run") if at_once else nullcontext():
        assert explain(["dog.jpg", "bird.jpg"]) == (2, 0)
    sources = [list(pd.read_parquet(file)["source"]) for file in finished(tmp_path)]
    assert ["dog.jpg", "bird.jpg"] in sources
    assert len(sources) == 1 + at_once
    assert second


def test_a_map_of_no_numbers_is_an_error_here_as_in_one_process(here, tiny, tmp_path):
    def nan(model, images, target):
        return images.sum(dim=1) * (float("nan") if images.any() else 1)

    assert explain_dataset("dog.jpg", tmp_path / "ray", method=nan, model=tiny, target=0) == (0, 1)
    explained, (failed,) = Explainer(tiny, nan).save(tmp_path / "one", "dog.jpg", 0)
    assert explained == 0
    assert failed.error == "the map of dog.jpg has values that are no numbers, or infinite"
    (table,) = map(pytest.importorskip("pandas").read_parquet, finished(tmp_path / "ray"))
    assert list(table["error"]) == [failed.error]


def test_a_full_disk_says_so_and_where(here, tiny, tmp_path, monkeypatch):
    """Ray gives on what a worker raises without its cause, so the worker gives the sentence itself."""
    def full(_number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(RuntimeError, match=r"a worker could not work: .*No space left on device: '.*\.parquet'"):
        explain_dataset("dog.jpg", tmp_path, method=sums_colours, model=tiny, target=0)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_mistyped_folder_is_refused_before_ray_starts(here, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(scale, "explain_shards", None)
    for paths in (tmp_path / "pictrues", str(tmp_path / "pictrues") + os.sep, ["dog.jpg", tmp_path / "pictrues"]):
        with pytest.raises(FileNotFoundError, match=r"there is no folder .*pictrues"):
            explain_dataset(paths, tmp_path / "out", method=sums_colours, model=tiny, target=0)
    assert not list((tmp_path / "out").iterdir())


def test_the_command_says_why_pictures_failed(here, tmp_path, capsys):
    (tmp_path / "list.txt").write_text("dog.jpg\nfirst.jpg\nsecond.jpg\nbird.jpg\nthird.jpg\nfourth.jpg\nfifth.jpg\n")
    status = run_script("07_guided_gradcam", "--method", "grad_cam", "--quick", "--ray", "--image",
                        str(tmp_path / "list.txt"), "--output-dir", str(tmp_path / "out"))  # fmt: skip
    printed = capsys.readouterr()
    assert status == 1
    assert printed.out.startswith("2 explained, 5 failed")
    said = [line for line in printed.err.splitlines() if line.startswith("failed: ")]
    assert [line.split(",")[0] for line in said] == [
        "failed: there is no picture first.jpg", "failed: there is no picture second.jpg",
        "failed: there is no picture third.jpg", "failed: 2 more",
    ]  # fmt: skip


def test_a_part_is_on_the_disk_before_it_has_its_name(here, tiny, tmp_path, monkeypatch):
    """After a power failure a name without content would count as finished."""
    seen = []
    monkeypatch.setattr(os, "fsync", lambda number: seen.append((os.fstat(number).st_size, finished(tmp_path))))
    explain_dataset("dog.jpg", tmp_path, method=sums_colours, model=tiny, target=0)
    assert seen == [(finished(tmp_path)[0].stat().st_size, [])]


def test_nothing_for_too_long_names_what_is_missing(here, tiny, tmp_path, monkeypatch):
    work = scale.explain_shards

    def stuck_at_the_second(todo: list[dict], *settings: object) -> Iterator[dict]:
        yield from work(todo[:1], *settings)
        queue.Queue().get(timeout=30)

    monkeypatch.setattr(scale, "explain_shards", stuck_at_the_second)
    explain = partial(explain_dataset, method=sums_colours, model=tiny, target=0, shard_size=2, patience=2)
    with pytest.raises(TimeoutError) as raised:
        explain(["dog.jpg", *["bird.jpg"] * 7, "panda.jpg", "koala.jpg", "cat.jpg"], tmp_path)
    assert "not finished, 5 in all: 00000001-" in str(raised.value)
    assert str(raised.value).count(".parquet (bird.jpg and 1 more)") == 3
    assert str(raised.value).endswith("), ...")
    assert len(finished(tmp_path)) == 1


def test_without_ray_a_sentence_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RuntimeError, match=r"pip install -r requirements-ray\.txt"):
        explain_dataset(DATA_DIR, tmp_path, method="grad_cam", model="squeezenet1_1")


def test_ray_that_does_not_start_is_a_sentence(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray", reason=NO_RAY)

    def too_late(**_options: object) -> None:
        raise Exception("The current node timed out\nduring startup.")

    monkeypatch.setattr(ray, "init", too_late)
    with pytest.raises(RuntimeError, match=r"^Ray did not start: The current node timed out during startup\.$"):
        explain_dataset(DATA_DIR, tmp_path, method="grad_cam", model="squeezenet1_1")


def stuck(folder: str) -> Callable:
    """Grad-CAM that takes forever as soon as a part has been finished."""

    def stuck_grad_cam(model, images, target):
        import time
        from pathlib import Path

        from utils import import_lesson

        time.sleep(100 if images.any() and any(Path(folder).glob("*.parquet")) else 0)
        return import_lesson("05_gradcam").grad_cam(model, images, target)

    return stuck_grad_cam


def slowly(seconds: float) -> Callable:
    """Grad-CAM that takes its time."""

    def slow_grad_cam(model, images, target):
        import time

        from utils import import_lesson

        time.sleep(seconds if images.any() else 0)
        return import_lesson("05_gradcam").grad_cam(model, images, target)

    return slow_grad_cam


def killed_once(folder: str) -> Callable:
    """Grad-CAM whose process is killed, once, as soon as a part has been finished."""

    def deadly_grad_cam(model, images, target):
        import os
        import signal
        from pathlib import Path

        from utils import import_lesson

        if images.any() and any(Path(folder).glob("*.parquet")):       # the check of the method has a black image
            try:
                Path(folder, "_killed").touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
            except FileExistsError:
                pass
        return import_lesson("05_gradcam").grad_cam(model, images, target)

    return deadly_grad_cam


@pytest.fixture
def cluster(monkeypatch) -> Iterator:
    """Two nodes of two processors each, and this process connected to the first; gives cluster and second node."""
    monkeypatch.setenv("RAY_worker_niceness", "0")                     # 15, Ray's default, starves beside other work
    ray = pytest.importorskip("ray", reason=NO_RAY)
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 2, "object_store_memory": 100 * 2**20}
    try:
        cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
        second = cluster.add_node(**node)
    except Exception as error:                                         # Ray raises nothing more exact
        if "timed out during startup" not in str(error):
            raise
        pytest.skip("Ray gives up a node whose helpers need 15 seconds to start: this machine is too busy")
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster, second
    ray.shutdown()
    cluster.shutdown()


def assert_each_picture_once(folder: Path, pictures: Path, squeezenet) -> None:
    """What a reader of the folder gets is what Explainer says, one row for each picture."""
    import pandas as pd

    table = pd.read_parquet(folder).set_index("source")
    expected = {item.source: item for item in Explainer(squeezenet, "grad_cam").explain(list(list_paths(pictures)))}
    assert sorted(table.index) == sorted(expected)
    assert len(table) == PICTURES
    for source, row in table.iterrows():
        if source.endswith("broken.jpg"):
            assert row["error"] == expected[source].error
            assert row.drop("error").isna().all()
            continue
        found = expected[source]
        assert row["error"] is None or np.isnan(row["error"])
        assert (row["target"], row["label"]) == (found.target, found.label)
        assert row["probability"] == pytest.approx(found.probability, rel=1e-3)
        map = torch.tensor(row["map"].reshape(int(row["height"]), int(row["width"]))).float()
        assert (map - found.map).abs().max() < 1e-3 * found.map.max()
    assert not list(folder.glob(".*.part"))


def finished(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet"))


def wait_until(holds: Callable[[], object], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.cluster
def test_a_run_without_progress_ends_and_a_worker_is_killed(cluster, pictures, squeezenet, tmp_path):
    begin, method = time.monotonic(), stuck(str(tmp_path / "slow"))
    with pytest.raises(TimeoutError, match=r"nothing was finished for 30 seconds.* not finished, 6 in all: ") as raised:
        explain_dataset(pictures, tmp_path / "slow", method=method, model=squeezenet, batch_size=1, shard_size=2,
                        patience=30, workers=1)  # fmt: skip
    assert time.monotonic() - begin < 150                              # a part takes 200 seconds
    (only,) = finished(tmp_path / "slow")                              # Ray keeps no order
    assert only.name not in str(raised.value)
    method = killed_once(str(tmp_path / "out"))
    explained = explain_dataset(pictures, tmp_path / "out", method=method, model=squeezenet, batch_size=1, shard_size=2,
                                workers=2)  # fmt: skip
    assert explained == (PICTURES - 1, 1)
    assert (tmp_path / "out" / "_killed").exists()
    assert_each_picture_once(tmp_path / "out", pictures, squeezenet)


@pytest.mark.slow
@pytest.mark.cluster
def test_a_machine_is_lost(cluster, pictures, squeezenet, tmp_path):
    nodes, second = cluster
    folder, left = tmp_path / "out", []

    def remove() -> None:
        wait_until(lambda: finished(folder))
        nodes.remove_node(second, allow_graceful=False)
        left.append(PICTURES // 2 + 1 - len(finished(folder)))

    thread = threading.Thread(target=remove)
    thread.start()
    explained = explain_dataset(pictures, folder, method=slowly(0.5), model=squeezenet, batch_size=1, shard_size=2,
                                patience=120)  # fmt: skip
    thread.join()
    assert left, "the machine was not removed"
    assert left[0] > 0                                                 # there was something left to do
    assert explained == (PICTURES - 1, 1)
    assert_each_picture_once(folder, pictures, squeezenet)


def heeds_ctrl_c() -> None:
    """A program inherits that Ctrl-C is ignored, if these tests run in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
@pytest.mark.cluster
def test_the_program_is_stopped_and_goes_on(cluster, pictures, squeezenet, tmp_path):
    """Ctrl-C, then kill -9, then in peace; what was finished is not touched again."""
    command = [sys.executable, "07_guided_gradcam.py", "--image", str(pictures), "--method", "grad_cam", "--model",
               "squeezenet1_1", "--batch-size", "1", "--shard-size", "1", "--workers", "1", "--output-dir",
               str(tmp_path), "--ray", cluster[0].address]  # fmt: skip
    folder, times = tmp_path / "grad_cam", {}
    for stop in (signal.SIGINT, signal.SIGKILL):
        before = len(finished(folder))
        program = subprocess.Popen(command, cwd=PROJECT_ROOT, stderr=subprocess.PIPE, text=True,
                                   preexec_fn=heeds_ctrl_c)  # fmt: skip
        wait_until(lambda more=before, it=program: len(finished(folder)) > more or it.poll() is not None)
        program.send_signal(stop)
        _, said = program.communicate(timeout=120)
        assert program.returncode == -stop
        assert stop == signal.SIGKILL or said.endswith("error: interrupted\n")
        for file in finished(folder):
            assert times.setdefault(file, file.stat().st_mtime_ns) == file.stat().st_mtime_ns
    assert 2 <= len(times) < PICTURES
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 1, done.stderr                           # one picture is broken
    assert f"{PICTURES - 1} explained, 1 failed" in done.stdout
    assert f"{PICTURES}/{PICTURES}" in done.stderr
    assert all(file.stat().st_mtime_ns == when for file, when in times.items())
    assert_each_picture_once(folder, pictures, squeezenet)


NEEDS_PAGE = pytest.mark.skipif(not PAGE.exists(), reason="a student's copy has no book")


@NEEDS_PAGE
def test_the_page_shows_what_was_measured():
    """book/scale.md has the tables of data/results/scale.csv, and none without it."""
    import pandas as pd
    from bench_scale import RESULTS, section

    shown = PAGE.read_text(encoding="utf-8").partition("<!-- scale -->\n")[2].partition("<!-- end of scale -->")[0]
    file = RESULTS / "scale.csv"
    assert bool(shown.strip()) == file.exists()
    if file.exists():
        about = shown.strip().split("\n\n")[0]
        assert section(pd.read_csv(file), about).strip() == shown.strip()


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


@NEEDS_PAGE
def test_the_pages_example_reads_a_table_that_begins_with_an_error(monkeypatch):
    pd = pytest.importorskip("pandas", reason=NO_RAY)
    (code,) = [block for block in python_blocks(PAGE) if "reshape" in block]
    rows = [{"source": "a", "error": "it is broken"},
            {"source": "b", "map": np.arange(6, dtype=np.float16), "height": 2.0, "width": 3.0}]  # fmt: skip
    monkeypatch.setattr(pd, "read_parquet", lambda _folder: pd.DataFrame(rows))
    names = {}
    exec(code, names)                                                  # as a reader would
    assert names["map"].shape == (2, 3)


def test_the_readmes_example_goes_on_after_a_picture_that_fails(squeezenet, capsys):
    (code,) = [block for block in python_blocks(PROJECT_ROOT / "README.md") if "Explainer" in block]
    exec(code.replace("dog.jpg", "lost.jpg"), {"import_lesson": import_lesson, "model": squeezenet})
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("lost.jpg there is no picture lost.jpg")
    assert second.startswith("bird.jpg macaw ")
