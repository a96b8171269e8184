"""An endless stream of new lenses for a training loop, and where it stands."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from lensgen.ahead import Ahead, CudaLane, Lane
from lensgen.batch import Batch
from lensgen.errors import ParameterError, require_whole
from lensgen.preset import Preset, load_preset
from lensgen.recorded import Recorded, recorded
from lensgen.simulator import Simulator

_FULL = 2048  # images that keep a GPU busy: smaller batches are made several at a time
_ROOM = 1 << 27  # bytes of images and maps that are made at a time for that


class LensStream(IterableDataset[Batch]):
    """Batches 0, 1, 2, ... of a preset, simulated when asked for. Batch n holds images n size, ..., (n+1) size - 1.

    Rank r of w takes the batches r, r + w, ...; under a DataLoader with k workers, worker j of rank r takes every
    k-th of these, in an order that makes the loader yield the same sequence as without workers. Use it as
    `DataLoader(stream, batch_size=None, num_workers=k)`, or simply iterate. Workers go through it once: the stream in
    the main process does not move with them, so `skip` what was received before the next loader.

    On a GPU the next batches are simulated while one is in use, in a CUDA stream of their own; nothing waits for the
    host. A batch belongs to the stream that is current when it is handed out. Checks of its images are looked at a
    little later, and an error names the batch.

    Args:
        preset, seed, device, engine, split, outputs, hr_factor: as for Simulator.
        batch_size: images a batch, on each rank.
        rank, world_size: this process's place among all.
        batches: how many this rank yields in all; None for no end.
        overrides: changes to the preset, as for Simulator.override.
        ahead: 1 to 8, how many batches (of small ones: groups of batches that fill the GPU) are simulated beyond the
            one in use; on a GPU. It changes no image, and takes memory for about 2 `ahead` of them.
        label: the name of a class: every image is of this one, as for Simulator.
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
        ahead: int = 2,
        label: str | None = None,
    ) -> None:
        require_whole("ahead", ahead, 1, 8)
        require_whole("batch_size", batch_size, 1, 2**31)
        require_whole("world_size", world_size, 1, 2**20)
        require_whole("rank", rank, 0, world_size - 1)
        if batches is not None:
            require_whole("batches", batches, 0, 2**62)
        made = load_preset(preset)
        if overrides:
            made = made.override(overrides)
        self.simulator = Simulator(made, seed, device, engine, split, outputs, hr_factor=hr_factor, label=label)
        self.batch_size = batch_size
        self.rank, self.world_size = rank, world_size
        self.batches = batches
        self.ahead = ahead
        self._taken = 0  # batches that this rank has yielded
        self._groups = 0  # of batches, which were made at a time
        self._recording: Recorded | None = None
        self._in_workers = torch.zeros(1, dtype=torch.int64).share_memory_()  # whether workers went on from `_taken`

    def __getstate__(self) -> dict[str, Any]:
        """Another process records by itself."""
        return self.__dict__ | {"_groups": 0, "_recording": None}

    def __repr__(self) -> str:
        return (
            f"LensStream({self.simulator!r}, batch_size={self.batch_size}, rank={self.rank} of {self.world_size}, "
            f"{self._taken} batches taken)"
        )

    @property
    def preset(self) -> Preset:
        return self.simulator.preset

    def twin(self, *parts: str, number: int = 1, overrides: Mapping[str, Any] | None = None) -> LensStream:
        """A stream of the same batches with some parts drawn anew (Simulator.twin), seen otherwise (`overrides`, e.g.
        another instrument, as for Simulator.override), or both: the second image of each pair.

        It begins where this one stands, and has everything else of it; from there on each goes its own way, so two
        that are iterated together (`zip(stream, stream.twin("noise"))`) stay aligned, resumed or not and on any rank.

        Raises:
            ParameterError, UnknownNameError, PresetError: as those two; ParameterError also for no part and no change.
        """
        if not parts and number != 1:
            raise ParameterError(f"number = {number} is that of parts drawn anew, and there are none. Fix: name parts.")
        made = copy.copy(self)  # as for another process: without what is recorded
        made._in_workers = torch.zeros_like(self._in_workers).share_memory_()
        if parts or not overrides:
            made.simulator = made.simulator.twin(*parts, number=number)
        if overrides:
            made.simulator = made.simulator.override(overrides)
        return made

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        if worker is not None and self.simulator.device.type == "cuda":
            raise ParameterError(
                f"LensStream on {self.simulator.device} cannot run in a DataLoader worker: CUDA does not survive a "
                "fork, and the simulator needs no workers on a GPU. Fix: num_workers=0, or device='cpu'."
            )
        if worker is not None:
            yield from self._share(worker.id, worker.num_workers)
        elif (lane := self._lane()) is not None:
            yield from self._simulated_ahead(lane)
        else:
            while not self._ended(self._taken):
                yield self._handed_out(self.simulator.batch(self._start(self._taken), self.batch_size))

    def _share(self, worker: int, workers: int) -> Iterator[Batch]:
        """What one of several DataLoader workers yields."""
        if worker == 0:
            if bool(self._in_workers):
                raise ParameterError(
                    "DataLoader workers have gone through this LensStream from here already, and the stream itself "
                    "did not move: they would repeat their images. Fix: stream.skip(batches received), then a new "
                    "DataLoader; or num_workers=0."
                )
            self._in_workers.fill_(1)
        position = self._taken + worker
        while not self._ended(position):
            yield self.simulator.batch(self._start(position), self.batch_size)
            position += workers

    def _simulated_ahead(self, lane: Lane) -> Iterator[Batch]:
        """All batches from where the stream stands; it may be moved meanwhile."""
        ahead = Ahead(lane, self._make, self.ahead, self._together(), self.batches, self._place)
        try:
            while not self._ended(self._taken):
                yield self._handed_out(ahead.take(self._taken))
        except GeneratorExit:  # left before its end: what was handed out is looked at all the same
            try:
                ahead.finish()
            except ParameterError as error:
                warnings.warn(f"a LensStream that was left had handed out a bad image: {error}", stacklevel=2)
            raise
        ahead.finish()

    def _ended(self, position: int) -> bool:
        return self.batches is not None and position >= self.batches

    def _start(self, position: int) -> int:
        """The first image of this rank's batch."""
        return (position * self.world_size + self.rank) * self.batch_size

    def _handed_out(self, batch: Batch) -> Batch:
        self._taken += 1  # before the yield: a state saved while the batch is used must not repeat it
        return batch

    def _lane(self) -> Lane | None:
        """Where batches are simulated ahead; None to simulate them when they are asked for."""
        return CudaLane(self.simulator.device) if self.simulator.device.type == "cuda" else None

    def _together(self) -> int:
        """How many batches are simulated at a time."""
        outputs = set(self.simulator.outputs) | {"image"}
        numbers = math.prod(self.simulator.image_shape) * len(outputs)
        if "image_hr" in outputs:
            numbers += math.prod(self.simulator.image_shape) * self.simulator.hr_factor**2
        room = _ROOM // (self.batch_size * numbers * self.simulator.dtype.itemsize)
        return max(1, min(-(-_FULL // self.batch_size), room))

    def _offsets(self, count: int) -> Tensor:
        """By how much the images of `count` of this rank's batches come after the first one."""
        device, size = self.simulator.device, self.batch_size
        # worked out on the device: a copy from the host would wait for it
        starts = torch.arange(count, device=device) * (self.world_size * size)
        return (starts[:, None] + torch.arange(size, device=device)).flatten()

    def _recorded(self) -> Recorded | None:
        """For the second full group and all after it: a stream of one has nothing to gain."""
        self._groups += 1
        if self._groups == 2:
            self._recording = recorded(self.simulator, self._offsets(self._together()))
        return self._recording

    def _make(self, first: int, count: int) -> tuple[list[Batch], list[Tensor]]:
        """`count` of this rank's batches, and their memory."""
        if count == self._together() and (replay := self._recorded()) is not None:
            whole, pieces = replay(self._start(first))
        else:
            whole = self.simulator.of(self._start(first) + self._offsets(count))
            pieces = list({t.untyped_storage().data_ptr(): t for t in whole.tensors()}.values())
        return whole.split(self.batch_size), pieces

    def _place(self, first: int, image: int) -> str:
        batch, image = first + image // self.batch_size, image % self.batch_size
        return f"batch {batch} of the stream, image {image} of it (index {self._start(batch) + image})"

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands, as JSON can hold it. Under a DataLoader with workers the main process's stream
        does not move: count the batches received and pass them to `skip`."""
        return {
            "preset": self.preset.name,
            "fingerprint": self.preset.fingerprint,
            "seed": self.simulator.random.seed,
            "split": self.simulator.random.split,
            "label": self.simulator.label,
            "twin": dict(self.simulator.random.twin.numbers),
            "batch_size": self.batch_size,
            "world_size": self.world_size,
            "taken": self._taken,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was saved; ParameterError if it belongs to another stream."""
        mine = self.state_dict()
        state = {"label": None, "twin": {}} | dict(state)  # before there were any, states did not say so
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
