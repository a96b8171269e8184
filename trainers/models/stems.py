"""The ViT of `--vit.*` with another way from pixels to tokens: convolutions."""

from __future__ import annotations

from functools import partial

from timm.layers import HybridEmbed
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_hybrid import ConvStem

from trainers.errors import ConfigError
from trainers.models.vit import ViTConfig, require_own_sizes


def conv_vit(image_shape: tuple[int, int, int], outputs: int, vit: ViTConfig) -> VisionTransformer:
    """A ViT that begins with 3 x 3 convolutions at stride 2 (Xiao et al. 2021, arXiv 2106.14881), all of it timm's.

    As many of them as halve a patch to a pixel. Where sides are not whole patches convolutions pad the last ones. The
    mean of the normalised tokens is what the head sees, as in the registry's `vit`.

    Raises:
        ConfigError: a patch size that is no power of two, or `vit.timm_name`.
    """
    require_own_sizes("vit_conv", vit)
    channels, height, width = image_shape
    halvings = vit.patch_size.bit_length() - 1
    if vit.patch_size != 2**halvings or halvings == 0:
        raise ConfigError(f"vit.patch_size is {vit.patch_size}; --model vit_conv takes 2, 4, 8, 16 or 32.")
    stem = ConvStem(channels, depth=halvings, channels=vit.width, stride=(2,) * halvings)
    return VisionTransformer(
        img_size=(height, width),
        patch_size=1,
        in_chans=channels,
        num_classes=outputs,
        embed_dim=vit.width,
        depth=vit.depth,
        num_heads=vit.heads,
        global_pool="avg",
        fc_norm=False,
        proj_drop_rate=vit.dropout,
        drop_path_rate=vit.drop_path,
        embed_layer=partial(HybridEmbed, backbone=stem, proj=False),
    )
