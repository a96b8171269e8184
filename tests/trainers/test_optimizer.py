"""Groups of parameters and their learning rates."""

import itertools

import pytest
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from trainers.config import OptimizerConfig
from trainers.errors import ConfigError
from trainers.optimizer import build_optimizer, set_learning_rate


def rates(model, config, step=50, steps=100):
    optimizer = build_optimizer(model, config, fused=False)
    assert set_learning_rate(optimizer, config, step, steps) == pytest.approx(
        max(group["lr"] for group in optimizer.param_groups)
    )
    of = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    return {name: of[id(parameter)] for name, parameter in model.named_parameters()}


def vit():
    return VisionTransformer(img_size=8, patch_size=4, in_chans=1, num_classes=3, embed_dim=16, depth=3, num_heads=2)


def test_without_layer_decay_all_learn_alike():
    found = rates(vit(), OptimizerConfig())
    assert len({group["lr"] for group in found.values()}) == 1
    assert (
        found["cls_token"]["weight_decay"] == found["pos_embed"]["weight_decay"] == found["head.bias"]["weight_decay"]
    )
    assert found["cls_token"]["weight_decay"] == 0 < found["head.weight"]["weight_decay"]


def test_layer_decay_slows_the_first_layers():
    config = OptimizerConfig(layer_decay=0.5)
    found = rates(vit(), config)
    names = ["patch_embed.proj", "blocks.0.attn.qkv", "blocks.1.attn.qkv", "blocks.2.attn.qkv", "head"]
    found_rates = [found[f"{name}.weight"]["lr"] for name in names]
    assert all(one == pytest.approx(two / 2) for one, two in itertools.pairwise(found_rates))
    assert found_rates == sorted(found_rates) and found["pos_embed"]["weight_decay"] == 0


def test_layer_decay_needs_a_model_with_layers():
    with pytest.raises(ConfigError, match=r"optimizer\.layer_decay is 0\.5, but Linear does not say"):
        build_optimizer(nn.Linear(2, 2), OptimizerConfig(layer_decay=0.5), fused=False)
