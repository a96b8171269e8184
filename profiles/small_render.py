"""A few small images of every kind, for a checker of memory accesses and races: `python -m profiles.small_render`.

    compute-sanitizer --tool memcheck python -m profiles.small_render --device cuda

Checkers make kernels a hundred times slower, so images are few and small; odd sizes and blocks that are not full are
among them. Prints which engine renders, what it rendered, and whether the stream's batches came from a CUDA graph:
with PYTORCH_NO_CUDA_MEMORY_CACHING=1, which shows a checker every tensor's bounds, torch records none. The last line
says that it came to the end.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import tyro

import lensgen
from lensgen.device import resolve_device
from lensgen.errors import lookup, require_whole
from lensgen.recorded import recorded
from lensgen.render import pick_engine
from profiles import report
from profiles.cases import CASES, Case, Task
from profiles.contenders.lensgen_images import EngineImages

END = "rendered everything"
GRAPH, NO_GRAPH = "recorded a CUDA graph", "recorded no CUDA graph"
STOPPED = "stopped, as the time was over"
SIZES = (17, 24)  # pixels


@dataclass(frozen=True)
class SmallRender:
    """Renders a few small images of every kind."""

    device: Literal["cpu", "cuda"] = "cuda"
    """Where."""
    engine: str = "auto"
    """lensgen's engine."""
    images: int = 3
    """Of each kind."""
    budget: float | None = None
    """Nothing begins after so many seconds."""
    presets: tuple[str, ...] = ()
    """All by default; the stream is of the first."""
    parts: tuple[Literal["cases", "stream", "presets"], ...] = ("cases", "stream", "presets")
    """Which kinds."""

    def __post_init__(self) -> None:
        for name in self.presets:
            lookup("preset", name, dict.fromkeys(lensgen.presets()))
        require_whole("--images", self.images, 1, 1000)
        resolve_device(self.device)
        pick_engine(self.engine, torch.device(self.device), torch.float32)


def kinds(config: SmallRender) -> Iterator[tuple[str, Callable[[], object]]]:
    """What is rendered, by name; presets last, of which there may be too many."""
    engine = pick_engine(config.engine, torch.device(config.device), torch.float32)
    presets = config.presets or tuple(lensgen.presets())
    cases = (*CASES.values(), Case("200 tnfw", kind="tnfw", count=200)) if "cases" in config.parts else ()
    for case, size, rays in ((case, SIZES[n % 2], 1 + n % 2) for n, case in enumerate(cases)):
        task = Task(case, size, supersampling=rays, batch=config.images, noise=True, device=config.device)
        yield f"{case.name}, {rays}x{rays} rays", partial(_rendered, task, engine)
    small = {"grid.size": SIZES[1]}
    if "stream" in config.parts:
        stream = lensgen.LensStream(presets[0], config.images, 0, config.device, config.engine, overrides=small)
        yield "stream", partial(_streamed, stream)
    for preset in presets if "presets" in config.parts else ():
        simulator = lensgen.Simulator(preset, 0, config.device, config.engine).override(small)
        yield preset, partial(simulator.batch, 0, config.images)


def _streamed(stream: lensgen.LensStream) -> None:
    """A few batches, and whether they were replayed."""
    for _ in itertools.islice(stream, 3):
        pass
    replay = recorded(stream.simulator, stream._offsets(stream._together()))  # as the stream did
    print(NO_GRAPH if replay is None else GRAPH, flush=True)


def _rendered(task: Task, engine: str) -> int:
    return EngineImages(task, engine).render()


def main(argv: list[str] | None = None) -> None:
    """Renders, as the command line says."""
    config = tyro.cli(SmallRender, args=argv, prog="python -m profiles.small_render")
    print(f"engine {pick_engine(config.engine, torch.device(config.device), torch.float32)}", flush=True)
    begin, longest = time.monotonic(), 0.0
    for name, make in kinds(config):
        started = time.monotonic()
        if config.budget is not None and started - begin + longest > config.budget:
            print(STOPPED, flush=True)
            return
        make()
        if config.device == "cuda":
            torch.cuda.synchronize()
        longest = max(longest, time.monotonic() - started)
        print(f"rendered {name}", flush=True)
    print(END, flush=True)


if __name__ == "__main__":
    report.run(main)
