"""A step whose loss or gradient is not finite: what is said of it, and how its images are made again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

import lensgen
from trainers.ahead import SimulatedAhead
from trainers.config import DataConfig
from trainers.data import Source
from trainers.errors import TrainingError
from trainers.pairs import PairStream


@dataclass(frozen=True)
class BadStep:
    """The first step of a run that went wrong; those after it are its victims.

    Attributes:
        step: its number, from 1.
        loss, grad_norm: of all ranks together; one of them at least is not finite.
        index: of the images of all ranks.
        not_finite: tensors of the batch ("image" and maps) -> the indices of those images where they are not finite.
    """

    step: int
    loss: float
    grad_norm: float
    index: list[int]
    not_finite: dict[str, list[int]]


def training_error(bad: BadStep, config: DataConfig, source: Source, checkpoint: Path | None) -> TrainingError:
    """What a run that must stop at `bad` says; `checkpoint` is the newest, from before the step."""
    if bad.loss == bad.loss and abs(bad.loss) != float("inf"):
        what = f"the loss of step {bad.step} is {bad.loss:.6g}, but the norm of its gradient is {bad.grad_norm}"
    else:
        what = f"the loss of step {bad.step} is {bad.loss}"
    guilty = "; ".join(f"{name} of {as_ranges(index)}" for name, index in bad.not_finite.items() if index)
    if guilty:
        whose = f"In the batch itself these are not finite: {guilty}."
    else:
        whose = "All images of the batch are finite themselves, so it is the model that went astray."
    if checkpoint is None:
        saved = "There is no checkpoint yet."
    else:
        saved = f"The last checkpoint is {checkpoint}, from before this step; resumed, it comes to the same step again."
    place, ways = remake(config, source, bad.index)
    return TrainingError(
        f"{what} ({place}, seed {config.seed}, images {as_ranges(bad.index)}). {whose} Lower --optimizer.lr or "
        f"--optimizer.clip in a new run. {saved}\nThis batch again:\n  " + "\n  ".join(ways)
    )


def require_finite(model: nn.Module, step: int, checkpoint: Path | None) -> None:
    """Raises `TrainingError` unless all weights are finite; `checkpoint` is the newest, from before `step`."""
    state = model.state_dict()
    floats = {name: value for name, value in state.items() if value.is_floating_point()}
    whole = torch.stack([value.isfinite().all() for value in floats.values()]).tolist()  # waits for the device once
    broken = [name for name, finite in zip(floats, whole, strict=True) if not finite]
    if broken:
        raise TrainingError(
            f"after step {step}, whose loss and gradient are finite, {len(broken)} weights are not, first {broken[0]}; "
            f"no checkpoint of them was written, the last one is {checkpoint}. Lower --optimizer.lr in a new run."
        )


def remake(config: DataConfig, source: Source, index: Sequence[int]) -> tuple[str, list[str]]:
    """Where these images are from, and the commands (of a shell, of Python) that give them again, bit for bit."""
    if config.data is not None:
        rows = f"read_stored(Path({str(config.data)!r})).image[{list(index)}]"
        code = f"from pathlib import Path; from trainers.stored import read_stored; images = {rows}"
        return f"rows of {config.data}", [code]
    stream = source.stream if isinstance(source, SimulatedAhead) else source
    twin = stream.change.code if isinstance(stream, PairStream) else None
    stream = stream.stream if isinstance(stream, PairStream) else stream
    assert isinstance(stream, lensgen.LensStream)
    made = stream.simulator
    start, count = min(index), len(index)
    words = ["python", "-m", "lensgen", "preview", "--preset", config.preset, "--seed", config.seed]
    words += ["--start", start, "--count", count]
    words += [word for change in config.set for word in ("--set", change)]
    words += ["--device", made.device.type, "--out", "batch.png"]
    arguments = [repr(config.preset), f"seed={config.seed}", f"device={made.device.type!r}"]
    if made.label is not None:
        arguments.append(f"label={made.label!r}")
    if made.outputs != ("image",):
        arguments += [f"outputs={made.outputs!r}", f"hr_factor={made.hr_factor}"]
    override = f".override({lensgen.parse_overrides(config.set)!r})" if config.set else ""
    again = f".batch(start={start}, size={count})"
    code = f"import lensgen; simulator = lensgen.Simulator({', '.join(arguments)}){override}; batch = simulator{again}"
    if twin is not None:
        code += f"; second = simulator{twin}{again}"
    # a preview has images of all classes
    return f"preset {config.preset}", [*([shlex.join(map(str, words))] if made.label is None else []), code]


def as_ranges(numbers: Sequence[int]) -> str:
    """`[3, 1, 2, 7]` -> "1-3, 7"."""
    ranges: list[list[int]] = []
    for number in sorted(set(numbers)):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)
