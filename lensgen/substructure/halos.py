"""What halos of a mass look like: how concentrated, how far stripped, and what of them lies inside a circle.

All in float64 and `lensgen.exact` arithmetic, `[B, N]` unless it says otherwise.
"""

from __future__ import annotations

import math

from torch import Tensor

from lensgen import exact
from lensgen.cosmology import ARCSEC
from lensgen.substructure.population import Host

LEAST_CONCENTRATION = 1.2  # pyHalo's: scatter may not make a halo less dense than its own mean
_LN2 = 0.6931471805599453

# ln tau of ln y, y = M_tot mu(c) / m200 of a truncated NFW halo, from tau = 0.01 to 300: a Chebyshev fit, good to 4e-6
_LEAST_Y, _MOST_Y = 3.63529849945e-4, 4.71407520588
_MIDDLE, _HALF_WIDTH = -3.184548194050444, 4.73510095216802
_LN_TAU = (
    -0.117728039002, -0.232305999207, 0.181274800024, 0.600211594205, 0.0798557714623, -0.413062469983,
    0.0194609940001, 0.411238474407, 0.284984524314, 0.20746339883, 0.321246927764, 0.438607759296, 0.548219449244,
    0.688794571192, 0.850501672318, 3.45352727435, -1.61851192156,
)  # fmt: skip
# ln of the radius (in Rs) that holds half of the projected mass, of ln tau: good to 1.2 %
_LN_HALF_MASS = (-0.0009896, -0.00074431, 0.60657741, -0.28315161)


def _polynomial(coefficients: tuple[float, ...], x: Tensor) -> Tensor:
    total = coefficients[0] + 0.0 * x
    for c in coefficients[1:]:
        total = total * x + c
    return total


def enclosed_nfw(c: Tensor) -> Tensor:
    """mu(c) = ln(1 + c) - c / (1 + c): the mass of an NFW halo inside c scale radii, over 4 pi rho_s r_s^3."""
    return exact.log1p(c) - c / (1.0 + c)


def duffy_concentration(mass: Tensor, host: Host) -> Tensor:
    """Median c200 = 5.71 (m h / 2e12 Msun)^-0.084 (1 + z)^-0.47 (Duffy et al. 2008, table 1: all halos, z = 0 to 2)."""
    at_z = exact.power(1.0 + host.z_lens, -0.47)
    return 5.71 * exact.power(mass * (host.cosmology.H0 * 0.01 / 2e12), -0.084) * at_z[:, None]


def kpc_per_arcsec(host: Host) -> Tensor:
    """At the lens, `[B]`."""
    D_l, _, _ = host.cosmology.distances(host.z_lens, host.z_source)
    return D_l * (1e3 / ARCSEC)


def nfw_in_angles(mass: Tensor, c: Tensor, mu: Tensor, host: Host) -> tuple[Tensor, Tensor]:
    """m200 in Msun, concentration and `enclosed_nfw` of it -> (Rs, alpha_Rs) in arcsec, at the lens redshift.

    alpha_Rs = (1 - ln 2) m / (mu(c) pi Sigma_cr Rs): the projected NFW mass inside Rs over pi Sigma_cr Rs (Wright &
    Brainerd 2000, equation 13, at x = 1).
    """
    density = 800.0 * math.pi * host.cosmology.matter_critical_density(host.z_lens)
    r200 = exact.power(3.0 * mass / density[:, None], 1.0 / 3.0)  # Mpc
    D_l, _, _ = host.cosmology.distances(host.z_lens, host.z_source)
    Rs = ARCSEC * r200 / c / D_l[:, None]
    return Rs, (1.0 - _LN2) * mass / mu * host.einstein_area[:, None] / Rs


def truncated(bound: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
    """Truncation tau (in scale radii) that leaves the fraction `bound` of m200, and a factor on alpha_Rs, mostly 1.

    M_tot / m200 = y(tau) / mu(c), y = tau^2 / (tau^2 + 1)^2 [(tau^2 - 1) ln tau + pi tau - (tau^2 + 1)] (Baltz,
    Marshall & Oguri 2009, appendix A), inverted by a fit. A halo stripped further than tau = 0.01 keeps that truncation
    and loses density instead.
    """
    y = bound * mu
    held = y.clamp(_LEAST_Y, _MOST_Y)
    tau = exact.exp(_polynomial(_LN_TAU, (exact.log(held) - _MIDDLE) * (1.0 / _HALF_WIDTH)))
    return tau.clamp(0.01, 300.0), y / held


def half_mass_radius(Rs: Tensor, tau: Tensor) -> Tensor:
    """Radius of the circle that holds half of the projected mass of a truncated NFW halo, arcsec."""
    return Rs * exact.exp(_polynomial(_LN_HALF_MASS, exact.log(tau)))


def fraction_inside(radius: Tensor, distance2: Tensor, size: Tensor) -> Tensor:
    """What part of a halo's mass lies inside a circle of `radius` `[B, 1]`.

    `distance2` is the square of the halo's distance from the circle's centre, `size` its projected half-mass radius. It
    is that of a Plummer lens of this half-mass radius, whose mean outward deflection on the circle has a closed form;
    averaged over halos uniform in area it is right for any profile.
    """
    difference, core = radius * radius - distance2, size * size
    sum_ = radius * radius + distance2
    root = exact.sqrt(difference * difference + core * (2.0 * sum_ + core))
    return 0.5 + 0.5 * (difference - core) / root
