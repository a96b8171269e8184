"""What a trainer is fed with: a source of batches, frozen validation images, and the one transform of its inputs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader

import lensgen
from trainers.config import DataConfig, ValidationConfig
from trainers.errors import ConfigError, DataError
from trainers.stored import StoredSet, StoredStream, read_stored

# What the encoder's features are probed for when images are simulated.
PROBED_PARAMETERS = ("lens.theta_E", "source.center_x", "source.center_y")


class Batch(Protocol):
    """What trainers use of a batch; `lensgen.Batch` and `StoredBatch` are such."""

    @property
    def image(self) -> Tensor: ...
    @property
    def label(self) -> Tensor: ...
    @property
    def params(self) -> dict[str, Tensor]: ...
    @property
    def index(self) -> Tensor: ...


class Source(Protocol):
    """An endless iterable of batches that knows its position."""

    def __iter__(self) -> Iterator[Any]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class SimulatedAhead:
    """A stream whose batches other processes simulate while the model trains: the same ones in the same order.

    While it is iterated, torch uses no more threads than cores are left beside the workers.

    Args:
        stream: on the CPU.
        workers: number of processes, 1 or more.
    """

    def __init__(self, stream: lensgen.LensStream, workers: int) -> None:
        self.stream, self.workers = stream, workers

    def __iter__(self) -> Iterator[lensgen.Batch]:
        before = torch.get_num_threads()
        # a core for each worker: with more threads than cores both would wait for one another
        torch.set_num_threads(max(1, min(before, usable_cores() - self.workers)))
        try:
            for batch in DataLoader(self.stream, batch_size=None, num_workers=self.workers, prefetch_factor=4):
                self.stream.skip(1)  # the workers' copies of the stream moved, this one did not
                yield batch
        finally:
            torch.set_num_threads(before)

    def state_dict(self) -> dict[str, Any]:
        """That of the stream after the batches that were handed out, however many are simulated already."""
        return self.stream.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes to a saved position; takes effect when iteration begins anew."""
        self.stream.load_state_dict(state)


@dataclass(frozen=True)
class InputTransform:
    """asinh(x / scale): linear in the noise, logarithmic in the bright arcs, fixed for a data set.

    Attributes:
        scale: of each channel, the sky noise in the units of the images, or 1 % of the median peak of a noise-free
            set.
    """

    scale: tuple[float, ...]

    def __post_init__(self) -> None:
        # a checkpoint from before there were bands holds one number
        object.__setattr__(self, "scale", (self.scale,) if isinstance(self.scale, float) else tuple(self.scale))
        if not all(0 < s < float("inf") for s in self.scale):
            raise ConfigError(f"the input transform's scale is {self.scale}; it must be positive and finite.")

    def __call__(self, image: Tensor) -> Tensor:
        """Transformed images `[..., C, H, W]`."""
        if len(self.scale) == 1:
            return torch.asinh(image / self.scale[0])
        return torch.asinh(image / image.new_tensor(self.scale).view(-1, 1, 1))


@dataclass(frozen=True)
class Data:
    """Everything a trainer is fed with.

    Attributes:
        source: training batches of this rank.
        fit, score: frozen validation images, disjoint from one another and from training.
        transform: what every model input goes through.
        image_shape: `(C, H, W)`.
        pixel_scale: side of a pixel [arcsec]; None where it is not known.
        class_names: names of the labels 0, 1, ...
        targets: names of the parameters that features are probed for.
        identity: says in a checkpoint which data these are.
    """

    source: Source
    fit: Batch
    score: Batch
    transform: InputTransform
    image_shape: tuple[int, int, int]
    pixel_scale: float | None
    class_names: tuple[str, ...]
    targets: tuple[str, ...]
    identity: dict[str, Any]


def usable_cores() -> int:
    """Cores that this process may run on: fewer than the machine has under taskset, Slurm or a container's cpuset."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def key_of(*parts: object) -> int:
    """A 63-bit seed that depends on all parts, for random numbers that must not depend on anything drawn before."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def open_data(
    config: DataConfig,
    validation: ValidationConfig,
    batch_size: int,
    device: torch.device,
    rank: int = 0,
    world_size: int = 1,
) -> Data:
    """The simulator's stream or a stored set, as `config` says.

    Args:
        batch_size: images a batch, of each rank.

    Raises:
        ConfigError, DataError: see there; UnknownNameError: no such preset or field of a preset; PresetError: a change
            of the preset that is none.
    """
    config.require_one_source()
    if config.data is not None:
        stored = read_stored(config.data)
        return _open_stored(stored, config, validation, batch_size, device, rank, world_size)
    return _open_stream(config, validation, batch_size, device, rank, world_size)


def _open_stream(
    config: DataConfig, validation: ValidationConfig, batch_size: int, device: torch.device, rank: int, world_size: int
) -> Data:
    overrides = lensgen.parse_overrides(config.set)
    held_out = lensgen.Simulator(config.preset, seed=config.seed, device=device, split="val").override(overrides)
    fit = held_out.batch(start=0, size=validation.fit)
    score = held_out.batch(start=validation.fit, size=validation.score)
    stream = lensgen.LensStream(
        config.preset,
        batch_size=batch_size,
        seed=config.seed,
        device=device,
        rank=rank,
        world_size=world_size,
        overrides=overrides,
    )
    return Data(
        source=SimulatedAhead(stream, config.workers) if config.workers else stream,
        fit=fit,
        score=score,
        transform=InputTransform(held_out.input_scale),
        image_shape=held_out.image_shape,
        pixel_scale=fit.pixel_scale,
        class_names=held_out.class_names,
        targets=_worth_probing(fit, score, PROBED_PARAMETERS),
        identity={
            "preset": held_out.preset.name,
            "fingerprint": held_out.preset.fingerprint,
            "overrides": overrides,
            "seed": config.seed,
        },
    )


def _open_stored(
    stored: StoredSet,
    config: DataConfig,
    validation: ValidationConfig,
    batch_size: int,
    device: torch.device,
    rank: int,
    world_size: int,
) -> Data:
    generator = torch.Generator().manual_seed(key_of(config.seed, "hold out"))
    order = torch.randperm(len(stored), generator=generator)
    held_out = validation.fit + validation.score
    if held_out > len(stored) // 2:
        raise DataError(
            f"--data {stored.path} has {len(stored)} images, of which validation would hold out {held_out}, more than "
            "half; lower --validation.fit and --validation.score."
        )
    rows = order[held_out:]
    image = stored.image
    peaks = image[rows].flatten(1).amax(dim=1)
    scale = 0.01 * float(peaks.median())
    if scale <= 0:
        raise DataError(f"--data {stored.path}: half of the images have no positive pixel. Subtract less sky.")
    fit = stored.take(order[: validation.fit], device)
    score = stored.take(order[validation.fit : held_out], device)
    return Data(
        source=StoredStream(stored, rows, batch_size, config.seed, device, rank, world_size),
        fit=fit,
        score=score,
        transform=InputTransform((scale,)),
        image_shape=(image.shape[1], image.shape[2], image.shape[3]),
        pixel_scale=None,
        class_names=tuple(f"class {number}" for number in range(int(stored.label.max()) + 1)),
        targets=_worth_probing(fit, score, tuple(stored.params)),
        identity={"data": str(stored.path), "fingerprint": stored.fingerprint, "images": len(stored)},
    )


def _worth_probing(fit: Batch, score: Batch, names: tuple[str, ...]) -> tuple[str, ...]:
    """Those parameters that every image has and that are not the same for all."""
    return tuple(
        name
        for name in names
        if name in fit.params and fit.params[name].std() > 0 and torch.isfinite(score.params[name]).all()
    )
