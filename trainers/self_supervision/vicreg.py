"""VICReg: views agree, every dimension varies, no two are correlated; neither negatives nor a teacher.

Bardes et al. 2022, arXiv 2105.04906, equation 6.
"""

from __future__ import annotations

from lightly.loss import VICRegLoss
from torch import Tensor, nn

from trainers.draws import Draws
from trainers.self_supervision.method import Heads, Method, Options, Outputs, mlp


def loss(criterion: nn.Module, outputs: Outputs, options: Options, draws: Draws) -> Tensor:
    return criterion(*outputs["student"])


METHOD = Method(
    paper="Bardes et al. 2022, arXiv 2105.04906",
    views=("vicreg", "vicreg"),
    heads=Heads("batch", 8192, 8192, predictor=False, teacher="none"),
    norms=("batch", "layer"),
    options={"invariance": 25.0, "variance": 25.0, "covariance": 1.0},
    projector=lambda features, heads: mlp([features, heads.hidden, heads.hidden, heads.width], heads.norm),
    criterion=lambda heads, options: VICRegLoss(options["invariance"], options["variance"], options["covariance"]),
    loss=loss,
)
