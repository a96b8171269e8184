"""What the simulator costs a training step: `python -m profiles.overlap`.

The same masked autoencoder (a ViT-Tiny by default) trains on the same images from four sources in turns: streamed
(simulated between the steps), streamed ahead (simulated by worker processes), from memory, and from an HDF5 file batch
by batch. The simulator's share is the time that streamed steps wait for `Simulator.batch`, over their whole time.
"""

from __future__ import annotations

import trainers  # noqa: F401 before torch: it says how torch's threads wait for one another

# isort: split
import dataclasses
import functools
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import torch
import tyro
from lightning.fabric import Fabric

import lensgen
from lensgen.errors import ParameterError, lookup, require_number, require_whole
from lensgen.render import pick_engine
from profiles import machine, report
from profiles.plots import draw_bars
from profiles.timing import Run, Spread, alternate
from trainers.ahead import SimulatedAhead
from trainers.config import DataConfig, RunConfig, ValidationConfig
from trainers.data import open_data
from trainers.draws import Draws
from trainers.mae import MAEConfig, MAETask
from trainers.models.masked_autoencoder import DecoderConfig
from trainers.models.vit import ViTConfig
from trainers.optimizer import build_optimizer, set_learning_rate
from trainers.stored import StoredBatch, StoredStream, read_stored
from trainers.timing import SimulationClock

SOURCES = ("streamed", "streamed ahead", "memory", "disk")


@dataclass(frozen=True)
class Overlap:
    """Measures a training step with images from the simulator, from memory and from disk."""

    preset: str = "model_a"
    """What is simulated."""
    sources: tuple[str, ...] = SOURCES
    """Where images come from; streamed and memory are needed for the comparison."""
    engine: str = "auto"
    """lensgen's engine."""
    workers: int = 1
    """Processes of "streamed ahead"."""
    batch: int = 256
    """Images a step."""
    stored: int = 8
    """Batches in memory and on disk."""
    mask_ratio: float = 0.75
    """Fraction of patches hidden."""
    vit: ViTConfig = field(default_factory=lambda: ViTConfig(patch_size=8, depth=12, width=192, heads=3))
    """The encoder; a ViT-Tiny."""
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    """The decoder."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where both the simulator and the model are."""
    repeats: int = 5
    """Rounds."""
    steps: int = 4
    """Steps a run."""
    seed: int = 0
    """Of images, weights and masks."""
    out: Path | None = None
    """Results without suffix; profiles/results/overlap by default."""
    quick: bool = False
    """A tiny model and batch. Not to be quoted."""

    def __post_init__(self) -> None:
        for name in self.sources:
            lookup("source", name, dict.fromkeys(SOURCES))
        if not {"streamed", "memory"} <= set(self.sources):
            raise ParameterError("--sources must hold streamed and memory, which are compared.")
        for option, low in (("workers", 1), ("batch", 1), ("stored", 1), ("repeats", 1), ("steps", 1)):
            require_whole(f"--{option}", getattr(self, option), low, 10**6)
        require_number("--mask-ratio", self.mask_ratio, 0.5, 0.95)
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ParameterError("--device cuda, but torch sees no CUDA device: leave it out.")
        pick_engine(self.engine, torch.device(self.device), torch.float32)


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

    def one(self, batches: Iterator[Any], clock: SimulationClock) -> None:
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
        "streamed": stream(),
        "memory": StoredStream(everything, torch.arange(len(everything)), config.batch, config.seed, device),
        "disk": Disk(file, config.batch, device),
    }
    if device.type == "cpu":  # a GPU simulates between the steps: CUDA does not survive a fork
        found["streamed ahead"] = SimulatedAhead(stream(), config.workers)
    return {name: found[name] for name in config.sources if name in found}


def measure(config: Overlap) -> dict[str, Any]:
    """Seconds a step from each source, and what the simulator's part of it is."""
    fabric = Fabric(accelerator=config.device, devices=1, precision=RunConfig().fabric_precision)
    fabric.launch()
    mae = MAEConfig(
        data=DataConfig(stream=True, preset=config.preset, seed=config.seed),
        run=RunConfig(batch_size=config.batch),
        validation=ValidationConfig(fit=20, score=10, neighbours=3),
        mask_ratio=config.mask_ratio,
        vit=config.vit,
        decoder=config.decoder,
    )
    steps = Steps(mae, fabric)
    waiting: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        sources = open_sources(config, Path(folder), fabric.device)
        iterators = {name: iter(source) for name, source in sources.items() if name != "streamed ahead"}
        progress = report.Progress(config.repeats * len(sources))

        def run(name: str) -> tuple[float, float]:
            progress(name)
            # workers simulate on while others are measured, so they live for one run each; their start is left out
            batches = iterators.get(name) or iter(sources[name])
            clock = SimulationClock(fabric.device)
            steps.one(batches, clock)  # warms the caches up for this source
            _wait(fabric.device)
            clock.take()
            begin = time.perf_counter()
            for _ in range(config.steps):
                steps.one(batches, clock)
            _wait(fabric.device)
            seconds = time.perf_counter() - begin
            waiting.setdefault(name, []).append(clock.take() / config.steps)
            if name not in iterators:
                batches.close()
            return float(config.steps), seconds

        runs = alternate({name: functools.partial(run, name) for name in sources}, config.repeats)
    return _summary(runs, waiting)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _summary(runs: dict[str, list[Run]], waiting: dict[str, list[float]]) -> dict[str, Any]:
    step = {name: [run.seconds / run.items for run in of_source] for name, of_source in runs.items()}
    shares = [w / s for w, s in zip(waiting["streamed"], step["streamed"], strict=True)]
    return {
        "seconds_a_step": {name: Spread.of(values).as_dict() for name, values in step.items()},
        "seconds_waiting": {name: Spread.of(values).as_dict() for name, values in waiting.items()},
        "simulators_share": Spread.of(shares).as_dict(),
        "slower_than_memory": {
            name: Spread.of([a / b for a, b in zip(values, step["memory"], strict=True)]).as_dict()
            for name, values in step.items()
        },
        "runs": {name: [dataclasses.asdict(run) for run in of_source] for name, of_source in runs.items()},
        "waiting": waiting,
    }


def text_of(content: dict[str, Any]) -> str:
    """The table."""
    settings, found = content["settings"], content["result"]
    rows = [
        [
            name,
            report.with_spread(Spread(**found["seconds_a_step"][name])),
            report.with_spread(Spread(**found["seconds_waiting"][name])),
            report.with_spread(Spread(**found["slower_than_memory"][name])),
        ]
        for name in found["seconds_a_step"]
    ]
    share, vit = Spread(**found["simulators_share"]), settings["vit"]
    parts = [
        "# Simulator and training",
        machine.one_line(content["machine"]),
        f"`{settings['preset']}`, masked autoencoder, ViT of {vit['depth']} blocks, width {vit['width']}, patch "
        f"{vit['patch_size']}, batch {settings['batch']}, engine {settings['engine']}, {settings['device']}, "
        f"{settings['threads']} threads; median (least to most) of {settings['repeats']} runs of {settings['steps']} "
        "steps, taken in turns. From memory is how trainers read a stored set; from disk, each batch anew.",
        report.markdown(["images", "s a step", "of it waiting for images", "x memory"], rows),
        f"The simulator takes **{share.median:.1%}** ({share.low:.1%} to {share.high:.1%}) of a streamed step.",
    ]
    if settings["quick"]:
        parts.append("**A quick look with runs too short to be quoted.**")
    return "\n\n".join(parts)


def main(argv: list[str] | None = None) -> None:
    """Measures and reports, as the command line says."""
    config = tyro.cli(Overlap, args=argv, prog="python -m profiles.overlap")
    if config.quick:
        config = dataclasses.replace(
            config, batch=4, stored=2, repeats=2, steps=1, sources=("streamed", "memory", "disk"),
            vit=ViTConfig(patch_size=8, depth=1, width=16, heads=2), decoder=DecoderConfig(depth=1, width=16, heads=2),
        )  # fmt: skip
    out = report.where(config.out, "overlap")
    about = machine.describe()
    result = measure(config)
    settings = {k: v for k, v in dataclasses.asdict(config).items() if k != "out"}
    engine = pick_engine(config.engine, torch.device(config.device), torch.float32)
    settings |= {"engine": engine, "threads": torch.get_num_threads()}
    content = {"machine": about, "settings": settings, "result": result}
    report.write(out, "overlap", content, text_of(content))
    of_step = result["seconds_a_step"]
    ends = np.array([[s["median"] - s["low"], s["high"] - s["median"]] for s in of_step.values()]).T
    middle = [s["median"] for s in of_step.values()]
    draw_bars(list(of_step), middle, ends, "one training step, by where its images are", "s", out.with_suffix(".png"))


if __name__ == "__main__":
    report.run(main)
