"""Warm dark matter subhalos: those of cdm_physical, fewer and less concentrated below the half-mode mass.

Numbers: (1 + (4.2 M_hm/m)^2.5)^-0.2 (Lovell 2020, ApJ 897, 147, for subhalos; the constants as pyHalo has them).
Concentrations: (1 + z)^(0.026 z - 0.04) (1 + 60 M_hm/m)^-0.17 (Bose et al. 2016, MNRAS 455, 318, equation 17).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lensgen.parameters import Parameter
from lensgen.priors import Prior
from lensgen.substructure.cdm_physical import CdmPhysical, Suppression
from lensgen.substructure.population import Draws, Host, by_name


@dataclass(frozen=True)
class Wdm(CdmPhysical):
    """Args: as CdmPhysical, the mass function being that before suppression, and

    half_mode_mass: Msun, the label of that name.
    """

    half_mode_mass: Prior
    name: ClassVar[str] = "wdm"
    ranges = by_name(
        *CdmPhysical.ranges.values(),
        Parameter("half_mode_mass", "Msun", 1.0, 1e12, "half-mode mass of the matter power spectrum"),
    )

    def suppression(self, draws: Draws, host: Host, prefix: str) -> tuple[Suppression, dict[str, Tensor]]:
        mass = draws.value(f"{prefix}.half_mode_mass", self.half_mode_mass)
        return Suppression(mass, (4.2, 2.5, -0.2), (60.0, 1.0, -0.17)), {"half_mode_mass": mass}


POPULATION = Wdm
