"""What is known of a telescope's camera in one band."""

from __future__ import annotations

from dataclasses import dataclass

from lensgen.errors import ParameterError, require_number, require_whole
from lensgen.psf import Aperture


@dataclass(frozen=True)
class Instrument:
    """Args:
    name: what presets call it.
    telescope: and camera, in words.
    band: filter.
    pixel_scale: arcsec.
    exposure_time: s, of one exposure.
    exposures: how many are added up.
    zero_point: AB magnitude of a source of one e-/s.
    read_noise: e- per pixel and exposure.
    sky_brightness: AB magnitude per arcsec^2.
    psf_fwhm: arcsec, of the Gaussian that stands for the PSF where no better one is asked for.
    gain: e- per count of the camera. The images are in e-/s: it only turns them into counts.
    wavelength: micrometres, of the band's middle.
    aperture: of the telescope, where diffraction makes its PSF; None where the atmosphere does, or it is unknown.
    strehl: with adaptive optics, the share of the light in the diffraction pattern.
    halo_fwhm: with adaptive optics, of the halo that holds the rest, arcsec: about the seeing.
    """

    name: str
    telescope: str
    band: str
    pixel_scale: float
    exposure_time: float
    exposures: int
    zero_point: float
    read_noise: float
    sky_brightness: float
    psf_fwhm: float
    gain: float = 1.0
    wavelength: float | None = None
    aperture: Aperture | None = None
    strehl: float | None = None
    halo_fwhm: float | None = None

    _RANGES = {  # noqa: RUF012 read-only, and a class attribute on purpose
        "pixel_scale": (1e-3, 10.0, "arcsec"),
        "exposure_time": (1e-3, 1e7, "s"),
        "zero_point": (0.0, 50.0, "mag"),
        "read_noise": (0.0, 1e4, "e-"),
        "sky_brightness": (5.0, 50.0, "mag/arcsec^2"),
        "psf_fwhm": (0.0, 10.0, "arcsec"),
        "gain": (1e-3, 1e3, "e- per count"),
    }
    _OPTIONAL = {  # noqa: RUF012
        "wavelength": (0.1, 30.0, "micrometres"),
        "strehl": (0.0, 1.0, ""),
        "halo_fwhm": (1e-3, 10.0, "arcsec"),
    }

    def __post_init__(self) -> None:
        require_whole("instrument.exposures", self.exposures, 1, 100_000)
        stated = {f: r for f, r in self._OPTIONAL.items() if getattr(self, f) is not None}
        for field, (low, high, unit) in {**self._RANGES, **stated}.items():
            require_number(f"instrument.{field}", getattr(self, field), low, high, unit)
        for field in ("telescope", "band"):
            if not isinstance(getattr(self, field), str):
                raise ParameterError(f"instrument.{field} = {getattr(self, field)!r} is no text.")
        if self.aperture is not None and not isinstance(self.aperture, Aperture):
            raise ParameterError(f"instrument.aperture = {self.aperture!r}: give an Aperture, or null.")
        if self.aperture is not None and self.wavelength is None:
            raise ParameterError(
                "instrument.wavelength = None with an aperture: diffraction depends on it. Fix: state it (micrometres)."
            )
        if (self.strehl is None) != (self.halo_fwhm is None) or (self.strehl is not None and self.aperture is None):
            raise ParameterError(
                f"instrument.strehl = {self.strehl!r} with halo_fwhm = {self.halo_fwhm!r} and aperture = "
                f"{self.aperture!r}: adaptive optics need all three, other telescopes neither of the first two."
            )

    @property
    def sky_rate(self) -> float:
        """e-/s per arcsec^2."""
        return float(10.0 ** (-0.4 * (self.sky_brightness - self.zero_point)))
