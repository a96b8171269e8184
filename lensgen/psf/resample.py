"""Kernels on other pixels than their own.

One rule for all of it: both grids are centred on the same point, the middle of the array. For larger pixels, light is
shared by overlap of areas: each of the kernel's pixels is a square of constant brightness. That keeps the flux exactly;
for a whole number of odd kernels' pixels it is lenstronomy's `degrade_kernel`; and at the same scale it turns an even
kernel into an odd one by the mean of the four pixels that meet at each new centre. For smaller pixels, values are
interpolated linearly between the kernel's pixel centres, with zeros around; the flux is then restored.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lensgen.psf.psf import kernel_radius


def resampled(kernels: Tensor, own_scale: float, pixel_scale: float) -> Tensor:
    """`[n, k, k]` on pixels of `own_scale` -> `[n, m, m]`, m odd, on pixels of `pixel_scale`, same sums."""
    k, ratio = kernels.shape[-1], pixel_scale / own_scale
    if abs(ratio - 1.0) < 1e-6 / k and k % 2 == 1:  # the same pixels: headers round
        return kernels
    if ratio >= 1.0 or (k % 2 == 0 and math.isclose(ratio, 1.0, rel_tol=1e-9)):
        radius = kernel_radius(k * own_scale, pixel_scale)
        edges = (torch.arange(2 * radius + 2, dtype=torch.float64) - (radius + 0.5)) * ratio + 0.5 * k
        left, right = edges[:-1, None], edges[1:, None]
        pixels = torch.arange(k, dtype=torch.float64)
        share = (torch.minimum(right, pixels + 1.0) - torch.maximum(left, pixels)).clamp(min=0.0)
        return share @ kernels @ share.T
    # the linear interpolation reaches half a pixel beyond the outermost ones
    radius = kernel_radius((k + 1) * own_scale, pixel_scale)
    centres = torch.arange(-radius, radius + 1, dtype=torch.float64) * ratio + 0.5 * (k - 1)
    share = (1.0 - (centres[:, None] - torch.arange(k, dtype=torch.float64)).abs()).clamp(min=0.0)
    fine = share @ kernels @ share.T
    return fine * (kernels.sum((1, 2), keepdim=True) / fine.sum((1, 2), keepdim=True))
