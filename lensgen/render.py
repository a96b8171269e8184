"""Scene and observation -> image. Picks the engine, and refuses by name what an engine cannot do."""

from __future__ import annotations

import torch
from torch import Tensor

from lensgen import torch_engine
from lensgen.errors import ParameterError, unknown_name
from lensgen.observation import Noise, Observation
from lensgen.scene import Scene

ENGINES = {"torch": torch_engine.render}


def pick_engine(engine: str) -> str:
    """ "auto" or an engine's name -> the engine that will run; UnknownNameError for any other."""
    if engine == "auto":
        return "torch"
    if engine not in ENGINES:
        raise unknown_name("engine", engine, (*ENGINES, "auto"))
    return engine


def render(scene: Scene, observation: Observation, noise: Noise | None = None, engine: str = "auto") -> Tensor:
    """Images `[B, H, W]` in the dtype and on the device of the scene, e-/s per pixel unless the recipe says counts.

    The same system gives the same bits, however systems are batched, on the same machine with as many threads.

    Args:
        scene: B systems.
        observation: pixel grid and PSF.
        noise: None for the noise-free image.
        engine: "auto" or "torch".

    Raises:
        UnknownNameError: no such engine.
        ParameterError: an image holds a value that is not finite.
    """
    if noise is not None and len(noise.index) != len(scene):
        raise ParameterError(
            f"the noise is for {len(noise.index)} images, the scene holds {len(scene)}: give one each."
        )
    image = ENGINES[pick_engine(engine)](scene, observation, noise)
    bad = ~torch.isfinite(image.detach()).flatten(1).all(1)
    if bool(bad.any()):
        raise ParameterError(
            f"image {int(bad.nonzero()[0])} of the batch is not finite: a parameter of the scene is not a number "
            "or far out of range. Component.make checks parameters; build components with it."
        )
    return image
