"""Source of a kernel that draws systems on a CPU: the traced values of one preset in, a Python module out.

Everything is float64 in the order in which it is written, without contraction: the bits are those of torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from lensgen_kernels.graph import Function, Graph
from lensgen_kernels.node import INT, VARYING, Node
from lensgen_kernels.numba_source import NumbaPrinter
from lensgen_kernels.source import Source
from lensgen_kernels.system_order import Output, Store, SystemWriter, key_of
from lensgen_kernels.translate import needed

_MOST = 64  # calls at once


class _NumbaWriter(SystemWriter):
    """Writes the loop over systems."""

    def __init__(self, graph: Graph, label: Node, outputs: Sequence[Output]) -> None:
        super().__init__(graph, label, outputs)
        self.constants: dict[str, str] = {}
        self.printer = NumbaPrinter("float64", "t", self.constants)
        self.many: set[str] = set()  # functions that are called for many operands at once

    def plain(self, nodes: list[Node]) -> None:
        for line in self.printer.lines(nodes):
            self.source.line(line)

    def together(self, name: str, nodes: list[Node], operands: list[list[Node]], before: list[Node]) -> None:
        """A loop that the vector units can run."""
        self.plain(before)
        self.many.add(name)
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
            place_of = places.get(key_of(node))
            if place_of is not None:
                row = len(node.operands) + node.args[1]
                self.source.line(f"{self.printer.name(node)} = get(many, {row * _MOST + place_of})")

    def slots(self, count: Node, sums: list[Node], stores: list[Store]) -> None:
        for node in sums:
            self.source.line(f"{self.printer.name(node)} = 0.0")
        with self.source.block(f"for slot in range({self.printer.name(count)}):"):
            roots = [*(n.operands[0] for n in sums), *(s.node for s in stores)]
            self.lines([n for n in needed(roots) if n.rate == VARYING])
            for node in sums:
                name = self.printer.name(node)
                self.source.line(f"{name} = {name} + {self.printer.name(node.operands[0])}")
            for store in stores:
                self._put(store.output, store.node, " + slot")

    def hand_on(self, placed: Node, value: Node, first: bool) -> None:
        self.source.line(f"{self.printer.name(placed)} = {self.printer.name(value)}")

    def branch(self, region: int, stores: list[Store]) -> contextlib.AbstractContextManager[None]:
        return self.source.block(f"if {self.printer.name(self.label)} == {region - 1}:")

    def store(self, output: Output) -> None:
        self._put(output, output.node, "")

    def _put(self, output: Output, node: Node, slot: str) -> None:
        value = self.printer.name(node)
        if output.array == "real":
            value = f"real32({value})"
        elif node.kind != INT:
            value = f"to_int({value})"
        self.source.line(f"{output.array}[b, {output.column}{slot}] = {value}")

    def check(self, condition: Node) -> None:
        with self.source.block(f"if not ({self.printer.name(condition)}):"):
            self.source.line("failed[0] = 1")


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
    body = _NumbaWriter(graph, label, outputs)
    source = body.source
    source.line('@njit(cache=True, nogil=True, error_model="numpy")')
    with source.block("def draw(first, last, index, key0, key1, real, whole, failed):"):
        rows = max((len(f.inputs) + len(f.outputs) for f in graph.functions.values()), default=0)
        source.line(f"many = np.empty({rows * _MOST})")
        with source.block("for b in range(first, last):"):
            source.line("image = np.uint64(index[b])")
            body.write()
    functions = [_function(f, body.constants, copied=False) for f in graph.functions.values()]
    if body.many:
        functions += [_function(f, body.constants, copied=True) for f in graph.functions.values()]
        functions += [_many(f) for f in graph.functions.values() if f.name in body.many]
    tables = [f"table{k} = np.array({list(values)!r})" for k, values in enumerate(graph.tables)]
    constants = [f"{name} = {text}" for text, name in body.constants.items()]
    return "\n".join([*_HEAD, *tables, *constants, "", "", *functions, source.text()])


_HEAD = [
    '"""Written by lensgen_kernels; safe to delete, and made again when it is missing."""',
    "import numpy as np",
    "from numba import njit",
    "from lensgen_kernels.intrinsics import *",
    "from lensgen_kernels.support import bisect_left, uniform",
    "",
]
