"""The reference renderer, in plain torch: any device, float32 and float64, differentiable.

Same bits however batched, and on however many threads: systems are rendered in chunks of one fixed shape, the last
one padded, on one thread, in rows of whole multiples of 64 numbers. So every number of every image takes
the same path through torch's vector code, whichever slot of a chunk it sits in. A chunk also fits the cache, which
is worth several times in speed (profiles/LOG.md).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from lensgen import raytrace
from lensgen.observation import Noise, Observation
from lensgen.scene import Scene

_ROW = 64  # a multiple of every vector length, twice over
_CPU_CHUNK = 28 * 1024  # numbers: some ten temporaries of that size fit a core's cache
_DEVICE_CHUNK = 1 << 22


def _padded(length: int) -> int:
    return -(-length // _ROW) * _ROW


def chunk_size(row: int, device: torch.device) -> int:
    """How many images with `row` numbers each are worked on at a time: it follows from the preset and the kind of
    device alone."""
    budget = _CPU_CHUNK if device.type == "cpu" else _DEVICE_CHUNK
    return max(1, budget // _padded(row))


def _mean_of_blocks(image: Tensor, s: int) -> Tensor:
    """`[K, sH, sW]` -> `[K, H, W]`, the terms added in order."""
    if s == 1:
        return image
    total: Tensor | None = None
    for i in range(s):
        for j in range(s):
            part = image[:, i::s, j::s]
            total = part if total is None else total + part
    assert total is not None
    return total * (1.0 / (s * s))


def _clean(scene: Scene, observation: Observation, x: Tensor, y: Tensor, choice: Tensor | None) -> Tensor:
    """Noise-free images `[K, H, W]` of one chunk."""
    s = observation.supersampling
    beta_x, beta_y = raytrace.source_position(scene, x, y)
    light = raytrace.surface_brightness(scene.source, beta_x, beta_y)
    if scene.lens_light:
        light = light + raytrace.surface_brightness(scene.lens_light, x, y)
    fine = light[:, : s * s * observation.height * observation.width]
    fine = fine.unflatten(1, (s * observation.height, s * observation.width)) * observation.pixel_scale**2
    if observation.psf_supersampled:
        return _mean_of_blocks(observation.psf.convolve(fine, observation.pixel_scale / s, choice), s)
    return observation.psf.convolve(_mean_of_blocks(fine, s), observation.pixel_scale, choice)


def _noisy(clean: Tensor, noise: Noise, chunk: Tensor) -> Tensor:
    pixels = clean.shape[1] * clean.shape[2]
    row = _padded(pixels)
    flat = torch.nn.functional.pad(clean.flatten(1), (0, row - pixels))
    exposure = noise.exposure[chunk].to(clean.dtype).unsqueeze(1)

    def uniform(name: str) -> Tensor:
        return noise.random.uniforms(noise.index[chunk], noise.variable(name), row).to(clean.dtype)

    return noise.recipe.apply(flat, exposure, noise.detector, uniform)[:, :pixels].unflatten(1, clean.shape[1:])


@contextlib.contextmanager
def _single_thread() -> Iterator[None]:
    """A chunk is too small to be worth splitting, and where torch splits it an image's bits depend on its slot.

    The setting is the process's: renders in several threads of one process would undo each other's.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _in_chunks(work: Callable[[Tensor], Tensor], order: Tensor, size: int) -> Tensor:
    """`work(systems)` for all systems `[B]`, `size` at a time along `order`; results in their own order."""
    done = []
    with _single_thread():
        for chunk in order.split(size):
            filled = torch.cat((chunk, chunk[:1].expand(size - len(chunk))))
            done.append(work(filled)[: len(chunk)])
    return torch.cat(done)[torch.argsort(order)]


def refusal(scene: Scene, observation: Observation, noise: Noise | None) -> str | None:
    """None: this engine takes every scene."""
    return None


def _rays(observation: Observation, scene: Scene) -> tuple[Tensor, Tensor]:
    """x and y of all rays, padded with zeros, as the scene's formulas take them."""
    x, y = (
        torch.nn.functional.pad(t, (0, _padded(t.numel()) - t.numel())).to(device=scene.device, dtype=scene.dtype)
        for t in observation.rays()
    )
    return x, y


def _fullest_last(scene: Scene) -> Tensor:
    """An order of the systems that has like with like: a chunk loops over the slots of its fullest system."""
    used = sum((c.count for c in scene.components if c.count is not None), torch.zeros(len(scene), device=scene.device))
    return torch.argsort(used, stable=True)


def render(scene: Scene, observation: Observation, noise: Noise | None, psf_choice: Tensor | None) -> Tensor:
    """Images `[B, H, W]` in the scene's dtype, e-/s per pixel (or in the unit of the noise recipe)."""
    device = scene.device
    dtype = scene.dtype
    scene = scene.to(dtype=dtype)
    x, y = _rays(observation, scene)
    order = _fullest_last(scene)

    def work(systems: Tensor) -> Tensor:
        choice = None if psf_choice is None else psf_choice[systems]
        return _clean(scene.select(systems), observation, x, y, choice)

    rays = observation.supersampling**2 * observation.height * observation.width
    clean = _in_chunks(work, order, chunk_size(rays, device))
    if noise is None:
        return clean
    every = torch.arange(len(scene), device=device)
    size = chunk_size(clean[0].numel(), device)
    return _in_chunks(lambda systems: _noisy(clean[systems], noise, systems), every, size)


def at_pixels(scene: Scene, observation: Observation, what: Callable[[Scene, Tensor, Tensor], Tensor]) -> Tensor:
    """`what(scene, x, y)`, `[K, ..., P]`, at the centres of the pixels of all systems: `[B, ..., H, W]`.

    x and y are `[K, P]`, in the scene's dtype.
    """
    pixels = replace(observation, supersampling=1)
    x, y = _rays(pixels, scene)
    size = pixels.height * pixels.width

    def work(systems: Tensor) -> Tensor:
        shape = (len(systems), -1)
        return what(scene.select(systems), x.expand(shape), y.expand(shape))[..., :size]

    few = -(-chunk_size(size, scene.device) // 4)  # float64, derivatives: more memory than an image takes
    return _in_chunks(work, _fullest_last(scene), few).unflatten(-1, (pixels.height, pixels.width))
