"""Cold dark matter subhalos as softened point masses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from lensgen import exact
from lensgen.mass import mass_profile
from lensgen.priors import Prior
from lensgen.scene import Component
from lensgen.substructure.population import (
    COUNT,
    MASS,
    RADIUS,
    SOFTENING,
    Drawn,
    Draws,
    Host,
    Population,
    by_name,
    count_capacity,
    points_enclosed,
    scattered,
    sum_slots,
)


@dataclass(frozen=True)
class CdmPoints(Population):
    """Args:
    count: subhalos a system.
    mass: Msun each.
    radius: distance from the lens centre, arcsec; directions are random. A power law of slope 1 is uniform in area.
    softening: Plummer core radius in pixels.
    """

    count: Prior
    mass: Prior
    radius: Prior
    softening: float
    name: ClassVar[str] = "cdm_points"
    ranges = by_name(COUNT, MASS, RADIUS, SOFTENING)

    @property
    def capacity(self) -> int:
        return count_capacity(self.count, f"{self.name}.count")

    def draw(self, draws: Draws, host: Host, prefix: str) -> Drawn:
        count = draws.value(f"{prefix}.count", self.count).to(torch.int64)
        mass = draws.values(f"{prefix}.mass", self.mass, self.capacity)
        x, y = scattered(draws, host, prefix, self.radius, self.capacity)
        theta_E = exact.sqrt(mass * host.einstein_area[:, None])
        parameters = {
            "theta_E": theta_E,
            "softening": torch.full_like(x, self.softening * host.pixel_scale),
            "center_x": x,
            "center_y": y,
        }
        component = Component("subhalos", mass_profile("point"), parameters, count)
        labels = {"count": count.to(torch.float64), "total_mass": sum_slots(mass, count)}
        return Drawn((component,), points_enclosed(theta_E, x, y, count, host), labels)


POPULATION = CdmPoints
