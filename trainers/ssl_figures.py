"""Pictures of a run of self-supervision: its views, its loss, its probes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from trainers.figures import draw_training_losses
from trainers.logs import read_table


def draw_views(
    path: Path, images: np.ndarray, views: Sequence[np.ndarray], names: Sequence[str], heading: str, unit: str
) -> None:
    """Transformed images in a row, and each of their views in a row below.

    Args:
        images: `[N, H, W]`.
        views: each `[N, H, W]`.
        names: the class of each lens.
        heading: what the views are.
        unit: of the pixels' values.
    """
    figure = Figure(figsize=(1.7 * len(images) + 1.4, 1.75 * (1 + len(views)) + 0.7), layout="constrained")
    axes = figure.subplots(1 + len(views), len(images), squeeze=False)
    for column, name in enumerate(names):
        low, high = float(images[column].min()), float(images[column].max())
        for row, shown in enumerate((images, *views)):
            mapped = axes[row, column].imshow(shown[column], cmap="inferno", vmin=low, vmax=high, origin="lower")
            axes[row, column].set(xticks=[], yticks=[])
        figure.colorbar(mapped, ax=axes[:, column], location="bottom", aspect=12, pad=0.02)
        axes[0, column].set_title(name)
    for row in range(1 + len(views)):
        axes[row, 0].set_ylabel(f"view {row}" if row else "image")
    figure.suptitle(f"{heading} [{unit}]")
    figure.savefig(path, dpi=110)


def draw_loss(path: Path, run: Path, method: str) -> None:
    """The loss of each step, from `train.csv`."""
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axis = figure.subplots()
    draw_training_losses(axis, read_table(run / "train.csv"))
    axis.set(xlabel="step", ylabel=f"loss of {method}")
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(path, dpi=110)


def draw_probes(path: Path, run: Path, chance: float) -> None:
    """Probes, and how the features lie, against steps, from `validation.csv`."""
    rows = read_table(run / "validation.csv")
    steps = [int(row["step"]) for row in rows]
    figure = Figure(figsize=(13.5, 4.2), layout="constrained")
    accuracy, sphere, ranks = figure.subplots(1, 3)
    for axis, names in (
        (accuracy, ("linear_accuracy", "knn_accuracy")),
        (sphere, ("alignment", "uniformity", "projection_deviation")),
        (ranks, ("feature_rank", "projection_rank")),
    ):
        for name in (name for name in names if name in rows[0]):
            axis.plot(steps, [float(row[name]) for row in rows], "o-", markersize=4, label=name.replace("_", " "))
        axis.set(xlabel="step")
        axis.grid(alpha=0.3)
    accuracy.axhline(chance, color="0.5", linestyle="--", label="chance")
    accuracy.set(ylabel="accuracy of the class")
    sphere.set(ylabel="on the unit sphere")
    ranks.set(ylabel="effective rank (RankMe)", yscale="log")
    for axis in (accuracy, sphere, ranks):
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=110)
