"""The fused CPU engine: what lensgen knows, in the terms of `lensgen_kernels`. The one file that imports it.

The kernels are made of the same formulas that the torch engine calls: nothing of a profile, a noise recipe or a
population is written here.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from lensgen.noise import Detector, NoiseRecipe
from lensgen.observation import Noise, Observation
from lensgen.psf import GaussianPSF, PixelPSF
from lensgen.rng import name_hash
from lensgen.scene import Component, Scene
from lensgen_kernels import cpu, tables
from lensgen_kernels.image_kernel import DenseFilter, Filter, ImageProgram, NoiseTerm, Term
from lensgen_kernels.intrinsics import LANES

_DETECTOR = ("sky", "total_read_noise", "read_variance")
_UNIFORMS = ("shot", "read")
TABLES = True


def _term_of(component: Component, what: str) -> Term:
    profile = component.profile
    statics = tuple(component.statics[name] for name in profile.statics)
    return Term(profile.formulas[what], len(profile.parameters), statics, component.count is not None)


@lru_cache(maxsize=64)
def _noise_term(recipe: NoiseRecipe) -> NoiseTerm | None:
    if recipe.name == "none":
        return None

    def apply(clean, exposure, detector, uniform):
        return recipe.apply(clean, exposure, detector, uniform)

    return NoiseTerm(apply, _DETECTOR, _UNIFORMS)


def _filters(observation: Observation) -> tuple[tuple[Filter | DenseFilter, ...], list[Tensor]]:
    """The optics: average over a pixel's rays, and PSF, as filters with their weights."""
    s, psf = observation.supersampling, observation.psf
    fine = observation.psf_supersampled
    scale = observation.pixel_scale / s if fine else observation.pixel_scale
    box = torch.full((s,), 1.0 / s, dtype=torch.float64)
    if isinstance(psf, PixelPSF):
        # a convolution is the correlation with the kernel turned round
        blur: list[tuple[Filter | DenseFilter, Tensor]] = [
            (DenseFilter(psf.kernel.shape[0]), psf.kernel.flip(0, 1).flatten())
        ]
    else:
        weights = torch.tensor(psf.weights(scale), dtype=torch.float64)
        radius = len(weights) // 2
        if fine and s > 1:  # both are sums over rows and columns: one filter does them together
            both = torch.nn.functional.conv1d(weights.view(1, 1, -1), box.view(1, 1, -1), padding=s - 1).flatten()
            return (Filter(len(both), s, radius, psf.edge),), [both]
        blur = [(Filter(len(weights), 1, radius, psf.edge), weights)] if radius > 0 else []
    average: list[tuple[Filter | DenseFilter, Tensor]] = [(Filter(s, s, 0, "nearest"), box)] if s > 1 else []
    steps = blur + average if fine else average + blur
    return tuple(f for f, _ in steps), [w for _, w in steps]


def _scalars(scene: Scene, components: tuple[Component, ...]) -> list[Tensor]:
    return [c.parameters[p.name] for c in components if c.count is None for p in c.profile.parameters]


def render(scene: Scene, observation: Observation, noise: Noise | None) -> Tensor:
    """Images `[B, H, W]` float32, e-/s per pixel (or in the unit of the noise recipe)."""
    filters, weights = _filters(observation)
    program = ImageProgram(
        mass=tuple(_term_of(c, "deflection") for c in scene.mass),
        source=tuple(_term_of(c, "surface_brightness") for c in scene.source),
        lens_light=tuple(_term_of(c, "surface_brightness") for c in scene.lens_light),
        scaled=scene.deflection_scale is not None,
        filters=filters,
        noise=None if noise is None else _noise_term(noise.recipe),
        tabulated=TABLES and tables.supported(),
    )
    batch, s = len(scene), observation.supersampling
    out = torch.empty(batch, observation.height, observation.width)
    columns = _scalars(scene, scene.mass)
    if scene.deflection_scale is not None:
        columns.append(scene.deflection_scale)
    columns += _scalars(scene, scene.source + scene.lens_light)
    scalars = torch.stack(columns, 1) if columns else torch.empty(batch, 0)
    slots = [
        (torch.stack([c.parameters[p.name] for p in c.profile.parameters], 2).numpy(), c.count.numpy())
        for c in scene.components
        if c.count is not None
    ]
    cpu.render(
        program,
        out.view(batch, -1).numpy(),
        scalars.numpy(),
        slots,
        _rays(observation),
        (s * observation.height, s * observation.width),
        observation.pixel_scale**2,
        [w.to(torch.float32).numpy() for w in weights],
        _noise_arrays(noise, batch),
        torch.get_num_threads(),
    )
    return out


@lru_cache(maxsize=8)
def _rays(observation: Observation) -> tuple[np.ndarray, np.ndarray]:
    x, y = observation.rays()
    padding = (0, -len(x) % LANES)
    return tuple(torch.nn.functional.pad(t, padding).to(torch.float32).numpy() for t in (x, y))


def _noise_arrays(noise: Noise | None, batch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    if noise is None:
        return np.ones(batch, np.float32), np.zeros(batch, np.int64), np.zeros(4, np.uint64), np.zeros(3, np.float32)
    keys = [*noise.random.key, *(name_hash(f"noise.{name}") for name in _UNIFORMS)]
    detector = [getattr(noise.detector, name) for name in _DETECTOR]
    return (
        noise.exposure.to(torch.float32).numpy(),
        noise.index.numpy(),
        np.array(keys, np.uint64),
        np.array(detector, np.float32),
    )
