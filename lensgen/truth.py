"""The truth beside the image: what a stored data set cannot give. One function an output, named in `TRUTHS`.

Maps of the lens are worked out in float64 by ray tracing at the centres of the pixels, whatever the engine of the
images, and rounded to their dtype last; all deflections are multiplied by the scene's deflection_scale. Images among
them are noise-free, and as they are before a preset divides images by their peak.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from lensgen import raytrace, torch_engine
from lensgen.detectability import detectability
from lensgen.draw import Systems
from lensgen.mass.vortex import distance
from lensgen.observation import Noise, Observation
from lensgen.psf import PSF, GaussianPSF, OneOfPSF, PixelPSF
from lensgen.render import render
from lensgen.scene import Component, Scene

CATALOGUE = "catalogue"
DENSE = 0.1  # mean convergence in a circle of a pixel's area, below which `subhalo_mask` does not mark a subhalo
_HALVINGS = 40  # of the interval in which an Einstein radius is searched: 1e-4" to 1e2", to a part in 1e10


@dataclass(frozen=True)
class View:
    """B systems in one band.

    Args:
        hr_factor: how many fine pixels of `image_hr` make up the side of a pixel.
    """

    systems: Systems
    band: int
    observation: Observation
    noise: Noise
    engine: str
    hr_factor: int = 2

    @property
    def scene(self) -> Scene:
        return self.systems.in_band(self.band)[0]

    @property
    def smooth(self) -> Scene:
        """Without substructure."""
        return self.systems.in_band(self.band)[1]

    @cached_property
    def clean(self) -> Tensor:
        """Noise-free images `[B, H, W]`."""
        return self.image(self.scene)

    def image(self, scene: Scene, noise: Noise | None = None, observation: Observation | None = None) -> Tensor:
        """Images `[B, H, W]` of a scene through this band's optics, or through others with the same PSFs to choose."""
        observation = observation or self.observation
        choice = self.systems.psf_choice[self.band] if observation.psf.choices > 1 else None
        return render(scene, observation, noise, self.engine, choice)


def fine(observation: Observation, factor: int) -> Observation:
    """The same field through the same optics on pixels `factor` times finer along each axis.

    A fine pixel has supersampling / factor rays along each axis, rounded up, and where the PSF acts on pixels it acts
    on the fine ones: with supersampling a multiple of the factor and a PSF on the rays, block sums are the coarse
    image; otherwise they have other rays, and more.
    """
    rays = observation.supersampling if observation.psf_supersampled else 1
    return replace(
        observation,
        height=observation.height * factor,
        width=observation.width * factor,
        pixel_scale=observation.pixel_scale / factor,
        supersampling=-(-observation.supersampling // factor),
        psf=_of_scale(observation.psf, observation.pixel_scale / rays),
    )


def _of_scale(psf: PSF, pixel_scale: float) -> PSF:
    """A kernel without a pixel scale has that of the pixels it is used on; stated, it is the same PSF on any."""
    if isinstance(psf, PixelPSF) and psf.pixel_scale is None:
        return replace(psf, pixel_scale=pixel_scale)
    if isinstance(psf, OneOfPSF):
        return OneOfPSF(tuple(_of_scale(one, pixel_scale) for one in psf.psfs))
    return psf


def clean(views: list[View]) -> Tensor:
    """Noise-free images `[B, C, H, W]`."""
    return torch.stack([view.clean for view in views], 1)


def smooth(views: list[View]) -> Tensor:
    """Noise-free images of the same systems without substructure, `[B, C, H, W]`."""
    return torch.stack([view.image(view.smooth) for view in views], 1)


def image_hr(views: list[View]) -> Tensor:
    """Noise-free images on finer pixels (see `fine`), flux per fine pixel, `[B, C, f H, f W]`."""
    return torch.stack([view.image(view.scene, None, fine(view.observation, view.hr_factor)) for view in views], 1)


def _unlensed(view: View, light: tuple[Component, ...]) -> Tensor:
    if not light:
        return torch.zeros_like(view.clean)
    observation = replace(view.observation, psf=GaussianPSF(0.0))
    return view.image(Scene((), light), None, observation)


def source(views: list[View]) -> Tensor:
    """The source where it is, as if there were neither lens nor PSF: flux per pixel, `[B, C, H, W]`."""
    return torch.stack([_unlensed(view, view.scene.source) for view in views], 1)


def lens_light(views: list[View]) -> Tensor:
    """The light of the lens without PSF, flux per pixel, `[B, C, H, W]`; 0 where the preset has none."""
    return torch.stack([_unlensed(view, view.scene.lens_light) for view in views], 1)


def noise_map(views: list[View]) -> Tensor:
    """Standard deviation of the noise as the recipe states it, in the image's unit, `[B, C, H, W]`; 0 where images have
    no noise."""
    maps = []
    for view in views:
        flat, noise = view.clean.flatten(1), view.noise
        variance = noise.recipe.variance(flat, noise.exposure.to(flat.dtype).unsqueeze(1), noise.detector)
        maps.append(torch.sqrt(variance).view_as(view.clean))
    return torch.stack(maps, 1)


def _at_pixels(view: View, what: Callable[[Scene, Tensor, Tensor], Tensor], substructure: bool = False) -> Tensor:
    """`what(scene, x, y)`, `[K, ..., P]`, at the centres of the pixels: `[B, ..., H, W]`, float64 if it is a number."""
    scene = view.systems.scene.to(dtype=torch.float64)
    if substructure:
        scene = replace(scene, mass=tuple(c for c in scene.mass if c.count is not None))
    return torch_engine.at_pixels(scene, view.observation, what)


def _lens_map(what: Callable[[Scene, Tensor, Tensor], Tensor], substructure: bool = False) -> Callable:
    """The output that `what` is of the lens: the same in all bands."""
    return lambda views: _at_pixels(views[0], what, substructure).to(views[0].systems.scene.dtype)


def _deflection(scene: Scene, x: Tensor, y: Tensor) -> Tensor:
    return torch.stack(raytrace.deflection(scene, x, y), 1)


def _mean_convergence(component: Component, scale: Tensor, radius: Tensor) -> Tensor:
    """Each slot's own mean convergence inside a circle of `radius` about its centre, `[K, N]`.

    A rod is taken without its core. `scale` `[K, 1]` multiplies deflections.
    """
    p = component.parameters
    if "half_length" in p:
        inside = torch.clamp(radius / p["half_length"], max=1.0)
        return scale * p["theta_E"] * p["theta_E"] * inside / (radius * radius)
    values = [p[parameter.name] for parameter in component.profile.parameters]
    outward, _ = component.profile.deflection(p["center_x"] + radius, p["center_y"], *values, **component.statics)
    return scale * outward / radius


def _einstein_radius(component: Component, scale: Tensor) -> Tensor:
    """Radius inside which each slot's own mean convergence is 1, arcsec `[K, N]`; at least 1e-4."""
    low = torch.full_like(component.parameters["center_x"], 1e-4)
    high = torch.full_like(low, 1e2)
    for _ in range(_HALVINGS):  # mean convergence falls with radius
        middle = torch.sqrt(low * high)
        inside = _mean_convergence(component, scale, middle) > 1.0
        low, high = torch.where(inside, middle, low), torch.where(inside, high, middle)
    return low


def _marked(scene: Scene, x: Tensor, y: Tensor, pixel_scale: float) -> Tensor:
    """Which positions `[K, P]` `subhalo_mask` marks."""
    marked = torch.zeros_like(x, dtype=torch.bool)
    scale = torch.ones_like(x[:, :1]) if scene.deflection_scale is None else scene.deflection_scale.unsqueeze(1)
    for component in scene.mass:
        p, count = component.parameters, component.count
        if "center_x" not in p or count is None:  # a sheet is nowhere in particular
            continue
        used = torch.arange(p["center_x"].shape[1], device=x.device) < count[:, None]
        pixel = torch.full_like(p["center_x"], pixel_scale / math.sqrt(math.pi))
        dense = used & (_mean_convergence(component, scale, pixel) >= DENSE)
        reach = torch.where(dense, _einstein_radius(component, scale).clamp(min=pixel_scale), -1.0)
        for slot in dense.any(0).nonzero()[:, 0].tolist():
            at = {name: value[:, slot, None] for name, value in p.items()}
            if "half_length" in at:
                away = distance(x, y, at["half_length"], at["angle"], at["center_x"], at["center_y"])
            else:
                away = torch.hypot(x - at["center_x"], y - at["center_y"])
            size = reach[:, slot, None]
            marked |= (size > 0.0) & (away <= size)
    return marked


def subhalo_mask(views: list[View]) -> Tensor:
    """Pixels at dense substructure, `[B, H, W]` bool.

    A subhalo marks the pixels whose centres lie within its Einstein radius (of the circle in which its own mean
    convergence is 1) or within a pixel's side, whichever is larger; a vortex those as near to any point of its rod. One
    whose mean convergence in a circle of a pixel's area is below 0.1 marks none, and is in the catalogue alone.
    """
    pixel_scale = views[0].observation.pixel_scale
    return _at_pixels(views[0], lambda scene, x, y: _marked(scene, x, y, pixel_scale), True)


def catalogue(views: list[View]) -> dict[str, Tensor]:
    """Every perturber, by component of the preset's substructure: "catalogue.<component>.<parameter>" `[B, N]`, as the
    mass profile takes it, and "catalogue.<component>.count" `[B]` int64; the slots from count on are 0."""
    tables = {}
    for component in views[0].systems.scene.mass:
        if component.count is not None:
            name = f"{CATALOGUE}.{component.name}"
            tables[f"{name}.count"] = component.count
            for key, value in component.parameters.items():
                used = torch.arange(value.shape[1], device=value.device) < component.count[:, None]
                tables[f"{name}.{key}"] = torch.where(used, value, 0.0)
    return tables


def _detectability(views: list[View]) -> Tensor:
    return detectability(views[0].systems, [view.observation for view in views], [view.noise for view in views])


TRUTHS: dict[str, Callable[[list[View]], Tensor | dict[str, Tensor]]] = {
    "clean": clean,
    "smooth": smooth,
    "image_hr": image_hr,
    "source": source,
    "lens_light": lens_light,
    "noise_map": noise_map,
    "deflection": _lens_map(_deflection),
    "potential": _lens_map(raytrace.potential),
    "kappa": _lens_map(raytrace.convergence),
    "kappa_sub": _lens_map(raytrace.convergence, substructure=True),
    "magnification": _lens_map(raytrace.magnification),
    "subhalo_mask": subhalo_mask,
    CATALOGUE: catalogue,
    "detectability": _detectability,
}


def truth(names: tuple[str, ...], views: list[View]) -> dict[str, Tensor]:
    """The outputs of these names, for `Batch.maps`; `image` is none of them."""
    maps: dict[str, Tensor] = {}
    for name in names:
        if name in TRUTHS:
            made = TRUTHS[name](views)
            maps |= made if isinstance(made, dict) else {name: made}
    return maps
