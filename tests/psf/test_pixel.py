"""PSFs given as pixels: against scipy, and on pixels of another scale against lenstronomy."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import scipy.signal
import torch
from astropy.io import fits
from lenstronomy.Util import kernel_util

from lensgen.errors import DataError, ParameterError
from lensgen.psf import GaussianPSF, PixelPSF
from tests.psf.kernels import images, moffat, stack


@pytest.mark.parametrize("shape", [(31, 31), (33, 65), (1, 1), (4, 50), (6, 6)])
@pytest.mark.parametrize("size", [1, 3, 11, 21])
def test_kernel_against_scipy(shape, size: int) -> None:
    kernel, image = moffat(size), images(*shape)
    for mine, one in zip(PixelPSF(kernel).convolve(image, 0.1), image, strict=True):
        expected = scipy.signal.convolve(one.numpy(), kernel.numpy(), mode="full", method="direct")
        start = size // 2
        expected = expected[start : start + shape[0], start : start + shape[1]]
        torch.testing.assert_close(mine, torch.tensor(expected.copy()), rtol=0, atol=1e-12)
    if size <= min(shape):  # scipy's "same" has the size of the larger of the two
        same = scipy.signal.fftconvolve(image[0].numpy(), kernel.numpy(), mode="same")
        torch.testing.assert_close(PixelPSF(kernel).convolve(image, 0.1)[0], torch.from_numpy(same), rtol=0, atol=1e-12)


def middle(kernel: torch.Tensor, size: int) -> torch.Tensor:
    """Cut to this odd size, or padded with zeros."""
    margin = (size - kernel.shape[-1]) // 2
    return torch.nn.functional.pad(kernel, (margin,) * 4)


# --- other pixels than its own


@pytest.mark.parametrize("factor", [2, 3, 4, 5])
@pytest.mark.parametrize("size", [5, 21, 23, 25])
def test_larger_pixels_as_lenstronomy_has_them(factor: int, size: int) -> None:
    expected = torch.from_numpy(kernel_util.degrade_kernel(moffat(size).numpy(), factor))
    (got,) = PixelPSF(moffat(size), pixel_scale=0.02).kernels(0.02 * factor)
    largest = max(len(got), len(expected))
    torch.testing.assert_close(middle(got, largest), middle(expected, largest), rtol=0, atol=1e-15)


def test_an_even_kernel_is_the_mean_of_its_neighbours() -> None:
    even = torch.rand(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    even = even / even.sum()
    around = torch.nn.functional.pad(even, (1, 1, 1, 1))
    expected = (around[1:, 1:] + around[:-1, 1:] + around[1:, :-1] + around[:-1, :-1]) / 4
    for scale in (None, 0.1):
        (got,) = PixelPSF(even, pixel_scale=scale).kernels(0.1)
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-15)


def test_an_even_kernel_on_twice_as_large_pixels_is_not_blurred() -> None:
    even = torch.rand(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    even = even / even.sum()
    (got,) = PixelPSF(even, pixel_scale=0.05).kernels(0.1)
    torch.testing.assert_close(got, even.view(3, 2, 3, 2).sum((1, 3)), rtol=0, atol=1e-15)


@pytest.mark.parametrize("size", [80, 81])
@pytest.mark.parametrize("scale", [0.0101, 0.0137, 0.05, 0.0813])
def test_larger_pixels_of_any_scale(size: int, scale: float) -> None:
    """A Gaussian that is finely sampled becomes one that is integrated over the larger pixels."""
    sigma, own = 0.1, 0.01
    x = (np.arange(size) - (size - 1) / 2) * own
    fine = np.exp(-0.5 * (x / sigma) ** 2)
    fine = torch.from_numpy(np.outer(fine, fine) / fine.sum() ** 2)
    (got,) = PixelPSF(fine, pixel_scale=own).kernels(scale)
    (expected,) = GaussianPSF(sigma * 2.3548200450309493, 4.0, sampling="pixel").kernels(scale)
    largest = max(len(got), len(expected))
    assert float((middle(got, largest) - middle(expected, largest)).abs().max()) < 1e-2 * float(expected.max())


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_smaller_pixels_are_interpolated(factor: int) -> None:
    (got,) = PixelPSF(moffat(7), pixel_scale=0.1).kernels(0.1 / factor)
    start = (len(got) // 2) % factor
    coarse = got[start::factor, start::factor]
    coarse = coarse / coarse.sum()
    torch.testing.assert_close(middle(coarse, 9), middle(moffat(7), 9), rtol=0, atol=1e-15)
    ridge = got[len(got) // 2, len(got) // 2 :: 1][: factor + 1]
    torch.testing.assert_close(ridge, torch.linspace(float(ridge[0]), float(ridge[-1]), factor + 1).double())


def test_a_scale_that_a_header_rounded_is_the_same() -> None:
    got = PixelPSF(moffat(21), pixel_scale=0.05).kernels(0.05 * (1 + 1e-9))
    torch.testing.assert_close(got, moffat(21)[None], rtol=0, atol=1e-16)


def test_size_cuts_and_gives_the_light_back() -> None:
    (got,) = PixelPSF(moffat(21), pixel_scale=0.1, size=0.85).kernels(0.1)
    kept = moffat(21)[6:15, 6:15]
    torch.testing.assert_close(got, kept / kept.sum(), rtol=0, atol=1e-15)
    assert PixelPSF(moffat(5), pixel_scale=0.1, size=3.0).kernels(0.1).shape == (1, 5, 5)


def test_several_kernels_are_one_psf() -> None:
    psf = stack(3, 6)
    assert psf.choices == 3 and psf.kernels(0.1).shape == (3, 7, 7)
    for k in range(3):
        torch.testing.assert_close(psf.kernels(0.1)[k], PixelPSF(psf.kernel[k]).kernels(0.1)[0], rtol=0, atol=1e-17)


def test_equal_by_content() -> None:
    psf, same, other = PixelPSF(moffat(5)), PixelPSF(moffat(5).numpy(), normalise=True), PixelPSF(moffat(7))
    assert psf == same and hash(psf) == hash(same) and repr(psf) == repr(same)
    assert psf != other and repr(psf) != repr(other)
    changed = moffat(5)
    changed[1, 2] += 1e-12
    assert repr(PixelPSF(changed)) != repr(psf) and PixelPSF(moffat(5), pixel_scale=0.1) != psf
    assert copy.deepcopy(psf) == psf
    kernel = moffat(5)
    psf = PixelPSF(kernel)
    kernel.zero_()
    assert psf == same and torch.equal(psf.kernel, same.kernel)


# --- files


@pytest.mark.parametrize("name", ["a.npy", "a.fits"])
def test_from_a_file(tmp_path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("npy"):
        np.save(path, moffat(9).numpy())
        psf = PixelPSF.from_file(path, pixel_scale=0.03, size=0.2)
    else:
        unit = fits.PrimaryHDU(moffat(9).numpy())
        unit.header["PIXSCALE"] = 0.03
        unit.writeto(path)
        psf = PixelPSF.from_file(path, size=0.2)
        assert PixelPSF.from_file(path, pixel_scale=0.04).pixel_scale == 0.04  # what is given counts
    assert psf == PixelPSF(moffat(9), pixel_scale=0.03, size=0.2)


def test_files_that_say_too_little(tmp_path) -> None:
    np.save(tmp_path / "a.npy", 3 * moffat(9).numpy())
    with pytest.raises(ParameterError, match=r"a.npy does not state its pixel scale: give pixel_scale, in arcsec"):
        PixelPSF.from_file(tmp_path / "a.npy")
    with pytest.raises(ParameterError, match=r"sums to 3, not 1: pass normalise=True"):
        PixelPSF.from_file(tmp_path / "a.npy", pixel_scale=0.1)
    with pytest.raises(DataError, match=r"b.npy is not there"):
        PixelPSF.from_file(tmp_path / "b.npy", pixel_scale=0.1)
    with pytest.warns(UserWarning, match=r"divided by its sum, 3"):
        psf = PixelPSF.from_file(tmp_path / "a.npy", None, 0.1, True)
    torch.testing.assert_close(psf.kernels(0.1)[0], moffat(9), rtol=0, atol=1e-16)


# --- what is refused


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"pixel_scale": 0.0}, r"psf.pixel_scale = 0.0 is outside"),
        ({"pixel_scale": float("nan")}, r"psf.pixel_scale = nan"),
        ({"pixel_scale": "0.1"}, r"psf.pixel_scale = '0.1'"),
        ({"size": 1.0}, r"psf.size = 1.0 is in arcsec: give the kernel's pixel_scale too"),
        ({"size": -1.0, "pixel_scale": 0.1}, r"psf.size = -1.0 is outside"),
    ],
)
def test_bad_options(arguments, message) -> None:
    with pytest.raises(ParameterError, match=message):
        PixelPSF(moffat(5), **arguments)


def test_kernels_that_are_too_large() -> None:
    with pytest.raises(ParameterError, match=r"is too large: at most 2047 on a side"):
        PixelPSF(torch.ones(2049, 2049), normalise=True)
    with pytest.raises(ParameterError, match=r"more than 2047: give a smaller psf.size, or larger pixels"):
        PixelPSF(moffat(9), pixel_scale=0.1).kernels(1e-4)


def test_unnormalised_kernel_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"sums to 2, not 1: pass normalise=True"):
        PixelPSF(2.0 * moffat(5))


def test_unnormalised_kernel_is_normalised_on_request_with_a_warning() -> None:
    with pytest.warns(UserWarning, match=r"divided by its sum, 2"):
        psf = PixelPSF(2.0 * moffat(5), normalise=True)
    torch.testing.assert_close(psf.kernel[0], moffat(5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PixelPSF(moffat(5), normalise=True)  # nothing to warn of


@pytest.mark.parametrize("shape", [(3, 5), (3,), (1, 1, 3, 3), (0, 0), (0, 3, 3), (2, 3, 4)])
def test_shape_of_the_kernel(shape) -> None:
    with pytest.raises(ParameterError, match=r"must be \[k, k\] or \[n, k, k\], not"):
        PixelPSF(torch.ones(shape))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -5.0])
@pytest.mark.parametrize("normalise", [False, True])
def test_kernel_that_is_no_kernel(value: float, normalise: bool) -> None:
    kernel = moffat(5)
    kernel[2, 2] = value
    with pytest.raises(ParameterError, match=r"every value must be finite, and the sum positive"):
        PixelPSF(kernel, normalise)


def test_kernel_whose_faults_cancel() -> None:
    """+inf and -inf, or a lone NaN, must not hide in a sum."""
    kernel = moffat(5)
    kernel[0, 0], kernel[4, 4] = float("inf"), float("-inf")
    with pytest.raises(ParameterError, match=r"finite"):
        PixelPSF(kernel)


@pytest.mark.parametrize("kernel", ["x", [[1.0, 2.0], [3.0]], [["a", "b"], ["c", "d"]], None])
def test_what_is_no_array_of_numbers(kernel) -> None:
    with pytest.raises(ParameterError, match=r"a PSF kernel must be an array of numbers|must be \[k, k\]"):
        PixelPSF(kernel)
