"""The fused CPU engine: what lensgen knows, in the terms of `lensgen_kernels`.

The kernels are made of the same formulas that the torch engine calls: nothing of a profile or a noise recipe is
written here. Same bits however batched and on however many threads: each image is worked out by itself.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from lensgen.errors import ParameterError
from lensgen.noise import NoiseRecipe
from lensgen.observation import Noise, Observation
from lensgen.profile import MassProfile
from lensgen.psf.psf import within_reach
from lensgen.rng import name_hash
from lensgen.scene import Component, Scene, check_count
from lensgen_kernels import cpu, tables
from lensgen_kernels.errors import TranslationError
from lensgen_kernels.filters import DenseFilter, Filter, dense_weights
from lensgen_kernels.lanes import LANES
from lensgen_kernels.program import ImageProgram, NoiseTerm, Term

_DETECTOR = ("sky", "total_read_noise", "read_variance")
_UNIFORMS = ("shot", "read")
_LARGEST_KERNEL = 129  # rays on a side: beyond, rendering with the torch engine's Fourier transforms is as fast


def refusal(scene: Scene, observation: Observation, noise: Noise | None, tabulated: bool = True) -> str | None:
    """What of these the engine cannot do, or None."""
    if observation.psf.separable(observation.pixel_scale) is None:
        size = _kernels(observation).shape[-1]
        if size > _LARGEST_KERNEL:
            return f"its PSF kernels have at most {_LARGEST_KERNEL}x{_LARGEST_KERNEL} pixels, this one {size}x{size}"
    return _untranslatable(_program(scene, observation, noise, tabulated))


@lru_cache(maxsize=256)
def _untranslatable(program: ImageProgram) -> str | None:
    """What of a program cannot be translated, or None."""
    try:
        cpu.prepare(program)
    except TranslationError as error:
        return f"a formula cannot be translated: {error}"
    return None


def render(
    scene: Scene, observation: Observation, noise: Noise | None, psf_choice: Tensor | None, tabulated: bool = True
) -> Tensor:
    """Images `[B, H, W]` float32, e-/s per pixel (or in the unit of the noise recipe)."""
    batch, s = len(scene), observation.supersampling
    out = torch.from_numpy(cpu.empty((batch, observation.height * observation.width)))
    scalars = _scalars(scene, batch)
    slots = [_slots(c, batch) for c in scene.components if c.count is not None]
    cpu.render(
        _program(scene, observation, noise, tabulated),
        out.numpy(),
        scalars,
        slots,
        _stacks(scene),
        _rays(observation),
        (s * observation.height, s * observation.width),
        observation.pixel_scale**2,
        [weights for _, weights in _filters(observation)],
        np.zeros(batch, np.int64) if psf_choice is None else _array(psf_choice, torch.int64),
        _noise_numbers(noise, batch),
        torch.get_num_threads(),
    )
    return out.unflatten(1, (observation.height, observation.width))


def _program(scene: Scene, observation: Observation, noise: Noise | None, tabulated: bool) -> ImageProgram:
    return ImageProgram(
        mass=tuple(_term(c, "deflection") for c in scene.mass),
        source=tuple(_term(c, "surface_brightness") for c in scene.source),
        lens_light=tuple(_term(c, "surface_brightness") for c in scene.lens_light),
        scaled=scene.deflection_scale is not None,
        filters=tuple(f for f, _ in _filters(observation)),
        noise=None if noise is None else _noise_term(noise.recipe),
        tabulated=tabulated and tables.supported(),
    )


def _term(component: Component, what: str) -> Term:
    profile = component.profile
    statics = tuple(component.statics[name] for name in profile.statics)
    smooth = isinstance(profile, MassProfile) and profile.smooth
    shapes = tuple(tuple(component.arrays[name].shape) for name in profile.arrays)
    return Term(profile.formulas[what], len(profile.parameters), statics, component.count is not None, smooth, shapes)


@lru_cache(maxsize=64)
def _noise_term(recipe: NoiseRecipe) -> NoiseTerm:
    return NoiseTerm(recipe.apply, _DETECTOR, _UNIFORMS)


def _kernels(observation: Observation) -> Tensor:
    """`[n, k, k]`, for rays where the PSF is applied to these, else for pixels."""
    s = observation.supersampling if observation.psf_supersampled else 1
    kernels = observation.psf.kernels(observation.pixel_scale / s)
    return within_reach(kernels, s * observation.height, s * observation.width)


@lru_cache(maxsize=64)
def _filters(observation: Observation) -> list[tuple[Filter | DenseFilter, np.ndarray]]:
    """The optics as filters and their weights: the mean over a pixel's rays, and the PSF; where the rays are convolved,
    both are done together."""
    s, psf = observation.supersampling, observation.psf
    mean = torch.full((s,), 1.0 / s, dtype=torch.float64)
    fine = observation.psf_supersampled and s > 1
    one = psf.separable(observation.pixel_scale / (s if fine else 1))
    blur: list[tuple[Filter | DenseFilter, np.ndarray]] = []
    if one is None:
        kernels = _kernels(observation).flip(1, 2)  # a convolution is the correlation with the kernel turned round
        if fine:
            block = (mean[:, None] * mean).view(1, 1, s, s)
            kernels = torch.nn.functional.conv2d(kernels.unsqueeze(1), block, padding=s - 1).squeeze(1)
        stride = s if fine else 1
        blur = [(DenseFilter(stride), dense_weights(kernels.numpy(), stride))]
    else:
        weights = torch.tensor(one, dtype=torch.float64)
        radius = len(weights) // 2
        if fine:
            weights = torch.nn.functional.conv1d(weights.view(1, 1, -1), mean.view(1, 1, -1), padding=s - 1).flatten()
        if fine or radius > 0:
            filter = Filter(len(weights), s if fine else 1, radius, psf.edge)
            blur = [(filter, _array(weights, torch.float32))]
    if fine or s == 1:
        return blur
    return [(Filter(s, s, 0, "nearest"), _array(mean, torch.float32)), *blur]


def _scalars(scene: Scene, batch: int) -> np.ndarray:
    """The numbers of components without slots, `[B, S]`, in the kernel's order."""

    def of(components: tuple[Component, ...]) -> list[Tensor]:
        return [c.parameters[p.name] for c in components if c.count is None for p in c.profile.parameters]

    scale = [] if scene.deflection_scale is None else [scene.deflection_scale]
    columns = of(scene.mass) + scale + of(scene.source + scene.lens_light)
    return _array(torch.stack(columns, 1) if columns else torch.empty(batch, 0), torch.float32)


def _slots(component: Component, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Parameters `[B, N, P]` and counts `[B]`; checked, because a kernel reads where the counts tell it to."""
    count = component.count
    values = torch.stack([component.parameters[p.name] for p in component.profile.parameters], 2)
    if count is None or count.shape != (batch,):
        raise ParameterError(
            f"{component.name}: count must be [{batch}], not {None if count is None else list(count.shape)}."
        )
    check_count(component.name, count, values.shape[1])
    return _array(values, torch.float32), _array(count, torch.int64)


def _stacks(scene: Scene) -> list[np.ndarray]:
    """The images that components are made of, `[n * h * w]` each, in the kernel's order."""
    lenses: list[Component] = sorted(scene.mass, key=lambda c: c.count is None)
    in_order: list[Component] = [*lenses, *scene.source, *scene.lens_light]
    return [_array(c.arrays[name].flatten(), torch.float32) for c in in_order for name in c.profile.arrays]


def _array(values: Tensor, dtype: torch.dtype) -> np.ndarray:
    """For a kernel: one dtype and one layout, so that it is compiled once."""
    return values.detach().to(dtype).contiguous().numpy()


@lru_cache(maxsize=16)
def _rays(observation: Observation) -> tuple[np.ndarray, np.ndarray]:
    """x and y of all rays, and some more to fill the last vector."""
    x, y = observation.rays()
    padding = (0, -len(x) % LANES)
    x, y = (torch.nn.functional.pad(t, padding).to(torch.float32) for t in (x, y))
    return x.numpy(), y.numpy()


def _noise_numbers(noise: Noise | None, batch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Exposures, indices, keys of the random numbers, and the detector's numbers."""
    if noise is None:
        return np.ones(batch, np.float32), np.zeros(batch, np.int64), np.zeros(4, np.uint64), np.zeros(3, np.float32)
    keys = [*noise.random.key, *(name_hash(noise.variable(name)) for name in _UNIFORMS)]
    detector = [getattr(noise.detector, name) for name in _DETECTOR]
    return (
        _array(noise.exposure, torch.float32),
        _array(noise.index, torch.int64),
        np.array(keys, np.uint64),
        np.array(detector, np.float32),
    )
