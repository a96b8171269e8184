"""What the translator refuses, by file, line and the name of what is wrong."""

from __future__ import annotations

import inspect
import itertools
import math
import re

import numpy as np
import pytest
import torch

from lensgen import fmath as fm
from lensgen_kernels import graph as graph_module
from lensgen_kernels.errors import TranslationError
from lensgen_kernels.graph import Graph
from lensgen_kernels.node import VARYING
from lensgen_kernels.translate import traced
from tests.kernels.test_translate import inputs


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
