"""LeJEPA: all views near the mean of the large ones, and their projections an isotropic Gaussian (SIGReg).

Balestriero & LeCun 2025, arXiv 2511.08544: no teacher, no stopped gradient, one trade-off.
"""

from __future__ import annotations

import torch
from lightly.loss import LeJEPALoss
from torch import Tensor, nn

from trainers.draws import Draws, key_of
from trainers.self_supervision.method import Heads, Method, Options, Outputs, mlp


def loss(criterion: nn.Module, outputs: Outputs, options: Options, draws: Draws) -> Tensor:
    views = outputs["student"]
    large, small = views[:2], views[2:]
    devices = [views.device] if views.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        # its random directions must be those of this step, on all ranks and after a resume
        torch.manual_seed(key_of(draws.seed, draws.step, "directions of SIGReg"))
        # lightly asks for a small view; the same views twice change no mean
        return criterion(local_proj=small if len(small) else large, global_proj=large)


METHOD = Method(
    paper="Balestriero & LeCun 2025, arXiv 2511.08544",
    views=("lejepa", "lejepa"),
    heads=Heads("batch", 2048, 64, predictor=False, teacher="none"),
    norms=("batch", "layer"),
    options={"trade_off": 0.05, "local_views": 2},
    projector=lambda features, heads: mlp([features, heads.hidden, heads.hidden, heads.width], heads.norm),
    criterion=lambda heads, options: LeJEPALoss(options["trade_off"]),
    loss=loss,
)
