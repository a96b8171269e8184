"""Changes of presets: as text from a command line, and as the objects that a notebook has at hand."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from lensgen import load_preset, parse_overrides
from lensgen.errors import ParameterError, PresetError
from lensgen.priors import Uniform


def test_text_is_yaml_with_modern_floats() -> None:
    parsed = parse_overrides(["grid.size=96", "substructure.axion.mass=3e10", "lens.q={uniform: {low: .7, high: 1}}"])
    assert parsed == {"grid.size": 96, "substructure.axion.mass": 3e10, "lens.q": {"uniform": {"low": 0.7, "high": 1}}}
    assert load_preset("model_a").override(parsed).bands[0].observation.width == 96


@pytest.mark.parametrize("text", ["grid.size", "=3", "grid.size=", "grid.size=[1"])
def test_text_that_is_no_change(text) -> None:
    with pytest.raises(PresetError, match=r"grid.size=96|is not YAML"):
        parse_overrides([text])


def test_text_that_only_begins_like_a_float(tmp_path) -> None:
    source = load_preset("model_a").config | {"description": "PLACE"}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(source).replace("PLACE", "1e12 Msun, all of it"))
    assert load_preset(path).description == "1e12 Msun, all of it"


def test_objects_become_what_a_file_would_hold() -> None:
    preset = load_preset("model_a")
    by_object = preset.override({"lens.theta_E": Uniform(1.0, 1.5), "substructure.cdm.count": np.int64(50)})
    by_text = preset.override({"lens.theta_E": {"uniform": {"low": 1.0, "high": 1.5}}, "substructure.cdm.count": 50})
    assert by_object.config == by_text.config and by_object.fingerprint == by_text.fingerprint


def test_a_fingerprint_sees_defaults_and_constants() -> None:
    preset = load_preset("deeplense_i_legacy")
    spelled_out = preset.override({"substructure.cdm.count": 25, "instrument.read_noise": 4.0, "description": "same"})
    assert spelled_out.fingerprint == preset.fingerprint
    for change in ({"substructure.cdm.count": 26}, {"instrument.read_noise": 4.1}, {"lens.center_x": 0.01}):
        assert preset.override(change).fingerprint != preset.fingerprint, change


def test_what_is_no_name_or_no_sentence() -> None:
    preset = load_preset("model_a")
    with pytest.raises(PresetError, match=r"1 is no field of a preset"):
        preset.override({1: 2})
    with pytest.raises(PresetError, match=r"description = None must be a sentence"):
        preset.override({"description": None})


def test_an_aperture_of_one_s_own() -> None:
    psf = {"type": "diffraction", "size": 1.0, "sampling": "centre", "supersampled": False}
    telescope = {"name": "hst_wfc3_f160w", "aperture": {"diameter": 1.2, "obstruction": 0.2}}
    made = load_preset("model_a").override({"instrument": telescope, "psf": psf}).bands[0].observation.psf
    assert made.aperture.diameter == 1.2 and made.wavelength == 1.537
    with pytest.raises(PresetError, match=r"instrument.aperture.diameter is missing"):
        load_preset("model_a").override({"instrument": telescope | {"aperture": {"obstruction": 0.2}}, "psf": psf})
    with pytest.raises(ParameterError, match=r"aperture.vanes = 45 must be a list"):
        changed = {"diameter": 1.2, "vanes": 45}
        load_preset("model_a").override({"instrument": telescope | {"aperture": changed}, "psf": psf})
    with pytest.raises(PresetError, match=r"diffraction needs instrument.aperture, which generic has not"):
        load_preset("model_a").override({"psf": psf})
    with pytest.raises(PresetError, match=r"adaptive_optics needs instrument.strehl, which generic has not"):
        optics = {"type": "adaptive_optics", "halo_beta": 2.5, "size": 1.0, "sampling": "centre", "supersampled": False}
        load_preset("model_a").override({"psf": optics})
