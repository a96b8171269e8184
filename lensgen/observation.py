"""How a scene is looked at: the pixel grid, the PSF, and the noise with what it needs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lensgen.checks import require
from lensgen.conventions import pixel_axis
from lensgen.errors import ParameterError, require_number, require_whole
from lensgen.noise import Detector, NoiseRecipe
from lensgen.psf import PSF
from lensgen.rng import RandomSource

MAX_SIZE = 4096


@dataclass(frozen=True)
class Observation:
    """Args:
    height, width: pixels.
    pixel_scale: arcsec per pixel.
    supersampling: rays per pixel along each axis; the pixel is their mean.
    psf: point-spread function.
    psf_supersampled: convolve the sub-pixels, then average (lenstronomy's supersampling_convolution), instead of
        averaging first.
    """

    height: int
    width: int
    pixel_scale: float
    supersampling: int
    psf: PSF
    psf_supersampled: bool = False

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("height", self.height, 1, MAX_SIZE),
            ("width", self.width, 1, MAX_SIZE),
            ("supersampling", self.supersampling, 1, 64),
        ):
            require_whole(name, value, low, high)
        if not isinstance(self.psf, PSF):
            raise ParameterError(f"psf = {self.psf!r}: give a PSF, e.g. GaussianPSF(fwhm=0) for none.")
        require_number("pixel_scale", self.pixel_scale, 1e-4, 100.0, "arcsec")

    def rays(self) -> tuple[Tensor, Tensor]:
        """Where light is sampled: x and y, float64 `[supersampling^2 height width]`, row by row, arcsec."""
        x = pixel_axis(self.width, self.pixel_scale, self.supersampling)
        y = pixel_axis(self.height, self.pixel_scale, self.supersampling)
        yy, xx = torch.meshgrid(y, x, indexing="ij")
        return xx.flatten(), yy.flatten()


@dataclass(frozen=True)
class Noise:
    """The noise of B images.

    Args:
        recipe: which one, from lensgen.noise.
        detector: read noise and sky.
        exposure: `[B]`, total exposure time in s.
        random: where the random numbers come from.
        index: `[B]` int64, the images' indices.
    band: which channel of the images: each has random numbers of its own.
    """

    recipe: NoiseRecipe
    detector: Detector
    exposure: Tensor
    random: RandomSource
    index: Tensor
    band: int = 0

    def variable(self, name: str) -> str:
        """What the random numbers `name` of a recipe are called."""
        return f"noise.{name}" if self.band == 0 else f"noise.{self.band}.{name}"

    def __post_init__(self) -> None:
        if not isinstance(self.recipe, NoiseRecipe):
            raise ParameterError(f"recipe = {self.recipe!r}: take one by name from lensgen.noise_recipe.")
        if not isinstance(self.exposure, Tensor) or not isinstance(self.index, Tensor):
            raise ParameterError("exposure and index of a Noise must be tensors of shape [B].")
        if self.index.dtype != torch.int64 or self.index.shape != self.exposure.shape or self.index.dim() != 1:
            raise ParameterError(
                f"index {self.index.dtype} {list(self.index.shape)} and exposure {list(self.exposure.shape)} of a "
                "Noise must both be [B], index in int64."
            )
        good = (self.exposure > 0.0) & torch.isfinite(self.exposure)
        require(~good, lambda _: "every exposure of a Noise must be above 0 s and finite.")
