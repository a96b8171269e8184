"""Lensformer: a transformer that corrects an isothermal lens pixel by pixel, and compares the image with its source.

Veloso et al., ML4PS 2023, in the form that the LensPINN paper compares itself with. Its public notebook prints the
layers and their 15,786,693 parameters one by one (ML4SCI/DeepLense, folder
DeepLense_Physics_Informed_Neural_Network_for_Dark_Matter_Morphology_Ashutosh_Ojha, Notebooks/lenspinn.ipynb; the model
of the year before is in Physics_Informed_Transformers_For_Dark-Matter_Morphology_Lucas_Jose): three tokenizers, one
block in the encoder, one in the decoder, whose keys are the preprocessed image's tokens, whose values are the image's
and whose queries are the source's.

What is done otherwise: k corrects the potential (in the code it multiplies the deflection, and in the notebook by the
preprocessed image too, which makes it that of no mass); k and theta_E are trained, where the code's source has no
gradient; the decoder's block projects queries and values (see `LocalityBlock`); no dropout unless it is asked for; and
logits in place of a softmax.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from trainers.models.brightness import preprocess
from trainers.models.correction import sphere_and_correction
from trainers.models.explanation import Explanation
from trainers.models.locality import WIDTH, LocalityBlock, ShiftedPatches, mlp
from trainers.models.physics.potential import PotentialLens
from trainers.models.vit import ViTConfig

LARGEST_MAP = 64  # pixels a side of what is learnt of k; a map of 150 pixels would have 225 million weights


class PotentialCorrection(nn.Module):
    """An isothermal sphere and what corrects its potential, of tokens `[B, N, 384]`.

    `EinsteinRadius` says why the map is divided.

    Args:
        tokens: N.
        size: `(H, W)` of the images.
    """

    def __init__(self, tokens: int, size: tuple[int, int], dropout: float) -> None:
        super().__init__()
        self.size, self.map_size = size, (min(size[0], LARGEST_MAP), min(size[1], LARGEST_MAP))
        self.block = LocalityBlock(dropout)
        self.map = nn.Linear(tokens * WIDTH, self.map_size[0] * self.map_size[1])
        nn.init.zeros_(self.map.bias)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """k `[B, 1, H, W]` and theta_E `[B]` in pixels, see `sphere_and_correction`."""
        tokens = rearrange(self.block(tokens), "b n d -> b (n d)")
        with torch.autocast(tokens.device.type, enabled=False):  # a rounded k has a rough gradient
            found = self.map(tokens.to(self.map.weight)) / self.map.in_features**0.5
            return sphere_and_correction(rearrange(found, "b (h w) -> b 1 h w", h=self.map_size[0]), self.size)


class Lensformer(nn.Module):
    """A classifier, or regressor, of transformed images.

    Args:
        image_shape: `(C, H, W)`, of any size; patches have 32 pixels.
        outputs: of the head; with 0 the features come out: all tokens, `[B, 384 N]`.
        hard: a source of nearest pixels as in the public code, through which k learns nothing.
        floor, noise_floor: of the preprocessing, see `preprocess`.
        dropout: in the blocks and the head.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        outputs: int,
        *,
        hard: bool = False,
        floor: float = 0.02,
        noise_floor: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.floors = floor, noise_floor
        self.image_tokens = ShiftedPatches(image_shape)
        self.source_tokens = ShiftedPatches(image_shape)
        self.preprocessed_tokens = ShiftedPatches(image_shape)
        self.correction = PotentialCorrection(self.image_tokens.count, image_shape[1:], dropout)
        self.inverse = PotentialLens(hard)
        self.block = LocalityBlock(dropout)
        self.head = mlp(self.image_tokens.count * WIDTH, outputs, dropout) if outputs else nn.Identity()

    def forward(self, images: Tensor, explained: bool = False) -> Any:
        """Images `[B, C, H, W]` -> `[B, outputs]`, or features; if they are to be explained, what `explain` gives."""
        found = self.explain(images)
        return found if explained else found.outputs

    def einstein_radius(self, images: Tensor) -> Tensor:
        """The theta_E of `explain` alone, `[B]`."""
        return self.correction(self.image_tokens(images))[1]

    def explain(self, images: Tensor) -> Explanation:
        """All that is made of images `[B, C, H, W]`, with gradients, for a physics loss and for plots."""
        tokens = self.image_tokens(images)
        k, theta_E = self.correction(tokens)
        source = self.inverse(images, k, theta_E)
        preprocessed = preprocess(images, *self.floors)
        compared = self.block(
            self.preprocessed_tokens(preprocessed), query=self.source_tokens(source.image.to(images)), value=tokens
        )
        return Explanation(self.head(rearrange(compared, "b n d -> b (n d)")), theta_E, source, preprocessed, k)


def lensformer(image_shape: tuple[int, int, int], outputs: int, vit: ViTConfig) -> Lensformer:
    """A `Lensformer`; of `vit` it takes the dropout."""
    return Lensformer(image_shape, outputs, dropout=vit.dropout)
