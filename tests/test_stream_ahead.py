"""Simulating ahead: the same batches in the same order, never used before they are there, and nothing kept.

Lanes here stand for a GPU. `Delayed` hides what was made until it is handed over; `clocks` runs the lane of CUDA on
streams that only count who waits for whom.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import weakref

import pytest
import torch

from lensgen import LensStream, Simulator, checks, load_preset
from lensgen.ahead import Ahead, CudaLane
from lensgen.batch import Batch
from lensgen.errors import ParameterError
from lensgen.simulator import resolve_device

SMALL = load_preset("model_a").override({"grid.size": 4, "grid.supersampling": 1})


class Delayed:
    """A lane whose work is done when somebody waits for it.

    Args:
        slow: whether marks in the user's work are reached only by waiting.
    """

    def __init__(self, slow: bool = False) -> None:
        self.slow, self.waits, self.made, self.someone = slow, 0, 0, "someone"
        self._hidden: list[tuple[int, torch.Tensor, torch.Tensor]] = []

    def run(self, work):
        self.made += 1
        made = work()
        for tensor in made[1]:
            flat = tensor.view(-1)
            self._hidden.append((self.made, flat, flat.clone()))
            flat.fill_(-7)
        return made

    def mark(self):
        return self.made

    def user(self):
        return self.someone

    def hand_over(self, user, mark, tensors):
        kept = []
        for made, tensor, content in self._hidden:
            if made <= mark:
                tensor.copy_(content)
            else:
                kept.append((made, tensor, content))
        self._hidden = kept
        return [False]

    def reached(self, mark):
        return mark[0] or not self.slow

    def wait(self, mark):
        self.waits += 1
        mark[0] = True


class Quick(Simulator):
    """Images that tell their index, and cost nothing."""

    def of(self, index, label=None):
        pixels = index.to(torch.float32)[:, None, None, None] + torch.zeros(self.image_shape, device=index.device)
        return Batch(pixels, index % 3, self.class_names, {"lens.theta_E": 0.5 * index.float()}, index.clone(), 0.05)


def stream(simulator: type[Simulator] = Quick, **options) -> LensStream:
    given = {"batch_size": 4, "seed": 2, "device": "cpu", "engine": "torch", "batches": 7}
    made = LensStream(SMALL, **(given | options))
    made.simulator.__class__ = simulator
    return made


def ahead(lane=None, together: int = 1, **options) -> LensStream:
    """A stream that simulates ahead in a lane, so many batches at a time."""
    made = stream(**options)
    made._lane = lambda: lane or Delayed()  # type: ignore[method-assign]
    made._together = lambda: together  # type: ignore[method-assign]
    return made


def contents(batches) -> list[dict[str, torch.Tensor]]:
    return [{"image": b.image.clone(), "index": b.index.clone(), "label": b.label.clone(), **b.params} for b in batches]


def equal(a, b) -> bool:
    return len(a) == len(b) and all(
        x.keys() == y.keys() and all(torch.equal(x[k], y[k]) for k in x) for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("together", [1, 3])
def test_the_same_bits_in_the_same_order(depth: int, together: int) -> None:
    assert equal(contents(ahead(together=together, ahead=depth)), contents(stream()))


@pytest.mark.parametrize("rank, world", [(0, 2), (1, 2), (2, 3)])
def test_every_rank_has_its_share(rank: int, world: int) -> None:
    here = {"rank": rank, "world_size": world}
    assert equal(contents(ahead(together=2, **here)), contents(stream(**here)))


def test_simulated_images_and_maps() -> None:
    options = {"simulator": Simulator, "batches": 4, "outputs": ("image", "clean", "image_hr", "catalogue")}
    for a, b in zip(ahead(together=3, **options), stream(**options), strict=True):
        assert equal(contents([a]), contents([b]))
        assert a.maps.keys() == b.maps.keys() and all(torch.equal(a.maps[k], b.maps[k]) for k in a.maps)


@pytest.mark.parametrize("together", [1, 2])
@pytest.mark.parametrize("taken", [0, 1, 4, 7])
def test_resumed_run_neither_repeats_nor_skips(taken: int, together: int) -> None:
    """The state counts batches that were handed out, not those that were made."""
    first = ahead(together=together)
    iterator = iter(first)
    seen = [next(iterator).index.tolist() for _ in range(taken)]
    assert first.state_dict()["taken"] == taken
    second = ahead(together=together)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert seen + [b.index.tolist() for b in second] == [b.index.tolist() for b in stream()]


@pytest.mark.parametrize("together", [1, 3])
def test_a_stream_that_is_moved_drops_what_it_made(together: int) -> None:
    moved = ahead(together=together, batches=None)
    iterator = iter(moved)
    numbers = [int(next(iterator).index[0]) // 4 for _ in range(2)]
    moved.skip(3)
    numbers += [int(next(iterator).index[0]) // 4 for _ in range(2)]
    moved.load_state_dict({**moved.state_dict(), "taken": 1})
    numbers += [int(next(iterator).index[0]) // 4 for _ in range(2)]
    numbers += [int(b.index[0]) // 4 for b, _ in zip(moved, range(2), strict=False)]
    assert numbers == [0, 1, 5, 6, 1, 2, 3, 4]


@pytest.mark.parametrize("depth", [1, 3])
def test_how_far_ahead(depth: int) -> None:
    lane = Delayed()
    for taken, _ in enumerate(ahead(lane, ahead=depth, batches=10), start=1):
        assert lane.made == min(10, taken + depth)


def test_how_far_ahead_in_groups() -> None:
    lane = Delayed()
    made = [lane.made for _ in ahead(lane, together=3, ahead=1, batches=10)]
    assert made == [2, 2, 2, 3, 3, 3, 4, 4, 4, 4]


@pytest.mark.parametrize("slow", [False, True])
def test_the_host_waits_for_the_device_only_when_it_runs_away(slow: bool) -> None:
    lane = Delayed(slow)
    iterator = iter(ahead(lane, ahead=2, batches=None))
    waits = []
    for _ in range(5):
        next(iterator)
        waits.append(lane.waits)
    assert waits == ([0, 0, 1, 2, 3] if slow else [0] * 5)


class Broken(Quick):
    """Images from 14 on cannot be made; or image 14 is found to be bad later."""

    later = False

    def of(self, index, label=None):
        if self.later:
            checks.require(index == 14, lambda k: f"number {k} of those made is broken")
        elif bool((index >= 14).any()):
            raise ParameterError("image 14 is impossible")
        return super().of(index, label)


def broken(later: bool, depth: int, together: int, **options) -> LensStream:
    kind = type("Later", (Broken,), {"later": later})
    return ahead(ahead=depth, together=together, simulator=kind, **options)


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_what_cannot_be_made_is_said_when_its_turn_comes(depth: int) -> None:
    failing = broken(False, depth, 1)
    iterator = iter(failing)
    assert [int(next(iterator).index[0]) for _ in range(3)] == [0, 4, 8]
    with pytest.raises(ParameterError, match="image 14 is impossible"):
        next(iterator)
    assert failing.state_dict()["taken"] == 3
    with pytest.raises(ParameterError, match="image 14 is impossible"):
        next(iter(failing))
    failing.skip(1)
    assert failing.state_dict()["taken"] == 4


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("depth, together", [(1, 1), (2, 1), (1, 2), (8, 1)])
def test_a_check_that_failed_names_batch_and_image(slow: bool, depth: int, together: int) -> None:
    failing = broken(True, depth, together, lane=Delayed(slow))
    handed_out = []
    with pytest.raises(
        ParameterError, match=r"batch 3 of the stream, image 2 of it \(index 14\): number .* of those made is broken"
    ):
        for batch in failing:
            handed_out.append(int(batch.index[0]) // 4)
    unit = 3 // together
    assert handed_out == list(range(min(7, (unit + depth) * together if slow else unit * together)))


def test_ranks_name_their_own_images() -> None:
    made = ahead(rank=1, world_size=3)
    assert made._place(2, 7) == "batch 3 of the stream, image 3 of it (index 43)"


def test_nothing_is_kept() -> None:
    """Neither by the loop, nor by cycles of references that wait for the collector."""
    gc.collect()
    gc.disable()
    try:
        kept: list[weakref.ref] = []
        made = ahead(together=2, batches=None)
        iterator = iter(made)
        for _ in range(5):
            batch = next(iterator)
            kept.append(weakref.ref(batch.image))
            del batch
            assert kept[-1]() is None
        tensors = [
            weakref.ref(t) for unit in iterator.gi_yieldfrom.gi_frame.f_locals["ahead"]._units for t in unit.tensors
        ]
        assert tensors and all(t() is not None for t in tensors)
        whole = weakref.ref(made)
        del iterator
        assert all(t() is None for t in tensors)
        del made._lane, made._together, made
        assert whole() is None
    finally:
        gc.enable()


def test_a_loop_that_is_left_lets_go() -> None:
    made = ahead(batches=None)
    for batch in made:
        seen = weakref.ref(batch.image)
        break
    del batch
    assert seen() is None and made.state_dict()["taken"] == 1


@pytest.mark.parametrize(
    "size, options, together",
    [
        (4, {}, 512), (1000, {}, 3), (2047, {}, 2), (2048, {}, 1), (10_000, {}, 1),
        (16, {"overrides": {"grid.size": 256}}, 32),
        (16, {"overrides": {"grid.size": 256}, "outputs": ("image", "image_hr"), "hr_factor": 2}, 5),
        (4, {"overrides": {"grid.size": 4096, "grid.supersampling": 1}}, 1),
    ],
)  # fmt: skip
def test_small_batches_are_made_several_at_a_time(size: int, options, together: int) -> None:
    assert stream(**({"batch_size": size} | options))._together() == together


@pytest.mark.parametrize("wrong", [0, 9, 1.0, True])
def test_wrong_depth(wrong) -> None:
    with pytest.raises(ParameterError, match=r"ahead = "):
        stream(ahead=wrong)


def test_on_a_cpu_nothing_is_made_ahead() -> None:
    assert stream()._lane() is None


def test_batches_in_pieces() -> None:
    whole = Simulator(SMALL, seed=2, device="cpu", engine="torch", outputs=("image", "clean")).batch(0, 10)
    parts = whole.split(4)
    assert [len(p) for p in parts] == [4, 4, 2]
    assert all(a.data_ptr() == b.data_ptr() for a, b in zip(whole.split(99)[0].tensors(), whole.tensors(), strict=True))
    again = whole.cat(parts)
    assert torch.equal(again.image, whole.image) and torch.equal(again.maps["clean"], whole.maps["clean"])
    assert all(torch.equal(again.params[k], whole.params[k]) for k in whole.params)
    assert parts[1].image.data_ptr() == whole.image[4:].data_ptr()


def test_the_current_device_is_a_rank_s_own(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    assert resolve_device("cuda") == resolve_device("auto") == torch.device("cuda", 3)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)


# The lane of CUDA, on streams that count


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


# Checks


def test_a_check_at_once() -> None:
    checks.require(torch.tensor([False, False]), lambda k: "never")
    with pytest.raises(ParameterError, match="image 1"):
        checks.require(torch.tensor([False, True, True]), lambda k: f"image {k}")


def test_checks_that_are_postponed() -> None:
    with checks.postponed() as later:
        checks.require(torch.tensor([False, False]), lambda k: "never")
        checks.require(torch.tensor([False, False]), lambda k: "never")
        checks.advance(2)
        checks.require(torch.tensor([False, True, True]), lambda k: f"number {k}")
        checks.advance(3)
        checks.require(torch.tensor([True]), lambda k: "later")
        with checks.postponed() as inner:
            checks.require(torch.tensor([True]), lambda k: "inner")
    assert later.failure() is None  # not fetched
    later.fetch()
    inner.fetch()
    assert later.failure() == (3, "number 1") and inner.failure() == (0, "inner")
    with pytest.raises(ParameterError, match="at once"):
        checks.require(torch.tensor([True]), lambda k: "at once")


def test_nothing_to_check() -> None:
    with checks.postponed() as later:
        pass
    later.fetch()
    assert later.failure() is None


def test_a_reason_that_is_found_by_doing_it_again() -> None:
    def again(position: int) -> str:
        raise ParameterError(f"position {position} is out of range")

    with checks.postponed() as later:
        checks.require(torch.tensor([True]), again)
    later.fetch()
    assert later.failure() == (0, "position 0 is out of range")


def test_taking_again_after_an_error() -> None:
    def make(first: int, count: int):
        if first == 1:
            raise ParameterError("no")
        return [first], []

    ring = Ahead(Delayed(), make, 2, 1, None, lambda first, image: "")
    assert ring.take(0) == 0
    for _ in range(2):
        with pytest.raises(ParameterError, match="no"):
            ring.take(1)
    assert [ring.take(2), ring.take(3), ring.take(0)] == [2, 3, 0]
