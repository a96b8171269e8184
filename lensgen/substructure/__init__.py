"""Populations of dark matter in the lens, one file each. To add one: write its file, and name it in `_MODULES`."""

from __future__ import annotations

from lensgen.errors import lookup
from lensgen.substructure import (
    cdm_physical,
    cdm_points,
    cdm_points_legacy,
    cdm_tnfw,
    no_sub,
    uldm,
    vortex_points,
    vortex_rod,
    wdm,
)
from lensgen.substructure.population import Population

_MODULES = (no_sub, cdm_points_legacy, cdm_points, cdm_tnfw, cdm_physical, wdm, uldm, vortex_points, vortex_rod)

POPULATIONS: dict[str, type[Population]] = {module.POPULATION.name: module.POPULATION for module in _MODULES}


def population(name: str) -> type[Population]:
    """The population of that name; UnknownNameError otherwise."""
    return lookup("population", name, POPULATIONS)
