"""Telescopes, one file of constants each. To add one: write its file, and name it in `_MODULES`."""

from __future__ import annotations

from lensgen.errors import lookup
from lensgen.instruments import euclid, generic, hst, jwst, keck, lsst, roman
from lensgen.instruments.instrument import Instrument

_MODULES = (generic, euclid, hst, lsst, roman, jwst, keck)

INSTRUMENTS: dict[str, Instrument] = {i.name: i for module in _MODULES for i in module.INSTRUMENTS}


def instrument(name: str) -> Instrument:
    """The telescope of that name; UnknownNameError otherwise."""
    return lookup("instrument", name, INSTRUMENTS)
