"""Loops of a renderer, as lines: values of a term at every ray of a chunk, for each slot where there are slots."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from lensgen_kernels import far_kernel, fast_math, tables
from lensgen_kernels.graph import Graph
from lensgen_kernels.node import UNIFORM, VARYING, Node
from lensgen_kernels.numba_source import NumbaPrinter, printable
from lensgen_kernels.primitives import Stack
from lensgen_kernels.program import ImageProgram, Term
from lensgen_kernels.radial import Radial, circular, costly
from lensgen_kernels.source import Source
from lensgen_kernels.translate import needed, substituted, traced, uniform_conditions

_JAM = 4  # slots whose deflections are added in one pass over a chunk, where the formula is short
_SHORT = 24  # operations
_MOST_CASES = 4  # loops for conditions that hold for a whole system; further conditions choose ray by ray

Write: TypeAlias = Callable[[list[str]], list[str]]  # names of values -> the lines that store them

ALL_RAYS = ("for p in range(n):",)


class Body:
    """Writes the loops of one renderer."""

    def __init__(self, program: ImageProgram) -> None:
        self.program = program
        self.source = Source()
        self.constants: dict[str, str] = {}
        self.scalars = 0  # numbers a system, in the order in which terms without slots take them
        self.slotted = 0
        self.arrays = 0  # stacks of images, in the order in which terms are worked out
        # smooth circular lenses by the number of the term with slots: costly ones, and those of many slots
        self.tables: dict[int, Radial] = {}
        self.far: dict[int, Radial] = {}
        for which, term in enumerate(self.slotted_terms):
            radial = circular(*self.traced(term, 1, 2)[0]) if term.smooth else None
            if radial is not None and program.tabulated and costly(radial):
                self.tables[which] = radial
            if radial is not None and term.many:
                self.far[which] = radial

    @property
    def slotted_terms(self) -> list[Term]:
        return [t for t in self.program.terms if t.slotted]

    def printer(self, prefix: str) -> NumbaPrinter:
        return NumbaPrinter("float32", prefix, self.constants)

    def lines(self, printer: NumbaPrinter, nodes: list[Node]) -> None:
        for line in printer.lines(nodes):
            self.source.line(line)

    def graph(self) -> Graph:
        return Graph(lowering=fast_math.LOWERING)

    def traced(self, term: Term, jam: int, outputs: int) -> tuple[tuple[Node, ...], list[list[str]]]:
        """The summed values of `jam` slots of a term, and the names of their parameters."""
        graph = self.graph()
        x, y = graph.input("x", VARYING), graph.input("y", VARYING)
        names = [[f"p{slot}_{k}" for k in range(term.parameters)] for slot in range(jam)]
        stacks = [Stack(graph, f"array{self.arrays + k}", shape) for k, shape in enumerate(term.arrays)]
        sums: tuple[Node, ...] = ()
        for slot in names:
            parameters = [graph.input(name, UNIFORM) for name in slot]
            values = traced(graph, term.formula, [x, y, *parameters, *stacks, *term.statics], outputs)
            sums = tuple(a + b for a, b in zip(sums, values, strict=True)) if sums else values
        return sums, names

    def term(self, term: Term, number: int, outputs: int, rays: list[str], write: Write) -> None:
        """The loops that add one term to a chunk. `rays` are the lines that set x and y."""
        self._term(term, number, outputs, rays, write)
        self.arrays += len(term.arrays)

    def _term(self, term: Term, number: int, outputs: int, rays: list[str], write: Write) -> None:
        if not term.slotted:
            values, names = self.traced(term, 1, outputs)
            for name in names[0]:
                self.source.line(f"{name} = scalars[b, {self.scalars}]")
                self.scalars += 1
            self.loops(values, f"m{number}_", rays, write)
            return
        which, self.slotted = self.slotted, self.slotted + 1
        slots, count = f"slots{which}", f"counts{which}"
        values, names = self.traced(term, 1, outputs)
        load = [f"{name} = {slots}[b, slot, {k}]" for k, name in enumerate(names[0])]
        if which in self.tables:
            tables.add_from_table(self, which, self.tables[which], values, f"m{number}_", load, rays, write)
            return
        if which in self.far:
            far_kernel.add(self, which, values, f"m{number}_", load, rays, write)
            return
        jam = _JAM if len([n for n in printable(needed(values)) if n.rate == VARYING]) <= _SHORT else 1
        self.source.line("slot = 0")
        for width in (jam, 1) if jam > 1 else (1,):
            values, names = self.traced(term, width, outputs)
            with self.source.block(f"while slot + {width} <= {count}[b]:"):
                for s, slot in enumerate(names):
                    for k, name in enumerate(slot):
                        self.source.line(f"{name} = {slots}[b, slot + {s}, {k}]")
                self.loops(values, f"m{number}_", rays, write)
                self.source.line(f"slot += {width}")

    def loops(
        self,
        values: tuple[Node, ...],
        prefix: str,
        rays: list[str],
        write: Write,
        only: str | None = None,
        cases: int = 0,
        over: tuple[str, ...] = ALL_RAYS,
    ) -> None:
        """A loop over the chunk that works out `values`; one for each of the `cases` where a condition is the system's.

        With `only`, rays for which that condition does not hold are passed over. `over` are the loop's lines.
        """
        conditions = uniform_conditions(values)
        printer = self.printer(prefix)
        if conditions and cases < _MOST_CASES:
            condition = conditions[0]
            self.lines(printer, needed((condition,)))
            for holds in (True, False):
                with self.source.block(f"if {printer.name(condition)}:" if holds else "else:"):
                    self.loops(
                        substituted(values, condition, holds), prefix, rays, write, only, 2 * max(cases, 1), over
                    )
            return
        nodes = needed(values)
        self.lines(printer, [n for n in nodes if n.rate <= UNIFORM])
        with self.source.blocks(over):
            for line in rays:
                self.source.line(line)
            if only is not None:
                with self.source.block(f"if not ({only}):"):
                    self.source.line("continue")
            self.lines(printer, [n for n in nodes if n.rate == VARYING])
            for line in write([printer.name(v) for v in values]):
                self.source.line(line)
