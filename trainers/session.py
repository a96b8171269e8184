"""Where and on what a run takes place, and how it says goodbye."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from pathlib import Path

import torch
from lightning.fabric import Fabric

from trainers.checkpoint import checkpoints
from trainers.command_line import Config, run_folder
from trainers.config import RunConfig
from trainers.errors import ConfigError
from trainers.loop import Loop


def launch(config: RunConfig) -> Fabric:
    """Starts the processes that `config` asks for."""
    if config.accelerator == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--accelerator cuda, but torch sees no CUDA device: leave it out or take cpu.")
    fabric = Fabric(
        accelerator=config.fabric_accelerator,
        devices=config.devices,
        strategy=config.strategy,
        precision=config.fabric_precision,
    )
    fabric.launch()
    return fabric


def claim_folder(config: Config, trainer: str, fabric: Fabric) -> Config:
    """`config` with the folder of the run in `run.out`: that of `resume`, `out`, or a new one under `runs`.

    Raises:
        ConfigError: there is a run with checkpoints in `out` already.
    """
    folder = config.run.out
    if config.resume is not None:
        folder = run_folder(config.resume)
    elif folder is None:
        numbered = (Path("runs") / f"{trainer}_{number:03d}" for number in itertools.count(1))
        folder = fabric.broadcast(next(path for path in numbered if not path.exists()))
    elif fabric.is_global_zero and checkpoints(folder):  # what ended before its first checkpoint is begun anew
        raise ConfigError(f"--out {folder} holds a run; go on with it by --resume {folder}, or name another folder.")
    fabric.barrier()  # nobody makes the folder before all have looked
    return dataclasses.replace(config, run=dataclasses.replace(config.run, out=folder))


def say_how_to_resume(module: str, loop: Loop | None) -> None:
    """After Ctrl-C: what is saved and the command that goes on."""
    if loop is not None and not loop.fabric.is_global_zero:
        return
    if loop is None or loop.checkpoint is None:
        print("\ninterrupted before the first checkpoint; nothing was saved.", file=sys.stderr)
    else:
        print(f"\ninterrupted; go on with: python -m {module} --resume {loop.folder}", file=sys.stderr)
