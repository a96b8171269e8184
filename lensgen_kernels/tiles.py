"""Rays in tiles, for kernels with a far field: how they lie in memory, and from nodes to rays and back to rows.

A chunk is GROUP tiles: their rays, tile by tile and row by row in each, and then their nodes likewise. Tiles at the
lower and right edges go on beyond the image; what is worked out there is dropped.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from lensgen_kernels import far_field
from lensgen_kernels.intrinsics import get, put
from lensgen_kernels.lanes import LANES
from lensgen_kernels.support import scratch

TILE = far_field.TILE
RAYS, POINTS = TILE * TILE, far_field.NODES**2
GROUP = LANES
STRIDE = GROUP * (RAYS + POINTS)  # places of a chunk
_NODES = far_field.NODES
_PLACES = np.array(far_field.PLACES) * far_field.HALF  # in distances between rays
_ALONG = np.ascontiguousarray(far_field.WEIGHTS.T)  # [NODES, TILE]
_ACROSS = far_field.WEIGHTS
_HALF, _EPSILON = far_field.HALF, far_field.EPSILON
_NEAREST, _SPREAD = far_field.NEAREST, far_field.SPREAD
_NOWHERE = np.float32(1e18)  # its square is finite, and far from everything

assert POINTS == LANES


@njit(error_model="numpy")
def lay_tiles(px, py, height, width, poison):
    """x and y of all places, those of the tiles' centres, and half a tile, arcsec.

    px, py: of rays row by row. A single ray has no distance to the next: any will do.
    """
    across, down = (width + TILE - 1) // TILE, (height + TILE - 1) // TILE
    tiles = across * down
    chunks = (tiles + GROUP - 1) // GROUP
    x, y = scratch(chunks * STRIDE, poison), scratch(chunks * STRIDE, poison)
    tile_x, tile_y = scratch(chunks * GROUP, poison), scratch(chunks * GROUP, poison)
    x0, y0 = np.float64(px[0]), np.float64(py[0])
    step_x = (np.float64(px[width - 1]) - x0) / max(width - 1, 1)
    step_y = (np.float64(py[(height - 1) * width]) - y0) / max(height - 1, 1)
    step = max(abs(step_x), abs(step_y)) if width * height > 1 else 1.0
    step_x = step_x if width > 1 else step
    step_y = step_y if height > 1 else step
    for tile in range(chunks * GROUP):
        if tile >= tiles:
            tile_x[tile], tile_y[tile] = _NOWHERE, _NOWHERE
            continue
        row, column = tile // across * TILE, tile % across * TILE
        rays = tile // GROUP * STRIDE + tile % GROUP * RAYS
        for i in range(TILE):
            for j in range(TILE):
                inside_x, inside_y = column + j < width, row + i < height
                x[rays + i * TILE + j] = px[column + j] if inside_x else np.float32(x0 + step_x * (column + j))
                y[rays + i * TILE + j] = py[(row + i) * width] if inside_y else np.float32(y0 + step_y * (row + i))
        nodes = tile // GROUP * STRIDE + GROUP * RAYS + tile % GROUP * POINTS
        center_x, center_y = x0 + step_x * (column + _HALF), y0 + step_y * (row + _HALF)
        for i in range(_NODES):
            for j in range(_NODES):
                x[nodes + i * _NODES + j] = np.float32(center_x + step_x * _PLACES[j])
                y[nodes + i * _NODES + j] = np.float32(center_y + step_y * _PLACES[i])
        tile_x[tile], tile_y[tile] = np.float32(center_x), np.float32(center_y)
    return x, y, tile_x, tile_y, np.float32(_HALF * step)


@njit
def place_of_ray(ray):
    """Where ray number `ray`, counted tile by tile, lies."""
    return ray // (GROUP * RAYS) * STRIDE + ray % (GROUP * RAYS)


@njit(error_model="numpy")
def near_square(m, half, inner):
    """Square of the near radius, see `far_field`; no node of a far tile has z < inner."""
    a = np.float64(half)
    near = a * max(_NEAREST, _SPREAD + (abs(np.float64(m)) / (4.0 * a * _EPSILON)) ** 0.2)
    near = max(near, 1.5 * a + np.sqrt(max(np.float64(inner), 0.0)))
    return np.float32(near * near)


@njit
def vectors_of_tiles(vectors, tile_x, tile_y, tile, count, center_x, center_y, near):
    """Where the chunk's vectors that a lens is worked out at begin, in `vectors`; and how many these are."""
    found = 0
    for k in range(count):
        dx, dy = tile_x[tile + k] - center_x, tile_y[tile + k] - center_y
        if dx * dx + dy * dy >= near:
            vectors[found] = GROUP * RAYS + k * POINTS
            found += 1
        else:
            for first in range(0, RAYS, LANES):
                vectors[found] = k * RAYS + first
                found += 1
    return found


@njit(error_model="numpy", fastmath={"contract", "nsz"})
def interpolate(values, count):
    """Add to the rays of a chunk's `count` tiles what their nodes say."""
    rows = np.empty(_NODES * TILE, np.float32)
    for tile in range(count):
        nodes = GROUP * RAYS + tile * POINTS
        for i in range(_NODES):
            for j in range(TILE):
                total = np.float32(0.0)
                for k in range(_NODES):
                    total += _ALONG[k, j] * get(values, nodes + i * _NODES + k)
                put(rows, i * TILE + j, total)
        for i in range(TILE):
            ray = tile * RAYS + i * TILE
            for j in range(TILE):
                total = get(values, ray + j)
                for k in range(_NODES):
                    total += _ACROSS[i, k] * get(rows, k * TILE + j)
                put(values, ray + j, total)


@njit
def lay_rows(rows, values, tile, count, height, width):
    """The rays of a chunk's tiles, the first of number `tile`, to their places in the image's rows."""
    across = (width + TILE - 1) // TILE
    for k in range(count):
        row, column = (tile + k) // across * TILE, (tile + k) % across * TILE
        used = min(TILE, width - column)
        for i in range(min(TILE, height - row)):
            for j in range(used):
                put(rows, (row + i) * width + column + j, get(values, k * RAYS + i * TILE + j))
