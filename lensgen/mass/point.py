"""Point mass, optionally softened as a Plummer lens (Schneider, Ehlers & Falco 1992, section 8.1).

With softening s the mean convergence is theta_E^2 / (r^2 + s^2): a lens without a singularity inside a pixel.
Softening 0 is lenstronomy's POINT_MASS.
"""

from __future__ import annotations

from lensgen import fmath as fm
from lensgen.parameters import CENTER, FAR, Parameter
from lensgen.profile import MassProfile

_FLOOR = 1e-12  # arcsec^2


def _softened_square(dx, dy, softening):
    return fm.maximum(dx * dx + dy * dy + softening * softening, _FLOOR)


def deflection(x, y, theta_E, softening, center_x, center_y):
    dx, dy = x - center_x, y - center_y
    mean_kappa = theta_E * theta_E / _softened_square(dx, dy, softening)
    return mean_kappa * dx, mean_kappa * dy


def potential(x, y, theta_E, softening, center_x, center_y):
    return 0.5 * theta_E * theta_E * fm.log(_softened_square(x - center_x, y - center_y, softening))


def convergence(x, y, theta_E, softening, center_x, center_y):
    ratio = theta_E * softening / _softened_square(x - center_x, y - center_y, softening)
    return ratio * ratio


PROFILE = MassProfile(
    name="point",
    lenstronomy="POINT_MASS",
    parameters=(
        Parameter("theta_E", "arcsec", 0.0, FAR, "Einstein radius"),
        Parameter("softening", "arcsec", 0.0, FAR, "Plummer core radius", 0.0),
        *CENTER,
    ),
    strength=("theta_E",),
    deflection=deflection,
    potential=potential,
    convergence=convergence,
)
