"""What a mass or light profile is: a name, its parameters as data, and its formulas.

A formula is called as `formula(x, y, *parameters, *arrays, **statics)` with parameters and arrays in the order in which
the profile lists them. x and y are of one shape, in arcsec; the parameters broadcast against them; an array is a
`lensgen.fmath.Stack`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from lensgen.errors import ParameterError, unknown_name
from lensgen.parameters import MAX_ELLIPTICITY, Parameter


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Args:
    name: what presets and errors call it.
    lenstronomy: its name in lenstronomy, or "" if that has none.
    parameters: in the order in which the formulas take them.
    strength: the parameters that, when 0, make the profile vanish exactly; empty slots have them at 0.
    statics: whole numbers fixed before a kernel is compiled (the length of a series), never read from a batch: name
        and a value that is safe for all parameters.
    arrays: names of the stacks of images `[n, h, w]` that the formulas read, the same for all systems.
    """

    name: str
    lenstronomy: str
    parameters: tuple[Parameter, ...]
    strength: tuple[str, ...]
    statics: Mapping[str, int] = field(default_factory=dict)
    arrays: tuple[str, ...] = ()

    @property
    def formulas(self) -> dict[str, Callable]:
        raise NotImplementedError

    def __post_init__(self) -> None:
        expected = ["x", "y", *(p.name for p in self.parameters), *self.arrays, *self.statics]
        for what, formula in self.formulas.items():
            if list(inspect.signature(formula).parameters) != expected:
                raise TypeError(f"{self.name}.{what} must take ({', '.join(expected)})")

    def complete(self, given: Mapping[str, Tensor | float]) -> dict[str, Tensor | float]:
        """`given` in the formulas' order with defaults filled in; unknown and missing names are errors."""
        names = [p.name for p in self.parameters]
        for name in given:
            if name not in names:
                raise unknown_name(f"parameter of {self.name}", name, names)
        complete = {}
        for p in self.parameters:
            value = given.get(p.name, p.default)
            if value is None:
                raise ParameterError(
                    f"{self.name} needs {p.name} ({p.meaning}; allowed {p.range_text}): give it a value."
                )
            complete[p.name] = value
        return complete

    def check(self, values: Mapping[str, Tensor], arrays: Mapping[str, Tensor] | None = None) -> None:
        """Raise ParameterError if any value is out of its range or not a number, or numbers an image that is not in
        `arrays`."""
        for p in self.parameters:
            value = torch.as_tensor(values[p.name])
            p.check(value, self.name)
            if p.index_of:
                replace(p, high=float(len((arrays or {})[p.index_of]) - 1)).check(value, self.name)
                if bool((value != value.floor()).any()):
                    raise ParameterError(f"{self.name}.{p.name} must be whole numbers: {p.meaning}.")
        if "e1" in values:
            size = torch.hypot(torch.as_tensor(values["e1"]), torch.as_tensor(values["e2"]))
            Parameter("|e|", "1", 0.0, MAX_ELLIPTICITY, "ellipticity hypot(e1, e2)").check(size, self.name)


@dataclass(frozen=True, kw_only=True)
class MassProfile(Profile):
    """A lens: reduced deflection (arcsec), potential (arcsec^2) and convergence (1).

    Args:
        smooth: whether the deflection has no kink but at the centre. An engine may interpolate that of a circular lens
            between radii then, where its formula is costly.
    """

    deflection: Callable[..., tuple[Tensor, Tensor]]
    potential: Callable[..., Tensor]
    convergence: Callable[..., Tensor]
    smooth: bool = False

    @property
    def formulas(self) -> dict[str, Callable]:
        return {"deflection": self.deflection, "potential": self.potential, "convergence": self.convergence}


@dataclass(frozen=True, kw_only=True)
class LightProfile(Profile):
    """A source or lens galaxy: surface brightness (flux per arcsec^2), and its total flux at amp = 1."""

    surface_brightness: Callable[..., Tensor]
    total_flux: Callable[..., Tensor]

    @property
    def formulas(self) -> dict[str, Callable]:
        return {"surface_brightness": self.surface_brightness}
