"""Training steps of profiles.overlap, where their images come from, and how long they wait for them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import torch
from lightning.fabric import Fabric

import lensgen
from trainers.ahead import SimulatedAhead
from trainers.data import open_data
from trainers.draws import Draws
from trainers.mae import MAEConfig, MAETask
from trainers.optimizer import build_optimizer, set_learning_rate
from trainers.stored import StoredBatch, StoredStream, read_stored
from trainers.timing import SimulationClock

if TYPE_CHECKING:
    from profiles.overlap import Overlap


class Disk:
    """Batches of an HDF5 file, read anew for each step; the operating system may well have them in its memory."""

    def __init__(self, path: Path, batch: int, device: torch.device) -> None:
        self.path, self.batch, self.device = path, batch, device

    def __iter__(self) -> Iterator[StoredBatch]:
        with h5py.File(self.path, "r") as file:
            count = len(file["label"])
            while True:
                for first in range(0, count, self.batch):
                    rows = slice(first, first + self.batch)
                    image = torch.from_numpy(file["image"][rows]).to(self.device)
                    label = torch.from_numpy(file["label"][rows]).to(self.device)
                    yield StoredBatch(image, label, {}, torch.arange(first, first + len(label), device=self.device))


class Waiting:
    """Sums the time that steps wait for images: by the clock of the device, and by that of the host."""

    def __init__(self, device: torch.device) -> None:
        self._of_device, self._of_host = SimulationClock(device), 0.0

    def __enter__(self) -> None:
        self._begin = time.perf_counter()
        self._of_device.__enter__()

    def __exit__(self, *error: object) -> None:
        self._of_device.__exit__(*error)
        self._of_host += time.perf_counter() - self._begin

    def take(self) -> tuple[float, float]:
        """Seconds since the last call, of device and host; to be called after the device was waited for."""
        found = self._of_device.take(), self._of_host
        self._of_host = 0.0
        return found


class Steps:
    """A model in training and where its images come from; the steps are those of trainers.loop."""

    def __init__(self, config: MAEConfig, fabric: Fabric) -> None:
        data = open_data(config.data, config.validation, config.run.batch_size, fabric.device)
        self.config, self.fabric = config, fabric
        self.task = MAETask(config, data, fabric.device)
        bare = build_optimizer(self.task.model, config.optimizer, fused=fabric.device.type == "cuda")
        self.forward, self.optimizer = fabric.setup(self.task.model, bare)
        self.forward.train()
        self.number = 0

    def one(self, batches: Iterator[Any], clock: Waiting) -> None:
        """One step; `clock` counts the waiting for images."""
        with clock:
            batch = next(batches)
        set_learning_rate(self.optimizer, self.config.optimizer, self.number, self.config.run.steps)
        loss = self.task.loss(self.forward, batch, Draws(self.config.data.seed, self.number, batch.index))
        self.fabric.backward(loss)
        if self.config.optimizer.clip is not None:
            self.fabric.clip_gradients(self.forward, self.optimizer, max_norm=self.config.optimizer.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.number += 1


def open_sources(config: Overlap, folder: Path, device: torch.device) -> dict[str, Any]:
    """The sources by name; the same images in memory and on disk as at the beginning of the stream."""

    def stream() -> lensgen.LensStream:
        return lensgen.LensStream(config.preset, config.batch, config.seed, device, config.engine)

    simulator = stream().simulator
    batches = [simulator.batch(n * config.batch, config.batch) for n in range(config.stored)]
    file = folder / "images.h5"
    with h5py.File(file, "w") as stored:
        stored["image"] = torch.cat([batch.image for batch in batches]).cpu().numpy()
        stored["label"] = torch.cat([batch.label for batch in batches]).cpu().numpy()
    everything = read_stored(file)
    found: dict[str, Any] = {
        "streamed": (simulator.batch(n * config.batch, config.batch) for n in itertools.count()),
        "memory": StoredStream(everything, torch.arange(len(everything)), config.batch, config.seed, device),
        "disk": Disk(file, config.batch, device),
    }
    if device.type == "cuda":
        found["resident"] = itertools.cycle(batches)
    found["streamed ahead"] = stream() if device.type == "cuda" else SimulatedAhead(stream(), config.workers)
    return {name: found[name] for name in config.sources if name in found}
