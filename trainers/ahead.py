"""Batches that other processes simulate while the model trains on a CPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Protocol, cast

import torch
from torch.utils.data import DataLoader, IterableDataset


class Stream(Protocol):
    """What can be simulated ahead: `lensgen.LensStream`, or pairs of two (`trainers.pairs.PairStream`)."""

    def __iter__(self) -> Iterator[Any]: ...
    def skip(self, batches: int) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class SimulatedAhead:
    """A stream whose batches other processes simulate while the model trains: the same ones in the same order.

    While it is iterated, torch uses no more threads than cores are left beside the workers.

    Args:
        stream: an IterableDataset, on the CPU.
        workers: number of processes, 1 or more.
    """

    def __init__(self, stream: Stream, workers: int) -> None:
        self.stream, self.workers = stream, workers

    def __iter__(self) -> Iterator[Any]:
        before = torch.get_num_threads()
        # a core for each worker: with more threads than cores both would wait for one another
        torch.set_num_threads(max(1, min(before, usable_cores() - self.workers)))
        try:
            ahead = DataLoader(
                cast(IterableDataset[Any], self.stream), batch_size=None, num_workers=self.workers, prefetch_factor=4
            )
            for batch in ahead:
                self.stream.skip(1)  # the workers' copies of the stream moved, this one did not
                yield batch
        finally:
            torch.set_num_threads(before)

    def state_dict(self) -> dict[str, Any]:
        """That of the stream after the batches that were handed out, however many are simulated already."""
        return self.stream.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes to a saved position; takes effect when iteration begins anew."""
        self.stream.load_state_dict(state)


def usable_cores() -> int:
    """Cores that this process may run on: fewer than the machine has under taskset, Slurm or a container's cpuset."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
