"""Truncated NFW halo, rho = rho_NFW tau^2 / (tau^2 + x^2) (Baltz, Marshall & Oguri 2009, appendix A, n = 1).

Their projected mass (equation A.9) cancels catastrophically at small x. `_mass` is the same expression regrouped
so that every term is of order x^2.
"""

from __future__ import annotations

import math

import numpy as np

from lensgen import fmath as fm
from lensgen.mass.nfw import F, F_slope, g, scaled_density, scaled_radius
from lensgen.parameters import CENTER, FAR, Parameter
from lensgen.profile import MassProfile

_MIDDLE = 1.5  # x beyond which the outer form of the first term is the stable one
_QUADRATURE = tuple(
    (0.5 * (1.0 + float(s)), 0.5 * float(w)) for s, w in zip(*np.polynomial.legendre.leggauss(32), strict=True)
)


def _mass(X, tau):
    """Projected mass inside x, in units of 4 pi rho0 Rs^3: x^2 / (4 rho0 Rs) times the mean convergence."""
    t2 = tau * tau
    z = X * X
    S = fm.sqrt(t2 + z)
    F_of_X = F(X)
    s = fm.sqrt(fm.maximum(z - 1.0, _MIDDLE * _MIDDLE - 1.0))
    inner = z * (2.0 * F_of_X - math.pi * (1.0 / (tau + S)))
    outer = z / s * (math.pi * (tau + (t2 + 1.0) / (S + s)) / (tau + S) - 2.0 * fm.atan(1.0 / s))
    d = z / (tau * (tau + S))
    rest = g(X, F_of_X) - fm.log1p(0.5 * d) - d * fm.asinh(tau / X)
    scale = t2 / ((t2 + 1.0) * (t2 + 1.0))
    return scale * (fm.where(X > _MIDDLE, outer, inner) + (t2 - 1.0) * rest)


def deflection(x, y, Rs, alpha_Rs, tau, center_x, center_y):
    dx, dy = x - center_x, y - center_y
    X = scaled_radius(dx, dy, Rs)
    mean_kappa = 4.0 * scaled_density(Rs, alpha_Rs) * _mass(X, tau) / (X * X)
    return mean_kappa * dx, mean_kappa * dy


def _sinh(u):
    small = fm.minimum(u, 0.1)
    z = small * small
    series = small * (1.0 + z / 6.0 * (1.0 + z / 20.0 * (1.0 + z / 42.0)))
    return fm.where(u < 0.1, series, 0.5 * (fm.exp(u) - fm.exp(-u)))


def potential(x, y, Rs, alpha_Rs, tau, center_x, center_y):
    """psi(r), the integral of the deflection from 0 to r, by 32-point Gauss-Legendre quadrature.

    The integrand changes at x of about 1 and tau, which may be far apart and far below x: the nodes are spread over
    x' = sqrt(tau) sinh(s^2 asinh(x / sqrt(tau))). Relative error below 3e-9 for all tau and x <= 1e5.
    """
    X = scaled_radius(x - center_x, y - center_y, Rs)
    middle = fm.sqrt(tau)
    reach = fm.asinh(X / middle)
    total = 0.0 * X
    for s, weight in _QUADRATURE:
        u = reach * (s * s)
        sinh = _sinh(u)
        coth = 0.5 * (fm.exp(u) + fm.exp(-u)) / sinh
        total = total + (weight * 2.0 * s) * coth * _mass(fm.maximum(middle * sinh, 1e-12), tau)
    return 4.0 * scaled_density(Rs, alpha_Rs) * Rs * Rs * reach * total


def convergence(x, y, Rs, alpha_Rs, tau, center_x, center_y):
    """Equation A.8. Accurate in units of kappa(Rs); beyond x >> tau the terms cancel in float32."""
    X = scaled_radius(x - center_x, y - center_y, Rs)
    t2 = tau * tau
    S = fm.sqrt(t2 + X * X)
    scale = t2 / ((t2 + 1.0) * (t2 + 1.0))
    shape = (t2 + 1.0) * F_slope(X) + 2.0 * F(X) - math.pi / S - (t2 - 1.0) / (tau * S) * fm.asinh(tau / X)
    return 2.0 * scaled_density(Rs, alpha_Rs) * scale * shape


PROFILE = MassProfile(
    name="tnfw",
    lenstronomy="TNFW",
    parameters=(
        Parameter("Rs", "arcsec", 1e-6, FAR, "scale radius"),
        Parameter("alpha_Rs", "arcsec", 0.0, FAR, "deflection at the scale radius, were it not truncated"),
        Parameter("tau", "1", 1e-2, 1e3, "truncation radius in units of the scale radius"),
        *CENTER,
    ),
    strength=("alpha_Rs",),
    deflection=deflection,
    potential=potential,
    convergence=convergence,
    smooth=True,
)
