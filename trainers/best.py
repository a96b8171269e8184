"""Which checkpoint of a run is the best."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from trainers.errors import ConfigError


@dataclass(frozen=True)
class Best:
    """The best validation so far, as `checkpoint.json` holds it.

    Attributes:
        step: of the checkpoint.
        figure: by which it was chosen.
        value: of the figure; finite.
    """

    step: int
    figure: str
    value: float


def better(selects: str, figures: Mapping[str, float], step: int, best: Best | None) -> Best | None:
    """The validation of `step` if it is better than `best`, else None; a figure that is not finite never is.

    Args:
        selects: "+name" if larger is better, "-name" if smaller is.

    Raises:
        ConfigError: `figures` holds no such name.
    """
    direction, name = selects[:1], selects[1:]
    if direction not in ("+", "-") or name not in figures:
        raise ConfigError(
            f"the best checkpoint is chosen by {selects!r}; write + or - and one of: {', '.join(figures)}."
        )
    value = float(figures[name])
    if not math.isfinite(value):
        return None
    sign = 1 if direction == "+" else -1
    # of another figure (a task that was changed since) it says nothing
    if best is not None and best.figure == name and sign * value <= sign * best.value:
        return None
    return Best(step, name, value)
