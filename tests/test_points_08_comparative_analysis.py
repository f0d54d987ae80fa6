"""Exercise of lesson 08, with its points."""

import pandas as pd
import pytest
import torch
from conftest import drawing, seeded, shuffled

EXERCISES = {  # title, difficulty, minutes, when
    "8.5": ("A method of your own", 3, 60, "discuss"),
    "8.9": ("Find the unjustified verdicts", 2, 20, "assign"),
    "8.10": ("Undecided", 1, 3, "in class"),
    "8.11": ("A control wins", 1, 3, "in class"),
}

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
    """A verdict follows from interval, corrected p and the side that was claimed. Name those that do not follow."""
    right = report(("a", 0.2, 0.1, 0.3, 20, 0.001, "above", "holds"),
                   ("b", 0.0, -0.1, 0.1, 20, 0.9, "above", "undecided"),
                   ("c", -0.2, -0.3, -0.1, 20, 0.001, "above", "does not hold"),
                   ("d", -0.2, -0.3, -0.1, 20, 0.001, "below", "holds"))  # fmt: skip
    assert claims(lesson.unjustified(right)) == []
    wrong = right.assign(verdict=["does not hold", "undecided", "holds", "undecided"])
    assert claims(lesson.unjustified(wrong)) == ["a", "c", "d"]
    false = torch.randint(2, (12,), generator=drawing(0)).tolist()
    many = report(*((f"claim {i}", 0.2, 0.1, 0.3, 20, 1e-6, "above", "undecided" if each else "holds")
                    for i, each in enumerate(false)))  # fmt: skip
    assert claims(lesson.unjustified(many)) == [f"claim {i}" for i, each in enumerate(false) if each]


@pytest.mark.points(1, exercise="8.9")
def test_few_pictures_and_intervals_over_zero(lesson):
    """Below ten pictures there is no verdict; an interval over zero shows nothing. Rows keep their order."""
    table = report(("few", 0.2, 0.1, 0.3, 9, 0.004, "above", "holds"),
                   ("ten", 0.2, 0.1, 0.3, 10, 0.002, "above", "holds"),
                   ("over zero", 0.1, -0.01, 0.2, 30, 0.06, "above", "holds"),
                   ("no tie", 0.1, -0.01, 0.2, 30, 0.06, "above", "does not hold"),
                   ("told", 0.2, 0.1, 0.3, 3, 0.25, "above", "too few pictures"))  # fmt: skip
    assert claims(lesson.unjustified(table)) == ["few", "over zero", "no tie"]
    order = shuffled(range(5), 1)
    expected = [table["claim"][i] for i in order if i in (0, 2, 3)]
    assert claims(lesson.unjustified(table.iloc[order].reset_index(drop=True))) == expected


@pytest.mark.points(1, exercise="8.9")
def test_p_is_corrected_for_the_claims_that_can_be_judged(lesson):
    """0.04 alone is below 0.05; beside two hopeless claims it is not; claims with few pictures do not count."""
    name = f"claim {seeded(0)}"
    one = (name, 0.2, 0.1, 0.3, 20, 0.04, "above", "holds")
    hopeless = [(name, 0.0, -0.1, 0.1, 20, 0.9, "above", "undecided") for name in ("x", "y")]
    few = [(f"few {i}", 0.0, -0.1, 0.1, 3, 1.0, "above", "too few pictures") for i in range(40)]
    assert claims(lesson.unjustified(report(one))) == []
    assert claims(lesson.unjustified(report(one, *few))) == []
    assert claims(lesson.unjustified(report(*hopeless, one))) == [name]
    again = report(*hopeless, one)
    again.index = [7, 3, 5]
    assert claims(lesson.unjustified(again)) == [name]


# BEGIN KEPT BACK
QUESTIONS = {
    "8.10": {
        "a": "Could ten photographs show that two methods are *equal*?",
        "b": "Every method got its values. What is missing is certainty about a difference.",
        "c": "How often would chance alone bring about the better mean?",
        "d": "Ten photographs can show large differences only. Undecided is no tie.",
    },
    "8.11": {
        "a": "Then nobody learns that no knowledge was needed to win.",
        "b": "The column may measure the wrong thing. What would show whether a method adds anything?",
        "c": "A control says what is to be had for nothing. Only the rest is the method's.",
        "d": "Whoever picks controls after looking can show anything.",
    },
}


JUSTIFIED = 'justified = judge(reported)["verdict"]'
DIFFERS = 'justified != reported["verdict"]'

WRONG = [
    ("8.9", "nothing computed", "", "return []"),
    ("8.9", "nothing computed: all claims", "", "return reported['claim'].tolist()"),
    ("8.9", "the justified ones", DIFFERS, 'justified == reported["verdict"]'),
    ("8.9", "p not corrected", JUSTIFIED,
     "justified = pd.concat([judge(reported.iloc[[i]]) for i in range(len(reported))])['verdict']"),
    ("8.9", "the number of pictures ignored", "judge(reported)", "judge(reported, smallest=1)"),
    ("8.9", "from eleven pictures on", "judge(reported)", "judge(reported, smallest=11)"),
    ("8.9", "few pictures only", "", "return reported.loc[reported['n'] < 10, 'claim'].tolist()"),
    ("8.9", "p ignored", "judge(reported)", "judge(reported.assign(p=0.0))"),
    ("8.9", "the direction ignored", DIFFERS,
     '(justified != reported["verdict"]) & ~(justified.isin(["holds", "does not hold"])'
     ' & reported["verdict"].isin(["holds", "does not hold"]))'),
    ("8.9", "claims that are said to hold only", DIFFERS,
     '(justified != reported["verdict"]) & (reported["verdict"] == "holds")'),
    ("8.9", "row numbers", '"claim"].tolist()', '"claim"].index.tolist()'),
    ("8.9", "verdicts instead of claims", '"claim"].tolist()', '"verdict"].tolist()'),
    ("8.9", "every claim counts in the correction", "judge(reported)", "judge(reported, smallest=0)"),
]  # fmt: skip

RIGHT = [
    ("8.9", "row by row", "",
     "judged = judge(reported)\n"
     "pairs = zip(reported['claim'], reported['verdict'], judged['verdict'], strict=True)\n"
     "return [claim for claim, said, right in pairs if said != right]"),
    ("8.9", "by hand", "",
     "from scipy.stats import false_discovery_control\n"
     "enough = reported[reported['n'] >= 10]\n"
     "corrected = dict(zip(enough.index, false_discovery_control(enough['p']), strict=True)) if len(enough) else {}\n"
     "found = []\n"
     "for i, row in reported.iterrows():\n"
     "    right = 'undecided' if i in corrected else 'too few pictures'\n"
     "    if corrected.get(i, 1) <= 0.05 and (row['low'] > 0 or row['high'] < 0):\n"
     "        right = 'holds' if (row['low'] > 0) == (row['side'] == 'above') else 'does not hold'\n"
     "    if right != row['verdict']:\n"
     "        found.append(row['claim'])\n"
     "return found"),
]  # fmt: skip
# END KEPT BACK
