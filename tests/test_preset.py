"""Presets: what comes with lensgen works at any size, and a wrong field is an error that names it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import yaml

import lensgen
from lensgen import Preset, Simulator, load_preset
from lensgen.errors import LensgenError, ParameterError, PresetError, UnknownNameError
from lensgen.priors import Fixed, Poisson, Uniform

PRESETS = tuple(lensgen.presets())


def test_the_presets_that_come_with_lensgen() -> None:
    assert set(PRESETS) >= {"model_a", "model_b", "deeplense_i_legacy", "deeplense_ii_legacy"}
    for description in lensgen.presets().values():
        assert description and "\n" not in description


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("size, shape", [(32, (1, 32, 32)), ([40, 56], (1, 40, 56)), (1, (1, 1, 1))])
def test_every_preset_renders_at_any_size(preset, size, shape) -> None:
    simulator = Simulator(preset, device="cpu").override({"grid.size": size})
    assert simulator.image_shape == shape and simulator.preset.image_shape == shape
    assert simulator.class_names == ("no_sub", "cdm", "axion")
    batch = simulator.batch(0, 9)
    assert batch.image.shape == (9, *shape) and batch.image.dtype == torch.float32
    assert bool(torch.isfinite(batch.image).all())
    assert all(v.shape == (9,) and bool(torch.isfinite(v).all()) for v in batch.params.values())
    assert batch.label.min() >= 0 and batch.label.max() <= 2


@pytest.mark.parametrize("preset, shape", [("deeplense_i_legacy", (1, 150, 150)), ("deeplense_ii_legacy", (1, 64, 64))])
def test_published_sizes(preset, shape) -> None:
    assert load_preset(preset).image_shape == shape


@pytest.mark.parametrize("preset", PRESETS)
def test_params_hold_every_drawn_number(preset: str) -> None:
    made = load_preset(preset)
    params = Simulator(made, device="cpu").override({"grid.size": 4}).batch(0, 3).params
    for part, priors in (("lens", made.lens), ("source", made.source), ("shear", made.shear)):
        for field in priors.priors if priors else ():
            assert f"{part}.{field}" in params
    assert {"redshift.lens", "redshift.source", "noise.exposure"} <= set(params)


def test_exponents_without_a_sign_or_a_point_are_numbers(tmp_path: Path) -> None:
    """YAML 1.1, which PyYAML follows, has 3e10 and 1.0e-24 as strings."""
    text = (Path(lensgen.__file__).parent / "presets" / "deeplense_i_legacy.yaml").read_text()
    for written in ("3e10", "3E+10", "3.e10", "30000000000.0", "3.0e10", "30000000000"):
        path = tmp_path / "mine.yaml"
        path.write_text(text.replace("mass: 3.0e10", f"mass: {written}"))
        assert load_preset(path).classes["axion"].mass == Fixed(3e10)


def test_a_preset_of_one_s_own(tmp_path: Path) -> None:
    config = dict(load_preset("model_a").config)
    for suffix in ("yaml", "yml"):
        path = tmp_path / f"mine.{suffix}"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        mine = load_preset(path)
        assert mine.name == "mine" and mine.fingerprint == load_preset("model_a").fingerprint
    assert load_preset(mine) is mine


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
    import copy

    from lensgen.preset import preset_from_config

    config = load_preset(preset).config
    optional = {"instrument", "center_x", "center_y", "e1", "e2", "gamma1", "gamma2"}
    for path in leaves(config):
        *parents, last = path.split(".")
        changed = copy.deepcopy(dict(config))
        place = changed
        for part in parents:
            place = place[part]
        value = place.pop(last)
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


@pytest.mark.parametrize("preset", PRESETS)
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
            batch = Simulator(small, device="cpu").batch(0, 6)
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
    "host of no radius": ({"lens": {"profile": "shear", "gamma1": 0.1, "gamma2": 0}}, PresetError, r"has no theta_E"),
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
    "convention before the lens": ({"redshift.convention": 0.3}, ParameterError, r"redshift.convention"),
    "too elliptic": (
        {"lens.max_ellipticity": 0.1},
        ParameterError,
        r"ellipticities up to 0.25 can be drawn, above max",
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


def test_overrides_reach_any_field_and_leave_the_original_alone() -> None:
    original = load_preset("model_a")
    before = original.fingerprint
    changed = original.override(
        {
            "grid.size": [48, 40],
            "grid.supersampling": 3,
            "instrument": {"name": "euclid_vis", "read_noise": 2.0},
            "noise.recipe": "lenstronomy",
            "noise.exposure_time": 500.0,
            "lens.theta_E": {"uniform": {"low": 1.0, "high": 1.1}},
            "source.center_x": 0.0,
            "shear": None,
            "substructure.cdm.count": 50,
        }
    )
    assert changed.image_shape == (1, 48, 40) and changed.observation.supersampling == 3
    assert changed.instrument.read_noise == 2.0 and changed.instrument.pixel_scale == 0.101
    assert changed.recipe.name == "lenstronomy" and changed.exposure_time == Fixed(500.0)
    assert changed.lens.priors["theta_E"] == Uniform(1.0, 1.1)
    assert changed.shear is None and changed.classes["cdm"].capacity == 50
    assert original.fingerprint == before and original.image_shape != changed.image_shape
    assert bool(torch.isfinite(Simulator(changed, device="cpu").batch(0, 4).image).all())


def test_a_field_that_the_file_leaves_to_its_default_can_be_overridden() -> None:
    preset = load_preset("deeplense_i_legacy").override({"lens.center_x": 0.1, "substructure.cdm.softening": 0.5})
    assert preset.lens.priors["center_x"] == Fixed(0.1) and preset.classes["cdm"].softening == 0.5


@pytest.mark.parametrize("preset", PRESETS)
def test_fingerprint(preset: str) -> None:
    made = load_preset(preset)
    assert len(made.fingerprint) == 16 and made.fingerprint == load_preset(preset).fingerprint
    assert made.override({"description": "another"}).fingerprint == made.fingerprint
    others = [
        made.override(c).fingerprint
        for c in ({"grid.size": 17}, {"source.n_sersic": 1.1}, {"psf.truncation": 3}, {"substructure.cdm.count": 24})
    ]
    classes = dict(made.config["substructure"])
    others.append(made.override({"substructure": dict(reversed(classes.items()))}).fingerprint)  # other labels
    assert len({made.fingerprint, *others}) == 6


def test_fingerprints_of_presets_differ() -> None:
    assert len({load_preset(p).fingerprint for p in PRESETS}) == len(PRESETS)


def test_capacity_follows_from_the_preset() -> None:
    preset = load_preset("model_a").override({"substructure.cdm.count": {"poisson": {"mean": 25}}})
    assert isinstance(preset, Preset)
    assert 50 < preset.classes["cdm"].capacity == Poisson(25).bounds()[1] < 70


def test_lens_in_components_of_ellipticity() -> None:
    lens = {"profile": "sie", "theta_E": 1.0, "e1": {"uniform": {"low": -0.1, "high": 0.1}}, "e2": 0.05}
    preset = load_preset("model_a").override({"lens": lens})
    params = Simulator(preset, device="cpu").override({"grid.size": 4}).batch(0, 30).params
    assert float(params["lens.e1"].abs().max()) <= 0.1 and "lens.q" not in params
    assert params["lens.e2"].unique().tolist() == [pytest.approx(0.05)]
