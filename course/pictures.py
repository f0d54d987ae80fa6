"""Reading any picture safely, cropping it as the network sees it, and turning tensors back into pictures."""

from __future__ import annotations

import difflib
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms import functional as TF

from course.checks import one_line
from course.paths import DATA_DIR

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB in [0, 1]
IMAGENET_STD = (0.229, 0.224, 0.225)

FOLDERS = ", only folders; name these (with --method and --ray lesson 07 goes into them)"
MAX_PIXELS = 89_478_485  # Pillow's own limit, 256 MiB of RGB; Pillow alone would only warn
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


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
    file = find_picture(path)
    if file.is_dir():
        raise ValueError(f"{path} is a folder; name a picture inside it")
    if not file.exists():
        raise FileNotFoundError(f"there is no picture {path}{nearest(file) if file.parent == DATA_DIR else ''}")
    try:
        with Image.open(file) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            return as_rgb(ImageOps.exif_transpose(image))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{path} has more than {MAX_PIXELS:,} pixels; make it smaller first") from error
    except Exception as error:  # Pillow's readers raise almost anything on a damaged file
        raise ValueError(f"{path} is not a picture Pillow can read, or it is damaged ({one_line(error)})") from error


def find_picture(path: str | os.PathLike) -> Path:
    """Where a picture is: as named, or in data/ if that is a bare name and there is no such file here."""
    file = Path(path)
    return DATA_DIR / file if file.name == str(path) and not file.exists() else file


def nearest(file: Path) -> str:
    """For a bare name that is no photograph of data/: which are like it."""
    near = difflib.get_close_matches(file.name, [photo.name for photo in DATA_DIR.glob("*.jpg")])
    return ", neither here nor in data/" + f"; did you mean {' or '.join(near)}?" * bool(near)


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


def displayable(images: Tensor) -> np.ndarray:
    """Undo the normalisation: (B, 3, H, W) -> (B, H, W, 3) RGB in [0, 1]."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (images.detach().cpu().float() * std + mean).clamp(0, 1).permute(0, 2, 3, 1).numpy()


def is_picture(name: str | os.PathLike) -> bool:
    """Whether a file's name ends as a picture's does."""
    suffix = Path(name).suffix.lower()
    return Image.registered_extensions().get(suffix) in Image.OPEN


def list_pictures(names: Sequence[str | os.PathLike]) -> list[Path]:
    """Files and folders -> files; of a folder, what has a picture's suffix, sorted. A file need not exist."""
    files = []
    for name in map(Path, names):
        if name.is_dir():
            inside = sorted(file for file in name.iterdir() if is_picture(file) and file.is_file())
            if not inside:
                folders = any(file.is_dir() for file in name.iterdir())
                raise ValueError(f"{name} has no pictures in it" + FOLDERS * folders)
            files += inside
        else:
            files.append(name)
    return files
