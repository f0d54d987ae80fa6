"""From scores to statements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """Mean over pictures and its 95 % bootstrap interval, NaN for fewer than two pictures; how many."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}]" if self.n else "-"


def bootstrap(values: Sequence[float], resamples: int = 10_000) -> Estimate:
    """Percentile bootstrap of the mean; NaN values are left out (and not counted)."""
    met = np.array([value for value in values if not math.isnan(value)])
    if len(met) < 2:
        return Estimate(met.mean() if len(met) else math.nan, math.nan, math.nan, len(met))
    drawn = np.random.default_rng(0).integers(len(met), size=(resamples, len(met)))
    low, high = np.percentile(met[drawn].mean(axis=1), [2.5, 97.5])
    return Estimate(float(met.mean()), float(low), float(high), len(met))


def overlap(first: Estimate, second: Estimate) -> bool:
    """Whether two intervals have a point in common."""
    return first.low <= second.high and second.low <= first.high


def verdict(estimate: Estimate, claim: str, bound: float) -> str:
    """Of the claim that the mean lies "above" or "below" a bound."""
    if estimate.n < 3:
        return "undecided (too few pictures)"
    above, below = estimate.low > bound, estimate.high < bound
    return "undecided" if not (above or below) else "holds" if above == (claim == "above") else "does not hold"
