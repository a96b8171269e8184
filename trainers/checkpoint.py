"""Checkpoints: whole or not there at all.

A checkpoint is a folder `checkpoints/step_000123` with `model.safetensors`, `optimizer.safetensors` and
`checkpoint.json`. It is written under another name, flushed to the disk, and renamed into place, so that a kill, Ctrl-C
or a full disk leaves the former checkpoint as it was. Nothing is pickled: reading one runs no code from it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from trainers.errors import CheckpointError

FORMAT = "lensgen trainer checkpoint"
FORMAT_VERSION = 2
MODEL, OPTIMIZER, DESCRIPTION = "model.safetensors", "optimizer.safetensors", "checkpoint.json"
UNFINISHED = ".unfinished_"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and found whole.

    Attributes:
        path: its folder.
        about: what `checkpoint.json` says: step, config, data, model, transform, stream, versions, ...
        weights: the model's state dict.
        optimizer: the optimizer's state tensors, as `optimizer_tensors` names them.
    """

    path: Path
    about: dict[str, Any]
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]


def write_checkpoint(
    run: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, about: dict[str, Any], keep: int
) -> Path:
    """Writes `run/checkpoints/step_...` at once or not at all, then deletes others but the `keep` newest and the best.

    Args:
        about: JSON-able; what `Checkpoint.about` will say beside format, step and library versions. `best`, if it is
            there and not None, says under `step` which checkpoint is the best.

    Raises:
        CheckpointError: the disk is full or not writable; the former checkpoint is untouched.
    """
    target = checkpoint_path(run, step)
    folder = target.parent
    unfinished = folder / (UNFINISHED + target.name)
    try:
        shutil.rmtree(unfinished, ignore_errors=True)  # left by a run that was killed here
        unfinished.mkdir(parents=True)
        save_file({name: _on_cpu(value) for name, value in model.state_dict().items()}, unfinished / MODEL)
        save_file(optimizer_tensors(optimizer), unfinished / OPTIMIZER)
        description = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "step": step,
            **about,
            "versions": {name: version(name) for name in ("lensgen", "torch", "timm", "lightly", "lightning")},
            "sha256": {name: _digest(unfinished / name) for name in (MODEL, OPTIMIZER)},
        }
        (unfinished / DESCRIPTION).write_text(seal(description))
        for path in (*unfinished.iterdir(), unfinished):
            _flush(path)
        if target.exists():  # left by a run that was resumed from an earlier step
            _remove(target)
        unfinished.rename(target)
        _flush(folder)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{target} could not be written: {error}. The checkpoints before it are whole; make room, "
            f"then go on with --resume {run}."
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    # `target` is not among the newest where a run goes on from before a future that it had
    stay = {*checkpoints(run)[-keep:], target}
    if about.get("best"):
        stay.add(checkpoint_path(run, about["best"]["step"]))
    for old in set(checkpoints(run)) - stay:
        _remove(old)
    sweep(run)
    return target


def sweep(run: Path) -> None:
    """Deletes what kills left half-written or half-deleted among the checkpoints of a run."""
    for left in (run / "checkpoints").glob(UNFINISHED + "*"):
        shutil.rmtree(left, ignore_errors=True)


def seal(description: dict[str, Any]) -> str:
    """The text of `checkpoint.json`: `description` with its own SHA-256 beside those of the tensors."""
    digests = description["sha256"] | {DESCRIPTION: _own_digest(description)}
    return json.dumps({**description, "sha256": digests}, indent=1)


def checkpoint_path(run: Path, step: int) -> Path:
    """Where the checkpoint of a step is, or would be."""
    return run / "checkpoints" / f"step_{step:06d}"


def checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    steps = {path: path.name.removeprefix("step_") for path in (run / "checkpoints").glob("step_*")}
    # by number: as text step_1000000 would come before step_999999
    return sorted((path for path, step in steps.items() if step.isdecimal()), key=lambda path: int(steps[path]))


def find_checkpoint(path: Path) -> Path:
    """The newest checkpoint of a run's folder, or `path` itself if it is a checkpoint.

    Raises:
        CheckpointError: there is none.
    """
    if path.name.startswith("step_") or (path / DESCRIPTION).is_file():
        return path
    if checkpoints(path):
        return checkpoints(path)[-1]
    config = path / "config.yaml"
    fix = f"start that run anew with --config {config} --out {path}" if config.is_file() else "give the folder of a run"
    raise CheckpointError(f"{path} holds no checkpoint (checkpoints/step_*); {fix}.")


def best_or_newest(path: Path) -> Path:
    """The best checkpoint of a run's folder; its newest one where none was chosen; `path` itself if it is a checkpoint.

    Raises:
        CheckpointError: there is none, or the newest, which says which is the best, is damaged.
    """
    newest = find_checkpoint(path)
    best = _read_description(newest).get("best")
    if newest == path or not best or not checkpoint_path(path, best["step"]).is_dir():
        return newest
    return checkpoint_path(path, best["step"])


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint, given its folder or that of its run, and checks every byte of it.

    Raises:
        CheckpointError: it is missing, foreign, of another format version, truncated or altered.
    """
    path = find_checkpoint(path)
    about = _read_description(path)
    tensors = {}
    for name in (MODEL, OPTIMIZER):
        if not (path / name).is_file():
            raise _damaged(path, f"{name} is missing")
        if _digest(path / name) != about["sha256"].get(name):
            raise _damaged(path, f"{name} is truncated or altered (its SHA-256 differs from that in {DESCRIPTION})")
        try:
            tensors[name] = load_file(path / name)
        except SafetensorError as error:
            raise _damaged(path, f"{name} is not a safetensors file: {error}") from error
    return Checkpoint(path, about, tensors[MODEL], tensors[OPTIMIZER])


def load_weights(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Puts a checkpoint's weights into a model.

    Raises:
        CheckpointError: they are of a model of another shape.
    """
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    saved = {name: tuple(value.shape) for name, value in checkpoint.weights.items()}
    for name in sorted(own.keys() | saved.keys()):
        if own.get(name) != saved.get(name):
            raise CheckpointError(
                f"{checkpoint.path} is of another model: {name} is {saved.get(name, 'missing')} there and "
                f"{own.get(name, 'missing')} here; use the options in its run's config.yaml."
            )
    model.load_state_dict(checkpoint.weights)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimizer as flat tensors `"<parameter number>.<state name>"`."""
    state = optimizer.state_dict()["state"]
    return {f"{number}.{name}": _on_cpu(value) for number, entry in state.items() for name, value in entry.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Puts `optimizer_tensors` back; learning rate, decay and the like stay as they are."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _read_description(path: Path) -> dict[str, Any]:
    try:
        about = json.loads((path / DESCRIPTION).read_text())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is no checkpoint: {DESCRIPTION} is missing.") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise _damaged(path, f"{DESCRIPTION} cannot be read: {error}") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no checkpoint of these trainers: its format is not '{FORMAT}'.")
    if about.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format version {about.get('format_version')}; this lensgen reads version {FORMAT_VERSION}."
        )
    digests = about.get("sha256")
    if not isinstance(digests, dict) or digests.get(DESCRIPTION) != _own_digest(about):
        raise _damaged(path, f"{DESCRIPTION} is altered (its SHA-256 differs from the one that it holds)")
    return about


def _damaged(path: Path, what: str) -> CheckpointError:
    others = [other for other in checkpoints(path.parent.parent) if other != path]
    fix = f"take the one before it, {others[-1]}" if others else "start the run anew"
    return CheckpointError(f"{path} is damaged: {what}; {fix}.")


def _remove(path: Path) -> None:
    """Deletes a checkpoint as it was written: a kill leaves it whole or not there at all."""
    shutil.rmtree(path.rename(path.with_name(f"{UNFINISHED}old_{path.name}")), ignore_errors=True)


def _on_cpu(value: Tensor) -> Tensor:
    return value.detach().cpu().contiguous()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _own_digest(description: dict[str, Any]) -> str:
    """SHA-256 of a description without this digest; it is of the values, not of how the file is laid out."""
    digests = {name: digest for name, digest in description["sha256"].items() if name != DESCRIPTION}
    return hashlib.sha256(json.dumps({**description, "sha256": digests}).encode()).hexdigest()


def _flush(path: Path) -> None:
    """Waits until a file or a folder's list of names is on the disk; only then is a rename safe against power loss."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
