"""Random and stressful inputs for a profile, derived from the parameters that it declares.

A new profile needs no line here unless it declares a static or has a singular set other than its centre.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from hypothesis import strategies as st
from torch import Tensor

from lensgen import fmath
from lensgen.mass import MASS_PROFILES
from lensgen.mass.epl import series_terms
from lensgen.parameters import Parameter
from lensgen.profile import MassProfile, Profile

NAMES = tuple(MASS_PROFILES)
# every profile, and again with other statics where these change what it is
VARIANTS = {**MASS_PROFILES, "multipole_3": replace(MASS_PROFILES["multipole"], statics={"m": 3})}
LARGE = 10.0  # arcsec: lengths are drawn up to here, far beyond any field of view
SMALL = 0.01  # arcsec


def statics(profile: Profile, dtype: torch.dtype) -> dict[str, int]:
    known = {"terms": series_terms(0.8, dtype == torch.float64)}
    return {name: known.get(name, default) for name, default in profile.statics.items()}


def arrays(profile: Profile) -> dict[str, Tensor]:
    """Three images of 5 x 7 pixels, float64, each exact in float32 and with a sum of about 1."""
    row, column = torch.arange(5.0)[:, None] - 1.7, torch.arange(7.0) - 3.2
    widths = torch.tensor([1.0, 2.0, 3.0])[:, None, None]
    images = torch.exp(-0.5 * (row * row + 0.5 * column * column + 0.3 * row * column) / widths)
    images = images / images.sum((1, 2), keepdim=True)
    return dict.fromkeys(profile.arrays, images.to(torch.float32).to(torch.float64))


def stacks(profile: Profile) -> list[fmath.Stack]:
    return [fmath.Stack(images) for images in arrays(profile).values()]


def _uniform(low: float, high: float) -> st.SearchStrategy[float]:
    # six decimals: a strength of 1e-300 says nothing about a formula, and float32 has no such number
    return st.floats(low, high).map(lambda v: min(max(round(v, 6), low), high))


def _log_uniform(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(math.log(low), math.log(high)).map(lambda v: min(max(math.exp(v), low), high))


def value(p: Parameter) -> st.SearchStrategy[float]:
    """Values that a lens of a few arcsec could have, within the declared range."""
    if p.index_of:
        return st.integers(0, 2).map(float)
    if p.unit == "arcsec" and p.low < 0.0:
        return _uniform(-2.0, 2.0)
    if p.unit == "arcsec":
        lengths = _log_uniform(max(p.low, SMALL), min(p.high, LARGE))
        return st.one_of(st.just(p.default), lengths) if p.default is not None else lengths
    if p.low > 0.0 and p.high / p.low > 50.0:
        return _log_uniform(p.low, p.high)
    return _uniform(p.low, p.high)


def parameters(profile: Profile) -> st.SearchStrategy[dict[str, float]]:
    drawn = st.fixed_dictionaries({p.name: value(p) for p in profile.parameters})
    if "e1" not in {p.name for p in profile.parameters}:
        return drawn
    return drawn.map(_rounder)


def _rounder(given: dict[str, float]) -> dict[str, float]:
    """Each of e1, e2 may reach 0.8, but |e| may not: scale them into the disc that the series is made for."""
    size = math.hypot(given["e1"], given["e2"])
    shrink = min(1.0, 0.8 / size) if size > 0.0 else 1.0
    return given | {"e1": given["e1"] * shrink, "e2": given["e2"] * shrink}


def tensors(profile: Profile, given: dict[str, float], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return [torch.tensor(given[p.name], dtype=dtype) for p in profile.parameters]


def scattered(count: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Points in [-4, 4]^2, the same on every call, that lie on no axis and on no grid."""
    k = torch.arange(1, count + 1, dtype=torch.float64)
    x = 8.0 * torch.frac(k * 0.7548776662466927) - 4.0  # Roberts' R2 sequence
    y = 8.0 * torch.frac(k * 0.5698402909980532) - 4.0
    return x.to(dtype), y.to(dtype)


def clear_of_singularities(
    given: dict[str, float], x: Tensor, y: Tensor, distance: float = 0.05
) -> tuple[Tensor, Tensor]:
    """The points that are farther than `distance` from the centre and from the rod."""
    dx, dy = x - given.get("center_x", 0.0), y - given.get("center_y", 0.0)
    reach = given.get("half_length", 0.0)
    cosine, sine = math.cos(given.get("angle", 0.0)), math.sin(given.get("angle", 0.0))
    along, across = cosine * dx + sine * dy, cosine * dy - sine * dx
    outside = (along.abs() - reach).clamp(min=0.0)
    # the gradient of |X| in the rod's formula is right on either side of X = 0; a difference across it is too
    keep = torch.hypot(outside, across) > distance
    return x[keep], y[keep]


def stress_points(profile: MassProfile, given: dict[str, float]) -> tuple[Tensor, Tensor]:
    """The centre, the clamps, every length at which a formula switches, the rod and its ends, and far away."""
    lengths = [given[p.name] for p in profile.parameters if p.unit == "arcsec" and p.low >= 0.0]
    radii = [1e-12, 1e-9, 1e-6, 1e-3, 0.1, 1.0, 1e4]
    radii += [f * length for length in lengths for f in (1e-4, 0.2, 0.5, 1.0, 1.5, -1.0, 1.0 + 1e-7)]
    directions = [0.0, 0.5 * math.pi, math.pi, 0.6, given.get("angle", 0.3)]
    points = [(0.0, 0.0)] + [(r * math.cos(a), r * math.sin(a)) for r in radii for a in directions]
    offsets = torch.tensor(points, dtype=torch.float64)
    return given.get("center_x", 0.0) + offsets[:, 0], given.get("center_y", 0.0) + offsets[:, 1]


def stress_parameters(profile: MassProfile) -> list[dict[str, float]]:
    """A plain lens, and that lens with each parameter in turn at its ends, at 0 and at 1."""
    plain = {"gamma": 2.0, "tau": 5.0, "e1": 0.1, "e2": -0.05, "half_length": 0.3, "center_x": 0.013}
    base = {p.name: plain.get(p.name, 0.5 if p.default is None else p.default) for p in profile.parameters}
    cases = [base]
    for p in profile.parameters:
        tried = {p.low, p.high, 0.0, 1.0, 1e-3}
        cases += [base | {p.name: v} for v in sorted(tried) if p.low <= v <= p.high]
    if "e1" in base:
        sides = (0.0, 1e-10, 1e-5, 2.0 / 3.0)  # round, below and above the clamp, q = 0.2
        cases += [base | {"e1": a * 0.6, "e2": a * 0.8} for a in sides] + [base | {"e1": -2.0 / 3.0, "e2": 0.0}]
    return cases
