"""What both fused engines render: scenes and observations in the terms of `lensgen_kernels`.

Their kernels are made of the same formulas that the torch engine calls: nothing of a profile or a noise recipe is
written here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from lensgen.noise import NoiseRecipe
from lensgen.observation import Noise, Observation
from lensgen.profile import MassProfile
from lensgen.psf.psf import within_reach
from lensgen.scene import Component, Scene
from lensgen_kernels.far_field import MANY
from lensgen_kernels.program import DenseFilter, Filter, ImageProgram, NoiseTerm, Term

DETECTOR = ("sky", "total_read_noise", "read_variance")
UNIFORMS = ("shot", "read")
LARGEST_KERNEL = 129  # rays on a side: beyond, rendering with the torch engine's Fourier transforms is as fast


@dataclass(frozen=True)
class Blur:
    """The point-spread function as a filter; where rays are convolved, with the mean over a pixel's rays.

    Args:
        filter: what kind.
        weights: float64, `[taps]`, or kernels `[n, k, k]`.
    """

    filter: Filter | DenseFilter
    weights: Tensor


def refusal(observation: Observation) -> str | None:
    """What of an observation no fused engine can do, or None."""
    if observation.psf.separable(observation.pixel_scale) is None:
        size = _kernels(observation).shape[-1]
        if size > LARGEST_KERNEL:
            return f"its PSF kernels have at most {LARGEST_KERNEL}x{LARGEST_KERNEL} pixels, this one {size}x{size}"
    return None


def averaged_first(observation: Observation) -> bool:
    """Whether a pixel's rays are averaged before anything else, and not by the PSF's filter."""
    return observation.supersampling > 1 and not observation.psf_supersampled


def program(
    scene: Scene, filters: tuple[Filter | DenseFilter, ...], noise: Noise | None, tabulated: bool, far: bool
) -> ImageProgram:
    """What a renderer of scenes like this one is specialised by; `far` allows far fields."""
    return ImageProgram(
        mass=tuple(_term(c, "deflection", far) for c in scene.mass),
        source=tuple(_term(c, "surface_brightness") for c in scene.source),
        lens_light=tuple(_term(c, "surface_brightness") for c in scene.lens_light),
        scaled=scene.deflection_scale is not None,
        filters=filters,
        noise=None if noise is None else _noise_term(noise.recipe),
        tabulated=tabulated,
    )


def slots_of(component: Component) -> int:
    """How many slots a component has room for."""
    return next(iter(component.parameters.values())).shape[1] if component.parameters else 0


def _term(component: Component, what: str, far: bool = False) -> Term:
    profile = component.profile
    statics = tuple(component.statics[name] for name in profile.statics)
    smooth = isinstance(profile, MassProfile) and profile.smooth
    shapes = tuple(tuple(component.arrays[name].shape) for name in profile.arrays)
    slotted = component.count is not None
    many = far and slotted and slots_of(component) >= MANY
    return Term(profile.formulas[what], len(profile.parameters), statics, slotted, smooth, shapes, many)


@lru_cache(maxsize=64)
def _noise_term(recipe: NoiseRecipe) -> NoiseTerm:
    return NoiseTerm(recipe.apply, DETECTOR, UNIFORMS)


def _kernels(observation: Observation) -> Tensor:
    """`[n, k, k]`, for rays where the PSF is applied to these, else for pixels."""
    s = observation.supersampling if observation.psf_supersampled else 1
    kernels = observation.psf.kernels(observation.pixel_scale / s)
    return within_reach(kernels, s * observation.height, s * observation.width)


@lru_cache(maxsize=64)
def blur(observation: Observation) -> Blur | None:
    """The PSF, together with the mean over a pixel's rays where the rays are convolved; None if there is neither."""
    s, psf = observation.supersampling, observation.psf
    mean = torch.full((s,), 1.0 / s, dtype=torch.float64)
    fine = observation.psf_supersampled and s > 1
    one = psf.separable(observation.pixel_scale / (s if fine else 1))
    stride = s if fine else 1
    if one is None:
        kernels = _kernels(observation).flip(1, 2)  # a convolution is the correlation with the kernel turned round
        if fine:
            block = (mean[:, None] * mean).view(1, 1, s, s)
            kernels = torch.nn.functional.conv2d(kernels.unsqueeze(1), block, padding=s - 1).squeeze(1)
        return Blur(DenseFilter(stride), kernels)
    weights = torch.tensor(one, dtype=torch.float64)
    radius = len(weights) // 2
    if fine:
        weights = torch.nn.functional.conv1d(weights.view(1, 1, -1), mean.view(1, 1, -1), padding=s - 1).flatten()
    if fine or radius > 0:
        return Blur(Filter(len(weights), stride, radius, psf.edge), weights)
    return None


def scalars(scene: Scene) -> list[Tensor]:
    """The numbers of components without slots, `[B]` each, in the kernels' order."""

    def of(components: tuple[Component, ...]) -> list[Tensor]:
        return [c.parameters[p.name] for c in components if c.count is None for p in c.profile.parameters]

    scale = [] if scene.deflection_scale is None else [scene.deflection_scale]
    return of(scene.mass) + scale + of(scene.source + scene.lens_light)


def slotted(scene: Scene) -> list[Component]:
    """The components with slots, in the kernels' order."""
    return [c for c in scene.components if c.count is not None]


def stacks(scene: Scene) -> list[Tensor]:
    """The images that components are made of, in the kernels' order: those of slotted lenses first."""
    lenses: list[Component] = sorted(scene.mass, key=lambda c: c.count is None)
    return [c.arrays[n] for c in [*lenses, *scene.source, *scene.lens_light] for n in c.profile.arrays]


def noise_keys(noise: Noise) -> list[int]:
    """Two words of the seed, and one for each random number of a pixel."""
    return [*noise.random.key, *(noise.random.hash_of(noise.variable(name)) for name in UNIFORMS)]


def detector_numbers(noise: Noise) -> list[float]:
    return [getattr(noise.detector, name) for name in DETECTOR]
