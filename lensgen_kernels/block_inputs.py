"""What the kernel of images is compiled with, and the one argument that it is given."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lensgen_kernels import block_layout, far_field
from lensgen_kernels.block_layout import Geometry
from lensgen_kernels.program import Filter, ImageProgram

_UNROLLED_TAPS = 40
_TABLE_TOLERANCE = 1e-5  # neighbouring cubics of NFW and TNFW halos agree to 1.6e-6


def constants(program: ImageProgram, geometry: Geometry, rays: int) -> dict[str, object]:
    """What the skeleton is compiled with, but for the places in memory; `rays` that a thread works on at once."""
    stride = math.prod(f.stride for f in program.filters)
    taps = max((f.taps for f in program.filters if isinstance(f, Filter)), default=0)
    return {
        "LG_P": rays,
        "LG_HEIGHT": geometry.height,
        "LG_WIDTH": geometry.width,
        "LG_SUB": geometry.sub,
        "LG_PIXELS": (geometry.height // stride) * (geometry.width // stride),
        "LG_TAPS": "LG_UNROLL" if taps <= _UNROLLED_TAPS else "LG_ROLLED",
        "LG_SEGMENTS": block_layout.SEGMENTS,
        "LG_SHIFT": 23 - int(math.log2(block_layout.SEGMENTS_AN_OCTAVE)),
        "LG_HALF_SEGMENT": f"{0.5 / block_layout.SEGMENTS_AN_OCTAVE}f",
        "LG_TABLE_TOLERANCE": f"{_TABLE_TOLERANCE}f",
        "LG_HALF_TILE": f"{far_field.HALF}f",
        "LG_NEAREST": f"{far_field.NEAREST}f",
        "LG_SPREAD": f"{far_field.SPREAD}f",
        "LG_EPSILON": f"{far_field.EPSILON}f",
    }


def inputs(program: ImageProgram, geometry: Geometry, scalars: int, slots: int, arrays: int) -> tuple[np.dtype, str]:
    """The kernel's argument, for NumPy and for C, with room for so many numbers of a system, of a slot, and stacks."""
    pointer, column = np.uint64, np.dtype([("at", np.uint64), ("step", np.int64)])
    fields: list[tuple[str, str, object, int]] = [
        ("float*", "out", pointer, 1),
        ("float*", "workspace", pointer, 1),
        ("bool*", "bad", pointer, 1),
        ("const long long*", "index", pointer, 1),
        ("const float*", "x_axis", pointer, 1),
        ("const float*", "y_axis", pointer, 1),
        ("long long", "images", np.int64, 1),
        ("lg_column", "exposure", column, 1),
        ("lg_whole_column", "choice", column, 1),
        ("lg_column", "scalar", column, scalars),
        ("lg_column", "slot", column, slots),
        ("lg_whole_column", "count", column, len(geometry.slots)),
        ("const float*", "array", pointer, arrays),
        ("const float*", "kernel", pointer, len(geometry.kernels)),
        ("float", "area", np.float32, 1),
        ("float", "spacing", np.float32, 1),
        ("unsigned int", "key0", np.uint32, 1),
        ("unsigned int", "key1", np.uint32, 1),
        ("unsigned int", "name", np.uint32, len(program.noise.uniforms) if program.noise else 1),
        ("float", "detector", np.float32, len(program.noise.detector) if program.noise else 1),
    ]
    separable = [f for f in program.filters if isinstance(f, Filter)]
    fields += [("float", f"weights{k}", np.float32, f.taps) for k, f in enumerate(separable)]
    single = {"name", "detector", "scalar", "slot", "count", "array", "kernel"}
    lines, members = [], []
    for kind, name, dtype, count in fields:
        several = name in single or name.startswith("weights")
        lines.append(f"    {kind} {name}{f'[{max(count, 1)}]' if several else ''};")
        members.append((name, dtype, (max(count, 1),)) if several else (name, dtype))
    text = "\n".join([_COLUMNS, "struct lg_inputs {", *lines, "};", _READS])
    return np.dtype(members, align=True), text


_COLUMNS = """\
struct lg_column { const float* at; long long step; };
struct lg_whole_column { const long long* at; long long step; };"""
_READS = """\
LG_FUNCTION float lg_number(const lg_column& c, int image, int slot = 0) {
    return c.at[lg_opaque(image) * c.step + slot];
}
LG_FUNCTION long long lg_count(const lg_whole_column& c, int image) { return c.at[(long long)image * c.step]; }
"""


def _c_array(name: str, values: Sequence[float]) -> str:
    numbers = ", ".join(f"{np.float32(v)!s}f" for v in values)
    return f"LG_CONSTANT float {name}[{len(values)}] = {{{numbers}}};"


def _table_nodes() -> list[float]:
    """For each node of a segment: its place from the segment's start, and its part in each coefficient of powers of
    (mantissa - middle)."""
    half = 0.5 / block_layout.SEGMENTS_AN_OCTAVE
    nodes = [half * math.cos(math.pi * (k + 0.5) / 4) for k in range(4)]
    parts = np.linalg.inv(np.vander(nodes, 4, increasing=True))
    return [v for k, node in enumerate(nodes) for v in (node + half, *parts[:, k])]


TABLES = "\n".join(
    [
        _c_array("lg_nodes", _table_nodes()),
        _c_array("lg_node_places", far_field.PLACES),
        _c_array("lg_interpolation", far_field.WEIGHTS.flatten().tolist()),
    ]
)
