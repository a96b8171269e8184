"""The fused CPU engine: what lensgen knows, in the terms of `lensgen_kernels`.

The kernels are made of the same formulas that the torch engine calls: nothing of a profile or a noise recipe is
written here. Same bits however batched and on however many threads: each image is worked out by itself.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from lensgen import fused
from lensgen.errors import ParameterError
from lensgen.observation import Noise, Observation
from lensgen.scene import Component, Scene, check_count
from lensgen_kernels import cpu, tables
from lensgen_kernels.errors import TranslationError
from lensgen_kernels.filters import dense_weights
from lensgen_kernels.lanes import LANES
from lensgen_kernels.program import DenseFilter, Filter, ImageProgram


def refusal(scene: Scene, observation: Observation, noise: Noise | None, tabulated: bool = True) -> str | None:
    """What of these the engine cannot do, or None."""
    if (reason := fused.refusal(observation)) is not None:
        return reason
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
    slots = [_slots(c, batch) for c in fused.slotted(scene)]
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
    filters = tuple(f for f, _ in _filters(observation))
    return fused.program(scene, filters, noise, tabulated and tables.supported(), far=tabulated)


@lru_cache(maxsize=64)
def _filters(observation: Observation) -> list[tuple[Filter | DenseFilter, np.ndarray]]:
    """The optics as filters and their weights: the mean over a pixel's rays, and the PSF."""
    found: list[tuple[Filter | DenseFilter, np.ndarray]] = []
    if fused.averaged_first(observation):
        s = observation.supersampling
        found.append((Filter(s, s, 0, "nearest"), np.full(s, 1.0 / s, np.float32)))
    if (blur := fused.blur(observation)) is not None:
        if isinstance(blur.filter, DenseFilter):
            found.append((blur.filter, dense_weights(blur.weights.numpy(), blur.filter.stride)))
        else:
            found.append((blur.filter, _array(blur.weights, torch.float32)))
    return found


def _scalars(scene: Scene, batch: int) -> np.ndarray:
    """The numbers of components without slots, `[B, S]`."""
    columns = fused.scalars(scene)
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
    """The images that components are made of, `[n * h * w]` each."""
    return [_array(stack.flatten(), torch.float32) for stack in fused.stacks(scene)]


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
    keys, detector = fused.noise_keys(noise), fused.detector_numbers(noise)
    return (
        _array(noise.exposure, torch.float32),
        _array(noise.index, torch.int64),
        np.array(keys, np.uint64),
        np.array(detector, np.float32),
    )
