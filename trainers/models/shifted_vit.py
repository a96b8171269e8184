"""A ViT for small data sets at any size (Lee et al. 2021, arXiv 2112.13492): shifted patches, locality attention.

vit-pytorch's layers. Its features are the mean of the patches' tokens; a class token there is none, so that every token
has a place in the image, as a joint-embedding predictive architecture needs it.
"""

from __future__ import annotations

import torch
from lightly.models.utils import get_at_index, initialize_2d_sine_cosine_positional_embedding
from torch import Tensor, nn
from vit_pytorch.vit_for_small_dataset import SPT, Transformer

from trainers.models.patches import pad_to_patches, padded_size, visible_pixels, with_diagonal_shifts
from trainers.models.vit import ViTConfig, require_own_sizes


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


class PlacedPatches(nn.Module):
    """Shifted patches with their places: images `[B, C, H, W]`, padded to whole patches -> tokens `[B, P, D]`.

    Args:
        image_shape: `(C, H, W)`.
        patch: side of a patch [pixels].
        width: D, a multiple of 4.

    Attributes:
        grid: rows and columns of patches.
    """

    def __init__(self, image_shape: tuple[int, int, int], patch: int, width: int) -> None:
        super().__init__()
        channels, *size = image_shape
        height, breadth = padded_size(size[0], size[1], patch)
        self.patch, self.grid = patch, (height // patch, breadth // patch)
        self.tokens = HalfPatchShifts(dim=width, patch_size=patch, channels=channels)
        self.pos_embed = nn.Parameter(torch.zeros(1, self.grid[0] * self.grid[1], width))
        if self.grid[0] == self.grid[1]:
            initialize_2d_sine_cosine_positional_embedding(self.pos_embed, num_prefix_tokens=0)
            self.pos_embed.requires_grad_(True)  # lightly fixes it
        else:
            nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, images: Tensor) -> Tensor:
        return self.tokens(pad_to_patches(images, self.patch)) + self.pos_embed


class ShiftedViT(nn.Module):
    """Images `[B, C, H, W]` -> `[B, outputs]`, or features `[B, D]` where `outputs` is 0.

    Args:
        image_shape: `(C, H, W)`, of any size.
        outputs: of the head.
        vit: all of its options but drop_path.

    Raises:
        ConfigError: a width that cannot be split, or `vit.timm_name`.
    """

    def __init__(self, image_shape: tuple[int, int, int], outputs: int, vit: ViTConfig) -> None:
        super().__init__()
        require_own_sizes("vit_spt", vit)
        self.patches = PlacedPatches(image_shape, vit.patch_size, vit.width)
        self.transformer = locality_transformer(vit, vit.depth)
        self.norm = nn.LayerNorm(vit.width)
        self.head = nn.Linear(vit.width, outputs) if outputs else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.tokens(images).mean(1))

    def tokens(self, images: Tensor, patches: Tensor | None = None) -> Tensor:
        """Normalised tokens `[B, K, D]` of the patches `[B, K]`, the only ones that are seen; None: of all.

        The others are dark before anything is shifted: a patch would show half of its neighbours.
        """
        if patches is None:
            return self.norm(self.transformer(self.patches(images)))
        visible = visible_pixels(patches, images, self.patches.patch)
        tokens = self.patches(torch.where(visible > 0, images, 0.0))
        return self.norm(self.transformer(get_at_index(tokens, patches)))


def locality_transformer(vit: ViTConfig, depth: int) -> Transformer:
    """Blocks in which no token sees itself, at learnt temperatures, of the width and heads that `vit` has."""
    return Transformer(vit.width, depth, vit.heads, vit.width // vit.heads, 4 * vit.width, vit.dropout)
