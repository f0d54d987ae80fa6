"""The committed results: their tables are what the scores say, and README and lesson 08 say the same."""

import math
import re
from pathlib import Path

import pandas as pd
import pytest

from evaluation import results
from evaluation.results import (
    LESSON,
    NETWORKS,
    README,
    RESULTS,
    block_of_claims,
    block_of_controls,
    collect,
    judged,
    overall,
    read_judged,
    replaced,
    table_of,
    with_interval,
    written,
)
from evaluation.study import COLUMNS, METHODS, PERFECT
from evaluation.verdicts import CLAIMS, METRICS


def test_readme_and_lesson_say_what_the_results_say():
    tables = read_judged()
    for file, text in written(tables["controls"], tables["claims"]).items():
        assert file.read_text(encoding="utf-8") == text, f"{file.name}: run `python -m evaluation.results`"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_judged_tables_are_what_the_scores_say():
    """Computed anew from the committed scores: means, counts, verdicts; and intervals to rounding."""
    for name, anew in judged().items():
        kept = read_judged()[name]
        key = ["network", "claim"] if name == "claims" else ["network", "metric", "method"]
        both = kept.merge(anew, on=key, suffixes=("", "_anew"))
        assert len(both) == len(kept) == len(anew)
        for column in ("mean", "low", "high"):
            close = (both[column].astype(float) - both[f"{column}_anew"]).abs() <= 1e-3 + 1e-3 * both[column].abs()
            assert close.all(), both[~close]
        for column in ("n", "empty", "verdict"):
            assert (both[column] == both[f"{column}_anew"]).all(), column


MEASURED = [name for name in NETWORKS if (RESULTS / f"{name}.csv").exists()]


@pytest.mark.parametrize("network", MEASURED)
def test_committed_scores_are_of_known_methods_and_metrics(network):
    table = table_of(network)
    assert len(table) > 0
    assert set(table["method"]) <= {*METHODS, *PERFECT}
    unknown = set(table["metric"]) - set(METRICS)
    assert unknown <= {"same_baseline", "other_baseline", "likeness_empty", "top_likeness_empty", "nothing"}
    assert not table.duplicated(["group", "picture", "method", "metric", "detail"]).any()
    shares = table[table["metric"].isin(["energy", "grid", "box_energy", "right_of_two"])]["value"].dropna()
    assert shares.between(0, 1).all()


def test_every_network_and_every_claim_is_in_the_table():
    said = read_judged()["claims"]
    assert set(said["network"]) == set(MEASURED)
    assert len(MEASURED) >= 2
    assert {text for text, *_ in CLAIMS} <= set(said["claim"])
    assert not said[said["n"] > 1][["mean", "low", "high"]].astype(str).isin(["nan", "inf", "-inf", ""]).any(axis=None)


def test_the_recaps_intervals_are_those_of_the_tables():
    """Each "-0.04 [-0.06, -0.01]" of lesson 08's recap stands in a table of the network that the recap names."""
    text = re.sub(r"\n# +", " ", LESSON.read_text(encoding="utf-8").partition("# ## Recap")[2])
    number = r"[-+]?\d\.\d\d"
    said = [tuple(map(float, found)) for found in re.findall(rf"({number}) \[({number}), ({number})\]", text)]
    assert len(said) >= 8
    assert "ResNet-50's" in text
    rows = pd.concat([table[table["network"] == "resnet50"] for table in read_judged().values()])
    known = rows[["mean", "low", "high"]].astype(float).to_numpy()
    for interval in said:
        assert (abs(known - interval) < 0.00501).all(axis=1).any(), interval


# By hand


ROWS = pd.DataFrame(
    [("a > b", "resnet50", 0.25, 0.125, 0.375, 20, "holds"), ("a > b", "squeezenet1_1", -0.5, -0.75, -0.25, 20,
     "does not hold"), ("a > c", "resnet50", 0.25, -0.25, 0.5, 19, "undecided")],
    columns=["claim", "network", "mean", "low", "high", "n", "verdict"],
)  # fmt: skip


def test_the_claims_by_hand():
    words = block_of_claims(ROWS, numbers=False)
    assert words[0] == "| claim | resnet50 | squeezenet1_1 | on all |"
    assert words[2] == "| a > b | holds | opposite | depends on the network |"
    assert words[3] == "| a > c | undecided |  | one network only |"
    numbers = block_of_claims(ROWS)
    assert "| a > b | 0.25 [0.12, 0.38], n = 20: holds | -0.50 [-0.75, -0.25], n = 20: opposite |" in numbers[2]


@pytest.mark.parametrize(("verdicts", "said"), [
    (["holds", "holds"], "holds"), (["does not hold"] * 3, "the opposite holds"),
    (["holds"], "one network only"), (["holds", "undecided"], "not shown on all"),
    (["holds", "does not hold"], "depends on the network"),
])  # fmt: skip
def test_a_claim_holds_only_if_it_holds_on_all(verdicts, said):
    assert overall(verdicts) == said


def test_the_controls_by_hand():
    rows = [("resnet50", metric, "grad_cam", 0.5, 0.25, 0.75, 19, verdict) for metric, verdict in zip(
        results.COMPARED, ("holds", "undecided", "does not hold", "holds"), strict=True)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["network", "metric", "method", "mean", "low", "high", "n", "verdict"])
    head, _, line = block_of_controls(table)
    assert head.startswith("| resnet50 | insertion, above noise (n = 19) |")
    cell = "0.50 [0.25, 0.75]"
    assert line == f"| Grad-CAM (coarse controls) | **{cell}** | {cell} | {cell}, worse | **{cell}** |"
    assert with_interval(next(table.itertuples())) == f"**{cell}**"


def test_zero_has_no_sign():
    assert results.interval(-0.001, -0.004, 0.004) == "0.00 [0.00, 0.00]"
    assert results.interval(-0.006, -0.25, 0.125) == "-0.01 [-0.25, 0.12]"


def test_only_the_lines_between_the_marks_change():
    text = "# before\n# <!-- claims -->\n# old\n# <!-- end of claims -->\n# after\n"
    new = replaced(text, "claims", ["| x |"], "# ")
    assert new == "# before\n# <!-- claims -->\n#\n# | x |\n#\n# <!-- end of claims -->\n# after\n"
    assert replaced(new, "claims", ["| x |"], "# ") == new
    with pytest.raises(ValueError, match="controls"):
        replaced(text, "controls", [])


def test_collect_takes_the_last_full_run(tmp_path):
    runs = [("o-p-0-full-3584", "resnet50"), ("n-p-0-full-3584", "resnet50"), ("n-p-0-quick-7168", "squeezenet1_1"),
            ("n-p-1-full-3584", "resnet50")]  # fmt: skip
    pd.DataFrame(runs, columns=["run", "network"]).to_csv(tmp_path / "runs.csv", index=False)
    place, values = ("map", "dog.jpg"), (0.2, 1 / 3, 0.5, 0.7)
    scores = [(run, *place, "grad_cam", "roughness", "", value) for (run, _), value in zip(runs, values, strict=True)]
    scores.append((runs[1][0], *place, "random", "roughness", "", math.nan))
    pd.DataFrame(scores, columns=COLUMNS).to_csv(tmp_path / "scores.csv", index=False)
    collect(tmp_path, tmp_path / "results")
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == ["resnet50.csv", "runs.csv"]
    table = table_of("resnet50", tmp_path / "results")
    assert table["value"].tolist()[0] == 0.3333
    assert table["value"].isna().tolist() == [False, True]
    assert pd.read_csv(tmp_path / "results" / "runs.csv")["network"].tolist() == ["resnet50"]


def test_a_folder_without_a_full_run_is_told(tmp_path):
    with pytest.raises(ValueError, match="no full run"):
        collect(tmp_path)


def test_the_marks_stand_in_readme_and_lesson():
    assert isinstance(RESULTS, Path)
    for file, names in ((README, ("controls", "claims", "photographs")), (LESSON, ("claims",))):
        text = file.read_text(encoding="utf-8")
        assert all(f"<!-- {name} -->" in text for name in names)
