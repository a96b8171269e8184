"""The systems of a task as lensgen's scene and observation."""

from __future__ import annotations

import torch

from lensgen import Component, Detector, GaussianPSF, Noise, Observation, RandomSource, Scene, noise_recipe
from lensgen.light import light_profile
from lensgen.mass import mass_profile
from lensgen.mass.epl import series_terms
from profiles.cases import MAX_ELLIPTICITY, Systems, Task


def scene_of(systems: Systems, task: Task, dtype: torch.dtype = torch.float32) -> Scene:
    """All systems as one scene on the task's device."""
    batch = len(systems.source["amp"])
    mass = []
    for number, lens in enumerate(systems.lenses):
        parameters = {name: torch.from_numpy(values) for name, values in lens.parameters.items()}
        count = torch.full((batch,), lens.slots) if lens.slots else None
        statics = {"terms": series_terms(MAX_ELLIPTICITY, dtype == torch.float64)} if lens.model == "epl" else None
        name = f"{lens.model} {number}"
        mass.append(Component.make(name, mass_profile(lens.model), parameters, batch, count, statics))
    source = {name: torch.from_numpy(values) for name, values in systems.source.items()}
    light = Component.make("source", light_profile("sersic"), source, batch)
    return Scene(tuple(mass), (light,)).to(device=task.device, dtype=dtype)


def observation_of(task: Task) -> Observation:
    """Pixel grid and PSF."""
    psf = GaussianPSF(task.psf_fwhm, task.psf_truncation)
    return Observation(task.size, task.size, task.pixel_scale, task.supersampling, psf, task.supersampling > 1)


def noise_of(task: Task) -> Noise | None:
    """The noise of a batch, or None."""
    if not task.noise:
        return None
    exposure = torch.full((task.rendered,), task.exposure, device=task.device)
    index = torch.arange(task.rendered, device=task.device)
    detector = Detector(1, task.read_noise, task.sky)
    return Noise(noise_recipe(task.recipe), detector, exposure, RandomSource(task.seed, "train"), index)
