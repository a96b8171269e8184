"""Registers, spills and shared memory of every preset's kernels, by the compiler: `python -m profiles.registers`.

Needs NVRTC and no GPU. What does not fit into registers goes to slow memory, and a kernel with more than 64 a thread
leaves room for fewer than four blocks of 256 threads on a multiprocessor.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro

import lensgen
from lensgen import Noise
from lensgen.draw import draw
from lensgen.errors import LensgenError, lookup
from lensgen.preset import Preset, load_preset
from lensgen.rng import RandomSource
from lensgen_kernels import nvrtc
from lensgen_kernels.errors import CompilationError, DeviceError, TranslationError
from lensgen_kernels.image_block import image_block
from profiles import machine, report
from profiles.machine import usable_cores

# KiB of shared memory that a block can have; of other cards, what every one since sm_80 has at least
_SHARED = {"sm_80": 163, "sm_90": 227, "sm_100": 227}
_LEAST_SHARED = 99


@dataclass(frozen=True)
class Registers:
    """Compiles the kernels of presets."""

    presets: tuple[str, ...] = ()
    """All by default."""
    arch: tuple[str, ...] = ()
    """For which cards, e.g. sm_90; by default the one that is there, else sm_90."""
    budget: float | None = None
    """What has not begun after so many seconds is left out."""
    out: Path | None = None
    """Results without suffix; by default profiles/results/registers, of some presets build/registers."""

    def __post_init__(self) -> None:
        for name in self.presets:
            lookup("preset", name, dict.fromkeys(lensgen.presets()))


@dataclass(frozen=True)
class Variant:
    """A kernel that may be taken.

    Args:
        text: CUDA C++.
        shared: bytes of dynamic shared memory a block.
        rays: that a thread works on at once; 0 where there are none.
    """

    text: str
    shared: int = 0
    rays: int = 0


def _images(preset: Preset, arch: str, tabulated: bool) -> list[Variant]:
    from lensgen import cuda_engine

    random, index = RandomSource(0), torch.arange(2)
    systems, band = draw(preset, random, index), preset.bands[0]
    noise = Noise(preset.recipe, band.detector, systems.exposure[0], random, index)
    shared = 1024 * _SHARED.get(arch, _LEAST_SHARED)  # of the card that it is for, which need not be here
    program, geometry = cuda_engine.program_of(systems.scene, band.observation, noise, tabulated, shared)
    blocks = {rays: image_block(program, geometry, rays) for rays in cuda_engine.RAYS}
    return [Variant(block.text, block.layout.shared, rays) for rays, block in blocks.items()]


def _draw(preset: Preset, arch: str) -> list[Variant]:
    from lensgen.fused_draw import CudaDrawer

    return [Variant(CudaDrawer(preset, torch.float32).block.text)]


# name -> what may be taken, the first that does not spill; and options of the compiler
KERNELS: dict[str, tuple[Callable[[Preset, str], list[Variant]], tuple[str, ...]]] = {
    "image": (partial(_images, tabulated=True), nvrtc.IMAGE),
    "image, closed forms": (partial(_images, tabulated=False), nvrtc.IMAGE),
    "draw": (_draw, nvrtc.SYSTEM),
}
_FAILURES = (CompilationError, DeviceError, LensgenError, TranslationError)  # what is wrong in our code is raised


def archs(config: Registers) -> tuple[str, ...]:
    """What to compile for."""
    if config.arch or not torch.cuda.is_available():
        return config.arch or ("sm_90",)
    return ("sm_{}{}".format(*torch.cuda.get_device_capability(0)),)


def measure(config: Registers) -> list[dict[str, Any]]:
    """One record for each preset, kernel and architecture."""
    begin = time.monotonic()
    presets = [load_preset(name) for name in config.presets or lensgen.presets()]

    def usage(variants: list[Variant], arch: str, options: tuple[str, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for variant in variants:  # as lensgen.cuda_engine takes them
            if config.budget is not None and time.monotonic() - begin > config.budget:
                return {"refused": "left out, as the time was over"}
            try:
                kernels = [dataclasses.asdict(u) for u in nvrtc.compiled(variant.text, arch, options).usage.values()]
            except _FAILURES as error:
                return refused(error)
            if not kernels:
                return {"refused": "compiled by the driver"}
            found = {key: max(kernel[key] for kernel in kernels) for key in kernels[0]}
            found |= {"shared": found["shared"] + variant.shared, "rays": variant.rays}
            if found["spill_stores"] == 0:
                break
        return found

    def refused(error: Exception) -> dict[str, Any]:
        return {"refused": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}

    records: list[dict[str, Any]] = []
    compiling: dict[int, Future[dict[str, Any]]] = {}
    with ThreadPoolExecutor(len(usable_cores())) as pool:  # the compiler lets other threads run
        for arch, preset, kernel in itertools.product(archs(config), presets, KERNELS):
            records.append({"preset": preset.name, "kernel": kernel, "arch": arch, "refused": ""})
            variants, options = KERNELS[kernel]
            try:
                compiling[len(records) - 1] = pool.submit(usage, variants(preset, arch), arch, options)
            except _FAILURES as error:
                records[-1] |= refused(error)
    for number, found in compiling.items():
        records[number] |= found.result()
    return records


def text_of(content: dict[str, Any]) -> str:
    """The table."""
    rows = [
        [
            r["preset"], r["kernel"], r["arch"],
            *([r["refused"], "", "", "", ""] if r["refused"] else
              [str(r["registers"]), str(r["spill_stores"] + r["spill_loads"]), str(r["stack"]), f"{r['shared']:,}",
               str(r["rays"] or "")]),
        ]
        for r in content["records"]
    ]  # fmt: skip
    head = ["preset", "kernel", "for", "registers", "spilled, bytes", "stack, bytes", "shared, bytes", "rays a thread"]
    return "\n\n".join(["# Registers", machine.one_line(content["machine"]), report.markdown(head, rows)])


def main(argv: list[str] | None = None) -> None:
    """Compiles and reports, as the command line says."""
    config = tyro.cli(Registers, args=argv, prog="python -m profiles.registers")
    # a part of the presets is not the result that is kept
    out = report.where(config.out or (Path("build/registers") if config.presets else None), "registers")
    if (reason := nvrtc.available()) is not None:
        content: dict[str, Any] = {"machine": machine.describe(), "records": [], "refused": reason}
        report.write(out, "registers", content, f"# Registers\n\n{reason}")
        return
    content = {"machine": machine.describe(), "records": measure(config), "refused": ""}
    report.write(out, "registers", content, text_of(content))


if __name__ == "__main__":
    report.run(main)
