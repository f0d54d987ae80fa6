"""Lesson 08: the study, its statements, a run that can be stopped, and its parts."""

import math
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import PixelFunction, run_script
from scipy.stats import spearmanr
from torch import Tensor

from course import parts
from evaluation import methods, study, study_figures, study_pictures
from evaluation.deletion_insertion import area_under_curve
from evaluation.is_it_chance import estimate, hit_rate
from evaluation.methods import CONTROLS, centre_map, uniform_map
from evaluation.planted_scenes import energy_pointing_game
from evaluation.study import GROUPS, METHODS, PERFECT, SHARES, Run, counts, evaluate, read_scores, tasks, usable
from evaluation.study_pictures import Picture, mosaics, photographs
from evaluation.verdicts import (
    CLAIMS,
    METRICS,
    against_controls,
    claims,
    control_of,
    estimate_of,
    guidelines,
    orders_agree,
    report,
    values_of,
)
from utils import PROJECT_ROOT, import_lesson

LESSON = "08_comparative_analysis"


def test_what_lesson_08_hands_out():
    """The names of the contract, each the very function of its part."""
    lesson = import_lesson(LESSON)
    for name in ("METHODS", "deletion_curve", "insertion_curve", "area_under_curve", "pointing_game",
                 "energy_pointing_game", "grid_pointing_game", "sensitivity_n", "human_agreement", "max_sensitivity",
                 "infidelity", "parameter_randomization", "planted_scene", "counterfactual_scene"):  # fmt: skip
        assert name in lesson.__all__
        assert hasattr(lesson, name)
    assert lesson.METHODS is METHODS
    assert lesson.area_under_curve is area_under_curve


# Tables made by hand


def tidy(**values: dict[str, list[float]]) -> pd.DataFrame:
    """metric={method: values over pictures} -> a table of scores."""
    rows = [("r", "g", f"picture{i}", method, metric, "", value)
            for metric, methods in values.items() for method, some in methods.items()
            for i, value in enumerate(some)]  # fmt: skip
    return pd.DataFrame(rows, columns=study.COLUMNS)


def test_controls_are_known_and_as_fine_as_the_method():
    for metric, (_, better, control) in METRICS.items():
        assert better in (-1, 1)
        assert control in ("", "noise", "edges", "zero", *CONTROLS), metric
    assert control_of("insertion_blur", "grad_cam") == "random_coarse"
    assert control_of("insertion_blur", "vanilla_gradient") == "random"
    assert control_of("energy", "grad_cam") == "edges_coarse"
    assert control_of("energy", "guided_grad_cam") == "edges"
    assert control_of("human", "grad_cam") == "centre"


def test_claims_are_about_known_maps_and_metrics():
    assert len(CLAIMS) + 2 >= 12
    for text, metric, first, second, side in CLAIMS:
        assert {first, second} <= set(METHODS)
        assert metric in METRICS
        assert side in ("above", "below")
        assert len(text) <= 46


def test_better_is_positive_whichever_way_the_metric_runs():
    """Deletion is better when lower, insertion when higher; both methods beat their noise by 0.1 on each picture."""
    base = np.linspace(0.2, 0.8, 12)
    table = tidy(deletion_mean={"vanilla_gradient": base - 0.1, "random": base},
                 insertion_blur={"vanilla_gradient": base - 0.1, "random": base})  # fmt: skip
    judged = against_controls(table, ["vanilla_gradient", "random"]).set_index("metric")
    assert judged.loc["deletion_mean", "mean"] == pytest.approx(0.1)
    assert judged.loc["insertion_blur", "mean"] == pytest.approx(-0.1)
    assert list(judged["verdict"]) == ["holds", "does not hold"]       # deletion comes first in METRICS
    assert (judged["n"] == 12).all()
    words = "\n".join(guidelines(judged.reset_index()))
    assert "Better than the control: vanilla_gradient (+0.10 against random)" in words
    assert "Worse: vanilla_gradient (-0.10 against random)" in words


def test_a_control_that_was_not_run_is_no_control():
    table = tidy(insertion_blur={"vanilla_gradient": [0.5] * 12})
    assert len(against_controls(table, ["vanilla_gradient"])) == 0
    assert guidelines(against_controls(table, ["vanilla_gradient"])) == []


def test_empty_maps_are_counted():
    values = [0.5, math.nan, 0.7, *np.linspace(0.4, 0.8, 10)]
    table = tidy(energy={"grad_cam": values, "edges_coarse": [0.1] * 13})
    (row,) = against_controls(table, ["grad_cam"]).itertuples()
    assert (row.n, row.empty) == (12, 1)
    assert values_of(table, "energy", "grad_cam").isna().sum() == 1
    assert "n = 12, 1 empty" in report(table, ["grad_cam"], against_controls(table, ["grad_cam"]), claims(table), "")
    nothing = tidy(energy={"grad_cam": [math.nan] * 3})
    assert str(estimate_of(nothing, "energy", "grad_cam")) == "empty"


def test_hits_get_wilsons_interval_and_means_the_bootstraps():
    table = tidy(hit={"a": [1.0] * 9 + [0.0]}, energy={"a": [0.1, 0.2, 0.4]})
    assert estimate_of(table, "hit", "a") == hit_rate([True] * 9 + [False])
    assert estimate_of(table, "energy", "a") == estimate([0.1, 0.2, 0.4])


def test_claims_by_hand():
    """Grad-CAM beats the gradient on each of 12 scenes; the gradient loses against the edges; others have no data."""
    base = np.linspace(0.1, 0.3, 12)
    found = claims(tidy(energy={"grad_cam": base + 0.2, "vanilla_gradient": base, "edges": base + 0.05}))
    verdicts = dict(zip(found["claim"], found["verdict"], strict=True))
    assert verdicts == {"animals: the gradient beats the edges": "does not hold",
                        "animals: Grad-CAM beats the gradient": "holds"}  # fmt: skip
    assert found["number"][1] == "energy, scenes: grad_cam minus vanilla_gradient"


def test_the_baselines_claim_compares_with_half_the_steps():
    found = claims(tidy(other_baseline={"integrated_gradients": np.linspace(0.1, 0.3, 12)},
                        same_baseline={"integrated_gradients": np.linspace(0.9, 0.95, 12)}))  # fmt: skip
    assert list(found["verdict"]) == ["holds"]
    assert found["mean"][0] == pytest.approx(0.2 - 0.925)


def test_orders_agree_by_hand():
    """Insertion and deletion in the same order on picture 0 (1), in the opposite one on picture 1 (-1)."""
    table = tidy(insertion_blur={"a": [0.9, 0.9], "b": [0.5, 0.5], "c": [0.1, 0.1], "random": [0.0, 1.0]},
                 deletion_mean={"a": [0.1, 0.9], "b": [0.5, 0.5], "c": [0.9, 0.1], "random": [0.0, 1.0]})  # fmt: skip
    assert orders_agree(table).tolist() == pytest.approx([1, -1])
    mixed = tidy(insertion_blur={"a": [0.3], "b": [0.5], "c": [0.1], "d": [0.2]},
                 deletion_mean={"a": [0.3], "b": [0.5], "c": [0.2], "d": [0.6]})  # fmt: skip
    assert orders_agree(mixed).iloc[0] == pytest.approx(spearmanr([3, 5, 1, 2], [-3, -5, -2, -6]).statistic)
    assert len(orders_agree(tidy(insertion_blur={"a": [1.0]}))) == 0


# A run in small


def picture(name: str, seed: int, kind: str = "photo", target: int = 0) -> Picture:
    image = torch.randn(1, 3, 32, 48, generator=torch.Generator().manual_seed(seed))
    mask = torch.zeros(1, 32, 48, dtype=torch.bool)
    mask[:, 8:20, 10:30] = True
    return Picture(name, kind, image, target, mask, human=mask[0].float())


@pytest.fixture
def small(tmp_path) -> Run:
    """A network of two logits on two photographs and a scene; two maps of its input, one of them empty at times."""
    weights = torch.randn(3, 32, 48, generator=torch.Generator().manual_seed(9))
    model = PixelFunction(lambda images: torch.stack([(images * weights).sum((1, 2, 3)), images.sum((1, 2, 3))], 1))
    methods = {"share": lambda m, x, t: (x * weights).sum(dim=1), "never": lambda m, x, t: 0 * x[:, 0],
               "uniform": uniform_map}  # fmt: skip
    return Run(model, methods, [picture("one", 1), picture("two", 2), picture("scene00 hen", 3, "scene")], tmp_path)


def value(table: pd.DataFrame, name: str, method: str, metric: str) -> float:
    (found,) = table[(table.picture == name) & (table.method == method) & (table.metric == metric)].value
    return found


def test_scores_of_a_small_run(small, tmp_path):
    table = evaluate(small, ["map", "places", "scenes", "curves", "sensitivity"])
    assert value(table, "one", "share", "sensitivity_n") == pytest.approx(1, abs=1e-3)
    assert math.isnan(value(table, "one", "never", "insertion_blur"))
    assert math.isnan(value(table, "scene00 hen", "never", "energy"))
    assert value(table, "scene00 hen", "uniform", "energy") == pytest.approx(240 / (32 * 48))
    assert value(table, "scene00 hen", "share", "energy") == value(table, "scene00 hen", "share", "reachable")
    assert value(table, "one", "uniform", "box_energy") == pytest.approx(240 / (32 * 48))
    for metric in ("deletion_mean", "insertion_blur"):
        curve = np.load(tmp_path / "kept" / small.name / f"one-share-{metric.replace('_', '-')}.npy")
        assert value(table, "one", "share", metric) == pytest.approx(area_under_curve(curve))
    again = read_scores(tmp_path / "scores.csv")
    pd.testing.assert_frame_equal(again, table.reset_index(drop=True))


def test_only_what_is_missing_is_computed(small, monkeypatch):
    first = evaluate(small, ["map"])
    small.methods["late"] = lambda m, x, t: x[:, 0]
    asked = []
    monkeypatch.setitem(GROUPS, "map", GROUPS["map"]._replace(
        score=lambda run, picture, method: asked.append(method) or {("roughness", ""): 0.5}))  # fmt: skip
    second = evaluate(small, ["map"])
    assert asked == ["late", "late"]
    assert len(second) == len(first) + 2


def test_a_run_is_its_network_its_pictures_and_its_seed(small, tmp_path):
    def name(**changes: object) -> str:
        settings = {"model": small.model, "methods": {}, "pictures": small.pictures, "folder": tmp_path} | changes
        return Run(**settings).name

    recropped = [picture("one", 7), *small.pictures[1:]]
    others = [name(seed=1), name(quick=True), name(pictures=recropped), name(model=torch.nn.Linear(2, 2))]
    assert name() == small.name
    assert len({small.name, *others}) == 5


def test_a_map_that_random_weights_leave_empty_shares_nothing(tmp_path, tiny):
    """Grad-CAM-like: positive for the trained network, zeros for every other."""
    def method(model: torch.nn.Module, images: Tensor, target: int) -> Tensor:
        return images[:, 0].abs() * float(model.conv1.weight.equal(tiny.conv1.weight))

    one = Picture("one", "photo", torch.randn(1, 3, 16, 16, dtype=torch.float64), 0)
    run = Run(tiny, {"gone": method, "stays": lambda m, x, t: x[:, 0]}, [one], tmp_path)
    gone, stays = (study.score_randomization(run, one, name) for name in run.methods)
    assert gone["likeness", ""] == 0
    assert gone["likeness_empty", ""] == 1
    assert gone["top_likeness", ""] == pytest.approx(1)                # conv1 is not in the top two stages
    assert gone["top_likeness_empty", ""] == 0
    assert stays["likeness", ""] == pytest.approx(1)
    assert stays["likeness_empty", ""] == 0


def test_mosaics_are_of_four_classes_that_the_network_finds(monkeypatch):
    photos = [picture(f"p{i}", i, target=target) for i, target in enumerate((0, 0, 1, 2, 3, 4, 5, 6))]
    seen = []
    monkeypatch.setattr(study_pictures, "finds", lambda _net, _image, four, within: seen.append(four) or 6 not in four)
    found = mosaics(None, photos, 5, seed=0)
    assert len(found) == len({one.name for one in found}) == 5
    for one in found:
        assert one.image.shape == (4, 3, 32, 48)
        assert len(set(one.target)) == 4
        assert 6 not in one.target
    assert any(6 in classes for classes in seen)
    assert [one.name for one in mosaics(None, photos, 5, seed=0)] == [one.name for one in found]
    assert mosaics(None, photos[:4], 5, seed=0) == []                  # three classes make no mosaic
    assert len(mosaics(None, photos[1:5], 5, seed=0, tries=30)) <= 24  # one set of four, in 24 orders


def test_tasks_are_limited_and_asked_of_the_right_methods(small):
    names = ["vanilla_gradient", "integrated_gradients", "random", "uniform"]
    many = [picture(f"p{i}", i) for i in range(12)] + [picture(f"s{i}", i, "scene") for i in range(30)]
    run = Run(small.model, dict.fromkeys(names), many, small.folder)
    todo = pd.DataFrame([(group, one.kind, method) for group, one, method in tasks(run, list(GROUPS))],
                        columns=["group", "kind", "method"])  # fmt: skip
    assert set(todo[todo.group == "infidelity"].method) == {"integrated_gradients", "random", "uniform"}
    assert set(todo[todo.group == "untrained"].method) == {"vanilla_gradient", "integrated_gradients"}
    assert set(todo[todo.group == "baselines"].method) == {"integrated_gradients"}
    assert (todo[todo.group == "scenes"].kind == "scene").all()
    assert set(todo[todo.group == "scenes"].method) == {*names, *PERFECT}
    assert len(todo[todo.group == "curves"]) == 12 * 4
    assert len(todo[todo.group == "true_background"]) == 20 * 6
    assert todo[todo.group == "sensitivity"].kind.value_counts().to_dict() == {"photo": 12 * 4, "scene": 5 * 4}
    run.quick = True
    assert len(list(tasks(run, ["curves"]))) == 4


def test_only_pictures_that_are_needed_are_made():
    assert counts(True, ["map", "places", "curves"]) == {"scene": 0, "pair": 0, "mosaic": 0}
    assert counts(True, ["scenes", "grid"]) == {"scene": 2, "pair": 0, "mosaic": 0}
    assert counts(False, ["true_background"]) == {"scene": 20, "pair": 0, "mosaic": 0}
    assert counts(False, ["true_background", "untrained"])["scene"] == 24
    assert counts(False, list(GROUPS)) == {"scene": 200, "pair": 50, "mosaic": 50}


def test_a_method_that_refuses_the_network_is_left_out_and_says_why(capsys):
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Tanh(), torch.nn.AdaptiveAvgPool2d(1),
                              torch.nn.Flatten(), torch.nn.Linear(4, 2)).eval()  # fmt: skip
    names = ("uniform", "vanilla_gradient", "guided_backpropagation")
    good = usable({name: METHODS[name] for name in names}, net, torch.randn(1, 3, 32, 32))
    assert list(good) == ["vanilla_gradient", "uniform"]               # controls last
    assert re.fullmatch(r"guided_backpropagation is left out: .*Tanh.*\n", capsys.readouterr().out)


def test_the_studys_methods_are_the_lessons_and_lrp(small):
    added = {"lrp_composite", "lrp_conserving"}
    assert set(METHODS) - set(methods.METHODS) == added == set(SHARES) - set(methods.SHARES)
    assert tuple(METHODS)[-len(CONTROLS):] == CONTROLS


def test_the_perfect_map_is_the_mask(small):
    """In a scene whose background is known, the mask's order removes the animal first, and then nothing is left."""
    scene = small.pictures[2]
    assert torch.equal(small.map(scene, "animal"), scene.masks[0].float())
    ground = scene.image.clone()
    ground[..., 8:20, 10:30] = -1                                      # darker inside: another score
    small.pictures[2] = replace(scene, ground=ground)
    small.step = 240                                                   # as many pixels as the animal has
    study.score_curves(small, small.pictures[2], "animal")
    curve = small.found("scene00 hen-animal-deletion-true")
    with torch.no_grad():
        before, after = (small.model(x).softmax(dim=1)[0, 0].item() for x in (scene.image, ground))
    assert curve[0] == pytest.approx(before, abs=1e-6)
    assert curve[1:] == pytest.approx(after, abs=1e-6)                 # nothing is left to remove
    curve = small.found("scene00 hen-animal-insertion-true")
    assert curve[0] == pytest.approx(after, abs=1e-6)
    assert curve[1:] == pytest.approx(before, abs=1e-6)
    assert abs(before - after) > 1e-3


@pytest.mark.parametrize(("ground", "fill"), [("mean", torch.zeros_like), ("blur", study.authors_blur)])
def test_a_deletion_begins_with_the_photograph_and_an_insertion_ends_with_it(small, ground, fill):
    photo = small.pictures[0]
    study.score_curves(small, photo, "uniform")
    with torch.no_grad():
        whole, nothing = (small.model(x).softmax(dim=1)[0, 0].item() for x in (photo.image, fill(photo.image)))
    assert abs(whole - nothing) > 1e-3
    for name, ends in (("deletion", (whole, nothing)), ("insertion", (nothing, whole))):
        curve = small.found(f"one-uniform-{name}-{ground}")
        assert (curve[0], curve[-1]) == pytest.approx(ends, abs=1e-5)


def test_what_training_adds_is_the_difference(small, monkeypatch):
    """The network without training is one whose map is uniform: its energy is the mask's share of the area."""
    scene = small.pictures[2]
    monkeypatch.setattr(study, "untrained", lambda _method: uniform_map)
    found = study.score_untrained(small, scene, "share")
    trained, area = energy_pointing_game(small.map(scene, "share"), scene.masks), 240 / (32 * 48)
    assert found["untrained_energy", ""] == pytest.approx(area)
    assert abs(trained - area) > 1e-3
    assert found["learned_energy", ""] == pytest.approx(trained - area)
    table = tidy(learned_energy={"grad_cam": np.linspace(0.1, 0.3, 12)})
    (row,) = against_controls(table, ["grad_cam"]).itertuples()
    assert (row.control, row.n, row.verdict) == ("zero", 12, "holds")
    assert row.mean == pytest.approx(0.2)


def test_photographs_get_boxes_for_the_annotated_class_only(squeezenet):
    files = [Path("koala.jpg"), Path("giraffe.jpg")]
    koala, giraffe = photographs(squeezenet, files, None, "cpu")
    assert koala.masks.shape[1:] == koala.human.shape == (224, 224)
    assert giraffe.masks is None
    assert giraffe.human is None
    (other,) = photographs(squeezenet, files[:1], 388, "cpu")
    assert other.masks is None


# The lesson as a program


TWO = ("--image", "dog.jpg", "--image", "koala.jpg")
SOME = "grad_cam,vanilla_gradient,random,random_coarse,edges,edges_coarse,centre,uniform"


def run(*options: object) -> int:
    return run_script(LESSON, "--quick", *(str(option) for option in options))


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory) -> Path:
    """Two methods and their controls on two pictures."""
    out = tmp_path_factory.mktemp("run")
    assert run(*TWO, "--methods", SOME, "--output-dir", out) == 0
    return out


@pytest.mark.slow
def test_what_a_run_writes(quick_run):
    names = {path.name for path in quick_run.iterdir()}
    figures = {"idea.png", "gallery.png", "curves.png", "scenes.png", "forest.png"}
    assert names == figures | {"scores.csv", "runs.csv", "08_report.md", "kept"}
    table = read_scores(quick_run / "scores.csv")
    assert set(table["method"]) == {*SOME.split(","), *PERFECT}
    assert set(METRICS) - set(table["metric"]) == {"grid"}             # a quick run makes no mosaic
    scene = table[table["group"] == "scenes"].picture.iloc[0]
    (kept,) = quick_run.glob(f"kept/*/{scene}-grad_cam.npy")
    assert 0 < value(table, scene, "grad_cam", "energy") < 1
    assert np.load(kept).shape == (224, 224)


@pytest.mark.slow
def test_the_report_repeats_the_numbers_and_gives_no_verdict_on_few_pictures(quick_run):
    text = (quick_run / "08_report.md").read_text()
    table = read_scores(quick_run / "scores.csv")
    for metric in ("insertion_blur", "energy", "roughness"):
        for method in ("grad_cam", "random"):
            assert str(estimate_of(table, metric, method)) in text
    assert "| too few pictures |" in text
    assert not re.search(r"\| (holds|does not hold|undecided) \|", text)
    assert "nan" not in re.findall(r"\w+", text)
    assert "inf" not in re.findall(r"\w+", text)


@pytest.mark.slow
def test_a_second_run_computes_nothing(quick_run, monkeypatch):
    def never(*_: object, **__: object) -> None:
        raise AssertionError("computed again")

    before = (quick_run / "scores.csv").read_bytes()
    monkeypatch.setattr(study, "usable", lambda methods, *_: methods)  # it asks each method once, on a small picture
    for name in SOME.split(","):
        monkeypatch.setitem(METHODS, name, never)
    for name in ("replacement_curve", "removal_drops", "randomized", "max_sensitivity"):
        monkeypatch.setattr(study, name, never)
    assert run(*TWO, "--methods", SOME, "--output-dir", quick_run) == 0
    assert (quick_run / "scores.csv").read_bytes() == before


@pytest.mark.slow
def test_a_students_method_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS, "mine", lambda model, images, target: images[:, 0])
    options = ["--image", "dog.jpg", "--methods", "mine", "--metrics", "map,places"]
    assert run(*options, "--output-dir", tmp_path) == 0
    assert set(read_scores(tmp_path / "scores.csv")["method"]) == {"mine"}


@pytest.mark.slow
def test_human_maps_of_a_folder_take_the_place_of_boxes(tmp_path):
    """The centred Gaussian as human map, the same as method: they agree; without the folder the boxes stand in."""
    options = ["--image", "koala.jpg", "--methods", "centre", "--metrics", "places"]
    np.save(tmp_path / "koala.npy", centre_map(None, torch.zeros(1, 3, 300, 300))[0].numpy())
    found = []
    for i, more in enumerate((["--human", tmp_path], [])):
        assert run(*options, *more, "--output-dir", tmp_path / str(i)) == 0
        found.append(value(read_scores(tmp_path / str(i) / "scores.csv"), "koala.jpg", "centre", "human"))
    assert found[0] > 0.99
    assert found[1] < 0.9


def test_a_missing_human_folder_is_told(tmp_path, capsys):
    assert run("--human", tmp_path / "none", "--output-dir", tmp_path) == 1
    assert "--human" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "known"), [("--methods", "grad_cam"), ("--metrics", "curves")])
def test_unknown_names_are_told(option, known, tmp_path, capsys):
    assert run(option, "nonsense", "--output-dir", tmp_path) == 1
    error = capsys.readouterr().err
    assert re.fullmatch(rf"error: .*nonsense.*{known}.*\n", error)


@pytest.mark.slow
def test_a_foreign_scores_csv_is_not_overwritten(tmp_path, capsys):
    (tmp_path / "scores.csv").write_text("name,points\nanna,3\n")
    assert run("--image", "dog.jpg", "--metrics", "map", "--methods", "random", "--output-dir", tmp_path) == 1
    assert "move it away" in capsys.readouterr().err
    assert (tmp_path / "scores.csv").read_text() == "name,points\nanna,3\n"


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_run_loses_nothing(tmp_path):
    methods, metrics = "smoothgrad,grad_cam,random", "map,places,scenes"
    options = ["--quick", "--image", "dog.jpg", "--methods", methods, "--metrics", metrics]
    command = [sys.executable, PROJECT_ROOT / f"{LESSON}.py", *options, "--output-dir", tmp_path]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline and len(read_scores(tmp_path / "scores.csv")) < 8:
            time.sleep(0.01)
        running.send_signal(signal.SIGKILL)
    before = read_scores(tmp_path / "scores.csv")
    assert len(before) >= 8
    assert run(*options[1:], "--output-dir", tmp_path) == 0
    after = read_scores(tmp_path / "scores.csv")
    pd.testing.assert_frame_equal(after.iloc[: len(before)], before)
    assert not after.duplicated(["run", "group", "picture", "method", "metric", "detail"]).any()
    assert len(after) > len(before)
    assert not list(tmp_path.rglob("*.part"))


# Its parts


def test_every_part_is_named_and_exists():
    text, names = (PROJECT_ROOT / f"{LESSON}.py").read_text(), import_lesson(LESSON).PARTS
    lessons = {file.stem for file in (PROJECT_ROOT / "evaluation").glob("*.py")
               if file.read_text().startswith("# %% [markdown]")}  # fmt: skip
    assert set(names) == lessons
    assert all(f"# | `{name}` |" in text for name in names)


def test_a_part_runs_with_the_rest_of_the_options(monkeypatch):
    ran = []
    monkeypatch.setattr(parts.runpy, "run_module", lambda name, run_name: ran.append((name, run_name, sys.argv[1:])))
    assert run_script(LESSON, "planted_scenes", "--quick", "--seed", "3") == 0
    assert ran == [("evaluation.planted_scenes", "__main__", ["--quick", "--seed", "3"])]


def test_an_unknown_part_is_one_sentence_and_help_lists_them(capfd):
    assert run_script(LESSON, "planted_scene") == 1
    said = capfd.readouterr().err
    assert re.fullmatch(r"error: there is no part 'planted_scene'; there are .*planted_scenes.*\n", said)
    assert run_script(LESSON, "--help") == 0
    printed = capfd.readouterr().out
    assert all(name in printed for name in import_lesson(LESSON).PARTS)


def test_energies_of_the_figure_are_those_of_the_table(small):
    """A map's energy in the figure of scenes is computed from the same kept map."""
    table = evaluate(small, ["scenes"])
    map = small.map(small.pictures[2], "share")
    assert energy_pointing_game(map, small.pictures[2].masks) == value(table, "scene00 hen", "share", "energy")


def test_scenes_show_energy_and_its_share_of_what_is_reachable(small, monkeypatch):
    """A map that is the whole coarse animal has all that is reachable, and less energy than the animal itself."""
    scene = small.pictures[2]
    small.methods["grad_cam"] = lambda m, x, t: small.map(scene, "animal_coarse")[None]
    monkeypatch.setattr(study, "grain", lambda _model, _image: (4, 6))
    shown = {}
    monkeypatch.setattr(study_figures, "map_grid", lambda images, maps, **options: shown.update(options["notes"]))
    study_figures.figure_scenes(small, [scene])
    energy = energy_pointing_game(small.map(scene, "animal_coarse"), scene.masks)
    assert 0.3 < energy < 0.95
    assert shown["grad\ncam"] == [f"{energy:.2f} (1.00)"]
    assert shown["share"] == ["{0:.2f} ({0:.2f})".format(energy_pointing_game(small.map(scene, "share"), scene.masks))]
    assert shown["never"] == ["empty"]


def test_the_forest_plot_has_no_interval_where_there_is_no_verdict():
    """Two pictures' interval holds the truth in half of the cases (is_it_chance): it would look like a finding."""
    judged = pd.DataFrame({"metric": "energy", "method": ["grad_cam", "lrp"], "mean": [0.2, 0.3], "low": [0.1, 0.2],
                           "high": [0.3, 0.4], "n": [12, 2], "verdict": ["holds", "too few pictures"]})  # fmt: skip
    (axis,) = study_figures.figure_forest(judged, ["energy"]).axes
    lines = [line for line in axis.lines if len(line.get_xdata()) == 2 and np.isfinite(line.get_xdata()).all()]
    assert [line.get_color() for line in lines] == ["black", "tab:red"]                    # one interval, the line at 0
    assert list(judged["low"]) == [0.1, 0.2]
