"""Gaussian PSFs against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.ndimage
import scipy.special
import torch

from lensgen.errors import ParameterError, UnknownNameError
from lensgen.psf import GaussianPSF
from tests.psf.kernels import images

FWHM_PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))


@pytest.mark.parametrize("shape", [(31, 31), (33, 65), (8, 5), (1, 1), (1, 40), (3, 2)])
@pytest.mark.parametrize("truncation", [3.0, 4.0, 5.0])
@pytest.mark.parametrize("edge, mode", [("nearest", "nearest"), ("zero", "constant")])
@pytest.mark.parametrize("sigma", [0.3, 0.7389, 2.6])
def test_gaussian_against_scipy(shape, truncation, edge, mode, sigma) -> None:
    image = images(*shape)
    got = GaussianPSF(sigma * FWHM_PER_SIGMA * 0.05, truncation, edge).convolve(image, 0.05)
    for mine, one in zip(got, image, strict=True):
        expected = scipy.ndimage.gaussian_filter(one.numpy(), sigma, truncate=truncation, mode=mode)
        torch.testing.assert_close(mine, torch.from_numpy(expected), rtol=0.0, atol=1e-12)


def test_model_i_kernel_ends_where_lenstronomy_1_9_2_ends_it() -> None:
    psf = GaussianPSF(0.087, truncation=4.0)
    assert len(psf.separable(0.05)) == 7
    assert len(GaussianPSF(0.087, truncation=3.0).separable(0.05)) == 5


@pytest.mark.parametrize("sigma", [0.2, 0.7, 3.0])
def test_pixel_integrated_gaussian(sigma: float) -> None:
    weights = np.array(GaussianPSF(sigma * FWHM_PER_SIGMA, 5.0, sampling="pixel").separable(1.0))
    edges = np.arange(len(weights) + 1) - len(weights) / 2
    expected = np.diff(scipy.special.erf(edges / sigma / math.sqrt(2)))
    np.testing.assert_allclose(weights, expected / expected.sum(), rtol=0, atol=1e-15)


def test_pixel_integrated_is_wider_by_a_pixel_s_variance() -> None:
    weights = np.array(GaussianPSF(2.0 * FWHM_PER_SIGMA, 8.0, sampling="pixel").separable(1.0))
    offsets = np.arange(len(weights)) - len(weights) // 2
    assert float((weights * offsets**2).sum()) == pytest.approx(4.0 + 1.0 / 12.0, abs=1e-6)


@pytest.mark.parametrize("sampling", ["centre", "pixel"])
@pytest.mark.parametrize("edge", ["nearest", "zero"])
def test_flux_is_kept_away_from_the_border(sampling: str, edge: str) -> None:
    image = torch.zeros(1, 41, 41, dtype=torch.float64)
    image[0, 20, 18] = 3.0
    seen = GaussianPSF(0.3, 4.0, edge, sampling).convolve(image, 0.1)
    assert float(seen.sum()) == pytest.approx(3.0, abs=1e-12)
    assert float(seen.min()) >= 0.0 and float(seen.max()) < 3.0


def test_edges_differ_as_their_names_say() -> None:
    flat = torch.ones(1, 21, 21, dtype=torch.float64)
    torch.testing.assert_close(GaussianPSF(0.3).convolve(flat, 0.1), flat, rtol=0, atol=1e-14)
    dark = GaussianPSF(0.3, edge="zero").convolve(flat, 0.1)
    assert 0.25 < float(dark[0, 0, 0]) < 0.5 and float(dark[0, 10, 10]) == pytest.approx(1.0, abs=1e-14)


def test_no_psf_changes_nothing() -> None:
    image = images(9, 9)
    assert torch.equal(GaussianPSF(0.0).convolve(image, 0.1), image)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"fwhm": -0.1}, r"psf.fwhm = -0.1 is outside \[0, 100\] arcsec"),
        ({"fwhm": float("nan")}, "psf.fwhm = nan"),
        ({"fwhm": 0.1, "truncation": 0.5}, r"psf.truncation = 0.5 is outside \[1, 20\] sigma"),
        ({"fwhm": 0.1, "truncation": "4"}, "psf.truncation = '4'"),
        ({"fwhm": None}, "psf.fwhm = None"),
    ],
)
def test_bad_gaussians(arguments, message) -> None:
    with pytest.raises(ParameterError, match=message):
        GaussianPSF(**arguments)


def test_unknown_edges_and_samplings() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown psf edge 'nearst'. Did you mean 'nearest'"):
        GaussianPSF(0.1, edge="nearst")
    with pytest.raises(UnknownNameError, match=r"unknown psf sampling 'center'. Did you mean 'centre'"):
        GaussianPSF(0.1, sampling="center")
