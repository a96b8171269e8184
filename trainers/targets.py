"""What can be regressed: parameters of a lens by short name, with the scale on which they are predicted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lensgen.errors import unknown_name
from trainers.errors import DataError
from trainers.views import STRENGTHS, Augmentation

NEAR = 0.25  # how far from `Target.near` a value is still near it, on the scale of the predictions


@dataclass(frozen=True)
class Target:
    """A parameter of a lens to be predicted.

    Attributes:
        name: short, for the command line.
        parameter: its name in `Batch.params`, and the column of a stored set.
        meaning: for axes.
        unit: of the parameter; "1" for none.
        label: the class whose images have it; None for all.
        log10: whether its decimal logarithm is predicted, as of what spans decades.
        near: a value about which errors are told by themselves, in `unit`; None for none.
        turns: whether it stays as it is where an image is rotated or mirrored.
    """

    name: str
    parameter: str
    meaning: str
    unit: str
    label: str | None = None
    log10: bool = False
    near: float | None = None
    turns: bool = False

    @property
    def suffix(self) -> str:
        """What the names of errors end with: `_dex` where they are decades."""
        return "_dex" if self.log10 else ""

    @property
    def error_unit(self) -> str:
        """Of errors: dex, or the parameter's; empty where it has none."""
        return "dex" if self.log10 else "" if self.unit == "1" else self.unit

    @property
    def axis(self) -> str:
        """The predicted quantity with its unit."""
        if self.log10:
            return f"log10({self.meaning} / {self.unit})"
        return self.meaning + (f" [{self.error_unit}]" if self.error_unit else "")

    def survives(self, augmentation: Augmentation) -> bool:
        """Whether an image so augmented still has its value."""
        if augmentation in ("none", "d4"):
            return self.turns or augmentation == "none"
        strength = STRENGTHS[augmentation]
        turned, enlarged = strength.turn or strength.mirror, strength.area != (1.0, 1.0)
        return (self.turns or not turned) and not enlarged  # by which lengths change

    def scaled(self, value: float) -> float:
        """A value of the parameter on the scale of the predictions."""
        return math.log10(value) if self.log10 else value

    def of(self, params: Mapping[str, Tensor]) -> Tensor:
        """What is to be predicted of images with these parameters, each `[B]`: float64 `[B]`.

        Raises:
            DataError: the parameter is not among them, or has no such value for an image.
        """
        if self.parameter not in params:
            raise DataError(
                f"target {self.name} is the parameter {self.parameter}, which these images do not have; they have: "
                f"{', '.join(sorted(params)) or 'none'}."
            )
        value = params[self.parameter].double()
        bad = ~torch.isfinite(value) | (self.log10 & (value <= 0))
        if bad.any():
            allowed = "positive" if self.log10 else "finite"
            raise DataError(
                f"target {self.name}: {self.parameter} is {float(value[bad][0]):g} for {int(bad.sum())} of "
                f"{len(value)} images; it must be {allowed}. Leave these images out of the set."
            )
        return value.log10() if self.log10 else value


# Another target is another line.
TARGETS = {
    target.name: target
    for target in (
        # it is seen by the length of the vortex
        Target("axion_mass", "substructure.axion.axion_mass", "axion mass", "eV", "axion", log10=True, near=1e-23,
               turns=True),
        Target("theta_E", "lens.theta_E", "Einstein radius", "arcsec", turns=True),
        Target("e1", "lens.e1", "ellipticity e1", "1"),
        Target("e2", "lens.e2", "ellipticity e2", "1"),
    )
}  # fmt: skip


def find_target(name: str) -> Target:
    """A target by its short name or that of its parameter; UnknownNameError, with the nearest, if there is none."""
    by_parameter = {target.parameter: target for target in TARGETS.values()}
    found = TARGETS.get(name) or by_parameter.get(name)
    if found is None:
        raise unknown_name("target", name, [*TARGETS, *by_parameter])
    return found
