"""What a population of substructure is: options stated by a preset, and a draw of components.

A population is a frozen dataclass. Its fields are its options: a `Prior` field takes a number or a distribution, any
other field a plain value; the preset must state them all. `draw` works in float64 with `lensgen.exact` arithmetic
alone, so that every machine draws the same systems.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lensgen import exact
from lensgen.cosmology import Cosmology
from lensgen.errors import ParameterError
from lensgen.parameters import FAR, Parameter
from lensgen.priors import Prior
from lensgen.rng import RandomSource
from lensgen.scene import Component

MAX_COUNT = 100_000


@dataclass(frozen=True)
class Draws:
    """The random values of some systems, by name.

    Args:
        random: seed and split.
        index: `[B]` int64, the images' indices.
    """

    random: RandomSource
    index: Tensor

    def value(self, name: str, prior: Prior) -> Tensor:
        """One value a system, float64 `[B]`."""
        return self.values(name, prior, 1)[:, 0]

    def values(self, name: str, prior: Prior, count: int) -> Tensor:
        """`count` values a system, float64 `[B, count]`; the first ones do not depend on `count`."""
        if prior.uniforms == 0:
            return prior.sample(torch.zeros(len(self.index), count, dtype=torch.float64, device=self.index.device))
        return prior.sample(self.random.uniforms(self.index, name, count))


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

    @property
    def einstein_area(self) -> Tensor:
        """theta_E^2 of one solar mass, arcsec^2."""
        return self.cosmology.einstein_area(self.z_lens, self.z_source)


@dataclass(frozen=True)
class Drawn:
    """What a population drew.

    Args:
        components: mass, float64.
        mean_convergence: `[B]`, the substructure's own, averaged within the host's Einstein radius: what the host
            must lose for the lens to keep its Einstein radius.
        labels: `[B]` each: numbers worth predicting, e.g. the axion's mass.
    """

    components: tuple[Component, ...]
    mean_convergence: Tensor
    labels: dict[str, Tensor]


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
    sine, cosine = exact.sin_cos_turns(draws.random.uniforms(draws.index, f"{prefix}.angle", count))
    return host.center_x[:, None] + r * cosine, host.center_y[:, None] + r * sine


def used(count: Tensor, capacity: int) -> Tensor:
    """`[B, capacity]` bool: which slots are in use."""
    return torch.arange(capacity, device=count.device) < count[:, None]


def sum_slots(values: Tensor) -> Tensor:
    """`[B, N]` -> `[B]`, added one after the other: a library's sum rounds differently from device to device."""
    total = torch.zeros_like(values[:, 0]) if values.shape[1] else values.new_zeros(values.shape[0])
    for slot in values.unbind(1):
        total = total + slot
    return total


def points_inside(theta_E: Tensor, x: Tensor, y: Tensor, in_use: Tensor, host: Host) -> Tensor:
    """Mean convergence within the host's Einstein radius of point masses, `[B, N]` -> `[B]`."""
    dx, dy = x - host.center_x[:, None], y - host.center_y[:, None]
    area = host.theta_E * host.theta_E
    inside = in_use & (dx * dx + dy * dy < area[:, None])
    return sum_slots(torch.where(inside, theta_E * theta_E, 0.0)) / area
