"""Is everyone rendering the same? Noise-free images against lenstronomy's before anything is timed.

Where lenstronomy is not installed, against those of lensgen's torch engine in float64, which the tests compare with it.
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import torch

from lensgen.render import render
from profiles.cases import Task, draw_systems
from profiles.contenders.lensgen_scene import observation_of, scene_of

# Of the peak, for each kind of case. A contender beyond renders something else, and is not timed. A rod is no row of
# points where a pixel's centre is as near as they are to one another.
TOLERANCES = {"smooth": 1e-4, "points": 2e-4, "row": 2e-4, "rod": 5e-3, "tnfw": 2e-3}


def judge() -> str:
    """Whose images those of `reference` are."""
    return "lenstronomy" if importlib.util.find_spec("lenstronomy") else "lensgen torch in float64"


def reference(task: Task, systems: int) -> np.ndarray | None:
    """The images of the first systems as they should be; None for presets."""
    if task.case.kind == "preset":
        return None
    few = replace(task, first=systems, device="cpu")
    if judge() != "lenstronomy":
        return render(scene_of(draw_systems(few), few, torch.float64), observation_of(few), engine="torch").numpy()
    from profiles.contenders.lenstronomy_images import LenstronomyImages

    return LenstronomyImages(few).check_images()


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
