"""Is everyone rendering the same? Noise-free images against lenstronomy's before anything is timed."""

from __future__ import annotations

import importlib.util

import numpy as np

from profiles.cases import Task

# Of the peak, for each kind of case. A contender beyond renders something else, and is not timed. A rod is no row of
# points where a pixel's centre is as near as they are to one another.
TOLERANCES = {"smooth": 1e-4, "points": 2e-4, "row": 2e-4, "rod": 5e-3, "tnfw": 2e-3}


def reference(task: Task, systems: int) -> np.ndarray | None:
    """lenstronomy's images of the first systems; None for presets and where it is not installed."""
    if task.case.kind == "preset" or importlib.util.find_spec("lenstronomy") is None:
        return None
    from profiles.contenders.lenstronomy_images import LenstronomyImages

    return LenstronomyImages(task).check_images()[:systems]


def deviation(images: np.ndarray, expected: np.ndarray, task: Task) -> float:
    """Largest difference over the peak of the worst image.

    Border pixels within reach of the PSF are left out: lenstronomy repeats the border pixel before it convolves, others
    simulate what is outside.
    """
    if images.shape != expected.shape:
        return float("inf")
    border = -(-task.psf_radius // task.supersampling)
    inner = slice(border, -border or None)
    off = np.abs(images - expected)[:, inner, inner].max(axis=(1, 2)) / expected.max(axis=(1, 2))
    return float("inf") if np.isnan(off).any() else float(off.max())


def tolerance(task: Task) -> float:
    """What is allowed."""
    return TOLERANCES[task.case.kind]
