"""How compact the source of a lens is: what finds its Einstein radius without being told, of raw images."""

from __future__ import annotations

import torch
from torch import Tensor

from trainers.config import DataConfig
from trainers.data import Data
from trainers.models.physics.compactness import SEEN, compactness, seen, sky

NOISIER = 1.25  # than the input scale: with less compactness is as good, and 16 pixels of sky say it no better


class CompactSource:
    """The loss by which an Einstein radius is found without being told: how compact the source is that it gives.

    It is that of the raw images, in units of their noise, whatever transform and augmentation show the network: an
    image from 0 to 1 does not say what in it is sky. The noise is the input scale, or where the set is noisier than
    that says (which is 1 % of the peak, where images were divided by theirs, or a stored set does not say it) that of
    each image's own sky.

    Args:
        images: `[N, C, H, W]`, raw, by whose corners sky and noise of the set are judged.
    """

    def __init__(self, data: Data, images: Tensor) -> None:
        self._noise = images.new_tensor(data.transform.scale).view(-1, 1, 1)
        level, noise = (found.median(0).values for found in sky(images))
        # decided once for the set: the few pixels in the corners of one image would say it too roughly
        self._noisier = bool((noise > NOISIER * self._noise).any())
        self._bright_sky = bool((level > SEEN * torch.maximum(noise, self._noise)).any())

    def loss(self, images: Tensor, theta_E: Tensor) -> Tensor:
        """Of raw images `[B, C, H, W]` and Einstein radii `[B]` in pixels, `[B]`; least near the true radii."""
        noise = torch.maximum(sky(images)[1], self._noise) if self._noisier else self._noise
        return compactness(seen(images / noise), theta_E)

    def remarks(self, source: DataConfig) -> list[str]:
        """What whoever gave the images of `source` should know of their sky, a line each."""
        images = f"--preset {source.preset}" if source.data is None else f"--data {source.data}"
        found = []
        if self._noisier:
            found.append(
                f"note: the sky of {images} is noisier than its input scale, which is 1 % of the peak where nobody "
                "says it; compactness takes the noise that each image has in its corners. A stored set says it by "
                "input_scale = the sky noise."
            )
        if self._bright_sky:
            found.append(
                f"warning: the corners of the images of {images} are not dark, and compactness takes all light for the "
                "source's: subtract sky and lens light, or give --compactness 0."
            )
        return found
