"""The most probable smooth lens of an image: a network guesses it, damped Gauss-Newton steps refine the guess.

What a fitted smooth lens (host, shear, source) leaves of an image is where substructure shows. lensgen renders the
models; of an observed system only the image and its exposure time are used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lensgen.draw import Systems, draw
from lensgen.errors import ParameterError
from lensgen.preset import Preset
from lensgen.render import render
from lensgen.rng import RandomSource
from lensgen.scene import Component, Scene

_STEP = 0.02  # of finite differences, in standard deviations of the prior: float32 images allow no less
_EASIER, _HARDER = 0.2, 8.0  # what a step that succeeds or fails does to the damping (Marquardt 1963)
_DRAWN = 4096  # systems of which the prior is measured
_NOT_FITTED = ("ra_0", "dec_0")  # the shear's origin only moves the source


@dataclass(frozen=True)
class SmoothModel:
    """Smooth systems as vectors of M standardised numbers: logarithms of what is positive, less the prior's mean.

    Args:
        preset: of one band, with noise.
        names: (component, parameter) of each number.
        logarithmic: `[M]` bool.
        mean, deviation: `[M]`, of the prior.
        low, high: `[M]`, the ends of the prior, standardised.
        template: one system, for what is not fitted.
    """

    preset: Preset
    names: tuple[tuple[str, str], ...]
    logarithmic: Tensor
    mean: Tensor
    deviation: Tensor
    low: Tensor
    high: Tensor
    template: Scene

    @classmethod
    def of(cls, preset: Preset, random: RandomSource) -> SmoothModel:
        """With the prior as it is in the first systems of `random`."""
        scene = draw(preset, random, torch.arange(_DRAWN)).smooth
        if len(preset.bands) != 1 or preset.recipe.noiseless or scene.deflection_scale is not None:
            raise ParameterError(
                f"preset {preset.name}: fits are of one band with noise, without a convention of redshift."
            )
        names = tuple(
            (component.name, p.name)
            for component in scene.components
            for p in component.profile.parameters
            if p.name not in _NOT_FITTED
        )
        values = _values(scene, names)
        logarithmic = (values > 0.0).all(0)
        values = _scaled(values, logarithmic)
        mean, deviation = values.mean(0), values.std(0)
        low, high = (values.amin(0) - mean) / deviation, (values.amax(0) - mean) / deviation
        return cls(preset, names, logarithmic, mean, deviation, low, high, scene.select(torch.arange(1)))

    def vector(self, scene: Scene) -> Tensor:
        """Smooth systems -> `[B, M]`."""
        return (_scaled(_values(scene, self.names), self.logarithmic) - self.mean) / self.deviation

    def image(self, vector: Tensor) -> Tensor:
        """`[B, M]` -> noise-free images `[B, P]`."""
        values = self.mean + self.deviation * vector
        columns = dict(zip(self.names, torch.where(self.logarithmic, values.exp(), values).unbind(1), strict=True))

        def changed(component: Component) -> Component:
            parameters = {
                name: columns.get((component.name, name), value.expand(len(vector))).contiguous()
                for name, value in component.parameters.items()
            }
            return replace(component, parameters=parameters)

        template = self.template
        scene = Scene(
            tuple(map(changed, template.mass)),
            tuple(map(changed, template.source)),
            tuple(map(changed, template.lens_light)),
        )
        return render(scene, self.preset.bands[0].observation).flatten(1)

    def jacobian(self, vector: Tensor, image: Tensor) -> Tensor:
        """Derivatives of `image` `[B, P]` at `vector` `[B, M]`: `[B, M, P]`, by differences."""
        count, size = vector.shape
        moved = self.image((vector[:, None] + _STEP * torch.eye(size)).flatten(0, 1)).view(count, size, -1)
        return (moved - image[:, None]) / _STEP

    def sigma(self, image: Tensor, exposure: Tensor) -> Tensor:
        """Noise of `image` `[B, P]` exposed for `exposure` `[B]` seconds."""
        return self.preset.recipe.sigma(image, exposure[:, None], self.preset.bands[0].detector)

    def left(self, image: Tensor, exposure: Tensor, start: Tensor, steps: int) -> Tensor:
        """What the most probable smooth lens near `start` `[B, M]` leaves of `image`, over the noise: `[B, P]`."""
        vector = start.clamp(self.low, self.high)
        model = self.image(vector)
        cost, damping = self._cost(image, exposure, vector, model), torch.full((len(image),), 1e-2)
        for _ in range(steps):
            sigma = self.sigma(model, exposure)
            weighted = self.jacobian(vector, model) / sigma[:, None]
            normal = weighted @ weighted.transpose(1, 2) + torch.eye(vector.shape[1])
            slope = weighted @ ((image - model) / sigma)[..., None] - vector[..., None]
            damped = normal + torch.diag_embed(damping[:, None] * normal.diagonal(dim1=1, dim2=2))
            step = torch.linalg.solve(damped.double(), slope.double()).squeeze(-1).float()
            tried = (vector + step).clamp(self.low, self.high)
            found = self.image(tried)
            price = self._cost(image, exposure, tried, found)
            better = price < cost
            vector, model = torch.where(better[:, None], tried, vector), torch.where(better[:, None], found, model)
            cost = torch.where(better, price, cost)
            damping = torch.where(better, _EASIER * damping, _HARDER * damping)
        return (image - model) / self.sigma(model, exposure)

    def _cost(self, image: Tensor, exposure: Tensor, vector: Tensor, model: Tensor) -> Tensor:
        """-2 log posterior `[B]`, up to a constant; the prior as a Gaussian."""
        sigma = self.sigma(model, exposure)
        return ((image - model) / sigma).square().sum(1) + 2.0 * sigma.log().sum(1) + vector.square().sum(1)

    def screen(self, systems: Systems) -> Tensor:
        """About lensgen.detectability, in float32, by differences and a hundred times as fast: `[B]`."""
        vector = self.vector(systems.smooth)
        smooth = self.image(vector)
        clean = render(systems.scene, self.preset.bands[0].observation).flatten(1)
        sigma = self.sigma(clean, systems.exposure[0])
        directions = (self.jacobian(vector, smooth) / sigma[:, None]).double()
        difference = ((clean - smooth) / sigma).double()[..., None]
        slope = directions @ difference
        explained = slope * torch.linalg.solve(directions @ directions.transpose(1, 2), slope)
        return (difference.square().sum((1, 2)) - explained.sum((1, 2))).float()


class Guess(nn.Module):
    """Images `[B, P]` -> vectors `[B, M]`.

    Args:
        size: pixels along an axis, a multiple of 16.
        scale: of asinh.
        outputs: M.
        width: channels of the first layer.
    """

    def __init__(self, size: int, scale: float, outputs: int, width: int = 24) -> None:
        super().__init__()
        self.size, self.scale = size, scale
        deepest = 4 * width
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(2), nn.Conv2d(4, width, 3, 1, 1), nn.ReLU(),
            *_halving(width, 2 * width), *_halving(2 * width, deepest), *_halving(deepest, deepest),
            nn.Flatten(), nn.Linear(deepest * (size // 16) ** 2, 256), nn.ReLU(), nn.Linear(256, outputs),
        )  # fmt: skip

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(torch.asinh(image / self.scale).view(-1, 1, self.size, self.size))


def _halving(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()


def _values(scene: Scene, names: tuple[tuple[str, str], ...]) -> Tensor:
    components = {component.name: component for component in scene.components}
    return torch.stack([components[name].parameters[parameter] for name, parameter in names], 1)


def _scaled(values: Tensor, logarithmic: Tensor) -> Tensor:
    return torch.where(logarithmic, values.clamp(min=1e-30).log(), values)
