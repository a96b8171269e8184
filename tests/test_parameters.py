from __future__ import annotations

import pytest
import torch

from lensgen.errors import ParameterError
from lensgen.parameters import Parameter

RADIUS = Parameter("theta_E", "arcsec", 0.0, 10.0, "Einstein radius")
SLOPE = Parameter("gamma", "1", 1.2, 2.8, "slope of the density")


@pytest.mark.parametrize("value", [0.0, 10.0, 3.3])
def test_the_ends_belong_to_the_range(value):
    RADIUS.check(torch.tensor(value), "sie")


@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
def test_any_shape_is_checked(shape):
    RADIUS.check(torch.ones(shape), "sie")
    with pytest.raises(ParameterError):
        RADIUS.check(torch.full(shape, -1.0), "sie")


def test_no_values_are_no_error():
    RADIUS.check(torch.empty(0), "sie")


def test_out_of_range_names_value_range_unit_meaning_and_fix():
    with pytest.raises(ParameterError) as caught:
        RADIUS.check(torch.tensor([1.0, 12.5, -3.0]), "sie")
    message = str(caught.value)
    for part in (
        "sie.theta_E = 12.5",
        "[0, 10] arcsec",
        "2 of 3 values",
        "Einstein radius",
        "Fix: draw or pass theta_E",
    ):
        assert part in message


def test_a_dimensionless_range_has_no_unit():
    with pytest.raises(ParameterError, match=r"epl\.gamma = 3 is outside \[1\.2, 2\.8\] \("):
        SLOPE.check(torch.tensor(3.0), "epl")


def test_nan_is_said_to_be_not_a_number():
    with pytest.raises(ParameterError, match=r"sie\.theta_E = nan is not a number \(1 of 2 values\)"):
        RADIUS.check(torch.tensor([1.0, float("nan")]), "sie")


@pytest.mark.parametrize("value", [float("inf"), -float("inf")])
def test_infinity_is_out_of_range(value):
    with pytest.raises(ParameterError, match="inf is outside"):
        RADIUS.check(torch.tensor(value), "sie")


def test_whole_numbers_are_checked_too():
    with pytest.raises(ParameterError, match="= 11 is outside"):
        RADIUS.check(torch.tensor([11]), "sie")
