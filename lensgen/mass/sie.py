"""Singular isothermal ellipsoid (Kormann, Schneider & Bartelmann 1994, equations 27 and 28).

theta_E is the product-average ("intermediate axis") one: the critical ellipse has the area pi theta_E^2.
The eccentricity is written sqrt(1 - q^2) = 2 sqrt(c) / (1 + c), c = |e|, which does not cancel as q goes to 1.
"""

from __future__ import annotations

from lensgen import fmath as fm
from lensgen.conventions import direction, elliptical_radius, principal_axes, rotated
from lensgen.parameters import CENTER, ELLIPTICITY, FAR, Parameter
from lensgen.profile import MassProfile

_FLOOR = 1e-9  # arcsec
_SWITCH = 0.03  # |e| below which the deflection is a series
_TERMS = 10  # the first one left out is 0.03^10 / 21 = 3e-17


def _principal_deflection(X, Y, theta_E, c):
    """Deflection along the principal axes X (major) and Y."""
    q = (1.0 - c) / (1.0 + c)
    f = 2.0 * fm.sqrt(c) / (1.0 + c)
    r = fm.sqrt(fm.maximum(X * X + Y * Y, _FLOOR * _FLOOR))
    p = fm.sqrt(fm.maximum(q * q * X * X + Y * Y, 0.01 * _FLOOR * _FLOOR))
    scale = theta_E * fm.sqrt(q) / f
    return scale * fm.atan(f * X / p), scale * fm.asinh(f * Y / (q * r))


def _nearly_round_deflection(dx, dy, theta_E, e1, e2):
    """The same as n theta_E zeta/|zeta| arctan(sqrt w) / sqrt w (the notation is that of epl.py), a series in w.

    It needs no direction of the major axis, which a round lens has not: the closed form would have to elongate it by
    1e-9, and its gradient towards e would be a difference of terms 1e9 times as large.
    """
    _, cosine, sine, real_w, imag_w = direction(dx, dy, e1, e2, _FLOOR)
    real, imaginary = 0.0 * real_w, 0.0 * real_w
    k = 2.0 * _TERMS + 1.0
    for _ in range(_TERMS):
        k = k - 2.0
        real, imaginary = 1.0 / k - real_w * real + imag_w * imaginary, -real_w * imaginary - imag_w * real
    scale = theta_E * fm.sqrt(1.0 - e1 * e1 - e2 * e2)
    ax, ay = rotated(real, imaginary, cosine, -sine)
    return scale * ax, scale * ay


def deflection(x, y, theta_E, e1, e2, center_x, center_y):
    dx, dy = x - center_x, y - center_y
    c, cosine, sine = principal_axes(e1, e2)
    X, Y = rotated(dx, dy, cosine, sine)
    aX, aY = _principal_deflection(X, Y, theta_E, c)
    ax, ay = rotated(aX, aY, cosine, -sine)
    # the series is only finite, and only needed, near w = 0
    shrink = fm.minimum(_SWITCH / c, 1.0)
    bx, by = _nearly_round_deflection(dx, dy, theta_E, shrink * e1, shrink * e2)
    return fm.where(c < _SWITCH, bx, ax), fm.where(c < _SWITCH, by, ay)


def potential(x, y, theta_E, e1, e2, center_x, center_y):
    ax, ay = deflection(x, y, theta_E, e1, e2, center_x, center_y)
    return (x - center_x) * ax + (y - center_y) * ay


def convergence(x, y, theta_E, e1, e2, center_x, center_y):
    return 0.5 * theta_E / elliptical_radius(x - center_x, y - center_y, e1, e2, _FLOOR)


PROFILE = MassProfile(
    name="sie",
    lenstronomy="SIE",
    parameters=(Parameter("theta_E", "arcsec", 0.0, FAR, "Einstein radius"), *ELLIPTICITY, *CENTER),
    strength=("theta_E",),
    deflection=deflection,
    potential=potential,
    convergence=convergence,
)
