"""The transformers beside which LensPINN, Lensformer and Lens-JEPA stand, by vit-pytorch, in those papers' sizes.

Patches of 32 pixels, width 1024, two blocks of head width 64 with MLPs of 16 (ML4SCI/DeepLense, folder
Physics_Informed_Transformers_For_Dark-Matter_Morphology_Lucas_Jose, notebooks/training_and_compare_models.ipynb). With
three classes, one channel and 64 x 64 pixels they have the parameters of those papers' tables. Other sizes are padded
to whole patches. Of `--vit.*` they take the dropout, 0.1 there.
"""

from __future__ import annotations

from typing import Any

import torch
from einops.layers.torch import Rearrange
from torch import nn
from vit_pytorch.cait import CaiT
from vit_pytorch.vit import ViT
from vit_pytorch.vit_for_small_dataset import ViT as SmallDataViT

from trainers.models.patches import OfWholePatches, padded_size
from trainers.models.vit import ViTConfig

PATCH, WIDTH = 32, 1024


def paper_vit(image_shape: tuple[int, int, int], outputs: int, vit: ViTConfig) -> OfWholePatches:
    """A plain ViT with 24 heads; features `[B, 1024]`."""
    size = padded_size(*image_shape[1:], PATCH)
    model = ViT(image_size=size, channels=image_shape[0], heads=24, **_shared(outputs, vit))
    if not outputs:
        model.mlp_head = nn.Identity()
    return OfWholePatches(model, PATCH)


def vitsd(image_shape: tuple[int, int, int], outputs: int, vit: ViTConfig) -> OfWholePatches:
    """ViTSD: shifted patch tokens and locality self-attention (Lee et al. 2021, arXiv 2112.13492), 16 heads.

    vit-pytorch shifts by one pixel where the paper shifts by half a patch; so does the baseline, and so it stays here:
    `vit_spt` is the paper's. Features `[B, 1024]`.
    """
    size = padded_size(*image_shape[1:], PATCH)
    model = SmallDataViT(image_size=size, channels=image_shape[0], heads=16, **_shared(outputs, vit))
    if not outputs:
        model.mlp_head[-1] = nn.Identity()
    return OfWholePatches(model, PATCH)


def cait(image_shape: tuple[int, int, int], outputs: int, vit: ViTConfig) -> OfWholePatches:
    """CaiT: one block more in which only the class token looks (Touvron et al. 2021, arXiv 2103.17239), 16 heads.

    vit-pytorch's is for three channels and square images, and its patch embedding has got norms since the baseline was
    built: embedding and positions are replaced. Features `[B, 1024]`.
    """
    channels, *size = image_shape
    height, width = padded_size(size[0], size[1], PATCH)
    model = CaiT(image_size=PATCH, cls_depth=1, heads=16, **_shared(outputs, vit))
    model.to_patch_embedding = nn.Sequential(
        Rearrange("b c (h p) (w q) -> b (h w) (p q c)", p=PATCH, q=PATCH),
        nn.Linear(channels * PATCH**2, WIDTH),
    )
    model.pos_embedding = nn.Parameter(torch.randn(1, (height // PATCH) * (width // PATCH), WIDTH))
    if not outputs:
        model.mlp_head[-1] = nn.Identity()
    return OfWholePatches(model, PATCH)


def _shared(outputs: int, vit: ViTConfig) -> dict[str, Any]:
    return {
        "patch_size": PATCH,
        "num_classes": outputs or 1,
        "dim": WIDTH,
        "depth": 2,
        "mlp_dim": 16,
        "dropout": vit.dropout,
        "emb_dropout": vit.dropout,
    }
