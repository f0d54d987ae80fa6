# %% [markdown]
# # Planted scenes: is the map where the animal is?
#
# Looking at a map one says "it found the zebra". Was it on the zebra, or beside it? Would a blurred photograph have
# looked as good? To *measure* it we need pictures in which the right place is known to the pixel. So we make them.
#
# **After this part you can**
#
# 1. make a picture whose truth you know, and the same picture without the truth;
# 2. compute by hand whether, and with which share, a map lies on an object;
# 3. read that number beside the best that a coarse map can reach, and beside controls;
# 4. ask a picture with two animals whether a map follows the class;
# 5. say why a map may rightly lie *off* the object.
#
# **Level** advanced. **Before it** lessons 01, 05, 06; the part `is_it_chance`.
# **Papers** Zhang et al. 2016, arXiv:1608.00507 (pointing game); Wang et al. 2020, arXiv:1910.01279 (energy);
# Rao et al. 2022, arXiv:2205.10435 (grid). Planted truth before us: Yang and Kim 2019, arXiv:1907.09701.

# %%
r"""Localisation on pictures whose truth is known. Run `python -m evaluation.planted_scenes`; --help lists options."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course.checks import MapFunction, checked
from course.figures import map_grid
from course.lesson import print_table, start
from course.probes import mosaic, rank_correlation
from course.scenes import Scene, backgrounds, box_masks, boxed_class, counterfactual_scene, found_scenes
from evaluation.is_it_chance import coin_p, estimate, hit_rate, paired_difference
from evaluation.methods import METHODS, matched_controls, untrained
from utils import import_lesson, upsample

grad_cam = import_lesson("05_gradcam").grad_cam

# %% [markdown]
# ## A picture of the idea
#
# An animal is cut out and pasted on a background without animals. Its pixels are the truth (second column). The number
# above each map is the share of the map's total that lies on these pixels. The truth itself has 1. Noise has as much as
# the animal has of the area. The edges of the photograph, which know no network, can have much more: look at the sharp
# bear on its soft background. And the truth drawn as coarsely as Grad-CAM draws has far less than 1.


# %%
def at_resolution(mask: Tensor, cells: int | tuple[int, int]) -> Tensor:
    """A (H, W) mask as a map of cells x cells means, upsampled as Grad-CAM is: the truth as a coarse map draws it."""
    return upsample(F.adaptive_avg_pool2d(mask[None, None].float(), cells)[0], mask.shape)[0]


if __name__ == "__main__":
    lesson = start(
        "evaluation.planted_scenes", "Is the map where the animal is?",
        images=["dog.jpg", "bird.jpg", "panda.jpg", "koala.jpg", "bison.jpg", "chicken.jpg", "jaguar.jpg", "lemur.jpg",
                "polar_bear.jpg", "red_panda.jpg"],
    )  # fmt: skip
    model, images, targets = lesson.model, lesson.images, lesson.targets
    scenes, tried = found_scenes(model, 10 if lesson.quick else 20, seed=lesson.seed, device=lesson.args.device)
    cells = grad_cam(model, scenes[0].image, upsample=False).shape[-1]
    some, masks = torch.cat([scene.image for scene in scenes[:3]]), torch.cat([scene.masks for scene in scenes[:3]])
    classes = [scene.classes[0] for scene in scenes[:3]]
    columns = {
        "the animal": masks.float(), "noise": METHODS["random"](model, some), "edges": METHODS["edges"](model, some),
        "Grad-CAM": grad_cam(model, some, classes),
        f"the animal, {cells} x {cells}": torch.stack([at_resolution(mask, cells) for mask in masks]),
    }  # fmt: skip
    shares = {name: [f"{(map * mask).sum() / map.sum():.2f}" for map, mask in zip(maps, masks, strict=True)]
              for name, maps in columns.items()}  # fmt: skip
    names = [scene.name for scene in scenes[:3]]
    lesson.show(map_grid(some, columns, titles=names, notes=shares, size=2.4, heading="Share on the animal"), "idea")
    print(f"{len(scenes)} scenes in which the network finds the animal (p above 0.5); {tried} were made")

# %% [markdown]
# ## By hand
#
# A map of 3 x 3 pixels; the animal is the lower right square of four pixels:
#
#     1  2  0
#     3  9  0        on the animal: 9 + 0 + 1 + 4 = 14,  in all: 20,  share: 14 / 20 = 0.70
#     0  1  4        the highest value, 9, lies on the animal: a hit
#
# A map with the same value everywhere has a share of 4 / 9 = 0.44, as large as the animal's part of the picture. So
# 0.70 is not much better than knowing nothing!
#
# ## The formula
#
# Two questions to a map $M$ and the set $A$ of the animal's pixels. The *pointing game* looks at the highest value
# alone: a hit lies on the animal, or at most 15 pixels beside it. The *energy* looks at all positive values:
#
# $$\text{hit} = \Big[ \min_{i \in A} \big\| i - \arg\max_j M_j \big\| \le 15 \Big], \qquad
# \text{energy} = \frac{\sum_{i \in A} \max(M_i, 0)}{\sum_i \max(M_i, 0)}$$
#
# ## The method


# %%
def union(regions: Tensor | np.ndarray) -> Tensor:
    """(H, W) or (N, H, W) masks -> one (H, W) mask: any instance counts."""
    regions = torch.as_tensor(regions).detach().cpu().bool()
    return regions if regions.ndim == 2 else regions.any(dim=0)


def pointing_game(map: Tensor, regions: Tensor, *, tolerance: float = 15) -> bool | None:
    """Does the map's maximum lie on the object?

    Args:
        map: (H, W); its first maximum counts, row by row.
        regions: (H, W) or (N, H, W) masks of the class's instances, of the map's size.
        tolerance: pixels by which it may miss, this distance included. (The reference code has it excluded.)

    Returns:
        True for a hit, False for a miss, None if the question makes no sense: no region, or a constant map.

    Cost: none beyond the map. Source: Zhang et al. 2016, arXiv:1608.00507, section 4.1.
    """
    map, mask = checked(map), union(regions)
    if mask.shape != map.shape:
        raise ValueError(f"regions are {tuple(mask.shape)}, the map {tuple(map.shape)}")
    if not mask.any() or map.max() == map.min():
        return None
    # BEGIN SOLUTION 8.3
    y, x = (map == map.max()).nonzero()[0]
    ys, xs = mask.nonzero(as_tuple=True)
    return bool(((ys - y) ** 2 + (xs - x) ** 2).min() <= tolerance**2)
    # END SOLUTION


def energy_pointing_game(map: Tensor, mask: Tensor) -> float:
    """Share of the positive map that lies on the object.

    Args:
        map: (H, W); negative values count as 0.
        mask: (H, W), or (N, H, W) for several instances.

    Returns:
        In [0, 1], higher is better; a uniform map has the object's share of the area. NaN for an empty mask, or a map
        without positive values.

    Cost: none beyond the map. Source: Wang et al. 2020, arXiv:1910.01279, section 4.3.
    """
    map, mask = checked(map).double().clamp(min=0), union(mask)
    if mask.shape != map.shape:
        raise ValueError(f"the mask is {tuple(mask.shape)}, the map {tuple(map.shape)}")
    if not mask.any() or map.sum() == 0:
        return math.nan
    return (map[mask].sum() / map.sum()).item()


# %%
def localisation(model: nn.Module, scenes: Sequence[Scene], methods: dict[str, MapFunction]) -> pd.DataFrame:
    """Energy and hits of each method on each scene, for its first class: a tidy table."""
    rows = []
    for i, scene in enumerate(scenes):
        for name, method in methods.items():
            map, mask = method(model, scene.image, scene.classes[0])[0], scene.masks[0]
            rows.append((i, name, "energy", "", energy_pointing_game(map, mask)))
            rows.append((i, name, "hit", "", pointing_game(map, mask)))
    table = pd.DataFrame(rows, columns=["picture", "method", "metric", "detail", "value"])
    return table.assign(value=pd.to_numeric(table["value"]).astype(float))


if __name__ == "__main__":
    by_hand, lower_right = torch.tensor([[1.0, 2, 0], [3, 9, 0], [0, 1, 4]]), torch.zeros(3, 3, dtype=torch.bool)
    lower_right[1:, 1:] = True
    assert abs(energy_pointing_game(by_hand, lower_right) - 0.70) < 1e-6, "the example by hand"
    assert pointing_game(by_hand, lower_right, tolerance=0) is True
    names = ("vanilla_gradient", "grad_cam", "guided_backpropagation", "guided_grad_cam", "random", "centre", "edges",
             "edges_coarse", "uniform")  # fmt: skip
    methods = {name: METHODS[name] for name in names}
    methods |= {f"{name}, untrained": untrained(METHODS[name]) for name in ("grad_cam", "guided_backpropagation")}
    table = localisation(model, scenes, methods)
    perfect = [energy_pointing_game(at_resolution(scene.masks[0], cells), scene.masks[0]) for scene in scenes]
    single = upsample(torch.eye(cells**2).reshape(-1, cells, cells), scenes[0].masks.shape[-2:])   # one cell each
    best = [max(energy_pointing_game(cell, scene.masks[0]) for cell in single) for scene in scenes]
    rows = []
    for name in methods:
        energy, hits = (table[(table["method"] == name) & (table["metric"] == metric)] for metric in ("energy", "hit"))
        coarse = name.startswith("grad_cam") or name.endswith("coarse")
        reachable = estimate(energy["value"].to_numpy() / perfect) if coarse else estimate(energy["value"])
        rows.append([name, estimate(energy["value"]), f"{reachable.mean:.2f}", hit_rate(hits["value"]),
                     int(energy["value"].isna().sum())])  # fmt: skip
    rows += [[f"the animal, {cells} x {cells}", estimate(perfect), "1.00", "", 0],
             [f"its best single cell of {cells} x {cells}", estimate(best), "", "", 0]]  # fmt: skip
    print_table(["method", "energy", "of what is\nreachable", "hits", "empty\nmaps"], rows)

# %% [markdown]
# Read the rows with their references. Grad-CAM's energy of 0.33 looks poor beside guided backpropagation's 0.56. But a
# map of 7 x 7 cells cannot be sharp: the animal itself, drawn with such cells, has 0.54. Of that Grad-CAM reaches 60 %.
# (This is the reference for a map that shows the *whole* animal. The best single cell would have 0.77.) So two
# questions have two answers: which map lies on the animal, and which method makes the most of the cells it has.
#
# ## Does it beat its control?
#
# A map that merely repeats the photograph's edges would score as well as the edges do. The fair control is as coarse as
# the method: edges at every pixel for a pixel method, means of edges in 7 x 7 cells for Grad-CAM.

# %%
if __name__ == "__main__":
    rows = []
    for name in ("vanilla_gradient", "grad_cam", "guided_backpropagation", "guided_grad_cam"):
        control = matched_controls(name)[1]
        difference = paired_difference(table, "energy", name, control)
        rows.append([name, control, estimate(difference), len(difference), coin_p(difference)])
    print_table(["method", "its control", "energy: method minus control", "n", "p of coins"], rows)

# %% [markdown]
# With ResNet-50 the plain gradient cannot be told from the edges of the photograph: -0.06 [-0.17, 0.04]. Grad-CAM and
# the two guided methods beat their controls clearly. Lesson 06 calls guided backpropagation an edge detector. Here it
# is more: it has 0.56, the edges 0.26, and the same method without any training 0.13.
#
# ## Two animals: does the map follow the class?
#
# Now the picture holds two animals, say a zebra and a flamingo, and the network has both among its five best classes.
# Ask for the zebra, then for the flamingo. Of the map's energy on either animal, how much is on the one asked for? A
# map that does not listen to the class has 0.50, *exactly*: what it wins with one question it loses with the other.


# %%
def right_of_two(method: MapFunction, model: nn.Module, scene: Scene) -> float:
    """Of a map's energy on two animals, the share on the one asked for; mean over both questions. NaN if empty."""
    shares = []
    for i, maps in enumerate(method(model, scene.image, one) for one in scene.classes):
        on = [energy_pointing_game(maps[0], mask) for mask in scene.masks]
        shares.append(on[i] / sum(on) if sum(on) > 0 else math.nan)
    return float(np.mean(shares))


if __name__ == "__main__":
    count, device = 4 if lesson.quick else 10, lesson.args.device
    pairs, tried = found_scenes(model, count, animals=2, seed=lesson.seed, device=device)
    print(f"{len(pairs)} scenes with two animals, both among the top five; {tried} were made")
    chosen = {name: methods[name] for name in ("grad_cam", "guided_backpropagation", "edges")}
    rows = []
    for name, method in chosen.items():
        shares = [right_of_two(method, model, scene) for scene in pairs]
        rows.append([name, estimate(shares), len(pairs), coin_p(np.array(shares) - 0.5)])
    print_table(["method", "on the right one of two", "n", "p of coins (0.5)"], rows)
    pair, maps = pairs[0], {}
    for name in ("grad_cam", "guided_backpropagation"):
        maps[name] = torch.cat([METHODS[name](model, pair.image, one) for one in pair.classes])
    asked = [f"asked: {name.replace('_', ' ')}" for name in pair.name.split(" and ")]
    shown = map_grid(pair.image.expand(2, -1, -1, -1), maps, titles=asked, heading="Two questions, one picture")
    lesson.show(shown, "two_animals")

# %% [markdown]
# Grad-CAM follows the class: 0.85. Guided backpropagation is often said not to. Look at the figure: both animals stay
# visible, but the one that is asked for is brighter, 0.66 on average. So "hardly" is right and "not at all" is wrong.
#
# ## The same with photographs: a mosaic
#
# Four photographs of four classes, each at half size, make one picture. What share of a class's map lies in its own
# quarter? A map that knows nothing has 0.25. And where people have marked what *they* look at, one can ask how far a
# map's ranks agree with theirs.


# %%
def grid_pointing_game(method: MapFunction, model: nn.Module, images: Tensor, targets: Sequence[int]) -> Tensor:
    """In a mosaic of four images, what share of a class's map lies in its own quarter?

    Args:
        method: (model, images, target) -> (B, H, W).
        images: (4, 3, H, W), of four classes. They are halved, so the mosaic has the size that the network knows
            (Rao et al. leave them at full size).
        targets: the class of each.

    Returns:
        (4,) in [0, 1], higher is better; a uniform map has 1/4. NaN for a map without positive values.

    Cost: four maps. Source: Rao et al. 2022, arXiv:2205.10435, section 3.1.
    """
    if len(images) != 4 or len(targets) != 4:
        raise ValueError(f"a mosaic needs four images and their classes, got {len(images)} and {len(targets)}")
    picture = mosaic(images)                                           # (1, 3, H, W), row by row
    maps = method(model, picture.expand(4, -1, -1, -1), targets)
    h, w = images.shape[-2] // 2, images.shape[-1] // 2
    quarters = torch.zeros(4, *picture.shape[-2:], dtype=torch.bool)
    quarters[0, :h, :w] = quarters[1, :h, w:] = quarters[2, h:, :w] = quarters[3, h:, w:] = True
    return torch.tensor([energy_pointing_game(map, quarter) for map, quarter in zip(maps, quarters, strict=True)])


def human_agreement(map: Tensor, human_map: Tensor | np.ndarray, *, ceiling: float = 1.0) -> float:
    """Rank correlation, pixel by pixel, of a map with where people look.

    Args:
        map, human_map: (H, W), of one size; see load_human_map.
        ceiling: what people reach among themselves, if known: the result is divided by it (ClickMe: 0.6575).

    Returns:
        Spearman's correlation / ceiling, higher is better, 1 at best with a ceiling of 1. NaN if a map is constant.

    Cost: none beyond the map. Source: Fel et al. 2022, arXiv:2211.04533, section 3.
    """
    map, human_map = checked(map), checked(human_map)
    if map.shape != human_map.shape:
        raise ValueError(f"the map is {tuple(map.shape)}, the human map {tuple(human_map.shape)}; see load_human_map")
    return rank_correlation(map, human_map) / ceiling


if __name__ == "__main__":
    compared = ("grad_cam", "guided_backpropagation", "centre", "uniform")
    if len(images) >= 4:
        rows = [[name, *grid_pointing_game(METHODS[name], model, images[:4], targets[:4].tolist()).tolist()]
                for name in compared]  # fmt: skip
        print_table(["in its own quarter", *lesson.names[:4]], rows)
    boxed = [i for i, file in enumerate(lesson.files) if boxed_class(file) == targets[i]]
    boxes, rows = [union(box_masks(lesson.names[i])) for i in boxed], []
    for name in compared:
        maps = [METHODS[name](model, images[i][None], targets[i][None])[0] for i in boxed]
        inside = [energy_pointing_game(map, box) for map, box in zip(maps, boxes, strict=True)]
        likeness = [human_agreement(map, box.float()) for map, box in zip(maps, boxes, strict=True)]
        rows.append([name, estimate(inside), estimate(likeness), len(boxed)])
    print_table(["photographs", "energy in the boxes", "rank correlation with boxes", "n"], rows)

# %% [markdown]
# In the mosaic Grad-CAM and guided backpropagation are far above 0.25. The boxes of the photographs teach something
# else. They fill most of the crop: a *uniform* map has 0.74 of its energy inside them, a blob in the centre 0.88, and
# Grad-CAM's 0.91 is no longer impressive. Boxes of centred photographs hardly tell a good map from none. So we plant.
#
# ## The trap: evidence that is not on the animal
#
# "The animal is the only thing in the picture that can speak for its class, so the map belongs on it." Is that so? We
# have the same picture without the animal, so we can ask. We also leave the animal where it is and exchange everything
# *around* it: for grey, and for the other photographs' backgrounds.


# %%
@torch.inference_mode()
def around_the_animal(model: nn.Module, scene: Scene, grounds: Tensor) -> dict[str, Tensor]:
    """Logits of the animal's class: as planted, without the animal, with grey around it, on (N, 3, H, W) grounds."""
    mask, grey = scene.masks[0].to(scene.image.device), torch.zeros_like(scene.image)
    mixed = [torch.where(mask, scene.image, ground) for ground in (grey, *grounds.to(grey))]
    logits = model(torch.cat([scene.image, scene.ground, *mixed]))[:, scene.classes[0]].cpu()
    return {"planted": logits[0], "without": logits[1], "grey": logits[2], "elsewhere": logits[3:]}


if __name__ == "__main__":
    grounds = torch.cat([counterfactual_scene(["hen"], picture, seed=0)[1] for picture in backgrounds()])
    found = [around_the_animal(model, scene, grounds) for scene in scenes]
    planted, without, grey = (np.array([one[name].item() for one in found]) for name in ("planted", "without", "grey"))
    elsewhere = np.array([one["elsewhere"].mean().item() for one in found])
    rows = [[name, estimate(values), int((values > 0).sum()), len(values), coin_p(values)] for name, values in (
        ("with minus without the animal", planted - without), ("grey around it minus as planted", grey - planted),
        (f"grey around it minus mean of {len(grounds)} backgrounds", grey - elsewhere),
        (f"as planted minus mean of {len(grounds)} backgrounds", planted - elsewhere))]  # fmt: skip
    print_table(["change of the logit", "mean and interval", "positive", "n", "p of coins"], rows)
    honest = np.abs(planted - without) / (np.abs(planted - without) + np.abs(planted - grey))
    spread = np.mean([(one["elsewhere"].max() - one["elsewhere"].min()).item() for one in found])
    print(f"the same animal on {len(grounds)} backgrounds: {spread:.1f} from lowest to highest logit, on average")
    print(f"a map of the two effects, |animal| and |around it|: energy {honest.mean():.2f} (lowest {honest.min():.2f})")
    figure, axis = plt.subplots(figsize=(9, 3.8), layout="constrained")
    for x, i in enumerate(planted.argsort()):
        axis.vlines(x, found[i]["elsewhere"].min(), found[i]["elsewhere"].max(), color="0.8", lw=6)
    for values, color, label in ((planted, "black", "as planted"), (grey, "tab:red", "grey around it"),
                                 (without, "tab:blue", "without the animal")):  # fmt: skip
        axis.plot(values[planted.argsort()], "o", color=color, label=label)
    axis.vlines([], 0, 0, color="0.8", lw=6, label=f"on {len(grounds)} backgrounds")
    names = [scenes[i].name for i in planted.argsort()]
    axis.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
    axis.set(ylabel="logit of the animal's class", title="The same animal, other surroundings",
             ylim=(None, 1.25 * max(planted.max(), grey.max())))  # fmt: skip
    axis.legend(fontsize=8, ncols=4, loc="upper center")
    lesson.show(figure, "surroundings")

# %% [markdown]
# Without the animal its logit falls by 12: the animal speaks for its class. But look at the grey bars. *The same
# animal* has a logit on the best background that is 9 higher than on the worst. So surroundings speak, too, for the
# class or **against** it. And with grey around it, it has 2 more than on the average background. A map that places
# evidence beside the animal may be right, and energy punishes it, because it wants everything on the animal. How much?
# A map of the two effects that we measured has 0.84, and in one scene only 0.54.
#
# Is it the background that speaks against, or the grey that speaks for? This experiment cannot tell: grey is a
# surrounding as well. With SqueezeNet (`--quick`) grey takes 3.6 away.
#
# A second trap lies in the rows of the table. Against the background on which the scene was *planted*, grey gains 0.6,
# which is not to be told from 0. Why not 2, as against the average background? The last row says it: the planted
# background was a lucky draw (1.4 [0.4, 2.5]), because we kept only scenes in which the network finds the animal.
# Whoever selects by the score and then measures the score has measured the selection.
#
# ## What the picture does not show
#
# - **Not where the network looks in real photographs.** A pasted animal has no shadow, no grass over its feet.
# - **Not truth about the network.** The place is ours. A network that decides by the grass deserves a map of the grass.
# - **Not how good a coarse map is**, unless its energy is read beside 0.54, the animal itself at 7 x 7.
# - **Not a fair hit.** A hit may miss by 15 pixels, and animals are large: a blob in the centre hits 55 %.
# - **Not the scenes that were dropped**: 21 of 41, those that the network finds hard.
# - **Not absolute quality on photographs.** A uniform map has 0.74 inside the boxes.
#
# ## Exercises
#
# ### Predict first
#
# **8.16 A map that knows nothing** (difficulty 1, 2 minutes, 1 point). An animal covers 8 % of a scene. What is the
# energy (share of the map on the animal) of a uniform map? Answer: a number.
#
# **8.17 A third** (difficulty 2, 3 minutes, 1 point). Grad-CAM puts 0.33 of its map on the animal. The animal itself,
# drawn at 7 x 7 cells and enlarged, would have 0.54. Edges of the photograph have 0.26. What is a fair summary?
#
# - **a** Two thirds of the map are wrong.
# - **b** It reaches 60 % of what a map so coarse can reach, and little more than the photograph's edges.
# - **c** It finds the animal in a third of the scenes.
# - **d** It is better than edges, so it explains the network.

# %%
# BEGIN SOLUTION 8.16
ANSWER_8_16 = 0.08
# END SOLUTION
# BEGIN SOLUTION 8.17
ANSWER_8_17 = "b"
# END SOLUTION

# %% [markdown]
# ### Then write
#
# **8.3 Pointing game** (difficulty 2, 15 minutes, 4 points). Fill in hit or miss. *First predict:* how often does noise
# hit, if an animal has 7 % of the picture? (More often, because of the 15 pixels.) *Hints:* where is the first maximum?
# · the nearest pixel of the region · compare squares. *Then break it:* with `tolerance=0`, which rows of the first
# table change most? *Then extend:* plant animals of 30 to 60 pixels (`sides`). Whose energy falls furthest, and why?
#
# ## Recap
#
# Is the map where the animal is? Measured with ResNet-50 on 20 scenes, in the tables above:
#
# 1. A planted animal is a truth known to the pixel, and the same picture without it is one line away.
# 2. Energy: guided Grad-CAM 0.69, guided backpropagation 0.56, Grad-CAM 0.33, edges 0.26, gradient 0.19, noise 0.07.
# 3. Grad-CAM's 0.33 is 60 % of what 7 x 7 cells reach. The plain gradient does not beat the photograph's edges.
# 4. Of two animals, Grad-CAM's map is on the right one with 0.85, guided backpropagation's with 0.66; not listening:
#    0.5.
# 5. Surroundings speak for and against a class: 9 logits between ten backgrounds. A map may rightly lie off the animal.
