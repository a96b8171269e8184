"""Differences of two methods on the same test images, with intervals: pairs tell what separate intervals cannot."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import rankdata

from trainers.metrics import aucs_of_ranks

_RESAMPLES = 1000


def dense_ranks(probability: np.ndarray) -> np.ndarray:
    """Ranks from 0 of `[N, K]` in each column, ties alike, as `trainers.metrics.aucs_of_ranks` takes them."""
    return np.stack([rankdata(column, method="dense") for column in probability.T], axis=1) - 1


def auc_difference(one: Sequence[np.ndarray], other: Sequence[np.ndarray], label: np.ndarray) -> dict[str, float]:
    """Mean macro AUC of some networks minus that of others; `value` and the 95 % interval `low`, `high`.

    The interval is a bootstrap over the test images and over the networks of each side, one for each seed. With one
    network a side it is of these two networks alone, and says nothing of how others would have come out.

    Args:
        one, other: of each network the `dense_ranks` `[N, K]` of the same N images.
        label: `[N]`
    """
    return _difference(one, other, lambda ranks, rows: float(np.mean(aucs_of_ranks(ranks[rows], label[rows]))))


def mean_difference(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> dict[str, float]:
    """Likewise, of the mean of a figure that each image has: `[N]` of each network."""
    return _difference(one, other, lambda values, rows: float(values[rows].mean()))


def rmse_difference(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> dict[str, float]:
    """Likewise, of the root of the mean of the squared errors `[N]` of each network."""
    return _difference(one, other, lambda squares, rows: float(np.sqrt(squares[rows].mean())))


def mean_estimate(one: Sequence[np.ndarray]) -> dict[str, float]:
    """The mean itself of a figure `[N]` of each network, with the interval over images and networks."""
    return mean_difference(one, [np.zeros(len(one[0]))])


def _difference(
    one: Sequence[np.ndarray], other: Sequence[np.ndarray], figure: Callable[[np.ndarray, np.ndarray], float]
) -> dict[str, float]:
    rng, size = np.random.default_rng(0), len(one[0])

    def gap(rows: np.ndarray, ones: np.ndarray, others: np.ndarray) -> float:
        # a network that was drawn twice is worked out once
        sides = []
        for networks, drawn in ((one, ones), (other, others)):
            values = {number: figure(networks[number], rows) for number in set(drawn.tolist())}
            sides.append(np.mean([values[number] for number in drawn.tolist()]))
        return float(sides[0] - sides[1])

    gaps = [
        gap(rng.integers(0, size, size), rng.integers(0, len(one), len(one)), rng.integers(0, len(other), len(other)))
        for _ in range(_RESAMPLES)
    ]
    low, high = np.nanquantile(gaps, [0.025, 0.975])
    value = gap(np.arange(size), np.arange(len(one)), np.arange(len(other)))
    return {"value": value, "low": float(low), "high": float(high)}
