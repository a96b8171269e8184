"""Stored sets: `.npz` and HDF5 files with `image`, `label` and, optionally, columns of numbers to probe for."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from trainers.errors import DataError

ATTRIBUTES = ("class_names", "input_scale", "pixel_scale", "z_convention")


@dataclass(frozen=True)
class StoredBatch:
    """Some images of a stored set, with the names of `lensgen.Batch`.

    Attributes:
        image: `[B, C, H, W]` float32.
        label: `[B]` int64.
        params: name -> `[B]`, the float columns of the file.
        index: `[B]` int64, rows of the file.
        maps: nothing.
    """

    image: Tensor
    label: Tensor
    params: dict[str, Tensor]
    index: Tensor
    maps: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredSet:
    """A whole file in memory, as `StoredBatch` describes it.

    Attributes:
        class_names: names of the labels; "class 0" and so on where the file does not say.
        scale, pixel_scale: the input transform's scale of each channel, and the side of a pixel [arcsec]; None where
            the file does not say.
        z_convention: the redshift of sources that lens parameters are stated for, where it is not that of the images'
            sources; None where it is, or where the file does not say.
    """

    path: Path
    image: Tensor
    label: Tensor
    params: dict[str, Tensor]
    fingerprint: str
    class_names: tuple[str, ...]
    scale: tuple[float, ...] | None = None
    pixel_scale: float | None = None
    z_convention: float | None = None

    def __len__(self) -> int:
        return len(self.image)

    def label_of(self, name: str) -> int:
        """The label of the images of a class; DataError if there is no such class."""
        if name not in self.class_names:
            raise DataError(
                f"--data {self.path} has no class {name}, but {', '.join(self.class_names)}: name what the labels "
                "stand for by class_names, an attribute of an HDF5 file or an array of an .npz file."
            )
        return self.class_names.index(name)

    def take(self, rows: Tensor, device: torch.device) -> StoredBatch:
        """These rows `[B]` of the file, on `device`."""
        params = {name: column[rows].to(device) for name, column in self.params.items()}
        return StoredBatch(self.image[rows].to(device), self.label[rows].to(device), params, rows.to(device))


def read_stored(path: Path) -> StoredSet:
    """Reads a stored set; nothing in it is unpickled. A process that reads the same file again has it from memory.

    The attributes `class_names`, `input_scale`, `pixel_scale` and `z_convention` of an HDF5 file, as
    `lensgen.Benchmark.save` writes them, are used where they are there, and so are arrays of these names of an .npz
    file.

    Raises:
        DataError: no such file, another format, a damaged file, missing or mis-shaped arrays, NaN in the images.
    """
    if not path.is_file():
        raise DataError(f"--data {path}: there is no such file.")
    if path.suffix not in {".npz", ".h5", ".hdf5"}:
        raise DataError(f"--data {path}: the format is not known by '{path.suffix}'; give .npz, .h5 or .hdf5.")
    status = path.stat()
    return _read(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=2)
def _read(path: Path, changed: int, size: int) -> StoredSet:
    """`changed` and `size` are there for the cache: a file that was written anew is read anew."""
    try:
        arrays, attributes = _read_npz(path) if path.suffix == ".npz" else _read_hdf5(path)
    except (OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
        raise DataError(f"--data {path} cannot be read as {path.suffix[1:]}: {error}") from error
    return _check(path, arrays, attributes)


def _read_npz(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
        return arrays, {name: arrays.pop(name) for name in ATTRIBUTES if name in arrays}


def _read_hdf5(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with h5py.File(path, "r") as file:
        arrays = {name: item[()] for name, item in file.items() if isinstance(item, h5py.Dataset) and item.ndim}
        return arrays, dict(file.attrs)


def _check(path: Path, arrays: dict[str, np.ndarray], attributes: dict[str, Any]) -> StoredSet:
    for name in ("image", "label"):
        if name not in arrays:
            raise DataError(f"--data {path} has no array '{name}'; it has: {', '.join(sorted(arrays)) or 'none'}.")
    image, label = arrays["image"], arrays["label"]
    if image.ndim == 3:
        image = image[:, None]
    if image.ndim != 4 or image.dtype.kind not in "fiu" or not image.size:
        raise DataError(f"--data {path}: image is {image.dtype} {image.shape}; it must be [N,C,H,W] or [N,H,W].")
    if label.shape != (len(image),) or label.dtype.kind not in "iu" or label.min() < 0:
        raise DataError(
            f"--data {path}: label is {label.dtype} {label.shape}; it must be integers from 0, of shape [{len(image)}]."
        )
    image = np.ascontiguousarray(image, dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(image).all(axis=(1, 2, 3)))
    if bad.size:
        raise DataError(f"--data {path}: {bad.size} images are not finite, first in row {bad[0]}; leave them out.")
    params = {
        name: torch.from_numpy(column.astype(np.float32))
        for name, column in sorted(arrays.items())
        if column.shape == (len(image),) and column.dtype.kind == "f"
    }
    digest = hashlib.sha256(image.data)  # no copy: a set may fill half of the memory
    digest.update(np.ascontiguousarray(label, dtype=np.int64).data)
    return StoredSet(
        path,
        torch.from_numpy(image),
        torch.from_numpy(label.astype(np.int64)),
        params,
        digest.hexdigest()[:16],
        _class_names(path, attributes.get("class_names"), int(label.max()) + 1),
        _numbers(path, attributes, "input_scale"),
        _number(path, attributes, "pixel_scale"),
        _number(path, attributes, "z_convention"),
    )


def _class_names(path: Path, names: Any, least: int) -> tuple[str, ...]:
    if names is None:
        return tuple(f"class {number}" for number in range(least))
    if np.ndim(names) != 1 or len(names) < least:
        raise DataError(f"--data {path}: class_names is {names!r}; there are labels up to {least - 1}, name each.")
    return tuple(str(name) for name in names)


def _numbers(path: Path, attributes: dict[str, Any], name: str) -> tuple[float, ...] | None:
    if name not in attributes:
        return None
    try:
        found = np.asarray(attributes[name], dtype=np.float64).reshape(-1)
    except (TypeError, ValueError):
        found = np.zeros(0)
    if not found.size or not (np.isfinite(found) & (found > 0)).all():
        raise DataError(f"--data {path}: its attribute {name} is {attributes[name]!r}; it must be positive.")
    return tuple(found.tolist())


def _number(path: Path, attributes: dict[str, Any], name: str) -> float | None:
    found = _numbers(path, attributes, name)
    return None if found is None else found[0]


class StoredStream:
    """Endless batches of some rows of a stored set, each epoch in a new order that depends on seed and epoch alone.

    Rank r of w takes the batches r, r+w, ..., as `lensgen.LensStream` does.
    """

    def __init__(
        self,
        stored: StoredSet,
        rows: Tensor,
        batch_size: int,
        seed: int,
        device: torch.device,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.stored, self.rows, self.batch_size, self.seed, self.device = stored, rows, batch_size, seed, device
        self.rank, self.world_size = rank, world_size
        self.next_batch = 0

    def __iter__(self) -> Iterator[StoredBatch]:
        while True:
            first = (self.next_batch * self.world_size + self.rank) * self.batch_size
            self.next_batch += 1
            yield self.stored.take(self._rows_at(first), self.device)

    def _rows_at(self, first: int) -> Tensor:
        """The rows at positions first, ..., first + batch_size - 1 of the endless sequence of epochs."""
        parts, missing = [], self.batch_size
        while missing:
            epoch, offset = divmod(first, len(self.rows))
            order = np.random.default_rng((self.seed, epoch)).permutation(len(self.rows))
            parts.append(self.rows[order[offset : offset + missing]])
            first, missing = first + len(parts[-1]), missing - len(parts[-1])
        return torch.cat(parts)

    def state_dict(self) -> dict[str, Any]:
        """The position, as JSON-able numbers."""
        return {"next_batch": self.next_batch, "seed": self.seed, "fingerprint": self.stored.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes to a saved position.

        Raises:
            ValueError: the position is of other images or another seed, or there is none.
        """
        for name in ("seed", "fingerprint"):
            if state.get(name) != self.state_dict()[name]:
                raise ValueError(
                    f"{name} of {self.stored.path} is {self.state_dict()[name]}, that of the saved position "
                    f"{state.get(name)}: it is another set. Give the same --data and --seed, or start a new run."
                )
        position = state.get("next_batch")
        if not isinstance(position, int) or position < 0:
            raise ValueError(f"the saved position has next_batch = {position!r}; it must be a whole number from 0.")
        self.next_batch = position
