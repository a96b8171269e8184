"""Scenes for the tests of engines: random lenses of any profile, and a light that shows where the rays arrive.

The ramp is a source whose brightness is a coordinate: its image is beta, and with a large factor on the deflections it
is the deflection itself, to float32's last digits. So an engine's deflections are seen through its images alone.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from lensgen import Component, Observation, Scene, render
from lensgen.light import light_profile
from lensgen.mass import mass_profile
from lensgen.parameters import Parameter
from lensgen.profile import LightProfile, MassProfile, Profile
from lensgen.psf import GaussianPSF

SLOTS = 3
SERSIC = {"R_sersic": 0.3, "n_sersic": 1.0, "e1": 0.05, "e2": -0.1, "center_x": 0.07, "center_y": 0.02}


def _ramp(x, y, slope_x, slope_y):
    return slope_x * x + slope_y * y


RAMP = LightProfile(
    name="ramp",
    lenstronomy="",
    parameters=(Parameter("slope_x", "1", -1.0, 1.0, "along x"), Parameter("slope_y", "1", -1.0, 1.0, "along y")),
    strength=("slope_x", "slope_y"),
    surface_brightness=_ramp,
    total_flux=lambda: torch.zeros(()),
)


def seen(height: int, width: int, pixel_scale: float = 0.125, fwhm: float = 0.0) -> Observation:
    return Observation(height, width, pixel_scale, 1, GaussianPSF(fwhm))


def double(scene: Scene) -> Scene:
    """The same systems, to be rendered in float64: parameters are those of float32."""
    return scene.to(dtype=torch.float32).to(dtype=torch.float64)


def both(scene: Scene, observation: Observation, engine: str = "cpu") -> tuple[Tensor, Tensor]:
    """Clean images, float64, from an engine in float32 and from torch in float64."""
    image = render(scene.to(dtype=torch.float32), observation, engine=engine)
    assert image.dtype == torch.float32
    return image.double(), render(double(scene), observation, engine="torch")


def off_peak(scene: Scene, observation: Observation, engine: str = "cpu") -> float:
    """The largest difference from float64 torch, in units of each image's peak."""
    image, expected = both(scene, observation, engine)
    peak = expected.abs().flatten(1).amax(1).clamp(min=1e-30)
    return float(((image - expected).abs().flatten(1).amax(1) / peak).max())


def random_parameters(profile: Profile, shape: tuple[int, ...], seed: int, ellipticity: float = 0.8) -> dict:
    """Values of `shape` for each parameter that a lens of a few arcsec could have, float32-exact, in float64."""
    generator = torch.Generator().manual_seed(seed)

    def uniform() -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    def value(p: Parameter) -> Tensor:
        if p.index_of:
            return (3.0 * uniform()).floor()
        if p.unit == "arcsec" and p.low < 0.0:
            return 4.0 * uniform() - 2.0
        low, high = (max(p.low, 0.01), min(p.high, 10.0)) if p.unit == "arcsec" else (p.low, p.high)
        if low > 0.0 and high / low > 50.0:
            return low * torch.exp(math.log(high / low) * uniform())
        return low + (high - low) * uniform()

    values = {p.name: value(p) for p in profile.parameters}
    if "e1" in values:
        size, turns = ellipticity * uniform().sqrt(), 2.0 * math.pi * uniform()
        values |= {"e1": size * torch.cos(turns), "e2": size * torch.sin(turns)}
    return {k: v.float().double() for k, v in values.items()}


def lens(profile: MassProfile, values: dict[str, Tensor], strong: Tensor | None = None, **options) -> Component:
    """One lens a system; those that are not `strong` have no mass."""
    if strong is not None:
        values = values | {k: torch.where(strong, values[k], 0.0) for k in profile.strength}
    return Component("lens", profile, values, None, {**profile.statics, **options})


def slotted(profile: MassProfile, values: dict[str, Tensor], count: Tensor, **options) -> Component:
    return Component("slots", profile, values, count, {**profile.statics, **options})


def alone_and_in_slots(profile: MassProfile, systems: int, seed: int, **options) -> tuple[Component, Component]:
    """Every second system has one lens of the profile, the others 0 to 3 in slots; what is not in use is filled too."""
    k = torch.arange(systems)
    ellipticity = {4: 0.01, 24: 0.5}.get(options.get("terms", 0), 0.8)
    one = lens(profile, random_parameters(profile, (systems,), seed, ellipticity), k % 2 == 0, **options)
    many = random_parameters(profile, (systems, SLOTS), seed + 1, ellipticity)
    return one, slotted(profile, many, torch.where(k % 2 == 0, 0, k // 2 % (SLOTS + 1)), **options)


def with_ramp(mass: tuple[Component, ...], systems: int, slopes: tuple[float, float], scale: float) -> Scene:
    """Lenses before a ramp, beside Sersic galaxies without light: the same program as `with_galaxies`."""
    return _before(mass, systems, slopes, scale, 0.0)


def with_galaxies(mass: tuple[Component, ...], systems: int) -> Scene:
    """Lenses before a Sersic source, with light of their own."""
    return _before(mass, systems, (0.0, 0.0), 1.0, 1.0)


def _before(mass, systems: int, slopes: tuple[float, float], scale: float, bright: float) -> Scene:
    sersic = light_profile("sersic")
    source = Component.make("source", sersic, SERSIC | {"amp": 20.0 * bright}, systems)
    ramp = Component.make("ramp", RAMP, {"slope_x": slopes[0], "slope_y": slopes[1]}, systems)
    light = SERSIC | {"amp": 3.0 * bright, "R_sersic": 0.8, "n_sersic": 4.0, "center_x": 0.013}
    galaxy = Component.make("galaxy", sersic, light, systems)
    factor = torch.full((systems,), scale, dtype=torch.float64)
    return Scene(mass, (source, ramp), (galaxy,), factor)


_LARGE = 1e12  # on all deflections: beside it, the ray's own place is nothing


def deflections(mass: tuple[Component, ...], observation: Observation, engine: str) -> Tensor:
    """`[B, 2, H, W]` float64, through images of ramps; engine "torch" in float64, others in float32."""
    systems = next(iter(mass[0].parameters.values())).shape[0]
    images = []
    for slopes in ((1.0, 0.0), (0.0, 1.0)):
        scene = with_ramp(mass, systems, slopes, -_LARGE)
        scene = double(scene) if engine == "torch" else scene.to(dtype=torch.float32)
        images.append(render(scene, observation, engine=engine).double())
    return torch.stack(images, 1) / (observation.pixel_scale**2 * _LARGE)


def distance(x: Tensor, y: Tensor, observation: Observation) -> Tensor:
    """`[B, H, W]` from centres `[B]` to pixels."""
    px, py = observation.rays()
    r = torch.hypot(px - x[:, None], py - y[:, None])
    return r.unflatten(1, (observation.height, observation.width))


def sizes(mass: tuple[Component, ...], observation: Observation) -> Tensor:
    """`[B, H, W]`: what the deflections of all lenses and slots would be if they all pointed the same way."""
    x, y = observation.rays()
    total = torch.zeros(())
    for component in mass:
        values = [component.parameters[p.name].double() for p in component.profile.parameters]
        slots = [values] if component.count is None else list(zip(*(v.unbind(1) for v in values), strict=True))
        for slot, own in enumerate(slots):
            ax, ay = component.profile.deflection(x, y, *(v[:, None] for v in own), **component.statics)
            used = torch.ones(len(own[0])) if component.count is None else component.count > slot
            total = total + torch.where(used[:, None] > 0, torch.hypot(ax, ay), 0.0)
    return total.unflatten(-1, (observation.height, observation.width))


def off_relative(mass: tuple[Component, ...], observation: Observation, engine: str = "cpu") -> Tensor:
    """Error of the deflections against float64 torch, in units of their `sizes`, `[B, H, W]`."""
    got, expected = (deflections(mass, observation, e) for e in (engine, "torch"))
    return torch.hypot(*(got - expected).unbind(1)) / sizes(mass, observation).clamp(min=1e-11)


def hand_made(batch: int = 3, profile: str = "sis", dtype: torch.dtype = torch.float32, **values) -> Scene:
    """A plain lens before a plain source, off every pixel's centre."""
    given = {"theta_E": 1.0, "center_x": 0.013, "center_y": -0.021} | values
    mass = Component.make("lens", mass_profile(profile), given, batch)
    source = Component.make("source", light_profile("sersic"), SERSIC | {"amp": 20.0}, batch)
    return Scene((mass,), (source,)).to(dtype=dtype)


def with_value(scene: Scene, where: str, parameter: str, value: Tensor) -> Scene:
    """The scene with a parameter of the first component of `where` replaced."""
    first, *others = getattr(scene, where)
    changed = replace(first, parameters={**first.parameters, parameter: value})
    return replace(scene, **{where: (changed, *others)})
