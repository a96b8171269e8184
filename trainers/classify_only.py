"""`python -m trainers.classify --evaluate-only RUN`: a saved classifier on other images, without training."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

from trainers.checkpoint import best_or_newest, load_weights, read_checkpoint
from trainers.classify_evaluation import METRICS, NO_STORED_DETECTABILITY, evaluate, require_same_kind
from trainers.command_line import run_folder
from trainers.config import RunConfig, require
from trainers.errors import ConfigError, OutputError
from trainers.frozen import FrozenImages
from trainers.models.classifier import restore
from trainers.session import launch
from trainers.transform import InputTransform
from trainers.views import require_square


@dataclass(frozen=True)
class EvaluateConfig:
    """Test a classifier on images that it was not trained on. What is left out is as it was in training."""

    evaluate_only: Path
    """A run of trainers.classify, of which the best checkpoint is taken, or one of its checkpoints."""
    stream: bool = False
    """Simulated test images (--preset and --set say so too)."""
    data: Path | None = None
    """A stored set, of which all rows are tested; of the set of the training those that it held out for the test."""
    preset: str | None = None
    """Test images of this preset."""
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Change a field of the preset; with no --preset added to the changes of the training."""
    size: Annotated[int | None, tyro.conf.arg(name="validation.test")] = None
    """Number of simulated test images."""
    average_d4: bool = False
    """Mean of the probabilities of the eight rotations and reflections of an image."""
    detectability: int | None = None
    """How many test images, the first ones, to simulate the detectability of their substructure for (slow)."""
    out: Path | None = None
    """Folder of metrics.json and the figures; by default the first free of RUN/evaluation_001, ..."""
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    """Kind of device."""

    def __post_init__(self) -> None:
        if self.size is not None:
            require("validation.test", self.size, 1)
        if self.detectability is not None:
            require("detectability", self.detectability, 0)
        if self.data is not None:
            if self.stream or self.preset is not None or self.set:
                raise ConfigError(f"--data {self.data} and a preset were both given; give one of the two.")
            if self.size is not None:
                raise ConfigError(f"--validation.test {self.size}: a stored set is tested whole; leave it out.")
            if self.detectability:
                raise ConfigError(NO_STORED_DETECTABILITY)


def asks_to_evaluate_only(argv: Sequence[str] | None) -> bool:
    """Whether `--evaluate-only` is on the command line."""
    return _path(argv) is not None


def evaluate_only(argv: Sequence[str] | None, prog: str) -> int:
    """Tests a checkpoint as the command line says; returns the exit status: 0, or 130 after Ctrl-C."""
    path = _path(argv)
    assert path is not None
    checkpoint = read_checkpoint(best_or_newest(path))
    about = checkpoint.about
    model = restore(about)
    start = EvaluateConfig(path, average_d4=about["config"]["average_d4"])
    config = tyro.cli(EvaluateConfig, default=start, args=argv, prog=prog, config=(tyro.conf.FlagCreatePairsOff,))
    device = launch(RunConfig(accelerator=config.accelerator)).device
    images = _images(config, about, device)
    require_same_kind(images, about, checkpoint.path)
    if config.average_d4:
        require_square(images.image_shape)
    detectability = config.detectability
    if detectability is None:
        detectability = about["config"]["detectability"] if images.simulated else 0
    elif detectability and not images.simulated:
        raise ConfigError(NO_STORED_DETECTABILITY)
    folder = _folder(config.out, run_folder(checkpoint.path))
    load_weights(model, checkpoint)
    try:
        files = evaluate(
            model.to(device),
            InputTransform.from_json(about["transform"]),
            images,
            tuple(about["class_names"]),
            folder,
            {"checkpoint": str(checkpoint.path), "step": about["step"], "method": about["model"]["method"]},
            config.average_d4,
            detectability,
        )
    except OSError as error:
        raise OutputError(f"the figures could not be written into {folder}: {error}; name another --out.") from error
    except KeyboardInterrupt:
        print("\ninterrupted; nothing was written.", file=sys.stderr)
        return 130
    for file in (folder / METRICS, *files):
        print(f"written          {file}")
    return 0


def _path(argv: Sequence[str] | None) -> Path | None:
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for flag in ("--evaluate-only", "--evaluate_only"):
        early.add_argument(flag, type=Path, dest="path")
    return early.parse_known_args(argv)[0].path


def _images(config: EvaluateConfig, about: Mapping[str, Any], device: torch.device) -> FrozenImages:
    before = about["config"]
    simulates = config.stream or config.preset is not None or config.set
    data = config.data
    if data is None and not simulates and before["data"] is not None:
        data = Path(before["data"])
    if data is not None:
        return FrozenImages.of_stored(data, about, device)
    changes = config.set if config.preset is not None else (*before["set"], *config.set)
    size = config.size or before["validation"]["test"]
    return FrozenImages.of_preset(config.preset or before["preset"], changes, size, device)


def _folder(asked: Path | None, run: Path) -> Path:
    if asked is None:
        numbered = (run / f"evaluation_{number:03d}" for number in itertools.count(1))
        return next(path for path in numbered if not path.exists())
    if (asked / METRICS).exists():
        raise ConfigError(f"--out {asked} holds a {METRICS} already; name another folder.")
    return asked
