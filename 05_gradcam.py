# %% [markdown]
# # 05 Grad-CAM: where did a layer hold evidence for the class?
#
# A network's last convolutional layer is itself a small picture: 7 x 7 places in ResNet-50, with 2,048 values at each.
# The network adds these values up, and has its score. If we look at them *before* they are added up, we can ask: at
# which places of the photograph did the evidence for "macaw" stand?
#
# **After this lesson you can**
#
# 1. look inside a network with a hook, and leave none behind;
# 2. compute CAM and Grad-CAM in a few lines, and say when they are the same;
# 3. choose a layer, a method and a class, and say what the choice costs;
# 4. say what the ReLU hides, and by how many pixels a map is displaced;
# 5. compare the stability of two methods fairly.
#
# **Level** intermediate. **Before it** lesson 01.
# **Papers** Zhou et al., *Learning Deep Features for Discriminative Localization*, 2016, arXiv:1512.04150 (CAM);
# Selvaraju et al., *Grad-CAM*, 2017, arXiv:1610.02391; Draelos, Carin, 2020, arXiv:2011.08891 (HiResCAM);
# Chattopadhyay et al., 2018, arXiv:1710.11063 (Grad-CAM++); Jiang et al., *LayerCAM*, 2021.

# %%
r"""Grad-CAM, CAM and their relatives. Run `python 05_gradcam.py`; --help lists the options."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from course.checks import MapFunction, Target, check_inputs, target_indices, target_logits
from course.figures import map_grid
from course.layers import as_modules, find_layer, last_conv_layer, only_map
from course.lesson import print_table, start
from course.probes import correlation, mosaic, own_quarter, randomized, with_noise
from utils import (
    channel_reduce,
    describe_targets,
    find_class,
    import_lesson,
    load_image,
    predict,
    preprocess_image,
    recorded_output,
    upsample,
)  # fmt: skip

vanilla_gradient = import_lesson("01_vanilla_gradient_saliency").vanilla_gradient

# %% [markdown]
# ## A picture of the idea
#
# Every channel of the last layer has learnt to answer to something. Below are the four channels that the class cares
# for most: each is a map of 7 x 7 places, times a weight that says how much the class cares. On the right is the sum
# over all channels. That sum is the map of this lesson.


# %%
def figure_idea(model: nn.Module, image: Tensor, target: Tensor) -> Figure:
    """Four channels of the last layer times their weights, and the sum over all channels."""
    with torch.enable_grad(), recorded_output(last_conv_layer(model), cut=True) as outputs:
        score = target_logits(model(image), target).sum()
    (A,) = outputs                                                     # (1, C, h, w)
    weights = torch.autograd.grad(score, A)[0].mean(dim=(2, 3), keepdim=True)
    parts = (weights * A).detach()
    maps = {f"channel {k}": parts[:, k] for k in weights.flatten().topk(4).indices.tolist()}
    maps[f"sum of all {parts.shape[1]}"] = parts.sum(dim=1)
    notes = {name: [f"adds up to {map.sum():.2f}"] for name, map in maps.items()}
    heading = f"Channels times their weights, and a logit of {score:.2f}"
    return map_grid(image, maps, overlay=True, notes=notes, heading=heading, size=2.5)


if __name__ == "__main__":
    lesson = start("05_gradcam", "Where did a layer hold evidence for the class?",
                   images=["bird.jpg", "koala.jpg", "dog.jpg", "panda.jpg"])  # fmt: skip
    model, images, targets = lesson.model, lesson.images, lesson.targets
    lesson.show(figure_idea(model, images[:1], targets[:1]), "idea")

# %% [markdown]
# ## Looking inside: a hook
#
# `model(images)` returns logits and nothing of what happened on the way. A *forward hook* is a function that PyTorch
# calls each time a layer has run, with the layer, its inputs and its output. What it returns replaces the output.
#
# Two things go wrong easily. First, many networks use an *in-place* ReLU: it writes its result over its input, and that
# is the very tensor which we recorded. So the record must be a copy. Second, a hook stays until it is removed. It runs
# in all later calls and keeps every tensor it records. `recorded_output` takes care of both: inside its `with` the hook
# is there, after it the hook is gone, even after an error.

# %%
if __name__ == "__main__":
    first, kept = next(part for part in model.modules() if isinstance(part, nn.Conv2d)), []
    handle = first.register_forward_hook(lambda layer, inputs, output: kept.append(output))
    model(images[:1])
    handle.remove()
    with recorded_output(first) as outputs:
        model(images[:1])
    lowest = f"{kept[0].min():.2f} in the naive record, {outputs[0].min():.2f} in the copy"
    print(f"lowest value of the first convolution: {lowest}; {len(first._forward_hooks)} hooks left")

# %% [markdown]
# ## The formula
#
# Let a network end in global average pooling and one linear layer. Then its score is a weighted sum of means. A
# weighted sum of means is the mean of a weighted sum: of a *map*, whose mean is the score. That map is CAM:
#
# $$\text{CAM}_c = \sum_k w_k^c A_k, \qquad S_c = \tfrac{1}{hw} \sum_{ij} \text{CAM}_{c,ij} + b_c
# \qquad\text{(Zhou et al., eq. 1-2)}$$
#
# Grad-CAM asks the gradient for the weights instead. So it works for any network, above any layer:
#
# $$\alpha_k^c = \frac{1}{hw} \sum_{ij} \frac{\partial S_c}{\partial A_{k,ij}}, \qquad
# L_c = \mathrm{ReLU}\Big(\sum_k \alpha_k^c A_k\Big) \qquad\text{(Selvaraju et al., eq. 1-2)}$$
#
# | symbol | meaning | shape |
# | --- | --- | --- |
# | $A_k$ | activations of channel $k$ of the target layer | (h, w) |
# | $w_k^c$ | weight of channel $k$ in the linear layer's row $c$; $b_c$ is the row's bias | a number |
# | $\alpha_k^c$ | mean gradient of the logit with respect to channel $k$ | a number |
#
# On a network that ends as above $\partial S_c / \partial A_{k,ij} = w_k^c / (hw)$, so Grad-CAM = ReLU(CAM) / (hw).
#
# ## The method
#
# First activations and their gradient. The graph starts at the target layer: its output is detached, so nothing below
# it is differentiated. Above the last layer of ResNet-50 there are only pooling and one matrix, so Grad-CAM costs about
# one forward pass.


# %%
@torch.inference_mode(False)
@torch.enable_grad()
def activations_and_gradient(
    model: nn.Module, images: Tensor, target: Target, layer: nn.Module | str | None
) -> tuple[Tensor, Tensor]:
    """A and dS_c/dA of the target layer, both (B, C, h, w), detached."""
    check_inputs(model, images)
    model = as_modules(model)                                          # DenseNet hides its last ReLU
    with recorded_output(find_layer(model, layer), cut=True) as outputs:
        logits = model(images.detach().clone())                        # (B, K)
    A = only_map(outputs)
    (dA,) = torch.autograd.grad(target_logits(logits, target).sum(), A)
    return A.detach().to(images), dA.to(images)                        # a network in bfloat16 has both in it


def finish(maps: Tensor, images: Tensor, relu: bool, enlarge: bool) -> Tensor:
    """Evidence for the class only, if asked; then bilinear to the images' size, if asked."""
    maps = maps.relu() if relu else maps
    return upsample(maps, images.shape[-2:]) if enlarge else maps


# %%
def grad_cam(
    model: nn.Module, images: Tensor, target: Target = None, *,
    layer: nn.Module | str | None = None, relu: bool = True, upsample: bool = True,
) -> Tensor:
    """Grad-CAM: where did `layer` hold evidence for the class?

    Args:
        model, images, target: as in vanilla_gradient.
        layer: a module or its dotted name, with output (B, C, h, w); None is last_conv_layer(model).
        relu: keep evidence *for* the class only (the paper); False keeps the sign.
        upsample: bilinearly to (B, H, W); False leaves (B, h, w).

    Returns:
        (B, H, W) or (B, h, w), detached, >= 0 with relu, not rescaled: logit units per place.

    Raises:
        ValueError: as vanilla_gradient; an unknown layer; a layer that runs other than once or gives no 4-D output.

    Paper: Selvaraju et al. 2017, arXiv:1610.02391, eq. 1-2.
    """
    A, dA = activations_and_gradient(model, images, target, layer)
    # BEGIN SOLUTION 5.1
    alpha = dA.mean(dim=(2, 3), keepdim=True)                          # eq. 1: (B, C, 1, 1)
    maps = (alpha * A).sum(dim=1)                                      # eq. 2: (B, h, w)
    # END SOLUTION
    return finish(maps, images, relu, upsample)


# %% [markdown]
# Two networks on the same pictures. SqueezeNet's last layer is finer, 13 x 13. The number is the correlation with the
# first network's map, once both are enlarged. The reference is the first network with random weights.

# %%
if __name__ == "__main__":
    networks = {lesson.model_name: model, lesson.other_name: lesson.other_model,
                "random weights": randomized(model, seed=lesson.seed)}  # fmt: skip
    columns, notes = {"enlarged": grad_cam(model, images[:2], targets[:2])}, {}
    for name, network in networks.items():
        columns[name] = grad_cam(network, images[:2], targets[:2], upsample=False)
        pairs = zip(columns["enlarged"], upsample(columns[name], images.shape[-2:]), strict=True)
        alike = [f"r = {correlation(*pair):.2f}" if pair[1].any() else "all zero" for pair in pairs]
        notes[name] = [f"{columns[name].shape[1]} x {columns[name].shape[2]}, {text}" for text in alike]
    shown = map_grid(images[:2], columns, overlay=True, titles=lesson.titles, notes=notes, heading="Grad-CAM", size=2.7)
    lesson.show(shown, "networks")

# %% [markdown]
# ## CAM, and a check you can break
#
# CAM takes the weights from the linear layer and needs no gradient. Its mean, plus the bias, *is* the score.


# %%
def linear_layers(model: nn.Module) -> list[nn.Linear]:
    """The fully connected layers."""
    return [module for module in model.modules() if isinstance(module, nn.Linear)]


def cam(model: nn.Module, images: Tensor, target: Target = None, *, upsample: bool = True) -> Tensor:
    """Class activation map of a network that ends in global average pooling and one linear layer.

    Args:
        model, images, target, upsample: as in grad_cam.

    Returns:
        (B, H, W) or (B, h, w), signed, detached: its mean before upsampling, plus the class's bias, is the logit.

    Raises:
        ValueError: as vanilla_gradient, or a network that ends otherwise, for which Grad-CAM is the method.

    Paper: Zhou et al. 2016, arXiv:1512.04150, eq. 1-2.
    """
    check_inputs(model, images)
    model, linear = as_modules(model), linear_layers(model)
    with torch.no_grad(), recorded_output(last_conv_layer(model)) as outputs:
        logits = model(images.detach())                                # (B, K)
    target = target_indices(target, logits)
    A = only_map(outputs)                                              # (B, C, h, w)
    fits = len(linear) == 1 and linear[0].in_features == A.shape[1]
    near = 0.05 if A.dtype == torch.bfloat16 else 1e-3
    if not fits or not torch.allclose(linear[0](A.mean(dim=(2, 3))).to(logits), logits, rtol=near, atol=near):
        raise ValueError("CAM needs a network that ends in global average pooling and one linear layer; use grad_cam")
    # BEGIN SOLUTION 5.2
    w = linear[0].weight[target]                                       # (B, C): w_k^c
    maps = torch.einsum("bc,bchw->bhw", w, A)
    # END SOLUTION
    return finish(maps.detach().to(images), images, False, upsample)


# %%
if __name__ == "__main__":
    for name, network in list(networks.items())[:2]:
        if len(linear_layers(network)) != 1:
            print(f"{name} has {len(linear_layers(network))} linear layers, so cam refuses it")
            continue
        maps = cam(network, images, targets, upsample=False)
        b = linear_layers(network)[0].bias[targets]
        S, found = target_logits(network(images), targets), grad_cam(network, images, targets, upsample=False)
        rebuilt, positive = maps.mean(dim=(1, 2)) + b, found.sum(dim=(1, 2)) + b
        columns = [[f"{x:.4f}" for x in column] for column in (S, rebuilt, positive)]
        header = [name, "logit S", "mean of CAM + b", "sum of Grad-CAM + b"]
        print_table(header, list(zip(lesson.names, *columns, strict=True)))
        lesson.check(torch.allclose(rebuilt, S, rtol=1e-4, atol=1e-4), "the mean of CAM and the bias are not the logit")
        alike = torch.allclose(found, maps.relu() / maps[0].numel(), rtol=1e-3, atol=1e-5)
        lesson.check(alike, "Grad-CAM is not CAM here")

# %% [markdown]
# The third column misses the score: the ReLU has thrown away what speaks against the class.
#
# `cam` refuses SqueezeNet, which ends in a 1 x 1 convolution with one channel per class, *ReLU*, then pooling. The ReLU
# stands between the weighted sum and the mean. Negative places do not count there, so the map's mean is not the logit.
#
# ## One picture, four classes
#
# Four animals in one picture, and a map for each class, all on one scale. The number is the share of the map that lies
# in the class's own quarter. The reference: a map that knows nothing of the class has 25 %.

# %%
if __name__ == "__main__":
    four = [i % len(images) for i in range(4)]                         # fewer than four pictures appear again
    picture, classes = mosaic(images[four]).expand(4, -1, -1, -1), targets[four]
    maps, labels = grad_cam(model, picture, classes), describe_targets(model, picture, classes)
    columns = {f"{i + 1}: {label}": maps[i : i + 1] for i, label in enumerate(labels)}
    notes = {name: [f"{share:.0%} in its quarter"] for name, share in zip(columns, own_quarter(maps), strict=True)}
    shown = map_grid(picture[:1], columns, overlay=True, notes=notes, scale="all", heading="Grad-CAM", size=2.7)
    lesson.show(shown, "mosaic")

# %% [markdown]
# ## Three relatives
#
# They differ only in how activations and gradient are combined before the sum over channels. HiResCAM leaves out the
# mean. LayerCAM leaves it out and drops negative gradients. Grad-CAM++ takes a weighted mean of the positive ones:
#
# $$\text{HiResCAM} = \sum_k \frac{\partial S_c}{\partial A_k} A_k, \qquad
# \text{LayerCAM} = \sum_k \mathrm{ReLU}\Big(\frac{\partial S_c}{\partial A_k}\Big) A_k$$
#
# $$w_k^c = \sum_{ij} \alpha_{k,ij}\, \mathrm{ReLU}(g_{k,ij}), \qquad
# \alpha_{k,ij} = \frac{g_{k,ij}^2}{2\, g_{k,ij}^2 + g_{k,ij}^3 \sum_{ab} A_{k,ab}}
# \qquad\text{(Chattopadhyay et al.; } \alpha \text{ is their eq. 19)}$$
#
# with $g_{k,ij} = \partial S_c / \partial A_{k,ij}$. Where $g > 0$ the square cancels and leaves $g / (2 + g \sum A)$.
# Elsewhere the ReLU is 0. So the method counts positive slopes only, and a little less where a channel gives much.


# %%
def hires_cam(
    model: nn.Module, images: Tensor, target: Target = None, *,
    layer: nn.Module | str | None = None, upsample: bool = True,
) -> Tensor:
    """HiResCAM: multiply place by place, without averaging the gradient. Args and Returns as in grad_cam.

    Paper: Draelos, Carin 2020, arXiv:2011.08891. Equals Grad-CAM where the gradient is constant over places.
    """
    A, dA = activations_and_gradient(model, images, target, layer)
    # BEGIN SOLUTION 5.3
    maps = (dA * A).sum(dim=1)
    # END SOLUTION
    return finish(maps, images, True, upsample)


def layer_cam(
    model: nn.Module, images: Tensor, target: Target = None, *,
    layer: nn.Module | str | None = None, upsample: bool = True,
) -> Tensor:
    """LayerCAM: only places whose gradient is positive count. Args and Returns as in grad_cam.

    Paper: Jiang et al., IEEE Transactions on Image Processing 30, 2021.
    """
    A, dA = activations_and_gradient(model, images, target, layer)
    # BEGIN SOLUTION 5.3
    maps = (dA.relu() * A).sum(dim=1)
    # END SOLUTION
    return finish(maps, images, True, upsample)


def grad_cam_plus_plus(
    model: nn.Module, images: Tensor, target: Target = None, *,
    layer: nn.Module | str | None = None, upsample: bool = True,
) -> Tensor:
    """Grad-CAM++: a weighted sum of the positive gradient. Args and Returns as in grad_cam.

    The paper explains exp(S_c), whose derivatives are powers of dS_c/dA; the common factor exp(S_c) is left out. Meant
    for activations >= 0, as after a ReLU: a negative sum could bring the denominator to 0.

    Paper: Chattopadhyay et al. 2018, arXiv:1710.11063, eq. 19.
    """
    A, dA = activations_and_gradient(model, images, target, layer)
    # BEGIN SOLUTION 5.4
    slope = dA.relu()
    total = A.sum(dim=(2, 3), keepdim=True)                            # (B, C, 1, 1)
    weights = (slope / (2 + total * slope)).sum(dim=(2, 3), keepdim=True)
    maps = (weights * A).sum(dim=1)
    # END SOLUTION
    return finish(maps, images, True, upsample)


# %% [markdown]
# ## Which layer, which method?
#
# Lower layers have finer maps. But there a channel answers to an edge or a colour, wherever it is. Grad-CAM gives a
# channel one weight for the whole picture, so it cannot tell the macaw's edges from the panda's. HiResCAM has a weight
# for each place. The figure has the first class's maps in the picture of four, the table the mean over all four.

# %%
STAGES = {"resnet50": ["layer1", "layer2", "layer3", "layer4"],
          "squeezenet1_1": ["features.1", "features.4", "features.7", "features.12"]}  # fmt: skip
METHODS = {"Grad-CAM": grad_cam, "HiResCAM": hires_cam, "LayerCAM": layer_cam, "Grad-CAM++": grad_cam_plus_plus}

if __name__ == "__main__":
    columns, notes, rows = {}, {}, [[name] for name in METHODS]
    layers = STAGES.get(lesson.model_name, [None])
    for layer in layers:
        found = [method(model, picture, classes, layer=layer, upsample=False) for method in METHODS.values()]
        shares = [own_quarter(upsample(maps, picture.shape[-2:])) for maps in found]
        name = f"{layer or 'last'}, {found[0].shape[1]} x {found[0].shape[2]}"
        columns[name] = torch.stack([maps[0] for maps in found])
        notes[name] = [f"{share[0]:.0%} in its quarter" for share in shares]
        for row, share in zip(rows, shares, strict=True):
            row.append(f"{sum(share) / 4:.0%}")
    print_table(["mean share in the\nown quarter (chance: 25%)", *(name.replace(", ", "\n") for name in columns)], rows)
    shown = map_grid(picture, columns, overlay=True, titles=list(METHODS), notes=notes, heading=labels[0], size=2.2)
    lesson.show(shown, "layers")

# %% [markdown]
# - Grad-CAM needs the last layer: 80 % there, 45 % one below, and little more than chance further down.
# - HiResCAM is the same in the last layer, where the gradient is constant. In layer3 it keeps 73 %, with maps twice as
#   fine. If you want a lower layer, take this one. Two other pictures of four gave 68 and 76 % for Grad-CAM in layer4,
#   and 74 and 76 % for HiResCAM in layer3.
# - LayerCAM and Grad-CAM++ drop negative slopes. With them goes what tells one class from another: 47 % and 45 % in the
#   last layer. One layer below LayerCAM has 50 %, Grad-CAM++ nothing but chance.
# - The dots are real: each stage of this ResNet-50 begins by reading every second place of the one before, in both
#   directions. Three of four places are never looked at, and their gradient is 0.
#
# ## What the ReLU hides
#
# A macaw is in the picture of four, a tabby is not. Red speaks for the class, blue against it. Blue is what the ReLU
# removes.

# %%
ABSENT = find_class("tabby")  # a class that is in none of this lesson's four animals

if __name__ == "__main__":
    asked = [int(classes[0]), ABSENT]
    signed = grad_cam(model, picture[:2], asked, relu=False, upsample=False)
    against = [f"{(-map).relu().sum() / map.abs().sum():.0%} of it against" for map in signed]
    columns, titles = {"before the ReLU": signed, "after": signed.relu()}, describe_targets(model, picture[:2], asked)
    notes = {"before the ReLU": against}
    shown = map_grid(picture[:2], columns, overlay=True, scale="all", titles=titles, notes=notes, heading="Grad-CAM")
    lesson.show(shown, "relu")

# %% [markdown]
# ## How stable is a map?
#
# Grad-CAM is said to be more robust than the gradient. We add noise of 5 % of the value range, or we move the picture
# by four pixels and the map back, and correlate with the undisturbed map. But a map of 7 x 7 has little that could
# move. So the control is the gradient's map made *just as coarse*. Two more references: the map of the next
# photograph, and a network with random weights, which knows nothing.


# %%
def gradient_map(model: nn.Module, images: Tensor, target: Target = None) -> Tensor:
    """Lesson 01's map, (B, H, W)."""
    return channel_reduce(vanilla_gradient(model, images, target))


def coarse(maps: Tensor, cells: int = 7) -> Tensor:
    """Maps (B, H, W) as coarse as Grad-CAM's: the mean over each of cells x cells tiles, enlarged in the same way."""
    # BEGIN SOLUTION 5.5
    return upsample(F.adaptive_avg_pool2d(maps, cells), maps.shape[-2:])
    # END SOLUTION


def stability(
    method: MapFunction, model: nn.Module, images: Tensor, target: Tensor, seed: int, pixels: int = 4
) -> list[float]:
    """Mean correlation of a picture's map with its map under noise, under a shift, and with the next picture's."""
    plain, noisy = method(model, images, target), method(model, with_noise(images, 0.05, seed), target)
    moved = method(model, images.roll((pixels, pixels), dims=(2, 3)), target).roll((-pixels, -pixels), dims=(1, 2))
    inside = (..., slice(pixels, -pixels), slice(pixels, -pixels))     # what rolled over the edge does not count
    pairs = (plain, noisy), (plain[inside], moved[inside]), (plain, plain.roll(1, dims=0))
    return [sum(correlation(*pair) for pair in zip(*both, strict=True)) / len(images) for both in pairs]


if __name__ == "__main__":
    compared = {
        "Grad-CAM before the ReLU": (lambda m, x, c: grad_cam(m, x, c, relu=False), model),
        "gradient": (gradient_map, model),
        "gradient, as coarse": (lambda m, x, c: coarse(gradient_map(m, x, c)), model),
        "Grad-CAM, random weights": (lambda m, x, c: grad_cam(m, x, c, relu=False), networks["random weights"]),
    }
    rows = [[name, *stability(*pair, images, targets, lesson.seed)] for name, pair in compared.items()]
    print_table([f"r with its own map, mean of {len(images)}", "5 % noise", "4 px shift", "next picture"], rows)

# %% [markdown]
# Grad-CAM keeps more than the gradient, as is said. But most of its lead is coarseness: the coarse gradient makes up
# three quarters of it under noise, and nine tenths under the shift. And the network that knows nothing has the most
# stable maps of all. Stability is good to have. It is no sign that a map explains anything.
#
# ## Where does a cell look?
#
# To enlarge a map, `upsample` takes its cells for tiles: of 7 tiles on 224 pixels, the first has its centre at pixel
# 15.5. But a stride of 2 keeps the *first* of two places, five times over, so what cell $i$ sees has its centre at
# pixel $32 i$: for the first cell, at the picture's edge. By this account ResNet-50's maps are drawn 15.5 pixels too
# far down and right. How far is it really? The *mirror test* tells: mirror the picture, explain it, mirror the map
# back. A true map comes back where it was. A displaced one comes back displaced to the other side, and half the way
# between the two is the displacement. The reference is the gradient, which has one value for each pixel.


# %%
def flip_shift(method: MapFunction, model: nn.Module, images: Tensor, target: Tensor, *, reach: int = 40) -> Tensor:
    """How many pixels too far to the right a method's maps lie, by the mirror test.

    Args:
        method: (model, images, target) -> maps (B, H, W).
        model, images: as in vanilla_gradient.
        target: one class per image, so that the picture and its mirror image are asked the same.
        reach: the longest way between the two maps that is tried, in pixels.

    Returns:
        (B,), in steps of half a pixel: half the way at which the two maps correlate best; 0 for a constant map.
    """
    plain = method(model, images, target)                              # (B, H, W)
    back = method(model, images.flip(3), target).flip(2)
    # BEGIN SOLUTION 5.6
    width, ways = plain.shape[2], sorted(range(-reach, reach + 1), key=abs)
    alike = torch.tensor([
        [correlation(a[:, max(s, 0) : width + s], b[:, max(-s, 0) : width - s]) for s in ways]
        for a, b in zip(plain, back, strict=True)
    ])                                                                 # (B, 2 reach + 1), NaN for a constant map
    return torch.tensor(ways)[alike.nan_to_num(-1).argmax(dim=1)] / 2
    # END SOLUTION


if __name__ == "__main__":
    tests = {f"Grad-CAM,\n{name}": (grad_cam, network) for name, network in list(networks.items())[:2]}
    tests["gradient,\n" + lesson.model_name] = gradient_map, model
    shifts = [flip_shift(*test, images, targets).tolist() for test in tests.values()]
    print_table(["pixels too far right", *tests], list(zip(lesson.names, *shifts, strict=True)))

# %% [markdown]
# ResNet-50's maps lie some ten pixels too far to the right: 5 to 13 on the 19 photographs of `data/`, 10.1 in the mean.
# As its strides are the same in both directions, they lie too far down as well. It is less than 15.5: what a cell
# really uses is not the middle of what it could see. SqueezeNet's cells lie evenly about the picture's
# middle; its maps have 3.2 in the mean. Other libraries enlarge in the same way, so their maps are displaced alike.
#
# Does it matter? `python tests/benchmark.py --alignment` plants animals in 300 pictures and reads cell $i$ at pixel
# $32 i + 8$ instead. The share of the map on the animal grows from 32.4 % to 33.0 %: by 0.8 points for the mean animal,
# 95 % interval 0.2 to 1.4. The map's single highest point lies on the animal in 84 % instead of 72 %: 12 points more,
# interval 6 to 18. So a map to look at may stay as it is. Who needs one point should take the cells
# (`upsample=False`), and measure the network's displacement first.
#
# ## Does a map know whether the answer is right?
#
# ResNet-50 is wrong about these three photographs. Beside the map of its answer stands the map of the right class; for
# the moose, which ImageNet has no class for, that of another bear. The reference is a class without any likeness.

# %%
WRONG = {"duck.jpg": "drake", "cat.jpg": "tiger cat", "moose.jpg": "sloth bear"}

if __name__ == "__main__":
    wrong = torch.cat([preprocess_image(load_image(name)) for name in WRONG]).to(images)
    answers = [best for [(best, _, _)] in predict(model, wrong, k=1)]
    asked = {"its answer": answers, "right (moose: none)": [find_class(name) for name in WRONG.values()],
             "no likeness": [find_class("macaw")] * 3}  # fmt: skip
    columns = {name: grad_cam(model, wrong, asked[name], upsample=False) for name in asked}
    notes = {name: describe_targets(model, wrong, asked[name]) for name in asked}
    rows = [[photo, *(correlation(columns["its answer"][i], maps[i]) for maps in columns.values())]
            for i, photo in enumerate(WRONG)]  # fmt: skip
    print_table(["r with the answer's map", *asked], rows)
    shown = map_grid(wrong, columns, overlay=True, scale="row", titles=list(WRONG), notes=notes, heading="Grad-CAM")
    lesson.show(shown, "wrong")

# %% [markdown]
# The map of a wrong answer lies on the animal as well, and can hardly be told from that of the right class. A map on
# the object is no sign that the network is right. Even a class without likeness can have its map there: the duck's.
#
# ## What the picture does not show
#
# - **Not the pixels.** One of 7 x 7 values covers 32 x 32 pixels and has seen nearly the whole picture. The smooth
#   outline comes from the enlargement, which also draws the map some ten pixels too far to the right.
# - **Not the evidence against.** The ReLU removes it: 13 % of the map for a macaw in the picture of four, 21 % for a
#   tabby, which is not there. On the 19 photographs it is 0.2 % for the class that the network names, 22 % for "tabby".
# - **Not whether the class is there.** The absent tabby has a map, too, on the koala and the dog. On its own scale it
#   would look like any other. Only beside the macaw's, on one scale, does it look weak.
# - **Not what lower layers do for the class.** In layer1 and layer2 Grad-CAM's map is hardly more in the class's own
#   quarter than chance would have it.
# - **Not whether the answer is right.** And a stable map need not explain anything.
#
# ## Exercises
#
# ### Predict first
#
# **5.7 One place by hand** (difficulty 1, 3 minutes, 1 point). Two channels have the values 6 and 1 at a place. Their
# weights $\alpha$ are 0.5 and -1. What is Grad-CAM's value there, after the ReLU? Answer: a number.
#
# **5.8 From the map to the score** (difficulty 1, 3 minutes, 1 point). The 49 values of a CAM, before enlarging, add
# up to 686. The class's bias is 0.3. What is the logit? Answer: a number.
#
# **5.9 The steadiest network** (difficulty 2, 3 minutes, 1 point). With random weights Grad-CAM's map moves even less
# under noise than with trained weights. What does this show?
#
# - **a** Random networks are more robust, so their maps are better.
# - **b** Grad-CAM is wrong, and should not be used.
# - **c** A stable map need not say anything about what a network has learnt.
# - **d** The noise was too weak to disturb a network.

# %%
# BEGIN SOLUTION 5.7
ANSWER_5_7 = 2
# END SOLUTION
# BEGIN SOLUTION 5.8
ANSWER_5_8 = 14.3
# END SOLUTION
# BEGIN SOLUTION 5.9
ANSWER_5_9 = "c"
# END SOLUTION

# %% [markdown]
# ### Then write
#
# **5.1 Grad-CAM** (difficulty 2, 15 minutes, 4 points). Fill in equations 1 and 2.
# *Hints:* a mean over places, a sum over channels · keep dimensions so that shapes broadcast · the ReLU comes last.
#
# **5.2 CAM** (difficulty 2, 10 minutes, 3 points). Fill in `cam`. *First predict* what subtracting the maps of two
# classes shows. *Hints:* row c of the linear layer · one row per image.
#
# **5.3 Without the mean** (difficulty 2, 10 minutes, 3 points). Fill in HiResCAM and LayerCAM. *First predict* on which
# networks they equal Grad-CAM. *Hints:* where is the gradient constant? · which ReLU stands inside the sum? *Then* sum
# A times dA over everything, layer by layer. At layer4 that is the score without the last bias. Does it grow steadily
# up to there? Why does SqueezeNet do otherwise? (The biases above a layer carry the rest.)
#
# **5.4 Grad-CAM++** (difficulty 3, 20 minutes, 3 points). On paper, cancel $g^2$ in the formula above, for $g > 0$.
# Fill in what is left. What happens where $g = 0$, in the formula and in yours?
# *Hints:* a ReLU makes every slope that does not count 0 · one sum over places below the line, one for the weight.
#
# **5.5 Just as coarse** (difficulty 2, 10 minutes, 2 points). Fill in `coarse`. *First predict* how much of Grad-CAM's
# lead over the gradient is left. Then try 14 and 28 cells. *Hints:* a pooling that is told how large its result is ·
# enlarge as Grad-CAM does.
#
# **5.6 The mirror test** (difficulty 3, 25 minutes, 3 points). Fill in `flip_shift`. *First predict* its value for the
# gradient. Then try layer3. *Hints:* move one map against the other, and leave out the columns that have no partner ·
# which sign means "too far to the right"? · half the way.
#
# ## Recap
#
# Where did a layer hold evidence for the class?
#
# 1. A hook records the layer: a copy, and the hook is taken away again.
# 2. CAM weights the channels by the linear layer's row, Grad-CAM by the mean gradient. On a network with pooling and
#    one linear layer they are the same, up to the ReLU and 1 / (hw), and the mean of CAM plus the bias is the score.
# 3. A map belongs to a layer, a class and a method: name all three. In the last layer 80 % of a class's map lies in its
#    own quarter of our picture. One layer below, HiResCAM keeps 73 %, Grad-CAM 45 %, Grad-CAM++ nothing but
#    chance.
# 4. The map answers where, never whether: an absent class and a wrong answer have a map on the animal as well.
# 5. ResNet-50's maps are drawn some ten pixels too far to the right, and too far down.
# 6. Grad-CAM is more stable than the gradient, mostly because it is coarse. A network with random weights is more
#    stable still.
