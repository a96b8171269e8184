"""The options that trainers share, as nested dataclasses; `command_line.parse` fills them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

from trainers.errors import ConfigError
from trainers.transform import TransformName

Precision = Literal["auto", "32-true", "bf16-mixed"]


def require(name: str, value: float, low: float, high: float = float("inf")) -> None:
    """Raises `ConfigError` unless `low <= value <= high`."""
    if not low <= value <= high:
        allowed = f"{low:g} or more" if high == float("inf") else f"{low:g} to {high:g}"
        raise ConfigError(f"{name} is {value}; allowed: {allowed}.")


@dataclass(frozen=True)
class DataConfig:
    """Where images come from: exactly one of --stream and --data."""

    stream: bool = False
    """Simulate every image as it is needed; none is seen twice."""
    data: Path | None = None
    """A stored set: .npz or .h5 with image [N,C,H,W] or [N,H,W] and label [N]."""
    images: int | None = None
    """Train on so many images of a stored set, which --seed picks; what is held out for validation and test stays."""
    preset: str = "model_a"
    """What --stream simulates; `python -m lensgen info --list` names the presets."""
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Change a field of the preset, e.g. --set grid.size=32; may be repeated."""
    seed: int = 0
    """Seed of images, weights and masks."""
    workers: int = 0
    """Processes that simulate ahead, on a CPU; 0 simulates between the steps."""
    input_transform: TransformName = "asinh"
    """What model inputs go through: asinh in units of the noise, or each image scaled to 0..1 (paper mode)."""

    def __post_init__(self) -> None:
        require("workers", self.workers, 0)
        if self.images is not None:
            require("images", self.images, 1)

    def require_one_source(self) -> None:
        """Raises `ConfigError` unless exactly one of `stream` and `data` is given."""
        if self.stream and self.data is not None:
            raise ConfigError(f"--stream and --data {self.data} were both given; give one of the two.")
        if not self.stream and self.data is None:
            raise ConfigError("no images: give --stream to simulate them or --data PATH for a stored set.")
        if self.data is not None and self.set:
            raise ConfigError(f"--set {self.set[0]} changes a preset and does nothing to --data; leave it out.")
        if self.stream and self.images is not None:
            raise ConfigError(f"--images {self.images} is of a stored set; a stream is as long as the run's --steps.")


@dataclass(frozen=True)
class RunConfig:
    """Length, place and speed of the run."""

    steps: int = 1000
    """Optimizer steps; the learning rate's schedule spans them."""
    minutes: float | None = None
    """Time for the whole run; timed at start-up, which may lower --steps, once."""
    batch_size: int = 128
    """Images a step on each device."""
    out: Path | None = None
    """Folder of the run; by default the first free of runs/TRAINER_001, ..."""
    log_every: int = 10
    """Steps between updates of logs and progress."""
    validate_every: int = 250
    """Steps between validations, by which the best checkpoint is chosen."""
    checkpoint_every: int = 250
    """Steps between checkpoints."""
    keep: int = 2
    """Checkpoints kept; older ones are deleted."""
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    """Kind of device; auto takes a CUDA GPU where there is one. (Apple's MPS lacks the simulator's float64.)"""
    devices: int = 1
    """Number of devices (processes); each streams its own images."""
    strategy: str = "auto"
    """Lightning Fabric strategy; auto is ddp on several devices."""
    precision: Precision = "auto"
    """Number format; auto is bf16-mixed on a GPU, 32-true on a CPU."""
    compile: bool = False
    """Compile the model with torch.compile."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "log_every", "validate_every", "checkpoint_every", "keep", "devices"):
            require(name, getattr(self, name), 1)
        if self.minutes is not None:
            require("minutes", self.minutes, 0.1)

    @property
    def fabric_accelerator(self) -> str:
        """`accelerator` with auto resolved for this machine."""
        if self.accelerator != "auto":
            return self.accelerator
        return "cuda" if torch.cuda.is_available() else "cpu"

    @property
    def fabric_precision(self) -> Any:
        """`precision` with auto resolved for this machine."""
        if self.precision != "auto":
            return self.precision
        return "bf16-mixed" if self.fabric_accelerator == "cuda" else "32-true"


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with a linear warm-up and a cosine to the end."""

    lr: float = 1e-3
    """Peak learning rate, for the whole batch as it is."""
    final_lr: float = 0.01
    """Learning rate at the last step, as a fraction of the peak."""
    warmup: float = 0.1
    """Fraction of the steps over which the rate climbs from zero."""
    weight_decay: float = 0.05
    """Decoupled weight decay; none on biases, norms and tokens."""
    beta1: float = 0.9
    """Decay of the mean of gradients."""
    beta2: float = 0.95
    """Decay of the mean of squared gradients."""
    clip: float | None = 1.0
    """Largest norm of the gradient; None does not clip."""
    layer_decay: float | None = None
    """Factor of the rate from each block of an encoder to the one before it, for fine-tuning; None: all learn alike."""

    def __post_init__(self) -> None:
        require("optimizer.lr", self.lr, 1e-12, 10)
        require("optimizer.weight_decay", self.weight_decay, 0)
        for name in ("final_lr", "warmup"):
            require(f"optimizer.{name}", getattr(self, name), 0, 1)
        for name in ("beta1", "beta2"):
            require(f"optimizer.{name}", getattr(self, name), 0, 0.99999)
        if self.clip is not None:
            require("optimizer.clip", self.clip, 1e-6)
        if self.layer_decay is not None:
            require("optimizer.layer_decay", self.layer_decay, 0.01, 1)


@dataclass(frozen=True)
class ValidationConfig:
    """Frozen images, none of them trained on: two groups for validation, and the test images."""

    fit: int = 1000
    """Validation images on which what a validation needs is fitted: mean image, probes, a linear layer's scaling."""
    score: int = 500
    """Validation images that are scored (trainers.classify scores those of --validation.fit too)."""
    test: int = 3000
    """Frozen test images, looked at once, at the end; those of lensgen.benchmark when they are simulated."""
    neighbours: int = 20
    """Neighbours that vote in kNN."""

    def __post_init__(self) -> None:
        require("validation.neighbours", self.neighbours, 1)
        require("validation.fit", self.fit, max(10, self.neighbours))
        require("validation.score", self.score, 10)
        require("validation.test", self.test, 1)


@dataclass(frozen=True)
class TrainerConfig:
    """What every trainer has; a trainer's own options are fields of a subclass."""

    config: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """A recipe: a YAML file or a name in trainers/recipes; flags override it."""
    resume: Path | None = None
    """Go on with the run in this folder, or from one of its checkpoints; on the same machine with as many threads the
    losses are those of a run that was never interrupted, to six decimals."""
    data: tyro.conf.OmitArgPrefixes[DataConfig] = field(default_factory=DataConfig)
    run: tyro.conf.OmitArgPrefixes[RunConfig] = field(default_factory=RunConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
