"""How a group of lanes draws a system: the body of the kernel of `system_block`, in C++ and the words of `group.h`.

What a system has once all lanes work out alike; slots, and calls of one function for many operands, are spread over
lanes. A sum over slots is taken in the order of slots: values lie in shared memory, and one lane adds up those of one
sum. What is written is written as soon as it is known, so that no more registers are taken than need be.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from types import MappingProxyType

from lensgen_kernels.c_source import CPrinter, called, formula_source, functions_of
from lensgen_kernels.graph import Graph
from lensgen_kernels.node import BOOL, INT, REAL, VARYING, Node
from lensgen_kernels.system_order import Output, Store, SystemWriter, key_of, simple_in_loops
from lensgen_kernels.translate import needed

_MOST = 64  # calls at once
_INLINE = 16  # operations of a function that is called from several places, up to which it is copied to each of them
_LOOP = 4  # equal numbers in a row of memory, from which on lanes share the writing


class _SystemPrinter(CPrinter):
    """Prints what systems have and formulas have not."""

    def __init__(self) -> None:
        super().__init__("double")
        self.others: dict[int, str] = {}  # names of nodes in one place, other than their own
        self.sites: Counter[str] = Counter()  # from how many places a function is called

    def name(self, node: Node) -> str:
        return self.others.get(node.number) or super().name(node)

    def expression(self, node: Node) -> str:
        op, args = node.op, node.args
        if op == "table":
            return f"lg_table{args[0]}[slot]" + (" != 0.0" if node.kind == BOOL else "")
        if op == "bucketize":
            return f"lg_bisect_left(lg_table{args[1]}, {self.name(args[0])}, {args[2]})"
        if op == "uniform":
            return f"lg_uniform({args[1]}, {args[0]}u, image, key0, key1)"
        return super().expression(node)

    def call(self, node: Node, operands: Sequence[str]) -> str:
        self.sites[node.args[0]] += 1
        return super().call(node, operands)


class LanesWriter(SystemWriter):
    """Args:
    graph, label, outputs: as for SystemWriter.
    empty: of each array, a row of what stands where a system has no value.
    lanes: of a group.
    room: float64 numbers of a group in shared memory.
    """

    often = 4

    def __init__(
        self,
        graph: Graph,
        label: Node,
        outputs: Sequence[Output],
        empty: Mapping[str, Sequence[float]],
        lanes: int,
        room: int,
    ) -> None:
        super().__init__(graph, label, outputs)
        self.printer = _SystemPrinter()
        self.empty, self.lanes, self.room = empty, lanes, room
        self.scratch = 0  # numbers in shared memory that are used
        self.unread: dict[int, tuple[Node, int]] = {}  # results of shared calls, and where they are
        self.single: dict[int, list[Output]] = {}  # outputs that wait for their value
        for output in self.outputs:
            if output.count is None:
                self.single.setdefault(output.node.number, []).append(output)
        nodes = needed([o.node for o in self.outputs] + graph.checks)
        self.wanted = {*self.single, *(a.number for n in nodes for a in n.operands)}  # once a system
        self.within = simple_in_loops(graph, self.outputs)

    def write(self) -> None:
        self._constants()
        self.source.line("bool fails = false;")
        super().write()
        self.source.line("LG_ONE bad[b] = fails;")

    def functions(self) -> list[str]:
        """The text of all functions; large ones that are called from several places are not copied to each."""
        found = functions_of([o.node for o in self.outputs] + self.graph.checks)
        sites = Counter(self.printer.sites)
        for function in found.values():
            inner = needed(function.outputs)
            sites.update(name for name, _ in {(n.args[0], key_of(n)) for n in inner if n.op == "call"})
        return [
            formula_source(
                f.name, f.inputs, f.outputs, "double",
                "LG_CALL" if sites[f.name] > 1 and len(needed(f.outputs)) > _INLINE else "LG_FUNCTION",
            )
            for f in found.values()
        ]  # fmt: skip

    # values a system

    def lines(self, nodes: list[Node]) -> None:
        super().lines(nodes)
        self._read_all()

    def once(self, node: Node) -> bool:
        return super().once(node) and node.number not in self.within

    def plain(self, nodes: list[Node], after: Mapping[int, list[str]] = MappingProxyType({})) -> None:
        """Also lines that are to come right `after` the values that they need."""
        for node, lines in self.printer.statements(nodes):
            for operand in node.operands:
                self._read(operand)
            for line in [*lines, *after.get(node.number, ())]:
                self.source.line(line)
            self._known(node)

    def together(self, name: str, nodes: list[Node], operands: list[list[Node]], before: list[Node]) -> None:
        """Lanes share the calls: operands to shared memory, results from there."""
        function = called(nodes[0])
        rows = max(len(function.inputs), len(function.outputs))
        share = min(_MOST, self.room // rows)
        if share < self.often or any(n.kind != REAL for n in (*function.inputs, *function.outputs)):
            self.plain([*before, *nodes])
            return
        for start in range(0, len(operands), share):
            self._share(nodes, operands[start : start + share], rows, before)
            before = []

    def _share(self, nodes: list[Node], operands: list[list[Node]], rows: int, before: list[Node]) -> None:
        size, source = len(operands), self.source
        self._read_all()
        self._take(rows * size)
        puts: dict[int, list[str]] = {}
        for place, key in enumerate(operands):
            for k, operand in enumerate(key):
                line = f"LG_ONE scratch[{k * size + place}] = {self.printer.name(operand)};"
                puts.setdefault(operand.number, []).append(line)
        later = {n.number for n in before}
        for number in [number for number in puts if number not in later]:
            for line in puts.pop(number):
                source.line(line)
        self.plain(before, puts)
        source.line("LG_GROUP_BARRIER();")
        with source.braces(f"LG_ROLLED LG_SPREAD(i, 0, {size})"):
            given = [f"scratch[{k * size} + i]" for k in range(len(operands[0]))]
            results = len(called(nodes[0]).outputs)
            source.line(f"const auto r = {self.printer.call(nodes[0], given)};")
            for k in range(results):
                source.line(f"scratch[{k * size} + i] = r{f'.v{k}' if results > 1 else ''};")
        source.line("LG_GROUP_BARRIER();")
        places = {tuple(a.number for a in key): place for place, key in enumerate(operands)}
        for node in nodes:
            if key_of(node) in places:
                self.unread[node.number] = (node, node.args[1] * size + places[key_of(node)])

    def _take(self, numbers: int) -> None:
        """Shared memory for something new."""
        if self.scratch > 0:  # others may be reading what it was taken for before
            self.source.line("LG_GROUP_BARRIER();")
        self.scratch = max(self.scratch, numbers)

    def _read(self, node: Node) -> None:
        """Take a result of shared calls from shared memory, where it is left until it is needed."""
        if node.number in self.unread:
            _, place = self.unread.pop(node.number)
            self.source.line(f"const double {self.printer.name(node)} = scratch[{place}];")
            self._known(node)

    def _read_all(self) -> None:
        for node, _ in list(self.unread.values()):
            self._read(node)

    def hand_on(self, placed: Node, value: Node, first: bool) -> None:
        if placed.number not in self.wanted:
            return  # written slot by slot, and nothing else
        kind = f"{self.printer.type(placed)} " if first else ""
        self.source.line(f"{kind}{self.printer.name(placed)} = {self.printer.name(value)};")

    def check(self, condition: Node) -> None:
        self.source.line(f"fails |= !{self.printer.name(condition)};")

    # values a slot

    def slots(self, count: Node, sums: list[Node], stores: list[Store]) -> None:
        """A loop for each share of the sums that shared memory has room for; what they have in common is worked out
        in each of them."""
        share = max(1, self.room // (self.lanes + 2))
        loops = -(-len(sums) // share) or 1
        for k in range(loops):
            part = sums[k * len(sums) // loops : (k + 1) * len(sums) // loops]
            self._loop(f"(int){self.printer.name(count)}", part, stores if k == 0 else [])

    def _loop(self, count: str, sums: list[Node], stores: list[Store]) -> None:
        source, lanes = self.source, self.lanes
        if not sums:
            with source.braces(f"LG_ROLLED LG_SPREAD(slot, 0, {count})"):
                self._slot([], stores)
            return
        many, row = len(sums), lanes + 1  # a number more than there are lanes: no two read from the same memory bank
        self._take(many * row + many)
        with source.braces(f"LG_ROLLED for (int base = 0; base < {count}; base += LG_LANES)"):
            source.line(f"const int end = base + LG_LANES < {count} ? base + LG_LANES : {count};")
            source.line("if (base > 0) LG_GROUP_BARRIER();")
            with source.braces("LG_SPREAD(slot, base, end)"):
                self._slot(sums, stores)
            source.line("LG_GROUP_BARRIER();")
            with source.braces(f"LG_ROLLED LG_SPREAD(k, 0, {many})"):
                source.line(f"double total = base ? scratch[{many * row} + k] : 0.0;")
                source.line(f"LG_ROLLED for (int i = 0; i < end - base; i++) total = total + scratch[k * {row} + i];")
                source.line(f"scratch[{many * row} + k] = total;")
        source.line("LG_GROUP_BARRIER();")
        for k, node in enumerate(sums):
            name = self.printer.name(node)
            source.line(f"const double {name} = {count} > 0 ? (double)scratch[{many * row + k}] : 0.0;")
            self._known(node)

    def _slot(self, sums: list[Node], stores: list[Store]) -> None:
        """One slot; its values are stored as soon as they are known."""
        roots = [*(n.operands[0] for n in sums), *(s.node for s in stores)]
        nodes = [n for n in needed(roots) if not self.once(n)]
        given = {a.number: a for n in nodes if n.number in self.within for a in n.operands if self.once(a)}
        for node in given.values():
            if node.op not in ("const", "input"):
                self.source.line(f"double o{node.number} = {self.printer.name(node)}; LG_OPAQUE(o{node.number});")
                self.printer.others[node.number] = f"o{node.number}"
        after: dict[int, list[str]] = {}
        for k, node in enumerate(sums):
            value = self.printer.name(node.operands[0])
            line = f"scratch[{k * (self.lanes + 1)} + slot - base] = {value};"
            after.setdefault(node.operands[0].number, []).append(line)
        for store in stores:
            after.setdefault(store.node.number, []).append(self._stored(store.output, store.node, " + slot"))
        statements = [line for node, lines in self.printer.statements(nodes)
                      for line in [*lines, *after.pop(node.number, ())]]  # fmt: skip
        # what is left is about values that all slots have in common
        for line in [*statements, *(line for lines in after.values() for line in lines)]:
            self.source.line(line)
        self.printer.others.clear()

    # rows

    def store(self, output: Output) -> None:
        assert output.node.number not in self.single, "a value that was never worked out"

    def _known(self, node: Node) -> None:
        for output in self.single.pop(node.number, ()):
            self.source.line(f"LG_ONE {self._stored(output, node, '')}")

    def _stored(self, output: Output, node: Node, slot: str) -> str:
        kind = "float" if output.array == "real" else "long long"
        value = self.printer.name(node)
        if (kind, node.kind) != ("long long", INT):
            value = f"({kind}){value}"
        return f"{output.array}_row[{output.column}{slot}] = {value};"

    @contextlib.contextmanager
    def branch(self, region: int, stores: list[Store]) -> Iterator[None]:
        counts = {s.count.number: s.count for s in stores}
        names = {number: f"used{region}_{number}" for number in counts}
        for name in names.values():
            self.source.line(f"int {name} = 0;")
        with self.source.braces(f"if ({self.printer.name(self.label)} == {region - 1}LL)"):
            yield
            for number, count in counts.items():
                self.source.line(f"{names[number]} = (int){self.printer.name(count)};")
        for (number, slots), group in groupby(stores, key=lambda s: (s.count.number, s.output.slots)):
            with self.source.braces(f"LG_ROLLED LG_SPREAD(slot, {names[number]}, {slots})"):
                for store in group:
                    output = store.output
                    value = self._number(output.array, self.empty[output.array][output.column])
                    self.source.line(f"{output.array}_row[{output.column} + slot] = {value};")
        for node in self.graph.nodes:
            if node.op == "placed" and node.rate < VARYING and node.operands[2].args[0] == region:
                self._known(node)

    def _constants(self) -> None:
        """What is the same in all systems."""
        written = {(o.array, o.column + k) for o in self.outputs for k in range(o.slots)}
        for array, row in self.empty.items():
            columns = [c for c in range(len(row)) if (array, c) not in written]
            # runs of neighbours with the same value
            for (_, value), run in groupby(enumerate(columns), key=lambda at: (at[1] - at[0], row[at[1]])):
                places = [c for _, c in run]
                number = self._number(array, value)
                if len(places) < _LOOP:
                    self.source.line(f"LG_ONE {' = '.join(f'{array}_row[{c}]' for c in places)} = {number};")
                else:
                    spread = f"LG_SPREAD(k, {places[0]}, {places[-1] + 1})"
                    self.source.line(f"LG_ROLLED {spread} {array}_row[k] = {number};")

    @staticmethod
    def _number(array: str, value: float) -> str:
        return f"(float){float(value)!r}" if array == "real" else f"{int(value)}LL"
