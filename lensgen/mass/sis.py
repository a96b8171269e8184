"""Singular isothermal sphere (Narayan & Bartelmann 1996, section 3.2)."""

from __future__ import annotations

from torch import Tensor

from lensgen import fmath as fm
from lensgen.parameters import CENTER, FAR, Parameter
from lensgen.profile import MassProfile

_FLOOR = 1e-9  # arcsec: the deflection has no direction at the very centre


def _radius(dx: Tensor, dy: Tensor) -> Tensor:
    return fm.sqrt(fm.maximum(dx * dx + dy * dy, _FLOOR * _FLOOR))


def deflection(x, y, theta_E, center_x, center_y):
    dx, dy = x - center_x, y - center_y
    mean_kappa = theta_E / _radius(dx, dy)
    return mean_kappa * dx, mean_kappa * dy


def potential(x, y, theta_E, center_x, center_y):
    return theta_E * _radius(x - center_x, y - center_y)


def convergence(x, y, theta_E, center_x, center_y):
    return 0.5 * theta_E / _radius(x - center_x, y - center_y)


PROFILE = MassProfile(
    name="sis",
    lenstronomy="SIS",
    parameters=(Parameter("theta_E", "arcsec", 0.0, FAR, "Einstein radius"), *CENTER),
    strength=("theta_E",),
    deflection=deflection,
    potential=potential,
    convergence=convergence,
)
