"""Views of an image: other pictures of the same lens, as a model is to see them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from trainers.draws import Draws
from trainers.errors import ConfigError

Augmentation = Literal["none", "d4"]
SYMMETRIES = 8


def augmented(images: Tensor, augmentation: Augmentation, draws: Draws) -> Tensor:
    """Images `[B, C, H, W]` as `augmentation` has them in this step, each by its own index."""
    if augmentation == "none":
        return images
    return d4(images, (draws.uniforms("d4", 1)[:, 0] * SYMMETRIES).long().clamp(max=SYMMETRIES - 1))


def d4(images: Tensor, number: Tensor) -> Tensor:
    """Images rotated by quarter turns and mirrored; 0 leaves an image as it is.

    Labels that know of directions (e1, e2, a centre, a shear) must not be kept beside such images.

    Args:
        images: `[B, C, H, W]` with H = W.
        number: `[B]`, 0 to 7: which of the eight symmetries of the square.
    """
    require_square(images.shape[-3:])
    transpose, rows, columns = ((number // bit % 2 == 1).view(-1, 1, 1, 1) for bit in (1, 2, 4))
    images = torch.where(transpose, images.transpose(-1, -2), images)
    images = torch.where(rows, images.flip(-2), images)
    return torch.where(columns, images.flip(-1), images)


def require_square(image_shape: tuple[int, ...]) -> None:
    """Raises `ConfigError` unless quarter turns leave the shape `(C, H, W)` as it is."""
    if image_shape[-2] != image_shape[-1]:
        raise ConfigError(
            f"d4 turns images by 90 degrees, which {image_shape[-2]} x {image_shape[-1]} pixels do not allow; "
            "take square images, or --augment none without --average-d4."
        )
