"""Streams of twins and of one class: aligned pairs on every rank, resumed, ahead and recorded; and benchmarks."""

from __future__ import annotations

import json

import pytest
import torch
from torch.utils.data import DataLoader

import lensgen
from lensgen import LensStream, Simulator, load_preset
from lensgen.batch import Batch
from lensgen.errors import ParameterError, PresetError, UnknownNameError
from lensgen_kernels import replay
from tests.test_recorded import Graph
from tests.test_simulator import same
from tests.test_stream_ahead import Delayed
from tests.test_twins import TINY


def stream(**options) -> LensStream:
    given = {"batch_size": 4, "seed": 2, "device": "cpu", "engine": "torch", "batches": 4, "overrides": TINY}
    return LensStream("model_a", **(given | options))


def assert_pairs(one: list[Batch], other: list[Batch], twin: Simulator) -> None:
    """The same lenses behind other sources."""
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a.index, b.index) and torch.equal(a.label, b.label)
        assert torch.equal(a.params["lens.theta_E"], b.params["lens.theta_E"])
        assert same(b, twin.batch(indices=b.index))


TWIN = ("source", "noise")


@pytest.mark.parametrize("rank, world", [(0, 1), (2, 3)])
def test_a_stream_and_its_twin_are_pairs_on_every_rank(rank: int, world: int) -> None:
    made = stream(rank=rank, world_size=world)
    twin = made.twin(*TWIN, number=2)
    pairs = list(zip(made, twin, strict=True))
    assert_pairs(*map(list, zip(*pairs, strict=True)), stream().simulator.twin(*TWIN, number=2))
    assert len(pairs) == 4 and pairs[0][0].index[0] == 4 * rank


def test_a_twin_begins_where_its_stream_stands_and_goes_its_own_way() -> None:
    made = stream()
    made.skip(2)
    twin = made.twin("noise")
    assert [int(b.index[0]) for b in twin] == [8, 12]
    assert made.state_dict()["taken"] == 2
    assert_pairs(list(made), [twin.simulator.batch(4 * n, 4) for n in range(2, 4)], twin.simulator)


def test_pairs_are_resumed_as_pairs() -> None:
    first, second = stream(), stream().twin(*TWIN)
    pairs = zip(first, second, strict=True)
    seen = [next(pairs) for _ in range(2)]
    states = [json.loads(json.dumps(s.state_dict())) for s in (first, second)]
    again = stream(), stream().twin(*TWIN)
    for one, state in zip(again, states, strict=True):
        one.load_state_dict(state)
    left = list(zip(*again, strict=True))
    one, other = map(list, zip(*seen, *left, strict=True))
    assert_pairs(one, other, stream().simulator.twin(*TWIN))
    assert [int(b.index[0]) for b in one] == [4 * n for n in range(4)]


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_workers_of_a_twin() -> None:
    made = stream()
    one, other = (list(DataLoader(s, batch_size=None, num_workers=2)) for s in (made, made.twin(*TWIN)))
    assert_pairs(one, other, made.simulator.twin(*TWIN))


def test_states_of_other_twins_and_classes_are_refused() -> None:
    streams = {
        "original": stream(), "twin": stream().twin("source"), "number": stream().twin("source", number=2),
        "class": stream(label="cdm"), "telescope": stream().twin(overrides={"instrument": "hst_wfc3_f160w"}),
    }  # fmt: skip
    said = {
        "twin": "twin = .* Fix",
        "number": "twin = .* Fix",
        "class": "label = .* Fix",
        "telescope": "fingerprint = ",
    }
    for one, made in streams.items():
        for another, other in streams.items():
            state = json.loads(json.dumps(made.state_dict()))
            if one == another:
                other.load_state_dict(state)
                continue
            with pytest.raises(ParameterError, match="the saved stream has"):
                other.load_state_dict(state)
            if one == "original":
                with pytest.raises(ParameterError, match=f"the saved stream has {said[another]}"):
                    other.load_state_dict(state)


def test_states_of_before_twins_are_those_of_no_twin() -> None:
    state = stream().state_dict() | {"taken": 3}
    del state["twin"], state["label"]
    made = stream()
    made.load_state_dict(state)
    assert made.state_dict()["taken"] == 3
    for other in (stream().twin("noise"), stream(label="axion")):
        with pytest.raises(ParameterError, match="Fix: build the stream as it was"):
            other.load_state_dict(state)


def test_a_stream_through_another_telescope() -> None:
    made = stream(outputs=("image", "clean"))
    seen = made.twin("noise", overrides={"instrument": "hst_wfc3_f160w"})
    one, other = next(iter(made)), next(iter(seen))
    assert torch.equal(one.params["lens.theta_E"], other.params["lens.theta_E"])
    assert other.pixel_scale == 0.08 != one.pixel_scale and "clean" in other.maps
    plain = made.twin(overrides={"instrument": "hst_wfc3_f160w"})  # without other noise
    assert torch.equal(plain.simulator.batch(0, 4).maps["clean"], other.maps["clean"])
    assert not torch.equal(plain.simulator.batch(0, 4).image, other.image)
    with pytest.raises(ParameterError, match="a twin of what"):
        made.twin(overrides={})
    with pytest.raises(ParameterError, match="number = 7 is that of parts"):
        made.twin(number=7, overrides={"instrument": "hst_wfc3_f160w"})
    with pytest.raises((PresetError, UnknownNameError), match="instrumen"):
        made.twin(overrides={"instrumen": "hst_wfc3_f160w"})


@pytest.mark.parametrize("engine", ["torch", "auto"])
def test_a_stream_of_one_class(engine: str) -> None:
    made = stream(label="axion", split="val", engine=engine)
    for n, batch in enumerate(made):
        assert set(batch.label.tolist()) == {batch.class_names.index("axion")}
        assert same(batch, Simulator(made.preset, 2, "cpu", engine, "val").batch(4 * n, 4, label="axion"))
    assert torch.equal(made.simulator.labels(torch.arange(3)), torch.full((3,), 2))
    assert "label='axion'" in repr(made)
    again = made.simulator.batch(0, 4, label="cdm")  # a class that is asked for goes before
    assert set(again.label.tolist()) == {1}
    with pytest.raises(UnknownNameError, match=r"unknown class of model_a 'axions'. Did you mean 'axion'"):
        stream(label="axions")


def test_a_class_that_overrides_add() -> None:
    warm = load_preset("model_a").config["substructure"]["cdm"]
    made = stream(overrides=TINY | {"substructure.warm": warm}, label="warm")
    assert set(next(iter(made)).label.tolist()) == {3}


@pytest.mark.parametrize("made", [lambda: stream(label="cdm"), lambda: stream().twin(*TWIN)], ids=["class", "twin"])
def test_ahead_and_recorded(made, monkeypatch) -> None:
    """What a GPU does with small batches, played: made ahead in groups, and replayed."""
    monkeypatch.setattr(LensStream, "_lane", lambda self: Delayed())
    monkeypatch.setattr(LensStream, "_together", lambda self: 2)
    monkeypatch.setattr(replay, "Replayed", Graph)
    played = made()
    played.simulator.__dict__["fused"] = True
    batches = list(played)
    assert isinstance(played._recording._replayed, Graph) and played._recording._replayed.calls > 0
    assert len(batches) == 4
    for n, batch in enumerate(batches):
        assert same(batch, made().simulator.batch(4 * n, 4))
    assert played.twin("lens")._recording is None


def test_a_benchmark_of_one_class() -> None:
    def small(**options):
        return lensgen.benchmark("model_a", size=8, device="cpu", engine="torch", overrides=TINY, **options)

    made = small(label="axion")
    assert set(made.batch().label.tolist()) == {2}
    assert same(made.batch(), small().simulator.batch(0, 8, label="axion"))
    assert len({b.fingerprint for b in (made, small(), small(label="cdm"))}) == 3
    made.verify(made.card)
    with pytest.raises(lensgen.errors.LensgenError, match="label is 'axion' here and None on the card"):
        made.verify(small().card)
    old = {key: value for key, value in small().card.items() if key != "label"}
    small().verify(old)
