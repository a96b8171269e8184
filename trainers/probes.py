"""Probes: what can be read off frozen features by the simplest means.

A loss alone misleads: features are judged by a kNN and a linear classifier of the class, by ridge regressions of the
lens's parameters, and by their effective rank; of two views of each image by how near they are and how far others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from sklearn.linear_model import RidgeClassifierCV, RidgeCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from trainers.data import Batch

PENALTIES = np.logspace(-2, 4, 13)


def probe(
    features: Callable[[Tensor], Tensor], fit: Batch, score: Batch, targets: Sequence[str], neighbours: int
) -> dict[str, float]:
    """Figures of frozen features, fitted on `fit` and scored on `score`.

    Args:
        features: images `[B, C, H, W]` -> `[B, D]`.
        targets: names in `params` to regress.
        neighbours: of the kNN classifier (cosine distance of standardised features).

    Returns:
        `knn_accuracy`, `linear_accuracy` (both only if there is more than one class), `r2/<target>` (1 is perfect, 0 is
        no better than the mean), and `feature_rank` (RankMe: Garrido et al. 2023, arXiv 2210.02885, eq. 1).
    """
    train, test = in_chunks(features, fit.image), in_chunks(features, score.image)
    figures: dict[str, float] = {}
    labels, truth = fit.label.cpu().numpy(), score.label.cpu().numpy()
    if len(np.unique(labels)) > 1:
        nearest = make_pipeline(StandardScaler(), KNeighborsClassifier(neighbours, metric="cosine"))
        linear = make_pipeline(StandardScaler(), RidgeClassifierCV(PENALTIES))
        figures["knn_accuracy"] = float(nearest.fit(train, labels).score(test, truth))
        figures["linear_accuracy"] = float(linear.fit(train, labels).score(test, truth))
    for name in targets:
        ridge = make_pipeline(StandardScaler(), RidgeCV(PENALTIES))
        ridge.fit(train, fit.params[name].cpu().numpy())
        figures[f"r2/{name}"] = float(ridge.score(test, score.params[name].cpu().numpy()))
    figures["feature_rank"] = effective_rank(test)
    return figures


def in_chunks(function: Callable[[Tensor], Tensor], images: Tensor, size: int = 250) -> np.ndarray:
    """`function` over images `[N, C, H, W]`, `size` at a time and without gradients: `[N, D]` float32."""
    with torch.no_grad():
        parts = [function(chunk).float().cpu() for chunk in images.split(size)]
    return torch.cat(parts).numpy()


def effective_rank(features: np.ndarray) -> float:
    """exp of the entropy of the normalised singular values of `[N, D]`: between 1 and min(N, D)."""
    singular = np.linalg.svd(features.astype(np.float64), compute_uv=False)
    weights = singular / max(singular.sum(), 1e-300) + 1e-12  # all the same: rank 1
    return float(np.exp(-(weights * np.log(weights)).sum()))


def alignment(one: np.ndarray, two: np.ndarray) -> float:
    """Mean squared distance between the normalised features `[N, D]` of two views of the same images; 0 is the best.

    Wang & Isola 2020, arXiv 2005.10242, section 4.1, with alpha = 2.
    """
    return float(np.square(unit(one) - unit(two)).sum(axis=1).mean())


def uniformity(features: np.ndarray) -> float:
    """Logarithm of the mean of exp(-2 d^2) over all pairs of normalised features `[N, D]`; 0 where all are the same.

    The least possible is about -4, where they are spread evenly over the sphere. As `alignment`, with t = 2.
    """
    distance = torch.pdist(torch.from_numpy(unit(features)))
    return float(distance.square().mul(-2).exp().mean().log())


def unit(features: np.ndarray) -> np.ndarray:
    """Features `[N, D]` normalised to length 1, in float64."""
    wide = features.astype(np.float64)
    return wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
