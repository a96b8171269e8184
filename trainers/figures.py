"""Pictures of a run: reconstructions and loss curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from trainers.logs import read_table


def draw_reconstructions(
    path: Path,
    original: np.ndarray,
    masked: np.ndarray,
    reconstruction: np.ndarray,
    names: Sequence[str],
    title: str,
    half_width: float,
    unit: str,
) -> None:
    """A row a lens: original, what the encoder saw, reconstruction, residual.

    Args:
        original, masked, reconstruction: transformed images `[N, H, W]`; NaN where masked.
        names: `[N]`, class of each lens.
        half_width: half of the image's side, in `unit`.
    """
    figure = Figure(figsize=(11.5, 2.45 * len(original) + 0.9), layout="constrained")
    axes = figure.subplots(len(original), 4, squeeze=False, sharex=True, sharey=True)
    extent = (-half_width, half_width, -half_width, half_width)
    residual = reconstruction - original
    reach = float(np.quantile(np.abs(residual), 0.999)) or 1.0
    for row, name in enumerate(names):
        low, high = float(original[row].min()), float(original[row].max())
        for column, image in enumerate((original, masked, reconstruction)):
            axis = axes[row, column]
            axis.set_facecolor("0.6")
            shown = axis.imshow(image[row], cmap="inferno", vmin=low, vmax=high, origin="lower", extent=extent)
        figure.colorbar(shown, ax=axes[row, :3], pad=0.01, aspect=14, label="asinh(flux / noise)")
        centred = TwoSlopeNorm(0.0, -reach, reach)
        shown = axes[row, 3].imshow(residual[row], cmap="RdBu_r", norm=centred, origin="lower", extent=extent)
        figure.colorbar(shown, ax=axes[row, 3], pad=0.02, aspect=14, label="difference")
        axes[row, 0].set_ylabel(f"{name}\n\ny [{unit}]")
    for axis, heading in zip(axes[0], ("original", "seen by the encoder", "reconstruction", "residual"), strict=True):
        axis.set_title(heading)
    for axis in axes[-1]:
        axis.set_xlabel(f"x [{unit}]")
    figure.suptitle(title)
    figure.savefig(path, dpi=110)


def draw_loss_curve(path: Path, run: Path, baseline: float, baseline_name: str) -> None:
    """Training and validation loss against steps, from the CSV files of a run, with a line at `baseline`."""
    train, validation = read_table(run / "train.csv"), read_table(run / "validation.csv")
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axis = figure.subplots()
    draw_training_losses(axis, train)
    axis.plot(
        [int(row["step"]) for row in validation],
        [float(row["masked_mse"]) for row in validation],
        "o-", color="C1", label="validation",
    )  # fmt: skip
    axis.axhline(baseline, color="0.3", linestyle="--", label=baseline_name)
    axis.set(xlabel="step", ylabel="masked mean squared error", yscale="log")
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(path, dpi=110)


def draw_training_losses(axis: Axes, train: list[dict[str, str]]) -> None:
    """The loss of each step and its running mean, from the rows of `train.csv`."""
    steps = np.array([int(row["step"]) for row in train])
    losses = np.array([float(row["loss"]) for row in train])
    axis.plot(steps, losses, color="C0", alpha=0.3, linewidth=0.8, label="training, each step")
    width = max(1, len(losses) // 50)
    if width > 1:
        smooth = np.convolve(losses, np.ones(width) / width, mode="valid")
        axis.plot(steps[width - 1 :], smooth, color="C0", label=f"training, mean of {width} steps")
