"""Sheet of constant convergence about (ra_0, dec_0) (lenstronomy CONVERGENCE); negative to take mass away."""

from __future__ import annotations

from lensgen.parameters import ORIGIN, Parameter
from lensgen.profile import MassProfile


def deflection(x, y, kappa, ra_0, dec_0):
    return kappa * (x - ra_0), kappa * (y - dec_0)


def potential(x, y, kappa, ra_0, dec_0):
    dx, dy = x - ra_0, y - dec_0
    return 0.5 * kappa * (dx * dx + dy * dy)


def convergence(x, y, kappa, ra_0, dec_0):
    return kappa + 0.0 * (x - ra_0) * (y - dec_0)


PROFILE = MassProfile(
    name="convergence",
    lenstronomy="CONVERGENCE",
    parameters=(Parameter("kappa", "1", -10.0, 10.0, "convergence"), *ORIGIN),
    strength=("kappa",),
    deflection=deflection,
    potential=potential,
    convergence=convergence,
)
