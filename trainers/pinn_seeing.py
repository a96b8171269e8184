"""A network at work on some test images: the sources that it rebuilds, beside the true ones, and Grad-CAM."""

from __future__ import annotations

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
from trainers.pinn_figures import Activation, Panel, draw_activation, draw_panels

MIDDLE = 4.0  # pixels, where a constant of the potential would make k large
BRIGHTNESS = {"asinh": "asinh(flux / noise)", "minmax": "brightness, 0 to 1"}


def draw_seen(network: LensPINN | Lensformer, data: Data, folder: Path, lenses_per_class: int = 2) -> list[Path]:
    """Draws `sources.png`, of a network with physics, and `grad_cam.png`, of test images; returns the files."""
    batch = next(data.test())
    rows = torch.cat([torch.nonzero(batch.label == number)[:lenses_per_class, 0] for number in batch.label.unique()])
    names = [data.class_names[number] for number in batch.label[rows].tolist()]
    images = data.transform(batch.image[rows])
    with torch.no_grad():
        found = network.explain(images)
    files = []
    if found.source is not None:
        files.append(folder / "sources.png")
        unit = "pixel" if data.pixel_scale is None else "arcsec"
        panels = _panels(images, found, data, batch, rows)
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


def _panels(images: Tensor, found: Explanation, data: Data, batch: Batch, rows: Tensor) -> list[Panel]:
    """Images and all that is made of them, and the true sources of simulated ones, whose middle half is shown."""
    assert found.source is not None and found.theta_E is not None
    side = data.pixel_scale or 1.0
    half = images.shape[-1] / 2 * side
    halves = np.full(len(rows), half)
    captions = [f"θ$_E$ learned {radius * side:.2f}" for radius in found.theta_E.tolist()]
    true = true_radii(batch.params, data)
    if true is not None:
        captions = [f"{words}, true {radius:.2f}" for words, radius in zip(captions, true[rows].tolist(), strict=True)]
    panels = [
        Panel("image", _picture(images), halves, half),
        Panel("preprocessed image", _picture(found.preprocessed), halves, half, "map"),
        Panel("rebuilt source", _picture(found.source.image), halves * found.source.field.cpu().numpy(), half / 2,
              captions=captions),
    ]  # fmt: skip
    truth = data.truth(batch.index[rows], "source", *(() if found.k is None else ("potential",)))
    if truth is not None:
        panels.append(Panel("true source", _picture(data.transform(truth.maps["source"])), halves, half / 2, "own"))
    if found.k is not None:
        panels.append(Panel("k", _picture(found.k), halves, half, "k"))
        if truth is not None and true is not None:
            panels.append(Panel("true k", _picture(_true_k(truth, true[rows], side)), halves, half, "k"))
    return panels


def _true_k(truth: Batch, theta_E: Tensor, pixel_scale: float) -> Tensor:
    """The potential in units of that of a sphere of `theta_E` [arcsec], `[N, 1, H, W]`; not a number in the middle.

    The constant that a potential leaves open is the one with which it is nearest to the sphere's.
    """
    potential = truth.maps["potential"][:, None]
    x, y = (position.view(potential.shape[-2:]) for position in pixel_positions(potential))
    radius = torch.hypot(x, y)
    sphere = theta_E.view(-1, 1, 1, 1) * pixel_scale * radius
    k = (potential - (potential - sphere).mean((-2, -1), keepdim=True)) / sphere
    return torch.where(radius < MIDDLE, torch.nan, k)


def _picture(images: Tensor) -> np.ndarray:
    """The first channel of `[N, C, H, W]`."""
    return images[:, 0].float().cpu().numpy()
