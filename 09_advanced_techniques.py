# %% [markdown]
# # 09 Advanced techniques: four roads from here
#
# A map of lessons 01 to 07 asks one question of one kind of network. What if I want to know how the score is *shared
# out*? What if the network is a transformer, or one that I built myself? And what if somebody wants the map to lie?
# This lesson is a doorway: it shows each of the four parts in one page, and says when you need it.
#
# **After this lesson you can**
#
# 1. say which of the four parts answers your question;
# 2. read one figure of each, and the number that belongs to it;
# 3. run the part, and find its exercises.
#
# **Level** advanced. **Before it** lessons 01 to 07; lesson 08 for the controls.
# **Papers** are named in the parts.

# %%
r"""The doorway to advanced/. Run `python 09_advanced_techniques.py`; with `lrp` behind it, it runs that part."""

from __future__ import annotations

import sys

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure

from advanced.attention_rollout import attention_rollout, class_name, gradient_rollout
from advanced.fooled_and_biased import move_map
from advanced.lrp import lrp
from advanced.train_vit import held_out_scenes, load_vit, named_scenes
from advanced.your_own_network import cats_against_dogs
from course.figures import map_grid
from course.lesson import print_table, start
from course.parts import hand_over, run_part
from course.probes import roughness
from evaluation.is_it_chance import estimate, hit_rate
from evaluation.planted_scenes import energy_pointing_game
from utils import IMAGENET_STD, channel_reduce, describe_targets, import_lesson

gradient_times_input = import_lesson("02_gradient_input_saliency").gradient_times_input
lesson_05 = import_lesson("05_gradcam")

# %% [markdown]
# ## A picture of the idea
#
# A network takes a picture through its layers to a score. Each road enters at another place. LRP starts at the score
# and walks back to the picture. Attention rollout multiplies what the layers of a transformer say about themselves.
# Your own network is a question of how it *ends*. And who wants to fool a map begins with the picture, or with the
# training.

# %%
ROADS = (                                                              # name, from, to, what it asks
    ("LRP", 8, 0, "how is the score shared out?"),
    ("attention rollout", 2, 6, "what did the tokens take from where?"),
    ("your own network", 6, 8, "what does it end in?"),
    ("fooled and biased", 0, 2, "would the map tell, if picture or training were changed on purpose?"),
)


def figure_idea() -> Figure:
    """A network as a chain of boxes, and below it where each of the four parts enters."""
    figure, axis = plt.subplots(figsize=(9, 4.2), layout="constrained")
    for i, name in enumerate(("picture", "layer", "layer", "layer", "score")):
        axis.text(2 * i, 0, name, ha="center", va="center", bbox={"boxstyle": "round,pad=0.6", "fc": "white"})
        if i:
            axis.annotate("", (2 * i - 0.55, 0), (2 * i - 1.4, 0), arrowprops={"arrowstyle": "-|>", "color": "0.4"})
    for row, (name, begin, end, question) in enumerate(ROADS, start=1):
        color = f"C{row - 1}"
        axis.annotate("", (end, -row), (begin, -row), arrowprops={"arrowstyle": "-|>", "lw": 4, "color": color})
        axis.plot([begin, begin], [-row, -0.35], ":", color=color, lw=1)
        axis.text(8.4, -row, name, va="center", color=color, weight="bold")
        axis.text(min(begin, end) + 0.12, -row + 0.18, question, color=color, fontsize=9,
                  bbox={"fc": "white", "ec": "none", "pad": 1})  # fmt: skip
    axis.set(xlim=(-0.8, 11.2), ylim=(-4.5, 0.6))
    axis.set_axis_off()
    return figure


PARTS = ("lrp", "attention_rollout", "your_own_network", "fooled_and_biased", "train_vit", "train_cats_and_dogs",
         "train_vgg", "train_manipulated")  # fmt: skip

if __name__ == "__main__":
    hand_over("advanced", PARTS, {"--train": "train_vit", "--cats-and-dogs": "train_cats_and_dogs"})
    question = f"Which of the four roads is mine? A part's name, put first, runs it: {', '.join(PARTS)}."
    lesson = start("09_advanced_techniques", question, images=["dog.jpg", "bird.jpg"])
    if str(lesson.args.model).startswith("vit_"):                      # of the four parts, one has something to say
        run_part("advanced.attention_rollout", sys.argv[1:])
    model, images, targets = lesson.model, lesson.images, lesson.targets
    lesson.show(figure_idea(), "idea")

# %% [markdown]
# ## LRP: how is the score shared out?
#
# The gradient says what would change the score. Layer-wise relevance propagation asks who has *brought* it: the score
# is handed down from layer to layer, and every unit divides what it got among its inputs, by a rule. For one of the
# rules the result is gradient x input, an old friend. Others draw much calmer maps. The number is their roughness, from
# 0 (smooth) to 1 (noise).

# %%
if __name__ == "__main__":
    columns = {name: channel_reduce(method(model, images, targets), "sum")
               for name, method in (("gradient x input", gradient_times_input), ("LRP", lrp))}  # fmt: skip
    notes = {name: [f"roughness {roughness(map):.2f} (noise: 1)" for map in maps] for name, maps in columns.items()}
    shown = map_grid(images, columns, titles=lesson.titles, notes=notes, heading="Relevance, summed over colours")
    lesson.show(shown, "lrp")

# %% [markdown]
# The dots of LRP's map lie on a grid: some 1 x 1 convolutions of this ResNet take steps of two, and skip three of four
# positions. The map shows how the network is built, too.
#
# **When to use it.** The network is a plain stack of convolutions, linear layers and ReLU, and you need shares that add
# up. Not when you cannot say which rule is right, because the rule decides the map.
#
# **Run it:** `python 09_advanced_techniques.py lrp`. Exercises 9.1 and 9.2.
#
# ## Attention rollout: which patches reach the class token?
#
# A vision transformer has no convolutional map, but its attention can be multiplied through the layers. Plain rollout
# knows no class. With the gradient of a class it does. Two animals, each asked for in turn: which share of the map lies
# on the animal in question?

# %%
if __name__ == "__main__":
    vit = load_vit()
    scenes = named_scenes(vit, held_out_scenes(20 if lesson.quick else 60, animals=2, seed=lesson.seed + 5))
    two = torch.cat([scene.image for scene in scenes])
    classes = [[scene.classes[which] for scene in scenes] for which in (0, 1)]
    maps = {"uniform": torch.ones_like(two[:, 0]), "rollout": attention_rollout(vit, two),
            "gradient rollout": gradient_rollout(vit, two, classes[0])}  # fmt: skip
    rows = []
    for name, some in maps.items():
        shares = torch.tensor([[energy_pointing_game(map, mask) for mask in scene.masks]
                               for map, scene in zip(some, scenes, strict=True)])  # fmt: skip
        rows.append([name, *map(estimate, shares.T)])
    print_table([f"share of the map, n = {len(scenes)}", "on the animal asked for", "on the other"], rows)
    columns = {"rollout": maps["rollout"][:2], "gradient rollout: first": maps["gradient rollout"][:2],
               "gradient rollout: second": gradient_rollout(vit, two[:2], classes[1][:2])}  # fmt: skip
    titles = [" and ".join(class_name(vit, label) for label in scene.classes) for scene in scenes[:2]]
    lesson.show(map_grid(two[:2], columns, overlay=True, titles=titles, heading="Two animals"), "rollout")

# %% [markdown]
# **When to use it.** The network is a transformer with a class token. Use the gradient's version if your question is
# about a class, and never believe plain rollout without the controls of the part: a map of edges does nearly as well.
#
# **Run it:** `python 09_advanced_techniques.py attention_rollout` (`--model vit_b_16` for ImageNet's transformer).
# Exercises 9.3, 9.4 and 9.9. The training: `python 09_advanced_techniques.py train_vit`.
#
# ## Your own network: what works on it, and what must I change?
#
# A network that ends in pooling and one linear layer has its map built in: the mean of CAM plus a bias *is* the logit.
# Such a head tells cats from dogs after one second of training.

# %%
if __name__ == "__main__":
    cats, about = cats_against_dogs()
    counts = torch.tensor(about["confusion"])
    n, right, always_cat = int(counts.sum()), int(counts.diag().sum()), int(counts[0].sum())
    rows = [[name, f"{k} of {n}", hit_rate([1] * k + [0] * (n - k))]
            for name, k in (("trained", right), ("untrained: always cat", always_cat))]  # fmt: skip
    print_table(["head", "right answers", "rate and interval"], rows)
    cats, names = cats.to(images.device), about["classes"]
    with torch.no_grad():
        p, found = cats(images).softmax(dim=1).max(dim=1)
    titles = [f"{names[i]} {p:.2f}" for i, p in zip(found.tolist(), p.tolist(), strict=True)]
    columns = {f"CAM, {name}": lesson_05.cam(cats, images, i) for i, name in enumerate(names)}
    lesson.show(map_grid(images, columns, scale="row", titles=titles, heading="Cats against dogs"), "cats_and_dogs")

# %% [markdown]
# The macaw is neither, and gets its answer and its map all the same.
#
# **When to use it.** The network is yours: two inputs, a mask as output, ReLU as a function, or a free choice of how it
# ends.
#
# **Run it:** `python 09_advanced_techniques.py your_own_network`. Exercises 9.7 and 9.8. The training:
# `python 09_advanced_techniques.py train_cats_and_dogs FOLDER`. A small VGG that starts from nothing takes hours:
# `python 09_advanced_techniques.py train_vgg FOLDER`.
#
# ## Fooled and biased: would the map tell?
#
# An attacker may change each colour by 4 of 255 steps, which nobody sees. The class stays, and Grad-CAM moves into a
# corner. The control is as large a change at random.

# %%
if __name__ == "__main__":
    corner = torch.zeros(images.shape[-2:], dtype=torch.bool, device=images.device)
    corner[-75:, :75] = True
    image, target = images[:1], int(targets[0])
    step = 4 / 255 / torch.tensor(IMAGENET_STD, device=images.device)[:, None, None]
    signs = torch.randint(2, image.shape, generator=torch.Generator().manual_seed(lesson.seed)).to(image) * 2 - 1
    three = torch.cat([image, image + step * signs, move_map(model, image, target, corner)])
    maps = lesson_05.grad_cam(model, three, target)
    kinds = ("as it was", "random change", "attacked")
    titles = [f"{kind}: {title}" for kind, title in zip(kinds, describe_targets(model, three, target), strict=True)]
    notes = {"Grad-CAM": [f"{energy_pointing_game(map, corner.cpu()):.0%} in the corner, "
                          f"{corner.float().mean():.0%} of the area" for map in maps]}  # fmt: skip
    shown = map_grid(three, {"Grad-CAM": maps}, overlay=True, titles=titles, notes=notes, heading="Three pictures")
    lesson.show(shown, "moved")

# %% [markdown]
# **When to use it.** Whenever something depends on the map: before you show it to a doctor, a judge or a reviewer. The
# part also plants a cue in the training pictures, and asks which maps find it.
#
# **Run it:** `python 09_advanced_techniques.py fooled_and_biased`. Exercises 9.5 and 9.6. It has a network that was
# trained to show another map; the training: `python 09_advanced_techniques.py train_manipulated`.
#
# ## What the picture does not show
#
# - **Not which part is right.** They answer different questions. LRP and rollout of one network need not agree.
# - **Not the controls.** One figure and one number per part. The parts have the references that make them worth
#   something: untrained networks, edges, other classes, intervals.
# - **Not causes.** All four look at numbers inside a network. What happens *without* the pixels is lesson 08's
#   question.
#
# ## Exercises
#
# ### Predict first
#
# **9.10 Which road?** (difficulty 1, 3 minutes, 1 point). A vision transformer has named a picture with two animals
# "dog". You want to know what in the picture speaks for *dog*, not for the other animal. Which of these can answer at
# all?
#
# - **a** Plain attention rollout: attention says what the network looks at.
# - **b** Attention rollout with the gradient of the class.
# - **c** CAM: the mean of its map is the logit.
# - **d** LRP with the rules for convolutions and ReLU.
#
# **9.11 A small change** (difficulty 2, 3 minutes, 1 point). An attack moves Grad-CAM into a corner, with no colour
# changed by more than 4 of 255. Which control belongs beside it?
#
# - **a** Random noise of the same size: if that moved the map as far, it would be no attack.
# - **b** A larger attack, to see the effect more clearly.
# - **c** The map of another class.
# - **d** None: the number speaks for itself.

# %%
# BEGIN SOLUTION 9.10
ANSWER_9_10 = "b"
# END SOLUTION
# BEGIN SOLUTION 9.11
ANSWER_9_11 = "a"
# END SOLUTION

# %% [markdown]
# ### In the parts
#
# | exercises | where |
# | --- | --- |
# | 9.1, 9.2 | `advanced/lrp.py` |
# | 9.3, 9.4, 9.9 | `advanced/attention_rollout.py` |
# | 9.5, 9.6 | `advanced/fooled_and_biased.py` |
# | 9.7, 9.8 | `advanced/your_own_network.py` |
#
# ## Recap
#
# Which road is mine?
#
# 1. *Who brought the score?* LRP, if you can defend a rule.
# 2. *A transformer?* Gradient rollout; plain rollout knows no class.
# 3. *A network of my own?* Ask `explainable(model)`; if you may choose, let it end in pooling and one linear layer.
# 4. *Can I trust the map?* Attack it first.
