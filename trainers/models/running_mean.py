"""Networks whose weights are the running mean of another's: teachers and target encoders."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


@torch.no_grad()
def follow(mean: Iterable[Tensor], own: Iterable[Tensor], momentum: float) -> None:
    """Weights `mean` become `momentum` times themselves and the rest of `own`.

    By lerp, which leaves weights that are equal as they are to the last bit; lightly's `update_momentum` rounds.
    """
    torch._foreach_lerp_(list(mean), list(own), 1 - momentum)
