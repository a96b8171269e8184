"""Pictures of a classifier: confusion, reliability and ROC, and what it owes to how detectable the substructure is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve


def draw_test(
    path: Path,
    probabilities: np.ndarray,
    label: np.ndarray,
    figures: Mapping[str, Any],
    class_names: Sequence[str],
) -> None:
    """Confusion matrix, reliability curve and the ROC curve of each class, side by side.

    Args:
        probabilities, label: `[N, K]` and `[N]`.
        figures: as `metrics.classification_figures` gives them.
    """
    figure = Figure(figsize=(14.5, 4.7), layout="constrained")
    confusion, reliability, roc = figure.subplots(1, 3)
    _draw_confusion(confusion, np.array(figures["confusion"]), class_names)
    _draw_reliability(reliability, figures)
    for number, name in enumerate(class_names):
        area = figures["auc"][name]
        if area["value"] is None:
            continue
        false, true, _ = roc_curve(label == number, probabilities[:, number])
        text = f"{name}: {area['value']:.3f} ({area['low']:.3f} to {area['high']:.3f})"
        roc.plot(false, true, color=f"C{number}", label=text)
    roc.plot([0, 1], [0, 1], color="0.5", linestyle="--", linewidth=1, label="chance")
    roc.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
    macro = figures["macro_auc"]["value"]
    roc.set_title("ROC of each class" + ("" if macro is None else f", macro AUC {macro:.3f}"))
    roc.legend(loc="lower right", fontsize=8, title="AUC (95 % interval)", title_fontsize=8)
    roc.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def draw_detectability(path: Path, bins: Sequence[Mapping[str, float]], classes: int) -> None:
    """Accuracy against detectability.

    Args:
        bins: as `metrics.accuracy_by_detectability` gives them.
        classes: number of classes; its inverse is drawn as chance.
    """
    figure = Figure(figsize=(7.0, 4.4), layout="constrained")
    axis = figure.subplots()
    low, x, high = (np.array([entry[f"{name}_detectability"] for entry in bins]) for name in ("low", "median", "high"))
    if (x > 0).any():  # a chi-square of 0 stands at the left edge
        edge = 0.5 * x[x > 0].min()
        low, x, high = np.maximum(low, edge), np.maximum(x, edge), np.maximum(high, edge)
        axis.set_xscale("log")
    accuracy, error = _with_errors(bins)
    axis.errorbar(x, accuracy, yerr=error, xerr=[x - low, high - x], fmt="o", color="C0", capsize=3,
                  label="median and range of a bin, 95 % interval")  # fmt: skip
    axis.axhline(1 / classes, color="0.5", linestyle="--", label="chance")
    images = sum(int(entry["images"]) for entry in bins)
    axis.set(xlabel="detectability of the substructure (chi-square)", ylabel="accuracy", ylim=(-0.02, 1.02))
    axis.set_title(f"{images:,} test images with substructure")
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(path, dpi=110)


def _draw_confusion(axis: Axes, counts: np.ndarray, class_names: Sequence[str]) -> None:
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row in range(len(counts)):
        for column in range(len(counts)):
            dark = shares[row, column] > 0.5
            text = f"{shares[row, column]:.1%}\n{counts[row, column]:,}"
            axis.text(column, row, text, ha="center", va="center", color="white" if dark else "black")
    ticks = range(len(class_names))
    axis.set_xticks(ticks, class_names)
    axis.set_yticks(ticks, class_names, rotation=90, va="center")
    axis.set(xlabel="predicted class", ylabel="true class")
    axis.set_title(f"{counts.sum():,} test images")


def _draw_reliability(axis: Axes, figures: Mapping[str, Any]) -> None:
    bins = figures["reliability"]
    images = np.array([entry["images"] for entry in bins])
    accuracy, error = _with_errors(bins)
    confidence = np.array([entry["confidence"] for entry in bins])
    axis.plot([0, 1], [0, 1], color="0.5", linestyle="--", linewidth=1, label="perfectly calibrated")
    axis.errorbar(confidence, accuracy, yerr=error, fmt="o-", color="C0", capsize=3, label="95 % interval")
    axis.bar(confidence, images / images.sum(), width=0.02, color="C1", alpha=0.5, label="share of the images")
    axis.set(xlabel="probability of the predicted class", ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02))
    axis.set_title(f"expected calibration error {figures['calibration_error']:.3f}")
    axis.grid(alpha=0.3)
    axis.legend(loc="upper left", fontsize=8)


def _with_errors(bins: Sequence[Mapping[str, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Accuracies `[N]` and the distances `[2, N]` to the ends of their intervals."""
    accuracy, low, high = (np.array([entry[name] for entry in bins]) for name in ("accuracy", "low", "high"))
    return accuracy, np.maximum(0, [accuracy - low, high - accuracy])
