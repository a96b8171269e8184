"""An output layer for an encoder: trained with it, or linear and trained alone on what the frozen encoder makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from trainers.models.registry import build_model
from trainers.models.vit import ViTConfig

CHUNK = 250  # images at a time where no gradient is kept


class OnFrozenEncoder(nn.Module):
    """Base of what sits on the standardised features of an encoder that is never trained.

    Mean and deviation of the features are part of the state dict.

    Args:
        encoder: images `[B, C, H, W]` -> features `[B, D]`; always in evaluation mode.
        width: D.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, encoder: nn.Module, width: int) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False).eval()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    def train(self, mode: bool = True) -> Self:
        """As of every module, but for the encoder, whose dropout and batch norms stay still."""
        super().train(mode)
        self.encoder.eval()
        return self

    def standardised(self, features: Tensor) -> Tensor:
        """Features `[B, D]` in units of the deviation about the mean."""
        return (features - self.mean) / self.deviation


class LinearProbe(OnFrozenEncoder):
    """A linear layer on the standardised features of a frozen encoder, as in He et al. 2021 (arXiv 2111.06377, A.1).

    Theirs are standardised by each batch, these by images that `standardise` was given, once, so that a step does not
    depend on how its batch is shared out between processes.

    Args:
        encoder, width: as for `OnFrozenEncoder`.
        outputs: number of outputs K.
    """

    def __init__(self, encoder: nn.Module, width: int, outputs: int) -> None:
        super().__init__(encoder, width)
        self.head = nn.Linear(width, outputs)
        nn.init.trunc_normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def standardise(self, images: Tensor) -> None:
        """Takes mean and deviation of the features of transformed images `[N, C, H, W]` as those of all."""
        features = in_chunks(self.encoder, images)
        self.mean.copy_(features.mean(dim=0))
        self.deviation.copy_((features.var(dim=0, correction=0) + 1e-6).sqrt())

    def forward(self, images: Tensor) -> Tensor:
        """Outputs `[B, K]`."""
        with torch.no_grad():
            features = self.encoder(images)
        return self.head(self.standardised(features))


def build_with_head(model: Mapping[str, Any], outputs: int, pretrained: bool = False) -> nn.Module:
    """The network that a checkpoint's `about["model"]` describes, newly initialised.

    Args:
        model: `name` in the registry, `image_shape`, `vit`, and `method`: "finetune" for the network itself with
            an output layer, "linear" for a `LinearProbe` of it.
        outputs: of the output layer.
        pretrained: with timm's weights.
    """
    if model["method"] == "finetune":
        return _build(model, outputs, pretrained)
    return LinearProbe(*build_features(model, pretrained), outputs)


def build_features(model: Mapping[str, Any], pretrained: bool = False) -> tuple[nn.Module, int]:
    """The network of `build_with_head` without an output layer, and the width D of its features `[B, D]`."""
    network = _build(model, 0, pretrained).eval()
    with torch.no_grad():
        return network, network(torch.zeros(1, *model["image_shape"])).shape[1]


def take_encoder(model: nn.Module, encoder: nn.Module) -> None:
    """Puts a pretrained encoder's weights and buffers into the like of it in `model`; the head stays as it is.

    Args:
        model: built for it by `build_with_head`, or an `OnFrozenEncoder`.
    """
    network = model.encoder if isinstance(model, OnFrozenEncoder) else model
    unexpected = network.load_state_dict(encoder.state_dict(), strict=False).unexpected_keys
    assert not unexpected, unexpected  # and none is missing: without a head it is the same network


def in_chunks(function: nn.Module, images: Tensor) -> Tensor:
    """`function` over images `[N, C, H, W]`, some at a time and without gradients: float32 `[N, ...]`."""
    with torch.no_grad():
        return torch.cat([function(part).float() for part in images.split(CHUNK)])


def _build(model: Mapping[str, Any], outputs: int, pretrained: bool) -> nn.Module:
    channels, height, width = model["image_shape"]
    return build_model(model["name"], (channels, height, width), outputs, ViTConfig(**model["vit"]), pretrained)
