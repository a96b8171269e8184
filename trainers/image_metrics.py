"""How good an image is: PSNR and SSIM of each image, by torchmetrics, with the data range always given.

PSNR and SSIM mean nothing without the range that pixels are said to have: an all-zero picture of a lens has an SSIM of
0.8. So what is measured stands beside bicubic up-sampling and beside that all-zero picture.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from trainers.metrics import bootstrap_interval

HIGHEST_PSNR = 120.0  # dB: float32 holds no better; an exact image would have infinitely many


def psnr(prediction: Tensor, truth: Tensor, data_range: float) -> Tensor:
    """Peak signal-to-noise ratio of each image [dB]: `[B, C, H, W]` twice -> `[B]`, at most `HIGHEST_PSNR`.

    10 log10(data_range^2 / mean squared error over the image's pixels and channels)
    """
    value = peak_signal_noise_ratio(
        prediction.float(), truth.float(), data_range=data_range, reduction="none", dim=(1, 2, 3)
    )
    return cast(Tensor, value).clamp(max=HIGHEST_PSNR)


def ssim(prediction: Tensor, truth: Tensor, data_range: float) -> Tensor:
    """Structural similarity of each image: `[B, C, H, W]` twice -> `[B]`.

    Wang et al. 2004 (IEEE TIP 13, 600), with their Gaussian window of 1.5 pixels, 11 x 11 pixels, and constants .01
    and .03 times the data range. The mean is torchmetrics': over the whole image, reflected at its borders. Others
    leave out the 5 pixels at each border, which the window overlaps, and get less where the sky there is dark: bicubic
    up-sampling by 4 of 100 images of deeplense_ii_legacy, .962 in place of .973 (`downsample`: area).
    """
    value = structural_similarity_index_measure(
        prediction.float(), truth.float(), data_range=data_range, reduction="none", sigma=1.5
    )
    return cast(Tensor, value).reshape(len(truth))


def scaled_by(image: Tensor, truth: Tensor) -> Tensor:
    """`image` `[B, C, H, W]` as it is when each `truth` is scaled to 0..1 by its own least and greatest pixel.

    Papers score images that were scaled so, with a data range of 1. It takes a look at the truth, so it is a way to
    score and never an input.
    """
    low, high = truth.amin((1, 2, 3), keepdim=True), truth.amax((1, 2, 3), keepdim=True)
    return (image - low) / (high - low).clamp(min=1e-30)


def image_scores(image: Tensor, truth: Tensor, chunk: int = 128) -> dict[str, Tensor]:
    """`psnr` [dB], `ssim` and `mse` of each image `[N]`, on the CPU, of images whose data range is 1."""
    parts: dict[str, list[Tensor]] = {"psnr": [], "ssim": [], "mse": []}
    for one, other in zip(image.split(chunk), truth.split(chunk), strict=True):
        parts["psnr"].append(psnr(one, other, 1.0))
        parts["ssim"].append(ssim(one, other, 1.0))
        parts["mse"].append((one - other).square().mean((1, 2, 3)))
    return {name: torch.cat(values).cpu() for name, values in parts.items()}


def with_interval(values: Tensor) -> dict[str, float]:
    """Mean of `[N]` and its 95 % bootstrap interval over the images: `value`, `low`, `high`."""
    numbers = values.double().numpy()
    low, high = bootstrap_interval(np.mean, numbers)
    return {"value": float(numbers.mean()), "low": float(low), "high": float(high)}
