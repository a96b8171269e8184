"""A small convolutional network for faint structure: it learns within a minute of a laptop's CPU.

Nothing is pooled away before the end but by strides, and both the mean and the maximum of the last features are judged:
one clump on an arc is a maximum, and changes the mean of hundreds of pixels by little.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SmallCNN(nn.Module):
    """Five 3x3 convolutions on pixels folded 2x2, at two strides.

    Args:
        channels: C of the images.
        outputs: of the head; with 0 the pooled features themselves come out.
        width: channels of the first layer; the last has four times as many.
    """

    def __init__(self, channels: int, outputs: int, width: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(2),
            *_layer(4 * channels, width),
            *_layer(width, 2 * width, 2),
            *_layer(2 * width, 2 * width),
            *_layer(2 * width, 4 * width, 2),
            *_layer(4 * width, 4 * width),
        )
        self.head = nn.Linear(8 * width, outputs) if outputs else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Images `[B, C, H, W]`, H and W even -> `[B, outputs]`, or features `[B, 8 * width]`."""
        found = self.layers(images)
        return self.head(torch.cat([found.mean((2, 3)), found.amax((2, 3))], 1))


def _layer(inputs: int, outputs: int, stride: int = 1) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
