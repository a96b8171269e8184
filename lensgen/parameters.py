"""Parameters are data: name, unit, valid range and meaning, read by errors, docs and tests."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from lensgen.errors import ParameterError


@dataclass(frozen=True)
class Parameter:
    """One parameter of a profile.

    Args:
        name: the field's name for it, lenstronomy's where it has one.
        unit: "arcsec", "rad", "1" (dimensionless), ...
        low, high: the valid range; the ends belong to it.
        meaning: one line for the docs and for error messages.
        default: the value taken where none is given; None makes the parameter required.
        index_of: the array of the profile of which it numbers an image: whole numbers from 0, below its length.
    """

    name: str
    unit: str
    low: float
    high: float
    meaning: str
    default: float | None = None
    index_of: str = ""

    @property
    def range_text(self) -> str:
        unit = "" if self.unit == "1" else f" {self.unit}"
        return f"[{self.low:g}, {self.high:g}]{unit}"

    def check(self, value: Tensor, owner: str) -> None:
        """Raise ParameterError unless every element of `value` (any shape) is finite and in range."""
        good = (value >= self.low) & (value <= self.high)  # False for NaN
        if bool(good.all()):
            return
        bad = value[~good].flatten()[0].item()
        what = "is not a number" if math.isnan(bad) else f"is outside {self.range_text}"
        raise ParameterError(
            f"{owner}.{self.name} = {bad:g} {what} ({int((~good).sum())} of {value.numel()} values); "
            f"{self.meaning}. Allowed: {self.range_text}. Fix: draw or pass {self.name} within that range."
        )


FAR = 1e4  # arcsec: no lens or source of interest lies, or extends, beyond

CENTER = (
    Parameter("center_x", "arcsec", -FAR, FAR, "centre, along the columns", 0.0),
    Parameter("center_y", "arcsec", -FAR, FAR, "centre, along the rows", 0.0),
)
MAX_ELLIPTICITY = 0.8  # an axis ratio of 1/9
ELLIPTICITY = (
    Parameter("e1", "1", -MAX_ELLIPTICITY, MAX_ELLIPTICITY, "ellipticity (1-q)/(1+q) cos 2 phi", 0.0),
    Parameter("e2", "1", -MAX_ELLIPTICITY, MAX_ELLIPTICITY, "ellipticity (1-q)/(1+q) sin 2 phi", 0.0),
)
ORIGIN = (
    Parameter("ra_0", "arcsec", -FAR, FAR, "where the deflection is zero, along the columns", 0.0),
    Parameter("dec_0", "arcsec", -FAR, FAR, "where the deflection is zero, along the rows", 0.0),
)
