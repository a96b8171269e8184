"""Pictures of the reproduction: accuracies beside the paper's, learning curves, ROC curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from trainers.reproduction.model_table.names import EPOCHS
from trainers.reproduction.runs import Run

_FALSE = np.linspace(0, 1, 201)


def draw_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Accuracy of each model with its interval, a panel for each data; stars are the paper's."""
    every = dict.fromkeys(row["data"] for row in rows if row["seeds"])
    titles = list(dict.fromkeys(row["title"] for row in rows if row["seeds"]))
    figure = Figure(figsize=(3.2 + 2.6 * len(every), 1.6 + 0.42 * len(titles)), layout="constrained")
    for axis, data in zip(figure.subplots(1, len(every), sharey=True, squeeze=False)[0], every, strict=True):
        there = [row for row in rows if row["data"] == data and row["seeds"]]
        places = [titles.index(row["title"]) for row in there]
        value, low, high = (np.array([row["accuracy"][end] for row in there]) for end in ("value", "low", "high"))
        axis.errorbar(value, places, xerr=[value - low, high - value], fmt="o", capsize=3, label="here, 95 %")
        paper = [(row["paper"]["accuracy"], titles.index(row["title"])) for row in there if row["paper"]]
        if paper:
            axis.plot(*zip(*paper, strict=True), "k*", markersize=9, label=f"the paper, {EPOCHS} epochs")
        axis.axvline(1 / 3, color="0.6", linestyle="--", linewidth=0.8, label="chance")
        axis.set(title=f"{data}\n{there[0]['epochs']:.1f} epochs", xlabel="accuracy", xlim=(0.25, 1.02))
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    figure.axes[0].set_yticks(range(len(titles)), titles)
    figure.axes[0].invert_yaxis()
    figure.savefig(path, dpi=110)


def draw_learning(path: Path, rows: Sequence[Mapping[str, Any]], runs: Mapping[str, Sequence[Run]]) -> None:
    """Micro F1 and cross entropy in validation against epochs, and micro-averaged ROC curves (LensPINN's figure 2).

    Args:
        rows: of one data, of models that were reached.
        runs: model -> its runs, of whose curves the mean is drawn.
    """
    figure = Figure(figsize=(15.5, 4.8), layout="constrained")
    score, loss, roc = figure.subplots(1, 3)
    colours = colormaps["tab10" if len(rows) <= 10 else "tab20"]
    for number, row in enumerate(rows):
        colour = colours(number)
        for axis, name in ((score, "f1"), (loss, "loss")):
            curve = row["curves"][name]
            axis.plot(curve["epochs"], curve["mean"], "o-", color=colour, markersize=3, label=row["title"])
            axis.fill_between(curve["epochs"], curve["low"], curve["high"], color=colour, alpha=0.15, linewidth=0)
        mean = np.mean([_micro_roc(run) for run in runs[row["model"]]], axis=0)
        roc.plot(_FALSE, mean, color=colour, label=f"{row['title']}: {row['auc_micro']:.3f}")
    score.set(xlabel="epoch", ylabel="micro F1 of validation images", ylim=(0.25, 1.02))
    loss.set(xlabel="epoch", ylabel="cross entropy of validation images", yscale="log")
    roc.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
    roc.plot([0, 1], [0, 1], color="0.5", linestyle="--", linewidth=1)
    score.set_title("lines: mean of the seeds, bands: their range")
    roc.set_title("micro-averaged ROC of test images")
    score.legend(fontsize=7)
    roc.legend(fontsize=7, title="area", title_fontsize=7)
    for axis in (score, loss, roc):
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def _micro_roc(run: Run) -> np.ndarray:
    """True positive rates at `_FALSE` of all classes' decisions together."""
    probability = run.predictions["probability"]
    right = run.predictions["label"][:, None] == np.arange(probability.shape[1])
    false, true, _ = roc_curve(right.ravel(), probability.ravel())
    return np.interp(_FALSE, false, true)
