"""Galleries and figures. Imports matplotlib, so the rest of lensgen imports this only when called."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import AsinhNorm, Normalize
from matplotlib.figure import Figure
from torch import Tensor

from lensgen.batch import Batch
from lensgen.simulator import Simulator

_INCHES = 1.55  # of one picture


def png(figure: Figure, dpi: int = 110) -> bytes:
    """A figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight")
    return buffer.getvalue()


def _draw(axes: Axes, image: Tensor, pixel_scale: float, norm: Normalize, cmap: str):
    """One image `[H, W]` on axes in arcsec, its origin in the middle and y upwards."""
    height, width = image.shape
    half_x, half_y = 0.5 * width * pixel_scale, 0.5 * height * pixel_scale
    drawn = axes.imshow(
        image.cpu().numpy(), origin="lower", extent=(-half_x, half_x, -half_y, half_y), norm=norm, cmap=cmap
    )
    axes.tick_params(labelsize=5, length=2)
    return drawn


def _panel(axes: Axes, image: Tensor, pixel_scale: float, norm: Normalize, cmap: str, title: str) -> None:
    """One image with its title and a colour bar."""
    drawn = _draw(axes, image, pixel_scale, norm, cmap)
    top = norm.vmax or 0.0
    ticks = [-top, 0.0, top] if norm.vmin == -top else [0.0, 0.1 * top, top]
    bar = axes.figure.colorbar(drawn, ax=axes, shrink=0.7, pad=0.02, ticks=ticks, format="%.2g")
    bar.ax.minorticks_off()
    bar.ax.tick_params(labelsize=4)
    axes.set_title(title, fontsize=6, pad=2)


def _brightness(images: Tensor, noise: float) -> Normalize:
    """asinh, linear below three times the noise: faint arcs and bright knots on one scale."""
    low, high = float(images.quantile(0.005)), float(images.max())
    return AsinhNorm(linear_width=max(3.0 * noise, 1e-6 * max(abs(high), 1e-30)), vmin=low, vmax=max(high, low + 1e-12))


def _noise_level(images: Tensor) -> float:
    """Robust sky rms: the median absolute deviation of the fainter half of the pixels."""
    flat = images.flatten()
    faint = flat[flat <= flat.median()]
    return float((faint - faint.median()).abs().median()) * 1.48 + 1e-3 * float(flat.max() - flat.median())


def gallery(batch: Batch, columns: int = 8) -> Figure:
    """The first channel of every image of a batch, each on its own scale, labelled with class, index and theta_E."""
    columns = min(columns, len(batch))
    rows = -(-len(batch) // columns)
    figure = Figure(figsize=(_INCHES * columns, (_INCHES + 0.22) * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for i, axes in zip(range(len(batch)), grid.flat, strict=False):
        axes.set_axis_on()
        image = batch.image[i, 0]
        _draw(axes, image, batch.pixel_scale, _brightness(image, _noise_level(image)), "inferno")
        theta_E = f', θ$_E$ {float(batch.params["lens.theta_E"][i]):.2f}"' if "lens.theta_E" in batch.params else ""
        axes.set_title(f"{batch.class_names[int(batch.label[i])]} #{int(batch.index[i])}{theta_E}", fontsize=5.5, pad=2)
    figure.supxlabel("arcsec", fontsize=6)
    return figure


def one_of_each_class(simulator: Simulator, skip: int = 0) -> Tensor:
    """Index of an image of each class, `[K]` int64: the (skip + 1)-th of each."""
    start, size = 0, 64
    labels: list[int] = []
    wanted = range(len(simulator.class_names))
    while not all(labels.count(k) > skip for k in wanted):
        if start > 100_000:
            raise RuntimeError("a class does not turn up in 100,000 images")
        labels += simulator.labels(torch.arange(start, start + size)).tolist()
        start += size
    return torch.tensor([[i for i, label in enumerate(labels) if label == k][skip] for k in wanted])


def class_differences(simulators: Sequence[Simulator], skip: int = 0) -> Figure:
    """For each preset and class: an image, and the noise-free difference to the same lens without substructure.

    The difference is in units of the noise-free peak; its colours are symmetric about 0, each on its own scale.
    """
    classes = max(len(s.class_names) for s in simulators)
    figure = Figure(figsize=(2.0 * _INCHES * classes + 0.8, 1.05 * _INCHES * len(simulators)), layout="constrained")
    grid = np.atleast_2d(figure.subplots(len(simulators), 2 * classes, squeeze=False))
    for row, simulator in zip(grid, simulators, strict=True):
        made = simulator.with_outputs("image", "clean", "smooth").batch(indices=one_of_each_class(simulator, skip))
        clean, smooth = made.maps["clean"], made.maps["smooth"]
        differences = (clean - smooth) / clean.flatten(1).amax(1).view(-1, 1, 1, 1)
        for k, name in enumerate(simulator.class_names):
            norm = _brightness(made.image[k], _noise_level(made.image[k]))
            _panel(row[2 * k], made.image[k, 0], made.pixel_scale, norm, "inferno", f"{name} #{int(made.index[k])}")
            reach = max(float(differences[k].abs().max()), 1e-6)
            norm = Normalize(-reach, reach)
            _panel(row[2 * k + 1], differences[k, 0], made.pixel_scale, norm, "RdBu_r", "with - without, / peak")
        row[0].set_ylabel(f"{simulator.preset.name}\narcsec", fontsize=6)
    return figure
