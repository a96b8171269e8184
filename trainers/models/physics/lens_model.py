"""A lens of one or several of lensgen's mass profiles, by name, with angles in pixels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

import lensgen
from lensgen.errors import ParameterError, unknown_name

Parameters = Mapping[str, Tensor | float]


class LensModel:
    """What bends the light: deflections of all components add up.

    Parameters are given by their names in lensgen: `{"theta_E": ..., "gamma1": ...}`. A name may say whose it is, and
    must where several components have it: `{"epl.center_x": ..., "point.center_x": ...}`. A profile that is there more
    than once is numbered from its second time on (`sis`, `sis_2`). Lengths are in pixels: all formulas scale with their
    unit. Ranges are not checked, which on a GPU would mean to wait for the numbers.

    Args:
        profile: a name, or several; e.g. "sis" or `("epl", "shear")`.
        statics: whole numbers of the profiles, by name as parameters are. Left out they are safe for all parameters; an
            EPL with `{"terms": 24}`, which is enough in float32 up to |e| = 0.5 (`lensgen.mass.epl.series_terms`),
            takes a seventh of the time, and of the memory that its gradient takes.

    Raises:
        UnknownNameError: no such profile or static.
        ParameterError: no profile at all, a static of several components, or one that is given twice.
    """

    def __init__(self, profile: str | Sequence[str], statics: Mapping[str, int] | None = None) -> None:
        names = (profile,) if isinstance(profile, str) else tuple(profile)
        if not names:
            raise ParameterError("a lens needs at least one mass profile, e.g. 'sis'.")
        seen: dict[str, int] = {}
        labels = []
        for name in names:
            seen[name] = seen.get(name, 0) + 1
            labels.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
        self.profiles = dict(zip(labels, map(lensgen.mass_profile, names), strict=True))
        self._parameters = {label: [p.name for p in own.parameters] for label, own in self.profiles.items()}
        given = _by_component("static", statics or {}, {label: own.statics for label, own in self.profiles.items()})
        self.statics = {label: {**own.statics, **given[label]} for label, own in self.profiles.items()}

    def __repr__(self) -> str:
        return f"LensModel({' + '.join(self.profiles)})"

    def values(self, parameters: Parameters, batch: int, like: Tensor) -> dict[str, dict[str, Tensor]]:
        """Each component's parameters, `[B]`, in its formulas' order, with defaults filled in.

        Args:
            parameters: `[B]` each, or numbers.
            batch: B.
            like: of whose dtype and on whose device they shall be.

        Raises:
            UnknownNameError: no such parameter.
            ParameterError: one is missing, is of several components, or has another shape.
        """
        given = _by_component("lens parameter", parameters, self._parameters)
        missing = [
            f"{label}.{p.name} ({p.meaning})"
            for label, profile in self.profiles.items()
            for p in profile.parameters
            if p.default is None and p.name not in given[label]
        ]
        if missing:
            known = "; ".join(f"{label}: {', '.join(names)}" for label, names in self._parameters.items())
            raise ParameterError(f"{self!r} needs {', '.join(missing)}: give it [{batch}] values. Parameters: {known}.")
        return {
            label: {p.name: _spread(p.name, given[label].get(p.name, p.default), batch, like) for p in own.parameters}
            for label, own in self.profiles.items()
        }

    def deflection(self, x: Tensor, y: Tensor, parameters: Parameters, batch: int) -> tuple[Tensor, Tensor]:
        """Deflections at the positions x, y `[P]`, two tensors `[B, P]`, in pixels."""
        values = self.values(parameters, batch, x)
        across = up = x.new_zeros(batch, len(x))
        for label, own in self.profiles.items():
            dx, dy = own.deflection(x, y, *(v.unsqueeze(1) for v in values[label].values()), **self.statics[label])
            across, up = across + dx, up + dy
        return across, up

    def components(
        self, parameters: Parameters, batch: int, like: Tensor, pixel_scale: float
    ) -> tuple[lensgen.Component, ...]:
        """The mass of a lensgen scene whose pixels are `pixel_scale` arcsec wide."""
        values = self.values(parameters, batch, like)
        return tuple(
            lensgen.Component(
                label,
                own,
                {p.name: values[label][p.name] * (pixel_scale if p.unit == "arcsec" else 1.0) for p in own.parameters},
                statics=self.statics[label],
            )
            for label, own in self.profiles.items()
        )


def _by_component(kind: str, given: Mapping[str, Any], known: Mapping[str, Iterable[str]]) -> dict[str, dict[str, Any]]:
    """`given` by component and name; its keys are names, or "component.name"."""
    sorted_out: dict[str, dict[str, Any]] = {label: {} for label in known}
    for key, value in given.items():
        whose, _, name = key.rpartition(".")
        owners = [label for label, names in known.items() if name in names and whose in ("", label)]
        if not owners:
            raise unknown_name(kind, key, [name for names in known.values() for name in names])
        if len(owners) > 1:
            raise ParameterError(
                f"{kind} '{key}' is one of {' and of '.join(owners)}: say {' or '.join(f'{o}.{name}' for o in owners)}."
            )
        if name in sorted_out[owners[0]]:
            raise ParameterError(f"{kind} '{key}' is given twice, as {name} and as {owners[0]}.{name}.")
        sorted_out[owners[0]][name] = value
    return sorted_out


def _spread(name: str, value: Any, batch: int, like: Tensor) -> Tensor:
    tensor = value.to(like) if isinstance(value, Tensor) else like.new_full((), value)  # no copy to the device
    if tensor.shape not in ((), (batch,)):
        raise ParameterError(f"{name} has shape {list(tensor.shape)}: allowed are a number or [{batch}].")
    return tensor.expand(batch)
