"""PSFs given as pixels."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lensgen.errors import ParameterError, require_number
from lensgen.files import pixel_scale as header_scale
from lensgen.files import read_array
from lensgen.psf.psf import MAX_KERNEL, PSF, kernel_radius
from lensgen.psf.resample import resampled


@dataclass(frozen=True)
class PixelPSF(PSF):
    """One kernel or several, given as pixels; zero padding, as in lenstronomy.

    The middle of the array is the middle of the PSF, wherever its light is (k even: between the four middle pixels).
    Even kernels, and kernels on pixels of another scale than those they are used on, are resampled (`psf/resample.py`):
    flux and centre are kept. An even kernel on pixels of its own scale becomes the mean of the four kernels that are
    half a pixel off, and so wider by half a pixel rms along each axis; used on larger pixels it loses nothing.

    Args:
        kernel: `[k, k]`, or `[n, k, k]` for n kernels of which each image takes one; finite, each summing to 1 within
            1e-5 (the rest is divided away).
        normalise: divide by the sum, with a warning that says what it was, instead of refusing another sum.
        pixel_scale: of the kernel's pixels, arcsec; None if they are those it is used on, whatever these are.
        size: side of the square that is kept, arcsec; the light outside is given up, and the rest made to sum to 1.
    """

    kernel: Tensor = field(repr=False, compare=False)
    normalise: bool = field(default=False, repr=False, compare=False)
    pixel_scale: float | None = None
    size: float | None = None
    content: str = field(init=False)  # shape, and a hash of the numbers as given

    def __post_init__(self) -> None:
        try:
            kernel = torch.as_tensor(self.kernel).detach().to("cpu", torch.float64)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ParameterError(f"a PSF kernel must be an array of numbers [k, k] or [n, k, k]: {error}.") from None
        if kernel.dim() not in (2, 3) or kernel.shape[-1] != kernel.shape[-2] or kernel.numel() == 0:
            raise ParameterError(f"a PSF kernel must be [k, k] or [n, k, k], not {list(kernel.shape)}: pad or crop it.")
        if kernel.shape[-1] > MAX_KERNEL:
            raise ParameterError(
                f"a PSF kernel of {list(kernel.shape)} pixels is too large: at most {MAX_KERNEL} on a side. Crop it."
            )
        if self.pixel_scale is not None:
            require_number("psf.pixel_scale", self.pixel_scale, 1e-6, 100.0, "arcsec")
        if self.size is not None:
            require_number("psf.size", self.size, 1e-4, 1e3, "arcsec")
            if self.pixel_scale is None:
                raise ParameterError(f"psf.size = {self.size} is in arcsec: give the kernel's pixel_scale too.")
        kernel = kernel if kernel.dim() == 3 else kernel.unsqueeze(0)
        totals = kernel.sum((1, 2), keepdim=True)
        low, high = float(totals.min()), float(totals.max())
        stated = f"{low:.6g}" if low == high else f"{low:.6g} to {high:.6g}"
        if not bool(torch.isfinite(kernel).all()) or not low > 0.0:
            raise ParameterError(f"the PSF kernel sums to {stated}: every value must be finite, and the sum positive.")
        if max(abs(low - 1.0), abs(high - 1.0)) > 1e-5:
            if not self.normalise:
                raise ParameterError(f"the PSF kernel sums to {stated}, not 1: pass normalise=True to divide by it.")
            warnings.warn(f"PSF kernel divided by its sum, {stated}", stacklevel=3)
        # of the numbers as given: what they are divided by is rounded as the machine likes
        digest = hashlib.sha256(kernel.contiguous().numpy().astype("<f8").tobytes()).hexdigest()[:32]
        object.__setattr__(self, "kernel", kernel / totals)
        object.__setattr__(self, "content", f"{list(kernel.shape)} {digest}")

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        key: str | int | None = None,
        pixel_scale: float | None = None,
        normalise: bool = False,
        size: float | None = None,
    ) -> PixelPSF:
        """The kernel in a FITS, HDF5, .npy or .npz file (see `lensgen.files.read_array` for `key`).

        `pixel_scale` None is what the FITS header states; ParameterError where it states nothing.
        """
        kernel = read_array(path, key)
        if pixel_scale is None:
            pixel_scale = header_scale(path, key)
        if pixel_scale is None:
            raise ParameterError(f"{path} does not state its pixel scale: give pixel_scale, in arcsec.")
        return cls(torch.from_numpy(kernel.astype(np.float64)), normalise, pixel_scale, size)

    @property
    def choices(self) -> int:
        return self.kernel.shape[0]

    def sampled(self, pixel_scale: float) -> Tensor:
        own = pixel_scale if self.pixel_scale is None else self.pixel_scale
        kernels = resampled(self.kernel, own, pixel_scale)
        if self.size is None:
            return kernels
        middle, radius = kernels.shape[-1] // 2, kernel_radius(self.size, pixel_scale)
        start, end = max(middle - radius, 0), middle + radius + 1
        return kernels[:, start:end, start:end]
