"""What was seen is counted exactly, in whatever order it comes."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers.seen import IndexSet


@given(st.lists(st.lists(st.integers(0, 40), max_size=12), max_size=6))
def test_it_is_a_set(batches):
    seen, expected = IndexSet(), set()
    for batch in batches:
        seen.add(np.array(batch, dtype=np.int64))
        seen = IndexSet(json.loads(json.dumps(seen.intervals())))
        expected |= set(batch)
        assert len(seen) == len(expected)
        assert {number for first, past in seen.intervals() for number in range(first, past)} == expected


def test_a_stream_is_one_interval_however_long():
    seen = IndexSet()
    for step in range(5):
        seen.add(2**60 + np.arange(64).reshape(2, 32) + 64 * step)
    assert seen.intervals() == [[2**60, 2**60 + 320]]


@pytest.mark.parametrize("intervals", [[[1, 2, 3]], [["a", 2]], 7])
def test_what_are_no_intervals(intervals):
    with pytest.raises((ValueError, TypeError)):
        IndexSet(intervals)


def test_how_many_of_some_numbers_are_in_the_set():
    seen = IndexSet([[0, 3], [5, 6], [9, 20]])
    assert seen.count(np.array([0, 2, 3, 4, 5, 6, 8, 9, 19, 20, -1])) == 5
    assert IndexSet().count(np.arange(3)) == 0 and seen.count(np.zeros(0, dtype=int)) == 0
