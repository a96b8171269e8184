"""Regressors: a mean and a variance for each target, a Gaussian likelihood of standardised targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainers.errors import CheckpointError
from trainers.models.heads import build_with_head, in_chunks
from trainers.transform import InputTransform

Method = Literal["finetune", "linear"]
# Of log-variances: deviations stay within a factor of exp(5) = 148 of that of the prior, so that no loss runs away.
BOUND = 10.0


@dataclass(frozen=True)
class Scaling:
    """Targets in units of their deviation about their mean, each of T; a network predicts these.

    Attributes:
        mean, deviation: of each target over the images that `of` was given.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def of(cls, values: Tensor) -> Scaling:
        """Of targets `[N, T]`."""
        return cls(tuple(values.mean(dim=0).tolist()), tuple(values.std(dim=0, correction=0).tolist()))

    @classmethod
    def of_checkpoint(cls, about: Mapping[str, Any]) -> Scaling:
        """As a checkpoint of `trainers.regress` has it."""
        return cls(tuple(about["scaling"]["mean"]), tuple(about["scaling"]["deviation"]))

    def standardise(self, values: Tensor) -> Tensor:
        """Targets `[B, T]` -> float32 `[B, T]`."""
        return ((values - values.new_tensor(self.mean)) / values.new_tensor(self.deviation)).float()


def gaussian(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-variance, both float32 `[B, T]`, of a network's outputs `[B, 2 T]`; the latter within `BOUND`."""
    mean, raw = outputs.float().chunk(2, dim=1)
    return mean, BOUND * torch.tanh(raw / BOUND)


def gaussian_nll(outputs: Tensor, targets: Tensor) -> Tensor:
    """Negative log-likelihood of standardised targets `[B, T]`, a mean over images and targets.

    Of a network that says no more than mean and deviation of the prior, a Gaussian's, it is 1.42.
    """
    mean, log_variance = gaussian(outputs)
    return functional.gaussian_nll_loss(mean, targets, log_variance.exp(), full=True)


def estimates(outputs: Tensor, scaling: Scaling) -> Tensor:
    """Mean and deviation of each target, not standardised any more: float64 `[B, T, 2]` of outputs `[B, 2 T]`."""
    mean, log_variance = (part.double() for part in gaussian(outputs))
    deviation = mean.new_tensor(scaling.deviation)
    return torch.stack([mean * deviation + mean.new_tensor(scaling.mean), (log_variance / 2).exp() * deviation], dim=-1)


def build_regressor(model: Mapping[str, Any], pretrained: bool = False) -> nn.Module:
    """The regressor that a checkpoint's `about["model"]` describes, newly initialised: `[B, C, H, W]` -> `[B, 2 T]`.

    Args:
        model: as for `build_with_head`, with `targets`, the number T of them.
        pretrained: with timm's weights.
    """
    return build_with_head(model, 2 * model["targets"], pretrained)


def restore(about: Mapping[str, Any]) -> nn.Module:
    """The bare model of a checkpoint of `trainers.regress`; its weights are not loaded yet.

    Raises:
        CheckpointError: another trainer's.
    """
    if about.get("trainer") != "regress":
        raise CheckpointError(f"the checkpoint is by trainers.{about.get('trainer')}, not by trainers.regress.")
    return build_regressor(about["model"])


def prediction_options(about: Mapping[str, Any]) -> dict[str, Any]:
    """What `predict` needs to know of a checkpoint beside model and transform."""
    return {"scaling": Scaling.of_checkpoint(about)}


def predict(model: nn.Module, transform: InputTransform, image: Tensor, scaling: Scaling) -> Tensor:
    """Mean and deviation of each target, on the scale of `Target.of`: float64 `[B, T, 2]`, without gradients.

    Args:
        image: `[B, C, H, W]`, in the simulator's units.
    """
    return estimates(in_chunks(model, transform(image)), scaling)
