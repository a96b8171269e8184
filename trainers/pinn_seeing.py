"""A network at work on some test images: the sources that it rebuilds, beside the true ones, and Grad-CAM."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainers.data import Batch, Data
from trainers.einstein_radius import true_radii
from trainers.grad_cam import eyes, grad_cam
from trainers.models.explanation import Explanation
from trainers.models.lensformer import Lensformer
from trainers.models.lenspinn import LensPINN
from trainers.models.physics.grid import pixel_positions
from trainers.models.physics.source import Source
from trainers.pinn_figures import Activation, Panel, draw_activation, draw_panels

MIDDLE = 4.0  # pixels, where a constant of the potential would make k large
BRIGHTNESS = {"asinh": "asinh(flux / noise)", "minmax": "brightness, 0 to 1"}


@dataclass(frozen=True)
class Lenses:
    """Some test images.

    Attributes:
        image: `[N, C, H, W]`, as they were simulated.
        label, index: `[N]`.
        params: `[N]` each.
    """

    image: Tensor
    label: Tensor
    index: Tensor
    params: dict[str, Tensor]


def draw_seen(network: LensPINN | Lensformer, data: Data, folder: Path, lenses_per_class: int = 2) -> list[Path]:
    """Draws `sources.png`, of a network with physics, and `grad_cam.png`, of test images; returns the files."""
    lenses = some_of_each_class(data, lenses_per_class)
    names = [data.class_names[number] for number in lenses.label.tolist()]
    images = data.transform(lenses.image)
    with torch.no_grad():
        found = network.explain(images)
        panels = source_panels(network, found, data, lenses)
    files = []
    if panels:
        files.append(folder / "sources.png")
        unit = "pixel" if data.pixel_scale is None else "arcsec"
        draw_panels(files[-1], panels, names, unit, BRIGHTNESS[data.transform.name])
    first = [names.index(name) for name in dict.fromkeys(names)]
    files.append(folder / "grad_cam.png")
    parts = [
        Activation(
            eye.title,
            _picture((found.preprocessed if eye.preprocessed else images)[first]),
            {name: grad_cam(network, eye, images[first], number) for number, name in enumerate(data.class_names)},
        )
        for eye in eyes(network, data.image_shape[1:])
    ]
    draw_activation(files[-1], parts, [names[row] for row in first])
    return files


def some_of_each_class(data: Data, count: int) -> Lenses:
    """The first `count` test images of each class, class by class; says which classes have none."""
    missing = dict.fromkeys(range(len(data.class_names)), count)
    taken: list[tuple[Batch, Tensor]] = []
    for batch in data.test():
        own = [torch.nonzero(batch.label == number)[:wanted, 0] for number, wanted in missing.items()]
        missing = {number: wanted - len(own[number]) for number, wanted in missing.items()}
        taken.append((batch, torch.cat(own)))
        if not any(missing.values()):
            break
    none = [data.class_names[number] for number, wanted in missing.items() if wanted == count]
    if none:
        print(f"  no test image is of class {', '.join(none)}: none is drawn")
    label = torch.cat([batch.label[rows] for batch, rows in taken])
    order = torch.argsort(label, stable=True)
    return Lenses(
        torch.cat([batch.image[rows] for batch, rows in taken])[order],
        label[order],
        torch.cat([batch.index[rows] for batch, rows in taken])[order],
        {name: torch.cat([batch.params[name][rows] for batch, rows in taken])[order] for name in taken[0][0].params},
    )


def source_panels(network: LensPINN | Lensformer, found: Explanation, data: Data, lenses: Lenses) -> list[Panel]:
    """Images and what `found` says of them, beside the truth where they are simulated; none without physics.

    Of sources the middle half is shown. k is in units of the true sphere's potential, the learned one too, where its
    Einstein radius is known, and else of the learned one's.
    """
    if found.theta_E is None:
        return []
    side = data.pixel_scale or 1.0
    whole = np.array([lenses.image.shape[-1], lenses.image.shape[-2]]) / 2 * side
    halves = np.tile(whole, (len(lenses.image), 1))
    shown, middle = (float(whole[0]), float(whole[1])), (float(whole[0]) / 2, float(whole[1]) / 2)
    captions = [f"θ$_E$ learned {radius * side:.2f}" for radius in found.theta_E.tolist()]
    true = None if data.pixel_scale is None else true_radii(lenses.params, data)  # arcsec are no pixels
    if true is not None:
        said = [f", true {radius:.2f}" if np.isfinite(radius) else "" for radius in true.tolist()]
        captions = [words + more for words, more in zip(captions, said, strict=True)]
    truth = data.truth(lenses.index, "source", "clean", "potential")
    source = rebuilt(network, found, lenses.image)
    both = [source.image] if truth is None else [source.image, _true_source(truth).to(source.image)]
    # as one picture, since minmax would bring two to the same brightness
    pictures = data.transform(torch.cat(both, -1)).chunk(len(both), -1)
    panels = [
        Panel("image", _picture(data.transform(lenses.image)), halves, shown, "image"),
        Panel("preprocessed image", _picture(found.preprocessed), halves, shown, "map"),
        Panel("rebuilt source", _picture(pictures[0]), halves * source.field.cpu().numpy()[:, None], middle, "source",
              captions),
    ]  # fmt: skip
    if truth is not None:
        panels.append(Panel("true source", _picture(pictures[1]), halves, middle, "source"))
    if found.k is None:
        return panels
    sphere = (
        found.theta_E if true is None else torch.where(true.isfinite(), true.to(found.theta_E) / side, found.theta_E)
    )
    learned = found.k * found.theta_E.view(-1, 1, 1, 1) * _radius(found.k)
    if truth is None or true is None:
        return [*panels, Panel("k", _picture(in_units_of_sphere(learned, sphere)), halves, shown, "k")]
    right = in_units_of_sphere(truth.maps["potential"][:, None] / side**2, sphere)
    return [
        *panels,
        Panel("learned k, for true θ$_E$", _picture(in_units_of_sphere(learned, sphere)), halves, shown, "k"),
        Panel("true k", _picture(right), halves, shown, "k"),
    ]


def rebuilt(network: LensPINN | Lensformer, found: Explanation, images: Tensor) -> Source:
    """The source that the network's lens gives of raw images `[N, C, H, W]`.

    The network itself rebuilds transformed ones, whose means over pixels are no means of flux.
    """
    assert network.inverse is not None and found.theta_E is not None
    if isinstance(network, Lensformer):
        assert found.k is not None
        return network.inverse(images, found.k, found.theta_E)
    return network.inverse(images, {"theta_E": found.theta_E})


def in_units_of_sphere(potential: Tensor, theta_E: Tensor) -> Tensor:
    """k, the potential over that of an isothermal sphere, `[N, 1, H, W]`; not a number in the middle.

    The constant that a potential leaves open is the one with which it is nearest to the sphere's.

    Args:
        potential: `[N, 1, H, W]`, in pixels^2.
        theta_E: `[N]`, of the sphere, in pixels.
    """
    radius = _radius(potential)
    sphere = theta_E.view(-1, 1, 1, 1) * radius
    k = (potential - (potential - sphere).mean((-2, -1), keepdim=True)) / sphere
    return torch.where(radius < min(MIDDLE, min(radius.shape) / 4), torch.nan, k)


def _radius(maps: Tensor) -> Tensor:
    """Of each pixel, from the middle of maps `[..., H, W]`, in pixels: `[H, W]`."""
    x, y = pixel_positions(maps)
    return torch.hypot(x, y).view(maps.shape[-2:])


def _true_source(truth: Batch) -> Tensor:
    """In the images' unit, `[N, C, H, W]`; some presets' images are counts, or divided by their peaks.

    The factor is that between the images and the noise-free ones, whose unit is the source's, by least squares.
    """
    clean = truth.maps["clean"]
    fit = (truth.image * clean).sum((-2, -1), keepdim=True) / clean.square().sum((-2, -1), keepdim=True).clamp(
        min=1e-30
    )
    return fit * truth.maps["source"]


def _picture(images: Tensor) -> np.ndarray:
    """The first channel of `[N, C, H, W]`."""
    return images[:, 0].float().cpu().numpy()
