"""A masked autoencoder: the encoder sees a few patches, a light decoder paints the others.

He et al. 2021, arXiv 2111.06377. The ViT is timm's; masking, masked encoder and decoder are lightly's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from lightly.models import utils as tokens_of
from lightly.models.modules import MaskedVisionTransformerTIMM
from lightly.models.modules.masked_vision_transformer_decoder_timm import MaskedVisionTransformerDecoderTIMM
from torch import Tensor, nn

from trainers.draws import Draws
from trainers.errors import ConfigError
from trainers.models.vit import ViTConfig, build_vit, require_positive, require_width


@dataclass(frozen=True)
class DecoderConfig:
    """The decoder, used in pretraining only."""

    depth: int = 2
    """Number of transformer blocks."""
    width: int = 128
    """Token dimension; a multiple of 4 and of the number of heads."""
    heads: int = 4
    """Attention heads in a block."""

    def __post_init__(self) -> None:
        for name in ("depth", "width", "heads"):
            require_positive(f"decoder.{name}", getattr(self, name))
        require_width("decoder", self.width, self.heads)


class MaskedAutoencoder(nn.Module):
    """Predicts the pixels of masked patches from the visible ones.

    Args:
        image_shape: `(C, H, W)` with H = W.
        vit: the encoder.
        decoder: the decoder.
    """

    def __init__(self, image_shape: tuple[int, int, int], vit: ViTConfig, decoder: DecoderConfig) -> None:
        super().__init__()
        backbone = build_vit(vit, image_shape)
        self.image_shape = image_shape
        self.patch_size = vit.patch_size
        self.encoder = MaskedVisionTransformerTIMM(
            backbone,
            # lightly's encoder can replace patches by this token; an MAE drops them instead, so it must not be trained
            mask_token=nn.Parameter(torch.zeros(1, 1, backbone.embed_dim), requires_grad=False),
        )
        self.decoder_embed = nn.Linear(backbone.embed_dim, decoder.width)
        self.decoder = MaskedVisionTransformerDecoderTIMM(
            num_patches=backbone.patch_embed.num_patches,
            embed_dim=decoder.width,
            depth=decoder.depth,
            num_heads=decoder.heads,
        )
        self.patch_elements = vit.patch_size**2 * image_shape[0]
        self.decoder_predict = nn.Linear(decoder.width, self.patch_elements)
        for layer in (self.decoder_embed, self.decoder_predict):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    @property
    def sequence_length(self) -> int:
        """Number of tokens: the class token and the patches."""
        return self.encoder.sequence_length

    def forward(self, images: Tensor, keep: Tensor, masked: Tensor) -> Tensor:
        """Predictions for the masked patches.

        Args:
            images: transformed images `[B, C, H, W]`.
            keep, masked: token indices `[B, K]` and `[B, M]` from `random_mask`; 0 is the class token.

        Returns:
            `[B, M, patch_size**2 * C]`
        """
        visible = self.decoder_embed(self.encoder.encode(images, idx_keep=keep))
        full = tokens_of.repeat_token(self.decoder.mask_token, (len(images), self.sequence_length))
        full = tokens_of.set_at_index(full, keep, visible.type_as(full))
        return self.decoder_predict(tokens_of.get_at_index(self.decoder(full), masked))

    def features(self, images: Tensor) -> Tensor:
        """Mean of the patch tokens `[B, D]` of whole, unmasked images `[B, C, H, W]`."""
        return self.encoder.encode(images)[:, 1:].mean(dim=1)

    def targets(self, images: Tensor, norm_pix: bool) -> Tensor:
        """What is predicted: patches' pixels `[B, P, patch_size**2 * C]`, each patch standardised if `norm_pix`."""
        patches = tokens_of.patchify(images, self.patch_size)
        return tokens_of.normalize_mean_var(patches) if norm_pix else patches

    def random_mask(self, draws: Draws, ratio: float) -> tuple[Tensor, Tensor]:
        """Token indices to keep `[B, 1 + K]`, the class token first, and to mask `[B, M]`, for each image of `draws`.

        Of P patches K = P (1 - ratio) are kept, rounded down as by He et al. lightly's `random_token_mask` draws from
        the global generator and so depends on the batch; this depends on the image.
        """
        patches = self.sequence_length - 1
        kept = int(patches * (1 - ratio) + 1e-6)  # 64 * (1 - 0.75) may be a rounding error below 16
        if kept < 1:
            raise ConfigError(
                f"mask_ratio {ratio} leaves none of {patches} patches visible; "
                "take a smaller vit.patch_size or a lower mask_ratio."
            )
        order = 1 + draws.uniforms("mask", patches).argsort(dim=1, stable=True)
        class_token = torch.zeros_like(order[:, :1])
        return torch.cat([class_token, order[:, :kept]], dim=1), order[:, kept:]

    def paste(self, images: Tensor, predictions: Tensor, masked: Tensor, norm_pix: bool = False) -> Tensor:
        """`images` `[B, C, H, W]` with the predictions put in place of the masked patches.

        Standardised predictions get the true patch's mean and deviation back, as in the paper's figures.
        """
        patches = tokens_of.patchify(images, self.patch_size)
        if norm_pix:
            truth = tokens_of.get_at_index(patches, masked - 1)
            deviation = (truth.var(dim=-1, keepdim=True) + 1e-6).sqrt()
            predictions = predictions * deviation + truth.mean(dim=-1, keepdim=True)
        patches = tokens_of.set_at_index(patches, masked - 1, predictions.type_as(patches))
        return cast(Tensor, tokens_of.unpatchify(patches, self.patch_size, channels=self.image_shape[0]))


def restore(about: dict[str, Any]) -> MaskedAutoencoder:
    """The model that a checkpoint of `trainers.mae` describes, its weights not loaded yet."""
    model = about["model"]
    channels, height, width = model["image_shape"]
    return MaskedAutoencoder((channels, height, width), ViTConfig(**model["vit"]), DecoderConfig(**model["decoder"]))


def masked_mse(predictions: Tensor, targets: Tensor, masked: Tensor) -> Tensor:
    """Mean squared error over the masked patches: a scalar.

    Args:
        predictions: `[B, M, E]` from `MaskedAutoencoder.forward`, or `[1, M, E]`.
        targets: `[B, P, E]`, every patch.
        masked: `[B, M]`, token indices.
    """
    return (predictions - tokens_of.get_at_index(targets, masked - 1)).square().mean()
