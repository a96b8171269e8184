"""How good a classifier is: figures of its probabilities, each with an interval where it is an estimate.

AUC, accuracy, confusion and calibration error are torchmetrics'. Intervals are bootstraps over the images.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_auroc,
    multiclass_calibration_error,
    multiclass_confusion_matrix,
)

CALIBRATION_BINS = 15


def classification_figures(
    probabilities: Tensor, label: Tensor, class_names: tuple[str, ...], resamples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Everything that is said of a classifier on some images, as JSON can hold it.

    Args:
        probabilities: `[N, K]`, rows that sum to 1.
        label: `[N]`, 0 to K - 1.

    Returns:
        `images`, `macro_auc`, `accuracy` (micro: of all images alike) and `auc` by class, each `{"value", "low",
        "high"}` with a 95 % bootstrap interval (null where a class is missing); `calibration_error` (expected, with
        `CALIBRATION_BINS` equal bins of the confidence); `confusion`, whose rows are the true classes; `reliability`.
    """
    probabilities, label = probabilities.cpu(), label.cpu()
    classes = len(class_names)
    auc = class_aucs(probabilities, label)
    accuracy = float(multiclass_accuracy(probabilities, label, classes, average="micro"))
    # ranks among all images: a resample needs no sorting of its own
    ranks = np.stack([np.unique(column, return_inverse=True)[1] for column in probabilities.numpy().T], axis=1)
    right = (probabilities.argmax(dim=1) == label).numpy()
    intervals = bootstrap_interval(
        lambda ranks, label, right: np.array([*with_mean(aucs_of_ranks(ranks, label)), right.mean()]),
        ranks, label.numpy(), right, resamples=resamples, seed=seed,
    )  # fmt: skip
    estimates = [
        estimate(value, *interval) for value, interval in zip([*with_mean(auc), accuracy], intervals, strict=True)
    ]
    return {
        "images": len(label),
        "macro_auc": estimates[-2],
        "accuracy": estimates[-1],
        "auc": dict(zip(class_names, estimates, strict=False)),
        "calibration_error": float(multiclass_calibration_error(probabilities, label, classes, CALIBRATION_BINS)),
        "confusion": multiclass_confusion_matrix(probabilities, label, classes).tolist(),
        "reliability": reliability_curve(probabilities.numpy(), label.numpy()),
    }


def class_aucs(probabilities: Tensor, label: Tensor) -> np.ndarray:
    """Area under the ROC curve of each class against the rest `[K]`; NaN for a class that is missing, or alone."""
    classes = probabilities.shape[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torchmetrics says so and takes 0 for a class that is missing
        auc = cast(Tensor, multiclass_auroc(probabilities.float(), label, classes, average="none")).cpu().numpy()
    count = torch.bincount(label, minlength=classes).cpu().numpy()
    return np.where((count == 0) | (count == len(label)), np.nan, auc)


def with_mean(auc: np.ndarray) -> np.ndarray:
    """AUC of each class `[K]` and, after them, of the classes that are there the mean: the macro AUC."""
    there = auc[np.isfinite(auc)]
    return np.append(auc, there.mean() if there.size else np.nan)


def aucs_of_ranks(ranks: np.ndarray, label: np.ndarray) -> np.ndarray:
    """`class_aucs` of dense ranks `[N, K]` (integers from 0) in place of probabilities, quickly.

    The AUC is the probability that a positive outranks a negative, ties counting half (Hanley & McNeil 1982). With
    ranks counted rather than sorted this takes O(N), which a bootstrap needs.
    """
    auc = np.full(ranks.shape[1], np.nan)
    for number, column in enumerate(ranks.T):
        everybody = np.bincount(column)
        positive = np.bincount(column[label == number], minlength=len(everybody))
        negative = everybody - positive
        pairs = float(positive.sum()) * float(negative.sum())
        if pairs:
            auc[number] = float(positive @ (np.cumsum(negative) - 0.5 * negative)) / pairs
    return auc


def bootstrap_interval(
    statistic: Callable[..., Any], *arrays: np.ndarray, resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> np.ndarray:
    """Percentile interval of a statistic of rows that are drawn with replacement (Efron 1979).

    Args:
        statistic: of the resampled arrays, a number or an array of numbers `[...]`; NaN where a resample does not
            define it, which is left out.
        arrays: each `[N, ...]`; their rows belong together.
        level: probability that the interval is to hold.

    Returns:
        `[..., 2]`, the lower and the upper end; NaN where no resample defines the statistic.
    """
    rng = np.random.default_rng(seed)
    size = len(arrays[0])
    drawn = []
    for _ in range(resamples):
        rows = rng.integers(0, size, size)
        drawn.append(statistic(*(array[rows] for array in arrays)))
    tails = [(1 - level) / 2, (1 + level) / 2]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        return np.moveaxis(np.nanquantile(np.array(drawn, dtype=np.float64), tails, axis=0), 0, -1)


def reliability_curve(probabilities: np.ndarray, label: np.ndarray) -> list[dict[str, float]]:
    """How often the predicted class is right, in equal bins of its probability; bins without an image are left out.

    Args:
        probabilities: `[N, K]`
        label: `[N]`
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == label
    place = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
    return [
        {"confidence": float(confidence[place == number].mean()), **share(right[place == number])}
        for number in np.unique(place)
    ]


def accuracy_by_detectability(right: np.ndarray, detectability: np.ndarray, bins: int = 8) -> list[dict[str, float]]:
    """Accuracy in bins of as many images each, from the least to the most detectable.

    Args:
        right: `[N]` bool, whether an image was classified rightly.
        detectability: `[N]`, chi-square of what is to be detected.
    """
    order = np.argsort(detectability, kind="stable")
    return [
        {
            "low_detectability": float(detectability[part].min()),
            "high_detectability": float(detectability[part].max()),
            "median_detectability": float(np.median(detectability[part])),
            **share(right[part]),
        }
        for part in np.array_split(order, min(bins, max(1, len(order) // 10)))
        if part.size
    ]


def share(right: np.ndarray) -> dict[str, float]:
    """`accuracy` of `[N]` bools, `low` and `high` of its 95 % interval (Wilson 1927), and the number of `images`."""
    size, z = len(right), 1.959964
    mean, slack = float(right.mean()), z**2 / len(right)
    centre = (mean + slack / 2) / (1 + slack)
    half = z * math.sqrt(mean * (1 - mean) / size + slack / (4 * size)) / (1 + slack)
    return {"accuracy": mean, "low": max(0.0, centre - half), "high": min(1.0, centre + half), "images": size}


def estimate(value: float, low: float, high: float) -> dict[str, float | None]:
    """A figure and its interval as JSON can hold them: None for what is not finite."""
    numbers = {"value": value, "low": low, "high": high}
    return {name: float(number) if np.isfinite(number) else None for name, number in numbers.items()}


def root_mean_square(error: np.ndarray) -> float:
    """Of `[N]`."""
    return float(np.sqrt(np.square(error).mean()))
