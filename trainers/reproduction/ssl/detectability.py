"""How detectable the substructure of test images is: simulated once, for all runs that are judged on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tqdm import tqdm

import lensgen

_AT_A_TIME = 32


def simulate_detectability(root: Path, data: str, preset: str, images: int, progress: bool = True) -> None:
    """Chi-square of the substructure of the first test images of a preset, into a file, if it is not there yet."""
    path = _path(root, data)
    if path.is_file():
        return
    test = lensgen.benchmark(preset, "test", images)
    simulator = test.simulator.with_outputs("detectability")
    index, chi_square = [], []
    with tqdm(total=images, unit="image", desc=f"detectability, {preset}", disable=not progress) as bar:
        for batch in test.batches(_AT_A_TIME):
            found = simulator.batch(indices=batch.index).maps["detectability"]
            index.append(batch.index.cpu().numpy())
            chi_square.append(found.flatten().cpu().numpy())
            bar.update(len(batch.index))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part.npz")
    np.savez(part, index=np.concatenate(index), detectability=np.concatenate(chi_square))
    part.replace(path)


def read_detectability(root: Path, data: str, index: np.ndarray) -> np.ndarray:
    """Chi-square of the first of the test images `[N]` with these indices; infinite where there is no noise."""
    with np.load(_path(root, data)) as file:
        assert np.array_equal(file["index"], index[: len(file["index"])])
        return file["detectability"]


def _path(root: Path, data: str) -> Path:
    return root / "sets" / f"detectability_{data}.npz"
