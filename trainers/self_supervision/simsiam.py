"""SimSiam: BYOL without a running mean; the predictor and the stopped gradient keep it from collapsing.

Chen & He 2020, arXiv 2011.10566, equation 2. The output of the projector is normalised too; the hidden layer of the
predictor is a quarter as wide (section 3).
"""

from __future__ import annotations

from lightly.loss import NegativeCosineSimilarity
from torch import nn

from trainers.self_supervision.byol import loss
from trainers.self_supervision.method import Heads, Method, mlp


def projector(features: int, heads: Heads) -> nn.Module:
    last = nn.BatchNorm1d(heads.width, affine=False) if heads.norm == "batch" else nn.LayerNorm(heads.width)
    return mlp([features, heads.hidden, heads.hidden, heads.width], heads.norm, last)


METHOD = Method(
    paper="Chen & He 2020, arXiv 2011.10566",
    views=("simsiam", "simsiam"),
    heads=Heads("batch", 2048, 2048, predictor=True, teacher="self"),
    norms=("batch", "layer"),
    options={},
    projector=projector,
    predictor=lambda heads: mlp([heads.width, max(1, heads.width // 4), heads.width], heads.norm),
    criterion=lambda heads, options: NegativeCosineSimilarity(),
    loss=loss,
)
