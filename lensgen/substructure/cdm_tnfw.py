"""Cold dark matter subhalos as truncated NFW halos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lensgen import exact
from lensgen.mass import mass_profile
from lensgen.parameters import Parameter
from lensgen.priors import Normal, Prior
from lensgen.scene import Component
from lensgen.substructure import halos
from lensgen.substructure.population import (
    COUNT,
    MASS,
    RADIUS,
    Drawn,
    Draws,
    Host,
    Population,
    by_name,
    count_capacity,
    halos_enclosed,
    scattered,
    sum_slots,
)


@dataclass(frozen=True)
class CdmTNFW(Population):
    """Args:
    count: subhalos a system.
    mass: infall mass M200 each, Msun.
    radius: distance from the lens centre, arcsec; directions are random. A power law of slope 1 is uniform in area.
    concentration: median c200 at 1e8 Msun.
    concentration_slope: d ln c / d ln m.
    concentration_scatter: standard deviation of ln c.
    tau: truncation radius in scale radii.
    """

    count: Prior
    mass: Prior
    radius: Prior
    concentration: float
    concentration_slope: float
    concentration_scatter: float
    tau: Prior
    name: ClassVar[str] = "cdm_tnfw"
    ranges = by_name(
        COUNT,
        MASS,
        RADIUS,
        Parameter("concentration", "1", 1.2, 1e4, "median c200 at 1e8 Msun"),
        Parameter("concentration_slope", "1", -1.0, 1.0, "d ln c / d ln m"),
        Parameter("concentration_scatter", "1", 0.0, 3.0, "standard deviation of ln c"),
        Parameter("tau", "1", 1e-2, 1e3, "truncation radius in scale radii"),
    )

    @property
    def capacity(self) -> int:
        return count_capacity(self.count, f"{self.name}.count")

    def _structure(self, draws: Draws, host: Host, prefix: str, mass: Tensor) -> tuple[Tensor, Tensor]:
        """Masses `[B, N]` -> (Rs, alpha_Rs) in arcsec, by r200 at the lens redshift and the drawn concentration."""
        deviate = draws.values(f"{prefix}.concentration", Normal(0.0, 1.0), self.capacity)
        median = self.concentration * exact.power(mass * 1e-8, self.concentration_slope)
        c = (median * exact.exp(self.concentration_scatter * deviate)).clamp(min=halos.LEAST_CONCENTRATION)
        return halos.nfw_in_angles(mass, c, halos.enclosed_nfw(c), host)

    def draw(self, draws: Draws, host: Host, prefix: str) -> Drawn:
        count = draws.value(f"{prefix}.count", self.count).to(torch.int64)
        mass = draws.values(f"{prefix}.mass", self.mass, self.capacity)
        x, y = scattered(draws, host, prefix, self.radius, self.capacity)
        Rs, alpha_Rs = self._structure(draws, host, prefix, mass)
        parameters = {
            "Rs": Rs,
            "alpha_Rs": alpha_Rs,
            "tau": draws.values(f"{prefix}.tau", self.tau, self.capacity),
            "center_x": x,
            "center_y": y,
        }
        component = Component("subhalos", mass_profile("tnfw"), parameters, count)
        labels = {"count": count.to(torch.float64), "total_mass": sum_slots(mass, count)}
        return Drawn((component,), halos_enclosed(component, count, host), labels)


POPULATION = CdmTNFW
