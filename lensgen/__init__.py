"""Strong gravitational lenses, simulated inside the PyTorch training loop."""

from lensgen.batch import Batch
from lensgen.cosmology import Cosmology
from lensgen.observation import Noise, Observation
from lensgen.preset import Preset, load_preset, presets
from lensgen.render import render
from lensgen.scene import Component, Scene
from lensgen.simulator import Simulator
from lensgen.stream import LensStream

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "Component",
    "Cosmology",
    "LensStream",
    "Noise",
    "Observation",
    "Preset",
    "Scene",
    "Simulator",
    "load_preset",
    "presets",
    "render",
]
