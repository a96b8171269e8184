"""The arithmetic that parameters are drawn with: accurate, and the same to the bit in any arrangement of the input."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lensgen import exact
from tests.exact_bits import BITS

mpmath.mp.dps = 50


def _upper_tail(x):
    return mpmath.erfc(-x / mpmath.sqrt(2)) / 2


def _quantile(u):
    return mpmath.findroot(lambda x: _upper_tail(x) - u, exact.normal_quantile(one(float(u))).item())


# function, reference, inputs, relative error allowed, absolute error allowed
TABLE = {
    "log": (mpmath.log, [2.3e-308, 1e-10, 0.1, 0.7, 0.999, 1.001, 1.5, 2.0, 1e5, 1e300], 3e-16, 0.0),
    "log1p": (mpmath.log1p, [-0.9, -1e-3, -1e-17, 1e-17, 1e-9, 1e-3, 0.4, 3.0, 1e10], 6e-16, 0.0),
    "exp": (mpmath.exp, [-700.0, -30.0, -1.0, -1e-9, 0.0, 1e-9, 0.3466, 1.0, 30.0, 700.0], 3e-16, 0.0),
    "sqrt": (mpmath.sqrt, [1e-290, 1e-3, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 1e290], 3e-16, 0.0),
    "sin": (mpmath.sin, [-6.0, -3.0, -0.5, 1e-9, 0.3, 0.8, 1.5, 2.0, 5.0], 0.0, 1e-15),
    "cos": (mpmath.cos, [-6.0, -3.0, -0.5, 1e-9, 0.3, 0.8, 1.5, 2.0, 5.0], 0.0, 1e-15),
    "atan": (mpmath.atan, [-1e10, -3.0, -1.0, -1e-3, 1e-12, 0.2, 0.9, 1.1, 7.0, 1e8], 5e-16, 0.0),
    "gamma": (
        mpmath.gamma,
        [0.5, 0.6, 1.0, 1.5, 2.0, 4.0, 8.0, 11.0, 20.0],
        3e-14,
        0.0,
    ),  # 40 units of exponent are 40 units of its error
    "normal_quantile": (_quantile, [1e-12, 1e-7, 0.01, 0.07, 0.075, 0.4, 0.6, 0.93, 0.99], 2e-15, 0.0),
    "normal_cdf": (_upper_tail, [-36.0, -10.0, -5.0, -3.1, -3.0, -2.9, -1.0, -0.1, 0.5, 3.0, 7.0], 1e-12, 0.0),
}


def one(value):
    return torch.tensor(value, dtype=torch.float64)


def measured(value, reference, relative):
    error = abs(mpmath.mpf(value) - reference)
    return float(error / abs(reference)) if relative and reference != 0 else float(error)


@pytest.mark.parametrize("name", TABLE)
def test_against_50_digits(gate, name):
    reference, inputs, relative, absolute = TABLE[name]
    # and a fine net over the range, so that no corner between the chosen points is missed
    ends = torch.tensor([min(inputs), max(inputs)]).clamp(-20.0, 20.0).double()
    net = torch.linspace(float(ends[0]), float(ends[1]), 101, dtype=torch.float64)[1:-1].tolist()
    for x in inputs + (net if name != "normal_quantile" else []):
        value = getattr(exact, name)(one(x)).item()
        gate(f"exact.{name}", measured(value, reference(mpmath.mpf(x)), relative > 0.0), relative or absolute)


@given(u=st.floats(-4.0, 4.0))
def test_sin_cos_of_turns(gate, u):
    sine, cosine = (t.item() for t in exact.sin_cos_turns(one(u)))
    angle = 2 * mpmath.pi * mpmath.mpf(u)
    gate("exact.sin_cos_turns", measured(sine, mpmath.sin(angle), False), 4e-16)
    gate("exact.sin_cos_turns", measured(cosine, mpmath.cos(angle), False), 4e-16)


def test_quarter_turns_are_exact():
    sine, cosine = exact.sin_cos_turns(torch.arange(-4, 5, dtype=torch.float64) / 4)
    assert sine.tolist() == [0.0, 1.0, 0.0, -1.0, 0.0, 1.0, 0.0, -1.0, 0.0]
    assert cosine.tolist() == [1.0, 0.0, -1.0, 0.0, 1.0, 0.0, -1.0, 0.0, 1.0]


@given(y=st.floats(-1e3, 1e3, allow_subnormal=False), x=st.floats(-1e3, 1e3, allow_subnormal=False))
def test_atan2(gate, y, x):
    # |x| and |y| as small as 1e-200 lose the quotient to underflow, which no angle on the sky has
    if max(abs(x), abs(y)) < 1e-100 or 0.0 < min(abs(x), abs(y)) < 1e-100:
        return
    value = exact.atan2(one(y), one(x)).item()
    gate("exact.atan2", measured(value, mpmath.atan2(mpmath.mpf(y), mpmath.mpf(x)), True), 6e-16)


def test_atan2_on_the_axes():
    cases = {(0.0, 0.0): 0.0, (0.0, 1.0): 0.0, (1.0, 0.0): math.pi / 2, (-1.0, 0.0): -math.pi / 2, (0.0, -1.0): math.pi}
    for (y, x), angle in cases.items():
        assert exact.atan2(one(y), one(x)).item() == angle


@given(x=st.floats(1e-3, 1e3), exponent=st.floats(-5.0, 5.0))
def test_power(gate, x, exponent):
    value = exact.power(one(x), exponent).item()
    gate("exact.power", measured(value, mpmath.mpf(x) ** mpmath.mpf(exponent), True), 1e-14)


@given(u=st.floats(1e-9, 1.0 - 1e-9))
def test_quantile_and_cdf_are_inverse(gate, u):
    gate(
        "exact.normal_cdf of normal_quantile",
        abs(exact.normal_cdf(exact.normal_quantile(one(u))).item() / u - 1),
        1e-12,
    )


def test_edges_of_the_domains():
    assert exact.sqrt(torch.tensor([0.0, -1.0]).double()).tolist() == [0.0, 0.0]
    assert exact.exp(one(1e9)).isfinite() and exact.exp(one(-1e9)).item() > 0.0
    assert exact.log(one(0.0)).isfinite()
    assert exact.log(one(1.0)).item() == 0.0 and exact.exp(one(0.0)).item() == 1.0
    assert exact.normal_cdf(one(0.0)).item() == 0.5
    assert exact.normal_quantile(one(0.5)).item() == 0.0
    assert exact.normal_cdf(torch.tensor([-1e4, 1e4]).double()).isfinite().all()
    extremes = exact.normal_quantile(torch.tensor([0.5 * 2**-23, 1.0 - 0.5 * 2**-23]).double())
    assert extremes[0] == -extremes[1] and 5.0 < extremes[1] < 6.0  # the ends of the uniforms that rng draws


FUNCTIONS = {name: getattr(exact, name) for name in TABLE}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_bits_do_not_depend_on_length_layout_or_position(name):
    function = FUNCTIONS[name]
    low, high = {"normal_quantile": (1e-6, 1.0 - 1e-6), "gamma": (0.5, 20.0)}.get(name, (1e-3, 30.0))
    values = torch.linspace(low, high, 1037, dtype=torch.float64)
    whole = function(values)
    assert torch.equal(whole[::7], torch.stack([function(v) for v in values[::7]]))
    assert torch.equal(whole[::3], function(values[::3]))  # a strided view
    assert torch.equal(whole[3:], function(values[3:]))  # another alignment
    assert torch.equal(whole[:1036].view(4, 259).T, function(values[:1036].view(4, 259).T))
    assert torch.equal(whole.flip(0), function(values.flip(0)))


@pytest.mark.parametrize("name", BITS)
def test_recorded_bits(name):
    """Another torch, compiler or machine must give these very numbers, or systems drawn there would differ."""
    for argument, bits in BITS[name].items():
        result = getattr(exact, name)(one(float.fromhex(argument)))
        assert result.item().hex() == bits, f"exact.{name}({argument})"
