"""What a telescope lets through: a disc or hexagonal segments, less what stands in the way."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from lensgen.errors import ParameterError, require_number, require_whole


@dataclass(frozen=True)
class Aperture:
    """Lengths in m, x to the right and y up as on the image.

    Args:
        diameter: of the disc; with segments, the length that `obstruction` is a share of.
        obstruction: diameter of a dark disc in the middle, as a share of `diameter`.
        vanes: directions from the middle outwards in which vanes stand, degrees from x towards y.
        vane_width: of each vane.
        rings: of hexagonal segments about a middle one that is missing (2 are 18 segments, 3 are 36); 0 for a disc.
        segment: of a segment, from flat to flat; flats face up and down.
        gap: between neighbouring segments.
    """

    diameter: float
    obstruction: float = 0.0
    vanes: tuple[float, ...] = ()
    vane_width: float = 0.0
    rings: int = 0
    segment: float = 0.0
    gap: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "vanes", tuple(self.vanes))
        require_number("aperture.diameter", self.diameter, 1e-3, 1e3, "m")
        require_number("aperture.obstruction", self.obstruction, 0.0, 0.99, "of the diameter")
        for angle in self.vanes:
            require_number("aperture.vanes", angle, -360.0, 360.0, "degrees")
        require_number("aperture.vane_width", self.vane_width, 0.0, 0.2 * self.diameter, "m (a fifth of the diameter)")
        if self.vanes and self.vane_width == 0.0:
            raise ParameterError(f"aperture.vanes = {self.vanes} without a vane_width: give it in m, or no vanes.")
        require_whole("aperture.rings", self.rings, 0, 20)
        if self.rings:
            require_number("aperture.segment", self.segment, 1e-3, self.diameter, "m (the diameter)")
            require_number("aperture.gap", self.gap, 0.0, self.segment, "m (the segment)")

    @property
    def extent(self) -> float:
        """Diameter of a circle about the middle that holds all of it."""
        if not self.rings:
            return self.diameter
        corner = self.segment / math.sqrt(3.0)
        return 2.0 * max(math.hypot(x, y) + corner for x, y in self._segments())

    def _segments(self) -> list[tuple[float, float]]:
        """Middles of the segments."""
        step, places = self.segment + self.gap, []
        for q in range(-self.rings, self.rings + 1):
            for r in range(max(-self.rings, -self.rings - q), min(self.rings, self.rings - q) + 1):
                if (q, r) != (0, 0):
                    places.append((step * q * math.sqrt(3.0) / 2.0, step * (r + q / 2.0)))
        return places

    def pupil(self, cells: int) -> tuple[Tensor, Tensor]:
        """Positions `[N]` in m along an axis, and the share of light `[N, N]` (y, x) that the cells there let through.
        For reading only."""
        return _pupil(self, cells)

    def _through(self, x: Tensor, y: Tensor, cell: float) -> Tensor:
        """Share of light that cells at y `[N, 1]` and x `[N]` let through."""

        def beyond(distance: Tensor) -> Tensor:
            """Share of a cell on the far side of an edge at `distance` before its middle; areas add up exactly."""
            return (distance / cell + 0.5).clamp(0.0, 1.0)

        def slab(distance: Tensor, width: float) -> Tensor:
            return beyond(distance + 0.5 * width) - beyond(distance - 0.5 * width)

        r = torch.sqrt(x * x + y * y)
        if self.rings:
            through = torch.zeros_like(r)
            for cx, cy in self._segments():
                rows, columns = _near(y.flatten() - cy, self.segment), _near(x - cx, self.segment)
                dx, dy = 0.5 * math.sqrt(3.0) * (x[columns] - cx), y[rows] - cy
                flats = (dy, dx + 0.5 * dy, dx - 0.5 * dy)
                through[rows, columns] += math.prod((slab(d, self.segment) for d in flats), start=torch.ones(()))
        else:
            through = beyond(0.5 * self.diameter - r)
        through = through * beyond(r - 0.5 * self.obstruction * self.diameter)
        for angle in self.vanes:
            c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            through = through * (1.0 - beyond(c * x + s * y) * slab(c * y - s * x, self.vane_width))
        return through


def _near(distance: Tensor, reach: float) -> slice:
    """The stretch of positions within `reach`."""
    inside = (distance.abs() <= reach).nonzero()
    return slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 0)


@lru_cache(maxsize=8)
def _pupil(aperture: Aperture, cells: int) -> tuple[Tensor, Tensor]:
    # a cell beyond each edge, which the outermost rim reaches into
    cell = aperture.extent / (cells - 2)
    x = (torch.arange(cells, dtype=torch.float64) - 0.5 * (cells - 1)) * cell
    return x, aperture._through(x, x[:, None], cell)
