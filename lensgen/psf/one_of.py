"""Several PSFs, of which each image takes one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lensgen.errors import ParameterError
from lensgen.psf.psf import PSF


@dataclass(frozen=True)
class OneOfPSF(PSF):
    """Kernels of several PSFs one after the other, padded with zeros to the size of the largest.

    Args:
        psfs: those; one that has several kernels counts as so many.
    """

    psfs: tuple[PSF, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "psfs", tuple(self.psfs))
        if not self.psfs or not all(isinstance(psf, PSF) for psf in self.psfs):
            raise ParameterError(f"psfs = {self.psfs!r}: give PSFs, at least one.")
        edges = [psf for psf in self.psfs if psf.edge != self.edge]
        if edges:
            raise ParameterError(f"{edges[0]!r} among others: its edge must be 'zero', as that of all kernels.")

    @property
    def choices(self) -> int:
        return sum(psf.choices for psf in self.psfs)

    def sampled(self, pixel_scale: float) -> Tensor:
        kernels = [psf.kernels(pixel_scale) for psf in self.psfs]
        largest = max(k.shape[-1] for k in kernels)
        margins = [(largest - k.shape[-1]) // 2 for k in kernels]
        return torch.cat([torch.nn.functional.pad(k, (m,) * 4) for k, m in zip(kernels, margins, strict=True)])
