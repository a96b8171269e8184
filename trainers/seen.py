"""Which images a run has seen: measured from what it was fed with, whatever the source promises."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class IndexSet:
    """A set of image numbers, kept as intervals: a single one for a stream that hands out 0, 1, 2, ...

    Args:
        intervals: `(first, past the last)` of each, sorted and apart, as `intervals` gives them.
    """

    def __init__(self, intervals: Sequence[Sequence[int]] = ()) -> None:
        self._bounds = np.array(intervals, dtype=np.int64).reshape(-1, 2)

    def add(self, index: np.ndarray) -> None:
        """Adds image numbers of any shape, in any order; those that are in the set already change nothing."""
        numbers = np.unique(index)
        if not numbers.size:
            return
        first = np.concatenate([self._bounds[:, 0], numbers])
        past = np.concatenate([self._bounds[:, 1], numbers + 1])
        order = np.argsort(first)
        first, past = first[order], np.maximum.accumulate(past[order])
        opens = np.flatnonzero(np.append(True, first[1:] > past[:-1]))  # where no interval before reaches
        self._bounds = np.stack([first[opens], past[np.append(opens[1:], len(past)) - 1]], axis=1)

    def count(self, index: np.ndarray) -> int:
        """How many of these image numbers are in the set."""
        if not len(self._bounds):
            return 0
        interval = np.searchsorted(self._bounds[:, 0], index, side="right") - 1
        return int(((interval >= 0) & (index < self._bounds[interval, 1])).sum())

    def __len__(self) -> int:
        """How many different images there are."""
        return int((self._bounds[:, 1] - self._bounds[:, 0]).sum())

    def intervals(self) -> list[list[int]]:
        """The set as JSON can hold it."""
        return [[int(first), int(past)] for first, past in self._bounds]
