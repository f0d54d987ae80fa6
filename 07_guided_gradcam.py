# %% [markdown]
# # 07 Guided Grad-CAM, and an explainer for production
#
# Guided backpropagation draws fine lines and hardly knows the class. Grad-CAM knows the class and draws blobs. Multiply
# them. That is one line; the rest of the lesson is about what has to stand around such a line once other people rely on
# it: ten thousand files, three of them broken, two threads, half the memory, and a run that is interrupted.
#
# **After this lesson you can**
#
# 1. compute guided Grad-CAM, and say which of its two factors makes it depend on the class;
# 2. explain any number of pictures in batches, with bounded memory and without one broken file stopping the rest;
# 3. write results so that an interrupted run loses nothing and does nothing twice;
# 4. list what to check before you trust a map in production.
#
# **Level** advanced. **Before it** lessons 05 and 06.
# **Papers** Selvaraju et al., *Grad-CAM*, 2017, arXiv:1610.02391, section 3.2; Adebayo et al., 2018, arXiv:1810.03292.

# %%
r"""Guided Grad-CAM, and Explainer: batches, broken files, threads, resuming.

Run `python 07_guided_gradcam.py` (seconds on two cores). Writes product.png, classes.png and scales.png to
outputs/07_guided_gradcam/. With --method it explains whole folders instead:

    python 07_guided_gradcam.py --image folder/ --method grad_cam --output-dir out/
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from course.checks import Target
from course.explainer import Explanation
from course.figures import color_scale, show_map, show_photo
from course.probes import mosaic
from utils import (
    channel_reduce,
    describe_targets,
    displayable,
    find_class,
    import_lesson,
)

ABSENT = find_class("tabby")

lesson_01 = import_lesson("01_vanilla_gradient_saliency")
lesson_02 = import_lesson("02_gradient_input_saliency")
lesson_03 = import_lesson("03_smoothgrad")
lesson_04 = import_lesson("04_integrated_gradients")
lesson_05 = import_lesson("05_gradcam")
lesson_06 = import_lesson("06_guided_backpropagation")
grad_cam, guided_backpropagation = lesson_05.grad_cam, lesson_06.guided_backpropagation

# %% [markdown]
# ## The idea
#
# Where Grad-CAM is zero, the product is zero; elsewhere the drawing of guided backpropagation shows through. The class
# comes in through Grad-CAM alone, or nearly so.
#
# ## The formula
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
# ## Step 1: one product


# %%
def guided_grad_cam(
    model: nn.Module,
    images: Tensor,
    target: Target = None,
    *,
    layer: nn.Module | str | None = None,
) -> Tensor:
    """Guided backpropagation where Grad-CAM found evidence for the class.

    Args:
        model: as guided_backpropagation, with a layer that Grad-CAM can use.
        images: normalised images, (B, 3, H, W), float. Left as they are.
        target: None (each image's top class), one class index for all, or one per image.
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
# ## Step 2: what production asks for
#
# - **Eval mode, and the logit.** The methods refuse the train mode and explain the logit.
# - **Batches.** One image at a time wastes the machine, all at once needs memory without end: so a stream of batches.
# - **One result for each input, in order.** A broken file is a result too: it must not stop the others, nor vanish.
# - **Nothing half-written.** Write under a temporary name, then rename: what has its final name is complete.
# - **Resume.** A file's name holds a fingerprint of all that decides its content: the picture, the weights, the method,
#   the target. If the file exists, the work is done.
# - **One thread at a time.** Hooks sit on the network and would fire for another thread's picture as well: a lock.
# - **The network stays as it is.** Hooks are removed; for another device it is copied.
# - **Numbers, not colours.** What is saved is the raw map. Normalisation belongs to the display, and maps that are to
#   be compared share one scale (scales.png).


# %%








# %% [markdown]
# ## Step 3: the explainer
#
# Any method of the course can be named. A function of your own, of the same form, does as well.


# %%











# %% [markdown]
# ## The pictures


# %%
def figure_product(model: nn.Module, images: Tensor, target: Tensor) -> Figure:
    """The two factors and their product; one row an image, each map on its own scale."""
    columns = {
        "guided backprop": channel_reduce(guided_backpropagation(model, images, target)),
        "Grad-CAM": grad_cam(model, images, target),
        "guided Grad-CAM": channel_reduce(guided_grad_cam(model, images, target)),
    }
    titles = describe_targets(model, images, target)
    figure, axes = plt.subplots(len(images), 4, figsize=(14, 3.3 * len(images)), squeeze=False, layout="constrained")
    for i, (row, photo) in enumerate(zip(axes, displayable(images), strict=True)):
        show_photo(row[0], photo, titles[i])
        for axis, (name, maps) in zip(row[1:], columns.items(), strict=True):
            show_map(axis, maps[i], title=name)
    figure.suptitle("Fine lines times the class's place (max |.| over channels, each map on its own scale)")
    return figure


def figure_classes(model: nn.Module, images: Tensor, targets: Sequence[int]) -> Figure:
    """One picture of four animals: guided backpropagation and guided Grad-CAM of each one's class, a scale a row."""
    picture = mosaic(images).expand(4, -1, -1, -1)
    titles = describe_targets(model, picture, torch.tensor(targets))
    figure, axes = plt.subplots(2, 5, figsize=(16, 6.6), layout="constrained")
    for row, method in zip(axes, (guided_backpropagation, guided_grad_cam), strict=True):
        maps = channel_reduce(method(model, picture, targets))
        show_photo(row[0], displayable(picture)[0], method.__name__)
        for axis, map, title in zip(row[1:], maps, titles, strict=True):
            show_map(axis, map, color_scale(*maps), title)
    figure.suptitle("Four classes of one picture: the class comes in through Grad-CAM")
    return figure


def figure_scales(explanations: Sequence[Explanation]) -> Figure:
    """The same maps, each on its own scale above, all on one scale below."""
    figure, axes = plt.subplots(2, len(explanations), figsize=(3.6 * len(explanations), 7), layout="constrained")
    together = color_scale(*(item.map for item in explanations))
    for column, item in zip(axes.reshape(2, -1).T, explanations, strict=True):
        show_map(column[0], item.map, title=f"{item.label} {item.probability:.2f}")
        show_map(column[1], item.map, together)
    figure.suptitle("Own scale above, one scale below: only the lower row can be compared")
    return figure




# %% [markdown]
# ## What the picture does not show
#
# - **Not fine evidence.** The lines are guided backpropagation's, which draws them for any class; Grad-CAM's 7 x 7
#   values only choose where they are shown. Sharp does not mean exact.
# - **Not the evidence against**, which the ReLU of Grad-CAM removed.
# - **Not how sure the network is.** Each overlay is on a scale of its own. Look at `probability`, and at one scale.
# - **Not a test of the network.** Adebayo et al. report that guided Grad-CAM, too, hardly changes with the upper
#   layers; the table says what is left here with random weights in the last two stages.

# %% [markdown]
# ## Exercises
#
# **7.1 The product** (difficulty 1, 5 minutes, 2 points). Fill in guided Grad-CAM. *First predict* its map for a class
# whose Grad-CAM is empty. *Hints:* one factor has a channel dimension · `None` as an index adds one.
#
# **7.2 Nothing half-written** (difficulty 2, 20 minutes, 3 points). Fill in `write`: other programs must never see an
# unfinished file, two threads must not share one, and nothing may be left behind when `fill` raises.
# *Hints:* `os.replace` is atomic within a folder · what makes a name unique? · `finally`.
#
# **7.3 In step** (difficulty 2, 10 minutes, 3 points). Fill in `in_step`. `zip` stops at the shorter one without a
# word: the second picture of a batch then gets no map, or a wrong one. *Hints:* `itertools.zip_longest` · a fill value
# that nobody else can have.
#
# **7.4 Your own method** (difficulty 2, 20 minutes, no code to submit). Give `Explainer` a function that multiplies
# Grad-CAM by SmoothGrad in place of guided backpropagation. What is lost, what is gained?


# %%




# %% [markdown]
# ## Recap
#
# 1. Guided Grad-CAM is a product: guided backpropagation draws, Grad-CAM chooses where.
# 2. So its dependence on the class is Grad-CAM's. On the four photographs its map correlates 0.06 to 0.78 with that of
#    an absent tabby, where guided backpropagation alone has 0.98 to 1.00 and Grad-CAM -0.06 to 0.61.
# 3. With random weights in fc and layer4 it is empty for two photographs of four (Grad-CAM is), and correlates 0.16 and
#    0.73 with the trained network's map for the others: neither passed nor failed in one word.
# 4. In production: eval mode, the logit, batches, a lock, errors as results, files that are complete or absent, names
#    that say what they hold, and raw numbers next to every picture.

