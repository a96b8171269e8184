"""The switch between the ordinary primitives and those with the same bits everywhere."""

from __future__ import annotations

import threading

import pytest
import torch

from lensgen import exact, fmath
from lensgen.mass import tnfw

X = torch.linspace(0.02, 5.0, 301, dtype=torch.float64)
TNFW = [torch.tensor(v, dtype=torch.float64) for v in (0.3, 0.9, 4.0, 0.01, -0.02)]
ONE_ARGUMENT = ["sqrt", "exp", "log", "log1p", "sin", "cos", "atan", "asinh"]


def deflection(x):
    return tnfw.deflection(x, 0.3 * x, *TNFW)[0]


def test_a_formula_has_the_same_bits_for_one_element_and_for_a_batch():
    with fmath.bitwise():
        whole = deflection(X)
        assert torch.equal(whole, torch.stack([deflection(x) for x in X]))
        assert torch.equal(whole[::3], deflection(X[::3]))
        assert torch.equal(whole[:300].view(20, 15).T, deflection(X[:300].view(20, 15).T))
    assert float((whole / deflection(X) - 1.0).abs().max()) < 1e-12


@pytest.mark.parametrize("name", ONE_ARGUMENT)
def test_primitives_agree_in_either_mode(name):
    primitive = getattr(fmath, name)
    usual = primitive(X)
    assert torch.allclose(usual, getattr(torch, name)(X), rtol=1e-14, atol=0.0)
    with fmath.bitwise():
        assert torch.allclose(primitive(X), usual, rtol=1e-14, atol=1e-15)
        if hasattr(exact, name):
            assert torch.equal(primitive(X), getattr(exact, name)(X))


def test_atan2_agrees_in_either_mode():
    usual = fmath.atan2(X - 2.0, X - 3.0)
    with fmath.bitwise():
        assert torch.equal(fmath.atan2(X - 2.0, X - 3.0), exact.atan2(X - 2.0, X - 3.0))
        assert torch.allclose(fmath.atan2(X - 2.0, X - 3.0), usual, rtol=1e-14)


@pytest.mark.parametrize("primitive", [fmath.asinh], ids=["asinh"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_asinh_is_odd_and_keeps_small_numbers(primitive, dtype):
    x = torch.tensor([-30.0, -1.0, -1e-6, 0.0, 1e-12, 1e-6, 0.5, 1e6], dtype=dtype)
    assert torch.allclose(primitive(x), torch.asinh(x), rtol=10 * torch.finfo(dtype).eps, atol=0.0)


def test_the_switch_is_restored_after_an_exception():
    usual = fmath.exp(X)
    with pytest.raises(RuntimeError, match="stop"), fmath.bitwise():
        raise RuntimeError("stop")
    assert torch.equal(fmath.exp(X), usual) and torch.equal(usual, torch.exp(X))


def test_the_switch_nests_and_does_not_reach_other_threads():
    seen = []
    with fmath.bitwise():
        with fmath.bitwise():
            pass
        assert torch.equal(fmath.exp(X), exact.exp(X))
        thread = threading.Thread(target=lambda: seen.append(fmath.exp(X)))
        thread.start()
        thread.join()
    assert torch.equal(seen[0], torch.exp(X))


@pytest.mark.parametrize("bound", [1.0, torch.tensor(1.0, dtype=torch.float64)], ids=["number", "tensor"])
def test_maximum_and_minimum(bound):
    assert torch.equal(fmath.maximum(X, bound), X.clamp(min=1.0))
    assert torch.equal(fmath.minimum(X, bound), X.clamp(max=1.0))
