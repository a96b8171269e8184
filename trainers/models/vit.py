"""The ViT that trainers share: by timm, at any image size."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

import timm
import torch
from lightly.models.utils import get_at_index
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from lensgen.errors import UnknownNameError
from trainers.errors import ConfigError


@dataclass(frozen=True)
class ViTConfig:
    """The encoder, a vision transformer."""

    patch_size: int = 8
    """Side of a patch [pixels]; must divide the image's side."""
    depth: int = 6
    """Number of transformer blocks."""
    width: int = 192
    """Token dimension; a multiple of 4 and of the number of heads."""
    heads: int = 6
    """Attention heads in a block."""
    timm_name: str | None = None
    """A timm ViT, e.g. vit_small_patch16_224, in place of depth, width and heads."""
    dropout: float = 0.0
    """Dropout after attention and within the MLPs."""
    drop_path: float = 0.0
    """Stochastic depth: how often the last block is left out for an image, the blocks before it less often."""

    def __post_init__(self) -> None:
        for name in ("patch_size", "depth", "width", "heads"):
            require_positive(f"vit.{name}", getattr(self, name))
        for name in ("dropout", "drop_path"):
            if not 0 <= getattr(self, name) <= 0.9:
                raise ConfigError(f"vit.{name} is {getattr(self, name)}; allowed: 0 to 0.9.")


def require_positive(name: str, value: int) -> None:
    """Raises `ConfigError` unless `value` is at least 1."""
    if value < 1:
        raise ConfigError(f"{name} is {value}; allowed: 1 or more.")


def require_width(name: str, width: int, heads: int) -> None:
    """Raises `ConfigError` unless attention and the sine-cosine position embedding can split `width`."""
    if width % heads or width % 4:
        raise ConfigError(
            f"{name}.width is {width} with {name}.heads {heads}; the width must be a multiple of the heads and of 4. "
            f"Try {name}.width {4 * heads * max(1, round(width / (4 * heads)))}."
        )


def require_own_sizes(name: str, config: ViTConfig) -> None:
    """Raises `ConfigError` if the sizes of `config` are no sizes for the model `name` of this project."""
    if config.timm_name is not None:
        raise ConfigError(f"--vit.timm-name {config.timm_name} is of --model vit; leave it out for --model {name}.")
    require_width("vit", config.width, config.heads)


def build_vit(config: ViTConfig, image_shape: tuple[int, int, int], **more: Any) -> VisionTransformer:
    """A ViT with one class token, for images of shape `(C, H, W)`, H = W.

    Args:
        more: further arguments of timm's VisionTransformer, e.g. num_classes; without it there is no head.

    Raises:
        ConfigError: a patch size that does not divide the image, a width that cannot be split, an unknown timm name or
            one that is not a plain ViT with a class token.
    """
    channels, height, width = image_shape
    if height != width:
        raise ConfigError(
            f"images are {height} x {width} pixels of {channels} channel(s); the ViT takes square ones: a preset with "
            "--set grid.size=64, or a stored set of [N,C,H,W], channels first."
        )
    if height % config.patch_size or config.patch_size == height:
        sizes = [str(size) for size in range(1, height) if height % size == 0]
        raise ConfigError(
            f"vit.patch_size is {config.patch_size}, which does not cut {height} pixels into patches; "
            f"sizes that do: {', '.join(sizes)}."
        )
    arguments: dict[str, Any] = {
        "img_size": height,
        "patch_size": config.patch_size,
        "in_chans": channels,
        "num_classes": 0,
        "proj_drop_rate": config.dropout,
        "drop_path_rate": config.drop_path,
        **more,
    }
    if config.timm_name is None:
        require_width("vit", config.width, config.heads)
        return VisionTransformer(**arguments, embed_dim=config.width, depth=config.depth, num_heads=config.heads)
    return _timm_vit(config.timm_name, arguments)


def _timm_vit(name: str, arguments: dict[str, Any]) -> VisionTransformer:
    if name not in timm.list_models("vit_*"):
        near = difflib.get_close_matches(name, timm.list_models("vit_*_patch*"), n=5, cutoff=0.5)
        hint = f" Names like it: {', '.join(near)}." if near else ""
        raise UnknownNameError(f"unknown timm ViT '{name}'.{hint} All: timm.list_models('vit_*').")
    vit = timm.create_model(name, **arguments)
    if not isinstance(vit, VisionTransformer) or vit.num_prefix_tokens != 1 or vit.cls_token is None:
        raise ConfigError(f"vit.timm_name {name} is not a plain ViT with a class token; e.g. vit_small_patch16_224 is.")
    return vit


def patch_tokens(vit: VisionTransformer, images: Tensor, patches: Tensor | None = None) -> Tensor:
    """Normalised tokens `[B, K, D]` of the patches `[B, K]` of images, the only ones that are seen; None: of all."""
    tokens = vit._pos_embed(vit.patch_embed(images))
    if patches is not None:
        prefix = tokens[:, : vit.num_prefix_tokens]
        tokens = torch.cat((prefix, get_at_index(tokens[:, vit.num_prefix_tokens :], patches)), 1)
    return vit.norm(vit.blocks(vit.norm_pre(tokens)))[:, vit.num_prefix_tokens :]
