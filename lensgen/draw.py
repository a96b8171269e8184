"""Preset, seed and indices -> Scene: the priors' values, turned into mass and light.

Everything is float64 in `lensgen.exact` arithmetic and rounded to float32 last, so the parameters of image i are
equal bit for bit on every device and for every engine, and the same for a float64 render.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lensgen import exact, fmath
from lensgen.compensation import compensated
from lensgen.preset import Preset
from lensgen.preset_fields import ALTERNATIVES, ProfilePriors, Reference
from lensgen.priors import Fixed, Prior, Uniform
from lensgen.profile import LightProfile
from lensgen.rng import RandomSource
from lensgen.scene import Component, Scene
from lensgen.substructure.population import RADII, Draws, Host, Population, nothing_enclosed


@dataclass(frozen=True)
class Systems:
    """B drawn systems.

    Args:
        scene: with their substructure, in the first band.
        smooth: the same lenses without it (and with the host as it was drawn).
        label: `[B]` int64, the class.
        params: `[B]` float32 each, named as in the preset, e.g. "lens.theta_E". Those of a substructure class are 0
            for systems of another class. Where substructure is compensated, lens.theta_E and lens.gamma are those of
            everything together at the ring; the host alone has less mass (lensgen.compensation).
        exposure: for each band `[B]` float32, s in all.
        psf_choice: for each band `[B]` int64, which of its PSFs.
        amp: for each band after the first, of each light by name, `[B]`.
    """

    scene: Scene
    smooth: Scene
    label: Tensor
    params: dict[str, Tensor]
    exposure: tuple[Tensor, ...]
    psf_choice: tuple[Tensor, ...]
    amp: tuple[dict[str, Tensor], ...]

    def in_band(self, band: int) -> tuple[Scene, Scene]:
        """`scene` and `smooth` in band number `band`: the same lenses, with other amplitudes of light."""
        if band == 0:
            return self.scene, self.smooth
        amp = self.amp[band - 1]

        def relit(scene: Scene) -> Scene:
            def change(c: Component) -> Component:
                return replace(c, parameters={**c.parameters, "amp": amp[c.name]})

            return replace(
                scene, source=tuple(map(change, scene.source)), lens_light=tuple(map(change, scene.lens_light))
            )

        return relit(self.scene), relit(self.smooth)


class _Macro:
    """Draws everything that is not substructure, component by component; each may refer to those before it."""

    def __init__(self, preset: Preset, draws: Draws, label: Tensor, double: bool) -> None:
        self.preset, self.draws, self.label, self.double = preset, draws, label, double
        self.params: dict[str, Tensor] = {}
        self.amp: tuple[dict[str, Tensor], ...] = tuple({} for _ in preset.bands[1:])
        self.z_lens, self.z_source = (
            self.drawn("redshift.lens", preset.z_lens),
            self.drawn("redshift.source", preset.z_source),
        )
        self.convention = (
            None if preset.z_convention is None else draws.value("redshift.convention", Fixed(preset.z_convention))
        )

    def drawn(self, field: str, prior: Prior) -> Tensor:
        """A field's value `[B]`, which becomes one of the params."""
        self.params[field] = (
            self.params[prior.field] if isinstance(prior, Reference) else self.draws.value(field, prior)
        )
        return self.params[field]

    def values(self, priors: ProfilePriors) -> dict[str, Tensor]:
        """All fields of a component, and its profile's parameters worked out of them, float64 `[B]`."""
        values = {field: self.drawn(f"{priors.name}.{field}", prior) for field, prior in priors.priors.items()}
        for p in priors.profile.parameters:
            if p.index_of:
                values[p.name] = values[p.name].floor()
        for rule, alternative in ALTERNATIVES.items():
            if all(p.name in values for p in alternative.fields):
                with fmath.bitwise():
                    results = rule(*(values[p.name] for p in alternative.fields))
                values |= dict(zip(alternative.parameters, results, strict=True))
        if "sigma_v" in values:
            behind = self.z_source if self.convention is None else self.convention
            values["theta_E"] = self.preset.cosmology.isothermal_radius(values["sigma_v"], self.z_lens, behind)
        if "magnitude" in values:
            values["amp"] = self._amplitude(priors, values, values["magnitude"], 0)
        return values

    def _amplitude(self, priors: ProfilePriors, values: dict[str, Tensor], magnitude: Tensor, band: int) -> Tensor:
        assert isinstance(priors.profile, LightProfile)
        zero_point = self.preset.bands[band].instrument.zero_point
        rate = exact.power(torch.full_like(magnitude, 10.0), -0.4 * (magnitude - zero_point))
        shape = [values[p] for p in inspect.signature(priors.profile.total_flux).parameters]
        with fmath.bitwise():
            return rate / priors.profile.total_flux(*shape)

    def of_class(self, priors: ProfilePriors) -> dict[str, Tensor]:
        """As `values`; those of a class that has its own for this component take these."""
        values = self.values(priors)
        for number, name in enumerate(self.preset.classes):
            for own in self.preset.macro.get(name, ()):
                if own.name == priors.name:
                    zero = torch.zeros_like(self.z_lens)
                    special = self.values(own)
                    values = {
                        key: torch.where(self.label == number, special.get(key, zero), values.get(key, zero))
                        for key in {**values, **special}
                    }
        return values

    def component(self, priors: ProfilePriors, values: dict[str, Tensor]) -> Component:
        parameters = {p.name: values[p.name] for p in priors.profile.parameters}
        self.params |= {f"{priors.name}.{k}": v for k, v in values.items()}
        arrays = {name: cutouts.on(self.draws.device) for name, cutouts in priors.arrays.items()}
        return Component(priors.name, priors.profile, parameters, None, priors.statics(self.double), arrays)

    def light(self, priors: ProfilePriors) -> Component:
        """A light in the first band; its amplitudes in the others go into `amp`."""
        values = self.values(priors)
        for k, (band, amp) in enumerate(zip(self.preset.bands[1:], self.amp, strict=True), start=1):
            if "magnitude" in values:
                colour = self.drawn(f"{priors.name}.colour.{band.name}", priors.colour[band.name])
                amp[priors.name] = self._amplitude(priors, values, values["magnitude"] + colour, k)
            else:
                amp[priors.name] = values["amp"]
        return self.component(priors, values)


@dataclass(frozen=True)
class Values:
    """Everything that is drawn, float64 `[B]` or `[B, N]`; the scene in parts.

    Args:
        lens: the smooth lens as it was drawn, and `reduced`: what is left of it beside substructure that is
            compensated; `params` state the lens as it was drawn.
        common: lenses beside it, with and without substructure.
        substructure: of all classes.
        source, lens_light: light.
        scale: on all deflections, or None.
        label, params, exposure, psf_choice, amp: as in Systems.
    """

    lens: Component
    reduced: Component
    common: tuple[Component, ...]
    substructure: tuple[Component, ...]
    source: tuple[Component, ...]
    lens_light: tuple[Component, ...]
    scale: Tensor | None
    label: Tensor
    params: dict[str, Tensor]
    exposure: tuple[Tensor, ...]
    psf_choice: tuple[Tensor, ...]
    amp: tuple[dict[str, Tensor], ...]

    def systems(self) -> Systems:
        """As scenes."""
        return Systems(
            Scene((self.reduced, *self.common, *self.substructure), self.source, self.lens_light, self.scale),
            Scene((self.lens, *self.common), self.source, self.lens_light, self.scale),
            self.label, self.params, self.exposure, self.psf_choice, self.amp,
        )  # fmt: skip

    def rounded(self, dtype: torch.dtype) -> Values:
        """With every number rounded to float32; those of the scene in `dtype`."""

        def change(name: str, value: Tensor) -> Tensor:
            if not value.is_floating_point():
                return value
            value = value.to(torch.float32)
            return value if name.startswith(("exposure.", "params.")) else value.to(dtype)

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
            tuple(component(c, "light") for c in self.lens_light),
            None if self.scale is None else change("scale", self.scale),
            change("label", self.label),
            {k: change(f"params.{k}", v) for k, v in self.params.items()},
            tuple(change(f"exposure.{k}", v) for k, v in enumerate(self.exposure)),
            tuple(change(f"psf_choice.{k}", v) for k, v in enumerate(self.psf_choice)),
            tuple({n: change(f"amp.{k}.{n}", v) for n, v in amp.items()} for k, amp in enumerate(self.amp)),
        )


def _substructure(
    classes: dict[str, Population], draws: Draws, host: Host, label: Tensor
) -> tuple[list[Component], tuple[Tensor, ...], dict[str, Tensor]]:
    """Components of all classes, the mass that each system's own encloses, and the classes' labels."""
    components: list[Component] = []
    enclosed = nothing_enclosed(host)
    labels: dict[str, Tensor] = {}
    for number, (name, population) in enumerate(classes.items()):
        drawn = draws.within_class(label, number, host, population, f"substructure.{name}")
        components += [replace(c, name=f"{name}.{c.name}") for c in drawn.components]
        # of the mass inside theta_E
        fraction = {"mass_fraction": drawn.enclosed[RADII.index(1.0)]} if drawn.components else {}
        labels |= {f"substructure.{name}.{key}": value for key, value in (fraction | drawn.labels).items()}
        pairs = zip(drawn.enclosed, enclosed, strict=True)
        enclosed = tuple(torch.where(label == number, own, others) for own, others in pairs)
    return components, enclosed, labels


def draw_label(preset: Preset, draws: Draws) -> Tensor:
    """The class of each system, `[B]` int64, all equally likely."""
    return draws.value("class", Uniform(0.0, float(len(preset.classes)))).floor().to(torch.int64)


def draw(
    preset: Preset,
    random: RandomSource,
    index: Tensor,
    dtype: torch.dtype = torch.float32,
    label: Tensor | None = None,
) -> Systems:
    """Draw the systems of `index` `[B]` int64, on its device; `dtype` is that of the scene's tensors.

    With `label` `[B]` int64 they are of these classes instead of their own, and otherwise the same.
    """
    return draw_values(preset, Draws(random, index), dtype == torch.float64, label).rounded(dtype).systems()


def draw_values(preset: Preset, draws: Draws, double: bool, label: Tensor | None = None) -> Values:
    """All values of the systems of `draws`; `double` says whether series are as long as float64 needs them."""
    if label is None:
        label = draw_label(preset, draws)
    macro = _Macro(preset, draws, label, double)
    lens = macro.of_class(preset.lens)
    host = Host(
        lens["theta_E"], lens["center_x"], lens["center_y"], macro.z_lens, macro.z_source, preset.cosmology,
        preset.bands[0].observation.pixel_scale,
    )  # fmt: skip
    substructure, enclosed, labels = _substructure(dict(preset.classes), draws, host, label)
    smooth = reduced = macro.component(preset.lens, lens)
    if preset.compensation == "realised":
        reduced = replace(smooth, parameters={**smooth.parameters, **compensated(lens, enclosed)})
    common = [] if preset.shear is None else [macro.component(preset.shear, macro.of_class(preset.shear))]
    common += [macro.component(d, macro.values(d)) for d in preset.deflectors]
    source = tuple(macro.light(s) for s in preset.source)
    lens_light = tuple(macro.light(s) for s in preset.lens_light)
    scale = None
    if macro.convention is not None:
        scale = preset.cosmology.reduced_ratio(macro.z_lens, macro.z_source, macro.convention)
    params = macro.params | labels
    exposure, choice = [], []
    for k, band in enumerate(preset.bands):
        exposure.append(draws.value("noise.exposure_time", band.exposure_time) * band.detector.exposures)
        params[preset.exposure_name(k)] = exposure[-1]
        number = draws.value("psf.choice", Uniform(0.0, float(band.observation.psf.choices))).floor()
        if band.observation.psf.choices > 1:
            params["psf.choice"] = number
        choice.append(number.to(torch.int64))
    return Values(
        smooth, reduced, tuple(common), tuple(substructure), source, lens_light, scale, label, params,
        tuple(exposure), tuple(choice), macro.amp,
    )  # fmt: skip
