"""Instruments: their constants give the noise that their notes state, and wrong constants are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lensgen.errors import ParameterError, UnknownNameError
from lensgen.instruments import INSTRUMENTS, instrument
from lensgen.noise import Detector, noise_recipe


def background(name: str, exposure: float) -> float:
    """Standard deviation of an empty pixel after `exposure` s in all, e-/s."""
    camera = instrument(name)
    detector = Detector(camera.exposures, camera.read_noise, camera.sky_rate * camera.pixel_scale**2)
    zero = torch.zeros(1, 1, dtype=torch.float64)
    return float(noise_recipe("ccd").variance(zero, zero + exposure, detector)) ** 0.5


def test_generic_has_the_background_of_model_i() -> None:
    assert background("generic", 1750.0) == pytest.approx(0.01, rel=2e-3)


def test_euclid_has_the_background_of_lenstronomy_s_configuration() -> None:
    assert background("euclid_vis", 4 * 565.0) == pytest.approx(5.869e-3, rel=1e-3)


def test_euclid_is_lenstronomy_s_of_2022() -> None:
    """All but zero point, sky and exposure time, which lenstronomy 1.14.1 changed."""
    from lenstronomy.SimulationAPI.ObservationConfig.Euclid import Euclid

    theirs = Euclid(band="VIS", psf_type="GAUSSIAN", coadd_years=6).kwargs_single_band()
    ours = instrument("euclid_vis")
    assert (ours.pixel_scale, ours.read_noise, ours.exposures, ours.psf_fwhm) == (
        theirs["pixel_scale"], theirs["read_noise"], theirs["num_exposures"], theirs["seeing"],
    )  # fmt: skip


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_sky_in_counts(name: str) -> None:
    camera = instrument(name)
    assert camera.sky_rate == pytest.approx(10 ** (0.4 * (camera.zero_point - camera.sky_brightness)))


@pytest.mark.parametrize(
    "field, value",
    [
        ("pixel_scale", 0.0), ("exposure_time", float("nan")), ("exposures", 0), ("exposures", 1.5),
        ("exposures", True),
        ("zero_point", "24"), ("read_noise", -1.0), ("sky_brightness", None), ("psf_fwhm", 11.0),
    ],
)  # fmt: skip
def test_wrong_constants(field: str, value) -> None:
    with pytest.raises(ParameterError, match=rf"instrument.{field} = .* (is outside|is no whole number)"):
        replace(instrument("generic"), **{field: value})


def test_unknown_instrument() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown instrument 'euclid'. Did you mean 'euclid_vis'"):
        instrument("euclid")
