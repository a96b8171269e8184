"""The inverse of a lens whose potential a network corrects (Lensformer; Lens-JEPA, ML4PS 2025).

psi = k(x, y) psi_SIS, so alpha = grad psi = k alpha_SIS + psi_SIS grad k, with the isothermal sphere in the middle of
the image. The published code leaves the second term out, and its deflection is the gradient of no potential.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import lensgen
from lensgen.errors import ParameterError
from trainers.models.physics.grid import pixel_positions
from trainers.models.physics.source import Source, rebuild


class PotentialLens(nn.Module):
    """Where each pixel's light came from, by an isothermal sphere and a correction of its potential.

    Args:
        hard: the nearest-pixel average of the papers, through which no gradient reaches k and theta_E; see `splat`.
    """

    def __init__(self, hard: bool = False) -> None:
        super().__init__()
        self.hard = hard
        self.sphere = lensgen.mass_profile("sis")

    def deflection(self, k: Tensor, theta_E: Tensor) -> tuple[Tensor, Tensor]:
        """Deflections at the pixels' centres, two tensors `[B, H * W]`, row by row, in pixels.

        The gradient of k is by central differences, exact for a k that is quadratic, and one-sided at the rim, where it
        is exact for a linear one.

        Args:
            k: `[B, 1, H, W]`, H and W at least 2.
            theta_E: `[B]`, in pixels.
        """
        x, y = pixel_positions(k)
        radius = theta_E.to(x).unsqueeze(1)
        psi = self.sphere.potential(x, y, radius, 0.0, 0.0)
        alpha_x, alpha_y = self.sphere.deflection(x, y, radius, 0.0, 0.0)
        factor = k[:, 0].to(x.dtype)
        k_y, k_x = torch.gradient(factor, dim=(1, 2))
        factor = factor.flatten(1)
        return factor * alpha_x + psi * k_x.flatten(1), factor * alpha_y + psi * k_y.flatten(1)

    def forward(self, images: Tensor, k: Tensor, theta_E: Tensor) -> Source:
        """Args:
            images: `[B, C, H, W]`, H and W at least 2.
            k: `[B, 1, H, W]`; 1 is the isothermal sphere.
            theta_E: `[B]`, in pixels of the image.

        Raises:
            ParameterError: of their shapes.
        """
        expected = (len(images), 1, *images.shape[-2:])
        if k.shape != expected or theta_E.shape != expected[:1]:
            raise ParameterError(
                f"k {list(k.shape)} and theta_E {list(theta_E.shape)} must be {list(expected)} and [{len(images)}] "
                f"for images {list(images.shape)}."
            )
        x, y = pixel_positions(images)
        across, up = self.deflection(k, theta_E)
        return rebuild(images, x - across, y - up, self.hard)
