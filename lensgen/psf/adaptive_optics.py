"""PSF behind adaptive optics: a sharp core, and a halo of the light that was not corrected."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lensgen.errors import require_number
from lensgen.psf.aperture import Aperture
from lensgen.psf.diffraction import DiffractionPSF
from lensgen.psf.moffat import MoffatPSF
from lensgen.psf.psf import PSF


@dataclass(frozen=True)
class AdaptiveOpticsPSF(PSF):
    """strehl * diffraction + (1 - strehl) * Moffat, both normalised within the square.

    Args:
        aperture: what the telescope lets through.
        wavelength: micrometres.
        strehl: share of the light in the core. The Strehl ratio proper, of peaks, is more by the halo's peak, some
            per cent of the core's or less.
        halo_fwhm: of the halo, arcsec: about the seeing.
        halo_beta: of the halo.
        size: side of the square, arcsec.
        sampling: "pixel" integrates over each pixel; "centre" takes the values at pixel centres.
    """

    aperture: Aperture
    wavelength: float
    strehl: float
    halo_fwhm: float
    halo_beta: float
    size: float
    sampling: str = "pixel"

    def __post_init__(self) -> None:
        require_number("psf.strehl", self.strehl, 0.0, 1.0)
        self._parts()  # which check the rest

    def _parts(self) -> tuple[PSF, PSF]:
        return (
            DiffractionPSF(self.aperture, self.wavelength, self.size, self.sampling),
            MoffatPSF(self.halo_fwhm, self.halo_beta, self.size, self.sampling),
        )

    def sampled(self, pixel_scale: float) -> Tensor:
        core, halo = (part.kernels(pixel_scale) for part in self._parts())
        return torch.lerp(halo, core, self.strehl)
