"""float32 primitives made of + - * / and bit operations, which a CPU's vector units do for many pixels at once.

The C library's take ten times as long, one number at a time. Each is good to two or three units in the last place
over the range that is stated; polynomials are our own fits at Chebyshev nodes, their relative errors beside them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from lensgen_kernels.node import INT, REAL, Node, where
from lensgen_kernels.primitives import maximum, minimum

_SQRT_HALF_BITS = 0x3F3504F3  # of the float32 nearest sqrt(1/2)


def _horner(x: Node, coefficients: tuple[float, ...]) -> Node:
    total: Node | float = coefficients[-1]
    for c in coefficients[-2::-1]:
        total = total * x + c
    return x.graph.lift(total)


def _bits(x: Node) -> Node:
    return x.graph.node("bits", x, kind=INT)


def _from_bits(k: Node) -> Node:
    return k.graph.node("from_bits", k, kind=REAL)


def _nan(x: Node) -> Node:
    return _from_bits(x.graph.constant(0x7FC00000, INT))


def _power_of_two(n: Node) -> Node:
    """2**n of a whole real number n within [-126, 127]."""
    return _from_bits((n.graph.node("to_int", n, kind=INT) + n.graph.constant(127, INT)) << 23)


_LOG = (  # (log(1 + f) - f + f^2/2) / f^3: 7e-8
    0.33333331180030046, -0.24999996957950882, 0.200007157488921, -0.16667802319501254, 0.1424905764569748,
    -0.12425687331451106, 0.1168541992348674, -0.11479733846637635, 0.06971611471451178,
)  # fmt: skip


def log(x: Node) -> Node:
    """x > 0 and normal; NaN for what has no logarithm."""
    bits = _bits(x)
    exponent = (bits - x.graph.constant(_SQRT_HALF_BITS, INT)) >> 23
    f = _from_bits(bits - (exponent << 23)) - 1.0
    z = f * f
    log_mantissa = f + z * (f * _horner(f, _LOG) - 0.5)
    n = x.graph.node("to_real", exponent)
    value = n * 0.693359375 + (n * -2.12194440054690583e-4 + log_mantissa)  # ln 2 in two parts
    return where(x >= 0.0, value, _nan(x))


def log1p(x: Node) -> Node:
    """x > -1: what rounding 1 + x lost is put back (Goldberg 1991, theorem 4)."""
    u = x + 1.0
    return log(u) + (x - (u - 1.0)) / u


_EXP = (  # (exp(r) - 1 - r) / r^2: 3e-9
    0.5000000013457727, 0.16666666681614256, 0.04166646500604005, 0.008333310934448869, 0.0013933641031986701,
    0.00019890980869750327,
)  # fmt: skip


def exp(x: Node) -> Node:
    """|x| <= 87; beyond, the value there."""
    x = minimum(maximum(x, x.graph.constant(-87.0)), x.graph.constant(87.0))
    n = x.graph.node("floor", x * (1.0 / math.log(2.0)) + 0.5)
    r = (x - n * 0.693359375) - n * -2.12194440054690583e-4
    return (1.0 + (r + r * r * _horner(r, _EXP))) * _power_of_two(n)


_ATAN = (  # atan(sqrt z) / sqrt z on [0, 1]: 3e-9
    0.9999999971605454, -0.3333327629198255, 0.19998075281148714, -0.14260016082820906, 0.10932341501303093,
    -0.08349724968301601, 0.05708955593030619, -0.030351864785781172, 0.010487649254949306, -0.0017011700640685973,
)  # fmt: skip


def _atan_below_one(t: Node) -> Node:
    return t * _horner(t * t, _ATAN)


def atan(x: Node) -> Node:
    size = abs(x)
    steep = size > 1.0
    angle = _atan_below_one(where(steep, 1.0 / maximum(size, x.graph.constant(1.0)), size))
    angle = where(steep, 0.5 * math.pi - angle, angle)
    return where(x < 0.0, -angle, angle)


def atan2(y: Node, x: Node) -> Node:
    """Angle of (x, y); 0 at the origin."""
    across, along = abs(y), abs(x)
    longer = maximum(maximum(across, along), x.graph.constant(1e-37))
    angle = _atan_below_one(minimum(across, along) / longer)
    angle = where(across > along, 0.5 * math.pi - angle, angle)
    angle = where(x < 0.0, math.pi - angle, angle)
    return where(across + along >= 0.0, where(y < 0.0, -angle, angle), _nan(x))


_SIN = (-0.1666666666385529, 0.008333331874710208, -0.00019840086735384846, 2.724992580305979e-06)  # 2e-10
_COS = (0.0416666666643212, -0.001388888767201679, 2.480060037715673e-05, -2.730095920390147e-07)  # 6e-11


def _sin_cos(x: Node, quarter_more: float) -> Node:
    """sin(x + quarter_more pi/2), |x| < 1e3."""
    quarter = x.graph.node("floor", x * (2.0 / math.pi) + 0.5)
    r = ((x - quarter * 1.5703125) - quarter * 4.837512969970703125e-4) - quarter * 7.54978995489188216e-8
    z = r * r
    sine = r + r * z * _horner(z, _SIN)
    cosine = 1.0 - 0.5 * z + z * z * _horner(z, _COS)
    k = x.graph.node("to_int", quarter + quarter_more, kind=INT)
    odd = (k & 1) == 1
    value = where(odd, cosine, sine)
    return where((k & 2) == 2, -value, value)


def sin(x: Node) -> Node:
    return _sin_cos(x, 0.0)


def cos(x: Node) -> Node:
    return _sin_cos(x, 1.0)


# Giles 2010, "Approximating the erfinv function", single precision
_ERFINV_CENTRAL = (
    1.50140941, 0.246640727, -0.00417768164, -0.00125372503, 0.00021858087, -4.39150654e-06, -3.5233877e-06,
    3.43273939e-07, 2.81022636e-08,
)  # fmt: skip
_ERFINV_TAIL = (
    2.83297682, 1.00167406, 0.00943887047, -0.0076224613, 0.00573950773, -0.00367342844, 0.00134934322, 0.000100950558,
    -0.000200214257,
)  # fmt: skip


def erfinv(x: Node) -> Node:
    """-1 < x < 1."""
    w = -x.graph.lowering["log"]((1.0 - x) * (1.0 + x))
    central = _horner(w - 2.5, _ERFINV_CENTRAL)
    tail = _horner(x.graph.node("sqrt", maximum(w, x.graph.constant(5.0))) - 3.0, _ERFINV_TAIL)
    return x * where(w < 5.0, central, tail)


LOWERING: dict[str, Callable[..., Node]] = {
    "log": log,
    "log1p": log1p,
    "exp": exp,
    "atan": atan,
    "atan2": atan2,
    "sin": sin,
    "cos": cos,
    "erfinv": erfinv,
}
