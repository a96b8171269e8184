"""NFW and TNFW against their textbook expressions at 50 digits, where lenstronomy's own rounding is in the way."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import torch
from scipy.integrate import quad

from lensgen.mass import nfw, soliton, tnfw

mpmath.mp.dps = 50
RADII = [*np.logspace(-3, 3, 37), 0.2, 0.2 - 1e-9, 0.96, 1.0 - 1e-9, 1.0, 1.0 + 1e-9, 1.04, 1.5, 1.5 + 1e-9]
TAUS = [0.3, 0.999, 1.0, 1.0001, 3.0, 10.0, 50.0, 300.0]
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])


def textbook_F(x):
    u = 1 - x * x
    if u == 0:
        return mpmath.mpf(1)
    return mpmath.atanh(mpmath.sqrt(u)) / mpmath.sqrt(u) if u > 0 else mpmath.atan(mpmath.sqrt(-u)) / mpmath.sqrt(-u)


def textbook_nfw(x):
    return mpmath.log(x / 2) + textbook_F(x)


def textbook_tnfw(x, tau):
    """Baltz, Marshall & Oguri 2009, equation A.9."""
    t2, S = tau * tau, mpmath.sqrt(tau * tau + x * x)
    L = mpmath.log(x / (S + tau))
    inner = (t2 + 1 + 2 * (x * x - 1)) * textbook_F(x) + tau * mpmath.pi + (t2 - 1) * mpmath.log(tau)
    return t2 / (t2 + 1) ** 2 * (inner + S * (-mpmath.pi + (t2 - 1) / tau * L))


def worst(values, radii, textbook):
    """Largest relative error, the reference taken at the radii as they are in that dtype."""
    pairs = zip(values.tolist(), radii.tolist(), strict=True)
    return max(float(abs(v / textbook(mpmath.mpf(x)) - 1)) for v, x in pairs)


@DTYPES
def test_nfw_mass(gate, dtype):
    x = torch.tensor(RADII, dtype=dtype)
    allowed = 1e-10 if dtype == torch.float64 else 1e-5
    gate(f"NFW g(x), 50 digits {dtype}", worst(nfw.g(x, nfw.F(x)), x, textbook_nfw), allowed)


@DTYPES
@pytest.mark.parametrize("tau", TAUS)
def test_tnfw_mass(gate, dtype, tau):
    x = torch.tensor(RADII, dtype=dtype)
    tau = torch.tensor(tau, dtype=dtype)
    exact_tau = mpmath.mpf(tau.item())
    error = worst(tnfw._mass(x, tau), x, lambda r: textbook_tnfw(r, exact_tau))
    gate(f"TNFW mass, 50 digits {dtype}", error, 1e-9 if dtype == torch.float64 else 1e-4)


@DTYPES
def test_nfw_convergence(gate, dtype):
    def textbook(x):
        return (textbook_F(x) - 1) / (1 - x * x) if x != 1 else mpmath.mpf(1) / 3

    x = torch.tensor(RADII, dtype=dtype)
    gate(f"NFW convergence, 50 digits {dtype}", worst(nfw.F_slope(x), x, textbook), 1e-9 if x.itemsize == 8 else 1e-4)


@pytest.mark.parametrize("tau", TAUS)
def test_total_mass_of_tnfw(gate, tau):
    """At large radius: pi r^2 mean(kappa) = M_tot = 4 pi rho0 Rs^3 t2/(t2+1)^2 [(t2-1) ln tau + pi tau - (t2+1)]."""
    Rs, alpha_Rs, far = 0.1, 0.7, 1e7
    tau_, zero = torch.tensor(tau, dtype=torch.float64), 0.0
    r = torch.tensor(far * max(tau, 1.0) * Rs, dtype=torch.float64)
    ax, ay = tnfw.deflection(r, torch.zeros_like(r), torch.tensor(Rs).double(), alpha_Rs, tau_, zero, zero)
    rho0 = alpha_Rs / (4 * Rs**2 * (1 - np.log(2)))
    t2 = tau * tau
    total = 4 * np.pi * rho0 * Rs**3 * t2 / (t2 + 1) ** 2 * ((t2 - 1) * np.log(tau) + np.pi * tau - (t2 + 1))
    gate("TNFW total mass", abs(float(np.pi * r * ax) / total - 1), 1e-6)
    assert ay == 0.0


@pytest.mark.parametrize("tau", [0.3, 1.0, 30.0, 300.0])
def test_potential_of_tnfw_is_the_integral_of_its_deflection(gate, tau):
    Rs, alpha_Rs = torch.tensor(0.05, dtype=torch.float64), 0.3
    tau = torch.tensor(tau, dtype=torch.float64)

    def along_x(formula, r):
        r = torch.tensor(r, dtype=torch.float64)
        result = formula(r, torch.zeros_like(r), Rs, alpha_Rs, tau, 0.0, 0.0)
        return float(result[0] if isinstance(result, tuple) else result)

    for r in (0.5, 1.0, 30.0):  # the deflection's floor at x = 1e-4 costs the reference 1e-8 of the integral
        reference = quad(lambda s: along_x(tnfw.deflection, s), 0.0, r, epsrel=1e-11, limit=200, points=[r / 100])[0]
        gate("TNFW potential against quadrature", abs(along_x(tnfw.potential, r) / reference - 1), 3e-8)


@DTYPES
def test_soliton_at_all_radii(gate, dtype):
    """Deflection and potential against 50 digits, from far inside the core to far outside."""
    r = torch.logspace(-6, 4, 41, dtype=dtype)
    theta_E, r_c, zero = torch.tensor(0.5, dtype=dtype), torch.tensor(0.125, dtype=dtype), torch.zeros_like(r)

    def mean_kappa(x):
        u = mpmath.mpf(0.091) * (x / mpmath.mpf(0.125)) ** 2
        return mpmath.mpf(0.25) / x**2 * (1 - (1 + u) ** mpmath.mpf(-6.5))

    def psi(x):
        """theta_E^2 / 2 times the integral of (1 - (1 + u)^-6.5) / u."""
        u = mpmath.mpf(0.091) * (x / mpmath.mpf(0.125)) ** 2
        return mpmath.mpf(0.125) * u * mpmath.mpf(6.5) * mpmath.hyp3f2(1, 1, mpmath.mpf(7.5), 2, 2, -u)

    allowed = 1e-13 if dtype == torch.float64 else 2e-6
    ax, _ = soliton.deflection(r, zero, theta_E, r_c, 0.0, 0.0)
    gate(f"soliton, 50 digits {dtype}", worst(ax, r, lambda x: x * mean_kappa(x)), allowed)
    potential = soliton.potential(r, zero, theta_E, r_c, 0.0, 0.0)
    gate(f"potential of the soliton, 50 digits {dtype}", worst(potential, r, psi), allowed)


def test_soliton_is_the_density_of_schive(gate):
    """Convergence as the integral of rho along the line of sight, the mass 4 pi int r^2 rho dr being pi theta_E^2."""

    def rho(r):
        return (1.0 + 0.091 * (r / 0.3) ** 2) ** -8

    total = quad(lambda r: 4.0 * np.pi * r * r * rho(r), 0.0, np.inf, epsrel=1e-12)[0]
    for R in (0.0, 0.2, 1.0):
        along = 2.0 * quad(lambda z, R=R: rho(np.hypot(R, z)), 0.0, np.inf, epsrel=1e-12)[0]
        R_, theta_E = torch.tensor(R, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64)
        kappa = soliton.convergence(R_, 0.0 * R_, theta_E, 0.3 + 0.0 * R_, 0.0, 0.0)
        gate("soliton: kappa against the line of sight", abs(float(kappa) / (np.pi * 0.49 * along / total) - 1), 1e-9)
