"""CvT, convolutions in a transformer (Wu et al. 2021, arXiv 2103.15808), in the size of Lensformer's comparison."""

from __future__ import annotations

from torch import Tensor, nn
from vit_pytorch import cvt as library

from trainers.models.vit import ViTConfig


class CvT(nn.Module):
    """The first two of vit-pytorch's three stages, of one block each, and a head with a hidden layer.

    13,726,464 parameters and 50,307 of a head for three classes; the 13,776,578 that ML4SCI/DeepLense gives
    (Physics_Informed_Transformers_For_Dark-Matter_Morphology_Lucas_Jose/results/cvt.json) are those for two. The head's
    hidden layer is that of DeepLense_Classification_Transformers_Archil_Srivastava/models/transformers/cvt.py, but with
    a norm over the layer in place of the batch.

    Args:
        channels: C of the images, which may be of any size.
        outputs: of the head; with 0 the pooled features come out.
        dropout: within the blocks, but not in attention: its rows there are not one an image.
    """

    def __init__(self, channels: int, outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        whole = library.CvT(
            num_classes=1, channels=channels, dropout=dropout,
            s1_emb_dim=1024, s1_heads=8, s1_depth=1, s2_emb_dim=256, s2_heads=4, s2_depth=1, s3_emb_dim=1, s3_depth=0,
        )  # fmt: skip
        self.stages = whole.layers[:2]
        for module in self.stages.modules():
            if isinstance(module, library.Attention):
                module.dropout = nn.Identity()
        hidden = (nn.Linear(256, 192), nn.LayerNorm(192), nn.ELU())
        self.head = nn.Sequential(*hidden, nn.Linear(192, outputs)) if outputs else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Images `[B, C, H, W]` -> `[B, outputs]`, or features `[B, 256]`."""
        return self.head(self.stages(images).mean((2, 3)))


def cvt(image_shape: tuple[int, int, int], outputs: int, vit: ViTConfig) -> CvT:
    """A `CvT`; of `vit` it takes the dropout."""
    return CvT(image_shape[0], outputs, vit.dropout)
