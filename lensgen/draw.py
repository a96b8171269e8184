"""Preset, seed and indices -> Scene: the priors' values, turned into mass and light.

Everything is float64 in `lensgen.exact` arithmetic and rounded to float32 last, so the parameters of image i are
equal bit for bit on every device and for every engine, and the same for a float64 render.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lensgen import exact, fmath
from lensgen.errors import ParameterError
from lensgen.preset import Preset
from lensgen.preset_fields import ALTERNATIVES, ProfilePriors
from lensgen.priors import Fixed, Uniform
from lensgen.profile import LightProfile
from lensgen.rng import RandomSource
from lensgen.scene import Component, Scene
from lensgen.substructure.population import Draws, Host, Population

MAX_SUBSTRUCTURE = 0.9  # of the mass inside the Einstein radius: beyond, there is hardly a host left to take it from


@dataclass(frozen=True)
class Systems:
    """B drawn systems.

    Args:
        scene: with their substructure.
        smooth: the same lenses without it (and with the host's mass not reduced).
        label: `[B]` int64, the class.
        params: `[B]` float32 each, named as in the preset, e.g. "lens.theta_E". Those of a substructure class are 0
            for systems of another class.
        exposure: `[B]` float32, s in all.
    """

    scene: Scene
    smooth: Scene
    label: Tensor
    params: dict[str, Tensor]
    exposure: Tensor


def _profile_values(draws: Draws, priors: ProfilePriors, name: str, zero_point: float) -> dict[str, Tensor]:
    """All fields drawn, and the profile's parameters worked out of them, float64 `[B]`."""
    values = {field: draws.value(f"{name}.{field}", prior) for field, prior in priors.priors.items()}
    for rule, alternative in ALTERNATIVES.items():
        if all(p.name in values for p in alternative.fields):
            with fmath.bitwise():
                results = rule(*(values[p.name] for p in alternative.fields))
            values |= dict(zip(alternative.parameters, results, strict=True))
    if "magnitude" in values:
        assert isinstance(priors.profile, LightProfile)
        rate = exact.power(torch.full_like(values["magnitude"], 10.0), -0.4 * (values["magnitude"] - zero_point))
        shape = [values[p] for p in ("R_sersic", "n_sersic")]
        with fmath.bitwise():
            values["amp"] = rate / priors.profile.total_flux(*shape)
    return values


def _component(priors: ProfilePriors, name: str, values: dict[str, Tensor], double: bool) -> Component:
    parameters = {p.name: values[p.name] for p in priors.profile.parameters}
    return Component(name, priors.profile, parameters, None, priors.statics(double))


@dataclass(frozen=True)
class Values:
    """Everything that is drawn, float64 `[B]` or `[B, N]`; the scene in parts.

    Args:
        lens: the smooth lens as it was drawn, and `reduced`: with less mass, where substructure brings some.
        common: lenses beside it, with and without substructure.
        substructure: of all classes.
        source: light.
        scale: on all deflections, or None.
        label, exposure, params: as in Systems.
    """

    lens: Component
    reduced: Component
    common: tuple[Component, ...]
    substructure: tuple[Component, ...]
    source: tuple[Component, ...]
    scale: Tensor | None
    label: Tensor
    exposure: Tensor
    params: dict[str, Tensor]

    def systems(self) -> Systems:
        """As scenes."""
        return Systems(
            scene=Scene((self.reduced, *self.common, *self.substructure), self.source, (), self.scale),
            smooth=Scene((self.lens, *self.common), self.source, (), self.scale),
            label=self.label,
            params=self.params,
            exposure=self.exposure,
        )

    def rounded(self, dtype: torch.dtype) -> Values:
        """With every number rounded to float32; those of the scene in `dtype`."""

        def change(name: str, value: Tensor) -> Tensor:
            if not value.is_floating_point():
                return value
            value = value.to(torch.float32)
            return value if name == "exposure" or name.startswith("params.") else value.to(dtype)

        return self.map(change)

    def map(self, change: Callable[[str, Any], Any]) -> Values:
        """The same with `change(name, value)` in place of each value."""

        def component(c: Component, place: str) -> Component:
            parameters = {k: change(f"{place}.{c.name}.{k}", v) for k, v in c.parameters.items()}
            count = None if c.count is None else change(f"{place}.{c.name}.count", c.count)
            return replace(c, parameters=parameters, count=count)

        return Values(
            component(self.lens, "smooth"),
            component(self.reduced, "reduced"),
            tuple(component(c, "mass") for c in self.common),
            tuple(component(c, "mass") for c in self.substructure),
            tuple(component(c, "light") for c in self.source),
            None if self.scale is None else change("scale", self.scale),
            change("label", self.label),
            change("exposure", self.exposure),
            {k: change(f"params.{k}", v) for k, v in self.params.items()},
        )


def _substructure(
    classes: dict[str, Population], draws: Draws, host: Host, label: Tensor
) -> tuple[list[Component], Tensor, dict[str, Tensor]]:
    """Components of all classes, the mean convergence of each system's own, and the classes' labels."""
    components: list[Component] = []
    mean_convergence = torch.zeros_like(host.theta_E)
    labels: dict[str, Tensor] = {}
    for number, (name, population) in enumerate(classes.items()):
        drawn = draws.within_class(label, number, host, population, f"substructure.{name}")
        components += [replace(c, name=f"{name}.{c.name}") for c in drawn.components]
        labels |= {f"substructure.{name}.{key}": value for key, value in drawn.labels.items()}
        mean_convergence = torch.where(label == number, drawn.mean_convergence, mean_convergence)
    return components, mean_convergence, labels


def _reduced_einstein_radius(theta_E: Tensor, gamma: Tensor, mean_convergence: Tensor) -> Tensor:
    """The host's theta_E when substructure brings `mean_convergence` of the mass inside the ring.

    A power law holds (theta_E / R)^(gamma - 1) of mean convergence within R: so theta_E falls by the
    (gamma - 1)-th root of what remains. ParameterError if hardly anything remains.
    """
    if not fmath.holds(mean_convergence <= MAX_SUBSTRUCTURE):
        largest = float(mean_convergence.max())
        raise ParameterError(
            f"substructure brings {largest:.2g} of the mass inside an Einstein radius of a system; with compensation: "
            f"realised at most {MAX_SUBSTRUCTURE} can be taken from the host. Fix: lower the masses or the count."
        )
    remaining = 1.0 - mean_convergence.clamp(min=0.0)
    return torch.where(mean_convergence > 0.0, theta_E * exact.power(remaining, 1.0 / (gamma - 1.0)), theta_E)


def draw_label(preset: Preset, draws: Draws) -> Tensor:
    """The class of each system, `[B]` int64, all equally likely."""
    return draws.value("class", Uniform(0.0, float(len(preset.classes)))).floor().to(torch.int64)


def draw(preset: Preset, random: RandomSource, index: Tensor, dtype: torch.dtype = torch.float32) -> Systems:
    """Draw the systems of `index` `[B]` int64, on its device; `dtype` is that of the scene's tensors."""
    return draw_values(preset, Draws(random, index), dtype == torch.float64).rounded(dtype).systems()


def draw_values(preset: Preset, draws: Draws, double: bool) -> Values:
    """All values of the systems of `draws`; `double` says whether series are as long as float64 needs them."""
    zero_point = preset.instrument.zero_point
    z_lens, z_source = draws.value("redshift.lens", preset.z_lens), draws.value("redshift.source", preset.z_source)
    lens = _profile_values(draws, preset.lens, "lens", zero_point)
    source = _profile_values(draws, preset.source, "source", zero_point)
    label = draw_label(preset, draws)
    host = Host(
        lens["theta_E"], lens["center_x"], lens["center_y"], z_lens, z_source, preset.cosmology,
        preset.observation.pixel_scale,
    )  # fmt: skip
    substructure, mean_convergence, labels = _substructure(dict(preset.classes), draws, host, label)
    params = {f"lens.{k}": v for k, v in lens.items()} | {f"source.{k}": v for k, v in source.items()}
    macro = reduced = _component(preset.lens, "lens", lens, double)
    if preset.compensation == "realised":
        gamma = lens.get("gamma", torch.full_like(host.theta_E, 2.0))
        theta_E = _reduced_einstein_radius(host.theta_E, gamma, mean_convergence)
        reduced = _component(preset.lens, "lens", lens | {"theta_E": theta_E}, double)
    common: tuple[Component, ...] = ()
    if preset.shear is not None:
        shear = _profile_values(draws, preset.shear, "shear", zero_point)
        params |= {f"shear.{k}": v for k, v in shear.items()}
        common = (_component(preset.shear, "shear", shear, double),)
    scale = None
    if preset.z_convention is not None:
        convention = draws.value("redshift.convention", Fixed(preset.z_convention))
        scale = preset.cosmology.reduced_ratio(z_lens, z_source, convention)
    galaxy = (_component(preset.source, "source", source, double),)
    exposure = draws.value("noise.exposure_time", preset.exposure_time) * preset.detector.exposures
    params |= {"redshift.lens": z_lens, "redshift.source": z_source, "noise.total_exposure": exposure, **labels}
    return Values(macro, reduced, common, tuple(substructure), galaxy, scale, label, exposure, params)
