"""Multipole of order m about an isothermal lens (Xu et al. 2015, MNRAS 447, 3189, appendix B3; lenstronomy MULTIPOLE).

kappa = theta_E a_m / (2 r) cos(m (phi - phi_m)), m >= 2: isodensity contours of a round isothermal lens of Einstein
radius theta_E move outwards by a_m r cos(m (phi - phi_m)). lenstronomy's a_m is theta_E a_m.
"""

from __future__ import annotations

import math

from lensgen import fmath as fm
from lensgen.conventions import direction, rotated
from lensgen.parameters import CENTER, FAR, Parameter
from lensgen.profile import MassProfile

_FLOOR = 1e-9  # arcsec: the deflection has no direction at the very centre


def _angular(x, y, a_m, phi_m, center_x, center_y, m):
    """r, the cosine and sine of phi, and a_m times the cosine and sine of m (phi - phi_m)."""
    r, cosine, sine, _, _ = direction(x - center_x, y - center_y, 0.0, 0.0, _FLOOR)
    # e^{i m (phi - phi_m)}, by products: no trigonometry a ray
    real, imaginary = a_m * fm.cos(m * phi_m), -a_m * fm.sin(m * phi_m)
    for _ in range(m):
        real, imaginary = rotated(real, imaginary, cosine, -sine)
    return r, cosine, sine, real, imaginary


def deflection(x, y, theta_E, a_m, phi_m, center_x, center_y, m):
    _, cosine, sine, real, imaginary = _angular(x, y, a_m, phi_m, center_x, center_y, m)
    scale = theta_E * (1.0 / (1.0 - m * m))
    return scale * (cosine * real + m * (sine * imaginary)), scale * (sine * real - m * (cosine * imaginary))


def potential(x, y, theta_E, a_m, phi_m, center_x, center_y, m):
    r, _, _, real, _ = _angular(x, y, a_m, phi_m, center_x, center_y, m)
    return theta_E * (1.0 / (1.0 - m * m)) * r * real


def convergence(x, y, theta_E, a_m, phi_m, center_x, center_y, m):
    r, _, _, real, _ = _angular(x, y, a_m, phi_m, center_x, center_y, m)
    return 0.5 * theta_E * real / r


PROFILE = MassProfile(
    name="multipole",
    lenstronomy="MULTIPOLE",
    parameters=(
        Parameter("theta_E", "arcsec", 0.0, FAR, "Einstein radius of the lens that it perturbs"),
        Parameter("a_m", "1", -0.5, 0.5, "amplitude, in units of the radius"),
        Parameter("phi_m", "rad", -2.0 * math.pi, 2.0 * math.pi, "direction of a maximum, from +x", 0.0),
        *CENTER,
    ),
    strength=("a_m",),
    statics={"m": 4},
    deflection=deflection,
    potential=potential,
    convergence=convergence,
    smooth=True,
)
