"""Axion vortex as a uniform rod of half-length `half_length`, direction `angle` and Plummer core `core`.

The continuum limit of the row of point masses of Alexander et al. 2020 (arXiv:1909.07346): with z = X + iY along and
across the rod, conj(alpha) = theta_E^2 / (2 Lh) [log(z + Lh) - log(z - Lh)], written without its cancellations.
theta_E belongs to the total mass. With core 0 the mass is a line and the convergence away from it is 0.
"""

from __future__ import annotations

import math

from lensgen import fmath as fm
from lensgen.conventions import rotated
from lensgen.parameters import CENTER, FAR, Parameter
from lensgen.profile import MassProfile

_FLOOR = 1e-14  # arcsec^2


def _along_across(x, y, angle, core, center_x, center_y):
    X, Y = rotated(x - center_x, y - center_y, fm.cos(angle), fm.sin(angle))
    h = fm.sqrt(fm.maximum(Y * Y + core * core, _FLOOR))
    return X, Y, h


def distance(x, y, half_length, angle, center_x, center_y):
    """From the nearest point of the rod, arcsec."""
    X, _, h = _along_across(x, y, angle, 0.0, center_x, center_y)
    beyond = fm.maximum(fm.absolute(X) - half_length, 0.0)
    return fm.sqrt(beyond * beyond + h * h)


def _opening_angle(X, h, half_length):
    """The angle under which the rod is seen from (X, h)."""
    return fm.atan2(2.0 * half_length * h, X * X + h * h - half_length * half_length)


def deflection(x, y, theta_E, half_length, angle, core, center_x, center_y):
    X, Y, h = _along_across(x, y, angle, core, center_x, center_y)
    scale = theta_E * theta_E / (2.0 * half_length)
    size = fm.absolute(X)
    beyond = size - half_length
    along = 0.5 * fm.log1p(4.0 * size * half_length / (beyond * beyond + h * h))
    aX = scale * fm.where(X < 0.0, -along, along)
    aY = scale * (Y / h) * _opening_angle(X, h, half_length)
    return rotated(aX, aY, fm.cos(angle), -fm.sin(angle))


def potential(x, y, theta_E, half_length, angle, core, center_x, center_y):
    X, _, h = _along_across(x, y, angle, core, center_x, center_y)
    right, left = X + half_length, X - half_length
    logs = right * fm.log(right * right + h * h) - left * fm.log(left * left + h * h)
    shape = 0.5 * logs - 2.0 * half_length + h * _opening_angle(X, h, half_length)
    return theta_E * theta_E / (2.0 * half_length) * shape


def convergence(x, y, theta_E, half_length, angle, core, center_x, center_y):
    X, _, h = _along_across(x, y, angle, core, center_x, center_y)
    right, left = X + half_length, X - half_length
    ends = right / (right * right + h * h) - left / (left * left + h * h)
    shape = (ends + _opening_angle(X, h, half_length) / h) / (2.0 * h * h)
    return theta_E * theta_E * core * core / (2.0 * half_length) * shape


PROFILE = MassProfile(
    name="vortex",
    lenstronomy="",
    parameters=(
        Parameter("theta_E", "arcsec", 0.0, FAR, "Einstein radius of the total mass"),
        Parameter("half_length", "arcsec", 1e-4, FAR, "half of the rod's length"),
        Parameter("angle", "rad", -2.0 * math.pi, 2.0 * math.pi, "direction of the rod, from +x", 0.0),
        Parameter("core", "arcsec", 0.0, FAR, "Plummer core radius", 0.0),
        *CENTER,
    ),
    strength=("theta_E",),
    deflection=deflection,
    potential=potential,
    convergence=convergence,
)
