"""What a network that rebuilds sources makes of some test images: sources and potentials, beside the true ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from trainers.data import Batch, Data
from trainers.einstein_radius import true_radii
from trainers.models.explanation import Explanation
from trainers.models.physics.grid import pixel_positions
from trainers.models.physics.inverse_lens import InverseLens
from trainers.models.physics.potential import PotentialLens
from trainers.models.physics.source import Source
from trainers.pinn_figures import Panel, draw_panels

LEAST_VARIATION = 1e-4  # of a k that is not 1: float32 and the true sphere's theta_E say it to some 1e-6
MIDDLE = 4.0  # pixels, where a constant of the potential would make k large
BRIGHTNESS = {"asinh": "asinh(flux / noise)", "minmax": "brightness, 0 to 1"}


class Rebuilds(Protocol):
    """A network that rebuilds sources: by a `PotentialLens` if its explanations have a k."""

    @property
    def inverse(self) -> InverseLens | PotentialLens | None: ...


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

    def classes(self, data: Data) -> list[str]:
        """The name of each one's class, `[N]`."""
        return [data.class_names[number] for number in self.label.tolist()]


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


def draw_sources(path: Path, network: Rebuilds, found: Explanation, data: Data, lenses: Lenses) -> list[Path]:
    """Draws `source_panels`; returns the file, none without physics."""
    panels = source_panels(network, found, data, lenses)
    if not panels:
        return []
    unit = "pixel" if data.pixel_scale is None else "arcsec"
    draw_panels(path, panels, lenses.classes(data), unit, BRIGHTNESS[data.transform.name])
    return [path]


def source_panels(network: Rebuilds, found: Explanation, data: Data, lenses: Lenses) -> list[Panel]:
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
    images = data.transform(lenses.image)
    panels = [Panel("image", picture(images), halves, shown, "image")]
    if found.preprocessed is not None and not torch.equal(found.preprocessed, images):
        panels.append(Panel("preprocessed image", picture(found.preprocessed), halves, shown, "map"))
    truth = data.truth(lenses.index, "source", "clean")
    source = rebuilt(network, found, lenses.image)
    both = [source.image] if truth is None else [source.image, _true_source(truth).to(source.image)]
    # as one picture, since minmax would bring two to the same brightness
    pictures = data.transform(torch.cat(both, -1)).chunk(len(both), -1)
    fields = halves * source.field.cpu().numpy()[:, None]
    captions = _captions(found.theta_E, data, lenses)
    panels.append(Panel("rebuilt source", picture(pictures[0]), fields, middle, "source", captions))
    if truth is not None:
        panels.append(Panel("true source", picture(pictures[1]), halves, middle, "source"))
    if found.k is None:
        return panels
    k = learned_and_true_k(found, data, lenses)
    if k is None:
        return [*panels, Panel("k", picture(_learned_k(found, data, lenses)), halves, shown, "k")]
    return [
        *panels,
        Panel("learned k, for true θ$_E$", picture(k[0]), halves, shown, "k"),
        Panel("true k", picture(k[1]), halves, shown, "k"),
    ]


def rebuilt(network: Rebuilds, found: Explanation, images: Tensor) -> Source:
    """The source that the network's lens gives of raw images `[N, C, H, W]`.

    The network itself rebuilds transformed ones, whose means over pixels are no means of flux.
    """
    assert network.inverse is not None and found.theta_E is not None
    if found.k is not None:
        return network.inverse(images, found.k, found.theta_E)
    return network.inverse(images, {"theta_E": found.theta_E})


def learned_and_true_k(found: Explanation, data: Data, lenses: Lenses) -> tuple[Tensor, Tensor] | None:
    """Potentials in units of the true sphere's, `[N, 1, H, W]` each; not a number in the middle.

    None without k, and without the truth: of a stored set, or where its Einstein radius is not known.
    """
    if found.k is None or _true_radii(data, lenses) is None:
        return None
    if data.pixel_scale is None or data.benchmark is None:
        return None
    # one by one, as the potentials of hundreds of halos take their time
    every = tqdm(lenses.index.split(1), desc="true potentials", unit="lens", delay=5, leave=False, dynamic_ncols=True)
    parts = [truth.maps["potential"] for index in every if (truth := data.truth(index, "potential")) is not None]
    potential = torch.cat(parts)[:, None] / data.pixel_scale**2
    right = in_units_of_sphere(potential, _spheres(found, data, lenses))
    return _learned_k(found, data, lenses), right


class KCorrelations(NamedTuple):
    """How learned k's go with true ones: the mean of Pearson's over lenses, by class; None where the true k is 1.

    The mean of each ring about the middle is taken off first: an error of theta_E and the constant that a potential
    leaves open are such, and would correlate with any halo in the middle.

    Attributes:
        own: each with that of its own lens.
        others: each with that of another lens of its class: what is alike in all lenses correlates there too.
    """

    own: dict[str, float | None]
    others: dict[str, float | None]


def k_correlations(found: Explanation, data: Data, lenses: Lenses) -> KCorrelations | None:
    """Of N lenses; None where `learned_and_true_k` is."""
    k = learned_and_true_k(found, data, lenses)
    if k is None:
        return None
    own: dict[str, float | None] = {}
    others: dict[str, float | None] = {}
    seen = k[1][0, 0].isfinite()
    ring = _radius(k[1])[seen].round().long()
    learned, true = (_off_rings(part[:, 0, seen].double(), ring) for part in k)
    for number, name in enumerate(data.class_names):
        one, other = learned[lenses.label == number], true[lenses.label == number]
        varies = bool(len(other)) and bool((other.std(1) > LEAST_VARIATION).all())
        own[name] = _mean_correlation(one, other) if varies else None
        others[name] = _mean_correlation(one, other.roll(1, 0)) if varies and len(other) > 1 else None
    return KCorrelations(own, others)


def _off_rings(rows: Tensor, ring: Tensor) -> Tensor:
    """Rows `[N, P]` less the mean of each row over each `ring` `[P]`."""
    count = ring.bincount().clamp(min=1)
    total = rows.new_zeros(len(rows), len(count)).index_add_(1, ring, rows)
    return rows - (total / count)[:, ring]


def _mean_correlation(one: Tensor, other: Tensor) -> float:
    """Of rows `[N, P]` whose means are 0."""
    return float(functional.cosine_similarity(one, other, dim=1).mean())


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


def _learned_k(found: Explanation, data: Data, lenses: Lenses) -> Tensor:
    """In units of `_spheres`, `[N, 1, H, W]`."""
    assert found.k is not None and found.theta_E is not None
    potential = found.k * found.theta_E.view(-1, 1, 1, 1) * _radius(found.k)
    return in_units_of_sphere(potential, _spheres(found, data, lenses))


def _spheres(found: Explanation, data: Data, lenses: Lenses) -> Tensor:
    """theta_E of the spheres that k is in units of, `[N]`, in pixels: the true ones, or learned ones where unknown."""
    assert found.theta_E is not None
    true = _true_radii(data, lenses)
    return found.theta_E if true is None else torch.where(true.isfinite(), true.to(found.theta_E), found.theta_E)


def _true_radii(data: Data, lenses: Lenses) -> Tensor | None:
    """theta_E `[N]`, in pixels; None if not known, nor is it where pixels do not say their size in arcsec."""
    true = true_radii(lenses.params, data)
    return None if true is None or data.pixel_scale is None else true / data.pixel_scale


def _captions(theta_E: Tensor, data: Data, lenses: Lenses) -> list[str]:
    """What is learnt of theta_E `[N]`, given in pixels, and what is true of it, in the unit of the figure."""
    side, true = data.pixel_scale or 1.0, _true_radii(data, lenses)
    captions = [f"θ$_E$ learned {radius * side:.2f}" for radius in theta_E.tolist()]
    if true is None:
        return captions
    said = [f", true {radius * side:.2f}" if np.isfinite(radius) else "" for radius in true.tolist()]
    return [words + more for words, more in zip(captions, said, strict=True)]


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


def picture(images: Tensor) -> np.ndarray:
    """The first channel of `[N, C, H, W]`."""
    return images[:, 0].float().cpu().numpy()
