"""Exercise of evaluation/is_it_chance.py, with its points."""

import math

import pandas as pd
import pytest
from conftest import over_there


def tidy(*rows: tuple) -> pd.DataFrame:
    """(picture, method, metric, detail, value) rows as the table of scores."""
    return pd.DataFrame(rows, columns=["picture", "method", "metric", "detail", "value"])


def asked(lesson, table: pd.DataFrame, metric: str, first: str, second: str) -> tuple[str, dict]:
    """The answer's type, and picture -> difference, whatever its order."""
    found = lesson.paired_difference(table, metric, first, second)
    items = found.items() if isinstance(found, pd.Series) else ()
    return type(found).__name__, {str(picture): float(value) for picture, value in items}


def differences(lesson, *question: object) -> dict[str, float]:
    """What paired_difference says, as picture -> difference."""
    kind, numbers = over_there(lesson, asked, *question)
    assert kind == "Series", f"a Series with a difference per picture belongs here, got a {kind}"
    return numbers


@pytest.mark.points(1, exercise="8.8")
def test_first_minus_second_whatever_the_order_of_the_rows(lesson):
    table = tidy(("owl", "a", "m", "", 5.0), ("dog", "b", "m", "", 1.0), ("cat", "b", "m", "", 9.0),
                 ("dog", "a", "m", "", 4.0), ("owl", "b", "m", "", 7.0), ("cat", "a", "m", "", 9.5))  # fmt: skip
    assert differences(lesson, table, "m", "a", "b") == {"dog": 3.0, "cat": 0.5, "owl": -2.0}
    assert differences(lesson, table, "m", "b", "a") == {"dog": -3.0, "cat": -0.5, "owl": 2.0}


@pytest.mark.points(1, exercise="8.8")
def test_only_the_metric_and_the_two_methods_count(lesson):
    table = tidy(*((picture, method, metric, "", base + shift * factor)
                   for picture, base in (("dog", 1.0), ("cat", 2.0))
                   for method, shift in (("a", 0.5), ("b", 0.0), ("c", 99.0))
                   for metric, factor in (("m", 1), ("other", 7))), ("owl", "c", "m", "", 3.0))  # fmt: skip
    assert differences(lesson, table, "m", "a", "b") == {"dog": 0.5, "cat": 0.5}
    assert differences(lesson, table, "m", "c", "a") == {"dog": 98.5, "cat": 98.5}


@pytest.mark.points(1, exercise="8.8")
def test_a_picture_without_both_values_is_no_pair(lesson):
    table = tidy(("dog", "a", "m", "", 4.0), ("dog", "b", "m", "", 1.0), ("cat", "a", "m", "", 2.0),
                 ("owl", "a", "m", "", math.nan), ("owl", "b", "m", "", 7.0), ("hen", "b", "m", "", 7.0),
                 ("hen", "c", "m", "", 7.0))  # fmt: skip
    assert differences(lesson, table, "m", "a", "b") == {"dog": 3.0}
    assert differences(lesson, table, "m", "a", "nobody") == {}


@pytest.mark.points(1, exercise="8.8")
def test_details_are_averaged_within_a_picture(lesson):
    table = tidy(("dog", "a", "m", "n=1", 1.0), ("dog", "a", "m", "n=2", 3.0), ("dog", "a", "m", "n=4", math.nan),
                 ("dog", "b", "m", "n=1", 1.0), ("dog", "b", "m", "n=2", 0.0), ("dog", "b", "m", "n=4", 2.0),
                 ("cat", "a", "m", "n=1", 8.0), ("cat", "b", "m", "n=1", 2.0))  # fmt: skip
    assert differences(lesson, table, "m", "a", "b") == {"dog": 1.0, "cat": 6.0}
