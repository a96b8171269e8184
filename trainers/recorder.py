"""What training steps leave behind, kept on the device until the logs are written.

Reading a loss at every step would make the GPU wait for the CPU and back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor

from trainers.data import Batch
from trainers.failure import BadStep


@dataclass(frozen=True)
class Report:
    """The steps since the last one, of all ranks together.

    Attributes:
        rows: for `train.csv`, one a step; up to and with the bad step, if there is one.
        index: images that were trained on, `[steps, images]`.
        bad: the first step whose loss or gradient is not finite.
    """

    rows: list[dict[str, Any]]
    index: np.ndarray
    bad: BadStep | None


class Recorder:
    """Collects losses, gradient norms and indices of this rank, and shares them when asked."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self._checked: tuple[str, ...] = ()
        self._clear()

    def add(self, step: int, learning_rate: float, loss: Tensor, grad_norm: Tensor, batch: Batch) -> None:
        """Notes a step; does not wait for the device.

        Args:
            loss: scalar, of this rank.
            grad_norm: scalar, before clipping.
        """
        self._steps.append({"step": step, "learning_rate": learning_rate})
        self._figures.append(torch.stack([loss.detach().float(), grad_norm.detach().float()]))
        self._index.append(batch.index)
        parts = {"image": batch.image, **batch.maps}
        checked = {name: part for name, part in parts.items() if part.is_floating_point()}
        self._checked = tuple(checked)
        self._finite.append(torch.stack([part.isfinite().flatten(1).all(dim=1) for part in checked.values()]))

    def take(self) -> Report:
        """The steps since the last call; waits for the device, and for the other ranks."""
        # a value that is not finite on one rank makes the mean so on all of them: they agree
        figures = cast(Tensor, self._fabric.all_reduce(torch.stack(self._figures), reduce_op="mean")).tolist()
        index = self._of_all_ranks(torch.stack(self._index))
        rows, bad = [], None
        for number, (step, (loss, norm)) in enumerate(zip(self._steps, figures, strict=True)):
            rows.append({"step": step["step"], "loss": loss, "grad_norm": norm, "learning_rate": step["learning_rate"]})
            rows[-1]["images"] = step["step"] * index.shape[1]
            if not (math.isfinite(loss) and math.isfinite(norm)):
                bad = BadStep(step["step"], loss, norm, index[number].tolist(), self._not_finite(number, index[number]))
                break
        self._clear()
        return Report(rows, index.numpy(), bad)

    def _not_finite(self, number: int, index: Tensor) -> dict[str, list[int]]:
        finite = self._of_all_ranks(self._finite[number].to(torch.uint8)).bool()
        return {name: index[~row].tolist() for name, row in zip(self._checked, finite, strict=True)}

    def _of_all_ranks(self, values: Tensor) -> Tensor:
        """`[N, B]` of each rank -> `[N, W B]` on the CPU."""
        parts = [torch.empty_like(values) for _ in range(self._fabric.world_size)]
        if len(parts) == 1:
            parts = [values]
        else:
            torch.distributed.all_gather(parts, values)
        return torch.cat(parts, dim=1).cpu()

    def _clear(self) -> None:
        self._steps: list[dict[str, Any]] = []
        self._figures: list[Tensor] = []
        self._index: list[Tensor] = []
        self._finite: list[Tensor] = []
