"""lensgen's engines, as `lensgen.render` calls them: of a scene that is drawn already."""

from __future__ import annotations

import numpy as np
import torch

from lensgen import Noise, Observation, Scene
from lensgen.errors import EngineError
from lensgen.render import render
from profiles.cases import Task, draw_systems
from profiles.contenders.contender import Refused
from profiles.contenders.lensgen_scene import noise_of, observation_of, scene_of

CHECKED = 4  # systems whose images are compared


class OnTorch:
    """What contenders on torch share."""

    device: torch.device
    image: torch.Tensor

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    @torch.no_grad()
    def images(self, scene: Scene, observation: Observation, noise: Noise | None, engine: str) -> int:
        """Renders, and says how many; Refused where the engine cannot."""
        try:
            self.image = render(scene, observation, noise, engine)
        except EngineError as error:
            raise Refused(str(error)) from error
        return len(self.image)


class EngineImages(OnTorch):
    """One engine of lensgen, float32."""

    dtype = "float32"
    notes = ""

    def __init__(self, task: Task, engine: str) -> None:
        self.task, self.engine, self.device = task, engine, torch.device(task.device)
        self.scene = scene_of(draw_systems(task), task)
        self.observation, self.noise = observation_of(task), noise_of(task)

    def render(self) -> int:
        return self.images(self.scene, self.observation, self.noise, self.engine)

    @torch.no_grad()
    def check_images(self) -> np.ndarray:
        some = self.scene.select(torch.arange(min(CHECKED, self.task.batch), device=self.device))
        return render(some, self.observation, None, self.engine).double().cpu().numpy()
