"""Pairs that only a simulator can make: two images of one index, of which the second is drawn anew in part.

The same lens and the same dark matter with another source, noise, PSF or telescope, or another lens of the same class.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

import lensgen
from trainers.ahead import SimulatedAhead
from trainers.config import DataConfig
from trainers.data import Batch, Data
from trainers.errors import ConfigError
from trainers.transform import InputTransform

TWIN = "twin"  # the second image, among the maps of a batch
SECOND = "second"  # the position of the stream of second images, in that of the pairs


@dataclass(frozen=True)
class Pair:
    """A batch and its twin: `Batch` as trainers use it, with the second images as the map "twin".

    Attributes:
        first: whose image, label, params and index are the pair's.
        second: of the same indices.
    """

    first: Batch
    second: Batch

    @property
    def image(self) -> Tensor:
        return self.first.image

    @property
    def label(self) -> Tensor:
        return self.first.label

    @property
    def params(self) -> dict[str, Tensor]:
        return self.first.params

    @property
    def index(self) -> Tensor:
        return self.first.index

    @property
    def maps(self) -> dict[str, Tensor]:
        return {**self.first.maps, TWIN: self.second.image}


@dataclass(frozen=True)
class Change:
    """What the second image of a pair has otherwise.

    Args:
        parts: drawn anew, of `lensgen.twins.PARTS`.
        telescope: that it is seen through; None for the same.
    """

    parts: tuple[str, ...]
    telescope: str | None = None

    def __post_init__(self) -> None:
        if not self.parts and self.telescope is None:
            raise ConfigError("--views simulate with nothing changed shows the same image twice; give --change source.")

    @property
    def overrides(self) -> dict[str, Any]:
        return {} if self.telescope is None else {"instrument": self.telescope}

    @property
    def code(self) -> str:
        """What comes after a simulator in Python to make it that of the second images."""
        twin = f".twin({', '.join(map(repr, self.parts))})" if self.parts else ""
        return twin + (f".override({self.overrides!r})" if self.overrides else "")

    def of(self, simulator: lensgen.Simulator) -> lensgen.Simulator:
        """The simulator of the second images."""
        changed = simulator.twin(*self.parts) if self.parts else simulator
        return changed.override(self.overrides) if self.overrides else changed


class PairStream(IterableDataset[Pair]):
    """Endless pairs of a stream's images and their twins, with the one position that both have.

    Args:
        stream: of the first images.
        change: what the second ones have otherwise.
    """

    def __init__(self, stream: lensgen.LensStream, change: Change) -> None:
        self.stream, self.change = stream, change
        self.twin = stream.twin(*change.parts, overrides=change.overrides or None)

    def __iter__(self) -> Iterator[Pair]:
        for first, second in zip(self.stream, self.twin, strict=True):
            yield Pair(first, second)

    def state_dict(self) -> dict[str, Any]:
        """Where both stand, as JSON can hold it."""
        return {**self.stream.state_dict(), SECOND: self.twin.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes to a saved position; ValueError if it is of other pairs."""
        if SECOND not in state:
            raise ValueError("the saved stream has no twin: its run did not take --views simulate.")
        self.stream.load_state_dict({name: value for name, value in state.items() if name != SECOND})
        self.twin.load_state_dict(state[SECOND])

    def skip(self, batches: int) -> None:
        """Leaves out the next `batches` of this rank."""
        self.stream.skip(batches)
        self.twin.skip(batches)


def with_twins(data: Data, config: DataConfig, change: Change) -> tuple[Data, InputTransform]:
    """`data` whose batches of training, `score` and test are pairs, and the transform of their second images.

    Raises:
        ConfigError: a stored set, nothing that the preset draws, or a telescope that makes images of another shape.
        UnknownNameError: a part or a telescope that there is not.
    """
    if config.data is not None or data.benchmark is None:
        raise ConfigError(no_stored_twins(config.data))
    stream = data.source.stream if isinstance(data.source, SimulatedAhead) else data.source
    assert isinstance(stream, lensgen.LensStream)
    pairs = PairStream(stream, change)
    seen = pairs.twin.simulator
    if seen.image_shape != data.image_shape:
        raise ConfigError(
            f"--telescope {change.telescope} makes images of {seen.image_shape}, the preset's are {data.image_shape}; "
            "take one with as many bands."
        )
    held_out = lensgen.Simulator(config.preset, config.seed, stream.simulator.device, split="val")
    second = change.of(held_out.override(lensgen.parse_overrides(config.set)))
    seconds = second.batch(indices=data.score.index)
    if torch.equal(seconds.image, data.score.image):
        raise ConfigError(
            f"--change {' '.join(change.parts)} changes nothing: {held_out.preset.name} draws no such thing, and both "
            "images are the same; change something else, e.g. --change source."
        )
    tested = change.of(data.benchmark.simulator)
    batches = data.test_batches
    changed = dataclasses.replace(
        data,
        source=SimulatedAhead(pairs, config.workers) if config.workers else pairs,
        score=Pair(data.score, seconds),
        test_batches=lambda size: (Pair(batch, tested.batch(indices=batch.index)) for batch in batches(size)),
    )
    return changed, InputTransform(seen.input_scale, config.input_transform)


def no_stored_twins(path: Path | None) -> str:
    """What is said of --views simulate with the stored set `path`."""
    return (
        f"--views simulate renders each lens twice, which a stored set such as {path} cannot: give --stream, or "
        "--views augment."
    )


def views_of(batch: Batch) -> tuple[Tensor, Tensor]:
    """The two images `[B, C, H, W]` of each lens: its own, twice if it has no twin."""
    return batch.image, batch.maps.get(TWIN, batch.image)
