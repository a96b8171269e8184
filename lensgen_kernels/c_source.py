"""A graph as a function in the common part of CUDA C and C++: one typed line an operation.

The text needs `PRELUDE` before it, and then compiles with NVRTC (device functions) and with any C++ compiler (static
ones), so that what will run on a GPU can be tested where there is none. Everything is a real of one type, "float" or
"double", a whole number of the same width, or a condition; literals carry their type, so nothing is promoted and
nothing is divided as whole numbers.

Names cannot collide: inputs begin with `in_`, values with `v`, helpers and functions with `lg_`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from lensgen_kernels.errors import TranslationError
from lensgen_kernels.graph import Function
from lensgen_kernels.node import ARRAY, BOOL, INT, REAL, Node
from lensgen_kernels.translate import needed

PRELUDE = """\
#ifdef __CUDACC__
#define LG_FUNCTION static __device__ __forceinline__
LG_FUNCTION int lg_bits(float x) { return __float_as_int(x); }
LG_FUNCTION long long lg_bits(double x) { return __double_as_longlong(x); }
LG_FUNCTION float lg_from_bits(int k) { return __int_as_float(k); }
LG_FUNCTION double lg_from_bits(long long k) { return __longlong_as_double(k); }
LG_FUNCTION float lg_erfinv(float x) { return erfinvf(x); }
LG_FUNCTION double lg_erfinv(double x) { return erfinv(x); }
/* by the special function unit: a quotient to 2 units in the last place, a ratio to 1, an exponential to 3e-7 of
   itself, a logarithm to 2e-7 */
LG_FUNCTION float lg_one_over(float x) { return __fdividef(1.0f, x); }
LG_FUNCTION float lg_exp2(float x) { return exp2f(x); }
LG_FUNCTION float lg_log2_near_1(float x) { return __log2f(x); }
#else
#include <math.h>
#include <string.h>
#define LG_FUNCTION static inline
LG_FUNCTION int lg_bits(float x) { int k; memcpy(&k, &x, sizeof k); return k; }
LG_FUNCTION long long lg_bits(double x) { long long k; memcpy(&k, &x, sizeof k); return k; }
LG_FUNCTION float lg_from_bits(int k) { float x; memcpy(&x, &k, sizeof x); return x; }
LG_FUNCTION double lg_from_bits(long long k) { double x; memcpy(&x, &k, sizeof x); return x; }
/* Winitzki's approximation, then Newton's iteration on the smaller tail, which does not cancel */
LG_FUNCTION double lg_erfinv(double x) {
    const double tail = 1.0 - fabs(x), l = log1p(-x * x), b = 4.330746750799873 + 0.5 * l;
    double y = sqrt(sqrt(b * b - l / 0.147) - b);
    for (int k = 0; k < 4; k++) {
        const double excess = fabs(x) < 0.5 ? fabs(x) - erf(y) : erfc(y) - tail;
        y += 0.8862269254527580 * exp(y * y) * excess;
    }
    return x < 0.0 ? -y : y;
}
LG_FUNCTION float lg_erfinv(float x) { return (float)lg_erfinv((double)x); }
/* as far off as a GPU's may be, up or down at random */
LG_FUNCTION float lg_off(float x, float by) { return (lg_bits(x) * 0x9E3779B1u) >> 31 ? by : -by; }
LG_FUNCTION float lg_one_over(float x) {  /* 0 of what is too large, infinite of what is too small */
    if (!(fabsf(x) <= 8.507059e37f)) return x == x ? 0.0f : x;
    return (fabsf(x) < 1.1754944e-38f ? copysignf(1.0f, x) / 0.0f : 1.0f / x) * (1.0f + lg_off(x, 1.2e-7f));
}
LG_FUNCTION float lg_exp2(float x) { return exp2f(x) * (1.0f + lg_off(x, 2.4e-7f)); }
LG_FUNCTION float lg_log2_near_1(float x) { return log2f(x) + lg_off(x, 1.6e-7f); }
#endif
LG_FUNCTION float lg_quotient(float x, float y) { return x * lg_one_over(y); }
LG_FUNCTION float lg_ratio(float x, float y) {  /* Newton's correction: to one unit */
    const float one_over = lg_one_over(y), q = x * one_over;
    return fmaf(fmaf(-y, q, x), one_over, q);
}
LG_FUNCTION float lg_quick_exp(float x) {
    const float high = x * 1.44269502f, low = fmaf(x, 1.44269502f, -high) + x * 1.92596299e-8f, value = lg_exp2(high);
    return fmaf(value, 0.693147181f * low, value);  /* what rounding the product loses grows with x */
}
LG_FUNCTION float lg_quick_log(float x) {
    const int power = (lg_bits(x) - 0x3F3504F3) >> 23;  /* x = 2^power m: near 1 the error is absolute */
    const float m = lg_from_bits(lg_bits(x) - power * 0x800000);
    const float value = 0.693147181f * ((float)power + lg_log2_near_1(m));
    return x >= 0.0f ? value : x - x + lg_from_bits(0x7FC00000);
}
/* where x is NaN the result is, as torch.clamp has it; y is a bound */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
LG_FUNCTION float lg_max(float x, float y) {
    float z;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(z) : "f"(x), "f"(y));
    return z;
}
LG_FUNCTION float lg_min(float x, float y) {
    float z;
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(z) : "f"(x), "f"(y));
    return z;
}
#else
LG_FUNCTION float lg_max(float x, float y) { return x <= y ? y : x; }
LG_FUNCTION float lg_min(float x, float y) { return x >= y ? y : x; }
#endif
LG_FUNCTION double lg_max(double x, double y) { return x <= y ? y : x; }
LG_FUNCTION double lg_min(double x, double y) { return x >= y ? y : x; }
LG_FUNCTION int lg_shl(int k, int by) { return (int)((unsigned int)k << by); }
LG_FUNCTION long long lg_shl(long long k, int by) { return (long long)((unsigned long long)k << by); }
"""

_WHOLE = {"float": "int", "double": "long long"}
_INFIX = {
    "add": "+", "sub": "-", "mul": "*", "div": "/",
    "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=",
}  # fmt: skip
_LOGICAL = {"and": ("&&", "&"), "or": ("||", "|")}  # of conditions, of bits
_LIBM = {
    "sqrt": "sqrt", "exp": "exp", "log": "log", "log1p": "log1p", "sin": "sin", "cos": "cos", "atan": "atan",
    "atan2": "atan2", "floor": "floor", "abs": "fabs",
}  # fmt: skip
_HELPERS = {
    "erfinv": "lg_erfinv", "bits": "lg_bits", "from_bits": "lg_from_bits", "max": "lg_max", "min": "lg_min",
    "quick_exp": "lg_quick_exp", "quick_log": "lg_quick_log",
}  # fmt: skip


class CPrinter:
    """Prints the nodes of one graph.

    Args:
        real: "float" or "double".
    """

    def __init__(self, real: str) -> None:
        self.real, self.whole = real, _WHOLE[real]
        self._suffix = "f" if real == "float" else ""

    def type(self, node: Node) -> str:
        return {REAL: self.real, INT: self.whole, BOOL: "bool", ARRAY: f"const {self.real}*"}[node.kind]

    def name(self, node: Node) -> str:
        if node.op == "const":
            return self.literal(node)
        if node.op == "input":
            return input_name(node)
        return f"v{node.number}"

    def literal(self, node: Node) -> str:
        """A constant, in parentheses where it has a sign.

        Raises:
            TranslationError: the type has no such number.
        """
        value = node.args[0]
        if node.kind == BOOL:
            return "true" if value else "false"
        if node.kind == INT:
            width = 32 if self.whole == "int" else 64
            if not -(2 ** (width - 1)) < value < 2 ** (width - 1):
                raise _no(f"{value} as a whole number of {width} bits")
            text = f"{int(value)}{'' if width == 32 else 'LL'}"
        else:
            with np.errstate(over="ignore"):
                rounded = np.float32(value) if self.real == "float" else np.float64(value)
            if not math.isfinite(rounded):
                raise _no(f"the number {value} as a {self.real}")
            text = f"{rounded!s}{self._suffix}"
        return f"({text})" if text.startswith("-") else text

    def line(self, node: Node) -> str:
        """`const float v7 = v3 + v5;`"""
        return f"const {self.type(node)} {self.name(node)} = {self.expression(node)};"

    def expression(self, node: Node) -> str:
        """The right-hand side.

        Raises:
            TranslationError: what whole kernels have and formulas do not (tables, sums over slots, random numbers).
        """
        op, args = node.op, [self.name(a) if isinstance(a, Node) else a for a in node.args]
        if op in _INFIX:
            if node.kind == INT and op not in ("add", "sub"):
                raise _no(f"'{op}' of whole numbers")
            return f"{args[0]} {_INFIX[op]} {args[1]}"
        if op in _LOGICAL:
            return f"{args[0]} {_LOGICAL[op][node.kind == INT]} {args[1]}"
        if op == "neg":
            return f"-{args[0]}"
        if op == "not":
            return f"!{args[0]}"
        if op == "where":
            return f"{args[0]} ? {args[1]} : {args[2]}"
        if op == "shl":
            return f"lg_shl({args[0]}, {node.args[1].args[0]})"
        if op == "shr":
            return f"{args[0]} >> {node.args[1].args[0]}"
        if op == "to_real":
            return f"({self.real}){args[0]}"
        if op == "to_int":
            return f"({self.whole}){args[0]}"
        if op in _LIBM:
            return f"{_LIBM[op]}{self._suffix}({', '.join(args)})"
        if op in _HELPERS:
            return f"{_HELPERS[op]}({', '.join(args)})"
        if op == "gather":
            array, which, row, column, height, width = args
            return f"{array}[((long long){which} * {height} + {row}) * {width} + {column}]"
        if op == "call":
            member = f".v{args[1]}" if len(called(node).outputs) > 1 else ""
            return f"{self.call(node, args[2:])}{member}"
        raise _no(f"'{op}'")

    def call(self, node: Node, operands: Sequence[str]) -> str:
        """The call of a function for these operands."""
        return f"lg_{node.args[0]}({', '.join(operands)})"

    def statements(self, nodes: Sequence[Node]) -> Iterator[tuple[Node, list[str]]]:
        """Those of the nodes that need lines, and these; one call for all the values of it."""
        known: dict[tuple, str] = {}
        for node in nodes:
            if node.op in ("const", "input"):
                continue
            if node.op != "call" or len(called(node).outputs) == 1:
                yield node, [self.line(node)]
                continue
            key, lines = (node.args[0], *(a.number for a in node.operands)), []
            if key not in known:
                known[key] = f"c{node.number}"
                call = self.call(node, [self.name(a) for a in node.operands])
                lines.append(f"const lg_{node.args[0]}_values {known[key]} = {call};")
            yield node, [*lines, f"const {self.type(node)} {self.name(node)} = {known[key]}.v{node.args[1]};"]

    def lines(self, nodes: Sequence[Node]) -> list[str]:
        return [line for _, lines in self.statements(nodes) for line in lines]


def input_name(node: Node) -> str:
    """The name that a printed function gives to an input.

    Raises:
        TranslationError: that is no name in C.
    """
    name = f"in_{node.args[0]}"
    if not (name.isascii() and name.isidentifier()):
        raise _no(f"the name {node.args[0]!r}")
    return name


def _no(what: str) -> TranslationError:
    return TranslationError(f"{what} cannot be written in C. Fix: leave it to engine 'cpu' or 'torch'.")


def called(call: Node) -> Function:
    """The function that a node calls."""
    return next(f for f in call.graph.functions.values() if f.name == call.args[0])


def functions_of(outputs: Sequence[Node], found: dict[str, Function] | None = None) -> dict[str, Function]:
    """The functions that the outputs call, by name, each after those that it calls itself."""
    found = {} if found is None else found
    for node in needed(outputs):
        if node.op == "call" and node.args[0] not in found:
            function = called(node)
            functions_of(function.outputs, found)
            found[function.name] = function
    return found


def functions_source(outputs: Sequence[Node], real: str) -> str:
    """What the outputs call, to be printed once before all that call it."""
    return "".join(formula_source(f.name, f.inputs, f.outputs, real) for f in functions_of(outputs).values())


def formula_source(
    name: str, inputs: Sequence[Node], outputs: Sequence[Node], real: str, qualifier: str = "LG_FUNCTION"
) -> str:
    """The function `lg_<name>` of the inputs: it returns the output, or a struct with members v0, v1, ...

    `functions_source` must stand before it; `qualifier` is what its declaration begins with.

    Raises:
        TranslationError: naming what has no place in a formula.
    """
    printer = CPrinter(real)
    parameters = [f"{printer.type(node)} {input_name(node)}" for node in inputs]
    values = [printer.name(o) for o in outputs]
    return _printed(name, parameters, printer.lines(needed(outputs)), outputs, values, printer, qualifier)


def _printed(
    name: str,
    parameters: list[str],
    lines: list[str],
    outputs: Sequence[Node],
    values: list[str],
    printer: CPrinter,
    qualifier: str = "LG_FUNCTION",
) -> str:
    text = []
    result, value = printer.type(outputs[0]), values[0]
    if len(outputs) > 1:
        result, value = f"lg_{name}_values", f"{{{', '.join(values)}}}"
        members = " ".join(f"{printer.type(output)} v{k};" for k, output in enumerate(outputs))
        text.append(f"struct {result} {{ {members} }};")
    text.append(f"{qualifier} {result} lg_{name}({', '.join(parameters)}) {{")
    text += [f"    {line}" for line in [*lines, f"return {value};"]]
    return "\n".join([*text, "}", ""])
