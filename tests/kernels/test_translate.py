"""What the translator takes, and that it refuses all else by file, line and name of what is wrong."""

from __future__ import annotations

import inspect
import itertools
import math
import re

import numpy as np
import pytest
import torch

from lensgen import exact
from lensgen import fmath as fm
from lensgen_kernels import graph as graph_module
from lensgen_kernels.errors import TranslationError
from lensgen_kernels.graph import BOOL, CONSTANT, INT, UNIFORM, VARYING, Graph
from lensgen_kernels.translate import needed, substituted, traced


def inputs(graph):
    """A position and two parameters."""
    return [graph.input("x", VARYING), graph.input("y", VARYING), graph.input("p", UNIFORM), graph.input("q", UNIFORM)]


def refusal(formula, outputs=None):
    graph = Graph()
    with pytest.raises(TranslationError) as error:
        traced(graph, formula, inputs(graph), outputs)
    return str(error.value)


def line_marked(formula):
    """The line of this file that ends in `# here`, else that of the `def`."""
    lines, first = inspect.getsourcelines(formula)
    return first + next((k for k, line in enumerate(lines) if line.rstrip().endswith("# here")), 0)


# Each of the following must be refused. Its docstring is the word that the message must have.


def decides(x, y, p, q):
    """a decision on a value"""
    if x > 0.0:  # here
        return x
    return y


def returns_early(x, y, p, q):
    """an early return"""
    x = x + 1.0
    if p < q:  # here
        return x * y
    x = x * y
    return x


def waits(x, y, p, q):
    """while"""
    while x < 1.0:  # here
        x = x + y
    return x


def counts(x, y, p, q):
    """a count or an index"""
    for _ in range(p):  # here
        x = x * y
    return x


def chooses_with_else(x, y, p, q):
    """a decision on a value"""
    return x if y < 0.0 else y  # here


def asserts(x, y, p, q):
    """a decision on a value"""
    assert p > 0.0  # here
    return x


def takes_both(x, y, p, q):
    """and, or, not"""
    return fm.where(x > 0.0 and y > 0.0, x, y)  # here


def takes_either(x, y, p, q):
    """and, or, not"""
    return fm.where(x > 0.0 or y > 0.0, x, y)  # here


def negates(x, y, p, q):
    """and, or, not"""
    return fm.where(not x > 0.0, x, y)  # here


def compares_in_a_chain(x, y, p, q):
    """a < b < c"""
    return fm.where(0.0 < x < 1.0, x, y)  # here


def takes_pythons_max(x, y, p, q):
    """min, max"""
    return max(x, y)  # here


def takes_pythons_min(x, y, p, q):
    """min, max"""
    return min(x, 1.0)  # here


def is_among(x, y, p, q):
    """a decision on a value"""
    return x if p in (1.0, 2.0) else y  # here


def squares(x, y, p, q):
    """a power"""
    return x**2 + y * y  # here


def raises_a_number(x, y, p, q):
    """a power"""
    return 2.0**x  # here


def raises_with_torch(x, y, p, q):
    """torch's pow"""
    return torch.pow(x, 2.0)  # here


def takes_maths_sine(x, y, p, q):
    """math.sin"""
    return math.sin(x)  # here


def becomes_a_float(x, y, p, q):
    """as a Python number"""
    return float(p) * x  # here


def takes_numpys_sine(x, y, p, q):
    """NumPy"""
    return np.sin(x) * y  # here


def takes_numpys_where(x, y, p, q):
    """NumPy"""
    return np.where(x > 0.0, x, y)  # here


def becomes_an_array(x, y, p, q):
    """NumPy"""
    return np.asarray([x, y])  # here


def goes_through_numpys_python(x, y, p, q):
    """.clip"""
    return np.clip(x, 0.0, 1.0)  # here


def takes_an_unknown_function(x, y, p, q):
    """torch's cumsum"""
    return torch.cumsum(x, 0)  # here


def takes_a_special_function(x, y, p, q):
    """bessel_j0"""
    return torch.special.bessel_j0(x)  # here


def takes_an_unknown_method(x, y, p, q):
    """.cumprod"""
    return x.cumprod(0)  # here


def works_in_place(x, y, p, q):
    """.exp_"""
    return x.exp_()  # here


def asks_for_a_shape(x, y, p, q):
    """.shape"""
    return x * x.shape[0]  # here


def asks_for_the_length(x, y, p, q):
    """the length of a value"""
    return x * len(y)  # here


def reads_an_element(x, y, p, q):
    """a subscript"""
    return x + p[0]  # here


def writes_an_element(x, y, p, q):
    """an assignment to an element"""
    x[0] = y  # here
    return x


def takes_apart(x, y, p, q):
    """taking it apart"""
    first, second = x  # here
    return first + second


def goes_through(x, y, p, q):
    """going through a value"""
    return sum(v for v in p)  # here


def takes_the_remainder(x, y, p, q):
    """% or //"""
    return x % 2.0  # here


def divides_to_whole_numbers(x, y, p, q):
    """% or //"""
    return 7.0 // x  # here


def adds_a_comparison(x, y, p, q):
    """a comparison in arithmetic"""
    return (x > 0.0) * y  # here


def inverts_a_number(x, y, p, q):
    """~ of a number"""
    return ~x  # here


def combines_numbers(x, y, p, q):
    """'and' of real and real"""
    return x & y  # here


def shifts_a_real(x, y, p, q):
    """a shift"""
    return x >> 2  # here


def chooses_by_a_number(x, y, p, q):
    """no condition"""
    return fm.where(x, y, p)  # here


def is_complex(x, y, p, q):
    """complex 1j"""
    return x + 1j * y  # here


def is_not_a_number(x, y, p, q):
    """the number nan"""
    return fm.where(x > 0.0, x, math.nan)  # here


def is_infinite(x, y, p, q):
    """the number inf"""
    return x - math.inf  # here


def overflows(x, y, p, q):
    """the number inf"""
    big = x * 0.0 + 1e200
    return x + big * big  # here


def divides_by_zero(x, y, p, q):
    """a division by 0"""
    return x + (0.0 * x + 1.0) / (0.0 * x)  # here


def has_an_array(x, y, p, q):
    """a tensor of shape [2]"""
    return torch.tensor([1.0, 2.0]) * x  # here


def has_a_word(x, y, p, q):
    """str 'one'"""
    return x + "one"  # here


def looks_at_bits(x, y, p, q):
    """.view"""
    return x.view(torch.int64)  # here


def changes_type(x, y, p, q):
    """to(torch.float16)"""
    return x.to(torch.float16)  # here


def rounds(x, y, p, q):
    """__round__"""
    return round(x)  # here


def multiplies_matrices(x, y, p, q):
    """@"""
    return x @ y  # here


def calls_with_too_few(x, y, p, q):
    """missing 1 required positional argument"""
    return decides(x, y, p)  # here


def draws(x, y, p, q):
    """not the same when called twice"""
    return x * torch.rand(())


_calls = itertools.count()


def remembers(x, y, p, q):
    """not the same when called twice"""
    return x + float(next(_calls))


def returns_words(x, y, p, q):
    """returns str"""
    return "x"


def returns_nothing(x, y, p, q):
    """returns NoneType"""


def returns_a_list(x, y, p, q):
    """returns list"""
    return [x, y]


def returns_a_truth(x, y, p, q):
    """returns bool"""
    return True


def calls_itself(x, y, p, q):
    """calls itself without end"""
    return x + calls_itself(x * y, y, p, q)


REFUSED = [
    decides, returns_early, waits, counts, chooses_with_else, asserts, takes_both, takes_either, negates,
    compares_in_a_chain, takes_pythons_max, takes_pythons_min, is_among, squares, raises_a_number, raises_with_torch,
    takes_maths_sine, becomes_a_float, takes_numpys_sine, takes_numpys_where, becomes_an_array,
    goes_through_numpys_python, takes_an_unknown_function, takes_a_special_function, takes_an_unknown_method,
    works_in_place, asks_for_a_shape, asks_for_the_length, reads_an_element, writes_an_element, takes_apart,
    goes_through, takes_the_remainder, divides_to_whole_numbers, adds_a_comparison, inverts_a_number, combines_numbers,
    shifts_a_real, chooses_by_a_number, is_complex, is_not_a_number, is_infinite, overflows, divides_by_zero,
    has_an_array, has_a_word, looks_at_bits, changes_type, rounds, multiplies_matrices, calls_with_too_few, draws,
    remembers, returns_words, returns_nothing, returns_a_list, returns_a_truth, calls_itself,
]  # fmt: skip


@pytest.mark.parametrize("formula", REFUSED, ids=lambda f: f.__name__)
def test_refused(formula):
    message = refusal(formula)
    assert message.startswith(f"{__file__}:{line_marked(formula)}: "), message
    assert formula.__doc__ in message
    assert re.search(r" Fix: [a-z%].+\.$", message), message


def cubed(v):
    return v**3.0  # here


def test_a_fault_in_a_function_that_is_called_is_named_there():
    assert refusal(lambda x, y, p, q: cubed(x) + y).startswith(f"{__file__}:{line_marked(cubed)}: a power")


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_number_of_values_is_checked(outputs):
    def pair(x, y, p, q):
        return x, y

    message = refusal(pair, outputs)
    assert message.startswith(f"{__file__}:{line_marked(pair)}: returns 2 values, not {outputs}. Fix: ")


def test_a_value_of_another_translation_is_refused():
    kept = []

    def keeps(x, y, p, q):
        kept.append(x)
        return kept[0] * y  # here

    traced(graph := Graph(), keeps, inputs(graph))
    message = refusal(keeps)
    assert message.startswith(f"{__file__}:{line_marked(keeps)}: a value kept from another translation")


def test_a_formula_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(graph_module, "MOST_NODES", 500)

    def long(x, y, p, q):
        for _ in range(1000):
            x = x * y  # here
        return x

    message = refusal(long)
    assert message.startswith(f"{__file__}:{line_marked(long)}: a formula of more than 500 operations")


def test_whole_numbers_are_not_multiplied_or_divided():
    """A quotient of whole numbers is a real for torch, and a whole number for C."""
    for operation in (lambda k: k / 2, lambda k: k * 2, lambda k: k / k):
        graph = Graph(exact=True)
        with pytest.raises(TranslationError, match="a product or a quotient of whole numbers"):
            traced(graph, lambda x: operation(x.view(torch.int64)), [graph.input("x", VARYING)])  # noqa: B023


# What it takes


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
