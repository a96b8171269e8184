"""One value of a formula, and what formulas do with values.

A `Node` stands for a tensor. It takes part in arithmetic, in torch's functions and in a few of a tensor's methods, and
each of these makes another node of its graph. What has no meaning in straight-line code is refused.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch

from lensgen_kernels.errors import reject

if TYPE_CHECKING:
    from lensgen_kernels.graph import Graph

CONSTANT, UNIFORM, VARYING = 0, 1, 2  # rates: how often a value changes
REAL, INT, BOOL = "real", "int", "bool"
ARRAY = "array"  # of reals: an input that is read from, and takes part in nothing else

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
