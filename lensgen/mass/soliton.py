"""Core of a halo of ultra-light dark matter, rho = rho_c (1 + 0.091 (r/r_c)^2)^-8 (Schive et al. 2014, equation 3).

theta_E belongs to the total mass, r_c is the radius at which the density has fallen by half. With
u = 0.091 (r/r_c)^2 the mean convergence is theta_E^2 / r^2 (1 - (1 + u)^(-13/2)) and the convergence is
13/2 0.091 theta_E^2 / r_c^2 (1 + u)^(-15/2). In s = (1 + u)^(-1/2) both are polynomials; nothing cancels at small r.
"""

from __future__ import annotations

from lensgen import fmath as fm
from lensgen.parameters import CENTER, FAR, Parameter
from lensgen.profile import MassProfile

_HALF = 0.091  # Schive's: half of the density at r_c to 0.5 %
# sum over odd k <= 11 of (1 - s^k) / k = (1 - s) sum_j c_j s^j, c_j = sum of 1/k over odd k > j; from j = 10 down
_SERIES = tuple(sum(1.0 / k for k in range(1, 12, 2) if k > j) for j in range(10, -1, -1))


def _scaled_square(x, y, r_c, center_x, center_y):
    dx, dy = (x - center_x) / r_c, (y - center_y) / r_c
    return _HALF * (dx * dx + dy * dy)


def deflection(x, y, theta_E, r_c, center_x, center_y):
    """1 - s^13 = (1 - s) (1 + s + ... + s^12), 1 - s = u s^2 / (1 + s), and the sum in factors."""
    s = 1.0 / fm.sqrt(1.0 + _scaled_square(x, y, r_c, center_x, center_y))
    q = s * s
    sum_ = 1.0 + s * (1.0 + s) * (1.0 + q + q * q) * (1.0 + q * q * q)
    strength = theta_E / r_c
    mean_kappa = _HALF * (strength * strength) * (q * sum_ / (1.0 + s))
    return mean_kappa * (x - center_x), mean_kappa * (y - center_y)


def potential(x, y, theta_E, r_c, center_x, center_y):
    """theta_E^2 [ln((1 + 1/s) / 2) + sum over odd k <= 11 of (1 - s^k) / k], 0 at the centre."""
    u = _scaled_square(x, y, r_c, center_x, center_y)
    w = fm.sqrt(1.0 + u)
    above = u / (1.0 + w)  # w - 1
    s = 1.0 / w
    series = 0.0 * s
    for c in _SERIES:
        series = series * s + c
    return theta_E * theta_E * (fm.log1p(0.5 * above) + above * s * series)


def convergence(x, y, theta_E, r_c, center_x, center_y):
    s = 1.0 / fm.sqrt(1.0 + _scaled_square(x, y, r_c, center_x, center_y))
    cube = s * s * s
    square = cube * cube
    strength = theta_E / r_c
    return 6.5 * _HALF * (strength * strength) * (square * square * cube)


PROFILE = MassProfile(
    name="soliton",
    lenstronomy="ULDM",
    parameters=(
        Parameter("theta_E", "arcsec", 0.0, FAR, "Einstein radius of the total mass"),
        Parameter("r_c", "arcsec", 1e-6, FAR, "core radius"),
        *CENTER,
    ),
    strength=("theta_E",),
    deflection=deflection,
    potential=potential,
    convergence=convergence,
    smooth=True,
)
