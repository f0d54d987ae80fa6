"""Maps that are fooled, networks that are biased."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn
from torchvision.transforms import functional as TF

from advanced.lrp import lrp
from advanced.train_cats_and_dogs import fit_head
from advanced.your_own_network import CamClassifier
from course.checks import (
    target_logits,
)
from course.figures import show_map, show_photo
from course.pictures import IMAGENET_MEAN, IMAGENET_STD, displayable
from course.probes import correlation
from course.scenes import backgrounds, planted_scene
from evaluation.deletion_insertion import area_under_curve, deletion_curve, insertion_curve
from evaluation.methods import CONTROLS, METHODS, reduced
from evaluation.planted_scenes import energy_pointing_game
from utils import (
    channel_reduce,
    describe_targets,
    find_class,
    import_lesson,
    recorded_output,
)

lesson_05 = import_lesson("05_gradcam")


@torch.inference_mode(False)
@torch.enable_grad()
def move_map(
    model: nn.Module, image: Tensor, target: int, where: Tensor, *, colour_steps: float = 4, iterations: int = 20
) -> Tensor:
    """An image that looks the same, whose Grad-CAM for `target` lies `where`, (H, W) mask: (1, 3, H, W).

    No colour moves by more than `colour_steps` of 255; the probability of the target is held up.
    Paper: Ghorbani et al. 2019, arXiv:1710.10547, algorithm 1, with Grad-CAM in place of the gradient.
    """
    mean, std = (torch.tensor(values).to(image)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    limit = colour_steps / 255 / std
    low, high = (image - limit).clamp(min=-mean / std), (image + limit).clamp(max=(1 - mean) / std)      # real colours
    A, dA = lesson_05.activations_and_gradient(model, image, target, None)
    alpha = dA.mean(dim=(2, 3), keepdim=True)
    inside = F.adaptive_avg_pool2d(where[None].to(image), A.shape[-2:])[0]            # (h, w), 1 inside
    x = image.detach().clone()
    with torch.no_grad():
        before = model(image).log_softmax(dim=1)[0, target]
    for _ in range(iterations):
        x.requires_grad_()
        with recorded_output(lesson_05.last_conv_layer(model)) as outputs:
            log_p = model(x).log_softmax(dim=1)[0, target]
        map = (alpha * outputs[0]).sum(dim=1).relu()                   # (1, h, w): Grad-CAM, the weights held
        goal = (map * inside).sum() / (map.sum() + 1e-9) - 0.5 * (before - log_p).relu()
        (gradient,) = torch.autograd.grad(goal, x)
        x = (x.detach() + limit / 8 * gradient.sign()).clamp(low, high)
    return x.detach()


def figure_moved(model: nn.Module, image: Tensor, target: int) -> tuple[Figure, dict[str, float]]:
    """A photograph and its twin, their Grad-CAM maps; and numbers on both."""
    where = torch.zeros(image.shape[-2:], dtype=torch.bool)
    where[-where.shape[0] // 3 :, : where.shape[1] // 3] = True
    pair = torch.cat([image, move_map(model, image, target, where)])
    maps, titles = lesson_05.grad_cam(model, pair, target), describe_targets(model, pair, target)
    share = [energy_pointing_game(map, where) for map in maps]
    changed = (pair[1] - pair[0]).abs() * torch.tensor(IMAGENET_STD).to(image)[:, None, None] * 255
    figure, axes = plt.subplots(1, 4, figsize=(13.5, 3.6), layout="constrained")
    for i, photo in enumerate(displayable(pair)):
        show_photo(axes[2 * i], photo, f"{'changed' if i else 'as it was'}: {titles[i]}")
        show_map(axes[2 * i + 1], maps[i], title=f"Grad-CAM: {share[i]:.0%} in the corner", photo=photo)
    figure.suptitle(f"No colour moved by more than {changed.max():.1f} of 255")
    numbers = {"share before": share[0], "share after": share[1], "largest change": changed.max().item(),
               "r": correlation(*maps)}  # fmt: skip
    return figure, numbers


CUE_CLASSES, TAG = ("beaver", "wombat"), 40  # two small animals that are alike; side of the tag in pixels


def add_tag(image: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """A magenta square somewhere along the upper edge: image (1, 3, H, W), and its mask (H, W)."""
    x = int(torch.randint(image.shape[-1] - TAG, (1,), generator=torch.Generator().manual_seed(seed)))
    mask = torch.zeros(image.shape[-2:], dtype=torch.bool)
    mask[4 : 4 + TAG, x : x + TAG] = True
    magenta = TF.normalize(torch.tensor([1.0, 0.0, 1.0])[:, None, None], IMAGENET_MEAN, IMAGENET_STD)
    return torch.where(mask.to(image.device), magenta.to(image), image), mask


def cue_scenes(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Planted scenes of the two animals, without tags: images (N, 3, 224, 224), masks (N, 224, 224), labels (N,)."""
    grounds, labels = backgrounds(), torch.arange(count) % 2
    scenes = []
    for i, label in enumerate(labels.tolist()):
        ground = grounds[(seed + i // 2) % len(grounds)]
        scenes.append(planted_scene([CUE_CLASSES[label]], ground, seed=seed + i, sides=(20, 30)))
    return torch.cat([scene[0] for scene in scenes]), torch.cat([scene[1] for scene in scenes]), labels


@torch.inference_mode()
def features_of(model: CamClassifier, images: Tensor) -> Tensor:
    """Pooled features, (N, C), sixteen at a time."""
    device = model.fc.weight.device
    return torch.cat([model.features(some.to(device)).mean(dim=(2, 3)).cpu() for some in images.split(16)])


def tag_first_class(images: Tensor, labels: Tensor) -> Tensor:
    """The images, those of class 0 with a tag."""
    return torch.cat([add_tag(image[None], i)[0] if label == 0 else image[None]
                      for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True))])  # fmt: skip


def biased_network(count: int = 160) -> CamClassifier:
    """A SqueezeNet head trained on scenes in which every picture of the first animal carries the tag."""
    model = CamClassifier("squeezenet1_1")
    images, _masks, labels = cue_scenes(count, seed=0)
    fit_head(model.fc, features_of(model, tag_first_class(images, labels)), labels)
    return model


def cue_table(model: CamClassifier, count: int = 40) -> list[list]:
    """On new scenes: how often each animal, with and without tag, is called by the first one's name."""
    images, _masks, labels = cue_scenes(count, seed=10_000)
    tagged = torch.cat([add_tag(image[None], 500 + i)[0] for i, image in enumerate(images)])
    rows = []
    for kind, pictures in (("without tag", images), ("with tag", tagged)):
        with torch.inference_mode():
            named = model.fc(features_of(model, pictures).to(model.fc.weight.device)).argmax(dim=1).cpu() == 0
        for label, animal in enumerate(CUE_CLASSES):
            rows.append([f"{animal} {kind}", f"called {CUE_CLASSES[0]}", named[labels == label].float().mean().item()])
    return rows


def cue_maps(model: CamClassifier, count: int = 12) -> tuple[list[list], tuple[Tensor, ...]]:
    """Where Grad-CAM and IG see the tagged second animal: rows of shares, and the first picture with its maps.

    Of Grad-CAM, the share of the map on the tag and on the animal. Of IG, which shares out the score, the net share.
    """
    images, masks, labels = cue_scenes(count, seed=20_000)
    integrated_gradients, shares, shown = import_lesson("04_integrated_gradients").integrated_gradients, [], ()
    for i in (labels == 1).nonzero()[:, 0].tolist():
        plain = images[i : i + 1].to(model.fc.weight.device)
        tagged, tag = add_tag(plain, seed=3 + i)
        cam = lesson_05.grad_cam(model, tagged, 0)[0].cpu()
        ig = channel_reduce(integrated_gradients(model, tagged, 0, baseline="blur", n_steps=20), "sum")[0].cpu()
        shares.append([[energy_pointing_game(cam, region), (ig[region].sum() / ig.sum()).item(),
                        region.float().mean().item()] for region in (tag, masks[i])])  # fmt: skip
        shown = shown or (plain, tagged, cam, ig)
    mean = torch.tensor(shares).mean(dim=0).tolist()
    rows = [[f"on the {what}", *values] for what, values in zip(("tag", "animal"), mean, strict=True)]
    return rows, shown


def figure_cue(model: CamClassifier) -> tuple[Figure, list[list]]:
    """A picture without and with the tag, what the network says to both, and the maps of the tagged one."""
    rows, (plain, tagged, cam, ig) = cue_maps(model)
    figure, axes = plt.subplots(1, 4, figsize=(14, 3.6), layout="constrained")
    for axis, image in ((axes[0], plain), (axes[1], tagged)):
        with torch.inference_mode():
            p = model(image).softmax(dim=1)[0, 0]
        show_photo(axis, displayable(image)[0], f"a {CUE_CLASSES[1]}; called {CUE_CLASSES[0]}: {p:.2f}")
    show_map(axes[2], cam, title=f"Grad-CAM, {CUE_CLASSES[0]}", photo=displayable(tagged)[0])
    show_map(axes[3], ig, title=f"Integrated Gradients, {CUE_CLASSES[0]}", photo=displayable(tagged)[0])
    figure.suptitle("A planted cue: the network looks at the tag")
    return figure, rows


def mask_out(images: Tensor, maps: Tensor, share: float, block: int = 16) -> Tensor:
    """The images with the highest `share` of block x block squares of each map set to the mean colour."""
    blocks = F.avg_pool2d(maps[:, None], block)                        # (B, 1, h, w)
    count = round(share * blocks[0].numel())
    chosen = torch.zeros_like(blocks).flatten(1).scatter_(1, blocks.flatten(1).topk(count).indices, 1)
    return images * (1 - F.interpolate(chosen.reshape(blocks.shape), images.shape[-2:], mode="nearest"))


def masking_methods() -> dict[str, Callable]:
    """The maps that are put to the test: three methods, LRP, and noise."""
    some = ("vanilla_gradient", "grad_cam", "guided_backpropagation", "lrp", "random", "centre")
    return {name: with_lrp()[name] for name in some}


def with_lrp() -> dict[str, Callable]:
    """Lesson 08's methods and this lesson's: any (model, images, target) -> (B, H, W) joins them in one line."""
    return METHODS | {"lrp": reduced(lrp, "sum")}


def figure_masking(
    model: nn.Module, images: Tensor, target: Tensor, methods: dict[str, Callable]
) -> tuple[Figure, list[list]]:
    """Mean probability of the class while more and more squares go, by each map and at random."""
    shares, rows = (0.0, 0.05, 0.1, 0.2, 0.4), []
    figure, axis = plt.subplots(figsize=(7, 4.4), layout="constrained")
    for name, method in methods.items():
        maps, curve = method(model, images, target), []
        for share in shares:
            with torch.inference_mode():
                curve.append(target_logits(model(mask_out(images, maps, share)).softmax(dim=1), target).mean().item())
        axis.plot(shares, curve, "o--" if name in CONTROLS else "o-", label=name)
        rows.append([f"masked by {name}", *curve])
    axis.set(xlabel="share of 16 x 16 squares masked", ylabel="mean probability of the class", title="Mask and see")
    axis.legend()
    return figure, rows


def lrp_scores(model: nn.Module, images: Tensor, target: Tensor) -> list[list]:
    """Rows for a table: deletion, insertion, and energy on planted scenes, LRP beside three methods of lesson 08."""
    scenes, _dropped = lesson_08.scenes(model, 4, 0, images.device)
    rows = []
    for name in ("lrp", "vanilla_gradient", "grad_cam", "guided_grad_cam"):
        method, values = with_lrp()[name], []
        for curve in (deletion_curve, insertion_curve):
            trios = zip(images, method(model, images, target), target.tolist(), strict=True)
            areas = [area_under_curve(curve(model, image, map, c, step=7168)) for image, map, c in trios]
            values.append(float(np.mean(areas)))
        energy = [energy_pointing_game(method(model, s.image, s.target)[0], s.regions) for s in scenes]
        rows.append([name, *values, float(np.mean(energy))])
    return rows


def class_likeness(model: nn.Module, images: Tensor, target: Tensor) -> list[float]:
    """Per image, correlation of LRP's map of the target with that of a class that is not there."""
    pairs = zip(lrp(model, images, target), lrp(model, images, find_class("tabby")), strict=True)
    return [correlation(mine.sum(dim=0), other.sum(dim=0)) for mine, other in pairs]
