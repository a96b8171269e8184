"""Components and scenes made by hand: what is filled in, and what is refused."""

from __future__ import annotations

import pytest
import torch

from lensgen import Component, Scene
from lensgen.errors import ParameterError, UnknownNameError
from lensgen.light import light_profile
from lensgen.mass import mass_profile
from lensgen.mass.epl import series_terms


def lens(batch: int = 2, **changes) -> Component:
    return Component.make("lens", mass_profile("sie"), {"theta_E": 1.2, "e1": 0.1} | changes, batch)


def source(batch: int = 2, **changes) -> Component:
    values = {"amp": 1.0, "R_sersic": 0.3, "n_sersic": 1.0} | changes
    return Component.make("source", light_profile("sersic"), values, batch)


def points(slots: int = 3, batch: int = 2, count=(3, 1), **changes) -> Component:
    values = {"theta_E": torch.full((batch, slots), 0.1), "center_x": torch.zeros(batch, slots)} | changes
    return Component.make("cdm", mass_profile("point"), values, batch, torch.tensor(count))


def test_defaults_and_numbers_are_repeated_for_every_system() -> None:
    made = lens(3, theta_E=torch.tensor([1.0, 1.1, 1.2]))
    assert set(made.parameters) == {"theta_E", "e1", "e2", "center_x", "center_y"}
    assert made.parameters["theta_E"].tolist() == pytest.approx([1.0, 1.1, 1.2])
    assert made.parameters["e2"].tolist() == [0.0] * 3
    assert all(v.is_floating_point() for v in made.parameters.values())


def test_numbers_are_repeated_for_every_slot() -> None:
    made = points(softening=0.02)
    assert made.parameters["softening"].shape == (2, 3)
    assert made.parameters["center_y"].shape == (2, 3)


def test_whole_numbers_become_floating_point() -> None:
    made = lens(theta_E=1)
    assert made.parameters["theta_E"].dtype == torch.float64


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"theta_E": -0.1}, r"sie.theta_E = -0.1 is outside \[0, 10000\] arcsec"),
        ({"theta_E": torch.tensor([1.0, float("nan")])}, r"sie.theta_E = nan is not a number \(1 of 2 values\)"),
        ({"e1": 0.95}, r"sie.e1 = 0.95 is outside \[-0.8, 0.8\]"),
        ({"center_x": float("inf")}, r"sie.center_x = inf is outside"),
        ({"theta_E": torch.ones(3)}, r"lens.theta_E has shape \[3\]: allowed are a number or \[2\]"),
        ({"theta_E": torch.ones(2, 1, 1)}, r"lens.theta_E has shape \[2, 1, 1\]"),
        ({"theta_E": torch.ones(2, 4)}, r"parameters with slots must all be \[2, N\], with a count"),
    ],
)
def test_values_that_are_refused(changes, message) -> None:
    with pytest.raises(ParameterError, match=message):
        lens(**changes)


def test_unknown_and_missing_parameters() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown parameter of sie 'thetaE'. Did you mean 'theta_E'"):
        lens(thetaE=1.0)
    with pytest.raises(ParameterError, match=r"sie needs theta_E \(Einstein radius; allowed \[0, 10000\] arcsec\)"):
        Component.make("lens", mass_profile("sie"), {"e1": 0.1}, 2)


def test_unknown_statics() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown static of epl 'term'. Did you mean 'terms'"):
        Component.make("lens", mass_profile("epl"), {"theta_E": 1.0, "gamma": 2.0}, 2, statics={"term": 24})


def test_statics_left_out_are_safe_for_the_largest_ellipticity() -> None:
    made = Component.make("lens", mass_profile("epl"), {"theta_E": 1.0, "gamma": 2.0, "e1": 0.8}, 2)
    assert made.statics["terms"] >= series_terms(0.8, double=True)


@pytest.mark.parametrize("terms", [0, -3, 2.5, True, "24"])
def test_statics_are_whole_numbers(terms) -> None:
    with pytest.raises(ParameterError, match=r"lens.terms = .*(whole number|outside \[1, 1000\])"):
        Component.make("lens", mass_profile("epl"), {"theta_E": 1.0, "gamma": 2.0}, 2, statics={"terms": terms})


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"count": (3,)}, r"with a count of shape \[2\]"),
        ({"count": ((3, 1), (1, 1))}, r"with a count of shape \[2\]"),
        ({"center_x": torch.zeros(2, 4)}, r"must all be \[2, N\]"),
        ({"count": (4, 1)}, r"cdm: count = 4 is outside \[0, 3\]"),
        ({"count": (-1, 1)}, r"cdm: count = -1 is outside \[0, 3\]"),
        ({"count": (1.0, 2.0)}, r"count must be whole numbers"),
    ],
)
def test_slots_and_counts(arguments, message) -> None:
    with pytest.raises(ParameterError, match=message):
        points(**arguments)


def test_slots_without_a_count() -> None:
    with pytest.raises(ParameterError, match=r"with a count of shape \[2\]"):
        Component.make("cdm", mass_profile("point"), {"theta_E": torch.ones(2, 3)}, 2)


def test_a_count_without_slots() -> None:
    with pytest.raises(ParameterError, match=r"must all be \[2, N\], with a count"):
        Component.make("cdm", mass_profile("point"), {"theta_E": 0.1}, 2, torch.tensor([1, 1]))


def test_names_must_differ() -> None:
    with pytest.raises(ParameterError, match=r"names of their own, not \['lens', 'lens', 'source'\]"):
        Scene((lens(), lens()), (source(),))


def test_systems_must_be_as_many() -> None:
    with pytest.raises(ParameterError, match=r"the same number of systems, not \[2, 3\]"):
        Scene((lens(2),), (source(3),))


def test_a_scene_needs_a_component() -> None:
    with pytest.raises(ParameterError, match=r"at least one component"):
        Scene((), ())


def test_select_and_to() -> None:
    scene = Scene((lens(2, theta_E=torch.tensor([1.0, 2.0])), points()), (source(),), (), torch.tensor([0.5, 0.6]))
    assert len(scene) == 2
    chosen = scene.select(torch.tensor([1, 1, 0]))
    assert chosen.mass[0].parameters["theta_E"].tolist() == [2.0, 2.0, 1.0]
    assert chosen.mass[1].count.tolist() == [1, 1, 3]
    assert chosen.deflection_scale.tolist() == pytest.approx([0.6, 0.6, 0.5])
    double = chosen.to(dtype=torch.float64)
    assert double.mass[1].count.dtype == torch.int64  # counts stay whole numbers
    assert double.source[0].parameters["amp"].dtype == torch.float64
    assert double.deflection_scale.dtype == torch.float64


def test_things_in_the_wrong_place() -> None:
    with pytest.raises(ParameterError, match=r"mass: source is a sersic, which is no MassProfile"):
        Scene((source(),), (source(),))
    with pytest.raises(ParameterError, match=r"mass of a scene must be a tuple of components"):
        Scene(lens(), (source(),))  # type: ignore[arg-type]
    assert isinstance(Scene([lens()], [source()]).mass, tuple)  # type: ignore[arg-type]
