"""Noise recipes: their mean and variance, exact Poisson at low counts, and that only the key matters."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch

from lensgen.errors import ParameterError, UnknownNameError
from lensgen.noise import NOISE_RECIPES, Detector, noise_recipe, poisson_quantile, standard_normal
from lensgen.rng import RandomSource

DRAWS = 2_000
COUNTS = torch.logspace(-1, 4, 16, dtype=torch.float64)  # e- of signal in the exposure, 0.1 to 10,000
DETECTORS = {
    "model_a": (Detector(exposures=1, read_noise=4.0, sky=0.664), 1750.0),
    "euclid": (Detector(exposures=4, read_noise=4.2, sky=0.0466), 2260.0),
    "no sky, no read noise": (Detector(exposures=1, read_noise=0.0, sky=0.0), 100.0),
    "faint sky": (Detector(exposures=3, read_noise=0.5, sky=0.004), 90.0),
    "many reads": (Detector(exposures=460, read_noise=10.0, sky=9.0), 6900.0),
}


def drawn(recipe, clean: torch.Tensor, exposure: float, detector: Detector, draws: int = DRAWS, seed: int = 0):
    """`[draws, P]`: what the recipe makes of clean `[P]`, random numbers keyed as in the engine."""
    index = torch.arange(draws)
    random = RandomSource(seed)

    def uniform(name: str) -> torch.Tensor:
        return random.uniforms(index, f"noise.{name}", len(clean)).to(clean.dtype)

    time = torch.full((draws, 1), exposure, dtype=clean.dtype)
    return recipe.apply(clean.expand(draws, -1), time, detector, uniform)


def moments_in_standard_errors(sample: torch.Tensor, mean, variance, fourth_cumulant) -> tuple[float, float]:
    """How far the mean and the variance of `sample` `[draws, P]` lie off, at worst, in standard errors."""
    n = len(sample)
    of_mean = (sample.mean(0) - mean).abs() / (variance / n).sqrt()
    of_variance = (sample.var(0) - variance).abs() / ((2 * variance**2 + fourth_cumulant) / n).sqrt()
    return float(of_mean.max()), float(of_variance.max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("detector, exposure", DETECTORS.values(), ids=DETECTORS)
@pytest.mark.parametrize("name", ["ccd", "lenstronomy"])
def test_mean_and_variance(name, detector, exposure, dtype, gate) -> None:
    clean = COUNTS / exposure
    sample = drawn(noise_recipe(name), clean.to(dtype), exposure, detector).double()
    # the formulas of the docs, written out again
    variance = (clean + detector.sky) / exposure + detector.exposures * detector.read_noise**2 / exposure**2
    fourth = (clean + detector.sky) / exposure**3 if name == "ccd" else torch.zeros(())  # that of Poisson; normal has 0
    of_mean, of_variance = moments_in_standard_errors(sample, clean, variance, fourth)
    gate(f"noise {name}: mean, standard errors", of_mean, 4.0)
    gate(f"noise {name}: variance, standard errors", of_variance, 4.0)


@pytest.mark.parametrize("name", ["ccd", "lenstronomy"])
@pytest.mark.parametrize("detector, exposure", DETECTORS.values(), ids=DETECTORS)
def test_stated_variance_is_the_formula(name, detector, exposure) -> None:
    clean = torch.cat((COUNTS / exposure, torch.zeros(1, dtype=torch.float64)))
    time = torch.full((1, 1), exposure, dtype=torch.float64)
    expected = (clean + detector.sky) / exposure + detector.exposures * detector.read_noise**2 / exposure**2
    torch.testing.assert_close(noise_recipe(name).variance(clean[None], time, detector)[0], expected)


def test_lenstronomy_background_numbers() -> None:
    """sigma_b of lenstronomy's own configurations, e-/s per pixel."""
    zero = torch.zeros(1, 1, dtype=torch.float64)
    for read, n, t, sky, zero_point, scale, expected in (
        (4.2, 4, 565.0, 22.35, 24.0, 0.101, 5.869e-3),
        (4.2, 4, 566.0, 22.3, 25.72, 0.101, 1.090e-2),
        (4.0, 1, 5400.0, 22.3, 25.96, 0.08, 5.920e-3),
        (10.0, 460, 15.0, 19.6, 27.40, 0.2, None),
    ):
        detector = Detector(n, read, 10 ** (-0.4 * (sky - zero_point)) * scale**2)
        sigma = float(noise_recipe("lenstronomy").variance(zero, zero + n * t, detector)) ** 0.5
        if expected is not None:
            assert sigma == pytest.approx(expected, rel=1e-3)


def test_variance_against_lenstronomy() -> None:
    from lenstronomy.SimulationAPI.sim_api import SimAPI

    band = {
        "pixel_scale": 0.101, "exposure_time": 565.0, "magnitude_zero_point": 24.0, "read_noise": 4.2, "ccd_gain": 3.1,
        "sky_brightness": 22.35, "seeing": 0.16, "num_exposures": 4, "psf_type": "GAUSSIAN",
    }  # fmt: skip
    api = SimAPI(5, band, {})
    model = np.array([[0.0, 0.01, 0.1, 1.0, 2.0]] * 5)
    expected = api.background_noise**2 + api.flux_noise(model) ** 2
    detector = Detector(4, 4.2, 10 ** (-0.4 * (22.35 - 24.0)) * 0.101**2)
    got = noise_recipe("lenstronomy").variance(torch.tensor(model), torch.tensor([[2260.0]]).double(), detector)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("level", [0.0, 0.0005, 0.003, 0.02, 0.2])
@pytest.mark.parametrize("exposure", [1000.0, 3162.0])
def test_deeplense_i_against_the_published_steps(level: float, exposure: float) -> None:
    """n_p, n_b, the product with t, the clip and Poisson, step by step with numpy."""
    random = np.random.default_rng(int(level * 1e6) + int(exposure))
    n = 200_000
    rate = level + random.normal(0, math.sqrt(level / exposure), n) + random.normal(0, 0.01, n)
    published = random.poisson(np.maximum(exposure * rate, 0.0)).astype(float)
    recipe, detector = noise_recipe("deeplense_i"), Detector(1, 0.0, 0.0)
    ours = drawn(recipe, torch.tensor([level], dtype=torch.float64), exposure, detector, 20_000)[:, 0].numpy()

    def error_of_variance(x):
        return ((x - x.mean()) ** 2).std() / math.sqrt(len(x))

    of_mean = math.hypot(published.std() / math.sqrt(n), ours.std() / math.sqrt(len(ours)))
    assert abs(published.mean() - ours.mean()) < 4 * of_mean
    allowed = 4 * math.hypot(error_of_variance(published), error_of_variance(ours))
    assert abs(published.var() - ours.var()) < allowed
    assert np.array_equal(ours, np.round(ours)) and ours.min() >= 0
    if level > 5 * math.sqrt(level / exposure + 0.01**2):  # never clipped: what the recipe states holds
        stated = recipe.variance(torch.tensor([[level]]).double(), torch.tensor([[exposure]]).double(), detector)
        assert abs(ours.var() - float(stated)) < 4 * error_of_variance(ours)
        assert abs(ours.mean() - exposure * level) < 4 * ours.std() / math.sqrt(len(ours))


def test_deeplense_i_sky_is_a_half_rectified_normal() -> None:
    """Median exposure: mean 6.5 counts, rms 10 (measured on the published recipe)."""
    sky = drawn(noise_recipe("deeplense_i"), torch.zeros(1), 1750.0, Detector(1, 0.0, 0.0), 20_000)
    assert float(sky.mean()) == pytest.approx(17.5 / math.sqrt(2 * math.pi), abs=0.3)
    assert float(sky.std()) == pytest.approx(10.5, abs=0.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("detector, exposure", DETECTORS.values(), ids=DETECTORS)
def test_gaussian_is_as_wide_in_every_pixel(detector, exposure, dtype, gate) -> None:
    clean = COUNTS / exposure
    sample = drawn(noise_recipe("gaussian"), clean.to(dtype), exposure, detector).double()
    variance = detector.sky / exposure + detector.exposures * detector.read_noise**2 / exposure**2
    time = torch.full((1, 1), exposure, dtype=torch.float64)
    stated = noise_recipe("gaussian").variance(clean[None], time, detector)[0]
    torch.testing.assert_close(stated, torch.full_like(clean, variance))
    if variance == 0.0:
        assert torch.equal(sample, clean.to(dtype).double().expand(DRAWS, -1))
        return
    if dtype == torch.float32:  # which holds the noise of the faint pixels only
        sample, clean = sample[:, clean < 1e3 * variance**0.5], clean[clean < 1e3 * variance**0.5]
    of_mean, of_variance = moments_in_standard_errors(sample, clean, torch.tensor(variance), torch.zeros(()))
    gate("noise gaussian: mean, standard errors", of_mean, 4.0)
    gate("noise gaussian: variance, standard errors", of_variance, 4.0)


def test_clipped_is_lenstronomys_without_what_is_below_zero() -> None:
    clean, detector = torch.tensor([0.0, 0.01, 0.05, 3.0]), Detector(4, 4.2, 0.0466)
    plain, clipped = (drawn(noise_recipe(n), clean, 2260.0, detector) for n in ("lenstronomy", "lenstronomy_clipped"))
    assert torch.equal(clipped, plain.clamp(min=0.0))
    below = (plain < 0.0).float().mean(0)
    assert float(below[0]) == pytest.approx(0.5, abs=0.05) and 0.0 < float(below[1]) < 0.5 and float(below[3]) == 0.0


def test_deeplense_ii_doubles_and_adds_nothing() -> None:
    clean = COUNTS / 100
    recipe = noise_recipe("deeplense_ii")
    assert torch.equal(drawn(recipe, clean, 100.0, Detector(1, 5.0, 1.0), 3), 2 * clean.expand(3, -1))
    assert recipe.noiseless and float(recipe.response(torch.ones(1, 1))) == 2.0


def test_none_is_the_image_as_it_is() -> None:
    clean = COUNTS / 100
    assert torch.equal(drawn(noise_recipe("none"), clean, 100.0, Detector(1, 5.0, 1.0), 3), clean.expand(3, -1))


@pytest.mark.parametrize("name", NOISE_RECIPES)
def test_response_is_the_slope_of_the_mean(name: str) -> None:
    """Same random numbers on either side, so that the difference is the slope and not noise."""
    recipe, detector, exposure = noise_recipe(name), Detector(2, 3.0, 0.3), 1000.0
    at = torch.tensor([2.0, 8.0], dtype=torch.float64)
    low, high = (drawn(recipe, at * (1 + sign * 0.05), exposure, detector).mean(0) for sign in (-1, 1))
    expected = float(recipe.response(torch.tensor([[exposure]], dtype=torch.float64)))
    torch.testing.assert_close((high - low) / (0.1 * at), torch.full_like(at, expected), rtol=5e-3, atol=0)


@pytest.mark.parametrize("name", [name for name, recipe in NOISE_RECIPES.items() if not recipe.noiseless])
def test_noise_is_never_nan(name: str) -> None:
    """Negative and zero rates (a PSF's ringing), no sky, no read noise, extreme uniforms."""
    clean = torch.tensor([-1.0, -1e-9, 0.0, 1e-30, 1e-4, 1e3, 1e6])
    detector = Detector(1, 0.0, 0.0)
    for u in (2.0**-24, 1 - 2.0**-24):
        seen = noise_recipe(name).apply(
            clean[None], torch.full((1, 1), 1000.0), detector, lambda _, u=u: torch.full((1, 7), u)
        )
        assert bool(torch.isfinite(seen).all())


@pytest.mark.parametrize("mean", [0.0, 0.01, 0.1, 0.7, 1.0, 3.0, 9.5, 17.0, 23.0, 23.9, 23.999])
def test_poisson_is_exact_below_24(mean: float) -> None:
    u = (torch.arange(2**17, dtype=torch.float64) + 0.5) / 2**17
    u = torch.cat((u, torch.tensor([2.0**-24, 1 - 2.0**-24], dtype=torch.float64)))
    got = poisson_quantile(torch.full_like(u, mean), u).numpy()
    expected = scipy.stats.poisson(mean).ppf(u.numpy()) if mean > 0 else np.zeros(len(u))
    different = got != expected
    # only where u is the distribution function itself, to rounding
    edge = np.abs(scipy.stats.poisson(mean).cdf(np.minimum(got, expected)) - u.numpy()) < 1e-13
    assert bool(np.all(~different | edge))


@pytest.mark.parametrize("mean", [0.05, 1.0, 10.0, 23.9])
def test_poisson_in_float32_on_all_its_uniforms(mean: float) -> None:
    """The distribution that float32 draws, from a sixteenth of all its uniforms, against Poisson's."""
    u = (torch.arange(2**19, dtype=torch.float64) * 16 + 8.5) * 2.0**-23
    got = poisson_quantile(torch.full_like(u, mean).float(), u.float()).to(torch.int64)
    share = torch.bincount(got, minlength=100).numpy() / len(u)
    expected = scipy.stats.poisson(mean).pmf(np.arange(len(share)))
    assert 0.5 * np.abs(share - expected).sum() < 3e-5


@pytest.mark.parametrize("mean, bits", [(24.0, 22), (24.7, 22), (40.3, 21), (100.0, 21)])
def test_poisson_above_24_in_total_variation(mean: float, bits: int, gate) -> None:
    u = (torch.arange(2**bits, dtype=torch.float64) + 0.5) / 2**bits
    got = poisson_quantile(torch.full_like(u, mean), u).to(torch.int64)
    share = torch.bincount(got, minlength=200).numpy() / 2**bits
    expected = scipy.stats.poisson(mean).pmf(np.arange(len(share)))
    lattice = 0.5 * np.count_nonzero(share) / 2**bits  # each share is a whole number of uniforms
    gate("Poisson above 24, total variation", 0.5 * np.abs(share - expected).sum() - lattice, 2e-5)


@pytest.mark.parametrize("mean", [24.0, 31.7, 100.0, 999.5, 1e4, 1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_poisson_above_24_distribution_function(mean: float, dtype) -> None:
    u = (torch.arange(2**17, dtype=torch.float64) + 0.5) / 2**17
    got = poisson_quantile(torch.full_like(u, mean).to(dtype), u.to(dtype)).double()
    reference = scipy.stats.poisson(mean)
    # u must lie in the step of the distribution function that the count stands on
    low, high = reference.cdf(got.numpy() - 1), reference.cdf(got.numpy())
    off = np.maximum(np.maximum(low - u.numpy(), u.numpy() - high), 0.0)
    assert off.max() < (3e-5 if dtype == torch.float64 or mean < 1e5 else 3e-4)


def test_poisson_on_both_sides_of_the_switch_in_one_tensor() -> None:
    mean = torch.tensor([23.999, 24.0, 24.001, 5.0, 500.0], dtype=torch.float64)
    u = torch.tensor([0.3], dtype=torch.float64)
    together = poisson_quantile(mean, u.expand(5))
    assert together.tolist() == [float(poisson_quantile(m[None], u)) for m in mean]
    assert together.tolist() == scipy.stats.poisson(mean.numpy()).ppf(0.3).tolist()


def test_standard_normal_is_the_quantile() -> None:
    u = torch.cat((RandomSource(0).uniforms(torch.arange(4000), "u", 1)[:, 0], torch.tensor([2.0**-24, 1 - 2.0**-24])))
    np.testing.assert_allclose(standard_normal(u).numpy(), scipy.stats.norm.ppf(u.numpy()), rtol=1e-9, atol=1e-12)
    assert bool(torch.isfinite(standard_normal(u.float())).all())


@pytest.mark.parametrize("name", [name for name, recipe in NOISE_RECIPES.items() if not recipe.noiseless])
def test_pixels_and_images_are_uncorrelated(name: str) -> None:
    clean = torch.full((40,), 5.0, dtype=torch.float64)
    sample = drawn(noise_recipe(name), clean, 100.0, Detector(1, 5.0, 1.0))
    between_pixels = torch.corrcoef(sample.T) - torch.eye(40)
    assert float(between_pixels.abs().max()) < 5.0 / math.sqrt(DRAWS)
    flat = sample.flatten() - sample.mean()
    for lag in (1, 2, 4, 40, 41, 400):  # neighbours in a row, and in the next image
        correlation = float((flat[lag:] * flat[:-lag]).mean() / flat.var())
        assert abs(correlation) < 5.0 / math.sqrt(len(flat))


def test_unknown_recipe() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown noise recipe 'cdd'. Did you mean 'ccd'"):
        noise_recipe("cdd")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((0, 1.0, 0.0), "exposures = 0 is outside"),
        ((1.5, 1.0, 0.0), "exposures = 1.5 .*whole number"),
        ((1, -1.0, 0.0), "read_noise = -1.0 is outside"),
        ((1, math.nan, 0.0), "read_noise = nan is outside"),
        ((1, 0.0, -1e-3), "sky = -0.001 is outside"),
        ((1, 0.0, math.inf), "sky = inf is outside"),
    ],
)
def test_bad_detectors(arguments, message) -> None:
    with pytest.raises(ParameterError, match=message):
        Detector(*arguments)
