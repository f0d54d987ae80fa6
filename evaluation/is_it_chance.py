# %% [markdown]
# # Is it chance? From scores to statements
#
# One method scores 0.86 on ten photographs, another 0.81. Is the first one better, or did it meet kinder pictures? A
# table of means does not say. This part turns scores into statements, and says when to make none.
#
# **After this part you can**
#
# 1. compare two methods picture by picture, on the same pictures;
# 2. say how often coins would do as well;
# 3. give an interval for a mean and for a rate of hits, and say when not to believe it;
# 4. correct for many claims at once.
#
# **Level** advanced. **Before it** a method and a metric, such as deletion and insertion.
# **Papers** Efron, *Better Bootstrap Confidence Intervals*, JASA 1987 (BCa); Wilson, JASA 1927 (interval of a rate);
# Benjamini and Hochberg, *Controlling the False Discovery Rate*, JRSS B 1995.

# %%
r"""Paired differences, intervals, coins. Run `python -m evaluation.is_it_chance`; --help lists the options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import binom, binomtest, false_discovery_control, permutation_test, ttest_1samp
from scipy.stats import bootstrap as scipy_bootstrap
from torch import Tensor, nn

from course.lesson import print_table, start
from evaluation.deletion_insertion import area_under_curve, insertion_curve
from evaluation.methods import METHODS

# %% [markdown]
# ## A picture of the idea
#
# Ten pictures, two methods. On the left every picture is a line from its score with B to its score with A. The two
# columns overlap, because some pictures are easy and others hard *for both*. But every line rises. In the
# middle each line has become one number, A minus B. What is easy or hard about a picture has gone.
#
# If A and B were equally good, each of these ten numbers could as well have had the other sign: heads or tails. The
# grey bars show the mean of the ten after all 1,024 ways in which ten coins can fall. The red line is the mean that we
# saw.


# %%
def coin_means(differences: Sequence[float]) -> np.ndarray:
    """The mean difference for each of the 2^n ways to choose the signs, (2^n,)."""
    n = len(differences)
    signs = 1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)     # (2^n, n), of -1 and 1
    return signs @ np.asarray(differences) / n


def figure_idea(first: np.ndarray, second: np.ndarray, names: tuple[str, str] = ("A", "B")) -> Figure:
    """Scores of two methods on the same pictures; their differences; what coins would do. At most 16 pictures."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
    for pair in zip(second, first, strict=True):
        left.plot([0, 1], pair, "o-", color="tab:green" if pair[1] > pair[0] else "tab:orange", alpha=0.7)
    left.set(xticks=[0, 1], xticklabels=names[::-1], xlim=(-0.3, 1.3), ylabel="score", title="each line is a picture")
    differences = first - second
    middle.plot(differences, range(len(differences)), "o", color="black")
    middle.axvline(0, color="0.6")
    middle.set(yticks=[], xlabel=f"{names[0]} minus {names[1]}", title="the difference on each picture")
    right.hist(coin_means(differences), bins=40, color="0.7")
    right.axvline(differences.mean(), color="tab:red", lw=2)
    right.set(yticks=[], xlabel="mean difference", title="grey: what coins would do")
    return figure


if __name__ == "__main__":
    lesson = start(
        "evaluation.is_it_chance", "Is a difference between two methods more than chance?",
        images=["dog.jpg", "bird.jpg", "panda.jpg", "koala.jpg", "bison.jpg", "chicken.jpg", "jaguar.jpg", "lemur.jpg",
                "polar_bear.jpg", "red_panda.jpg"],
    )  # fmt: skip
    model, images, targets = lesson.model, lesson.images, lesson.targets
    random = np.random.default_rng(3)
    easy = random.uniform(0.3, 0.9, size=10)                           # how easy each picture is
    lesson.show(figure_idea(easy + random.normal(0.05, 0.04, size=10), easy), "idea")

# %% [markdown]
# ## By hand
#
# Three pictures, with differences of 0.1, 0.2 and 0.3. All are positive, their mean is 0.2. Three coins fall in
# $2^3 = 8$ ways. Two of them give a mean that is as far from 0: all heads, and all tails. So pure chance does as well
# in 2 of 8 cases. Chance in one of four cases: **with three pictures nobody can show anything**, however clear the
# result looks. With ten pictures of one sign it is 2 of 1,024.
#
# ## The formula
#
# Let $a_i$ and $b_i$ be the scores of two methods on picture $i$, and $d_i = a_i - b_i$. Then
#
# $$\bar d = \frac 1 n \sum_i d_i, \qquad
# p = \Pr_{s} \Big[ \Big| \frac 1 n \sum_i s_i d_i \Big| \ge |\bar d| \Big], \qquad s_i = \pm 1 \text{ by a fair coin}$$
#
# | symbol | meaning |
# | --- | --- |
# | $\bar d$ | the mean difference: the size of the effect |
# | $p$ | how often coins bring about a mean as far from 0 |
#
# ## The method
#
# Scores come as one tidy table: a row for each picture, method and metric. Pandas turns it into a column for each
# method, so that one row is one picture. Where a method has no value, for instance because its map is empty, the
# picture cannot be paired; such cases are counted and reported, not forgotten.


# %%
def paired_difference(table: pd.DataFrame, metric: str, first: str, second: str) -> pd.Series:
    """First method's value minus the second's, on each picture that has both.

    Args:
        table: columns picture, method, metric, detail, value; in any order of rows, NaN where there is no value.
            Rows that differ only in their detail (several subset sizes, several stages) are averaged.
        metric: which rows count.
        first, second: names of two methods.

    Returns:
        Series of float, its index the pictures; empty if they share none.
    """
    # BEGIN SOLUTION 8.8
    rows = table[table["metric"] == metric]
    wide = rows.pivot_table(index="picture", columns="method", values="value", aggfunc="mean")
    wide = wide.reindex(columns=[first, second])                       # a method without rows becomes NaN
    return (wide[first] - wide[second]).dropna()
    # END SOLUTION


class Estimate(NamedTuple):
    """A mean over n pictures and its 95 % interval. Without an interval (n < 2) low and high are -inf and inf."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        if self.n == 0:
            return "empty"
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}]" if self.n > 1 else f"{self.mean:.2f}"


def estimate(values: Sequence[float]) -> Estimate:
    """The mean and its BCa bootstrap interval: the pictures drawn again, with replacement, ten thousand times.

    BCa corrects the plain percentiles for bias and skewness. NaN values are left out, and n counts the rest.
    """
    values = np.asarray(values, dtype=float)
    values = values[~np.isnan(values)]
    n, mean = len(values), float(values.mean()) if len(values) else 0.0
    if n < 2:
        return Estimate(mean, -np.inf, np.inf, n)
    if np.ptp(values) <= 1e-9 * abs(mean):                             # all alike but for rounding
        return Estimate(mean, mean, mean, n)
    drawn = scipy_bootstrap((values,), np.mean, n_resamples=9999, method="BCa", random_state=np.random.default_rng(0))
    return Estimate(mean, *map(float, drawn.confidence_interval), n)


def hit_rate(hits: Sequence[bool | float | None]) -> Estimate:
    """A rate of hits and its Wilson interval, which does not shrink to a point when all are hits. None is left out."""
    known = [bool(hit) for hit in hits if pd.notna(hit)]
    if not known:
        return Estimate(0.0, -np.inf, np.inf, 0)
    interval = binomtest(sum(known), len(known)).proportion_ci(method="wilson")
    return Estimate(sum(known) / len(known), float(interval.low), float(interval.high), len(known))


def coin_p(differences: Sequence[float]) -> float:
    """How often coins do as well: the two-sided sign-flip test of a mean of 0, exact up to 13 differences.

    In (0, 1]; 1 for fewer than two differences, and for zeros.
    """
    differences = np.asarray(differences, dtype=float)
    if len(differences) < 2 or not differences.any():
        return 1.0
    test = permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=9999,
                            random_state=np.random.default_rng(0))  # fmt: skip
    return float(test.pvalue)


# %%
def insertion_areas(model: nn.Module, images: Tensor, targets: Tensor, names: Sequence[str], step: int) -> pd.DataFrame:
    """Insertion areas of a method, of two controls, on each image: a tidy table."""
    rows = []
    for name, image, target in zip(names, images, targets.tolist(), strict=True):
        for method in ("guided_backpropagation", "centre", "random"):
            curve = insertion_curve(model, image, METHODS[method](model, image[None], target)[0], target, step=step)
            rows.append((name, method, "insertion", "", area_under_curve(curve)))
    return pd.DataFrame(rows, columns=["picture", "method", "metric", "detail", "value"])


if __name__ == "__main__":
    assert coin_p([0.1, 0.2, 0.3]) == 2 / 8, "three pictures: 2 of the 8 ways in which three coins can fall"
    table = insertion_areas(model, images, targets, lesson.names, step=7168)
    wide = table.pivot_table(index="picture", columns="method", values="value")
    print_table(["insertion AUC", "mean and interval"], [[method, estimate(wide[method])] for method in wide])
    rows = []
    for second in ("centre", "random"):
        d = paired_difference(table, "insertion", "guided_backpropagation", second)
        rows.append([f"guided backpropagation minus {second}", estimate(d), int((d > 0).sum()), len(d), coin_p(d)])
    print_table(["paired difference", "mean and interval", "positive", "n", "p of coins"], rows)
    shown = figure_idea(wide["guided_backpropagation"].to_numpy(), wide["centre"].to_numpy(), ("guided", "centre"))
    lesson.show(shown, "guided_minus_centre")

# %% [markdown]
# With ResNet-50 the two intervals of guided backpropagation and of the centre overlap: [0.90, 0.97] and [0.83, 0.95].
# Whoever compares them says "not to be told apart". The paired difference says otherwise: 0.04 [0.02, 0.09], and coins
# do as well in 14 of 1,000 cases. The two statements do not contradict each other. The first interval answers "which
# mean would *other* pictures give", and pictures vary a lot. The second one compares on the *same* pictures.
#
# ## Hits, and intervals that shrink to a point
#
# A pointing game gives hits and misses. Ten hits of ten are a rate of 1. Drawing ten pictures again from ten hits gives
# ten hits every time, so the bootstrap says [1.00, 1.00]: certain for ever. Wilson's interval asks instead which true
# rates would make such a result not too surprising.


# %%
def drawn_rate(hits: int, n: int) -> tuple[float, float]:
    """The bootstrap's 95 % interval of a rate, exact: drawing n times again gives a binomial number of hits."""
    return tuple(binom.ppf([0.025, 0.975], n, hits / n) / n)


def rate_coverage(rate: float, n: int) -> tuple[float, float]:
    """How often the bootstrap's and Wilson's interval of n hits and misses hold the true rate."""
    inside = [
        [low <= rate <= high for low, high in (drawn_rate(k, n), hit_rate([1] * k + [0] * (n - k))[1:3])]
        for k in range(n + 1)
    ]
    return tuple(binom.pmf(range(n + 1), n, rate) @ np.array(inside))


if __name__ == "__main__":
    rows = [[f"{k} of {n}", "[{:.2f}, {:.2f}]".format(*drawn_rate(k, n)), hit_rate([1] * k + [0] * (n - k))]
            for k, n in ((4, 4), (10, 10), (19, 20))]  # fmt: skip
    print_table(["hits", "bootstrap", "Wilson"], rows)
    held = rate_coverage(0.95, 20)
    print(f"true rate 0.95, n = 20: the bootstrap's interval holds it in {held[0]:.0%}, Wilson's in {held[1]:.0%}")

# %% [markdown]
# ## Many claims
#
# A report with twelve claims asks twelve times. If nothing at all is true, each question is still answered "yes" by
# chance in one of twenty cases, and among twelve questions a wrong "yes" is nearly as likely as not. Benjamini and
# Hochberg's correction raises the $p$ values so that of all claims we accept, at most 5 % are expected to be wrong.
#
# A verdict needs four things here: ten pictures, an interval on one side of 0, a corrected $p$ of at most 0.05, and a
# claim that was written down *before* looking at the numbers. The last one no code can check.


# %%
def judge(claims: pd.DataFrame, *, smallest: int = 10, rate: float = 0.05) -> pd.DataFrame:
    """Verdicts on a table of claims, corrected for their number.

    Args:
        claims: a row each; columns mean, low, high, n, p, and side: "above" or "below" 0, where the mean should be.
        smallest: number of pictures below which there is no verdict.
        rate: of wrong discoveries among the accepted, as expected.

    Returns:
        A copy with the columns corrected, Benjamini and Hochberg's p (1 where there are too few pictures), and verdict:
        "holds", "does not hold" (the opposite is shown), "undecided" or "too few pictures".
    """
    judged = claims.assign(corrected=1.0, verdict="undecided")
    enough = judged["n"] >= smallest
    if enough.any():
        judged.loc[enough, "corrected"] = false_discovery_control(judged.loc[enough, "p"])
    shown = enough & (judged["corrected"] <= rate)
    above, below = shown & (judged["low"] > 0), shown & (judged["high"] < 0)
    claimed = judged["side"] == "above"
    judged.loc[(above & claimed) | (below & ~claimed), "verdict"] = "holds"
    judged.loc[(above & ~claimed) | (below & claimed), "verdict"] = "does not hold"
    judged.loc[~enough, "verdict"] = "too few pictures"
    return judged


if __name__ == "__main__":
    noise = np.random.default_rng(lesson.seed).normal(size=(50 if lesson.quick else 200, 12, 10))
    p = np.array([[coin_p(differences) for differences in report] for report in noise])   # (reports, claims)
    corrected = false_discovery_control(p, axis=1)
    wrong, still = (p <= 0.05).any(axis=1).mean(), (corrected <= 0.05).any(axis=1).mean()
    print(f"{len(p)} reports of 12 claims about pure noise: {wrong:.0%} hold a false yes, corrected {still:.0%}")
    assert still < 0.15 < wrong, "the correction does not protect"

# %% [markdown]
# That was also the check you can break: leave the correction out, and a third to a half of all reports about *nothing*
# announce a discovery.
#
# ## The trap: an interval from three pictures
#
# The bootstrap draws from the pictures it has. From few pictures it learns little about how far pictures vary, and it
# does not know that. How often does a "95 %" interval hold the truth? We know the truth if we make the numbers
# ourselves: draw n differences, compute the interval, look whether it holds the true mean, a thousand times. Once with
# bell-shaped numbers, once with skewed ones (many small, few large).


# %%
def coverage(numbers: np.ndarray, true_mean: float) -> dict[str, float]:
    """How often 95 % intervals of the mean hold the truth; each row of (repeats, n) numbers is one experiment."""
    intervals = {}
    for method in ("percentile", "BCa"):
        drawn = scipy_bootstrap((numbers,), np.mean, axis=-1, n_resamples=999, method=method, batch=50,
                                random_state=np.random.default_rng(0))  # fmt: skip
        intervals[method] = drawn.confidence_interval
    intervals["Student's t"] = ttest_1samp(numbers, 0, axis=-1).confidence_interval()
    return {name: float(((low <= true_mean) & (true_mean <= high)).mean()) for name, (low, high) in intervals.items()}


if __name__ == "__main__":
    sizes, repeats = (2, 3, 6, 10, 20), 300 if lesson.quick else 2000
    random = np.random.default_rng(lesson.seed)
    shapes = {"bell-shaped": (random.normal, 0.0), "skewed": (random.exponential, 1.0)}
    found = {shape: [coverage(draw(size=(repeats, n)), mean) for n in sizes] for shape, (draw, mean) in shapes.items()}
    rows = [[shape, name, *(f"{100 * one[name]:.0f} %" for one in of)] for shape, of in found.items() for name in of[0]]
    print_table(["numbers", "interval", *(f"n = {n}" for n in sizes)], rows)
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
    for axis, (shape, of) in zip(axes, found.items(), strict=True):
        for name in of[0]:
            axis.plot(sizes, [100 * one[name] for one in of], "o-", label=name, alpha=0.8)
        axis.axhline(95, color="black", lw=0.8)
        axis.set(xlabel="pictures (n)", xticks=sizes, ylim=(40, 100), title=shape)
    axes[0].set_ylabel("intervals that hold the truth, %")
    axes[1].legend()
    lesson.show(figure, "coverage")

# %% [markdown]
# A "95 %" bootstrap interval from three pictures holds the truth in about 73 of 100 cases, from two in about 50. BCa
# repairs some skewness and nothing else: it does not make few pictures many. Student's t is better here, because it
# adds what it expects for small n, but skewed numbers lower it as well. So we take the interval as a picture of the
# *size* of a difference, leave the decision to the coins, which promise nothing that they do not keep, and give no
# verdict below ten pictures.
#
# ## What the picture does not show
#
# - **Not what matters.** With a thousand pictures a difference of 0.001 is "significant". Look at the size first.
# - **Not other pictures.** The ten photographs are animals, sharp and in the middle. No interval knows about X-rays.
# - **Not other networks, other seeds, other settings.** Each of them would be one more thing to draw.
# - **Not equality.** "Undecided" means: these pictures cannot tell. It does not mean that the methods are alike.
# - **Not honesty.** Whoever looks first, then picks the pair with the largest difference, gets small $p$ values from
#   noise. Write down comparison and direction before the run.
# - **A condition.** Coins give a fair $p$ if the differences would be symmetric about 0 when nothing is there.
#
# ## Exercises
#
# ### Predict first
#
# **8.14 Four pictures** (difficulty 1, 3 minutes, 1 point). On four pictures method A beats B each time. How small can
# the two-sided $p$ of coins be at best? Answer: a number.
#
# **8.15 Ten of ten** (difficulty 1, 3 minutes, 1 point). A map hits in ten of ten pictures. The bootstrap says [1.00,
# 1.00]. Why should you not print that?
#
# - **a** Because ten hits drawn again are always ten hits: the bootstrap cannot imagine a miss.
# - **b** Because the bootstrap needs at least a hundred repetitions.
# - **c** Because hits should be counted per pixel.
# - **d** Because the mean of hits is no number.

# %%
# BEGIN SOLUTION 8.14
ANSWER_8_14 = 0.125
# END SOLUTION
# BEGIN SOLUTION 8.15
ANSWER_8_15 = "a"
# END SOLUTION

# %% [markdown]
# ### Then write
#
# **8.8 The paired difference** (difficulty 2, 20 minutes, 4 points). Fill in `paired_difference`. *First predict:* ten
# pictures, A minus B is 0.1 on each. How large is $p$, and does it change if it were 0.001 on each? *Hints:* one row
# per picture, one column per method: `pivot_table` · a picture without one of the values cannot be paired · details of
# one picture are averaged first, or it would count several times. *Then break it:* shuffle one method's pictures before
# subtracting. Which number stays, the mean or the interval?
#
# ## Recap
#
# Is the difference chance?
#
# 1. Compare on the same pictures: the mean of the *differences*, not the difference of two intervals.
# 2. Coins say how often chance does as well. Three pictures: never less than one in four.
# 3. Hits get Wilson's interval; a bootstrap of ten hits claims certainty.
# 4. Twelve claims need a correction, ten pictures at least, and comparisons fixed beforehand.
# 5. Guided backpropagation beats a blob in the centre by 0.04 [0.02, 0.09] of insertion AUC on the ten photographs
#    (ResNet-50), although the two methods' own intervals overlap.
