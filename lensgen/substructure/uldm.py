"""Subhalos of ultra-light dark matter ("fuzzy", axion-like): those of cdm_physical, fewer, and with a soliton each.

Numbers: (1 + (m/m0)^-1.1)^-2.2, m0 = 1.6e10 Msun m22^(-4/3) (Schive et al. 2016, ApJ 818, 89, equation 7), with
m22 = axion_mass / 1e-22 eV. Concentrations: (1 + 21.42 (m0/m)^1.62)^-0.42 with the redshift factor of Bose et al. 2016
(Laroche et al. 2022, MNRAS 517, 1867, as pyHalo has it). Solitons: core radius
r_c = 1.6 kpc / m22 a^(1/2) (zeta(z)/zeta(0))^(-1/6) (m / 1e9 Msun)^(-1/3) and central density
0.019 Msun/pc^3 m22^-2 (r_c/kpc)^-4 (Schive et al. 2014, PRL 113, 261302, equations 7 and 3, in physical units), at the
redshift of the lens.

What is approximated: the core follows from the mass at infall, whatever tides have taken; the soliton's mass is taken
out of the truncated NFW halo by lowering the density of the latter everywhere alike, with its cusp; where less mass is
left than the soliton needs, all of it is a soliton, of the larger radius that such a mass has. So no mass is made or
lost. The interference granules of the host and the envelopes are left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lensgen import exact
from lensgen.cosmology import Cosmology
from lensgen.mass import mass_profile
from lensgen.parameters import Parameter
from lensgen.priors import Prior
from lensgen.scene import Component
from lensgen.substructure.cdm_physical import CdmPhysical, Part, Subhalos, Suppression, truncated_nfw
from lensgen.substructure.halos import kpc_per_arcsec
from lensgen.substructure.population import Draws, Host, by_name

# Msun kpc m22^2: mass times core radius of a soliton, 4 pi 1.9e7 times the integral of x^2 (1 + 0.091 x^2)^-8
_MASS_TIMES_RADIUS = 2.2014318277e8
_HALF_MASS = 1.1119  # radius of the circle that holds half of a soliton's mass, in core radii
_WIDEST = 100.0  # arcsec; a core as wide is of a halo that suppression leaves to one in 1e6


@dataclass(frozen=True)
class Uldm(CdmPhysical):
    """Args: as CdmPhysical, the mass function being that before suppression, and

    axion_mass: eV, the label of that name.
    """

    axion_mass: Prior
    name: ClassVar[str] = "uldm"
    ranges = by_name(
        *CdmPhysical.ranges.values(),
        Parameter("axion_mass", "eV", 1e-24, 1e-18, "mass of the dark matter particle"),
    )

    def suppression(self, draws: Draws, host: Host, prefix: str) -> tuple[Suppression, dict[str, Tensor]]:
        axion_mass = draws.value(f"{prefix}.axion_mass", self.axion_mass)
        m0 = 1.6e10 * exact.power(axion_mass * 1e22, -4.0 / 3.0)
        return Suppression(m0, (1.0, 1.1, -2.2), (21.42, 1.62, -0.42)), {"axion_mass": axion_mass}

    def parts(self, subhalos: Subhalos, labels: dict[str, Tensor], host: Host) -> tuple[Part, ...]:
        m22 = labels["axion_mass"] * 1e22
        r_c = core_radius(subhalos.mass, m22, host)
        constant = (_MASS_TIMES_RADIUS / (m22 * m22))[:, None]
        bound = subhalos.bound.clamp(min=1.0)
        wanted = constant / r_c
        soliton = torch.minimum(wanted, subhalos.bound)
        r_c = torch.where(bound < wanted, constant / bound, r_c) / kpc_per_arcsec(host)[:, None]
        r_c = r_c.clamp(max=_WIDEST)
        parameters = {
            "theta_E": exact.sqrt(soliton * host.einstein_area[:, None]),
            "r_c": r_c,
            "center_x": subhalos.x,
            "center_y": subhalos.y,
        }
        cores = Component("cores", mass_profile("soliton"), parameters, subhalos.count)
        outside = subhalos.bound - soliton
        return truncated_nfw(subhalos, outside / bound, outside), Part(cores, soliton, _HALF_MASS * r_c)


def core_radius(mass: Tensor, m22: Tensor, host: Host) -> Tensor:
    """Schive's core radius in kpc of halos `[B, N]`, Msun."""
    a = 1.0 / (1.0 + host.z_lens)
    growth = _zeta(host.cosmology, host.z_lens) / _zeta(host.cosmology, 0.0 * host.z_lens)
    at_z = exact.sqrt(a) * exact.power(growth, -1.0 / 6.0) / m22
    return 1.6 * at_z[:, None] * exact.power(mass * 1e-9, -1.0 / 3.0)


def _zeta(cosmology: Cosmology, z: Tensor) -> Tensor:
    """Virial overdensity in units of the mean density (Bryan & Norman 1998)."""
    matter, E = cosmology.Om0 * ((1.0 + z) * (1.0 + z) * (1.0 + z)), cosmology.expansion(z)
    excess = matter / (E * E) - 1.0
    return (18.0 * math.pi**2 + 82.0 * excess - 39.0 * excess * excess) / (excess + 1.0)


POPULATION = Uldm
