"""LensPINN or Lensformer at work on some test images: the sources that it rebuilds, and Grad-CAM."""

from __future__ import annotations

from pathlib import Path

import torch

from trainers.data import Data
from trainers.grad_cam import eyes, grad_cam
from trainers.models.lensformer import Lensformer
from trainers.models.lenspinn import LensPINN
from trainers.pinn_figures import Activation, draw_activation
from trainers.seeing import draw_sources, picture, some_of_each_class


def draw_seen(network: LensPINN | Lensformer, data: Data, folder: Path, lenses_per_class: int = 2) -> list[Path]:
    """Draws `sources.png`, of a network with physics, and `grad_cam.png`, of test images; returns the files."""
    lenses = some_of_each_class(data, lenses_per_class)
    names = lenses.classes(data)
    images = data.transform(lenses.image)
    with torch.no_grad():
        found = network.explain(images)
        files = draw_sources(folder / "sources.png", network, found, data, lenses)
    assert found.preprocessed is not None, "both networks give it"
    first = [names.index(name) for name in dict.fromkeys(names)]
    files.append(folder / "grad_cam.png")
    parts = [
        Activation(
            eye.title,
            picture((found.preprocessed if eye.preprocessed else images)[first]),
            {name: grad_cam(network, eye, images[first], number) for number, name in enumerate(data.class_names)},
        )
        for eye in eyes(network, data.image_shape[1:])
    ]
    draw_activation(files[-1], parts, [names[row] for row in first])
    return files
