"""Images of drawn physical subhalos against lenstronomy's: its TNFW, ULDM and CONVERGENCE, halo by halo."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from lenstronomy.LensModel.lens_model import LensModel
from lenstronomy.LightModel.light_model import LightModel

from lensgen import Component, Observation, Scene, render
from lensgen.conventions import pixel_axis
from lensgen.light import light_profile
from lensgen.mass import mass_profile
from lensgen.psf import GaussianPSF
from lensgen.substructure.population import Drawn
from tests.substructure import physical

FLOAT64 = torch.float64
OBSERVATION = Observation(64, 64, 0.1, 1, GaussianPSF(0.0))
LENS = {"theta_E": 1.2, "gamma": 2.05, "e1": 0.1, "e2": -0.05, "center_x": 0.03, "center_y": -0.05}
SOURCE = {"amp": 20.0, "R_sersic": 0.25, "n_sersic": 1.0, "e1": -0.1, "e2": 0.1, "center_x": 0.1, "center_y": 0.02}


def lenses(made: Drawn, system: int) -> tuple[list[str], list[dict[str, float]]]:
    """One system's substructure in lenstronomy's words; halos that do not exist are left out."""
    models, arguments = [], []
    for component in made.components:
        slots = [None] if component.count is None else range(int(component.count[system]))
        for slot in slots:
            own = {k: float(v[system] if slot is None else v[system, slot]) for k, v in component.parameters.items()}
            if own[component.profile.strength[0]] == 0.0:
                continue
            if component.profile.name == "tnfw":
                own["r_trunc"] = own.pop("tau") * own["Rs"]
            if component.profile.name == "soliton":  # whose core radius is where the density is half to the last digit
                theta_E, r_c = own.pop("theta_E"), own.pop("r_c")
                half = 0.5 ** (-1.0 / 8.0) - 1.0
                own |= {"kappa_0": 6.5 * 0.091 * (theta_E / r_c) ** 2, "theta_c": r_c * (half / 0.091) ** 0.5}
            models.append(component.profile.lenstronomy)
            arguments.append(own)
    return models, arguments


def lenstronomy_image(made: Drawn, system: int) -> torch.Tensor:
    models, arguments = lenses(made, system)
    x, y = (a.flatten() for a in np.meshgrid(*[pixel_axis(64, 0.1).numpy()] * 2))
    beta = LensModel(["EPL", *models]).ray_shooting(x, y, [LENS, *arguments])
    light = LightModel(["SERSIC_ELLIPSE"]).surface_brightness(*beta, [SOURCE])
    return torch.from_numpy(light.reshape(64, 64)) * 0.1**2


def scene(made: Drawn, batch: int) -> Scene:
    lens = Component.make("lens", mass_profile("epl"), LENS, batch, statics={"terms": 48})
    return Scene((lens, *made.components), (Component.make("source", light_profile("sersic"), SOURCE, batch),))


@pytest.mark.parametrize("name", physical.OWN)
@pytest.mark.parametrize("dtype, allowed", [(FLOAT64, 1e-9), (torch.float32, 1e-5)], ids=["f64", "f32"])
def test_images_of_drawn_subhalos(name, dtype, allowed, gate) -> None:
    options = physical.made(name)
    if name == "uldm":  # light enough for many halos, heavy enough for cores that differ from cusps
        options = dataclasses.replace(options, axion_mass=physical.Fixed(5e-21), mass_low=1e8)
    made = physical.drawn(options, 2)
    rendered = render(scene(made, 2).to(dtype=dtype), OBSERVATION, engine="torch").double()
    for system in range(2):
        expected = lenstronomy_image(made, system)
        error = (rendered[system] - expected).abs().max() / expected.max()
        gate(f"image: {name} of theory ({dtype})", error, allowed)
        # and the subhalos are not nothing: at 1e-5 of the peak they would pass unseen
        smooth = render(scene(dataclasses.replace(made, components=()), 2), OBSERVATION, engine="torch")[system]
        assert float((smooth - expected).abs().max() / expected.max()) > 1e-3
