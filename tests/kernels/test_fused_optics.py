"""Light, supersampling and point-spread functions of the fused engines, against float64 torch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lensgen import Observation, Scene, render
from lensgen.light import LIGHT_PROFILES, light_profile
from lensgen.psf import GaussianPSF, PixelPSF
from lensgen.scene import Component
from tests.kernels import scenes
from tests.kernels.scenes import both, hand_made, off_peak, seen
from tests.mass.cases import arrays


def pixel_psf(size: int) -> PixelPSF:
    kernel = torch.rand(size, size, generator=torch.Generator().manual_seed(size), dtype=torch.float64)
    return PixelPSF(kernel / kernel.sum())


PSFS = {
    "none": GaussianPSF(0.0),
    "nearest": GaussianPSF(0.3),
    "zero": GaussianPSF(0.3, edge="zero"),
    "pixel": GaussianPSF(0.25, 3.0, "nearest", "pixel"),
    "wide": GaussianPSF(2.0, 6.0),
    "wide, zero": GaussianPSF(2.0, 6.0, "zero"),
    "1x1": pixel_psf(1),
    "3x3": pixel_psf(3),
    "21x21": pixel_psf(21),
    "65x65": pixel_psf(65),
}
QUICK = {
    ("none", 5, False), ("nearest", 1, False), ("nearest", 2, True), ("zero", 1, False), ("pixel", 3, True),
    ("wide, zero", 2, True), ("21x21", 2, False), ("3x3", 3, True), ("65x65", 2, True),
}  # fmt: skip
QUICK_ON_CUDA = {("zero", 1, False), ("pixel", 3, True), ("21x21", 2, False)}
OPTICS = [
    pytest.param(engine, name, s, fine, marks=() if (name, s, fine) in quick else pytest.mark.slow)
    for engine, quick in (("cpu", QUICK), ("cuda", QUICK_ON_CUDA))
    for name in PSFS
    for s in (1, 2, 3, 5)
    for fine in ((False, True) if s > 1 else (False,))
]


@pytest.mark.parametrize("engine, name, supersampling, supersampled", OPTICS, indirect=["engine"])
def test_optics(engine: str, name: str, supersampling: int, supersampled: bool, gate) -> None:
    """A galaxy alone, its light cut by the edge in the smaller grids: no lens, no source behind it."""
    light = hand_made(3).source
    sizes = [(1, 1), (33, 65), (64, 64), (7, 150)] + ([(150, 150)] if supersampling == 1 else [])
    for height, width in sizes:
        observation = Observation(height, width, 0.1, supersampling, PSFS[name], supersampled)
        gate(f"{engine}: optics (of peak)", off_peak(Scene((), light), observation, engine), 1e-5)
    beside = Observation(33, 65, 0.1, supersampling, PSFS[name], supersampled)
    assert torch.equal(  # the same program for lens light is another, with the same numbers
        render(Scene((), light), beside, engine=engine), render(Scene((), light), beside, engine=f"{engine}_closed")
    )


def test_scenes_without_a_source_or_a_lens(engine: str, gate) -> None:
    full = hand_made(3)
    galaxy = light_profile("sersic")
    count = torch.tensor([2, 0, 1])
    values = {"amp": 5.0, "R_sersic": 0.2, "n_sersic": 2.0, "center_x": torch.linspace(-1, 1, 6).view(3, 2).float()}
    clumps = Component.make("clumps", galaxy, values, 3, count)
    for scene in (
        Scene(full.mass, (), full.source),
        Scene((), full.source, (replace(full.source[0], name="galaxy"),)),
        Scene((), (clumps,), (replace(clumps, name="more"),)),
        Scene(full.mass, (clumps, *full.source), (replace(clumps, name="more"),)),
    ):
        gate(f"{engine}: optics (of peak)", off_peak(scene, seen(33, 65), engine), 1e-5)
    empty = render(Scene((), (clumps,)), seen(9, 9), engine=engine)
    assert float(empty[1].abs().max()) == 0.0 and float(empty[0].max()) > 0.0


@pytest.mark.parametrize("name", LIGHT_PROFILES)
def test_every_light_profile(engine: str, name: str, gate) -> None:
    """Sersic's gate: 5e-5 where it shines with more than a millionth of its brightest pixel; of a cutout, which falls
    to 0 at its edge, 1e-5 of the brightest."""
    profile, number = light_profile(name), 200
    values = scenes.random_parameters(profile, (number,), 7) | {"amp": torch.ones(number, dtype=torch.float64)}
    if "n_sersic" in values:
        values["n_sersic"] = values["n_sersic"].clamp(0.5, 5.0)
    if profile.arrays:  # of a cutout with finer pixels than the image's, one pixel may show its rim and nothing else
        values["scale"] = values["scale"].clamp(min=0.1)
    source = Component("source", profile, values, arrays=arrays(profile))
    image, expected = both(Scene((), (source,)), seen(33, 65), engine)
    peak = expected.flatten(1).amax(1)[:, None, None]
    assert (peak > 0.0).double().mean() > 0.5
    if profile.arrays:
        assert torch.equal(image[expected == 0.0], torch.zeros(int((expected == 0.0).sum())))
        gate(f"{engine}: {name} (of peak)", ((image - expected).abs() / peak.clamp(min=1e-30)).max(), 1e-5)
        return
    bright = expected > 1e-6 * peak
    gate(f"{engine}: {name} (relative)", ((image - expected).abs() / expected)[bright].max(), 5e-5)
