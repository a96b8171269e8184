"""lensgen's presets: from index to pixels, and the renderer alone with the drawing done before."""

from __future__ import annotations

import torch

from lensgen import LensStream, Noise, Simulator
from lensgen.draw import draw
from lensgen.errors import EngineError
from profiles.cases import Task
from profiles.contenders.contender import Refused
from profiles.contenders.lensgen_images import OnTorch


class PresetBatches(OnTorch):
    """`Simulator.batch`: drawing, rendering, noise. Never an image twice."""

    dtype = "float32"
    notes = ""

    def __init__(self, task: Task, engine: str) -> None:
        self.task, self.device, self.start = task, torch.device(task.device), 0
        self.simulator = Simulator(task.case.name, task.seed, task.device, engine)

    def render(self) -> int:
        try:
            self.batch = self.simulator.batch(self.start, self.task.rendered)
        except EngineError as error:
            raise Refused(str(error)) from error
        self.start += self.task.rendered
        return self.task.rendered

    def check_images(self) -> None:
        return None  # tests/test_lenstronomy_images.py compares drawn systems


class PresetStream(PresetBatches):
    """`LensStream`, as a training loop takes it: on a GPU it simulates ahead."""

    def __init__(self, task: Task, engine: str) -> None:
        self.task, self.device = task, torch.device(task.device)
        self.batches = iter(LensStream(task.case.name, task.rendered, task.seed, task.device, engine))

    def render(self) -> int:
        try:
            self.batch = next(self.batches)
        except EngineError as error:
            raise Refused(str(error)) from error
        return self.task.rendered


class PresetRenders(PresetBatches):
    """`render` of systems that are drawn already."""

    def __init__(self, task: Task, engine: str) -> None:
        super().__init__(task, engine)
        preset, random = self.simulator.preset, self.simulator.random
        index = torch.arange(task.rendered, device=self.device)
        systems = draw(preset, random, index)
        self.scene, self.observation, self.engine = systems.scene, preset.bands[0].observation, self.simulator.engine
        self.noise = Noise(preset.recipe, preset.bands[0].detector, systems.exposure[0], random, index)

    def render(self) -> int:
        return self.images(self.scene, self.observation, self.noise, self.engine)
