"""Pictures of a super-resolution run: what came out of which image, and how training went."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import AsinhNorm, Normalize
from matplotlib.figure import Figure

from trainers.figures import draw_training_losses
from trainers.logs import read_table

PICTURES = ("low resolution", "bicubic", "prediction", "truth")


def draw_enlargements(
    path: Path,
    pictures: Sequence[np.ndarray],
    names: Sequence[str],
    title: str,
    half_width: float,
    unit: str,
) -> None:
    """A row a lens: low resolution, bicubic, prediction, truth, and the residuals of bicubic and prediction.

    Args:
        pictures: low resolution `[N, h, h]`, and bicubic, prediction, truth `[N, H, H]`; all are flux per fine pixel
            over the data range.
        names: `[N]`, class of each lens.
        half_width: half of the images' side, in `unit`.
    """
    low, bicubic, prediction, truth = pictures
    figure = Figure(figsize=(16.5, 2.45 * len(truth) + 0.9), layout="constrained")
    axes = figure.subplots(len(truth), 6, squeeze=False, sharex=True, sharey=True)
    extent = (-half_width, half_width, -half_width, half_width)
    for row, name in enumerate(names):
        peak = float(truth[row].max())
        # linear in the faint parts and logarithmic in the bright: both the arcs and what surrounds them are seen
        stretch = AsinhNorm(linear_width=0.1 * peak, vmin=min(0.0, float(low[row].min())), vmax=peak)
        for axis, image in zip(axes[row], (low[row], bicubic[row], prediction[row], truth[row]), strict=False):
            shown = axis.imshow(image, cmap="inferno", norm=stretch, origin="lower", extent=extent)
        figure.colorbar(
            shown, ax=axes[row, :4], pad=0.01, aspect=14, label="flux / data range",
            ticks=peak * np.array([0.0, 0.03, 0.1, 0.3, 1.0]), format="%.2g",
        )  # fmt: skip
        residuals = [bicubic[row] - truth[row], prediction[row] - truth[row]]
        reach = float(np.quantile(np.abs(residuals[0]), 0.999)) or 1.0
        for axis, residual in zip(axes[row, 4:], residuals, strict=True):
            both = Normalize(-reach, reach)
            shown = axis.imshow(residual, cmap="RdBu_r", norm=both, origin="lower", extent=extent)
            axis.text(
                0.97, 0.95, f"rms {np.sqrt(np.square(residual).mean()):.2g}", transform=axis.transAxes,
                ha="right", va="top", fontsize="small",
                bbox={"facecolor": "w", "alpha": 0.7, "linewidth": 0, "pad": 1.5},
            )  # fmt: skip
        figure.colorbar(shown, ax=axes[row, 4:], pad=0.02, aspect=14, label="difference")
        axes[row, 0].set_ylabel(f"{name}\n\ny [{unit}]")
    for axis, heading in zip(axes[0], (*PICTURES, "bicubic - truth", "prediction - truth"), strict=True):
        axis.set_title(heading)
    for axis in axes[-1]:
        axis.set_xlabel(f"x [{unit}]")
    figure.suptitle(title)
    figure.savefig(path, dpi=100)


def draw_training(path: Path, run: Path, loss: str) -> None:
    """Training loss, PSNR and SSIM of the validation images against steps, with those of bicubic up-sampling."""
    train, validation = read_table(run / "train.csv"), read_table(run / "validation.csv")
    figure = Figure(figsize=(12.5, 3.9), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    draw_training_losses(left, train)
    left.set(title="loss", ylabel=f"{loss} of flux / data range", yscale="log")
    for axis, name, label in ((middle, "psnr", "PSNR [dB]"), (right, "ssim", "SSIM")):
        _draw_score(axis, validation, name)
        axis.set(title=f"{label} in validation", ylabel=label)
        axis.ticklabel_format(axis="y", useOffset=False)
    for axis in (left, middle, right):
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(path, dpi=100)


def _draw_score(axis: Axes, validation: list[dict[str, str]], name: str) -> None:
    steps = [int(row["step"]) for row in validation]
    axis.plot(steps, [float(row[name]) for row in validation], "o-", color="C1", label="prediction")
    axis.axhline(float(validation[-1][f"bicubic_{name}"]), color="0.3", linestyle="--", label="bicubic")
