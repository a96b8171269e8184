"""Noise recipes. Each turns a noise-free image into what the detector reports, and states its variance.

Images are flux per pixel in e-/s. Random numbers are keyed by the image's index and the pixel's number, so noise is
the same however images are batched.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor

from lensgen import exact, fmath
from lensgen.errors import lookup, require_number, require_whole

Uniform: TypeAlias = Callable[[str], Tensor]

_FEW = 24.0  # counts: below, the Poisson quantile is searched; above, its expansion is good to 2e-5 in probability
_MOST_OF_FEW = 64  # P(N > 64) < 1e-10 for a mean of 24


@dataclass(frozen=True)
class Detector:
    """What the noise depends on besides the image.

    Args:
        exposures: how many are added up; the read noise enters once in each.
        read_noise: e- per pixel and exposure.
        sky: e-/s per pixel.
    """

    exposures: int
    read_noise: float
    sky: float

    def __post_init__(self) -> None:
        require_whole("exposures", self.exposures, 1, 1_000_000)
        require_number("read_noise", self.read_noise, 0.0, 1e6, "e- per pixel")
        require_number("sky", self.sky, 0.0, 1e9, "e-/s per pixel")

    @property
    def read_variance(self) -> float:
        """Of all exposures together, e-^2 per pixel."""
        return self.exposures * self.read_noise**2

    @property
    def total_read_noise(self) -> float:
        """Standard deviation of all exposures together, e- per pixel."""
        return math.sqrt(self.exposures) * self.read_noise


def standard_normal(u: Tensor) -> Tensor:
    """Uniforms of lensgen.rng -> standard normal deviates, any shape."""
    return _normal(u)


_normal = fmath._primitive(lambda u: math.sqrt(2.0) * torch.erfinv(2.0 * u - 1.0), exact.normal_quantile)


def poisson_quantile(mean: Tensor, u: Tensor) -> Tensor:
    """The Poisson count at probability `u` for each `mean` >= 0, any shape.

    Searched term by term where the mean is below 24. Above, the Cornish-Fisher expansion of the quantile in
    1/sqrt(mean) (Giles 2016, ACM TOMS 42, 10), whose distribution differs from Poisson's by less than 2e-5 in total
    variation at 24 and less above. Within `fmath.bitwise()` it may take part in drawing parameters.
    """
    large = mean.clamp(min=_FEW)
    s, w = fmath.sqrt(large), standard_normal(u)
    w2 = w * w
    bend = (
        (1.0 / 3.0 + w2 * (1.0 / 6.0))
        - (w * (1.0 / 36.0) + w2 * w * (1.0 / 72.0)) / s
        + (w2 * (7.0 / 810.0 + w2 * (1.0 / 270.0)) - 8.0 / 405.0) / large
    )
    return fmath.rarely(mean < _FEW, torch.floor(large + s * w + bend), lambda: _searched(mean, u))


def _searched(mean: Tensor, u: Tensor) -> Tensor:
    """The quantile for means below 24, by adding up probabilities."""
    small = mean.clamp(0.0, _FEW)
    probability = fmath.exp(-small)
    below, count = probability, torch.zeros_like(mean)
    for k in range(1, _MOST_OF_FEW + 1):
        count = count + torch.where(u > below, 1.0, 0.0)
        probability = probability * small * (1.0 / k)
        below = below + probability
    return count


class NoiseRecipe:
    """Base of all recipes.

    `clean` and the result of `apply` are `[K, P]`; `exposure` `[K, 1]` is the total time in s. `uniform("shot")` and
    `uniform("read")` give one uniform for each pixel, `[K, P]`, when asked.
    """

    name: ClassVar[str]
    noiseless: ClassVar[bool] = False
    clips: ClassVar[bool] = False  # nothing below 0: `variance` and `response` are those before

    def apply(self, clean: Tensor, exposure: Tensor, detector: Detector, uniform: Uniform) -> Tensor:
        """What the detector reports."""
        raise NotImplementedError

    def variance(self, clean: Tensor, exposure: Tensor, detector: Detector) -> Tensor:
        """Variance of `apply` in each pixel, `[K, P]`."""
        raise NotImplementedError

    def response(self, exposure: Tensor) -> Tensor:
        """d mean(image) / d clean, `[K, 1]`."""
        return torch.ones_like(exposure)

    def sigma(self, clean: Tensor, exposure: Tensor, detector: Detector) -> Tensor:
        """The noise in units of the clean image, `[K, P]`: standard deviation over response."""
        return torch.sqrt(self.variance(clean, exposure, detector)) / self.response(exposure)


class CCD(NoiseRecipe):
    """One honest exposure: electrons = Poisson((signal + sky) t) + Normal(0, read noise), sky subtracted, over t.

    mean = clean; variance = (clean + sky) / t + exposures read_noise^2 / t^2.
    """

    name = "ccd"

    def apply(self, clean: Tensor, exposure: Tensor, detector: Detector, uniform: Uniform) -> Tensor:
        electrons = poisson_quantile((clean + detector.sky).clamp(min=0.0) * exposure, uniform("shot"))
        read = detector.total_read_noise * standard_normal(uniform("read"))
        return (electrons + read) / exposure - detector.sky

    def variance(self, clean: Tensor, exposure: Tensor, detector: Detector) -> Tensor:
        return (clean + detector.sky).clamp(min=0.0) / exposure + detector.read_variance / exposure**2


def _background(exposure: Tensor, detector: Detector) -> Tensor:
    """Variance of sky and read noise."""
    return (detector.read_variance + detector.sky * exposure) / (exposure * exposure)


class LenstronomyGaussian(NoiseRecipe):
    """lenstronomy's SingleBand.noise_for_model: two independent normals, for sky with read noise and for the signal.

    mean = clean; variance = (exposures read_noise^2 + sky t) / t^2 + max(clean, 0) / t.
    """

    name = "lenstronomy"

    def apply(self, clean: Tensor, exposure: Tensor, detector: Detector, uniform: Uniform) -> Tensor:
        shot = torch.sqrt(clean.clamp(min=0.0) / exposure) * standard_normal(uniform("shot"))
        background = torch.sqrt(_background(exposure, detector)) * standard_normal(uniform("read"))
        return clean + shot + background

    def variance(self, clean: Tensor, exposure: Tensor, detector: Detector) -> Tensor:
        return _background(exposure, detector) + clean.clamp(min=0.0) / exposure


class ClippedGaussian(LenstronomyGaussian):
    """The published Model IV: lenstronomy's noise, and then nothing below 0."""

    name = "lenstronomy_clipped"
    clips = True

    def apply(self, clean: Tensor, exposure: Tensor, detector: Detector, uniform: Uniform) -> Tensor:
        return super().apply(clean, exposure, detector, uniform).clamp(min=0.0)


class Gaussian(NoiseRecipe):
    """A normal of one width for all pixels, that of sky and read noise: no shot noise of the signal.

    mean = clean; variance = (exposures read_noise^2 + sky t) / t^2.
    """

    name = "gaussian"

    def apply(self, clean: Tensor, exposure: Tensor, detector: Detector, uniform: Uniform) -> Tensor:
        return clean + torch.sqrt(_background(exposure, detector)) * standard_normal(uniform("read"))

    def variance(self, clean: Tensor, exposure: Tensor, detector: Detector) -> Tensor:
        return _background(exposure, detector).expand_as(clean)


class DeepLenseI(NoiseRecipe):
    """The published Model I, faults included: shot noise as a normal and then again as Poisson, clipped at 0.

    image = Poisson(max(t (m + N(0, sqrt(|m|/t)) + N(0, 0.01)), 0)), counts. Its variance on bright pixels is about
    2 t m + (0.01 t)^2; at the sky it is that of a half-rectified normal.
    """

    name = "deeplense_i"
    clips = True
    background = 0.01  # e-/s per pixel

    def apply(self, clean: Tensor, exposure: Tensor, detector: Detector, uniform: Uniform) -> Tensor:
        # the three deviates that it takes share two uniforms: the sum of two independent normals is one normal
        sigma = torch.sqrt(clean.abs() / exposure + self.background**2)
        return poisson_quantile(
            ((clean + sigma * standard_normal(uniform("read"))) * exposure).clamp(min=0.0), uniform("shot")
        )

    def variance(self, clean: Tensor, exposure: Tensor, detector: Detector) -> Tensor:
        return 2.0 * exposure * clean.clamp(min=0.0) + (self.background * exposure) ** 2

    def response(self, exposure: Tensor) -> Tensor:
        return exposure


class DeepLenseII(NoiseRecipe):
    """The published Models II and III: the noise is computed and never added, and the image is added to itself."""

    name = "deeplense_ii"
    noiseless = True

    def apply(self, clean: Tensor, exposure: Tensor, detector: Detector, uniform: Uniform) -> Tensor:
        return clean + clean

    def variance(self, clean: Tensor, exposure: Tensor, detector: Detector) -> Tensor:
        return torch.zeros_like(clean)

    def response(self, exposure: Tensor) -> Tensor:
        return torch.full_like(exposure, 2.0)


class NoNoise(NoiseRecipe):
    """The noise-free image as it is."""

    name = "none"
    noiseless = True

    def apply(self, clean: Tensor, exposure: Tensor, detector: Detector, uniform: Uniform) -> Tensor:
        return clean

    def variance(self, clean: Tensor, exposure: Tensor, detector: Detector) -> Tensor:
        return torch.zeros_like(clean)


_RECIPES = (CCD(), LenstronomyGaussian(), ClippedGaussian(), Gaussian(), DeepLenseI(), DeepLenseII(), NoNoise())
NOISE_RECIPES: dict[str, NoiseRecipe] = {recipe.name: recipe for recipe in _RECIPES}


def noise_recipe(name: str) -> NoiseRecipe:
    """The recipe of that name; UnknownNameError otherwise."""
    return lookup("noise recipe", name, NOISE_RECIPES)
