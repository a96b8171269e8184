"""The float32 primitives, compiled by numba as in a renderer, against float64 libraries."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest
import scipy.special
from numba import types

from lensgen_kernels import intrinsics
from lensgen_kernels.fast_math import LOWERING
from lensgen_kernels.graph import Graph
from lensgen_kernels.node import VARYING
from lensgen_kernels.numba_source import NumbaPrinter
from lensgen_kernels.translate import needed

# as renderers are compiled; contraction and the rest change last places
OPTIONS: dict = {"error_model": "numpy", "fastmath": {"contract", "nsz", "arcp", "ninf"}}
TINY = float(np.finfo(np.float32).tiny)


def compiled(name, arguments):
    """The primitive of `arguments` float32 numbers, and a function of arrays that calls it."""
    graph = Graph(lowering=LOWERING)
    constants: dict[str, str] = {}
    inputs = [graph.input(f"a{k}", VARYING) for k in range(arguments)]
    output = LOWERING[name](*inputs)
    printer = NumbaPrinter("float32", "t", constants)
    body = printer.lines(needed([output]))
    names = ", ".join(f"a{k}" for k in range(arguments))
    lines = [f"{c} = {text}" for text, c in constants.items()] + [f"def scalar({names}):"]
    lines += [f"    {line}" for line in [*body, f"return {printer.name(output)}"]]
    lines += [f"def loop(out, {names}):", "    for p in range(out.size):"]
    lines += [f"        put(out, p, scalar({', '.join(f'get(a{k}, p)' for k in range(arguments))}))"]
    space = {"np": np, **{k: getattr(intrinsics, k) for k in dir(intrinsics) if not k.startswith("__")}}
    exec("\n".join(lines), space)
    space["scalar"] = numba.njit(**OPTIONS)(space["scalar"])
    return space["scalar"], numba.njit(**OPTIONS)(space["loop"])


class Primitives:
    """Each compiled when it is first called."""

    def __init__(self) -> None:
        self.compiled: dict = {}

    def __call__(self, name, *arrays):
        if name not in self.compiled:
            self.compiled[name] = compiled(name, len(arrays))
        out = np.full(arrays[0].shape, np.nan, np.float32)
        self.compiled[name][1](out, *arrays)
        return out


@pytest.fixture(scope="module")
def primitive():
    return Primitives()


def both_signs(x):
    return np.concatenate([-x[::-1], [0.0], x])


def spaced(low, high, count=400_001):
    return np.exp(np.linspace(math.log(low), math.log(high), count))


# primitive -> float64 reference, inputs, and what is measured:
# "ulp": in units in the last place of the result; "absolute": in units of 2**-24, the last place of a result near 1
GRIDS = {
    "log": (np.log, [np.concatenate([spaced(TINY, 3e38), spaced(0.5, 2.0)])], "ulp", 2.0),
    "log1p": (
        np.log1p,
        [np.concatenate([both_signs(spaced(1e-37, 0.999)), spaced(1.0, 3e38), -1.0 + spaced(6e-8, 1e-3)])],
        "ulp",
        3.0,
    ),
    "exp": (np.exp, [np.concatenate([np.linspace(-87.0, 87.0, 400_001), both_signs(spaced(1e-37, 1.0))])], "ulp", 2.0),
    "atan": (np.arctan, [both_signs(np.concatenate([spaced(1e-37, 1e37), spaced(0.9, 1.1)]))], "ulp", 3.0),
    "sin": (np.sin, [np.linspace(-1000.0, 1000.0, 800_001)], "absolute", 2.0),
    "cos": (np.cos, [np.linspace(-1000.0, 1000.0, 800_001)], "absolute", 2.0),
}


def measured(values, reference, unit):
    """The largest error in that unit."""
    size = np.maximum(np.abs(reference), TINY) if unit == "ulp" else 1.0
    # spacing below the value: 2**-23 of its power of two
    last_place = np.exp2(np.floor(np.log2(size)) - 23.0) if unit == "ulp" else 2.0**-24
    return float(np.max(np.abs(values.astype(np.float64) - reference) / last_place))


@pytest.mark.parametrize("name", GRIDS)
def test_error(primitive, gate, name):
    reference, grids, unit, allowed = GRIDS[name]
    grids = [g.astype(np.float32) for g in grids]
    values = primitive(name, *grids)
    gate(f"float32 {name}, {unit}", measured(values, reference(*(g.astype(np.float64) for g in grids)), unit), allowed)


def test_sin_and_cos_near_their_zeros(primitive, gate):
    """To the last places of small results too, where angles are small: those of ellipticities and rods."""
    angle = both_signs(spaced(1e-37, 7.0)).astype(np.float32)
    error = measured(primitive("sin", angle), np.sin(angle.astype(np.float64)), "absolute")
    gate("float32 sin, |x| < 7, absolute", error, 2.0)
    small = angle[np.abs(angle) < 0.75]
    gate(
        "float32 sin, |x| < 0.75, ulp", measured(primitive("sin", small), np.sin(small.astype(np.float64)), "ulp"), 2.0
    )


def test_atan2_in_all_directions(primitive, gate):
    direction, size = np.meshgrid(np.linspace(-math.pi, math.pi, 2001), spaced(1e-18, 1e18, 101))
    y, x = ((f(direction) * size).ravel().astype(np.float32) for f in (np.sin, np.cos))
    reference = np.arctan2(y.astype(np.float64), x.astype(np.float64))
    gate("float32 atan2, ulp", measured(primitive("atan2", y, x), reference, "ulp"), 4.0)


def test_atan2_on_the_axes_and_at_the_origin(primitive):
    y = np.array([0.0, 0.0, 1.0, -1.0, 0.0, 1.0, -3.0], np.float32)
    x = np.array([0.0, 2.0, 0.0, 0.0, -2.0, 1.0, -3.0], np.float32)
    expected = np.array([0.0, 0.0, math.pi / 2, -math.pi / 2, math.pi, math.pi / 4, -0.75 * math.pi])
    assert measured(primitive("atan2", y, x), expected, "ulp") <= 1.0


def test_erfinv(primitive, gate):
    """Giles' approximation, of relative error 3.5e-7, and what rounding makes of it: on all uniforms that there are."""
    u = (np.arange(2**23, dtype=np.float64) + 0.5) * 2.0**-23
    x = (2.0 * u - 1.0).astype(np.float32)
    assert (x == 2.0 * u - 1.0).all() and abs(x).max() < 1.0
    values, reference = primitive("erfinv", x), scipy.special.erfinv(x.astype(np.float64))
    gate("float32 erfinv, relative", float(np.max(np.abs(values / reference - 1.0))), 1e-6)
    assert (values == -values[::-1]).all()


def test_values_that_must_be_exact(primitive):
    for name, argument, value in (
        ("log", 1.0, 0.0), ("log1p", 0.0, 0.0), ("exp", 0.0, 1.0), ("atan", 0.0, 0.0), ("sin", 0.0, 0.0),
        ("cos", 0.0, 1.0), ("erfinv", 0.0, 0.0),
    ):  # fmt: skip
        assert primitive(name, np.array([argument], np.float32))[0] == value, name


def test_beyond_their_ranges(primitive):
    """exp stays at its ends, so that nothing becomes infinite; a brightness there is nothing in a sum."""
    ends = primitive("exp", np.array([-1e30, -88.0, 88.0, 1e30], np.float32))
    at_87 = primitive("exp", np.array([-87.0, 87.0], np.float32))
    assert ends[0] == ends[1] == at_87[0] > 0.0 and ends[2] == ends[3] == at_87[1] < np.inf
    assert ends[0] < 2e-38


@pytest.mark.parametrize("name", LOWERING)
def test_nothing_is_widened(primitive, name):
    """Every value in between is float32, int32 or a condition: one float64 halves what a vector unit does at once."""
    arguments = 2 if name == "atan2" else 1
    primitive(name, *[np.array([0.5], np.float32)] * arguments)
    scalar, loop = primitive.compiled[name]
    ((signature, result),) = scalar.overloads.items()
    assert signature == (types.float32,) * arguments and result.signature.return_type == types.float32
    kinds = {t for t in result.type_annotation.typemap.values() if isinstance(t, types.Number | types.Boolean)}
    assert kinds <= {types.float32, types.int32, types.boolean}, kinds
    (machine_code,) = loop.inspect_llvm().values()
    assert "float" in machine_code and "double" not in machine_code
