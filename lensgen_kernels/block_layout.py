"""Where a block's numbers lie in shared memory, and what goes to the device's memory because it does not fit there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lensgen_kernels.errors import TranslationError
from lensgen_kernels.program import Filter, ImageProgram

SEGMENTS_AN_OCTAVE = 4
SEGMENTS = 12 * SEGMENTS_AN_OCTAVE  # of a table: down to 1/64 of the greatest distance
_TILE = (8, 16)  # samples that a warp takes, rows and columns
_LANES = 32
_HEAD = 3  # floats: LG_HEAD of lenses.h
_AT_ONCE = 3  # blocks that a multiprocessor should have room for


@dataclass(frozen=True)
class Geometry:
    """Sizes that a renderer is compiled for.

    Args:
        height, width: samples: pixels if their rays are averaged first, else rays.
        sub: rays of a sample along each axis.
        slots: that each component with slots has room for.
        kernels: rows of the kernels of each dense filter.
        shared: bytes of shared memory that a block may take.
    """

    height: int
    width: int
    sub: int
    slots: tuple[int, ...]
    kernels: tuple[int, ...]
    shared: int


@dataclass(frozen=True)
class Slots:
    """What a slot takes: floats once, most slots of a system, tables, far field."""

    once: int
    most: int
    tabulated: bool
    far: bool

    def bytes(self, batch: int) -> int:
        table = 4 * SEGMENTS if self.tabulated else 0
        head = _HEAD if self.tabulated or self.far else 0
        return 4 * batch * (table + head + self.once)


@dataclass(frozen=True)
class Layout:
    """Args:
    threads: of a block.
    shared: bytes of shared memory a block.
    workspace: floats of the device's memory a block.
    places: bytes, by name; -1 - n is float n of the workspace.
    band: tiles whose sums are kept at once.
    batches: slots of each kind that are kept at once.
    """

    threads: int
    shared: int
    workspace: int
    places: dict[str, int]
    tiles: tuple[int, int]
    band: int
    batches: tuple[int, ...]
    far: bool

    def constants(self) -> dict[str, object]:
        """For the kernel's text."""
        found: dict[str, object] = {
            "LG_TILES_X": self.tiles[1],
            "LG_TILES_Y": self.tiles[0],
            "LG_TILES": self.tiles[0] * self.tiles[1],
            "LG_BAND": self.band,
            "LG_SLOTTED": int(bool(self.batches)),
            "LG_FAR": int(self.far),
            "LG_WORKSPACE": self.workspace,
            "LG_BLOCKS_AT_ONCE": 1024 // self.threads,  # 64 registers a thread
        }
        found |= {f"LG_BATCH{k}": batch for k, batch in enumerate(self.batches)}
        for name, place in self.places.items():
            if name in ("LIGHT", "SPARE"):
                where = (
                    f"lg_place<float>(shared, {place})" if place >= 0 else f"lg_workspace(in.workspace, {-1 - place})"
                )
                found[f"LG_{name}"] = where
            else:
                found[f"LG_AT_{name}"] = place
        return found


def layout(program: ImageProgram, geometry: Geometry, once: int, kinds: Sequence[Slots]) -> Layout:
    """The memory of a block; the larger bands and batches are, the fewer tables are made."""
    rows, columns = (-(-n // t) for n, t in zip((geometry.height, geometry.width), _TILE, strict=True))
    light, spare = _buffers(program, geometry)
    far = any(k.far for k in kinds)
    fixed = _aligned(4 * once)
    kept = fixed + (light if fixed + light <= geometry.shared else 0)
    # the buffers of filters are for after the sums, and take their place
    room = max(geometry.shared // _AT_ONCE - kept, min(spare, geometry.shared - kept))
    best = None
    for band in (64, 32, 16, 8, 4, 1) if kinds else (1,):
        if band > 1 and band // 2 >= rows * columns:
            continue
        band = min(band, rows * columns)
        for most in (64, 32, 16, 8):
            batches = tuple(min(k.most, most if k.tabulated else 8 * most) for k in kinds)
            parts = _parts(band, batches, kinds, far)
            best = band, batches, parts
            if sum(parts.values()) <= room:
                break
        else:
            continue
        break
    assert best is not None
    band, batches, parts = best
    sums = sum(parts.values())
    places: dict[str, int] = {"ONCE": 0}
    at = fixed
    for name, size in parts.items():
        places[name] = at
        at += size
    places |= {"WIDE_X": places["BATCH"], "WIDE_Y": places["BATCH"] + 4 * 64 * band}
    workspace, shared = 0, fixed + sums
    for name, size, start in (("SPARE", spare, fixed), ("LIGHT", light, None)):
        begin = start if start is not None else shared
        if begin + size <= geometry.shared:
            places[name] = begin
            shared = max(shared, begin + size)
        else:
            places[name] = -1 - workspace
            workspace += size // 4
    if shared > geometry.shared:
        raise TranslationError(
            f"sums over slots take {shared} bytes of shared memory a block, and this card has {geometry.shared}. "
            "Fix: fewer slots, or engine='torch'."
        )
    # of 64 registers a thread, a multiprocessor holds 1,024
    threads = {1: 1024, 2: 512}.get(geometry.shared // max(shared, 1), 256)
    return Layout(threads, shared, workspace, places, (rows, columns), band, batches, far)


def _aligned(size: int) -> int:
    return -(-size // 16) * 16


def _parts(band: int, batches: tuple[int, ...], kinds: Sequence[Slots], far: bool) -> dict[str, int]:
    """Bytes of what sums over slots take."""
    batch = max((k.bytes(n) for k, n in zip(kinds, batches, strict=True)), default=0)
    wide = 2 * 4 * 64 * band if far else 0  # takes the place of the batch
    sums = 4 * 4 * _LANES * band if kinds else 0
    node = 4 * _LANES * band if far else 0
    sizes = {"BATCH": max(batch, wide), "SUM_X": sums, "SUM_Y": sums, "NODE_X": node, "NODE_Y": node}
    return {name: _aligned(size) for name, size in sizes.items()}


def _buffers(program: ImageProgram, geometry: Geometry) -> tuple[int, int]:
    """Bytes of the light, and of the second buffer that filters need."""
    height, width, dense = geometry.height, geometry.width, 0
    light, spare = 4 * height * width, 0
    for filter in program.filters:
        if isinstance(filter, Filter):
            spare = max(spare, 4 * (height // filter.stride) * (width + filter.taps - filter.stride))
        else:
            spare = max(spare, 4 * (height // filter.stride) * (width // filter.stride))
            dense += 1
        height, width = height // filter.stride, width // filter.stride
    assert dense <= 1, "a second dense filter would need its buffers' sizes exchanged"
    return _aligned(light), _aligned(spare)
