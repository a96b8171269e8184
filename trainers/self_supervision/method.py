"""What a method of self-supervision is: its views, its heads, its teacher, its loss."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lightly.models.modules.heads import ProjectionHead
from torch import Tensor, nn

from trainers.draws import Draws
from trainers.views import Augmentation

Norm = Literal["none", "batch", "layer"]
Teacher = Literal["none", "self", "momentum"]
Options = Mapping[str, float]
# "student" [V, B, D] and, where there is a teacher, "teacher" [2, B, D], of the whole batch of all processes
Outputs = Mapping[str, Tensor]

# What a method may be told beside its heads: name -> least and greatest value. None of them is of all methods.
OPTIONS: dict[str, tuple[float, float]] = {
    "temperature": (1e-3, 10),
    "teacher_temperature": (1e-3, 10),
    "momentum": (0, 1),
    "invariance": (0, 1e6),
    "variance": (0, 1e6),
    "covariance": (0, 1e6),
    "trade_off": (0, 1),
    "local_views": (0, 32),
}


@dataclass(frozen=True)
class Heads:
    """What stands on the encoder while it learns.

    Args:
        norm: after the hidden layers.
        hidden: width of the hidden layers.
        width: D, of the projections.
        predictor: whether the student has to predict what its teacher makes.
        teacher: none; the student itself, through which no gradient flows; or a running mean of it (momentum).
    """

    norm: Norm
    hidden: int
    width: int
    predictor: bool
    teacher: Teacher


@dataclass(frozen=True)
class Method:
    """A method.

    Attributes:
        paper: where it is from.
        views: how the two (global) views are made by itself.
        heads: its paper's, the greatest sizes among them; `norm` is the first of `norms`.
        norms: the norms that its heads can have.
        options: those of `OPTIONS` that it has, with the values that it takes by itself.
        projector: width of the features, heads -> head to D.
        predictor: heads -> head from D to D; None for a method that has none.
        compared: projections, options -> what the loss compares, by which a collapse is noticed; None: themselves.
        criterion: heads, options -> the loss of lightly, whose buffers are the model's.
        loss: criterion, outputs, options, draws -> scalar, of the whole batch.
    """

    paper: str
    views: tuple[Augmentation, Augmentation]
    heads: Heads
    norms: tuple[Norm, ...]
    options: Options
    projector: Callable[[int, Heads], nn.Module]
    criterion: Callable[[Heads, Options], nn.Module]
    loss: Callable[[nn.Module, Outputs, Options, Draws], Tensor]
    predictor: Callable[[Heads], nn.Module] | None = None
    compared: Callable[[Tensor, Options], Tensor] | None = None


def mlp(widths: Sequence[int], norm: Norm, last_norm: nn.Module | None = None) -> nn.Module:
    """lightly's head of linear layers from each width to the next: a norm and ReLU after all but the last."""
    layers: dict[Norm, Callable[[int], nn.Module | None]] = {
        "none": lambda width: None,
        "batch": nn.BatchNorm1d,
        "layer": nn.LayerNorm,
    }
    pairs = list(itertools.pairwise(widths))
    hidden = [(inputs, outputs, layers[norm](outputs), nn.ReLU()) for inputs, outputs in pairs[:-1]]
    return ProjectionHead([*hidden, (*pairs[-1], last_norm, None)])
