"""Scattered values on a grid: against slow loops, and what must hold of any average."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainers.models.physics.splat import LEAST_WEIGHT, splat

SHAPES = [(1, 1, 4, 4), (3, 2, 5, 7), (2, 1, 1, 1), (2, 3, 9, 2), (1, 2, 1, 6)]
SEEDS = st.integers(0, 2**31)
SIZES = st.tuples(st.integers(1, 6), st.integers(1, 6))
either_way = pytest.mark.parametrize("hard", [False, True])


def scattered(seed, size, points=40, batch=2, channels=3, margin=1.7):
    """Values `[B, C, P]` and positions `[B, P]`, in float64; some of them outside."""
    rng = np.random.default_rng(seed)
    values = torch.from_numpy(rng.normal(size=(batch, channels, points)))
    x, y = (torch.from_numpy(rng.uniform(-margin, n - 1 + margin, (batch, points))) for n in reversed(size))
    return values, x, y


def pixel_centres(shape):
    """A random image and where its own pixels are."""
    batch, _, height, width = shape
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    image = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    return image, column.flatten().float().expand(batch, -1), row.flatten().float().expand(batch, -1)


def slowly(values, x, y, size, hard):
    """The same, pixel by pixel and value by value."""
    height, width = size
    batch, channels, points = values.shape
    image, weight = np.zeros((batch, channels, height, width)), np.zeros((batch, 1, height, width))
    for b in range(batch):
        for row in range(height):
            for column in range(width):
                for p in range(points):
                    dx, dy = abs(float(x[b, p]) - column), abs(float(y[b, p]) - row)
                    share = float(dx < 0.5 and dy < 0.5) if hard else max(1 - dx, 0) * max(1 - dy, 0)
                    weight[b, 0, row, column] += share
                    image[b, :, row, column] += share * values[b, :, p].numpy()
    return image / np.maximum(weight, LEAST_WEIGHT), weight


@either_way
@given(seed=SEEDS, size=SIZES)
def test_against_loops(hard, seed, size):
    values, x, y = scattered(seed, size)
    image, weight = splat(values, x, y, size, hard)
    expected_image, expected_weight = slowly(values, x, y, size, hard)
    np.testing.assert_allclose(weight, expected_weight, rtol=0, atol=1e-12)
    np.testing.assert_allclose(image, expected_image, rtol=0, atol=1e-11)


@pytest.mark.parametrize("points", [6, 36])
def test_gradients_are_those_of_finite_differences(points):
    """Of values and positions, away from pixel borders; pixels without light and with hardly any are among them."""
    size = (4, 5)
    values, x, y = scattered(1, size, points)
    x, y = (t.floor() + 0.05 + 0.9 * (t - t.floor()) for t in (x, y))
    _, weight = splat(values, x, y, size)
    if points == 6:
        assert (weight == 0).any() and ((weight > 0) & (weight < LEAST_WEIGHT)).any()
    assert torch.autograd.gradcheck(
        lambda *given: splat(*given, size), (values.requires_grad_(), x.requires_grad_(), y.requires_grad_())
    )


@either_way
@pytest.mark.parametrize("shape", SHAPES)
def test_values_on_pixel_centres_are_themselves_bit_for_bit(shape, hard):
    image, x, y = pixel_centres(shape)
    found, weight = splat(image.flatten(2), x, y, shape[2:], hard)
    assert torch.equal(found, image)
    assert torch.equal(weight, torch.ones_like(weight))


@either_way
def test_what_lies_outside_is_dropped(hard):
    far = torch.tensor([[-1.0, 4.0, 1e30, -float("inf"), 2.0, 2.0]])
    across = torch.tensor([[1.0, 1.0, 1.0, 1.0, -1.5, float("inf")]])
    image, weight = splat(torch.ones(1, 2, 6), far, across, (3, 4), hard)
    assert not image.any() and not weight.any()


def test_half_of_what_lies_on_the_border_stays():
    image, weight = splat(torch.full((1, 1, 1), 5.0), torch.tensor([[-0.5]]), torch.tensor([[1.0]]), (3, 4))
    assert weight[0, 0].tolist() == [[0, 0, 0, 0], [0.5, 0, 0, 0], [0, 0, 0, 0]]
    assert image[0, 0, 1].tolist() == [5, 0, 0, 0]


def test_overlaps_are_averaged():
    x, y = torch.tensor([[1.0, 1.0, 1.0, 2.25]]), torch.tensor([[0.0, 0.0, 0.0, 0.0]])
    image, weight = splat(torch.tensor([[[1.0, 2.0, 6.0, 4.0]]]), x, y, (1, 4))
    assert image.flatten().tolist() == [0, 3, 4, 4]
    assert weight.flatten().tolist() == [0, 3, 0.75, 0.25]
    image, weight = splat(torch.tensor([[[1.0, 2.0, 6.0, 4.0]]]), x, y, (1, 4), hard=True)
    assert image.flatten().tolist() == [0, 3, 4, 0]
    assert weight.flatten().tolist() == [0, 3, 1, 0]


@either_way
def test_gradients_are_finite_where_nothing_arrives(hard):
    values, x, y = (t.requires_grad_() for t in (torch.randn(1, 2, 3), torch.full((1, 3), -9.0), torch.ones(1, 3)))
    image, weight = splat(values, x, y, (4, 4), hard)
    (image.sum() + weight.sum()).backward()
    gradients = [values.grad] if hard else [values.grad, x.grad, y.grad]
    assert all(gradient is not None and not gradient.any() for gradient in gradients)


def test_hard_has_gradients_of_the_values_alone():
    values, x, y = (
        t.requires_grad_() for t in (torch.ones(1, 1, 3), torch.tensor([[0.2, 0.4, 1.1]]), torch.zeros(1, 3))
    )
    splat(values, x, y, (1, 2), hard=True)[0].sum().backward()
    assert x.grad is None and y.grad is None
    assert values.grad.flatten().tolist() == [0.5, 0.5, 1.0]


@either_way
@pytest.mark.parametrize("bad", [(float("nan"), 1.0), (1.0, float("nan"))])
def test_a_position_that_is_no_number_is_not_hidden(hard, bad):
    x, y = torch.tensor([[bad[0]], [1.0]]), torch.tensor([[bad[1]], [1.0]])
    image, _ = splat(torch.ones(2, 1, 1), x, y, (3, 3), hard)
    assert image[0].isnan().any() and image[1].isfinite().all()


@either_way
def test_a_system_does_not_depend_on_its_neighbours(hard):
    values, x, y = (t.float() for t in scattered(5, (6, 5), 50, 7))
    together = splat(values, x, y, (6, 5), hard)
    for k in range(7):
        alone = splat(values[k : k + 1], x[k : k + 1], y[k : k + 1], (6, 5), hard)
        assert all(torch.equal(one[0], all_[k]) for one, all_ in zip(alone, together, strict=True))


@either_way
@given(seed=SEEDS, size=SIZES, quarters=st.integers(0, 3), mirrored=st.booleans())
def test_turning_and_mirroring_positions_does_so_to_the_image(hard, seed, size, quarters, mirrored):
    values, x, y = scattered(seed, size)
    image = splat(values, x, y, size, hard)[0]
    turned = image.rot90(quarters, (2, 3))
    for _ in range(quarters):  # as torch.rot90: the first row becomes the first column, from its end
        x, y, size = y, size[1] - 1 - x, (size[1], size[0])
    if mirrored:
        turned, x = turned.flip(3), size[1] - 1 - x
    torch.testing.assert_close(splat(values, x, y, size, hard)[0], turned, rtol=0, atol=1e-10)


@either_way
@given(seed=SEEDS, size=SIZES)
def test_properties_of_an_average(hard, seed, size):
    """The order of the values is nothing to it, it lies between them and is linear in them; no weight is lost."""
    values, x, y = scattered(seed, size)
    image, weight = splat(values, x, y, size, hard)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(values.shape[2]))
    for part, again in zip(
        splat(values[..., order], x[:, order], y[:, order], size, hard), (image, weight), strict=True
    ):
        torch.testing.assert_close(part, again, rtol=0, atol=1e-11)
    full = (weight >= LEAST_WEIGHT).expand_as(image)
    least, most = (bound[..., None, None].expand_as(image) for bound in (values.amin(2), values.amax(2)))
    assert ((image >= least - 1e-12) & (image <= most + 1e-12))[full].all()
    torch.testing.assert_close(splat(3.0 * values + 1.0, x, y, size, hard)[0][full], 3.0 * image[full] + 1.0)
    inside = (x >= 0) & (x <= size[1] - 1) & (y >= 0) & (y <= size[0] - 1)
    _, kept = splat(values[:1, :, inside[0]], x[:1, inside[0]], y[:1, inside[0]], size, hard)
    torch.testing.assert_close(kept.sum(), inside[0].sum().double())
