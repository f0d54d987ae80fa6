"""Exercise of evaluation/is_it_chance.py, with its points."""

import math

import pandas as pd
import pytest
import torch
from conftest import drawing, factor, over_there

EXERCISES = {  # title, difficulty, minutes, when
    "8.8": ("The paired difference", 2, 20, "assign"),
    "8.14": ("Four pictures", 1, 3, "in class"),
    "8.15": ("Ten of ten", 1, 3, "in class"),
}


TIMES = factor(1)  # every score is that much larger than what stands there


def tidy(*rows: tuple) -> pd.DataFrame:
    """(picture, method, metric, detail, value) rows as the table of scores."""
    table = pd.DataFrame(rows, columns=["picture", "method", "metric", "detail", "value"])
    return table.assign(value=TIMES * table["value"])


def asked(lesson, table: pd.DataFrame, metric: str, first: str, second: str) -> tuple[str, dict]:
    """The answer's type, and picture -> difference, whatever its order."""
    found = lesson.paired_difference(table, metric, first, second)
    items = found.items() if isinstance(found, pd.Series) else ()
    return type(found).__name__, {str(picture): float(value) for picture, value in items}


def differences(lesson, *question: object) -> dict[str, float]:
    """What paired_difference says, as picture -> difference."""
    kind, numbers = over_there(lesson, asked, *question)
    assert kind == "Series", f"a Series with a difference per picture belongs here, got a {kind}"
    return {picture: number / TIMES for picture, number in numbers.items()}


@pytest.mark.points(1, exercise="8.8")
def test_first_minus_second_whatever_the_order_of_the_rows(lesson):
    """Pair by the picture's name. The order of the rows says nothing."""
    table = tidy(("owl", "a", "m", "", 5.0), ("dog", "b", "m", "", 1.0), ("cat", "b", "m", "", 9.0),
                 ("dog", "a", "m", "", 4.0), ("owl", "b", "m", "", 7.0), ("cat", "a", "m", "", 9.5))  # fmt: skip
    assert differences(lesson, table, "m", "a", "b") == {"dog": 3.0, "cat": 0.5, "owl": -2.0}
    assert differences(lesson, table, "m", "b", "a") == {"dog": -3.0, "cat": -0.5, "owl": 2.0}
    first, second = torch.randint(100, (2, 9), generator=drawing(0)).tolist()
    rows = [(f"p{i}", method, "m", "", float(values[i])) for method, values in (("b", second), ("a", first))
            for i in range(9)]  # fmt: skip
    expected = {f"p{i}": float(first[i] - second[i]) for i in range(9)}
    assert differences(lesson, tidy(*rows), "m", "a", "b") == expected


@pytest.mark.points(1, exercise="8.8")
def test_only_the_metric_and_the_two_methods_count(lesson):
    """Leave out rows of other metrics and methods first. A picture that only they have is none."""
    table = tidy(*((picture, method, metric, "", base + shift * factor)
                   for picture, base in (("dog", 1.0), ("cat", 2.0))
                   for method, shift in (("a", 0.5), ("b", 0.0), ("c", 99.0))
                   for metric, factor in (("m", 1), ("other", 7))), ("owl", "c", "m", "", 3.0))  # fmt: skip
    assert differences(lesson, table, "m", "a", "b") == {"dog": 0.5, "cat": 0.5}
    assert differences(lesson, table, "m", "c", "a") == {"dog": 98.5, "cat": 98.5}


@pytest.mark.points(1, exercise="8.8")
def test_a_picture_without_both_values_is_no_pair(lesson):
    """A difference needs two values. NaN is none."""
    table = tidy(("dog", "a", "m", "", 4.0), ("dog", "b", "m", "", 1.0), ("cat", "a", "m", "", 2.0),
                 ("owl", "a", "m", "", math.nan), ("owl", "b", "m", "", 7.0), ("hen", "b", "m", "", 7.0),
                 ("hen", "c", "m", "", 7.0))  # fmt: skip
    assert differences(lesson, table, "m", "a", "b") == {"dog": 3.0}
    assert differences(lesson, table, "m", "a", "nobody") == {}


@pytest.mark.points(1, exercise="8.8")
def test_details_are_averaged_within_a_picture(lesson):
    """Several details of a picture make one value, the mean of those that are there; each picture counts once."""
    table = tidy(("dog", "a", "m", "n=1", 1.0), ("dog", "a", "m", "n=2", 3.0), ("dog", "a", "m", "n=4", math.nan),
                 ("dog", "b", "m", "n=1", 1.0), ("dog", "b", "m", "n=2", 0.0), ("dog", "b", "m", "n=4", 2.0),
                 ("cat", "a", "m", "n=1", 8.0), ("cat", "b", "m", "n=1", 2.0))  # fmt: skip
    assert differences(lesson, table, "m", "a", "b") == {"dog": 1.0, "cat": 6.0}


# BEGIN KEPT BACK
QUESTIONS = {
    "8.14": {
        0.125: "2 of 16 ways: all heads and all tails. Four pictures can never show more.",
        0.0625: "A difference as far from 0 in the other direction counts as well.",
        0.05: "This is a custom, not what four coins can do.",
        "else": "In how many ways can four coins fall, and in how many are they all alike?",
    },
    "8.15": {
        "a": "Wilson's interval says 0.72 to 1.",
        "b": "It had thousands. What did each of them draw from?",
        "c": "A hit is one per picture, and that is not the trouble here.",
        "d": "It is a share, and has an interval. Which one?",
    },
}


def true_8_14(lesson) -> float:
    return lesson.coin_p([1.0, 2.0, 3.0, 4.0])


WIDE = 'wide = rows.pivot_table(index="picture", columns="method", values="value", aggfunc="mean")'
MINUS = "return (wide[first] - wide[second]).dropna()"

WRONG = [
    ("8.8", "nothing computed", "", "return pd.Series(dtype=float)"),
    ("8.8", "zeros", "", "return pd.Series(0.0, index=table['picture'].unique())"),
    ("8.8", "a table is returned", MINUS, "return wide"),
    ("8.8", "second minus first", "wide[first] - wide[second]", "wide[second] - wide[first]"),
    ("8.8", "absolute difference", MINUS, "return (wide[first] - wide[second]).dropna().abs()"),
    ("8.8", "rows subtracted in the order they come", "",
     "rows = table[table['metric'] == metric]\n"
     "a, b = (rows[rows['method'] == name].reset_index(drop=True) for name in (first, second))\n"
     "return pd.Series((a['value'] - b['value']).to_numpy(), index=a['picture'])"),
    ("8.8", "every metric counts", 'rows = table[table["metric"] == metric]', "rows = table"),
    ("8.8", "a missing value counts as 0", MINUS, "return wide[first].fillna(0) - wide[second].fillna(0)"),
    ("8.8", "missing pairs stay as NaN", MINUS, "return wide[first] - wide[second]"),
    ("8.8", "the first detail only", 'aggfunc="mean"', 'aggfunc="first"'),
    ("8.8", "details added up", 'aggfunc="mean"', 'aggfunc="sum"'),
    ("8.8", "difference of the means", MINUS,
     "return pd.Series([wide[first].mean() - wide[second].mean()], index=['all'])"),
    ("8.8", "divided by the second", MINUS, "return ((wide[first] - wide[second]) / wide[second]).dropna()"),
    ("8.8", "only pictures that every method has", "wide = wide.reindex(columns=[first, second])",
     "wide = wide.dropna().reindex(columns=[first, second])"),
]  # fmt: skip

RIGHT = [
    ("8.8", "groupby and unstack", "",
     "rows = table[(table['metric'] == metric) & table['method'].isin([first, second])].dropna(subset=['value'])\n"
     "means = rows.groupby(['picture', 'method'])['value'].mean().unstack()\n"
     "means = means.reindex(columns=[first, second])\nreturn means[first].sub(means[second]).dropna()"),
    ("8.8", "dictionaries", "",
     "def values(method):\n"
     "    found = {}\n"
     "    for row in table.itertuples():\n"
     "        if row.metric == metric and row.method == method and row.value == row.value:\n"
     "            found.setdefault(row.picture, []).append(row.value)\n"
     "    return {picture: sum(some) / len(some) for picture, some in found.items()}\n"
     "a, b = values(first), values(second)\n"
     "return pd.Series({picture: a[picture] - b[picture] for picture in a if picture in b}, dtype=float)"),
]  # fmt: skip
# END KEPT BACK
