from __future__ import annotations

import math

import lenstronomy.Util.param_util as param_util
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lenstronomy.Util import util

from lensgen import conventions


def tensor(value):
    return torch.tensor(value, dtype=torch.float64)


@pytest.mark.parametrize(("size", "supersampling"), [(64, 1), (65, 1), (10, 4), (7, 3)])
def test_pixel_axis_is_lenstronomys(size, supersampling):
    axis = conventions.pixel_axis(size, 0.1, supersampling)
    x, y = util.make_grid(size * supersampling, 0.1 / supersampling)
    grid_y, grid_x = torch.meshgrid(axis, axis, indexing="ij")  # [row = y, column = x]
    assert torch.allclose(grid_x.flatten(), torch.as_tensor(x), atol=1e-13)
    assert torch.allclose(grid_y.flatten(), torch.as_tensor(y), atol=1e-13)


def test_origin_is_a_corner_when_even_and_a_centre_when_odd():
    assert conventions.pixel_axis(4, 0.2).tolist() == pytest.approx([-0.3, -0.1, 0.1, 0.3])
    assert conventions.pixel_axis(3, 0.2).tolist() == pytest.approx([-0.2, 0.0, 0.2])


def test_mean_of_subpixels_is_the_pixel():
    fine = conventions.pixel_axis(6, 0.3, 5)
    assert torch.allclose(fine.view(6, 5).mean(dim=1), conventions.pixel_axis(6, 0.3))


@given(q=st.floats(0.1, 1.0), phi=st.floats(-3.0, 3.0))
def test_ellipticity_is_lenstronomys(q, phi):
    e1, e2 = conventions.ellipticity(tensor(q), tensor(phi))
    assert (float(e1), float(e2)) == pytest.approx(param_util.phi_q2_ellipticity(phi, q), abs=1e-14)


@given(gamma=st.floats(0.0, 0.3), psi=st.floats(-3.0, 3.0))
def test_polar_shear_is_lenstronomys(gamma, psi):
    g1, g2 = conventions.polar_shear(tensor(gamma), tensor(psi))
    assert (float(g1), float(g2)) == pytest.approx(param_util.shear_polar2cartesian(psi, gamma), abs=1e-14)


@given(q=st.floats(0.2, 0.95), phi=st.floats(-1.5, 1.5))
def test_principal_axes_undo_ellipticity(q, phi):
    c, cosine, sine = conventions.principal_axes(*conventions.ellipticity(tensor(q), tensor(phi)))
    assert float(c) == pytest.approx((1 - q) / (1 + q), abs=1e-14)
    assert float(cosine) == pytest.approx(math.cos(phi), abs=1e-13)
    assert float(sine) == pytest.approx(math.sin(phi), abs=1e-13)


def test_a_round_lens_has_a_finite_direction_and_finite_gradients():
    e1, e2 = (torch.zeros(3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    c, cosine, sine = conventions.principal_axes(e1, e2)
    assert 1e-9 <= float(c.detach().min()) <= 1e-8
    assert all(g.isfinite().all() for g in torch.autograd.grad((c + cosine + sine).sum(), (e1, e2)))


def test_rotated():
    X, Y = conventions.rotated(tensor(1.0), tensor(1.0), tensor(math.cos(math.pi / 4)), tensor(math.sin(math.pi / 4)))
    assert float(X) == pytest.approx(math.sqrt(2.0)) and float(Y) == pytest.approx(0.0, abs=1e-15)


@given(q=st.floats(0.2, 1.0), phi=st.floats(-1.5, 1.5), x=st.floats(-3, 3), y=st.floats(0.1, 3))
def test_elliptical_radius_is_the_product_average(q, phi, x, y):
    X, Y = math.cos(phi) * x + math.sin(phi) * y, math.cos(phi) * y - math.sin(phi) * x
    e1, e2 = conventions.ellipticity(tensor(q), tensor(phi))
    R = conventions.elliptical_radius(tensor(x), tensor(y), e1, e2, 1e-9)
    assert float(R) == pytest.approx(math.sqrt(q * X * X + Y * Y / q), rel=1e-12)


def test_elliptical_radius_has_its_floor():
    assert float(conventions.elliptical_radius(*(tensor(v) for v in (0.0, 0.0, 0.1, 0.0)), 1e-4)) == pytest.approx(1e-4)
