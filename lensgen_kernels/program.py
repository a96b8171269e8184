"""What a renderer is specialised by: the kinds of its components, its optics and noise, and none of their numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Term:
    """One component: a formula `f(x, y, *parameters, *arrays, *statics)`.

    Args:
        formula: returns the two components of a deflection, or a surface brightness.
        parameters: how many it takes.
        statics: whole numbers after the parameters.
        slotted: whether a system has several of it.
        smooth: whether a deflection may be interpolated between radii.
        arrays: the shape of each of its stacks of images, `[n, h, w]`.
        many: whether it has room for so many slots (`far_field.MANY`) that smooth circular lenses get a far field.
    """

    formula: Callable
    parameters: int
    statics: tuple[int, ...] = ()
    slotted: bool = False
    smooth: bool = False
    arrays: tuple[tuple[int, ...], ...] = ()
    many: bool = False


@dataclass(frozen=True)
class NoiseTerm:
    """Args:
    formula: `f(clean, exposure, detector, uniform)`, `detector` an object with the named numbers, `uniform(name)` the
        random number of a pixel.
    detector: names of the numbers.
    uniforms: names of the random numbers, in the order in which the kernel is given their keys.
    """

    formula: Callable
    detector: tuple[str, ...]
    uniforms: tuple[str, ...]


@dataclass(frozen=True)
class Filter:
    """A separable filter over rows and columns: `out[i] = sum_m weights[m] in[stride i + m - before]`.

    Args:
        taps: how many weights.
        stride: input numbers per output number.
        before: by how much the first weight reaches beyond the edge.
        edge: "nearest" or "zero": what lies beyond.
    """

    taps: int
    stride: int
    before: int
    edge: str


@dataclass(frozen=True)
class DenseFilter:
    """A correlation with a square kernel, `out[i, j] = sum kernel[m, q] in[s i + m - before, s j + q - before]`, zeros
    beyond the edge, `before = (k - s) / 2`. Each image takes one of several kernels.

    Args:
        stride: s, input numbers per output number; the kernel's size k is even if s is, and odd if s is.
    """

    stride: int


@dataclass(frozen=True)
class ImageProgram:
    """Everything that a renderer is specialised by."""

    mass: tuple[Term, ...]
    source: tuple[Term, ...]
    lens_light: tuple[Term, ...]
    scaled: bool
    filters: tuple[Filter | DenseFilter, ...]
    noise: NoiseTerm | None
    tabulated: bool  # circular lenses with slots by tables of their own, see `tables`

    @property
    def terms(self) -> tuple[Term, ...]:
        return self.mass + self.source + self.lens_light
