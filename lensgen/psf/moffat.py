"""Moffat PSF: a star seen through the atmosphere (Moffat 1969, A&A 3, 455)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from lensgen.errors import require_number, unknown_name
from lensgen.psf.nodes import pixel_nodes
from lensgen.psf.psf import PSF, SAMPLINGS, kernel_radius


@dataclass(frozen=True)
class MoffatPSF(PSF):
    """(1 + (r / alpha)^2)^-beta with alpha = FWHM / (2 sqrt(2^(1/beta) - 1)), cut to a square and normalised there.

    Args:
        fwhm: full width at half maximum, arcsec.
        beta: fall of the wings; 4.765 is that of turbulence (Trujillo et al. 2001, MNRAS 328, 977), seeing 2.5 to 4.
        size: side of the square, arcsec; the kernel has the smallest odd number of pixels that cover it.
        sampling: "centre" takes the values at pixel centres (lenstronomy's kernel_moffat); "pixel" integrates over
            each pixel, the better choice for a PSF narrower than two pixels.
    """

    fwhm: float
    beta: float
    size: float
    sampling: str = "centre"

    def __post_init__(self) -> None:
        require_number("psf.fwhm", self.fwhm, 1e-4, 100.0, "arcsec")
        require_number("psf.beta", self.beta, 1.01, 100.0)
        require_number("psf.size", self.size, 1e-4, 1e3, "arcsec")
        if self.sampling not in SAMPLINGS:
            raise unknown_name("psf sampling", self.sampling, SAMPLINGS)

    def sampled(self, pixel_scale: float) -> Tensor:
        alpha = 0.5 * self.fwhm / math.sqrt(2.0 ** (1.0 / self.beta) - 1.0)
        nodes = 1 if self.sampling == "centre" else 8 + math.ceil(12.0 * pixel_scale / self.fwhm)
        x, average = pixel_nodes(kernel_radius(self.size, pixel_scale), nodes)
        squares = (x * (pixel_scale / alpha)) ** 2
        fine = (1.0 + squares[:, None] + squares).pow(-self.beta)
        return (average @ fine @ average.T).unsqueeze(0)
