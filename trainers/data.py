"""What a trainer is fed with: a source of batches, frozen validation and test images, the transform of its inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

import lensgen
from trainers.ahead import SimulatedAhead
from trainers.config import DataConfig, ValidationConfig
from trainers.draws import key_of
from trainers.errors import DataError
from trainers.stored import StoredSet, StoredStream, read_stored
from trainers.transform import InputTransform

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
    @property
    def maps(self) -> dict[str, Tensor]: ...


class Source(Protocol):
    """An endless iterable of batches that knows its position."""

    def __iter__(self) -> Iterator[Any]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Data:
    """Everything a trainer is fed with.

    Attributes:
        source: training batches of this rank.
        fit, score: frozen validation images, disjoint from one another and from training.
        test_size: number of frozen test images, disjoint from all others.
        test_batches: a number of images -> batches of so many, the last one smaller; made when asked for.
        transform: what every model input goes through.
        image_shape: `(C, H, W)`.
        pixel_scale: side of a pixel [arcsec]; None where it is not known.
        class_names: names of the labels 0, 1, ...
        targets: names of the parameters that features are probed for.
        identity: says in a checkpoint which data these are.
        benchmark: the test images of a preset; None for a stored set.
        test_index: rows `[N]` of a stored set that are its test images; None for a preset.
        z_convention: the redshift of sources that lens parameters are stated for; None where it is that of the images'.
    """

    source: Source
    fit: Batch
    score: Batch
    test_size: int
    test_batches: Callable[[int], Iterator[Batch]]
    transform: InputTransform
    image_shape: tuple[int, int, int]
    pixel_scale: float | None
    class_names: tuple[str, ...]
    targets: tuple[str, ...]
    identity: dict[str, Any]
    benchmark: lensgen.Benchmark | None = None
    test_index: Tensor | None = None
    z_convention: float | None = None

    def test(self, size: int = 256) -> Iterator[Batch]:
        """The frozen test images, the same in the same order whatever `--seed` is; look at them once."""
        return self.test_batches(size)

    def truth(self, index: Tensor, *outputs: str) -> Batch | None:
        """The test images `[B]` of these indices with other outputs, e.g. "detectability"; None for a stored set."""
        if self.benchmark is None:
            return None
        return self.benchmark.simulator.with_outputs(*outputs).batch(indices=index)


def open_data(
    config: DataConfig,
    validation: ValidationConfig,
    batch_size: int,
    device: torch.device,
    rank: int = 0,
    world_size: int = 1,
    outputs: tuple[str, ...] = ("image",),
    hr_factor: int = 2,
    label: str | None = None,
) -> Data:
    """The simulator's stream or a stored set, as `config` says.

    Args:
        batch_size: images a batch, of each rank.
        outputs, hr_factor: as for `lensgen.Simulator`; of the stream alone.
        label: the name of the only class that there is to be an image of; None for all classes.

    Raises:
        ConfigError, DataError: see there; UnknownNameError: no such preset, field of a preset or class; PresetError: a
            change of the preset that is none.
    """
    config.require_one_source()
    if config.data is not None:
        stored = read_stored(config.data)
        return _open_stored(stored, config, validation, batch_size, device, rank, world_size, label)
    overrides = lensgen.parse_overrides(config.set)
    held_out = lensgen.Simulator(
        config.preset, config.seed, device, split="val", outputs=outputs, hr_factor=hr_factor
    ).override(overrides)
    fit = held_out.batch(start=0, size=validation.fit, label=label)
    score = held_out.batch(start=validation.fit, size=validation.score, label=label)
    stream = lensgen.LensStream(
        config.preset,
        batch_size=batch_size,
        seed=config.seed,
        device=device,
        rank=rank,
        world_size=world_size,
        overrides=overrides,
        outputs=outputs,
        hr_factor=hr_factor,
        label=label,
    )
    benchmark = lensgen.benchmark(
        config.preset,
        "test",
        validation.test,
        device=device,
        outputs=outputs,
        hr_factor=hr_factor,
        overrides=overrides,
        label=label,
    )
    return Data(
        source=SimulatedAhead(stream, config.workers) if config.workers else stream,
        fit=fit,
        score=score,
        test_size=validation.test,
        test_batches=benchmark.batches,
        transform=InputTransform(held_out.input_scale, config.input_transform),
        image_shape=held_out.image_shape,
        pixel_scale=fit.pixel_scale,
        class_names=held_out.class_names,
        targets=_worth_probing(fit, score, PROBED_PARAMETERS),
        identity={
            "preset": held_out.preset.name,
            "fingerprint": held_out.preset.fingerprint,
            "overrides": overrides,
            "seed": config.seed,
        }
        | ({} if label is None else {"label": label}),
        benchmark=benchmark,
        z_convention=held_out.preset.z_convention,
    )


def _open_stored(
    stored: StoredSet,
    config: DataConfig,
    validation: ValidationConfig,
    batch_size: int,
    device: torch.device,
    rank: int,
    world_size: int,
    label: str | None,
) -> Data:
    # by the set alone: with every --seed the same images are held out; and those for the test first, so that they are
    # never among those that a trainer with other sizes of validation learns from, unless it tests on fewer
    generator = torch.Generator().manual_seed(key_of(stored.fingerprint, "hold out"))
    order = torch.randperm(len(stored), generator=generator)
    of_class = ""
    if label is not None:
        order, of_class = order[stored.label[order] == stored.label_of(label)], f" of class {label}"
    sizes = [validation.test, validation.score, validation.fit]
    if sum(sizes) > len(order) // 2:
        raise DataError(
            f"--data {stored.path} has {len(order)} images{of_class}, of which validation and test would hold out "
            f"{sum(sizes)}, more than half; lower --validation.fit, --validation.score and --validation.test."
        )
    test_rows, score_rows, fit_rows, rows = order.split([*sizes, len(order) - sum(sizes)])
    if config.images is not None:
        if config.images > len(rows):
            raise DataError(f"--images is {config.images}; {stored.path} has {len(rows)} beside those held out.")
        generator.manual_seed(key_of(config.seed, "images"))
        rows = rows[torch.randperm(len(rows), generator=generator)[: config.images]]
    fit, score = stored.take(fit_rows, device), stored.take(score_rows, device)
    simulated = tuple(name for name in PROBED_PARAMETERS if name in stored.params)
    return Data(
        source=StoredStream(stored, rows, batch_size, config.seed, device, rank, world_size),
        fit=fit,
        score=score,
        test_size=validation.test,
        test_batches=lambda size: (stored.take(part, device) for part in test_rows.split(size)),
        transform=InputTransform(stored.scale or _one_percent_of_peaks(stored, rows), config.input_transform),
        image_shape=(stored.image.shape[1], stored.image.shape[2], stored.image.shape[3]),
        pixel_scale=stored.pixel_scale,
        class_names=stored.class_names,
        # of a set that a simulator saved the same as of a stream, not each of its dozens of columns
        targets=_worth_probing(fit, score, simulated or tuple(stored.params)),
        identity={"data": str(stored.path), "fingerprint": stored.fingerprint, "images": len(stored)}
        | ({} if config.images is None else {"trained_on": config.images})
        | ({} if label is None else {"label": label}),
        test_index=test_rows,
        z_convention=stored.z_convention,
    )


def _one_percent_of_peaks(stored: StoredSet, rows: Tensor) -> tuple[float, ...]:
    """1 % of the median peak of these rows, in all channels."""
    scale = 0.01 * float(stored.image[rows].flatten(1).amax(dim=1).median())
    if scale <= 0:
        raise DataError(f"--data {stored.path}: half of the images have no positive pixel. Subtract less sky.")
    return (scale,)


def _worth_probing(fit: Batch, score: Batch, names: tuple[str, ...]) -> tuple[str, ...]:
    """Those parameters that every image has and that are not the same for all."""
    return tuple(
        name
        for name in names
        if name in fit.params and fit.params[name].std() > 0 and torch.isfinite(score.params[name]).all()
    )
