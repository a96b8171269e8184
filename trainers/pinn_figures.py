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
        pictures: `[N, H, W]`.
        half_widths: half of each picture's side.
        shown: half of the side of what is shown of it.
        kind: what colours mean: "brightness" on the scale of the first column, "own" on the picture's own, "map" from
            0 to 1, "k" about 1 on the column's own.
        captions: above each picture; none for no words.
    """

    title: str
    pictures: np.ndarray
    half_widths: np.ndarray
    shown: float
    kind: Literal["brightness", "own", "map", "k"] = "brightness"
    captions: Sequence[str] = ()


def draw_panels(path: Path, panels: Sequence[Panel], names: Sequence[str], unit: str, brightness: str) -> None:
    """A row a lens, whose class is among `names` `[N]`; lengths are in `unit`."""
    figure = Figure(figsize=(2.55 * len(panels) + 1.2, 2.35 * len(names) + 0.8), layout="constrained")
    axes = figure.subplots(len(names), len(panels), squeeze=False)
    for row, name in enumerate(names):
        low, high = float(panels[0].pictures[row].min()), float(panels[0].pictures[row].max())
        for axis, panel in zip(axes[row], panels, strict=True):
            side = panel.half_widths[row]
            axis.set_facecolor("0.6")
            drawn = axis.imshow(
                panel.pictures[row], origin="lower", extent=(-side, side, -side, side), **_style(panel, low, high)
            )
            axis.set(xlim=(-panel.shown, panel.shown), ylim=(-panel.shown, panel.shown))
            title = [panel.title] if row == 0 else []
            axis.set_title("\n".join([*title, *panel.captions[row : row + 1]]), fontsize=9)
            axis.tick_params(labelsize=7)
            if axis is axes[row, 0] or panel.kind in ("map", "k"):
                label = brightness if panel.kind == "brightness" else ""
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
    figure = Figure(figsize=(1.75 * columns + 0.8, 1.85 * len(names) + 0.6), layout="constrained")
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


def _style(panel: Panel, low: float, high: float) -> dict[str, Any]:
    """How a picture is drawn, where brightness is between `low` and `high`."""
    if panel.kind == "k":
        reach = float(np.nanmax(np.abs(panel.pictures - 1))) or 1e-3
        return {"cmap": "RdBu_r", "norm": TwoSlopeNorm(1.0, 1 - reach, 1 + reach)}
    if panel.kind == "map":
        return {"cmap": "gray", "vmin": 0, "vmax": 1}
    return {"cmap": "inferno"} | ({"vmin": low, "vmax": high} if panel.kind == "brightness" else {})


def _name(axis: Axes, row: int, title: str) -> None:
    axis.set(xticks=[], yticks=[])
    if row == 0:
        axis.set_title(title, fontsize=9)
