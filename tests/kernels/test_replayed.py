"""Work that is recorded once as a CUDA graph and replayed: the order of calls, copies, and what cannot be recorded."""

from __future__ import annotations

import contextlib

import pytest
import torch

from lensgen_kernels import replay

DEVICE = torch.device("cuda", 0)


class Graph:
    """What `Replayed` does, written down."""

    def __init__(self, monkeypatch) -> None:
        self.log: list[str] = []
        log = self.log

        class Stream:
            def wait_stream(self, other) -> None:
                log.append("wait_stream")

        class Event:
            def record(self) -> None:
                log.append("record")

            def wait(self) -> None:
                log.append("wait")

        class CUDAGraph:
            def replay(self) -> None:
                log.append("replay")
                for made, again in zip(graph.made, graph.work(graph.start), strict=True):
                    made.copy_(again)

        @contextlib.contextmanager
        def captured(recorded, stream, capture_error_mode):
            log.append("begin")
            yield
            log.append("end")

        @contextlib.contextmanager
        def nothing(_):
            yield

        graph = self
        self.mode = "default"

        def set_mode(mode) -> None:
            log.append(f"sync {mode}")
            graph.mode = mode

        stand_ins = {
            "get_sync_debug_mode": lambda: graph.mode, "set_sync_debug_mode": set_mode,
            "set_stream": lambda stream: log.append("set_stream"),
        }  # fmt: skip
        stand_ins |= {"Stream": Stream, "Event": Event, "CUDAGraph": CUDAGraph, "graph": captured, "stream": nothing}
        for name, stand_in in (stand_ins | {"device": nothing, "current_stream": Stream}).items():
            monkeypatch.setattr(torch.cuda, name, stand_in)
        zeros = torch.zeros
        monkeypatch.setattr(torch, "zeros", lambda *shape, dtype, device: zeros(*shape, dtype=dtype))


def test_replayed_work_hands_out_copies(monkeypatch) -> None:
    graph = Graph(monkeypatch)

    def work(start):
        graph.log.append("work")
        graph.start, graph.work = start, lambda s: (s + torch.arange(3), (s * 0.5).float())
        graph.made = graph.work(start)
        return graph.made

    replayed = replay.Replayed(work, DEVICE)
    assert graph.log == [
        "wait_stream", "work", "sync error", "work", "sync default", "wait_stream", "begin", "work", "end", "record",
    ]  # fmt: skip
    graph.log.clear()
    first = replayed(5)
    second = replayed(100)
    assert graph.log == ["wait", "replay", "record"] * 2
    assert first[0].tolist() == [5, 6, 7] and second[0].tolist() == [100, 101, 102]
    assert first[1].item() == 2.5


@pytest.mark.parametrize("when, what, raised", [
    (2, "called a synchronizing CUDA operation", replay.RecordingError),
    (2, "out of memory", RuntimeError),
    (3, "operation not permitted when stream is capturing\nCUDA kernel errors", replay.RecordingError),
    (3, "an illegal memory access was encountered", RuntimeError),
])  # fmt: skip
def test_what_cannot_be_recorded_is_told_from_what_is_broken(monkeypatch, when, what, raised) -> None:
    graph, calls = Graph(monkeypatch), []

    def work(start):
        calls.append(start)
        if len(calls) == when:
            raise RuntimeError(what)
        return (start,)

    with pytest.raises(RuntimeError, match=what.partition("\n")[0]) as error:
        replay.Replayed(work, DEVICE)
    assert type(error.value) is raised
    assert graph.mode == "default"
    assert ("set_stream" in graph.log) == (when == 3)  # back to the caller's
