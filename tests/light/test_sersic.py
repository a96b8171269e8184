"""Sersic light against lenstronomy, and its total flux against quadrature."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lenstronomy.LightModel.light_model import LightModel
from scipy.integrate import quad

from lensgen.errors import UnknownNameError
from lensgen.light import LIGHT_PROFILES, light_profile, sersic
from tests.mass.cases import clear_of_singularities, scattered, stress_parameters
from tests.mass.test_against_lenstronomy import CENTER, DTYPES, X, Y

PROFILE = sersic.PROFILE


def brightness(x, y, kwargs, dtype):
    values = [torch.tensor(kwargs[p.name], dtype=dtype) for p in PROFILE.parameters]
    return sersic.surface_brightness(x.to(dtype), y.to(dtype), *values)


SERSICS = st.fixed_dictionaries(
    {
        "amp": st.floats(0.1, 1e4),
        "R_sersic": st.floats(0.05, 2.0),
        "n_sersic": st.one_of(st.just(4.0), st.floats(0.5, 5.0)),
        "e1": st.floats(-0.5, 0.5),
        "e2": st.one_of(st.just(0.0), st.floats(-0.5, 0.5)),
    }
)


@DTYPES
@given(kwargs=SERSICS, at_centre=st.booleans())
def test_against_lenstronomy(gate, dtype, kwargs, at_centre):
    centre = {"center_x": float(X[2000]), "center_y": float(Y[2000])} if at_centre else CENTER
    kwargs = kwargs | centre
    reference = torch.as_tensor(LightModel(["SERSIC_ELLIPSE"]).surface_brightness(X.numpy(), Y.numpy(), [kwargs]))
    seen = reference > 1e-6 * reference.max()
    error = (brightness(X, Y, kwargs, dtype).double() / reference - 1.0).abs()[seen].max()
    gate(f"Sersic light {dtype}", error, 1e-12 if dtype == torch.float64 else 5e-5)


@pytest.mark.parametrize("n", [0.3, 0.5, 1.0, 2.5, 4.0, 6.0])
def test_total_flux(gate, n):
    """Against the integral of the formula; large n needs it to go far out."""
    R = 0.7

    def ring(log_r):
        r = math.exp(log_r)
        b = max(1.9992 * n - 0.3271, 1e-5)
        return 2.0 * math.pi * r * r * math.exp(-b * ((r / R) ** (1.0 / n) - 1.0))

    reference = quad(ring, -30.0, 25.0, epsrel=1e-12, limit=1000)[0]
    flux = sersic.total_flux(torch.tensor(R, dtype=torch.float64), torch.tensor(n, dtype=torch.float64))
    assert flux.dtype == torch.float64
    gate("Sersic total flux", abs(float(flux) / reference - 1.0), 1e-10)


@pytest.mark.parametrize(("n", "fraction"), [(0.3, 0.465), (0.5, 0.490), (1.0, 0.498), (4.0, 0.500)])
def test_half_light_radius_is_as_documented(n, fraction):
    """The linear b_n puts not quite half of the flux inside R_sersic; the docstring says how much."""
    b = 1.9992 * n - 0.3271
    x, weights = torch.tensor(range(100_000), dtype=torch.float64), 1e-5
    r = (x + 0.5) * weights
    inside = (2.0 * math.pi * r * torch.exp(-b * (r ** (1.0 / n) - 1.0)) * weights).sum()
    total = sersic.total_flux(torch.tensor(1.0, dtype=torch.float64), torch.tensor(n, dtype=torch.float64))
    assert float(inside / total) == pytest.approx(fraction, abs=6e-4)


@DTYPES
def test_no_light_beyond_the_edge_and_at_amp_zero(dtype):
    kwargs = {"amp": 2.0, "R_sersic": 0.01, "n_sersic": 4.0, "e1": 0.0, "e2": 0.0, "center_x": 0.0, "center_y": 0.0}
    x = torch.tensor([9.9, 10.1])
    inside, outside = brightness(x, torch.zeros(2), kwargs, dtype).tolist()
    assert inside > 0.0 and outside == 0.0
    assert (brightness(X, Y, kwargs | {"amp": 0.0}, dtype) == 0.0).all()


@DTYPES
def test_values_and_gradients_are_finite_everywhere(dtype):
    for case in stress_parameters(PROFILE):
        r = [0.0, 1e-12, 1e-6, 1e-4, case["R_sersic"], 1.0, 999.9 * case["R_sersic"], 1e4]
        x = torch.tensor([case["center_x"] + v for v in r], dtype=dtype)
        y = torch.full_like(x, case["center_y"])
        values = [torch.full_like(x, case[p.name]) for p in PROFILE.parameters]
        inputs = [v.clone().requires_grad_(True) for v in (x, y, *values)]
        light = sersic.surface_brightness(*inputs)
        gradients = torch.autograd.grad(light.sum(), inputs)
        assert light.isfinite().all(), case
        assert all(g.isfinite().all() for g in gradients), case
        assert light.dtype == dtype


@given(kwargs=SERSICS)
def test_gradients_equal_finite_differences(gate, kwargs):
    kwargs = kwargs | CENTER
    x, y = clear_of_singularities(kwargs, *scattered(30))
    inputs = [x, y, *(torch.full_like(x, kwargs[p.name]) for p in PROFILE.parameters)]
    leaves = [v.clone().requires_grad_(True) for v in inputs]
    light = sersic.surface_brightness(*leaves)
    gradients = torch.autograd.grad(light.sum(), leaves)
    for i, gradient in enumerate(gradients):
        step = 1e-4 * inputs[i].abs().clamp(min=0.1)

        def at(k, i=i, step=step):
            return sersic.surface_brightness(*(v + k * step if j == i else v for j, v in enumerate(inputs)))

        slope = (8.0 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12.0 * step)
        scale = slope.abs() + 1e-5 * light.detach() / step
        # far out a small steep profile falls by e within a step, and differences say nothing
        far_out = light.detach() < 1e-30 * kwargs["amp"]
        error = torch.where((gradient == slope) | far_out, 0.0, (gradient - slope).abs() / scale)
        gate("Sersic: gradient - differences", error.max(), 1e-5)


def test_registry():
    assert LIGHT_PROFILES["sersic"] is light_profile("sersic")
    with pytest.raises(UnknownNameError, match=r"unknown light profile 'sersik'. Did you mean 'sersic'\?"):
        light_profile("sersik")
