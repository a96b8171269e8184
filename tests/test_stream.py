"""The stream: every batch once, whatever the ranks, the workers and the interruptions."""

from __future__ import annotations

import json

import pytest
import torch
from torch.utils.data import DataLoader

import lensgen.stream
from lensgen import LensStream, Simulator
from lensgen.errors import ParameterError, UnknownNameError

SMALL = {"grid.size": 4, "grid.supersampling": 1}


def stream(**options) -> LensStream:
    given = {"batch_size": 4, "seed": 2, "device": "cpu", "batches": 7, "overrides": SMALL}
    return LensStream("model_a", **(given | options))


def indices(batches) -> list[list[int]]:
    return [b.index.tolist() for b in batches]


def test_batches_are_contiguous_and_those_of_the_simulator() -> None:
    batches = list(stream())
    assert indices(batches) == [list(range(4 * n, 4 * n + 4)) for n in range(7)]
    simulator = Simulator("model_a", seed=2, device="cpu").override(SMALL)
    for n, batch in enumerate(batches):
        assert torch.equal(batch.image, simulator.batch(4 * n, 4).image)


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_ranks_share_out_one_global_sequence(world: int) -> None:
    total = 24
    ranks = [indices(stream(rank=r, world_size=world, batches=total // world)) for r in range(world)]
    together = [ranks[n % world][n // world] for n in range(total)]
    assert together == [list(range(4 * n, 4 * n + 4)) for n in range(total)]


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker:UserWarning")
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("rank, world", [(0, 1), (1, 2)])
def test_workers_give_the_sequence_without_workers(workers: int, rank: int, world: int) -> None:
    # 7 batches: no multiple of the number of workers
    alone = list(stream(rank=rank, world_size=world))
    loaded = list(DataLoader(stream(rank=rank, world_size=world), batch_size=None, num_workers=workers))
    assert indices(loaded) == indices(alone)
    assert all(torch.equal(a.image, b.image) for a, b in zip(alone, loaded, strict=True))
    flat = [i for batch in indices(loaded) for i in batch]
    assert len(set(flat)) == len(flat) == 28


def test_loader_without_workers() -> None:
    assert indices(DataLoader(stream(), batch_size=None, num_workers=0)) == indices(stream())


def test_a_worker_s_share_goes_on_after_skip() -> None:
    """How a run with workers is resumed: count the batches that arrived, and skip them."""
    resumed = stream()
    resumed.skip(3)
    loader = DataLoader(resumed, batch_size=None, num_workers=2)
    assert indices(loader) == indices(stream())[3:]


def test_endless_without_a_limit() -> None:
    endless = iter(stream(batches=None))
    assert [next(endless).index[0].item() for _ in range(9)] == [4 * n for n in range(9)]


@pytest.mark.parametrize("taken", [0, 1, 4, 7])
def test_resumed_run_neither_repeats_nor_skips(taken: int) -> None:
    first = stream()
    iterator = iter(first)
    seen = [next(iterator).index.tolist() for _ in range(taken)]
    state = json.loads(json.dumps(first.state_dict()))
    second = stream()
    second.load_state_dict(state)
    assert seen + indices(second) == indices(stream())


def test_state_saved_while_a_batch_is_in_use_counts_it() -> None:
    running = stream()
    for n, _ in enumerate(running):
        assert running.state_dict()["taken"] == n + 1


def test_iterating_again_goes_on() -> None:
    """No epoch: the same lens is never seen twice, also by a loop that starts over."""
    endless = stream(batches=None)
    first = [batch.index.tolist() for batch, _ in zip(endless, range(3), strict=False)]
    again = [batch.index.tolist() for batch, _ in zip(endless, range(3), strict=False)]
    flat = [i for batch in first + again for i in batch]
    assert len(set(flat)) == len(flat)


def test_skip() -> None:
    skipping = stream()
    skipping.skip(2)
    skipping.skip(0)
    assert indices(skipping) == indices(stream())[2:]
    for wrong in (-1, 1.5, True, None):
        with pytest.raises(ParameterError, match=r"batches = .*"):
            skipping.skip(wrong)


MISMATCHES = {
    "seed": ({"seed": 3}, r"the saved stream has seed = 2, this one 3"),
    "split": ({"split": "val"}, r"has split = 'train', this one 'val'"),
    "batch_size": ({"batch_size": 8}, r"has batch_size = 4, this one 8"),
    "world_size": ({"world_size": 2}, r"has world_size = 1, this one 2"),
    "preset content": ({"overrides": {**SMALL, "source.n_sersic": 1.0}}, r"has fingerprint = .* Fix: build the stream"),
}


@pytest.mark.parametrize("options, message", MISMATCHES.values(), ids=MISMATCHES)
def test_state_of_another_stream(options, message) -> None:
    state = stream().state_dict()
    with pytest.raises(ParameterError, match=message):
        stream(**options).load_state_dict(state)


def test_state_of_another_preset() -> None:
    with pytest.raises(ParameterError, match=r"has preset = 'model_a', this one 'model_b'"):
        LensStream("model_b", 4, 2, "cpu", overrides=SMALL).load_state_dict(stream().state_dict())


@pytest.mark.parametrize("key", [key for key in stream().state_dict() if key not in ("label", "twin")])
def test_state_that_lacks_a_field(key: str) -> None:
    state = stream().state_dict()
    del state[key]
    with pytest.raises(ParameterError, match=rf"no state of a LensStream: it lacks {key}"):
        stream().load_state_dict(state)


@pytest.mark.parametrize("taken", [-1, 2.0, "3", None, True])
def test_state_whose_position_is_none(taken) -> None:
    with pytest.raises(ParameterError, match=r"has taken = .*: it must be a whole number of at least 0"):
        stream().load_state_dict({**stream().state_dict(), "taken": taken})


class _Worker:
    id, num_workers = 0, 2


def test_cuda_in_a_worker_is_refused_with_the_fix(monkeypatch) -> None:
    on_gpu = stream()
    monkeypatch.setattr(lensgen.stream, "get_worker_info", lambda: _Worker)
    monkeypatch.setattr(on_gpu.simulator, "device", torch.device("cuda"))
    with pytest.raises(ParameterError, match=r"cuda cannot run in a DataLoader worker.*Fix: num_workers=0, or device="):
        next(iter(on_gpu))
    monkeypatch.setattr(on_gpu.simulator, "device", torch.device("cpu"))
    assert next(iter(on_gpu)).index.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_do_not_go_through_a_stream_twice(persistent) -> None:
    """The main process's stream does not move with its workers, so a second pass would repeat the first."""
    made = stream(batches=3)
    loader = DataLoader(made, batch_size=None, num_workers=2, persistent_workers=persistent)
    first = [int(b.index[0]) for b in loader]
    with pytest.raises(ParameterError, match=r"Fix: stream.skip\(batches received\)"):
        list(loader)
    made.batches = 6
    made.skip(3)
    second = [int(b.index[0]) for b in DataLoader(made, batch_size=None, num_workers=2)]
    assert first + second == [4 * n for n in range(6)]


WRONG = {
    "batch size 0": ({"batch_size": 0}, ParameterError, r"batch_size = 0 "),
    "batch size -1": ({"batch_size": -1}, ParameterError, r"batch_size = -1 "),
    "batch size float": ({"batch_size": 4.0}, ParameterError, r"batch_size = 4.0 .*whole number"),
    "batch size bool": ({"batch_size": True}, ParameterError, r"batch_size = True .*whole number"),
    "rank too large": ({"rank": 2, "world_size": 2}, ParameterError, r"rank = 2 is outside \[0, 1\]"),
    "rank negative": ({"rank": -1}, ParameterError, r"rank = -1 is outside \[0, 0\]"),
    "rank float": ({"rank": 0.5, "world_size": 2}, ParameterError, r"rank = 0.5 .*whole number"),
    "world size 0": ({"world_size": 0}, ParameterError, r"world_size = 0 is outside"),
    "limit": ({"batches": -1}, ParameterError, r"batches = -1 "),
    "limit float": ({"batches": 2.5}, ParameterError, r"batches = 2.5 .*whole number"),
    "seed": ({"seed": -4}, ParameterError, r"seed = -4 is outside"),
    "split": ({"split": "valid"}, UnknownNameError, r"Did you mean 'val'"),
    "override": ({"overrides": {"grid.sizes": 3}}, UnknownNameError, r"Did you mean 'size'"),
}


@pytest.mark.parametrize("options, error, message", WRONG.values(), ids=WRONG)
def test_wrong_streams(options, error, message) -> None:
    with pytest.raises(error, match=message):
        stream(**options)


def test_no_batches() -> None:
    assert list(stream(batches=0)) == []


def test_splits_do_not_meet() -> None:
    parameters = {s: next(iter(stream(split=s))).params["lens.theta_E"] for s in ("train", "val", "test")}
    assert not torch.equal(parameters["train"], parameters["val"])
    assert not torch.equal(parameters["val"], parameters["test"])
