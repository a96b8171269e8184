"""The optimizer that all trainers use, and its learning rate, which depends on the step alone."""

from __future__ import annotations

import torch
from lightly.utils.scheduler import cosine_warmup_schedule
from timm.optim import param_groups_weight_decay
from torch import nn

from trainers.config import OptimizerConfig


def build_optimizer(model: nn.Module, config: OptimizerConfig, fused: bool) -> torch.optim.AdamW:
    """AdamW without weight decay on biases, norms and tokens."""
    tokens = [name for name, _ in model.named_parameters() if name.endswith(("_token", "pos_embed"))]
    groups = param_groups_weight_decay(model, config.weight_decay, no_weight_decay_list=tokens)
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2), fused=fused)


def set_learning_rate(optimizer: torch.optim.Optimizer, config: OptimizerConfig, step: int, steps: int) -> float:
    """Sets and returns the rate of `step` of `steps`: a linear warm-up from 0, then a cosine."""
    rate = config.lr * cosine_warmup_schedule(
        step=step,
        max_steps=steps,
        start_value=1.0,
        end_value=config.final_lr,
        warmup_steps=round(config.warmup * steps),
        warmup_start_value=0.0,
    )
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate
