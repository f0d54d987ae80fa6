"""evaluation/is_it_chance.py: intervals, coins, verdicts."""

import math
import random
from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, wilcoxon

from evaluation.is_it_chance import (
    Estimate,
    coin_means,
    coin_p,
    coverage,
    drawn_rate,
    estimate,
    hit_rate,
    judge,
    paired_difference,
    rate_coverage,
)  # fmt: skip


def test_the_estimate_of_a_mean():
    """In the limit of many values it is the textbook interval; NaN is left out."""
    assert estimate([2.0] * 9) == Estimate(2.0, 2.0, 2.0, 9)
    values = [*np.random.default_rng(1).normal(3, 2, 400), math.nan]
    found = estimate(values)
    assert found.n == 400
    assert found.mean == pytest.approx(np.nanmean(values))
    half = 1.96 * np.nanstd(values) / 20
    assert [found.low, found.high] == pytest.approx([found.mean - half, found.mean + half], abs=0.03)
    assert found == estimate(values), "the same numbers give the same interval"


def test_the_bca_interval_by_its_formula():
    """Efron 1987: quantiles of the drawn means, moved by bias z0 and acceleration a."""
    values = np.random.default_rng(5).exponential(size=15)
    random_ = np.random.default_rng(0)
    means = np.sort(values[random_.integers(15, size=(40_000, 15))].mean(axis=1))
    left_out = (values.sum() - values) / 14
    gap = left_out.mean() - left_out
    a, z0 = (gap**3).sum() / (6 * (gap**2).sum() ** 1.5), norm.ppf((means < values.mean()).mean())
    levels = [norm.cdf(z0 + (z0 + z) / (1 - a * (z0 + z))) for z in norm.ppf([0.025, 0.975])]
    found = estimate(values)
    assert [found.low, found.high] == pytest.approx(np.quantile(means, levels), abs=0.02)
    plain = np.quantile(means, [0.025, 0.975])
    assert found.low - plain[0] > 0.01, "skewed to the right: the interval moves up"
    assert found.high - plain[1] > 0.01


def test_few_values_have_no_interval():
    for few, mean in (([1.0], 1.0), ([math.nan, 4.0], 4.0)):
        assert estimate(few) == Estimate(mean, -math.inf, math.inf, 1)
        assert str(estimate(few)) == f"{mean:.2f}"
    for none in ([], [math.nan]):
        assert estimate(none).n == 0
        assert str(estimate(none)) == "empty"
    assert str(Estimate(0.046, 0.021, 0.0851, 10)) == "0.05 [0.02, 0.09]"


def test_wilsons_interval_by_its_formula():
    for hits, n in ((0, 7), (3, 9), (10, 10), (19, 20)):
        found, z, rate = hit_rate([True] * hits + [False] * (n - hits)), norm.ppf(0.975), hits / n
        centre, half = (rate + z**2 / 2 / n) / (1 + z**2 / n), z / (1 + z**2 / n) * math.sqrt(
            rate * (1 - rate) / n + z**2 / 4 / n**2)  # fmt: skip
        assert found == pytest.approx((rate, max(0, centre - half), min(1, centre + half), n))
    assert hit_rate([1.0, 0.0, math.nan, None, True]).n == 3
    assert hit_rate([None, math.nan]).n == 0


def test_hits_by_drawing_again():
    drawn = np.random.default_rng(0).binomial(20, 0.95, size=100_000) / 20
    assert drawn_rate(19, 20) == pytest.approx(np.percentile(drawn, [2.5, 97.5]))
    assert drawn_rate(10, 10) == (1, 1)
    assert drawn_rate(0, 10) == (0, 0)
    assert rate_coverage(0.95, 20) == pytest.approx((0.639, 0.925), abs=0.002)


def test_coins_by_hand():
    assert coin_p([0.1, 0.2, 0.3]) == 2 / 8
    assert coin_p([-0.1, -0.2, -0.3]) == 2 / 8
    assert coin_p([5.0] * 10) == 2 / 1024
    assert coin_p([1.0, -1.0]) == 1
    assert coin_p([]) == coin_p([0.0, 0.0]) == 1
    assert coin_p(pd.Series([0.1, 0.2, 0.3])) == 2 / 8


@pytest.mark.parametrize("n", [4, 9])
def test_coins_by_loops(n):
    differences = np.random.default_rng(n).normal(0.4, 1, size=n)
    means = [np.dot(signs, differences) / n for signs in product((-1, 1), repeat=n)]
    assert np.sort(coin_means(differences)) == pytest.approx(np.sort(means))
    expected = np.mean(np.abs(means) >= abs(differences.mean()) - 1e-12)
    assert coin_p(differences) == pytest.approx(expected)


def test_many_coins_are_drawn_and_agree_with_wilcoxon_in_order():
    noise = np.random.default_rng(2)
    clear, unclear = noise.normal(1, 1, size=40), noise.normal(0, 1, size=40)
    assert coin_p(clear) < 0.001
    assert coin_p(unclear) == pytest.approx(wilcoxon(unclear).pvalue, abs=0.15)


def test_coins_keep_their_promise():
    """Without any effect at most 5 % of p values are below 0.05."""
    noise = np.random.default_rng(0).normal(size=(300, 8))
    assert 0.02 < np.mean([coin_p(row) <= 0.05 for row in noise]) < 0.08


def test_differences_are_taken_picture_by_picture():
    """Pictures differ by ten, methods by one: paired, the difference is certain; the methods' own intervals overlap."""
    values = {"a": [10.0 * i + 1 for i in range(10)], "b": [10.0 * i for i in range(10)]}
    rows = [(f"picture{i}", m, "m", "", value) for m in values for i, value in enumerate(values[m])]
    random.Random(0).shuffle(rows)
    table = pd.DataFrame(rows, columns=["picture", "method", "metric", "detail", "value"])
    assert estimate(paired_difference(table, "m", "a", "b")) == Estimate(1.0, 1.0, 1.0, 10)
    a, b = (estimate(values[m]) for m in "ab")
    assert a.low < b.high
    assert list(paired_difference(table, "m", "a", "nobody")) == []
    assert list(paired_difference(table.iloc[:0], "m", "a", "b")) == []


def claim(low: float, high: float, side: str = "above", n: int = 10, p: float = 0.001) -> dict:
    return {"claim": "c", "mean": (low + high) / 2, "low": low, "high": high, "n": n, "p": p, "side": side}


@pytest.mark.parametrize(
    ("low", "high", "side", "expected"),
    [(0.1, 0.3, "above", "holds"), (-0.1, 0.3, "above", "undecided"), (-0.4, -0.1, "above", "does not hold"),
     (0.1, 0.3, "below", "does not hold"), (-0.4, -0.1, "below", "holds"), (-0.1, 0.1, "below", "undecided")],
)
def test_verdicts(low, high, side, expected):
    assert judge(pd.DataFrame([claim(low, high, side)])).verdict[0] == expected
    assert judge(pd.DataFrame([claim(low, high, side, n=9)])).verdict[0] == "too few pictures"
    assert judge(pd.DataFrame([claim(low, high, side, p=0.06)])).verdict[0] == "undecided"


def test_verdicts_are_corrected_for_their_number():
    """Benjamini and Hochberg by hand: sorted p times number over rank; claims that are not judged do not count."""
    p = [0.012, 0.03, 0.04, 0.5]
    table = pd.DataFrame([*(claim(0.1, 0.3, p=one) for one in p), *(claim(0.1, 0.3, n=3) for _ in range(50))])
    table.index = range(7, 7 + len(table))
    before = table.copy()
    judged = judge(table)
    pd.testing.assert_frame_equal(table, before)
    assert list(judged.corrected[:4]) == pytest.approx([0.048, 4 * 0.04 / 3, 4 * 0.04 / 3, 0.5])
    assert list(judged.verdict[:5]) == ["holds", "undecided", "undecided", "undecided", "too few pictures"]
    assert (judged.corrected[4:] == 1).all()


def test_coverage_of_the_bootstrap_at_few_pictures():
    """From two values drawing again gives the interval between them: it holds the mean in half the cases."""
    draws = np.random.default_rng(0)
    found = coverage(draws.normal(size=(400, 2)), 0.0)
    assert found["percentile"] == pytest.approx(0.5, abs=0.08)
    assert found["Student's t"] == pytest.approx(0.95, abs=0.04)
    ten = coverage(draws.normal(size=(400, 10)), 0.0)
    assert 0.84 < ten["BCa"] < 0.94
