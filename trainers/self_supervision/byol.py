"""BYOL: from one view predict what a running mean of the network makes of the other; there are no negatives.

Grill et al. 2020, arXiv 2006.07733, equation 2. Its target network takes batch statistics, as the online one does. The
momentum climbs from its value to 1 along a cosine (section 3.3); .99 is the paper's for short runs (table 20: 100 and
300 epochs), .996 for long ones.
"""

from __future__ import annotations

from lightly.loss import NegativeCosineSimilarity
from torch import Tensor, nn

from trainers.draws import Draws
from trainers.self_supervision.method import Heads, Method, Options, Outputs, mlp


def loss(criterion: nn.Module, outputs: Outputs, options: Options, draws: Draws) -> Tensor:
    (one, two), (target_one, target_two) = outputs["student"], outputs["teacher"]
    return (criterion(one, target_two) + criterion(two, target_one)) / 2


METHOD = Method(
    paper="Grill et al. 2020, arXiv 2006.07733",
    views=("byol", "byol"),
    heads=Heads("batch", 4096, 256, predictor=True, teacher="momentum"),
    norms=("batch", "layer"),
    options={"momentum": 0.99},
    projector=lambda features, heads: mlp([features, heads.hidden, heads.width], heads.norm),
    predictor=lambda heads: mlp([heads.width, heads.hidden, heads.width], heads.norm),
    criterion=lambda heads, options: NegativeCosineSimilarity(),
    loss=loss,
)
