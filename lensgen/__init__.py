"""Strong gravitational lenses, simulated inside the PyTorch training loop."""

from lensgen.batch import Batch
from lensgen.benchmark import Benchmark, benchmark
from lensgen.cosmology import Cosmology
from lensgen.light import light_profile
from lensgen.mass import mass_profile
from lensgen.noise import Detector, noise_recipe
from lensgen.observation import Noise, Observation
from lensgen.preset import Preset, load_preset, presets
from lensgen.preset_text import parse_overrides
from lensgen.psf import AdaptiveOpticsPSF, Aperture, DiffractionPSF, GaussianPSF, MoffatPSF, OneOfPSF, PixelPSF
from lensgen.render import render
from lensgen.rng import RandomSource
from lensgen.scene import Component, Scene
from lensgen.simulator import Simulator
from lensgen.stream import LensStream

__version__ = "0.1.0"

__all__ = [
    "AdaptiveOpticsPSF",
    "Aperture",
    "Batch",
    "Benchmark",
    "Component",
    "Cosmology",
    "Detector",
    "DiffractionPSF",
    "GaussianPSF",
    "LensStream",
    "MoffatPSF",
    "Noise",
    "Observation",
    "OneOfPSF",
    "PixelPSF",
    "Preset",
    "RandomSource",
    "Scene",
    "Simulator",
    "benchmark",
    "light_profile",
    "load_preset",
    "mass_profile",
    "noise_recipe",
    "parse_overrides",
    "presets",
    "render",
]
