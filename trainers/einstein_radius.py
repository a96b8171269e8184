"""How well a model knows Einstein radii that it was never told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from trainers.data import Data
from trainers.metrics import root_mean_square

TRUTH = "lens.theta_E"


def true_radii(params: Mapping[str, Tensor], data: Data) -> Tensor | None:
    """theta_E of images `[N]`, in arcsec, or in pixels if `data` does not say how wide these are; None if not known.

    Nor is it where a preset states it for sources at another redshift than theirs, as most of the published sets do.
    """
    stated_elsewhere = data.benchmark is not None and data.benchmark.simulator.preset.z_convention is not None
    return None if stated_elsewhere else params.get(TRUTH)


@dataclass(frozen=True)
class Radii:
    """Einstein radii of N lenses.

    Attributes:
        learned, true: `[N]`, in `unit`.
        unit: "arcsec", or "pixel" of a set that does not say how wide its pixels are.
        index: `[N]`, of the images.
    """

    learned: np.ndarray
    true: np.ndarray
    unit: str
    index: np.ndarray

    @classmethod
    def of(cls, learned: Tensor, true: Tensor | None, index: Tensor, pixel_scale: float | None) -> Radii | None:
        """Those of images whose theta_E is known; None where there are fewer than two of them.

        Args:
            learned: `[N]`, in pixels.
            true: `[N]`, as `true_radii` gives them.
            index: `[N]`.
            pixel_scale: [arcsec].
        """
        if true is None:
            return None
        values = true.double().cpu().numpy()
        known = np.isfinite(values)
        if known.sum() < 2:
            return None
        scaled = learned.double().cpu().numpy() * (1.0 if pixel_scale is None else pixel_scale)
        unit = "pixel" if pixel_scale is None else "arcsec"
        return cls(scaled[known], values[known], unit, index.cpu().numpy()[known])

    @property
    def rms(self) -> float:
        """Root mean square of the errors, in `unit`."""
        return root_mean_square(self.learned - self.true)

    @property
    def correlation(self) -> float | None:
        """Pearson's; None where all lenses are alike, 0 where only what was learnt of them is."""
        if np.ptp(self.true) <= 1e-6 * np.abs(self.true).max():
            return None
        if not np.ptp(self.learned):
            return 0.0
        return float(np.corrcoef(self.learned, self.true)[0, 1])

    def figures(self) -> dict[str, float]:
        """`theta_E_correlation`, where there is one, and `theta_E_rms_arcsec` or `theta_E_rms_pixel`."""
        found = {f"theta_E_rms_{self.unit}": self.rms}
        return found if self.correlation is None else {"theta_E_correlation": self.correlation, **found}

    def __str__(self) -> str:
        correlation = "" if self.correlation is None else f"correlation {self.correlation:.3f}, "
        return f"theta_E of {len(self.true):,} lenses: {correlation}rms error {self.rms:.3f} {self.unit}"
