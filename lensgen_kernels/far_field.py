"""Hundreds of circular lenses by a far field: each is worked out ray by ray only where it is near.

Rays are taken in tiles of 8x8. A slot that is far from a tile is worked out at the tile's 4x4 Chebyshev nodes instead
of its 64 rays; what all far slots deflect there is added up, and interpolated to the rays once. Of 500 subhalos of 1e7
to 3e8 Msun in 64x64 pixels of 0.05 arcsec, about 240 evaluations a ray are left (at EPSILON = 1e-5, 150).
Nodes and criterion are the same in every engine that has a far field. Tiles are of 8x8 rays on a CPU, and on a GPU of
8x8 samples (of every s-th ray where s x s rays are averaged first).

**Criterion.** Lengths in half tiles, a = 3.5 rays: from a tile's centre to its outermost rays along an axis. Outside
its mass m (arcsec^2) a circular lens deflects by m / r, whose components are those of the function m / (x + iy).
Interpolation at 4 Chebyshev nodes is off by at most |f''''| a^4 / (4! 2^3) along an axis (Trefethen 2013, Approximation
Theory and Approximation Practice, has the theory), here f'''' = 4! m / r^5, and both axes add: to leading order the
corners of a tile at the distance d are off by m a^4 / (4 d^5). With all orders it is less than m a^4 / (4 (d - SPREAD
a)^5) for every d >= 1.6 a: found numerically for point masses, and held by a test. Within its mass a lens has less of
it inside and wider structure: isothermal lenses stay below the bound by a factor of several, the edge of a soliton
(density r^-16) comes 4 % above it, a Gaussian 20 %. Solved for d:

    near = a max(NEAREST, SPREAD + (m / (4 a EPSILON))^(1/5))

A slot is far from the tiles whose centre is at least `near` from its own. m is |M(R^2)| R^2, the deflection times the
radius, at the greatest distance R to any ray of any tile: all the mass that bears on the grid. It depends on the slot
and the grid alone, never on other slots or images.
"""

from __future__ import annotations

import math

import numpy as np

TILE = 8  # rays along an axis
NODES = 4  # along an axis
MANY = 128  # slots that a component has room for, from which on it has a far field: the preset's, not an image's

EPSILON = 3e-8  # arcsec: what one far slot may be off by, at the worst ray of the nearest far tile
NEAREST = 2.0  # half tiles: the corners' rays, at 1.41, stay off the centre, where no bound on m helps
SPREAD = 0.85  # half tiles by which the leading order is to be moved outwards to bound all orders

HALF = 0.5 * (TILE - 1)  # half a tile, in distances between rays
# along an axis, in half tiles, from the centre; rising
PLACES = tuple(-math.cos(math.pi * (k + 0.5) / NODES) for k in range(NODES))
RAYS = tuple((k - HALF) / HALF for k in range(TILE))


def _lagrange(x: float, k: int) -> float:
    """The cubic that is 1 at node k and 0 at the others."""
    return math.prod((x - other) / (PLACES[k] - other) for j, other in enumerate(PLACES) if j != k)


# float32 [TILE, NODES]: along an axis, value at ray i = sum_k WEIGHTS[i, k] * value at node k
WEIGHTS = np.array([[_lagrange(x, k) for k in range(NODES)] for x in RAYS]).astype(np.float32)


def near_radius(m: np.ndarray, half: float) -> np.ndarray:
    """Distance from a tile's centre, arcsec, below which a slot is worked out at all of the tile's rays.

    Args:
        m: the deflection of the slot times the radius, at the farthest ray, arcsec^2.
        half: half a tile, arcsec.
    """
    return half * np.maximum(NEAREST, SPREAD + (np.abs(m) / (4.0 * half * EPSILON)) ** 0.2)


def tiles(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of tiles over so many rays; those at the lower and right edges may reach beyond them."""
    return -(-height // TILE), -(-width // TILE)
