"""The lenses that every contender renders: drawn once as plain numbers, outside of any timing.

Parameters have lenstronomy's names and are rounded to float32, so that everyone renders the same systems.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from lensgen.errors import ParameterError, lookup

MAX_ELLIPTICITY = 0.3  # of host and source: the EPL series' length follows from it
VORTEX_POINTS = 100  # what the peers, who have no rod, put in its place
KINDS = ("smooth", "points", "row", "rod", "tnfw", "preset")

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """A kind of lens.

    Args:
        name: as in tables.
        host: "sie" or "epl", with external shear.
        kind: substructure: "smooth" (none), "points" (point masses anywhere), "row" (point masses in a row, a vortex),
            "rod" (their continuum limit), "tnfw"; or "preset", and then `name` is that of a lensgen preset.
        count: subhalos.
    """

    name: str
    host: str = "sie"
    kind: str = "smooth"
    count: int = 0

    def __post_init__(self) -> None:
        lookup("kind of case", self.kind, dict.fromkeys(KINDS))
        lookup("host", self.host, dict.fromkeys(("sie", "epl")))
        if self.kind in ("points", "row", "tnfw") and self.count < 1:
            raise ParameterError(f"case {self.name!r}: count = {self.count} must be 1 or more with {self.kind}.")


CASES = {
    case.name: case
    for case in (
        Case("sie"),
        Case("epl", "epl"),
        Case("25 points", kind="points", count=25),
        Case("100 points", kind="row", count=VORTEX_POINTS),
        Case("rod", kind="rod"),
        Case("25 tnfw", kind="tnfw", count=25),
        Case("100 tnfw", kind="tnfw", count=100),
    )
}


@dataclass(frozen=True)
class Task:
    """What is rendered. All that a contender needs to know, and small enough to be sent to another process.

    Args:
        case: the kind of lens.
        size: pixels along an axis.
        pixel_scale: arcsec.
        supersampling: rays per pixel along an axis; the PSF acts on the sub-pixels where there are some.
        batch: systems rendered at a time.
        noise: whether an image gets noise.
        recipe: lensgen's noise recipe; lenstronomy uses its own, which is lensgen's "lenstronomy".
        device: "cpu" or "cuda".
        seed: of the systems.
        first: only the first so many of the batch's systems are rendered; 0 for all.
    """

    case: Case
    size: int = 64
    pixel_scale: float = 0.05
    supersampling: int = 1
    batch: int = 64
    noise: bool = False
    recipe: str = "ccd"
    device: str = "cpu"
    seed: int = 0
    first: int = 0

    psf_fwhm: float = 0.087  # arcsec, the optics of Model I
    psf_truncation: float = 4.0  # sigma
    exposure: float = 1750.0  # s
    read_noise: float = 4.0  # e- per pixel
    sky: float = 0.1659  # e-/s per pixel

    @property
    def rendered(self) -> int:
        """Systems that are rendered at a time."""
        return min(self.first or self.batch, self.batch)

    @property
    def psf_weights(self) -> np.ndarray:
        """The Gaussian PSF as pixels `[k, k]` at the scale of the rays, for contenders that take kernels alone."""
        sigma = self.psf_fwhm / (2.0 * math.sqrt(2.0 * math.log(2.0))) / self.pixel_scale * self.supersampling
        k = np.arange(-self.psf_radius, self.psf_radius + 1)
        line = np.exp(-0.5 * (k / sigma) ** 2)
        return np.outer(line, line) / line.sum() ** 2

    @property
    def psf_radius(self) -> int:
        """Rays by which the PSF reaches out."""
        sigma = self.psf_fwhm / (2.0 * math.sqrt(2.0 * math.log(2.0))) / self.pixel_scale * self.supersampling
        return int(self.psf_truncation * sigma + 0.5)


@dataclass(frozen=True)
class Lens:
    """One mass model of all systems: parameters `[B]`, or `[B, N]` for N subhalos."""

    model: str
    parameters: Arrays

    @property
    def slots(self) -> int:
        """Subhalos in each system; 0 for a single lens."""
        values = next(iter(self.parameters.values()))
        return values.shape[1] if values.ndim == 2 else 0


@dataclass(frozen=True)
class Systems:
    """B drawn systems: their lenses, and the parameters `[B]` of a Sersic source."""

    lenses: tuple[Lens, ...]
    source: Arrays


def _ellipticity(u: Any, batch: int) -> Arrays:
    size, angle = u(0.05, MAX_ELLIPTICITY, batch), u(0.0, 2.0 * math.pi, batch)
    return {"e1": 0.999 * size * np.cos(angle), "e2": 0.999 * size * np.sin(angle)}


def _row(rod: Arrays, points: int) -> Arrays:
    """The point masses `[B, N]` that act as a rod: each has a cell of its own, so they end before the rod does."""
    place = np.linspace(-1.0, 1.0, points) * (points - 1) / points * rod["half_length"][:, None]
    angle = rod["angle"][:, None]
    return {
        "theta_E": np.repeat(rod["theta_E"][:, None] / math.sqrt(points), points, axis=1),
        "center_x": rod["center_x"][:, None] + place * np.cos(angle),
        "center_y": rod["center_y"][:, None] + place * np.sin(angle),
    }


def as_points(lens: Lens, points: int = VORTEX_POINTS) -> Lens:
    """A rod as the row of point masses that peers render in its place; other lenses as they are."""
    return Lens("point", _row(lens.parameters, points)) if lens.model == "vortex" else lens


def draw_systems(task: Task) -> Systems:
    """The systems of a task, a function of its case, batch, seed and field of view alone; or the first ones of them."""
    rng = np.random.default_rng(task.seed)
    case, batch = task.case, task.batch

    def u(low: float, high: float, *shape: int) -> np.ndarray:
        return rng.uniform(low, high, shape)

    host = {"theta_E": u(0.8, 1.1, batch), **_ellipticity(u, batch)}
    host |= {"center_x": u(-0.05, 0.05, batch), "center_y": u(-0.05, 0.05, batch)}
    if case.host == "epl":
        host["gamma"] = u(1.8, 2.3, batch)
    shear = {"gamma1": u(-0.05, 0.05, batch), "gamma2": u(-0.05, 0.05, batch)}
    source = {"amp": u(10.0, 30.0, batch), "R_sersic": u(0.1, 0.3, batch), "n_sersic": u(0.8, 2.0, batch)}
    source |= {**_ellipticity(u, batch), "center_x": u(-0.15, 0.15, batch), "center_y": u(-0.15, 0.15, batch)}
    lenses = [Lens(case.host, host), Lens("shear", shear)]
    lenses += _substructure(case, batch, u)
    single = [Lens(lens.model, _rounded(lens.parameters, task.rendered)) for lens in lenses]
    return Systems(tuple(single), _rounded(source, task.rendered))


def _substructure(case: Case, batch: int, u: Any) -> list[Lens]:
    if case.kind in ("row", "rod"):
        rod = {"theta_E": u(0.15, 0.25, batch), "half_length": u(0.05, 0.15, batch), "angle": u(0.0, math.pi, batch)}
        rod |= {"center_x": u(-0.05, 0.05, batch), "center_y": u(-0.05, 0.05, batch)}
        return [Lens("vortex", rod) if case.kind == "rod" else Lens("point", _row(rod, case.count))]
    if case.kind not in ("points", "tnfw"):
        return []
    shape = (batch, case.count)
    places = {"center_x": u(-1.4, 1.4, *shape), "center_y": u(-1.4, 1.4, *shape)}
    if case.kind == "points":
        return [Lens("point", {"theta_E": u(0.005, 0.03, *shape), **places})]
    mass = 10.0 ** u(7.0, 8.5, *shape)  # Msun; with sizes as in the tests of whole images
    halos = {"Rs": 0.115 * (mass / 1e8) ** 0.4, "alpha_Rs": 4.5e-4 * (mass / 1e8) ** 0.64, "tau": u(1.5, 20.0, *shape)}
    return [Lens("tnfw", halos | places)]


def _rounded(parameters: Arrays, systems: int) -> Arrays:
    return {name: values[:systems].astype(np.float32).astype(np.float64) for name, values in parameters.items()}
