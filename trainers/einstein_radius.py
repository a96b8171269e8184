"""How well a model knows Einstein radii that it was never told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainers.data import Data
from trainers.metrics import root_mean_square

TRUTH = "lens.theta_E"
UNKNOWN = "arbitrary unit"


def true_radii(params: Mapping[str, Tensor], data: Data) -> Tensor | None:
    """theta_E of images `[N]`, in arcsec; None if not known.

    Nor is it where a preset states it for sources at another redshift than theirs, as most of the published sets do,
    streamed or saved by `lensgen.Benchmark.save`.
    """
    return None if data.z_convention is not None else params.get(TRUTH)


@dataclass(frozen=True)
class Radii:
    """Einstein radii of N lenses.

    Attributes:
        learned, true: `[N]`, in `unit`.
        unit: "arcsec"; or UNKNOWN of a set that does not say how wide its pixels are: `learned` is in pixels then and
            `true` in arcsec, of which the correlation alone can be told.
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
            pixel_scale: [arcsec]; None where it is not known.
        """
        if true is None:
            return None
        values = true.double().cpu().numpy()
        known = np.isfinite(values)
        if known.sum() < 2:
            return None
        scaled = learned.double().cpu().numpy() * (1.0 if pixel_scale is None else pixel_scale)
        unit = UNKNOWN if pixel_scale is None else "arcsec"
        return cls(scaled[known], values[known], unit, index.cpu().numpy()[known])

    @property
    def rms(self) -> float | None:
        """Root mean square of the errors [arcsec]; None where learned and true ones are in different units."""
        return None if self.unit == UNKNOWN else root_mean_square(self.learned - self.true)

    @property
    def correlation(self) -> float | None:
        """Pearson's; None where all lenses are alike, 0 where only what was learnt of them is."""
        if np.ptp(self.true) <= 1e-6 * np.abs(self.true).max():
            return None
        if not np.ptp(self.learned):
            return 0.0
        return float(np.corrcoef(self.learned, self.true)[0, 1])

    def figures(self) -> dict[str, float]:
        """`theta_E_correlation` and `theta_E_rms_arcsec`, where there are such."""
        found = {"theta_E_correlation": self.correlation, "theta_E_rms_arcsec": self.rms}
        return {name: value for name, value in found.items() if value is not None}

    def __str__(self) -> str:
        words = [] if self.correlation is None else [f"correlation {self.correlation:.3f}"]
        words += ["pixel_scale unknown" if self.rms is None else f"rms error {self.rms:.3f} {self.unit}"]
        return f"theta_E of {len(self.true):,} lenses: {', '.join(words)}"


def test_radii(learned: Callable[[Tensor], Tensor], data: Data) -> Radii | None:
    """Of all test images; None where theta_E is not known.

    Args:
        learned: raw images `[B, C, H, W]` -> theta_E `[B]` in pixels, without gradients.
    """
    parts = [(learned(batch.image), batch.params, batch.index) for batch in data.test()]
    found, params, index = zip(*parts, strict=True)
    columns = {name: torch.cat([own[name] for own in params]) for name in params[0]}
    return Radii.of(torch.cat(found), true_radii(columns, data), torch.cat(index), data.pixel_scale)
