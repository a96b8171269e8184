"""Mass profiles, one file each. To add one: write its file, and name it in `_MODULES`."""

from __future__ import annotations

from lensgen.errors import lookup
from lensgen.mass import convergence, epl, multipole, nfw, point, shear, sie, sis, soliton, tnfw, vortex
from lensgen.profile import MassProfile

_MODULES = (sis, sie, epl, multipole, shear, convergence, point, nfw, tnfw, soliton, vortex)

MASS_PROFILES: dict[str, MassProfile] = {module.PROFILE.name: module.PROFILE for module in _MODULES}


def mass_profile(name: str) -> MassProfile:
    """The registered profile of that name; UnknownNameError otherwise."""
    return lookup("mass profile", name, MASS_PROFILES)
