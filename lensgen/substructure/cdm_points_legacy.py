"""The published DeepLense CDM class: always 25 bare point masses, dN/dm ~ m^-0.9 by the sign of an exponent.

A Poisson(25) count is drawn there and thrown away, and positions are uniform in radius, so the surface density goes
as 1/r. The law is nearly log-uniform: 34 % of these "subhalos" are above 1e9 Msun (0.17 % would be with m^-1.9).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lensgen.priors import Fixed, PowerLaw, Prior, Uniform
from lensgen.substructure.cdm_points import CdmPoints

_COUNT, _MASS, _RADIUS = Fixed(25.0), PowerLaw(-0.9, 1e6, 1e10), Uniform(0.25, 2.0)


@dataclass(frozen=True)
class CdmPointsLegacy(CdmPoints):
    """`CdmPoints` with the published recipe as its defaults."""

    count: Prior = _COUNT
    mass: Prior = _MASS
    radius: Prior = _RADIUS
    softening: float = 0.0
    name: ClassVar[str] = "cdm_points_legacy"


POPULATION = CdmPointsLegacy
