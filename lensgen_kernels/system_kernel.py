"""Source of a kernel that draws systems: the traced values of one preset in, a Python module out.

For each image index: what all systems have, then what its class has, slot by slot, then what follows from both.
Everything is float64 in the order in which it is written, without contraction: the bits are those of torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from lensgen_kernels.graph import Function, Graph
from lensgen_kernels.node import INT, VARYING, Node
from lensgen_kernels.numba_source import NumbaPrinter, printable
from lensgen_kernels.source import Source
from lensgen_kernels.translate import needed

_OFTEN = 8  # calls of one function in one place, from which on they are made together
_MOST = 64  # calls at once


@dataclass(frozen=True, eq=False)
class Output:
    """One value of every system.

    Args:
        node: in the graph; of a class when it is "placed".
        array: "real" (float32) or "whole" (int64), the array with a row a system that it is written to.
        column: the first of its places in the row.
        count: how many places have a value, or None for one value a system.
    """

    node: Node
    array: str
    column: int
    count: Node | None


@dataclass(frozen=True, eq=False)
class Store:
    """An output whose slots are written: their values, and how many there are."""

    output: Output
    node: Node
    count: Node


class _Body:
    """Writes the kernel."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.source = Source()
        self.constants: dict[str, str] = {}
        self.printer = NumbaPrinter("float64", "t", self.constants)
        self.many: set[str] = set()  # functions that are called for many operands at once
        self.done: set[int] = set()  # nodes that have a value, once a system

    def lines(self, nodes: list[Node]) -> None:
        """Assignments of values, in order; a function that is called many times is called for all of them at once."""
        calls = {(n.args[0], tuple(a.number for a in n.operands)) for n in nodes if n.op == "call"}
        often = {name for name, _ in calls if sum(name == other for other, _ in calls) >= _OFTEN}
        for name in sorted(often):
            first: list[Node] = []
            together: list[Node] = []
            last: list[Node] = []  # what depends on the calls, other calls among it
            after: set[int] = set()
            for node in nodes:
                same = node.op == "call" and node.args[0] == name
                late = any(a.number in after for a in node.operands)
                (last if late else together if same else first).append(node)
                if same or late:
                    after.add(node.number)
            self._plain(first)
            self._together(name, together)
            nodes = last
        self._plain(nodes)

    def _plain(self, nodes: list[Node]) -> None:
        for line in self.printer.lines(nodes):
            self.source.line(line)

    def _together(self, name: str, nodes: list[Node]) -> None:
        """One call of a function for many operands: a loop that the vector units can run."""
        self.many.add(name)
        operands = list({tuple(a.number for a in n.operands): n.operands for n in nodes}.values())
        for start in range(0, len(operands), _MOST):
            self._share(name, nodes, operands[start : start + _MOST])

    def _share(self, name: str, nodes: list[Node], operands: list[list[Node]]) -> None:
        """Those of the calls that have these operands, at most as many as there is room for."""
        places = {tuple(a.number for a in key): place for place, key in enumerate(operands)}
        for place, key in enumerate(operands):
            for k, operand in enumerate(key):
                self.source.line(f"put(many, {k * _MOST + place}, {self.printer.name(operand)})")
        self.source.line(f"{name}_many(many, {len(places)})")
        for node in nodes:
            place_of = places.get(tuple(a.number for a in node.operands))
            if place_of is not None:
                row = len(node.operands) + node.args[1]
                self.source.line(f"{self.printer.name(node)} = get(many, {row * _MOST + place_of})")

    def _ready(self, node: Node) -> bool:
        return node.op in ("const", "input") or node.number in self.done

    def _open(self, node: Node) -> bool:
        """Whether every value a system that the node needs is there; values a slot are worked out on the way."""
        return all(
            self._open(a) if a.rate == VARYING and a.op != "sum_slots" else self._ready(a) for a in node.operands
        )

    def emit(self, region: int, wanted: list[Node], stores: list[Store]) -> None:
        """Work out `wanted` (once a system) and the values a slot of `stores`, and store the latter."""
        nodes = needed([*wanted, *(n for s in stores for n in (s.node, s.count))])
        system = [n for n in printable(nodes) if n.rate < VARYING and n.region == region]
        while True:
            ready = []
            for node in system:
                if node.op != "sum_slots" and not self._ready(node) and all(map(self._ready, node.operands)):
                    ready.append(node)
                    self.done.add(node.number)
            self.lines(ready)
            sums = [n for n in system if n.op == "sum_slots" and not self._ready(n) and self._open(n)]
            open_stores = [s for s in stores if self._ready(s.count) and (self._ready(s.node) or self._open(s.node))]
            if not sums and not open_stores:
                break
            # one loop for everything that runs over as many slots
            counts = {n.number: n for n in (*(s.operands[1] for s in sums), *(s.count for s in open_stores))}
            for number, count in counts.items():
                self._slots(
                    count,
                    [n for n in sums if n.operands[1].number == number],
                    [s for s in open_stores if s.count.number == number],
                )
            stores = [s for s in stores if s not in open_stores]
        assert not stores and all(map(self._ready, system)), "a value that depends on itself"

    def _slots(self, count: Node, sums: list[Node], stores: list[Store]) -> None:
        """One loop over the slots in use."""
        for node in sums:
            self.source.line(f"{self.printer.name(node)} = 0.0")
        with self.source.block(f"for slot in range({self.printer.name(count)}):"):
            roots = [*(n.operands[0] for n in sums), *(s.node for s in stores)]
            self.lines([n for n in needed(roots) if n.rate == VARYING])
            for node in sums:
                name = self.printer.name(node)
                self.source.line(f"{name} = {name} + {self.printer.name(node.operands[0])}")
            for store in stores:
                self.source.line(self.store(store.output, store.node, " + slot"))
        self.done.update(n.number for n in sums)

    def store(self, output: Output, node: Node, slot: str = "") -> str:
        value = self.printer.name(node)
        if output.array == "real":
            value = f"real32({value})"
        elif node.kind != INT:
            value = f"to_int({value})"
        return f"{output.array}[b, {output.column}{slot}] = {value}"


def _function(function: Function, constants: dict[str, str], copied: bool) -> str:
    """One function; `copied` gives the version that is put into the loops of `_many`."""
    source = Source()
    printer = NumbaPrinter("float64", "t", constants, "_copied" if copied else "")
    source.line('@njit(error_model="numpy")')
    with source.block(f"def {function.name}{printer.suffix}({', '.join(n.args[0] for n in function.inputs)}):"):
        source.line("be_copied()" if copied else "stay_a_call()")
        for line in printer.lines(needed(function.outputs)):
            source.line(line)
        source.line(f"return ({', '.join(map(printer.name, function.outputs))},)")
    return source.text() + "\n"


def _many(function: Function) -> str:
    """The function for many operands at once: rows of `many`, operands first, results after them."""
    source = Source()
    arguments, results = len(function.inputs), len(function.outputs)
    source.line('@njit(error_model="numpy")')
    with source.block(f"def {function.name}_many(many, count):"):
        source.line("stay_a_call()")
        with source.block("for i in range(count):"):
            operands = ", ".join(f"get(many, {k * _MOST} + i)" for k in range(arguments))
            source.line(f"({', '.join(f'r{k}' for k in range(results))},) = {function.name}_copied({operands})")
            for k in range(results):
                source.line(f"put(many, {(arguments + k) * _MOST} + i, r{k})")
    return source.text() + "\n"


def system_source(graph: Graph, label: Node, outputs: list[Output]) -> str:
    """The text of a module with `draw(first, last, index, key0, key1, real, whole, failed)`.

    Rows of `real` float32 and `whole` int64 must hold what systems without a value have; `index` int64 is that of the
    images. `failed` int64 `[1]` is set to 1 if a check of some system does not hold.
    """
    body = _Body(graph)
    source = body.source
    # values of a class are handed on by variables of their own: the rest of the kernel is outside its branch
    placed = [n for n in needed([o.node for o in outputs] + graph.checks) if n.op == "placed"]
    regions = sorted({n.operands[2].args[0] for n in placed})
    after = {n.number for n in graph.nodes if n.op == "placed"}
    for node in graph.nodes:
        if any(a.number in after for a in node.operands):
            after.add(node.number)
    source.line('@njit(cache=True, nogil=True, error_model="numpy")')
    head = source.block("def draw(first, last, index, key0, key1, real, whole, failed):")
    with head:
        rows = max((len(f.inputs) + len(f.outputs) for f in graph.functions.values()), default=0)
        source.line(f"many = np.empty({rows * _MOST})")
    with source.nested(), source.block("for b in range(first, last):"):
        source.line("image = np.uint64(index[b])")
        common = [n for n in needed([o.node for o in outputs] + graph.checks + [label])
                  if n.region == 0 and n.rate < VARYING and n.number not in after]  # fmt: skip
        body.emit(0, common, [])
        for node in (n for n in placed if n.rate < VARYING):
            source.line(f"{body.printer.name(node)} = {body.printer.name(node.operands[1])}")
        for region in regions:
            inside = [n for n in placed if n.operands[2].args[0] == region]
            with source.block(f"if {body.printer.name(label)} == {region - 1}:"):
                stores = [
                    Store(o, o.node.operands[0], o.count)
                    for o in outputs
                    if o.count is not None and any(o.node is n for n in inside)
                ]
                checks = [c for c in graph.checks if c.region == region]
                values = [n for n in inside if n.operands[0].rate < VARYING]
                body.emit(region, [*(n.operands[0] for n in values), *checks], stores)
                for node in values:
                    source.line(f"{body.printer.name(node)} = {body.printer.name(node.operands[0])}")
                _checks(body, checks)
        body.done.update(n.number for n in placed)
        rest = [o.node for o in outputs if o.count is None] + [c for c in graph.checks if c.region == 0]
        body.emit(0, [n for n in rest if n.op not in ("const", "input")], [])
        for output in outputs:
            if output.count is None:
                source.line(body.store(output, output.node))
        _checks(body, [c for c in graph.checks if c.region == 0])
    functions = [_function(f, body.constants, copied=False) for f in graph.functions.values()]
    if body.many:
        functions += [_function(f, body.constants, copied=True) for f in graph.functions.values()]
        functions += [_many(f) for f in graph.functions.values() if f.name in body.many]
    tables = [f"table{k} = np.array({list(values)!r})" for k, values in enumerate(graph.tables)]
    constants = [f"{name} = {text}" for text, name in body.constants.items()]
    return "\n".join([*_HEAD, *tables, *constants, "", "", *functions, source.text()])


def _checks(body: _Body, checks: list[Node]) -> None:
    for check in checks:
        with body.source.block(f"if not ({body.printer.name(check)}):"):
            body.source.line("failed[0] = 1")


_HEAD = [
    '"""Written by lensgen_kernels; safe to delete, and made again when it is missing."""',
    "import numpy as np",
    "from numba import njit",
    "from lensgen_kernels.intrinsics import *",
    "from lensgen_kernels.support import bisect_left, uniform",
    "",
]
