"""An axion vortex as a uniform rod with a core, through the centre of the lens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lensgen import exact
from lensgen.mass import mass_profile
from lensgen.parameters import FAR, Parameter
from lensgen.priors import Direction, Prior
from lensgen.scene import Component
from lensgen.substructure.population import MASS, RADII, Drawn, Draws, Host, Population, by_name


def half_length_of(axion_mass: Tensor) -> Tensor:
    """eV -> arcsec: 0.03" at 1e-22 eV, inversely proportional; DeepLenseSim's rule for z_lens = 0.5."""
    return 0.03e-22 * (1.0 / axion_mass)


AXION_MASS = Parameter("axion_mass", "eV", 3e-28, 3e-20, "the half-length is within [1e-4, 1e4] arcsec")


@dataclass(frozen=True)
class VortexRod(Population):
    """Args:
    mass: Msun, the whole vortex.
    axion_mass: eV; half-length = 0.03" (1e-22 eV / axion_mass), as in DeepLenseSim, good for z_lens near 0.5.
    core: Plummer core radius across the rod, arcsec.
    """

    mass: Prior
    axion_mass: Prior
    core: float
    name: ClassVar[str] = "vortex_rod"
    ranges = by_name(MASS, AXION_MASS, Parameter("core", "arcsec", 0.0, FAR, "Plummer core radius across the rod"))

    def draw(self, draws: Draws, host: Host, prefix: str) -> Drawn:
        mass = draws.value(f"{prefix}.mass", self.mass)
        axion_mass = draws.value(f"{prefix}.axion_mass", self.axion_mass)
        area = mass * host.einstein_area
        half_length = half_length_of(axion_mass)
        parameters = {
            "theta_E": exact.sqrt(area),
            "half_length": half_length,
            "angle": draws.value(f"{prefix}.angle", Direction()),
            "core": torch.full_like(area, self.core),
            "center_x": host.center_x,
            "center_y": host.center_y,
        }
        share = area / (host.theta_E * host.theta_E)
        ends = host.theta_E / half_length
        enclosed = tuple(share * (ends * radius).clamp(max=1.0) for radius in RADII)  # the core is not counted
        labels = {"mass": mass, "axion_mass": axion_mass, "half_length": half_length, "angle": parameters["angle"]}
        return Drawn((Component("vortex", mass_profile("vortex"), parameters),), enclosed, labels)


POPULATION = VortexRod
