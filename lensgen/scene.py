"""A Scene: the mass and light of B systems, as named tensors `[B]`, or `[B, N]` for a component of N slots."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from torch import Tensor

from lensgen.errors import ParameterError, lookup, require_whole
from lensgen.profile import LightProfile, MassProfile, Profile

if TYPE_CHECKING:
    from matplotlib.figure import Figure

P = TypeVar("P", bound=Profile)


def check_count(name: str, count: Tensor, slots: int) -> None:
    """Raise ParameterError unless `count` is whole numbers within [0, slots]."""
    if count.dtype != torch.int64:
        raise ParameterError(f"{name}: count must be whole numbers (torch.int64), not {count.dtype}.")
    wrong = count[(count < 0) | (count > slots)]
    if len(wrong) > 0:
        raise ParameterError(f"{name}: count = {int(wrong[0])} is outside [0, {slots}], the number of slots.")


@dataclass(frozen=True)
class Component(Generic[P]):
    """One profile in every system of a batch.

    Args:
        name: what errors and truth call it, e.g. "lens", "shear", "cdm".
        profile: which one.
        parameters: every parameter of the profile, `[B]`; or `[B, N]`, and then `count` says how many slots are used.
        count: `[B]` int64, the number of slots in use, the first ones; None for a component without slots.
        statics: the profile's whole numbers, e.g. `{"terms": 24}`.
        arrays: the profile's stacks of images, `[n, h, w]` each, shared by all systems; they keep their dtype.
    """

    name: str
    profile: P
    parameters: Mapping[str, Tensor]
    count: Tensor | None = None
    statics: Mapping[str, int] = field(default_factory=dict)
    arrays: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if set(self.arrays) != set(self.profile.arrays):
            raise ParameterError(
                f"{self.name}: a {self.profile.name} is made of the arrays {list(self.profile.arrays)}, "
                f"not {list(self.arrays)}."
            )
        for name, array in self.arrays.items():
            if array.dim() != 3 or array.numel() == 0 or not array.is_floating_point():
                raise ParameterError(
                    f"{self.name}.{name} is {array.dtype} {list(array.shape)}: give floating-point images [n, h, w]."
                )

    @classmethod
    def make(
        cls,
        name: str,
        profile: P,
        parameters: Mapping[str, Tensor | float],
        batch: int,
        count: Tensor | None = None,
        statics: Mapping[str, int] | None = None,
        arrays: Mapping[str, Tensor] | None = None,
    ) -> Component[P]:
        """A component from user input: defaults filled in, scalars repeated for every system, ranges checked.

        Numbers take the dtype of the tensors beside them, float64 where there are none; `scene.to(dtype=torch.float32)`
        renders faster. Statics left out take values that are safe for all parameters; fewer terms of a series are
        faster where ellipticities are small (lensgen.mass.epl.series_terms).

        Raises UnknownNameError for a parameter or static the profile does not have, ParameterError for a value that
        is out of range, not a number or of the wrong shape.
        """
        for key in statics or {}:
            lookup(f"static of {profile.name}", key, profile.statics)
        statics = {**profile.statics, **(statics or {})}
        for key, value in statics.items():
            require_whole(f"{name}.{key}", value, 1, 1000)
        given = profile.complete(parameters)
        dtypes = [v.dtype for v in given.values() if isinstance(v, Tensor) and v.is_floating_point()]
        dtype = functools.reduce(torch.promote_types, dtypes) if dtypes else torch.float64
        tensors = {k: v.to(dtype) if isinstance(v, Tensor) else torch.tensor(v, dtype=dtype) for k, v in given.items()}
        slots = {t.shape[1:] for t in tensors.values() if t.dim() == 2}
        if (
            len(slots) > 1
            or (len(slots) == 1) != (count is not None)
            or (count is not None and count.shape != (batch,))
        ):
            raise ParameterError(
                f"{name}: parameters with slots must all be [{batch}, N], with a count of shape [{batch}]."
            )
        if count is not None:
            check_count(name, count, next(iter(slots))[0])
        shape = (batch, *slots.pop()) if slots else (batch,)
        for key, tensor in tensors.items():
            if tensor.dim() > 0 and tensor.shape != shape:
                raise ParameterError(
                    f"{name}.{key} has shape {list(tensor.shape)}: allowed are a number or {list(shape)}."
                )
            tensors[key] = tensor.expand(shape)
        made = cls(name, profile, tensors, count, statics, dict(arrays or {}))
        profile.check(tensors, made.arrays)
        return made

    def map(self, change, change_array=None) -> Component[P]:
        """The component with `change` applied to each tensor of values, one a system, and `change_array` to images."""
        parameters = {name: change(value) for name, value in self.parameters.items()}
        count = None if self.count is None else change(self.count)
        arrays = {name: change_array(value) for name, value in self.arrays.items()} if change_array else self.arrays
        return replace(self, parameters=parameters, count=count, arrays=arrays)


@dataclass(frozen=True)
class Scene:
    """B systems: everything that bends light and everything that shines.

    Args:
        mass: lens components, at the lens redshift.
        source: light behind the lens.
        lens_light: light of the lens, not deflected.
        deflection_scale: `[B]`, a factor on every deflection (lens parameters stated for a source at another
            redshift), or None for 1.
    """

    mass: tuple[Component[MassProfile], ...]
    source: tuple[Component[LightProfile], ...]
    lens_light: tuple[Component[LightProfile], ...] = ()
    deflection_scale: Tensor | None = None

    def __post_init__(self) -> None:
        for role, kind in (("mass", MassProfile), ("source", LightProfile), ("lens_light", LightProfile)):
            group = getattr(self, role)
            if not isinstance(group, list | tuple) or not all(isinstance(c, Component) for c in group):
                raise ParameterError(f"{role} of a scene must be a tuple of components, made by Component.make.")
            object.__setattr__(self, role, tuple(group))
            for component in group:
                if not isinstance(component.profile, kind):
                    raise ParameterError(
                        f"{role}: {component.name} is a {component.profile.name}, which is no {kind.__name__}."
                    )
        names = [c.name for c in self.components]
        if len(set(names)) != len(names):
            raise ParameterError(f"components of a scene need names of their own, not {names}.")
        if not names:
            raise ParameterError("a scene needs at least one component: give it mass or light.")
        sizes = {t.shape[0] for c in self.components for t in c.parameters.values()}
        if len(sizes) != 1:
            raise ParameterError(
                f"all components of a scene must hold the same number of systems, not {sorted(sizes)}."
            )

        devices = {t.device for c in self.components for t in (*c.parameters.values(), *c.arrays.values())}
        if len(devices) != 1:
            raise ParameterError(f"all tensors of a scene must be on one device, not {sorted(map(str, devices))}.")

    @property
    def components(self) -> tuple[Component, ...]:
        return self.mass + self.source + self.lens_light

    def __len__(self) -> int:
        return next(iter(self.components[0].parameters.values())).shape[0]

    @property
    def device(self) -> torch.device:
        return next(iter(self.components[0].parameters.values())).device

    @property
    def dtype(self) -> torch.dtype:
        """The widest of its floating-point tensors: what it is rendered in."""
        dtypes = [t.dtype for c in self.components for t in c.parameters.values()]
        if self.deflection_scale is not None:
            dtypes.append(self.deflection_scale.dtype)
        return functools.reduce(torch.promote_types, dtypes)

    def map(self, change, change_array=None) -> Scene:
        """The scene with `change` applied to each tensor of values, one a system, and `change_array` to images."""
        scale = self.deflection_scale
        return Scene(
            tuple(c.map(change, change_array) for c in self.mass),
            tuple(c.map(change, change_array) for c in self.source),
            tuple(c.map(change, change_array) for c in self.lens_light),
            None if scale is None else change(scale),
        )

    def select(self, systems: Tensor) -> Scene:
        """The systems at the positions `systems` `[K]` int64."""
        return self.map(lambda tensor: tensor[systems])

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Scene:
        """The scene on another device, its floating-point tensors in another dtype; counts stay whole numbers.

        Images keep their dtype: they are large, and what is read of them is of the dtype of the scene.
        """
        return self.map(
            lambda t: t.to(device=device, dtype=dtype if t.is_floating_point() else None), lambda t: t.to(device=device)
        )

    def show(self, systems: int = 4) -> Figure:
        """The first systems, a row each: light, and convergence with critical curves, with axes in arcsec."""
        from lensgen.plot import scene_figure

        return scene_figure(self, systems)

    def _repr_png_(self) -> bytes:
        from lensgen.plot import png

        return png(self.show())
