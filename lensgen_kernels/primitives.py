"""What a formula may call besides + - * /: torch's functions by name, and functions that are printed once.

A function that takes part in torch's override protocol (`torch.overrides.handle_torch_function`) and is not in the
table is traced by itself, printed once and called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lensgen_kernels.errors import reject
from lensgen_kernels.graph import Function, Graph
from lensgen_kernels.node import ARRAY, CONSTANT, INT, REAL, UNIFORM, VARYING, Node, to_real, where

# primitives that every printer knows; all real to real
UNARY = ("sqrt", "exp", "log", "log1p", "sin", "cos", "atan", "erfinv", "floor", "abs")
_ALIASES = {"absolute": "abs", "greater": "gt", "less": "lt", "truediv": "div", "true_divide": "div", "rsub": "rsub"}
_IN_PLACE = "works in place or is not known to kernels"


def _unary(name: str, x: Node) -> Node:
    if x.kind != REAL:
        raise reject(f"{name} of a value that is no real number", "use it on real numbers")
    lower = x.graph.lowering.get(name)
    return x.graph.node(name, x) if lower is None else lower(x)


def maximum(x: Node, y: Node) -> Node:
    return _extremum("max", x, y)


def minimum(x: Node, y: Node) -> Node:
    return _extremum("min", x, y)


def _extremum(op: str, x: Node, y: Node) -> Node:
    if x.op == y.op == "const":
        return x.graph.constant((max if op == "max" else min)(x.args[0], y.args[0]))
    return x.graph.node(op, x, y)


def _clamp(x: Node, min: Any = None, max: Any = None) -> Node:
    if min is not None:
        x = maximum(x, x.graph.lift(min))
    return x if max is None else minimum(x, x.graph.lift(max))


def _to(x: Node, dtype: Any = None) -> Node:
    if dtype == torch.int64:
        return x if x.kind == INT else x.graph.node("to_int", x, kind=INT)
    if dtype in (torch.float64, torch.float32) and (x.graph.exact is False or dtype == torch.float64):
        return to_real(x)
    raise reject(f"to({dtype})", "keep to float64 and int64")


def _view(x: Node, dtype: Any) -> Node:
    if dtype == torch.int64 and x.kind == REAL and x.graph.exact:
        return x.graph.node("bits", x, kind=INT)
    if dtype == torch.float64 and x.kind == INT and x.graph.exact:
        return x.graph.node("from_bits", x)
    raise reject(f"view({dtype})", "bits are for lensgen.exact alone")


class Stack:
    """Images `[n, h, w]` that a formula reads: what `lensgen.fmath.Stack` is to torch.

    Args:
        graph: of the formula.
        name: of the input that holds the numbers, row by row and image by image.
        shape: n, h and w.
    """

    def __init__(self, graph: Graph, name: str, shape: tuple[int, ...]) -> None:
        self.array = graph.input(name, CONSTANT, ARRAY)
        self.shape = shape

    def lookup(self, which: Any, row: Any, column: Any) -> Node:
        """The pixels at whole numbers, which are held inside the array; NaN counts as 0."""
        graph = self.array.graph
        places = [_inside(graph.lift(v), size) for v, size in zip((which, row, column), self.shape, strict=True)]
        return graph.node("gather", self.array, *places, *self.shape[1:])


def _inside(index: Node, size: int) -> Node:
    zero, last = index.graph.constant(0.0), index.graph.constant(float(size - 1))
    return _to(where(index >= zero, minimum(index, last), zero), torch.int64)


def _like(value: float) -> Callable[..., Node]:
    def fill(x: Node, dtype: Any = None) -> Node:
        return x.graph.constant(bool(value) if dtype == torch.bool else value)

    return fill


def _bucketize(x: Node, boundaries: Tensor) -> Node:
    """How many of the boundaries, in rising order, lie below x."""
    numbers = tuple(float(v) for v in boundaries.tolist())
    return x.graph.node("bucketize", x, x.graph.table(numbers), len(numbers), kind=INT)


def _sum_slots(values: Node, count: Node) -> Node:
    graph = _graph_of(values, count)
    return graph.node("sum_slots", graph.lift(values), graph.lift(count), rate=UNIFORM)


def _rarely(condition: Node, usual: Node, rare: Callable[[], Node]) -> Node:
    if condition.graph.rare:
        return where(condition, *_pair(rare(), usual, condition.graph))
    condition.graph.rare_cases.append(condition)
    return usual


def _holds(condition: Node) -> bool:
    if condition.op == "const":
        return bool(condition.args[0])
    condition.graph.checks.append(condition)
    return True


_TABLE: dict[str, Callable[..., Any]] = {
    **{name: (lambda x, name=name: _unary(name, x)) for name in UNARY},
    "where": lambda c, a, b: where(c, *_pair(a, b, c.graph)),
    "maximum": lambda x, y: maximum(*_pair(x, y)),
    "minimum": lambda x, y: minimum(*_pair(x, y)),
    "clamp": lambda x, min=None, max=None: _clamp(_graph_of(x, min, max).lift(x), min, max),
    "atan2": lambda y, x: _atan2(*_pair(y, x)),
    "to": _to,
    "view": _view,
    "full_like": lambda x, value, dtype=None: x.graph.constant(value),
    "zeros_like": _like(0.0),
    "ones_like": _like(1.0),
    "new_tensor": lambda x, value: x.graph.constant(value),
    "expand_as": lambda x, other: x,
    "unsqueeze": lambda x, dim: x,
    "neg": lambda x: -x,
    "bucketize": _bucketize,
    "sum_slots": _sum_slots,
    "holds": _holds,
    "rarely": _rarely,
    **{
        name: (lambda a, b, name=name: getattr(_graph_of(a, b).lift(a), f"__{name}__")(b))
        for name in ("add", "sub", "mul", "lt", "le", "gt", "ge", "eq", "ne", "and", "or")
    },
    "div": lambda a, b: _graph_of(a, b).lift(a) / b,
    # Tensor.__rsub__(t, node): node - t
    "rsub": lambda a, b: _graph_of(a, b).lift(b) - a,
}
_EXACT_ONLY = {"view", "bucketize", "sum_slots", "new_tensor", "unsqueeze", "expand_as", "holds"}


def _graph_of(*values: Any) -> Graph:
    for value in values:
        if isinstance(value, Node):
            return value.graph
    raise reject("a list or tuple of values", "name each value: formulas are about single numbers")


def _pair(a: Any, b: Any, graph: Graph | None = None) -> tuple[Node, Node]:
    graph = graph or _graph_of(a, b)
    return graph.lift(a), graph.lift(b)


def _atan2(y: Node, x: Node) -> Node:
    lower = y.graph.lowering.get("atan2")
    return y.graph.node("atan2", y, x) if lower is None else lower(y, x)


def _known(name: str, graph: Graph) -> Callable[..., Any] | None:
    return None if name in _EXACT_ONLY and not graph.exact else _TABLE.get(name)


def call(func: Callable, args: tuple, kwargs: dict) -> Any:
    """torch's `func` on nodes."""
    name = getattr(func, "__name__", "?").strip("_")
    graph = _graph_of(*(a for a in (*args, *kwargs.values())))
    if hasattr(func, "__wrapped__"):
        return _called(graph, func, [graph.lift(a) for a in args])
    entry = _known(_ALIASES.get(name, name), graph)
    if entry is not None:
        return entry(*args, **kwargs)
    raise reject(f"torch's {name}", "use the functions of lensgen.fmath")


def method(x: Node, name: str) -> Callable[..., Any]:
    """A tensor's method `name` on a node."""
    entry = _known(_ALIASES.get(name, name), x.graph)
    if entry is None:
        raise reject(f".{name}, which {_IN_PLACE},", "use the functions of lensgen.fmath")
    return lambda *args, **kwargs: entry(x, *args, **kwargs)


def _called(graph: Graph, func: Callable, args: list[Node]) -> Any:
    if all(a.op == "const" for a in args):  # a number now rather than once a system: the very same arithmetic
        value = func(*(torch.tensor(a.args[0], dtype=torch.float64) for a in args))
        return tuple(map(graph.lift, value)) if isinstance(value, tuple) else graph.lift(value)
    function = graph.functions.get(func)
    if function is None:
        inner = Graph(exact=graph.exact, lowering=graph.lowering)
        inner.functions, inner.tables = graph.functions, graph.tables
        inputs = [inner.input(f"a{k}", VARYING) for k in range(len(args))]
        value = func.__wrapped__(*inputs)  # type: ignore[attr-defined]
        outputs = [inner.lift(v) for v in (value if isinstance(value, tuple) else (value,))]
        name = f"{func.__name__}_{len(graph.functions)}"
        function = graph.functions[func] = Function(name, inner, inputs, outputs)
    results = tuple(graph.node("call", function.name, k, *args) for k in range(len(function.outputs)))
    return results[0] if len(results) == 1 else results
