"""Finds formulas that are written twice, by their text, whatever their variables and intermediate steps are called.

Straight-line assignments, and functions of the same file, are put into the expressions that use them; then names become
numbers in the order in which they appear, and calls of anything else but elementary functions become nameless. Two
expressions that read the same after that are the same formula. Sums and products in another order are not recognised.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

# what the same function is called elsewhere
_ELEMENTARY = {
    "arctan": "atan", "arctan2": "atan2", "arcsinh": "asinh", "absolute": "abs", "fabs": "abs", "fmax": "maximum",
    "fmin": "minimum", "max": "maximum", "min": "minimum", "power": "pow", "log2": "log2", "hypot": "hypot",
    **{n: n for n in ("sqrt", "exp", "log", "log1p", "sin", "cos", "tan", "sinh", "cosh", "tanh", "asinh", "atan",
                      "atan2", "abs", "maximum", "minimum", "where", "clamp", "pow", "floor", "atanh", "acosh")},
}  # fmt: skip

Key = tuple


@dataclass(frozen=True)
class Fragment:
    """An expression of a function: where, how many operations, and its text without names."""

    file: Path
    line: int
    function: str
    operations: int
    text: str


@dataclass
class _Values:
    """Expressions in which equal parts are one: a number for each, in the order in which they are made."""

    keys: list[Key] = field(default_factory=list)
    known: dict[Key, int] = field(default_factory=dict)

    def add(self, *key) -> int:
        if key not in self.known:
            self.known[key] = len(self.keys)
            self.keys.append(key)
        return self.known[key]

    def text(self, root: int) -> tuple[str, int]:
        """Without names, and its number of operations."""
        names: dict[object, str] = {}
        places: dict[int, int] = {}
        parts: list[str] = []

        def visit(value: int) -> str:
            if value in places:
                return f"#{places[value]}"
            kind, *rest = self.keys[value]
            if kind == "name":
                return names.setdefault(rest[0], f"v{len(names)}")
            if kind == "number":
                return repr(rest[0])
            operands = [visit(r[0]) if isinstance(r, tuple) else str(r) for r in rest]
            places[value] = len(places)
            parts.append(f"{kind}({', '.join(operands)})")
            return f"#{places[value]}"

        visit(root)
        return "; ".join(parts), len(parts)


class _Reader:
    """Reads statements.

    Args:
        helpers: straight-line functions of the same file.
    """

    def __init__(self, helpers: dict[str, ast.FunctionDef]) -> None:
        self.helpers = helpers
        self.depth = 0
        self.values = _Values()
        self.variables: dict[str, int] = {}
        self.roots: list[tuple[int, int]] = []  # line, value

    def unknown(self, what: object) -> int:
        return self.values.add("name", what)

    def value(self, node: ast.AST) -> int:
        made = self._value(node)
        if self.values.keys[made][0] not in ("name", "number"):
            self.roots.append((getattr(node, "lineno", 0), made))
        return made

    def _value(self, node: ast.AST) -> int:
        add = self.values.add
        if isinstance(node, ast.Name):
            return self.variables.get(node.id) if node.id in self.variables else self.unknown(node.id)
        if isinstance(node, ast.Constant):
            number = isinstance(node.value, int | float) and not isinstance(node.value, bool)
            return add("number", float(node.value)) if number else self.unknown(repr(node.value))
        if isinstance(node, ast.Attribute):
            return self.unknown(ast.unparse(node))
        if isinstance(node, ast.UnaryOp):
            return add(type(node.op).__name__, (self.value(node.operand),))
        if isinstance(node, ast.BinOp):
            left, right = self.value(node.left), self.value(node.right)
            if isinstance(node.op, ast.Pow) and self.values.keys[right] == ("number", 2.0):
                return add("Mult", (left,), (left,))
            return add(type(node.op).__name__, (left,), (right,))
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            return add(type(node.ops[0]).__name__, (self.value(node.left),), (self.value(node.comparators[0]),))
        if isinstance(node, ast.Tuple | ast.List):
            return add("tuple", *((self.value(e),) for e in node.elts))
        if isinstance(node, ast.Call):
            return self._call(node)
        for child in ast.iter_child_nodes(node):  # anything else: a name of its own, what it contains for itself
            self.value(child)
        return self.unknown(ast.dump(node))

    def _call(self, node: ast.Call) -> int:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        arguments = [self.value(a) for a in node.args] + [self.value(k.value) for k in node.keywords]
        method = isinstance(node.func, ast.Attribute) and not isinstance(node.func.value, ast.Name)
        if name in self.helpers and isinstance(node.func, ast.Name) and not node.keywords and self.depth < 8:
            return self._inlined(self.helpers[name], arguments)
        if method or (isinstance(node.func, ast.Attribute) and node.func.value.id in self.variables):  # type: ignore[attr-defined]
            arguments.insert(0, self.value(node.func.value))  # type: ignore[attr-defined]
        return self.values.add(_ELEMENTARY.get(name, "call"), *((a,) for a in arguments))

    def _inlined(self, function: ast.FunctionDef, arguments: list[int]) -> int:
        variables, roots = self.variables, self.roots
        names = [a.arg for a in function.args.args]
        self.variables, self.roots = dict(zip(names, arguments, strict=False)), []
        self.depth += 1
        *body, last = function.body
        self.body(body)
        assert isinstance(last, ast.Return) and last.value is not None
        value = self.value(last.value)
        self.depth -= 1
        self.variables, self.roots = variables, roots
        return value

    def assign(self, target: ast.AST, value: int) -> None:
        if isinstance(target, ast.Name):
            self.variables[target.id] = value
        elif isinstance(target, ast.Tuple):
            key = self.values.keys[value]
            for k, part in enumerate(target.elts):
                whole = key[0] == "tuple" and len(key) == len(target.elts) + 1
                self.assign(part, key[k + 1][0] if whole else self.values.add("item", k, (value,)))

    def body(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            if isinstance(statement, ast.Assign):
                value = self.value(statement.value)
                for target in statement.targets:
                    self.assign(target, value)
            elif isinstance(statement, ast.AugAssign):
                combined = ast.BinOp(ast.Name(getattr(statement.target, "id", "?")), statement.op, statement.value)
                self.assign(statement.target, self.value(ast.copy_location(combined, statement)))
            elif isinstance(statement, ast.For | ast.While):
                self._loop(statement)
            elif isinstance(statement, ast.FunctionDef | ast.ClassDef):
                continue  # read for itself
            else:
                for name, part in ast.iter_fields(statement):
                    if name in ("body", "orelse", "finalbody") and isinstance(part, list):
                        self.body(part)
                    elif isinstance(part, ast.expr):
                        self.value(part)

    def _loop(self, loop: ast.For | ast.While) -> None:
        """What a loop changes is not known inside, nor after it."""
        changed = {n.id for n in ast.walk(loop) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        for when in ("inside", "after"):
            for name in changed:
                self.variables[name] = self.unknown((name, loop.lineno, when))
            if when == "inside":
                self.body(loop.body)


def _straight(function: ast.FunctionDef) -> bool:
    """Whether it is assignments, and then a value."""
    *body, last = function.body
    return (
        isinstance(last, ast.Return)
        and last.value is not None
        and all(isinstance(s, ast.Assign | ast.Expr) for s in body)
    )


def _blocks(function: ast.FunctionDef) -> Iterator[list[ast.stmt]]:
    """The bodies of a function and of its loops and branches, those of functions inside it aside."""
    blocks = [function.body]
    while blocks:
        block = blocks.pop()
        yield block
        for statement in block:
            if not isinstance(statement, ast.FunctionDef | ast.ClassDef):
                blocks += [b for name in ("body", "orelse", "finalbody") if (b := getattr(statement, name, None))]


@lru_cache(maxsize=1000)
def fragments(file: Path, least: int) -> list[Fragment]:
    """All expressions of at least so many operations, largest first.

    Each is read from every statement that it may begin at: what comes before that is a name, as it would be if the
    part were copied into a function that is given it.
    """
    found: dict[tuple[str, str], Fragment] = {}
    tree = ast.parse(file.read_text())
    helpers = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef) and _straight(n)}
    for function in (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)):
        for block in _blocks(function):
            for start in range(len(block)):
                reader = _Reader(helpers)
                reader.body(block[start:])
                for line, value in dict.fromkeys(reader.roots):
                    text, operations = reader.values.text(value)
                    if operations >= least:
                        found.setdefault((function.name, text), Fragment(file, line, function.name, operations, text))
    return sorted(found.values(), key=lambda f: -f.operations)


def written_twice(formulas: list[Path], others: list[Path], least: int) -> list[tuple[Fragment, Fragment]]:
    """The largest expression that each function of `formulas` has in common with a function of another file."""
    known: dict[str, list[Fragment]] = {}
    for file in dict.fromkeys([*formulas, *others]):
        for fragment in fragments(file, least):
            known.setdefault(fragment.text, []).append(fragment)
    found = {}
    for file in formulas:
        for fragment in fragments(file, least):
            for other in known[fragment.text]:
                pair = fragment.file, fragment.function, other.file, other.function
                if other.file != file:
                    found.setdefault(pair, (fragment, other))
    return list(found.values())
