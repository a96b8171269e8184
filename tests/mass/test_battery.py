"""What must hold for every registered mass profile, whatever it is: a new one is tested the day it is written."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lensgen import fmath
from tests.mass import cases

POINTS = cases.scattered(40)
F32_GATES = {"epl": 2e-5, "nfw": 1e-4, "tnfw": 1e-4}  # c <= 0.8 here
F32_GATE = 1e-5


@pytest.fixture(params=cases.VARIANTS, scope="module")
def profile(request):
    return cases.VARIANTS[request.param]


def in_float64(profile, data):
    drawn = data.draw(cases.parameters(profile))
    x, y = cases.clear_of_singularities(drawn, *POINTS)
    return x, y, cases.tensors(profile, drawn), cases.statics(profile, torch.float64)


def jacobian(profile, x, y, values, statics):
    """(d alpha / dx, d alpha / dy), each [2, P], by two forward-mode products."""

    def deflection(x, y):
        return torch.stack(profile.deflection(x, y, *values, **statics))

    one, zero = torch.ones_like(x), torch.zeros_like(x)
    return [torch.func.jvp(deflection, (x, y), tangent)[1] for tangent in ((one, zero), (zero, one))]


@given(data=st.data())
def test_deflection_is_the_gradient_of_the_potential(profile, gate, data):
    x, y, values, statics = in_float64(profile, data)
    x, y = x.requires_grad_(True), y.requires_grad_(True)
    by_x, by_y = torch.autograd.grad(profile.potential(x, y, *values, **statics).sum(), (x, y))
    ax, ay = profile.deflection(x, y, *values, **statics)
    difference = torch.hypot(by_x - ax, by_y - ay)
    gate(f"{profile.name}: grad potential / deflection", ratio(difference, size(ax, ay)), 1e-8)


@given(data=st.data())
def test_convergence_is_half_the_divergence(profile, gate, data):
    x, y, values, statics = in_float64(profile, data)
    along_x, along_y = jacobian(profile, x, y, values, statics)
    kappa = profile.convergence(x, y, *values, **statics)
    scale = torch.stack([*along_x, *along_y]).abs().amax(0)
    difference = (0.5 * (along_x[0] + along_y[1]) - kappa).abs()
    gate(f"{profile.name}: convergence - div(deflection)/2", ratio(difference, scale), 1e-8)


@given(data=st.data())
def test_deflection_has_no_curl(profile, gate, data):
    x, y, values, statics = in_float64(profile, data)
    along_x, along_y = jacobian(profile, x, y, values, statics)
    scale = torch.stack([*along_x, *along_y]).abs().amax(0)
    gate(f"{profile.name}: curl of the deflection", ratio((along_x[1] - along_y[0]).abs(), scale), 1e-8)


@settings(max_examples=max(5, settings.default.max_examples // 4))
@given(data=st.data())
def test_derivatives_equal_finite_differences(profile, gate, data):
    """Forward and reverse mode against central differences of fourth order, for x, y and every parameter."""
    x, y, values, statics = in_float64(profile, data)
    inputs = [x, y, *(v.expand(x.shape).clone() for v in values)]
    names = ["x", "y", *(p.name for p in profile.parameters)]

    def both(*args):
        return torch.stack(profile.deflection(*args, **statics))

    leaves = [v.clone().requires_grad_(True) for v in inputs]
    result = both(*leaves)
    reverse = [torch.autograd.grad(result[k].sum(), leaves, retain_graph=True) for k in (0, 1)]
    for i, name in enumerate(names):
        step = 1e-4 * torch.maximum(inputs[i].abs(), torch.tensor(0.1 if allows_zero(profile, name) else 0.0))

        def shifted(k, i=i, step=step):
            return both(*(v + k * step if j == i else v for j, v in enumerate(inputs)))

        slope = (8.0 * (shifted(1) - shifted(-1)) - (shifted(2) - shifted(-2))) / (12.0 * step)
        tangents = tuple(torch.ones_like(v) if j == i else torch.zeros_like(v) for j, v in enumerate(inputs))
        forward = torch.func.jvp(both, tuple(inputs), tangents)[1]
        backward = torch.stack([reverse[0][i], reverse[1][i]])
        # rounding of the difference itself: the value's last place over the step
        scale = slope.abs() + 1e-5 * result.detach().abs() / step
        gate(f"{profile.name}: forward gradient - differences", ratio((forward - slope).abs(), scale), 1e-5)
        # 1e-6: at e = 0 the SIE's direction, and a part of its gradient that cancels, has 2.5e8 for a slope
        assert float((forward - backward).abs().max()) <= 1e-6 * float(backward.abs().max()), name


def allows_zero(profile, name):
    return all(p.name != name or p.low <= 0.0 for p in profile.parameters)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
def test_nothing_is_infinite_on_the_stress_grid(profile, dtype):
    """Values and gradients in both modes: reverse mode finds the NaN of 0 * inf that forward mode misses."""
    statics = cases.statics(profile, dtype)
    names = ["x", "y", *(p.name for p in profile.parameters)]
    tried = cases.stress_parameters(profile)
    x, y = (torch.stack(side) for side in zip(*(cases.stress_points(profile, c) for c in tried), strict=True))
    values = [torch.tensor([c[p.name] for c in tried])[:, None].expand(x.shape) for p in profile.parameters]
    inputs = [v.to(dtype).clone().requires_grad_(True) for v in (x, y, *values)]  # each [cases, points]

    def assert_finite(tensor, what):
        bad = (~tensor.isfinite()).any(dim=-1).nonzero().flatten()
        assert len(bad) == 0, f"{what} of {profile.name} at {tried[int(bad[0])]}"

    for what, formula in profile.formulas.items():
        result = stacked(formula(*inputs, **statics))
        for component in result:
            assert_finite(component, what)
            gradients = torch.autograd.grad(component.sum(), inputs, retain_graph=True, allow_unused=True)
            for name, gradient in zip(names, gradients, strict=True):
                if gradient is not None:
                    assert_finite(gradient, f"d {what} / d {name}")
    primals = tuple(v.detach() for v in inputs)
    for name, direction in zip(names, torch.eye(len(names)), strict=True):
        tangents = tuple(torch.full_like(v, float(d)) for v, d in zip(primals, direction, strict=True))
        slope = torch.func.jvp(lambda *a: torch.stack(profile.deflection(*a, **statics)), primals, tangents)[1]
        for component in slope:
            assert_finite(component, f"forward d deflection / d {name}")


@given(data=st.data())
def test_strength_zero_is_exactly_nothing(profile, data):
    """Empty slots of a batch are profiles of strength 0: they must not change a bit of the image."""
    drawn = data.draw(cases.parameters(profile)) | dict.fromkeys(profile.strength, 0.0)
    for dtype in (torch.float64, torch.float32):
        x, y = cases.stress_points(profile, drawn)
        values, statics = cases.tensors(profile, drawn, dtype), cases.statics(profile, dtype)
        for formula in profile.formulas.values():
            assert (stacked(formula(x.to(dtype), y.to(dtype), *values, **statics)) == 0.0).all()


@given(data=st.data())
def test_float32_agrees_with_float64(profile, gate, data):
    """On the same (rounded) numbers, with the offset of a lens from pixel corners that the tolerances are made for."""
    drawn = data.draw(cases.parameters(profile))
    drawn |= {name: v for name, v in {"center_x": 0.013, "center_y": -0.021}.items() if name in drawn}
    drawn |= {name: 0.0 for name in ("ra_0", "dec_0") if name in drawn}
    axis = (torch.arange(64, dtype=torch.float64) - 31.5) * 0.1
    x, y = cases.clear_of_singularities(drawn, *torch.meshgrid(axis, axis, indexing="xy"), distance=0.0)
    single = cases.tensors(profile, drawn, torch.float32)
    ours = profile.deflection(x.float(), y.float(), *single, **cases.statics(profile, torch.float32))
    rounded = [v.double() for v in (x.float(), y.float(), *single)]
    exact = profile.deflection(*rounded, **cases.statics(profile, torch.float64))
    assert ours[0].dtype == ours[1].dtype == torch.float32
    difference = size(ours[0] - exact[0], ours[1] - exact[1])
    gate(
        f"{profile.name}: float32 against float64",
        ratio(difference, size(*exact)),
        F32_GATES.get(profile.name, F32_GATE),
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
def test_shapes_broadcast_and_dtype_is_kept(profile, dtype):
    given_ = cases.stress_parameters(profile)[0]
    axis = torch.linspace(-2.0, 2.0, 5, dtype=dtype)
    x, y = torch.meshgrid(axis, axis[:4], indexing="xy")  # [H, W]
    values = [v.expand(3)[:, None, None].clone() for v in cases.tensors(profile, given_, dtype)]  # [B, 1, 1]
    statics = cases.statics(profile, dtype)
    for what, formula in profile.formulas.items():
        result = stacked(formula(x, y, *values, **statics))
        assert result.dtype == dtype, what
        assert result.shape[1:] == (3, 4, 5), what
        one = stacked(formula(x[1, 2], y[1, 2], *(v[0, 0, 0] for v in values), **statics))
        assert one.shape[1:] == (), what
        assert torch.allclose(result[:, 1, 1, 2], one, rtol=100 * torch.finfo(dtype).eps, atol=0.0), what


@given(data=st.data())
def test_bitwise_evaluation_agrees_with_the_ordinary_one(profile, gate, data):
    """Any formula may take part in drawing parameters, so any must run on lensgen.exact, with no loss."""
    x, y, values, statics = in_float64(profile, data)
    usual = torch.stack(profile.deflection(x, y, *values, **statics))
    with fmath.bitwise():
        whole = torch.stack(profile.deflection(x, y, *values, **statics))
        alone = [torch.stack(profile.deflection(x[i], y[i], *values, **statics)) for i in (0, 5, 13)]
    assert torch.equal(whole[:, [0, 5, 13]], torch.stack(alone, dim=1))
    gate(f"{profile.name}: bitwise - ordinary", ratio(size(*(whole - usual)), size(*usual)), 1e-12)


def size(ax, ay):
    return torch.hypot(ax.double(), ay.double())


def ratio(difference, scale):
    """The largest difference in units of scale; 0 / 0 is 0, a difference where scale is 0 is infinite."""
    return torch.where(difference == 0.0, 0.0, difference / scale).max()


def stacked(result):
    """[components, ...] of a formula that gives one tensor or a pair."""
    return torch.stack(result) if isinstance(result, tuple) else result[None]


def test_every_declared_range_is_sane(profile):
    for p in profile.parameters:
        assert p.low < p.high and math.isfinite(p.low) and math.isfinite(p.high)
        assert p.default is None or p.low <= p.default <= p.high
        assert p.meaning and p.unit
    for p in profile.parameters:
        if p.name in profile.strength:
            assert p.low <= 0.0 <= p.high, "an empty slot has strength 0, which must be allowed"
