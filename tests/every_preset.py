"""Presets as parameters of a test that takes long for each: a few of every kind now, the others in `make test-all`."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from _pytest.mark import ParameterSet

import lensgen

# honest and published, one band and three, points and halos, with lens light and without
NOW = ("model_a", "model_b", "euclid_nisp", "deeplense_ii_legacy")


def some_now(presets: Iterable[str]) -> list[ParameterSet]:
    """These presets as parameters, all but `NOW` for `make test-all`."""
    return [pytest.param(p, marks=() if p in NOW else pytest.mark.slow) for p in presets]


EVERY_PRESET = some_now(lensgen.presets())
