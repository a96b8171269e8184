"""Super-resolution: a ViT reads the low-resolution image, a decoder corrects its bicubic up-sampling on fine pixels.

For lenses arXiv 2512.06642, whose encoder is that of a masked autoencoder. PixelShuffle: Shi et al. 2016,
arXiv 1609.05158.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from trainers.errors import ConfigError
from trainers.image_pairs import ENCODER_SIDE, upsample
from trainers.models.vit import ViTConfig, build_vit, require_positive, require_width
from trainers.transform import InputTransform

Entry = Literal["upsample", "resample"]


@dataclass(frozen=True)
class SuperDecoderConfig:
    """From the encoder's tokens to the fine pixels."""

    kind: Literal["pixelshuffle", "transformer"] = "pixelshuffle"
    """Convolutions that double the feature map's side again and again, or transformer blocks and one linear layer."""
    depth: int = 2
    """Residual convolution blocks on the map of tokens, or transformer blocks."""
    width: int = 64
    """Channels of that map, halved at every doubling but not below 16; or the token dimension."""
    heads: int = 4
    """Attention heads in a block, of the transformer alone."""

    def __post_init__(self) -> None:
        for name in ("depth", "width", "heads"):
            require_positive(f"decoder.{name}", getattr(self, name))
        if self.kind == "transformer":
            require_width("decoder", self.width, self.heads)


@dataclass(frozen=True)
class FluxUnits:
    """The units in which images are compared: flux per fine pixel, divided by a range.

    Attributes:
        flux_ratio: flux per large pixel over flux per fine one.
        data_range: the range [flux per fine pixel], the same for all images. None (paper mode): of each image and
            channel what is known of it when it is predicted, the least and the greatest pixel of the *low* image, both
            over flux_ratio, are 0 and 1; the fine image, scaled alike, may reach beyond.
    """

    flux_ratio: float
    data_range: float | None

    def zero(self, low: Tensor) -> Tensor:
        """Flux per fine pixel that is 0: `[B, C, h, w]` -> `[B, C, 1, 1]`."""
        least = low.amin((-2, -1), keepdim=True) / self.flux_ratio
        return torch.zeros_like(least) if self.data_range is not None else least

    def span(self, low: Tensor) -> Tensor:
        """Flux per fine pixel between 0 and 1: `[B, C, h, w]` -> `[B, C, 1, 1]`."""
        greatest = low.amax((-2, -1), keepdim=True) / self.flux_ratio
        if self.data_range is not None:
            return torch.full_like(greatest, self.data_range)
        return (greatest - self.zero(low)).clamp(min=1e-30)

    def scaled(self, image: Tensor, low: Tensor) -> Tensor:
        """Fine images `[B, C, H, W]` in these units."""
        return (image - self.zero(low)) / self.span(low)


class SuperResolver(nn.Module):
    """Fine images from coarse ones.

    Args:
        low_shape: `(C, h, h)` of the low-resolution image.
        high_side: of the fine image [pixels].
        vit: the encoder, for images of `encoder_side` pixels.
        entry: how a smaller image enters it: up-sampled, or by patches as many times smaller, whose weights are sums of
            the encoder's. There are as many tokens in the same places; so are the parameters, but for the patch
            embedding's.
        decoder: from tokens to fine pixels.
        units: of images.
        encoder: a pretrained one to take in place of a new `vit`.
        offset: where the low pixels stand, see `Pairs.offset`. With entry "resample" tokens stay off by as much, and
            the decoder learns it.
        encoder_side: of the images that the encoder is for [pixels].

    Raises:
        ConfigError: a patch size that does not divide, or an encoder for other images.
    """

    def __init__(
        self,
        low_shape: tuple[int, int, int],
        high_side: int,
        vit: ViTConfig,
        entry: Entry,
        decoder: SuperDecoderConfig,
        units: FluxUnits,
        encoder: VisionTransformer | None = None,
        encoder_side: int = ENCODER_SIDE,
        offset: float = 0.0,
    ) -> None:
        super().__init__()
        channels, low_side, _ = low_shape
        self.units, self.high_side, self.encoder_side = units, high_side, encoder_side
        self.offset = offset
        self.encoder = encoder or build_vit(vit, (channels, encoder_side, encoder_side))
        self._require_images_of((channels, encoder_side, encoder_side))
        # lightly fixes a masked autoencoder's position embedding; here it learns, whether it is new or pretrained
        assert self.encoder.pos_embed is not None
        self.encoder.pos_embed = nn.Parameter(self.encoder.pos_embed.detach().clone())
        self.input_side = encoder_side
        if entry == "resample" and low_side != encoder_side:
            self._take_smaller_patches(vit.patch_size, low_side)
        grid = self.encoder.patch_embed.grid_size[0]
        if high_side % grid:
            raise ConfigError(
                f"vit.patch_size {vit.patch_size} makes {grid} x {grid} tokens, which do not divide {high_side} pixels."
            )
        make = PixelShuffleDecoder if decoder.kind == "pixelshuffle" else TransformerDecoder
        self.decoder = make(self.encoder.embed_dim, grid, high_side // grid, channels, decoder)

    def forward(self, inputs: Tensor, low: Tensor) -> Tensor:
        """The fine image, in flux per fine pixel, float32: bicubic up-sampling and the network's correction.

        Args:
            inputs: the low-resolution images through the input transform, `[B, C, h, h]`. Up-sampling for the encoder
                is done on these: between a bright arc and the sky it would overshoot on the images themselves.
            low: the images `[B, C, h, h]`, flux per large pixel.
        """
        correction = self.decoder(self.tokens(inputs)).float()
        return self.bicubic(low) + self.units.span(low) * correction

    def bicubic(self, low: Tensor) -> Tensor:
        """Images `[B, C, h, h]`, flux per large pixel -> `[B, C, H, H]`, flux per fine pixel."""
        return upsample(low.float() / self.units.flux_ratio, self.high_side, self.offset)

    def tokens(self, inputs: Tensor) -> Tensor:
        """Patch tokens `[B, N, D]` of transformed low-resolution images `[B, C, h, h]`."""
        if inputs.shape[-1] != self.input_side:
            inputs = upsample(inputs, self.input_side, self.offset)
        return cast(Tensor, self.encoder.forward_features(inputs))[:, self.encoder.num_prefix_tokens :]

    def _take_smaller_patches(self, patch_size: int, low_side: int) -> None:
        times = self.encoder_side // low_side
        if patch_size % times:
            sizes = [str(size) for size in range(times, self.encoder_side, times) if self.encoder_side % size == 0]
            raise ConfigError(
                f"--entry resample makes patches {times} times smaller, and vit.patch_size {patch_size} is no multiple "
                f"of {times}. Fix: --entry upsample, or an encoder with vit.patch_size {', '.join(sizes)}."
            )
        small, embed = patch_size // times, self.encoder.patch_embed
        # Sums of the weights: the tokens are those of the image with each pixel repeated. On lenses they are nearer to
        # the tokens of the up-sampled image than by timm's resample_patch_embed, which suits pixels of white noise.
        summed = functional.avg_pool2d(embed.proj.weight.detach(), times) * times**2
        self.encoder.set_input_size(img_size=(low_side, low_side), patch_size=(small, small))
        with torch.no_grad():
            embed.proj.weight.copy_(summed)
        self.input_side = low_side

    def _require_images_of(self, shape: tuple[int, int, int]) -> None:
        embed = self.encoder.patch_embed
        own = (embed.proj.in_channels, *embed.img_size)
        if own != shape:
            raise ConfigError(
                f"the encoder is for images of shape {own} (channels, height, width), this task needs one for {shape}. "
                "Pretrain trainers.mae on such images, or leave --encoder out."
            )


class PixelShuffleDecoder(nn.Module):
    """Tokens as a feature map, residual convolutions, and PixelShuffle stages up to the fine pixels.

    Args:
        token_width: D.
        grid: tokens along a side.
        times: fine pixels along a side of a token.
        channels: of the image.
        config: depth and width.
    """

    def __init__(self, token_width: int, grid: int, times: int, channels: int, config: SuperDecoderConfig) -> None:
        super().__init__()
        self.grid = grid
        self.embed = nn.Conv2d(token_width, config.width, 1)
        self.blocks = nn.Sequential(*(ConvolutionBlock(config.width) for _ in range(config.depth)))
        stages: list[nn.Module] = []
        width = config.width
        for factor in prime_factors(times):
            narrower = min(width, max(16, width // 2))
            stages += [nn.Conv2d(width, narrower * factor**2, 3, padding=1), nn.PixelShuffle(factor), nn.GELU()]
            width = narrower
        self.stages = nn.Sequential(*stages)
        self.predict = _zero(nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, tokens: Tensor) -> Tensor:
        """`[B, N, D]` -> `[B, C, H, H]`."""
        feature_map = tokens.transpose(1, 2).unflatten(2, (self.grid, self.grid))
        return cast(Tensor, self.predict(self.stages(self.blocks(self.embed(feature_map)))))


class ConvolutionBlock(nn.Module):
    """x + two 3 x 3 convolutions of x, `[B, C, H, W]`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.GELU(), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + cast(Tensor, self.inner(x))


class TransformerDecoder(nn.Module):
    """Transformer blocks on the tokens, and a linear layer from each to its own fine pixels; arguments as above."""

    def __init__(self, token_width: int, grid: int, times: int, channels: int, config: SuperDecoderConfig) -> None:
        super().__init__()
        self.grid, self.times, self.channels = grid, times, channels
        self.embed = nn.Linear(token_width, config.width)
        self.blocks = nn.Sequential(*(Block(config.width, config.heads) for _ in range(config.depth)))
        self.norm = nn.LayerNorm(config.width)
        self.predict = _zero(nn.Linear(config.width, channels * times**2))

    def forward(self, tokens: Tensor) -> Tensor:
        """`[B, N, D]` -> `[B, C, H, H]`."""
        patches = self.predict(self.norm(self.blocks(self.embed(tokens))))
        rows = patches.view(len(tokens), self.grid, self.grid, self.channels, self.times, self.times)
        side = self.grid * self.times
        return rows.permute(0, 3, 1, 4, 2, 5).reshape(len(tokens), self.channels, side, side)


def prime_factors(number: int) -> list[int]:
    """In ascending order; their product is `number`."""
    for divisor in range(2, math.isqrt(number) + 1):
        if number % divisor == 0:
            return [divisor, *prime_factors(number // divisor)]
    return [number] if number > 1 else []


def _zero(layer: nn.Conv2d | nn.Linear) -> nn.Conv2d | nn.Linear:
    """A last layer that corrects nothing yet: training starts at the bicubic figures."""
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def restore(about: Mapping[str, Any]) -> SuperResolver:
    """The model that a checkpoint of `trainers.superres` describes, its weights not loaded yet."""
    model = about["model"]
    channels, height, width = model["image_shape"]
    return SuperResolver(
        (channels, height, width),
        model["high_side"],
        ViTConfig(**model["vit"]),
        model["entry"],
        SuperDecoderConfig(**model["decoder"]),
        FluxUnits(**model["units"]),
        offset=model.get("offset", 0.0),  # checkpoints from before there were offsets were trained without
    )


def predict(model: SuperResolver, transform: InputTransform, image: Tensor) -> Tensor:
    """Fine images `[B, C, H, W]`, flux per fine pixel, from low ones `[B, C, h, h]`, flux per large pixel."""
    return cast(Tensor, model(transform(image), image))
