"""Differences of two methods on the same test images, with intervals: pairs tell what separate intervals cannot."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import rankdata, t

from trainers.metrics import aucs_of_ranks

_RESAMPLES = 1000


def dense_ranks(probability: np.ndarray) -> np.ndarray:
    """Ranks from 0 of `[N, K]` in each column, ties alike, as `trainers.metrics.aucs_of_ranks` takes them."""
    return np.stack([rankdata(column, method="dense") for column in probability.T], axis=1) - 1


def auc_difference(one: Sequence[np.ndarray], other: Sequence[np.ndarray], label: np.ndarray) -> dict[str, float]:
    """Mean macro AUC of some networks minus that of others; `value` and the 95 % interval `low`, `high`.

    Networks are paired: number k of both sides has the same seed, and so the same images in training. The interval is
    that of a bootstrap over the test images and, by Student's t of the pairs' differences, of other seeds, the two
    added as independent errors: a bootstrap over three seeds would hold the truth three times in four. With one network
    a side it is of these two networks alone, and says nothing of how others would have come out.

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


def auc_estimate(one: Sequence[np.ndarray], label: np.ndarray) -> dict[str, float]:
    """The macro AUC itself, with the interval over images and seeds; arguments as of `auc_difference`."""
    gap = auc_difference(one, [np.zeros_like(ranks) for ranks in one], label)  # of those that know nothing it is 0.5
    return {name: 0.5 + value for name, value in gap.items()}


def seed_slack(values: Sequence[float]) -> float:
    """Half of the 95 % interval of the mean over seeds, by Student's t; 0 for one seed, of which nothing is known."""
    count = len(values)
    return float(t.ppf(0.975, count - 1) * np.std(values, ddof=1) / count**0.5) if count > 1 else 0.0


def _difference(
    one: Sequence[np.ndarray], other: Sequence[np.ndarray], figure: Callable[[np.ndarray, np.ndarray], float]
) -> dict[str, float]:
    rng, size = np.random.default_rng(0), len(one[0])

    def gaps(rows: np.ndarray) -> list[float]:
        return [figure(a, rows) - figure(b, rows) for a, b in zip(one, other, strict=True)]

    each = gaps(np.arange(size))
    value, slack = float(np.mean(each)), seed_slack(each)
    low, high = np.nanquantile([np.mean(gaps(rng.integers(0, size, size))) for _ in range(_RESAMPLES)], [0.025, 0.975])
    return {
        "value": value,
        "low": value - math.hypot(value - float(low), slack),
        "high": value + math.hypot(float(high) - value, slack),
    }
