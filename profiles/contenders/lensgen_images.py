"""lensgen's engines, as `lensgen.render` calls them: of a scene that is drawn already."""

from __future__ import annotations

import contextlib

import numpy as np
import torch

from lensgen import Noise, Observation, Scene, checks
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
        """Renders, and says how many; Refused where the engine cannot.

        On a GPU images are not looked at, for which the host would wait: a stream does so when they are long there.
        """
        later = checks.postponed() if self.device.type == "cuda" else contextlib.nullcontext()
        try:
            with later:
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
    def check_images(self) -> np.ndarray | None:
        some = self.scene.select(torch.arange(min(CHECKED, self.task.rendered), device=self.device))
        return render(some, self.observation, None, self.engine).double().cpu().numpy()


class ReplayedImages(EngineImages):
    """The same, recorded once as a CUDA graph: the time of the device, without the host's for each call."""

    notes = "replayed"

    def __init__(self, task: Task, engine: str) -> None:
        super().__init__(task, engine)
        if self.device.type != "cuda":
            raise Refused("CUDA graphs are of a GPU")
        self._graph = torch.cuda.CUDAGraph()
        apart = torch.cuda.Stream()
        apart.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(apart):
            for _ in range(2):  # kernels are loaded, tables copied
                super().render()
        torch.cuda.current_stream().wait_stream(apart)
        with torch.cuda.graph(self._graph, stream=apart):
            super().render()

    def render(self) -> int:
        self._graph.replay()
        return self.task.rendered
