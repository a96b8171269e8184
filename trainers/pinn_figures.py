"""Pictures of what a network makes of lenses: sources, Einstein radii, and where it finds the classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from trainers.einstein_radius import Radii


@dataclass(frozen=True)
class Panel:
    """A column of a figure of N lenses.

    Attributes:
        title: of the column.
        pictures: `[N, H, W]`; what is not a number is left grey.
        half_sizes: half of each picture's width and height, `[N, 2]`.
        shown: half of the width and height of what is shown of it.
        kind: what colours mean: brightness of an "image" or a "source", a "map" from 0 to 1, "k" about 1.
        captions: above each picture; none for no words.
    """

    title: str
    pictures: np.ndarray
    half_sizes: np.ndarray
    shown: tuple[float, float]
    kind: Literal["image", "source", "map", "k"]
    captions: Sequence[str] = ()

    @property
    def scale(self) -> str:
        """The same of a lens's panels that share a scale of colours: those of a kind, but each k has its own.

        An untrained k would hide the true one.
        """
        return self.title if self.kind == "k" else self.kind


def draw_panels(path: Path, panels: Sequence[Panel], names: Sequence[str], unit: str, brightness: str) -> None:
    """A row a lens, whose class is among `names` `[N]`; lengths are in `unit`, and `brightness` says its unit."""
    height = 2.05 * _tallness(panels[0].pictures) + 0.3
    figure = Figure(figsize=(2.55 * len(panels) + 1.2, height * len(names) + 0.8), layout="constrained")
    axes = figure.subplots(len(names), len(panels), squeeze=False)
    last = {panel.scale: column for column, panel in enumerate(panels)}
    for row, name in enumerate(names):
        for column, (axis, panel) in enumerate(zip(axes[row], panels, strict=True)):
            alike = [other.pictures[row] for other in panels if other.scale == panel.scale]
            right, top = panel.half_sizes[row]
            axis.set_facecolor("0.6")
            drawn = axis.imshow(
                panel.pictures[row], origin="lower", extent=(-right, right, -top, top), **_style(panel.kind, alike)
            )
            right, top = panel.shown
            axis.set(xlim=(-right, right), ylim=(-top, top))
            title = [panel.title] if row == 0 else []
            axis.set_title("\n".join([*title, *panel.captions[row : row + 1]]), fontsize=9)
            axis.tick_params(labelsize=7)
            if column == last[panel.scale]:
                label = brightness if panel.kind in ("image", "source") else ""
                figure.colorbar(drawn, ax=axis, pad=0.02, aspect=14, label=label).ax.tick_params(labelsize=7)
        axes[row, 0].set_ylabel(f"{name}\n\ny [{unit}]")
    for axis in axes[-1]:
        axis.set_xlabel(f"x [{unit}]")
    figure.savefig(path, dpi=110)


@dataclass(frozen=True)
class Activation:
    """Where a part of a network finds the classes in N pictures.

    Attributes:
        title: of the pictures.
        pictures: `[N, H, W]`, that it looks at.
        by_class: what speaks for each class, `[N, H, W]`, from 0 to 1.
    """

    title: str
    pictures: np.ndarray
    by_class: Mapping[str, np.ndarray]


def draw_activation(path: Path, parts: Sequence[Activation], names: Sequence[str]) -> None:
    """A row a lens, whose class is among `names` `[N]`: what each part looks at, and on it what speaks for a class."""
    columns = sum(1 + len(part.by_class) for part in parts)
    height = 1.6 * _tallness(parts[0].pictures) + 0.25
    figure = Figure(figsize=(1.75 * columns + 0.8, height * len(names) + 0.6), layout="constrained")
    axes = figure.subplots(len(names), columns, squeeze=False)
    for row, name in enumerate(names):
        place = iter(axes[row])
        for part in parts:
            axis = next(place)
            axis.imshow(part.pictures[row], cmap="gray", origin="lower")
            _name(axis, row, part.title)
            for class_name, found in part.by_class.items():
                axis = next(place)
                axis.imshow(part.pictures[row], cmap="gray", origin="lower")
                drawn = axis.imshow(found[row], cmap="jet", alpha=0.45, vmin=0, vmax=1, origin="lower")
                _name(axis, row, f"for {class_name}")
        axes[row, 0].set_ylabel(name)
    figure.colorbar(drawn, ax=axes, pad=0.01, aspect=30, label="Grad-CAM")
    figure.savefig(path, dpi=110)


def draw_radii(path: Path, radii: Radii) -> None:
    """Learned against true Einstein radii."""
    figure = Figure(figsize=(5.6, 5.4), layout="constrained")
    axis = figure.subplots()
    ends = np.array([min(radii.true.min(), radii.learned.min()), max(radii.true.max(), radii.learned.max())])
    axis.plot(radii.true, radii.learned, ".", color="C0", alpha=0.35, markersize=4, label="a test lens")
    axis.plot(ends, ends, color="k", linewidth=1, label="learned = true")
    axis.set(xlabel=f"true θ$_E$ [{radii.unit}]", ylabel=f"learned θ$_E$ [{radii.unit}]", aspect="equal")
    axis.set_title(str(radii), fontsize=9)
    axis.grid(alpha=0.3)
    axis.legend(loc="upper left", fontsize=8)
    figure.savefig(path, dpi=110)


def _style(kind: str, pictures: Sequence[np.ndarray]) -> dict[str, Any]:
    """How pictures `[H, W]` of this kind are drawn that share a scale."""
    if kind == "k":
        # of a sphere's own k there is nothing to see but rounding
        reach = max(1e-3, *(float(np.nanmax(np.abs(picture - 1))) for picture in pictures))
        return {"cmap": "RdBu_r", "norm": TwoSlopeNorm(1.0, 1 - reach, 1 + reach)}
    if kind == "map":
        return {"cmap": "gray", "vmin": 0, "vmax": 1}
    low, high = min(picture.min() for picture in pictures), max(picture.max() for picture in pictures)
    return {"cmap": "inferno", "vmin": float(low), "vmax": float(high)}


def _tallness(pictures: np.ndarray) -> float:
    """Height over width of pictures `[N, H, W]`, within what a figure's rows can follow."""
    return float(np.clip(pictures.shape[-2] / pictures.shape[-1], 0.5, 2.0))


def _name(axis: Axes, row: int, title: str) -> None:
    axis.set(xticks=[], yticks=[])
    if row == 0:
        axis.set_title(title, fontsize=9)
