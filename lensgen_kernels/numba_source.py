"""Nodes as lines of Python that numba compiles: one assignment an operation, nothing left to its type inference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lensgen_kernels.node import BOOL, INT, Node

_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
_COMPARE = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
_WHOLE = {"add": "iadd", "sub": "isub"}
_CALLS = {
    "sqrt": "root", "abs": "size", "floor": "floor", "max": "larger", "min": "smaller", "where": "choose",
    "bits": "bits", "from_bits": "from_bits", "to_real": "to_real", "to_int": "to_int", "shl": "shl", "shr": "shr",
}  # fmt: skip


class NumbaPrinter:
    """Prints the nodes of one graph.

    Args:
        real: "float32" or "float64".
        prefix: begins the names of its values, so that several graphs can share a function.
        constants: text and name of the module's constants; those that are used are added.
        suffix: ends the names of functions that are called.
    """

    def __init__(self, real: str, prefix: str, constants: dict[str, str], suffix: str = "") -> None:
        self.real, self.whole = real, {"float32": "int32", "float64": "int64"}[real]
        self.prefix = prefix
        self.constants = constants
        self.suffix = suffix

    def name(self, node: Node) -> str:
        if node.op == "const":
            return self.constant(node)
        if node.op == "input":
            return node.args[0]
        return f"{self.prefix}{node.number}"

    def constant(self, node: Node) -> str:
        value = node.args[0]
        if node.kind == BOOL:
            return repr(value)
        if node.kind == INT:
            text = f"np.{self.whole}({int(value)})"
        else:
            text = f"np.{self.real}({float(getattr(np, self.real)(value))!r})"
        if text not in self.constants:
            self.constants[text] = f"c{len(self.constants)}"
        return self.constants[text]

    def lines(self, nodes: Sequence[Node]) -> list[str]:
        """One assignment a node, `t7 = t3 + t5`; one call for all the values of it."""
        calls: dict[str, list[Node]] = {}
        for node in nodes:
            if node.op == "call":
                calls.setdefault(self._call(node), []).append(node)
        lines = []
        for node in printable(nodes):
            if node.op != "call":
                lines.append(f"{self.name(node)} = {self.expression(node)}")
            elif values := calls.pop(self._call(node), None):
                names = {n.args[1]: self.name(n) for n in values}
                targets = [names.get(k, "_") for k in range(node.graph.results(node.args[0]))]
                lines.append(f"({', '.join(targets)},) = {self._call(node)}")
        return lines

    def _call(self, node: Node) -> str:
        return f"{node.args[0]}{self.suffix}({', '.join(self.name(a) for a in node.operands)})"

    def expression(self, node: Node) -> str:
        op, args = node.op, [self.name(a) if isinstance(a, Node) else a for a in node.args]
        if op in _INFIX and node.kind == INT:
            return f"{_WHOLE[op]}({args[0]}, {args[1]})"
        if op in _INFIX:
            return f"{args[0]} {_INFIX[op]} {args[1]}"
        if op in _COMPARE:
            return f"{args[0]} {_COMPARE[op]} {args[1]}"
        if op == "neg":
            return f"-{args[0]}"
        if op in ("and", "or"):
            if node.kind == BOOL:
                return f"{args[0]} {'&' if op == 'and' else '|'} {args[1]}"
            return f"i{op}({args[0]}, {args[1]})"
        if op == "not":
            return f"not {args[0]}"
        if op == "table":
            return f"table{args[0]}[slot]" + (" != 0.0" if node.kind == BOOL else "")
        if op == "bucketize":
            return f"np.int64(bisect_left(table{args[1]}, {args[0]}, {args[2]}))"
        if op == "gather":
            return f"gather({', '.join(map(str, args))})"
        if op == "uniform":
            return f"uniform({args[1]}, {args[0]}, image, key0, key1)"
        return f"{_CALLS[op]}({', '.join(map(str, args))})"


def printable(nodes: Sequence[Node]) -> list[Node]:
    """Those that need a line of their own."""
    return [n for n in nodes if n.op not in ("const", "input")]
