"""The part of a preset that says how systems are looked at: pixels, telescope, bands, PSF and noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
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
from lensgen.psf import PSF, AdaptiveOpticsPSF, Aperture, DiffractionPSF, GaussianPSF, MoffatPSF, OneOfPSF, PixelPSF

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
    telescopes = _instruments(instruments)
    names = tuple(telescope.name for telescope in telescopes)
    for telescope in telescopes:
        kernel, supersampled = _psf(psf, telescope, names)
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
    if not isinstance(names, list | tuple | Mapping) or not names or len(set(map(str, names))) < len(names):
        raise PresetError(
            f"instrument.bands = {names!r} must be a list of different instruments, e.g. [lsst_g, lsst_r], or name "
            "them: {g: lsst_g, r: lsst_r}."
        )
    called = names.items() if isinstance(names, Mapping) else [(name, name) for name in names]
    allowed = tuple(f.name for f in dataclasses.fields(Instrument) if f.name != "name")
    changes = section(changes, "instrument", (), allowed)
    if isinstance(changes.get("aperture"), Mapping):
        known = tuple(f.name for f in dataclasses.fields(Aperture))
        changes["aperture"] = Aperture(**section(changes["aperture"], "instrument.aperture", ("diameter",), known))
    return [dataclasses.replace(instrument(name), name=str(label), **changes) for label, name in called]


def _psf(config: Any, telescope: Instrument, bands: tuple[str, ...]) -> tuple[PSF, bool]:
    """The PSF in one band, and whether it acts on the rays of a pixel, before they are averaged."""
    if not isinstance(config, Mapping) or "type" not in config:
        raise PresetError(f"psf = {config!r} must name its type: one of {', '.join(PSF_TYPES)}, by_band.")
    fields = dict(config)
    supersampled = fields.pop("supersampled", None)
    if not isinstance(supersampled, bool):
        raise PresetError(f"psf.supersampled = {supersampled!r} must be true or false.")
    if fields["type"] == "by_band":
        own = section(section(fields, "psf", ("type", "bands"))["bands"], "psf.bands", bands)[telescope.name]
        return _kernel(own, f"psf.bands.{telescope.name}", telescope), supersampled
    return _kernel(fields, "psf", telescope), supersampled


def _kernel(config: Any, name: str, telescope: Instrument) -> PSF:
    kind = config.get("type") if isinstance(config, Mapping) else None
    if not isinstance(kind, str) or kind not in PSF_TYPES:
        raise unknown_name(f"{name}.type", kind, PSF_TYPES)
    make, required, optional = PSF_TYPES[kind]
    fields = section(config, name, ("type", *required), optional)
    del fields["type"]
    return make(fields, name, telescope)


def _wide(kind: type[GaussianPSF] | type[MoffatPSF]) -> Callable[..., PSF]:
    def make(fields: dict[str, Any], name: str, telescope: Instrument) -> PSF:
        if fields["fwhm"] == "instrument":
            fields["fwhm"] = telescope.psf_fwhm
        return kind(**fields)

    return make


def _diffraction(fields: dict[str, Any], name: str, telescope: Instrument) -> PSF:
    if telescope.aperture is None or telescope.wavelength is None:
        raise PresetError(f"{name}.type = diffraction needs instrument.aperture, which {telescope.name} has not.")
    return DiffractionPSF(telescope.aperture, telescope.wavelength, **fields)


def _adaptive_optics(fields: dict[str, Any], name: str, telescope: Instrument) -> PSF:
    if telescope.strehl is None or telescope.halo_fwhm is None:
        raise PresetError(f"{name}.type = adaptive_optics needs instrument.strehl, which {telescope.name} has not.")
    assert telescope.aperture is not None and telescope.wavelength is not None  # the instrument saw to it
    return AdaptiveOpticsPSF(telescope.aperture, telescope.wavelength, telescope.strehl, telescope.halo_fwhm, **fields)


def _pixels(fields: dict[str, Any], name: str, telescope: Instrument) -> PSF:
    if not isinstance(fields["file"], str):
        raise PresetError(f"{name}.file = {fields['file']!r} must be the path of a FITS, HDF5, .npy or .npz file.")
    return PixelPSF.from_file(fields.pop("file"), **fields)


def _one_of(fields: dict[str, Any], name: str, telescope: Instrument) -> PSF:
    kernels = fields["psfs"]
    if not isinstance(kernels, list) or not kernels:
        raise PresetError(f"{name}.psfs = {kernels!r} must be a list of PSFs, e.g. [{{type: moffat, ...}}, ...].")
    return OneOfPSF(tuple(_kernel(kernel, f"{name}.psfs.{k}", telescope) for k, kernel in enumerate(kernels)))


# type: what makes it, the fields it must have, those it may have
PSF_TYPES: dict[str, tuple[Callable[..., PSF], tuple[str, ...], tuple[str, ...]]] = {
    "gaussian": (_wide(GaussianPSF), ("fwhm", "truncation", "edge", "sampling"), ()),
    "moffat": (_wide(MoffatPSF), ("fwhm", "beta", "size", "sampling"), ()),
    "diffraction": (_diffraction, ("size", "sampling"), ()),
    "adaptive_optics": (_adaptive_optics, ("halo_beta", "size", "sampling"), ()),
    "pixel": (_pixels, ("file",), ("key", "pixel_scale", "normalise", "size")),
    "one_of": (_one_of, ("psfs",), ()),
}
