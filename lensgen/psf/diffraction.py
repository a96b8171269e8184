"""PSF of an aperture in one colour of light."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lensgen.errors import ParameterError, require_number, unknown_name
from lensgen.psf.aperture import Aperture
from lensgen.psf.nodes import pixel_nodes
from lensgen.psf.psf import PSF, SAMPLINGS, kernel_radius

_CELLS = 512  # at least, across the aperture: its edges are right to a thousandth of its area
_MOST_CELLS = 2048


@dataclass(frozen=True)
class DiffractionPSF(PSF):
    """|Fourier transform of the aperture|^2 (Fraunhofer), by a matrix Fourier transform to the pixels alone
    (Soummer et al. 2007, Opt. Express 15, 15935); cut to a square and normalised there.

    Args:
        aperture: what the telescope lets through.
        wavelength: micrometres.
        size: side of the square, arcsec; the kernel has the smallest odd number of pixels that cover it.
        sampling: "pixel" integrates over each pixel; "centre" takes the values at pixel centres, for pixels finer
            than lambda / 2D.
    """

    aperture: Aperture
    wavelength: float
    size: float
    sampling: str = "pixel"

    def __post_init__(self) -> None:
        if not isinstance(self.aperture, Aperture):
            raise ParameterError(f"psf.aperture = {self.aperture!r}: give an Aperture.")
        require_number("psf.wavelength", self.wavelength, 1e-2, 1e4, "micrometres")
        require_number("psf.size", self.size, 1e-4, 1e3, "arcsec")
        if self.sampling not in SAMPLINGS:
            raise unknown_name("psf sampling", self.sampling, SAMPLINGS)

    def sampled(self, pixel_scale: float) -> Tensor:
        radius = kernel_radius(self.size, pixel_scale)
        # fringes across the aperture for one pixel: as many periods has the finest pattern of the intensity
        periods = math.radians(pixel_scale / 3600.0) * self.aperture.extent / (1e-6 * self.wavelength)
        nodes = 1 if self.sampling == "centre" else 4 + math.ceil(3.0 * periods)
        # cells repeat the pattern at distances of one period a cell: far beyond the square
        cells = max(_CELLS, 4 * math.ceil((2 * radius + 1) * periods))
        if cells > _MOST_CELLS:
            raise ParameterError(
                f"psf.size = {self.size} arcsec is {self.size / pixel_scale * periods:.0f} lambda/D, more than "
                f"{_MOST_CELLS // 4}: give a smaller one."
            )
        u, average = pixel_nodes(radius, nodes)
        x, through = self.aperture.pupil(cells)
        phase = (2.0 * math.pi * periods / self.aperture.extent) * u[:, None] * x
        c, s = torch.cos(phase), torch.sin(phase)
        along = (through @ c.T, through @ s.T)  # [y, u]
        real, imaginary = c @ along[0] - s @ along[1], s @ along[0] + c @ along[1]
        return (average @ (real * real + imaginary * imaginary) @ average.T).unsqueeze(0)
