"""Simulating ahead: the same batches in the same order, never used before they are there, and nothing kept.

The lane here stands for a GPU: `Delayed` hides what was made until it is handed over. That of CUDA is in
test_cuda_lane.py.
"""

from __future__ import annotations

import gc
import json
import weakref

import pytest
import torch

from lensgen import LensStream, Simulator, checks, load_preset
from lensgen.ahead import Ahead
from lensgen.batch import Batch
from lensgen.errors import ParameterError

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
