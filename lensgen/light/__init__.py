"""Light profiles, one file each. To add one: write its file, and name it in `_MODULES`."""

from __future__ import annotations

from lensgen.errors import lookup
from lensgen.light import interpol, sersic
from lensgen.profile import LightProfile

_MODULES = (sersic, interpol)

LIGHT_PROFILES: dict[str, LightProfile] = {module.PROFILE.name: module.PROFILE for module in _MODULES}


def light_profile(name: str) -> LightProfile:
    """The registered profile of that name; UnknownNameError otherwise."""
    return lookup("light profile", name, LIGHT_PROFILES)
