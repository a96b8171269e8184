"""What is known of a telescope's camera."""

from __future__ import annotations

from dataclasses import dataclass

from lensgen.errors import require_number, require_whole


@dataclass(frozen=True)
class Instrument:
    """Args:
    name: what presets call it.
    pixel_scale: arcsec.
    exposure_time: s, of one exposure.
    exposures: how many are added up.
    zero_point: magnitude of a source of one e-/s.
    read_noise: e- per pixel and exposure.
    sky_brightness: magnitude per arcsec^2.
    psf_fwhm: arcsec.
    """

    name: str
    pixel_scale: float
    exposure_time: float
    exposures: int
    zero_point: float
    read_noise: float
    sky_brightness: float
    psf_fwhm: float

    _RANGES = {  # noqa: RUF012 read-only, and a class attribute on purpose
        "pixel_scale": (1e-3, 10.0, "arcsec"),
        "exposure_time": (1e-3, 1e7, "s"),
        "zero_point": (0.0, 50.0, "mag"),
        "read_noise": (0.0, 1e4, "e-"),
        "sky_brightness": (5.0, 50.0, "mag/arcsec^2"),
        "psf_fwhm": (0.0, 10.0, "arcsec"),
    }

    def __post_init__(self) -> None:
        require_whole("instrument.exposures", self.exposures, 1, 100_000)
        for field, (low, high, unit) in self._RANGES.items():
            require_number(f"instrument.{field}", getattr(self, field), low, high, unit)

    @property
    def sky_rate(self) -> float:
        """e-/s per arcsec^2."""
        return float(10.0 ** (-0.4 * (self.sky_brightness - self.zero_point)))
