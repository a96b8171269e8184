"""How detectable the substructure of test images is, which only a simulator can say."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from trainers.data import Batch

_AT_A_TIME = 32


def detectability(truth: Callable[..., Batch | None], index: Tensor, progress: bool = True) -> np.ndarray:
    """Chi-square `[B]` of the substructure of images: see `lensgen.detectability`.

    Args:
        truth: indices `[b]` and "detectability" -> the images with that output, as `Data.truth` gives them.
        index: `[B]`.
    """
    found = []
    with tqdm(total=len(index), unit="image", desc="detectability", dynamic_ncols=True, disable=not progress) as bar:
        for part in index.split(_AT_A_TIME):
            batch = truth(part, "detectability")
            assert batch is not None, "the command line refuses it for stored sets"
            found.append(batch.maps["detectability"].flatten().cpu())
            bar.update(len(part))
    return torch.cat(found).numpy()
