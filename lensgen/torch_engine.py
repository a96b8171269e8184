"""The reference renderer, in plain torch: any device, float32 and float64, differentiable.

Same bits however batched, and on however many threads: systems are rendered in chunks of one fixed shape, the last
one padded, each chunk on one thread, in rows of whole multiples of 64 numbers. So every number of every image takes
the same path through torch's vector code, whichever slot of a chunk it sits in. A chunk also fits the cache, which
is worth several times in speed (profiles/LOG.md).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

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


def chunk_size(observation: Observation, device: torch.device) -> int:
    """How many images are rendered at a time: it follows from the preset and the kind of device alone."""
    row = _padded(observation.height * observation.width * observation.supersampling**2)
    budget = _CPU_CHUNK if device.type == "cpu" else _DEVICE_CHUNK
    return max(1, budget // row)


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


def _clean(scene: Scene, observation: Observation, x: Tensor, y: Tensor) -> Tensor:
    """Noise-free images `[K, H, W]` of one chunk."""
    s = observation.supersampling
    beta_x, beta_y = raytrace.source_position(scene, x, y)
    light = raytrace.surface_brightness(scene.source, beta_x, beta_y)
    if scene.lens_light:
        light = light + raytrace.surface_brightness(scene.lens_light, x, y)
    fine = light[:, : s * s * observation.height * observation.width]
    fine = fine.unflatten(1, (s * observation.height, s * observation.width)) * observation.pixel_scale**2
    if observation.psf_supersampled:
        return _mean_of_blocks(observation.psf.convolve(fine, observation.pixel_scale / s), s)
    return observation.psf.convolve(_mean_of_blocks(fine, s), observation.pixel_scale)


def _noisy(clean: Tensor, noise: Noise, chunk: Tensor) -> Tensor:
    pixels = clean.shape[1] * clean.shape[2]
    row = _padded(pixels)
    flat = torch.nn.functional.pad(clean.flatten(1), (0, row - pixels))
    exposure = noise.exposure[chunk].to(clean.dtype).unsqueeze(1)

    def uniform(name: str) -> Tensor:
        return noise.random.uniforms(noise.index[chunk], f"noise.{name}", row).to(clean.dtype)

    return noise.recipe.apply(flat, exposure, noise.detector, uniform)[:, :pixels].unflatten(1, clean.shape[1:])


@contextlib.contextmanager
def _single_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _each_on_one_thread(
    work: Callable[[Tensor], Tensor], chunks: tuple[Tensor, ...], device: torch.device
) -> list[Tensor]:
    """`work` on every chunk, none of it split between threads, side by side where there are several threads.

    Derivatives are recorded by the thread that asks for them, so with these the chunks run one after the other.
    """
    if device.type != "cpu":
        return [work(chunk) for chunk in chunks]
    threads = min(torch.get_num_threads(), len(chunks))
    with _single_thread():
        if threads == 1 or torch.is_grad_enabled():
            return [work(chunk) for chunk in chunks]

        def in_thread(chunk: Tensor) -> Tensor:
            torch.set_num_threads(1)  # a setting of each thread
            with torch.no_grad():
                return work(chunk)

        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(in_thread, chunks))


def render(scene: Scene, observation: Observation, noise: Noise | None) -> Tensor:
    """Images `[B, H, W]` in the scene's dtype, e-/s per pixel (or in the unit of the noise recipe)."""
    device = scene.device
    dtype = next(iter(scene.components[0].parameters.values())).dtype
    x, y = (
        torch.nn.functional.pad(t, (0, _padded(t.numel()) - t.numel())).to(device=device, dtype=dtype)
        for t in observation.rays()
    )
    used = sum((c.count for c in scene.components if c.count is not None), torch.zeros(len(scene), device=device))
    order = torch.argsort(used, stable=True)  # like with like: a chunk loops over the slots of its fullest system
    size = chunk_size(observation, device)

    def one_chunk(chunk: Tensor) -> Tensor:
        filled = torch.cat((chunk, chunk[:1].expand(size - len(chunk))))
        image = _clean(scene.select(filled), observation, x, y)
        if noise is not None:
            image = _noisy(image, noise, filled)
        return image[: len(chunk)]

    return torch.cat(_each_on_one_thread(one_chunk, order.split(size), device))[torch.argsort(order)]
