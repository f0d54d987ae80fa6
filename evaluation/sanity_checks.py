# %% [markdown]
# # Sanity checks: does the map change when the network forgets?
#
# A map is to explain *this* network. So destroy what the network has learnt, ask for the map again, and compare. If the
# picture stays, it never was about the network.
#
# **After this part you can**
#
# 1. randomise a network stage by stage, from the logits down, and compare its maps;
# 2. compute a rank correlation by hand, with and without the sign;
# 3. report a map that became empty, instead of losing it on the way to a mean;
# 4. say what passing the test proves, and why noise passes it best.
#
# **Level** advanced. **Before it** lessons 05 and 06.
# **Papers** Adebayo et al., *Sanity Checks for Saliency Maps*, 2018, arXiv:1810.03292; doubts about the test: Yona and
# Greenfeld, 2021, arXiv:2110.14297; Binder et al., 2023, arXiv:2211.12486.

# %%
r"""Parameter randomisation. Run `python -m evaluation.sanity_checks`; --help lists the options."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from copy import deepcopy
from functools import partial
from itertools import islice

import torch
from matplotlib.figure import Figure
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from course.checks import MapFunction, checked, one_image, top_class
from course.figures import map_grid
from course.lesson import print_table, start
from course.probes import randomize, rank_correlation, stages
from evaluation.methods import METHODS, edge_map
from utils import import_lesson, normalize_map

grad_cam = import_lesson("05_gradcam").grad_cam

# %% [markdown]
# ## A picture of the idea
#
# Two explainers for one network. The network is a template: its score is the sum of template times picture. The first
# explainer reads the weights of the network. The second one draws the edges of the photograph, and calls that an
# explanation. As long as the network is intact, both maps look reasonable. Then the weights are drawn at random.


# %%
def figure_idea(photo: Tensor) -> Figure:
    """What two explainers say about a template and about a random template."""
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in photo.shape[-2:]), indexing="ij")
    ring = torch.exp(-(((x**2 + y**2).sqrt() - 0.6) ** 2) / 0.02)
    random = torch.randn(ring.shape, generator=torch.Generator().manual_seed(0))
    edges = edge_map(nn.Identity(), photo)[0].cpu()
    maps = {"weights learnt": torch.stack([ring, edges]), "weights random": torch.stack([random, edges])}
    same = [f"rank correlation {abs(rank_correlation(*pair)):.2f}" for pair in zip(*maps.values(), strict=True)]
    titles, notes = ["explainer 1 reads the weights", "explainer 2 draws edges"], {"weights random": same}
    return map_grid(photo.expand(2, -1, -1, -1), maps, titles=titles, notes=notes, heading="The same photograph")


if __name__ == "__main__":
    lesson = start("evaluation.sanity_checks", "Does the map change when the network forgets?",
                   images=["bird.jpg", "koala.jpg", "dog.jpg"])  # fmt: skip
    model, images = lesson.model, lesson.images[: 2 if lesson.quick else None]
    targets = lesson.targets[: len(images)].tolist()
    lesson.show(figure_idea(images[:1]), "idea")

# %% [markdown]
# ## An example by hand
#
# Four pixels, A B C D, and a map before and after the weights were drawn at random. How alike are they? Scales differ
# from network to network, so only the *order* of the pixels is compared. Rank 1 is the lowest value:
#
# | | A | B | C | D |
# | --- | --- | --- | --- | --- |
# | trained | 4 | 2 | 1 | -3 |
# | its ranks | 4 | 3 | 2 | 1 |
# | random weights | 5 | -2 | 1 | 3 |
# | its ranks | 4 | 1 | 2 | 3 |
# | difference $d$ of the ranks | 0 | 2 | 0 | -2 |
#
# The squares of the differences add up to 8, and Spearman's correlation is $1 - 6 \cdot 8 / (4 \cdot 15) = 0.2$: not
# much is left. Now without the signs: 4, 2, 1, 3 and 5, 2, 1, 3 have the same ranks, and the correlation is 1. So the
# network forgot *which way* each pixel counts, but the map still lights up the *same places*. Signed and absolute
# likeness are two questions, and both are asked below.
#
# ## The formula
#
# $$\rho = 1 - \frac{6 \sum_i d_i^2}{N (N^2 - 1)} \qquad\text{(Spearman, for N different values)}$$
#
# Adebayo et al. (section 3.1) randomise from the top: first the last layer, then the last two, and so on down to the
# first. After each step the map is compared with that of the trained network, by $\rho$ of the values, by $\rho$ of the
# absolute values, and by SSIM, which compares small windows (mean, contrast, pattern) as an eye would.
#
# ## The method


# %%
def likeness(first: Tensor, second: Tensor) -> dict[str, float]:
    """Spearman with and without sign, and SSIM of the absolute maps in [0, 1]; NaN where undefined."""
    first, second = checked(first), checked(second)
    sizes = [map.abs() for map in (first, second)]
    if min(map.max() - map.min() for map in sizes) > 0 and min(first.shape) >= 7:     # SSIM's window is 7 x 7
        ssim = structural_similarity(*(normalize_map(map).numpy() for map in sizes), data_range=1.0)
    else:
        ssim = math.nan
    return {"spearman": rank_correlation(first, second), "spearman_abs": rank_correlation(*sizes), "ssim": float(ssim)}


if __name__ == "__main__":
    before, after = torch.tensor([[4.0, 2, 1, -3]]), torch.tensor([[5.0, -2, 1, 3]])
    found = likeness(before, after)
    print(f"by hand 0.2 and 1.0; computed {found['spearman']:.1f} and {found['spearman_abs']:.1f}")


# %%
def randomized_maps(
    method: MapFunction, model: nn.Module, image: Tensor, target: int, generator: torch.Generator
) -> Iterator[tuple[str, Tensor]]:
    """("as trained", map), then a stage's name and the map once it and all stages above it are random.

    `stages(model)` names the stages from the logits down; `randomize(part, generator)` draws a part anew, in place. The
    model itself must stay as it is.
    """
    # BEGIN SOLUTION 8.7
    damaged = deepcopy(model)
    yield "as trained", method(damaged, image, target)[0]
    for stage in stages(model):
        randomize(damaged.get_submodule(stage), generator)
        yield stage, method(damaged, image, target)[0]
    # END SOLUTION


def parameter_randomization(
    method: MapFunction,
    model: nn.Module,
    image: Tensor,
    target: int | None = None,
    *,
    generator: torch.Generator | None = None,
) -> dict[str, dict[str, float]]:
    """How like the trained network's map is the map once weights are random, from the logits downwards?

    Args:
        method: (model, images, target) -> (B, H, W).
        model, image, target: as in deletion_curve. The model itself is untouched.
        generator: of the weights, seeded with 0 by default.

    Returns:
        Stage -> {"spearman", "spearman_abs", "ssim", "empty"}, "as trained" first; likeness in [-1, 1]. Lower is
        better: a map that stays does not depend on what was learnt. "empty" is 1 if one of the two maps is the same
        everywhere, all zero for instance, else 0: it has no order, and the likeness is NaN. Count it, do not drop it.

    Raises:
        ValueError: as in deletion_curve.

    Cost: one map for each stage and one more. Source: Adebayo et al. 2018, arXiv:1810.03292, section 3.1.
    """
    image, generator = one_image(model, image), generator or torch.Generator().manual_seed(0)
    maps = dict(randomized_maps(method, model, image, top_class(model, image, target), generator))
    trained = maps["as trained"]
    return {stage: likeness(trained, map) | {"empty": float(is_empty(trained) or is_empty(map))}
            for stage, map in maps.items()}  # fmt: skip


def is_empty(map: Tensor) -> bool:
    """Whether a map is the same everywhere: it ranks no pixel."""
    return bool(map.max() == map.min())


def in_words(found: Sequence[dict[str, float]], measure: str) -> str:
    """The mean likeness over images, and how many of their maps were empty: "0.31", "0.31, 1 empty", "3 empty"."""
    known = [one[measure] for one in found if not math.isnan(one[measure])]
    empty = len(found) - len(known)
    mean = [f"{round(sum(known) / len(known), 2) + 0.0:.2f}"] if known else []        # + 0.0: never "-0.00"
    return ", ".join(mean + [f"{empty} empty"] * bool(empty))


# %% [markdown]
# ## A check you can break
#
# Two maps whose answer is known. The edges of the photograph never read the network: their likeness is exactly 1 at
# every stage. Noise that is drawn anew for each map has nothing in common with itself: its likeness is 0.


# %%
def fresh_noise(seed: int) -> MapFunction:
    """A "method" that draws new noise every time it is asked."""
    generator = torch.Generator().manual_seed(seed)
    return lambda _model, images, _target=None: torch.rand(images[:, 0].shape, generator=generator).to(images)


if __name__ == "__main__":
    known = {"edges": METHODS["edges"], "fresh noise": fresh_noise(lesson.seed)}
    found = {name: parameter_randomization(method, model, images[:1], targets[0]) for name, method in known.items()}
    for name, stage_by_stage in found.items():
        values = [scores["spearman"] for scores in stage_by_stage.values()][1:]
        print(f"{name}: from {min(values):.2f} to {max(values):.2f} over {len(values)} stages")
    assert all(scores["ssim"] == 1 for scores in found["edges"].values()), "the edges read the network"

# %% [markdown]
# ## From the logits down
#
# One photograph, a row for each method; from column to column one more stage is random. The number above a map is its
# rank correlation with the first one, without signs. The last row are the edges.


# %%
def figure_stages(photo: Tensor, maps: dict[str, dict[str, Tensor]]) -> Figure:
    """Method -> stage -> map (H, W), with the likeness to the first stage's."""
    columns = {stage: torch.stack([found[stage] for found in maps.values()]) for stage in next(iter(maps.values()))}
    first, *later = columns
    notes = {first: [""] * len(maps)}
    for stage in later:
        likenesses = [likeness(*pair)["spearman_abs"] for pair in zip(columns[first], columns[stage], strict=True)]
        notes[stage] = ["empty" if math.isnan(value) else f"{value:.2f}" for value in likenesses]
    return map_grid(photo.expand(len(maps), -1, -1, -1), columns, titles=list(maps), notes=notes, size=2,
                    heading="Weights random from the logits down to the stage named above the map")  # fmt: skip


if __name__ == "__main__":
    names = ["vanilla_gradient", "gradient_times_input", "guided_backpropagation", "grad_cam"]
    methods = {name: METHODS[name] for name in names}
    methods |= {"Grad-CAM, no ReLU": partial(grad_cam, relu=False), "edges": METHODS["edges"]}
    shown = {}
    for name, method in methods.items():
        seeded = torch.Generator().manual_seed(lesson.seed)
        pairs = randomized_maps(method, model, images[:1], targets[0], seeded)
        shown[name] = {stage: map.cpu() for stage, map in islice(pairs, 5 if lesson.quick else None)}
    lesson.show(figure_stages(images[:1], shown), "stages")

# %% [markdown]
# ## Several photographs, and maps that are empty
#
# One photograph is one case. Below are means, and beside them a count. Grad-CAM ends with a ReLU. With random weights
# it can happen that no place speaks for the class, and the ReLU leaves zeros only. Such a map has no order, so it has
# no likeness. A program that quietly leaves it out reports the likeness of the *other* photographs, and says nothing
# about the failure. So empty maps are counted, and the count is printed.

# %%
if __name__ == "__main__":
    methods["fresh noise"] = fresh_noise(lesson.seed)
    found = {name: [parameter_randomization(method, model, image, target)
                    for image, target in zip(images.split(1), targets, strict=True)]
             for name, method in methods.items()}  # fmt: skip
    chain = stages(model)
    some = [chain[0], chain[1], chain[len(chain) // 2], chain[-1]]
    print(f"rank correlation without signs, mean of {len(images)} photographs")
    rows = [[name, *(in_words([one[stage] for one in these], "spearman_abs") for stage in some)]
            for name, these in found.items()]  # fmt: skip
    print_table(["random down to", *some], rows)
    print(f"all stages random, down to {chain[-1]}")
    measures = ("spearman", "spearman_abs", "ssim")
    rows = [[name, *(in_words([one[chain[-1]] for one in these], measure) for measure in measures)]
            for name, these in found.items()]  # fmt: skip
    print_table(["", "rank r", "rank r\nwithout signs", "SSIM"], rows)

# %% [markdown]
# With ResNet-50, three photographs. Guided backpropagation hardly notices: 0.99 with random logits, 0.94 with a random
# layer4, 0.60 when all is random down to layer2. Most of what it draws was never about the class. The gradient falls to
# 0.41 at once.
#
# Grad-CAM is *empty* on the macaw from layer4 on. The row without the ReLU shows why: its map is positive nowhere,
# and the ReLU leaves nothing of it. That is a strong reaction to random weights, so dropping the macaw from the mean
# would hide the clearest answer of all.
#
# With everything random, gradient x input has 0.01 with signs, and 0.31 without. The signs come from the network, and
# are gone. The *places* come from the photograph, which is multiplied in. And the three columns order the methods
# differently: by ranks guided backpropagation is the most alike of the methods, by SSIM it is one of the least.
#
# ## What the picture does not show
#
# - **Not that a map is right.** Fresh noise has the lowest likeness of all: it passes best, and explains nothing. The
#   test can only *fail* a method. Binder et al. found the same: maps without information get high scores here.
# - **Not that nothing may stay.** Under a random top the trained lower layers still work. A unit that fires strongly
#   sends much upwards, whatever the weights above it are. So maps may rightly stay alike to a point (Binder et al.).
# - **Not a property of the method alone.** A photograph of one object on a plain ground leaves little room for two
#   different maps. Part of the likeness belongs to the *task* (Yona and Greenfeld).
# - **Not one number.** Signs, places and windows give three answers. Report which one you took, and what edges and
#   noise score by it.
#
# ## Exercises
#
# ### Predict first
#
# **8.18 Edges** (difficulty 1, 2 minutes, 1 point). As a "map" we take the edges of the photograph, which ask no
# network. All weights are made random. How alike are the maps before and after (1: the same)? Answer: a number.
#
# **8.19 Who passes?** (difficulty 2, 3 minutes, 1 point). Fresh noise, drawn anew at each call, has a likeness of 0
# after every stage. Has it passed the test?
#
# - **a** Yes, and so it is the best method in the table.
# - **b** No: its likeness ought to be 1.
# - **c** The test must be wrong, because noise cannot pass.
# - **d** It did not fail. The test can only show that a map is not about the network, never that it explains it.

# %%
# BEGIN SOLUTION 8.18
ANSWER_8_18 = 1
# END SOLUTION
# BEGIN SOLUTION 8.19
ANSWER_8_19 = "d"
# END SOLUTION

# %% [markdown]
# ### Then write
#
# **8.7 From the logits down** (difficulty 2, 20 minutes, 3 points). Fill in `randomized_maps`. *First predict* from the
# figure: which row changes first, which last? *Then break it:* begin with the first layer instead of the last. Which
# method notices at once? *Then extend it:* make one stage random at a time, the others as trained. Which stage matters
# most?
# *Hints:* what must happen before anything is changed? · what was made random stays random · `yield` returns one pair,
# and goes on after it.
#
# ## Recap
#
# Does the map change when the network forgets?
#
# 1. Destroy the weights from the logits down, ask again, compare by rank. A map that stays was not about the network.
# 2. Guided backpropagation stays (0.94 with a random layer4), the gradient does not (0.29). Edges stay at 1, fresh
#    noise is at 0.
# 3. A map can become empty. Count it, print it, and look at the map before the ReLU.
# 4. Ask with signs, without signs, and by SSIM: a product with the photograph keeps its places when it has lost its
#    signs.
# 5. The test can fail a method. It cannot pass one: noise passes best.
