"""The lane of CUDA on streams that only count who waits for whom: nothing is used before it is there."""

from __future__ import annotations

import contextlib
import itertools

import pytest
import torch

from lensgen.ahead import CudaLane
from lensgen.device import resolve_device
from tests.test_stream_ahead import ahead


class Clocks:
    """Streams and events that know what has happened before them: for each stream, how many of its works.

    `stall` keeps events from being reached on their own, as on a device that is busy.
    """

    def __init__(self) -> None:
        clocks = self
        self.streams: list[Clocks.Stream] = []
        self.recorded: dict[int, set] = {}
        self.stall, self.host_waits = False, 0

        class Event:
            def __init__(self, blocking: bool = False) -> None:
                self.known: dict = {}

            def query(self) -> bool:
                return not clocks.stall

            def synchronize(self) -> None:
                clocks.host_waits += 1

        self.Event = Event
        self.main = self.current = Clocks.Stream(self)

    class Stream:
        def __init__(self, clocks: Clocks) -> None:
            self.clocks, self.works, self.known = clocks, 0, {}
            clocks.streams.append(self)

        def work(self) -> None:
            self.works += 1
            self.known[self] = self.works

        def record_event(self, event=None):
            event = event or self.clocks.Event()
            event.known = dict(self.known)
            return event

        def wait_event(self, event) -> None:
            for stream, works in event.known.items():
                self.known[stream] = max(self.known.get(stream, 0), works)

        def wait_stream(self, other) -> None:
            self.wait_event(other.record_event())

    @contextlib.contextmanager
    def stream(self, stream):
        before, self.current = self.current, stream
        stream.work()
        yield
        self.current = before


@pytest.fixture
def clocks(monkeypatch) -> Clocks:
    made = Clocks()
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Clocks.Stream(made))
    monkeypatch.setattr(torch.cuda, "Event", made.Event)
    monkeypatch.setattr(torch.cuda, "stream", made.stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: made.current)

    def record(tensor, user) -> None:
        made.recorded.setdefault(tensor.untyped_storage().data_ptr(), set()).add(user)

    monkeypatch.setattr(torch.Tensor, "record_stream", record)
    return made


def storages(batch) -> set[int]:
    return {t.untyped_storage().data_ptr() for t in batch.tensors()}


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("together", [1, 2])
def test_users_wait_for_their_batch_and_the_lane_for_nobody(clocks, depth: int, together: int) -> None:
    made = ahead(ahead=depth, together=together)
    made._lane = lambda: CudaLane(torch.device("cuda", 0))  # type: ignore[method-assign]
    clocks.main.work()  # what came before the stream, such as constants
    batches = []
    for number, batch in enumerate(made):
        (lane,) = clocks.streams[1:]
        assert clocks.main.known[lane] > number // together  # the unit's work is before all that main does from here
        assert lane.known[clocks.main] == 1  # and what main does is not before the lane's
        assert all(clocks.main in clocks.recorded[s] for s in storages(batch))
        clocks.main.work()  # a training step
        batches.append(batch)
    assert clocks.host_waits == 0


def test_another_stream_takes_over(clocks) -> None:
    """Each of those that use a part of a unit waits for it by itself, and is known to its memory."""
    made = ahead(together=4)
    made._lane = lambda: CudaLane(torch.device("cuda", 0))  # type: ignore[method-assign]
    iterator = iter(made)
    first = next(iterator)
    lane, other = clocks.streams[1], Clocks.Stream(clocks)
    with clocks.stream(other):
        second = next(iterator)
    assert other.known[lane] >= 1
    assert storages(first) == storages(second)
    assert all(clocks.recorded[s] == {clocks.main, other} for s in storages(second))


def test_a_host_that_runs_away_waits_for_its_own_steps(clocks) -> None:
    clocks.stall = True
    made = ahead(ahead=2, batches=None)
    made._lane = lambda: CudaLane(torch.device("cuda", 0))  # type: ignore[method-assign]
    waits = [clocks.host_waits for _ in itertools.islice(made, 5)]
    assert waits == [0, 0, 1, 2, 3]


def test_the_current_device_is_a_rank_s_own(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    assert resolve_device("cuda") == resolve_device("auto") == torch.device("cuda", 3)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
