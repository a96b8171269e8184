"""Elliptical power law (Tessore & Metcalf 2015, A&A 580, A79).

kappa = (3 - gamma)/2 (theta_E / R)^(gamma - 1), R the product-average elliptical radius. The angular part of the
deflection (their equation 23) is a series in e^{2i phi} whose ratio goes to c = |e|: its length `terms` follows from
the largest ellipticity that a preset declares (`series_terms`), never from the batch at hand.
"""

from __future__ import annotations

import math

from lensgen import fmath as fm
from lensgen.conventions import direction, elliptical_radius, rotated
from lensgen.parameters import CENTER, ELLIPTICITY, FAR, MAX_ELLIPTICITY, Parameter
from lensgen.profile import MassProfile

_FLOOR = 1e-9  # arcsec
_TINY = 1e-20  # keeps log(theta_E) finite in an empty slot


def series_terms(max_ellipticity: float, double: bool) -> int:
    """How many terms bring the series to rounding error for all |e| <= max_ellipticity."""
    accuracy = 2e-16 if double else 6e-8
    return max(4, math.ceil(math.log(accuracy) / math.log(max(max_ellipticity, 1e-3))))


def _scale(theta_E, gamma, R):
    """theta_E (theta_E / R)^(gamma - 2): exactly 0 in an empty slot."""
    return theta_E * fm.exp((gamma - 2.0) * fm.log(fm.maximum(theta_E, _TINY) / R))


def deflection(x, y, theta_E, gamma, e1, e2, center_x, center_y, terms):
    """Equations 13 and 23, without a rotation to the principal axes.

    With zeta = z - e conj(z), z = dx + i dy and e = e1 + i e2: |zeta| = n R with n^2 = 1 - |e|^2, the direction of zeta
    is that of e^{i phi}, and the series runs in powers of w = conj(e) (zeta / |zeta|)^2. So nothing depends on the
    direction of the major axis, which a round lens has not: gradients at e = 0 are as accurate as elsewhere.
    """
    dx, dy = x - center_x, y - center_y
    t = gamma - 1.0
    n = fm.sqrt(1.0 - e1 * e1 - e2 * e2)
    length, cosine, sine, real_w, imag_w = direction(dx, dy, e1, e2, _FLOOR)
    square = e1 * e1 + e2 * e2  # |w|^2

    # Clenshaw's recurrence for the sum of a_k w^k, a_k = ratio_k a_(k-1), in units of a_k so that nothing
    # is divided by a coefficient that may be 0. `k` counts in reals because formulas have no integers.
    k = float(terms) + 0.0 * t
    ratio = -(2.0 * k - 2.0 + t) / (2.0 * k + 2.0 - t)
    last, sum_ = 0.0 * length, 1.0 + 0.0 * length
    for _ in range(terms - 1):
        k = k - 1.0
        lower = -(2.0 * k - 2.0 + t) / (2.0 * k + 2.0 - t)
        sum_, last = 1.0 + 2.0 * lower * real_w * sum_ - lower * ratio * square * last, sum_
        ratio = lower
    # here sum_ = B_0 and last = B_1 with b_1 = a_1 B_1, ratio = a_1
    real = sum_ - ratio * real_w * last
    imaginary = ratio * imag_w * last

    scale = n * _scale(theta_E, gamma, length / n)
    ax, ay = rotated(real, imaginary, cosine, -sine)
    return scale * ax, scale * ay


def potential(x, y, theta_E, gamma, e1, e2, center_x, center_y, terms):
    ax, ay = deflection(x, y, theta_E, gamma, e1, e2, center_x, center_y, terms)
    return ((x - center_x) * ax + (y - center_y) * ay) / (3.0 - gamma)


def convergence(x, y, theta_E, gamma, e1, e2, center_x, center_y, terms):
    R = elliptical_radius(x - center_x, y - center_y, e1, e2, _FLOOR)
    return 0.5 * (3.0 - gamma) / R * _scale(theta_E, gamma, R)


PROFILE = MassProfile(
    name="epl",
    lenstronomy="EPL",
    parameters=(
        Parameter("theta_E", "arcsec", 0.0, FAR, "Einstein radius"),
        Parameter("gamma", "1", 1.2, 2.8, "slope of the three-dimensional density, 2 for isothermal"),
        *ELLIPTICITY,
        *CENTER,
    ),
    strength=("theta_E",),
    statics={"terms": series_terms(MAX_ELLIPTICITY, double=True)},
    deflection=deflection,
    potential=potential,
    convergence=convergence,
)
