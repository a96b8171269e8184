"""A formula as a graph of operations: what tracing records, and what the printers print.

A `Node` stands for a tensor. It takes part in arithmetic, in torch's functions and in a few of a tensor's methods,
and each of these makes another node; equal operations on equal operands are one node. So a formula is translated
by calling it with nodes: loops, tuples and calls to its like are Python's own, and what is left is straight-line code.

A node knows its `rate`, how often its value changes: never, once a system, or with every position (pixel or slot).
What changes once a system is worked out once a system by every kernel, wherever the formula says it.
"""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lensgen_kernels.errors import TranslationError

CONSTANT, UNIFORM, VARYING = 0, 1, 2
REAL, INT, BOOL = "real", "int", "bool"
MOST_NODES = 50_000

_HERE = str(Path(__file__).parent)
_LIBRARIES = (str(Path(torch.__file__).parent), str(Path(np.__file__).parent))


def is_ours(file: str) -> bool:
    """Whether a file is the translator's or a library's, and no formula's."""
    return file.startswith((_HERE, *_LIBRARIES, "<"))


def place() -> str:
    """File and line of the code that is being traced."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not is_ours(file):
            return f"{file}:{frame.f_lineno}"
        frame = frame.f_back
    return "unknown place"


def reject(what: str, fix: str) -> TranslationError:
    return TranslationError(f"{place()}: {what} cannot be translated. Fix: {fix}.")


class Graph:
    """Args:
    exact: every operation is kept as it is written, so that float64 results are equal to the bit; otherwise sums with
        0 and products with 0 or 1 are left out.
    lowering: functions that stand for primitives of the same name, made of simpler ones.
    """

    def __init__(self, exact: bool = False, lowering: dict[str, Callable] | None = None) -> None:
        self.exact = exact
        self.lowering = lowering or {}
        self.nodes: list[Node] = []
        self._known: list[dict[tuple, Node]] = [{}]
        self.region = 0  # which branch of the kernel new nodes belong to
        self.functions: dict[Callable, Function] = {}
        self.tables: list[tuple[float, ...]] = []
        self.checks: list[Node] = []
        self.rare = True  # whether rare cases are worked out, or only noted
        self.rare_cases: list[Node] = []

    def node(self, op: str, *args: Any, kind: str = REAL, rate: int | None = None, slots: int | None = None) -> Node:
        key = (op, *(a.number if isinstance(a, Node) else ("", type(a).__name__, repr(a)) for a in args))
        for known in reversed(self._known):
            if key in known:
                return known[key]
        if len(self.nodes) >= MOST_NODES:
            raise reject(f"a formula of more than {MOST_NODES} operations", "shorter loops")
        operands = [a for a in args if isinstance(a, Node)]
        if rate is None:
            rate = max((a.rate for a in operands), default=CONSTANT)
        sizes = {a.slots for a in operands if a.slots is not None}
        if len(sizes) > 1:
            raise reject(f"an operation on {sorted(sizes)} slots at once", "give both the same number of slots")
        if rate < VARYING:
            sizes.clear()  # a sum over slots has none
        made = Node(self, len(self.nodes), op, args, kind, rate, sizes.pop() if sizes else slots, self.region)
        self.nodes.append(made)
        self._known[-1][key] = made
        return made

    def constant(self, value: float | int | bool, kind: str | None = None) -> Node:
        if kind is None:
            kind = BOOL if isinstance(value, bool) else REAL
        if kind == REAL:
            value = float(value)
            if not math.isfinite(value):
                raise reject(f"the number {value}", "use finite numbers")
        return self.node("const", value, kind=kind)

    def input(self, name: str, rate: int, kind: str = REAL, slots: int | None = None) -> Node:
        return self.node("input", name, kind=kind, rate=rate, slots=slots)

    def table(self, values: tuple[float, ...]) -> int:
        if values not in self.tables:
            self.tables.append(values)
        return self.tables.index(values)

    def results(self, function: str) -> int:
        """How many values the function of that name returns."""
        return next(len(f.outputs) for f in self.functions.values() if f.name == function)

    def enter(self, region: int) -> None:
        """From here on nodes belong to a branch of the kernel; those before it may be used, and not the reverse."""
        self.region = region
        self._known.append({})

    def leave(self) -> None:
        self.region = 0
        self._known.pop()

    def lift(self, value: Any) -> Node:
        """A number, or a tensor of one, as a node; a tensor `[N]` as one value a slot."""
        if isinstance(value, Node):
            if value.graph is not self:
                raise reject("a value kept from another translation", "let formulas keep nothing between calls")
            return value
        if isinstance(value, Tensor):
            if value.dim() == 0:
                return self.constant(value.item())
            if value.dim() == 1 and self.exact and not value.is_complex():
                kind = BOOL if value.dtype == torch.bool else REAL
                numbers = tuple(float(v) for v in value.tolist())
                return self.node("table", self.table(numbers), kind=kind, rate=VARYING, slots=len(numbers))
            raise reject(f"a tensor of shape {list(value.shape)}", "use numbers, and loops over tuples of numbers")
        if isinstance(value, bool | int | float):
            return self.constant(value)
        raise reject(f"{type(value).__name__} {value!r}", "use real numbers")


class Function:
    """A function that is printed once and called by name: its graph, its inputs and what it returns."""

    def __init__(self, name: str, graph: Graph, inputs: list[Node], outputs: list[Node]) -> None:
        self.name, self.graph, self.inputs, self.outputs = name, graph, inputs, outputs


_ARITHMETIC: dict[str, Callable] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
}
_COMPARISONS: dict[str, Callable] = {
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "eq": operator.eq,
    "ne": operator.ne,
}


def _arithmetic(op: str, a: Node, b: Node) -> Node:
    graph = a.graph
    if BOOL in (a.kind, b.kind):
        raise reject("a comparison in arithmetic", "choose with where(condition, a, b)")
    if a.kind != b.kind:  # whole numbers among reals: torch would promote them
        a, b = (
            graph.constant(x.args[0], REAL) if x.op == "const" else x if x.kind == REAL else to_real(x) for x in (a, b)
        )
    if a.kind == INT and op in ("mul", "div"):
        raise reject("a product or a quotient of whole numbers", "make them real first, with .to(torch.float64)")
    if a.op == b.op == "const":
        if op == "div" and b.args[0] == 0:
            raise reject("a division by 0", "use finite numbers")
        return graph.constant(_ARITHMETIC[op](a.args[0], b.args[0]), a.kind)
    if not graph.exact:
        zero, one = (lambda n: n.op == "const" and n.args[0] == 0), (lambda n: n.op == "const" and n.args[0] == 1)
        if op == "mul" and (zero(a) or zero(b)):
            return graph.constant(0, a.kind)
        if (op == "add" and zero(a)) or (op == "mul" and one(a)):
            return b
        if (op in ("add", "sub") and zero(b)) or (op in ("mul", "div") and one(b)):
            return a
        if op == "sub" and zero(a):
            return _negative(b)
    if op == "div" and a.op == "const" and a.args[0] != 1.0:
        # what torch makes of number / tensor: the bits of exact arithmetic depend on it
        return _arithmetic("mul", a, _arithmetic("div", graph.constant(1.0), b))
    return graph.node(op, a, b, kind=a.kind)


def _negative(x: Node) -> Node:
    if x.op == "const":
        return x.graph.constant(-x.args[0], x.kind)
    return x.graph.node("neg", x, kind=x.kind)


def to_real(x: Node) -> Node:
    """A whole number or a condition (1 or 0) as a real."""
    if x.kind == BOOL:
        return where(x, x.graph.constant(1.0), x.graph.constant(0.0))
    return x if x.kind == REAL else x.graph.node("to_real", x)


def _comparison(op: str, a: Node, b: Node) -> Node:
    if a.kind != b.kind:
        a, b = to_real(a), to_real(b)
    if a.op == b.op == "const":
        return a.graph.constant(bool(_COMPARISONS[op](a.args[0], b.args[0])))
    return a.graph.node(op, a, b, kind=BOOL)


def _logical(op: str, a: Node, b: Node) -> Node:
    if a.kind != b.kind or a.kind == REAL:
        raise reject(f"'{op}' of {a.kind} and {b.kind}", "combine conditions with & and |")
    for known, other in ((a, b), (b, a)):
        if a.kind == BOOL and known.op == "const":
            return other if known.args[0] == (op == "and") else known
    return a.graph.node(op, a, b, kind=a.kind)


def where(condition: Node, a: Node, b: Node) -> Node:
    if condition.kind != BOOL:
        raise reject("where of something that is no condition", "compare first, e.g. where(x < 0.0, a, b)")
    if a.kind != b.kind:
        a, b = to_real(a), to_real(b)
    if condition.op == "const":
        return a if condition.args[0] else b
    return a if a is b else a.graph.node("where", condition, a, b, kind=a.kind)


class Node:
    """One value of a formula. Not made by hand: `Graph.node` does."""

    __slots__ = ("args", "graph", "kind", "number", "op", "rate", "region", "slots")

    def __init__(
        self, graph: Graph, number: int, op: str, args: tuple, kind: str, rate: int, slots: int | None, region: int
    ) -> None:
        self.graph, self.number, self.op, self.args = graph, number, op, args
        self.kind, self.rate, self.slots, self.region = kind, rate, slots, region

    @property
    def operands(self) -> list[Node]:
        return [a for a in self.args if isinstance(a, Node)]

    @classmethod
    def __torch_function__(cls, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        from lensgen_kernels.primitives import call  # it needs nodes

        return call(func, args, kwargs or {})

    def __getattr__(self, name: str) -> Any:
        from lensgen_kernels.primitives import method

        if name.startswith("__"):
            raise AttributeError(name)
        if name == "device" and self.graph.exact:
            return torch.device("cpu")
        return method(self, name)

    def __add__(self, other):
        return _arithmetic("add", self, self._whole(other))

    def __radd__(self, other):
        return _arithmetic("add", self._whole(other), self)

    def __sub__(self, other):
        return _arithmetic("sub", self, self._whole(other))

    def __rsub__(self, other):
        return _arithmetic("sub", self._whole(other), self)

    def __mul__(self, other):
        return _arithmetic("mul", self, self._whole(other))

    def __rmul__(self, other):
        return _arithmetic("mul", self._whole(other), self)

    def __truediv__(self, other):
        return _arithmetic("div", self, self._whole(other))

    def __rtruediv__(self, other):
        return _arithmetic("div", self._whole(other), self)

    def __neg__(self):
        return _negative(self)

    def __pos__(self):
        return self

    def __lt__(self, other):
        return _comparison("lt", self, self._whole(other))

    def __le__(self, other):
        return _comparison("le", self, self._whole(other))

    def __gt__(self, other):
        return _comparison("gt", self, self._whole(other))

    def __ge__(self, other):
        return _comparison("ge", self, self._whole(other))

    def __eq__(self, other):
        return _comparison("eq", self, self._whole(other))

    def __ne__(self, other):
        return _comparison("ne", self, self._whole(other))

    __hash__ = object.__hash__

    def __and__(self, other):
        return _logical("and", self, self._whole(other))

    __rand__ = __and__

    def __or__(self, other):
        return _logical("or", self, self._whole(other))

    __ror__ = __or__

    def __invert__(self):
        if self.kind != BOOL:
            raise reject("~ of a number", "use it on conditions")
        return self.graph.node("not", self, kind=BOOL)

    def __rshift__(self, other):
        return self._shifted("shr", other)

    def __lshift__(self, other):
        return self._shifted("shl", other)

    def _whole(self, other: Any) -> Node:
        if self.kind == INT and isinstance(other, int) and not isinstance(other, bool):
            return self.graph.constant(other, INT)
        return self.graph.lift(other)

    def _shifted(self, op: str, by: Any) -> Node:
        if self.kind != INT or not isinstance(by, int):
            raise reject("a shift of a real number, or by one", "multiply by a power of two")
        return self.graph.node(op, self, self.graph.constant(by, INT), kind=INT)

    def __getitem__(self, item: Any) -> Node:
        if self.graph.exact and item == (slice(None), None):
            return self
        if self.graph.exact and item == (slice(None), 0) and self.op == "uniform":
            return self.graph.node("uniform", self.args[0], 0, rate=UNIFORM)
        raise reject("a subscript", "name each value: formulas are about single numbers")

    def __iadd__(self, other):
        raise reject(
            "an operation in place (+=, -=, *=, /=), which changes a tensor for its other users,", "write x = x + y"
        )

    __isub__ = __imul__ = __itruediv__ = __iadd__

    def __setitem__(self, item: Any, value: Any) -> None:
        raise reject("an assignment to an element", "choose with where(condition, a, b)")

    def __pow__(self, other):
        raise reject("a power", "multiply, or write exp(k * log(x))")

    __rpow__ = __pow__

    def __mod__(self, other):
        raise reject("% or //", "use floor(x / y)")

    __rmod__ = __floordiv__ = __rfloordiv__ = __divmod__ = __mod__

    def __bool__(self) -> bool:
        raise reject(
            "a decision on a value (if, while, and, or, not, min, max, an early return, a < b < c)",
            "choose with where(condition, a, b)",
        )

    def __index__(self) -> int:
        raise reject("a value as a count or an index, as in range(n)", "make the length a static of the profile")

    def __float__(self) -> float:
        raise reject("a value as a Python number, as in math.sin(x) or float(x)", "use the functions of lensgen.fmath")

    __int__ = __complex__ = __float__

    def __array__(self, *args: Any, **kwargs: Any):
        raise reject("a NumPy function", "use the functions of lensgen.fmath")

    def __array_ufunc__(self, *args: Any, **kwargs: Any):
        raise reject("a NumPy function", "use the functions of lensgen.fmath")

    def __iter__(self) -> Iterator[Node]:
        raise reject("going through a value, or taking it apart", "name each value: formulas are about single numbers")

    def __len__(self) -> int:
        raise reject("the length of a value", "make the length a static of the profile")

    def __abs__(self) -> Node:
        return self.abs()
