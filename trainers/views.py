"""Views of an image: other pictures of the same lens, as a model is to see them.

Everything is drawn by `Draws`, keyed by the index of each image, and done on the images' device (kornia). Rotation,
mirroring and crop are one resampling; what it reaches beyond the image is its reflection. Colours, brightness and shape
stay: flux and ellipticity of a lens are what it is known by. Quarter turns and mirrorings alone (d4) are exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from trainers.draws import Draws
from trainers.errors import ConfigError
from trainers.transform import InputTransform

Augmentation = Literal[
    "none", "d4", "rotation", "noise", "byol", "simsiam", "simclr", "vicreg", "lejepa", "dino", "local"
]
SYMMETRIES = 8


@dataclass(frozen=True)
class Strength:
    """How far a view departs from the image.

    Args:
        noise: least and greatest deviation of the noise that is added to the raw image, before the transform, in units
            of the transform's scale (the noise of the sky); None for none.
        turn: whether it is turned, by any angle.
        mirror: whether half of the views are mirrored.
        area: least and greatest share of the image's area that a square crop shows, enlarged to the whole.
        blur: how often it is blurred.
        sigma: least and greatest width of the blur [pixels].
    """

    noise: tuple[float, float] | None = None
    turn: bool = False
    mirror: bool = False
    area: tuple[float, float] = (1.0, 1.0)
    blur: float = 0.0
    sigma: tuple[float, float] = (0.1, 1.5)

    @property
    def warps(self) -> bool:
        return self.turn or self.mirror or self.area != (1.0, 1.0)


# Crop, flip, rotation and blur, without colour. Photographs are cropped to 8, 20 or 40 % of their area; a lens is its
# ring, known by its size too.
_CROPPED = Strength(turn=True, mirror=True, area=(0.7, 1.0), blur=0.5)
STRENGTHS: dict[str, Strength] = {
    "rotation": Strength(turn=True),
    "noise": Strength(noise=(0.5, 2.0)),
    "byol": Strength(turn=True, mirror=True),
    "simsiam": _CROPPED,
    "simclr": _CROPPED,
    "vicreg": _CROPPED,
    "lejepa": _CROPPED,
    "dino": _CROPPED,
    "local": Strength(turn=True, mirror=True, area=(0.25, 0.5), blur=0.5),
}


def augmented(
    images: Tensor, transform: InputTransform, augmentation: Augmentation, draws: Draws, view: int = 0
) -> Tensor:
    """Raw images `[B, C, H, W]` after the transform and as `augmentation` has them in this step, each by its own index.

    Args:
        view: its number: other numbers draw other views of the same image.

    Raises:
        ConfigError: d4 of images that are not square.
    """
    place = f" of view {view}" if view else ""
    if augmentation == "none":
        return transform(images)
    if augmentation == "d4":
        which = (draws.uniforms("d4" + place, 1)[:, 0] * SYMMETRIES).long().clamp(max=SYMMETRIES - 1)
        return d4(transform(images), which)
    strength = STRENGTHS[augmentation]
    if strength.noise is not None:
        images = noisy(images, transform.scale, strength.noise, draws, place)
    images = transform(images)
    if not strength.warps and not strength.blur:
        return images
    angle, mirror, area, x, y, blurs, sigma = draws.uniforms("geometry" + place, 7).unbind(dim=1)
    if strength.warps:
        side = _between(area, strength.area).sqrt()
        centre = torch.stack([x - 0.5, y - 0.5], dim=1) * (1 - side)[:, None]
        angle = 2 * math.pi * angle * strength.turn
        images = warped(images, angle, (mirror < 0.5) & strength.mirror, side, centre)
    if strength.blur:
        return torch.where((blurs < strength.blur).view(-1, 1, 1, 1), blurred(images, sigma, strength.sigma), images)
    return images


def warped(images: Tensor, angle: Tensor, mirror: Tensor, side: Tensor, centre: Tensor) -> Tensor:
    """Turned, mirrored and cropped images `[B, C, H, W]`, by one bilinear resampling.

    Args:
        angle: `[B]` [rad], from the column axis towards the row axis.
        mirror: `[B]` bool, whether columns are reversed, before the turn.
        side: `[B]`, that of the crop, as a share of the image's.
        centre: `[B, 2]`, of the crop, column and row, from the image's centre, in sides of the image.
    """
    from kornia.geometry.transform import warp_affine  # takes a third of a second to import

    height, width = images.shape[-2:]
    size = images.new_tensor([width, height])
    cosine, sine = angle.cos() / side, angle.sin() / side
    flip = 1 - 2 * mirror.to(images.dtype)
    linear = torch.stack([flip * cosine, -sine, flip * sine, cosine], dim=1).view(-1, 2, 2)
    middle = (size - 1) / 2
    shift = middle - (linear @ (middle + centre * size)[:, :, None])[:, :, 0]
    return warp_affine(
        images, torch.cat([linear, shift[:, :, None]], dim=2), (height, width), padding_mode="reflection"
    )


def blurred(images: Tensor, uniform: Tensor, sigma: tuple[float, float]) -> Tensor:
    """Images `[B, C, H, W]` under a Gaussian, whose width is between the two of `sigma` [pixels] as `uniform` `[B]`."""
    from kornia.filters import gaussian_blur2d

    widths = _between(uniform, sigma)[:, None].expand(-1, 2)
    reach = min(math.ceil(3 * sigma[1]), min(images.shape[-2:]) - 1)
    return gaussian_blur2d(images, 2 * reach + 1, widths)


def noisy(
    images: Tensor, scale: tuple[float, ...], deviation: tuple[float, float], draws: Draws, place: str = ""
) -> Tensor:
    """Raw images `[B, C, H, W]` with white noise, of a deviation between these two times `scale`, drawn for each."""
    uniforms = draws.uniforms("noise" + place, 1 + images[0].numel())
    # the ends of float32 between 0 and 1 would be infinite
    normal = torch.special.ndtri(uniforms[:, 1:].clamp(2.0**-24, 1 - 2.0**-24)).view_as(images)
    strength = _between(uniforms[:, 0], deviation).view(-1, 1, 1, 1)
    return images + strength * images.new_tensor(scale).view(-1, 1, 1) * normal


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


def _between(uniform: Tensor, ends: tuple[float, float]) -> Tensor:
    return ends[0] + (ends[1] - ends[0]) * uniform
