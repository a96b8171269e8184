"""Printed formulas, compiled by the C++ compiler at hand and called with tensors."""

from __future__ import annotations

import ctypes
import itertools
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lensgen_kernels.c_source import PRELUDE, formula_source, functions_source
from lensgen_kernels.node import ARRAY, Node

COMPILER = shutil.which("g++") or shutil.which("c++")
REALS = {"float": torch.float32, "double": torch.float64}
# contraction would change bits (NVRTC has -fmad=false); no warning: nothing is promoted or narrowed behind our backs
FLAGS = ["-O1", "-ffp-contract=off", "-Wall", "-Wno-unused", "-Wconversion", "-Wdouble-promotion", "-Werror"]


def _given(inputs: Sequence[Node]) -> list[str]:
    """What a formula is called with: numbers of a row, and arrays."""
    numbers, arrays = itertools.count(), itertools.count()
    return [f"arrays[{next(arrays)}]" if n.kind == ARRAY else f"in[{next(numbers)}]" for n in inputs]


class Library:
    """`add` formulas, `build` once, then `call`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._texts = [PRELUDE]
        self._outputs: dict[str, tuple[int, torch.dtype]] = {}
        self._library: ctypes.CDLL | None = None

    def add(self, name: str, inputs: Sequence[Node], outputs: Sequence[Node], real: str) -> None:
        text = functions_source(outputs, real) + formula_source(name, inputs, outputs, real)
        members = [f".v{k}" for k in range(len(outputs))] if len(outputs) > 1 else [""]
        numbers = sum(n.kind != ARRAY for n in inputs)
        stores = " ".join(f"out[{k}] = o{member};" for k, member in enumerate(members))
        # a name space each: functions that formulas call are numbered within each graph
        self._texts.append(
            f"namespace n_{name} {{\n{text}"
            f'extern "C" void run_{name}(const {real}* in, {real}* out, long rows, const {real}* const* arrays) {{\n'
            f"    for (long r = 0; r < rows; r++, in += {numbers}, out += {len(outputs)}) {{\n"
            f"        const auto o = lg_{name}({', '.join(_given(inputs))}); {stores}\n    }}\n}}\n}}\n"
        )
        self._outputs[name] = len(outputs), REALS[real]

    def build(self) -> Library:
        if COMPILER is None:
            pytest.skip("no C++ compiler (g++ or c++) to test printed formulas with")
        source, library = self._folder / "formulas.cpp", self._folder / "formulas.so"
        source.write_text("\n".join(self._texts))
        command = [COMPILER, *FLAGS, "-shared", "-fPIC", "-o", str(library), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[:3000]
        self._library = ctypes.CDLL(str(library))
        return self

    def call(self, name: str, *inputs: Tensor, arrays: Sequence[Tensor] = ()) -> Tensor:
        """Inputs that broadcast against one another, and the arrays -> `[outputs, ...]`."""
        count, dtype = self._outputs[name]
        columns = torch.broadcast_tensors(*inputs)
        assert all(c.dtype == dtype for c in columns)
        rows = torch.stack(columns, -1).contiguous()
        out = torch.full((*columns[0].shape, count), torch.nan, dtype=dtype)  # what is not written is seen
        function = getattr(self._library, f"run_{name}")
        kept = [a.to(dtype).contiguous() for a in arrays]
        pointers = (ctypes.c_void_p * (len(kept) + 1))(*(a.data_ptr() for a in kept))
        function(
            ctypes.c_void_p(rows.data_ptr()), ctypes.c_void_p(out.data_ptr()), ctypes.c_long(columns[0].numel()),
            pointers,
        )  # fmt: skip
        return out.movedim(-1, 0)
