"""Statistics and turns, with clocks of our own: nothing here measures speed."""

from __future__ import annotations

import pytest

from profiles import timing
from profiles.report import number
from profiles.timing import Run, Spread, alternate, keep_going, rates, ratios


def test_everyone_runs_once_a_round_in_the_same_order():
    order = []
    measures = {name: lambda name=name: (order.append(name), (2.0, 1.0))[1] for name in "ABC"}
    runs = alternate(measures, rounds=3)
    assert order == list("ABCABCABC")
    assert {name: [run.round for run in own] for name, own in runs.items()} == {name: [0, 1, 2] for name in "ABC"}


def test_spread_is_median_extremes_and_quartiles():
    spread = Spread.of([5.0, 1.0, 3.0, 2.0, 4.0])
    assert (spread.median, spread.low, spread.high) == (3.0, 1.0, 5.0)
    assert (spread.lower_quartile, spread.upper_quartile, spread.count) == (2.0, 4.0, 5)
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0, 7.0, 7.0, 1)
    with pytest.raises(ValueError, match="at least one"):
        Spread.of([])


def test_ratios_are_of_the_same_round():
    """A machine that halves its speed after the first round leaves the ratio as it is."""
    fast = [Run(0, 40, 1.0), Run(1, 20, 1.0)]
    slow = [Run(0, 10, 1.0), Run(1, 10, 2.0)]
    assert ratios(fast, slow) == Spread(4.0, 4.0, 4.0, 4.0, 4.0, 2)
    assert rates(fast).median == 30.0


class Clock:
    """Time passes only while work is done."""

    def __init__(self, seconds: float) -> None:
        self.now, self.seconds = 0.0, seconds

    def perf_counter(self) -> float:
        return self.now

    def work(self) -> int:
        self.now += self.seconds
        return 3


@pytest.mark.parametrize("cost", [1e-4, 0.02, 5.0])
def test_a_run_lasts_as_long_as_was_asked_and_counts_everything(monkeypatch, cost):
    clock, waits = Clock(cost), []
    monkeypatch.setattr(timing.time, "perf_counter", clock.perf_counter)
    items, seconds = keep_going(clock.work, lambda: waits.append(clock.now), 1.0)
    assert seconds >= 1.0 and seconds < 1.0 + max(2 * cost, 0.2)
    assert items == pytest.approx(3 * seconds / cost)
    assert waits[0] == 0.0 and waits[-1] == pytest.approx(seconds), "the device is waited for before the clock is read"


@pytest.mark.parametrize(
    ("value", "text"),
    [(12345.6, "12,300"), (999.6, "1,000"), (123.4, "123"), (1.2345, "1.23"), (0.01234, "0.0123"), (0.0, "0")],
)
def test_numbers_are_rounded_to_what_is_known(value, text):
    assert number(value) == text
