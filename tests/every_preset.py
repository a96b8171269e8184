"""Presets as parameters of a test that takes long for each: a few of every kind now, the others in `make test-all`."""

from __future__ import annotations

import pytest

import lensgen

# honest and published, one band and three, points and halos, with lens light and without
NOW = ("model_a", "model_b", "euclid_nisp", "deeplense_ii_legacy")
EVERY_PRESET = [pytest.param(p, marks=() if p in NOW else pytest.mark.slow) for p in lensgen.presets()]
