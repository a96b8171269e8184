"""An axion vortex as a row of equal point masses, ends included, as the published DeepLense sets made it.

N such points act as a rod N/(N-1) times as long; where they lie farther apart than a pixel they show one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from lensgen import exact
from lensgen.mass import mass_profile
from lensgen.parameters import Parameter
from lensgen.priors import Direction, Prior
from lensgen.scene import Component
from lensgen.substructure.population import (
    MASS,
    MAX_COUNT,
    SOFTENING,
    Drawn,
    Draws,
    Host,
    Population,
    by_name,
    points_enclosed,
)
from lensgen.substructure.vortex_rod import AXION_MASS, half_length_of


@dataclass(frozen=True)
class VortexPoints(Population):
    """Args:
    mass: Msun, the whole vortex.
    axion_mass: eV; half-length = 0.03" (1e-22 eV / axion_mass), as in DeepLenseSim.
    points: how many; the published sets have 100.
    softening: Plummer core radius of each in pixels; the published sets have 0.
    """

    mass: Prior
    axion_mass: Prior
    points: int
    softening: float
    name: ClassVar[str] = "vortex_points"
    ranges = by_name(MASS, AXION_MASS, Parameter("points", "1", 1, MAX_COUNT, "how many"), SOFTENING)

    @property
    def capacity(self) -> int:
        return self.points

    def draw(self, draws: Draws, host: Host, prefix: str) -> Drawn:
        mass = draws.value(f"{prefix}.mass", self.mass)
        axion_mass = draws.value(f"{prefix}.axion_mass", self.axion_mass)
        half_length = half_length_of(axion_mass)
        angle = draws.value(f"{prefix}.angle", Direction())
        place = (
            torch.arange(self.points, dtype=torch.float64, device=mass.device) * (2.0 / max(self.points - 1, 1)) - 1.0
        )
        along = half_length[:, None] * place
        x = host.center_x[:, None] + along * exact.cos(angle)[:, None]
        y = host.center_y[:, None] + along * exact.sin(angle)[:, None]
        theta_E = exact.sqrt(mass * host.einstein_area * (1.0 / self.points))[:, None].expand_as(x)
        parameters = {
            "theta_E": theta_E,
            "softening": torch.full_like(x, self.softening * host.pixel_scale),
            "center_x": x,
            "center_y": y,
        }
        count = torch.full_like(mass, self.points).to(torch.int64)
        labels = {"mass": mass, "axion_mass": axion_mass, "half_length": half_length, "angle": angle}
        component = Component("vortex", mass_profile("point"), parameters, count)
        return Drawn((component,), points_enclosed(theta_E, x, y, count, host), labels)


POPULATION = VortexPoints
