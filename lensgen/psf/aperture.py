"""What a telescope lets through: a disc or hexagonal segments, less what stands in the way."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from lensgen.errors import ParameterError, require_number, require_whole

_FLATS = ((0.0, 1.0), (0.5 * math.sqrt(3.0), 0.5), (0.5 * math.sqrt(3.0), -0.5))  # normals of a segment's flats


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
        if not isinstance(self.vanes, list | tuple):
            raise ParameterError(f"aperture.vanes = {self.vanes!r} must be a list of directions, e.g. [0, 90].")
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

        def beyond(distance: Tensor, c: Tensor | float, s: Tensor | float) -> Tensor:
            """Share of a cell that lies beyond a straight edge, `distance` before its middle with the normal (c, s)."""
            c, s = (torch.as_tensor(v, dtype=torch.float64).abs() for v in (c, s))
            wide, narrow = torch.maximum(c, s), torch.minimum(c, s).clamp(min=1e-3)
            d, total = (distance / cell).clamp(-1.0, 1.0), torch.zeros((), dtype=torch.float64)
            for sign, corner in ((1, wide + narrow), (-1, wide - narrow), (-1, narrow - wide), (1, -wide - narrow)):
                total = total + sign * (d + 0.5 * corner).clamp(min=0.0).square()
            return total / (2.0 * wide * narrow)

        def slab(c: float, s: float, x: Tensor, y: Tensor, width: float) -> Tensor:
            """Share within half a width of the line through 0 with the normal (c, s)."""
            distance = c * x + s * y
            return beyond(distance + 0.5 * width, c, s) - beyond(distance - 0.5 * width, c, s)

        r = torch.sqrt(x * x + y * y).clamp(min=1e-3 * cell)
        if self.rings:
            through = torch.zeros_like(r)
            for cx, cy in self._segments():
                rows, columns = _near(y.flatten() - cy, self.segment), _near(x - cx, self.segment)
                dx, dy = x[columns] - cx, y[rows] - cy
                inside = [slab(c, s, dx, dy, self.segment) for c, s in _FLATS]
                through[rows, columns] += inside[0] * inside[1] * inside[2]
        else:
            through = beyond(0.5 * self.diameter - r, x / r, y / r)
        if self.obstruction > 0.0:
            through = through * beyond(r - 0.5 * self.obstruction * self.diameter, x / r, y / r)
        for angle in self.vanes:
            c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            through = through * (1.0 - beyond(c * x + s * y, c, s) * slab(-s, c, x, y, self.vane_width))
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
