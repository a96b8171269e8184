"""LensPINN's preprocessing (ML4PS 2024): what a network sees beside the image and its source."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lensgen.errors import ParameterError


def lenspinn_preprocess(images: Tensor, floor: float | Sequence[float]) -> Tensor:
    """|tanh(d_x d_y (log(I_max / I))^2)|, `[B, C, H, W]` within 0..1.

    Derivatives are central differences per pixel, one-sided at the rim. The brightest pixel is that of each channel of
    each image.

    Args:
        images: `[B, C, H, W]`, H and W at least 2, in the simulator's units (not through an input transform).
        floor: the brightness, in the images' unit, below which a pixel counts as this bright; one for all channels or
            one for each, above 0. Without it pixels at or below 0, half of the sky, would be infinite. It says from
            where on there is something to see: on average over images of `lenspinn` with noise, arcs show .27 and the
            sky .86 with a tenth of the sky noise (`Simulator.input_scale`), .27 and .33 with once, .26 and .03 with
            twice, and .23 and 0 with five times the noise.

    Raises:
        ParameterError: a floor that is not above 0, or too few or too many.
    """
    floors = (floor,) if isinstance(floor, float | int) else tuple(floor)
    if not all(0.0 < one < float("inf") for one in floors):
        raise ParameterError(f"floor = {floor} must be above 0 and finite, e.g. twice the sky noise.")
    if len(floors) not in (1, images.shape[1]):
        raise ParameterError(f"floor = {floor} must be one number, or one for each of {images.shape[1]} channels.")
    lowest = images.new_tensor(floors).view(-1, 1, 1)
    brightness = torch.maximum(images, lowest)
    depth = brightness.amax((-2, -1), keepdim=True).log() - brightness.log()
    (up,) = torch.gradient(depth.square(), dim=-2)
    (mixed,) = torch.gradient(up, dim=-1)
    return mixed.tanh().abs()
