"""What a network sees beside an image: LensPINN's preprocessing, of images as the trainers transform them."""

from __future__ import annotations

import torch
from torch import Tensor

from trainers.models.physics.preprocess import lenspinn_preprocess

NOISE_FLOOR = 2.0  # times the noise: from there on the sky is dark and arcs are not, see `lenspinn_preprocess`


def preprocess(images: Tensor, floor: float, noise_floor: float = 0.0) -> Tensor:
    """`lenspinn_preprocess` of transformed images `[B, C, H, W]`, within 0..1.

    It asks for brightness: sinh undoes the asinh transform, and hardly changes images within 0..1 as minmax leaves
    them. Ratios of brightness are all that it looks at, so each channel of each image is taken in units of its peak.

    Args:
        floor: the fraction of the peak below which all pixels count as equally bright.
        noise_floor: likewise in units of the asinh transform, which are the noise, or 1 % of the median peak of a
            noise-free set; 0 for minmax images, which do not tell their noise. The higher of the two counts.
    """
    brightness = torch.sinh(images).clamp(min=noise_floor)
    return lenspinn_preprocess(brightness / brightness.amax((-2, -1), keepdim=True).clamp(min=1e-12), floor)
