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
    that with the substructure has as much inside the first and the last of RADII. Where almost nothing would be left
    inside the first, or gamma would leave what an EPL can have, the last one alone is held. A lens without a slope
    (sis, sie) gives up the mass inside theta_E, and its flux changes. ParameterError if more than 0.9 would be taken.
    """
    theta_E = lens["theta_E"]
    within, ring, about = enclosed
    if "gamma" not in lens:
        _require_a_host(ring)
        return {"theta_E": theta_E * (1.0 - ring)}
    small, large = theta_E.new_tensor(RADII[0]), theta_E.new_tensor(RADII[-1])
    inner, outer = (exact.power(r, 3.0 - lens["gamma"]) for r in (small, large))
    _require_a_host(about / outer)
    left_inner = torch.maximum(inner - within, (1.0 - MAX_SUBSTRUCTURE) * inner)
    left_outer = outer - about
    growth = exact.log(left_outer / left_inner) / exact.log(large / small)  # 3 - gamma of the host
    gamma = (3.0 - growth).clamp(_SLOPES.low, _SLOPES.high)
    left = left_outer / exact.power(large, 3.0 - gamma)  # of the host inside theta_E
    untouched = (within == 0.0) & (about == 0.0)  # to the bit
    return {
        "theta_E": torch.where(untouched, theta_E, theta_E * exact.power(left, 1.0 / (gamma - 1.0))),
        "gamma": torch.where(untouched, lens["gamma"], gamma),
    }


def _require_a_host(share: Tensor) -> None:
    if not fmath.holds(share <= MAX_SUBSTRUCTURE):
        raise ParameterError(
            f"substructure brings {float(share.max()):.2g} of the mass about the Einstein radius of a system; with "
            f"compensation: realised at most {MAX_SUBSTRUCTURE} can be taken from the host. Fix: lower the masses or "
            "the count."
        )
