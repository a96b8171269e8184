"""A masked autoencoder: the encoder sees a few patches, a light decoder paints the others.

He et al. 2021, arXiv 2111.06377. The ViT is timm's; masking, masked encoder and decoder are lightly's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from lightly.models import utils as tokens_of
from lightly.models.modules import MaskedVisionTransformerTIMM
from lightly.models.modules.masked_vision_transformer_decoder_timm import MaskedVisionTransformerDecoderTIMM
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from trainers.checkpoint import load_weights, read_checkpoint
from trainers.data import InputTransform
from trainers.errors import CheckpointError, ConfigError
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

    def random_mask(self, size: int, ratio: float, key: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Token indices to keep `[B, K]` and to mask `[B, M]`, a pure function of `key` (on one kind of device).

        lightly draws from the global generator; it is seeded by `key` for this call and put back afterwards, so that a
        resumed run masks as the uninterrupted one does.
        """
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(key)
            keep, masked = tokens_of.random_token_mask((size, self.sequence_length), mask_ratio=ratio, device=device)
        if keep.shape[1] < 2:
            raise ConfigError(
                f"mask_ratio {ratio} leaves none of {self.sequence_length - 1} patches visible; "
                "take a smaller vit.patch_size or a lower mask_ratio."
            )
        return keep, masked

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


def load_encoder(path: Path) -> tuple[VisionTransformer, InputTransform]:
    """The encoder of a pretrained checkpoint, on the CPU, and the transform that its inputs must go through.

    Args:
        path: a run's folder or one of its checkpoints.

    Raises:
        CheckpointError: it is missing, damaged, foreign, or of another kind of model.
    """
    checkpoint = read_checkpoint(path)
    trainer = checkpoint.about.get("trainer")
    if trainer != "mae":
        raise CheckpointError(f"{checkpoint.path} is by trainers.{trainer}; give the run of a trainers.mae.")
    about = checkpoint.about["model"]
    channels, height, width = about["image_shape"]
    model = MaskedAutoencoder((channels, height, width), ViTConfig(**about["vit"]), DecoderConfig(**about["decoder"]))
    load_weights(model, checkpoint)
    return cast(VisionTransformer, model.encoder.vit), InputTransform(checkpoint.about["transform"]["scale"])


def masked_mse(predictions: Tensor, targets: Tensor, masked: Tensor) -> Tensor:
    """Mean squared error over the masked patches: a scalar.

    Args:
        predictions: `[B, M, E]` from `MaskedAutoencoder.forward`, or `[1, M, E]`.
        targets: `[B, P, E]`, every patch.
        masked: `[B, M]`, token indices.
    """
    return (predictions - tokens_of.get_at_index(targets, masked - 1)).square().mean()
