"""DINO: the student gives small crops the class that a running mean of it gives large ones, centred and sharpened.

Caron et al. 2021, arXiv 2104.14294, equations 1 to 4. The teacher sees the two large crops alone. Its temperature is
constant: a stream has no epochs to warm it up over. By itself it is sharper (.02) and follows faster (momentum .95)
than the paper's (.04 and .996), and the heads have batch norms, which those of the paper's ViTs have not (--head-norm
none): lenses look so much alike to a new network that otherwise, in runs of hundreds of steps, all become of one class.
"""

from __future__ import annotations

import warnings

from lightly.loss import DINOLoss
from lightly.models.modules.heads import DINOProjectionHead
from torch import Tensor, nn

from trainers.draws import Draws
from trainers.self_supervision.method import Heads, Method, Options, Outputs

BOTTLENECK = 256


def projector(features: int, heads: Heads) -> nn.Module:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*weight_norm", FutureWarning)  # lightly's to mend
        return DINOProjectionHead(
            features, heads.hidden, min(BOTTLENECK, heads.hidden), heads.width, batch_norm=heads.norm == "batch"
        )


def loss(criterion: nn.Module, outputs: Outputs, options: Options, draws: Draws) -> Tensor:
    # the centre moves on, for all ranks alike: each has the whole batch
    return criterion(list(outputs["teacher"]), list(outputs["student"]), teacher_temp=options["teacher_temperature"])


METHOD = Method(
    paper="Caron et al. 2021, arXiv 2104.14294",
    views=("dino", "dino"),
    heads=Heads("batch", 2048, 65536, predictor=False, teacher="momentum"),
    norms=("batch", "none"),
    options={"temperature": 0.1, "teacher_temperature": 0.02, "momentum": 0.95, "local_views": 2},
    projector=projector,
    criterion=lambda heads, options: DINOLoss(heads.width, student_temp=options["temperature"]),
    loss=loss,
    # a common offset of all logits is no collapse
    compared=lambda projections, options: (projections / options["temperature"]).softmax(dim=-1),
)
