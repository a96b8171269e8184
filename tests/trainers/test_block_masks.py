"""Block masks: their scales, lengths and places, that they are fair, and depend on seed, step and image alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.draws import Draws
from trainers.errors import ConfigError
from trainers.models.block_masks import DRAWS, BlockMaskConfig, BlockMasks

PAPERS = BlockMaskConfig()
GRIDS = [5, 8, 10, 14, 16]


def masks_of(grid, images=400, config=PAPERS, seed=0, step=0):
    sampler = BlockMasks(grid, config)
    return sampler, sampler(Draws(seed, step, torch.arange(images)))


def sides(block):
    """Height and width of a boolean `[G, G]`, which must be a full rectangle."""
    rows, columns = block.any(1).nonzero()[:, 0], block.any(0).nonzero()[:, 0]
    height, width = int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)
    assert int(block.sum()) == height * width
    return height, width


@pytest.mark.parametrize("grid", GRIDS)
def test_targets_have_the_papers_scale_and_aspect(grid):
    sampler, masks = masks_of(grid, 100)
    assert masks.targets.shape == (100, 4, sampler.target_length)
    seen = set()
    for image in masks.hidden:
        for block in image:
            height, width = sides(block)
            seen.add((height, width))
            assert 0.15 <= height * width / grid**2 <= 0.2 and 0.75 <= height / width <= 1.5
    assert seen == set(map(tuple, sampler.target_shapes.tolist()))


@pytest.mark.parametrize("grid", GRIDS)
def test_context_blocks_have_the_papers_scale_and_are_as_square_as_patches_allow(grid):
    sampler = BlockMasks(grid, PAPERS)
    uniforms = torch.rand(200, 3, generator=torch.Generator().manual_seed(1))
    seen = {sides(block) for block in sampler._blocks(uniforms, sampler.context_shapes)}
    assert seen == set(map(tuple, sampler.context_shapes.tolist()))
    assert all(0.85 <= h * w / grid**2 <= 1.0 and abs(h - w) <= 1 for h, w in seen)


def test_the_context_lies_within_such_a_block():
    config = BlockMaskConfig(targets=1, target_scale=(0.02, 0.05), context_scale=(0.5, 0.6))
    sampler, masks = masks_of(10, 300, config)
    assert {tuple(shape) for shape in sampler.context_shapes.tolist()} == {(7, 8), (8, 7)}
    shown = torch.zeros(300, 100).scatter_(1, masks.context, 1.0).view(-1, 10, 10).bool()
    extents = [(own.any(1).nonzero().flatten(), own.any(0).nonzero().flatten()) for own in shown]
    needed = {(int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)) for rows, columns in extents}
    assert (7, 8) in needed and (8, 7) in needed
    assert all(min(h, w) <= 7 and max(h, w) <= 8 for h, w in needed)
    assert {int(rows[0]) for rows, _ in extents} >= {0, 1, 2, 3}


@settings(max_examples=25, deadline=None)
@given(
    grid=st.integers(5, 20), seed=st.integers(0, 2**40), step=st.integers(0, 10**6),
    targets=st.integers(1, 5), images=st.integers(1, 40),
)  # fmt: skip
def test_context_and_targets_never_share_a_patch(grid, seed, step, targets, images):
    try:
        sampler = BlockMasks(grid, BlockMaskConfig(targets=targets))
    except ConfigError:
        return  # no block of whole patches has these scales
    masks = sampler(Draws(seed, step, torch.arange(images)))
    assert masks.context.shape == (images, sampler.context_length)
    hidden = masks.hidden.any(1).flatten(1)
    for context, target, blocks, all_hidden in zip(*masks, hidden, strict=True):
        assert len(set(context.tolist())) == sampler.context_length
        assert not all_hidden[context].any()
        for predicted, block in zip(target, blocks.flatten(1), strict=True):
            assert block[predicted].all() and len(set(predicted.tolist())) == sampler.target_length


def test_lengths_are_the_same_for_all_batches():
    sampler = BlockMasks(10, PAPERS)
    shapes = {
        (
            sampler(Draws(seed, step, torch.arange(7))).context.shape,
            sampler(Draws(seed, step, torch.arange(7))).targets.shape,
        )
        for seed in range(5)
        for step in range(5)
    }
    assert shapes == {((7, sampler.context_length), (7, 4, 16))}


def test_an_image_has_the_same_masks_in_any_batch_and_others_in_the_next_step():
    sampler = BlockMasks(8, PAPERS)
    together = sampler(Draws(3, 5, torch.tensor([10, 11, 12])))
    alone = sampler(Draws(3, 5, torch.tensor([11])))
    assert all(torch.equal(one[1:2], other) for one, other in zip(together, alone, strict=True))
    for other in (sampler(Draws(3, 6, torch.tensor([11]))), sampler(Draws(4, 5, torch.tensor([11])))):
        assert not torch.equal(alone.context, other.context)


def test_blocks_lie_everywhere_alike():
    sampler = BlockMasks(8, BlockMaskConfig(targets=1))
    hidden = sampler(Draws(0, 0, torch.arange(20_000))).hidden[:, 0].float()
    shapes = sampler.target_shapes.tolist()
    expected = np.zeros((8, 8))
    for height, width in shapes:
        for row in range(9 - height):
            for column in range(9 - width):
                share = 1 / len(shapes) / (9 - height) / (9 - width)
                expected[row : row + height, column : column + width] += share
    deviation = np.sqrt(expected * (1 - expected) / 20_000)
    assert (np.abs(hidden.mean(0).numpy() - expected) < 5 * deviation + 1e-9).all()


def test_where_no_draw_leaves_enough_all_targets_lie_in_one_place():
    sampler = BlockMasks(8, PAPERS)
    last = sampler._candidates(torch.rand(50, DRAWS * 15))[0][:, -1]
    assert torch.equal(last, last[:, :1].expand_as(last))
    sampler.context_length = 7 * 8 - 3 * 4  # what one target leaves for certain, and four hardly ever
    masks = sampler(Draws(0, 0, torch.arange(50)))
    for context, blocks in zip(masks.context, masks.hidden, strict=True):
        assert len(set(context.tolist())) == 44 and not blocks.any(0).flatten()[context].any()


def test_three_of_four_first_draws_leave_enough():
    sampler = BlockMasks(8, PAPERS)
    uniforms = torch.rand(4000, DRAWS * 15, generator=torch.Generator().manual_seed(5))
    left = sampler._candidates(uniforms)[1][:, 0].flatten(1).sum(1)
    enough = [float((left >= length).float().mean()) for length in (sampler.context_length, sampler.context_length + 1)]
    assert enough[0] > 0.74 and enough[1] < 0.76  # lengths are whole numbers


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": 0}, r"mask\.targets is 0; allowed: 1 to 16"),
        ({"target_scale": (0.3, 0.2)}, r"mask\.target_scale is 0\.3 0\.2; allowed: 0 to 0\.9, rising"),
        ({"context_scale": (0.5, 1.5)}, r"mask\.context_scale is 0\.5 1\.5; allowed: 0\.05 to 1, rising"),
        ({"aspect": (0.0, 1.0)}, r"mask\.aspect is 0 1; allowed: 0\.05 to 20"),
    ],
)
def test_scales_that_cannot_be(options, message):
    with pytest.raises(ConfigError, match=message):
        BlockMaskConfig(**options)


def test_grids_that_have_no_such_blocks_say_so():
    with pytest.raises(ConfigError, match=r"no block of 4 x 4 patches has that share; near ones: 0\.25, .*patch-size"):
        BlockMasks(4, PAPERS)
    with pytest.raises(ConfigError, match="leave no context on 8 x 8 patches; take fewer or smaller ones"):
        BlockMasks(8, BlockMaskConfig(target_scale=(0.8, 0.9), aspect=(0.7, 1.5)))
