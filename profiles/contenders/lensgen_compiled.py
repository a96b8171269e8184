"""lensgen's formulas under `torch.compile`: what one would get without a fused engine, noise-free, float32.

The whole batch at once, subhalos as one more axis that the compiler sums over: written out one by one, a hundred of
them would compile for minutes.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor

from lensgen import raytrace
from profiles.cases import Task, draw_systems
from profiles.contenders.lensgen_images import CHECKED, OnTorch
from profiles.contenders.lensgen_scene import observation_of, scene_of


class CompiledFormulas(OnTorch):
    """A function of parameter tensors to images, compiled."""

    dtype = "float32"
    notes = "whole batch at once"

    def __init__(self, task: Task) -> None:
        warnings.filterwarnings("ignore", message="Dynamo detected a call to a `functools.lru_cache`")
        self.task, self.device = task, torch.device(task.device)
        self.scene, self.observation = scene_of(draw_systems(task), task), observation_of(task)
        self.x, self.y = (t.to(self.device, torch.float32) for t in self.observation.rays())
        self.parameters = [[c.parameters[p.name] for p in c.profile.parameters] for c in self.scene.mass]
        torch._dynamo.reset()  # else the next task of this process would count as one more shape of the last
        self.compiled = torch.compile(self._images, dynamic=False)

    def _images(self, parameters: list[list[Tensor]], x: Tensor, y: Tensor) -> Tensor:
        beta_x, beta_y = x, y
        for component, values in zip(self.scene.mass, parameters, strict=True):
            values = [v.unsqueeze(-1) for v in values]
            ax, ay = component.profile.deflection(x, y, *values, **component.statics)
            beta_x, beta_y = (b - (a.sum(1) if a.dim() == 3 else a) for a, b in ((ax, beta_x), (ay, beta_y)))
        light = raytrace.surface_brightness(self.scene.source, beta_x, beta_y)
        see, s = self.observation, self.observation.supersampling
        fine = light.unflatten(1, (s * see.height, s * see.width)) * see.pixel_scale**2
        seen = see.psf.convolve(fine, see.pixel_scale / s)
        return seen if s == 1 else torch.nn.functional.avg_pool2d(seen, s)

    @torch.no_grad()
    def render(self) -> int:
        self.image = self.compiled(self.parameters, self.x, self.y)
        return len(self.image)

    def check_images(self) -> np.ndarray:
        self.render()
        return self.image[:CHECKED].double().cpu().numpy()
