"""Lines of a renderer with a far field: rays in tiles, near radii, and lenses without a table; see `far_field`.

Lenses with a table are added tile by tile, by `lanes.add_radial_to_tiles`; those without by loops over the vectors of
rays and nodes that their near radius asks for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lensgen_kernels import tables
from lensgen_kernels.lanes import LANES
from lensgen_kernels.node import UNIFORM, VARYING, Node
from lensgen_kernels.radial import Radial
from lensgen_kernels.translate import needed

if TYPE_CHECKING:
    from lensgen_kernels.body import Body, Write
    from lensgen_kernels.source import Source

OVER_TILES = (
    "for tile in range(0, tiles, GROUP):",
    "base = tile // GROUP * STRIDE",
    "group = min(GROUP, tiles - tile)",
    "n = group * RAYS",
)
_OVER_VECTORS = (
    "for k in range(found):",
    "begin = vectors[k]",
    f"for p in range(begin, begin + {LANES}):",
)


def lay_tiles(source: Source) -> None:
    """From rays in rows to chunks of tiles; before the images."""
    source.line("px, py, tile_x, tile_y, half = lay_tiles(px, py, height, width, poison)")
    source.line("tiles = ((height + TILE - 1) // TILE) * ((width + TILE - 1) // TILE)")
    source.line("last_ray = place_of_ray(tiles * RAYS - 1)")
    source.line("vectors = np.empty(STRIDE // LANES, np.int64)")


def allocate(source: Source, which: int) -> None:
    """The near radii of one term's slots."""
    source.line(f"near{which} = scratch(slots{which}.shape[1], poison)")


def fill(body: Body, which: int, radial: Radial) -> None:
    """The near radii of all slots of one system, where there is no table."""
    source, printer = body.source, body.printer(f"f{which}_")
    with source.block(f"for slot in range(counts{which}[b]):"):
        for k in range(body.slotted_terms[which].parameters):
            source.line(f"p0_{k} = slots{which}[b, slot, {k}]")
        body.lines(printer, [n for n in needed((radial.M, radial.center_x, radial.center_y)) if n.rate <= UNIFORM])
        tables.reach(source, printer.name(radial.center_x), printer.name(radial.center_y))
        source.line("z = reach")
        body.lines(printer, [n for n in needed((radial.M,)) if n.rate == VARYING])
        source.line(f"near{which}[slot] = near_square({printer.name(radial.M)} * reach, half, zero)")


def add(
    body: Body, which: int, values: tuple[Node, ...], prefix: str, load: list[str], rays: list[str], write: Write
) -> None:
    """The loops that add one term's slots to a chunk, where there is no table."""
    source, radial = body.source, body.far[which]
    with source.block(f"for slot in range(counts{which}[b]):"):
        for line in load:
            source.line(line)
        printer = body.printer(f"c{which}_")
        body.lines(printer, [n for n in needed((radial.center_x, radial.center_y)) if n.rate <= UNIFORM])
        center = f"{printer.name(radial.center_x)}, {printer.name(radial.center_y)}"
        source.line(f"found = vectors_of_tiles(vectors, tile_x, tile_y, tile, group, {center}, near{which}[slot])")
        body.loops(values, prefix, rays, write, over=_OVER_VECTORS)


def interpolate(source: Source) -> None:
    """From the nodes of a chunk to its rays."""
    source.line("interpolate(ax, group)")
    source.line("interpolate(ay, group)")
