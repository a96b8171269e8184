"""Galleries and figures. Imports matplotlib, so the rest of lensgen imports this only when called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from matplotlib.colors import Normalize, SymLogNorm
from matplotlib.figure import Figure
from torch import Tensor

from lensgen import raytrace
from lensgen.batch import Batch
from lensgen.conventions import pixel_axis
from lensgen.errors import ParameterError
from lensgen.pictures import INCHES, LABEL, Picture, both_signs, brightness, draw, logarithmic, png, rgb, rows_of, white
from lensgen.scene import Scene
from lensgen.simulator import Simulator

__all__ = [
    "class_differences", "classes_of", "gallery", "maps_beside", "one_of_each_class", "pictures_of", "png",
    "scene_figure", "truth_panels",
]  # fmt: skip


def _band_name(batch: Batch, band: int) -> str:
    return batch.bands[band] if batch.bands else f"band {band}"


def _images(batch: Batch, images: Tensor, i: int, title: str, weights: Tensor, colour: bool) -> list[Picture]:
    """Image i of `[B, C, H, W]`: in colour where there are three bands, else a picture a band."""
    if colour and images.shape[1] >= 3:
        return [Picture(title, rgb(images[i], weights))]
    pictures = []
    for band, image in enumerate(images[i]):
        name = f"\n{_band_name(batch, band)}" if images.shape[1] > 1 else ""
        pictures.append(Picture(title + name, image, brightness(image)))
    return pictures


def _name(batch: Batch, i: int) -> str:
    return f"{batch.class_names[int(batch.label[i])]} #{int(batch.index[i])}"


def gallery(batch: Batch, columns: int = 8, colour: bool = True) -> Figure:
    """Every image of a batch, each on its own scale, labelled with class, index and theta_E.

    Images of three bands or more are red, green and blue if `colour`; otherwise there is a picture a band.
    """
    weights = white(batch.image)
    pictures = []
    for i in range(len(batch)):
        theta_E = f', θ$_E$ {float(batch.params["lens.theta_E"][i]):.2f}"' if "lens.theta_E" in batch.params else ""
        pictures += _images(batch, batch.image, i, _name(batch, i) + theta_E, weights, colour)
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    figure = Figure(figsize=(INCHES * columns, (INCHES + 0.22) * rows), layout="compressed")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(pictures) :]:
        axes.set_axis_off()
    for axes, picture in zip(grid.flat, pictures, strict=False):
        draw(axes, picture, batch.pixel_scale, bar=False)
    figure.supxlabel(LABEL, fontsize=6)
    figure.supylabel(LABEL, fontsize=6)
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


def classes_of(simulators: Sequence[Simulator], skip: int = 0) -> Figure:
    """A row of images for each preset: two of each class, of three bands in colour; of two, the first."""
    rows, scales = [], []
    for simulator in simulators:
        index = torch.stack([one_of_each_class(simulator, skip + k) for k in (0, 1)], 1).flatten()
        made = simulator.batch(indices=index)
        weights = white(made.image)
        rows.append(
            [
                replace(_images(made, made.image, i, _name(made, i), weights, True)[0], bar=False)
                for i in range(len(index))
            ]
        )
        scales.append(made.pixel_scale)
    return rows_of(rows, scales, 1.0, [simulator.preset.name for simulator in simulators])


def class_differences(simulators: Sequence[Simulator], skip: int = 0) -> Figure:
    """For each preset and class: an image, and the noise-free difference to the same lens without substructure.

    The difference is in units of the noise-free peak of the first band; its colours are symmetric about 0, each on
    its own scale.
    """
    rows, scales = [], []
    for simulator in simulators:
        made = simulator.with_outputs("image", "clean", "smooth").batch(indices=one_of_each_class(simulator, skip))
        clean, smooth = made.maps["clean"][:, 0], made.maps["smooth"][:, 0]
        row = []
        for k in range(len(made)):
            row.append(Picture(_name(made, k), made.image[k, 0], brightness(made.image[k, 0])))
            difference = (clean[k] - smooth[k]) / clean[k].max()
            reach = max(float(difference.abs().max()), 1e-6)
            row.append(Picture("with - without, / peak", difference, Normalize(-reach, reach), "RdBu_r"))
        rows.append(row)
        scales.append(made.pixel_scale)
    return rows_of(rows, scales, 1.15, [simulator.preset.name for simulator in simulators])


# What a map is drawn with; a map that is not here is no picture.
_IMAGES = ("clean", "smooth", "image_hr", "source", "lens_light", "noise_map")
_TITLES = {
    "clean": "clean, e-/s", "smooth": "without substructure, e-/s", "image_hr": "fine pixels, e-/s",
    "source": "source, e-/s", "lens_light": "lens light, e-/s", "noise_map": "noise, standard deviation",
    "potential": "potential ψ, arcsec$^2$", "kappa": "convergence κ", "kappa_sub": "κ of the substructure",
    "magnification": "magnification µ", "subhalo_mask": "subhalo mask",
}  # fmt: skip
TRUTH_PANELS = ("clean", "source", "kappa", "magnification", "kappa_sub")
_OUTLINED = "subhalo_mask"  # drawn into kappa_sub, where point masses have no convergence


def pictures_of(batch: Batch) -> tuple[str, ...]:
    """The maps of a batch that can be shown beside its images."""
    return tuple(name for name in batch.maps if name in _TITLES or name == "deflection")


def _map_pictures(batch: Batch, name: str, i: int, weights: Tensor) -> list[Picture]:
    values = batch.maps[name]
    if name in _IMAGES:
        pictures = _images(batch, values, i, _TITLES[name], weights, name != "noise_map")
        return [replace(p, finer=values.shape[-1] // batch.image.shape[-1]) for p in pictures]
    if name == "deflection":
        return [
            Picture(f"deflection α$_{axis}$, arcsec", values[i, k], both_signs(values[i, k]), "RdBu_r")
            for k, axis in enumerate("xy")
        ]
    title, one = _TITLES[name], values[i]
    inverse = 1.0 / batch.maps["magnification"][i] if "magnification" in batch.maps else None
    if name == "subhalo_mask":
        return [Picture(title, one.float(), Normalize(0.0, 1.0), "gray", bar=False)]
    if name == "magnification":
        return [Picture(title, one, SymLogNorm(1.0, vmin=-100.0, vmax=100.0, clip=True), "PuOr_r", outline=inverse)]
    if name == "potential":
        return [Picture(title, one, Normalize(float(one.min()), float(one.max())), "viridis")]
    outline = None
    if name == "kappa_sub" and _OUTLINED in batch.maps:
        outline = batch.maps[_OUTLINED][i].float() - 0.5
    if not bool((one > 0.0).any()):
        return [Picture(f"{title} = 0", one, Normalize(0.0, 1.0), "Greys", outline=outline, bar=False)]
    negative = name == "kappa_sub" and bool((one < 0.0).any())  # a sheet that balances the subhalos
    norm = both_signs(one) if negative else logarithmic(one)
    return [Picture(title, one, norm, "RdBu_r" if negative else "viridis", outline=outline)]


def _truth_rows(batch: Batch, rows: Sequence[int], names: Sequence[str]) -> Figure:
    weights = white(batch.image)
    pictures = []
    for i in rows:
        row = _images(batch, batch.image, i, _name(batch, i), weights, True)
        for name in names:
            row += _map_pictures(batch, name, i, weights)
        pictures.append(row)
    return rows_of(pictures, [batch.pixel_scale] * len(pictures))


def maps_beside(batch: Batch, rows: int = 8) -> Figure:
    """The first images of a batch, a row each: beside each image its maps."""
    return _truth_rows(batch, range(min(rows, len(batch))), pictures_of(batch))


def truth_panels(made: Batch | Simulator, skip: int = 0) -> Figure:
    """One image of each class, and beside it what is true of it: the noise-free image, the source, convergence,
    magnification with critical curves, and the convergence of the substructure.

    Args:
        made: a simulator, or a batch that has these maps; of a batch the first image of each class that it holds.
        skip: how many images of each class a simulator passes over.
    """
    if isinstance(made, Simulator):
        made = made.with_outputs(*TRUTH_PANELS, _OUTLINED).batch(indices=one_of_each_class(made, skip))
    missing = [name for name in TRUTH_PANELS if name not in made.maps]
    if missing:
        raise ParameterError(
            f"truth panels show the maps {', '.join(TRUTH_PANELS)}; this batch lacks {', '.join(missing)}. "
            f"Fix: Simulator(..., outputs={TRUTH_PANELS!r})."
        )
    labels = made.label.tolist()
    return _truth_rows(made, [labels.index(k) for k in sorted(set(labels))], TRUTH_PANELS)


@torch.no_grad()
def _traced(scene: Scene, half: float, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """(light, convergence, inverse magnification) of one system on a square of this half-width, `[size, size]` each."""
    axis = pixel_axis(size, 2.0 * half / size).to(scene.device)
    y, x = (t.flatten() for t in torch.meshgrid(axis, axis, indexing="ij"))
    light = raytrace.surface_brightness(scene.source, *raytrace.source_position(scene, x, y))
    light = light + raytrace.surface_brightness(scene.lens_light, x, y)
    maps = (light, raytrace.convergence(scene, x, y), 1.0 / raytrace.magnification(scene, x, y))
    return tuple(m.reshape(-1, size, size)[0] for m in maps)  # type: ignore[return-value]


def field_of(scene: Scene) -> float:
    """Half-width in arcsec of a square about the origin that shows one system: critical curves lie within it, and
    outside it the light is below 3 % of its peak."""
    half = 0.5
    while half < 60.0:
        light, _, inverse = _traced(scene, half, 48)
        border = torch.ones_like(light, dtype=torch.bool)
        border[1:-1, 1:-1] = False
        if bool((inverse[border] > 0.0).all()) and bool((light[border] <= 0.03 * light.max()).all()):
            return 1.15 * half
        half *= 1.25
    return half


def scene_figure(scene: Scene, systems: int = 4) -> Figure:
    """The first systems of a scene, a row each: light as it would be seen without optics, and the convergence with
    critical curves."""
    rows, scales = [], []
    for i in range(min(systems, len(scene))):
        one = scene.select(torch.tensor([i], device=scene.device)).to(dtype=torch.float64)
        half = field_of(one)
        light, kappa, inverse = _traced(one, half, 200)
        norm = logarithmic(kappa) if bool((kappa > 0.0).any()) else Normalize(-1.0, 1.0)
        rows.append(
            [
                Picture(f"system {i}: light, flux per arcsec$^2$", light, brightness(light), outline=inverse),
                Picture("convergence κ, critical curves", kappa, norm, "viridis", outline=inverse),
            ]
        )
        scales.append(2.0 * half / 200)
    return rows_of(rows, scales, 1.5)
