"""Formula -> graph: call it with nodes, and refuse with file and line what cannot be translated."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lensgen_kernels.errors import TranslationError, is_ours
from lensgen_kernels.graph import Graph
from lensgen_kernels.node import Node


def where_defined(formula: Callable) -> str:
    """File and line of a function."""
    try:
        code = inspect.unwrap(formula).__code__
    except AttributeError:
        return repr(formula)
    return f"{Path(code.co_filename)}:{code.co_firstlineno}"


def traced(graph: Graph, formula: Callable, args: Sequence[Any], outputs: int | None = None) -> tuple[Node, ...]:
    """What `formula(*args)` returns, as nodes of `graph`, which holds all of its operations.

    Args:
        args: nodes, and plain numbers for statics.
        outputs: how many values it must return.

    Raises:
        TranslationError: naming file, line, what cannot be translated, and the fix.
    """
    first, again = _call(formula, args), _call(formula, args)
    values = first if isinstance(first, tuple) else (first,)
    others = again if isinstance(again, tuple) else (again,)
    if outputs is not None and len(values) != outputs:
        raise TranslationError(
            f"{where_defined(formula)}: returns {len(values)} values, not {outputs}. Fix: one value for each component."
        )
    for value in values:
        if not isinstance(value, Node | int | float) or isinstance(value, bool):
            raise TranslationError(
                f"{where_defined(formula)}: returns {type(value).__name__}, which is no number. "
                "Fix: return one value, or a tuple of them."
            )
    nodes, repeated = tuple(map(graph.lift, values)), tuple(map(graph.lift, others))
    if len(nodes) != len(repeated) or any(a is not b for a, b in zip(nodes, repeated, strict=True)):
        raise TranslationError(
            f"{where_defined(formula)}: is not the same when called twice. "
            "Fix: no random numbers, no clock, nothing kept between calls."
        )
    return nodes


def _call(formula: Callable, args: Sequence[Any]) -> Any:
    try:
        return formula(*args)
    except RecursionError:
        raise TranslationError(
            f"{where_defined(formula)}: calls itself without end. Fix: a loop of fixed length."
        ) from None
    except TranslationError:
        raise
    except TypeError as error:  # what a node has no method for: Python says what, and not where
        raise TranslationError(
            f"{_origin(error) or where_defined(formula)}: {error}. "
            "Fix: use + - * /, the functions of lensgen.fmath and calls to their like."
        ) from error


def _origin(error: Exception) -> str | None:
    """File and line of the formula's code that raised an error."""
    frames = [f"{f.filename}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__) if not is_ours(f.filename)]
    return frames[-1] if frames else None


def needed(outputs: Sequence[Node]) -> list[Node]:
    """The nodes that `outputs` depend on, in an order in which they can be worked out."""
    seen: set[int] = set()
    stack = list(outputs)
    while stack:
        node = stack.pop()
        if node.number not in seen:
            seen.add(node.number)
            stack.extend(node.operands)
    graph = outputs[0].graph if outputs else None
    return [] if graph is None else [graph.nodes[k] for k in sorted(seen)]


def replaced(outputs: Sequence[Node], by: Mapping[Node, Node]) -> tuple[Node, ...]:
    """The outputs with some nodes replaced by others."""
    new = {old.number: node for old, node in by.items()}
    for node in needed(outputs):
        if node.number in new:
            continue
        args = [new[a.number] if isinstance(a, Node) else a for a in node.args]
        if node.op == "where" and args[0].op == "const":
            new[node.number] = args[1] if args[0].args[0] else args[2]
        elif all(a is b for a, b in zip(args, node.args, strict=True)):
            new[node.number] = node
        else:
            new[node.number] = node.graph.node(node.op, *args, kind=node.kind)
    return tuple(new[o.number] for o in outputs)


def substituted(outputs: Sequence[Node], condition: Node, holds: bool) -> tuple[Node, ...]:
    """The outputs where `condition` is known: its choices are made."""
    return replaced(outputs, {condition: condition.graph.constant(holds)})
