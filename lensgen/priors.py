"""Distributions, each a pure map of uniforms to values in `lensgen.exact` arithmetic.

In a preset a bare number is a fixed value, and a distribution is written `{uniform: {low: 0.5, high: 2.0}}`.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from lensgen import exact
from lensgen.errors import ParameterError, PresetError, unknown_name

LARGEST_UNIFORM = 1.0 - 2.0**-24  # what lensgen.rng can draw
_SIGMA_REACH = 5.5  # |normal_quantile| of the smallest and the largest uniform is 5.42


def _require(condition: bool, prior: Prior, what: str) -> None:
    if not condition:
        raise ParameterError(f"{prior}: {what}.")


@dataclass(frozen=True)
class Prior:
    """A distribution of one number."""

    name: ClassVar[str]
    uniforms: ClassVar[int] = 1  # how many of them a value takes

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ParameterError(f"{self.name}.{field.name} = {value!r} is not a finite number: give one.")
        self.validate()

    def validate(self) -> None:
        """Raise ParameterError if the fields contradict each other."""

    def sample(self, u: Tensor) -> Tensor:
        """Uniforms in (0, 1), float64, any shape -> values, float64, same shape."""
        raise NotImplementedError

    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest value that can be drawn."""
        raise NotImplementedError


@dataclass(frozen=True)
class Fixed(Prior):
    value: float
    name: ClassVar[str] = "fixed"
    uniforms: ClassVar[int] = 0

    def sample(self, u: Tensor) -> Tensor:
        return torch.full_like(u, self.value)

    def bounds(self) -> tuple[float, float]:
        return self.value, self.value


@dataclass(frozen=True)
class Uniform(Prior):
    low: float
    high: float
    name: ClassVar[str] = "uniform"

    def validate(self) -> None:
        _require(self.low < self.high, self, "low must be less than high")

    def sample(self, u: Tensor) -> Tensor:
        return self.low + (self.high - self.low) * u

    def bounds(self) -> tuple[float, float]:
        return self.low, self.high


@dataclass(frozen=True)
class LogUniform(Prior):
    """Uniform in the logarithm."""

    low: float
    high: float
    name: ClassVar[str] = "log_uniform"

    def validate(self) -> None:
        _require(0.0 < self.low < self.high, self, "0 < low < high must hold")

    def sample(self, u: Tensor) -> Tensor:
        low, high = exact.log(u.new_tensor(self.low)), exact.log(u.new_tensor(self.high))
        return exact.exp(low + (high - low) * u)

    def bounds(self) -> tuple[float, float]:
        return self.low, self.high


@dataclass(frozen=True)
class Normal(Prior):
    mean: float
    sigma: float
    name: ClassVar[str] = "normal"

    def validate(self) -> None:
        _require(self.sigma > 0.0, self, "sigma must be above 0")

    def sample(self, u: Tensor) -> Tensor:
        return self.mean + self.sigma * exact.normal_quantile(u)

    def bounds(self) -> tuple[float, float]:
        return self.mean - _SIGMA_REACH * self.sigma, self.mean + _SIGMA_REACH * self.sigma


@dataclass(frozen=True)
class TruncatedNormal(Prior):
    """A normal cut to [low, high] by the inverse of its truncated distribution function: no pile-up at the ends."""

    mean: float
    sigma: float
    low: float
    high: float
    name: ClassVar[str] = "truncated_normal"

    def validate(self) -> None:
        _require(self.sigma > 0.0, self, "sigma must be above 0")
        _require(self.low < self.high, self, "low must be less than high")
        nearest = max(self.low - self.mean, self.mean - self.high, 0.0) / self.sigma
        _require(nearest <= 6.0, self, "[low, high] must come within 6 sigma of the mean")

    def sample(self, u: Tensor) -> Tensor:
        # the upper half is mirrored, so that the distribution function is always small and never rounds to 1
        mirrored = self.low > self.mean
        near, far = (
            (self.mean - self.high, self.mean - self.low) if mirrored else (self.low - self.mean, self.high - self.mean)
        )
        start, end = (exact.normal_cdf(u.new_tensor(edge / self.sigma)) for edge in (near, far))
        position = 1.0 - u if mirrored else u
        deviate = exact.normal_quantile(start + (end - start) * position)
        value = self.mean - self.sigma * deviate if mirrored else self.mean + self.sigma * deviate
        return value.clamp(self.low, self.high)

    def bounds(self) -> tuple[float, float]:
        return self.low, self.high


@dataclass(frozen=True)
class PowerLaw(Prior):
    """dN/dx proportional to x**slope on [low, high]."""

    slope: float
    low: float
    high: float
    name: ClassVar[str] = "power_law"

    def validate(self) -> None:
        _require(0.0 < self.low < self.high, self, "0 < low < high must hold")
        _require(-10.0 <= self.slope <= 10.0, self, "slope must be within [-10, 10]")

    def sample(self, u: Tensor) -> Tensor:
        k = self.slope + 1.0
        if k == 0.0:
            return LogUniform(self.low, self.high).sample(u)
        # in units of low, so that 1e6**-0.9 and the like lose nothing
        ratio = exact.power(u.new_tensor(self.high / self.low), k)
        return (self.low * exact.power(1.0 + (ratio - 1.0) * u, 1.0 / k)).clamp(self.low, self.high)

    def bounds(self) -> tuple[float, float]:
        return self.low, self.high


@dataclass(frozen=True)
class Poisson(Prior):
    """A Poisson count. Its largest value, at the largest uniform, is known beforehand: it is the capacity."""

    mean: float
    name: ClassVar[str] = "poisson"

    def validate(self) -> None:
        _require(0.0 < self.mean <= 1e5, self, "mean must be within (0, 1e5]")

    def _distribution_function(self) -> list[float]:
        """P(N <= k), k = 0, 1, ...: weights relative to the mode's, by products alone, so the same bits everywhere."""
        mode = int(self.mean)
        below, above = [1.0], []
        while len(below) <= mode and below[-1] > 1e-30:
            below.append(below[-1] * (mode - len(below) + 1) / self.mean)
        weight, k = 1.0, mode
        while weight > 1e-30:
            k += 1
            weight *= self.mean / k
            above.append(weight)
        weights = [0.0] * (mode + 1 - len(below)) + below[::-1] + above
        total = math.fsum(weights)
        running, table = 0.0, []
        for w in weights:
            running += w
            table.append(running / total)
        return table

    def sample(self, u: Tensor) -> Tensor:
        table = torch.tensor(self._distribution_function(), dtype=torch.float64, device=u.device)
        return torch.bucketize(u, table).to(torch.float64)

    def bounds(self) -> tuple[float, float]:
        return 0.0, float(sum(p < LARGEST_UNIFORM for p in self._distribution_function()))


@dataclass(frozen=True)
class Direction(Prior):
    """An angle without preference, in [0, 2 pi) rad."""

    name: ClassVar[str] = "direction"

    def sample(self, u: Tensor) -> Tensor:
        return 2.0 * math.pi * u

    def bounds(self) -> tuple[float, float]:
        return 0.0, 2.0 * math.pi


PRIORS: dict[str, type[Prior]] = {
    p.name: p for p in (Fixed, Uniform, LogUniform, Normal, TruncatedNormal, PowerLaw, Poisson, Direction)
}


def prior_from(value: Any, field: str) -> Prior:
    """What a preset's `field` holds -> Prior: a number, `direction`, or `{name: {argument: number}}`."""
    if isinstance(value, Prior):
        return value
    if isinstance(value, bool) or value is None:
        raise PresetError(f"{field} = {value!r} is neither a number nor a distribution.")
    if isinstance(value, int | float):
        value = {"fixed": {"value": float(value)}}
    if isinstance(value, str):
        value = {value: {}}
    if not isinstance(value, dict) or len(value) != 1:
        raise PresetError(
            f"{field} = {value!r}: write a number or one distribution, e.g. {{uniform: {{low: 0, high: 1}}}}."
        )
    ((name, arguments),) = value.items()
    if name not in PRIORS:
        raise unknown_name(f"distribution in {field}", str(name), PRIORS)
    expected = list(inspect.signature(PRIORS[name]).parameters)
    arguments = arguments or {}
    if not isinstance(arguments, dict) or set(arguments) != set(expected):
        raise PresetError(f"{field}: {name} takes ({', '.join(expected)}), not {arguments!r}.")
    try:
        return PRIORS[name](**arguments)
    except ParameterError as error:
        raise ParameterError(f"{field}: {error}") from None
