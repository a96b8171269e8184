"""Every notebook runs from its first cell to its last."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

from lensgen.instruments import INSTRUMENTS
from lensgen.substructure import POPULATIONS

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


@pytest.fixture
def registries() -> Iterator[None]:
    """What a notebook registers is gone afterwards."""
    before = [(registry, dict(registry)) for registry in (INSTRUMENTS, POPULATIONS)]
    yield
    for registry, content in before:
        registry.clear()
        registry.update(content)


@pytest.mark.usefixtures("registries")
def test_benchmark() -> None:
    seen = runpy.run_path(str(NOTEBOOKS / "benchmark.py"))
    assert len(seen["test"]) == 96 and 0 <= seen["right"] <= 96
    assert seen["few"]._repr_png_().startswith(b"\x89PNG")


@pytest.mark.usefixtures("registries")
def test_your_own() -> None:
    seen = runpy.run_path(str(NOTEBOOKS / "your_own.py"))
    batch = seen["batch"]
    assert batch.class_names == ("no_sub", "pair") and set(batch.params["psf.choice"].tolist()) == {0, 1, 2}
    pairs = batch.label == 1
    assert float(batch.maps["detectability"][pairs].median()) > 100 and batch.maps["detectability"][~pairs].max() == 0


def test_every_notebook_is_tested() -> None:
    assert {path.stem for path in NOTEBOOKS.glob("*.py")} == {"benchmark", "your_own"}
