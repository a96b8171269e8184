"""Benchmarks: frozen by construction, pinned preset by preset, fed to loaders and written to disk."""

from __future__ import annotations

import copy
import errno
from pathlib import Path

import h5py
import pytest
import torch
from torch.utils.data import DataLoader

import lensgen
from lensgen import Simulator
from lensgen.benchmark import SEED, Benchmark
from lensgen.errors import LensgenError, ParameterError
from lensgen.preset import IMAGES_VERSION
from tests.every_preset import EVERY_PRESET
from tests.pins import frozen, pinned

CHANGELOG = (Path(__file__).parents[1] / "CHANGELOG.md").read_text()
SMALL = {"grid.size": 8}


@pytest.mark.parametrize("preset", EVERY_PRESET)
def test_images_are_those_that_are_pinned(preset: str) -> None:
    """If this fails, images of a preset have changed. On purpose? Then see tests/pins.py."""
    assert preset in pinned(), "a new preset: run python -m tests.pins"
    frozen(preset).verify(pinned()[preset])


def test_changes_of_images_are_in_the_changelog() -> None:
    assert f"(version {IMAGES_VERSION})" in CHANGELOG, "name the version of the images under **Images**"


def test_the_torch_engine_agrees_with_the_pins() -> None:
    frozen("model_a", engine="torch").verify(pinned()["model_a"])


def small(preset: str = "model_a", size: int = 20, **options) -> Benchmark:
    return lensgen.benchmark(preset, size=size, device="cpu", overrides=SMALL, **options)


def test_its_images_are_the_simulator_s() -> None:
    whole = small().batch()
    again = Simulator("model_a", SEED, "cpu", split="test").override(SMALL).batch(0, 20)
    assert torch.equal(whole.image, again.image) and torch.equal(whole.label, again.label)
    parts = [b.image for b in small().batches(7)]
    assert [len(p) for p in parts] == [7, 7, 6] and torch.equal(torch.cat(parts), whole.image)


def test_a_loader_yields_all_of_it_once() -> None:
    whole = small().batch()
    image, label = (torch.cat(part) for part in zip(*DataLoader(small(), batch_size=6), strict=True))
    assert torch.equal(image, whole.image) and torch.equal(label, whole.label)
    one, its_label = small()[-1]
    assert torch.equal(one, whole.image[-1]) and its_label == whole.label[-1]
    with pytest.raises(IndexError, match=r"index 20 is outside the 20 of Benchmark\('model_a'"):
        small()[20]


def test_fingerprints_tell_benchmarks_apart() -> None:
    several = [
        small(), small(size=21), small("model_b"), small(split="val"),
        lensgen.benchmark("model_a", size=20, device="cpu", overrides=SMALL | {"lens.theta_E": 1.2}),
        lensgen.benchmark("model_a", size=20, device="cpu", overrides=SMALL | {"noise.exposure_time": 900.0}),
    ]  # fmt: skip
    assert len({b.fingerprint for b in several}) == len(several)
    assert small(engine="torch").fingerprint == small().fingerprint


def test_verify() -> None:
    card = small().card
    small(engine="torch").verify(card)
    with pytest.raises(LensgenError, match=r"another benchmark: size is 19 here and 20 on the card"):
        small(size=19).verify(card)
    with pytest.raises(LensgenError, match=r"another benchmark: fingerprint is .* and None"):
        small().verify({k: v for k, v in card.items() if k != "fingerprint"})
    other = copy.deepcopy(card)
    other["reference"][0][2] += 1e-4
    with pytest.raises(LensgenError, match=r"same parameters and other pixels"):
        small().verify(other)


def test_save(tmp_path: Path) -> None:
    path = small("deeplense_ii_legacy").save(tmp_path / "set.h5", progress=False)
    whole = small("deeplense_ii_legacy").batch()
    with h5py.File(path) as file:
        assert (file["image"][()] == whole.image.numpy()).all() and (file["label"][()] == whole.label.numpy()).all()
        assert (file["source.center_x"][()] == whole.params["source.center_x"].numpy()).all()
        assert list(file.attrs["class_names"]) == ["no_sub", "cdm", "axion"]
    assert [p.name for p in tmp_path.iterdir()] == ["set.h5"]


def test_a_full_disk_leaves_no_half_file(tmp_path: Path, monkeypatch) -> None:
    made = small()
    (tmp_path / "set.h5").write_bytes(b"what was there")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(made.simulator, "batch", full)
    with pytest.raises(OSError, match="No space left"):
        made.save(tmp_path / "set.h5", progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["set.h5"]
    assert (tmp_path / "set.h5").read_bytes() == b"what was there"


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"size = 0 is outside"):
        lensgen.benchmark("model_a", size=0)
    with pytest.raises(ParameterError, match=r"start = 20 is outside \[0, 19\]"):
        small().batch(20)
    with pytest.raises(ParameterError, match=r"must end in .h5 or .hdf5"):
        small().save(tmp_path / "set.npz")


def test_cards_that_are_none() -> None:
    card = small().card
    nothing = {"reference": [[float("nan")] * len(row) for row in card["reference"]]}
    with pytest.raises(LensgenError, match=r"same parameters and other pixels"):
        small().verify(card | nothing)
    for reference in (None, [[0.1], [0.2, 0.3]], "x"):
        with pytest.raises(LensgenError, match=r"no reference pixels"):
            small().verify(card | {"reference": reference})
    with pytest.raises(ParameterError, match=r"size = 0 is outside"):
        next(small().batches(0))
