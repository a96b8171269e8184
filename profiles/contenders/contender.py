"""What every contender can do."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Refused(Exception):
    """A contender cannot do a task; the message says why."""


class Contender(Protocol):
    """Built for a task: parameters are drawn and everything that does not depend on them is set up.

    Attributes:
        dtype: in which it computes.
        notes: its choices among variants, or "".
    """

    dtype: str
    notes: str

    def render(self) -> int:
        """Renders once more; the number of images. On a device they may not be done yet."""

    def wait(self) -> None:
        """Returns when everything rendered is done."""

    def check_images(self) -> np.ndarray | None:
        """Noise-free images `[K, H, W]` of the first systems, or None where there is nothing to compare with."""
