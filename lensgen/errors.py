"""What can go wrong, and which exception says so.

Every message names the thing, the value it had, what is allowed (with its unit) and what to do about it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class LensgenError(Exception):
    """Base of every error that lensgen raises on purpose."""


class ParameterError(LensgenError, ValueError):
    """A value is out of range, not finite, or of the wrong shape."""


class UnknownNameError(LensgenError, KeyError):
    """A profile, preset, class, field or option that does not exist."""

    def __str__(self) -> str:  # KeyError would print the repr, with the quotes escaped
        return str(self.args[0])


class PresetError(LensgenError, ValueError):
    """A preset contradicts itself or leaves out a choice that it must make."""


class DataError(LensgenError, ValueError):
    """A file cannot be read, or holds something else than was expected of it."""


class EngineError(LensgenError, RuntimeError):
    """An engine was named that cannot do what was asked of it."""


def unknown_name(kind: str, name: Any, known: Iterable[str]) -> UnknownNameError:
    """The error for a name that is not among `known`, with the nearest one suggested."""
    known = sorted(set(known))
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return UnknownNameError(f"unknown {kind} '{name}'.{hint} Known: {', '.join(known)}.")


def lookup(kind: str, name: Any, known: Mapping[str, T]) -> T:
    """`known[name]`; UnknownNameError for anything that is not one of its names."""
    if not isinstance(name, str) or name not in known:
        raise unknown_name(kind, name, known)
    return known[name]


def require_number(name: str, value: Any, low: float, high: float, unit: str = "") -> None:
    """Raise ParameterError unless `value` is a number within [low, high]; NaN, strings and booleans are not."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ParameterError(f"{name} = {value!r} is outside [{low:g}, {high:g}]{unit and ' ' + unit}.")


def require_whole(name: str, value: Any, low: float, high: float) -> None:
    """Raise ParameterError unless `value` is a whole number within [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ParameterError(
            f"{name} = {value!r} is no whole number (an int): give one within [{low:.15g}, {high:.15g}]."
        )
    if not low <= value <= high:
        raise ParameterError(f"{name} = {value!r} is outside [{low}, {high}].")


NOT_FINITE = (  # of an image, by its place
    "image {} of the batch is not finite: a parameter of the scene is not a number or far out of range. "
    "Component.make checks parameters; build components with it."
)
