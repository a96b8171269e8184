"""The fused CUDA engine: scenes on a GPU as the arguments of one kernel, a block of threads for each image.

Tensors are handed over as they lie, without a copy; the kernel runs on torch's current stream.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from lensgen import fused
from lensgen.checks import require
from lensgen.errors import NOT_FINITE, ParameterError
from lensgen.observation import Noise, Observation
from lensgen.scene import Scene, check_count
from lensgen_kernels import cuda
from lensgen_kernels.block_layout import Geometry
from lensgen_kernels.block_optics import dense_weights
from lensgen_kernels.errors import CompilationError, TranslationError
from lensgen_kernels.image_block import ImageBlock, image_block
from lensgen_kernels.program import Filter, ImageProgram

RAYS = (4, 2, 1)  # that a thread works on at once: as many as the registers hold
_WORKSPACE = 1 << 29  # bytes of the device's memory for what does not fit into shared memory, of all blocks


def refusal(scene: Scene, observation: Observation, noise: Noise | None, tabulated: bool = True) -> str | None:
    """What of these the engine cannot do, or None."""
    if (reason := fused.refusal(observation)) is not None:
        return reason
    return _unfit(*program_of(scene, observation, noise, tabulated), scene.device)


@cache
def _unfit(program: ImageProgram, geometry: Geometry, device: torch.device) -> str | None:
    """Why there is no renderer of a program, or None."""
    try:
        _kernel(program, geometry, device)
    except TranslationError as error:
        return f"a formula cannot be translated: {error}"
    except CompilationError as error:
        return str(error)
    return None


def program_of(
    scene: Scene, observation: Observation, noise: Noise | None, tabulated: bool, shared: int | None = None
) -> tuple[ImageProgram, Geometry]:
    """What a renderer of scenes like this one is compiled from; for a card with `shared` bytes of shared memory a
    block, by default the scene's."""
    blur = fused.blur(observation)
    filters = () if blur is None else (blur.filter,)
    program = fused.program(scene, filters, noise, tabulated, far=tabulated)
    s = observation.supersampling
    sub, fine = (s, 1) if fused.averaged_first(observation) else (1, s)
    return program, Geometry(
        height=observation.height * fine,
        width=observation.width * fine,
        sub=sub,
        slots=tuple(map(fused.slots_of, fused.slotted(scene))),
        kernels=() if blur is None or isinstance(blur.filter, Filter) else (blur.weights.shape[-1],),
        shared=cuda.facts(scene.device).shared if shared is None else shared,
    )


# kept for good: a CUDA graph that was recorded holds addresses of what is in these two
@cache
def _kernel(program: ImageProgram, geometry: Geometry, device: torch.device) -> tuple[ImageBlock, cuda.Kernel]:
    """The renderer of a program, with as many rays at once as the device's registers hold."""
    for rays in RAYS:
        block = image_block(program, geometry, rays)
        kernel = cuda.Kernel(block.text, "lg_render")
        usage = kernel.compiled(device).usage.get("lg_render")
        if usage is None or usage.spill_stores == 0:
            break
    return block, kernel


def render(
    scene: Scene, observation: Observation, noise: Noise | None, psf_choice: Tensor | None, tabulated: bool = True
) -> Tensor:
    """Images `[B, H, W]` float32, e-/s per pixel (or in the unit of the noise recipe)."""
    device, images = scene.device, len(scene)
    block, kernel = _kernel(*program_of(scene, observation, noise, tabulated), device)
    out = cuda.empty((images, observation.height, observation.width), torch.float32, device)
    bad = cuda.empty((images,), torch.bool, device)
    blocks = images
    if block.layout.workspace:  # each block has memory of its own for one image after the other
        at_once = kernel.occupancy(device, block.layout.threads, block.layout.shared)
        room = _WORKSPACE // (4 * block.layout.workspace)
        blocks = max(1, min(images, at_once * cuda.facts(device).multiprocessors, room))
    held: list[Tensor] = [out]  # until the launch: what is made here must not be given away before
    inputs = _inputs(block, scene, observation, noise, psf_choice, held)
    inputs["out"], inputs["bad"], inputs["images"] = out.data_ptr(), bad.data_ptr(), images
    if block.layout.workspace:
        held.append(cuda.empty((blocks * block.layout.workspace,), torch.float32, device))
        inputs["workspace"] = held[-1].data_ptr()
    kernel.launch(device, blocks, block.layout.threads, block.layout.shared, (inputs,))
    counts = [(c.name, c.count, fused.slots_of(c)) for c in fused.slotted(scene)]
    require(bad, lambda position: _what_is_wrong(position, counts))
    return out


def _what_is_wrong(position: int, counts: list) -> str:
    """With an image that the kernel marked."""
    for name, count, slots in counts:
        check_count(name, count[position : position + 1], slots)
    return NOT_FINITE.format(position)


@cache
def _constants(observation: Observation, device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
    """Axes of the rays, and the kernels of a dense filter."""
    s = observation.supersampling
    # whole before it is sent: another stream may be the next to read it
    x, y = (t.reshape(s * observation.height, -1).to(torch.float32) for t in observation.rays())
    blur = fused.blur(observation)
    kernels = None
    if blur is not None and not isinstance(blur.filter, Filter):
        kernels = torch.from_numpy(dense_weights(blur.weights.numpy(), blur.filter.stride)).to(device)
    return x[0].clone().to(device), y[:, 0].contiguous().to(device), kernels


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
        if values.device != scene.device:  # a kernel would read there whatever lies at that address here
            raise ParameterError(
                f"the scene is on {scene.device}, and a tensor that goes with it (a count, a scale, or the noise's "
                f"exposure or index) on {values.device}: move it there with .to({str(scene.device)!r})."
            )
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

    several = fused.slotted(scene)
    _fill(inputs["scalar"], [column(t) for t in fused.scalars(scene)])
    _fill(inputs["slot"], [slots(c.parameters[p.name]) for c in several for p in c.profile.parameters])
    for c in several:
        if c.count is None or c.count.shape != (batch,):
            got = None if c.count is None else list(c.count.shape)
            raise ParameterError(f"{c.name}: count must be [{batch}], not {got}.")
    _fill(inputs["count"], [column(c.count, torch.int64) for c in several if c.count is not None])
    images = [kept(t, torch.float32).contiguous() for t in fused.stacks(scene)]
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
