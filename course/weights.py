"""Networks: embedded weights, downloads, folding of batch norm, and calculating in bfloat16."""

from __future__ import annotations

import copy
import hashlib
import http.client
import io
import socket
import threading
import urllib.request
import warnings
from contextlib import suppress
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from course.checks import one_line
from course.efficientnet_lite import EfficientNetLite0
from course.layers import as_modules
from course.paths import DATA_DIR

# Name -> SHA-256 of data/weights/<name>.pt, as its conversion script prints it.
EMBEDDED = {
    "resnet50": "41f8e73c0a4feaff3a72498c5103874eeaef85f4a9a081b52ceeab38056ff160",
    "squeezenet1_1": "3303a9216a9dccf6f49c5107349d230d1c98deb10780e236edf24bc0f529f2f6",
    "efficientnet_lite0": "e3735950f0990d7d7c1e4b9c61ea6d2f6d3e2ced511d2218fb66241d5c1a1b4d",
}


def embedded_network(name: str) -> nn.Module:
    """The network of data/weights/<name>.pt, as torchvision builds it, or as course/efficientnet_lite.py does."""
    with torch.device("meta"):  # no random initialisation that would be overwritten anyway
        own = name == "efficientnet_lite0"
        model = EfficientNetLite0() if own else torchvision.models.get_model(name, weights=None)
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
    frozen weights, gradients of eight images through ResNet-50 take 1 / 1.5 of the time that they take in torchvision's
    network (data/results/speed.md: vanilla gradient, captum).
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


def in_bfloat16(model: nn.Module) -> nn.Module:
    """A copy of a network that calculates in bfloat16 and is used as before: float32 images in, float32 logits out.

    bfloat16 has the range of float32 and two to three significant digits. A map may have fewer: ReLUs near 0 change
    sides, and a plain gradient is a third wrong (data/results/bfloat16.md). Images stay float32, and so do gradients
    with respect to them, points of a path, and sums over samples. The weights are cast once, here: torch.autocast casts
    frozen weights anew at every call, which costs a fifth of the time of a ResNet-50.

    Warns:
        RuntimeWarning: the network's device has no arithmetic for bfloat16, so that it will not be faster.
    """
    network = as_modules(copy.deepcopy(model)).bfloat16()              # whose hooks below stay, also for a DenseNet
    weight = next(network.parameters(), torch.empty(0))
    if not has_bfloat16(weight.device):
        what = "AMX nor AVX512-BF16" if weight.device.type == "cpu" else "arithmetic for it"
        warnings.warn(f"bfloat16 will not be faster on {weight.device}: it has no {what}", RuntimeWarning, stacklevel=2)
    network.register_forward_pre_hook(to_dtype_of_weights)
    network.register_forward_hook(to_float32)
    return network


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device calculates in bfloat16 itself; of other devices than CPU and CUDA it is assumed."""
    if device.type == "cpu":
        return any(there for name, there in torch.cpu.get_capabilities().items() if "bf16" in name)
    return device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)


def to_dtype_of_weights(network: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Hook: images in the dtype of the network's weights, which a copy may have changed again."""
    dtype = next((weight.dtype for weight in network.parameters()), torch.bfloat16)
    return tuple(value.to(dtype) if isinstance(value, Tensor) else value for value in inputs)


def to_float32(_network: nn.Module, _inputs: tuple, logits: Tensor) -> Tensor:
    """Hook: logits of at least float32's precision."""
    return logits.float() if logits.dtype is torch.bfloat16 else logits
