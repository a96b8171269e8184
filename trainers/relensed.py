"""A true physics loss: the source that a lens gives, lensed again, against the image, in units of its noise."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

import lensgen
from trainers.errors import ConfigError
from trainers.models.physics.forward_lens import ForwardLens, chi_square
from trainers.models.physics.inverse_lens import InverseLens


def require_no_lens_light(flag: str, preset: lensgen.Preset) -> None:
    """Raises `ConfigError` if images of the preset show light that is no source's."""
    if preset.lens_light:
        raise ConfigError(
            f"{flag} takes all light of an image for the source's, and those of preset {preset.name} show the lens's "
            f"own too; give --set lens_light=null, or {flag} 0."
        )


class Relensed:
    """Isothermal spheres and the telescope of a preset.

    Raises:
        ConfigError: the preset's images have no noise, or are divided by their peaks, or show the lens's own light.
    """

    def __init__(self, preset: lensgen.Preset) -> None:
        why = fix = None
        if preset.recipe.noiseless:
            why, fix = "have none", "noise.recipe=ccd"
        elif preset.normalise != "none":
            why, fix = f"are divided by their {preset.normalise}, and it with them", "normalise=none"
        if why is not None:
            raise ConfigError(
                f"--physics-weight is of residuals in units of the noise, and images of preset {preset.name} {why}; "
                f"give --set {fix}, or --physics-weight 0."
            )
        require_no_lens_light("--physics-weight", preset)
        self._inverse, self._forward = InverseLens("sis"), ForwardLens(preset, "sis")

    def chi_square(self, images: Tensor, params: Mapping[str, Tensor], theta_E: Tensor) -> Tensor:
        """Mean squared residual in units of the noise, `[B]`, of the sources that `theta_E` gives, lensed again.

        1 where nothing but noise is left, and little more for the true sphere: what two interpolations lose of small
        sources. It sharpens a theta_E that is right to some per cent and finds none: there is a deeper least at 0,
        where the image is its own source.

        Args:
            images: `[B, C, H, W]`, of the preset, as they were simulated.
            params: `Batch.params`.
            theta_E: `[B]`, in pixels.
        """
        sphere = {"theta_E": theta_E}
        lensed = self._forward(self._inverse(images, sphere), sphere, params.get("psf.choice"))
        return chi_square(lensed, images, self._forward.sigma(lensed.detach(), params))
