"""Sources that are real galaxies: a user's cutouts in a preset, drawn one for each system."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lensgen import Simulator, load_preset
from lensgen.draw import draw
from lensgen.errors import DataError, PresetError, UnknownNameError
from lensgen.fused_draw import CpuDrawer

NUMBER = 5


@pytest.fixture
def galaxies(tmp_path: Path) -> Path:
    path = tmp_path / "galaxies.npy"
    np.save(path, np.random.default_rng(0).random((NUMBER, 12, 18)) ** 6)
    return path


def preset_of(path: Path, **changes):
    galaxy = {"profile": "interpol", "magnitude": 22.0, "scale": 0.05, "images": {"file": str(path)}, **changes}
    return load_preset("model_a").override({"grid.size": 24, "source": galaxy})


def test_each_system_takes_one_of_them(galaxies) -> None:
    preset = preset_of(galaxies, phi_G="direction")
    random, index = Simulator(preset, device="cpu").random, torch.arange(200)
    which = draw(preset, random, index).params["source.which"]
    assert which.unique().tolist() == [0, 1, 2, 3, 4]
    counts = which.to(torch.int64).bincount()
    assert float((counts - 40).abs().max()) < 4 * 40**0.5
    kernel = CpuDrawer(preset, torch.float32)(random, index)
    assert torch.equal(kernel.params["source.which"], which)
    fused, reference = (Simulator(preset, device="cpu", engine=e).batch(0, 8).image for e in ("cpu", "torch"))
    assert float((fused - reference).abs().median()) < 1e-6 * float(reference.max())


def test_flux_is_that_of_the_magnitude(galaxies) -> None:
    """Far from a lens of hardly any mass, a galaxy's counts are those of its magnitude."""
    changes = {"lens.theta_E": 1e-4, "shear": None, "source.center_x": 0.0, "source.center_y": 0.0, "psf.fwhm": 0.0}
    preset = preset_of(galaxies).override(changes)
    clean = Simulator(preset, device="cpu", outputs=("clean",)).batch(0, 6, label="no_sub").maps["clean"]
    expected = 10 ** (-0.4 * (22.0 - preset.bands[0].instrument.zero_point))
    assert clean.sum((1, 2, 3)).tolist() == [pytest.approx(expected, rel=0.02)] * 6


def test_the_fingerprint_follows_the_content(galaxies, tmp_path) -> None:
    first = preset_of(galaxies).fingerprint
    other = tmp_path / "others.npy"
    np.save(other, np.load(galaxies))
    assert preset_of(other).fingerprint == first
    np.save(other, np.load(galaxies)[::-1])
    assert preset_of(other).fingerprint != first


def test_bad_input(galaxies, tmp_path) -> None:
    with pytest.raises(PresetError, match=r"source.which = 5, but there are 5 images"):
        preset_of(galaxies, which=5)
    assert preset_of(galaxies, which=4).source[0].priors["which"].bounds() == (4.0, 4.0)
    with pytest.raises(PresetError, match=r"source.images = None must name a file"):
        preset_of(galaxies, images=None)
    with pytest.raises(UnknownNameError, match=r"unknown field of source.images 'files'"):
        preset_of(galaxies, images={"file": str(galaxies), "files": 1})
    with pytest.raises(DataError, match=r"none.npy"):
        preset_of(tmp_path / "none.npy")
