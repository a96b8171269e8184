"""Collapse: a network that gives all images the same projection solves many a self-supervised task, and knows nothing.

Complete collapse: the deviation of normalised projections falls to 0 (Chen & He 2020, arXiv 2011.10566, figure 2).
Dimensional collapse: they vary along one direction alone (Jing et al. 2022, arXiv 2110.09348).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from trainers.probes import effective_rank, unit

LEAST_DEVIATION = 0.2  # a mean cosine of .96 between different images; healthy runs come to a deviation of .4 to 1
LEAST_RANK = 1.5  # 1 is a line


def spread(projections: np.ndarray) -> dict[str, float]:
    """How far the projections `[N, D]` of different images are apart.

    Returns:
        `projection_deviation`: of the normalised projections, root mean square, from their mean: 1 where they point
        everywhere alike, 0 where all are the same. (The figure has the mean of the components' deviations, times
        sqrt(D), which is small too where few of many classes are told apart.) `projection_rank`: RankMe of their
        differences from their mean.
    """
    direction = unit(projections)
    return {
        "projection_deviation": float(np.sqrt(direction.var(axis=0).sum())),
        "projection_rank": effective_rank(direction - direction.mean(axis=0)),
    }


def collapse(figures: Mapping[str, float]) -> str:
    """In words what has collapsed, by the figures of `spread`; "" if nothing has."""
    deviation, rank = figures["projection_deviation"], figures["projection_rank"]
    if deviation < LEAST_DEVIATION:
        return (
            f"the projections of different images are nearly the same: their mean cosine is {1 - deviation**2:.4f} "
            f"(collapsed above {1 - LEAST_DEVIATION**2:.2f})"
        )
    if rank < LEAST_RANK:
        return f"the projections lie along a line: their rank is {rank:.2g} (collapsed below {LEAST_RANK:g})"
    return ""
