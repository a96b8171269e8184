"""What a host gives up for its substructure, so that no class of lenses is larger or brighter than another.

Substructure that is only added makes a lens heavier: its ring grows, and the class can be told from the ring's radius
without looking at any substructure. Taking the same mass out of the ring keeps the radius, but not the flux: where the
substructure's convergence at the ring differs from what the host gave up, magnifications differ. So the host keeps both
the mass inside theta_E and its growth across the arcs: a power law has two numbers for that, theta_E and gamma.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lensgen import exact, fmath
from lensgen.errors import ParameterError
from lensgen.mass import epl
from lensgen.substructure.population import RADII

MAX_SUBSTRUCTURE = 0.9  # of the mass inside the Einstein radius: beyond, there is hardly a host left to take it from
_SLOPES = next(p for p in epl.PROFILE.parameters if p.name == "gamma")


def compensated(lens: dict[str, Tensor], enclosed: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """The host's parameters beside substructure that brings `enclosed` (see Drawn): those that change, `[B]`.

    With M(r) the mass inside r over that of the ring, a power law has M = (r / theta_E)^(3 - gamma). The host is the
    power law that has M(theta_E) = 1 - f, f the substructure's share, and there r dM/dr = (3 - gamma) - s, s the
    substructure's own, as a difference between the outer circles of RADII. A lens without a slope (sis, sie) can only
    give up mass: its flux is not held. Gamma stays within what an EPL can have; ParameterError if f is above 0.9.
    """
    inner, share, outer = enclosed
    if not fmath.holds(share <= MAX_SUBSTRUCTURE):
        raise ParameterError(
            f"substructure brings {float(share.max()):.2g} of the mass inside an Einstein radius of a system; with "
            f"compensation: realised at most {MAX_SUBSTRUCTURE} can be taken from the host. Fix: lower the masses or "
            "the count."
        )
    theta_E, remaining = lens["theta_E"], 1.0 - share
    if "gamma" not in lens:  # isothermal: M = r / theta_E
        return {"theta_E": theta_E * remaining}
    growth = (outer - inner) * (1.0 / (RADII[2] - RADII[0]))
    changed = (3.0 - ((3.0 - lens["gamma"]) - growth) / remaining).clamp(_SLOPES.low, _SLOPES.high)
    untouched = (share == 0.0) & (growth == 0.0)  # to the bit
    gamma = torch.where(untouched, lens["gamma"], changed)
    return {"theta_E": theta_E * exact.power(remaining, 1.0 / (gamma - 1.0)), "gamma": gamma}
