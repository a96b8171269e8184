"""Scattered values on a grid, by averages: differentiable in the values and in where they are."""

from __future__ import annotations

import torch
from torch import Tensor

from lensgen.errors import ParameterError

# Of a pixel's full weight. What arrives with less is dimmed: averaged, a pixel would jump from dark to bright with the
# first trace of light, and the gradient there be as large as the step is narrow. Measured on an image of `lenspinn`,
# for a random smooth functional of the source as a function of theta_E: the gradient scatters about the slope over 0.3
# pixels by 3 times that slope (rms) with 1e-3, by 1.3 times with 1e-2, by 0.3 times with 0.1.
LEAST_WEIGHT = 0.1


def splat(values: Tensor, x: Tensor, y: Tensor, size: tuple[int, int], hard: bool = False) -> tuple[Tensor, Tensor]:
    """Averages of scattered values on a grid.

    Each value goes to the four pixels around it, with the weights of bilinear interpolation; a pixel is the weighted
    mean of what it gets, 0 where that is nothing. Weight that falls on no pixel is lost: a position more than a pixel
    outside of the outermost centres gives nothing at all. Values on pixel centres give themselves, exactly.

    Args:
        values: `[B, C, P]`.
        x, y: `[B, P]`, columns and rows of the grid, of the dtype of the values; 0 is the centre of the first pixel.
            One that is not a number makes a pixel of its image not a number.
        size: `(H, W)` of the grid.
        hard: as the published code of the papers: each value goes to the nearest pixel alone. No gradient reaches x
            and y then; theirs is None.

    Returns:
        image: `[B, C, H, W]`. Its derivative by x and y jumps where these are whole numbers; there it is that of the
            side of larger x and y. On CUDA the last bits depend on the order in which values arrive.
        weight: `[B, 1, H, W]`, the sum of the weights; below 0.1 the image is the sum over 0.1 instead of the mean.

    Raises:
        ParameterError: the shapes do not belong together.
    """
    if values.ndim != 3 or not x.shape == y.shape == (values.shape[0], values.shape[2]):
        raise ParameterError(
            f"values are {list(values.shape)}, x {list(x.shape)} and y {list(y.shape)}: give values [B, C, P] and x "
            "and y [B, P] each, a position for every value."
        )
    height, width = size
    # beyond, nothing changes any more; and whole numbers could not hold an infinity
    x, y = x.clamp(-2.0, width + 1.0), y.clamp(-2.0, height + 1.0)
    if hard:
        x, y = x.detach(), y.detach()
        corners = [(y.round(), x.round(), 1.0 + 0.0 * x * y)]  # so that it is a number only where these are
    else:
        left, low = x.detach().floor(), y.detach().floor()
        across, up = x - left, y - low
        corners = [
            (low, left, (1.0 - up) * (1.0 - across)),
            (low, left + 1.0, (1.0 - up) * across),
            (low + 1.0, left, up * (1.0 - across)),
            (low + 1.0, left + 1.0, up * across),
        ]
    places, weights = [], []
    for row, column, weight in corners:
        inside = (row >= 0.0) & (row < height) & (column >= 0.0) & (column < width)
        places.append(torch.where(inside, row * width + column, 0.0).long())
        weights.append(weight * inside)  # not `where`: what is not a number is to be seen
    place, share = torch.stack(places, 1), torch.stack(weights, 1)[:, None]  # [B, corners, P], [B, 1, corners, P]
    given = torch.cat((values, torch.ones_like(values[:, :1])), 1)[:, :, None] * share
    empty = given.new_zeros(*given.shape[:2], height * width)
    total = empty.scatter_add(2, place[:, None].expand_as(given).flatten(2), given.flatten(2))
    total = total.unflatten(2, size)
    image, weight = total[:, :-1], total[:, -1:]
    return image / weight.clamp(min=LEAST_WEIGHT), weight
