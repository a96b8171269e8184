"""The inverse of a lens: an image and a mass model -> the source (LensPINN, ML4PS 2024, with any mass profile).

Surface brightness does not change on its way, so the source at beta(theta) is as bright as the image at theta.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from trainers.models.physics.grid import pixel_positions
from trainers.models.physics.lens_model import LensModel, Parameters
from trainers.models.physics.source import Source, rebuild


class InverseLens(nn.Module):
    """Where each pixel's light came from: the source image that a lens model gives.

    What several pixels show is averaged; where positions leave the image's field the grid is enlarged, system by
    system. A source is as sharp as its pixels and as the image's PSF, which is not undone. Near the centre of a point
    mass deflections have no bound, and one pixel would enlarge the grid by much: give it a softening.

    Args:
        profile, statics: of the lens, see `LensModel`.
        hard: the nearest-pixel average of the papers, through which no gradient reaches the lens; see `splat`.
    """

    def __init__(
        self, profile: str | Sequence[str] = "sis", hard: bool = False, statics: Mapping[str, int] | None = None
    ) -> None:
        super().__init__()
        self.lens = LensModel(profile, statics)
        self.hard = hard

    def forward(self, images: Tensor, parameters: Parameters) -> Source:
        """Args:
        images: `[B, C, H, W]`.
        parameters: of the lens, `[B]` each or numbers, see `LensModel`; angles in pixels of the image, positions
            from its middle.

        Raises:
            UnknownNameError, ParameterError: of the parameters' names and shapes.
        """
        x, y = pixel_positions(images)
        across, up = self.lens.deflection(x, y, parameters, len(images))
        return rebuild(images, x - across, y - up, self.hard)
