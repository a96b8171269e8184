from __future__ import annotations

import pytest
import torch

from lensgen.errors import ParameterError, UnknownNameError
from lensgen.mass import MASS_PROFILES, mass_profile
from lensgen.parameters import Parameter
from lensgen.profile import MassProfile

SIE = mass_profile("sie")


def test_defaults_are_filled_in_and_the_order_is_the_formulas():
    complete = SIE.complete({"center_x": 0.1, "theta_E": 1.0})
    assert list(complete) == ["theta_E", "e1", "e2", "center_x", "center_y"]
    assert complete == {"theta_E": 1.0, "e1": 0.0, "e2": 0.0, "center_x": 0.1, "center_y": 0.0}


def test_tensors_pass_through_untouched():
    theta_E = torch.ones(3)
    assert SIE.complete({"theta_E": theta_E})["theta_E"] is theta_E


def test_an_unknown_parameter_is_named_with_the_nearest():
    with pytest.raises(UnknownNameError, match=r"unknown parameter of sie 'thetaE'\. Did you mean 'theta_E'\?"):
        SIE.complete({"thetaE": 1.0})


def test_a_missing_parameter_is_named_with_its_range():
    with pytest.raises(ParameterError, match=r"sie needs theta_E \(Einstein radius; allowed \[0, 10000\] arcsec\)"):
        SIE.complete({"e1": 0.1})


def test_check_names_the_profile():
    values = {k: torch.as_tensor(v) for k, v in SIE.complete({"theta_E": -1.0}).items()}
    with pytest.raises(ParameterError, match=r"sie\.theta_E = -1 is outside \[0, 10000\] arcsec"):
        SIE.check(values)


def test_unknown_profile():
    with pytest.raises(UnknownNameError, match=r"unknown mass profile 'siee'\. Did you mean 'sie'\?"):
        mass_profile("siee")


def nothing(x, y, mass, wrong):
    return x


@pytest.mark.parametrize("what", ["deflection", "potential", "convergence"])
def test_a_formula_with_other_arguments_is_refused_at_registration(what):
    def formula(x, y, mass):
        return x

    formulas = {"deflection": formula, "potential": formula, "convergence": formula} | {what: nothing}
    mass = Parameter("mass", "1", 0.0, 1.0, "mass")
    with pytest.raises(TypeError, match=rf"blob\.{what} must take \(x, y, mass\)"):
        MassProfile(name="blob", lenstronomy="", parameters=(mass,), strength=("mass",), **formulas)


def test_names_in_the_registry_are_those_of_the_profiles():
    assert all(profile.name == name for name, profile in MASS_PROFILES.items())
    assert len({p.lenstronomy for p in MASS_PROFILES.values() if p.lenstronomy}) == len(MASS_PROFILES) - 1  # the vortex
