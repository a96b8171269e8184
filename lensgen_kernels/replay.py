"""Work that is recorded once as a CUDA graph and replayed: a small batch has many kernels, and each costs a launch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lensgen_kernels.cuda import index_of


def _without_waiting(work: Callable[[Tensor], Sequence[Tensor]], start: Tensor) -> None:
    """The work once, where it must not wait for the device: found now, a capture that fails on it would leave torch's
    allocator as if it went on for ever."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        work(start)
    except RuntimeError as error:
        if "synchronizing CUDA operation" in str(error):
            raise RecordingError(str(error).partition("\n")[0]) from error
        raise
    finally:
        torch.cuda.set_sync_debug_mode(before)


class RecordingError(RuntimeError):
    """CUDA cannot record this work as a graph."""


class Replayed:
    """Work that is recorded once, as a CUDA graph, and then started by one call however many kernels it has.

    The work may launch kernels and torch operations of fixed shapes on the current stream. It must not wait for the
    device, nor copy from or to memory of the host.

    Args:
        work: `start` `[1]` int64 on the device -> tensors; called three times, for images that do not matter.
        device: where.

    Raises:
        RecordingError: the work waits for the device, or does something else that cannot be recorded.
    """

    def __init__(self, work: Callable[[Tensor], Sequence[Tensor]], device: torch.device) -> None:
        self._device = torch.device("cuda", index_of(device))
        with torch.cuda.device(self._device):
            self._start = torch.zeros(1, dtype=torch.int64, device=self._device)
            apart = torch.cuda.Stream()
            apart.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(apart):
                work(self._start)  # what is made at first use is made: kernels are loaded, tables copied
                _without_waiting(work, self._start)
            user = torch.cuda.current_stream()
            user.wait_stream(apart)
            self._graph = torch.cuda.CUDAGraph()
            try:
                # other threads (a loader's, NCCL's) may go on meanwhile
                with torch.cuda.graph(self._graph, stream=apart, capture_error_mode="thread_local"):
                    self._made = tuple(work(self._start))
            except RuntimeError as error:
                torch.cuda.set_stream(user)  # torch 2.11 leaves the other one
                if "captur" in str(error):
                    raise RecordingError(str(error).partition("\n")[0]) from error
                raise
            self._copied = torch.cuda.Event()
            self._copied.record()

    def __call__(self, start: int) -> tuple[Tensor, ...]:
        """What the work makes from `start`: copies, which stay as they are."""
        with torch.cuda.device(self._device):
            self._copied.wait()  # on this stream: the last call may have been on another
            self._start.fill_(start)
            self._graph.replay()
            copies = tuple([made.clone() for made in self._made])
            self._copied.record()
        return copies
