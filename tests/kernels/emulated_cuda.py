"""The CUDA engine on a CPU: its kernels are compiled by g++ and run block after block, everything else is as it is."""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from lensgen import cuda_engine
from lensgen.render import ENGINES
from lensgen_kernels.cuda import Facts
from tests.kernels import emulation

FACTS = {  # of cards as their makers state them, but for the number of multiprocessors
    "H100": Facts("sm_90", 1, 227 * 1024, 228 * 1024),
    "A100": Facts("sm_80", 1, 163 * 1024, 164 * 1024),
    "RTX 4090": Facts("sm_89", 1, 99 * 1024, 100 * 1024),
}


@dataclasses.dataclass
class Emulator:
    """How kernels are run.

    Args:
        facts: of the card that is played.
        blocks: that are said to run at a time.
        backwards: the order of threads and blocks.
        checked: whether accesses to shared memory are looked at.
        change: done to each kernel's text.
    """

    facts: Facts = FACTS["H100"]
    blocks: int = 3
    backwards: bool = False
    checked: bool = True
    change: object = staticmethod(lambda text: text)


def _empty(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """What is not written shows."""
    return torch.full(shape, torch.nan if dtype.is_floating_point else 1, dtype=dtype, device=device)


def _by_value(argument: np.ndarray) -> ctypes.Structure:
    words = argument.nbytes // 8

    class Struct(ctypes.Structure):
        _fields_ = (("words", ctypes.c_uint64 * words),)

    assert argument.nbytes == 8 * words
    return Struct.from_buffer_copy(argument.tobytes())


def _kernel(emulator: Emulator) -> type:
    class Kernel:
        def __init__(self, text: str, name: str, options: tuple[str, ...] = ()) -> None:
            self.text, self.name = text, name

        def compiled(self, device: torch.device) -> SimpleNamespace:
            return SimpleNamespace(usage={})

        def occupancy(self, device: torch.device, block: int, shared: int) -> int:
            return emulator.blocks

        def launch(self, device: torch.device, grid: int, block: int, shared: int, args: tuple) -> None:
            (inputs,) = args
            emulation.launch(
                emulator.change(self.text), self.name, grid, shared, [_by_value(inputs)], int(inputs["workspace"]),
                backwards=emulator.backwards, checked=emulator.checked,
            )  # fmt: skip

    return Kernel


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """Engines "cuda" and "cuda_closed" render CPU tensors."""
    played = Emulator()
    fake = SimpleNamespace(facts=lambda device: played.facts, Kernel=_kernel(played), empty=_empty)
    monkeypatch.setattr(cuda_engine, "cuda", fake)
    for name in ("cuda", "cuda_closed"):
        monkeypatch.setitem(ENGINES, name, dataclasses.replace(ENGINES[name], devices=("cpu",)))
    caches = (cuda_engine._kernel, cuda_engine._unfit)
    for kept in caches:
        kept.cache_clear()
    yield played
    for kept in caches:
        kept.cache_clear()
