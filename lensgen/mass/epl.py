"""Elliptical power law (Tessore & Metcalf 2015, A&A 580, A79).

kappa = (3 - gamma)/2 (theta_E / R)^(gamma - 1), R the product-average elliptical radius. The angular part of the
deflection (their equation 23) is a series in e^{2i phi} whose ratio goes to c = |e|: its length `terms` follows from
the largest ellipticity that a preset declares (`series_terms`), never from the batch at hand.
"""

from __future__ import annotations

import math

from lensgen import fmath as fm
from lensgen.conventions import elliptical_radius, principal_axes, rotated
from lensgen.parameters import CENTER, ELLIPTICITY, FAR, Parameter
from lensgen.profile import MassProfile

_FLOOR = 1e-9  # arcsec
_TINY = 1e-20  # keeps log(theta_E) finite in an empty slot


def series_terms(max_ellipticity: float, double: bool) -> int:
    """How many terms bring the series to rounding error for all |e| <= max_ellipticity."""
    accuracy = 2e-16 if double else 6e-8
    return max(4, math.ceil(math.log(accuracy) / math.log(max(max_ellipticity, 1e-3))))


def _principal_deflection(X, Y, theta_E, gamma, c, terms):
    """Equations 13 and 23: deflection along the principal axes X (major) and Y."""
    q = (1.0 - c) / (1.0 + c)
    t = gamma - 1.0
    b = theta_E * fm.sqrt(q)
    zX = q * X
    R = fm.sqrt(fm.maximum(zX * zX + Y * Y, _FLOOR * _FLOOR))
    cosine, sine = zX / R, Y / R
    cos2, sin2 = cosine * cosine - sine * sine, 2.0 * cosine * sine

    # Clenshaw's recurrence for the sum of a_n e^{2in phi}, a_n = ratio_n a_(n-1), in units of a_n so that nothing
    # is divided by a coefficient that may be 0. `n` counts in reals because formulas have no integers.
    n = float(terms) + 0.0 * t
    ratio = -c * (2.0 * n - 2.0 + t) / (2.0 * n + 2.0 - t)
    last, sum_ = 0.0 * zX, 1.0 + 0.0 * zX
    for _ in range(terms - 1):
        n = n - 1.0
        lower = -c * (2.0 * n - 2.0 + t) / (2.0 * n + 2.0 - t)
        sum_, last = 1.0 + 2.0 * lower * cos2 * sum_ - lower * ratio * last, sum_
        ratio = lower
    # here sum_ = B_0 and last = B_1 with b_1 = a_1 B_1, ratio = a_1
    real = sum_ - ratio * cos2 * last
    imaginary = ratio * sin2 * last

    scale = 2.0 * b / (1.0 + q) * fm.exp((t - 1.0) * fm.log(fm.maximum(b, _TINY) / R))
    return scale * (cosine * real - sine * imaginary), scale * (sine * real + cosine * imaginary)


def deflection(x, y, theta_E, gamma, e1, e2, center_x, center_y, terms):
    c, cosine, sine = principal_axes(e1, e2)
    X, Y = rotated(x - center_x, y - center_y, cosine, sine)
    aX, aY = _principal_deflection(X, Y, theta_E, gamma, c, terms)
    return rotated(aX, aY, cosine, -sine)


def potential(x, y, theta_E, gamma, e1, e2, center_x, center_y, terms):
    c, cosine, sine = principal_axes(e1, e2)
    X, Y = rotated(x - center_x, y - center_y, cosine, sine)
    aX, aY = _principal_deflection(X, Y, theta_E, gamma, c, terms)
    return (X * aX + Y * aY) / (3.0 - gamma)


def convergence(x, y, theta_E, gamma, e1, e2, center_x, center_y, terms):
    R = elliptical_radius(x - center_x, y - center_y, e1, e2, _FLOOR)
    return 0.5 * (3.0 - gamma) * fm.exp((gamma - 1.0) * fm.log(fm.maximum(theta_E, _TINY) / R))


PROFILE = MassProfile(
    name="epl",
    lenstronomy="EPL",
    parameters=(
        Parameter("theta_E", "arcsec", 0.0, FAR, "Einstein radius"),
        Parameter("gamma", "1", 1.2, 2.8, "slope of the three-dimensional density, 2 for isothermal"),
        *ELLIPTICITY,
        *CENTER,
    ),
    strength="theta_E",
    statics=("terms",),
    deflection=deflection,
    potential=potential,
    convergence=convergence,
)
