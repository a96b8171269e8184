"""Presets: what comes with lensgen works at any size, and a wrong field is an error that names it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

import lensgen
from lensgen import Preset, Simulator, load_preset
from lensgen.priors import Fixed, Poisson, Uniform
from tests.every_preset import EVERY_PRESET, NOW

PRESETS = tuple(lensgen.presets())


def test_the_presets_that_come_with_lensgen() -> None:
    assert set(PRESETS) >= {"model_a", "model_b", "deeplense_i_legacy", "deeplense_ii_legacy"}
    for description in lensgen.presets().values():
        assert description and "\n" not in description


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("size, shape", [(32, (32, 32)), ([40, 56], (40, 56)), (1, (1, 1))])
def test_every_preset_renders_at_any_size(preset, size, shape) -> None:
    # a kernel for each takes minutes to compile: tests/kernels looks at their images
    simulator = Simulator(preset, device="cpu", engine="auto" if preset in NOW else "torch").override(
        {"grid.size": size}
    )
    shape = (len(simulator.preset.bands), *shape)
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


@pytest.mark.parametrize("preset", EVERY_PRESET)
def test_params_hold_every_drawn_number(preset: str) -> None:
    made = load_preset(preset)
    params = Simulator(made, device="cpu").override({"grid.size": 4}).batch(0, 3).params
    for component in made.components:
        for field in component.priors:
            assert f"{component.name}.{field}" in params
    exposures = {made.exposure_name(k) for k in range(len(made.bands))}
    assert {"redshift.lens", "redshift.source"} | exposures <= set(params)


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


def test_overrides_reach_any_field_and_leave_the_original_alone() -> None:
    original = load_preset("model_a")
    before = original.fingerprint
    changed = original.override(
        {
            "grid.size": [48, 40],
            "grid.supersampling": 3,
            "instrument": {"name": "euclid_vis_2022", "read_noise": 2.0},
            "noise.recipe": "lenstronomy",
            "noise.exposure_time": 500.0,
            "lens.theta_E": {"uniform": {"low": 1.0, "high": 1.1}},
            "source.center_x": 0.0,
            "shear": None,
            "substructure.cdm.count": 50,
        }
    )
    assert changed.image_shape == (1, 48, 40) and changed.bands[0].observation.supersampling == 3
    assert changed.bands[0].instrument.read_noise == 2.0 and changed.bands[0].instrument.pixel_scale == 0.101
    assert changed.recipe.name == "lenstronomy" and changed.bands[0].exposure_time == Fixed(500.0)
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
        for c in (
            {"grid.size": 17}, {"lens.center_x": 0.017}, {"cosmology.H0": 71.0},
            {"instrument": dict(made.config["instrument"]) | {"read_noise": 5.5}}
            if isinstance(made.config["instrument"], dict)
            else {"instrument": {"name": made.config["instrument"], "read_noise": 5.5}},
        )
    ]  # fmt: skip
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
