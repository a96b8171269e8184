"""Views are keyed by image, and turn, mirror, crop, blur and add noise as they say."""

import math
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainers.draws import Draws
from trainers.errors import ConfigError
from trainers.transform import InputTransform
from trainers.views import STRENGTHS, Augmentation, augmented, blurred, noisy, warped

TRANSFORM = InputTransform((0.5,))
NO = torch.zeros(3, dtype=torch.bool)


def images(count=6, side=16):
    return torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(1))


def draws(index, step=3):
    return Draws(7, step, torch.as_tensor(index))


@given(st.sampled_from(get_args(Augmentation)), st.permutations(range(6)), st.integers(1, 5), st.integers(0, 3))
def test_a_view_depends_on_the_index_and_not_on_the_batch(name, order, cut, view):
    whole = augmented(images(), TRANSFORM, name, draws(range(6)), view)
    parts = [augmented(images()[part], TRANSFORM, name, draws(part), view) for part in (order[:cut], order[cut:])]
    torch.testing.assert_close(torch.cat(parts), whole[list(order)], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", [name for name in get_args(Augmentation) if name != "none"])
def test_steps_and_views_have_other_draws(name):
    one = augmented(images(), TRANSFORM, name, draws(range(6)))
    assert one.shape == images().shape and torch.isfinite(one).all()
    assert not torch.equal(one, TRANSFORM(images()))
    assert not torch.equal(one, augmented(images(), TRANSFORM, name, draws(range(6), step=4)))
    assert not torch.equal(one, augmented(images(), TRANSFORM, name, draws(range(6)), view=1))
    assert torch.equal(one, augmented(images(), TRANSFORM, name, draws(range(6))))


def test_no_augmentation_is_the_transform_alone():
    assert torch.equal(augmented(images(), TRANSFORM, "none", draws(range(6))), TRANSFORM(images()))


@given(st.integers(-4, 8), st.booleans())
def test_quarter_turns_and_mirrors_are_those_of_pixels(turns, mirror):
    image = images(3)
    angle, flips = torch.full((3,), turns * math.pi / 2), torch.full((3,), mirror)
    found = warped(image, angle, flips, torch.ones(3), torch.zeros(3, 2))
    expected = torch.rot90(image.flip(-1) if mirror else image, -turns, (2, 3))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_a_crop_shows_its_part_enlarged():
    column = torch.arange(16.0).expand(3, 1, 16, 16)
    centre = torch.tensor([[0.0, 0.0], [-0.25, 0.0], [0.25, 0.25]])
    found = warped(column, torch.zeros(3), NO, torch.full((3,), 0.5), centre)
    for row, middle in enumerate((7.5, 3.5, 11.5)):
        place = middle + (torch.arange(16.0) - 7.5) / 2
        reflected = 15 - (15 - place.abs()).abs()  # half a pixel at the borders
        torch.testing.assert_close(found[row, 0, 8], reflected, atol=1e-4, rtol=0)


def test_what_lies_beyond_the_image_is_its_reflection():
    turned = warped(torch.ones(3, 1, 16, 16), torch.full((3,), math.pi / 4), NO, torch.ones(3), torch.zeros(3, 2))
    torch.testing.assert_close(turned, torch.ones(3, 1, 16, 16))


def test_blur_keeps_the_flux_and_widens_a_point_by_its_width():
    point = torch.zeros(2, 1, 33, 33)
    point[:, 0, 16, 16] = 1
    found = blurred(point, torch.tensor([0.0, 1.0]), (0.8, 1.5))
    axis = torch.arange(33.0) - 16
    for row, width in enumerate((0.8, 1.5)):
        assert float(found[row].sum()) == pytest.approx(1, abs=1e-5)
        # a Gaussian at the pixels' centres, cut off at three of its widths
        assert float((found[row, 0].sum(0) * axis**2).sum()) == pytest.approx(width**2, rel=0.03)


def test_noise_is_that_of_the_sky_before_the_transform():
    scale = (2.0, 5.0)
    raw = torch.zeros(300, 2, 16, 16)
    added = noisy(raw, scale, (0.5, 2.0), draws(range(300)))
    strength = added.std(dim=(2, 3)) / torch.tensor(scale)
    assert 0.4 < float(strength.min()) < 0.65 and 1.85 < float(strength.max()) < 2.3
    assert float(strength.mean()) == pytest.approx(1.25, abs=0.08)
    torch.testing.assert_close(strength[:, 0], strength[:, 1], atol=0.5, rtol=0)
    torch.testing.assert_close(
        augmented(raw, InputTransform(scale), "noise", draws(range(300))), InputTransform(scale)(added)
    )
    constant = noisy(raw, (1.0, 1.0), (1.0, 1.0), draws(range(300)))
    assert abs(float(constant.mean())) < 5e-3 and float(constant.std()) == pytest.approx(1, abs=5e-3)


def test_angles_and_crops_fill_their_ranges():
    seen = draws(range(4000)).uniforms("geometry", 7)
    assert torch.histc(seen[:, 0], 8, 0, 1).min() > 400
    assert all(0 < low <= high <= 1 for low, high in (strength.area for strength in STRENGTHS.values()))


def test_d4_takes_square_images():
    with pytest.raises(ConfigError, match="16 x 8"):
        augmented(torch.zeros(2, 1, 16, 8), TRANSFORM, "d4", draws([0, 1]))
    assert augmented(torch.zeros(2, 1, 16, 8), TRANSFORM, "simclr", draws([0, 1])).shape == (2, 1, 16, 8)
