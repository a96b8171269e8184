"""The optimizer that all trainers use, and its learning rate, which depends on the step alone."""

from __future__ import annotations

import torch
from lightly.utils.scheduler import cosine_warmup_schedule
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import nn

from trainers.config import OptimizerConfig
from trainers.errors import ConfigError


def build_optimizer(model: nn.Module, config: OptimizerConfig, fused: bool) -> torch.optim.AdamW:
    """AdamW without weight decay on biases, norms and tokens.

    With `layer_decay` d, layer l of L learns at d**(L - l) times the rate (BEiT, Bao et al. 2021, arXiv 2106.08254).

    Raises:
        ConfigError: `layer_decay` for a model that does not say what its layers are.
    """
    tokens = [name for name, _ in model.named_parameters() if name.endswith(("_token", "pos_embed"))]
    if config.layer_decay is None:
        groups = param_groups_weight_decay(model, config.weight_decay, no_weight_decay_list=tokens)
    else:
        if not hasattr(model, "group_matcher"):
            raise ConfigError(
                f"optimizer.layer_decay is {config.layer_decay:g}, but {type(model).__name__} does not say what its "
                "layers are (timm's group_matcher); leave it out, or fine-tune a timm model."
            )
        groups = param_groups_layer_decay(
            model, config.weight_decay, no_weight_decay_list=tokens, layer_decay=config.layer_decay
        )
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2), fused=fused)


def set_learning_rate(optimizer: torch.optim.Optimizer, config: OptimizerConfig, step: int, steps: int) -> float:
    """Sets and returns the rate of `step` of `steps`: a linear warm-up from 0, then a cosine.

    A group with an `lr_scale` gets that many times the rate.
    """
    rate = config.lr * cosine_warmup_schedule(
        step=step,
        max_steps=steps,
        start_value=1.0,
        end_value=config.final_lr,
        warmup_steps=round(config.warmup * steps),
        warmup_start_value=0.0,
    )
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)
    return rate
