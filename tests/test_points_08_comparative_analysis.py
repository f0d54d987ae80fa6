"""Exercise of lesson 08, with its points."""

import pandas as pd
import pytest

COLUMNS = ["claim", "mean", "low", "high", "n", "p", "side", "verdict"]


def report(*rows: tuple) -> pd.DataFrame:
    """A colleague's report: (claim, mean, low, high, n, p, side, verdict) rows."""
    return pd.DataFrame(rows, columns=COLUMNS)


def claims(found: object) -> list[str]:
    """The answer as a list of texts."""
    assert isinstance(found, list | tuple | pd.Series), f"a list of claims belongs here, got {type(found).__name__}"
    return [str(claim) for claim in found]


@pytest.mark.points(1, exercise="8.9")
def test_right_verdicts_stay_and_wrong_ones_are_named_in_order(lesson):
    right = report(("a", 0.2, 0.1, 0.3, 20, 0.001, "above", "holds"),
                   ("b", 0.0, -0.1, 0.1, 20, 0.9, "above", "undecided"),
                   ("c", -0.2, -0.3, -0.1, 20, 0.001, "above", "does not hold"),
                   ("d", -0.2, -0.3, -0.1, 20, 0.001, "below", "holds"))  # fmt: skip
    assert claims(lesson.unjustified(right)) == []
    wrong = right.assign(verdict=["does not hold", "undecided", "holds", "undecided"])
    assert claims(lesson.unjustified(wrong)) == ["a", "c", "d"]


@pytest.mark.points(1, exercise="8.9")
def test_few_pictures_and_intervals_over_zero(lesson):
    table = report(("few", 0.2, 0.1, 0.3, 9, 0.004, "above", "holds"),
                   ("ten", 0.2, 0.1, 0.3, 10, 0.002, "above", "holds"),
                   ("over zero", 0.1, -0.01, 0.2, 30, 0.06, "above", "holds"),
                   ("no tie", 0.1, -0.01, 0.2, 30, 0.06, "above", "does not hold"),
                   ("told", 0.2, 0.1, 0.3, 3, 0.25, "above", "too few pictures"))  # fmt: skip
    assert claims(lesson.unjustified(table)) == ["few", "over zero", "no tie"]


@pytest.mark.points(1, exercise="8.9")
def test_p_is_corrected_for_the_claims_that_can_be_judged(lesson):
    """0.04 alone is below 0.05; beside two hopeless claims it is not; claims with few pictures do not count."""
    one = ("c", 0.2, 0.1, 0.3, 20, 0.04, "above", "holds")
    hopeless = [(name, 0.0, -0.1, 0.1, 20, 0.9, "above", "undecided") for name in ("x", "y")]
    few = [(f"few {i}", 0.0, -0.1, 0.1, 3, 1.0, "above", "too few pictures") for i in range(40)]
    assert claims(lesson.unjustified(report(one))) == []
    assert claims(lesson.unjustified(report(one, *few))) == []
    assert claims(lesson.unjustified(report(*hopeless, one))) == ["c"]
    again = report(*hopeless, one)
    again.index = [7, 3, 5]
    assert claims(lesson.unjustified(again)) == ["c"]
