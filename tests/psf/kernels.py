"""Images, kernels and PSFs that several tests look at."""

from __future__ import annotations

import torch
from torch import Tensor

from lensgen.psf import PSF, AdaptiveOpticsPSF, Aperture, DiffractionPSF, GaussianPSF, MoffatPSF, OneOfPSF, PixelPSF

HST = Aperture(2.4, 0.33, (45.0, 135.0, 225.0, 315.0), 0.026)
KECK = Aperture(10.95, 0.24, rings=3, segment=1.56, gap=0.003)


def images(height: int, width: int, number: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(height * 100 + width)
    return torch.rand(number, height, width, generator=generator, dtype=torch.float64)


def moffat(size: int) -> Tensor:
    """A lopsided kernel, so that a flip would show."""
    y, x = torch.meshgrid(*(torch.arange(size, dtype=torch.float64) - size // 2,) * 2, indexing="ij")
    kernel = (1 + (x - 0.4) ** 2 / 3 + (y + 0.7) ** 2 / 2 + 0.2 * x * y) ** -2.5
    return kernel / kernel.sum()


def stack(number: int, size: int) -> PixelPSF:
    """Kernels that have nothing to do with one another."""
    kernels = torch.rand(number, size, size, generator=torch.Generator().manual_seed(size), dtype=torch.float64)
    return PixelPSF(kernels / kernels.sum((1, 2), keepdim=True))


ONE_OF_EACH: dict[str, PSF] = {
    "gaussian": GaussianPSF(0.15, 5.0, "zero"),
    "moffat": MoffatPSF(0.2, 3.0, 1.1),
    "moffat, pixel": MoffatPSF(0.07, 2.5, 0.9, "pixel"),
    "pixels": PixelPSF(moffat(9)),
    "finer pixels": PixelPSF(moffat(21), pixel_scale=0.03),
    "even pixels": PixelPSF(torch.full((4, 4), 1 / 16), pixel_scale=0.2, size=0.5),
    "one of": OneOfPSF((GaussianPSF(0.1, edge="zero"), stack(2, 5), MoffatPSF(0.2, 3.0, 0.9))),
    "diffraction": DiffractionPSF(HST, 0.814, 1.0),
    "diffraction, centre": DiffractionPSF(KECK, 2.12, 1.0, "centre"),
    "adaptive optics": AdaptiveOpticsPSF(KECK, 2.12, 0.3, 0.4, 3.0, 1.3),
}
