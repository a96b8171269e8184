"""Frozen images that trained models are judged on: held out by a run, of a preset's benchmark, or a stored set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import lensgen
from trainers.config import DataConfig, ValidationConfig
from trainers.data import Batch, Data, open_data
from trainers.stored import read_stored
from trainers.unseen import require_unseen


@dataclass(frozen=True)
class FrozenImages:
    """Frozen images that a trained model is judged on.

    Attributes:
        size: how many.
        batches: a number of images -> batches of so many, always the same ones.
        truth: indices `[B]` and names of outputs -> the same images with these outputs.
        simulated: whether there is a truth.
        identity: says in `metrics.json` which images these are.
    """

    size: int
    batches: Callable[[int], Iterator[Batch]]
    truth: Callable[..., Batch | None]
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    identity: Mapping[str, Any]
    simulated: bool

    @classmethod
    def held_out(cls, data: Data) -> FrozenImages:
        """Those that a run keeps for its end."""
        return cls(data.test_size, data.test, data.truth, data.image_shape, data.class_names, data.identity,
                   data.benchmark is not None)  # fmt: skip

    @classmethod
    def of_preset(
        cls,
        preset: str,
        changes: Sequence[str],
        size: int,
        device: torch.device,
        outputs: tuple[str, ...] = ("image",),
        hr_factor: int = 2,
    ) -> FrozenImages:
        """The first `size` images of `lensgen.benchmark`, of a preset with changes as `--set` has them."""
        overrides = lensgen.parse_overrides(tuple(changes))
        benchmark = lensgen.benchmark(
            preset, "test", size, device=device, outputs=outputs, hr_factor=hr_factor, overrides=overrides
        )
        simulator = benchmark.simulator
        identity = {
            "preset": simulator.preset.name, "fingerprint": simulator.preset.fingerprint, "overrides": overrides
        }  # fmt: skip
        return cls(
            size,
            benchmark.batches,
            lambda index, *outputs: simulator.with_outputs(*outputs).batch(indices=index),
            simulator.image_shape,
            simulator.class_names,
            identity,
            simulated=True,
        )

    @classmethod
    def of_stored(cls, path: Path, about: Mapping[str, Any], device: torch.device) -> FrozenImages:
        """All rows of a stored set; of the set that a checkpoint was trained on those that it held out for the test.

        Args:
            about: of the checkpoint.

        Raises:
            ConfigError: the checkpoint's model, or its encoder, was trained on some of these images.
            DataError: the set cannot be read.
        """
        stored = read_stored(path)
        name = f"--data {path}, the checkpoint of step {about['step']}"
        if about["data"]["fingerprint"] == stored.fingerprint:
            held_out = ValidationConfig(**about["config"]["validation"])
            data = open_data(DataConfig(data=path), held_out, 1, device)
            require_unseen(about, stored.fingerprint, data.test_index, name, "Train it anew, or take another set.")
            return cls.held_out(data)
        rows = torch.arange(len(stored))
        require_unseen(about, stored.fingerprint, rows, name, "Take another set.")
        channels, height, width = stored.image.shape[1:]
        return cls(
            len(stored),
            lambda size: (stored.take(part, device) for part in rows.split(size)),
            lambda index, *outputs: None,
            (channels, height, width),
            stored.class_names,
            {"data": str(path), "fingerprint": stored.fingerprint, "images": len(stored)},
            simulated=False,
        )
