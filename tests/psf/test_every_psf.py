"""What holds for every PSF."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lensgen.errors import ParameterError
from lensgen.psf import (
    PSF,
    SAMPLINGS,
    AdaptiveOpticsPSF,
    Aperture,
    DiffractionPSF,
    GaussianPSF,
    MoffatPSF,
    OneOfPSF,
    PixelPSF,
)
from tests.psf.kernels import ONE_OF_EACH, images, moffat, stack

SCALES = st.floats(0.02, 0.3)
SAMPLED = st.sampled_from(SAMPLINGS)
SYMMETRIC = st.one_of(
    st.builds(GaussianPSF, st.floats(0.0, 0.5), st.floats(2.0, 6.0), st.just("zero"), SAMPLED),
    st.builds(MoffatPSF, st.floats(0.03, 1.0), st.floats(1.1, 8.0), st.floats(0.1, 3.0), SAMPLED),
    st.builds(
        DiffractionPSF,
        st.builds(Aperture, st.floats(1.0, 8.0), st.floats(0.0, 0.5), st.just((10.0, 190.0)), st.floats(0.01, 0.1)),
        st.floats(0.5, 3.0), st.floats(0.1, 1.5), SAMPLED,
    ),
    st.builds(
        AdaptiveOpticsPSF, st.just(Aperture(10.0, 0.2)), st.floats(1.0, 3.0), st.floats(0.0, 1.0), st.floats(0.1, 1.0),
        st.floats(2.0, 5.0), st.floats(0.1, 1.5),
    ),
)  # fmt: skip


def centroid(kernels: torch.Tensor) -> torch.Tensor:
    """`[n, 2]`, pixels from the middle."""
    offsets = torch.arange(kernels.shape[-1], dtype=torch.float64) - kernels.shape[-1] // 2
    return torch.stack([(kernels.sum(2) * offsets).sum(1), (kernels.sum(1) * offsets).sum(1)], 1)


@settings(max_examples=60, deadline=None)
@given(SYMMETRIC, SCALES)
def test_kernels_are_normalised_centred_and_symmetric(psf: PSF, scale: float) -> None:
    kernels = psf.kernels(scale)
    assert kernels.dtype == torch.float64 and kernels.shape[0] == psf.choices == 1
    assert kernels.shape[1] == kernels.shape[2] and kernels.shape[1] % 2 == 1
    assert float(kernels.sum()) == pytest.approx(1.0, abs=1e-12) and float(kernels.min()) >= 0.0
    # two vanes in line look the same from both ends
    torch.testing.assert_close(kernels, kernels.flip(1, 2), rtol=0, atol=1e-10)
    assert float(centroid(kernels).abs().max()) < 1e-8


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(0, 5), st.floats(0.01, 0.4), st.floats(0.01, 0.4))
def test_pixels_keep_flux_and_centre_at_every_scale(size: int, seed: int, own: float, scale: float) -> None:
    """Also lopsided ones: the light stays where it is in arcsec."""
    kernel = torch.rand(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.1
    kernel = kernel / kernel.sum()
    (got,) = kernels = PixelPSF(kernel, pixel_scale=own).kernels(scale)
    assert got.shape[0] % 2 == 1 and float(got.sum()) == pytest.approx(1.0, abs=1e-12) and float(got.min()) >= 0.0
    if scale >= own:  # light is shared: so is its middle, up to where it stands within the larger pixel
        offsets = torch.arange(size, dtype=torch.float64) - 0.5 * (size - 1)
        expected = torch.stack([(kernel.sum(1) * offsets).sum(), (kernel.sum(0) * offsets).sum()]) * own
        assert float((centroid(kernels)[0] * scale - expected).abs().max()) <= 0.5 * scale
        even = kernel + kernel.flip(0, 1)
        assert float(centroid(PixelPSF(even / even.sum(), pixel_scale=own).kernels(scale)).abs().max()) < 1e-10


@pytest.mark.parametrize("psf", ONE_OF_EACH.values(), ids=ONE_OF_EACH)
def test_what_every_psf_states(psf: PSF) -> None:
    kernels = psf.kernels(0.1)
    assert kernels.shape[0] == psf.choices and kernels.shape[1] % 2 == 1
    torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(psf.choices, dtype=torch.float64), rtol=0, atol=1e-13)
    assert psf.kernels(0.1) is kernels  # worked out once
    assert psf == psf and hash(psf) == hash(psf) and "object at" not in repr(psf) and len(repr(psf)) < 700
    with pytest.raises((FrozenInstanceError, AttributeError)):
        psf.edge = "nearest"  # type: ignore[misc]
    line = psf.separable(0.1)
    if line is not None:
        weights = torch.tensor(line, dtype=torch.float64)
        torch.testing.assert_close(kernels[0], weights[:, None] * weights, rtol=0, atol=1e-15)


@pytest.mark.parametrize("psf", ONE_OF_EACH.values(), ids=ONE_OF_EACH)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_image_of_a_point_is_the_kernel(psf: PSF, dtype: torch.dtype) -> None:
    kernels, choice = psf.kernels(0.1), torch.arange(psf.choices)
    radius = kernels.shape[-1] // 2
    point = torch.zeros(psf.choices, 41, 47, dtype=dtype)
    point[:, 20, 23] = 1.0
    seen = psf.convolve(point, 0.1, choice)
    assert seen.dtype == dtype
    around = seen[:, 20 - radius : 21 + radius, 23 - radius : 24 + radius].double()
    torch.testing.assert_close(around, kernels, rtol=0, atol=3e-7 if dtype == torch.float32 else 3e-15)


@pytest.mark.parametrize("psf", [GaussianPSF(0.3), *ONE_OF_EACH.values()], ids=["nearest", *ONE_OF_EACH])
@pytest.mark.parametrize("dtype, allowed", [(torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_dtype_is_kept_and_derivatives_flow(psf: PSF, dtype: torch.dtype, allowed: float) -> None:
    image = images(32, 33).to(dtype).requires_grad_()
    seen = psf.convolve(image, 0.1, torch.zeros(2, dtype=torch.int64))
    assert seen.dtype == dtype
    (gradient,) = torch.autograd.grad(seen[0, 16, 16], image)
    # the derivative of a pixel is the kernel itself, turned round
    assert abs(float(gradient.sum()) - 1.0) <= 20 * max(allowed, 1e-7)
    assert float(gradient[1].abs().max()) == 0.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_each_image_takes_the_kernel_of_its_choice(dtype: torch.dtype) -> None:
    psf, image = stack(5, 9), images(20, 30, 8).to(dtype)
    choice = torch.tensor([4, 0, 2, 2, 1, 3, 0, 4])
    seen = psf.convolve(image, 0.1, choice)
    for k, c in enumerate(choice.tolist()):
        alone = PixelPSF(psf.kernel[c]).convolve(image[k : k + 1], 0.1)[0]
        torch.testing.assert_close(seen[k], alone, rtol=0, atol=1e-14 if dtype == torch.float64 else 1e-6)
        assert torch.equal(seen[k], psf.convolve(image[k : k + 1], 0.1, choice[k : k + 1])[0])
    order = torch.tensor([3, 7, 0, 1, 6, 5, 2, 4])
    assert torch.equal(psf.convolve(image[order], 0.1, choice[order]), seen[order])


def test_kernels_beyond_the_reach_of_an_image_are_cut() -> None:
    """No light of a small image gets as far: the same pixels, in a transform of a tenth of the size."""
    (image,) = images(12, 7, 1)
    padded = torch.nn.functional.pad(image, (60, 60, 60, 60))
    expected = PixelPSF(moffat(101)).convolve(padded[None], 0.1)[0, 60:-60, 60:-60]
    torch.testing.assert_close(PixelPSF(moffat(101)).convolve(image[None], 0.1)[0], expected, rtol=0, atol=1e-14)


def test_one_of_several_pads_and_counts() -> None:
    parts = (GaussianPSF(0.1, edge="zero"), stack(3, 5), MoffatPSF(0.2, 3.0, 1.1))
    psf = OneOfPSF(parts)
    assert psf.choices == 5 and psf.kernels(0.1).shape == (5, 11, 11)
    assert OneOfPSF(list(parts)) == psf and hash(OneOfPSF(list(parts))) == hash(psf)
    torch.testing.assert_close(psf.kernels(0.1)[2, 3:8, 3:8], parts[1].kernels(0.1)[1], rtol=0, atol=1e-16)
    torch.testing.assert_close(psf.kernels(0.1)[4], parts[2].kernels(0.1)[0], rtol=0, atol=1e-16)
    with pytest.raises(ParameterError, match=r"GaussianPSF.* among others: its edge must be 'zero'"):
        OneOfPSF((GaussianPSF(0.1), stack(3, 5)))
    for nothing in ((), (0.1,)):
        with pytest.raises(ParameterError, match=r"give PSFs, at least one"):
            OneOfPSF(nothing)


@pytest.mark.parametrize(
    "size, pixels", [(0.05, 1), (0.1, 1), (0.11, 3), (0.3, 3), (0.3000000001, 3), (2.1, 21), (2.2, 23)]
)
def test_a_kernel_covers_its_size(size: float, pixels: int) -> None:
    assert MoffatPSF(0.3, 3.0, size).kernels(0.1).shape == (1, pixels, pixels)
    assert math.isclose(float(MoffatPSF(0.3, 3.0, size).kernels(0.1).sum()), 1.0)
