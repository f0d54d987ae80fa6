# %% [markdown]
# # 05 Grad-CAM: where did a layer hold evidence for the class?
#
# The last convolutional layer of a network is a small picture, 7 x 7 in ResNet-50, in which every channel has learnt to
# answer to something. What the network adds up at the end can be shown before it is added up: which places held
# evidence, for which class.
#
# **After this lesson you can**
#
# 1. compute CAM and Grad-CAM in a few lines, and say when they are the same;
# 2. choose a layer and say what the choice costs;
# 3. ask for several classes of one picture, also for one the network did not choose;
# 4. say what the ReLU hides;
# 5. give a number for how stable a map is under small changes of the input.
#
# **Level** intermediate. **Before it** lesson 01.
# **Papers** Zhou et al., *Learning Deep Features for Discriminative Localization*, 2016, arXiv:1512.04150 (CAM);
# Selvaraju et al., *Grad-CAM*, 2017, arXiv:1610.02391; Draelos, Carin, 2020, arXiv:2011.08891 (HiResCAM);
# Chattopadhyay et al., 2018, arXiv:1710.11063 (Grad-CAM++); Jiang et al., *LayerCAM*, 2021.

# %%
r"""Grad-CAM and CAM: where did a layer hold evidence for the class?

Run `python 05_gradcam.py` (seconds on two cores). Writes layers.png, mosaic.png, relu.png and wrong.png
to outputs/05_gradcam/.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from course.checks import Target, check_inputs, target_indices, target_logits
from course.figures import color_scale, show_map, show_photo
from course.probes import correlation, mosaic
from utils import (
    DATA_DIR,
    channel_reduce,
    describe_targets,
    displayable,
    find_class,
    import_lesson,
    load_image,
    predict,
    preprocess_image,
    recorded_output,
    upsample,
)

vanilla_gradient = import_lesson("01_vanilla_gradient_saliency").vanilla_gradient

# %% [markdown]
# ## The idea
#
# Let a network end in global average pooling and one linear layer. Then its score is a weighted sum of means, and a
# weighted sum of means is the mean of a weighted sum: of a *map*, whose mean is the score. That map is CAM. Grad-CAM
# asks the gradient for the weights instead, and so works for any network above any layer.
#
# ## The formula
#
# $$\text{CAM}_c = \sum_k w_k^c A_k, \qquad S_c = \tfrac{1}{hw} \sum_{ij} \text{CAM}_{c,ij} + b_c
# \qquad\text{(Zhou et al., eq. 1-2)}$$
#
# $$\alpha_k^c = \frac{1}{hw} \sum_{ij} \frac{\partial S_c}{\partial A_{k,ij}}, \qquad
# L_c = \mathrm{ReLU}\Big(\sum_k \alpha_k^c A_k\Big) \qquad\text{(Selvaraju et al., eq. 1-2)}$$
#
# | symbol | meaning | shape |
# | --- | --- | --- |
# | $A_k$ | activations of channel $k$ of the target layer | (h, w) |
# | $w_k^c$ | weight of channel $k$ in the linear layer's row $c$ | a number |
# | $\alpha_k^c$ | mean gradient of the logit with respect to channel $k$ | a number |
#
# On a network that ends as above $\partial S_c / \partial A_{k,ij} = w_k^c / (hw)$, so Grad-CAM = ReLU(CAM) / (hw).
#
# ## Step 1: the target layer

# %%
NO_MAP = (
    nn.Linear, nn.Dropout, nn.Flatten, nn.Identity, nn.Softmax,
    nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d,
)  # fmt: skip


def last_conv_layer(model: nn.Module) -> nn.Module:
    """The last stage of a network that still is a map: before the last pooling, after the last activation.

    It is found by the order in which the stages of `model.features`, or of the model, were registered. Right for
    torchvision's ResNet, VGG, SqueezeNet, DenseNet, MobileNet, EfficientNet, ConvNeXt and their like.

    Raises:
        ValueError: the network does not end in a convolutional stage; name the layer yourself.
    """
    container = getattr(model, "features", model)
    for stage in reversed(list(container.children())):
        if any(isinstance(part, nn.Conv2d) for part in stage.modules()):
            return stage
        simple = not list(stage.children())
        if simple and not isinstance(stage, NO_MAP) and isinstance(container, nn.Sequential):
            return stage                                               # VGG: the ReLU after the last convolution
        if not simple and not isinstance(stage, nn.Sequential):
            break                                                      # a transformer's encoder, for instance
    raise ValueError("found no convolutional stage at the end of this model; give layer= a module or its dotted name")


def find_layer(model: nn.Module, layer: nn.Module | str | None) -> nn.Module:
    """A module, a dotted name such as "layer3" or "features.12", or None for last_conv_layer -> the module."""
    if layer is None:
        return last_conv_layer(model)
    if isinstance(layer, nn.Module):
        return layer
    modules = dict(model.named_modules())
    if layer not in modules or not layer:
        near = difflib.get_close_matches(str(layer), modules, n=3)
        raise ValueError(f"the model has no layer {layer!r}; near: {', '.join(near) or 'nothing'}")
    return modules[layer]


def only_map(outputs: list) -> Tensor:
    """The one 4-D tensor that a layer returned, or a ValueError."""
    if len(outputs) != 1 or not isinstance(outputs[0], Tensor) or outputs[0].ndim != 4:
        got = [tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__ for out in outputs]
        raise ValueError(f"the layer must run once and return (B, C, h, w); it ran {len(outputs)} times and gave {got}")
    return outputs[0]


# %% [markdown]
# ## Step 2: activations and their gradient
#
# The graph starts at the target layer: its output is detached, so with frozen weights nothing below it is recorded, and
# the backward pass touches only what lies above. For the last layer of ResNet-50 that is pooling and one matrix, and
# Grad-CAM costs about one forward pass.


# %%
@torch.inference_mode(False)
@torch.enable_grad()
def activations_and_gradient(
    model: nn.Module, images: Tensor, target: Target, layer: nn.Module | str | None
) -> tuple[Tensor, Tensor]:
    """A and dS_c/dA of the target layer, both (B, C, h, w), detached."""
    check_inputs(model, images)
    with recorded_output(find_layer(model, layer), cut=True) as outputs:
        logits = model(images.detach().clone())                        # (B, K)
    A = only_map(outputs)
    (dA,) = torch.autograd.grad(target_logits(logits, target).sum(), A)
    return A.detach(), dA


def finish(maps: Tensor, images: Tensor, relu: bool, enlarge: bool) -> Tensor:
    """Evidence for the class only, if asked; bilinear to the images' size, if asked."""
    maps = maps.relu() if relu else maps
    return upsample(maps, images.shape[-2:]) if enlarge else maps


# %% [markdown]
# ## Step 3: Grad-CAM


# %%
def grad_cam(
    model: nn.Module,
    images: Tensor,
    target: Target = None,
    *,
    layer: nn.Module | str | None = None,
    relu: bool = True,
    upsample: bool = True,
) -> Tensor:
    """Grad-CAM: where did `layer` hold evidence for the class?

    Args:
        model: classifier in eval mode, (B, 3, H, W) -> logits (B, K).
        images: normalised images, (B, 3, H, W), float. Left as they are.
        target: None (each image's top class), one class index for all, or one per image.
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
# ## Step 4: CAM, and when the two are one


# %%
def cam(
    model: nn.Module,
    images: Tensor,
    target: Target = None,
    *,
    upsample: bool = True,
) -> Tensor:
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
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    with torch.no_grad(), recorded_output(last_conv_layer(model)) as outputs:
        logits = model(images.detach())                                # (B, K)
    target = target_indices(target, logits)
    A = only_map(outputs)                                              # (B, C, h, w)
    fits = len(linear) == 1 and linear[0].in_features == A.shape[1]
    if not fits or not torch.allclose(linear[0](A.mean(dim=(2, 3))), logits, rtol=1e-3, atol=1e-3):
        raise ValueError("CAM needs a network that ends in global average pooling and one linear layer; use grad_cam")
    # BEGIN SOLUTION 5.2
    w = linear[0].weight[target]                                       # (B, C): w_k^c
    maps = torch.einsum("bc,bchw->bhw", w, A)
    # END SOLUTION
    return finish(maps.detach(), images, False, upsample)


# %% [markdown]
# SqueezeNet ends in a 1 x 1 convolution with one channel per class, *ReLU*, then pooling. Pooling comes last, as with
# CAM, but the ReLU sits between the weighted sum and the mean: negative places do not count in the score, so the map's
# mean is not the logit. It is close to such a network and is not one; `cam` refuses it.
#
# ## Step 5: three relatives
#
# They differ only in how activations and gradient are combined before the sum over channels.


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

    Paper: Jiang et al., IEEE Transactions on Image Processing 30, 2021, eq. 5-6.
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
    """Grad-CAM++: a weighted mean of the positive gradient. Args and Returns as in grad_cam.

    The paper explains exp(S_c), whose derivatives are powers of dS_c/dA; the common factor exp(S_c) is left out.

    Paper: Chattopadhyay et al. 2018, arXiv:1710.11063, eq. 19 (alpha) and 5 (weights).
    """
    A, dA = activations_and_gradient(model, images, target, layer)
    # BEGIN SOLUTION 5.4
    denominator = 2 * dA**2 + A.sum(dim=(2, 3), keepdim=True) * dA**3
    alpha = dA**2 / torch.where(denominator != 0, denominator, 1)      # (B, C, h, w); 0 where the gradient is 0
    weights = (alpha * dA.relu()).sum(dim=(2, 3), keepdim=True)        # (B, C, 1, 1)
    maps = (weights * A).sum(dim=1)
    # END SOLUTION
    return finish(maps, images, True, upsample)


# %% [markdown]
# A sanity check you can break: on a network that ends in pooling and one linear layer, Grad-CAM is ReLU(CAM) / (hw).


# %%
def check_identities(model: nn.Module, images: Tensor, target: Tensor) -> None:
    """Grad-CAM = ReLU(CAM) / (hw) for networks that CAM can explain; nothing to check for the others."""
    try:
        maps = cam(model, images, target, upsample=False)
    except ValueError:
        return
    scaled = maps.relu() / maps[0].numel()
    assert torch.allclose(grad_cam(model, images, target, upsample=False), scaled, atol=1e-5 * scaled.max().item())


# %% [markdown]
# ## Step 6: how stable is a map?
#
# Grad-CAM is said to be more robust than the gradient. Add noise of 5 % of the value range, or move the picture by four
# pixels and the map back, and correlate with the undisturbed map.


# %%
def stability(model: nn.Module, image: Tensor, target: int, seed: int, pixels: int = 4) -> dict[str, float]:
    """Correlation of a disturbed map with the undisturbed one, for Grad-CAM and the gradient, noise and shift."""
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed)).to(image)
    noisy = image + 0.05 * (image.max() - image.min()) * noise
    shifted = image.roll((pixels, pixels), dims=(2, 3))
    inside = slice(pixels, -pixels)                                    # what rolled over the edge does not count
    methods = {"Grad-CAM": grad_cam, "gradient": lambda *args: channel_reduce(vanilla_gradient(*args))}
    numbers = {}
    for name, method in methods.items():
        plain = method(model, image, target)[0]
        back = method(model, shifted, target)[0].roll((-pixels, -pixels), dims=(0, 1))
        numbers[f"{name}, noise"] = correlation(plain, method(model, noisy, target)[0])
        numbers[f"{name}, shift"] = correlation(plain[inside, inside], back[inside, inside])
    return numbers


# %% [markdown]
# ## The pictures


# %%


def figure_layers(model: nn.Module, image: Tensor, target: int, layers: Sequence[str]) -> Figure:
    """Grad-CAM of one image at several layers, each on its own scale."""
    photo = displayable(image)[0]
    figure, axes = plt.subplots(1, len(layers) + 1, figsize=(3.1 * len(layers) + 3, 3.4), layout="constrained")
    show_photo(axes[0], photo, describe_targets(model, image, target)[0])
    for axis, name in zip(axes[1:], layers, strict=True):
        small = grad_cam(model, image, target, layer=name, upsample=False)
        title = f"{name}, {small.shape[1]} x {small.shape[2]}"
        show_map(axis, upsample(small, image.shape[-2:])[0], title=title, photo=photo)
    figure.suptitle("Grad-CAM layer by layer: finer but less about the class towards the input")
    return figure


def figure_mosaic(model: nn.Module, images: Tensor, targets: Sequence[int]) -> Figure:
    """One picture of four animals, and the map of each one's class; all maps on one scale."""
    picture = mosaic(images)
    photo = displayable(picture)[0]
    maps = grad_cam(model, picture.expand(4, -1, -1, -1), targets)
    scale = color_scale(*maps)
    figure, axes = plt.subplots(1, 5, figsize=(15.5, 3.5), layout="constrained")
    show_photo(axes[0], photo, "one picture")
    for axis, map, target in zip(axes[1:], maps, targets, strict=True):
        show_map(axis, map, scale, describe_targets(model, picture, target)[0], photo)
    figure.suptitle("Grad-CAM of four classes of the same picture, one scale")
    return figure


def figure_relu(model: nn.Module, images: Tensor, targets: Sequence[int]) -> Figure:
    """Grad-CAM, the signed map before ReLU, and what speaks against the class; one row an image and its target."""
    signed = grad_cam(model, images, targets, relu=False)
    figure, axes = plt.subplots(len(images), 4, figsize=(13, 3.3 * len(images)), squeeze=False, layout="constrained")
    for row, photo, map, image, target in zip(axes, displayable(images), signed, images, targets, strict=True):
        scale, against = color_scale(map.abs()), (-map).relu().sum() / map.abs().sum()
        show_photo(row[0], photo, describe_targets(model, image[None], target)[0])
        show_map(row[1], map.relu(), scale, "Grad-CAM: for the class", photo)
        show_map(row[2], map, title="before ReLU", photo=photo)
        show_map(row[3], (-map).relu(), scale, f"against the class: {against:.0%} of |map|", photo)
    figure.suptitle("What ReLU hides: counterfactual evidence is Grad-CAM of -logit (same scale in a row)")
    return figure


ABSENT = find_class("tabby")  # a class that is in none of the lesson's four animals
WRONG = ("duck.jpg", "cat.jpg", "moose.jpg")  # photographs that ResNet-50 gets wrong


def figure_wrong(model: nn.Module, device: str | torch.device) -> Figure:
    """The map of the class a network predicts, and of the right one if ImageNet has it; one row a photograph."""
    annotations = json.loads((DATA_DIR / "annotations.json").read_text())
    figure, axes = plt.subplots(len(WRONG), 3, figsize=(9.5, 3.3 * len(WRONG)), layout="constrained")
    for row, name in zip(axes, WRONG, strict=True):
        image, right = preprocess_image(load_image(name)).to(device), annotations[name]["class"]
        photo = displayable(image)[0]
        targets = [predict(model, image, k=1)[0][0][0]] + ([] if right is None else [right])
        maps = grad_cam(model, image.expand(len(targets), -1, -1, -1), targets)
        scale = color_scale(*maps)
        show_photo(row[0], photo, name)
        row[2].set_axis_off()
        if right is None:
            row[2].text(0.5, 0.5, "ImageNet has no class for it", ha="center", transform=row[2].transAxes)
        for axis, map, target, kind in zip(row[1:], maps, targets, ("predicted", "right"), strict=False):
            show_map(axis, map, scale, f"{kind}: {describe_targets(model, image, target)[0]}", photo)
    figure.suptitle("Wrong answers: predicted and right class, one scale a row")
    return figure




# %% [markdown]
# ## What the picture does not show
#
# - **Not the pixels.** One of 7 x 7 values covers 32 x 32 pixels, and has seen nearly the whole picture. The smooth
#   outline comes from bilinear interpolation.
# - **Not the evidence against.** ReLU removes it; relu.png gives its share, for a dog and for an absent tabby.
# - **Not lower layers.** At layer1 to layer3 the mean gradient says little about single places: the map spreads over
#   dog and grass alike.
# - **Not whether the answer is right.** In wrong.png the map of a wrong class lies on the animal as well: a map on the
#   object is no sign that the network is right.
# - **Not a comparison between pictures** once a map has been scaled to its own maximum.

# %% [markdown]
# ## Exercises
#
# **5.1 Grad-CAM** (difficulty 2, 15 minutes, 4 points). Fill in equations 1 and 2.
# *Hints:* a mean over places, a sum over channels · keep dimensions so that shapes broadcast · ReLU comes last.
#
# **5.2 CAM** (difficulty 2, 10 minutes, 3 points). Fill in `cam`. *First predict* what subtracting the maps of two
# classes shows. *Hints:* row c of the linear layer · one row an image.
#
# **5.3 Without the mean** (difficulty 2, 10 minutes, 3 points). Fill in HiResCAM and LayerCAM. On which networks do
# they equal Grad-CAM? *Hints:* where is the gradient constant? · which ReLU stands inside the sum?
#
# **5.4 Grad-CAM++** (difficulty 3, 20 minutes, 3 points). Fill in equations 19 and 5, and mind a denominator of zero.
# *Hints:* powers of the gradient, place by place · one sum over places in the denominator, one in the weights.
#
# **5.5 Coarse or robust?** (difficulty 3, 20 minutes, no code to submit). Shrink the gradient's map to 7 x 7 before you
# correlate. How much of Grad-CAM's lead is left?


# %%


# %% [markdown]
# ## Recap
#
# 1. CAM weights the last layer's channels by the linear layer's row; Grad-CAM takes the mean gradient for the weights.
# 2. On a network with pooling and one linear layer they are the same up to ReLU and 1 / (hw).
# 3. The map belongs to a layer and to a class: name both.
# 4. ReLU hides the evidence against: in relu.png 10 % of the map for a class that is in the picture, 22 % for one that
#    is not. Even for the absent tabby Grad-CAM finds a place, the dog: it always answers where, never whether.
# 5. On these pictures the claim holds that Grad-CAM is the more robust one: noise and a shift leave a correlation above
#    0.9 of its maps, and 0.2 to 0.6 of the gradient's. A map of 7 x 7 has less to move: exercise 5.5.

