"""What all processes have of a batch, so that each works out the loss of the whole of it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributed.nn.functional import all_gather


def gathered(values: Tensor, dim: int = 0) -> Tensor:
    """`values` of all ranks, rank 0 first, joined along `dim`; gradients flow back to where they belong.

    Rank r takes batch r of each global batch, so the rows stand as they do in one process with the whole batch. Each
    rank then has the loss L of all images; the backward pass of the gathering adds what all ranks found for a row, W
    times dL/d(row), and the mean over W ranks that DDP takes leaves dL/d(weights): that of one process.
    """
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return values
    if torch.distributed.get_world_size() == 1:
        return values
    return torch.cat(all_gather(values), dim)
