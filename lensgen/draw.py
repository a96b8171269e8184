"""Preset, seed and indices -> Scene: the priors' values, turned into mass and light.

Everything is float64 in `lensgen.exact` arithmetic and rounded to float32 last, so the parameters of image i are
equal bit for bit on every device and for every engine, and the same for a float64 render.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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


def _placed(component: Component, name: str, rows: Tensor, batch: int, present: bool) -> Component:
    """A component of the systems `rows` as one of all `batch` systems, with no slot in use in the others."""
    count = component.count
    parameters = component.parameters
    if count is None:
        parameters = {k: v.unsqueeze(1) for k, v in parameters.items()}
        count = torch.ones(len(rows), dtype=torch.int64, device=rows.device)
    placed = {}
    for key, value in parameters.items():
        empty = 0.0 if key in component.profile.strength else 1.0  # any value that the formulas can take
        full = value.new_full((batch, value.shape[1]), empty)
        placed[key] = full.index_copy(0, rows, value) if present else full
    counts = torch.zeros(batch, dtype=torch.int64, device=rows.device)
    return Component(
        name, component.profile, placed, counts.index_copy(0, rows, count) if present else counts, component.statics
    )


def _substructure(
    classes: dict[str, Population], draws: Draws, host: Host, label: Tensor
) -> tuple[list[Component], Tensor, dict[str, Tensor]]:
    """Components of all classes, the mean convergence of each system's own, and the classes' labels."""
    components: list[Component] = []
    mean_convergence = torch.zeros_like(host.theta_E)
    labels: dict[str, Tensor] = {}
    for number, (name, population) in enumerate(classes.items()):
        rows = (label == number).nonzero()[:, 0]
        present = len(rows) > 0
        if not present:
            rows = rows.new_zeros(1)  # drawn for its shape, and not placed
        some = {f: getattr(host, f)[rows] for f in ("theta_E", "center_x", "center_y", "z_lens", "z_source")}
        drawn = population.draw(Draws(draws.random, draws.index[rows]), replace(host, **some), f"substructure.{name}")
        for component in drawn.components:
            components.append(_placed(component, f"{name}.{component.name}", rows, len(label), present))
        for key, value in drawn.labels.items():
            full = torch.zeros_like(host.theta_E)
            labels[f"substructure.{name}.{key}"] = full.index_copy(0, rows, value) if present else full
        if present:
            mean_convergence = mean_convergence.index_copy(0, rows, drawn.mean_convergence)
    return components, mean_convergence, labels


def _reduced_einstein_radius(theta_E: Tensor, gamma: Tensor, mean_convergence: Tensor) -> Tensor:
    """The host's theta_E when substructure brings `mean_convergence` of the mass inside the ring.

    A power law holds (theta_E / R)^(gamma - 1) of mean convergence within R: so theta_E falls by the
    (gamma - 1)-th root of what remains. ParameterError if hardly anything remains.
    """
    largest = float(mean_convergence.max())
    if largest > MAX_SUBSTRUCTURE:
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
    draws = Draws(random, index)
    double = dtype == torch.float64
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
    macro = [_component(preset.lens, "lens", lens, double)]
    reduced = macro
    if preset.compensation == "realised":
        gamma = lens.get("gamma", torch.full_like(host.theta_E, 2.0))
        theta_E = _reduced_einstein_radius(host.theta_E, gamma, mean_convergence)
        reduced = [_component(preset.lens, "lens", lens | {"theta_E": theta_E}, double)]
    if preset.shear is not None:
        shear = _profile_values(draws, preset.shear, "shear", zero_point)
        params |= {f"shear.{k}": v for k, v in shear.items()}
        common = [_component(preset.shear, "shear", shear, double)]
    else:
        common = []
    scale = None
    if preset.z_convention is not None:
        convention = draws.value("redshift.convention", Fixed(preset.z_convention))
        scale = preset.cosmology.reduced_ratio(z_lens, z_source, convention)
    galaxy = (_component(preset.source, "source", source, double),)
    exposure = draws.value("noise.exposure_time", preset.exposure_time) * preset.detector.exposures
    params |= {"redshift.lens": z_lens, "redshift.source": z_source, "noise.total_exposure": exposure, **labels}

    def rounded(scene: Scene) -> Scene:
        return scene.to(dtype=torch.float32).to(dtype=dtype)

    return Systems(
        scene=rounded(Scene((*reduced, *common, *substructure), galaxy, (), scale)),
        smooth=rounded(Scene((*macro, *common), galaxy, (), scale)),
        label=label,
        params={k: v.to(torch.float32) for k, v in params.items()},
        exposure=exposure.to(torch.float32),
    )
