"""An endless stream of new lenses for a training loop, and where it stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import IterableDataset, get_worker_info

from lensgen.batch import Batch
from lensgen.errors import ParameterError, require_whole
from lensgen.preset import Preset
from lensgen.simulator import Simulator


class LensStream(IterableDataset[Batch]):
    """Batches 0, 1, 2, ... of a preset, simulated when asked for. Batch n holds images n size, ..., (n+1) size - 1.

    Rank r of w takes the batches r, r + w, ...; under a DataLoader with k workers, worker j of rank r takes every
    k-th of these, in an order that makes the loader yield the same sequence as without workers. Use it as
    `DataLoader(stream, batch_size=None, num_workers=k)`, or simply iterate. Workers go through it once: the stream in
    the main process does not move with them, so `skip` what was received before the next loader.

    Args:
        preset, seed, device, engine, split, outputs, hr_factor: as for Simulator.
        batch_size: images a batch, on each rank.
        rank, world_size: this process's place among all.
        batches: how many this rank yields in all; None for no end.
        overrides: changes to the preset, as for Simulator.override.
    """

    def __init__(
        self,
        preset: str | Path | Preset,
        batch_size: int = 256,
        seed: int = 0,
        device: str | torch.device = "auto",
        engine: str = "auto",
        split: str = "train",
        rank: int = 0,
        world_size: int = 1,
        batches: int | None = None,
        overrides: Mapping[str, Any] | None = None,
        outputs: tuple[str, ...] = ("image",),
        hr_factor: int = 2,
    ) -> None:
        require_whole("batch_size", batch_size, 1, 2**31)
        require_whole("world_size", world_size, 1, 2**20)
        require_whole("rank", rank, 0, world_size - 1)
        if batches is not None:
            require_whole("batches", batches, 0, 2**62)
        self.simulator = Simulator(preset, seed, device, engine, split, outputs, hr_factor=hr_factor)
        if overrides:
            self.simulator = self.simulator.override(overrides)
        self.batch_size = batch_size
        self.rank, self.world_size = rank, world_size
        self.batches = batches
        self._taken = 0  # batches that this rank has yielded
        self._in_workers = torch.zeros(1, dtype=torch.int64).share_memory_()  # whether workers went on from `_taken`

    @property
    def preset(self) -> Preset:
        return self.simulator.preset

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        if worker is not None and self.simulator.device.type == "cuda":
            raise ParameterError(
                f"LensStream on {self.simulator.device} cannot run in a DataLoader worker: CUDA does not survive a "
                "fork, and the simulator needs no workers on a GPU. Fix: num_workers=0, or device='cpu'."
            )
        position = self._taken + first
        if worker is not None and worker.id == 0:
            if bool(self._in_workers):
                raise ParameterError(
                    "DataLoader workers have gone through this LensStream from here already, and the stream itself "
                    "did not move: they would repeat their images. Fix: stream.skip(batches received), then a new "
                    "DataLoader; or num_workers=0."
                )
            self._in_workers.fill_(1)
        while self.batches is None or position < self.batches:
            batch = self.simulator.batch((position * self.world_size + self.rank) * self.batch_size, self.batch_size)
            position += step
            if worker is None:
                self._taken = position  # before the yield: a state saved while the batch is used must not repeat it
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands, as JSON can hold it. Under a DataLoader with workers the main process's stream
        does not move: count the batches received and pass them to `skip`."""
        return {
            "preset": self.preset.name,
            "fingerprint": self.preset.fingerprint,
            "seed": self.simulator.random.seed,
            "split": self.simulator.random.split,
            "batch_size": self.batch_size,
            "world_size": self.world_size,
            "taken": self._taken,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was saved; ParameterError if it belongs to another stream."""
        mine = self.state_dict()
        missing = sorted(set(mine) - set(state))
        if missing:
            raise ParameterError(f"this is no state of a LensStream: it lacks {', '.join(missing)}.")
        for key in mine:
            if key != "taken" and state[key] != mine[key]:
                raise ParameterError(
                    f"the saved stream has {key} = {state[key]!r}, this one {mine[key]!r}: its images would be others. "
                    "Fix: build the stream as it was when the state was saved."
                )
        taken = state["taken"]
        if isinstance(taken, bool) or not isinstance(taken, int) or taken < 0:
            raise ParameterError(f"the saved stream has taken = {taken!r}: it must be a whole number of at least 0.")
        self._move_to(taken)

    def skip(self, batches: int) -> None:
        """Leave out the next `batches` of this rank."""
        require_whole("batches", batches, 0, 2**62)
        self._move_to(self._taken + batches)

    def _move_to(self, taken: int) -> None:
        self._taken = taken
        self._in_workers.zero_()
