"""EfficientNet-Lite0, which torchvision does not have: ReLU6 throughout, no squeeze and excitation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# (repeats, kernel, first stride, expansion, channels) of each stage, as in Google's efficientnet/lite
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
          (1, 3, 1, 6, 320))  # fmt: skip


def convolution(before: int, after: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Padding, convolution, batch norm; TensorFlow's padding, at stride 2 a pixel more below and on the right."""
    total = kernel - stride
    padding = [] if total <= 0 else [nn.ZeroPad2d((total // 2, total - total // 2) * 2)]
    conv = nn.Conv2d(before, after, kernel, stride, groups=groups, bias=False)
    return [*padding, conv, nn.BatchNorm2d(after, eps=1e-3)]


class InvertedResidual(nn.Module):
    """Expand by 1x1, one kernel per channel, project by 1x1; added to the input where shapes agree."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = before * expansion
        expand = [*convolution(before, hidden), nn.ReLU6(inplace=True)] if expansion > 1 else []
        depthwise = [*convolution(hidden, hidden, kernel, stride, groups=hidden), nn.ReLU6(inplace=True)]
        self.layers = nn.Sequential(*expand, *depthwise, *convolution(hidden, after))
        self.residual = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


class EfficientNetLite0(nn.Module):
    """Normalised images (B, 3, H, W), H and W multiples of 32 -> logits (B, 1000).

    The network was trained on (255 rgb - 127) / 128. Its first layer, a 1x1 convolution for each colour, turns
    preprocess_image's normalisation into that one, so that every method sees the same pixels as with other networks.
    Source: Google's efficientnet/lite; Tan, Le 2019, arXiv:1905.11946, for the family.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 3, 1, groups=3)]
        layers += [nn.Sequential(*convolution(3, 32, 3, 2), nn.ReLU6(inplace=True))]
        before = 32
        for repeats, kernel, stride, expansion, channels in STAGES:
            for i in range(repeats):
                layers.append(InvertedResidual(before, channels, kernel, stride if i == 0 else 1, expansion))
                before = channels
        layers.append(nn.Sequential(*convolution(before, 1280), nn.ReLU6(inplace=True)))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(1280, 1000)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(images)), 1))
