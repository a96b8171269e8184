"""The ViT of `--vit.*` with another way from pixels to tokens: convolutions, or patches beside their shifted copies."""

from __future__ import annotations

from functools import partial

from timm.layers import HybridEmbed
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_hybrid import ConvStem
from torch import Tensor, nn
from vit_pytorch.vit_for_small_dataset import SPT
from vit_pytorch.vit_for_small_dataset import ViT as SmallDataViT

from trainers.errors import ConfigError
from trainers.models.patches import OfWholePatches, padded_size, with_diagonal_shifts
from trainers.models.vit import ViTConfig, require_width


def conv_vit(image_shape: tuple[int, int, int], outputs: int, vit: ViTConfig) -> VisionTransformer:
    """A ViT that begins with 3 x 3 convolutions at stride 2 (Xiao et al. 2021, arXiv 2106.14881), all of it timm's.

    As many of them as halve a patch to a pixel. Where sides are not whole patches convolutions pad the last ones. The
    mean of the normalised tokens is what the head sees, as in the registry's `vit`.

    Raises:
        ConfigError: a patch size that is no power of two, or `vit.timm_name`.
    """
    _require_own_sizes("vit_conv", vit)
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


class HalfPatchShifts(SPT):
    """vit-pytorch's shifted patch tokens, shifted as in their paper: diagonally and by half a patch.

    Args:
        dim, patch_size, channels: as there.
    """

    def __init__(self, *, dim: int, patch_size: int, channels: int) -> None:
        super().__init__(dim=dim, patch_size=patch_size, channels=channels)
        self.patch_size = patch_size

    def forward(self, images: Tensor) -> Tensor:
        return self.to_patch_tokens(with_diagonal_shifts(images, self.patch_size))


def shifted_vit(image_shape: tuple[int, int, int], outputs: int, vit: ViTConfig) -> OfWholePatches:
    """A ViT for small data sets (Lee et al. 2021, arXiv 2112.13492): shifted patches, attention that looks elsewhere.

    Images are padded to whole patches; the class token is what the head sees. Of `vit` it takes all but drop_path.

    Raises:
        ConfigError: a width that cannot be split, or `vit.timm_name`.
    """
    _require_own_sizes("vit_spt", vit)
    channels, height, width = image_shape
    model = SmallDataViT(
        image_size=padded_size(height, width, vit.patch_size),
        patch_size=vit.patch_size,
        num_classes=outputs or 1,
        dim=vit.width,
        depth=vit.depth,
        heads=vit.heads,
        dim_head=vit.width // vit.heads,
        mlp_dim=4 * vit.width,
        channels=channels,
        dropout=vit.dropout,
        emb_dropout=vit.dropout,
    )
    model.to_patch_embedding = HalfPatchShifts(dim=vit.width, patch_size=vit.patch_size, channels=channels)
    if not outputs:
        model.mlp_head[-1] = nn.Identity()
    return OfWholePatches(model, vit.patch_size)


def _require_own_sizes(name: str, vit: ViTConfig) -> None:
    if vit.timm_name is not None:
        raise ConfigError(f"--vit.timm-name {vit.timm_name} is of --model vit; leave it out for --model {name}.")
    require_width("vit", vit.width, vit.heads)
