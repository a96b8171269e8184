"""Pictures of a run of `trainers.jepa`: what is hidden, and its loss."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from trainers.figures import draw_training_losses
from trainers.logs import read_table
from trainers.models.block_masks import Masks


def draw_masks(path: Path, images: np.ndarray, masks: Masks, patch: int, names: Sequence[str]) -> None:
    """A column a lens: the image with its target blocks, and what of it is the context.

    Args:
        images: transformed, `[N, H, W]`.
        masks: of the images.
        patch: side of a patch [pixels]; images are padded to whole patches on all sides alike.
        names: the class of each lens.
    """
    count, side = len(images), images.shape[-1]
    grid = masks.hidden.shape[-1]
    first = -((grid * patch - side) // 2)  # where the first patch begins
    figure = Figure(figsize=(1.75 * count + 0.8, 4.6), layout="constrained")
    axes = figure.subplots(2, count, squeeze=False)
    for column, name in enumerate(names):
        image, hidden = images[column], masks.hidden[column].cpu().numpy()
        low, high = float(image.min()), float(image.max())
        shown = np.full((grid * grid,), False)
        shown[masks.context[column].cpu().numpy()] = True
        pixels = np.kron(shown.reshape(grid, grid), np.ones((patch, patch), bool))
        context = np.where(pixels[-first : -first + side, -first : -first + side], image, np.nan)
        for axis, drawn in zip(axes[:, column], (image, context), strict=True):
            axis.set_facecolor("0.6")
            mapped = axis.imshow(drawn, cmap="inferno", vmin=low, vmax=high, origin="lower")
            axis.set(xticks=[], yticks=[])
        for number, block in enumerate(hidden):
            _outline(axes[0, column], block, first, patch, f"C{number}")
        axes[0, column].set_title(name)
        figure.colorbar(mapped, ax=axes[:, column], location="bottom", aspect=12, pad=0.02)
    axes[0, 0].set_ylabel("image, target blocks")
    axes[1, 0].set_ylabel("context")
    figure.suptitle(f"{masks.context.shape[1]} of {grid**2} patches are the context [asinh(flux / noise)]")
    figure.savefig(path, dpi=110)


def _outline(axis: Axes, block: np.ndarray, first: int, patch: int, color: str) -> None:
    rows, columns = np.flatnonzero(block.any(1)), np.flatnonzero(block.any(0))
    corner = (first + columns[0] * patch - 0.5, first + rows[0] * patch - 0.5)
    axis.add_patch(
        Rectangle(corner, len(columns) * patch, len(rows) * patch, fill=False, edgecolor=color, linewidth=1.6)
    )


def draw_loss(path: Path, run: Path, compactness: float) -> None:
    """The loss of each step, and on validation images the part that predicts, beside that of a constant prediction.

    Args:
        compactness: its weight in the loss of a step; 0 if it is no part of it.
    """
    rows = read_table(run / "validation.csv")
    steps = [int(row["step"]) for row in rows]
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axis = figure.subplots()
    draw_training_losses(axis, read_table(run / "train.csv"))
    for name, style, label in (
        ("prediction_loss", "o-", "validation, of the prediction"),
        ("constant_loss", "--", "validation, the mean token of each place"),
    ):
        axis.plot(steps, [float(row[name]) for row in rows], style, markersize=4, label=label)
    more = f"in training and {compactness:g} x compactness" if compactness else ""
    axis.set(xlabel="step", ylabel="smooth L1 distance of tokens", title=more)
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(path, dpi=110)
