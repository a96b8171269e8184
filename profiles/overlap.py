"""What the simulator costs a training step: `python -m profiles.overlap`.

The same masked autoencoder (a ViT-Tiny by default) trains on the same images from four sources in turns: streamed
(simulated between the steps), streamed ahead (on a CPU by worker processes, on a GPU in a CUDA stream of its own), from
memory, from an HDF5 file batch by batch, and on a GPU from its own memory, where they are already (resident). The
simulator's share is the time that streamed steps wait for `Simulator.batch`, over their whole time.

On a GPU, waiting is how long the device's own clock says that the model's work waited for images; the host's time in
the call that hands them out is given too: it delays nothing unless the device runs out of work. What both miss, work of
the simulator that slows the model down beside it, is in the ratio to steps on resident images.
"""

from __future__ import annotations

import trainers  # noqa: F401 before torch: it says how torch's threads wait for one another

# isort: split
import dataclasses
import functools
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from lightning.fabric import Fabric

from lensgen.errors import ParameterError, lookup, require_number, require_whole
from lensgen.render import pick_engine
from profiles import machine, report
from profiles.overlap_steps import Steps, Waiting, open_sources
from profiles.plots import draw_bars
from profiles.timing import Run, Spread, alternate
from trainers.ahead import SimulatedAhead
from trainers.config import DataConfig, RunConfig, ValidationConfig
from trainers.mae import MAEConfig
from trainers.models.masked_autoencoder import DecoderConfig
from trainers.models.vit import ViTConfig

SOURCES = ("streamed", "streamed ahead", "memory", "disk", "resident")


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
    """Processes of "streamed ahead" on a CPU."""
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
    warm_up: int = 1
    """Steps before it, which are not timed."""
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
        for option, low in (("workers", 1), ("batch", 1), ("stored", 1), ("repeats", 1), ("steps", 1), ("warm_up", 1)):
            require_whole(f"--{option}", getattr(self, option), low, 10**6)
        require_number("--mask-ratio", self.mask_ratio, 0.5, 0.95)
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ParameterError("--device cuda, but torch sees no CUDA device: leave it out.")
        pick_engine(self.engine, torch.device(self.device), torch.float32)


def measure(config: Overlap) -> dict[str, Any]:
    """Seconds a step from each source, and what the simulator's part of it is."""
    run_config = RunConfig(batch_size=config.batch, accelerator=config.device)
    fabric = Fabric(accelerator=config.device, devices=1, precision=run_config.fabric_precision)
    fabric.launch()
    mae = MAEConfig(
        data=DataConfig(stream=True, preset=config.preset, seed=config.seed),
        run=run_config,
        validation=ValidationConfig(fit=20, score=10, neighbours=3),
        mask_ratio=config.mask_ratio,
        vit=config.vit,
        decoder=config.decoder,
    )
    steps = Steps(mae, fabric)
    waiting: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        sources = open_sources(config, Path(folder), fabric.device)
        # workers simulate on while others are measured, so they live for one run each; their start is left out
        workers = {name for name, source in sources.items() if isinstance(source, SimulatedAhead)}
        iterators = {name: iter(source) for name, source in sources.items() if name not in workers}
        progress = report.Progress(config.repeats * len(sources))

        def run(name: str) -> tuple[float, float]:
            progress(name)
            batches = iterators.get(name) or iter(sources[name])
            clock = Waiting(fabric.device)
            for _ in range(config.warm_up):
                steps.one(batches, clock)
            _wait(fabric.device)
            clock.take()
            begin = time.perf_counter()
            for _ in range(config.steps):
                steps.one(batches, clock)
            _wait(fabric.device)
            seconds = time.perf_counter() - begin
            of_device, of_host = clock.take()
            waiting.setdefault(name, []).append((of_device / config.steps, of_host / config.steps))
            if name not in iterators:
                batches.close()
            return float(config.steps), seconds

        runs = alternate({name: functools.partial(run, name) for name in sources}, config.repeats)
    return _summary(runs, waiting)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _summary(runs: dict[str, list[Run]], waiting: dict[str, list[tuple[float, float]]]) -> dict[str, Any]:
    step = {name: [run.seconds / run.items for run in of_source] for name, of_source in runs.items()}
    device, host = ({name: [pair[k] for pair in pairs] for name, pairs in waiting.items()} for k in (0, 1))
    shares = {
        name: Spread.of([w / s for w, s in zip(device[name], step[name], strict=True)]).as_dict() for name in step
    }
    return {
        "seconds_a_step": {name: Spread.of(values).as_dict() for name, values in step.items()},
        "seconds_waiting": {name: Spread.of(values).as_dict() for name, values in device.items()},
        "seconds_of_the_host": {name: Spread.of(values).as_dict() for name, values in host.items()},
        "share_waiting": shares,
        "simulators_share": shares["streamed"],
        **{
            f"slower_than_{other}": {
                name: Spread.of([a / b for a, b in zip(values, step[other], strict=True)]).as_dict()
                for name, values in step.items()
            }
            for other in ("memory", "resident")
            if other in step
        },
        "runs": {name: [dataclasses.asdict(run) for run in of_source] for name, of_source in runs.items()},
        "waiting": waiting,
    }


def text_of(content: dict[str, Any]) -> str:
    """The table."""
    settings, found = content["settings"], content["result"]
    others = [other for other in ("memory", "resident") if f"slower_than_{other}" in found]
    head = ["images", "s a step", "of it waiting", "by the host's clock", "waiting", *(f"x {o}" for o in others)]
    rows = [
        [
            name,
            report.with_spread(Spread(**found["seconds_a_step"][name])),
            report.with_spread(Spread(**found["seconds_waiting"][name])),
            report.with_spread(Spread(**found["seconds_of_the_host"][name])),
            f"{found['share_waiting'][name]['median']:.2%}",
            *(report.with_spread(Spread(**found[f"slower_than_{other}"][name])) for other in others),
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
        report.markdown(head, rows),
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
