"""Collapse: a network that gives all images the same projection solves many a self-supervised task, and knows nothing.

Complete collapse: the deviation of normalised projections falls to 0 (Chen & He 2020, arXiv 2011.10566, figure 2).
Dimensional collapse: they vary along one direction alone (Jing et al. 2022, arXiv 2110.09348).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import Tensor

from trainers.probes import alignment, effective_rank, in_chunks, uniformity, unit

MOST_PAIRS = 500  # a projection may have 65,536 components, and pairs of pairs are many
LEAST_DEVIATION = 0.2  # a mean cosine of .96 between different images; healthy runs come to a deviation of .4 to 1
FALLEN = 0.5  # of what it was before; untrained networks too may give all images nearly the same
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


def geometry(project: Callable[[Tensor], Tensor], views: Sequence[Tensor]) -> dict[str, float]:
    """How the projections of two views of each image lie on the sphere on which losses compare them.

    Args:
        project: transformed images `[B, C, H, W]` -> `[B, D]`.
        views: two, transformed, `[N, C, H, W]`, of which the first `MOST_PAIRS` are taken.

    Returns:
        `alignment` and `uniformity` (`trainers.probes`), and what `spread` gives.
    """
    one, two = (in_chunks(project, view[:MOST_PAIRS]) for view in views)
    return {
        "alignment": alignment(one, two),
        "uniformity": (uniformity(one) + uniformity(two)) / 2,
        **spread(one),
    }


def spreads(figures: Mapping[str, float]) -> bool:
    """Whether the projections of different images are apart, by the figures of `spread`."""
    return figures["projection_deviation"] >= LEAST_DEVIATION


def collapse(figures: Mapping[str, float], before: Sequence[float]) -> str:
    """In words what has collapsed, by the figures of `spread`; "" if nothing has.

    Args:
        before: `projection_deviation` at earlier steps, that of the untrained network first. Projections that are alike
            and never were farther apart have not collapsed: they have not spread yet.
    """
    if not before:
        return ""
    deviation, rank = figures["projection_deviation"], figures["projection_rank"]
    if not spreads(figures) and deviation < FALLEN * max(before):
        return (
            f"the projections of different images have become nearly the same: their mean cosine is "
            f"{1 - deviation**2:.4f} (collapsed above {1 - LEAST_DEVIATION**2:.2f})"
        )
    if rank < LEAST_RANK:
        return f"the projections lie along a line: their rank is {rank:.2g} (collapsed below {LEAST_RANK:g})"
    return ""
