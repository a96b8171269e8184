"""The lens equation beta = theta - alpha(theta), and what follows from its derivatives. Torch engine.

Coordinates are `[B, P]` or `[P]`: P positions in the image plane of each of B systems, in arcsec. A component with
slots is added up slot by slot, in order, so an empty slot changes nothing and the sum does not depend on how many
there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from lensgen.fmath import Stack
from lensgen.profile import LightProfile
from lensgen.scene import Component, Scene


def _slots(component: Component) -> Iterator[list[Tensor]]:
    """The parameters in the formulas' order, `[B, 1]` each, once for every slot that some system uses."""
    values = [component.parameters[p.name] for p in component.profile.parameters]
    if component.count is None:
        yield [v.unsqueeze(-1) for v in values]
        return
    for slot in range(int(component.count.max())):
        used = component.count > slot
        yield [
            (torch.where(used, v[:, slot], 0.0) if p.name in component.profile.strength else v[:, slot]).unsqueeze(-1)
            for p, v in zip(component.profile.parameters, values, strict=True)
        ]


def _terms(components: tuple[Component, ...], what: str, x: Tensor, y: Tensor) -> Iterator[Any]:
    """What every slot of every component adds, in order."""
    for component in components:
        formula = component.profile.formulas[what]
        stacks = [Stack(component.arrays[name]) for name in component.profile.arrays]
        for parameters in _slots(component):
            yield formula(x, y, *parameters, *stacks, **component.statics)


def _add_up(components: tuple[Component, ...], what: str, x: Tensor, y: Tensor) -> Tensor:
    total: Tensor | None = None
    for term in _terms(components, what, x, y):
        total = term if total is None else total + term
    return torch.zeros_like(x) if total is None else total


def _scaled(scene: Scene, value: Tensor) -> Tensor:
    return value if scene.deflection_scale is None else scene.deflection_scale.unsqueeze(-1) * value


def deflection(scene: Scene, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Reduced deflection alpha of all lenses, two tensors `[B, P]` in arcsec."""
    ax: Tensor | None = None
    ay: Tensor | None = None
    for dx, dy in _terms(scene.mass, "deflection", x, y):
        ax, ay = (dx, dy) if ax is None or ay is None else (ax + dx, ay + dy)
    if ax is None or ay is None:
        return torch.zeros_like(x), torch.zeros_like(y)
    return _scaled(scene, ax), _scaled(scene, ay)


def potential(scene: Scene, x: Tensor, y: Tensor) -> Tensor:
    """Lensing potential psi of all lenses, `[B, P]` in arcsec^2; alpha = grad psi."""
    return _scaled(scene, _add_up(scene.mass, "potential", x, y))


def convergence(scene: Scene, x: Tensor, y: Tensor) -> Tensor:
    """Convergence kappa of all lenses, `[B, P]`, from the formulas; point masses and lines without a core count 0."""
    return _scaled(scene, _add_up(scene.mass, "convergence", x, y))


def source_position(scene: Scene, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """beta(theta), two tensors `[B, P]` in arcsec."""
    ax, ay = deflection(scene, x, y)
    return x - ax, y - ay


def jacobian(scene: Scene, x: Tensor, y: Tensor) -> Tensor:
    """d beta / d theta, `[B, P, 2, 2]` (row: component of beta), exact, by two forward-mode derivatives."""
    shape = torch.broadcast_shapes(x.shape, (len(scene), x.shape[-1]))
    x, y = x.expand(shape).contiguous(), y.expand(shape).contiguous()  # derivatives need memory of their own
    one, zero = torch.ones_like(x), torch.zeros_like(x)

    def beta(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return source_position(scene, x, y)

    along_x = torch.func.jvp(beta, (x, y), (one, zero))[1]
    along_y = torch.func.jvp(beta, (x, y), (zero, one))[1]
    return torch.stack((torch.stack((along_x[0], along_y[0]), -1), torch.stack((along_x[1], along_y[1]), -1)), -2)


def magnification(scene: Scene, x: Tensor, y: Tensor) -> Tensor:
    """Signed magnification 1 / det(d beta / d theta), `[B, P]`; negative parity is negative."""
    J = jacobian(scene, x, y)
    return 1.0 / (J[..., 0, 0] * J[..., 1, 1] - J[..., 0, 1] * J[..., 1, 0])


def surface_brightness(components: tuple[Component[LightProfile], ...], x: Tensor, y: Tensor) -> Tensor:
    """Summed surface brightness at `[B, P]`, flux per arcsec^2."""
    return _add_up(components, "surface_brightness", x, y)
