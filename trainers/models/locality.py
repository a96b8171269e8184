"""The transformer that LensPINN and Lensformer share: shifted patches and attention that looks elsewhere.

Lee et al. 2021 (arXiv 2112.13492), as the public code of LensPINN builds them (ML4SCI/DeepLense, folder
DeepLense_Physics_Informed_Neural_Network_for_Dark_Matter_Morphology_Ashutosh_Ojha/components: ShiftPatchTokenizer,
TransformerLSABlock), with the same parameters, but that all of them are used.
"""

from __future__ import annotations

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from trainers.models.patches import pad_to_patches, padded_size, with_diagonal_shifts

PATCH, WIDTH, HEADS, HIDDEN = 32, 384, 16, 64


class ShiftedPatches(nn.Module):
    """Tokens `[B, 1 + patches, 384]` of images `[B, C, H, W]` and of their four shifted copies, the class token first.

    Args:
        image_shape: `(C, H, W)`; images are padded to whole patches of 32 pixels.

    Attributes:
        count: of tokens.
    """

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, *size = image_shape
        height, width = padded_size(size[0], size[1], PATCH)
        self.count = 1 + (height // PATCH) * (width // PATCH)
        self.project = nn.Conv2d(5 * channels, WIDTH, PATCH, PATCH)
        self.class_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.pos_embed = nn.Parameter(torch.zeros(1, self.count, WIDTH))

    def forward(self, images: Tensor) -> Tensor:
        shifted = with_diagonal_shifts(pad_to_patches(images, PATCH), PATCH)
        patches = rearrange(self.project(shifted), "b d h w -> b (h w) d")
        first = repeat(self.class_token, "1 1 d -> b 1 d", b=len(images))
        return torch.cat((first, patches), dim=1) + self.pos_embed


class LocalityBlock(nn.Module):
    """Attention in which no token sees itself, at a learnt temperature, and an MLP; norms come last.

    The published block projects queries and values only where they are the keys; where they are others' tokens, as in
    Lensformer, 295,681 of its parameters are idle. Here they are projected either way.

    Args:
        dropout: within the MLP and after the block.
    """

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.query, self.value = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.temperature = nn.Parameter(torch.ones(1))
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.attention_norm = nn.LayerNorm(WIDTH)
        self.mlp = mlp(WIDTH, WIDTH, dropout)
        self.mlp_norm = nn.LayerNorm(WIDTH)
        self.dropout = nn.Dropout(dropout)

    def forward(self, key: Tensor, query: Tensor | None = None, value: Tensor | None = None) -> Tensor:
        """Tokens `[B, N, 384]` of which queries and values are made, by default the keys -> `[B, N, 384]`."""
        query = self.query(key if query is None else query) / self.temperature
        value = self.value(key if value is None else value)
        itself = torch.eye(key.shape[1], dtype=torch.bool, device=key.device)
        value = self.attention_norm(value + self.attention(query, key, value, attn_mask=itself, need_weights=False)[0])
        return self.dropout(self.mlp_norm(value + self.mlp(value)))


def mlp(inputs: int, outputs: int, dropout: float) -> nn.Sequential:
    """Two hidden layers of 64."""
    return nn.Sequential(
        nn.Linear(inputs, HIDDEN), nn.ELU(), nn.Dropout(dropout),
        nn.Linear(HIDDEN, HIDDEN), nn.ELU(), nn.Dropout(dropout),
        nn.Linear(HIDDEN, outputs),
    )  # fmt: skip
