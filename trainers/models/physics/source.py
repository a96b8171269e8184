"""A source rebuilt from its lensed image: each pixel's light where it came from."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from trainers.models.physics.grid import enlargement, grid_coordinates
from trainers.models.physics.splat import splat


class Source(NamedTuple):
    """Sources of B systems, about the middle of their images.

    Attributes:
        image: `[B, C, H, W]`, surface brightness: flux per pixel of the *image*, however large the source's pixels are,
            since lensing leaves it as it is; dimmed where `weight` is below `splat.LEAST_WEIGHT`, a tenth of a pixel,
            and 0 where no light came from.
        weight: `[B, 1, H, W]`, how many pixels of the image each is the mean of, see `splat`.
        field: `[B]`, at least 1 and without gradient: the side of a source pixel in pixels of the image. Above 1 where
            the lens takes light from outside of the image's field.
    """

    image: Tensor
    weight: Tensor
    field: Tensor


def rebuild(images: Tensor, x: Tensor, y: Tensor, hard: bool = False) -> Source:
    """The source whose light is seen in `images`.

    Args:
        images: `[B, C, H, W]`.
        x, y: `[B, H * W]`, where the light of each pixel comes from, row by row, in pixels from the middle.
        hard: see `splat`.

    Gradients of x and y are those at a fixed field: the field follows from the one pixel that lies farthest out.
    """
    size = (images.shape[-2], images.shape[-1])
    field = enlargement(x, y, size)
    column, row = grid_coordinates(x, y, field, size)
    image, weight = splat(images.flatten(2).to(torch.promote_types(x.dtype, images.dtype)), column, row, size, hard)
    return Source(image, weight, field)
