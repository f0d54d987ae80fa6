# %% [markdown]
# # 07 Guided Grad-CAM: lines times place
#
# Guided backpropagation draws fine lines and hardly knows the class. Grad-CAM knows the class and draws blobs. Multiply
# them, and you get a sharp map of one class. Which of the two factors makes the map answer to the class, and when does
# the product fail?
#
# **After this lesson you can**
#
# 1. compute guided Grad-CAM, and say what each factor brings in;
# 2. subtract the maps of two classes, so that only their difference is left;
# 3. choose the layer of Grad-CAM by a measurement;
# 4. say when the product is empty, or says nothing;
# 5. explain whole folders of pictures with any method of the course.
#
# **Level** advanced. **Before it** lessons 05 and 06.
# **Papers** Selvaraju et al., *Grad-CAM*, 2017, arXiv:1610.02391, section 3.2; Adebayo et al., *Sanity Checks for
# Saliency Maps*, 2018, arXiv:1810.03292.

# %%
r"""Guided Grad-CAM. Run `python 07_guided_gradcam.py`; --help lists the options.

With --method it explains whole folders: `python 07_guided_gradcam.py --image DIR --method grad_cam --output-dir out/`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from course.checks import Target
from course.explainer import ATTRIBUTIONS, Explainer, explain_folders
from course.figures import block_sums, map_grid
from course.lesson import print_table, start
from course.probes import correlation, mosaic, photo_edges, randomized, stages
from course.scale import BATCH, RAY_OPTIONS, check_options, explain_with_ray
from utils import channel_reduce, describe_targets, find_class, import_lesson, load_image, preprocess_image

grad_cam = import_lesson("05_gradcam").grad_cam
guided_backpropagation = import_lesson("06_guided_backpropagation").guided_backpropagation

# %% [markdown]
# ## A picture of the idea
#
# A drawing shows the outlines of two things. A soft lamp shines on one of them. Where there is no light, no line is
# seen. What is left is sharp, as the drawing is, and shows one thing, as the lamp does.


# %%
def figure_idea() -> Figure:
    """Outlines of a circle and a square, a lamp on the circle, and their product."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 200), torch.linspace(-2, 2, 400), indexing="ij")
    to_circle = ((x + 0.9).hypot(y) - 0.6).abs()                       # distance from the outline
    to_square = (torch.maximum((x - 0.9).abs(), y.abs()) - 0.6).abs()
    lines = (torch.minimum(to_circle, to_square) < 0.02).float()
    place = torch.sigmoid(8 * (0.85 - (x + 0.9).hypot(y)))
    panels = {"lines: sharp, of everything": lines, "place: blurred, of one thing": place,
              "lines times place: sharp, of one thing": lines * place}  # fmt: skip
    figure, axes = plt.subplots(1, 3, figsize=(12, 2.5), layout="constrained")
    for axis, (title, panel) in zip(axes, panels.items(), strict=True):
        axis.imshow(panel.numpy(), cmap="inferno", vmin=0, vmax=1)
        axis.set_title(title, fontsize=11)
        axis.set_axis_off()
    return figure


if __name__ == "__main__":
    options = {
        "--method": {"choices": ATTRIBUTIONS, "help": "explain every picture with it and save the results"},
        "--batch-size": {"type": int, "help": f"images at once (default: {BATCH})"},
        **RAY_OPTIONS,
    }
    lesson = start("07_guided_gradcam", "Guided Grad-CAM: lines times place. With --method, explain whole folders.",
                   images=["dog.jpg", "bird.jpg", "panda.jpg", "koala.jpg"], options=options)  # fmt: skip
    check_options(lesson.args)
    if lesson.args.method:
        sys.exit(explain_folders(lesson) if lesson.args.ray is None else explain_with_ray(lesson))
    model, images, targets = lesson.model, lesson.images, lesson.targets
    lesson.show(figure_idea(), "idea")

# %% [markdown]
# ## The formula
#
# The lines are guided backpropagation, one value per pixel and colour. The place is Grad-CAM, enlarged to the size of
# the image. They are multiplied pixel by pixel.
#
# $$\text{Guided Grad-CAM}_c = \text{guided backpropagation}_c \odot \text{bilinear}(L_c)
# \qquad\text{(Selvaraju et al., section 3.2)}$$
#
# | symbol | meaning | shape |
# | --- | --- | --- |
# | $L_c$ | Grad-CAM of class $c$, after ReLU | (h, w) |
# | bilinear | upsampling to the image's size | (H, W) |
# | $\odot$ | product pixel by pixel, the same map for each colour channel | (3, H, W) |
#
# ## The method


# %%
def guided_grad_cam(
    model: nn.Module, images: Tensor, target: Target = None, *, layer: nn.Module | str | None = None
) -> Tensor:
    """Guided backpropagation where Grad-CAM found evidence for the class.

    Args:
        model: as guided_backpropagation, with a layer that Grad-CAM can use.
        images, target: as in vanilla_gradient.
        layer: Grad-CAM's target layer: a module, its dotted name, or None for last_conv_layer(model).

    Returns:
        (B, 3, H, W), signed, detached; all zero where nothing in `layer` spoke for the class.

    Raises:
        ValueError: as guided_backpropagation and grad_cam.

    Paper: Selvaraju et al. 2017, arXiv:1610.02391, section 3.2.
    """
    # BEGIN SOLUTION 7.1
    L = grad_cam(model, images, target, layer=layer)                   # (B, H, W), bilinear
    return guided_backpropagation(model, images, target) * L[:, None]
    # END SOLUTION


# %% [markdown]
# Each factor makes a forward pass of its own. One pass for both would take 0.68 of the time (ResNet-50, three
# photographs, `python tests/benchmark.py --cheaper 3`). But the hooks of two lessons would have to share one backward
# graph, where now a product says what the method is. We keep the product.
#
# Below, the number above each product says how much it is like its lines (r with guided backpropagation). The last
# column is a control. Its lines are a plain edge filter on the photograph, which knows neither the network nor a class.


# %%
if __name__ == "__main__":
    some, classes = images[:3], targets[:3]
    lines, place = channel_reduce(guided_backpropagation(model, some, classes)), grad_cam(model, some, classes)
    product = channel_reduce(guided_grad_cam(model, some, classes))
    columns = {"lines: guided backprop": lines, "place: Grad-CAM": place, "guided Grad-CAM": product,
               "edges of the photo x Grad-CAM": photo_edges(some) * place}  # fmt: skip
    notes = {name: [f"r with the lines = {correlation(*pair):.2f}" for pair in zip(columns[name], lines, strict=True)]
             for name in list(columns)[2:]}  # fmt: skip
    lesson.show(map_grid(some, columns, titles=lesson.titles, notes=notes, heading="Lines times place"), "product")

# %% [markdown]
# ## A check you can break
#
# Where Grad-CAM is exactly 0, the product must be exactly 0, however strong the lines are there. We try it with a class
# that is not in the photographs, because its Grad-CAM has many zeros. Guided backpropagation alone is the reference.

# %%
if __name__ == "__main__":
    tabby, macaw = find_class("tabby"), find_class("macaw")
    absent = torch.where(targets == tabby, macaw, tabby)               # (N,): a class that is not in the photograph
    dark = (grad_cam(model, images, absent) == 0)[:, None]             # (N, 1, H, W)
    shares = [
        ((maps * dark).abs().sum(dim=(1, 2, 3)) / maps.abs().sum(dim=(1, 2, 3))).tolist()
        for maps in (guided_backpropagation(model, images, absent), guided_grad_cam(model, images, absent))
    ]
    header = ["image", "share of the pixels\nwhere Grad-CAM is 0", "of guided\nbackprop", "of guided\nGrad-CAM"]
    print_table(header, list(zip(lesson.names, dark.float().mean(dim=(1, 2, 3)).tolist(), *shares, strict=True)))
    assert not any(shares[1]), "the product is not 0 where Grad-CAM is"

# %% [markdown]
# ## Four classes of one picture
#
# One photograph with one animal cannot show whether a map answers to the class. So we put four photographs into one
# picture, and ask for each animal in turn. The number is the share of the map in the right quarter. A map that knows
# nothing has 0.25, a perfect one has 1.


# %%
def in_own_quarter(maps: Tensor) -> list[float]:
    """The share of map i, of four (H, W) maps of a mosaic, that lies in quarter i, counted row by row."""
    quarters = [quarter for half in maps.chunk(2, dim=1) for quarter in half.chunk(2, dim=2)]
    return [(quarters[i][i].sum() / map.sum()).item() if map.any() else 0.0 for i, map in enumerate(maps)]


if __name__ == "__main__":
    files = lesson.files[:4] if len(images) >= 4 else lesson.args.default_images
    four = torch.cat([preprocess_image(load_image(file)) for file in files]).to(images)
    with torch.no_grad():
        asked = model(four).argmax(dim=1)                              # one class for each quarter
    picture = mosaic(four).expand(4, -1, -1, -1)
    lines, place = channel_reduce(guided_backpropagation(model, picture, asked)), grad_cam(model, picture, asked)
    columns = {"guided backprop": lines, "Grad-CAM": place, "guided Grad-CAM": lines * place}
    notes = {name: [f"{share:.0%} in its quarter" for share in in_own_quarter(maps)] for name, maps in columns.items()}
    titles = describe_targets(model, picture, asked)
    shown = map_grid(picture, columns, titles=titles, notes=notes, size=2.6, heading="Four classes of one picture")
    lesson.show(shown, "classes")

# %% [markdown]
# Guided backpropagation draws all four animals for each class; the right one is a little brighter. Grad-CAM finds the
# quarter. The product is better than either: where one factor is wrong, the other is often small.
#
# ## Class contrast: what does the class change?
#
# Two maps that look different may differ in strength only. So give each map the same total, 1, and subtract. What is
# positive belongs more to the first class, what is negative more to the second, and what both share is gone. The
# positive part adds up to the share of the map that has *moved*: 0 for the same map, 1 for two that have nothing in
# common.


# %%
def class_contrast(first: Tensor, second: Tensor) -> Tensor:
    """The difference of two classes' maps, each divided by its own sum.

    Args:
        first, second: maps >= 0, (B, H, W).

    Returns:
        (B, H, W), signed. Never NaN: an empty map counts as zeros.
    """
    # BEGIN SOLUTION 7.2
    totals = [map.sum(dim=(1, 2), keepdim=True) for map in (first, second)]
    p, q = (map / torch.where(total > 0, total, 1) for map, total in zip((first, second), totals, strict=True))
    return p - q
    # END SOLUTION


def moved(first: Tensor, second: Tensor) -> Tensor:
    """(B,): the share of the first map that lies elsewhere in the second."""
    return class_contrast(first, second).clamp(min=0).sum(dim=(1, 2))


if __name__ == "__main__":
    two = [maps[:2] for maps in (lines, lines * place)]                # of the first and of the second class
    firsts, seconds = (torch.stack([maps[i] for maps in two]) for i in (0, 1))
    contrast = {"contrast: first - second, 8 x 8 blocks": block_sums(class_contrast(firsts, seconds))}
    notes = {name: [f"moved: {share:.2f}" for share in moved(firsts, seconds)] for name in contrast}
    columns = {f"first: {titles[0]}": firsts, f"second: {titles[1]}": seconds} | contrast
    shown = map_grid(picture[:2], columns, notes=notes, titles=["guided backprop", "guided Grad-CAM"],
                     heading="What does the class change?")  # fmt: skip
    lesson.show(shown, "contrast")

# %% [markdown]
# ## Which factor knows the class?
#
# Exchange one factor at a time. Take the lines of another class and keep the place; or keep the lines, and take the
# place of the other class. How much of the map moves?


# %%
def with_one_exchanged(
    model: nn.Module, images: Tensor, target: Target, other: Target, *, layer: nn.Module | str | None = None
) -> tuple[Tensor, Tensor]:
    """Guided Grad-CAM of `target` with one factor taken from the class `other`.

    Args:
        model, images, layer: as in guided_grad_cam.
        target, other: classes, each as `target` in guided_grad_cam.

    Returns:
        Two maps (B, 3, H, W): with the lines exchanged, and with the place exchanged.
    """
    # BEGIN SOLUTION 7.3
    lines, lines_of_other = (guided_backpropagation(model, images, c) for c in (target, other))
    place, place_of_other = (grad_cam(model, images, c, layer=layer)[:, None] for c in (target, other))
    return lines_of_other * place, lines * place_of_other
    # END SOLUTION


def span(values: Tensor) -> str:
    """Lowest and highest value, as text."""
    return f"{min(values):.2f} to {max(values):.2f}"


if __name__ == "__main__":
    neighbour = asked.roll(1)                                          # each quarter's class, and another quarter's
    product, edges = lines * place, photo_edges(picture)
    lines_only, place_only = map(channel_reduce, with_one_exchanged(model, picture, asked, neighbour))
    noise = torch.rand(2, *edges.shape, generator=torch.Generator().manual_seed(lesson.seed)).to(edges)
    print_table(["exchanged for another animal's class", "share of the map that moves"], [
        ["the lines only", span(moved(product, lines_only))],
        ["the place only", span(moved(product, place_only))],
        ["both: guided Grad-CAM of the other class", span(moved(product, product.roll(1, 0)))],
        ["the place, under edges of the photo as lines", span(moved(edges * place, edges * place.roll(1, 0)))],
        ["for scale: one map of noise against another", span(moved(*noise))],
    ])  # fmt: skip
    controls = {"edges of the photo": edges, "guided backprop": lines, "Grad-CAM": place,
                "edges of the photo x Grad-CAM": edges * place, "guided Grad-CAM": product}  # fmt: skip
    print_table(["map", "share in the right quarter"], [[k, span(in_own_quarter(v))] for k, v in controls.items()])

# %% [markdown]
# The place decides. With other lines at the old place less moves than between two maps of noise; with the old lines at
# another place nearly all of the map moves. Still, the lines are not just any lines. Edges of the photograph in their
# stead put less of the map into the right quarter, because guided backpropagation knows a little of the class itself.
#
# ## The choice of the layer
#
# Grad-CAM may look at an earlier layer. Its map is then finer, but the features are simpler and belong to fewer classes
# alone. The lines stay the same, so what changes is the lamp.

# %%
if __name__ == "__main__":
    columns = {}
    for name in stages(model)[3:0:-1]:                                 # the last three before the logits
        place_there = grad_cam(model, picture, asked, layer=name)
        columns[f"Grad-CAM, {name}"], columns[f"guided Grad-CAM, {name}"] = place_there, lines * place_there
    notes = {name: [f"{share:.0%} in its quarter" for share in in_own_quarter(maps)] for name, maps in columns.items()}
    shown = map_grid(picture[:2], {name: maps[:2] for name, maps in columns.items()}, titles=titles, notes=notes,
                     size=2.6, heading="The layer of Grad-CAM")  # fmt: skip
    lesson.show(shown, "layers")
    kinds = ("Grad-CAM", "guided Grad-CAM")
    rows = [[name, *(span(in_own_quarter(columns[f"{kind}, {name}"])) for kind in kinds)]
            for name in stages(model)[3:0:-1]]  # fmt: skip
    print_table(["layer", *(f"in the right quarter:\n{kind}" for kind in kinds)],
                [*rows, ["for scale: guided backprop alone", "", span(in_own_quarter(lines))]])  # fmt: skip

# %% [markdown]
# With ResNet-50, Grad-CAM of layer2 puts 0.24 to 0.38 on the right animal, hardly more than a map that knows nothing.
# At layer3 it depends on the animal, and only at layer4 the lamp finds all four. The product looks sharp at every
# layer. At layer2 it is no better than its lines alone. So look at Grad-CAM by itself before you trust the product.
#
# ## Where the product fails
#
# Four questions to it, each with its reference. Whatever happens to Grad-CAM happens to the product.
#
# - *A class that is not there.* How strong is its map, as a share of the right class's?
# - *Evidence against.* Which share of Grad-CAM is negative before its ReLU? The product never shows it.
# - *Random weights* in the last two stages, several draws: how like is the map to the trained network's? A map that
#   explains the network should come out near 0, lines alone come out near 1 (lesson 06).
# - *An empty Grad-CAM.* How often is the product black everywhere?


# %%
def negative_share(model: nn.Module, images: Tensor, target: Target) -> list[float]:
    """The share of Grad-CAM, before its ReLU, that is evidence against the class."""
    maps = grad_cam(model, images, target, relu=False, upsample=False)
    return (maps.clamp(max=0).abs().sum(dim=(1, 2)) / maps.abs().sum(dim=(1, 2))).tolist()


if __name__ == "__main__":
    own, wrong = (guided_grad_cam(model, images, c).flatten(1).norm(dim=1) for c in (targets, absent))
    strength = (wrong / own).tolist()
    against = zip(negative_share(model, images, targets), negative_share(model, images, absent), strict=True)
    forgetful = [randomized(model, stages(model)[:2], seed) for seed in range(2 if lesson.quick else 5)]
    trained = channel_reduce(guided_grad_cam(model, images, targets))
    drawn = [channel_reduce(guided_grad_cam(network, images, targets)) for network in forgetful]
    rows = []
    for i, shares in enumerate(against):
        likeness = [correlation(trained[i], maps[i]) for maps in drawn if maps[i].any()]
        empty = f"{len(drawn) - len(likeness)} of {len(drawn)}"
        rows.append([lesson.names[i], strength[i], *shares, span(likeness) if likeness else "", empty])
    print_table(["image", "strength:\nabsent class", "against:\nown class", "against:\nabsent class",
                 "r with random\nweights", "empty with\nrandom weights"], rows)  # fmt: skip

# %% [markdown]
# For a class that is not there the map is faint, but on a scale of its own it looks like any other. With random weights
# the result is luck: depending on the draw the map is the trained one, or another, or empty. It neither passes nor
# fails the test in one word. Adebayo et al. report that guided Grad-CAM hardly changes with the upper layers.
#
# ## Whole folders of pictures
#
# A method is one line; a run over ten thousand files needs more. `Explainer` gives one result for each input, in order,
# and a broken file is a result too. It works in batches, so memory does not grow. It lets one thread at a time use a
# network, because hooks would fire for the other thread's picture. `save` writes complete files or none, and a second
# run continues where the first was stopped. `--method` on the command line runs it.

# %%
if __name__ == "__main__":
    with Explainer(model, "guided_grad_cam", batch_size=2) as explainer:
        found = list(explainer.explain([images[0], lesson.files[0], "lost.jpg"], [None, absent[0].item(), None]))
    rows = [[Path(item.source).name, item.label or "", (item.error or "").split(";")[0] or item.probability]
            for item in found]  # fmt: skip
    print_table(["input", "class explained", "probability, or what went wrong"], rows)

# %% [markdown]
# ## What the picture does not show
#
# - **Not fine evidence.** The lines are guided backpropagation's. Grad-CAM's 7 x 7 values only choose where they are
#   shown: within a place, the product is like its lines (r from 0.90 to 0.97 on three photographs). Sharp is not exact.
# - **Not the evidence against.** The ReLU of Grad-CAM removed it: nothing for the right class, but 0.12 to 0.76 of the
#   map of an absent one.
# - **Not how sure the network is.** A map of an absent class has 0.01 to 0.04 of the right one's strength, and looks as
#   convincing. Print the probability, and compare maps on one scale only (lesson 01).
# - **Not a test of the network.** With random weights r lies anywhere from -0.04 to 0.97, and 3 of 20 maps are empty.
#
# ## Exercises
#
# ### Predict first
#
# **7.5 What the class changes** (difficulty 1, 3 minutes, 1 point). `class_contrast` divides two maps by their own
# sums and subtracts them. Neither is empty. What does the result add up to over all pixels? Answer: a number.
#
# **7.6 Which factor decides?** (difficulty 1, 3 minutes, 1 point). Two animals share a picture. You exchange one
# factor of guided Grad-CAM for the other animal's, and measure how much of the map moves. What do you expect?
#
# - **a** The lines (guided backpropagation) move more, because they are sharper.
# - **b** The place (Grad-CAM) moves far more, because it alone depends much on the class.
# - **c** Both move about equally, because the map is their product.
# - **d** Neither moves, because the picture is the same.

# %%
# BEGIN SOLUTION 7.5
ANSWER_7_5 = 0
# END SOLUTION
# BEGIN SOLUTION 7.6
ANSWER_7_6 = "b"
# END SOLUTION

# %% [markdown]
# ### Then write
#
# **7.1 The product** (difficulty 1, 5 minutes, 2 points). Fill in guided Grad-CAM. *First predict* its map for a class
# whose Grad-CAM is empty. *Hints:* one factor has a channel dimension · `None` as an index adds one.
#
# **7.2 What the class changes** (difficulty 2, 15 minutes, 3 points). Fill in `class_contrast`. What becomes of it if
# one map is made ten times stronger. *Hints:* divide each map by its own sum, image by image · an empty map has the
# sum 0, and 0 / 0 is NaN.
#
# **7.3 Which factor decides?** (difficulty 2, 15 minutes, 3 points). Fill in `with_one_exchanged`. *Hints:* you need
# four maps, two of each factor · Grad-CAM takes the layer, guided backpropagation does not.
#
# **7.4 Other lines** (difficulty 2, 20 minutes, no code to submit). Give `Explainer` a function that multiplies
# Grad-CAM by SmoothGrad (lesson 03). *First predict* its share in the right quarter of the mosaic. What is lost, what
# is gained?
#
# ## Recap
#
# Which factor makes the map answer to the class, and when does the product fail?
#
# 1. Guided backpropagation draws, Grad-CAM chooses where. Among four animals, exchanging the lines alone moves 0.03 to
#    0.25 of the map, exchanging the place alone 0.70 to 0.95.
# 2. The product puts 0.86 to 0.97 of itself on the right animal; Grad-CAM 0.75 to 0.86, guided backpropagation 0.35 to
#    0.60, edges of the photograph times Grad-CAM 0.67 to 0.88, and a map that knows nothing 0.25.
# 3. It is as good as its Grad-CAM. At an earlier layer it stays sharp, and only its lines are left to know the class.
# 4. It is empty where Grad-CAM is, hides the evidence against, and draws an absent class as sharply as a present one.
