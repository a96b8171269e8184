"""Images of subhalos of theory, hundreds of slots of which many are empty, by kernels from end to end."""

from __future__ import annotations

import pytest
import torch

from lensgen import Observation, Simulator, render
from lensgen.draw import draw
from lensgen.fused_draw import CpuDrawer
from lensgen.preset import Preset, load_preset
from lensgen.psf import GaussianPSF
from lensgen.rng import RandomSource
from lensgen_kernels import cpu
from tests.kernels.test_cpu_draw import OVERRIDES

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def preset() -> Preset:
    changes = OVERRIDES["subhalos of theory"] | {"noise.recipe": "none", "grid.size": 32}
    return load_preset("model_a").override(changes)


@pytest.fixture(autouse=True)
def _poisoned(monkeypatch) -> None:
    monkeypatch.setattr(cpu, "POISON", True)


def test_images_do_not_depend_on_the_batch_or_on_who_drew_the_systems(preset) -> None:
    simulator, made = Simulator(preset, device="cpu", engine="cpu"), CpuDrawer(preset, torch.float32)
    simulator._draw = lambda index: made(simulator.random, index)
    whole = simulator.batch(0, 24)
    assert len(whole.label.unique()) == 3 and bool(torch.isfinite(whole.image).all())
    for rows in (torch.arange(24).flip(0), torch.tensor([5]), torch.tensor([20, 3, 3])):
        assert torch.equal(simulator.batch(indices=rows).image, whole.image[rows])
    by_torch = Simulator(preset, device="cpu", engine="cpu")
    by_torch._draw = lambda index: draw(preset, by_torch.random, index)
    assert torch.equal(by_torch.batch(0, 24).image, whole.image)


def test_images_agree_with_those_of_float64(preset, gate) -> None:
    systems = draw(preset, RandomSource(0), torch.arange(24), torch.float64)
    seen = Observation(32, 32, 0.1, 2, GaussianPSF(0.0))
    expected = render(systems.scene, seen, engine="torch")
    image = render(systems.scene.to(dtype=torch.float32), seen, engine="cpu").double()
    error = (image - expected).abs().flatten(1).amax(1) / expected.flatten(1).amax(1)
    gate("cpu: image of subhalos of theory (of peak)", error.max(), 1e-5)
