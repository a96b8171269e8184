"""How files of galaxy cutouts are laid out: each layout gives images by their number, and labels of all of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lensgen.errors import DataError, require_whole
from lensgen.files import read_array

MOST_PIXELS = 1 << 14  # of a side: so much is read at a time
_FITS, _HDF5 = (".fits", ".fit", ".fts"), (".h5", ".hdf5")


class Source(Protocol):
    """Images by number, one at a time."""

    def __len__(self) -> int: ...

    def labels(self) -> list[str]:
        """Names of what is known of every image."""
        ...

    def label(self, name: str) -> np.ndarray:
        """`[N]`."""
        ...

    def largest(self, chosen: np.ndarray) -> tuple[int, int]:
        """Rows and columns that all of the chosen images fit in."""
        ...

    def order(self, chosen: np.ndarray) -> list[int]:
        """Positions in `chosen`, in the order in which its images are read quickest."""
        ...

    def image(self, number: int) -> np.ndarray:
        """`[h, w]`, of any dtype."""
        ...


@contextlib.contextmanager
def open_source(path: Path, key: str | int | None, channel: int | None) -> Iterator[Source]:
    """The cutouts in a file or folder; DataError, naming it, for what is none."""
    with contextlib.ExitStack() as files:
        yield _opened(path, key, channel, files)


def _opened(path: Path, key: str | int | None, channel: int | None, files: contextlib.ExitStack) -> Source:
    if path.is_dir():
        found = sorted(f for f in path.iterdir() if _suffix(f) in _FITS)
        if not found:
            raise DataError(f"{path}: the folder holds no FITS file ({', '.join(_FITS)}).")
        return _Folder(path, [(f, key) for f in found], {}, files)
    if not path.is_file():
        raise DataError(f"{path} is not there: give the path of a FITS, HDF5 or .npy file, or of a folder of FITS.")
    if _suffix(path) in _HDF5:
        return _hdf5(path, key, channel, files)
    if _suffix(path) in _FITS:
        catalogue = _catalogue(path, files) if key is None else None
        if catalogue is not None:
            return catalogue
        return _Stack(_Section(_image_unit(_fits_file(path, str(path), files), key, str(path))), {}, path, channel)
    if path.suffix == ".npy" and key is None:
        try:
            array: Any = np.load(path, mmap_mode="r", allow_pickle=False)
        except Exception as error:  # a damaged file leads its reader to whatever it leads it to
            raise unreadable(path, error) from None
        return _Stack(array, {}, path, channel)
    return _Stack(read_array(path, key), {}, path, channel)


def unreadable(what: object, error: Exception) -> DataError:
    return DataError(f"{what} cannot be read: {error}. Is it whole, and what its suffix says?")


def _suffix(path: Path) -> str:
    return Path(path.stem).suffix.lower() if path.suffix.lower() in (".gz", ".fz") else path.suffix.lower()


def _require_small(sides: tuple[int, int], where: object) -> None:
    if max(sides) > MOST_PIXELS:
        raise DataError(f"{where}: {sides[0]} x {sides[1]} pixels are no cutout: at most {MOST_PIXELS} a side.")


class _Stack:
    """An array `[h, w]`, `[N, h, w]` or `[N, h, w, channels]`, of which only what is asked for is read."""

    def __init__(self, array: Any, labels: dict[str, np.ndarray], path: Path, channel: int | None) -> None:
        if array.dtype.kind not in "fiu" or len(array.shape) not in (2, 3, 4) or 0 in array.shape:
            raise DataError(
                f"{path}: {array.dtype} {list(array.shape)} is no image: give numbers [h, w], [N, h, w] or "
                "[N, h, w, channels]."
            )
        if channel is not None:
            if len(array.shape) != 4:
                raise DataError(f"{path}: channel = {channel!r}, but the images have no channels: {list(array.shape)}.")
            require_whole("channel", channel, 0, array.shape[3] - 1)
        self._array, self._labels, self._channel = array, labels, channel
        _require_small(self.largest(np.arange(1)), path)

    def __len__(self) -> int:
        return 1 if len(self._array.shape) == 2 else self._array.shape[0]

    def labels(self) -> list[str]:
        return list(self._labels)

    def label(self, name: str) -> np.ndarray:
        return self._labels[name]

    def largest(self, chosen: np.ndarray) -> tuple[int, int]:
        height, width = self._array.shape if len(self._array.shape) == 2 else self._array.shape[1:3]
        return int(height), int(width)

    def order(self, chosen: np.ndarray) -> list[int]:
        return list(range(len(chosen)))

    def image(self, number: int) -> np.ndarray:
        image = np.asarray(self._array[()] if len(self._array.shape) == 2 else self._array[number])
        if image.ndim == 3:
            return image.mean(2, dtype=np.float64) if self._channel is None else image[:, :, self._channel]
        return image


def _hdf5(path: Path, key: str | int | None, channel: int | None, files: contextlib.ExitStack) -> _Stack:
    import h5py

    try:
        file = files.enter_context(h5py.File(path, "r"))
    except OSError as error:
        raise unreadable(path, error) from None
    sets: dict[str, Any] = {}
    file.visititems(lambda name, item: sets.update({name: item} if isinstance(item, h5py.Dataset) else {}))
    images = [name for name, item in sets.items() if item.ndim >= 2]
    name = str(key).strip("/") if key is not None else "images" if "images" in images else None
    if name is None and len(images) == 1:
        name = images[0]
    if name not in images:
        asked = f"there are no images '{key}'" if key is not None else "there is not exactly one data set of images"
        raise DataError(f"{path}: {asked}. Fix: key = one of {', '.join(images) or '(none)'}.")
    chosen = sets[name]
    labels = {n: s[()] for n, s in sets.items() if s.shape == chosen.shape[:1] and s.dtype.kind in "iufSO"}
    return _Stack(chosen, {n: _text(values) for n, values in labels.items()}, path, channel)


def _text(values: np.ndarray) -> np.ndarray:
    """Byte strings as text, without the blanks that FITS fills them up with."""
    if values.dtype.kind in "SO":
        values = np.array([v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values.tolist()])
    return np.char.strip(values) if values.dtype.kind == "U" else values


def _fits_file(path: Path, where: str, files: contextlib.ExitStack) -> Any:
    from astropy.io import fits

    if not path.is_file():
        raise DataError(f"{where} is not there.")
    try:
        return files.enter_context(fits.open(path, memmap=False, lazy_load_hdus=True))
    except (OSError, ValueError) as error:
        raise unreadable(where, error) from None


def _image_unit(units: Any, key: str | int | None, where: str) -> Any:
    """The extension `key`, or the first that holds an image."""
    try:
        unit = units[key] if key is not None else next((u for u in units if u.is_image and u.size > 0), None)
    except (KeyError, IndexError, OSError, ValueError, TypeError):
        unit = None
    if unit is None or not unit.is_image or unit.size == 0:
        what = "no extension holds an image" if key is None else f"there is no image in extension {key!r}"
        raise DataError(f"{where}: {what}. Fix: key = the number or name of one that does.")
    return unit


class _Section:
    """An extension's pixels, read when they are asked for."""

    def __init__(self, unit: Any) -> None:
        self._unit, self.shape = unit, tuple(unit.shape)
        self.dtype = np.dtype(np.float64)  # integers are scaled as the header says

    def __getitem__(self, item: Any) -> np.ndarray:
        return np.asarray(self._unit.section[:] if item == () else self._unit.section[item])


class _Folder:
    """Images in extensions of many FITS files; the file that was read last stays open."""

    def __init__(
        self,
        path: Path,
        places: list[tuple[Path, str | int | None]],
        labels: dict[str, np.ndarray],
        files: contextlib.ExitStack,
    ) -> None:
        self._path, self._places, self._labels = path, places, labels
        self._files = files.enter_context(contextlib.ExitStack())
        self._open: tuple[Path, Any] = (Path(), None)

    def __len__(self) -> int:
        return len(self._places)

    def labels(self) -> list[str]:
        return list(self._labels)

    def label(self, name: str) -> np.ndarray:
        return self._labels[name]

    def largest(self, chosen: np.ndarray) -> tuple[int, int]:
        shapes = [self._unit(number).shape for number in chosen.tolist()]
        return max(s[0] for s in shapes), max(s[1] for s in shapes)

    def order(self, chosen: np.ndarray) -> list[int]:
        return sorted(range(len(chosen)), key=lambda k: (str(self._places[chosen[k]][0]), k))

    def image(self, number: int) -> np.ndarray:
        return self._unit(number).section[:]  # kept nowhere

    def _unit(self, number: int) -> Any:
        """The extension of an image, its pixels not read yet."""
        file, key = self._places[number]
        where = f"{file} (image {number} of {self._path})"
        if self._open[0] != file:
            self._files.close()
            self._open = file, _fits_file(file, where, self._files)
        unit = _image_unit(self._open[1], key, where)
        if len(unit.shape) != 2:
            raise DataError(f"{where} holds {list(unit.shape)}, no image [h, w].")
        _require_small(unit.shape, where)
        return unit


def _catalogue(path: Path, files: contextlib.ExitStack) -> _Folder | None:
    """GalSim's RealGalaxy layout: a table of files and extensions. None if the file has no such table."""
    from astropy.io import fits

    try:
        with fits.open(path, memmap=False) as units:
            tables = [u for u in units if isinstance(u, fits.BinTableHDU) and not isinstance(u, fits.CompImageHDU)]
            table = next((u.data for u in tables if {"GAL_FILENAME", "GAL_HDU"} <= set(u.columns.names)), None)
            if table is None:
                return None
            columns = {name: _text(np.asarray(table[name])) for name in table.names if table[name].ndim == 1}
    except (OSError, ValueError, TypeError) as error:
        raise unreadable(path, error) from None
    labels = {n: v.astype(v.dtype.newbyteorder("=")) for n, v in columns.items() if v.dtype.kind in "iufU"}
    if len(table) == 0 or labels["GAL_HDU"].dtype.kind not in "iu" or labels["GAL_FILENAME"].dtype.kind != "U":
        raise DataError(f"{path}: the catalogue lists no galaxies by file name (text) and extension (whole numbers).")
    places: list[tuple[Path, str | int | None]] = []
    for name, unit in zip(labels["GAL_FILENAME"].tolist(), labels["GAL_HDU"].tolist(), strict=True):
        if Path(name).name != name or name in ("", ".", ".."):
            raise DataError(f"{path}: GAL_FILENAME = {name!r} is no name of a file beside the catalogue.")
        places.append((path.parent / name, unit))
    return _Folder(path, places, labels, files)
