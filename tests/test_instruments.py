"""Instruments: lenstronomy's constants or handbooks' statements, and the noise that follows."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from lensgen import Simulator, load_preset
from lensgen.errors import ParameterError, UnknownNameError
from lensgen.instruments import INSTRUMENTS, instrument
from lensgen.noise import Detector, noise_recipe

ARCSEC = math.pi / 648000.0
SPACE = [name for name in INSTRUMENTS if name.startswith(("euclid", "hst", "roman", "jwst"))]

CONFIGURED = {  # name here -> lenstronomy's (module, arguments)
    "euclid_vis_2022": ("Euclid", {"band": "VIS"}),
    "euclid_vis_2026": ("Euclid", {"band": "VIS"}),
    "hst_wfc3_f160w": ("HST", {"band": "WFC3_F160W"}),
    **{f"euclid_nisp_{band.lower()}": ("Euclid", {"band": band}) for band in "YJH"},
    **{f"lsst_{band}": ("LSST", {"band": band}) for band in "ugrizy"},
    **{f"roman_{band.lower()}": ("Roman", {"band": band}) for band in ("F106", "F129", "F158")},
    **{
        f"jwst_{band.lower()}": ("JWST", {"band": band})
        for band in ("F115W", "F150W", "F200W", "F277W", "F356W", "F444W")
    },
}


def lenstronomy_s(name: str) -> dict:
    from lenstronomy.SimulationAPI.ObservationConfig import HST, JWST, LSST, Euclid, Roman

    module, arguments = CONFIGURED[name]
    modules = {"Euclid": Euclid, "HST": HST, "JWST": JWST, "LSST": LSST, "Roman": Roman}
    return getattr(modules[module], module)(**arguments).kwargs_single_band()


def background(name: str, exposure: float | None = None) -> float:
    """Standard deviation of an empty pixel after `exposure` s in all, e-/s."""
    camera = instrument(name)
    detector = Detector(camera.exposures, camera.read_noise, camera.sky_rate * camera.pixel_scale**2)
    zero = torch.zeros(1, 1, dtype=torch.float64)
    time = zero + (exposure or camera.exposures * camera.exposure_time)
    return float(noise_recipe("ccd").variance(zero, time, detector)) ** 0.5


@pytest.mark.parametrize("name", CONFIGURED)
def test_constants_are_lenstronomy_s(name: str) -> None:
    """But Euclid VIS of 2022, which is lenstronomy's before 1.14.1, and the sky of JWST, which is a pixel's there."""
    ours, theirs = instrument(name), lenstronomy_s(name)
    same = {
        "pixel_scale": ours.pixel_scale,
        "exposure_time": ours.exposure_time,
        "num_exposures": ours.exposures,
        "magnitude_zero_point": ours.zero_point,
        "read_noise": ours.read_noise,
        "sky_brightness": ours.sky_brightness,
        "seeing": ours.psf_fwhm,
        "ccd_gain": ours.gain,
    }
    if theirs["seeing"] is None:  # a pixel kernel is asked for
        del same["seeing"]
    if name == "euclid_vis_2022":
        before = {"exposure_time": 565.0, "magnitude_zero_point": 24.0, "sky_brightness": 22.35}
        assert {field: same.pop(field) for field in before} == before
        assert all(theirs[field] != value for field, value in before.items())
    if name.startswith("jwst"):
        per_pixel = theirs["sky_brightness"] + 5.0 * math.log10(ours.pixel_scale)
        assert same.pop("sky_brightness") == pytest.approx(per_pixel, abs=0.006)
    assert same == {field: theirs[field] for field in same}


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_noise_of_an_empty_pixel_is_lenstronomy_s(name: str) -> None:
    from lenstronomy.SimulationAPI.data_api import SingleBand

    ours = instrument(name)
    theirs = SingleBand(
        pixel_scale=ours.pixel_scale,
        exposure_time=ours.exposure_time,
        magnitude_zero_point=ours.zero_point,
        read_noise=ours.read_noise,
        ccd_gain=ours.gain,
        sky_brightness=ours.sky_brightness,
        seeing=ours.psf_fwhm,
        num_exposures=ours.exposures,
        psf_type="GAUSSIAN",
        data_count_unit="e-",
    )
    assert background(name) == pytest.approx(theirs.background_noise, rel=1e-12)


@pytest.mark.parametrize(
    "name, sigma",
    [
        ("euclid_vis_2022", 5.869e-3), ("euclid_vis_2026", 1.090e-2), ("hst_wfc3_f160w", 5.920e-3),
        ("lsst_i", 7.637e-2),
    ],
)  # fmt: skip
def test_noise_of_an_empty_pixel_is_as_published(name: str, sigma: float) -> None:
    assert background(name) == pytest.approx(sigma, rel=1e-3)


def test_generic_has_the_background_of_model_i() -> None:
    assert background("generic", 1750.0) == pytest.approx(0.01, rel=2e-3)


@pytest.mark.parametrize("name", SPACE)
def test_in_space_the_sky_is_the_zodiacal_light(name: str) -> None:
    """0.04 to 0.25 MJy/sr between 0.7 and 5 micrometres (Leinert et al. 1998); AB magnitude 0 is 3,631 Jy."""
    intensity = 3631.0 * 10.0 ** (-0.4 * instrument(name).sky_brightness) / ARCSEC**2 * 1e-6
    assert 0.04 < intensity < 0.25


def signal_to_noise(name: str, magnitude: float, seconds: float, reads: int, radius: float, inside: float) -> float:
    """Of a star of that AB magnitude in an aperture of that radius in arcsec, which holds that share of its light."""
    camera = instrument(name)
    signal = inside * seconds * 10.0 ** (-0.4 * (magnitude - camera.zero_point))
    pixels = math.pi * (radius / camera.pixel_scale) ** 2
    empty = seconds * camera.sky_rate * camera.pixel_scale**2 + reads * camera.read_noise**2
    return float(signal / math.sqrt(signal + pixels * empty))


def test_acs_reaches_its_handbook_s_limit() -> None:
    """Table 5.5: V = 27.0 for an A0 star in F814W at S/N 5 in an hour, two exposures, a radius of 0.2 arcsec.

    An A0 star has one Vega magnitude in all bands, 0.42 below AB in F814W; 0.2" hold 82 % of the light.
    """
    assert signal_to_noise("hst_acs_f814w", 27.0 + 0.42, 3600.0, 2, 0.2, 0.82) == pytest.approx(5.0, rel=0.1)


def test_jwst_meets_its_requirement() -> None:
    """Level 1: 11.4 nJy at 2 micrometres with S/N 10 in 10,000 s; 2.5 pixels hold 70 % of the light."""
    magnitude = -2.5 * math.log10(11.4e-9 / 3631.0)
    assert signal_to_noise("jwst_f200w", magnitude, 1e4, 10, 2.5 * 0.031, 0.7) == pytest.approx(10.0, rel=0.15)


def test_keck_counts_a_quarter_of_all_photons() -> None:
    """A source of AB magnitude 0 sends 3,631 Jy / h photons per s, m^2 and unit of ln(wavelength)."""
    camera = instrument("keck_ao_kp")
    photons = 3631.0e-26 / 6.62607015e-34 * (0.351 / 2.124) * 76.0  # filter K' of 0.351 micrometres
    assert 10.0 ** (0.4 * camera.zero_point) / photons == pytest.approx(0.25, rel=0.05)


def test_keck_s_sky_fills_the_wide_camera_in_90_s() -> None:
    """8,000 counts of 4 e- in pixels of 0.0397 arcsec: what observers of NIRC2 allow for in K'."""
    camera = instrument("keck_ao_kp")
    assert 90.0 * camera.sky_rate * 0.0397**2 / camera.gain == pytest.approx(8000.0, rel=0.05)


@pytest.mark.parametrize(
    "name, area",
    [
        ("euclid_vis_2026", 1.006), ("roman_f129", 3.757), ("jwst_f200w", 25.4), ("hst_acs_f814w", 4.0),
        ("keck_ao_kp", 76.0 - math.pi / 4.0 * 2.65**2 + math.sqrt(0.75) * 1.559**2),  # the middle one is missing
    ],
)  # fmt: skip
def test_aperture_has_the_telescope_s_area(name: str, area: float) -> None:
    """In m^2, as published."""
    aperture = instrument(name).aperture
    assert aperture is not None
    x, through = aperture.pupil(512)
    assert float(through.sum() * (x[1] - x[0]) ** 2) == pytest.approx(area, rel=0.02)


@pytest.mark.parametrize("name", [name for name in INSTRUMENTS if instrument(name).aperture])
def test_psf_is_as_wide_as_the_aperture_lets_it_be(name: str) -> None:
    """At least 0.92 lambda/D, the width of an obstructed aperture's core, and no more than lambda/D and a pixel."""
    camera = instrument(name)
    assert camera.aperture is not None and camera.wavelength is not None
    width = 1e-6 * camera.wavelength / camera.aperture.diameter / ARCSEC
    if name == "hst_wfc3_f160w":  # lenstronomy's is one drizzled pixel, which cannot be: its aperture says 0.13"
        assert camera.psf_fwhm == camera.pixel_scale < 0.7 * width
    elif camera.strehl is not None:
        assert width < camera.psf_fwhm < 1.5 * width
    else:
        assert 0.92 * width <= camera.psf_fwhm <= width + camera.pixel_scale


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_sky_in_counts(name: str) -> None:
    camera = instrument(name)
    assert camera.sky_rate == pytest.approx(10 ** (0.4 * (camera.zero_point - camera.sky_brightness)))


@pytest.mark.parametrize(
    "field, value",
    [
        ("pixel_scale", 0.0), ("exposure_time", float("nan")), ("exposures", 0), ("exposures", 1.5),
        ("exposures", True),
        ("zero_point", "24"), ("read_noise", -1.0), ("sky_brightness", None), ("psf_fwhm", 11.0), ("gain", 0.0),
        ("wavelength", 550.0), ("strehl", 1.1), ("halo_fwhm", 0.0), ("band", 2), ("telescope", None),
    ],
)  # fmt: skip
def test_wrong_constants(field: str, value) -> None:
    with pytest.raises(ParameterError, match=rf"instrument.{field} = .* (is outside|is no whole number|is no text)"):
        replace(instrument("generic"), **{field: value})


@pytest.mark.parametrize("name, meant", [("euclid_vis", "euclid_vis_202"), ("lsst-i", "lsst_i")])
def test_unknown_instrument(name: str, meant: str) -> None:
    with pytest.raises(UnknownNameError, match=rf"unknown instrument '{name}'. Did you mean '{meant}"):
        instrument(name)


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_every_telescope_renders_in_both_engines(name: str) -> None:
    """Through a PSF as wide as its own, on a lens that fits 24 of its pixels."""
    camera = instrument(name)
    psf = {
        "type": "moffat", "fwhm": "instrument", "beta": 3.0, "size": 11 * camera.pixel_scale, "sampling": "centre",
        "supersampled": False,
    }  # fmt: skip
    changes = {
        "instrument": name, "psf": psf, "grid": {"size": 24, "supersampling": 1}, "noise.exposure_time": "instrument",
        "lens.theta_E": 6.0 * camera.pixel_scale, "lens.center_x": 0.0, "lens.center_y": 0.0,
        "source.R_sersic": 4.0 * camera.pixel_scale, "source.center_x": 0.0, "source.center_y": camera.pixel_scale,
    }  # fmt: skip
    preset = load_preset("model_a").override(changes)
    images = [
        Simulator(preset, device="cpu", engine=engine, outputs=("clean",)).batch(0, 4, label="no_sub")
        for engine in ("cpu", "torch")
    ]
    clean = [batch.maps["clean"] for batch in images]
    assert float((clean[0] - clean[1]).abs().max()) < 1e-5 * float(clean[1].max())
    noise = (images[0].image - clean[0])[..., :2, :].flatten()  # a dark edge
    exposure = images[0].params["noise.total_exposure"].repeat_interleave(48)[:, None]
    sigma = preset.recipe.sigma(clean[0][..., :2, :].reshape(-1, 1), exposure, preset.bands[0].detector)
    pull = noise / sigma.flatten()
    assert abs(float(pull.mean())) < 4.0 / 192**0.5 and abs(float(pull.std()) - 1.0) < 4.0 / 384**0.5
