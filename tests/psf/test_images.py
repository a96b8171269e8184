"""Rendered images: against lenstronomy's with every PSF it has, and each image with the kernel of its choice."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lenstronomy.Data.psf import PSF
from lenstronomy.Util import kernel_util

from lensgen import Observation, Scene, noise_recipe, render
from lensgen.errors import ParameterError
from lensgen.noise import Detector
from lensgen.observation import Noise
from lensgen.psf import GaussianPSF, MoffatPSF, OneOfPSF, PixelPSF
from lensgen.rng import RandomSource
from tests.kernels.scenes import hand_made
from tests.psf.kernels import ONE_OF_EACH, moffat, stack
from tests.test_lenstronomy_images import lenstronomy_image

pytestmark = pytest.mark.filterwarnings("ignore:.*axes.*should not be.*None:DeprecationWarning")
ENGINES = [("torch", torch.float64, 1e-6), ("torch", torch.float32, 1e-5), ("cpu", torch.float32, 1e-5)]
SCALE = 0.1


def off(observation: Observation, kernel: PSF, engine: str, dtype: torch.dtype) -> float:
    """max |lensgen - lenstronomy| over the peak."""
    scene = hand_made(1, "sis", torch.float32)
    expected = lenstronomy_image(scene.to(dtype=torch.float64), observation, kernel=kernel)
    got = render(scene.to(dtype=dtype), observation, engine=engine)[0].double().numpy()
    return float(np.abs(got - expected).max() / expected.max())


@pytest.mark.parametrize("engine, dtype, allowed", ENGINES)
@pytest.mark.parametrize("supersampling, fine", [(1, False), (3, False), (3, True)])
@pytest.mark.parametrize("size", [5, 21])
def test_moffat(engine, dtype, allowed, supersampling: int, fine: bool, size: int, gate) -> None:
    scale = SCALE / supersampling if fine else SCALE
    kernel = kernel_util.kernel_moffat(size, scale, 0.25, 2.8)
    theirs = PSF("PIXEL", kernel_point_source=kernel, point_source_supersampling_factor=supersampling if fine else 1)
    observation = Observation(40, 40, SCALE, supersampling, MoffatPSF(0.25, 2.8, size * scale), fine)
    gate(f"image: Moffat PSF ({engine}, {dtype})", off(observation, theirs, engine, dtype), allowed)


@pytest.mark.parametrize("engine, dtype, allowed", ENGINES)
@pytest.mark.parametrize(
    "supersampling, factor, fine", [(1, 1, False), (1, 3, False), (2, 4, False), (2, 2, True), (3, 3, True)]
)
@pytest.mark.parametrize("size", [9, 33])
def test_pixels(engine, dtype, allowed, supersampling: int, factor: int, fine: bool, size: int, gate) -> None:
    """A kernel on finer pixels, used where it is given or averaged over larger ones."""
    kernel = moffat(size)
    theirs = PSF("PIXEL", kernel_point_source=kernel.numpy(), point_source_supersampling_factor=factor)
    psf = PixelPSF(kernel, pixel_scale=SCALE / factor)
    observation = Observation(40, 40, SCALE, supersampling, psf, fine)
    gate(f"image: PSF of pixels ({engine}, {dtype})", off(observation, theirs, engine, dtype), allowed)


@pytest.mark.parametrize("engine, dtype, allowed", ENGINES)
@pytest.mark.parametrize("supersampling", [1, 2])
def test_gaussian(engine, dtype, allowed, supersampling: int, gate) -> None:
    theirs = PSF("GAUSSIAN", fwhm=0.3, pixel_size=SCALE, truncation=4.0)
    observation = Observation(40, 40, SCALE, supersampling, GaussianPSF(0.3, 4.0), supersampling > 1)
    gate(f"image: Gaussian PSF ({engine}, {dtype})", off(observation, theirs, engine, dtype), allowed)


# --- one of several

SEVERAL = OneOfPSF((stack(3, 9), MoffatPSF(0.2, 3.0, 1.3), GaussianPSF(0.3, edge="zero")))
CHOICE = torch.tensor([4, 0, 3, 3, 2, 1, 0, 4, 2, 1, 1, 3])
EYES = [Observation(21, 35, SCALE, s, SEVERAL, fine) for s, fine in ((1, False), (2, False), (2, True), (3, True))]


def each_its_own() -> Scene:
    shift = torch.linspace(-0.3, 0.3, len(CHOICE))
    return hand_made(len(CHOICE), center_x=shift)


@pytest.mark.parametrize("engine, dtype, allowed", ENGINES)
@pytest.mark.parametrize("observation", EYES)
def test_each_image_has_the_kernel_of_its_choice(observation, engine, dtype, allowed) -> None:
    scene = each_its_own().to(dtype=dtype)
    image = render(scene, observation, engine=engine, psf_choice=CHOICE)
    fine = observation.supersampling if observation.psf_supersampled else 1
    for kernel in range(SEVERAL.choices):
        psf = PixelPSF(SEVERAL.kernels(SCALE / fine)[kernel])
        alone = Observation(21, 35, SCALE, observation.supersampling, psf, observation.psf_supersampled)
        expected = render(scene, alone, engine=engine)
        error = (image - expected)[kernel == CHOICE].abs().max() / expected.max()
        assert float(error) < (1e-14 if dtype == torch.float64 else 1e-6)
        others = (image - expected)[kernel != CHOICE].flatten(1).abs().amax(1) / expected.max()
        assert float(others.min()) > 1e-3


@pytest.mark.parametrize("engine, dtype, allowed", ENGINES)
@pytest.mark.parametrize("observation", EYES)
@pytest.mark.parametrize("noisy", [False, True])
def test_same_bits_alone_and_in_any_batch(observation, engine, dtype, allowed, noisy: bool) -> None:
    scene = each_its_own().to(dtype=dtype)

    def rendered(rows: torch.Tensor) -> torch.Tensor:
        exposure = torch.full((len(rows),), 1000.0)
        noise = Noise(noise_recipe("ccd"), Detector(1, 4.0, 0.2), exposure, RandomSource(3), rows) if noisy else None
        return render(scene.select(rows), observation, noise, engine, CHOICE[rows])

    together = rendered(torch.arange(len(CHOICE)))
    mixed = torch.tensor([7, 2, 11, 0, 5])
    assert torch.equal(rendered(mixed), together[mixed])
    for row in (0, 3, 11):
        assert torch.equal(rendered(torch.tensor([row]))[0], together[row])
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert torch.equal(rendered(torch.arange(len(CHOICE))), together)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("psf", ONE_OF_EACH.values(), ids=ONE_OF_EACH)
@pytest.mark.parametrize("supersampling, fine", [(1, False), (2, True)])
def test_both_engines_take_every_psf(psf, supersampling: int, fine: bool, gate) -> None:
    scene = hand_made(3)
    observation = Observation(33, 20, SCALE, supersampling, psf, fine)
    choice = torch.arange(3) % psf.choices
    image = render(scene, observation, engine="cpu", psf_choice=choice).double()
    expected = render(scene.to(dtype=torch.float64), observation, engine="torch", psf_choice=choice)
    gate("cpu: optics (of peak)", (image - expected).abs().max() / expected.max(), 1e-5)


@pytest.mark.parametrize("engine", ["cpu", "torch"])
@pytest.mark.parametrize(
    "choice, message",
    [
        (None, r"the PSF is one of 5 kernels: give psf_choice, \[B\] int64 within \[0, 5\)"),
        (torch.tensor([0, 1]), r"psf_choice must be int64 \[3\], one for each image, not torch.int64 \[2\]"),
        (torch.tensor([0, 1, 2], dtype=torch.int32), r"not torch.int32 \[3\]"),
        (torch.tensor([0.0, 1.0, 2.0]), r"not torch.float32 \[3\]"),
        ([0, 1, 2], r"not \[0, 1, 2\]"),
        (torch.tensor([0, 5, 1]), r"psf_choice = 5 is outside \[0, 4\]"),
        (torch.tensor([0, 1, -1]), r"psf_choice = -1 is outside \[0, 4\]"),
    ],
)
def test_choices_that_cannot_be(engine: str, choice, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        render(hand_made(3), EYES[0], engine=engine, psf_choice=choice)


def test_a_psf_of_one_kernel_takes_no_other() -> None:
    observation = Observation(9, 9, SCALE, 1, PixelPSF(moffat(5)))
    image = render(hand_made(2), observation)
    assert torch.equal(render(hand_made(2), observation, psf_choice=torch.tensor([0, 0])), image)
    with pytest.raises(ParameterError, match=r"psf_choice = 1 is outside \[0, 0\]"):
        render(hand_made(2), observation, psf_choice=torch.tensor([0, 1]))
