"""The fused CUDA engine: scenes on a GPU as the arguments of one kernel, a block of threads for each image.

Tensors are handed over as they lie, without a copy; the kernel runs on torch's current stream.
"""

from __future__ import annotations

import dataclasses
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from lensgen import fused
from lensgen.errors import ParameterError
from lensgen.observation import Noise, Observation
from lensgen.scene import Scene
from lensgen_kernels import cuda
from lensgen_kernels.block_layout import Geometry
from lensgen_kernels.errors import TranslationError
from lensgen_kernels.filters import Filter
from lensgen_kernels.image_block import ImageBlock, dense_weights, image_block
from lensgen_kernels.program import ImageProgram

NONE_BAD = 2**31 - 1  # what stands for "every image is finite"


def refusal(scene: Scene, observation: Observation, noise: Noise | None, tabulated: bool = True) -> str | None:
    """What of these the engine cannot do, or None."""
    if any(c.count is not None for c in (*scene.source, *scene.lens_light)):
        return "a light that a system has several of"
    if (reason := fused.refusal(observation)) is not None:
        return reason
    return _untranslatable(*_program(scene, observation, noise, tabulated))


@lru_cache(maxsize=256)
def _untranslatable(program: ImageProgram, geometry: Geometry) -> str | None:
    try:
        image_block(program, geometry)
    except TranslationError as error:
        return f"a formula cannot be translated: {error}"
    return None


def _program(
    scene: Scene, observation: Observation, noise: Noise | None, tabulated: bool
) -> tuple[ImageProgram, Geometry]:
    blur = fused.blur(observation)
    program = fused.program(scene, () if blur is None else (blur.filter,), noise, tabulated)
    s = observation.supersampling
    sub, fine = (s, 1) if fused.averaged_first(observation) else (1, s)
    return program, Geometry(
        height=observation.height * fine,
        width=observation.width * fine,
        sub=sub,
        slots=tuple(fused.slots_of(c) for c in scene.mass if c.count is not None),
        kernels=() if blur is None or isinstance(blur.filter, Filter) else (blur.weights.shape[-1],),
        shared=_shared_memory(scene.device),
    )


def kernel(scene: Scene, observation: Observation, noise: Noise | None, tabulated: bool = True) -> ImageBlock:
    """The renderer of scenes like this one."""
    return image_block(*_program(scene, observation, noise, tabulated))


def render(
    scene: Scene, observation: Observation, noise: Noise | None, psf_choice: Tensor | None, tabulated: bool = True
) -> Tensor:
    """Images `[B, H, W]` float32, e-/s per pixel (or in the unit of the noise recipe)."""
    block = kernel(scene, observation, noise, tabulated)
    device, images = scene.device, len(scene)
    out = torch.empty((images, observation.height, observation.width), dtype=torch.float32, device=device)
    blocks = min(images, _blocks_at_once(block, device)) if block.layout.workspace else images
    held: list[Tensor] = [out]  # until the launch: what is made here must not be given away before
    bad = torch.full((1,), NONE_BAD, dtype=torch.int32, device=device)
    inputs = _inputs(block, scene, observation, noise, psf_choice, held)
    inputs["out"], inputs["bad"], inputs["images"] = out.data_ptr(), bad.data_ptr(), images
    if block.layout.workspace:
        held.append(torch.empty(blocks * block.layout.workspace, dtype=torch.float32, device=device))
        inputs["workspace"] = held[-1].data_ptr()
    _launch(block, inputs, blocks, device)
    return out


def _shared_memory(device: torch.device) -> int:
    return cuda.facts(device).shared


def _blocks_at_once(block: ImageBlock, device: torch.device) -> int:
    raise NotImplementedError


def _launch(block: ImageBlock, inputs: np.ndarray, blocks: int, device: torch.device) -> None:
    raise NotImplementedError


@lru_cache(maxsize=32)
def _constants(observation: Observation, device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
    """Axes of the rays, and the kernels of a dense filter."""
    s = observation.supersampling
    x, y = (t.reshape(s * observation.height, -1).to(device, torch.float32) for t in observation.rays())
    blur = fused.blur(observation)
    kernels = None
    if blur is not None and not isinstance(blur.filter, Filter):
        kernels = torch.from_numpy(dense_weights(blur.weights.numpy(), blur.filter.stride)).to(device)
    return x[0].contiguous(), y[:, 0].contiguous(), kernels


def _inputs(
    block: ImageBlock,
    scene: Scene,
    observation: Observation,
    noise: Noise | None,
    psf_choice: Tensor | None,
    held: list[Tensor],
) -> np.ndarray:
    """The kernel's argument, all but where it writes. Tensors that are made for it are put into `held`."""
    inputs = np.zeros((), block.inputs)
    batch = len(scene)

    def kept(values: Tensor, dtype: torch.dtype) -> Tensor:
        values = values.detach()
        if values.dtype != dtype:
            values = values.to(dtype)
        held.append(values)
        return values

    def column(values: Tensor, dtype: torch.dtype = torch.float32) -> tuple[int, int]:
        values = kept(values, dtype)
        return values.data_ptr(), values.stride(0)

    def slots(values: Tensor) -> tuple[int, int]:
        values = kept(values, torch.float32)
        if values.shape[1] > 1 and values.stride(1) != 1:
            held.append(values := values.contiguous())
        return values.data_ptr(), values.stride(0)

    several = [c for c in scene.mass if c.count is not None]
    _fill(inputs["scalar"], [column(t) for t in fused.scalars(scene)])
    _fill(inputs["slot"], [slots(c.parameters[p.name]) for c in several for p in c.profile.parameters])
    for c in several:
        if c.count is None or c.count.shape != (batch,):
            raise ParameterError(f"{c.name}: count must be [{batch}], not {list(c.count.shape)}.")
    _fill(inputs["count"], [column(c.count, torch.int64) for c in several if c.count is not None])
    images = [kept(t, torch.float32).contiguous() for t in fused.stacks(scene, slotted_first=False)]
    held.extend(images)
    _fill(inputs["array"], [t.data_ptr() for t in images])
    x, y, kernels = _constants(observation, scene.device)
    inputs["x_axis"], inputs["y_axis"] = x.data_ptr(), y.data_ptr()
    blur = fused.blur(observation)
    if kernels is not None:
        inputs["kernel"][0] = kernels.data_ptr()
        zero = torch.zeros((1,), dtype=torch.int64, device=scene.device) if psf_choice is None else psf_choice
        at, step = column(zero, torch.int64)
        inputs["choice"] = at, 0 if psf_choice is None else step
    elif blur is not None:
        inputs["weights0"] = blur.weights.numpy()
    s = observation.supersampling
    first = fused.averaged_first(observation)
    inputs["area"] = observation.pixel_scale**2 / (s * s if first else 1)
    inputs["spacing"] = observation.pixel_scale / (1 if first else s)
    if noise is not None:
        inputs["key0"], inputs["key1"], *names = fused.noise_keys(noise)
        inputs["name"] = names
        inputs["detector"] = fused.detector_numbers(noise)
        inputs["exposure"] = column(noise.exposure)
        index = kept(noise.index, torch.int64).contiguous()
        held.append(index)
        inputs["index"] = index.data_ptr()
    return inputs


def _fill(field: np.ndarray, values: list) -> None:
    for k, value in enumerate(values):
        field[k] = value
