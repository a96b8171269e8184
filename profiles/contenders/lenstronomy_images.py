"""lenstronomy at its best: one ImageModel for all images of a task, parameters ready as its dictionaries."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
from lenstronomy.Data.pixel_grid import PixelGrid
from lenstronomy.Data.psf import PSF
from lenstronomy.ImSim.image_model import ImageModel
from lenstronomy.LensModel.lens_model import LensModel
from lenstronomy.LightModel.light_model import LightModel
from lenstronomy.SimulationAPI.observation_api import SingleBand

from profiles.cases import Lens, Task, as_points, draw_systems
from profiles.contenders.lensgen_images import CHECKED

NAMES = {"sie": "SIE", "epl": "EPL", "shear": "SHEAR", "point": "POINT_MASS", "tnfw": "TNFW"}


def grid_of(task: Task) -> PixelGrid:
    """lensgen's pixel grid."""
    corner = -(task.size - 1) / 2 * task.pixel_scale
    return PixelGrid(
        nx=task.size, ny=task.size, transform_pix2angle=np.eye(2) * task.pixel_scale,
        ra_at_xy_0=corner, dec_at_xy_0=corner,
    )  # fmt: skip


def numerics_of(task: Task) -> dict[str, Any]:
    """Supersampling, with the PSF on the sub-pixels."""
    return {"supersampling_factor": task.supersampling, "supersampling_convolution": task.supersampling > 1}


def model_names(lenses: list[Lens]) -> list[str]:
    """lenstronomy's list of models, a subhalo each."""
    return [NAMES[lens.model] for lens in lenses for _ in range(lens.slots or 1)]


def model_arguments(lenses: list[Lens]) -> list[dict[str, np.ndarray]]:
    """lenstronomy's list of arguments, arrays `[B]` each."""
    arguments = []
    for lens in lenses:
        own = dict(lens.parameters)
        if lens.model == "tnfw":
            own["r_trunc"] = own.pop("tau") * own["Rs"]
        if lens.model == "shear":
            own |= {"ra_0": np.zeros(len(own["gamma1"])), "dec_0": np.zeros(len(own["gamma1"]))}
        for slot in range(lens.slots or 1):
            arguments.append({name: v[:, slot] if v.ndim == 2 else v for name, v in own.items()})
    return arguments


def _of_system(arguments: list[dict[str, np.ndarray]], system: int) -> list[dict[str, float]]:
    return [{name: float(values[system]) for name, values in one.items()} for one in arguments]


class LenstronomyImages:
    """One image at a time, float64; noise by SingleBand.noise_for_model, its own way."""

    dtype = "float64"
    notes = "one image at a time"

    def __init__(self, task: Task) -> None:
        warnings.filterwarnings("ignore", module="lenstronomy")
        self.task, systems = task, draw_systems(task)
        lenses = [as_points(lens) for lens in systems.lenses]
        arguments = model_arguments(lenses)
        self.systems = [
            (_of_system(arguments, number), _of_system([systems.source], number)) for number in range(task.rendered)
        ]
        self.next_system = itertools.cycle(self.systems)
        psf = PSF("GAUSSIAN", fwhm=task.psf_fwhm, pixel_size=task.pixel_scale, truncation=task.psf_truncation)
        self.model = ImageModel(
            grid_of(task), psf, LensModel(model_names(lenses)), LightModel(["SERSIC_ELLIPSE"]),
            kwargs_numerics=numerics_of(task),
        )  # fmt: skip
        background = np.sqrt(task.read_noise**2 + task.sky * task.exposure) / task.exposure
        self.band = SingleBand(task.pixel_scale, task.exposure, 25.0, background_noise=background)

    def render(self) -> int:
        image = self.model.image(*next(self.next_system))
        if self.task.noise:
            image = image + self.band.noise_for_model(image)
        self.image = image
        return 1

    def wait(self) -> None:
        return None

    def check_images(self) -> np.ndarray:
        return np.stack([self.model.image(*system) for system in self.systems[:CHECKED]])
