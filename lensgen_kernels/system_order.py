"""In which order a kernel works out the values of a system; how it writes that down is left to its language.

For each image index: what all systems have, then what its class has, slot by slot, then what follows from both.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from lensgen_kernels.graph import Graph
from lensgen_kernels.node import REAL, VARYING, Node
from lensgen_kernels.numba_source import printable
from lensgen_kernels.source import Source
from lensgen_kernels.translate import needed

_FEW = 16  # values a system that a loop over slots may need, before simple ones are worked out within it


@dataclass(frozen=True, eq=False)
class Output:
    """One value of every system.

    Args:
        node: in the graph; of a class when it is "placed".
        array: "real" (float32) or "whole" (int64), the array with a row a system that it is written to.
        column: the first of its places in the row.
        count: how many places have a value, or None for one value a system.
        slots: how many places there are.
    """

    node: Node
    array: str
    column: int
    count: Node | None
    slots: int = 1


@dataclass(frozen=True, eq=False)
class Store:
    """An output whose slots are written: their values, and how many there are."""

    output: Output
    node: Node
    count: Node


def key_of(call: Node) -> tuple[int, ...]:
    """What tells the calls of one function apart: their operands."""
    return tuple(a.number for a in call.operands)


class SystemWriter(ABC):
    """Writes a kernel's body into `source`.

    Args:
        graph: of all values.
        label: the class of a system.
        outputs: what to write.
    """

    often = 8  # calls of one function in one place, from which on they are made together

    def __init__(self, graph: Graph, label: Node, outputs: Sequence[Output]) -> None:
        self.graph, self.label, self.outputs = graph, label, list(outputs)
        self.source = Source()
        self.done: set[int] = set()  # nodes that have a value, once a system

    # what each language has its own way of

    @abstractmethod
    def plain(self, nodes: list[Node]) -> None:
        """Assignments of values, in order."""

    @abstractmethod
    def together(self, name: str, nodes: list[Node], operands: list[list[Node]], before: list[Node]) -> None:
        """One function for many operands at once; `nodes` are its values, `before` what is to be assigned first."""

    @abstractmethod
    def slots(self, count: Node, sums: list[Node], stores: list[Store]) -> None:
        """One loop over the slots in use: sums over them, and values to be stored."""

    @abstractmethod
    def hand_on(self, placed: Node, value: Node, first: bool) -> None:
        """A value of a class, or what other classes have (`first`), for the rest of the kernel, which is outside its
        branch."""

    @abstractmethod
    def branch(self, region: int, stores: list[Store]) -> contextlib.AbstractContextManager[None]:
        """What is written inside is for the systems of one class alone."""

    @abstractmethod
    def store(self, output: Output) -> None:
        """One value a system into its row."""

    @abstractmethod
    def check(self, condition: Node) -> None:
        """Note it if the condition does not hold."""

    # the order

    def write(self) -> None:
        graph, single = self.graph, [o for o in self.outputs if o.count is None]
        results = [o.node for o in self.outputs] + graph.checks
        placed = [n for n in needed(results) if n.op == "placed"]
        after = {n.number for n in graph.nodes if n.op == "placed"}
        for node in graph.nodes:
            if any(a.number in after for a in node.operands):
                after.add(node.number)
        self.emit(
            0,
            [n for n in needed([*results, self.label])
             if n.region == 0 and n.rate < VARYING and n.number not in after],
            [],
        )  # fmt: skip
        for node in (n for n in placed if n.rate < VARYING):
            self.hand_on(node, node.operands[1], first=True)
        for region in sorted({n.operands[2].args[0] for n in placed}):
            self._region(region, [n for n in placed if n.operands[2].args[0] == region])
        self.done.update(n.number for n in placed)
        common = [c for c in graph.checks if c.region == 0]
        self.emit(0, printable([o.node for o in single] + common), [])
        for output in single:
            self.store(output)
        for condition in common:
            self.check(condition)

    def _region(self, region: int, placed: list[Node]) -> None:
        stores = [
            Store(o, o.node.operands[0], o.count)
            for o in self.outputs
            if o.count is not None and any(o.node is n for n in placed)
        ]
        checks = [c for c in self.graph.checks if c.region == region]
        values = [n for n in placed if n.operands[0].rate < VARYING]
        with self.branch(region, stores):
            self.emit(region, [*(n.operands[0] for n in values), *checks], stores)
            for node in values:
                self.hand_on(node, node.operands[0], first=False)
            for condition in checks:
                self.check(condition)

    def emit(self, region: int, wanted: list[Node], stores: list[Store]) -> None:
        """Work out `wanted` (once a system) and the values a slot of `stores`, and store the latter."""
        nodes = needed([*wanted, *(n for s in stores for n in (s.node, s.count))])
        system = [n for n in printable(nodes) if self.once(n) and n.region == region]
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
                self.slots(
                    count,
                    [n for n in sums if n.operands[1].number == number],
                    [s for s in open_stores if s.count.number == number],
                )
            self.done.update(n.number for n in sums)
            stores = [s for s in stores if s not in open_stores]
        assert not stores and all(map(self._ready, system)), "a value that depends on itself"

    def once(self, node: Node) -> bool:
        """Whether the node is worked out once a system, and not slot by slot."""
        return node.rate < VARYING

    def _ready(self, node: Node) -> bool:
        return node.op in ("const", "input") or node.number in self.done

    def _open(self, node: Node) -> bool:
        """Whether every value a system that the node needs is there; values a slot are worked out on the way."""
        return all(self._ready(a) if self.once(a) else self._open(a) for a in node.operands)

    def lines(self, nodes: list[Node]) -> None:
        """Assignments of values; a function that is called many times is called for all of them at once."""
        calls = {(n.args[0], key_of(n)) for n in nodes if n.op == "call"}
        often = {name for name, _ in calls if sum(name == other for other, _ in calls) >= self.often}
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
            if not together:  # they came before the calls of another function
                continue
            self.together(name, together, list({key_of(n): n.operands for n in together}.values()), first)
            nodes = last
        self.plain(nodes)


def simple_in_loops(graph: Graph, outputs: Sequence[Output]) -> set[int]:
    """Numbers of the sums and products that only slots need, where a class has dozens of them.

    Kept for all slots they would take every register; worked out again for each slot they take next to no time.
    """
    users: dict[int, list[Node]] = {}
    nodes = needed([o.node for o in outputs] + graph.checks)
    for node in nodes:
        for operand in node.operands:
            users.setdefault(operand.number, []).append(node)
    kept = {n.number for n in (*(o.node for o in outputs), *graph.checks)}
    found: dict[int, Node] = {}
    for node in reversed(nodes):
        simple = node.op in ("add", "sub", "mul", "neg") and node.kind == REAL and node.region > 0
        if simple and node.rate < VARYING and node.number not in kept:
            users_ = users[node.number]
            if all(u.number in found or (u.rate == VARYING and u.op != "placed") for u in users_):
                found[node.number] = node
    within: set[int] = set()
    for region in {n.region for n in found.values()}:
        own = [n for n in found.values() if n.region == region]
        if sum(any(u.rate == VARYING for u in users[n.number]) for n in own) > _FEW:
            within |= {n.number for n in own}
    return within
