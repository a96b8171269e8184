"""Figures with their intervals: means of seeds, differences put into words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from trainers.reproduction.paired import seed_slack

Estimate = dict[str, float]
INTERVALS = (
    "A figure is the mean of the seeds; its 95 % interval, in brackets, is that of a bootstrap over the test images "
    "and, by Student's t, of other seeds; with one seed, of this network alone."
)
DIFFERENCES = (
    "95 % intervals by bootstrap over the images and, by Student's t of the differences between networks of the same "
    "seed, over seeds; with one network each they are of these two networks, and say nothing of how other seeds would "
    "have come out."
)


def mean_of_seeds(parts: Sequence[Mapping[str, float]]) -> Estimate:
    """The mean of some estimates, one of each seed, whose intervals are over the same test images.

    The interval has the images' share, on average over the seeds, and that of other seeds (`seed_slack`).
    """
    value = float(np.mean([part["value"] for part in parts]))
    slack = seed_slack([part["value"] for part in parts])
    below, above = (float(np.mean([abs(part[end] - part["value"]) for part in parts])) for end in ("low", "high"))
    return {"value": value, "low": value - math.hypot(below, slack), "high": value + math.hypot(above, slack)}


def words(estimate: Mapping[str, float], digits: int) -> str:
    """E.g. "0.968 (0.961 to 0.974)"."""
    return f"{estimate['value']:.{digits}f} ({estimate['low']:.{digits}f} to {estimate['high']:.{digits}f})"


def signed(gap: Mapping[str, float], digits: int = 3) -> str:
    """Likewise of a difference, with its sign."""
    return f"{gap['value']:+.{digits}f} ({gap['low']:+.{digits}f} to {gap['high']:+.{digits}f})"


def verdict(gap: Mapping[str, float], above: str = "above", below: str = "below") -> str:
    """`above` or `below` where the whole interval of a difference is, else "undecided"."""
    return above if gap["low"] > 0 else below if gap["high"] < 0 else "undecided"
