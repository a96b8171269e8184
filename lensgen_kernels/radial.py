"""Circular lenses: whether a deflection is M(z) (dx, dy), z = dx^2 + dy^2, as the graph of its formula shows it."""

from __future__ import annotations

from dataclasses import dataclass

from lensgen_kernels.node import UNIFORM, VARYING, Node
from lensgen_kernels.numba_source import printable
from lensgen_kernels.translate import needed, replaced

_COSTLY = 50  # operations a ray


@dataclass(frozen=True, eq=False)
class Radial:
    """M as a function of z, and where the lens stands."""

    M: Node
    z: Node
    center_x: Node
    center_y: Node


def _factors(product: Node) -> list[tuple[Node, Node]]:
    a, b = product.operands
    return [(a, b), (b, a)]


def _offset(d: Node, axis: str) -> Node | None:
    """c of d = axis - c."""
    if d.op != "sub" or d.operands[0].op != "input" or d.operands[0].args[0] != axis:
        return None
    center = d.operands[1]
    return center if center.rate <= UNIFORM else None


def _scale(node: Node, d: Node) -> tuple[Node, bool] | None:
    """s of d s or d / s, and whether it divides."""
    if node.op not in ("mul", "div") or node.operands[0] is not d or node.operands[1].rate > UNIFORM:
        return None
    return node.operands[1], node.op == "div"


def _scaled_squares(M: Node, dx: Node, dy: Node) -> list[tuple[Node, Node, bool]]:
    """The nodes of M that are (dx s)^2 + (dy s)^2 or (dx / s)^2 + (dy / s)^2, with s and whether it divides."""
    found = []
    for node in needed((M,)):
        if node.op != "add" or any(a.op != "mul" or a.operands[0] is not a.operands[1] for a in node.operands):
            continue
        x, y = (_scale(a.operands[0], d) for a, d in zip(node.operands, (dx, dy), strict=True))
        if x is not None and y is not None and x[0] is y[0] and x[1] == y[1]:
            found.append((node, *x))
    return found


def circular(ax: Node, ay: Node) -> Radial | None:
    """The deflection (ax, ay) as M(z) (dx, dy), if that is what it is."""
    if ax.op != "mul" or ay.op != "mul":
        return None
    for M, dx in _factors(ax):
        for other, dy in _factors(ay):
            center_x, center_y = _offset(dx, "x"), _offset(dy, "y")
            if M is not other or center_x is None or center_y is None:
                continue
            z = M.graph.input("z", VARYING)
            by = {dx * dx + dy * dy: z}
            for node, scale, divides in _scaled_squares(M, dx, dy):
                by[node] = z / (scale * scale) if divides else z * (scale * scale)
            (of_z,) = replaced((M,), by)
            if any(n.op == "input" and n.args[0] in ("x", "y") for n in needed((of_z,))):
                return None
            return Radial(of_z, z, center_x, center_y)
    return None


def costly(radial: Radial) -> bool:
    """Whether M takes so many operations that a table is faster."""
    return sum(n.rate == VARYING for n in printable(needed((radial.M,)))) >= _COSTLY
