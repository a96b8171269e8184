"""How detectable the substructure of test images is: simulated once, for all runs that are judged on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

import lensgen
from trainers.detectability import detectability


def simulate_detectability(
    root: Path, data: str, preset: str, changes: Sequence[str], images: int, progress: bool = True
) -> None:
    """Chi-square of the substructure of the first test images of a preset, into a file, if it is not there yet.

    Args:
        changes: of the preset, as `--set` has them.
    """
    path = _path(root, data)
    if path.is_file():
        return
    test = lensgen.benchmark(preset, "test", images, overrides=lensgen.parse_overrides(changes))
    index = torch.cat([batch.index for batch in test.batches(images)])
    simulator = test.simulator
    chi_square = detectability(lambda part, *names: simulator.with_outputs(*names).batch(indices=part), index, progress)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part.npz")
    np.savez(part, index=index.cpu().numpy(), detectability=chi_square)
    part.replace(path)


def read_detectability(root: Path, data: str, index: np.ndarray) -> np.ndarray:
    """Chi-square of the first of the test images `[N]` with these indices; infinite where there is no noise."""
    with np.load(_path(root, data)) as file:
        assert np.array_equal(file["index"], index[: len(file["index"])])
        return file["detectability"]


def _path(root: Path, data: str) -> Path:
    return root / "sets" / f"detectability_{data}.npz"
