"""Galaxy cutouts out of a user's files: FITS, HDF5, .npy and catalogues of FITS files, as images that add up to 1.

Layouts are told apart by the file: an HDF5 data set `[N, h, w]` or `[N, h, w, channels]` with labels beside it
(Galaxy10: `images`, `ans`, `redshift`), an image or cube in FITS or .npy, a folder of FITS images, and GalSim's
RealGalaxy catalogue (COSMOS: a FITS table with GAL_FILENAME and GAL_HDU). Only what is selected is kept in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lensgen.errors import DataError, PresetError, lookup, require_whole, unknown_name
from lensgen.light.cutout_files import MOST_PIXELS, Source, open_source, unreadable

MOST_BYTES = 4 << 30  # of all images together
_FIELDS = ("file", "key", "select", "channel", "background", "size")
_CORNER = 50 / 256  # of the width of an image: what DeepLense Model IV takes


@dataclass(frozen=True)
class Cutouts:
    """Images `[n, h, w]` float32, each with a sum of 1; equal, and printed, by their content's hash."""

    images: Tensor = field(repr=False, compare=False)
    digest: str

    @classmethod
    def of(cls, images: Tensor) -> Cutouts:
        digest = hashlib.sha256(repr(tuple(images.shape)).encode())
        for image in images.cpu():
            digest.update(image.contiguous().numpy().tobytes())
        return cls(images, digest.hexdigest()[:32])

    def __len__(self) -> int:
        return len(self.images)

    def on(self, device: torch.device | str) -> Tensor:
        """The images on a device; copied once, however often they are asked for."""
        return _copied(self, torch.device(device))


@lru_cache(maxsize=8)
def _copied(cutouts: Cutouts, device: torch.device) -> Tensor:
    return cutouts.images.to(device)


def _corner_median(image: np.ndarray) -> float:
    height, width = (max(1, round(_CORNER * side)) for side in image.shape)
    return float(np.median(image[:height, :width]))


def _corners_median(image: np.ndarray) -> float:
    height, width = (max(1, round(_CORNER * side)) for side in image.shape)
    rows, columns = np.r_[:height, -height:0], np.r_[:width, -width:0]
    return float(np.median(image[np.ix_(rows, columns)]))


BACKGROUNDS: dict[str, Callable[[np.ndarray], float]] = {
    "none": lambda image: 0.0,
    "corner": _corner_median,
    "corners": _corners_median,
}


def load_cutouts(
    path: str | Path,
    key: str | int | None = None,
    select: Mapping[str, Any] | None = None,
    background: str = "none",
    size: int | None = None,
    channel: int | None = None,
) -> Tensor:
    """Images `[n, h, w]` float32, each with a sum of 1, negative pixels cut off at 0.

    Args:
        path: a file, or a folder of FITS images (in the order of their names).
        key: of the images in the file: number or name of a FITS extension, name of an HDF5 data set. None for
            `images`, the only one there is, or the first.
        select: which images: `index` is their number in the file, from 0; other names are those of labels beside the
            images (HDF5 data sets, columns of a catalogue). A number (or text) must be equal, a list must contain it,
            `{min: , max: }` are bounds that may be reached, `{below: }` one that may not.
        background: what is subtracted first: "none", "corner" (the median of the square of 50/256 of the width at
            the first row and column, as in DeepLense Model IV) or "corners" (of all four).
        size: pixels of each side: larger images are cropped about their middle, smaller ones get a margin of zeros.
            None for the size of the largest.
        channel: which colour of `[N, h, w, channels]`; None for the mean of all.

    Raises:
        DataError: naming file and reason; an image without positive sum, or with values that are not finite, by its
            number in the file.
    """
    path = Path(path).expanduser()
    subtract = lookup("background", background, BACKGROUNDS)
    if key is not None and (isinstance(key, bool) or not isinstance(key, str | int)):
        raise PresetError(f"key = {key!r} must be the name or the number of what holds the images.")
    if size is not None:
        require_whole("size", size, 1, MOST_PIXELS)
    with open_source(path, key, channel) as source:
        chosen = _chosen(source, select or {}, path)
        side = (size, size) if size is not None else source.largest(chosen)
        if 4 * len(chosen) * side[0] * side[1] > MOST_BYTES:
            raise DataError(
                f"{path}: {len(chosen)} images of {side[0]} x {side[1]} pixels take more than {MOST_BYTES >> 30} GiB. "
                "Fix: select fewer, or crop them with size."
            )
        images = torch.zeros(len(chosen), *side)
        for place in source.order(chosen):
            where = f"{path}: image {chosen[place]}"
            image = _read(source, int(chosen[place]), where)
            _put(images[place], torch.from_numpy(np.clip(image - subtract(image), 0.0, None)))
            total = images[place].sum(dtype=torch.float64).item()
            if not total > 0.0:
                raise DataError(
                    f"{where} has no light: its pixels above 0 (and above the background, and within size) add up to "
                    "0. Fix: leave it out with select, or choose another background."
                )
            images[place] /= total
    return images


def _read(source: Source, number: int, where: str) -> np.ndarray:
    """An image in float64, its largest value 1 in size: whatever its unit, float32 can hold it."""
    try:
        image = np.asarray(source.image(number), dtype=np.float64)
    except Exception as error:  # a damaged file leads its reader to whatever it leads it to
        if isinstance(error, DataError):
            raise
        raise unreadable(where, error) from None
    if not np.isfinite(image).all():
        raise DataError(f"{where} holds values that are not finite: mask or fill them before.")
    return image / max(float(np.abs(image).max()), 1e-300)


def _put(target: Tensor, image: Tensor) -> None:
    """The image about the middle of the target, cropped to it."""
    for axis in (0, 1):
        extra = image.shape[axis] - target.shape[axis]
        if extra > 0:
            image = image.narrow(axis, extra // 2, target.shape[axis])
        elif extra < 0:
            target = target.narrow(axis, -extra // 2, image.shape[axis])
    target.copy_(image)


def _chosen(source: Source, select: Mapping[str, Any], path: Path) -> np.ndarray:
    """The numbers of the images that satisfy every condition, in the file's order."""
    if not isinstance(select, Mapping):
        raise PresetError(f"select = {select!r} must name labels, e.g. {{ans: 6}}.")
    kept = np.ones(len(source), bool)
    for name, condition in select.items():
        if name == "index":
            labels: np.ndarray = np.arange(len(source))
        elif name in source.labels():
            labels = source.label(name)
        else:
            raise unknown_name(f"label of {path}", name, ("index", *source.labels()))
        kept &= _satisfies(labels, condition, f"{path}: select.{name}")
    if not kept.any():
        raise DataError(f"{path}: none of {len(source)} images satisfies select = {dict(select)!r}.")
    return np.flatnonzero(kept)


def _satisfies(labels: np.ndarray, condition: Any, where: str) -> np.ndarray:
    bounds: dict[str, Callable] = {"min": np.greater_equal, "max": np.less_equal, "below": np.less}
    numeric = labels.dtype.kind in "iuf"
    if isinstance(condition, Mapping):
        if not numeric or not condition or not set(condition) <= set(bounds):
            raise PresetError(
                f"{where} = {dict(condition)!r}: bounds are {', '.join(bounds)}, of labels that are numbers."
            )
        conditions = [bounds[k](labels, _number(v, where)) for k, v in condition.items()]
        return np.logical_and.reduce(conditions)
    wanted = list(condition) if isinstance(condition, list | tuple) else [condition]
    if numeric:
        return np.isin(labels, [_number(v, where) for v in wanted])
    return np.isin(labels.astype(str), [str(v) for v in wanted])


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise PresetError(f"{where}: {value!r} is no number.")
    return value


def arrays_from(config: Mapping[str, Any], where: str, names: tuple[str, ...] = ("images",)) -> dict[str, Cutouts]:
    """The stacks of images that the fields `names` of a preset's light state, e.g. `images: {file: ..., key: ...}`.

    Read once, however many presets are made of the same files.

    Args:
        config: the light; other fields are left to the caller.
        where: its name, for errors.
        names: `arrays` of its profile.

    Raises:
        PresetError, UnknownNameError: naming the field.
        DataError: naming the file and the reason.
    """
    made = {}
    for name in names:
        given, place = config.get(name), f"{where}.{name}"
        if not isinstance(given, Mapping) or not isinstance(given.get("file"), str):
            raise PresetError(f"{place} = {given!r} must name a file, e.g. {{file: galaxies.h5, select: {{ans: 6}}}}.")
        for option in given:
            if option not in _FIELDS:
                raise unknown_name(f"field of {place}", str(option), _FIELDS)
        path = Path(given["file"]).expanduser()
        made[name] = _loaded(_stamp(path), repr(sorted(given.items(), key=lambda item: item[0])), _Given(given))
    return made


@dataclass(frozen=True)
class _Given:
    """Options beside their text, which is what they are known by."""

    options: Mapping[str, Any] = field(hash=False, compare=False)


@lru_cache(maxsize=4)
def _loaded(stamp: tuple, text: str, given: _Given) -> Cutouts:
    options = dict(given.options)
    return Cutouts.of(load_cutouts(options.pop("file"), **options))


def _stamp(path: Path) -> tuple:
    """What changes when a file does, or one beside it: a catalogue names others in its folder."""
    folder = path if path.is_dir() else path.parent
    if not folder.is_dir():
        return (str(path),)
    beside = sorted(f for f in folder.iterdir() if f.is_file() and (f == path or f.suffix.lower().startswith(".fit")))
    return (str(path.resolve()), *((f.name, f.stat().st_mtime_ns, f.stat().st_size) for f in beside))
