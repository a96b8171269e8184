"""Everyone renders the same systems: lensgen's images of each case are lenstronomy's."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from lensgen import render
from lensgen.errors import LensgenError
from profiles import parity
from profiles.cases import CASES, MAX_ELLIPTICITY, Case, Lens, Task, as_points, draw_systems
from profiles.contenders.lensgen_images import EngineImages
from profiles.contenders.lensgen_scene import observation_of, scene_of
from profiles.contenders.lenstronomy_images import LenstronomyImages


@pytest.mark.parametrize("name", CASES)
def test_lensgen_renders_what_lenstronomy_does(name, gate):
    task = Task(CASES[name], batch=2)
    images, expected = EngineImages(task, "torch").check_images(), parity.reference(task, 2)
    gate(f"profiles: {name} (float32)", parity.deviation(images, expected, task), parity.tolerance(task))


@pytest.mark.parametrize("name", ["sie", "epl", "25 tnfw"])
@pytest.mark.parametrize("supersampling", [1, 2])
def test_in_float64_they_agree_to_every_digit_that_matters(name, supersampling, gate):
    task = Task(CASES[name], size=32, batch=2, supersampling=supersampling)
    images = render(scene_of(draw_systems(task), task, torch.float64), observation_of(task)).numpy()
    gate("profiles: float64", parity.deviation(images, LenstronomyImages(task).check_images(), task), 1e-8)


def test_draws_depend_on_the_task_alone_and_fit_float32():
    one, two = draw_systems(Task(CASES["25 tnfw"], batch=3)), draw_systems(Task(CASES["25 tnfw"], batch=3))
    for a, b in zip(one.lenses, two.lenses, strict=True):
        assert a.model == b.model
        for name, values in a.parameters.items():
            assert np.array_equal(values, b.parameters[name])
            assert np.array_equal(values, values.astype(np.float32))
    host = draw_systems(Task(CASES["epl"], batch=500)).lenses[0].parameters
    assert np.hypot(host["e1"], host["e2"]).max() <= MAX_ELLIPTICITY


def test_rod_and_row_have_the_same_mass():
    rod = draw_systems(Task(CASES["rod"], batch=5)).lenses[-1]
    points = as_points(rod)
    assert points.slots == 100 and rod.slots == 0
    np.testing.assert_allclose((points.parameters["theta_E"] ** 2).sum(1), rod.parameters["theta_E"] ** 2, rtol=1e-12)
    other = Lens("sie", rod.parameters)
    assert as_points(other) is other


def test_bad_cases_are_refused():
    with pytest.raises(LensgenError, match="count = 0"):
        Case("x", kind="tnfw")
    with pytest.raises(LensgenError, match="Did you mean 'points'"):
        Case("x", kind="point")


def test_deviation_leaves_out_the_border_and_sees_everything_else():
    task = Task(CASES["sie"], size=16)
    expected = np.ones((1, 16, 16))
    border = expected.copy()
    border[0, 0, 5] = 2.0
    inside = expected.copy()
    inside[0, 8, 8] = 1.25
    assert task.psf_radius == 3
    assert parity.deviation(border, expected, task) == 0.0
    assert parity.deviation(inside, expected, task) == 0.25
    inside[0, 8, 8] = np.nan
    assert parity.deviation(inside, expected, task) == float("inf")
    assert parity.deviation(expected[:, :8], expected, task) == float("inf")
    assert parity.reference(dataclasses.replace(task, case=Case("model_a", kind="preset")), 1) is None
