"""Batches of one size that a GPU makes at a single call: drawing, rendering and checks, recorded as a CUDA graph.

Small batches are made in less time than the host needs to ask for them, kernel after kernel.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor

from lensgen import checks
from lensgen.batch import Batch
from lensgen.errors import LensgenError
from lensgen.notice import say_once
from lensgen.simulator import Simulator

_LARGE = 1 << 13  # images: beyond, the device is busy for longer than the host


class Recorded:
    """The images `start + offsets`, for any start.

    Args:
        simulator: of engine "cuda", of images alone.
        offsets: `[B]` int64, on its device.
    """

    def __init__(self, simulator: Simulator, offsets: Tensor) -> None:
        from lensgen_kernels import replay  # which nobody needs on a CPU

        self._simulator, self._offsets = simulator, offsets
        self._replayed = replay.Replayed(self._work, offsets.device)

    def _work(self, start: Tensor) -> Sequence[Tensor]:
        with checks.postponed() as noted:
            self._batch = self._simulator.of(start + self._offsets)
        # tensors lie in few pieces of memory: these are what is copied
        whole = {t.untyped_storage().data_ptr(): t for t in self._batch.tensors()}
        self._whole = list(whole)
        return (noted.bad(len(self._offsets)), *map(_all_of, whole.values()))

    def __call__(self, start: int) -> tuple[Batch, list[Tensor]]:
        """A batch, and one tensor of each piece of its memory; its checks are noted as those of a batch that is made
        otherwise."""
        bad, *memory = self._replayed(start)
        index = start + self._offsets

        def explain(position: int) -> str:
            self._simulator.of(index[position : position + 1])  # says what is wrong with it
            return f"image {int(index[position])} is not as it should be"

        checks.require(bad, explain)
        checks.advance(len(index))
        lies_in = dict(zip(self._whole, memory, strict=True))

        def copied(t: Tensor) -> Tensor:
            place = lies_in[t.untyped_storage().data_ptr()]
            return place.view(t.dtype).as_strided(t.shape, t.stride(), t.storage_offset())

        return self._batch.map(copied), memory


def _all_of(tensor: Tensor) -> Tensor:
    """All numbers of the memory that a tensor lies in, of its dtype."""
    return torch.empty(0, dtype=tensor.dtype, device=tensor.device).set_(tensor.untyped_storage())


def recorded(simulator: Simulator, offsets: Tensor) -> Recorded | None:
    """A recording, or None where there is nothing to gain, or no way to do it."""
    if not simulator.fused or simulator.outputs != ("image",) or not 0 < len(offsets) <= _LARGE:
        return None
    if os.environ.get("PYTORCH_NO_CUDA_MEMORY_CACHING"):  # memory cannot be asked for while a graph is recorded
        return None
    from lensgen_kernels import replay

    try:
        return Recorded(simulator, offsets)
    except LensgenError:
        return None  # an image that cannot be drawn: the stream comes to it and says so
    except replay.RecordingError as error:
        say_once(f"batches are simulated kernel by kernel, which is slower: CUDA records no graph of them: {error}")
        return None
