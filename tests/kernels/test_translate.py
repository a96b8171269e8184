"""What the translator takes, and what it makes of it. What it refuses is in test_refusals.py."""

from __future__ import annotations

import pytest
import torch

from lensgen import exact
from lensgen import fmath as fm
from lensgen_kernels.c_source import CPrinter
from lensgen_kernels.graph import Graph
from lensgen_kernels.node import ARRAY, BOOL, CONSTANT, INT, UNIFORM, VARYING
from lensgen_kernels.numba_source import NumbaPrinter
from lensgen_kernels.primitives import Stack
from lensgen_kernels.translate import needed, substituted, traced


def inputs(graph):
    """A position and two parameters."""
    return [graph.input("x", VARYING), graph.input("y", VARYING), graph.input("p", UNIFORM), graph.input("q", UNIFORM)]


def trace(formula, outputs=None, **options):
    """The graph, its inputs and the outputs of a formula."""
    graph = Graph(**options)
    given = inputs(graph)
    return graph, given, traced(graph, formula, given, outputs)


def same(outputs, *expected):
    """Whether they are the very nodes; == would make another one."""
    return [a is b for a, b in zip(outputs, expected, strict=True)] == [True] * len(outputs)


def operations(outputs):
    """What is worked out, in order."""
    return [n.op for n in needed(outputs) if n.op not in ("const", "input")]


def test_loops_of_fixed_length_are_unrolled():
    def formula(x, y, p, q):
        for _ in range(3):
            x = x * y
        return x

    assert operations(trace(formula)[2]) == ["mul"] * 3


def test_loops_over_numbers_and_statics():
    def formula(x, y, p, q):
        total = 0.0
        for k, c in enumerate((0.5, 0.25)):
            total = total + c * x + float(k)
        return total

    _, _, (output,) = trace(formula)
    assert operations([output]) == ["mul", "mul", "add", "add"]  # 0 + ... and ... + 0 are left out


def test_tuples_and_calls_of_calls():
    def turned(a, b):
        return -b, a

    def formula(x, y, p, q):
        return turned(*turned(x, y))

    _, (x, y, _, _), outputs = trace(formula, outputs=2)
    assert operations(outputs) == ["neg", "neg"]
    assert [o.args for o in outputs] == [(x,), (y,)]


def test_numbers_are_folded():
    def formula(x, y, p, q):
        k = 0.0 * x + 3.0
        return x + fm.where(k > 2.0, 2.0 * k - 1.0, y) / 5.0, 0.0 * y

    graph, (x, *_), outputs = trace(formula)
    assert same(outputs, x + 1.0, graph.constant(0.0))
    assert operations(outputs) == ["add"]


def test_exact_graphs_leave_out_nothing():
    def formula(x, y, p, q):
        return (0.0 * x + y) * 1.0 - 0.0

    assert operations(trace(formula, exact=True)[2]) == ["mul", "add", "mul", "sub"]


def test_numbers_may_be_tensors_of_one():
    graph, (x, _, _, _), outputs = trace(lambda x, y, p, q: (torch.tensor(2.0) * x, x / torch.tensor(4.0), 2.0 - x))
    assert same(outputs, graph.constant(2.0) * x, x / 4.0, 2.0 - x)
    assert graph.lift(torch.tensor(True)).kind == BOOL


def test_equal_operations_are_one():
    def formula(x, y, p, q):
        return fm.sqrt(x * x + p) + fm.sqrt(x * x + p), fm.sqrt(p + x * x)

    _, _, outputs = trace(formula)
    assert operations(outputs).count("mul") == 1
    assert operations(outputs).count("sqrt") == 2  # a + b and b + a are not compared


@pytest.mark.parametrize("is_exact", [True, False])
def test_a_number_over_a_value_is_a_product_with_the_reciprocal(is_exact):
    """As it is for torch: the bits of `lensgen.exact` depend on it."""
    _, (x, *_), (output, one, whole) = trace(lambda x, y, p, q: (3.0 / x, 1.0 / x, x / 3.0), exact=is_exact)
    assert output is 3.0 * (1.0 / x)
    assert operations([output]) == ["div", "mul"] and operations([one]) == operations([whole]) == ["div"]
    value = torch.tensor(1.0 + 2.0**-30, dtype=torch.float64)
    assert 3.0 / value == 3.0 * (1.0 / value)


def test_only_what_is_needed_and_in_order():
    def formula(x, y, p, q):
        unused = fm.exp(y)  # noqa: F841
        return fm.sqrt(p * q + x)

    graph, (_, _, p, q), outputs = trace(formula)
    assert "exp" in [n.op for n in graph.nodes]
    assert operations(outputs) == ["mul", "add", "sqrt"]
    seen = set()
    for node in needed(outputs):
        assert all(a in seen for a in node.operands)
        seen.add(node)
    assert p in seen and q in seen
    assert needed([]) == []


def test_rates():
    def formula(x, y, p, q):
        return fm.log(p) * q + 1.0, p * x, fm.where(p < q, x, y), fm.where(p < q, p, q), 2.0

    rates = [o.rate for o in trace(formula)[2]]
    assert rates == [UNIFORM, VARYING, VARYING, UNIFORM, CONSTANT]


def test_a_known_condition_makes_its_choices():
    def formula(x, y, p, q):
        return fm.where(p < 1.0, fm.exp(x), fm.log(x)) + y, y * 2.0

    _, (x, y, p, _), outputs = trace(formula)
    for holds, kept in ((True, torch.exp(x)), (False, torch.log(x))):
        one, other = substituted(outputs, p < 1.0, holds)
        assert one is kept + y and other is outputs[1]
        assert p.number not in [n.number for n in needed([one, other])]
    assert same(substituted(outputs, p < 2.0, True), *outputs)


def test_methods_and_functions_are_the_same():
    def formula(x, y, p, q):
        return torch.clamp(x, min=0.0), torch.abs(y), torch.maximum(x, p), (x < 1.0) & ~(y > 2.0)

    def methods(x, y, p, q):
        return x.clamp(min=0.0), abs(y), x.maximum(p), (x < 1.0) & (y > 2.0).__invert__()

    graph = Graph()
    given = inputs(graph)
    assert same(traced(graph, formula, given), *traced(graph, methods, given))


def test_bits_are_whole_numbers_in_exact_graphs():
    def formula(x, y, p, q):
        k = (x.view(torch.int64) >> 52) - 1022
        return ((k + 1023) << 52).view(torch.float64), fm.where((k & 1) == 1, k - 1, k).to(torch.float64)

    _, _, outputs = trace(formula, exact=True)
    kinds = {n.op: n.kind for n in needed(outputs)}
    assert kinds["shr"] == kinds["sub"] == kinds["and"] == kinds["shl"] == kinds["where"] == INT
    assert kinds["eq"] == BOOL and kinds["from_bits"] == kinds["to_real"] == "real"


def test_a_whole_number_beside_a_fraction_is_a_real():
    """Not cut to a whole number: k < 2.5 holds for 2."""
    _, _, (output,) = trace(lambda x, y, p, q: x.view(torch.int64) < 2.5, exact=True)
    assert operations([output]) == ["bits", "to_real", "lt"]


def test_a_condition_as_a_number():
    _, _, (output,) = trace(lambda x, y, p, q: (x > y).to(torch.float32))
    assert output.op == "where" and output.kind == "real"


def test_rare_cases_are_worked_out_or_noted():
    def formula(x, y, p, q):
        return fm.rarely(x < 0.0, y, lambda: fm.exp(y))

    assert operations(trace(formula)[2]) == ["lt", "exp", "where"]
    graph = Graph()
    graph.rare = False
    given = inputs(graph)
    assert same(traced(graph, formula, given), given[1])
    assert graph.rare_cases[0] is (given[0] < 0.0)


def test_functions_that_can_be_overridden_are_called():
    """Once in the graph, however often they are used; and worked out now where their argument is a number."""

    def formula(x, y, p, q):
        return exact.log(x) + exact.log(y), exact.log(x.new_tensor(2.0))

    graph, _, (output, number) = trace(formula, exact=True)
    assert operations([output]) == ["call", "call", "add"]
    (function,) = graph.functions.values()
    assert len(function.inputs) == len(function.outputs) == 1 and operations(function.outputs)
    assert number.op == "const" and number.args[0] == exact.log(torch.tensor(2.0, dtype=torch.float64)).item()
    _, _, (folded,) = trace(lambda x, y, p, q: exact.log(x * 0.0 + 2.0))
    assert folded is folded.graph.constant(number.args[0])


def test_a_stack_of_images_is_read_at_places_inside():
    """Held to the array, whatever the place; which image it is, is worked out once a system."""
    graph = Graph()
    x, y, p, _ = inputs(graph)
    stack = Stack(graph, "pictures", (4, 5, 6))

    def formula(x, y, p):
        return stack.lookup(p, fm.floor(y), x) + stack.lookup(p, fm.floor(y), x)

    (output,) = traced(graph, formula, [x, y, p])
    (read,) = [n for n in needed([output]) if n.op == "gather"]
    array, which, row, column, height, width = read.args
    assert array is stack.array and (height, width) == (5, 6)
    assert [n.rate for n in (which, row, column, read)] == [UNIFORM, VARYING, VARYING, VARYING]
    assert [n.kind for n in (array, which, row, column, read)] == [ARRAY, INT, INT, INT, "real"]
    assert same([which], fm.where(p >= 0.0, fm.minimum(p, 3.0), p * 0.0).to(torch.int64))
    assert "const float v" in CPrinter("float").line(read)
    assert CPrinter("float").expression(read).startswith("in_pictures[((long long)v")
    assert NumbaPrinter("float32", "t", {}).expression(read).startswith("gather(pictures, t")


def test_a_stack_in_torch_and_in_the_graph_are_called_alike():
    """The same names, so that a formula does not know which it has."""
    assert {n for n in dir(fm.Stack) if n[0] != "_"} <= {n for n in dir(Stack) if n[0] != "_"}
    assert fm.Stack(torch.zeros(4, 5, 6)).shape == Stack(Graph(), "pictures", (4, 5, 6)).shape
