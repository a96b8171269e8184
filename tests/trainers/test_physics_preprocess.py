"""LensPINN's preprocessing: the formula, and what became of its infinities."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lensgen
from lensgen.errors import ParameterError
from trainers.models.physics.preprocess import lenspinn_preprocess

FLOAT64 = torch.float64


def noisy(shape, seed=0):
    """An arc in noise: half of the sky is below 0."""
    rng = np.random.default_rng(seed)
    y, x = (np.arange(n) - (n - 1) / 2 for n in shape[-2:])
    arc = 8.0 * np.exp(-0.5 * (np.hypot(x, y[:, None]) - 4.0) ** 2)
    return torch.from_numpy(arc + rng.normal(size=shape))


@pytest.mark.parametrize("shape", [(2, 1, 12, 12), (1, 3, 9, 14), (1, 1, 2, 2)])
def test_it_is_the_formula(shape):
    images, floor = noisy(shape), 0.2
    result = lenspinn_preprocess(images, floor)
    for image, ours in zip(images.flatten(0, 1).numpy(), result.flatten(0, 1), strict=True):
        bright = np.maximum(image, floor)
        square = np.log(bright.max() / bright) ** 2
        expected = np.abs(np.tanh(np.gradient(np.gradient(square, axis=0), axis=1)))
        np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-12)
    assert ((result >= 0) & (result <= 1)).all() and result.max() > 0.01


def test_nothing_is_infinite_below_zero_or_in_gradients():
    """Dark, below 0, constant, huge and mixed images."""
    side = (1, 6, 6)
    images = torch.stack(
        [torch.zeros(side), torch.full(side, -3.0), torch.full(side, 5.0), torch.full(side, 1e30), noisy(side).float(),
         -torch.rand(side), 1e-30 * torch.rand(side)]
    ).requires_grad_()  # fmt: skip
    result = lenspinn_preprocess(images, 0.1)
    result.sum().backward()
    assert result.isfinite().all() and images.grad.isfinite().all()
    assert not result[[0, 1, 2, 3, 5, 6]].any()  # where all pixels count as equally bright there is nothing to see
    assert images.grad[4].abs().max() > 0


def test_the_floor_is_the_faintest_that_is_told_apart():
    image, floor = noisy((1, 1, 16, 16)), 0.5
    faint = image < floor
    assert 0.3 < faint.double().mean() < 0.9
    changed = torch.where(faint, image - 3.0, image)
    assert torch.equal(lenspinn_preprocess(changed, floor), lenspinn_preprocess(image, floor))
    assert not torch.equal(lenspinn_preprocess(changed, 0.01), lenspinn_preprocess(image, 0.01))


def test_each_channel_may_have_its_own_floor():
    images = noisy((2, 2, 8, 8))
    both = lenspinn_preprocess(images, (0.1, 1.0))
    for channel, floor in enumerate((0.1, 1.0)):
        assert torch.equal(both[:, channel], lenspinn_preprocess(images, floor)[:, channel])


@pytest.mark.parametrize("floor", [0.0, -1.0, float("nan"), float("inf"), (0.1, 0.0)])
def test_a_floor_that_is_none_is_named(floor):
    with pytest.raises(ParameterError, match=r"floor = .* must be above 0 and finite, e.g. twice the sky noise"):
        lenspinn_preprocess(torch.ones(1, 2, 4, 4), floor)


@pytest.mark.parametrize("floor", [(), (0.1, 0.1, 0.1)])
def test_floors_are_counted(floor):
    with pytest.raises(ParameterError, match="must be one number, or one for each of 2 channels"):
        lenspinn_preprocess(torch.ones(1, 2, 4, 4), floor)


@given(seed=st.integers(0, 2**31), unit=st.floats(1e-6, 1e6), mirrored=st.booleans(), transposed=st.booleans())
def test_neither_the_unit_nor_mirrors_matter(seed, unit, mirrored, transposed):
    images, floor = noisy((1, 2, 7, 9), seed), 0.3
    result = lenspinn_preprocess(images, floor)
    if mirrored:
        images, result = images.flip(3), result.flip(3)
    if transposed:
        images, result = images.mT, result.mT
    torch.testing.assert_close(lenspinn_preprocess(unit * images, unit * floor), result, rtol=1e-7, atol=1e-9)


def test_gradients_equal_finite_differences():
    image = noisy((1, 2, 5, 6)).requires_grad_()
    assert torch.autograd.gradcheck(lambda one: lenspinn_preprocess(one, 0.1), (image,))


def test_with_twice_the_noise_as_its_floor_it_shows_the_arcs_and_not_the_sky(gate):
    """With a tenth of the noise it is the other way round."""
    simulator = lensgen.Simulator("lenspinn", outputs=("image", "clean"), device="cpu")
    batch, noise = simulator.batch(0, 16), simulator.input_scale[0]
    arcs, sky = batch.maps["clean"] > 5.0 * noise, batch.maps["clean"] < 0.2 * noise
    low, high = (lenspinn_preprocess(batch.image, share * noise) for share in (0.1, 2.0))
    assert low[sky].mean() > 0.7 > 0.4 > low[arcs].mean() > 0.2
    gate("physics: preprocessed sky, floor of twice its noise", high[sky].mean(), 0.05)
    assert high[arcs].mean() > 0.2
