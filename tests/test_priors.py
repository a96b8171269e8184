"""Distributions against scipy, their bounds at the extreme uniforms, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch

from lensgen.errors import ParameterError, PresetError, UnknownNameError
from lensgen.priors import (
    LARGEST_UNIFORM,
    PRIORS,
    Direction,
    Fixed,
    LogUniform,
    Normal,
    Poisson,
    PowerLaw,
    TruncatedNormal,
    Uniform,
    prior_from,
)
from lensgen.rng import RandomSource


def truncated(mean: float, sigma: float, low: float, high: float):
    return scipy.stats.truncnorm((low - mean) / sigma, (high - mean) / sigma, mean, sigma)


class PowerLawReference:
    """dN/dx ~ x**slope on [low, high], by quadrature of the density on a fine grid."""

    def __init__(self, slope: float, low: float, high: float) -> None:
        self.x = np.geomspace(low, high, 200_001)
        weight = np.log(self.x) * (slope + 1)
        density = np.exp(weight - weight.max())  # x**slope dx = x**(slope + 1) dlnx
        cumulative = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
        self.y = cumulative / cumulative[-1]

    def cdf(self, x):
        return np.interp(x, self.x, self.y)


CONTINUOUS = {
    "uniform": (Uniform(-2.0, 5.0), scipy.stats.uniform(-2.0, 7.0)),
    "log_uniform": (LogUniform(1e-24, 1e-22), scipy.stats.loguniform(1e-24, 1e-22)),
    "normal": (Normal(1.0, 0.3), scipy.stats.norm(1.0, 0.3)),
    "truncated both": (TruncatedNormal(1.2, 0.25, 0.7, 1.8), truncated(1.2, 0.25, 0.7, 1.8)),
    "truncated narrow": (TruncatedNormal(0.0, 1.0, 0.1, 0.11), truncated(0.0, 1.0, 0.1, 0.11)),
    "truncated upper tail": (TruncatedNormal(0.0, 1.0, 5.5, 9.0), truncated(0.0, 1.0, 5.5, 9.0)),
    "truncated lower tail": (TruncatedNormal(0.0, 1.0, -9.0, -5.5), truncated(0.0, 1.0, -9.0, -5.5)),
    "truncated one-sided": (TruncatedNormal(0.03, 0.03, 0.0, 0.12), truncated(0.03, 0.03, 0.0, 0.12)),
    "power -1.9": (PowerLaw(-1.9, 1e6, 1e10), PowerLawReference(-1.9, 1e6, 1e10)),
    "power -0.9": (PowerLaw(-0.9, 1e6, 1e10), PowerLawReference(-0.9, 1e6, 1e10)),
    "power -1": (PowerLaw(-1.0, 1e6, 1e10), scipy.stats.loguniform(1e6, 1e10)),
    "power +1": (PowerLaw(1.0, 0.05, 2.5), PowerLawReference(1.0, 0.05, 2.5)),
    "power -10": (PowerLaw(-10.0, 1.0, 100.0), PowerLawReference(-10.0, 1.0, 100.0)),
    "power 10": (PowerLaw(10.0, 1.0, 100.0), PowerLawReference(10.0, 1.0, 100.0)),
    "direction": (Direction(), scipy.stats.uniform(0.0, 2.0 * math.pi)),
}
COUNTS = [0.01, 0.5, 3.0, 25.0, 100.0, 700.0, 3e4]
EVERY = [p for p, _ in CONTINUOUS.values()] + [Fixed(3.5)] + [Poisson(m) for m in (0.01, 25.0, 3e4, 1e5)]
# the ends, their neighbours, and a spread between
EXTREMES = (
    torch.tensor([0.5, 1.5, 2.5, 2**22 - 0.5, 2**22 + 0.5, 2**23 - 1.5, 2**23 - 0.5], dtype=torch.float64) / 2**23
)


def uniforms(count: int = 20_000) -> torch.Tensor:
    return RandomSource(11).uniforms(torch.arange(count), "prior", 1)[:, 0]


@pytest.mark.parametrize("prior, reference", CONTINUOUS.values(), ids=CONTINUOUS)
def test_distribution(prior, reference) -> None:
    values = prior.sample(uniforms()).numpy()
    assert scipy.stats.kstest(values, reference.cdf).pvalue > 1e-3


@pytest.mark.parametrize("prior, reference", CONTINUOUS.values(), ids=CONTINUOUS)
def test_value_is_the_quantile(prior, reference) -> None:
    """cdf(sample(u)) = u at every corner of the range, which a test of a sample cannot see."""
    u = torch.cat((EXTREMES, uniforms(2_000)))
    values = prior.sample(u).numpy()
    allowed = 2e-8 if isinstance(reference, PowerLawReference) else 3e-11  # the grid's own error
    np.testing.assert_allclose(reference.cdf(values), u.numpy(), rtol=0, atol=allowed)


@pytest.mark.parametrize("mean", COUNTS)
def test_poisson_is_the_quantile(mean: float) -> None:
    u = torch.cat((EXTREMES, uniforms()))
    values = Poisson(mean).sample(u).numpy()
    np.testing.assert_array_equal(values, scipy.stats.poisson(mean).ppf(u.numpy()))


@pytest.mark.parametrize("mean", COUNTS)
def test_poisson_capacity_is_the_count_at_the_largest_uniform(mean: float) -> None:
    low, high = Poisson(mean).bounds()
    assert low == 0.0
    assert high == scipy.stats.poisson(mean).ppf(LARGEST_UNIFORM)
    assert float(Poisson(mean).sample(torch.tensor([LARGEST_UNIFORM], dtype=torch.float64))) == high


@pytest.mark.parametrize("prior", EVERY, ids=str)
def test_bounds_hold_for_every_uniform_and_are_near(prior) -> None:
    low, high = prior.bounds()
    values = prior.sample(torch.cat((EXTREMES, uniforms())))
    assert bool(torch.isfinite(values).all())
    # a unit or two in the last place beyond the bound: what the float32 of a scene cannot hold
    slack = 4e-16 * max(abs(low), abs(high))
    assert low - slack <= float(values.min()) and float(values.max()) <= high + slack
    first, last = (float(v) for v in prior.sample(EXTREMES[[0, -1]]))
    if not isinstance(prior, Poisson | Fixed | Normal | TruncatedNormal | PowerLaw):
        assert first == pytest.approx(low, rel=1e-5, abs=1e-5) and last == pytest.approx(high, rel=1e-5)


@pytest.mark.parametrize("prior", EVERY, ids=str)
def test_bits_do_not_depend_on_the_batch(prior) -> None:
    u = uniforms(100)
    whole = prior.sample(u)
    assert whole.dtype == torch.float64
    order = torch.randperm(100, generator=torch.Generator().manual_seed(2))
    assert torch.equal(prior.sample(u[order]), whole[order])
    assert torch.equal(torch.cat([prior.sample(one) for one in u.split(1)]), whole)
    assert torch.equal(prior.sample(u.view(4, 25)).flatten(), whole)


@pytest.mark.parametrize("prior", EVERY, ids=str)
def test_monotonic(prior) -> None:
    values = prior.sample(torch.sort(uniforms(5_000)).values)
    assert float((values[1:] - values[:-1]).min()) >= -4e-16 * float(values.abs().max())


def test_mean_of_the_published_mass_law() -> None:
    """PHYSICS of the legacy law: mean 1.51e9 Msun, median 2.8e8, a third above 1e9."""
    mass = PowerLaw(-0.9, 1e6, 1e10).sample((torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000)
    assert float(mass.mean()) == pytest.approx(1.51e9, rel=0.01)
    assert float(mass.median()) == pytest.approx(2.8e8, rel=0.02)
    assert float((mass > 1e9).double().mean()) == pytest.approx(0.34, abs=0.005)


INVALID = {
    "uniform low = high": (Uniform, (1.0, 1.0), "low must be less than high"),
    "uniform reversed": (Uniform, (2.0, 1.0), "low must be less than high"),
    "uniform nan": (Uniform, (math.nan, 1.0), "uniform.low = nan is not a finite number"),
    "uniform inf": (Uniform, (0.0, math.inf), "uniform.high = inf is not a finite number"),
    "uniform bool": (Uniform, (False, True), "uniform.low = False is not a finite number"),
    "uniform string": (Uniform, ("0", 1.0), "uniform.low = '0' is not a finite number"),
    "uniform none": (Uniform, (0.0, None), "uniform.high = None is not a finite number"),
    "log at 0": (LogUniform, (0.0, 1.0), "0 < low < high must hold"),
    "log reversed": (LogUniform, (2.0, 1.0), "0 < low < high must hold"),
    "normal sigma 0": (Normal, (0.0, 0.0), "sigma must be above 0"),
    "normal sigma < 0": (Normal, (0.0, -1.0), "sigma must be above 0"),
    "truncated sigma": (TruncatedNormal, (0.0, 0.0, -1.0, 1.0), "sigma must be above 0"),
    "truncated reversed": (TruncatedNormal, (0.0, 1.0, 1.0, -1.0), "low must be less than high"),
    "truncated too far": (TruncatedNormal, (0.0, 1.0, 6.5, 9.0), "within 6 sigma of the mean"),
    "truncated too low": (TruncatedNormal, (0.0, 1.0, -9.0, -6.5), "within 6 sigma of the mean"),
    "power law at 0": (PowerLaw, (-1.9, 0.0, 1.0), "0 < low < high must hold"),
    "power law steep": (PowerLaw, (-11.0, 1.0, 2.0), r"slope must be within \[-10, 10\]"),
    "poisson 0": (Poisson, (0.0,), r"mean must be within \(0, 1e5\]"),
    "poisson < 0": (Poisson, (-3.0,), r"mean must be within \(0, 1e5\]"),
    "poisson huge": (Poisson, (1e6,), r"mean must be within \(0, 1e5\]"),
    "fixed nan": (Fixed, (math.nan,), "fixed.value = nan is not a finite number"),
}


@pytest.mark.parametrize("prior, arguments, message", INVALID.values(), ids=INVALID)
def test_invalid_arguments(prior, arguments, message) -> None:
    with pytest.raises(ParameterError, match=message):
        prior(*arguments)


def test_every_prior_is_read_from_a_preset() -> None:
    assert prior_from(3, "f") == Fixed(3.0)
    assert prior_from(0.25, "f") == Fixed(0.25)
    assert prior_from("direction", "f") == Direction()
    assert prior_from({"uniform": {"low": 0, "high": 1}}, "f") == Uniform(0, 1)
    assert prior_from({"poisson": {"mean": 25}}, "f") == Poisson(25)
    assert prior_from(Normal(0.0, 1.0), "f") == Normal(0.0, 1.0)
    assert set(PRIORS) == {
        "fixed", "uniform", "log_uniform", "normal", "truncated_normal", "power_law", "poisson", "direction",
    }  # fmt: skip


UNREADABLE = {
    "none": (None, PresetError, "f = None is neither a number nor a distribution"),
    "bool": (True, PresetError, "f = True is neither a number nor a distribution"),
    "list": ([1, 2], PresetError, r"f = \[1, 2\]: write a number or one distribution"),
    "two": ({"uniform": {}, "normal": {}}, PresetError, "write a number or one distribution"),
    "empty": ({}, PresetError, "write a number or one distribution"),
    "unknown": (
        {"unifrom": {"low": 0, "high": 1}},
        UnknownNameError,
        "distribution in f 'unifrom'. Did you mean 'unif",
    ),
    "word": ("seven", UnknownNameError, "unknown distribution in f 'seven'"),
    "missing": ({"uniform": {"low": 0}}, PresetError, r"f: uniform takes \(low, high\), not"),
    "extra": ({"uniform": {"low": 0, "high": 1, "mean": 2}}, PresetError, r"uniform takes \(low, high\), not"),
    "misspelt": ({"uniform": {"min": 0, "max": 1}}, PresetError, r"uniform takes \(low, high\), not"),
    "positional": ({"uniform": [0, 1]}, PresetError, r"uniform takes \(low, high\), not"),
    "bare": ({"uniform": None}, PresetError, r"uniform takes \(low, high\), not"),
    "not a number": ({"uniform": {"low": 0, "high": "one"}}, ParameterError, "f: uniform.high = 'one' is not a finite"),
    "contradiction": ({"uniform": {"low": 1, "high": 0}}, ParameterError, "f: .*low must be less than high"),
    "nan": (math.nan, ParameterError, "fixed.value = nan is not a finite number"),
    "number as a name": ({3: {}}, UnknownNameError, "unknown distribution in f '3'"),
}


@pytest.mark.parametrize("value, error, message", UNREADABLE.values(), ids=UNREADABLE)
def test_what_is_no_distribution(value, error, message) -> None:
    with pytest.raises(error, match=message):
        prior_from(value, "f")
