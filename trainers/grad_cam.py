"""Where in a picture a network finds its classes: Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391), by grad-cam."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from einops import rearrange
from torch import Tensor, nn

from trainers.models.lensformer import Lensformer
from trainers.models.lenspinn import LensPINN
from trainers.models.locality import PATCH
from trainers.models.patches import padded_size

CELLS = 8  # a side of a CNN's map, at least


@dataclass(frozen=True)
class Eye:
    """A part of a network that looks at pictures.

    Attributes:
        title: of these.
        preprocessed: whether they are preprocessed ones.
        layer: whose outputs are weighted by their gradients.
        as_map: makes maps `[B, D, h, w]` of these outputs; None where they are such.
        padded: the size (H, W) that these maps cover, with the images in its middle; None where it is the images' own.
    """

    title: str
    preprocessed: bool
    layer: nn.Module
    as_map: Callable[[Tensor], Tensor] | None = None
    padded: tuple[int, int] | None = None


def eyes(network: LensPINN | Lensformer, size: tuple[int, int]) -> list[Eye]:
    """The parts of a network that look at images of `size` (H, W), and at preprocessed ones."""
    if isinstance(network, Lensformer):
        padded = padded_size(*size, PATCH)
        height, width = (side // PATCH for side in padded)

        def as_map(tokens: Tensor) -> Tensor:
            return rearrange(tokens[:, 1:], "b (h w) d -> b d h w", h=height, w=width)  # without the class token

        return [
            Eye("image", False, network.image_tokens, as_map, padded),
            Eye("preprocessed", True, network.preprocessed_tokens, as_map, padded),
        ]
    found = []
    if network.difference_cnn is not None:
        found.append(Eye("image", False, _stage(network.difference_cnn, min(size))))
    title = "preprocessed" if network.preprocessing else "image, second CNN" if found else "image"
    return [*found, Eye(title, network.preprocessing, _stage(network.cnn, min(size)))]


class _Outputs(nn.Module):
    """What a network says of images, by its plain Python: hooks on its layers do not fire in compiled code, by which a
    network answers that was given `compile()`."""

    def __init__(self, network: LensPINN | Lensformer) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network.explain(images).outputs


def grad_cam(network: LensPINN | Lensformer, eye: Eye, images: Tensor, number: int) -> np.ndarray:
    """How much each pixel speaks for class `number`, `[B, H, W]`, each from 0 to 1.

    Args:
        images: transformed, `[B, C, H, W]`.
    """
    from pytorch_grad_cam import GradCAM  # with OpenCV and torchvision; only needed here
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    height, width = shown = tuple(images.shape[-2:])
    padded = eye.padded or shown

    class Camera(GradCAM):
        def get_target_width_height(self, input_tensor: Tensor) -> tuple[int, int]:
            return padded[1], padded[0]

    with Camera(_Outputs(network), [eye.layer], reshape_transform=eye.as_map) as camera:
        found = camera(images, [ClassifierOutputTarget(number)] * len(images))
    network.zero_grad()
    top, left = (padded[0] - height) // 2, (padded[1] - width) // 2  # as `pad_to_patches` pads
    # LensPINN's first CNN sees the sources too, in the second half of its batch
    return found[: len(images), top : top + height, left : left + width]


def _stage(cnn: Any, side: int) -> nn.Module:
    """The last stage of a CNN of timm's with enough cells to show a place; at 64 pixels the last of all has four."""
    stages = [info for info in cnn.feature_info if side >= CELLS * info["reduction"]]
    return cnn.get_submodule((stages or cnn.feature_info[:1])[-1]["module"])
