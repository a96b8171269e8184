"""Moffat, diffraction and adaptive optics: against lenstronomy, and against what is known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special
import torch
from lenstronomy.Util import kernel_util

from lensgen.errors import ParameterError, UnknownNameError
from lensgen.psf import AdaptiveOpticsPSF, Aperture, DiffractionPSF, MoffatPSF
from tests.psf.kernels import HST, KECK

JWST = Aperture(6.6, rings=2, segment=1.32, gap=0.007)


def radii(size: int, scale: float) -> np.ndarray:
    """arcsec, `[size, size]`."""
    x = (np.arange(size) - size // 2) * scale
    return np.hypot(x[:, None], x)


def airy(r: np.ndarray, diameter: float, obstruction: float, wavelength: float) -> np.ndarray:
    """Born & Wolf, section 8.5.2, and 8.6 with an obstruction; not normalised."""
    v = np.maximum(math.pi * diameter * np.radians(r / 3600.0) / (wavelength * 1e-6), 1e-9)
    amplitude = 2.0 * scipy.special.j1(v) / v
    if obstruction:
        amplitude = amplitude - obstruction**2 * 2.0 * scipy.special.j1(obstruction * v) / (obstruction * v)
    return amplitude**2


def blocks(kernel: torch.Tensor, factor: int) -> torch.Tensor:
    n = kernel.shape[-1] // factor
    summed = kernel.view(n, factor, n, factor).sum((1, 3))
    return summed / summed.sum()


# --- Moffat


@pytest.mark.parametrize("size, fwhm, beta", [(21, 0.7, 3.0), (33, 0.3, 1.5), (7, 0.12, 4.765)])
def test_moffat_as_lenstronomy_has_it(size: int, fwhm: float, beta: float) -> None:
    (got,) = MoffatPSF(fwhm, beta, size * 0.1).kernels(0.1)
    np.testing.assert_allclose(got, kernel_util.kernel_moffat(size, 0.1, fwhm, beta), rtol=1e-12, atol=0)


@pytest.mark.parametrize("fwhm", [0.02, 0.1, 0.6])
def test_moffat_integrated_over_pixels(fwhm: float) -> None:
    """Pixels three times as large hold the light of nine, exactly."""
    (fine,), (coarse,) = (MoffatPSF(fwhm, 2.5, 2.1, "pixel").kernels(s) for s in (0.1 / 3, 0.1))
    torch.testing.assert_close(coarse, blocks(fine, 3), rtol=0, atol=1e-6 * float(coarse.max()))


def test_moffat_is_half_at_half_its_width() -> None:
    (kernel,) = MoffatPSF(0.6, 3.3, 2.1).kernels(0.1)
    assert float(kernel[10, 13] / kernel[10, 10]) == pytest.approx(0.5, abs=1e-12)


# --- apertures


def test_areas_of_apertures() -> None:
    def area(aperture: Aperture, cells: int = 512) -> float:
        x, through = aperture.pupil(cells)
        assert through.shape == (cells, cells) and float(through.min()) > -1e-12 and float(through.max()) < 1.0 + 1e-9
        return float(through.sum()) * float(x[1] - x[0]) ** 2

    assert area(Aperture(2.4)) == pytest.approx(math.pi * 1.2**2, rel=1e-5)
    open_disc = math.pi * 1.2**2 * (1.0 - 0.33**2)
    assert area(HST) == pytest.approx(open_disc - 4 * 0.026 * 1.2 * (1.0 - 0.33), rel=1e-4)
    assert area(JWST) == pytest.approx(18 * math.sqrt(3.0) / 2.0 * 1.32**2, rel=1e-4)
    assert area(Aperture(11.0, rings=3, segment=1.5, gap=0.004)) == pytest.approx(
        36 * math.sqrt(3.0) / 2.0 * 1.5**2, rel=1e-4
    )


@pytest.mark.parametrize("aperture", [Aperture(3.0, 0.4), JWST, KECK, HST])
def test_apertures_are_mirrored_in_both_axes(aperture: Aperture) -> None:
    _, through = aperture.pupil(256)
    for dim in (0, 1):
        torch.testing.assert_close(through, through.flip(dim), rtol=0, atol=1e-9)


def test_a_vane_stands_where_its_angle_says() -> None:
    x, through = Aperture(2.0, vanes=(90.0,), vane_width=0.1).pupil(200)
    middle = through[:, 100]
    assert float(middle[x > 0.1][:80].max()) < 1e-9 and float(middle[x < -0.1][-80:].min()) > 1.0 - 1e-9


def test_a_segmented_mirror_has_a_hole_and_an_extent() -> None:
    x, through = JWST.pupil(300)
    assert float(through[150, 150]) == 0.0
    used = through.sum(0) > 0.5
    assert float(x[used].abs().max()) <= 0.5 * JWST.extent
    # in 2 rings the outermost corners lie at 2 steps and half a flat
    assert JWST.extent == pytest.approx(2 * math.hypot(2.5 * 1.32 + 2 * 0.007, 1.32 / math.sqrt(12)), rel=0.03)


# --- diffraction


@pytest.mark.parametrize("obstruction", [0.0, 0.33])
@pytest.mark.parametrize("wavelength", [0.6, 1.6])
def test_discs_against_the_airy_pattern(obstruction: float, wavelength: float) -> None:
    (got,) = DiffractionPSF(Aperture(2.4, obstruction), wavelength, 1.01, "centre").kernels(0.01)
    expected = airy(radii(101, 0.01), 2.4, obstruction, wavelength)
    np.testing.assert_allclose(got / got.max(), expected / expected.max(), rtol=0, atol=5e-6)


def test_first_dark_ring() -> None:
    scale = 0.002
    (kernel,) = DiffractionPSF(Aperture(2.4), 0.8, 0.3, "centre").kernels(scale)
    line = kernel[len(kernel) // 2, len(kernel) // 2 :]
    expected = 1.2197 * math.degrees(0.8e-6 / 2.4) * 3600.0
    dark = int((line[1:-1] < line[:-2]).logical_and(line[1:-1] < line[2:]).nonzero()[0]) + 1
    assert dark * scale == pytest.approx(expected, abs=scale)


@pytest.mark.parametrize("radius", [0.06, 0.1, 0.2])
def test_encircled_energy(radius: float) -> None:
    """1 - J0(v)^2 - J1(v)^2 of an Airy pattern (Born & Wolf, 8.5.2), relative to what lies within 0.5 arcsec."""

    def within(r: float) -> float:
        v = math.pi * 2.4 * math.radians(r / 3600.0) / 0.8e-6
        return float(1.0 - scipy.special.j0(v) ** 2 - scipy.special.j1(v) ** 2)

    (kernel,) = DiffractionPSF(Aperture(2.4), 0.8, 1.1, "pixel").kernels(0.0025)
    r = radii(len(kernel), 0.0025)
    shares = [float(kernel[torch.from_numpy(r <= edge)].sum()) for edge in (radius, 0.5)]
    assert shares[0] / shares[1] == pytest.approx(within(radius) / within(0.5), abs=2e-3)


@pytest.mark.parametrize("aperture", [HST, KECK, Aperture(1.0)])
def test_diffraction_integrated_over_pixels(aperture: Aperture) -> None:
    (fine,), (coarse,) = (DiffractionPSF(aperture, 1.6, 1.05).kernels(s) for s in (0.05 / 3, 0.05))
    torch.testing.assert_close(coarse, blocks(fine, 3), rtol=0, atol=1e-6 * float(coarse.max()))


def test_spikes_stand_across_the_vanes() -> None:
    plain, crossed = (
        DiffractionPSF(Aperture(2.4, 0.3, vanes, width), 0.8, 2.01).kernels(0.03)[0]
        for vanes, width in (((), 0.0), ((90.0, 270.0), 0.1))
    )
    n = len(plain) // 2
    along_x, along_y = (float((crossed[rows, columns] - plain[rows, columns]).sum())
                        for rows, columns in ((n, slice(n + 10, None)), (slice(n + 10, None), n)))  # fmt: skip
    assert along_x > 0.0 and along_x > 5.0 * abs(along_y)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: DiffractionPSF(2.4, 0.8, 1.0), r"psf.aperture = 2.4: give an Aperture"),
        (lambda: DiffractionPSF(HST, 814.0e3, 1.0), r"psf.wavelength = 814000.0 is outside"),
        (lambda: DiffractionPSF(HST, 0.8, float("nan")), r"psf.size = nan"),
        (lambda: DiffractionPSF(KECK, 0.5, 60.0).kernels(0.5), r"lambda/D, more than 512: give a smaller one"),
        (lambda: AdaptiveOpticsPSF(KECK, 2.1, 1.1, 0.5, 3.0, 1.0), r"psf.strehl = 1.1 is outside \[0, 1\]"),
        (lambda: AdaptiveOpticsPSF(KECK, 2.1, 0.5, 0.5, 1.0, 1.0), r"psf.beta = 1.0 is outside"),
        (lambda: MoffatPSF(0.0, 3.0, 1.0), r"psf.fwhm = 0.0 is outside"),
        (lambda: MoffatPSF(0.1, 3.0, 900.0).kernels(0.1), r"9001 pixels of 0.1 arcsec on a side, more than 2047"),
        (lambda: Aperture(0.0), r"aperture.diameter = 0.0 is outside"),
        (lambda: Aperture(2.4, 1.0), r"aperture.obstruction = 1.0 is outside"),
        (lambda: Aperture(2.4, vanes=(45.0,)), r"without a vane_width"),
        (lambda: Aperture(2.4, vanes=(float("nan"),)), r"aperture.vanes = nan"),
        (lambda: Aperture(6.6, rings=2), r"aperture.segment = 0.0 is outside"),
        (lambda: Aperture(6.6, rings=2.5), r"aperture.rings = 2.5 is no whole number"),
    ],
)
def test_what_is_refused(make, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        make()


@pytest.mark.parametrize("make", [lambda s: MoffatPSF(0.1, 3.0, 1.0, s), lambda s: DiffractionPSF(HST, 0.8, 1.0, s)])
def test_unknown_samplings(make) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown psf sampling 'center'. Did you mean 'centre'"):
        make("center")


# --- adaptive optics


def test_adaptive_optics_is_a_core_and_a_halo() -> None:
    core, halo = DiffractionPSF(KECK, 2.12, 2.0), MoffatPSF(0.5, 3.0, 2.0, "pixel")

    def psf(strehl: float) -> torch.Tensor:
        return AdaptiveOpticsPSF(KECK, 2.12, strehl, 0.5, 3.0, 2.0).kernels(0.02)

    torch.testing.assert_close(psf(1.0), core.kernels(0.02), rtol=0, atol=1e-16)
    torch.testing.assert_close(psf(0.0), halo.kernels(0.02), rtol=0, atol=1e-16)
    peaks = [float(psf(s).max()) for s in (0.3, 1.0)]
    assert peaks[0] / peaks[1] == pytest.approx(0.3, abs=0.03)
    assert float((psf(0.3) - 0.3 * core.kernels(0.02) - 0.7 * halo.kernels(0.02)).abs().max()) < 1e-15
