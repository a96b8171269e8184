"""Circular lenses by tables: an approximation where a closed form costs a hundred operations a ray.

The deflection of a circular lens is M(z) (dx, dy), z = dx^2 + dy^2, whatever the profile: the graph of its formula
shows it; that M is smooth the profile must say. For each slot, M is interpolated at Chebyshev nodes in each of the 16
powers of two that z takes on the grid; rays closer than 1/256 of the greatest distance are worked out in closed form.
The tables of NFW and TNFW halos are within 3e-5 of the closed form, and as near to float64 as that is in float32. Where
one is off by more than 5e-5 at an end of a power of two, the slot is worked out in closed form altogether.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import llvmlite.binding
import numba
import numpy as np

from lensgen_kernels.lanes import LANES, RADIAL_DEGREE
from lensgen_kernels.node import UNIFORM, VARYING, Node
from lensgen_kernels.translate import needed

if TYPE_CHECKING:
    from lensgen_kernels.body import Body, Write
    from lensgen_kernels.radial import Radial
    from lensgen_kernels.source import Source

_TOLERANCE = 5e-5
_COUNT = RADIAL_DEGREE + 1

# Chebyshev nodes on the mantissas [1, 2), and where the error is looked at
_CHECKED = (0.0, 7.0)  # both ends: an edge anywhere in between shows there
_CHEBYSHEV = [0.5 * math.cos(math.pi * (k + 0.5) / _COUNT) for k in range(_COUNT)]
NODES = np.array(
    [*(1.5 + t for t in _CHEBYSHEV), *(1.5 + 0.5 * math.cos(math.pi * k / _COUNT) for k in _CHECKED)], np.float32
)
# values at the nodes -> coefficients of powers of (mantissa - 1.5)
WEIGHTS = np.linalg.inv(np.vander(NODES[:_COUNT].astype(np.float64) - 1.5, increasing=True)).astype(np.float32)
_BETWEEN = [[float(node - np.float32(1.5)) ** k for k in range(_COUNT)] for node in NODES[_COUNT:]]


_OVER_LEFT = (  # vectors in which rays were too close for the table
    "while left != 0:",
    f"begin = lowest_bit(left) * {LANES}",
    "left = left & (left - 1)",
    f"for p in range(begin, begin + {LANES}):",
)


@lru_cache(maxsize=1)
def supported() -> bool:
    """Whether the CPU that numba compiles for can look up 16 rays at once."""
    if numba.config.CPU_FEATURES is not None:  # $NUMBA_CPU_FEATURES and $NUMBA_CPU_NAME
        return "+avx512f" in numba.config.CPU_FEATURES
    if numba.config.CPU_NAME not in (None, "host"):
        return False
    return bool(llvmlite.binding.get_host_cpu_features().get("avx512f", False))


def allocate(source: Source, which: int, far: bool) -> None:
    """The arrays that hold the tables of one term."""
    source.line(f"slots_max{which} = slots{which}.shape[1]")
    source.line(f"table{which} = scratch(slots_max{which} * {LANES * _COUNT}, poison)")
    source.line(f"inner{which} = scratch(slots_max{which}, poison)")
    source.line(f"z_nodes{which} = scratch({LANES * len(NODES)}, poison)")
    source.line(f"values{which} = scratch({LANES * len(NODES)}, poison)")
    if far:
        source.line(f"near{which} = scratch(slots_max{which}, poison)")


def reach(source: Source, cx: str, cy: str) -> None:
    """Square of the greatest distance from a lens to any ray."""
    source.line(f"reach_x = larger(size(px[0] - {cx}), size(x_last - {cx}))")
    source.line(f"reach_y = larger(size(py[0] - {cy}), size(y_last - {cy}))")
    # a little more, so that no ray is beyond the last octave by its rounding
    source.line("reach = (reach_x * reach_x + reach_y * reach_y) * np.float32(1.000001)")


def fill(body: Body, which: int, radial: Radial) -> None:
    """The tables of all slots of one system."""
    source, printer = body.source, body.printer(f"f{which}_")
    with source.block(f"for slot in range(counts{which}[b]):"):
        for k in range(body.slotted_terms[which].parameters):
            source.line(f"p0_{k} = slots{which}[b, slot, {k}]")
        nodes = needed((radial.M,))
        body.lines(printer, [n for n in needed((radial.M, radial.center_x, radial.center_y)) if n.rate <= UNIFORM])
        cx, cy = printer.name(radial.center_x), printer.name(radial.center_y)
        reach(source, cx, cy)
        source.line("top = shr(bits(reach), np.int32(23))")
        source.line(f"first_octave = isub(top, np.int32({LANES - 1}))")
        with source.block(f"for lane in range({LANES}):"):
            source.line("octave = iadd(first_octave, iand(isub(np.int32(lane), first_octave), np.int32(15)))")
            source.line("octave_start = from_bits(shl(octave, np.int32(23)))")
            with source.block(f"for k in range({len(NODES)}):"):
                source.line(f"put(z_nodes{which}, k * {LANES} + lane, octave_start * NODES[k])")
        with source.block(f"for p in range({LANES * len(NODES)}):"):
            source.line(f"z = get(z_nodes{which}, p)")
            body.lines(printer, [n for n in nodes if n.rate == VARYING])
            source.line(f"put(values{which}, p, {printer.name(radial.M)})")
        source.line("bad = np.int32(0)")
        source.line(f"start = slot * {LANES * _COUNT}")
        with source.block(f"for lane in range({LANES}):"):
            for k in range(_COUNT):
                source.line(f"v{k} = get(values{which}, {k * LANES} + lane)")
            for k in range(_COUNT):
                weighted = " + ".join(f"WEIGHTS[{k}, {m}] * v{m}" for m in range(_COUNT))
                source.line(f"w{k} = {weighted}")
                source.line(f"put(table{which}, start + {k * LANES} + lane, w{k})")
            for check, powers in enumerate(_BETWEEN):
                between = " + ".join(f"np.float32({power!r}) * w{k}" for k, power in enumerate(powers))
                source.line(f"true = get(values{which}, {(_COUNT + check) * LANES} + lane)")
                source.line(f"off = not (size({between} - true) <= np.float32({_TOLERANCE}) * size(true))")
                source.line("bad = ior(bad, flag(off))")
        source.line(
            f"inner{which}[slot] = np.float32(-1.0) if bad != 0 else from_bits(shl(first_octave, np.int32(23)))"
        )
        if which in body.far:
            source.line("t = from_bits(ior(iand(bits(reach), np.int32(0x7FFFFF)), np.int32(0x3F800000)))")
            source.line("t = t - np.float32(1.5)")
            source.line(f"entry = start + (top & {LANES - 1})")
            source.line(f"mass = get(table{which}, entry + {RADIAL_DEGREE * LANES})")
            for k in reversed(range(RADIAL_DEGREE)):
                source.line(f"mass = mass * t + get(table{which}, entry + {k * LANES})")
            source.line(f"near{which}[slot] = near_square(mass * reach, half, inner{which}[slot])")


def add_from_table(
    body: Body, which: int, radial: Radial, values: tuple[Node, ...], prefix: str, load: list[str],
    rays: list[str], write: Write,
) -> None:  # fmt: skip
    """The loops that add one term's slots to a chunk."""
    source = body.source
    with source.block(f"for slot in range(counts{which}[b]):"):
        for line in load:
            source.line(line)
        printer = body.printer(f"c{which}_")
        body.lines(printer, [n for n in needed((radial.center_x, radial.center_y)) if n.rate <= UNIFORM])
        cx, cy = printer.name(radial.center_x), printer.name(radial.center_y)
        source.line(f"limit = inner{which}[slot]")
        with source.block("if limit < zero:"):
            body.loops(values, prefix, rays, write)
            source.line("continue")
        entry = f"{cx}, {cy}, table{which}, slot * {LANES * _COUNT}, limit"
        call = f"add_radial(ax, ay, px, py, base, n, {entry})"
        if which in body.far:
            tiles = f"tile_x, tile_y, tile, group, near{which}[slot]"
            call = f"add_radial_to_tiles(ax, ay, px, py, base, {entry}, {tiles})"
        source.line(f"left = {call}")
        near = f"(x - {cx}) * (x - {cx}) + (y - {cy}) * (y - {cy}) < limit"
        body.loops(values, prefix, rays, write, near, over=_OVER_LEFT)
