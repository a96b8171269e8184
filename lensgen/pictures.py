"""One picture on axes in arcsec, with its scale of colours, and rows of them: what `plot` is made of.

The origin is in the middle and y goes upwards. Imports matplotlib.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import AsinhNorm, LogNorm, Normalize
from matplotlib.figure import Figure
from torch import Tensor

from lensgen.conventions import pixel_axis

INCHES = 1.55  # of one picture
LABEL = "arcsec"
_OUTLINE = "#00e5ff"
_SOFT = 8.0  # Lupton's Q: how far into the bright parts colours are kept


def png(figure: Figure, dpi: int = 110) -> bytes:
    """A figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight")
    return buffer.getvalue()


@dataclass(frozen=True)
class Picture:
    """Something to draw: `[H, W]` with its scale of colours, or `[H, W, 3]` red, green, blue.

    Args:
        finer: how many of its pixels make up the side of one of the image.
        outline: `[H, W]`, whose zeros are drawn as curves: 1 / magnification for critical curves.
    """

    title: str
    values: Tensor
    norm: Normalize | None = None
    cmap: str = "inferno"
    finer: int = 1
    bar: bool = True
    outline: Tensor | None = None


def draw(axes: Axes, picture: Picture, pixel_scale: float, bar: bool = True) -> None:
    pixel_scale = pixel_scale / picture.finer
    height, width = picture.values.shape[:2]
    half_x, half_y = 0.5 * width * pixel_scale, 0.5 * height * pixel_scale
    extent = (-half_x, half_x, -half_y, half_y)
    drawn = axes.imshow(
        picture.values.cpu().numpy(), origin="lower", extent=extent, norm=picture.norm, cmap=picture.cmap,
    )  # fmt: skip
    axes.tick_params(labelsize=5, length=2)
    axes.set_title(picture.title, fontsize=6, pad=2)
    zero = picture.outline
    if zero is not None and min(zero.shape) > 1 and bool((zero > 0.0).any()) and bool((zero < 0.0).any()):
        x, y = (pixel_axis(n, pixel_scale).numpy() for n in (width, height))
        axes.contour(x, y, zero.cpu().numpy(), levels=[0.0], colors=_OUTLINE, linewidths=0.6)
    if bar and picture.bar and picture.norm is not None:
        made = axes.figure.colorbar(drawn, ax=axes, shrink=0.72, pad=0.02, ticks=_ticks(picture.norm), format="%.3g")
        made.ax.minorticks_off()
        made.ax.tick_params(labelsize=4.5, length=2)


def _ticks(norm: Normalize) -> list[float]:
    low, high = float(norm.vmin or 0.0), float(norm.vmax or 0.0)
    if isinstance(norm, LogNorm):
        decades = range(int(np.ceil(np.log10(low))), int(np.floor(np.log10(0.6 * high))) + 1)
        return [*(10.0**k for k in decades), high]
    if low == -high:
        return [low, 0.0, high]
    return [max(low, 0.0), 0.1 * high if isinstance(norm, AsinhNorm) else 0.5 * (low + high), high]


def brightness(images: Tensor, noise: float | None = None) -> Normalize:
    """asinh, linear below three times the noise: faint arcs and bright knots on one scale."""
    low, high = float(images.flatten().quantile(0.005)), float(images.max())
    low = 0.0 if 0.0 <= low < 1e-3 * high else low
    noise = _noise_level(images) if noise is None else noise
    return AsinhNorm(linear_width=max(3.0 * noise, 1e-6 * max(abs(high), 1e-30)), vmin=low, vmax=max(high, low + 1e-12))


def _noise_level(images: Tensor) -> float:
    """Robust sky rms: the median absolute deviation of the fainter half of the pixels."""
    flat = images.flatten()
    faint = flat[flat <= flat.median()]
    return float((faint - faint.median()).abs().median()) * 1.48 + 1e-3 * float(flat.max() - flat.median())


def logarithmic(values: Tensor, decades: float = 2.5) -> Normalize:
    """A scale of this many decades below the brightest half per mille."""
    high = max(float(values.flatten().quantile(0.9995)), 1e-12)
    low = max(float(values.flatten().quantile(0.02)), high * 10.0**-decades)
    return LogNorm(min(low, 0.5 * high), high, clip=True)


def both_signs(values: Tensor) -> Normalize:
    reach = max(float(values.abs().flatten().quantile(0.999)), 1e-6)
    return Normalize(-reach, reach)


def rgb(image: Tensor, weights: Tensor | None = None) -> Tensor:
    """`[C, H, W]`, bluest band first, C >= 3 -> `[H, W, 3]` in 0 to 1, of the first, the middle and the last band.

    Lupton et al. 2004, PASP 116, 133: the mean of the bands is stretched by asinh, and their ratios are kept.
    `weights` `[C]` multiply the bands; without them the image is white on the whole.
    """
    weights = white(image.unsqueeze(0)) if weights is None else weights
    bands = (image * weights.view(-1, 1, 1).to(image))[[-1, len(image) // 2, 0]]
    mean = bands.mean(0)
    sky = mean.quantile(0.1)
    above, span = (mean - sky).clamp(min=0.0), (mean.max() - sky).clamp(min=1e-30)
    linear = max(3.0 * _noise_level(mean), 1e-3 * float(span))
    stretched = torch.asinh(_SOFT * above / linear) / torch.asinh(_SOFT * span / linear)
    colour = (bands - bands.flatten(1).quantile(0.1, dim=1).view(3, 1, 1)).clamp(min=0.0)
    colour = colour * (stretched / colour.mean(0).clamp(min=1e-30))
    colour = colour / colour.amax(0).clamp(min=1.0)  # what is too bright keeps its colour
    return colour.permute(1, 2, 0)


def white(images: Tensor) -> Tensor:
    """Weights `[C]` of the bands by which all light of `[B, C, H, W]` together is white."""
    return 1.0 / images.mean((0, 2, 3)).clamp(min=1e-30)


def rows_of(
    rows: list[list[Picture]], pixel_scales: list[float], wide: float = 1.3, labels: Sequence[str] = ()
) -> Figure:
    """A figure of rows of pictures with colour bars."""
    columns = max(map(len, rows))
    figure = Figure(figsize=(wide * INCHES * columns, (INCHES + 0.12) * len(rows) + 0.15), layout="compressed")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for line, row, scale in zip(grid, rows, pixel_scales, strict=True):
        for axes in line[len(row) :]:
            axes.set_axis_off()
        for axes, picture in zip(line, row, strict=False):
            draw(axes, picture, scale)
    for line, label in zip(grid, labels or [""] * len(rows), strict=True):
        line[0].set_ylabel(f"{label}\n{LABEL}" if label else LABEL, fontsize=6)
    for axes in grid[-1]:
        axes.set_xlabel(LABEL, fontsize=6)
    return figure
