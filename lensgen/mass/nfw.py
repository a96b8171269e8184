"""Navarro, Frenk & White halo (Wright & Brainerd 2000, equations 11 to 13; potential: Meneghetti et al. 2003).

`alpha_Rs` is the deflection at the scale radius Rs. The textbook expressions cancel at small x = r/Rs and at x = 1;
here both are series, and float32 keeps five digits or more everywhere.
"""

from __future__ import annotations

from lensgen import fmath as fm
from lensgen.parameters import CENTER, FAR, Parameter
from lensgen.profile import MassProfile

FLOOR = 1e-4  # smallest x: convergence and gradient diverge at the centre
_SWITCH = 0.08  # |1 - x^2| below which F is a series
_SMALL = 0.2  # x below which g is a series
_RHO = 0.8147228383177324  # 1 / (4 (1 - ln 2)): rho0 Rs = alpha_Rs / Rs * _RHO
_F_TERMS = 12

# g = sum_k x^2k (_LOG[k] ln(2/x) - _CONSTANT[k]), k = 8 .. 1: the product of the series of 1/sqrt(1 - x^2) with that
# of arcosh(1/x), p_k = binomial(2k, k) / 4^k, _LOG[k] = p_k, _CONSTANT[k] = sum_j p_(k-j) p_j / (2j)
_P = (1.0, 1 / 2, 3 / 8, 5 / 16, 35 / 128, 63 / 256, 231 / 1024, 429 / 2048, 6435 / 32768)
_G_SERIES = tuple((_P[k], sum(_P[k - j] * _P[j] / (2 * j) for j in range(1, k + 1))) for k in range(8, 0, -1))


def scaled_density(Rs, alpha_Rs):
    """rho0 Rs in units of the critical surface density."""
    return _RHO * alpha_Rs / Rs


def _odd_series(u, first):
    """The sum of u^k / (2k + first), k = 0, 1, ...; u is held within the switch."""
    near = fm.minimum(fm.maximum(u, -_SWITCH), _SWITCH)
    series = 0.0 * near
    odd = 2.0 * _F_TERMS + first
    for _ in range(_F_TERMS):
        odd = odd - 2.0
        series = series * near + 1.0 / odd
    return series


def F(x):
    """artanh(sqrt(1 - x^2)) / sqrt(1 - x^2), continued through x = 1."""
    u = 1.0 - x * x
    inner = fm.sqrt(fm.maximum(u, _SWITCH))
    outer = fm.sqrt(fm.maximum(-u, _SWITCH))
    series = _odd_series(u, 1.0)
    inside = fm.log((1.0 + inner) / fm.minimum(x, 1.0)) / inner
    return fm.where(u > _SWITCH, inside, fm.where(u < -_SWITCH, fm.atan(outer) / outer, series))


def F_slope(x):
    """(F - 1) / (1 - x^2), continued through x = 1."""
    u = 1.0 - x * x
    series = _odd_series(u, 3.0)
    away = fm.where(fm.absolute(u) > _SWITCH, u, 1.0 + 0.0 * u)
    return fm.where(fm.absolute(u) > _SWITCH, (F(x) - 1.0) / away, series)


def g(x, F_of_x):
    """ln(x/2) + F(x): the projected mass inside x, which starts as x^2."""
    small = fm.minimum(x, _SMALL)
    z = small * small
    log_part, constant = 0.0 * z, 0.0 * z
    for p, q in _G_SERIES:
        log_part = (log_part + p) * z
        constant = (constant + q) * z
    return fm.where(x < _SMALL, -fm.log(0.5 * small) * log_part - constant, fm.log(0.5 * x) + F_of_x)


def scaled_radius(dx, dy, Rs):
    return fm.maximum(fm.sqrt(fm.maximum(dx * dx + dy * dy, 1e-24)) / Rs, FLOOR)


def deflection(x, y, Rs, alpha_Rs, center_x, center_y):
    dx, dy = x - center_x, y - center_y
    X = scaled_radius(dx, dy, Rs)
    mean_kappa = 4.0 * scaled_density(Rs, alpha_Rs) * g(X, F(X)) / (X * X)
    return mean_kappa * dx, mean_kappa * dy


def potential(x, y, Rs, alpha_Rs, center_x, center_y):
    X = scaled_radius(x - center_x, y - center_y, Rs)
    log_half, F_of_X = fm.log(0.5 * X), F(X)
    shape = g(X, F_of_X) * (log_half - F_of_X) + X * X * F_of_X * F_of_X
    return 2.0 * scaled_density(Rs, alpha_Rs) * Rs * Rs * shape


def convergence(x, y, Rs, alpha_Rs, center_x, center_y):
    return 2.0 * scaled_density(Rs, alpha_Rs) * F_slope(scaled_radius(x - center_x, y - center_y, Rs))


PROFILE = MassProfile(
    name="nfw",
    lenstronomy="NFW",
    parameters=(
        Parameter("Rs", "arcsec", 1e-6, FAR, "scale radius"),
        Parameter("alpha_Rs", "arcsec", 0.0, FAR, "deflection at the scale radius"),
        *CENTER,
    ),
    strength=("alpha_Rs",),
    deflection=deflection,
    potential=potential,
    convergence=convergence,
    smooth=True,
)
