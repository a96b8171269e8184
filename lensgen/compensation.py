"""What a host gives up for its substructure, so that no class of lenses is larger or brighter than another.

Substructure that is only added makes a lens heavier: its ring grows, and the class can be told from the ring's radius
without looking at any substructure. Taking the same mass out of the ring keeps the ring, but not the light: arcs reach
from well inside to well outside, and are stretched, brightened and dimmed by what is taken where. So the host keeps the
masses inside two circles between which the arcs lie: a power law has two numbers for that, theta_E and gamma.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lensgen import exact, fmath
from lensgen.errors import ParameterError
from lensgen.mass import epl
from lensgen.substructure.population import RADII

MAX_SUBSTRUCTURE = 0.9  # of the mass inside a circle: beyond, there is hardly a host left to take it from
_SLOPES = next(p for p in epl.PROFILE.parameters if p.name == "gamma")


def compensated(lens: dict[str, Tensor], enclosed: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """The host's parameters beside substructure that brings `enclosed` (see Drawn): those that change, `[B]`.

    Inside r theta_E a power law has the mass r^(3 - gamma), in units of that inside theta_E. The host is the power law
    that with the substructure has as much inside the first and the last of RADII; gamma stays within what an EPL can
    have. A lens without a slope (sis, sie) gives up the mass inside theta_E, and its flux changes. ParameterError if
    more than 0.9 of the mass would be taken.
    """
    slope = lens.get("gamma", torch.full_like(lens["theta_E"], 2.0))
    ratios = [lens["theta_E"].new_tensor(r) for r in RADII]
    whole = [exact.power(r, 3.0 - slope) for r in ratios]
    for mass, substructure in zip(whole, enclosed, strict=True):
        if not fmath.holds(substructure <= MAX_SUBSTRUCTURE * mass):
            raise ParameterError(
                f"substructure brings {float((substructure / mass).max()):.2g} of the mass about the Einstein radius "
                f"of a system; with compensation: realised at most {MAX_SUBSTRUCTURE} can be taken from the host. "
                "Fix: lower the masses or the count."
            )
    inner, ring, outer = (mass - substructure for mass, substructure in zip(whole, enclosed, strict=True))
    if "gamma" not in lens:
        return {"theta_E": lens["theta_E"] * ring}
    growth = exact.log(outer / inner) / exact.log(ratios[2] / ratios[0])  # 3 - gamma of the host
    gamma = (3.0 - growth).clamp(_SLOPES.low, _SLOPES.high)
    inside = outer / exact.power(ratios[2], 3.0 - gamma)  # the host's mass inside theta_E
    theta_E = lens["theta_E"] * exact.power(inside, 1.0 / (gamma - 1.0))
    untouched = (enclosed[0] == 0.0) & (enclosed[2] == 0.0)  # to the bit
    return {
        "theta_E": torch.where(untouched, lens["theta_E"], theta_E),
        "gamma": torch.where(untouched, lens["gamma"], gamma),
    }
