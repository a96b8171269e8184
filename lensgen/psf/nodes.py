"""Where a function is looked at to average it over pixels: Gauss-Legendre nodes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lensgen.errors import ParameterError

MAX_NODES = 20_000  # along an axis: a square of them is worked on as a whole


def pixel_nodes(radius: int, nodes: int) -> tuple[Tensor, Tensor]:
    """Positions `[k n]` in pixels from the middle of 2 radius + 1 = k pixels, and the matrix `[k, k n]` that averages
    the values there over each pixel. With one node a pixel: the values at their centres."""
    k = 2 * radius + 1
    if k * nodes > MAX_NODES:
        raise ParameterError(
            f"a kernel of {k} pixels, each looked at {nodes} times along an axis, is too large: give a smaller "
            "psf.size, or sampling: centre."
        )
    offsets, weights = np.polynomial.legendre.leggauss(nodes)
    pixels = torch.arange(-radius, radius + 1, dtype=torch.float64)
    x = (pixels[:, None] + 0.5 * torch.from_numpy(offsets)).flatten()
    average = torch.kron(torch.eye(k, dtype=torch.float64), 0.5 * torch.from_numpy(weights)[None, :])
    return x, average
