"""A VGG for cats and dogs, which torchvision does not have: half the width, with the class activation map built in."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from torchvision.models.vgg import make_layers

from course.checkpoints import read_checkpoint
from course.paths import DATA_DIR

COMMAND = "python -m advanced.train_vgg"
CHECKPOINT = DATA_DIR / "weights" / "vgg_cats_dogs.pt"
HALF_OF_VGG_11 = [32, "M", 64, "M", 128, 128, "M", 256, 256, "M", 256, 256]  # M: max-pooling, without VGG-11's last


class SmallVgg(nn.Module):
    """Convolutions, ReLU and max-pooling; the mean over all places; one linear layer. (B, 3, H, W) -> (B, 2)."""

    def __init__(self, batch_norm: bool = False) -> None:
        super().__init__()
        self.features, self.fc = make_layers(HALF_OF_VGG_11, batch_norm=batch_norm), nn.Linear(256, 2)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W), normalised -> logits (B, 2)."""
        return self.fc(self.features(images).mean(dim=(2, 3)))


def load_vgg(file: Path = CHECKPOINT) -> SmallVgg:
    """The trained network, frozen, in eval mode; RuntimeError as in read_checkpoint."""
    model = SmallVgg()
    model.load_state_dict(read_checkpoint(file, f"{COMMAND} FOLDER"))
    return model.requires_grad_(False).eval()
