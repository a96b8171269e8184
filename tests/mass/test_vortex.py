"""The rod against what it is made of: point masses, and a row of softened ones."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad_vec

from lensgen.mass import point, vortex
from tests.mass.cases import clear_of_singularities
from tests.mass.test_against_lenstronomy import CENTER, DTYPES, X, Y, worst

POINTS = 10_000


def single(value):
    """The nearest float32, so that both precisions are given the same rod."""
    return torch.tensor(value, dtype=torch.float32).item()


def tensor(value, dtype=torch.float64):
    return torch.tensor(value, dtype=dtype)


FIELD = {name: single(v) for name, v in {"theta_E": 0.222, "angle": 0.7, **CENTER}.items()}


def rod(x, y, half_length, core, dtype=torch.float64, what=vortex.deflection, **change):
    field = FIELD | change
    values = [field["theta_E"], half_length, field["angle"], core, field["center_x"], field["center_y"]]
    result = what(x.to(dtype), y.to(dtype), *(tensor(v, dtype) for v in values))
    return torch.stack(result) if isinstance(result, tuple) else result


@pytest.mark.parametrize("half_length", [3.0, 0.3, 0.03])
def test_rod_is_the_limit_of_many_points(gate, half_length):
    """N points from end to end act as a rod of half_length N / (N - 1): each owns a cell of 2 half_length / (N - 1)."""
    length = half_length * POINTS / (POINTS - 1)
    x, y = clear_of_singularities(FIELD | {"half_length": length}, X, Y, distance=0.1)
    x, y = x[::7], y[::7]
    total = torch.zeros(2, len(x), dtype=torch.float64)
    for along in torch.linspace(-half_length, half_length, POINTS, dtype=torch.float64).split(500):
        px = FIELD["center_x"] + along[:, None] * math.cos(FIELD["angle"])
        py = FIELD["center_y"] + along[:, None] * math.sin(FIELD["angle"])
        each = tensor(FIELD["theta_E"] / math.sqrt(POINTS))
        total += torch.stack(point.deflection(x, y, each, tensor(0.0), px, py)).sum(dim=1)
    gate("rod against 1e4 points", worst(rod(x, y, length, 0.0), total), 1e-6)


@given(half_length=st.floats(1e-3, 3.0), core=st.sampled_from([0.0, 0.005, 0.02]))
def test_rod_in_float32(gate, half_length, core):
    x, y = clear_of_singularities(FIELD | {"half_length": half_length}, X, Y, distance=0.1)
    x, y = x.float().double(), y.float().double()
    half_length, core = single(half_length), single(core)
    error = worst(rod(x, y, half_length, core, torch.float32).double(), rod(x, y, half_length, core))
    gate("rod, float32 against float64", error, 1e-5)


@DTYPES
@pytest.mark.parametrize("half_length", [3.0, 0.3, 0.03])
@pytest.mark.parametrize("core", [0.005, 0.02, 0.05])
def test_softened_rod_is_the_integral_of_softened_points(gate, half_length, core, dtype):
    """kappa and deflection are integrals of the Plummer point's along the rod; here also on the rod and at its ends."""
    half_length, core = single(half_length), single(core)
    along = torch.tensor([-2.1, -1.0, -0.5, 0.0, 1e-3, 0.99, 1.0, 1.01, 4.0], dtype=torch.float64) * half_length
    across = torch.tensor([0.0, 0.3, 1.0, 3.0, 40.0], dtype=torch.float64)[:, None] * core
    cosine, sine = math.cos(FIELD["angle"]), math.sin(FIELD["angle"])
    x = (FIELD["center_x"] + along * cosine - across * sine).flatten().float().double()
    y = (FIELD["center_y"] + along * sine + across * cosine).flatten().float().double()

    def density(t, formula):
        px, py = FIELD["center_x"] + t * cosine, FIELD["center_y"] + t * sine
        scale = tensor(FIELD["theta_E"] / math.sqrt(2.0 * half_length))
        result = formula(x, y, scale, tensor(core), px, py)
        return (torch.stack(result) if isinstance(result, tuple) else result).numpy()

    def integral(formula):
        args = {"epsabs": 1e-13, "epsrel": 1e-12, "limit": 2000, "points": sorted(set(along.tolist()))}
        args["points"] = [p for p in args["points"] if abs(p) < half_length]
        return torch.as_tensor(quad_vec(lambda t: density(t, formula), -half_length, half_length, **args)[0])

    double = dtype == torch.float64
    deflection, kappa = integral(point.deflection), integral(point.convergence)
    ours = rod(x, y, half_length, core, dtype).double()
    error = (ours - deflection).norm(dim=0).max() / deflection.norm(dim=0).max()
    gate(f"softened rod against quadrature {dtype}", error, 1e-9 if double else 1e-5)
    error = (rod(x, y, half_length, core, dtype, vortex.convergence).double() - kappa).abs().max() / kappa.max()
    gate(f"kappa of the softened rod against quadrature {dtype}", error, 1e-8 if double else 1e-4)


def test_the_jump_across_a_rod_without_core():
    """The component across the rod jumps by pi theta_E^2 / half_length: the mass per length of the line."""
    change = {"angle": 0.0, "center_x": 0.0, "center_y": 0.0}
    x, y = tensor([0.1, 0.1]), tensor([1e-6, -1e-6])
    across = rod(x, y, 0.3, 0.0, **change)[1]
    assert across[0] - across[1] == pytest.approx(math.pi * FIELD["theta_E"] ** 2 / 0.3, rel=1e-4)


def test_far_away_a_rod_is_a_point():
    x, y = tensor([300.0, -200.0]), tensor([100.0, 400.0])
    mass = torch.stack(point.deflection(x, y, tensor(FIELD["theta_E"]), tensor(0.0), tensor(0.013), tensor(-0.021)))
    assert worst(rod(x, y, 0.3, 0.02), mass) < 1e-5
