"""Gaussian PSF.

Sums over taps are written out one by one: products and sums alone are rounded the same in every slot of a batch,
which a library's convolution does not promise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from lensgen.errors import require_number, unknown_name
from lensgen.psf.psf import EDGES, PSF, SAMPLINGS


def _shifted_sum(image: Tensor, weights: tuple[float, ...], dim: int) -> Tensor:
    """Correlate along `dim` with `weights`; the image is already padded by their radius."""
    size = image.shape[dim] - len(weights) + 1
    total = weights[0] * image.narrow(dim, 0, size)
    for k, weight in enumerate(weights[1:], start=1):
        total = total + weight * image.narrow(dim, k, size)
    return total


@dataclass(frozen=True)
class GaussianPSF(PSF):
    """Separable Gaussian, by default with the semantics of scipy.ndimage.gaussian_filter, as in lenstronomy.

    Args:
        fwhm: full width at half maximum, arcsec.
        truncation: the kernel ends at int(truncation sigma + 0.5) pixels (lenstronomy 1.9.2, which made the
            published sets, always took 4) and is normalised afterwards.
        edge: "nearest" repeats the border pixel (lenstronomy); "zero" lets no light in from outside, and so loses
            up to half of it on border pixels.
        sampling: "centre" takes the Gaussian at pixel centres (lenstronomy); "pixel" integrates it over each pixel,
            the better choice for a PSF narrower than two pixels.
    """

    choices: ClassVar[int] = 1

    fwhm: float
    truncation: float = 4.0
    edge: str = "nearest"
    sampling: str = "centre"

    def __post_init__(self) -> None:
        require_number("psf.fwhm", self.fwhm, 0.0, 100.0, "arcsec (0 for none)")
        require_number("psf.truncation", self.truncation, 1.0, 20.0, "sigma")
        if self.edge not in EDGES:
            raise unknown_name("psf edge", self.edge, EDGES)
        if self.sampling not in SAMPLINGS:
            raise unknown_name("psf sampling", self.sampling, SAMPLINGS)

    @lru_cache(maxsize=16)  # noqa: B019 a frozen dataclass of four numbers
    def separable(self, pixel_scale: float) -> tuple[float, ...]:
        """The kernel along one axis, summing to 1, for pixels of `pixel_scale` arcsec."""
        sigma = self.fwhm / (2.0 * math.sqrt(2.0 * math.log(2.0))) / pixel_scale
        radius = int(self.truncation * sigma + 0.5)
        if radius == 0:
            return (1.0,)
        if self.sampling == "centre":
            values = [math.exp(-0.5 * (k / sigma) ** 2) for k in range(-radius, radius + 1)]
        else:
            edges = [math.erf((k - 0.5) / (sigma * math.sqrt(2.0))) for k in range(-radius, radius + 2)]
            values = [right - left for left, right in pairwise(edges)]
        return tuple(v / math.fsum(values) for v in values)

    def sampled(self, pixel_scale: float) -> Tensor:
        weights = torch.tensor(self.separable(pixel_scale), dtype=torch.float64)
        return (weights[:, None] * weights).unsqueeze(0)

    def convolve(self, image: Tensor, pixel_scale: float, choice: Tensor | None = None) -> Tensor:
        """Images `[K, H, W]` as seen through the PSF, same shape."""
        weights = self.separable(pixel_scale)
        radius = len(weights) // 2
        if radius == 0:
            return image
        for dim in (1, 2):
            rows = torch.arange(-radius, image.shape[dim] + radius, device=image.device)
            inside = rows.clamp(0, image.shape[dim] - 1)
            padded = image.index_select(dim, inside)
            if self.edge == "zero":
                shape = [1, 1, 1]
                shape[dim] = -1
                padded = padded * (rows == inside).to(image.dtype).view(shape)
            image = _shifted_sum(padded, weights, dim)
        return image
