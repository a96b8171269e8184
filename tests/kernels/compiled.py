"""Printed formulas, compiled by the C++ compiler at hand and called with tensors."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lensgen_kernels.c_source import PRELUDE, formula_source, functions_source, split_formula_source
from lensgen_kernels.graph import UNIFORM, Node

COMPILER = shutil.which("g++") or shutil.which("c++")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler (g++ or c++) to test printed formulas with")

REALS = {"float": torch.float32, "double": torch.float64}


class Library:
    """Add formulas, `build` once, then `call`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._functions: dict[str, str] = {}  # text of called functions, which several formulas share
        self._texts: list[str] = []
        self._outputs: dict[str, tuple[int, torch.dtype]] = {}
        self._library: ctypes.CDLL | None = None

    def add(self, name: str, inputs: Sequence[Node], outputs: Sequence[Node], real: str) -> None:
        # the same function for float and for double would be the same name
        functions = functions_source(outputs, real)
        assert not functions or real == "double"
        self._functions[functions] = ""
        call = f"lg_{name}({', '.join(f'in[{k}]' for k in range(len(inputs)))})"
        self._loop(name, formula_source(name, inputs, outputs, real), call, "", len(inputs), len(outputs), real)

    def add_split(self, name: str, inputs: Sequence[Node], outputs: Sequence[Node], real: str) -> None:
        split = split_formula_source(name, inputs, outputs, real)
        first = [f"in[{k}]" for k, node in enumerate(inputs) if node.rate <= UNIFORM]
        second = [f"in[{k}]" for k, node in enumerate(inputs) if node.rate > UNIFORM]
        before = f"{real} once[{split.once + 1}]; lg_{name}_once({', '.join([*first, 'once'])});"
        call = f"lg_{name}({', '.join([*second, 'once'])})"
        self._loop(name, split.text, call, before, len(inputs), len(outputs), real)

    def _loop(self, name: str, text: str, call: str, before: str, inputs: int, outputs: int, real: str) -> None:
        members = [f".v{k}" for k in range(outputs)] if outputs > 1 else [""]
        stores = " ".join(f"out[{k}] = o{member};" for k, member in enumerate(members))
        self._texts.append(
            f"{text}extern \"C\" void run_{name}(const {real}* in, {real}* out, long rows) {{\n"
            f"    for (long r = 0; r < rows; r++, in += {inputs}, out += {outputs}) {{\n"
            f"        {before} const auto o = {call}; {stores}\n    }}\n}}\n"
        )
        self._outputs[name] = outputs, REALS[real]

    def text(self) -> str:
        return "\n".join([PRELUDE, *self._functions, *self._texts])

    def build(self) -> Library:
        source, library = self._folder / "formulas.cpp", self._folder / "formulas.so"
        source.write_text(self.text())
        # contraction would change bits; NVRTC is asked not to with -fmad=false
        flags = ["-O1", "-ffp-contract=off", "-Wall", "-Werror", "-Wno-unused", "-Wconversion", "-Wdouble-promotion"]
        command = [str(COMPILER), *flags, "-shared", "-fPIC", "-o", str(library), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[:3000]
        self._library = ctypes.CDLL(str(library))
        return self

    def call(self, name: str, *inputs: Tensor) -> Tensor:
        """Inputs that broadcast against one another -> `[outputs, ...]`."""
        count, dtype = self._outputs[name]
        columns = torch.broadcast_tensors(*inputs)
        assert all(c.dtype == dtype for c in columns)
        rows = torch.stack(columns, -1).contiguous()
        out = torch.full((*columns[0].shape, count), torch.nan, dtype=dtype)  # what is not written is seen
        function = getattr(self._library, f"run_{name}")
        function(ctypes.c_void_p(rows.data_ptr()), ctypes.c_void_p(out.data_ptr()), ctypes.c_long(columns[0].numel()))
        return out.movedim(-1, 0)
