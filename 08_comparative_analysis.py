# %% [markdown]
# # 08 Comparative analysis: which map is the better one, and how would you know?
#
# Seven lessons have drawn maps, and each ended with what its picture does not show. Now they stand side by side. There
# is no single number for a good explanation: there are questions, and each has its own experiment. This lesson puts
# every question to every method, and to maps that know nothing, and then asks which claims of the field are left.
#
# **After this lesson you can**
#
# 1. say which question an experiment asks, and which trap belongs to it;
# 2. read a score beside the control that makes it mean something;
# 3. tell a difference from chance, and leave undecided what is undecided;
# 4. choose a method for a purpose, with the number that speaks for it;
# 5. put a method of your own to the same test.
#
# **Level** advanced. **Before it** lessons 01 to 07. Each question has a part of its own, a lesson with an example by
# hand; the table below names them. **Papers** are named there.

# %%
r"""Every method, every question. Run `python 08_comparative_analysis.py`; with a part's name behind it, that part."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pandas as pd
import torch
from matplotlib.figure import Figure
from skimage.filters import sobel

from course.figures import map_grid
from course.files import write_text
from course.lesson import print_table, start
from course.parts import hand_over
from course.paths import DATA_DIR
from course.scenes import counterfactual_scene, planted_scene
from evaluation.deletion_insertion import area_under_curve, deletion_curve, insertion_curve
from evaluation.is_it_chance import Estimate, judge
from evaluation.planted_scenes import energy_pointing_game, grid_pointing_game, human_agreement, pointing_game
from evaluation.sanity_checks import parameter_randomization
from evaluation.sensitivity import infidelity, sensitivity_n
from evaluation.steadiness import max_sensitivity
from evaluation.study import GROUPS, METHODS, PERFECT, chosen, evaluate, prepare
from evaluation.study_figures import figure_curves, figure_forest, figure_gallery, figure_scenes
from evaluation.verdicts import METRICS, against_controls, claims, estimate_of, guidelines, report, values_of

__all__ = [
    "METHODS", "area_under_curve", "counterfactual_scene", "deletion_curve", "energy_pointing_game",
    "grid_pointing_game", "human_agreement", "infidelity", "insertion_curve", "max_sensitivity",
    "parameter_randomization", "planted_scene", "pointing_game", "sensitivity_n", "unjustified",
]  # fmt: skip

# %% [markdown]
# ## A picture of the idea
#
# A tiny world: the picture has a disk, and stripes of grass. The network's score is the brightness of the disk's left
# half, plus that of one corner of the grass. Four maps explain it. The first shows the weights, so it *is* the truth.
# The second is what a person would draw, the third the edges of the picture, the last a spot in the middle. Three
# questions are put to each:
#
# - *lost*: which share of the score goes when the fifth of the picture that the map ranks highest goes?
# - *on it*: which share of the map lies on the disk?
# - *forgets*: does the map change when the network's weights are replaced by noise?
#
# The truth loses the second question to the drawing, because the network uses the grass, and the truth says so. Each
# question has its own winner, and only two of the three ask the network.


# %%
def figure_idea() -> Figure:
    """A network of half a disk and a corner; four maps, three questions."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
    disk = (x - 0.35) ** 2 + (y + 0.3) ** 2 < 0.1
    weights = ((disk & (x < 0.35)) | ((x < -0.6) & (y > 0.6))).float()
    picture = torch.where(disk, 0.9, 0.1 + 0.35 * ((8 * (x + y)).sin() > 0.3))
    edges, spot = torch.from_numpy(sobel(picture.numpy())), torch.exp(-4 * (x**2 + y**2))
    maps = {"the weights": weights, "drawn by a person": disk.float(), "edges": edges, "a spot in the middle": spot}
    notes = {}
    for name, map in maps.items():
        left = picture * (map < map.flatten().quantile(0.8).clamp(min=1e-6))
        lost, share = 1 - (weights * left).sum() / (weights * picture).sum(), (map * disk).sum() / map.sum()
        notes[name] = [f"lost {lost:.2f}, on it {share:.2f}, {'forgets' if name == 'the weights' else 'stays'}"]
    image = (picture - 0.45) / 0.225                                   # roughly the networks' normalisation
    return map_grid(image.expand(1, 3, -1, -1), {name: map[None] for name, map in maps.items()}, notes=notes,
                    titles=["picture"], heading="The score: half the disk and a corner of the grass")  # fmt: skip


PARTS = ("deletion_insertion", "sensitivity", "steadiness", "planted_scenes", "sanity_checks", "is_it_chance")

if __name__ == "__main__":
    hand_over("evaluation", PARTS)
    listed = {"type": lambda text: text.split(","), "metavar": "A,B"}
    lesson = start(
        "08_comparative_analysis",
        f"Which map is the better one? A part's name, put first, runs that part: {', '.join(PARTS)}.",
        images=sorted(path.name for path in DATA_DIR.glob("*.jpg")),
        options={
            "--methods": {**listed, "help": f"some of {','.join(METHODS)} (default: all)"},
            "--metrics": {**listed, "help": f"some of {','.join(GROUPS)} (default: all)"},
            "--step": {"type": int, "help": "pixels exchanged at once (default: 3584, with --quick 7168)"},
            "--human": {"type": Path, "metavar": "DIR", "help": "human maps: <stem of the photo>.png or .npy"},
        },
        in_notebooks=["--quick"],
    )  # fmt: skip
    groups = chosen(lesson.args.metrics, GROUPS, "metric")
    run = prepare(lesson, groups)
    lesson.show(figure_idea(), "idea")

# %% [markdown]
# ## What each part asks
#
# | part | question | by hand | its trap |
# | --- | --- | --- | --- |
# | `deletion_insertion` | Does the score follow the map's order? | four pixels | a grey pixel is not a missing one |
# | `sensitivity` | Do the *numbers* predict a loss? | min(A + B, 1) + 2 C | slopes are not shares |
# | `steadiness` | Does the map stay, if the picture hardly moves? | two pixels | what never moves says nothing |
# | `planted_scenes` | Is the map where the animal is? | nine pixels | evidence beside the animal |
# | `sanity_checks` | Does the map change when the network forgets? | four ranks | noise passes best |
# | `is_it_chance` | Is a difference more than chance? | three pictures | an interval from three pictures |
#
# `python 08_comparative_analysis.py planted_scenes` runs one of them.
#
# ## The methods and the controls
#
# A method here is a function (model, images, target) -> (B, H, W). `METHODS` names nine, and six controls that know
# nothing of the network: noise and edges at every pixel, noise and edges in cells as large as Grad-CAM's (7 x 7 cells
# in a ResNet, 13 x 13 in a SqueezeNet), a spot in the centre, the same value everywhere. *One control does not fit
# all.* A coarse map is compared with coarse noise and coarse edges, a fine one with fine ones. Before any number was
# computed, each metric got its control: `METRICS` in evaluation/verdicts.py. Two more rows show the best that is
# possible where the place is known: `animal` is the animal's own mask, `animal_coarse` the mask in Grad-CAM's cells.
#
# A method of your own is one line: `METHODS["mine"] = my_function`.
#
# ## The run
#
# Nineteen photographs, two hundred scenes with one planted animal, fifty with two, up to fifty mosaics of four
# photographs. Each value is a row of one table: picture, method, metric, value. It is kept in scores.csv after every
# step, so a run that was stopped goes on where it stopped. (With ResNet-50 it takes some two hours on two cores.
# `--quick` takes SqueezeNet and few pictures, and gives no verdicts.)

# %%
if __name__ == "__main__":
    table = evaluate(run, groups)
    methods = list(run.methods)
    kinds = pd.Series([picture.kind for picture in run.pictures]).value_counts()
    print(f"{lesson.model_name}: {len(table)} values of {len(methods)} methods and controls on",
          ", ".join(f"{count} {kind}{'s' * (count > 1)}" for kind, count in kinds.items()))  # fmt: skip
    photos, scenes = ([picture for picture in run.pictures if picture.kind == kind] for kind in ("photo", "scene"))
    lesson.show(figure_gallery(run, [*photos[:3], *scenes[:1]]), "gallery")

# %% [markdown]
# ## Every method by every metric
#
# A row is a method, a column a metric: mean and 95 % interval over pictures. The last rows know nothing of the network.
#
# | column | what it asks |
# | --- | --- |
# | deletion, insertion | the probability when the marked pixels go, or come back (area under the curve) |
# | mean colour, blur, true background | what is put in their place; the last one only in scenes, where it is known |
# | energy, hits | the share of the map on the planted animal; whether its maximum lies there |
# | of reachable | the same share, divided by what a perfect map as coarse as this one could have |
# | untrained | the same share for the same method on a network with random weights, and what training adds |
# | right one of two | with two animals, the share on the one asked for; one half if the map does not listen |
# | mosaic | of four photographs, the share in the right quarter; 0.25 if the map does not listen |
# | unexplained | the part of the losses that the shares do not predict (1 - R²), sensitivity part |
# | sensitivity-n | correlation of what the map promises and what removing a tenth costs |
# | boxes, rank r | the share in boxes drawn by hand; agreement with people, or with boxes in their place |
# | moved | how far the map moves when the picture hardly changes |
# | likeness | how like its map stays when the top stages, or all, have random weights |
# | roughness | difference of neighbours; 1 is noise |
#
# Read no cell alone: the interval tells how far *pictures* differ, and says nothing yet about two methods.

# %%
TABLES = (
    ("deletion_mean", "deletion_blur", "deletion_true"), ("insertion_mean", "insertion_blur", "insertion_true"),
    ("energy", "reachable", "hit"), ("untrained_energy", "learned_energy", "right_of_two"),
    ("unexplained", "sensitivity_n", "grid"), ("box_energy", "human", "max_sensitivity"),
    ("top_likeness", "likeness", "roughness", "seconds"),
)  # fmt: skip


def print_scores(table: pd.DataFrame, methods: list[str], metrics: list[str]) -> None:
    """Methods as rows, some metrics as columns; which maps were empty, and so have no value, is said below."""
    heads, empties = [], []
    methods = [method for method in (*methods, *PERFECT)
               if any(len(values_of(table, metric, method)) for metric in metrics)]  # fmt: skip
    for metric in metrics:
        title, better, _ = METRICS[metric]
        n = max(len(values_of(table, metric, method)) for method in methods)
        heads.append(f"{title}\n({'higher' if better > 0 else 'lower'})\nn = {n}")
        for method in methods:
            empty = int(values_of(table, metric, method).isna().sum())
            if empty and method != "uniform":
                empties.append(f"{method} {empty} of {len(values_of(table, metric, method))} ({metric})")
    rows = [[method, *(estimate_of(table, metric, method) if len(values_of(table, metric, method)) else ""
                       for metric in metrics)] for method in methods]  # fmt: skip
    print_table(["method", *heads], rows)
    print(textwrap.fill("empty maps: " + ", ".join(empties), 98) if empties else "no empty maps", end="\n\n")


if __name__ == "__main__":
    for metrics in TABLES:
        measured = [metric for metric in metrics if (table["metric"] == metric).any()]
        if measured:
            print_scores(table, methods, measured)

# %% [markdown]
# ## Deletion and insertion, with bands
#
# Blue is the method, dashed the noise *as fine as its map*. The bands are two standard errors of the mean: where they
# overlap, look at the paired differences below before you say anything. The scenes have two numbers above each map: its
# share on the animal, and in brackets how much that is of what so coarse a map can reach.

# %%
if __name__ == "__main__":
    if "curves" in groups:
        lesson.show(figure_curves(run, table), "curves")
    if "scenes" in groups:
        lesson.show(figure_scenes(run, scenes[:3]), "scenes")

# %% [markdown]
# ## Better than the control?
#
# The picture this lesson is about. Each row: a method minus its control, on the same pictures, turned so that *right is
# better*. Grey rows cross the red line: these pictures cannot tell the method from a map that knows nothing. A point
# without a bar stands for fewer than ten pictures, as with `--quick`: too few for an interval.

# %%
FOREST = ("deletion_mean", "insertion_blur", "sensitivity_n", "energy", "right_of_two", "human")

if __name__ == "__main__":
    judged = against_controls(table, methods)
    if len(judged) and (judged["metric"].isin(FOREST) & (judged["n"] > 1)).any():
        lesson.show(figure_forest(judged, FOREST), "forest")
        words = judged["verdict"].replace({"holds": "better", "does not hold": "worse"})
        counts = pd.crosstab(judged["method"], words)
        print_table(["against the control", *counts.columns], [[name, *row] for name, *row in counts.itertuples()])

# %% [markdown]
# ## Claims of the field
#
# Each claim is a sentence about two maps, and was written down with its direction before the run. The number is the
# mean difference, in the metric's own unit, picture by picture. $p$ says how often coins do as well, corrected for the
# number of claims. Below ten pictures there is no verdict.

# %%
if __name__ == "__main__":
    found = claims(table)
    rows = [[row.claim, Estimate(row.mean, row.low, row.high, row.n), row.n, f"{row.corrected:.2g}", row.verdict]
            for row in found.itertuples()]  # fmt: skip
    if rows:
        print_table(["claim", "first minus second", "n", "p", "verdict"], rows)
    heading = (f"{lesson.model_name}, seed {lesson.seed}, {dict(kinds)}. Every value is in scores.csv.")
    write_text(run.folder / "08_report.md", report(table, methods, judged, found, heading))
    print(*(f"wrote {run.folder / name}" for name in ("08_report.md", "scores.csv", "runs.csv")), sep="\n")

# %% [markdown]
# ## The same claims on three networks
#
# A sentence about "Grad-CAM" that is true of one network is a sentence about that network. So the run was made with all
# three networks of the course. The tables lie in data/results/ (every score, and for each claim the difference, the
# interval, n and p); `python -m evaluation.results` writes this table from them. "Opposite" means that the opposite is
# shown, "undecided" that these pictures cannot tell. An empty cell: the method refuses that network.
#
# <!-- claims -->
#
# | claim | resnet50 | squeezenet1_1 | efficientnet_lite0 | on all |
# | --- | --- | --- | --- | --- |
# | noise: SmoothGrad has less than the gradient | holds | undecided | opposite | depends on the network |
# | noise: gradient x input, more than SmoothGrad | holds | holds | holds | holds |
# | steady: SmoothGrad more than the gradient | holds | holds | holds | holds |
# | deletion: IG better than noise | holds | holds | holds | holds |
# | deletion: IG better than gradient x input | undecided | undecided | holds | not shown on all |
# | insertion: Grad-CAM better than coarse noise | holds | holds | holds | holds |
# | insertion: Grad-CAM better than the centre | holds | holds | holds | holds |
# | true background: Grad-CAM beats coarse noise | holds | holds | holds | holds |
# | true background: the gradient beats edges | undecided | holds | holds | not shown on all |
# | losses: IG's shares say more than areas | opposite | undecided | undecided | not shown on all |
# | losses: LRP's shares say more than areas | undecided | holds |  | not shown on all |
# | losses: Grad-CAM says more than noise | holds | holds | undecided | not shown on all |
# | animals: the gradient beats the edges | opposite | opposite | opposite | the opposite holds |
# | animals: Grad-CAM beats the gradient | holds | holds | holds | holds |
# | animals: Grad-CAM beats guided backprop. | opposite | opposite | opposite | the opposite holds |
# | animals: Grad-CAM hits more than the gradient | holds | holds | holds | holds |
# | animals: LRP beats gradient x input | holds | holds |  | holds |
# | class: guided backprop. less than Grad-CAM | holds | holds | holds | holds |
# | class: guided backprop. more than not at all | holds | holds | holds | holds |
# | class: guided Grad-CAM more than guided b. | holds | holds | holds | holds |
# | class: LRP z+ less than LRP composite | undecided | holds |  | not shown on all |
# | top random: guided b. stays, Grad-CAM less | holds | holds | holds | holds |
# | top random: guided b. stays, gradient less | holds | holds | holds | holds |
# | top random: LRP z+ stays, gradient less | holds | holds |  | holds |
# | boxes: Grad-CAM agrees more than the centre | undecided | undecided | undecided | not shown on all |
# | baselines: they change IG, steps do less | holds | holds | holds | holds |
# | insertion and deletion order methods alike | undecided | undecided | holds | not shown on all |
# | they do so with the mean colour in both | undecided | opposite | opposite | not shown on all |
#
# <!-- end of claims -->
#
# ## Which method when
#
# Not a ranking. For each question: which methods are better than a map that knows nothing, by how much, and one thing
# to be careful about.

# %%
if __name__ == "__main__":
    for paragraph in guidelines(judged) or ["Fewer than ten pictures: there is nothing to say. Run it in full."]:
        print(textwrap.fill(paragraph, 98, subsequent_indent="  "))

# %% [markdown]
# ## Read a report
#
# The same rules serve for the reports of others. A colleague sends five claims with their numbers and verdicts. Which
# verdicts do the numbers not justify? Look for four things: pictures, interval, correction, and the direction.


# %%
def unjustified(reported: pd.DataFrame) -> list[str]:
    """Which claims of a report have a verdict that their numbers do not justify?

    Args:
        reported: a row each, columns claim, mean, low, high, n, p, side ("above" or "below" 0) and verdict ("holds",
            "does not hold", "undecided" or "too few pictures"). p is not corrected yet.

    Returns:
        The texts of those claims whose verdict differs from the one that evaluation.is_it_chance.judge gives, in order.
    """
    # BEGIN SOLUTION 8.9
    justified = judge(reported)["verdict"]
    return reported.loc[justified != reported["verdict"], "claim"].tolist()
    # END SOLUTION


if __name__ == "__main__":
    reported = pd.DataFrame(
        [("ours is better than noise", 0.12, 0.05, 0.20, 12, 0.004, "above", "holds"),
         ("ours is better than the centre", 0.20, 0.08, 0.31, 4, 0.125, "above", "holds"),
         ("ours is better than the edges", 0.03, -0.01, 0.08, 20, 0.160, "above", "does not hold"),
         ("ours is steadier than theirs", -0.04, -0.08, -0.005, 15, 0.041, "below", "holds"),
         ("ours follows the class less", 0.09, 0.03, 0.15, 20, 0.008, "below", "does not hold")],
        columns=["claim", "mean", "low", "high", "n", "p", "side", "verdict"],
    )  # fmt: skip
    print_table(reported.columns, reported.values.tolist())
    print("not justified:", *unjustified(reported), sep="\n- ")

# %% [markdown]
# The second has four pictures. The third is *undecided*: an interval that holds 0 shows neither the claim nor its
# opposite. The fourth had a $p$ below 0.05 before it was corrected for the four claims that could be judged; after it
# not. The fifth is justified: it claimed *below* 0, and the interval lies above.
#
# ## What the picture does not show
#
# - **Not which method is the best.** Each question has its own answer; a method may lead one and fail the next.
# - **Not truth about the network**, where the truth is ours: boxes and masks reward a map for being where *we* look.
# - **Not natural pictures.** Deletion, insertion, scenes and mosaics feed the network what it has never met.
# - **Not other networks, not other things than animals.** Intervals say how far pictures vary, nothing more.
# - **Not equality.** "Undecided" is no tie: ten photographs can show large differences only.
# - **Not our own choices.** The grain of the controls, 7 x 7, the grey, the blur, SmoothGrad's 20 samples: another
#   choice may give another verdict.
#
# ## Exercises
#
# ### Predict first
#
# **8.10 Undecided** (difficulty 1, 3 minutes, 1 point). A report says "undecided" about two methods on ten
# photographs. What does it mean?
#
# - **a** The two methods are equally good.
# - **b** The metric does not work on these methods.
# - **c** The better mean wins, but only just.
# - **d** These photographs cannot tell; there may be a difference that only more of them would show.
#
# **8.11 A control wins** (difficulty 1, 3 minutes, 1 point). In one column of the table the best mean belongs to a
# control that knows nothing of the network. What do you do with the methods in this column?
#
# - **a** Rank them as usual, and leave the control out.
# - **b** Conclude that all methods are worthless.
# - **c** Report each one's difference from its matched control, and say that the column rewards something else than
#   explanation.
# - **d** Choose another control that does not win.

# %%
# BEGIN SOLUTION 8.10
ANSWER_8_10 = "d"
# END SOLUTION
# BEGIN SOLUTION 8.11
ANSWER_8_11 = "c"
# END SOLUTION

# %% [markdown]
# ### Then write
#
# **8.5 A method of your own** (difficulty 3, 60 minutes, no code to submit). Add SmoothGrad times Grad-CAM to
# `METHODS`. *First predict:* which of its rows in the forest plot lie right of the red line? Then measure
# (`--methods mine,grad_cam,random,edges,uniform,random_coarse,edges_coarse,centre`). What is its fair control: coarse
# or fine? A method that you change afterwards needs another name, or another `--output-dir`: kept values stay.
#
# **8.9 Find the unjustified verdicts** (difficulty 2, 20 minutes, 3 points). *First answer* from the tables of scores:
# which *control* wins the column of insertion, and which methods does it beat? Then fill in `unjustified`. *Hints:*
# what would `judge` say? · compare row by row · it takes the whole table, because the correction needs all claims.
# *Then break it:* copy one claim of the report fifty times. Which verdicts fall, and is that fair?
#
# ## Recap
#
# Which map is the better one, and how would you know? The numbers are ResNet-50's, from data/results; the table of
# claims above has all networks.
#
# 1. **Ask one question at a time, and beside a control that knows nothing.** By deletion all nine methods beat noise of
#    their own grain. By insertion into a blur gradient x input cannot be told from it (0.04 [-0.01, 0.12]). And with
#    the true background, where nothing foreign is shown, gradient x input and Integrated Gradients insert *worse* than
#    noise (-0.03 [-0.06, -0.01] and -0.04 [-0.06, -0.01]), and guided Grad-CAM far better (+0.67 [0.62, 0.71]).
# 2. **A sharp map needs a sharp control.** On 200 planted animals the gradient loses against the edges of the
#    photograph (share of the map on the animal: -0.06 [-0.09, -0.03]). Grad-CAM beats edges as coarse as itself (+0.16
#    [0.15, 0.18]); guided Grad-CAM beats the edges most (+0.44 [0.42, 0.47]).
# 3. **Popular sentences, tested.** That Grad-CAM localises better than guided backpropagation does *not* hold by the
#    share of the map (-0.22 [-0.23, -0.20]); all three networks show the opposite. That guided backpropagation does not
#    listen to the class does not hold either: the right one of two animals gets 0.15 [0.13, 0.17] more than one half.
#    That it listens less than Grad-CAM holds. That SmoothGrad is less rough than the gradient holds here (-0.07 [-0.10,
#    -0.04]), is undecided on SqueezeNet, and on EfficientNet-Lite0 the opposite holds: say of which network you speak.
# 4. **Shares promise a loss.** Of what squares of a quarter of the side cost, the sums of Integrated Gradients' shares
#    leave 0.10 [0.03, 0.17] *more* unexplained than the squares' areas do. Those of LRP's conserving variant leave 0.14
#    [0.06, 0.25] less. LRP's composite cannot be told from the areas here, and is better on SqueezeNet.
# 5. **Undecided is a result.** Whether insertion and deletion order the methods alike is open here (rank correlation
#    -0.06 [-0.28, 0.19]). That is no proof that they disagree: on EfficientNet-Lite0 they do agree, a little.
# 6. A verdict needs a matched control, the same pictures for both, an interval, and a correction for all claims made.
