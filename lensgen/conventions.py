"""Pixel grid, ellipticity and rotation, defined here once. They are lenstronomy's.

Angles are in arcsec. x grows with the column, y with the row, and the origin is the centre of the grid: a pixel
corner when the size is even. `phi` is the direction of the major axis, counter-clockwise from +x.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lensgen import fmath as fm


def pixel_axis(size: int, scale: float, supersampling: int = 1) -> Tensor:
    """Sub-pixel centres along one axis, float64 `[size * supersampling]`, in arcsec."""
    n = size * supersampling
    return (torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * (scale / supersampling)


def ellipticity(q: Tensor, phi: Tensor) -> tuple[Tensor, Tensor]:
    """Axis ratio (minor/major) and direction (rad) -> e1, e2."""
    size = (1.0 - q) / (1.0 + q)
    return size * fm.cos(2.0 * phi), size * fm.sin(2.0 * phi)


def polar_shear(gamma_ext: Tensor, psi_ext: Tensor) -> tuple[Tensor, Tensor]:
    """Strength and direction (rad) of an external shear -> gamma1, gamma2."""
    return gamma_ext * fm.cos(2.0 * psi_ext), gamma_ext * fm.sin(2.0 * psi_ext)


def rotated(x: Tensor, y: Tensor, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates in a frame that is turned counter-clockwise by the angle of (cosine, sine)."""
    return cosine * x + sine * y, cosine * y - sine * x


def principal_axes(e1: Tensor, e2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """e1, e2 -> (c, cos phi, sin phi) with c = |e| = (1-q)/(1+q), at least 1e-9.

    A round lens has no direction, and its gradient towards one is infinite: below 1e-9 it is taken as elongated
    along +x by 2e-9. Formulas need another form where c is small: there the direction's gradient grows as 1/c.
    """
    safe_e1 = fm.where(e1 * e1 + e2 * e2 < 1e-18, e1 + 2e-9, e1)
    c = fm.sqrt(safe_e1 * safe_e1 + e2 * e2)
    phi = 0.5 * fm.atan2(e2, safe_e1)
    return c, fm.cos(phi), fm.sin(phi)


def sheared(x: Tensor, y: Tensor, e1: Tensor | float, e2: Tensor | float) -> tuple[Tensor, Tensor]:
    """zeta = z - e conj(z), z = x + iy: |zeta| is constant on the ellipses of e, and smooth at e = 0."""
    return (1.0 - e1) * x - e2 * y, (1.0 + e1) * y - e2 * x


def elliptical_radius(x: Tensor, y: Tensor, e1: Tensor, e2: Tensor, floor: float) -> Tensor:
    """R = sqrt(q X^2 + Y^2 / q), the product-average radius, at least `floor`; smooth at e1 = e2 = 0."""
    u, v = sheared(x, y, e1, e2)
    n = 1.0 - e1 * e1 - e2 * e2
    return fm.sqrt(fm.maximum((u * u + v * v) / n, floor * floor))


def direction(x: Tensor, y: Tensor, e1: Tensor | float, e2: Tensor | float, floor: float) -> tuple[Tensor, ...]:
    """zeta as (|zeta|, cosine, sine), and w = conj(e) (zeta / |zeta|)^2 as (real, imaginary); |zeta| >= floor.

    Deflections of elliptical lenses are series in powers of w, which has no direction where e = 0.
    """
    zx, zy = sheared(x, y, e1, e2)
    length = fm.sqrt(fm.maximum(zx * zx + zy * zy, floor * floor))
    cosine, sine = zx / length, zy / length
    cos2, sin2 = cosine * cosine - sine * sine, 2.0 * cosine * sine
    return length, cosine, sine, e1 * cos2 + e2 * sin2, e1 * sin2 - e2 * cos2
