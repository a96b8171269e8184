"""SimCLR: the two views of an image are each other's nearest among all views of the batch.

Chen et al. 2020, arXiv 2002.05709: NT-Xent, equation 1.
"""

from __future__ import annotations

from lightly.loss import NTXentLoss
from torch import Tensor, nn

from trainers.draws import Draws
from trainers.self_supervision.method import Heads, Method, Options, Outputs, mlp


def loss(criterion: nn.Module, outputs: Outputs, options: Options, draws: Draws) -> Tensor:
    return criterion(*outputs["student"])


METHOD = Method(
    paper="Chen et al. 2020, arXiv 2002.05709",
    views=("simclr", "simclr"),
    heads=Heads("batch", 2048, 128, predictor=False, teacher="none"),
    norms=("batch", "layer"),
    options={"temperature": 0.1},
    projector=lambda features, heads: mlp([features, heads.hidden, heads.width], heads.norm),
    criterion=lambda heads, options: NTXentLoss(options["temperature"]),
    loss=loss,
)
