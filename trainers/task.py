"""What a trainer is to the loop, and how far it has come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from trainers.data import Batch
from trainers.draws import Draws


class Task(Protocol):
    """What a trainer trains, and how it is judged.

    Attributes:
        model: on the device, bare (not wrapped for several processes).
        about: JSON-able; what a checkpoint says of trainer, model, data and transform.
        selects: the figure by which the best checkpoint is chosen: "+name" if larger is better, "-name" if smaller.
    """

    model: nn.Module
    about: dict[str, Any]
    selects: str

    def loss(self, forward: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        """The scalar loss, a mean over a batch's images; `forward` is the wrapped model, all randomness is `draws`."""

    def validate(self) -> dict[str, float]:
        """Figures on frozen validation images; called on rank 0 alone."""


@dataclass
class Progress:
    """How far a run is, summed over the sessions that it was resumed in."""

    step: int = 0
    training_seconds: float = 0.0
    simulating_seconds: float = 0.0

    def share_simulating(self) -> float:
        """Fraction of the time in training steps that was spent waiting for images."""
        return self.simulating_seconds / self.training_seconds if self.training_seconds else 0.0
