"""The benchmark's table of seconds and memory: what is computed from the values, not the values."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import bench_memory
import bench_page
import bench_speed
import benchmark
import pandas as pd
import pytest
import torch
from bench_libraries import LIBRARIES, check, distance_but_for_noise
from bench_page import RESULTS
from bench_speed import MORE, README, in_turn, measure, section, summary, wide


def values(what: str, method: str, images: int, **of: list[float]) -> list[dict]:
    """Rows as measure() gives them."""
    return [{"setting": "here", "what": what, "method": method, "images": images, "library": library.replace("_", " "),
             "round": i, "value": value} for library, some in of.items() for i, value in enumerate(some)]  # fmt: skip


@pytest.fixture
def table() -> pd.DataFrame:
    """captum takes 1, 2, 3 times as long as ours in the three rounds, while all become slower."""
    rows = values("seconds", "lrp", 1, ours=[1.0, 2.0, 4.0], captum=[1.0, 4.0, 12.0])
    rows += values("MiB", "lrp", 8, ours=[600.0], captum=[900.0])
    for method in ("smoothgrad", "integrated_gradients"):
        rows += values("MiB", method, 1, ours=[500.0]) + values("MiB, n = 200", method, 1, ours=[510.0])
    rows += values("start", "lesson 01", 0, first_figure=[5.0, 4.0, 6.0], imports=[2.0, 2.0, 2.4])
    return summary(pd.DataFrame(rows))


def test_ratios_are_of_one_round(table):
    row = table[(table["what"] == "seconds") & (table["library"] == "captum")].iloc[0]
    assert list(row[["value", "value_low", "value_high"]]) == [4.0, 2.5, 8.0]
    assert list(row[["ratio", "ratio_low", "ratio_high", "rounds"]]) == [2.0, 1.5, 2.5, 3]


def test_what_the_readme_shows(table):
    assert wide(table) == ("|  | images | ours, seconds | captum |\n| --- | --- | --- | --- |\n"
                           "| LRP, epsilon and z+ | 1 | 2 | 2.00 (1.50 to 2.50) |\n")  # fmt: skip
    text = section(table, "Here.")
    assert "on disk after 5.0 seconds, where it ran shortly before; 40% of them are imports." in text
    assert "as a multiple of that with 50: SmoothGrad 1.02, Integrated Gradients 1.02." in text
    assert "| 1 | captum | 3 | 4.000 (2.500 to 8.000) | 2.00 (1.50 to 2.50) |  |" in bench_speed.page(table, "Here.")


def test_all_that_is_asked_for_is_measured(monkeypatch):
    """Seconds with one image and with eight, memory of the libraries that were timed; with fewer rounds where asked."""
    asked = []

    def found(*names: object, **options: object) -> list[dict]:
        asked.append((*names, *options.values()))
        return [{"library": "captum", "round": 0, "value": 1.0}]

    for name in ("in_turn", "added_by_each", "beginnings"):
        monkeypatch.setattr(bench_speed, name, partial(found, name))
    monkeypatch.setattr(bench_speed, "METHODS", {"grad_cam": ("Grad-CAM", 3, 2), "smoothgrad": ("SmoothGrad", 5, 0)})
    table = measure(2)
    assert asked == [
        ("beginnings", 2), ("in_turn", "grad_cam", 1, 2), ("in_turn", "grad_cam", 8, 2),
        ("added_by_each", "grad_cam", 8, ["captum"]), ("in_turn", "smoothgrad", 1, 2),
        ("added_by_each", "smoothgrad", 1, ["captum"]), ("added_by_each", "smoothgrad", 1, ["ours"], 200),
    ]  # fmt: skip
    assert list(table["what"]) == ["start", "seconds", "seconds", "MiB", "seconds", "MiB", "MiB, n = 200"]


def test_a_try_leaves_what_is_quoted(tmp_path, monkeypatch, table):
    """With a number of rounds the table goes to outputs/, and README stays; without, both are written."""
    quoted, tried, shown = tmp_path / "results", tmp_path / "outputs", tmp_path / "README.md"
    monkeypatch.setattr(bench_page, "RESULTS", quoted)
    monkeypatch.setattr(bench_page, "OUTPUT_DIR", tried)
    monkeypatch.setattr(bench_speed, "README", shown)
    monkeypatch.setattr(bench_speed, "measure", lambda most: most)
    monkeypatch.setattr(bench_speed, "summary", lambda _values: table)
    shown.write_text("<!-- speed -->\nold\n<!-- end of speed -->\n", encoding="utf-8")
    bench_speed.main(1)
    assert (tried / "speed.csv").exists()
    assert not quoted.exists()
    assert "old" in shown.read_text(encoding="utf-8")
    bench_speed.main(None)
    assert (quoted / "speed.csv").exists()
    assert "old" not in shown.read_text(encoding="utf-8")


@pytest.mark.parametrize("number", ["0", "-1", "few"])
def test_a_number_of_rounds_is_one_from_one_up(number):
    with pytest.raises(argparse.ArgumentTypeError, match="is no number from 1 up"):
        benchmark.count(number)


def pieces_free_but_held(count: int) -> torch.Tensor:
    """Free 24 MiB pieces that malloc keeps, because what is returned lies behind them."""
    torch.ones(7 << 20).sum()                               # 28 MiB freed once: malloc then keeps what is smaller
    pieces = [torch.ones(6 << 20) for _ in range(count)]
    last = torch.ones(4 << 20)
    pieces.clear()
    return last


@pytest.mark.skipif(not bench_memory.STATUS.exists(), reason="memory is read from Linux's /proc")
def test_memory_is_what_the_call_adds(monkeypatch):
    """64 MiB for a moment: neither the 256 that were there before, and free again, nor what the process has."""
    def build(_method: str) -> Callable:
        torch.ones(1 << 26).sum()
        return lambda _images, _target: torch.ones(1 << 24).sum()

    monkeypatch.setattr(bench_memory, "LIBRARIES", {"theirs": (build, "torch")})
    monkeypatch.setattr(bench_memory, "pictures", lambda _count: None)
    assert bench_memory.added("theirs", "grad_cam", 1, 50) == pytest.approx(64, abs=8)
    last = pieces_free_but_held(8)
    assert bench_memory.added("theirs", "grad_cam", 1, 50) == pytest.approx(64, abs=8)
    del last


def test_averages_over_noise_are_compared_by_what_they_share():
    """Independent noise as long as the map may differ; half the size, or another map, may not."""
    seeded = torch.Generator().manual_seed(0)
    signal, *noises = torch.randn(4, 1, 3, 224, 224, generator=seeded)
    found, other, theirs = (signal + noise for noise in noises)
    assert distance_but_for_noise(theirs, found, other) < 0.02
    assert distance_but_for_noise(theirs / 2, found, other) == pytest.approx(0.5, abs=0.01)
    assert distance_but_for_noise(noises[2] * 2**0.5, found, other) == pytest.approx(1, abs=0.02)


def test_a_library_that_computes_something_else_is_no_measure(squeezenet, photos):
    images, target, found = photos[:1], torch.tensor([235]), torch.ones(1, 3, 224, 224)
    check("guided_backpropagation", "captum", found * 1.01, found, images, target)
    for method, limit in (("guided_backpropagation", "0.02"), ("vanilla_gradient", "0.05")):
        with pytest.raises(AssertionError, match=rf"captum's {method} differs from ours by 0.06\d*, more than {limit}"):
            check(method, "captum", found * 1.06, found, images, target)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["grad_cam", "guided_grad_cam"])
def test_the_libraries_that_are_installed_agree(method):
    rows = pd.DataFrame(in_turn(method, 2, 1))
    assert {"ours", "ours in bfloat16", "captum"} <= set(rows["library"]) <= set(LIBRARIES)
    assert (rows["value"] > 0).all()


def test_the_readme_shows_what_was_measured():
    """The part between the marks is written from data/results/speed.csv."""
    shown = README.read_text(encoding="utf-8").partition("<!-- speed -->\n")[2].partition("<!-- end of speed -->")[0]
    assert shown.strip(), "README has lost the marks"
    file = RESULTS / "speed.csv"
    if not file.exists():
        pytest.skip("not measured yet")
    about = shown.strip().split("\n\n")[0]
    assert (section(pd.read_csv(file), about) + MORE).strip() == shown.strip()
    assert (RESULTS / "speed.md").read_text(encoding="utf-8") == bench_speed.page(pd.read_csv(file), about)
