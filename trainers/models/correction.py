"""The lens of Lensformer and Lens-JEPA: an isothermal sphere, and a factor k of its potential, of one map."""

from __future__ import annotations

import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor
from torch.nn import functional

CORRECTION = 0.2  # how far k may be from 1, as in the public code of Lensformer
SMOOTHING = 4.0  # pixels of the map


def sphere_and_correction(found: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """k `[B, 1, H, W]`, within 0.2 of 1, and theta_E `[B]` in pixels, below half of the shorter side.

    One map, as in Lensformer's public code: its mean says the Einstein radius, what is left is k. A deflection holds
    k's gradient times the potential, hundreds of pixels squared, and a map that jumped from pixel to pixel would
    scatter the light all over the source; so k is blurred. A map of zeros is a sphere whose radius is a quarter of the
    side.

    Args:
        found: the map `[B, 1, h, w]`, float32, of any h and w, over the whole image.
        size: `(H, W)` of the image.
    """
    mean = found.mean((-2, -1), keepdim=True)
    theta_E = min(size) / 2 * torch.sigmoid(mean[:, 0, 0, 0])
    reach = 2 * min(round(3 * SMOOTHING), min(found.shape[-2:]) - 1) + 1
    local = gaussian_blur2d(found - mean, reach, (SMOOTHING, SMOOTHING))
    if local.shape[-2:] != size:
        local = functional.interpolate(local, size, mode="bilinear", align_corners=False)
    return 1 + CORRECTION * torch.tanh(local), theta_E
