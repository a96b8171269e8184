"""The truth beside the image: what a stored data set cannot give. One function an output, named in `TRUTHS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lensgen.detectability import detectability
from lensgen.draw import Systems
from lensgen.observation import Noise, Observation
from lensgen.render import render
from lensgen.scene import Scene


@dataclass(frozen=True)
class View:
    """B systems in one band."""

    systems: Systems
    band: int
    observation: Observation
    noise: Noise
    engine: str

    @property
    def scene(self) -> Scene:
        return self.systems.in_band(self.band)[0]

    @property
    def smooth(self) -> Scene:
        """Without substructure."""
        return self.systems.in_band(self.band)[1]

    def image(self, scene: Scene, noise: Noise | None = None) -> Tensor:
        """Images `[B, H, W]` of a scene through this band's optics."""
        return render(scene, self.observation, noise, self.engine, self.systems.psf_choice[self.band])


def clean(views: list[View]) -> Tensor:
    """Noise-free images `[B, C, H, W]`."""
    return torch.stack([view.image(view.scene) for view in views], 1)


def smooth(views: list[View]) -> Tensor:
    """Noise-free images of the same systems without substructure, `[B, C, H, W]`."""
    return torch.stack([view.image(view.smooth) for view in views], 1)


def _detectability(views: list[View]) -> Tensor:
    return detectability(views[0].systems, [view.observation for view in views], [view.noise for view in views])


TRUTHS: dict[str, Callable[[list[View]], Tensor]] = {
    "clean": clean,
    "smooth": smooth,
    "detectability": _detectability,
}
