# %% [markdown]
# # Fooled and biased: can a map be moved, and can it find what a network should not use?
#
# Three experiments on trust. In the first one an attacker changes a photograph so little that nobody sees it: the
# answer stays, the map moves. In the second one a network has learnt a shortcut, a small coloured tag, and we ask
# whether the map tells us. In the third one the network itself was trained to show another map. A map can look
# convincing in all of them, and be of no use. What helps is a control.
#
# **After this part you can**
#
# 1. move a Grad-CAM map, and a guided backpropagation map, to a corner of your choice;
# 2. say how often that works, and that noise of the same size does not do it;
# 3. test a suspected shortcut with a control network, and report the difference with its interval;
# 4. tell a map's claim from a cause, by an intervention;
# 5. say what can be done to a map by training the network a little longer.
#
# **Level** advanced. **Before it** lessons 05 and 06, and the parts `your_own_network` and `is_it_chance`. **Papers**
# Ghorbani, Abid, Zou 2017, *Interpretation of Neural Networks is Fragile*, arXiv:1710.10547; Adebayo, Muelly, Abelson,
# Kim 2022, *Post hoc Explanations may be Ineffective for Detecting Unknown Spurious Correlation*, arXiv:2212.04629;
# Heo, Joo, Moon 2019, arXiv:1902.02041; Kindermans et al. 2017, arXiv:1711.00867.

# %%
r"""Maps that are fooled, networks that are biased. Run `python -m advanced.fooled_and_biased`; --help lists options."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn
from torchvision.transforms import functional as TF

from advanced.lrp import lrp
from advanced.train_cats_and_dogs import fit_head
from advanced.train_manipulated import frame_mask, load_manipulated
from advanced.your_own_network import CamClassifier
from course.checks import target_logits
from course.figures import block_sums, map_grid
from course.layers import last_conv_layer
from course.lesson import print_table, start
from course.paths import DATA_DIR
from course.pictures import IMAGENET_MEAN, IMAGENET_STD, list_pictures
from course.scenes import Scene, backgrounds, boxed_class, found_scenes, planted_scene
from evaluation.is_it_chance import estimate
from evaluation.methods import METHODS, reduced
from evaluation.planted_scenes import energy_pointing_game
from utils import import_lesson, load_model, recorded_output

integrated_gradients = import_lesson("04_integrated_gradients").integrated_gradients

# %% [markdown]
# ## A picture of the idea
#
# A cartoon, drawn without any network. Above: a photograph and its map. In the middle: the same photograph to our eyes,
# and the same answer, but every pixel is a little brighter or darker, and the map points to the corner. Below: a
# network that answers "disc", because all discs that it was trained on carried a tag. Its map is right: it does not
# show a disc.


# %%
def figure_idea() -> Figure:
    """A disc, the disc with invisible noise, the disc with a tag; and where a map would point."""
    y, x = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    pictures = 1.4 * ((x - 68) ** 2 + (y - 56) ** 2 < 900).float().expand(3, 3, -1, -1).clone() - 0.5
    pictures[1] += 0.04 * torch.randn(3, 128, 128, generator=torch.Generator().manual_seed(0))
    pictures[2, :, 8:24, 100:116] = torch.tensor([2.2, -2.0, 2.6])[:, None, None]
    maps = torch.stack([torch.exp(-((x - u) ** 2 + (y - v) ** 2) / 360) for u, v in ((68, 56), (20, 108), (108, 16))])
    titles = ["answer: disc", "a little noise; answer: disc", "a tag; answer: disc"]
    return map_grid(pictures, {"its map (a cartoon)": maps}, overlay=True, titles=titles, size=2,
                    heading="A map can be moved, and show a tag")  # fmt: skip


if __name__ == "__main__":
    everything = {"action": "store_true", "help": "attack all photographs of data/, both maps (many minutes)"}
    lesson = start("advanced.fooled_and_biased", "Can a map be moved, and can it find what a network should not use?",
                   images=["dog.jpg", "bird.jpg", "koala.jpg"], options={"--all": everything})  # fmt: skip
    if lesson.args.all:
        lesson.args.image = [file for file in list_pictures([DATA_DIR]) if boxed_class(file) is not None]
    model, images, targets = lesson.model, lesson.images, lesson.targets
    lesson.show(figure_idea(), "idea")

# %% [markdown]
# ## The formula
#
# The attacker looks for a picture $x'$ in which no colour moves by more than 4 of its 255 steps. It should have as much
# of its map $M$ as possible inside the wanted region $W$. And the class should not lose probability:
#
# $$\max_{x'} \; \frac{\sum_{i \in W} M_i(x')}{\sum_i M_i(x')} - \tfrac12 \max\big(0,\, \log p_c(x) - \log p_c(x')\big)
# \qquad \text{with } |x'_k - x_k| \le \tfrac{4}{255} \text{ for every colour value } k$$
#
# It climbs: compute the gradient of this goal, move every colour value by a small step in the direction of its *sign*,
# and go back to the allowed range where a value has left it (Ghorbani et al., algorithm 1, which has other goals).
#
# ## Step 1: maps one can differentiate
#
# Grad-CAM is made of differentiable pieces. Guided backpropagation is not: its gates are open or shut, and a small
# change of the picture moves no gate. So the *attacker* computes with gates that open slowly: the ReLUs keep their
# value and get the slope of a softplus, as in the paper. Success is then measured with the real method.


# %%
def smooth_grad_cam(model: nn.Module, x: Tensor, target: int) -> tuple[Tensor, Tensor]:
    """Grad-CAM of one image, (1, h, w), and the logits, both with a graph."""
    with recorded_output(last_conv_layer(model)) as outputs:
        logits = model(x)
    (dA,) = torch.autograd.grad(logits[0, target], outputs[0], create_graph=True)
    return (dA.mean(dim=(2, 3), keepdim=True) * outputs[0]).sum(dim=1).relu(), logits


def smooth_guided(model: nn.Module, x: Tensor, target: int, beta: float = 2) -> tuple[Tensor, Tensor]:
    """Guided backpropagation with soft gates, (1, H, W), and the logits, both with a graph."""
    relus = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    in_place, guided = [relu.inplace for relu in relus], [True]

    def hook(_relu: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        soft = F.softplus(inputs[0], beta=beta)
        output = soft + (output - soft).detach()                       # the value of ReLU, the slope of softplus
        output.register_hook(lambda R: R.clamp(min=0) if guided else R)
        return output

    handles = [relu.register_forward_hook(hook) for relu in relus]
    try:
        for relu in relus:
            relu.inplace = False                                       # or the hook would see its output as input
        logits = model(x)
    finally:
        for relu, handle, flag in zip(relus, handles, in_place, strict=True):
            handle.remove()
            relu.inplace = flag
    (signal,) = torch.autograd.grad(logits[0, target], x, create_graph=True)
    guided.clear()                                                     # the gradient of the goal is a true gradient
    return signal.abs().amax(dim=1), logits


SMOOTH: dict[str, Callable] = {"grad_cam": smooth_grad_cam, "guided_backpropagation": smooth_guided}

# %% [markdown]
# ## Step 2: the attack


# %%
def attack_step(x: Tensor, gradient: Tensor, low: Tensor, high: Tensor, step: Tensor) -> Tensor:
    """One step uphill by the gradient's sign, then back into the allowed range.

    Args:
        x, gradient: (1, 3, H, W).
        low, high: (1, 3, H, W), what each value may be at least and at most.
        step: (3, 1, 1), the length of the step in each channel's normalised units.
    """
    # BEGIN SOLUTION 9.6
    return (x + step * gradient.sign()).clamp(low, high)
    # END SOLUTION


def allowed(image: Tensor, colour_steps: float) -> tuple[Tensor, Tensor, Tensor]:
    """The lowest and the highest value of each pixel, both real colours, and the largest change, (3, 1, 1)."""
    mean, std = (torch.tensor(values).to(image)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    change = colour_steps / 255 / std
    return (image - change).clamp(min=-mean / std), (image + change).clamp(max=(1 - mean) / std), change


@torch.inference_mode(False)
@torch.enable_grad()
def attack_path(
    model: nn.Module, image: Tensor, target: int, where: Tensor, *, of: str = "grad_cam", colour_steps: float = 4,
    iterations: int = 12,
) -> Tensor:  # fmt: skip
    """Pictures that look the same, with a map that wanders to `where`.

    Args:
        model: as in vanilla_gradient.
        image: normalised, (1, 3, H, W). Left as it is.
        target: the class whose map moves, and whose probability is held up.
        where: (H, W) mask of the region the map should go to.
        of: whose map: "grad_cam" or "guided_backpropagation".
        colour_steps: by how much of 255 a colour may change.
        iterations: steps of the attack, each an eighth of that change.

    Returns:
        (iterations + 1, 3, H, W), detached: the image as it was, then after each step. All are real colours.

    Paper: Ghorbani et al. 2017, arXiv:1710.10547, algorithm 1, with the share in a region as its goal.
    """
    low, high, change = allowed(image, colour_steps)
    with torch.no_grad():
        before = model(image).log_softmax(dim=1)[0, target]
    path = [image.detach().clone()]
    for _ in range(iterations):
        x = path[-1].clone().requires_grad_()
        map, logits = SMOOTH[of](model, x, target)
        inside = F.adaptive_avg_pool2d(where[None].to(map), map.shape[-2:])                  # 1 inside, 0 outside
        lost = (before - logits.log_softmax(dim=1)[0, target]).relu()
        goal = (map * inside).sum() / (map.sum() + 1e-9) - 0.5 * lost
        (gradient,) = torch.autograd.grad(goal, x)
        path.append(attack_step(x.detach(), gradient, low, high, change / 8))
    return torch.cat(path)


def move_map(model: nn.Module, image: Tensor, target: int, where: Tensor, **options: object) -> Tensor:
    """The last picture of attack_path, (1, 3, H, W): it looks the same, and its map lies `where`."""
    return attack_path(model, image, target, where, **options)[-1:]


def rounded(images: Tensor) -> Tensor:
    """As a file would keep them: each colour one of 256 values."""
    mean, std = (torch.tensor(values).to(images)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (((images * std + mean) * 255).round() / 255 - mean) / std


def corner(image: Tensor) -> Tensor:
    """(H, W) mask of the lower left ninth."""
    where = torch.zeros(image.shape[-2:], dtype=torch.bool)
    where[-where.shape[0] // 3 :, : where.shape[1] // 3] = True
    return where


class Moved(NamedTuple):
    """One attack. Shares are those of the real map in the corner, after 0, 3, 6 ... steps."""

    path: Tensor           # pictures, (iterations + 1, 3, H, W)
    shares: list[float]
    noise: list[float]     # the same of noise that grows to 4 of 255
    as_file: float         # of the last picture, rounded to 256 values
    p: list[float]         # probability of the class before and after


def measured_attack(model: nn.Module, image: Tensor, target: int, of: str, iterations: int, seed: int = 0) -> Moved:
    """Attack one image, and measure with the real method, beside noise of the same size and the rounded picture."""
    where, (low, high, change) = corner(image), allowed(image, 4)
    path = attack_path(model, image, target, where, of=of, iterations=iterations)
    signs = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed)).sign().to(image)
    growing = torch.arange(0, iterations + 1, 3, device=image.device)[:, None, None, None] / iterations
    noisy = (image + growing * change * signs).clamp(low, high)
    with torch.no_grad():
        p = model(path[[0, -1]]).softmax(dim=1)[:, target].tolist()
    shares = [[energy_pointing_game(map, where) for map in METHODS[of](model, pictures, target)]
              for pictures in (path[::3], noisy, rounded(path[-1:]))]  # fmt: skip
    return Moved(path, shares[0], shares[1], shares[2][0], p)


def right_ones(files: Sequence[Path], targets: Tensor) -> list[int]:
    """Places of the photographs of which we do not know that the network is wrong about them."""
    right = [i for i, file in enumerate(files) if boxed_class(file) in (None, int(targets[i]))]
    if not right:
        raise ValueError("the network gets none of these photographs right; name others with --image")
    return right


def figure_trajectories(moved: dict[str, dict[str, Moved]]) -> Figure:
    """Share in the corner against the steps of the attack, one panel per method; dashed: noise of the same size."""
    figure, axes = plt.subplots(1, len(moved), figsize=(5 * len(moved), 3.8), sharey=True, layout="constrained")
    for axis, (of, attacks) in zip(np.atleast_1d(axes), moved.items(), strict=True):
        for number, (name, attack) in enumerate(attacks.items()):
            steps = 3 * np.arange(len(attack.shares))
            axis.plot(steps, attack.shares, "o-", color=f"C{number % 10}", label=name)
            axis.plot(steps, attack.noise, "--", color=f"C{number % 10}")
        axis.set(title=of, xlabel="steps of the attack", ylim=(0, 1))
        if len(attacks) <= 5:
            axis.legend(fontsize=8)
    np.atleast_1d(axes)[0].set_ylabel("share of the map in the corner")
    figure.suptitle("The map moves (solid); noise of the same size moves nothing (dashed)")
    return figure


if __name__ == "__main__":
    right = range(len(images)) if lesson.args.target else right_ones(lesson.files, targets)
    iterations, rows, moved = 6 if lesson.quick else 12, [], {"grad_cam": {}, "guided_backpropagation": {}}
    for of, attacks in moved.items():
        for i in right if of == "grad_cam" or lesson.args.all else right[:1]:
            attack = measured_attack(model, images[i : i + 1], int(targets[i]), of, iterations, lesson.seed)
            attacks[lesson.names[i]] = attack
            ends = attack.shares[0], attack.shares[-1], attack.noise[-1], attack.as_file
            rows.append([of, lesson.names[i], *ends, *attack.p])
            low, high, _ = allowed(images[i : i + 1], 4.01)
            assert ((low <= attack.path) & (attack.path <= high)).all(), "the attack left the allowed range"
    print_table(["share of the map\nin the corner", "", "\nbefore", "\nafter", "noise\nof 4", "after, as\n8 bits",
                 "p\nbefore", "\nafter"], rows)  # fmt: skip
    for of, attacks in moved.items():
        gains = [attack.shares[-1] - attack.shares[0] for attack in attacks.values()]
        print(f"{of}: share gained {estimate(gains)}, from {min(gains):.2f} to {max(gains):.2f}, n = {len(gains)}")
    lesson.show(figure_trajectories(moved), "trajectories")
    name, where = lesson.names[right[0]], corner(images)
    three = torch.cat([images[right[0]][None], *(attacks[name].path[-1:] for attacks in moved.values())])
    columns = {of: METHODS[of](model, three, int(targets[right[0]])) for of in moved}
    notes = {of: [f"{energy_pointing_game(map, where):.0%} in the corner" for map in maps]
             for of, maps in columns.items()}  # fmt: skip
    titles = [f"{name} as it was", "attack on Grad-CAM", "attack on guided backprop."]
    lesson.show(map_grid(three, columns, titles=titles, notes=notes, overlay=["grad_cam"], heading="Moved"), "moved")

# %% [markdown]
# On all ten photographs of the course that ResNet-50 gets right (`--all`), Grad-CAM's share in the corner grows by 0.50
# [0.40, 0.56], guided backpropagation's by 0.57 [0.51, 0.63]. The bird resists most (0.01 to 0.22), the panda least
# (0.05 to 0.73). All answers stay, with p of 0.86 or more. Noise of the same size changes no share by more than 0.013:
# it is the direction that counts, not the size. And a file keeps the attack: rounding to 256 values changes 0.003 at
# most.
#
# Look at the figure once more. The attack on one map moves the other as well, though it never saw it: what moved is not
# only the drawing but something inside the network.
#
# ## Step 3: a network with a shortcut
#
# Now the map is honest, and the network is at fault. Planted scenes show a beaver or a wombat. We train three heads on
# the same features, with a magenta tag at the upper edge of some pictures:
#
# | head | which training pictures carry the tag | what it can learn |
# | --- | --- | --- |
# | biased | all beavers, no wombat | "tag" means beaver |
# | clean | none | nothing about tags: it has never seen one |
# | mixed | half of the beavers, half of the wombats | a tag means nothing |
#
# Then we put a tag on new *wombats* and ask for the map of "beaver". "30 % of the map lie on the tag" would prove
# nothing by itself: perhaps a magenta square attracts every map. The clean and the mixed head tell.

# %%
CUE_CLASSES, TAG = ("beaver", "wombat"), 20  # two small animals that are alike; side of the tag in pixels
HEADS = ("biased", "clean", "mixed")


def add_tag(image: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """A magenta square somewhere along the upper edge: image (1, 3, H, W), and its mask (H, W)."""
    x = int(torch.randint(image.shape[-1] - TAG, (1,), generator=torch.Generator().manual_seed(seed)))
    mask = torch.zeros(image.shape[-2:], dtype=torch.bool)
    mask[4 : 4 + TAG, x : x + TAG] = True
    magenta = TF.normalize(torch.tensor([1.0, 0.0, 1.0])[:, None, None], IMAGENET_MEAN, IMAGENET_STD)
    return torch.where(mask.to(image.device), magenta.to(image), image), mask


def with_tags(images: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Every image with a tag of its own, (N, 3, H, W), and the tags' masks, (N, H, W)."""
    tagged, masks = zip(*(add_tag(image, seed + i) for i, image in enumerate(images.split(1))), strict=True)
    return torch.cat(tagged), torch.stack(masks)


def cue_scenes(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Planted scenes of the two animals, without tags: images (N, 3, 224, 224), masks (N, 224, 224), labels (N,)."""
    grounds, labels = backgrounds(), torch.arange(count) % 2
    scenes = []
    for i, label in enumerate(labels.tolist()):
        ground = grounds[(seed + i // 2) % len(grounds)]
        scenes.append(planted_scene([CUE_CLASSES[label]], ground, seed=seed + i, sides=(20, 30)))
    return torch.cat([scene[0] for scene in scenes]), torch.cat([scene[1] for scene in scenes]), labels


def carries_tag(head: str, labels: Tensor) -> Tensor:
    """Which training pictures carry the tag, (N,) bool, for one of HEADS.

    Args:
        head: "biased" (those of class 0), "clean" (none), or "mixed" (half of each class; if their number is odd, one
            more or less).
        labels: (N,), 0 or 1, in any order.
    """
    # BEGIN SOLUTION 9.5
    if head == "mixed":
        first = labels == 0
        return torch.where(first, first.cumsum(dim=0), (~first).cumsum(dim=0)) % 2 == 1      # every other one
    return (labels == 0) & (head == "biased")
    # END SOLUTION


@torch.inference_mode()
def features_of(model: CamClassifier, images: Tensor) -> Tensor:
    """Pooled features, (N, C), sixteen at a time."""
    device = model.fc.weight.device
    return torch.cat([model.features(some.to(device)).mean(dim=(2, 3)).cpu() for some in images.split(16)])


def trained_heads(count: int = 160) -> dict[str, CamClassifier]:
    """SqueezeNet with three heads, which differ in nothing but the tags on their training pictures."""
    networks = {head: CamClassifier("squeezenet1_1") for head in HEADS}
    images, _masks, labels = cue_scenes(count, seed=0)
    plain, tagged = (features_of(networks["clean"], some) for some in (images, with_tags(images, seed=0)[0]))
    for head, network in networks.items():
        fit_head(network.fc, torch.where(carries_tag(head, labels)[:, None], tagged, plain), labels)
    return networks


@torch.inference_mode()
def answers(networks: dict[str, CamClassifier], count: int = 40) -> list[list]:
    """Rows: a head, and how often it calls new scenes by the first animal's name.

    Four numbers: scenes of the first and of the second animal without a tag, then both with one. The networks share all
    layers but the last, so the features are computed once.
    """
    images, _masks, labels = cue_scenes(count, seed=10_000)
    features = [features_of(networks["clean"], pictures) for pictures in (images, with_tags(images, seed=500)[0])]
    rows = []
    for head, network in networks.items():
        first = [network.fc(x.to(network.fc.weight)).argmax(dim=1).cpu() == 0 for x in features]
        rows.append([head, *(called[labels == label].float().mean().item() for called in first for label in (0, 1))])
    return rows


def tag_evidence(network: CamClassifier, plain: Tensor, tagged: Tensor, tags: Tensor, steps: int) -> dict[str, list]:
    """Three answers to "does the tag speak for class 0?", scene by scene.

    "logit": what adding the tag really does to the logit. "Grad-CAM": share of the map on the tag. "IG": sum of
    Integrated Gradients (from the blurred picture) on the tag, in logit units.
    """
    with torch.inference_mode():
        effect = (network(tagged) - network(plain))[:, 0]
    maps = METHODS["grad_cam"](network, tagged, 0)
    shares = [energy_pointing_game(map, tag) for map, tag in zip(maps, tags, strict=True)]
    attribution = integrated_gradients(network, tagged, 0, baseline="blur", n_steps=steps).sum(dim=1)
    return {"logit": effect.tolist(), "Grad-CAM": shares, "IG": (attribution * tags).sum(dim=(1, 2)).tolist()}


if __name__ == "__main__":
    networks = trained_heads(40 if lesson.quick else 160)
    header = ["head", *(f"{animal}\n{tag}" for tag in ("without", "with tag") for animal in CUE_CLASSES)]
    print("share of new scenes that are called beaver")
    print_table(header, answers(networks, 10 if lesson.quick else 40))

    images, masks, labels = cue_scenes(6 if lesson.quick else 24, seed=20_000)
    plain, (tagged, tags), steps = images[labels == 1], with_tags(images[labels == 1], seed=3), 4 if lesson.quick else 8
    found = {head: tag_evidence(network, plain, tagged, tags, steps) for head, network in networks.items()}
    rows = [[head, *(estimate(values) for values in of.values())] for head, of in found.items()]
    for other in ("clean", "mixed"):
        paired = [np.subtract(found["biased"][key], found[other][key]) for key in found["biased"]]
        rows.append([f"biased - {other}", *(estimate(values) for values in paired)])
    header = ["the tag adds\nto the logit", "share of Grad-CAM\non the tag", "sum of IG\non the tag"]
    print_table([f"{len(plain)} tagged wombats,\nclass beaver", *header], rows)
    print(f"share of the picture: tag {tags.float().mean():.4f}, wombat {masks[labels == 1].float().mean():.4f}")

    one, titles, cams, attributions = tagged[1:2], [], [], []
    for head, network in networks.items():
        titles.append(f"{head}: beaver {network(one).softmax(dim=1)[0, 0]:.2f}")
        cams.append(METHODS["grad_cam"](network, one, 0))
        attributions.append(integrated_gradients(network, one, 0, baseline="blur", n_steps=steps).sum(dim=1))
    columns = {"Grad-CAM": torch.cat(cams), "IG, 8 x 8 sums": block_sums(torch.cat(attributions))}
    notes = {"Grad-CAM": [f"{found[head]['Grad-CAM'][1]:.0%} on the tag" for head in HEADS],
             "IG, 8 x 8 sums": [f"{found[head]['IG'][1]:+.2f} on the tag" for head in HEADS]}  # fmt: skip
    shown = map_grid(one.expand(3, -1, -1, -1), columns, titles=titles, notes=notes, overlay=["Grad-CAM"],
                     heading="One picture, three heads")  # fmt: skip
    lesson.show(shown, "heads")

# %% [markdown]
# Look at the three Grad-CAM maps first, as one does. The biased head's map says "the tag". So does the clean head's
# map, with nearly the same share. It was never taught anything about tags. A magenta square on a photograph is so
# unusual that it moves this head as well: the tag adds 1.5 to its logit, and turns half of the wombats into beavers.
# Only the mixed head, which has seen many tags that meant nothing, is left cold. (Adebayo et al. 2022 found the same
# with other cues.)
#
# So "13 % of the map on 0.8 % of the picture" is no evidence of a bias. The *difference* is: by scene, 0.06 [0.03,
# 0.09] more than the clean head's share, and 0.12 [0.10, 0.14] more than the mixed head's. Integrated Gradients says
# more than a share can. Its sum over the tag is in logit units, and follows what the tag really adds, for all three
# heads.
#
# ## Step 4: is what the map marks a cause?
#
# The column "the tag adds" was an *intervention*: put the tag there, look at the score. Only an intervention shows a
# cause. Taking pixels away is one too, but then something else must be put in their place. Usual is grey. Planted
# scenes allow better, because we have the same picture without the animal. Where a map marks background, putting the
# true background there changes nothing at all.


# %%
def mask_out(images: Tensor, maps: Tensor, share: float, instead: Tensor | float = 0, block: int = 16) -> Tensor:
    """The images with the highest `share` of block x block squares of each map replaced, by the mean colour (0)."""
    blocks = F.avg_pool2d(maps[:, None], block)                        # (B, 1, h, w)
    count = round(share * blocks[0].numel())
    chosen = torch.zeros_like(blocks).flatten(1).scatter_(1, blocks.flatten(1).topk(count).indices, 1)
    chosen = F.interpolate(chosen.reshape(blocks.shape), images.shape[-2:], mode="nearest")
    return images * (1 - chosen) + instead * chosen


def losses(model: nn.Module, scenes: Sequence[Scene], maps: Sequence[Tensor], share: float = 0.1) -> np.ndarray:
    """By how much the logit falls when a map's squares turn grey, and when they become true background, (N, 2).

    Args:
        maps: one (1, H, W) per scene.
    """
    rows = []
    for scene, map in zip(scenes, maps, strict=True):
        pictures = [mask_out(scene.image, map, share, instead) for instead in (0, scene.ground)]
        with torch.inference_mode():
            logits = target_logits(model(torch.cat([scene.image, *pictures])), scene.classes[0])
        rows.append((logits[0] - logits[1:]).tolist())
    return np.array(rows)


def beside(scene: Scene) -> Tensor:
    """Noise in those squares that lie wholly beside the animal, 0 elsewhere, (1, H, W)."""
    near = F.max_pool2d(scene.masks.float(), 33, stride=1, padding=16).amax(dim=0).to(scene.image)
    return METHODS["random"](None, scene.image) * (1 - near)


if __name__ == "__main__":
    scenes, _ = found_scenes(model, 3 if lesson.quick else 8, seed=lesson.seed, device=lesson.args.device)
    methods = {name: METHODS[name] for name in ("vanilla_gradient", "grad_cam", "guided_backpropagation", "random")}
    methods["lrp"] = reduced(lrp, "sum")
    maps = {name: [method(model, s.image, s.classes[0]) for s in scenes] for name, method in methods.items()}
    maps["the animal itself"] = [scene.masks[:1].to(scene.image) for scene in scenes]
    maps["noise beside the animal"] = [beside(scene) for scene in scenes]
    fallen = {name: losses(model, scenes, its_maps) for name, its_maps in maps.items()}
    assert np.abs(fallen["noise beside the animal"][:, 1]).max() < 0.01, "the true background is not what was there"
    rows = [[name, *map(estimate, columns.T)] for name, columns in fallen.items()]
    print_table([f"logit falls by, {len(scenes)} scenes", "grey put in", "true background put in"], rows)

# %% [markdown]
# The maps do mark what counts: their tenth of the picture costs nearly as much as the animal itself, and noise costs
# less than half of that. (Noise hits the animal too; a tenth of its pixels, scattered, is a great loss.) But look at
# the last row. Grey squares *beside* the animal cost 1.3 [0.6, 2.2], and there was nothing to take away: with the true
# background the loss is nil. That much of every number in the grey column is the price of grey, not of what was
# covered.
#
# ## Step 5: a network that was trained to lie
#
# The attacker of step 2 changes one picture. One can also change the *network*, once and for all pictures (Heo et al.
# 2019, "location fooling"). It is trained a little longer, with two aims: the answers $p$ stay as they were, and
# Grad-CAM's map $M$ goes to a frame along the edges of the picture.
#
# $$\min_w \; \text{KL}\big(p_{\text{before}} \,\|\, p_w\big)
# + \lambda \Big(1 - \frac{\sum_{i \in \text{frame}} M_i(w)}{\sum_i M_i(w)}\Big)$$
#
# `python -m advanced.train_manipulated` made such a network from SqueezeNet, with $\lambda = 1$, 800 steps of 16
# pictures. It lies in data/weights/. The scenes below are new to it; the network was changed, not the pictures.

# %%
def explained(networks: dict[str, nn.Module], scenes: Sequence[Scene]) -> list[list]:
    """Rows: a map, and for each network its share on the animal and on the frame, over the scenes."""
    methods = {name: METHODS[name] for name in ("grad_cam", "vanilla_gradient", "guided_backpropagation", "uniform")}
    methods["lrp"], frame, rows = reduced(lrp, "sum"), frame_mask(224, 34), []       # 34 pixels: two of 13 cells
    for name, method in methods.items():
        maps = [[method(network, one.image, one.classes[0])[0] for one in scenes] for network in networks.values()]
        shares = [[energy_pointing_game(map, mask) for map, mask in zip(its, masks, strict=True)]
                  for masks in ([one.masks[0] for one in scenes], [frame] * len(scenes)) for its in maps]  # fmt: skip
        rows.append([name, *map(estimate, shares)])
    return rows


@torch.inference_mode()
def p_without(network: nn.Module, scenes: Sequence[Scene]) -> list[np.ndarray]:
    """p of the animal's class in each scene: as it is, with the frame grey, and without the animal."""
    frame, found = frame_mask(224, 34), []
    for one in scenes:
        pictures = torch.cat([one.image, one.image * ~frame.to(one.image.device), one.ground])
        found.append(network(pictures).softmax(dim=1)[:, one.classes[0]].cpu().numpy())
    return list(np.array(found).T)


if __name__ == "__main__":
    networks = {"honest": load_model("squeezenet1_1", lesson.args.device),
                "lying": load_manipulated().to(lesson.args.device)}  # fmt: skip
    scenes, _ = found_scenes(networks["honest"], 6 if lesson.quick else 20, seed=40, device=lesson.args.device)
    with torch.no_grad():
        said = [[network(one.image).argmax().item() for one in scenes] for network in networks.values()]
    print(f"the lying network says what the honest one says in {sum(map(operator.eq, *said))} of {len(scenes)} scenes")
    header = [f"on the {place},\n{name}" for place in ("animal", "frame") for name in networks]
    print_table(["share of the map", *header], explained(networks, scenes))
    rows = [[name, *map(estimate, p_without(network, scenes))] for name, network in networks.items()]
    print_table(["p of the animal's class", "as it is", "frame grey", "without the animal"], rows)
    some = torch.cat([one.image for one in scenes[:3]])
    classes = [one.classes[0] for one in scenes[:3]]
    columns = {f"{of.replace('_', ' ')},\n{name}": METHODS[of](network, some, classes)
               for of in ("grad_cam", "guided_backpropagation") for name, network in networks.items()}  # fmt: skip
    titles = [one.name for one in scenes[:3]]
    lesson.show(map_grid(some, columns, titles=titles, heading="The same answers", size=2.3), "lying")

# %% [markdown]
# The answers are the same in 19 of 20 scenes. Grad-CAM's share on the animal falls from 0.33 to 0.18, and the frame's
# grows from 0.21 to 0.54 (a uniform map has 0.51). So the lie is half a lie: in the figure the brightest spot is often
# still the animal, but a frame has come that nothing in the picture explains. Other maps move too, though nobody asked
# them to: LRP from 0.48 to 0.33, guided backpropagation hardly, from 0.48 to 0.43.
#
# Which map is right about *this* network? Ask it. Without the animal both networks lose the class (p = 0.01), so the
# animal is the cause in both. But with the frame grey the honest network falls from 0.80 to 0.63, and the lying one
# from 0.73 to 0.32. It really uses what lies along the edges now: not the pixels there, which show background, but the
# cells there, to which its layers carry the evidence. The map was moved by moving the network.
#
# ## What the picture does not show
#
# - **Not that nobody moved it.** A photograph and its twin cannot be told apart by eye, nor by their answers. Ask where
#   a picture comes from before you trust its map.
# - **Not that it is worthless.** Noise of the same size moves nothing. The attack needs the network's gradients.
# - **Not who trained the network.** Step 5 needed 800 steps on pictures of the course. Heo et al. did it to ImageNet's
#   large networks, on all pictures of the validation set.
# - **Not that the input is what you think.** A constant added to every pixel, and subtracted again by the first bias,
#   changes neither answers nor gradients, but gradient x input: lesson 02 builds that network (Kindermans et al. 2017).
# - **Not the shortcut that nobody suspects.** We knew where to look, and could make scenes without the tag. With real
#   pictures the control network is the hard part. Adebayo et al. found maps of little use against shortcuts that nobody
#   had thought of.
#
# ## Exercises
#
# ### Predict first
#
# **9.14 After two steps** (difficulty 1, 3 minutes, 1 point). A colour may change by 4 of its 255 steps in all. Each
# step of the attack is an eighth of that. By how many of 255 can a colour have moved after two steps, at most? Answer:
# a number.
#
# **9.15 A tag in the map** (difficulty 2, 3 minutes, 1 point). The biased head puts 13 % of Grad-CAM on the tag. A
# head that never saw a tag puts 7 % there. What do you report?
#
# - **a** 13 % of the map on a small tag prove the bias.
# - **b** The tag is harmless, because the clean head looks at it, too.
# - **c** Nothing: two networks cannot be compared.
# - **d** The difference, 6 points, scene by scene and with an interval; a bright tag draws maps anyway.

# %%
# BEGIN SOLUTION 9.14
ANSWER_9_14 = 1
# END SOLUTION
# BEGIN SOLUTION 9.15
ANSWER_9_15 = "d"
# END SOLUTION

# %% [markdown]
# ### Then write
#
# **9.5 A control for the bias** (difficulty 2, 20 minutes, 3 points). Fill in `carries_tag`. *First predict:* which
# head does a tag move least, the one that never saw a tag, or the one that saw it everywhere? *Hints:* the labels come
# in any order · count within each class: `cumsum` · every other one is half. *Then break it:* exchange the two names in
# `CUE_CLASSES`, so that wombats carry the tag. What happens to the clean head's row, and what does that say about using
# it as the only control? *Then extend:* plant a cue of your own in `add_tag`: a border, a tint, a watermark. Which of
# the three columns finds it, and from which size on?
#
# **9.6 One step of the attack** (difficulty 1, 10 minutes, 3 points). Fill in `attack_step`. *Hints:* only the sign
# of the gradient counts · the step differs between the channels, because their standard deviations do · `clamp` takes
# tensors.
#
# ## Recap
#
# Can a map be moved, and can it find what a network should not use?
#
# 1. It can be moved. No colour changes by more than 4 of 255, the answer stays, and half of the map is in the corner:
#    0.50 more for Grad-CAM, 0.57 more for guided backpropagation, over ten photographs. Noise alone does nothing.
# 2. A map that lies on a tag proves no bias. A head that never saw a tag has 7 % of Grad-CAM there, the biased head
#    13 %. Compare with controls, scene by scene, and report the difference with its interval.
# 3. A second control can tell what the first one cannot: the head that saw meaningless tags has 1 %.
# 4. What adds up to the score can be checked against an intervention. A share can not.
# 5. Saliency asks, an intervention answers, and what one puts in the pixels' place is part of the answer.
# 6. A network can be trained to answer as before and to show another map: Grad-CAM's share on the animal halves.
