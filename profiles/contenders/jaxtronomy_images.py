"""JAXtronomy: jit of vmap of its ImageModel, in the float64 that it computes in by default."""

from __future__ import annotations

import warnings

import jax
import numpy as np
from jaxtronomy.ImSim.image_model import ImageModel
from jaxtronomy.LensModel.lens_model import LensModel
from jaxtronomy.LightModel.light_model import LightModel
from lenstronomy.Data.psf import PSF

from profiles.cases import Task, as_points, draw_systems
from profiles.contenders.contender import Refused
from profiles.contenders.lensgen_images import CHECKED
from profiles.contenders.lenstronomy_images import grid_of, model_arguments, model_names, numerics_of


class JAXtronomyImages:
    """A batch at a time."""

    notes = "jit(vmap)"

    def __init__(self, task: Task) -> None:
        warnings.filterwarnings("ignore", module="jaxtronomy")
        systems = draw_systems(task)
        lenses = [as_points(lens) for lens in systems.lenses]
        if any(lens.model == "point" for lens in lenses):
            raise Refused("has no point masses")
        psf = PSF("GAUSSIAN", fwhm=task.psf_fwhm, pixel_size=task.pixel_scale, truncation=task.psf_truncation)
        model = ImageModel(
            grid_of(task), psf, LensModel(model_names(lenses)), LightModel(["SERSIC_ELLIPSE"]),
            kwargs_numerics=numerics_of(task),
        )  # fmt: skip
        self.task = task
        self.arguments = jax.device_put((model_arguments(lenses), [dict(systems.source)]))
        self.images = jax.jit(jax.vmap(lambda arguments: model.image(*arguments)))
        self.dtype = str(jax.eval_shape(self.images, self.arguments).dtype)

    def render(self) -> int:
        self.image = self.images(self.arguments).block_until_ready()
        return self.task.rendered

    def wait(self) -> None:
        return None

    def check_images(self) -> np.ndarray:
        self.render()
        return np.asarray(self.image[:CHECKED], dtype=np.float64)
