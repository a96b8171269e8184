"""A joint-embedding predictive architecture: from some patches predict the features of others, not their pixels.

I-JEPA, Assran et al. 2023, arXiv 2301.08243; with the encoder that knows the lens equation Lens-JEPA, ML4PS 2025. The
predictor is lightly's. The plain ViT keeps its class token, as a place to write to: no loss is on it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightly.models.modules.ijepa_timm import IJEPAPredictorTIMM
from lightly.models.utils import initialize_2d_sine_cosine_positional_embedding
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from trainers.errors import CheckpointError, ConfigError
from trainers.models.block_masks import BlockMaskConfig, BlockMasks
from trainers.models.explanation import Explanation
from trainers.models.lens_encoder import LensEncoder
from trainers.models.patches import padded_size
from trainers.models.registry import ImageShape, build_model
from trainers.models.running_mean import follow
from trainers.models.shifted_vit import ShiftedViT
from trainers.models.vit import ViTConfig, patch_tokens, require_positive, require_width

EncoderName = Literal["vit", "vitsd", "physics"]  # of `--encoder`
NAMES: dict[EncoderName, str] = {"vit": "vit", "vitsd": "vit_spt", "physics": "lens_jepa"}  # in the registry


@dataclass(frozen=True)
class PredictorConfig:
    """The predictor, used in pretraining only."""

    depth: int = 4
    """Number of transformer blocks."""
    width: int = 96
    """Token dimension; a multiple of 4 and of the number of heads."""
    heads: int = 4
    """Attention heads in a block."""

    def __post_init__(self) -> None:
        for name in ("depth", "width", "heads"):
            require_positive(f"predictor.{name}", getattr(self, name))
        require_width("predictor", self.width, self.heads)


class JEPA(nn.Module):
    """An encoder of the context, its running mean that makes the targets, and a predictor.

    Args:
        name: of the encoder in `models.registry`, one of `NAMES`.
        image_shape: `(C, H, W)` with H = W.
        vit: of the encoder.
        predictor: of the predictor.
        mask: of the blocks.

    Attributes:
        masks: a sampler of masks.
    """

    def __init__(
        self,
        name: str,
        image_shape: ImageShape,
        vit: ViTConfig,
        predictor: PredictorConfig,
        mask: BlockMaskConfig,
    ) -> None:
        super().__init__()
        self.encoder = build_model(name, image_shape, 0, vit)
        if isinstance(self.encoder, VisionTransformer):  # as the others begin, and its paper's is fixed
            initialize_2d_sine_cosine_positional_embedding(self.encoder.pos_embed, num_prefix_tokens=1)
        self.target = build_model(name, image_shape, 0, dataclasses.replace(vit, dropout=0.0, drop_path=0.0))
        self.target.load_state_dict(self.encoder.state_dict())
        self.target.requires_grad_(False)
        self.patch_size = vit.patch_size
        self.grid = padded_size(*image_shape[1:], vit.patch_size)[0] // vit.patch_size
        self.masks = BlockMasks(self.grid, mask)
        self.predictor = IJEPAPredictorTIMM(
            num_patches=self.grid**2,
            depth=predictor.depth,
            mlp_dim=getattr(self.encoder, "embed_dim", vit.width),
            predictor_embed_dim=predictor.width,
            num_heads=predictor.heads,
        )

    def forward(self, images: Tensor, context: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """What the loss compares.

        Args:
            images: transformed, `[B, C, H, W]`.
            context, targets: numbers of patches `[B, K]` and `[B, M, L]`, see `Masks`.

        Returns:
            "predicted" and, without gradient, "target" `[B, M, L, D]`; and of an encoder that knows the lens equation
            what it takes the context's "theta_E" `[B]` for, in pixels.
        """
        outputs = {}
        if isinstance(self.encoder, LensEncoder):
            found = self.encoder.explain(images, context)
            assert found.theta_E is not None
            tokens, outputs["theta_E"] = found.outputs, found.theta_E
        else:
            tokens = tokens_of(self.encoder, images, context)
        predicted = self.predictor(tokens, [context], list(targets.unbind(1)))
        outputs["predicted"] = predicted.unflatten(0, (targets.shape[1], len(images))).transpose(0, 1)
        outputs["target"] = take(self.compared(images), targets)
        return outputs

    @torch.no_grad()
    def compared(self, images: Tensor) -> Tensor:
        """The target encoder's tokens `[B, P, D]`, each standardised (I-JEPA's public code), of whole images."""
        tokens = tokens_of(self.target, images)
        return functional.layer_norm(tokens, tokens.shape[-1:])

    def features(self, images: Tensor) -> Tensor:
        """The target encoder's features `[B, D]` of transformed images `[B, C, H, W]`, as the paper judges it."""
        return self.target(images)

    def explain(self, images: Tensor) -> Explanation:
        """theta_E, k and source of transformed images `[B, C, H, W]`, and tokens, by the target encoder.

        Raises:
            ConfigError: it does not know the lens equation.
        """
        if not isinstance(self.target, LensEncoder):
            raise ConfigError("only the encoder of --encoder physics rebuilds sources; this one is another.")
        return self.target.explain(images)

    def project(self, images: Tensor) -> Tensor:
        """The mean `[B, D]` over an image's patches of what the loss compares."""
        return self.compared(images).mean(1)

    def move_target(self, momentum: float) -> None:
        """The target's weights become `momentum` times themselves and the rest of the encoder's."""
        follow(self.target.parameters(), self.encoder.parameters(), momentum)


def tokens_of(encoder: nn.Module, images: Tensor, patches: Tensor | None = None) -> Tensor:
    """Normalised tokens `[B, K, D]` of the patches `[B, K]`, the only ones that the encoder sees; None: of all."""
    if isinstance(encoder, VisionTransformer):
        return patch_tokens(encoder, images, patches)
    assert isinstance(encoder, ShiftedViT | LensEncoder)
    return encoder.tokens(images, patches)


def take(tokens: Tensor, places: Tensor) -> Tensor:
    """Of tokens `[B, P, D]` those at `places` `[B, M, L]`: `[B, M, L, D]`."""
    flat = places.flatten(1).unsqueeze(-1).expand(-1, -1, tokens.shape[-1])
    return tokens.gather(1, flat).unflatten(1, places.shape[1:])


def jepa_loss(outputs: Mapping[str, Tensor]) -> Tensor:
    """Of each image `[B]` the smooth L1 distance between predicted and target tokens (as the public code of I-JEPA)."""
    distance = functional.smooth_l1_loss(outputs["predicted"], outputs["target"], reduction="none")
    return distance.mean((1, 2, 3))


def restore(about: Mapping[str, Any]) -> JEPA:
    """The model that a checkpoint of `trainers.jepa` describes, its weights not loaded yet.

    Raises:
        CheckpointError: another trainer's.
    """
    if about.get("trainer") != "jepa":
        raise CheckpointError(f"the checkpoint is by trainers.{about.get('trainer')}, not by trainers.jepa.")
    return build(about["model"])


def build(model: Mapping[str, Any]) -> JEPA:
    """The model that `about["model"]` of a checkpoint describes, newly initialised."""
    channels, height, width = model["image_shape"]
    mask: dict[str, Any] = {name: tuple(own) if isinstance(own, list) else own for name, own in model["mask"].items()}
    return JEPA(
        model["name"],
        (channels, height, width),
        ViTConfig(**model["vit"]),
        PredictorConfig(**model["predictor"]),
        BlockMaskConfig(**mask),
    )
