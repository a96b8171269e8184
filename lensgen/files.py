"""Arrays out of the files that astronomers keep them in. Nothing that a file holds is run: pickles are refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lensgen.errors import DataError

_ARCSEC = {"deg": 3600.0, "degree": 3600.0, "arcmin": 60.0, "arcsec": 1.0, "mas": 1e-3, "rad": math.degrees(3600.0)}
_STATED = ("PIXELSCL", "PIXSCALE")  # arcsec per pixel, as STPSF and TinyTim write it


def read_array(path: str | Path, key: str | int | None = None) -> np.ndarray:
    """The array in a file, in its own dtype: FITS, HDF5, .npy or .npz, by the file's suffix.

    Args:
        path: the file.
        key: number or name of a FITS extension, name of an HDF5 data set ("group/name") or of an array in an .npz;
            None for the first extension that holds an image, or for the only array there is.

    Raises:
        DataError: no such file or key, another kind of file, no numbers, or numbers that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} is not there: give the path of a FITS, HDF5, .npy or .npz file.")
    reader = _READERS.get(_suffix(path))
    if reader is None:
        raise DataError(f"{path}: cannot tell what '{path.suffix}' files hold. Known: {', '.join(_READERS)}.")
    try:
        array = np.asarray(reader(path, key))
    except Exception as error:  # a damaged file leads its reader to whatever it leads it to
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be read: {error}. Is it whole, and what its suffix says?") from None
    return _checked(array, path)


def pixel_scale(path: str | Path, key: str | int | None = None) -> float | None:
    """arcsec per pixel as a FITS header states it, None where it does not, or for another kind of file.

    The first that is there of PIXELSCL and PIXSCALE (arcsec), the CD matrix, and CDELT (times PC) with its CUNIT.

    Raises:
        DataError: no such file or extension, or pixels that are not square.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} is not there.")
    if _READERS.get(_suffix(path)) is not _fits:
        return None
    try:
        return _header_scale(_fits_unit(path, key)[1], path)
    except Exception as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be read: {error}. Is it whole, and what its suffix says?") from None


def _suffix(path: Path) -> str:
    suffixes = [s.lower() for s in path.suffixes[-2:]]
    return suffixes[0] if len(suffixes) == 2 and suffixes[1] in (".gz", ".fz") else (suffixes or [""])[-1]


def _checked(array: np.ndarray, path: Path) -> np.ndarray:
    if array.dtype.kind not in "fiub" or array.size == 0:
        raise DataError(f"{path}: the array is {array.dtype} {list(array.shape)}; give real numbers, one at least.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        where = np.argwhere(~np.isfinite(array))
        raise DataError(
            f"{path}: {len(where)} of {array.size} values are not finite, the first at {where[0].tolist()}: "
            "mask or fill them before."
        )
    return array.astype(array.dtype.newbyteorder("="), copy=False)  # FITS is big-endian, torch takes the machine's own


def _one_of(names: list[str], key: str | int | None, path: Path, what: str) -> str:
    if key is None and len(names) == 1:
        return names[0]
    if key is None or str(key) not in names:
        asked = "there is not exactly one array" if key is None else f"there is no {what} '{key}'"
        raise DataError(f"{path}: {asked}. Fix: key = one of {', '.join(sorted(names)) or '(none)'}.")
    return str(key)


def _fits_unit(path: Path, key: str | int | None) -> tuple[Any, Any]:
    """Data and header of an extension."""
    from astropy.io import fits

    with fits.open(path, memmap=False) as units:
        names = [f"{k} ({unit.name or 'no name'})" for k, unit in enumerate(units)]
        images = [k for k, unit in enumerate(units) if unit.is_image and unit.size > 0]
        try:
            unit = units[key if key is not None else images[0]]
        except (KeyError, IndexError):
            asked = "there is no image" if key is None else f"there is no extension {key!r}"
            raise DataError(f"{path}: {asked}. Fix: key = one of {', '.join(names)}.") from None
        if not unit.is_image or unit.size == 0:
            raise DataError(f"{path}: extension {key!r} holds no image. Fix: key = one of {', '.join(names)}.")
        return unit.data, unit.header


def _fits(path: Path, key: str | int | None) -> Any:
    return _fits_unit(path, key)[0]


def _hdf5(path: Path, key: str | int | None) -> Any:
    import h5py

    with h5py.File(path, "r") as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        return file[_one_of(names, None if key is None else str(key).strip("/"), path, "data set")][()]


def _npy(path: Path, key: str | int | None) -> Any:
    if key is not None:
        raise DataError(f"{path}: an .npy file holds one array without a name: leave out key = {key!r}.")
    return np.load(path, allow_pickle=False)


def _npz(path: Path, key: str | int | None) -> Any:
    with np.load(path, allow_pickle=False) as arrays:
        return arrays[_one_of(list(arrays.files), key, path, "array")]


_READERS: dict[str, Callable[[Path, str | int | None], Any]] = {
    ".fits": _fits, ".fit": _fits, ".fts": _fits, ".h5": _hdf5, ".hdf5": _hdf5, ".npy": _npy, ".npz": _npz,
}  # fmt: skip


def _header_scale(header: Any, path: Path) -> float | None:
    for name in _STATED:
        if name in header:
            return _sensible(float(header[name]), name, path)
    x_unit = str(header.get("CUNIT1", "")).strip().lower()
    celestial = str(header.get("CTYPE1", ""))[:4] in ("RA--", "DEC-", "GLON", "GLAT", "ELON", "ELAT")
    factor = _ARCSEC.get(x_unit or ("deg" if celestial else ""))
    if "CD1_1" in header:  # degrees, unless a unit is stated
        matrix = [[float(header.get(f"CD{i}_{j}", 0.0)) for j in (1, 2)] for i in (1, 2)]
        factor = factor or (None if x_unit else 3600.0)
    elif "CDELT1" in header:
        steps = [float(header["CDELT1"]), float(header.get("CDELT2", header["CDELT1"]))]
        matrix = [[steps[i - 1] * float(header.get(f"PC{i}_{j}", float(i == j))) for j in (1, 2)] for i in (1, 2)]
    else:
        return None
    if factor is None:
        return None
    sides = [factor * math.hypot(matrix[0][j], matrix[1][j]) for j in (0, 1)]
    if abs(sides[0] - sides[1]) > 1e-2 * max(sides):
        raise DataError(f"{path}: pixels of {sides[0]:.6g} x {sides[1]:.6g} arcsec are not square: resample them.")
    return _sensible(math.sqrt(sides[0] * sides[1]), "the header", path)


def _sensible(scale: float, source: str, path: Path) -> float:
    if not 1e-6 <= scale <= 1e4:
        raise DataError(f"{path}: {source} states pixels of {scale} arcsec: give the pixel scale yourself.")
    return scale
