"""Telescopes, one file of constants each. To add one: write its file, and name it in `_MODULES`."""

from __future__ import annotations

from lensgen.errors import lookup
from lensgen.instruments import euclid_vis, generic
from lensgen.instruments.instrument import Instrument

_MODULES = (generic, euclid_vis)

INSTRUMENTS: dict[str, Instrument] = {i.name: i for module in _MODULES for i in module.INSTRUMENTS}


def instrument(name: str) -> Instrument:
    """The telescope of that name; UnknownNameError otherwise."""
    return lookup("instrument", name, INSTRUMENTS)
