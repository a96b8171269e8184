"""Formula -> graph: call it with nodes, and refuse with file and line what cannot be translated."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lensgen_kernels.errors import TranslationError, is_ours
from lensgen_kernels.graph import Graph
from lensgen_kernels.node import BOOL, UNIFORM, VARYING, Node
from lensgen_kernels.program import NoiseTerm


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


def uniform_conditions(outputs: Sequence[Node]) -> list[Node]:
    """Conditions that hold for all rays or none, and choose between values that vary."""
    return [n.args[0] for n in needed(outputs) if n.op == "where" and n.rate == VARYING and n.args[0].rate <= UNIFORM]


def traced_noise(graph: Graph, noise: NoiseTerm) -> tuple[tuple[Node, ...], Node | None]:
    """The noisy pixel, and whether some rare case holds that was left out of it (as `graph.rare` says)."""
    detector = SimpleNamespace(**{n: graph.input(f"detector_{n}", UNIFORM) for n in noise.detector})
    clean, exposure = graph.input("clean", VARYING), graph.input("exposure", UNIFORM)
    values = traced(graph, noise.formula, [clean, exposure, detector, lambda name: graph.input(name, VARYING)], 1)
    condition: Node | None = None
    for rare_case in dict.fromkeys(graph.rare_cases):
        condition = rare_case if condition is None else condition | rare_case
    assert condition is None or condition.kind == BOOL
    return values, condition
