"""A galaxy cutout as a light, by bilinear interpolation between its pixels (lenstronomy INTERPOL).

Between pixels brightness is linear in x and in y; beyond the outermost ones it falls linearly to 0 within one pixel, as
if the cutout had a ring of zeros around it, and is exactly 0 farther out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lensgen import fmath as fm
from lensgen.parameters import CENTER, Parameter
from lensgen.profile import LightProfile

_MOST = 2**24 - 1  # float32 holds all whole numbers up to here


def _between(p, size):
    """Pixels on either side of p, how far p lies from the first to the second, and a factor for what is outside."""
    inside = fm.minimum(fm.maximum(p, 0.0), size - 1.0)
    first = fm.floor(inside)
    return first, first + 1.0, inside - first, fm.maximum(1.0 - fm.absolute(p - inside), 0.0)


def surface_brightness(x, y, amp, scale, phi_G, center_x, center_y, which, images):
    _, height, width = images.shape
    cosine, sine = fm.cos(phi_G), fm.sin(phi_G)
    dx, dy = (x - center_x) / scale, (y - center_y) / scale
    left, right, across, fade_x = _between(cosine * dx + sine * dy + 0.5 * (width - 1), width)
    below, above, up, fade_y = _between(cosine * dy - sine * dx + 0.5 * (height - 1), height)
    low, high = (
        (1.0 - across) * images.lookup(which, row, left) + across * images.lookup(which, row, right)
        for row in (below, above)
    )
    return amp / (scale * scale) * (fade_x * fade_y) * ((1.0 - up) * low + up * high)


def total_flux() -> Tensor:
    """1: the pixels of a cutout add up to 1, so amp is the flux."""
    return torch.ones((), dtype=torch.float64)


PROFILE = LightProfile(
    name="interpol",
    lenstronomy="INTERPOL",
    parameters=(
        Parameter("amp", "flux", 0.0, 1e12, "total flux, of a cutout whose pixels add up to 1"),
        Parameter("scale", "arcsec", 1e-5, 100.0, "width of a pixel of the cutout"),
        Parameter("phi_G", "rad", -7.0, 7.0, "angle by which the cutout is turned, from +x to +y", 0.0),
        *CENTER,
        Parameter("which", "1", 0.0, _MOST, "number of the cutout", 0.0, index_of="images"),
    ),
    strength=("amp",),
    arrays=("images",),
    surface_brightness=surface_brightness,
    total_flux=total_flux,
)
