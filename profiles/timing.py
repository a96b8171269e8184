"""How speeds are compared: contenders take turns (A B C A B C ...), and what is reported is a median with its spread.

A machine's speed drifts (turbo, heat, neighbours). Taking turns lets the drift hit everyone alike, and a ratio is
taken of runs of the same round.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

_GROUP_SECONDS = 0.05  # the clock is read this often


@dataclass(frozen=True)
class Run:
    """One uninterrupted run: how many images (or steps) in how many seconds, and in which round."""

    round: int
    items: float
    seconds: float

    @property
    def rate(self) -> float:
        """Items per second."""
        return self.items / self.seconds


@dataclass(frozen=True)
class Spread:
    """Median, extremes and quartiles of some numbers."""

    median: float
    low: float
    high: float
    lower_quartile: float
    upper_quartile: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """ValueError for no values."""
        if not values:
            raise ValueError("a spread needs at least one value.")
        quartiles = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
        return cls(quartiles[1], min(values), max(values), quartiles[0], quartiles[2], len(values))

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def alternate(
    measures: Mapping[str, Callable[[], tuple[float, float]]],
    rounds: int,
) -> dict[str, list[Run]]:
    """Lets everyone run once a round, in the same order, `rounds` times.

    Args:
        measures: name -> a run, which returns items and seconds.
    """
    runs: dict[str, list[Run]] = {name: [] for name in measures}
    for number in range(rounds):
        for name, measure in measures.items():
            items, seconds = measure()
            runs[name].append(Run(number, items, seconds))
    return runs


def rates(runs: Sequence[Run]) -> Spread:
    """Items per second."""
    return Spread.of([run.rate for run in runs])


def ratios(runs: Sequence[Run], reference: Sequence[Run]) -> Spread:
    """How many times as fast as the reference, of runs of the same round."""
    other = {run.round: run.rate for run in reference}
    return Spread.of([run.rate / other[run.round] for run in runs if run.round in other])


def keep_going(work: Callable[[], int], wait: Callable[[], None], seconds: float) -> tuple[int, float]:
    """Calls `work` for at least `seconds`; (sum of what it returns, seconds that it took).

    Args:
        work: does something and returns how many items that was; on a device it may return before it is done.
        wait: returns when the device is done; called before each look at the clock.
    """
    wait()
    items, calls = 0, 1
    begin = time.perf_counter()
    while True:
        before = time.perf_counter()
        for _ in range(calls):
            items += work()
        wait()
        now = time.perf_counter()
        if now - begin >= seconds:
            return items, now - begin
        calls = max(1, min(2 * calls, int(calls * _GROUP_SECONDS / max(now - before, 1e-9))))
