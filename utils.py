r"""What all lessons share: pictures, networks, class labels, targets, maps, figures, the command line.

The methods themselves are not here: each is defined once, in its lesson.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import http.client
import importlib.util
import io
import os
import re
import socket
import sys
import threading
import urllib.request
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.transforms import functional as TF

PROJECT_ROOT = Path(__file__).resolve().parent
DATA_DIR = PROJECT_ROOT / "data"
OUTPUT_DIR = PROJECT_ROOT / "outputs"

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB in [0, 1]
IMAGENET_STD = (0.229, 0.224, 0.225)

# Name -> SHA-256 of data/weights/<name>.pt, as its conversion script prints it.
EMBEDDED = {
    "resnet50": "41f8e73c0a4feaff3a72498c5103874eeaef85f4a9a081b52ceeab38056ff160",
    "squeezenet1_1": "3303a9216a9dccf6f49c5107349d230d1c98deb10780e236edf24bc0f529f2f6",
}

MAX_PIXELS = 89_478_485  # Pillow's own limit, 256 MiB of RGB; Pillow alone would only warn
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


# Pictures


def load_image(path: str | os.PathLike) -> Image.Image:
    """Read a picture as upright 8-bit RGB.

    Args:
        path: a file; a bare name such as "dog.jpg" is also looked up in data/.

    Returns:
        RGB image: EXIF rotation applied, first frame of an animation, transparency on white.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a folder, not a picture, a damaged one, or one of more than MAX_PIXELS.
    """
    file = Path(path)
    if not file.exists() and file.name == str(path):
        file = DATA_DIR / file
    if file.is_dir():
        raise ValueError(f"{path} is a folder; name a picture inside it")
    if not file.exists():
        names = sorted(sample.name for sample in DATA_DIR.glob("*.jpg"))
        raise FileNotFoundError(f"there is no picture {path}; data/ has {', '.join(names)}")
    try:
        with Image.open(file) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            return as_rgb(ImageOps.exif_transpose(image))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{path} has more than {MAX_PIXELS:,} pixels; make it smaller first") from error
    except Exception as error:  # Pillow's readers raise almost anything on a damaged file
        raise ValueError(f"{path} is not a picture Pillow can read, or it is damaged ({one_line(error)})") from error


def as_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode -> 8-bit RGB, transparency flattened on white."""
    if image.mode.startswith("I"):  # 16 bits a pixel; Pillow's own conversion would clip at 255
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    elif image.mode == "F":  # floats have no agreed range
        pixels = np.nan_to_num(np.asarray(image))
        span = max(float(np.ptp(pixels)), np.finfo(np.float32).tiny)
        image = Image.fromarray(((pixels - pixels.min()) / span * 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def crop_picture(image: Image.Image, size: int = 224) -> Image.Image:
    """The size x size pixels the network sees: shorter side to 256/224 of size, then the centre."""
    image = as_rgb(image)
    longest = 4 * min(image.size)
    if max(image.size) > longest:  # a 20,000 x 1 strip would grow to 5,120,000 x 256 otherwise
        image = TF.center_crop(image, [min(image.height, longest), min(image.width, longest)])
    return TF.center_crop(TF.resize(image, round(size * 256 / 224)), [size, size])


def preprocess_image(image: Image.Image, size: int = 224) -> Tensor:
    """Picture -> network input.

    Args:
        image: any Pillow image.
        size: side of the square the network gets, in pixels.

    Returns:
        (1, 3, size, size) float32 leaf tensor, normalised with ImageNet's mean and standard
        deviation: 0 is the mean colour, the values lie between about -2.1 and 2.6.

    Raises:
        TypeError: not a Pillow image.
    """
    if not isinstance(image, Image.Image):
        raise TypeError(f"preprocess_image needs a Pillow image, got {type(image).__name__}; see load_image")
    pixels = TF.to_tensor(crop_picture(image, size))                   # (3, size, size) in [0, 1]
    return TF.normalize(pixels, IMAGENET_MEAN, IMAGENET_STD)[None]


def displayable(images: Tensor) -> np.ndarray:
    """Undo the normalisation: (B, 3, H, W) -> (B, H, W, 3) RGB in [0, 1]."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (images.detach().cpu().float() * std + mean).clamp(0, 1).permute(0, 2, 3, 1).numpy()


# Networks


def load_model(name: str = "resnet50", device: str | torch.device | None = None) -> nn.Module:
    """A classifier prepared for attribution: eval mode, frozen, batch norm folded, channels_last.

    Args:
        name: "resnet50" or "squeezenet1_1" (embedded in data/weights/, never any network access),
            or any other classification model of torchvision, with torchvision's default weights. A few of
            those want another size or normalisation than preprocess_image's; their weights' transforms() say so.
        device: where to put it; None is the CPU.

    Returns:
        Module: normalised images (B, 3, H, W) -> logits (B, 1000).

    Raises:
        ValueError: unknown name (the message lists the nearest), or no such device here.
        RuntimeError: a weight file is missing or damaged.
        ConnectionError: torchvision's weights could not be downloaded.
    """
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        near = difflib.get_close_matches(str(name).lower(), known, n=3, cutoff=0.4) or list(EMBEDDED)
        raise ValueError(f"there is no model {name!r}; did you mean {', '.join(near)}?")
    check_device(device)
    model = embedded_network(name) if name in EMBEDDED else torchvision_network(name)
    model = fold_batch_norm(model.eval()).requires_grad_(False)
    return model.to(device=device, memory_format=torch.channels_last)


def check_device(device: str | torch.device | None) -> None:
    """Raise ValueError if tensors cannot live on `device` here."""
    try:
        torch.empty(0, device=device)
    except Exception as error:  # RuntimeError, AssertionError or ImportError, as the device's module likes
        raise ValueError(f"device {str(device)!r} is not available here; use 'cpu'") from error


def embedded_network(name: str) -> nn.Module:
    """The network of data/weights/<name>.pt, as torchvision builds it."""
    with torch.device("meta"):  # no random initialisation that would be overwritten anyway
        model = torchvision.models.get_model(name, weights=None)
    if name == "resnet50":
        put_stride_in_first_convolution(model)
    model.load_state_dict(read_embedded(name), assign=True)
    return model


def put_stride_in_first_convolution(model: nn.Module) -> None:
    """He et al.'s ResNet halves the resolution in a stage's first 1x1, torchvision's in its 3x3."""
    for stage in (model.layer2, model.layer3, model.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)


def read_embedded(name: str) -> dict[str, Tensor]:
    """State dict of data/weights/<name>.pt as float32, once its SHA-256 is right."""
    file = DATA_DIR / "weights" / f"{name}.pt"
    data = file.read_bytes() if file.exists() else b""
    if hashlib.sha256(data).hexdigest() != EMBEDDED[name]:
        raise RuntimeError(
            f"data/weights/{name}.pt is missing, truncated or altered; restore it with "
            f"`git checkout -- data/weights/{name}.pt` or a fresh copy of the project"
        )
    state = torch.load(io.BytesIO(data), weights_only=True)
    return {key: tensor.float() for key, tensor in state.items()}


def torchvision_network(name: str, patience: float = 10) -> nn.Module:
    """A network with torchvision's default weights, through its cache and progress bar.

    Gives up when the server is silent for `patience` seconds: torch.hub sets no time limit of its own.
    """
    url = torchvision.models.get_model_weights(name).DEFAULT.url
    cached = Path(torch.hub.get_dir(), "checkpoints", Path(url).name)
    was_cached, timeout = cached.exists(), socket.getdefaulttimeout()
    socket.setdefaulttimeout(patience)
    try:
        if not was_cached and not answers(url, patience):
            raise TimeoutError("no answer")
        with torch.random.fork_rng(devices=[]):
            return torchvision.models.get_model(name, weights="DEFAULT")
    except Exception as error:  # a damaged file makes torch.load raise almost anything
        if was_cached:
            raise RuntimeError(f"{cached} is damaged; delete it and try again ({one_line(error)})") from error
        raise ConnectionError(
            f"the weights of {name} could not be downloaded ({one_line(error)}); "
            f"{' and '.join(EMBEDDED)} are embedded and need no network"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)


def one_line(value: object) -> str:
    """A value's text without line breaks, for error messages."""
    return " ".join(str(value).split())


def answers(url: str, seconds: float) -> bool:
    """Whether a server answers in time; in a thread, because name resolution knows no time limit."""
    answered = threading.Event()

    def ask() -> None:
        with suppress(OSError, http.client.HTTPException):
            request = urllib.request.Request(url, method="HEAD")
            urllib.request.urlopen(request, timeout=seconds).close()
            answered.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return answered.is_set()


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """Merge every batch norm into the convolution before it, in place: the same function, faster.

    In eval mode batch norm is a fixed affine map, y = gamma (Wx + b - mean) / sqrt(var + eps) + beta,
    so W gamma / sqrt(var + eps) and one bias do the work of both layers. Together with channels_last and
    frozen weights, gradients of ten images through ResNet-50 take 0.8 of the time (`make bench`, 2 cores).
    In float64 nothing changes to 1e-9; in float32 ReLUs within rounding of 0 flip, as they do between any two
    orders of summation, and a ResNet-50 gradient may differ by some 0.3 % of its maximum.
    Module names stay (`layer4`, `conv1` ... can still be hooked); a folded batch norm becomes an
    nn.Identity. A batch norm that does not directly follow a convolution is left alone.

    Args:
        model: any module in eval mode whose forward torch.fx can trace.

    Returns:
        The same module.

    Raises:
        ValueError: the model is in train mode, or torch.fx cannot trace it.
    """
    if any(module.training for module in model.modules()):
        raise ValueError("fold_batch_norm needs model.eval(): in train mode batch norm is not a fixed map")
    modules = dict(model.named_modules())
    if not any(isinstance(module, nn.BatchNorm2d) for module in modules.values()):
        return model
    try:
        nodes = list(torch.fx.symbolic_trace(model).graph.nodes)  # the order in which layers really run
    except Exception as error:  # tracing runs the user's forward, which may raise anything
        raise ValueError(f"torch.fx cannot trace this model ({one_line(error)}); use it without folding") from error
    runs = [node.target for node in nodes if node.op == "call_module"]
    read = {node.target.rpartition(".")[0] for node in nodes if node.op == "get_attr"}  # weights used directly
    for node in nodes:
        norm = modules.get(node.target) if node.op == "call_module" else None
        if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None:
            continue
        (before,) = node.all_input_nodes
        conv = modules.get(before.target) if before.op == "call_module" else None
        alone = len(before.users) == 1 and runs.count(before.target) == runs.count(node.target) == 1
        plain = type(conv) is nn.Conv2d and not conv._forward_hooks and not read & {before.target, node.target}
        if plain and alone:
            conv.weight, conv.bias = fuse_conv_bn_weights(
                conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )
            parent, _, name = node.target.rpartition(".")
            setattr(model.get_submodule(parent), name, nn.Identity().eval())
    return model


@contextmanager
def recorded_output(layer: nn.Module, *, cut: bool = False) -> Iterator[list]:
    """Collect what `layer` returns, one entry a call; the hook is gone on exit, after an error too.

    With `cut` the graph starts at the record: it is detached and requires grad, and nothing below is differentiated.
    """
    outputs = []

    def hook(_layer: nn.Module, _inputs: tuple, output):
        if cut and isinstance(output, Tensor):
            output = output.detach().requires_grad_()
        outputs.append(output)
        # Pitfall: a later in-place ReLU would overwrite our record, so the network goes on with a copy
        return output.clone() if isinstance(output, Tensor) else None

    handle = layer.register_forward_hook(hook)
    try:
        yield outputs
    finally:
        handle.remove()


# Classes and targets


def class_names() -> list[str]:
    """The 1000 ImageNet labels in the order of the logits, from torchvision's weights metadata."""
    return list(torchvision.models.ResNet50_Weights.DEFAULT.meta["categories"])


def find_class(name: str | int) -> int:
    """A label, a unique part of one, or an index -> index; ValueError lists what else it could be."""
    names, text = class_names(), str(name).strip()
    if re.fullmatch(r"-?[0-9]+", text):
        if 0 <= int(text) < len(names):
            return int(text)
        raise ValueError(f"class index {text} is outside 0..{len(names) - 1}")
    if text in names:  # "Cardigan" is a dog, "cardigan" a garment
        return names.index(text)
    parts = [index for index, label in enumerate(names) if text and text.lower() in label.lower()]
    whole = [index for index in parts if names[index].lower() == text.lower()]
    for found in (whole, parts):
        if len(found) == 1:
            return found[0]
    near = [names[i] for i in parts] or difflib.get_close_matches(text, names, n=3, cutoff=0.5)
    hint = f"; it could be {', '.join(near[:8])}" if near else ""
    raise ValueError(f"{name!r} is not one ImageNet label{hint}")


@torch.inference_mode()
def predict(model: nn.Module, images: Tensor, k: int = 5) -> list[list[tuple[int, str, float]]]:
    """Per image, the k most probable classes as (index, label, probability), best first."""
    check_inputs(model, images)
    check_counts(k=k)
    logits = check_logits(model(images))
    labels = class_labels(logits)
    top = logits.float().softmax(dim=1).topk(min(k, len(labels)))
    return [
        [(index, labels[index], probability) for index, probability in zip(*row, strict=True)]
        for row in zip(top.indices.tolist(), top.values.tolist(), strict=True)
    ]


def class_labels(logits: Tensor) -> list[str]:
    """A label for each of the K logits: ImageNet's if there are 1000, else "class 0", "class 1" ..."""
    classes = logits.shape[1]
    return class_names() if classes == 1000 else [f"class {i}" for i in range(classes)]


def describe_targets(model: nn.Module, images: Tensor, target: int | Tensor | None = None) -> list[str]:
    """Per image "label 0.98", the target's (default: the top class's) label and probability."""
    with torch.inference_mode():
        logits = model(images)
    indices = target_indices(target, logits)
    probabilities = target_logits(logits.softmax(dim=1), indices)
    labels = class_labels(logits)
    return [f"{labels[i]} {p:.2f}" for i, p in zip(indices.tolist(), probabilities.tolist(), strict=True)]


def check_inputs(model: nn.Module, images: Tensor) -> None:
    """Refuse, in one sentence, what would make an attribution wrong without a word.

    Raises:
        ValueError: images are no finite float (B, C, H, W) tensor, or a part of the model is in train mode.
    """
    if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point():
        got = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(f"images must be a float tensor (B, C, H, W), see preprocess_image; got {got}")
    if not images.isfinite().all():
        raise ValueError("images contain NaN or infinity; look at how they were preprocessed")
    if any(module.training for module in model.modules()):
        raise ValueError("the model is in train mode, where dropout and batch norm change the map: call model.eval()")


def check_counts(**counts: int) -> None:
    """Refuse an argument that is not a whole number of at least 1."""
    for name, value in counts.items():
        if not is_whole(value) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")


def is_whole(value: object) -> bool:
    """Whether a value is an integer of Python or NumPy; True and False are none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def expand_baseline(baseline: Tensor, images: Tensor) -> Tensor:
    """A baseline that broadcasts to the images -> (B, C, H, W) in their dtype and on their device; else ValueError."""
    try:
        fits = torch.broadcast_shapes(baseline.shape, images.shape) == images.shape
    except RuntimeError:
        fits = False
    if not fits or not baseline.isfinite().all():
        raise ValueError(f"baseline {tuple(baseline.shape)} must be finite and broadcast to {tuple(images.shape)}")
    return baseline.detach().to(images).expand_as(images)


def check_logits(logits: Tensor) -> Tensor:
    """The logits themselves, or a ValueError if they are not (B, K)."""
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"the model must return logits (B, K), got {got}; wrap it so that it does")
    return logits


def target_indices(target: int | Sequence[int] | Tensor | None, logits: Tensor) -> Tensor:
    """One class a image, (B,) int64.

    Args:
        target: None (each image's own top class), one class for all, or one a image.
        logits: (B, K), for B, K and the top classes.

    Raises:
        ValueError: not whole numbers, not B of them, or outside 0..K-1.
    """
    batch, classes = check_logits(logits).shape
    if target is None:
        return logits.argmax(dim=1)
    values = target.tolist() if isinstance(target, Tensor | np.ndarray) else target
    values = list(values) if isinstance(values, list | tuple | range) else [values] * batch
    values = [value.tolist() if isinstance(value, Tensor | np.generic) else value for value in values]
    if len(values) != batch:
        raise ValueError(f"target has {len(values)} classes for {batch} images; give one, or one a image")
    if not all(map(is_whole, values)):
        raise ValueError(f"target must be class indices (find_class finds a label's), got {one_line(repr(target))}")
    if any(not 0 <= value < classes for value in values):
        raise ValueError(f"target {values} is outside 0..{classes - 1}")
    return torch.tensor(values, device=logits.device, dtype=torch.long)


def target_logits(logits: Tensor, target: int | Sequence[int] | Tensor | None) -> Tensor:
    """S_c of each image: (B, K) logits -> (B,), `target` as in target_indices."""
    return logits.gather(1, target_indices(target, logits)[:, None])[:, 0]


# Maps


def correlation(first: Tensor, second: Tensor) -> float:
    """Pearson correlation of two maps, pixel by pixel; NaN if one is constant."""
    return torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1].item()


def channel_reduce(attribution: Tensor, how: str = "max_abs") -> Tensor:
    """(B, C, H, W) -> (B, H, W): "max_abs" (Simonyan et al.), "sum_abs", or "sum", which keeps the sign."""
    if attribution.ndim != 4:
        raise ValueError(f"attribution must be (B, C, H, W), got {tuple(attribution.shape)}")
    if how == "max_abs":
        return attribution.abs().amax(dim=1)
    if how == "sum_abs":
        return attribution.abs().sum(dim=1)
    if how == "sum":
        return attribution.sum(dim=1)
    raise ValueError(f"how must be 'max_abs', 'sum_abs' or 'sum', got {how!r}")


def normalize_map(maps: Tensor) -> Tensor:
    """Each map of (..., H, W) to [0, 1] by its own minimum and maximum; a constant one becomes zeros.

    For display only: two maps scaled this way cannot be compared, and the zero of a signed map moves.
    """
    if not maps.isfinite().all():
        raise ValueError("a map contains NaN or infinity and cannot be normalised")
    maps = maps.to(torch.promote_types(maps.dtype, torch.float32))     # max - min could overflow in float16
    low, high = maps.amin(dim=(-2, -1), keepdim=True), maps.amax(dim=(-2, -1), keepdim=True)
    span = high - low
    return (maps - low) / torch.where(span > 0, span, 1)


def upsample(maps: Tensor, size: int | tuple[int, int]) -> Tensor:
    """(B, h, w) -> (B, H, W), bilinear, align_corners=False; size is (H, W) or one number for both."""
    return F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]


# Figures


def color_scale(*maps: Tensor | np.ndarray, percentile: float = 99.5) -> dict:
    """matplotlib colours for one or several maps on one scale.

    Any negative value: diverging and symmetric about 0. None: sequential from 0. The scale ends at the
    given percentile of |map|, because a few extreme pixels would leave the rest of the picture blank.
    """
    values = np.concatenate([np.ravel(torch.as_tensor(map).detach().cpu().float()) for map in maps])
    limit = float(np.percentile(np.abs(values), percentile)) or float(np.abs(values).max()) or 1.0
    signed = values.min() < 0
    return {"cmap": "RdBu_r" if signed else "inferno", "vmin": -limit if signed else 0.0, "vmax": limit}


def show_photo(axis: Axes, photo: np.ndarray, title: str = "") -> None:
    """Draw an RGB array without ticks."""
    axis.imshow(photo)
    axis.set_title(title, fontsize=10)
    axis.set_axis_off()


def show_map(
    axis: Axes, map: Tensor, scale: dict | None = None, title: str = "", photo: np.ndarray | None = None
) -> None:
    """Draw a (H, W) map with a colour bar; over a grey `photo`, if given, stronger values more opaque."""
    values = map.detach().cpu().float().numpy()
    scale = scale or color_scale(values)
    extent = None if photo is None else (0, photo.shape[1], photo.shape[0], 0)
    alpha = None
    if photo is not None:
        axis.imshow(photo.mean(axis=2), cmap="gray", vmin=0, vmax=1, extent=extent)
        alpha = np.sqrt(np.clip(np.abs(values) / scale["vmax"], 0, 1)) * 0.85
    drawn = axis.imshow(values, **scale, alpha=alpha, extent=extent, interpolation="nearest")
    if photo is None:
        bar = axis.figure.colorbar(drawn, ax=axis, fraction=0.046, pad=0.03)
        bar.ax.tick_params(labelsize=7)
        bar.formatter.set_powerlimits((-2, 3))
    axis.set_title(title, fontsize=10)
    axis.set_axis_off()


def visualize_saliency(
    image: Image.Image | Tensor,
    saliency: Tensor | np.ndarray,
    path: str | os.PathLike | None = None,
    title: str | None = None,
) -> Figure:
    """Photo, map and overlay side by side, aligned as preprocess_image crops.

    Args:
        image: the picture given to preprocess_image, or a normalised tensor (3, H, W) or (1, 3, H, W).
        saliency: (H, W), (1, H, W) or (1, 1, H, W), finite. Signed maps get a diverging scale about 0.
        path: where to save the figure; its folder is made. Without it, plt.show() opens a window.
        title: heading of the figure: method, class, probability.

    Raises:
        ValueError: the map has another shape, NaN or infinity, or does not fit the image.
        TypeError: the image is neither a Pillow image nor a tensor.
    """
    map = saliency if isinstance(saliency, Tensor) else torch.from_numpy(np.ascontiguousarray(saliency))
    shape, map = tuple(map.shape), map.detach().cpu().float()
    while map.ndim > 2 and map.shape[0] == 1:
        map = map[0]
    if map.ndim != 2 or map.numel() == 0:
        raise ValueError(f"saliency must be one map (H, W), got {shape}")
    if not map.isfinite().all():
        raise ValueError("saliency contains NaN or infinity; a picture of it would mislead")
    height, width = map.shape
    if isinstance(image, Tensor):
        if image.ndim == 4 and len(image) != 1:
            raise ValueError(f"one map needs one image, got {len(image)}")
        photo = displayable(image if image.ndim == 4 else image[None])[0]
        if photo.shape[:2] != map.shape:
            raise ValueError(f"the map is {tuple(map.shape)}, the image {photo.shape[:2]}; see upsample")
    elif not isinstance(image, Image.Image):
        raise TypeError(f"image must be a Pillow image (see load_image) or a tensor, got {type(image).__name__}")
    elif height == width:  # what preprocess_image cropped; a coarse map covers the same square
        photo = np.asarray(crop_picture(image, max(height, 224))) / 255
    elif (width, height) == image.size:
        photo = np.asarray(as_rgb(image)) / 255
    else:
        raise ValueError(f"a {height} x {width} map fits neither the centre crop nor the {image.size} picture")
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
    show_photo(axes[0], photo, "input")
    show_map(axes[1], map, title="map")
    show_map(axes[2], map, title="overlay", photo=photo)
    figure.suptitle(title or "")
    return finish_figure(figure, path)


def finish_figure(figure: Figure, path: str | os.PathLike | None = None, keep_open: bool = False) -> Figure:
    """Save under a temporary name, rename, close. Unsaved figures stay open for plt.show()."""
    if path is None:
        if "inline" in matplotlib.get_backend():  # a notebook shows what a cell returns; open, it would do so twice
            plt.close(figure)
        return figure
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    try:
        figure.savefig(partial, dpi=110, format=path.suffix[1:] or "png")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
        if not keep_open:
            plt.close(figure)
    return figure


# Lessons


def import_lesson(name: str) -> ModuleType:
    """A lesson as a module: import_lesson("05_gradcam"). (Python's import takes no name that starts with a digit.)"""
    file = PROJECT_ROOT / f"{name}.py"
    if not file.exists():
        lessons = sorted(path.stem for path in PROJECT_ROOT.glob("0*_*.py"))
        raise ValueError(f"there is no lesson {name!r}; there are {', '.join(lessons)}")
    key = f"lesson_{name}"
    if key not in sys.modules:
        spec = importlib.util.spec_from_file_location(key, file)
        module = importlib.util.module_from_spec(spec)
        sys.modules[key] = module  # before it runs: dataclasses look their module up there
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[key]
            raise
    return sys.modules[key]


def lesson_parser(lesson: str, summary: str, images: Sequence[str]) -> argparse.ArgumentParser:
    """The options every lesson has; `lesson` names the folder under outputs/, `images` the default pictures."""
    parser = argparse.ArgumentParser(prog=f"{lesson}.py", description=summary)
    add = parser.add_argument
    add("--image", action="append", metavar="PATH", help=f"file or folder, repeatable (default: {' '.join(images)})")
    add("--model", help="resnet50, squeezenet1_1 or a torchvision name (default: resnet50; squeezenet1_1 with --quick)")
    add("--target", help="class index or label to explain (default: each image's top class)")
    add("--device", default="cpu", help="cpu, cuda or mps (default: %(default)s)")
    add("--seed", type=int, default=0, help="of all random draws (default: %(default)s)")
    add("--output-dir", type=Path, default=OUTPUT_DIR / lesson, help=f"for figures (default: outputs/{lesson})")
    add("--quick", action="store_true", help="the small network and less of everything")
    add("--show", action="store_true", help="open the figures in windows as well")
    parser.set_defaults(default_images=tuple(images))
    return parser


def list_pictures(names: Sequence[str | os.PathLike]) -> list[Path]:
    """Files and folders -> files; of a folder, what has a picture's suffix, sorted. A file need not exist."""
    suffixes = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    files = []
    for name in map(Path, names):
        if name.is_dir():
            inside = sorted(file for file in name.iterdir() if file.suffix.lower() in suffixes and file.is_file())
            if not inside:
                raise ValueError(f"{name} has no pictures in it")
            files += inside
        else:
            files.append(name)
    return files


def lesson_images(args: argparse.Namespace) -> tuple[list[str], Tensor]:
    """The pictures named by --image, folders opened: their names and (N, 3, 224, 224) on --device."""
    files = list_pictures(args.image or args.default_images)
    images = torch.cat([preprocess_image(load_image(file)) for file in files])
    return [file.name for file in files], images.to(args.device)


def lesson_model(args: argparse.Namespace) -> nn.Module:
    """The network named by --model, on --device."""
    return load_model(args.model or ("squeezenet1_1" if args.quick else "resnet50"), args.device)


def lesson_target(args: argparse.Namespace) -> int | None:
    """--target as a class index, None if it was not given."""
    return None if args.target is None else find_class(args.target)


def print_table(header: Sequence[str], rows: Sequence[Sequence]) -> None:
    """Columns as wide as their longest entry; floats with four significant digits."""
    cells = [[f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def save_figures(args: argparse.Namespace, figures: dict[str, Figure]) -> None:
    """Write each figure to --output-dir under its name, say where, and open windows if --show was given."""
    for name, figure in figures.items():
        finish_figure(figure, args.output_dir / name, keep_open=args.show)
        print(f"wrote {args.output_dir / name}")
    if args.show:
        plt.show()


def run_lesson(main: Callable[[], int]) -> int:
    """Run a lesson's main as a program: a failure is one sentence and exit status 1."""
    if "--show" not in sys.argv:
        matplotlib.use("Agg")  # no window, no display needed
    try:
        return main()
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        sentence = one_line(error)
        if isinstance(error, NotImplementedError) and re.fullmatch(r"\d\.\d+", sentence):
            sentence = f"exercise {sentence} is not solved yet; look for EXERCISE {sentence} in lesson 0{sentence[0]}"
        print(f"error: {sentence}", file=sys.stderr)
        return 1
