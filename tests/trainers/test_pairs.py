"""Pairs of images of one index: what they share, and that the stream of them stands where it says."""

import pytest
import torch

import lensgen
from lensgen.errors import UnknownNameError
from trainers.ahead import SimulatedAhead
from trainers.config import DataConfig, ValidationConfig
from trainers.data import open_data
from trainers.errors import ConfigError
from trainers.failure import remake
from trainers.pairs import Change, Pair, PairStream, views_of, with_twins

CPU = torch.device("cpu")
VALIDATION = ValidationConfig(fit=10, score=10, test=12, neighbours=3)


def opened(change, workers=0, preset="model_a", size=4, rank=0, world_size=1):
    config = DataConfig(stream=True, preset=preset, set=("grid.size=32",), workers=workers)
    data = open_data(config, VALIDATION, size, CPU, rank, world_size)
    return with_twins(data, config, change)


def test_a_pair_is_one_lens_seen_twice():
    data, second = opened(Change(("source", "noise")))
    batch = next(iter(data.source))
    assert isinstance(batch, Pair) and second == data.transform
    one, two = views_of(batch)
    assert one.shape == two.shape == (4, 1, 32, 32) and not torch.equal(one, two)
    assert torch.equal(batch.second.label, batch.label) and torch.equal(batch.second.index, batch.index)
    for name, value in batch.params.items():
        kept = not name.startswith("source.")
        assert torch.equal(value, batch.second.params[name]) or not kept, name
    assert not torch.equal(batch.params["source.center_x"], batch.second.params["source.center_x"])


def test_another_lens_of_the_same_class():
    batch = next(iter(opened(Change(("lens",)))[0].source))
    assert torch.equal(batch.label, batch.second.label)
    assert not torch.equal(batch.params["lens.theta_E"], batch.second.params["lens.theta_E"])


def test_another_telescope_has_its_own_input_scale():
    data, second = opened(Change(("noise",), "euclid_vis_2022"))
    batch = next(iter(data.source))
    assert second.scale != data.transform.scale
    assert torch.equal(batch.params["lens.theta_E"], batch.second.params["lens.theta_E"])


def test_held_out_images_are_pairs_too():
    data, _ = opened(Change(("noise",)))
    fresh = lensgen.Simulator("model_a", 0, CPU, split="val").override({"grid.size": 32})
    assert torch.equal(data.score.image, fresh.batch(10, 10).image)
    assert torch.equal(views_of(data.score)[1], fresh.twin("noise").batch(10, 10).image)
    tested = list(data.test(8))
    assert [len(batch.index) for batch in tested] == [8, 4]
    benchmark = data.benchmark.simulator
    assert torch.equal(views_of(tested[1])[1], benchmark.twin("noise").batch(8, 4).image)


def test_images_without_a_twin_are_their_own():
    batch = lensgen.Simulator("model_a", 0, CPU).override({"grid.size": 32}).batch(0, 2)
    one, two = views_of(batch)
    assert one is two is batch.image


@pytest.mark.parametrize("workers", [0, 1])
def test_the_stream_goes_on_where_it_stood(workers):
    source = opened(Change(("source",)), workers)[0].source
    assert isinstance(source, SimulatedAhead) is bool(workers)
    batches = iter(source)
    expected = [next(batches) for _ in range(3)][-1]
    again = opened(Change(("source",)), workers)[0].source
    state = source.state_dict()
    assert state["taken"] == state["second"]["taken"] == 3
    again.load_state_dict(state)
    follower, here = next(iter(again)), next(batches)
    assert follower.index.tolist() == here.index.tolist() == [12, 13, 14, 15] != expected.index.tolist()
    for one, two in zip(views_of(follower), views_of(here), strict=True):
        assert torch.equal(one, two)
    batches.close()


def test_a_position_of_other_pairs_is_refused():
    source = opened(Change(("source",)))[0].source
    other = opened(Change(("noise",)))[0].source
    with pytest.raises(ValueError, match="twin"):
        other.load_state_dict(source.state_dict())
    with pytest.raises(ValueError, match="has no twin"):
        source.load_state_dict(source.stream.state_dict())


def test_ranks_take_pairs_in_turn():
    sources = [opened(Change(("noise",)), rank=rank, world_size=2)[0].source for rank in (0, 1)]
    assert [next(iter(source)).index.tolist() for source in sources] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_mistakes_are_explained(stored):
    with pytest.raises(ConfigError, match="shows the same image twice"):
        Change(())
    with pytest.raises(UnknownNameError, match="Did you mean 'source'"):
        opened(Change(("sorce",)))
    with pytest.raises(ConfigError, match="--change psf changes nothing"):
        opened(Change(("psf",)))
    config = DataConfig(data=stored)
    data = open_data(config, ValidationConfig(fit=30, score=12, test=20, neighbours=3), 4, CPU)
    with pytest.raises(ConfigError, match=r"stored set such as .*blobs\.npz cannot"):
        with_twins(data, config, Change(("source",)))


@pytest.mark.parametrize("change", [Change(("source", "noise")), Change(("noise",), "euclid_vis_2022")])
def test_a_bad_pair_is_made_again_by_the_command_that_is_printed(change):
    source = opened(change)[0].source
    assert isinstance(source, PairStream)
    expected = next(iter(source))
    config = DataConfig(stream=True, set=("grid.size=32",))
    names = {}
    exec(remake(config, source, expected.index.tolist())[1][1], names)
    assert torch.equal(names["batch"].image, expected.image)
    assert torch.equal(names["second"].image, views_of(expected)[1])
