"""A formula as a graph of operations: what tracing records, and what the printers print.

Equal operations on equal operands are one node. So a formula is translated by calling it with nodes: loops, tuples and
calls to its like are Python's own, and what is left is straight-line code.

A node knows its `rate`, how often its value changes: never, once a system, or with every position (pixel or slot).
What changes once a system is worked out once a system by every kernel, wherever the formula says it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lensgen_kernels.errors import reject
from lensgen_kernels.node import BOOL, CONSTANT, REAL, VARYING, Node

MOST_NODES = 50_000


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
