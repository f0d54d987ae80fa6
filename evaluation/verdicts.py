"""From the table of a study to statements: controls, claims of the field, which method when, the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
from scipy.stats import spearmanr

from evaluation.is_it_chance import Estimate, coin_p, estimate, hit_rate, judge, paired_difference
from evaluation.methods import CONTROLS, matched_controls

# What is measured, of what, and what it is compared with. Fixed here, before any number is seen.


class Metric(NamedTuple):
    """A column of the tables: what it is called, whether higher (1) or lower (-1) is better, and its control.

    The control is a method's name; "noise" and "edges" stand for those as fine or as coarse as the method's map, "zero"
    for a metric that is a difference already.
    """

    title: str
    better: int
    control: str = ""


METRICS = {
    "deletion_mean": Metric("deletion,\nmean colour", -1, "noise"),
    "deletion_blur": Metric("deletion,\nblur", -1, "noise"),
    "deletion_true": Metric("deletion, true\nbackground", -1, "noise"),
    "insertion_mean": Metric("insertion,\nmean colour", 1, "noise"),
    "insertion_blur": Metric("insertion,\nblur", 1, "noise"),
    "insertion_true": Metric("insertion, true\nbackground", 1, "noise"),
    "sensitivity_n": Metric("sensitivity-n\n16 x 16 blocks", 1, "noise"),
    "unexplained": Metric("unexplained\nby shares", -1, "uniform"),
    "energy": Metric("energy,\nscenes", 1, "edges"),
    "reachable": Metric("energy, of\nreachable", 1),
    "hit": Metric("hits,\nscenes", 1, "edges"),
    "untrained_energy": Metric("energy,\nuntrained", 1),
    "learned_energy": Metric("energy, trained\nminus untrained", 1, "zero"),
    "right_of_two": Metric("right one\nof two", 1, "uniform"),
    "grid": Metric("mosaic", 1, "uniform"),
    "box_energy": Metric("energy,\nboxes", 1, "centre"),
    "human": Metric("rank r with\npeople or boxes", 1, "centre"),
    "max_sensitivity": Metric("moved by\nsmall noise", -1, "noise"),
    "likeness": Metric("likeness,\nall random", -1),
    "top_likeness": Metric("likeness,\ntop random", -1),
    "roughness": Metric("roughness", -1),
    "seconds": Metric("processor\nseconds", -1),
}


def values_of(table: pd.DataFrame, metric: str, method: str) -> pd.Series:
    """A method's value on each picture, details averaged; NaN where its map was empty."""
    rows = table[(table["metric"] == metric) & (table["method"] == method)]
    return rows.groupby("picture", sort=False)["value"].mean()


def estimate_of(table: pd.DataFrame, metric: str, method: str) -> Estimate:
    """Mean and interval: Wilson's for hits, the bootstrap's for everything else."""
    return (hit_rate if metric == "hit" else estimate)(values_of(table, metric, method))


def control_of(metric: str, method: str) -> str:
    """The name of a method's control: noise and edges as fine or as coarse as its map."""
    control = METRICS[metric].control
    return matched_controls(method)[("noise", "edges").index(control)] if control in ("noise", "edges") else control


def compared(table: pd.DataFrame, metric: str, method: str, control: str) -> pd.Series:
    """Method minus control on each picture."""
    if control == "zero":
        return values_of(table, metric, method).dropna()
    return paired_difference(table, metric, method, control)


def statement(differences: pd.Series, total: int, side: str = "above") -> dict:
    """What judge() needs to know of paired differences; `total` pictures were measured, some perhaps empty."""
    found = estimate(differences)
    return {**found._asdict(), "empty": total - found.n, "p": coin_p(differences), "side": side}


def against_controls(table: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Each method's paired differences from its control, positive where the method is better, judged together."""
    rows = []
    for metric, (_, better, control) in METRICS.items():
        for method in (name for name in methods if control and name not in CONTROLS):
            other, total = control_of(metric, method), len(values_of(table, metric, method))
            if total and (other == "zero" or len(values_of(table, metric, other))):
                difference = better * compared(table, metric, method, other)
                rows.append({"metric": metric, "method": method, "control": other} | statement(difference, total))
    return judge(pd.DataFrame(rows)) if rows else pd.DataFrame()


class Claim(NamedTuple):
    """What the field says of two methods by one metric: which way first minus second should lie."""

    text: str
    metric: str
    first: str
    second: str
    side: str


GRADIENT, PRODUCT, SMOOTH, INTEGRATED = ("vanilla_gradient", "gradient_times_input", "smoothgrad",
                                         "integrated_gradients")  # fmt: skip
CAM, GUIDED, GUIDED_CAM = "grad_cam", "guided_backpropagation", "guided_grad_cam"
LRP, LRP_PLUS = "lrp_composite", "lrp_conserving"

CLAIMS = (
    Claim("noise: SmoothGrad has less than the gradient", "roughness", SMOOTH, GRADIENT, "below"),
    Claim("noise: gradient x input, more than SmoothGrad", "roughness", PRODUCT, SMOOTH, "above"),
    Claim("steady: SmoothGrad more than the gradient", "max_sensitivity", SMOOTH, GRADIENT, "below"),
    Claim("deletion: IG better than noise", "deletion_mean", INTEGRATED, "random", "below"),
    Claim("deletion: IG better than gradient x input", "deletion_mean", INTEGRATED, PRODUCT, "below"),
    Claim("insertion: Grad-CAM better than coarse noise", "insertion_blur", CAM, "random_coarse", "above"),
    Claim("insertion: Grad-CAM better than the centre", "insertion_blur", CAM, "centre", "above"),
    Claim("true background: Grad-CAM beats coarse noise", "deletion_true", CAM, "random_coarse", "below"),
    Claim("true background: the gradient beats edges", "deletion_true", GRADIENT, "edges", "below"),
    Claim("losses: IG's shares say more than areas", "unexplained", INTEGRATED, "uniform", "below"),
    Claim("losses: LRP's shares say more than areas", "unexplained", LRP, "uniform", "below"),
    Claim("losses: Grad-CAM says more than noise", "sensitivity_n", CAM, "random_coarse", "above"),
    Claim("animals: the gradient beats the edges", "energy", GRADIENT, "edges", "above"),
    Claim("animals: Grad-CAM beats the gradient", "energy", CAM, GRADIENT, "above"),
    Claim("animals: Grad-CAM beats guided backprop.", "energy", CAM, GUIDED, "above"),
    Claim("animals: Grad-CAM hits more than the gradient", "hit", CAM, GRADIENT, "above"),
    Claim("animals: LRP beats gradient x input", "energy", LRP, PRODUCT, "above"),
    Claim("class: guided backprop. less than Grad-CAM", "right_of_two", GUIDED, CAM, "below"),
    Claim("class: guided backprop. more than not at all", "right_of_two", GUIDED, "uniform", "above"),
    Claim("class: guided Grad-CAM more than guided b.", "right_of_two", GUIDED_CAM, GUIDED, "above"),
    Claim("class: LRP z+ less than LRP composite", "right_of_two", LRP_PLUS, LRP, "below"),
    Claim("top random: guided b. stays, Grad-CAM less", "top_likeness", GUIDED, CAM, "above"),
    Claim("top random: guided b. stays, gradient less", "top_likeness", GUIDED, GRADIENT, "above"),
    Claim("top random: LRP z+ stays, gradient less", "top_likeness", LRP_PLUS, GRADIENT, "above"),
    Claim("boxes: Grad-CAM agrees more than the centre", "human", CAM, "centre", "above"),
)

# Two curves that should put methods in the same order
ORDERS = {
    "insertion and deletion order methods alike": ("insertion_blur", "deletion_mean"),
    "they do so with the mean colour in both": ("insertion_mean", "deletion_mean"),
}


def orders_agree(table: pd.DataFrame, higher: str = "insertion_blur", lower: str = "deletion_mean") -> pd.Series:
    """Per picture, Spearman's correlation of the methods' orders by two metrics: higher is better, lower is better."""
    rows = table[table["metric"].isin([higher, lower]) & ~table["method"].isin(CONTROLS)]
    wide = rows.pivot_table(index=["picture", "metric"], columns="method", values="value").dropna()
    if wide.shape[1] < 3 or set(wide.index.get_level_values("metric")) != {higher, lower}:
        return pd.Series(dtype=float)
    insertion, deletion = wide.xs(higher, level="metric"), wide.xs(lower, level="metric")
    both = insertion.index.intersection(deletion.index)
    return pd.Series([spearmanr(insertion.loc[i], -deletion.loc[i]).statistic for i in both], index=both, dtype=float)


def claims(table: pd.DataFrame) -> pd.DataFrame:
    """The field's claims on these pictures, judged together; those without any data are left out."""
    rows = []
    for text, metric, first, second, side in CLAIMS:
        total = len(values_of(table, metric, first))
        number = f"{METRICS[metric].title}: {first} minus {second}".replace("\n", " ")
        if total and len(values_of(table, metric, second)):
            difference = paired_difference(table, metric, first, second)
            rows.append({"claim": text, "number": number} | statement(difference, total, side))
    other, same = (values_of(table, metric, INTEGRATED) for metric in ("other_baseline", "same_baseline"))
    baselines = (other - same).dropna()
    if len(baselines):
        number = "r with another baseline minus r with half the steps"
        rows.append({"claim": "baselines: they change IG, steps do less", "number": number}
                    | statement(baselines, len(baselines), "below"))  # fmt: skip
    for text, metrics in ORDERS.items():
        agreement = orders_agree(table, *metrics)
        if len(agreement):
            number = f"rank correlation of the orders by {' and '.join(metrics)}"
            rows.append({"claim": text, "number": number} | statement(agreement, len(agreement), "above"))
    return judge(pd.DataFrame(rows)) if rows else pd.DataFrame()


# Question, metric that answers it, caution
QUESTIONS = (
    ("Which pixels keep the answer up when they come back?", "insertion_blur",
     "A blurred picture with some sharp pixels is none that the network knows."),
    ("Which pixels bring the answer down when they go?", "deletion_mean",
     "Scattered grey pixels are as foreign to the network as any."),
    ("What would removing a tenth of the picture cost?", "sensitivity_n",
     "Only maps of shares promise a loss; for the others a correlation is a gift."),
    ("Where in the picture is the animal?", "energy",
     "Planted animals have no surroundings of their own. A coarse map cannot reach 1."),
    ("Which of two animals is meant?", "right_of_two", "One half is what a map has that does not listen."),
    ("Is it where the boxes are?", "box_energy", "They fill most of the crop, and photographers centre."),
    ("Does the map stay when the picture hardly changes?", "max_sensitivity",
     "A map that never changes is perfectly steady and says nothing."),
)  # fmt: skip


WORDS = {"holds": "Better than the control", "does not hold": "Worse", "undecided": "Not to be told from it"}


def guidelines(judged: pd.DataFrame) -> list[str]:
    """One paragraph per question: which methods beat their control, by how much; which do not; one caution.

    Nothing on questions with too few pictures.
    """
    paragraphs = []
    for question, metric, caution in QUESTIONS:
        rows = judged
        if len(judged):
            rows = judged[(judged["metric"] == metric) & (judged["verdict"] != "too few pictures")]
        if len(rows):
            text = f"- **{question}** ({METRICS[metric].title}, n = {rows['n'].max()}) ".replace("\n", " ")
            for verdict, words in WORDS.items():
                some = rows[rows["verdict"] == verdict].sort_values("mean", ascending=False)
                names = [f"{row.method} ({row.mean:+.2f} against {row.control})" for row in some.itertuples()]
                text += f"{words}: {', '.join(names)}. " if names else ""
            paragraphs.append(f"{text}*{caution}*")
    return paragraphs


def markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(str(cell).replace("\n", " ") for cell in line) + " |" for line in lines]


def with_n(found: Estimate, empty: int) -> str:
    """"0.33 [0.28, 0.37], n = 20, 1 empty"."""
    return f"{found}, n = {found.n}" * bool(found.n) + ", " * bool(found.n and empty) + f"{empty} empty" * bool(empty)


def judgements(judged: pd.DataFrame, places: list[str], mean: str) -> list[str]:
    """A table of judged statements in Markdown."""
    rows = [[*(getattr(row, place) for place in places), Estimate(row.mean, row.low, row.high, row.n), row.n, row.empty,
             f"{row.corrected:.2g}", row.verdict] for row in judged.itertuples()]  # fmt: skip
    return markdown([*places, mean, "n", "empty", "p, corrected", "verdict"], rows)


def report(
    table: pd.DataFrame, methods: Sequence[str], judged: pd.DataFrame, said: pd.DataFrame, heading: str
) -> str:
    """08_report.md: every number with its interval and n; what against_controls and claims found; which method when."""
    measured = [metric for metric in METRICS if (table["metric"] == metric).any()]
    cells = [[method, *(with_n(estimate_of(table, metric, method), int(values_of(table, metric, method).isna().sum()))
                        for metric in measured)] for method in methods]  # fmt: skip
    lines = ["# Comparative analysis", "", heading, "", "## Every method by every metric", "", "Mean and 95 % interval "
             "over pictures. random, centre, edges and uniform know nothing of the network.", ""]  # fmt: skip
    lines += markdown(["method", *(METRICS[metric].title for metric in measured)], cells)
    compared = judgements(judged, ["metric", "method", "control"], "better by")
    lines += ["", "## Against a control, picture by picture", "", *compared]
    lines += ["", "## Claims of the field, on these pictures", "", *judgements(said, ["claim", "number"], "mean")]
    lines += ["", "## Which method when", "", *(guidelines(judged) or ["Fewer than ten pictures: nothing to say."]), ""]
    return "\n".join(lines)
