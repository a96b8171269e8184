"""Noise of the CPU engine: its moments, its distribution over a million pixels, and that of torch pixel by pixel.

The scene is a ladder: a ramp without a lens, whose pixels hold the counts that are wanted.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch

from lensgen import Noise, Observation, Scene, render
from lensgen.noise import NOISE_RECIPES, Detector, noise_recipe
from lensgen.psf import GaussianPSF
from lensgen.rng import RandomSource
from lensgen.scene import Component
from lensgen_kernels import cpu
from tests.kernels.scenes import RAMP

EXPOSURE = 1000.0  # s
DETECTOR = Detector(exposures=2, read_noise=3.0, sky=0.02)
NOISY = [name for name, recipe in NOISE_RECIPES.items() if not recipe.noiseless]


@pytest.fixture(autouse=True)
def _poisoned(monkeypatch) -> None:
    monkeypatch.setattr(cpu, "POISON", True)


def level(counts: torch.Tensor) -> Scene:
    """Images of one wide pixel, centred at x = 0.5 pixels, or of two: a system for each number of counts."""
    rate = (counts / EXPOSURE).float()
    parameters = {"slope_x": rate, "slope_y": torch.zeros_like(rate)}
    return Scene((), (Component("ramp", RAMP, parameters),))


# two columns at x = -1 and +1 of 2 arcsec each: +rate and -rate times the area of 4
COLUMNS = Observation(1, 2, 2.0, 1, GaussianPSF(0.0))
FIELD = Observation(512, 2, 2.0, 1, GaussianPSF(0.0))


def seen(name: str, counts: torch.Tensor, observation: Observation, dtype=torch.float32, seed=1, detector=DETECTOR):
    """`[B, H]`: the column that shines."""
    index = torch.arange(len(counts))
    noise = Noise(noise_recipe(name), detector, torch.full((len(counts),), EXPOSURE), RandomSource(seed), index)
    engine = "cpu" if dtype == torch.float32 else "torch"
    scene = level(counts / observation.pixel_scale**2).to(dtype=dtype)
    return render(scene, observation, noise, engine)[:, :, 1].double()


@pytest.mark.parametrize("name", NOISE_RECIPES)
def test_moments(name: str, gate) -> None:
    """2,000 draws at each of 0.1 to 10,000 counts, within 4 standard errors of what the recipe states."""
    recipe = noise_recipe(name)
    for k, counts in enumerate(torch.logspace(-1, 4, 11, dtype=torch.float64).float().double()):
        if recipe.clips and counts < 100.0:
            continue  # the stated variance holds where nothing is clipped
        sample = seen(name, torch.full((2000,), float(counts)), COLUMNS, seed=k)[:, 0]
        clean = torch.tensor([[float(counts) / EXPOSURE]], dtype=torch.float64)
        time = torch.tensor([[EXPOSURE]], dtype=torch.float64)
        variance = float(recipe.variance(clean, time, DETECTOR))
        mean = float(clean * recipe.response(time))
        if recipe.noiseless:
            assert torch.allclose(sample, torch.full_like(sample, mean), rtol=1e-6)
            continue
        kurtosis = float(counts + 20.0) / EXPOSURE**3 if name == "ccd" else 0.0
        if name == "deeplense_i":
            kurtosis = 7.0 * float(counts)  # of Poisson on a normal
        gate(
            f"cpu noise {name}: mean, standard errors", abs(float(sample.mean()) - mean) / math.sqrt(variance / 2000), 4
        )
        of_variance = math.sqrt((2.0 * variance**2 + kurtosis) / 2000)
        gate(f"cpu noise {name}: variance, standard errors", abs(float(sample.var()) - variance) / of_variance, 4)


def ccd_distribution(counts: float, at: np.ndarray) -> np.ndarray:
    """P(image <= at) of the ccd recipe: Poisson electrons blurred by the read noise."""
    mean = counts + DETECTOR.sky * EXPOSURE
    electrons = np.arange(int(mean + 12 * math.sqrt(mean) + 30))
    weights = scipy.stats.poisson(mean).pmf(electrons)
    reported = (at + DETECTOR.sky) * EXPOSURE
    total = np.zeros_like(at)
    for n, weight in zip(electrons[weights > 1e-12], weights[weights > 1e-12], strict=True):
        total += weight * scipy.stats.norm.cdf(reported, n, DETECTOR.total_read_noise)
    return total


@pytest.mark.parametrize("counts", [0.1, 3.0, 30.0, 1000.0])
def test_a_million_pixels_of_ccd_noise(counts: float, gate) -> None:
    """Kolmogorov-Smirnov against Poisson and normal: both sides of where the Poisson quantile changes its method."""
    sample = seen("ccd", torch.full((2000,), counts), FIELD).flatten().numpy()
    assert len(sample) > 1e6
    ordered = np.sort(sample)
    # the exact distribution on a fine lattice, and between by a line: off by less than 1e-6
    lattice = np.linspace(ordered[0], ordered[-1], 4000)
    expected = np.interp(ordered, lattice, ccd_distribution(counts, lattice))
    steps = np.arange(len(ordered) + 1) / len(ordered)
    largest = max(np.abs(steps[1:] - expected).max(), np.abs(expected - steps[:-1]).max())
    gate("cpu noise ccd: KS statistic times sqrt n", largest * math.sqrt(len(ordered)), 1.95)  # p = 0.001


def test_a_million_pixels_of_normal_noise(gate) -> None:
    counts = 50.0
    sample = seen("lenstronomy", torch.full((2000,), counts), FIELD).flatten().numpy()
    time = torch.tensor([[EXPOSURE]], dtype=torch.float64)
    clean = torch.tensor([[counts / EXPOSURE]], dtype=torch.float64)
    sigma = float(noise_recipe("lenstronomy").variance(clean, time, DETECTOR)) ** 0.5
    result = scipy.stats.kstest(sample, scipy.stats.norm(counts / EXPOSURE, sigma).cdf)
    gate("cpu noise lenstronomy: KS statistic times sqrt n", result.statistic * math.sqrt(len(sample)), 1.95)


@pytest.mark.parametrize("name", NOISY)
def test_a_million_pixels_beside_torch(name: str, gate) -> None:
    """Other random numbers in float64 torch: two samples of one distribution."""
    counts = torch.full((2000,), 12.0)
    ours, theirs = seen(name, counts, FIELD).flatten(), seen(name, counts[:500], FIELD, torch.float64, seed=2).flatten()
    statistic = scipy.stats.ks_2samp(ours.numpy(), theirs.numpy(), method="asymp").statistic
    effective = math.sqrt(len(ours) * len(theirs) / (len(ours) + len(theirs)))
    gate(f"cpu noise {name}: two-sample KS times root n", statistic * effective, 1.95)


@pytest.mark.parametrize("name", NOISE_RECIPES)
def test_the_same_noise_as_torch(name: str, gate) -> None:
    """The same uniforms: equal to float32's rounding, but for the few pixels where a count rounds the other way."""
    counts = torch.logspace(-1, 4, 400)
    ours, theirs = seen(name, counts, FIELD), seen(name, counts, FIELD, torch.float64)
    whole = EXPOSURE if name == "deeplense_i" else 1.0  # that recipe reports counts, the others rates
    scale = (counts.double().clamp(min=20.0) / EXPOSURE * whole)[:, None]
    error = (ours - theirs).abs() / scale
    other = error > 1e-4
    gate(
        f"cpu noise {name}: pixels with another count",
        other.double().mean(),
        2e-4 if name in ("ccd", "deeplense_i") else 0,
    )
    gate(f"cpu noise {name}: the others (relative)", error[~other].max(), 1e-4)
    electron = whole / EXPOSURE
    # another count is the next one
    assert not bool(other.any()) or float(((ours - theirs).abs()[other] / electron - 1.0).abs().max()) < 0.2


def test_extreme_detectors_and_dark_pixels() -> None:
    """Nothing there, no read noise, negative rates: finite, and what torch has."""
    for detector in (Detector(1, 0.0, 0.0), Detector(460, 10.0, 9.0), Detector(1, 0.0, 1e-4)):
        for name in NOISE_RECIPES:
            counts = torch.tensor([0.0, 1e-6, 1e-3, 1.0, 23.9999, 24.0, 24.0001, 1e6])
            ours, theirs = (seen(name, counts, FIELD, d, detector=detector) for d in (torch.float32, torch.float64))
            assert bool(torch.isfinite(ours).all())
            scale = (theirs.abs() + 20.0 / EXPOSURE).clamp(min=1e-6)
            assert float(((ours - theirs).abs() / scale > 1e-3).double().mean()) < 2e-3, (name, detector)
