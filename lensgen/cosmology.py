"""Distances in a flat Lambda-CDM universe, and from mass to Einstein radius.

In float64 and in `lensgen.exact` arithmetic, since redshifts are drawn and every machine must draw the same lens.
Agrees with astropy's FlatLambdaCDM (no radiation) to 1e-10 for z <= 6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lensgen import exact, fmath
from lensgen.errors import ParameterError, require_number, unknown_name

SPEED_OF_LIGHT = 299792.458  # km/s
ARCSEC = 206264.80624709636  # in a radian
_G_MSUN_OVER_C2 = 4.785415841587842e-20  # G Msun / c^2 in Mpc (IAU 2015 nominal solar mass parameter)
_G_MSUN = 4.300917270036279e-9  # Mpc (km/s)^2 / Msun

DISTANCE_RULES = ("angular", "deeplense")


@dataclass(frozen=True)
class Cosmology:
    """Args:
    H0: Hubble constant, km/s/Mpc.
    Om0: matter density today, in units of the critical density.
    distance_rule: "angular" for angular-diameter distances; "deeplense" for the rule of the published DeepLense
        sets, which puts luminosity distances and their difference into the formula of the Einstein radius and so
        makes it 1.2989 times too small at z = 0.5, 1.0.
    """

    H0: float = 70.0
    Om0: float = 0.3
    distance_rule: str = "angular"

    def __post_init__(self) -> None:
        require_number("cosmology.H0", self.H0, 20.0, 150.0, "km/s/Mpc")
        require_number("cosmology.Om0", self.Om0, 0.01, 1.0)
        if self.distance_rule not in DISTANCE_RULES:
            raise unknown_name("cosmology.distance_rule", self.distance_rule, DISTANCE_RULES)

    def expansion(self, z: Tensor) -> Tensor:
        """E(z) = H(z) / H0."""
        a = 1.0 + z
        return exact.sqrt(self.Om0 * (a * a * a) + (1.0 - self.Om0))

    def comoving_distance(self, z: Tensor) -> Tensor:
        """Line-of-sight comoving distance in Mpc, `[...]` -> `[...]`."""
        total = torch.zeros_like(z)
        for node, weight in exact.GAUSS_LEGENDRE:
            total = total + weight * (1.0 / self.expansion(node * z) + 1.0 / self.expansion((1.0 - node) * z))
        return SPEED_OF_LIGHT / self.H0 * z * total

    def distances(self, z_lens: Tensor, z_source: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Angular-diameter distances (D_l, D_s, D_ls) in Mpc; the source must lie behind the lens."""
        behind = z_source > z_lens
        if not fmath.holds(behind):
            zl, zs = (t.expand_as(behind)[~behind].flatten()[0].item() for t in (z_lens, z_source))
            raise ParameterError(
                f"z_source = {zs:g} is not behind z_lens = {zl:g}: allowed is z_source > z_lens. "
                "Fix: separate the two ranges of redshift."
            )
        lens, source = self.comoving_distance(z_lens), self.comoving_distance(z_source)
        return lens / (1.0 + z_lens), source / (1.0 + z_source), (source - lens) / (1.0 + z_source)

    def einstein_area(self, z_lens: Tensor, z_source: Tensor) -> Tensor:
        """theta_E^2 of a point of one solar mass, arcsec^2: (4 G M / c^2) D_ls / (D_l D_s)."""
        D_l, D_s, D_ls = self.distances(z_lens, z_source)
        if self.distance_rule == "deeplense":
            D_l, D_s = D_l * (1.0 + z_lens) * (1.0 + z_lens), D_s * (1.0 + z_source) * (1.0 + z_source)
            return 206265.0 * 206265.0 * 4.0 * _G_MSUN_OVER_C2 * (D_s - D_l) / (D_l * D_s)
        return ARCSEC * ARCSEC * 4.0 * _G_MSUN_OVER_C2 * D_ls / (D_l * D_s)

    def isothermal_radius(self, sigma_v: Tensor, z_lens: Tensor, z_source: Tensor) -> Tensor:
        """Einstein radius of an isothermal sphere of velocity dispersion sigma_v (km/s), arcsec: 4 pi (sigma_v/c)^2
        D_ls/D_s (Narayan & Bartelmann 1996, equation 46)."""
        _, D_s, D_ls = self.distances(z_lens, z_source)
        return 4.0 * math.pi * ARCSEC / SPEED_OF_LIGHT**2 * sigma_v * sigma_v * D_ls / D_s

    def critical_density(self, z_lens: Tensor, z_source: Tensor) -> Tensor:
        """Critical surface density in Msun / arcsec^2."""
        return 1.0 / (math.pi * self.einstein_area(z_lens, z_source))

    def matter_critical_density(self, z: Tensor) -> Tensor:
        """3 H(z)^2 / (8 pi G) in Msun / Mpc^3."""
        H = self.H0 * self.expansion(z)
        return 3.0 / (8.0 * math.pi * _G_MSUN) * H * H

    def reduced_ratio(self, z_lens: Tensor, z_source: Tensor, z_convention: Tensor) -> Tensor:
        """By how much deflections shrink when they were stated for a source at z_convention: (D_ls/D_s) ratio."""
        _, D_s, D_ls = self.distances(z_lens, z_source)
        _, D_c, D_lc = self.distances(z_lens, z_convention)
        return (D_ls / D_s) / (D_lc / D_c)
