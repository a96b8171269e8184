"""LensPINN: what a network sees in a lens, less what it sees in the source that the lens equation gives.

Ojha et al., ML4PS 2024. The layers are those of the public code (ML4SCI/DeepLense, folder
DeepLense_Physics_Informed_Neural_Network_for_Dark_Matter_Morphology_Ashutosh_Ojha, components/Decoder.py at commit
945a71bd and ChangedPhysicsInformedEncoder.py), their sizes those of the Lensformer in its Notebooks/lenspinn.ipynb, and
with them the parameters are as many as in the paper's table: 7,173,654 and 14,563,726. So the ViT has shifted patches
of 32 pixels, width 384, 16 heads, MLPs of 64, and two blocks. The second one is built there and never called; here
theta_E comes from both.

What else is done otherwise: theta_E is trained, where the code's source has no gradient, and it is positive and within
the image; no dropout unless it is asked for; logits in place of a softmax; weights start anew and not from photographs;
images and sources go through their CNN as one batch, whose statistics are then those of evaluation too; and an ELU
comes before the difference, in which the last biases of that CNN would else cancel.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from trainers.models.brightness import preprocess
from trainers.models.explanation import Explanation
from trainers.models.locality import WIDTH, LocalityBlock, ShiftedPatches, mlp
from trainers.models.physics.inverse_lens import InverseLens
from trainers.models.vit import ViTConfig

CNN_FEATURES = 1000  # as many as timm's models have classes
CNNS = {"lenspinn_small": "mobilenetv3_small_050", "lenspinn_large": "efficientnet_b0"}


class EinsteinRadius(nn.Module):
    """theta_E `[B]` in pixels, float32, of images `[B, C, H, W]`: above 0 and below half of the shorter side.

    It begins near a quarter of the side. The last layer's sum is divided by the root of its length: a step of Adam
    moves all weights alike, and without that the first few steps would carry theta_E to its bound, for good.
    """

    def __init__(self, image_shape: tuple[int, int, int], dropout: float) -> None:
        super().__init__()
        self.largest = min(image_shape[1:]) / 2
        self.tokens = ShiftedPatches(image_shape)
        self.blocks = nn.Sequential(LocalityBlock(dropout), LocalityBlock(dropout))
        self.radius = nn.Linear(self.tokens.count * WIDTH, 1)
        nn.init.zeros_(self.radius.bias)

    def forward(self, images: Tensor) -> Tensor:
        tokens = rearrange(self.blocks(self.tokens(images)), "b n d -> b (n d)")
        with torch.autocast(images.device.type, enabled=False):  # bfloat16 would say it to a tenth of a pixel
            found = self.radius(tokens.to(self.radius.weight))[:, 0] / self.radius.in_features**0.5
            return self.largest * torch.sigmoid(found)


class LensPINN(nn.Module):
    """A classifier, or regressor, of transformed images.

    Args:
        image_shape: `(C, H, W)`, of any size.
        outputs: of the head; with 0 the features come out: `[B, 2000]`, or `[B, 1000]` without physics.
        cnn: timm's name of the CNN, which is there twice.
        preprocessing: whether the second CNN sees preprocessed images or, without it, the images.
        physics: without it a CNN alone, of what the second CNN would see (the paper's table 2).
        hard: a source of nearest pixels as in the public code, through which theta_E learns nothing.
        floor, noise_floor: of the preprocessing, see `preprocess`.
        dropout: in the ViT and the head.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        outputs: int,
        cnn: str = CNNS["lenspinn_small"],
        *,
        preprocessing: bool = True,
        physics: bool = True,
        hard: bool = False,
        floor: float = 0.02,
        noise_floor: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.preprocessing, self.floors = preprocessing, (floor, noise_floor)
        self.radius = EinsteinRadius(image_shape, dropout) if physics else None
        self.inverse = InverseLens("sis", hard) if physics else None
        self.difference_cnn = timm.create_model(cnn, in_chans=image_shape[0]) if physics else None
        self.cnn = timm.create_model(cnn, in_chans=image_shape[0])
        features = CNN_FEATURES * (2 if physics else 1)
        self.head = mlp(features, outputs, dropout) if outputs else nn.Identity()

    def forward(self, images: Tensor, explained: bool = False) -> Any:
        """Images `[B, C, H, W]` -> `[B, outputs]`, or features; if they are to be explained, what `explain` gives."""
        found = self.explain(images)
        return found if explained else found.outputs

    def einstein_radius(self, images: Tensor) -> Tensor:
        """The theta_E of `explain` alone, `[B]`, of a model with physics."""
        assert self.radius is not None
        return self.radius(images)

    def explain(self, images: Tensor) -> Explanation:
        """All that is made of images `[B, C, H, W]`, with gradients, for a physics loss and for plots."""
        preprocessed = preprocess(images, *self.floors) if self.preprocessing else images
        features, theta_E, source = self.cnn(preprocessed), None, None
        if self.radius is not None and self.inverse is not None and self.difference_cnn is not None:
            theta_E = self.radius(images)
            source = self.inverse(images, {"theta_E": theta_E})
            both = self.difference_cnn(torch.cat((images, source.image.to(images))))
            seen, rebuilt = functional.elu(both).chunk(2)
            features = torch.cat((seen - rebuilt, features), dim=1)
        return Explanation(self.head(features), theta_E, source, preprocessed)


def lenspinn_small(image_shape: tuple[int, int, int], outputs: int, vit: ViTConfig) -> LensPINN:
    """With MobileNetV3; of `vit` it takes the dropout."""
    return LensPINN(image_shape, outputs, CNNS["lenspinn_small"], dropout=vit.dropout)


def lenspinn_large(image_shape: tuple[int, int, int], outputs: int, vit: ViTConfig) -> LensPINN:
    """With EfficientNet-B0; of `vit` it takes the dropout."""
    return LensPINN(image_shape, outputs, CNNS["lenspinn_large"], dropout=vit.dropout)
