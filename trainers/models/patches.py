"""Whole patches: images padded until patches cut them, and images beside which their shifted copies stand."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional


def padded_size(height: int, width: int, patch: int) -> tuple[int, int]:
    """The least height and width, at least those given, that `patch` divides."""
    return height + -height % patch, width + -width % patch


def pad_to_patches(images: Tensor, patch: int) -> Tensor:
    """Images `[B, C, H, W]` with as many zeros around them as whole patches need, as evenly as can be.

    Zero is the sky after the asinh transform, and an image's least pixel after minmax.
    """
    height, width = images.shape[-2:]
    down, across = -height % patch, -width % patch
    return functional.pad(images, (across // 2, across - across // 2, down // 2, down - down // 2))


def visible_pixels(patches: Tensor, images: Tensor, patch: int) -> Tensor:
    """1 where a pixel of `images` `[B, C, H, W]` is of one of the patches `[B, K]`, else 0: `[B, 1, H, W]`.

    Args:
        patches: numbers row by row, of the image as `pad_to_patches` has it.
    """
    height, width = images.shape[-2:]
    down, across = -height % patch, -width % patch
    grid = images.new_zeros(len(images), 1, (height + down) // patch, (width + across) // patch)
    grid.flatten(1).scatter_(1, patches, 1.0)  # a view
    pixels = grid.repeat_interleave(patch, -2).repeat_interleave(patch, -1)
    return pixels[..., down // 2 : down // 2 + height, across // 2 : across // 2 + width]


class OfWholePatches(nn.Module):
    """A model that sees images `[B, C, H, W]` of any size padded to whole patches.

    Args:
        model: for images of `padded_size`.
        patch: side of its patches [pixels].
    """

    def __init__(self, model: nn.Module, patch: int) -> None:
        super().__init__()
        self.model, self.patch = model, patch

    def forward(self, images: Tensor) -> Tensor:
        return self.model(pad_to_patches(images, self.patch))


def with_diagonal_shifts(images: Tensor, patch: int) -> Tensor:
    """Images `[B, C, H, W]` and beside them, as channels, the same shifted by half a patch along the four diagonals.

    `[B, 5 C, H, W]`, H and W at least a patch; zeros come in from outside. So a patch shows what is around it too (Lee
    et al. 2021, arXiv 2112.13492, section 3.1).
    """
    step = max(1, patch // 2)
    moved = [functional.pad(images, (x, -x, y, -y)) for y, x in product((-step, step), repeat=2)]
    return torch.cat((images, *moved), dim=1)
