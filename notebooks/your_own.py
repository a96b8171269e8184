# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A telescope, a PSF and a population of your own
#
# Nothing in the package is touched: each is an object with a name, registered here, and at once known to presets, to
# their error messages, and to the fast engine, which compiles what it has not seen before.

# %%
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

import lensgen
from lensgen import exact
from lensgen.instruments import INSTRUMENTS
from lensgen.instruments.instrument import Instrument
from lensgen.mass import mass_profile
from lensgen.parameters import Parameter
from lensgen.priors import Direction, Prior
from lensgen.scene import Component
from lensgen.substructure import POPULATIONS
from lensgen.substructure.population import MASS, Drawn, Draws, Host, Population, by_name, points_enclosed

# %% [markdown]
# ## A telescope
# One object holds the constants of one band. This one is a two-metre telescope on a balloon.

# %%
BALLOON = Instrument(
    name="balloon_r",
    telescope="a two-metre telescope at 35 km",
    band="r",
    pixel_scale=0.08,
    exposure_time=600.0,
    exposures=6,
    zero_point=26.2,
    read_noise=3.0,
    sky_brightness=21.8,
    psf_fwhm=0.1,
    wavelength=0.62,
    aperture=lensgen.Aperture(diameter=2.0, obstruction=0.35, vanes=(0.0, 120.0, 240.0), vane_width=0.02),
)
INSTRUMENTS[BALLOON.name] = BALLOON

# %% [markdown]
# ## A PSF
# The aperture gives one by diffraction: `psf: {type: diffraction, ...}`. Measured ones come out of a FITS, HDF5 or
# NumPy file, one kernel or several, of which each image takes one: here three of a gondola that swings more or less.

# %%
still = lensgen.DiffractionPSF(BALLOON.aperture, BALLOON.wavelength, size=1.7).kernels(BALLOON.pixel_scale)[0]
swinging = [torch.nn.functional.avg_pool2d(still[None], (2 * n + 1, 1), 1, (n, 0))[0] for n in range(3)]
folder = tempfile.TemporaryDirectory()
psf_file = Path(folder.name) / "gondola.npy"
np.save(psf_file, torch.stack([kernel / kernel.sum() for kernel in swinging]).numpy())

# %% [markdown]
# ## A population
# A pair of black holes on either side of the lens. `draw` works on whole batches, `[B]` or `[B, N]`, in the arithmetic
# of `lensgen.exact`, so that every machine draws the same systems.


# %%
@dataclass(frozen=True)
class Pair(Population):
    """Args:
    mass: of each black hole, Msun.
    separation: between them, arcsec.
    """

    mass: Prior
    separation: Prior
    name: ClassVar[str] = "black_hole_pair"
    ranges = by_name(MASS, Parameter("separation", "arcsec", 0.0, 10.0, "between the two"))

    @property
    def capacity(self) -> int:
        return 2

    def draw(self, draws: Draws, host: Host, prefix: str) -> Drawn:
        mass = draws.value(f"{prefix}.mass", self.mass)
        half = 0.5 * draws.value(f"{prefix}.separation", self.separation)
        angle = draws.value(f"{prefix}.angle", Direction())
        side = torch.tensor([-1.0, 1.0], dtype=torch.float64, device=draws.device)
        x = host.center_x[:, None] + (half * exact.cos(angle))[:, None] * side
        y = host.center_y[:, None] + (half * exact.sin(angle))[:, None] * side
        theta_E = exact.sqrt(mass * host.einstein_area)[:, None].expand_as(x)
        parameters = {"theta_E": theta_E, "softening": torch.zeros_like(x), "center_x": x, "center_y": y}
        count = torch.full_like(mass, 2.0).to(torch.int64)
        pair = Component("pair", mass_profile("point"), parameters, count)
        return Drawn((pair,), points_enclosed(theta_E, x, y, count, host), {"mass": mass})


POPULATIONS[Pair.name] = Pair

# %% [markdown]
# ## Together
# A preset is a YAML file; here one is changed instead. What does not exist, or is out of range, is named.

# %%
simulator = lensgen.Simulator("model_a", outputs=("image", "detectability")).override(
    {
        "instrument": "balloon_r",
        "psf": {"type": "pixel", "file": str(psf_file), "pixel_scale": BALLOON.pixel_scale, "supersampled": False},
        "substructure": {
            "no_sub": {"population": "no_sub"},
            "pair": {
                "population": "black_hole_pair",
                "mass": 2e10,
                "separation": {"uniform": {"low": 0.5, "high": 2.5}},
            },
        },
    }
)
batch = simulator.batch(0, 16)
batch

# %%
print("PSF of each image:", batch.params["psf.choice"].tolist())
print("detectability of pairs:", batch.maps["detectability"][batch.label == 1].tolist())
try:
    simulator.override({"substructure.pair.seperation": 1.0})
except lensgen.errors.LensgenError as error:
    print(error)
