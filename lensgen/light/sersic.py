"""Elliptical Sersic profile (Sersic 1968; lenstronomy SERSIC_ELLIPSE).

R_sersic is the product-average half-light radius and amp the surface brightness there. b_n is lenstronomy's linear
rule 1.9992 n - 0.3271, which puts 0.465, 0.490, 0.498 and 0.500 of the flux inside R_sersic at n = .3, .5, 1 and 4.
"""

from __future__ import annotations

import math

from torch import Tensor

from lensgen import exact
from lensgen import fmath as fm
from lensgen.conventions import elliptical_radius
from lensgen.parameters import CENTER, ELLIPTICITY, FAR, Parameter
from lensgen.profile import LightProfile

_FLOOR = 1e-4  # arcsec: lenstronomy's smoothing; matters at the very centre for n >= 4 only
_EDGE = 1000.0  # in units of R_sersic; lenstronomy's max_R_frac


def _b(n_sersic):
    return fm.maximum(1.9992 * n_sersic - 0.3271, 1e-5)


def surface_brightness(x, y, amp, R_sersic, n_sersic, e1, e2, center_x, center_y):
    R = elliptical_radius(x - center_x, y - center_y, e1, e2, _FLOOR)
    scaled = R / fm.maximum(R_sersic, _FLOOR)
    power = fm.exp(fm.log(scaled) / n_sersic)
    return fm.where(scaled > _EDGE, 0.0, amp) * fm.exp(-_b(n_sersic) * (power - 1.0))


def total_flux(R_sersic: Tensor, n_sersic: Tensor) -> Tensor:
    """Flux out to infinity for amp = 1: 2 pi n R_s^2 e^b b^(-2n) Gamma(2n) (Graham & Driver 2005, equation 4).

    float64, the same bits everywhere, since amplitudes are drawn by it.
    """
    b = _b(n_sersic)
    shape = exact.exp(b - 2.0 * n_sersic * exact.log(b)) * exact.gamma(2.0 * n_sersic)
    return 2.0 * math.pi * n_sersic * R_sersic * R_sersic * shape


PROFILE = LightProfile(
    name="sersic",
    lenstronomy="SERSIC_ELLIPSE",
    parameters=(
        Parameter("amp", "flux/arcsec^2", 0.0, 1e12, "surface brightness at R_sersic"),
        Parameter("R_sersic", "arcsec", 1e-4, FAR, "half-light radius, product average"),
        Parameter("n_sersic", "1", 0.25, 10.0, "Sersic index"),
        *ELLIPTICITY,
        *CENTER,
    ),
    strength=("amp",),
    surface_brightness=surface_brightness,
    total_flux=total_flux,
)
