"""What a population of substructure is: options stated by a preset, and a draw of components.

A population is a frozen dataclass. Its fields are its options: a `Prior` field takes a number or a distribution, any
other field a plain value; the preset must state them all. `draw` works in float64 with `lensgen.exact` arithmetic
alone, so that every machine draws the same systems.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from lensgen import exact, fmath
from lensgen.cosmology import Cosmology
from lensgen.errors import ParameterError
from lensgen.parameters import FAR, Parameter
from lensgen.priors import Prior
from lensgen.rng import RandomSource
from lensgen.scene import Component

MAX_COUNT = 100_000
RADII = (0.6, 1.0, 1.4)  # in units of theta_E: where a population says how much mass it brings; arcs lie about there
_CIRCLE = 16  # points: the mass is right to 2e-4 of the lens's (rms; 1e-5 with 64), and its mean over systems exactly


@dataclass(frozen=True)
class Draws:
    """The random values of some systems, by name.

    Args:
        random: seed and split.
        index: `[B]` int64, the images' indices.
    """

    random: RandomSource
    index: Tensor

    @property
    def device(self) -> torch.device:
        return self.index.device

    def value(self, name: str, prior: Prior) -> Tensor:
        """One value a system, float64 `[B]`."""
        return prior.sample(self._uniforms(name, prior, 1)[:, 0])

    def values(self, name: str, prior: Prior, count: int) -> Tensor:
        """`count` values a system, float64 `[B, count]`; the first ones do not depend on `count`."""
        return prior.sample(self._uniforms(name, prior, count))

    def uniforms(self, name: str, count: int) -> Tensor:
        """Uniforms in (0, 1), float64 `[B, count]`."""
        return self.random.uniforms(self.index, name, count)

    def _uniforms(self, name: str, prior: Prior, count: int) -> Tensor:
        if prior.uniforms == 0:
            return torch.zeros(len(self.index), count, dtype=torch.float64, device=self.index.device)
        return self.uniforms(name, count)

    def within_class(self, label: Tensor, number: int, host: Host, population: Population, prefix: str) -> Drawn:
        """What the population draws for the systems of class `number`, placed among all; the others get nothing."""
        rows = (label == number).nonzero()[:, 0]
        present = len(rows) > 0
        if not present:
            rows = rows.new_zeros(1)  # drawn for its shape, and not placed
        drawn = population.draw(Draws(self.random, self.index[rows]), host.select(rows), prefix)

        def place(value: Tensor, empty: float, count: Tensor | None = None) -> Tensor:
            if count is not None:
                value = torch.where(used(count, value.shape[1]), value, empty)
            full = value.new_full((len(label), *value.shape[1:]), empty)
            return full.index_copy(0, rows, value) if present else full

        return drawn.placed(place)


@dataclass(frozen=True)
class Host:
    """The lens that holds the substructure; all tensors `[B]` float64.

    Args:
        theta_E: arcsec, Einstein radius of everything together.
        center_x, center_y: arcsec.
        z_lens, z_source: redshifts.
        cosmology: distances, and the rule from mass to Einstein radius.
        pixel_scale: arcsec.
    """

    theta_E: Tensor
    center_x: Tensor
    center_y: Tensor
    z_lens: Tensor
    z_source: Tensor
    cosmology: Cosmology
    pixel_scale: float

    def select(self, rows: Tensor) -> Host:
        """Those of the systems at the positions `rows`."""
        fields = ("theta_E", "center_x", "center_y", "z_lens", "z_source")
        return replace(self, **{f: getattr(self, f)[rows] for f in fields})

    @property
    def einstein_area(self) -> Tensor:
        """theta_E^2 of one solar mass, arcsec^2."""
        return self.cosmology.einstein_area(self.z_lens, self.z_source)


@dataclass(frozen=True)
class Drawn:
    """What a population drew.

    Args:
        components: mass, float64.
        enclosed: `[B]` each: the substructure's own mass inside circles of RADII about the host, as a share of the
            mass inside the Einstein radius (pi theta_E^2 Sigma_cr); the host gives up as much (lensgen.compensation).
        labels: `[B]` each: numbers worth predicting, e.g. the axion's mass.
    """

    components: tuple[Component, ...]
    enclosed: tuple[Tensor, ...]
    labels: dict[str, Tensor]

    def placed(self, place: Callable[..., Tensor]) -> Drawn:
        """Every value as `place(value, what systems of other classes have)`; components all get slots, and their
        parameters are `place(value, what empty slots have, count)`."""
        components = []
        for component in self.components:
            values, count = component.parameters, component.count
            if count is None:
                values = {name: value.unsqueeze(1) for name, value in values.items()}
                count = torch.ones_like(self.enclosed[0]).to(torch.int64)
            # empty slots: no strength, and otherwise any value that the formulas can take
            parameters = {
                name: place(value, 0.0 if name in component.profile.strength else 1.0, count)
                for name, value in values.items()
            }
            components.append(replace(component, parameters=parameters, count=place(count, 0)))
        labels = {name: place(value, 0.0) for name, value in self.labels.items()}
        return Drawn(tuple(components), tuple(place(value, 0.0) for value in self.enclosed), labels)


def by_name(*options: Parameter) -> Mapping[str, Parameter]:
    return {p.name: p for p in options}


COUNT = Parameter("count", "1", 0, MAX_COUNT, "subhalos a system")
MASS = Parameter("mass", "Msun", 1.0, 1e15, "mass")
RADIUS = Parameter("radius", "arcsec", 0.0, FAR, "distance from the lens centre")
SOFTENING = Parameter("softening", "pixels", 0.0, 100.0, "Plummer core radius")


class Population:
    """Base of all populations. `ranges` says what each option may be."""

    name: ClassVar[str]
    ranges: ClassVar[Mapping[str, Parameter]] = {}

    @property
    def capacity(self) -> int:
        """Slots for the fullest system that can be drawn; it follows from the options, never from a batch."""
        return 0

    def draw(self, draws: Draws, host: Host, prefix: str) -> Drawn:
        """Draw B systems; `prefix` begins the names of the random values (the class's place in the preset)."""
        raise NotImplementedError


def count_capacity(count: Prior, field: str) -> int:
    """The largest count that can be drawn; ParameterError unless counts are whole and within [0, 100000]."""
    low, high = count.bounds()
    if count.name not in ("fixed", "poisson") or low != int(low) or not 0 <= high <= MAX_COUNT:
        raise ParameterError(
            f"{field} = {count}: a count is a whole number within [0, {MAX_COUNT}] or {{poisson: {{mean: ...}}}}."
        )
    return int(high)


def scattered(draws: Draws, host: Host, prefix: str, radius: Prior, count: int) -> tuple[Tensor, Tensor]:
    """Positions `[B, count]` at distances drawn from `radius` (arcsec) in random directions about the host."""
    r = draws.values(f"{prefix}.radius", radius, count)
    sine, cosine = exact.sin_cos_turns(draws.uniforms(f"{prefix}.angle", count))
    return host.center_x[:, None] + r * cosine, host.center_y[:, None] + r * sine


def used(count: Tensor, capacity: int) -> Tensor:
    """`[B, capacity]` bool: which slots are in use."""
    return torch.arange(capacity, device=count.device) < count[:, None]


def sum_slots(values: Tensor, count: Tensor) -> Tensor:
    """`[B, N]` -> `[B]`: the first `count` slots, added one after the other: a library's sum rounds differently from
    device to device."""
    if has_torch_function((values, count)):
        return handle_torch_function(sum_slots, (values, count), values, count)
    total = values.new_zeros(values.shape[0])
    for slot, value in enumerate(values.unbind(1)):
        total = total + torch.where(count > slot, value, 0.0)
    return total


def nothing_enclosed(host: Host) -> tuple[Tensor, ...]:
    """`Drawn.enclosed` of no substructure."""
    return tuple(torch.zeros_like(host.theta_E) for _ in RADII)


def points_enclosed(theta_E: Tensor, x: Tensor, y: Tensor, count: Tensor, host: Host) -> tuple[Tensor, ...]:
    """`Drawn.enclosed` of the first `count` point masses, `[B, N]` each; their softening is not counted."""
    dx, dy = x - host.center_x[:, None], y - host.center_y[:, None]
    area = host.theta_E * host.theta_E
    distance = (dx * dx + dy * dy) / area[:, None]
    return tuple(
        sum_slots(torch.where(distance < radius * radius, theta_E * theta_E, 0.0), count) / area for radius in RADII
    )


def halos_enclosed(component: Component, count: Tensor, host: Host) -> tuple[Tensor, ...]:
    """`Drawn.enclosed` of the first `count` halos of any profile, by Gauss: r times the mean outward deflection."""
    parameters = [component.parameters[p.name] for p in component.profile.parameters]
    turns = torch.arange(_CIRCLE, dtype=torch.float64, device=host.theta_E.device) * (1.0 / _CIRCLE)
    deflection = exact.overridable(component.profile.deflection)  # dozens of times the same: a call in a kernel
    enclosed = []
    with fmath.bitwise():
        for radius in RADII:
            r, total = host.theta_E * radius, torch.zeros_like(host.theta_E)
            for sine, cosine in zip(*exact.sin_cos_turns(turns), strict=True):
                x, y = host.center_x + r * cosine, host.center_y + r * sine
                ax, ay = deflection(x[:, None], y[:, None], *parameters)
                total = total + sum_slots(ax * cosine + ay * sine, count)
            enclosed.append(total * (radius * (1.0 / _CIRCLE)) / host.theta_E)
    return tuple(enclosed)
