"""Twins: the same systems with some of their parts drawn anew, by calling the random numbers of these parts otherwise.

A value depends on (seed, split, index, name) alone, so another name is another value, and everything that keeps its
name keeps its bits: on every engine and device, however batched.
"""

from __future__ import annotations

from dataclasses import dataclass

from lensgen.errors import ParameterError, lookup, require_whole

_MOST = 2**31
_KINDS = ("source", "lens_light", "substructure", "noise", "psf")  # the first words of their variables' names

# What can be drawn anew -> the kinds of variables that this means.
PARTS: dict[str, tuple[str, ...]] = {
    "source": ("source",),
    "lens_light": ("lens_light",),
    "substructure": ("substructure",),
    "noise": ("noise",),
    "psf": ("psf",),
    "exposure": ("exposure",),
    "lens": ("lens", "exposure", *_KINDS),
}


def _kind(variable: str) -> str | None:
    """What a variable belongs to: "lens" is all that has no part of its own (mass, shear, redshifts); None for the
    class, which no twin changes."""
    if variable == "class":
        return None
    if variable == "noise.exposure_time":
        return "exposure"
    first = variable.partition(".")[0]
    return first if first in _KINDS else "lens"


@dataclass(frozen=True)
class Twin:
    """Which variables are called otherwise.

    Args:
        numbers: (kind of variable, number of its draw, 1 or more), sorted; what is not named is as in the original.
    """

    numbers: tuple[tuple[str, int], ...] = ()

    def twin(self, *parts: str, number: int = 1) -> Twin:
        """With `parts` drawn anew; the numbers of twins of twins add up.

        Raises:
            UnknownNameError: a part that is not one of PARTS.
            ParameterError: no part, or `number` is not within [1, 2**31].
        """
        require_whole("number", number, 1, _MOST)
        if not parts:
            raise ParameterError(f"a twin of what? Fix: name the parts to be drawn anew, of {', '.join(PARTS)}.")
        numbers = dict(self.numbers)
        for kind in {kind for part in parts for kind in lookup("part of an image", part, PARTS)}:
            numbers[kind] = numbers.get(kind, 0) + number
        return Twin(tuple(sorted(numbers.items())))

    def called(self, variable: str) -> str:
        """What the random numbers of `variable` are called in this twin."""
        number = next((number for kind, number in self.numbers if kind == _kind(variable)), None)
        return variable if number is None else f"{variable}, twin {number}"


ORIGINAL = Twin()
