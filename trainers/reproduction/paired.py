"""Differences of two methods on the same test images, with intervals: pairs tell what separate intervals cannot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from trainers.metrics import aucs_of_ranks, bootstrap_interval


def dense_ranks(probability: np.ndarray) -> np.ndarray:
    """Ranks from 0 of `[N, K]` in each column, ties alike, as `trainers.metrics.aucs_of_ranks` takes them."""
    return np.stack([rankdata(column, method="dense") for column in probability.T], axis=1) - 1


def auc_difference(one: Sequence[np.ndarray], other: Sequence[np.ndarray], label: np.ndarray) -> dict[str, float]:
    """Mean macro AUC of some networks minus that of others; `value` and the 95 % interval `low`, `high`.

    The interval is a bootstrap over the images, which holds the networks fixed: their spread is that of the seeds.

    Args:
        one, other: of each network the `dense_ranks` `[N, K]` of the same N images.
        label: `[N]`
    """

    def gap(label: np.ndarray, *ranks: np.ndarray) -> float:
        auc = [float(np.mean(aucs_of_ranks(rank, label))) for rank in ranks]
        return float(np.mean(auc[: len(one)]) - np.mean(auc[len(one) :]))

    return _with_interval(gap(label, *one, *other), bootstrap_interval(gap, label, *one, *other))


def mean_difference(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> dict[str, float]:
    """Likewise, of the mean of a figure that each image has: `[N]` of each network."""
    gap = np.mean(one, axis=0) - np.mean(other, axis=0)
    return _with_interval(float(gap.mean()), bootstrap_interval(np.mean, gap))


def _with_interval(value: float, interval: np.ndarray) -> dict[str, float]:
    return {"value": value, "low": float(interval[0]), "high": float(interval[1])}
