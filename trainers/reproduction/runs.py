"""Finished runs of several seeds, and differences between two groups of them on the same test images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainers.classify_evaluation import PREDICTIONS
from trainers.reproduction.cell import read_result
from trainers.reproduction.estimates import verdict
from trainers.reproduction.paired import auc_difference, dense_ranks, mean_difference


@dataclass(frozen=True)
class Run:
    """A finished run: `summary.json`, `metrics.json` and the arrays of `predictions.npz`."""

    summary: dict[str, Any]
    metrics: dict[str, Any]
    predictions: dict[str, np.ndarray]


def finished(root: Path, names: Iterable[str]) -> list[Run]:
    """Those of the runs of these names that are done."""
    found = []
    for name in names:
        summary, metrics = read_result(root, name)
        if summary and metrics:
            with np.load(root / name / PREDICTIONS) as file:
                found.append(Run(summary, metrics, dict(file)))
    return found


def require_same_images(runs: Sequence[Run]) -> None:
    """Differences are of the same test images in the same order."""
    assert all(np.array_equal(run.predictions["index"], runs[0].predictions["index"]) for run in runs)


def right(run: Run, name: str = "probability") -> np.ndarray:
    """Whether each image `[N]` was classified rightly, 0.0 or 1.0."""
    return (run.predictions[name].argmax(axis=1) == run.predictions["label"]).astype(float)


def gain(one: Sequence[Run], other: Sequence[Run], name: str = "probability", other_name: str = "") -> dict[str, Any]:
    """Macro AUC and accuracy of some classifiers minus those of others.

    Args:
        name, other_name: of the probabilities in `predictions.npz`; the second is as the first where it is not given.

    Returns:
        `macro_auc` and `accuracy`, each with `value`, `low`, `high` and a `verdict`: better, worse or undecided.
    """
    require_same_images([*one, *other])
    other_name = other_name or name
    ranks = [dense_ranks(run.predictions[name]) for run in one]
    others = [dense_ranks(run.predictions[other_name]) for run in other]
    gaps = {
        "macro_auc": auc_difference(ranks, others, one[0].predictions["label"]),
        "accuracy": mean_difference([right(run, name) for run in one], [right(run, other_name) for run in other]),
    }
    return {figure: {**gap, "verdict": verdict(gap, "better", "worse")} for figure, gap in gaps.items()}


def images(runs: Sequence[Run]) -> dict[str, int]:
    """How many images each of these runs was trained on, and how many of them were different."""
    return {name: runs[-1].summary[name] for name in ("images_seen", "images_distinct")}
