"""Singular isothermal ellipsoid (Kormann, Schneider & Bartelmann 1994, equations 27 and 28).

theta_E is the product-average ("intermediate axis") one: the critical ellipse has the area pi theta_E^2.
The eccentricity is written sqrt(1 - q^2) = 2 sqrt(c) / (1 + c), c = |e|, which does not cancel as q goes to 1.
"""

from __future__ import annotations

from lensgen import fmath as fm
from lensgen.conventions import elliptical_radius, principal_axes, rotated
from lensgen.parameters import CENTER, ELLIPTICITY, FAR, Parameter
from lensgen.profile import MassProfile

_FLOOR = 1e-9  # arcsec


def _principal_deflection(X, Y, theta_E, c):
    """Deflection along the principal axes X (major) and Y."""
    q = (1.0 - c) / (1.0 + c)
    f = 2.0 * fm.sqrt(c) / (1.0 + c)
    r = fm.sqrt(fm.maximum(X * X + Y * Y, _FLOOR * _FLOOR))
    p = fm.sqrt(fm.maximum(q * q * X * X + Y * Y, 0.01 * _FLOOR * _FLOOR))
    scale = theta_E * fm.sqrt(q) / f
    return scale * fm.atan(f * X / p), scale * fm.asinh(f * Y / (q * r))


def deflection(x, y, theta_E, e1, e2, center_x, center_y):
    c, cosine, sine = principal_axes(e1, e2)
    X, Y = rotated(x - center_x, y - center_y, cosine, sine)
    aX, aY = _principal_deflection(X, Y, theta_E, c)
    return rotated(aX, aY, cosine, -sine)


def potential(x, y, theta_E, e1, e2, center_x, center_y):
    c, cosine, sine = principal_axes(e1, e2)
    X, Y = rotated(x - center_x, y - center_y, cosine, sine)
    aX, aY = _principal_deflection(X, Y, theta_E, c)
    return X * aX + Y * aY


def convergence(x, y, theta_E, e1, e2, center_x, center_y):
    return 0.5 * theta_E / elliptical_radius(x - center_x, y - center_y, e1, e2, _FLOOR)


PROFILE = MassProfile(
    name="sie",
    lenstronomy="SIE",
    parameters=(Parameter("theta_E", "arcsec", 0.0, FAR, "Einstein radius"), *ELLIPTICITY, *CENTER),
    strength="theta_E",
    deflection=deflection,
    potential=potential,
    convergence=convergence,
)
