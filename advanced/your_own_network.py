# %% [markdown]
# # Your own network: which methods work on it, and what to change
#
# All methods of this course take pictures (B, 3, H, W) and a network that returns one score per class, (B, K). Your
# network may take two inputs, return a mask, or call ReLU in a way that no hook sees. Which methods can you use as it
# is, what can be adapted, and can one *build* a network whose map is exact?
#
# **After this part you can**
#
# 1. find out in one call which methods take a network, and read why the others refuse;
# 2. adapt a network with two inputs or with a score at each pixel, in one line;
# 3. rewrite functional ReLUs so that all methods see them;
# 4. build a classifier that CAM explains exactly, and train it in seconds.
#
# **Level** advanced. **Before it** lessons 05 to 07. **Paper** Zhou et al. 2016, *Learning Deep Features for
# Discriminative Localization*, arXiv:1512.04150.

# %%
r"""Your own network. Run `python -m advanced.your_own_network`; --help lists the options."""

from __future__ import annotations

import re
import textwrap
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from advanced.attention_rollout import attention_rollout
from advanced.lrp import lrp
from advanced.train_vit import load_vit
from course.checks import one_line
from course.figures import map_grid
from course.lesson import print_table, start
from course.paths import DATA_DIR
from course.pictures import load_image
from course.probes import correlation
from course.small_vgg import CHECKPOINT, load_vgg
from evaluation.is_it_chance import hit_rate
from utils import import_lesson, load_model, preprocess_image

saliency_map = import_lesson("01_vanilla_gradient_saliency").saliency_map
lesson_05 = import_lesson("05_gradcam")
lesson_06 = import_lesson("06_guided_backpropagation")

# %% [markdown]
# ## A picture of the idea
#
# Ask your network all six questions, from the top down. The first two are about the way it is called: there a wrapper
# of one line helps. The others are about what it is made of. What stands at the bottom nearly always works.

# %%
QUESTIONS = (
    ("Does it take one batch\nof pictures, and nothing else?", "no", "Adapter: fix the other inputs", "tab:orange"),
    ("Does it return one score\nper class, (B, K)?", "no", "Adapter: choose a place or an output", "tab:orange"),
    ("Is it a transformer\nwith a class token?", "yes", "attention rollout, gradient rollout", "tab:green"),
    ("Does it end in pooling\nand one linear layer?", "yes", "CAM, exactly", "tab:green"),
    ("Is there a last\nconvolutional layer?", "yes", "Grad-CAM", "tab:green"),
    ("Only convolutions, linear\nlayers, ReLU and pooling?", "yes",
     "LRP; guided backpropagation\nif each ReLU is a module", "tab:green"),
)


def figure_idea() -> Figure:
    """Questions from the top down, each with the answer that leads aside."""
    figure, axis = plt.subplots(figsize=(8, 6.4), layout="constrained")
    box = {"boxstyle": "round,pad=0.5", "fc": "white"}
    for row, (question, answer, then, color) in enumerate(QUESTIONS):
        axis.text(0, -row, question, ha="center", va="center", bbox=box)
        axis.text(1.55, -row, then, va="center", bbox=box | {"ec": color, "lw": 2})
        axis.annotate("", (1.42, -row), (0.75, -row), arrowprops={"arrowstyle": "-|>", "color": color, "lw": 2})
        axis.text(1.08, 0.08 - row, answer, ha="center", color=color)
        axis.annotate("", (0, -0.68 - row), (0, -0.32 - row), arrowprops={"arrowstyle": "-|>", "color": "0.5"})
    last = "always, if the scores have a gradient: gradient, SmoothGrad, Integrated Gradients"
    axis.text(-0.75, -len(QUESTIONS), last, va="center", bbox=box | {"ec": "tab:green", "lw": 2})
    axis.set(xlim=(-0.85, 3.6), ylim=(-len(QUESTIONS) - 0.4, 0.4))
    axis.set_axis_off()
    return figure


if __name__ == "__main__":
    lesson = start("advanced.your_own_network", "Which methods work on my network, and what must I change?",
                   images=["cat.jpg", "dog.jpg"])  # fmt: skip
    images = lesson.images
    lesson.show(figure_idea(), "idea")

# %% [markdown]
# ## Ask the network
#
# The honest answer comes from trying. `explainable` runs every method once on noise, with as few passes as possible,
# and writes down what it said.


# %%
def probes() -> dict[str, Callable[[nn.Module, Tensor], object]]:
    """Every method of the course, as cheap as it gets."""
    smoothgrad = import_lesson("03_smoothgrad").smoothgrad
    integrated_gradients = import_lesson("04_integrated_gradients").integrated_gradients
    return {
        "vanilla_gradient": import_lesson("01_vanilla_gradient_saliency").vanilla_gradient,
        "gradient_times_input": import_lesson("02_gradient_input_saliency").gradient_times_input,
        "smoothgrad": partial(smoothgrad, n_samples=1),
        "integrated_gradients": partial(integrated_gradients, n_steps=1),
        "grad_cam": lesson_05.grad_cam,
        "cam": lesson_05.cam,
        "guided_backpropagation": lesson_06.guided_backpropagation,
        "deconvnet": lesson_06.deconvnet,
        "guided_grad_cam": import_lesson("07_guided_gradcam").guided_grad_cam,
        "lrp": lrp,
        "attention_rollout": attention_rollout,
    }


def explainable(model: nn.Module, size: tuple[int, int] = (224, 224)) -> list[tuple[str, str, str]]:
    """What of the course applies to a classifier?

    Args:
        model: any nn.Module in eval mode, (1, 3, H, W) -> logits (1, K).
        size: (H, W) of the images it takes.

    Returns:
        Rows (item, "yes" or "no", remark): one per method, with its own sentence where it refuses; then the layer that
        Grad-CAM takes, and the activations that hooks do not see.
    """
    weight = next(model.parameters(), torch.empty(0))
    image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0)).to(weight)
    rows = []
    for name, method in probes().items():
        try:
            method(model, image)
            rows.append((name, "yes", ""))
        except Exception as error:  # whatever the model or the method has against it is the answer
            rows.append((name, "no", one_line(error)))
    refused = {name: remark for name, _, remark in rows}["guided_backpropagation"]
    try:
        layer = lesson_05.last_conv_layer(model)
        name = next(name for name, module in model.named_modules() if module is layer)
        rows.append(("Grad-CAM's layer", "yes", f"{name} ({type(layer).__name__})"))
    except ValueError as error:
        rows.append(("Grad-CAM's layer", "no", one_line(error)))
    hidden = refused.partition("also ran ")[2].partition(", as a function")[0]
    rows.append(("activations without a module or rule", "yes" if hidden else "no", hidden))
    return rows


# %%
if __name__ == "__main__":
    networks = {lesson.model_name: lesson.model, "small transformer": load_vit()}
    if not lesson.quick:
        networks[lesson.other_name] = lesson.other_model
    answers = {name: explainable(network, (64, 64) if "small" in name else (224, 224))
               for name, network in networks.items()}  # fmt: skip
    items = [item for item, _, _ in answers[lesson.model_name]]
    columns = [[answer for _, answer, _ in rows] for rows in answers.values()]
    print_table(["", *answers], list(zip(items, *columns, strict=True)))
    for name, rows in answers.items():
        for item, answer, remark in rows:
            if remark and answer == "no":
                print(textwrap.shorten(f"{name}, {item}: {remark}", 100, placeholder=" ..."))

# %% [markdown]
# "Yes" means that the method *runs* and its conditions hold. It does not mean that its map is right: a network with
# random weights gets the same column.
#
# ## Three repairs
#
# | your network | what happens | what to do |
# | --- | --- | --- |
# | takes two inputs | TypeError: a missing argument | fix the second one for all pictures |
# | returns a score at each pixel, (B, K, H, W) | its output is refused | ask about a region: one number per class |
# | returns several things | its output is refused | `Adapter(net, lambda net, x: net(x)[0])` |
# | calls `F.relu` | guided backpropagation refuses | make each ReLU a module |
#
# An adapter is another way to call a network. It must keep pictures apart: (B, 3, H, W) in, (B, K) out, for any B.


# %%
class Adapter(nn.Module):
    """A network with another way to call it: call(network, images) -> logits (B, K)."""

    def __init__(self, network: nn.Module, call: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.call = network, call
        self.train(network.training)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, K)."""
        return self.call(self.network, images)


def with_age(network: nn.Module, images: Tensor, *, age: float) -> Tensor:
    """Logits (B, K) of a network that takes images and ages (B, 1): the same age for every image."""
    # BEGIN SOLUTION 9.7
    ages = torch.full((len(images), 1), age, dtype=images.dtype, device=images.device)
    return network(images, ages)
    # END SOLUTION


def mean_inside(network: nn.Module, images: Tensor, *, region: Tensor) -> Tensor:
    """One number per class of a network that returns scores (B, K, H, W): their mean over a region, (B, K).

    Args:
        network, images: as an Adapter passes them on.
        region: (H, W), bool, of the scores' size, with at least one place.
    """
    # BEGIN SOLUTION 9.7
    return network(images)[:, :, region].mean(dim=2)
    # END SOLUTION


# %% [markdown]
# Three small networks with random weights to try it on. The last one calls ReLU as a function. `as_modules` builds the
# same network of the same layers, but every step is a module.


# %%
class TwoInputs(nn.Module):
    """A picture and a number."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu, self.fc = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Linear(9, 4)

    def forward(self, images: Tensor, ages: Tensor) -> Tensor:
        """(B, 3, H, W), (B, 1) -> (B, 4)."""
        return self.fc(torch.cat([self.relu(self.conv(images)).mean(dim=(2, 3)), ages], dim=1))


class Segmenter(nn.Module):
    """A score for each class at each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 4, H, W)."""
        return self.layers(images)


class Functional(nn.Module):
    """Two convolutions, ReLU as a function, average, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.fc = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3, stride=2), nn.Linear(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 4)."""
        return self.fc(F.relu(self.conv2(F.relu(self.conv1(images)))).mean(dim=(2, 3)))


def as_modules(network: Functional) -> nn.Sequential:
    """The same function of the same layers, not copies, where every step is a module; in the network's mode."""
    # BEGIN SOLUTION 9.8
    steps = network.conv1, nn.ReLU(), network.conv2, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), network.fc
    return nn.Sequential(*steps).train(network.training)
    # END SOLUTION


def adapted_examples() -> dict[str, nn.Module]:
    """Three networks with random weights, each as it is and repaired."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        two, segmenter, functional = TwoInputs().eval(), Segmenter().eval(), Functional().eval()
    region = torch.zeros(24, 24, dtype=torch.bool)
    region[8:16, 8:16] = True
    return {
        "two inputs": two,
        "two inputs, adapted": Adapter(two, partial(with_age, age=1.0)),
        "segmentation": segmenter,
        "segmentation, adapted": Adapter(segmenter, partial(mean_inside, region=region)),
        "F.relu": functional,
        "F.relu, as modules": as_modules(functional),
    }


if __name__ == "__main__":
    shown = "vanilla_gradient", "grad_cam", "cam", "guided_backpropagation", "lrp"
    rows = []
    for name, network in adapted_examples().items():
        said = {item: answer for item, answer, _ in explainable(network, size=(24, 24))}
        rows.append([name, *(said[item] for item in shown)])
    print_table(["network", *shown], rows)

# %% [markdown]
# ## A network whose map is exact
#
# Zhou et al. changed a network to get its map: keep the convolutions, average each channel over the picture, put one
# linear layer on top. Then the average can be taken *after* the linear layer as well, and before it there is a map of
# scores, whose mean is the logit:
#
# $$M_c(i, j) = \sum_k w_{ck}\, A_k(i, j), \qquad S_c = b_c + \frac{1}{hw} \sum_{i, j} M_c(i, j)
# \qquad\text{(Zhou et al. 2016, section 2)}$$
#
# | symbol | meaning | shape |
# | --- | --- | --- |
# | $A_k$ | channel $k$ of the last convolutional layer | (h, w) |
# | $w_{ck}, b_c$ | the linear layer | (K, C), (K,) |
# | $M_c$ | the class activation map, signed | (h, w) |
#
# Nothing is approximated: the map *is* the score, place by place. This is the classic student project, with two
# classes.


# %%
class CamClassifier(nn.Module):
    """Convolutional features, global average pooling, one linear layer: a network that CAM explains exactly.

    Args:
        backbone: "resnet50", "squeezenet1_1" (embedded), one with `features`, "vgg16" (torchvision's weights), or
            "vgg_cats_dogs": a small VGG that was trained for this course, with its linear layer for cat and dog.
        num_classes: of the linear layer; a new one's weights are zero until they are trained.
    """

    def __init__(self, backbone: str = "resnet50", num_classes: int = 2) -> None:
        super().__init__()
        network = load_vgg() if backbone == "vgg_cats_dogs" else load_model(backbone)
        if hasattr(network, "features"):
            stages = list(network.features.named_children())
            stages = stages[:-1] if isinstance(stages[-1][1], nn.MaxPool2d) else stages           # VGG's last pooling
        else:
            stages = [(name, part) for name, part in network.named_children() if name not in ("avgpool", "fc")]
        self.features = nn.Sequential(OrderedDict(stages))
        with torch.no_grad():
            channels = self.features(torch.zeros(1, 3, 64, 64)).shape[1]
        self.fc = nn.Linear(channels, num_classes)
        nn.init.zeros_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)
        if backbone == "vgg_cats_dogs" and num_classes == 2:
            self.fc = network.fc
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> logits (B, num_classes)."""
        return self.fc(self.features(images).mean(dim=(2, 3)))


HEAD = DATA_DIR / "weights" / "cats_dogs_head.pt"


def cats_against_dogs() -> tuple[CamClassifier, dict]:
    """The classifier whose head lies in data/weights, and the notes beside it."""
    content = torch.load(HEAD, weights_only=True)
    model = CamClassifier(content["backbone"], len(content["classes"]))
    model.fc.weight.copy_(content["weight"])
    model.fc.bias.copy_(content["bias"])
    return model, content


# %% [markdown]
# ## A check you can break
#
# `python -m advanced.train_cats_and_dogs FOLDER` trained such a head on ResNet-50: 600 pictures went through the
# network once, and the linear layer was fitted in a second. Its map's mean plus the bias is the logit:

# %%
if __name__ == "__main__":
    cats, notes = cats_against_dogs()
    cats, classes = cats.to(images.device), notes["classes"]
    with torch.no_grad():
        logits, A = cats(images), cats.features(images)                # (B, 2), (B, 2048, 7, 7)
    found = logits.argmax(dim=1)
    M = lesson_05.cam(cats, images, found, upsample=False)             # (B, 7, 7)
    parts = M.mean(dim=(1, 2)), cats.fc.bias[found], logits.max(dim=1).values
    print_table(["image", "answer", "mean of CAM", "bias", "logit"],
                list(zip(lesson.names, [classes[i] for i in found], *(part.tolist() for part in parts), strict=True)))
    lesson.check(torch.allclose(parts[0] + parts[1], parts[2], atol=1e-3), "CAM and bias do not add up to the logit")

    counts = torch.tensor(notes["confusion"])                          # on test pictures that are not in the project
    n, rights = int(counts.sum()), {"trained": int(counts.diag().sum()), "untrained: always cat": int(counts[0].sum())}
    rows = [[name, f"{right} of {n}", hit_rate([1] * right + [0] * (n - right))] for name, right in rights.items()]
    print_table(["head", "right answers", "rate and interval"], rows)

# %% [markdown]
# 199 of 200, and the interval says what 200 pictures can say: hardly less than 97 %. The maps below are signed. With
# two classes, what speaks for the one speaks against the other: their maps are each other's negative. The control is a
# head of random weights on the same features: another head, another map. CAM depends on what the head has learnt.

# %%
if __name__ == "__main__":
    w = torch.randn(A.shape[1], generator=torch.Generator().manual_seed(lesson.seed)).to(A)
    columns = {f"CAM, {name}": lesson_05.cam(cats, images, i) for i, name in enumerate(classes)}
    columns |= {"CAM of a random head": torch.einsum("bkij,k->bij", A, w), "gradient": saliency_map(cats, images)}
    first = lesson_05.cam(cats, images, 0, upsample=False)
    likeness = {f"CAM, {classes[1]}": lesson_05.cam(cats, images, 1, upsample=False),
                "CAM of a random head": columns["CAM of a random head"]}  # fmt: skip
    shown = {name: [f"r with CAM, {classes[0]} = {correlation(*pair):.2f}" for pair in zip(maps, first, strict=True)]
             for name, maps in likeness.items()}  # fmt: skip
    p = logits.softmax(dim=1).max(dim=1).values.tolist()
    titles = [f"{classes[i]} {p:.2f}" for i, p in zip(found.tolist(), p, strict=True)]
    lesson.show(map_grid(images, columns, titles=titles, notes=shown, heading="Cats against dogs"), "cats_and_dogs")

# %% [markdown]
# ## The same question to a VGG
#
# The head sits on a network that knew a thousand classes before. The classic student project is smaller: a VGG for cats
# and dogs alone, with pooling and one linear layer at its end. This one has the convolutions of VGG-11 at half their
# width, 2.3 million parameters. It began with random weights, saw 600 labelled pictures, and learnt its features from
# what the ResNet-50 says of pictures (`python -m advanced.train_vgg FOLDER`). Its last layer has 14 x 14 cells, so
# its CAM is finer. Do two networks that answer alike look at the same places? The last column of the table is the
# reference: the two networks' maps of *different* pictures.

# %%
if __name__ == "__main__":
    vgg = CamClassifier("vgg_cats_dogs").to(images.device)
    log = CHECKPOINT.with_suffix(".csv").read_text(encoding="utf-8")
    right, n = map(int, re.search(r"(\d+) of (\d+) test pictures right", log).groups())
    rows = [["VGG", f"{right} of {n}", hit_rate([1] * right + [0] * (n - right))]]
    print_table(["network", "right answers", "rate and interval"], rows)

    pair, rows = {"ResNet-50": cats, "VGG": vgg}, []
    methods = {
        "CAM": lesson_05.cam,
        "Grad-CAM": lesson_05.grad_cam,
        "gradient": saliency_map,
        "guided backpropagation": lambda net, x, i: lesson_06.guided_backpropagation(net, x, i).abs().amax(dim=1),
        "LRP": lambda net, x, i: lrp(net, x, i).sum(dim=1),
    }
    columns = {name: torch.cat([method(network, images, found) for network in pair.values()])
               for name, method in methods.items()}  # fmt: skip
    for name, maps in columns.items():
        first, second = maps.split(len(images))
        same = [correlation(*two) for two in zip(first, second, strict=True)]
        other = [correlation(*two) for two in zip(first, second.roll(1, dims=0), strict=True)]
        rows.append([name, *(f"{r:.2f}" for r in same), f"{sum(other) / len(other):.2f}"])
    print_table(["r of the two networks' maps", *lesson.names, "of different pictures"], rows)
    with torch.no_grad():
        p = [network(images).softmax(dim=1)[range(len(images)), found] for network in pair.values()]
    titles_of_both = [f"{name}: {classes[i]} {value:.2f}" for name, values in zip(pair, p, strict=True)
                      for i, value in zip(found.tolist(), values.tolist(), strict=True)]  # fmt: skip
    both = map_grid(torch.cat([images, images]), columns, titles=titles_of_both, heading="Two networks", size=2.4)
    lesson.show(both, "two_networks")

# %% [markdown]
# Rows one and two are the ResNet, three and four the VGG. On the dog the ResNet's CAM stands on the head, the VGG's on
# the head and down the chest: r = 0.54. On the cat, whose face fills the picture, they hardly agree: r = 0.17. Nothing
# says that two good networks must use the same evidence. Guided backpropagation agrees on both pictures, 0.54 and 0.48.
# That is no praise: lesson 06 shows that its lines hardly change with the class. The gradients have next to nothing in
# common (0.08 and -0.05).
#
# ## How local is an exact map?
#
# The map has 7 x 7 cells, and a cell's square has 32 x 32 pixels. But what does the score of *one* cell depend on? With
# a linear layer at every cell the classifier becomes a network that returns a score map, and `mean_inside` asks about
# one cell. The mean over all cells is the classifier again.

# %%
if __name__ == "__main__":
    at_each_cell = nn.Conv2d(cats.fc.in_features, len(classes), 1).requires_grad_(False).to(images.device)
    at_each_cell.weight.copy_(cats.fc.weight[:, :, None, None])
    at_each_cell.bias.copy_(cats.fc.bias)
    scores = nn.Sequential(cats.features, at_each_cell).eval()
    everywhere, centre = torch.ones(7, 7, dtype=torch.bool), torch.zeros(7, 7, dtype=torch.bool)
    centre[3, 3] = True
    with torch.no_grad():
        assert torch.allclose(Adapter(scores, partial(mean_inside, region=everywhere))(images), logits, atol=1e-3)
    maps = saliency_map(Adapter(scores, partial(mean_inside, region=centre)), images, found)
    inside = maps[:, 96:128, 96:128].sum(dim=(1, 2)) / maps.sum(dim=(1, 2))
    name = "gradient of the centre's score"
    where = {name: [f"{share:.0%} in its square, {1 / 49:.0%} of the area" for share in inside]}
    lesson.show(map_grid(images, {name: maps}, titles=titles, notes=where, heading="One cell of 49"), "one_cell")

# %% [markdown]
# The centre's own square holds 6 % and 9 % of the gradient, on 2 % of the area. The rest lies outside, up to the other
# end of the dog. CAM is exact about *cells of the last layer*. A cell is no place in the picture: it has seen a large
# part of it.
#
# ## What the picture does not show
#
# - **Not that the map is right.** `explainable` says what runs. Lesson 08 says what a map is worth.
# - **Not the place.** See above: the square drawn for a cell is where the cell stands, not what it has seen.
# - **Not "neither".** Two classes and a softmax: the network *must* answer cat or dog. Below, a bison is a dog with
#   probability 1.00 and a panda with 0.99, and each comes with an exact map.
# - **Not the other inputs.** An adapter holds them fixed. The map of a network with two inputs is true for this age
#   only.
# - **Not the whole mask.** A segmentation's map is true for the region that was asked about.

# %%
if __name__ == "__main__":
    others = ["bird.jpg", "panda.jpg", "duck.jpg", "jaguar.jpg", "bison.jpg"]
    strangers = torch.cat([preprocess_image(load_image(name)) for name in others]).to(images.device)
    with torch.no_grad():
        p = cats(torch.cat([images, strangers])).softmax(dim=1)
    rows = [[name, *(f"{value:.2f}" for value in row)] for name, row in zip(lesson.names + others, p, strict=True)]
    print_table(["image", *(f"p({name})" for name in classes)], rows)

# %% [markdown]
# ## Exercises
#
# ### Predict first
#
# **9.18 A function becomes a module** (difficulty 1, 3 minutes, 1 point). `as_modules` calls the same ReLU as a module
# instead of a function. What changes?
#
# - **a** The logits, a little, because modules round differently.
# - **b** The gradient, because modules have hooks.
# - **c** Neither logits nor gradient; but methods with hooks now see the ReLU, and `explainable` lists more.
# - **d** Nothing at all, also not in `explainable`.
#
# **9.19 A bison** (difficulty 1, 3 minutes, 1 point). A network for cats and dogs calls a bison a dog with probability
# 1.00, and CAM's map is exact. What does "exact" mean here?
#
# - **a** The bison resembles a dog at the marked places.
# - **b** The map adds up to the logit; whether the question made sense, it does not say.
# - **c** The network is sure, so the marked places are those of a dog.
# - **d** The map would be the same for a real dog.

# %%
# BEGIN SOLUTION 9.18
ANSWER_9_18 = "c"
# END SOLUTION
# BEGIN SOLUTION 9.19
ANSWER_9_19 = "b"
# END SOLUTION

# %% [markdown]
# ### Then write
#
# **9.7 Two adapters** (difficulty 2, 20 minutes, 4 points). Fill in `with_age` and `mean_inside`. *First predict:* the
# region of `mean_inside` is one pixel in the upper left corner. Where can its gradient be different from 0, after a
# 3 x 3 convolution and a 1 x 1 convolution? *Hints:* there may be any number of images · ages have the images' dtype
# and device · a (H, W) mask can index the last two dimensions at once · a mean over the region only, and one per image.
#
# **9.8 Every step a module** (difficulty 2, 15 minutes, 4 points). Fill in `as_modules`. *Hints:* the layers
# themselves, not new ones · what do `mean(dim=(2, 3))` and `nn.AdaptiveAvgPool2d(1)` return? · a new module is in
# train mode. *Then* do it with a network of your own: print `explainable(your_model)`, and repair what you can.
#
# ## Recap
#
# Which methods work on my network, and what must I change?
#
# 1. Ask it: `explainable(model)` tries them all and gives the reason for each refusal.
# 2. An `Adapter` fixes further inputs and chooses one number per class. For a segmentation that is a region's mean.
# 3. A ReLU that is called as a function is invisible to hooks. As a module it is the same function, and seen.
# 4. A network that ends in pooling and one linear layer has its map built in: the mean of CAM plus the bias is the
#    logit. With a head of some kB on ResNet-50: 199 of 200 cats and dogs right, where an untrained head has 100. A
#    small VGG from nothing: 189. Their exact maps need not agree.
# 5. Exact is not local. 6 % to 9 % of what the centre's cell depends on lies in its own square.
