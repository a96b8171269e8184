"""The encoder of Lens-JEPA (ML4PS 2025): a ViT that sees an image beside the source that it rebuilds from it.

As the paper has it a ViT for small data sets estimates k(x, y), the potential k times that of an isothermal sphere
gives the deflection, and the source that this lens gives is tokenized by shifted patches. The paper does not say where
in the image a token of the source is; a JEPA, which predicts places of an image, needs that. So here the tokens of the
image and of the source go through one transformer, in which each patch of the image can look at all of the source (and
at other images of the same part of it), and those of the image come out.

What is hidden is hidden before the lens: a pixel that is not shown is dark to the estimate of k, and gives no light to
the source. (Of a source that is rebuilt from the whole image a part shows in the context what is to be predicted.)
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from lightly.models.utils import get_at_index
from torch import Tensor, nn

from trainers.models.correction import sphere_and_correction
from trainers.models.explanation import Explanation
from trainers.models.patches import visible_pixels
from trainers.models.physics.potential import PotentialLens
from trainers.models.physics.source import Source
from trainers.models.shifted_vit import PlacedPatches, locality_transformer
from trainers.models.vit import ViTConfig, require_own_sizes

ESTIMATE_DEPTH = 2  # blocks of the ViT that estimates k
LEAST_SEEN = 0.2  # share of a source pixel's light that must be shown, below which it is dimmed, see `splat`


class LensEstimate(nn.Module):
    """k and theta_E of images: a ViT of shifted patches whose tokens say a map, patch by patch.

    Args:
        image_shape: `(C, H, W)`.
        vit: all options but depth and drop_path.
    """

    def __init__(self, image_shape: tuple[int, int, int], vit: ViTConfig) -> None:
        super().__init__()
        self.patches = PlacedPatches(image_shape, vit.patch_size, vit.width)
        self.transformer = locality_transformer(vit, ESTIMATE_DEPTH)
        self.norm = nn.LayerNorm(vit.width)
        self.map = nn.Linear(vit.width, vit.patch_size**2)
        nn.init.zeros_(self.map.bias)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images `[B, C, H, W]` -> k `[B, 1, H, W]` and theta_E `[B]` in pixels, see `sphere_and_correction`."""
        tokens = self.norm(self.transformer(self.patches(images)))
        height, width = images.shape[-2:]
        rows, columns = self.patches.grid
        with torch.autocast(images.device.type, enabled=False):  # a rounded k has a rough gradient
            # `EinsteinRadius` says why it is divided
            found = self.map(tokens.to(self.map.weight)) / self.map.in_features**0.5
            patch = self.patches.patch
            found = rearrange(found, "b (r c) (p q) -> b 1 (r p) (c q)", r=rows, c=columns, p=patch, q=patch)
            top, left = (rows * patch - height) // 2, (columns * patch - width) // 2
            return sphere_and_correction(found[..., top : top + height, left : left + width], (height, width))


class LensEncoder(nn.Module):
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
        require_own_sizes("lens_jepa", vit)
        with_mask = (image_shape[0] + 1, *image_shape[1:])
        self.estimate = LensEstimate(with_mask, vit)
        self.inverse = PotentialLens()
        self.patches = PlacedPatches(image_shape, vit.patch_size, vit.width)
        self.source_patches = PlacedPatches(with_mask, vit.patch_size, vit.width)
        self.transformer = locality_transformer(vit, vit.depth)
        self.norm = nn.LayerNorm(vit.width)
        self.head = nn.Linear(vit.width, outputs) if outputs else nn.Identity()

    def forward(self, images: Tensor, explained: bool = False) -> Any:
        """Images `[B, C, H, W]` -> `[B, outputs]`, or features; if they are to be explained, an `Explanation`."""
        found = self.explain(images)
        outputs = self.head(found.outputs.mean(1))
        return found._replace(outputs=outputs) if explained else outputs

    def tokens(self, images: Tensor, patches: Tensor | None = None) -> Tensor:
        """Normalised tokens `[B, K, D]` of the patches `[B, K]`, the only ones that are seen; None: of all."""
        return self.explain(images, patches).outputs

    def einstein_radius(self, images: Tensor) -> Tensor:
        """The theta_E of `explain` alone, `[B]`."""
        return self.estimate(torch.cat((images, torch.ones_like(images[:, :1])), 1))[1]

    def explain(self, images: Tensor, patches: Tensor | None = None) -> Explanation:
        """All that is made of images `[B, C, H, W]`; `outputs` are the tokens `[B, K, D]` of `tokens`."""
        visible = torch.ones_like(images[:, :1])
        if patches is not None:
            visible = visible_pixels(patches, images, self.patches.patch)
            images = torch.where(visible > 0, images, 0.0)
        shown = torch.cat((images, visible), 1)
        k, theta_E = self.estimate(shown)
        source = self.inverse(shown, k, theta_E)
        # the mean over those that are shown: what is hidden is unknown and not dark
        light, seen = source.image[:, :-1], source.image[:, -1:]
        light = light / seen.clamp(min=LEAST_SEEN)
        of_image, of_source = self.patches(images), self.source_patches(torch.cat((light, seen), 1).to(images))
        if patches is not None:
            of_image = get_at_index(of_image, patches)
        tokens = self.norm(self.transformer(torch.cat((of_image, of_source), 1))[:, : of_image.shape[1]])
        return Explanation(tokens, theta_E, Source(light, source.weight, source.field), None, k)
