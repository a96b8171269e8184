"""The softened point: a Plummer lens of the same mass."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from lensgen.mass import point


def tensor(value):
    return torch.tensor(value, dtype=torch.float64)


@given(theta_E=st.floats(0.01, 2.0), softening=st.floats(1e-3, 0.5), radius=st.floats(0.05, 5.0))
def test_mass_inside_a_radius_is_what_the_deflection_says(gate, theta_E, softening, radius):
    def kappa(r):
        return float(point.convergence(tensor(r), tensor(0.0), tensor(theta_E), tensor(softening), 0.0, 0.0))

    inside = quad(lambda r: 2.0 * math.pi * r * kappa(r), 0.0, radius, epsrel=1e-11, points=[min(softening, radius)])[0]
    alpha = point.deflection(tensor(radius), tensor(0.0), tensor(theta_E), tensor(softening), 0.0, 0.0)[0]
    gate("softened point, mass inside r", abs(inside / (math.pi * radius * float(alpha)) - 1.0), 1e-8)


def test_softening_takes_no_mass_away():
    far = tensor(1e4), tensor(0.0), tensor(0.5)
    soft = point.deflection(*far, tensor(0.2), 0.0, 0.0)[0]
    hard = point.deflection(*far, tensor(0.0), 0.0, 0.0)[0]
    assert abs(float(soft / hard) - 1.0) < 1e-9


def test_softened_centre_is_finite_and_flat():
    x = tensor([0.0, 1e-9])
    kappa = point.convergence(x, tensor(0.0), tensor(0.5), tensor(0.1), 0.0, 0.0)
    assert torch.allclose(kappa, tensor((0.5 / 0.1) ** 2))
    assert torch.equal(point.deflection(x, tensor(0.0), tensor(0.5), tensor(0.1), 0.0, 0.0)[0][:1], tensor([0.0]))
