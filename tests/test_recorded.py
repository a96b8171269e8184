"""Batches from a recording: the same as made one by one, copies, and their failures.

The recording is a stand-in: CUDA's own is in test_gpu_stream.py.
"""

from __future__ import annotations

import pytest
import torch

from lensgen import LensStream, Simulator, checks
from lensgen.errors import ParameterError
from lensgen.recorded import Recorded, recorded
from lensgen_kernels import replay
from tests.test_stream_ahead import Delayed

SMALL = {"grid.size": 6, "grid.supersampling": 1}


class Graph:
    """What `replay.Replayed` promises: the work's memory is written anew by each call, and copies are handed out."""

    def __init__(self, work, device) -> None:
        self._work, self.calls = work, 0
        self._made = [t.clone() for t in work(torch.zeros(1, dtype=torch.int64))]

    def __call__(self, start: int):
        # as a graph does, without Python's part of the work: what this leaves behind in the recording is put back
        recording = self._work.__self__
        kept = recording._batch, recording._whole
        again = self._work(torch.tensor([start]))
        recording._batch, recording._whole = kept
        self.calls += 1
        return tuple(t.clone() for t in again)


@pytest.fixture
def simulator(monkeypatch) -> Simulator:
    monkeypatch.setattr(replay, "Replayed", Graph)
    made = Simulator("model_a", seed=4, device="cpu", engine="torch").override(SMALL)
    made.__dict__["fused"] = True
    return made


def same(a, b) -> bool:
    return list(a.params) == list(b.params) and all(
        torch.equal(x, y) for x, y in zip(a.tensors(), b.tensors(), strict=True)
    )


def test_a_replayed_batch_is_the_batch(simulator: Simulator) -> None:
    offsets = torch.tensor([0, 1, 2, 10, 11, 12])
    replay = recorded(simulator, offsets)
    assert replay is not None
    first, _ = replay(5)
    second, memory = replay(2**40)
    assert same(second, simulator.batch(indices=2**40 + offsets))
    assert same(first, simulator.batch(indices=5 + offsets))  # and the second call left it as it was
    assert {t.untyped_storage().data_ptr() for t in memory} == {
        t.untyped_storage().data_ptr() for t in second.tensors()
    }


def test_failures_name_the_image_that_was_replayed(simulator: Simulator, monkeypatch) -> None:
    true_of = Simulator.of

    def of(self, index, label=None):
        checks.require(index == 1003, lambda k: f"image {int(index[k])} is no good")
        return true_of(self, index, label)

    monkeypatch.setattr(Simulator, "of", of)
    replay = Recorded(simulator, torch.arange(5))
    with checks.postponed() as noted:
        replay(995)
        replay(1000)
    noted.fetch()
    assert noted.failure() == (5 + 3, "image 1003 is no good")
    with pytest.raises(ParameterError, match="image 1003 is no good"):
        replay(1001)


def test_a_stream_of_replayed_batches(simulator: Simulator, monkeypatch) -> None:
    """In groups, on a lane that hides what is not handed over, on two ranks."""
    monkeypatch.setattr(LensStream, "_lane", lambda self: Delayed())
    monkeypatch.setattr(LensStream, "_together", lambda self: 3)
    for rank in (0, 1):
        stream = LensStream(
            simulator.preset, 4, seed=4, device="cpu", engine="torch", batches=8, rank=rank, world_size=2
        )
        stream.simulator.__dict__["fused"] = True
        made = list(stream)
        assert len(made) == 8
        for n, batch in enumerate(made):
            assert same(batch, simulator.batch((2 * n + rank) * 4, 4))


def test_what_is_not_recorded(simulator: Simulator, monkeypatch, capsys) -> None:
    assert recorded(simulator, torch.arange(1 << 14)) is None  # the device is busy for long enough
    assert recorded(simulator.with_outputs("image", "clean"), torch.arange(4)) is None
    plain = Simulator("model_a", device="cpu", engine="torch")
    assert recorded(plain, torch.arange(4)) is None

    def refused(work, device):
        raise replay.RecordingError("operation not permitted when stream is capturing")

    monkeypatch.setattr(replay, "Replayed", refused)
    assert recorded(simulator, torch.arange(4)) is None
    assert "not permitted when stream is capturing" in capsys.readouterr().err
