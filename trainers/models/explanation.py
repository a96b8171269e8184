"""What a model that knows of lenses makes of a batch."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from trainers.models.physics.source import Source


class Explanation(NamedTuple):
    """A tuple, as what wraps a model for several devices or other number formats looks through tuples for tensors.

    Attributes:
        outputs: `[B, outputs]`, or features.
        theta_E: `[B]`, the Einstein radius of the isothermal sphere, in pixels; None without physics.
        source: rebuilt from the images as they were given; None without physics.
        preprocessed: `[B, C, H, W]`, what is seen beside the images: they themselves without preprocessing; None of a
            model that sees nothing beside them.
        k: `[B, 1, H, W]`, the potential in units of that of the sphere; None where it is not corrected.
    """

    outputs: Tensor
    theta_E: Tensor | None
    source: Source | None
    preprocessed: Tensor | None
    k: Tensor | None = None
