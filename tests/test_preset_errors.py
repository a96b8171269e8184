"""Presets that are wrong: whatever is in whatever field, the error is ours and names it."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch

import lensgen
from lensgen import Simulator, load_preset
from lensgen.errors import LensgenError, ParameterError, PresetError, UnknownNameError
from lensgen.preset import preset_from_config

PRESETS = tuple(lensgen.presets())
EVERY_KIND = [  # of field there is
    "model_a", "euclid_nisp",
    *(pytest.param(p, marks=pytest.mark.slow) for p in ("model_a_physical", "deeplense_iv_legacy_macro")),
]  # fmt: skip

BROKEN = {
    "not YAML": ("a: [1, 2", r"is not YAML"),
    "tabs": ("a:\n\t- b", r"is not YAML"),
    "empty": ("", r"the preset = None must hold the fields description"),
    "a list": ("- 1\n- 2", r"the preset = \[1, 2\] must hold the fields"),
    "a word": ("hello", r"the preset = 'hello' must hold the fields"),
    "a Python object": ("!!python/object/apply:os.getcwd []", r"is not YAML"),
    "one field": ("description: mine", r"mode is missing: a preset states every choice it makes"),
}


@pytest.mark.parametrize("text, message", BROKEN.values(), ids=BROKEN)
def test_broken_files(text, message, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(PresetError, match=message):
        load_preset(path)


def test_files_that_are_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(PresetError, match=r"none.yaml is not there: give the path of a YAML file, or one of .*model_a"):
        load_preset(tmp_path / "none.yaml")
    binary = tmp_path / "mine.yaml"
    binary.write_bytes(bytes(range(256)))
    with pytest.raises(PresetError, match=r"is not YAML"):
        load_preset(binary)
    with pytest.raises(UnknownNameError, match=r"unknown preset 'modela'. Did you mean 'model_a'"):
        load_preset("modela")


def leaves(config: dict, prefix: str = "") -> list[str]:
    found = []
    for key, value in config.items():
        found.append(prefix + key)
        if isinstance(value, dict):
            found += leaves(value, f"{prefix}{key}.")
    return found


@pytest.mark.parametrize("preset", PRESETS)
def test_every_field_is_needed_and_no_other_is_taken(preset: str) -> None:
    """A field left out is missed, a field misspelt is named; legacy populations alone have defaults."""
    config = load_preset(preset).config
    optional = {
        "instrument", "center_x", "center_y", "e1", "e2", "gamma1", "gamma2", "lens_light", "deflectors", "macro",
        "normalise", "departures",
    }  # fmt: skip
    for path in leaves(config):
        *parents, last = path.split(".")
        changed = copy.deepcopy(dict(config))
        place = changed
        for part in parents:
            place = place[part]
        value = place.pop(last)
        if (parents[:1] == ["macro"] and len(parents) < 3) or parents == ["lens_light"]:
            continue  # names of one's own, of which one may have fewer
        if last not in optional and parents not in (["substructure"], ["instrument"]):
            with pytest.raises(LensgenError):
                preset_from_config(preset, changed)
        if parents[:1] != ["substructure"] or len(parents) > 1:
            place[last + "x"] = value
            with pytest.raises(LensgenError, match=rf"{last}|unknown instrument"):
                preset_from_config(preset, changed)


NONSENSE = (
    "nonsense",
    None,
    math.nan,
    math.inf,
    -1e35,
    [1.0],
    {},
    {"uniform": {"low": 2, "high": 1}},
    True,
    1j,
    b"x",
    -3,
)


@pytest.mark.parametrize("preset", EVERY_KIND)
@pytest.mark.parametrize("value", NONSENSE, ids=repr)
def test_nonsense_in_any_field(preset: str, value) -> None:
    """Refused by an error of ours, or harmless: never another exception, and never an image of NaN."""
    original = load_preset(preset)
    for path in leaves(original.config):
        try:
            changed = original.override({path: value})
        except LensgenError as error:
            assert path.split(".")[0] in str(error) or path.split(".")[-1] in str(error), (path, str(error))
            continue
        small = changed.override({"grid": {"size": 4, "supersampling": 1}})
        try:
            batch = Simulator(small, device="cpu", engine="torch").batch(0, 6)  # no kernel to compile
        except LensgenError as error:
            raise AssertionError(f"{path} = {value!r} was accepted, and then: {error}") from error
        assert bool(torch.isfinite(batch.image).all()), path


OVERRIDES = {
    "unknown section": ({"grids.size": 3}, UnknownNameError, r"unknown field of preset model_a 'grids.size'. Did you"),
    "unknown field": ({"grid.sizes": 3}, UnknownNameError, r"unknown field of grid 'sizes'. Did you mean 'size'"),
    "unknown top field": (
        {"lense": 3},
        UnknownNameError,
        r"unknown field of preset model_a 'lense'. Did you mean 'lens'",
    ),
    "unknown class": ({"substructure.wdm.count": 3}, UnknownNameError, r"unknown field of preset model_a 'subst"),
    "unknown parameter": (
        {"lens.thetaE": 1.0},
        UnknownNameError,
        r"unknown field of lens 'thetaE'. Did you mean 'theta_E'",
    ),
    "unknown option": ({"substructure.cdm.counts": 3}, UnknownNameError, r"Did you mean 'count'"),
    "through a number": (
        {"grid.supersampling.x": 3},
        PresetError,
        r"grid.supersampling of preset model_a has no fields",
    ),
    "through a word": ({"mode.x": 3}, PresetError, r"mode of preset model_a has no fields"),
    "deep through a number": ({"grid.supersampling.x.y": 3}, LensgenError, r"grid.supersampling"),
    "unknown profile": ({"lens.profile": "eppl"}, UnknownNameError, r"unknown mass profile 'eppl'. Did you mean 'epl'"),
    "light as mass": ({"lens.profile": "sersic"}, UnknownNameError, r"unknown mass profile 'sersic'"),
    "unknown population": ({"substructure.cdm": {"population": "cdm"}}, UnknownNameError, r"unknown population 'cdm'"),
    "unknown instrument": ({"instrument": "hubble"}, UnknownNameError, r"unknown instrument 'hubble'"),
    "unknown recipe": ({"noise.recipe": "cdd"}, UnknownNameError, r"Did you mean 'ccd'"),
    "unknown mode": ({"mode": "honst"}, UnknownNameError, r"unknown mode 'honst'. Did you mean 'honest'"),
    "unknown compensation": ({"compensation": "realized"}, UnknownNameError, r"Did you mean 'realised'"),
    "unknown edge": ({"psf.edge": "neerest"}, UnknownNameError, r"Did you mean 'nearest'"),
    "unknown rule": (
        {"cosmology.distance_rule": "luminosity"},
        UnknownNameError,
        r"unknown cosmology.distance_rule 'luminosity'",
    ),
    "no mass": ({"lens": {"theta_E": 1.2}}, PresetError, r"must name its profile"),
    "host of no radius": (
        {"lens": {"profile": "shear", "gamma1": 0.1, "gamma2": 0}},
        UnknownNameError,
        r"unknown lens.profile 'shear'.*Known: epl, sie, sis",
    ),
    "theta_E": ({"lens.theta_E": -1.0}, ParameterError, r"lens.theta_E = -1.0 .*Allowed: \[0, 10000\] arcsec"),
    "range of theta_E": (
        {"lens.theta_E": {"normal": {"mean": 1.0, "sigma": 0.5}}},
        ParameterError,
        r"can take values from -1.75 to 3.75",
    ),
    "NaN": ({"lens.theta_E": math.nan}, ParameterError, r"lens.theta_E: fixed.value = nan is not a finite number"),
    "a string": ({"source.center_x": "0.1"}, UnknownNameError, r"unknown distribution in source.center_x '0.1'"),
    "a count that is not whole": ({"substructure.cdm.count": 2.5}, ParameterError, r"a count is a whole number"),
    "a negative count": (
        {"substructure.cdm.count": -1},
        ParameterError,
        r"substructure.cdm.count = -1 .*Allowed: \[0, 100000\]",
    ),
    "a uniform count": (
        {"substructure.cdm.count": {"uniform": {"low": 0, "high": 9}}},
        ParameterError,
        r"a count is a whole number",
    ),
    "too many": ({"substructure.cdm.count": 100_001}, ParameterError, r"Allowed: \[0, 100000\]"),
    "a negative mass": ({"substructure.cdm.mass": -1e8}, ParameterError, r"substructure.cdm.mass = -100000000.0"),
    "a negative core": ({"substructure.axion.core": -0.1}, ParameterError, r"substructure.axion.core = -0.1"),
    "an axion without mass": (
        {"substructure.axion.axion_mass": 0.0},
        ParameterError,
        r"substructure.axion.axion_mass = 0",
    ),
    "size 0": ({"grid.size": 0}, ParameterError, r"grid.size = 0 is outside \[1, 4096\]"),
    "three sizes": ({"grid.size": [3, 4, 5]}, PresetError, r"grid.size = \[3, 4, 5\] must be a number of pixels or"),
    "source before lens": (
        {"redshift.source": 0.4},
        ParameterError,
        r"redshift.source can be 0.4, which is not behind redshift.lens, up to 0.7",
    ),
    "overlapping redshifts": (
        {"redshift.lens": {"uniform": {"low": 0.2, "high": 1.0}}},
        ParameterError,
        r"not behind redshift.lens, up to 1. Fix",
    ),
    "convention before the lens": (
        {"redshift.convention": 0.3, "mode": "paper"},
        ParameterError,
        r"redshift.convention = 0.3 is not behind",
    ),
    "convention in honest mode": ({"redshift.convention": 2.5}, PresetError, r"2.5 in an honest preset.*Fix: null"),
    "shear that is no shear": (
        {"shear": {"profile": "sie", "theta_E": 1.0}},
        UnknownNameError,
        r"unknown shear.profile 'sie'",
    ),
    "source too elliptic": (
        {"source.q": 0.05},
        ParameterError,
        r"source.q = 0.05",
    ),
    "a prior that leaves the range": (
        {"source": {"profile": "sersic", "amp": 1.0, "R_sersic": 0.2, "n_sersic": 1.0, "e1": 0.7, "e2": 0.7}},
        ParameterError,
        r"source: ellipticities up to 0.99 can be drawn",
    ),
    "too elliptic": (
        {"lens.max_ellipticity": 0.1},
        ParameterError,
        r"ellipticities up to 0.25 can be drawn, above the largest allowed, 0.1",
    ),
    "both ways": ({"lens.e1": 0.1}, PresetError, r"lens: state either \['phi', 'q'\] or \['e1', 'e2'\]"),
    "both fluxes": ({"source.amp": 1.0}, PresetError, r"source: state either \['magnitude'\] or \['amp'\]"),
    "both shears": ({"shear.gamma1": 0.0}, PresetError, r"shear: state either \['gamma_ext', 'psi_ext'\]"),
    "no class": ({"substructure": {}}, PresetError, r"substructure must name at least one class"),
    "a class without a population": ({"substructure.cdm": {"count": 3}}, PresetError, r"must name its population"),
    "pixel scale": (
        {"instrument": {"name": "generic", "pixel_scale": 0}},
        ParameterError,
        r"instrument.pixel_scale = 0",
    ),
    "read noise": (
        {"instrument": {"name": "generic", "read_noise": -1}},
        ParameterError,
        r"instrument.read_noise = -1",
    ),
    "exposures": ({"instrument": {"name": "generic", "exposures": 1.5}}, ParameterError, r"exposures = 1.5"),
}


@pytest.mark.parametrize("changes, error, message", OVERRIDES.values(), ids=OVERRIDES)
def test_overrides_that_are_refused(changes, error, message) -> None:
    with pytest.raises(error, match=message):
        load_preset("model_a").override(changes)
