"""External shear about (ra_0, dec_0), which need not be the lens centre (lenstronomy SHEAR)."""

from __future__ import annotations

from lensgen.parameters import ORIGIN, Parameter
from lensgen.profile import MassProfile


def deflection(x, y, gamma1, gamma2, ra_0, dec_0):
    dx, dy = x - ra_0, y - dec_0
    return gamma1 * dx + gamma2 * dy, gamma2 * dx - gamma1 * dy


def potential(x, y, gamma1, gamma2, ra_0, dec_0):
    dx, dy = x - ra_0, y - dec_0
    return 0.5 * gamma1 * (dx * dx - dy * dy) + gamma2 * dx * dy


def convergence(x, y, gamma1, gamma2, ra_0, dec_0):
    return 0.0 * (x - ra_0) * (y - dec_0) * gamma1


PROFILE = MassProfile(
    name="shear",
    lenstronomy="SHEAR",
    parameters=(
        Parameter("gamma1", "1", -1.0, 1.0, "shear along the axes"),
        Parameter("gamma2", "1", -1.0, 1.0, "shear along the diagonals"),
        *ORIGIN,
    ),
    strength=("gamma1", "gamma2"),
    deflection=deflection,
    potential=potential,
    convergence=convergence,
)
