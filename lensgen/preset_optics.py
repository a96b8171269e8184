"""The part of a preset that says how systems are looked at: pixels, telescope, bands, PSF and noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lensgen.errors import PresetError, require_whole, unknown_name
from lensgen.instruments import instrument
from lensgen.instruments.instrument import Instrument
from lensgen.noise import Detector
from lensgen.observation import MAX_SIZE, Observation
from lensgen.parameters import Parameter
from lensgen.preset_fields import prior_within, section
from lensgen.priors import Prior
from lensgen.psf import PSF, GaussianPSF

EXPOSURE = Parameter("exposure_time", "s", 1e-3, 1e7, "time of one exposure")


@dataclass(frozen=True)
class Band:
    """One channel of an image.

    Args:
        name: of the instrument.
        instrument: with what the preset changed.
        observation: pixels and PSF.
        detector: exposures, read noise and sky.
        exposure_time: of one exposure, s.
    """

    name: str
    instrument: Instrument
    observation: Observation
    detector: Detector
    exposure_time: Prior


def bands_from(instruments: Any, grid: Any, psf: Any, exposure_time: Any) -> tuple[Band, ...]:
    """What the preset states under `instrument`, `grid`, `psf` and `noise.exposure_time` -> its bands."""
    height, width, supersampling = _grid(grid)
    made = []
    for telescope in _instruments(instruments):
        kernel, supersampled = _psf(psf, telescope)
        own = telescope.exposure_time if exposure_time == "instrument" else exposure_time
        made.append(
            Band(
                telescope.name,
                telescope,
                Observation(height, width, telescope.pixel_scale, supersampling, kernel, supersampled),
                Detector(telescope.exposures, telescope.read_noise, telescope.sky_rate * telescope.pixel_scale**2),
                prior_within(own, "noise.exposure_time", EXPOSURE),
            )
        )
    scales = {band.observation.pixel_scale for band in made}
    if len(scales) > 1:
        raise PresetError(
            f"the bands of instrument have pixels of {sorted(scales)} arcsec: one image needs one size. Fix: state "
            "instrument.pixel_scale, to which all are taken as resampled."
        )
    return tuple(made)


def _grid(config: Any) -> tuple[int, int, int]:
    grid = section(config, "grid", ("size", "supersampling"))
    size = grid["size"] if isinstance(grid["size"], list | tuple) else [grid["size"], grid["size"]]
    if len(size) != 2:
        raise PresetError(f"grid.size = {grid['size']!r} must be a number of pixels or [height, width].")
    for pixels in size:
        require_whole("grid.size", pixels, 1, MAX_SIZE)
    return size[0], size[1], grid["supersampling"]


def _instruments(config: Any) -> list[Instrument]:
    changes = dict(config) if isinstance(config, Mapping) else {"name": config}
    if "bands" in changes and "name" in changes:
        raise PresetError("instrument: state either its name or its bands, not both.")
    names = changes.pop("bands") if "bands" in changes else [changes.pop("name", "")]
    if not isinstance(names, list | tuple) or not names or len(set(map(str, names))) < len(names):
        raise PresetError(
            f"instrument.bands = {names!r} must be a list of different instruments, e.g. [lsst_g, lsst_r]."
        )
    allowed = tuple(f.name for f in dataclasses.fields(Instrument) if f.name != "name")
    changes = section(changes, "instrument", (), allowed)
    return [dataclasses.replace(instrument(name), **changes) for name in names]


def _psf(config: Any, telescope: Instrument) -> tuple[PSF, bool]:
    """The PSF in one band, and whether it acts on the rays of a pixel, before they are averaged."""
    if not isinstance(config, Mapping) or "type" not in config:
        raise PresetError(f"psf = {config!r} must name its type: one of {', '.join(PSF_TYPES)}.")
    fields = dict(config)
    supersampled = fields.pop("supersampled", None)
    if not isinstance(supersampled, bool):
        raise PresetError(f"psf.supersampled = {supersampled!r} must be true or false.")
    return _kernel(fields, "psf", telescope), supersampled


def _kernel(fields: Mapping[str, Any], name: str, telescope: Instrument) -> PSF:
    kind = fields.get("type")
    if not isinstance(kind, str) or kind not in PSF_TYPES:
        raise unknown_name(f"{name}.type", kind, PSF_TYPES)
    options = dataclasses.fields(PSF_TYPES[kind])
    values = section(fields, name, ("type", *(f.name for f in options)))
    if values["fwhm"] == "instrument":
        values["fwhm"] = telescope.psf_fwhm
    return PSF_TYPES[kind](**{f.name: values[f.name] for f in options})


PSF_TYPES = {"gaussian": GaussianPSF}
