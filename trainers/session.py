"""Where and on what a run takes place, and how it says goodbye."""

from __future__ import annotations

import dataclasses
import itertools
import os
import sys
from pathlib import Path

import torch
from lightning.fabric import Fabric

from trainers.checkpoint import Checkpoint, checkpoints, sweep
from trainers.command_line import Config, run_folder
from trainers.config import RunConfig
from trainers.errors import ConfigError
from trainers.loop import Loop


def layout(config: RunConfig) -> tuple[int, int]:
    """Processes on each machine, and machines: as torchrun started them, else `devices` on this one.

    Raises:
        ConfigError: torchrun started another number of processes than `devices` asks for.
    """
    if not torch.distributed.is_torchelastic_launched():
        return config.devices, 1
    here, everywhere = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    if config.devices not in (1, here):  # 1 is what it is when nobody said anything
        raise ConfigError(
            f"--devices {config.devices}, but torchrun started {here} processes on this machine; leave --devices out, "
            f"or start torchrun with --nproc-per-node {config.devices}."
        )
    return here, everywhere // here


def launch(config: RunConfig) -> Fabric:
    """Starts the processes that `config` asks for, or joins those that torchrun started.

    The time after which an exchange between processes is given up stays torch's own (30 minutes with gloo, 10 with
    NCCL): rank 0 validates meanwhile. `trainers.watch` notices a lost process long before.

    Raises:
        ConfigError: no CUDA, or see `layout`.
    """
    if config.accelerator == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--accelerator cuda, but torch sees no CUDA device: leave it out or take cpu.")
    devices, machines = layout(config)
    fabric = Fabric(
        accelerator=config.fabric_accelerator,
        devices=devices,
        num_nodes=machines,
        strategy=config.strategy,
        precision=config.fabric_precision,
    )
    fabric.launch()
    return fabric


def claim_folder(config: Config, trainer: str, fabric: Fabric) -> Config:
    """`config` with the folder of the run in `run.out`: that of `resume`, `out`, or a new one under `runs`.

    And with the number of processes in `run.devices`, so that a run that torchrun started can be resumed without it.

    Raises:
        ConfigError: there is a run with checkpoints in `out` already.
    """
    folder = config.run.out
    if config.resume is not None:
        folder = run_folder(config.resume)
    elif folder is None:
        numbered = (Path("runs") / f"{trainer}_{number:03d}" for number in itertools.count(1))
        folder = fabric.broadcast(next(path for path in numbered if not path.exists()))
    elif fabric.broadcast(bool(checkpoints(folder))):  # what ended before its first checkpoint is begun anew
        raise ConfigError(f"--out {folder} holds a run; go on with it by --resume {folder}, or name another folder.")
    if config.resume is not None and fabric.is_global_zero:
        sweep(folder)
    fabric.barrier()  # nobody makes the folder before all have looked
    run = dataclasses.replace(config.run, out=folder, devices=layout(config.run)[0])
    return dataclasses.replace(config, run=run)


def train(loop: Loop, checkpoint: Checkpoint | None) -> None:
    """A new run, or the one that `checkpoint` is of, to its last step; errors are those of `Loop`."""
    if checkpoint is None:
        loop.start()
    else:
        loop.resume(checkpoint)
    loop.run()


def say_how_to_resume(module: str, loop: Loop | None, resumed: Path | None) -> None:
    """After Ctrl-C: what is saved and the command that goes on.

    Args:
        resumed: the run that was to be gone on with, if any: its checkpoints are there however early this one ended.
    """
    if loop is not None and not loop.fabric.is_global_zero:
        return
    again = resumed if loop is None or loop.checkpoint is None else loop.folder
    if again is None:
        print("\ninterrupted before the first checkpoint; nothing was saved.", file=sys.stderr)
    else:
        print(f"\ninterrupted; go on with: python -m {module} --resume {again}", file=sys.stderr)
