"""Simulating ahead on a CUDA device: who waits for whom, in earnest."""

from __future__ import annotations

import gc
import math

import pytest
import torch

import lensgen.stream
from lensgen import LensStream, Simulator, checks, notice
from lensgen.errors import ParameterError
from lensgen.recorded import Recorded, recorded
from lensgen_kernels import cuda
from tests.test_stream_ahead import SMALL, Quick

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
LONG = 20_000_000  # cycles, some 10 ms


@pytest.fixture
def kernels() -> None:
    if (reason := cuda.available(torch.device("cuda"))) is not None:
        pytest.skip(f"kernels cannot run here: {reason}")


class Slow(Quick):
    """Made late: whoever does not wait reads what was there before."""

    def of(self, index, label=None):
        made = super().of(index, label)
        late = [t.clone() for t in made.tensors()]
        for tensor in made.tensors():
            tensor.fill_(-7)
        torch.cuda._sleep(LONG)
        for tensor, content in zip(made.tensors(), late, strict=True):
            tensor.copy_(content)
        return made


def stream(kind: type[Simulator] = Quick, together: int | None = None, **options) -> LensStream:
    made = LensStream(SMALL, **({"batch_size": 4, "seed": 2, "device": "cuda"} | options))
    made.simulator.__class__ = kind
    if together is not None:
        made._together = lambda: together  # type: ignore[method-assign]
    return made


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("together", [1, 3])
@pytest.mark.parametrize("engine", ["torch", "cuda"])
def test_the_same_bits_however_far_ahead(depth: int, together: int, engine: str, request) -> None:
    if engine == "cuda":
        request.getfixturevalue("kernels")
    options = {"batch_size": 50, "batches": 7, "engine": engine, "outputs": ("image", "clean")}
    simulator = Simulator(SMALL, seed=2, device="cuda", engine=engine, outputs=("image", "clean"))
    for n, batch in enumerate(stream(Simulator, together, ahead=depth, **options)):
        expected = simulator.batch(50 * n, 50)
        assert torch.equal(batch.image, expected.image) and torch.equal(batch.maps["clean"], expected.maps["clean"])
        assert all(torch.equal(batch.params[k], expected.params[k]) for k in expected.params)
        assert torch.equal(batch.index, expected.index)


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("together", [1, 2])
@pytest.mark.parametrize("user", ["default stream", "another stream", "changing streams"])
def test_nothing_is_read_too_early_or_written_too_early(depth: int, together: int, user: str) -> None:
    """Batches are made late, used late, and let go at once."""
    streams = [torch.cuda.Stream(), torch.cuda.Stream()]
    sums = []
    for n, batch in enumerate(stream(Slow, together, ahead=depth, batch_size=512, batches=24)):
        if user == "default stream":
            torch.cuda._sleep(LONG if n % 3 else 1)
            sums.append(batch.image.double().sum() + batch.index.sum())
            continue
        # handed out on the default stream, used on another one: as for any tensor of torch
        other = streams[n % 2 if user == "changing streams" else 0]
        other.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(other):
            torch.cuda._sleep(LONG if n % 3 else 1)
            sums.append(batch.image.double().sum() + batch.index.sum())
            for tensor in batch.tensors():
                tensor.record_stream(other)
    torch.cuda.synchronize()
    pixels = math.prod(SMALL.image_shape)
    expected = [(pixels + 1) * sum(range(512 * n, 512 * (n + 1))) for n in range(24)]
    assert [float(s) for s in sums] == expected


@pytest.mark.parametrize("preset", ["model_a", "deeplense_iv_legacy_macro"])
def test_recorded_batches_are_those_of_the_simulator(preset: str, kernels: None, monkeypatch, capfd) -> None:
    """Images alone, of the fused engine: a CUDA graph, replayed; several small batches at a time, and large ones."""
    recordings: list[Recorded | None] = []

    def noted(simulator: Simulator, offsets: torch.Tensor) -> Recorded | None:
        recordings.append(recorded(simulator, offsets))
        return recordings[-1]

    monkeypatch.setattr(lensgen.stream, "recorded", noted)
    monkeypatch.setattr(notice, "_said", set())  # what an earlier test said is said again
    for size, batches in ((16, 5), (2048, 4)):
        made = LensStream(preset, size, seed=2, device="cuda", engine="cuda", overrides={"grid.size": 16})
        kept = [batch for batch, _ in zip(made, range(batches), strict=False)]
        for n, batch in enumerate(kept):
            expected = made.simulator.batch(size * n, size)
            assert all(torch.equal(a, b) for a, b in zip(batch.tensors(), expected.tensors(), strict=True))
        assert recorded(made.simulator, made._offsets(made._together())) is not None
    assert len(recordings) == 2 and None not in recordings, "the streams replayed"
    assert "records no graph" not in capfd.readouterr().err


class Checked(Quick):
    def of(self, index, label=None):
        checks.require(index < 0, lambda k: "never")
        return super().of(index, label)


@pytest.mark.parametrize("together", [1, 8])
def test_the_steady_state_waits_for_nothing(together: int) -> None:
    require_no_waiting(stream(Checked, together, ahead=2))


@pytest.mark.parametrize("size", [256, 2048])
@pytest.mark.parametrize("outputs", [("image",), ("image", "clean")])
def test_the_kernels_wait_for_nothing(size: int, outputs: tuple[str, ...], kernels: None) -> None:
    """Replayed, and kernel by kernel."""
    made = LensStream("model_a", size, seed=2, device="cuda", engine="cuda", outputs=outputs)
    assert made.simulator.fused and made.simulator.preset.name == "model_a"
    require_no_waiting(made)


def require_no_waiting(made: LensStream) -> None:
    batches = iter(made)
    together = made._together()
    weight = torch.ones(1, device="cuda", requires_grad=True)
    for _ in range(4 + 5 * together):  # memory is there, page-locked too
        (next(batches).image * weight).sum().backward()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(5 * together + 32):
            (next(batches).image * weight).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_the_host_runs_ahead_of_the_device_and_no_further_than_it_may() -> None:
    made = iter(stream(ahead=2, together=1))
    next(made)
    torch.cuda.synchronize()
    torch.cuda._sleep(40 * LONG)
    busy = torch.cuda.Event()
    busy.record()
    next(made)
    assert not busy.query()  # handed out while the device is at something else
    del made
    torch.cuda.synchronize()


class Bad(Quick):
    def of(self, index, label=None):
        checks.require(index == 14, lambda k: f"number {k} is broken")
        return super().of(index, label)


@pytest.mark.parametrize("depth", [1, 3])
def test_a_check_that_failed_is_said_later(depth: int) -> None:
    number = 0
    with pytest.raises(ParameterError, match=r"batch 3 of the stream, image 2 of it \(index 14\): number 2 is broken"):
        for batch in stream(Bad, 1, ahead=depth, batches=9):
            number = int(batch.index[0]) // 4
    assert number < 3 + depth


def test_memory_is_returned() -> None:
    def used() -> tuple[int, int]:
        gc.collect()
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        return torch.cuda.memory_allocated(), torch.cuda.memory_reserved()

    def some() -> None:
        made = stream(Simulator, batch_size=256, ahead=4)
        for n, _ in enumerate(made):
            if n == 9:
                break

    some()  # constants stay
    before = used()
    some()
    assert used() == before


def test_memory_does_not_grow() -> None:
    made = iter(stream(batch_size=65536, ahead=2))
    size = next(made).image.nbytes
    for _ in range(5):
        next(made)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    for _ in range(50):
        torch.cuda._sleep(LONG // 10)
        next(made)
    assert torch.cuda.max_memory_allocated() - before < 12 * size


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_a_stream_stays_on_the_device_that_was_current() -> None:
    with torch.cuda.device(1):
        second = stream(Slow, batches=6)
    for n, batch in enumerate(second):
        assert batch.image.device == torch.device("cuda", 1) and torch.cuda.current_device() == 0
        with torch.cuda.device(1):
            assert batch.index.tolist() == list(range(4 * n, 4 * n + 4))
