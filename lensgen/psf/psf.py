"""What a point-spread function is: kernels for pixels of a given size, and images seen through them."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from lensgen.errors import ParameterError

EDGES = ("nearest", "zero")
SAMPLINGS = ("centre", "pixel")
MAX_KERNEL = 2047  # pixels
_FACTORS = (2, 3, 5)  # of lengths that a Fourier transform is fast for


class PSF:
    """Base of all. A PSF is frozen and hashable, equal to another with the same content, and its repr states that.

    A subclass writes `sampled`, and `separable` if its kernel is a product of two.
    """

    edge: str = "zero"  # what lies beyond the image: no light, or ("nearest") its border pixels again

    @property
    def choices(self) -> int:
        """How many kernels there are, of which each image takes one."""
        return 1

    def separable(self, pixel_scale: float) -> tuple[float, ...] | None:
        """The kernel along one axis, summing to 1, for pixels of `pixel_scale` arcsec; None if it has no such."""
        return None

    def sampled(self, pixel_scale: float) -> Tensor:
        """float64 `[choices, k, k]`, k odd, for pixels of `pixel_scale` arcsec; any sum above 0."""
        raise NotImplementedError

    def kernels(self, pixel_scale: float) -> Tensor:
        """float64 `[choices, k, k]`, k odd, each summing to 1, for pixels of `pixel_scale` arcsec. For reading only."""
        return _kernels(self, float(pixel_scale))

    def convolve(self, image: Tensor, pixel_scale: float, choice: Tensor | None = None) -> Tensor:
        """Images `[K, H, W]` as seen through the PSF, same shape; zeros beyond the edge.

        Args:
            image: pixels of `pixel_scale` arcsec.
            choice: `[K]` int64, which of the kernels each image takes; may be left out where there is one.
        """
        if choice is None:
            choice = torch.zeros(image.shape[0], dtype=torch.int64, device=image.device)
        height, width = image.shape[1:]
        kernels = within_reach(self.kernels(pixel_scale), height, width)
        radius = kernels.shape[-1] // 2
        # what wraps around lands on rows and columns that are cut off
        shape = (_fast_length(height + radius), _fast_length(width + radius))
        spectra = torch.fft.rfft2(kernels.to(image), s=shape)

        def seen(pixels: Tensor, spectrum: Tensor) -> Tensor:
            full = torch.fft.irfft2(torch.fft.rfft2(pixels, s=shape) * spectrum, s=shape)
            return full[..., radius : radius + height, radius : radius + width]

        if image.device.type != "cpu":
            return seen(image, spectra[choice])
        # one image at a time: nothing promises that a batched transform rounds the same in every slot
        return torch.stack([seen(one, spectra[k]) for one, k in zip(image, choice.tolist(), strict=True)])


@lru_cache(maxsize=64)
def _kernels(psf: PSF, pixel_scale: float) -> Tensor:
    kernels = psf.sampled(pixel_scale)
    total = kernels.sum((1, 2), keepdim=True)
    if not bool((torch.isfinite(total) & (total > 0.0)).all()):
        raise ParameterError(f"{psf!r} at {pixel_scale} arcsec per pixel sums to {total.flatten().tolist()}.")
    return kernels / total


def kernel_radius(size: float, pixel_scale: float) -> int:
    """Pixels on each side of the middle one, so that together they cover `size` arcsec."""
    radius = math.ceil((size / pixel_scale - 1.0) / 2.0 - 1e-6)
    if 2 * radius + 1 > MAX_KERNEL:
        raise ParameterError(
            f"a PSF of {size:g} arcsec has {2 * radius + 1} pixels of {pixel_scale:g} arcsec on a side, more than "
            f"{MAX_KERNEL}: give a smaller psf.size, or larger pixels."
        )
    return max(radius, 0)


def within_reach(kernels: Tensor, height: int, width: int) -> Tensor:
    """`[n, k, k]` without the rows and columns that reach beyond an image of this size from every pixel of it."""
    radius, reach = kernels.shape[-1] // 2, max(height, width) - 1
    if radius <= reach:
        return kernels
    return kernels[:, radius - reach : radius + reach + 1, radius - reach : radius + reach + 1]


@lru_cache(maxsize=256)
def _fast_length(least: int) -> int:
    """The first whole number from `least` on with no prime factor above 5."""
    for length in range(least, 2 * least):
        rest = length
        for factor in _FACTORS:
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
    return least
