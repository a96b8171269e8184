"""Formulas of rays in two parts: what a system (or a slot) has once, and what each ray needs.

The first is worked out by one thread and kept in shared memory. A condition that holds for a whole system or slot is a
branch that all threads take together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from lensgen_kernels import fast_math
from lensgen_kernels.c_source import CPrinter
from lensgen_kernels.node import ARRAY, BOOL, INT, REAL, UNIFORM, VARYING, Node
from lensgen_kernels.translate import needed, substituted, uniform_conditions

_MOST_CASES = 4  # variants of a formula for conditions that hold for a whole system; further ones choose ray by ray


Body: TypeAlias = Callable[[list[str], list[str]], list[str]]


class QuickPrinter(CPrinter):
    """Divides by the special function unit; for lenses with a correction."""

    def expression(self, node: Node) -> str:
        if node.op == "div" and node.kind == REAL:
            over, under = node.operands
            name = "lg_quotient" if node.graph.lowering is LIGHT else "lg_ratio"
            return f"{name}({self.name(over)}, {self.name(under)})"
        return super().expression(node)


def _unit(op: str) -> Callable[[Node], Node]:
    """A primitive by a GPU's special function unit."""
    return lambda x: x.graph.node(op, x)


# What light and noise take from the special function unit: an exponential is off by 3e-7 of itself, a logarithm by
# 2e-7, a quotient by two units. Lenses have polynomials and corrected quotients: a source magnifies what
# deflections are off by, and large terms of logarithms cancel.
LENS = fast_math.LOWERING
LIGHT = {**LENS, "exp": _unit("quick_exp"), "log": _unit("quick_log")}


class Once:
    """Numbers that are worked out once and read by many: where in memory each stands."""

    def __init__(self, printer: CPrinter) -> None:
        self.printer = printer
        self.kept: list[Node] = []

    def keep(self, node: Node) -> None:
        if node.rate <= UNIFORM and node.op != "const" and node.kind != ARRAY and self.place(node) is None:
            self.kept.append(node)

    def place(self, node: Node) -> int | None:
        return next((k for k, kept in enumerate(self.kept) if kept is node), None)

    def store(self, place: str) -> list[str]:
        """Lines that work out all that is kept and store it."""
        lines = self.printer.lines([n for n in needed(self.kept) if n.kind != ARRAY] if self.kept else [])
        return lines + [f"{place}[{k}] = {_packed(n, self.printer)};" for k, n in enumerate(self.kept)]

    def load(self, nodes: Sequence[Node], place: str) -> list[str]:
        """Lines that read those of the kept numbers that `nodes` are made of."""
        wanted = {a.number for n in nodes for a in n.operands} | {n.number for n in nodes}
        return [
            f"const {self.printer.type(n)} {self.printer.name(n)} = {_unpacked(n, f'{place}[{k}]')};"
            for k, n in enumerate(self.kept)
            if n.number in wanted
        ]


def _packed(node: Node, printer: CPrinter) -> str:
    value = printer.name(node)
    if node.kind == BOOL:
        return f"{value} ? 1.0f : 0.0f"
    return f"lg_from_bits({value})" if node.kind == INT else value


def _unpacked(node: Node, place: str) -> str:
    if node.kind == BOOL:
        return f"(float){place} != 0.0f"
    return f"lg_bits((float){place})" if node.kind == INT else place


@dataclass(frozen=True, eq=False)
class _Choice:
    """What a formula comes to where a condition holds, and where it does not."""

    condition: Node
    holds: _Choice | tuple[Node, ...]
    fails: _Choice | tuple[Node, ...]


class Formula:
    """One formula of rays: its values, its cases and what it needs once.

    Args:
        values: what it returns for a ray at (x, y).
        once: that takes what the formula needs.
    """

    def __init__(self, values: tuple[Node, ...], once: Once) -> None:
        self.once = once
        self.cases = _cases(values, 1)
        for condition in self._conditions(self.cases):
            once.keep(condition)
        for leaf in self._leaves(self.cases):
            for node in needed(leaf):
                if node.rate == VARYING:
                    for operand in node.operands:
                        once.keep(operand)
            for value in leaf:
                once.keep(value)

    def _conditions(self, cases: _Choice | tuple[Node, ...]) -> list[Node]:
        if isinstance(cases, tuple):
            return []
        return [cases.condition, *self._conditions(cases.holds), *self._conditions(cases.fails)]

    def _leaves(self, cases: _Choice | tuple[Node, ...]) -> list[tuple[Node, ...]]:
        return [cases] if isinstance(cases, tuple) else self._leaves(cases.holds) + self._leaves(cases.fails)

    def lines(self, place: str, body: Body) -> list[str]:
        """`body(lines of a ray, names of the values)` for each case, between its conditions."""
        return self._written(self.cases, place, body)

    def _written(self, cases: _Choice | tuple[Node, ...], place: str, body: Body) -> list[str]:
        printer = self.once.printer
        if isinstance(cases, tuple):
            nodes = [n for n in needed(cases) if n.rate == VARYING]
            load = self.once.load([*nodes, *cases], place)
            return [*load, *body(printer.lines(nodes), [printer.name(v) for v in cases])]
        k = self.once.place(cases.condition)
        return [
            f"if ((float){place}[{k}] != 0.0f) {{",
            *indented(self._written(cases.holds, place, body)),
            "} else {",
            *indented(self._written(cases.fails, place, body)),
            "}",
        ]


def _cases(values: tuple[Node, ...], cases: int) -> _Choice | tuple[Node, ...]:
    conditions = uniform_conditions(values)
    if not conditions or cases >= _MOST_CASES:
        return values
    condition = conditions[0]
    holds, fails = (_cases(substituted(values, condition, known), 2 * cases) for known in (True, False))
    return _Choice(condition, holds, fails)


def indented(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def function(head: str, lines: Sequence[str]) -> str:
    return "\n".join([f"{head} {{", *indented(lines), "}", ""])
