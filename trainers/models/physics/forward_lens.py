"""A lens: source and mass model -> the image that a preset's telescope takes of it, and how well that fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

import lensgen
from lensgen.errors import ParameterError, lookup
from trainers.models.physics.lens_model import LensModel, Parameters
from trainers.models.physics.source import Source


class ForwardLens(nn.Module):
    """A rebuilt source lensed again by lensgen's torch renderer, on the pixels and through the PSF of a preset.

    Differentiable in the source's pixels and in the lens. Between pixels the source is linear, beyond its grid dark; of
    the preset's scenes there are neither substructure nor lens light.

    With it the lens equation is a loss: `chi_square(lens(source, parameters), images, lens.sigma(...))`. Of a source
    that `InverseLens` rebuilt from the same images that loss has a narrow minimum at the true lens, and a deeper one
    where there is no lens and the source is the image: it sharpens an Einstein radius that is known to about 10 %, but
    cannot find one.

    Args:
        preset: whose telescope; `lensgen.load_preset(...).override(...)` for another.
        profile, statics: of the lens, see `LensModel`.

    Raises:
        UnknownNameError, PresetError: no such preset or profile.
    """

    def __init__(
        self,
        preset: str | Path | lensgen.Preset,
        profile: str | Sequence[str] = "sis",
        statics: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.preset = lensgen.load_preset(preset)
        self.lens = LensModel(profile, statics)

    def forward(self, source: Source, parameters: Parameters, psf_choice: Tensor | None = None) -> Tensor:
        """Noise-free images `[B, C, H, W]` in the unit of the source's.

        Args:
            source: as many pixels as the preset's images, and a channel for each of its bands.
            parameters: of the lens as for `InverseLens`: angles in pixels of the image.
            psf_choice: `[B]` int64, where the preset has several PSFs: `batch.params["psf.choice"]`.

        Raises:
            UnknownNameError, ParameterError: of the parameters, of a source of another shape, or of an image that is
                not finite.
        """
        pixels = source.image.to(torch.promote_types(source.image.dtype, torch.float32))
        batch = len(pixels)
        if pixels.shape[1:] != self.preset.image_shape:
            raise ParameterError(
                f"a source {list(pixels.shape)} cannot be seen by preset {self.preset.name}, whose images are "
                f"[B, {', '.join(map(str, self.preset.image_shape))}]."
            )
        field = source.field.to(pixels)
        number = torch.arange(batch, device=pixels.device).to(pixels.dtype)
        images = []
        for k, band in enumerate(self.preset.bands):
            scale = band.observation.pixel_scale
            values = {
                "amp": field * field, "scale": field * scale, "phi_G": 0.0 * field, "center_x": 0.0 * field,
                "center_y": 0.0 * field, "which": number,
            }  # fmt: skip
            brightness = lensgen.Component(
                "source", lensgen.light_profile("interpol"), values, arrays={"images": pixels[:, k]}
            )
            scene = lensgen.Scene(self.lens.components(parameters, batch, pixels, scale), (brightness,))
            images.append(lensgen.render(scene, band.observation, None, "torch", psf_choice))
        return torch.stack(images, 1)

    def sigma(self, images: Tensor, params: Mapping[str, Tensor]) -> Tensor:
        """The noise's standard deviation `[B, C, H, W]` as the preset's recipe states it: sky, read noise and the shot
        noise of these images, in their unit.

        Args:
            images: `[B, C, H, W]`, best noise-free: of noisy ones pixels that came out low would count too much. The
                lensed image, detached, will do.
            params: `Batch.params`, of which the exposure times are read.

        Raises:
            UnknownNameError: the exposure time is not among the params.
            ParameterError: the preset's images have no noise, or are divided by their peaks.
        """
        preset = self.preset
        if preset.recipe.noiseless or preset.normalise != "none":
            why = "have no noise" if preset.recipe.noiseless else f"are divided by their {preset.normalise}"
            raise ParameterError(f"images of preset {preset.name} {why}: state a sigma of your own.")
        parts = []
        for k, band in enumerate(preset.bands):
            exposure = lookup("parameter of the images", preset.exposure_name(k), params).to(images).unsqueeze(1)
            clean = images[:, k].flatten(1) / preset.recipe.response(exposure)
            parts.append(preset.recipe.variance(clean, exposure, band.detector).sqrt().view_as(images[:, k]))
        return torch.stack(parts, 1)


def chi_square(lensed: Tensor, images: Tensor, sigma: Tensor | float) -> Tensor:
    """Mean squared residual in units of the noise, `[B]`; 1 is expected of the true lens and the true source.

    Args:
        lensed, images: `[B, C, H, W]`.
        sigma: the like, or a number.
    """
    return ((lensed - images) / sigma).square().flatten(1).mean(1)
