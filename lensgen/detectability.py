"""Detectability: what of the substructure no other lens and source could have made, in units of the noise.

chi-square between a system's noise-free image with and without its substructure, after the macro parameters (host,
shear, source) have been refitted to first order: the difference is projected off the span of the image's exact
derivatives with respect to them, weighted by the inverse noise variance (the Fisher projection). Below about 1 no
method can tell the two apart; a classifier needs several.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from lensgen.draw import Systems
from lensgen.observation import Noise, Observation
from lensgen.render import render
from lensgen.scene import Component, Scene

_AT_A_TIME = 64  # systems: the derivatives of 1,000 would take gigabytes
# the shear's origin moves the source, and that is refitted already; which cutout a source is, is no matter of degree
_NOT_REFITTED = ("ra_0", "dec_0", "which")


def _macro_parameters(scene: Scene) -> list[tuple[str, str]]:
    """(component, parameter) of everything smooth that a modeller would fit."""
    return [
        (component.name, p.name)
        for component in scene.components
        if component.count is None
        for p in component.profile.parameters
        if p.name not in _NOT_REFITTED
    ]


def _with_parameter(scene: Scene, name: str, parameter: str, value: Tensor) -> Scene:
    def changed(component: Component) -> Component:
        if component.name != name:
            return component
        return replace(component, parameters={**component.parameters, parameter: value})

    return Scene(
        tuple(map(changed, scene.mass)),
        tuple(map(changed, scene.source)),
        tuple(map(changed, scene.lens_light)),
        scene.deflection_scale,
    )


def macro_jacobian(
    scene: Scene, observation: Observation, psf_choice: Tensor | None = None
) -> tuple[Tensor, list[tuple[str, str]]]:
    """Derivatives of the noise-free image with respect to the M macro parameters: `[B, H*W, M]`, and their names.

    Exact, by forward-mode derivatives through the torch engine; those of all parameters at once, so that what depends
    on none of them, the substructure's deflection, is worked out once.
    """
    names = _macro_parameters(scene)
    components = {component.name: component for component in scene.components}
    values = tuple(components[name].parameters[parameter] for name, parameter in names)

    def image(*values: Tensor) -> Tensor:
        changed = scene
        for (name, parameter), value in zip(names, values, strict=True):
            changed = _with_parameter(changed, name, parameter, value)
        return render(changed, observation, engine="torch", psf_choice=psf_choice)

    def derivative(*direction: Tensor) -> Tensor:
        return torch.func.jvp(image, values, direction)[1]

    each = torch.eye(len(values), dtype=values[0].dtype, device=values[0].device)
    directions = tuple(column.view(-1, 1).expand(-1, len(value)) for column, value in zip(each, values, strict=True))
    with torch.enable_grad():
        columns = torch.func.vmap(derivative)(*directions)
    return columns.flatten(2).permute(1, 2, 0), names


class _Band(NamedTuple):
    """Some systems in one band, float64."""

    scene: Scene
    smooth: Scene
    observation: Observation
    noise: Noise
    psf_choice: Tensor

    def select(self, rows: Tensor) -> _Band:
        noise = replace(self.noise, exposure=self.noise.exposure[rows], index=self.noise.index[rows])
        scene, smooth = self.scene.select(rows), self.smooth.select(rows)
        return _Band(scene, smooth, self.observation, noise, self.psf_choice[rows])


def detectability(systems: Systems, observations: Sequence[Observation], noises: Sequence[Noise]) -> Tensor:
    """chi-square of each system's substructure in all bands, `[B]`; 0 for a system that has none, infinite without
    noise. Amplitudes of light are refitted in each band, everything else to all bands together."""
    bands = [
        _Band(scene.to(dtype=torch.float64), smooth.to(dtype=torch.float64), observation, noise, systems.psf_choice[k])
        for k, (observation, noise) in enumerate(zip(observations, noises, strict=True))
        for scene, smooth in (systems.in_band(k),)
    ]
    parts = torch.arange(len(systems.scene), device=systems.scene.device).split(_AT_A_TIME)
    return torch.cat([_left_after_refit([b.select(rows) for b in bands]) for rows in parts]).to(systems.scene.dtype)


def _left_after_refit(bands: list[_Band]) -> Tensor:
    residuals, columns = [], []
    for scene, smooth, observation, noise, choice in bands:
        clean = render(scene, observation, engine="torch", psf_choice=choice).flatten(1)
        difference = clean - render(smooth, observation, engine="torch", psf_choice=choice).flatten(1)
        if noise.recipe.noiseless:
            return torch.where((difference != 0.0).any(1), torch.inf, 0.0).to(clean.dtype)
        jacobian, names = macro_jacobian(scene, observation, choice)
        sigma = noise.recipe.sigma(clean, noise.exposure.to(torch.float64).unsqueeze(1), noise.detector).unsqueeze(-1)
        residuals.append(difference.unsqueeze(-1) / sigma)
        columns.append(jacobian / sigma)
    own = torch.tensor([parameter == "amp" for _, parameter in names], device=clean.device)
    shared = torch.cat([c[..., ~own] for c in columns], 1)
    amplitudes = [
        torch.cat([c[..., own] if i == k else torch.zeros_like(c[..., own]) for i, c in enumerate(columns)], 1)
        for k in range(len(columns))
    ]
    directions = torch.cat([shared, *amplitudes], -1)
    # unit columns: theta_E and amp differ by orders of magnitude, and QR is to see their directions alone
    directions = directions / directions.norm(dim=1, keepdim=True).clamp(min=1e-300)
    basis, _ = torch.linalg.qr(directions)
    residual = torch.cat(residuals, 1)
    left = residual - basis @ (basis.transpose(1, 2) @ residual)
    return left.square().sum((1, 2))
