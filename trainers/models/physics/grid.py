"""Where the pixels of an image are, and how much larger a grid must be to hold them once they are moved.

Positions are in pixels from the middle of the image, x growing with the column and y with the row: lensgen's grid with
pixels of 1 arcsec.
"""

from __future__ import annotations

import torch
from torch import Tensor


def _half(size: int) -> float:
    """From the middle to the centre of the outermost pixel; a single pixel has half its side."""
    return max((size - 1) / 2, 0.5)


def pixel_positions(images: Tensor) -> tuple[Tensor, Tensor]:
    """x and y of the centres of the pixels of `[B, C, H, W]`, two tensors `[H * W]`, row by row.

    On the images' device and in their dtype, but in float32 where that is narrower: bfloat16 cannot tell pixels apart.
    """
    dtype = torch.promote_types(images.dtype, torch.float32)
    y, x = (torch.arange(n, device=images.device, dtype=dtype) - (n - 1) / 2 for n in images.shape[-2:])
    return x.repeat(len(y)), y.repeat_interleave(len(x))


def enlargement(x: Tensor, y: Tensor, size: tuple[int, int]) -> Tensor:
    """The least factor `[B]`, at least 1 and without gradient, by which a grid of `size` (H, W) must grow for the
    positions x, y `[B, P]` to lie between the centres of its outermost pixels."""
    height, width = size
    farthest = torch.maximum(x.detach().abs().amax(1) / _half(width), y.detach().abs().amax(1) / _half(height))
    return farthest.clamp(min=1.0)


def grid_coordinates(x: Tensor, y: Tensor, field: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Positions `[B, P]` as columns and rows of a grid of `size` (H, W) that is `field` `[B]` times as large."""
    height, width = size
    return x / field[:, None] + (width - 1) / 2, y / field[:, None] + (height - 1) / 2
