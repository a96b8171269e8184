"""Figures with their intervals: means of seeds, differences put into words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

Estimate = dict[str, float]
INTERVALS = (
    "A figure is the mean of the seeds; its interval, in brackets, reaches from the lowest to the highest end of the "
    "seeds' 95 % bootstrap intervals over the test images."
)
DIFFERENCES = (
    "95 % intervals by bootstrap over the images and the seeds; with one network each they are of these two networks, "
    "and say nothing of how other seeds would have come out."
)


def mean_of_seeds(parts: Sequence[Mapping[str, float]]) -> Estimate:
    """The mean of some estimates, from the lowest lower to the highest upper end.

    That is wider than the interval of the mean would be.
    """
    return {
        "value": float(np.mean([part["value"] for part in parts])),
        "low": min(part["low"] for part in parts),
        "high": max(part["high"] for part in parts),
    }


def words(estimate: Mapping[str, float], digits: int) -> str:
    """E.g. "0.968 (0.961 to 0.974)"."""
    return f"{estimate['value']:.{digits}f} ({estimate['low']:.{digits}f} to {estimate['high']:.{digits}f})"


def signed(gap: Mapping[str, float], digits: int = 3) -> str:
    """Likewise of a difference, with its sign."""
    return f"{gap['value']:+.{digits}f} ({gap['low']:+.{digits}f} to {gap['high']:+.{digits}f})"


def verdict(gap: Mapping[str, float], above: str = "above", below: str = "below") -> str:
    """`above` or `below` where the whole interval of a difference is, else "undecided"."""
    return above if gap["low"] > 0 else below if gap["high"] < 0 else "undecided"
