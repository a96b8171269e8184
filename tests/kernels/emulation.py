"""Kernels of blocks, compiled for the CPU by the C++ compiler at hand: one thread plays all threads of a block."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pytest

from lensgen_kernels.disk_cache import cache_folder

COMPILER = shutil.which("g++") or shutil.which("c++")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler (g++ or c++) to emulate a GPU with")
_FLAGS = [
    "-std=c++17",
    "-O1",
    "-ffp-contract=off",
    "-Wall",
    "-Wno-unused",
    "-Wno-unknown-pragmas",
    "-Wdouble-promotion",
]


@lru_cache(maxsize=64)
def emulated(text: str, checked: bool = False) -> ctypes.CDLL:
    """The library of a kernel's text; `checked` finds races, numbers that nobody wrote and places outside."""
    assert COMPILER is not None
    flags = [*_FLAGS, *(["-DLG_CHECKED"] if checked else [])]
    name = hashlib.sha256("\n".join([text, *flags]).encode()).hexdigest()[:32]
    folder = cache_folder() / "emulated"
    folder.mkdir(exist_ok=True)
    library = folder / f"{name}.so"
    if not library.exists():
        source, made = folder / f"{name}.{os.getpid()}.cpp", folder / f"{name}.{os.getpid()}.so"
        source.write_text(text)
        command = [COMPILER, *flags, "-shared", "-fPIC", "-o", str(made), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        source.unlink()
        assert done.returncode == 0, done.stderr[:4000]
        made.replace(library)
    return ctypes.CDLL(str(library))


def launch(
    text: str,
    name: str,
    blocks: int,
    shared: int,
    args: Sequence[object],
    workspace: int = 0,
    backwards: bool = False,
    checked: bool = False,
) -> None:
    """What `lensgen_kernels.cuda.Kernel.launch` does on a GPU, block after block.

    Args:
        shared: bytes of shared memory a block.
        args: ctypes values, or arrays, which are passed as pointers.
        workspace: address of what blocks have of the device's memory, as much as the text's LG_WORKSPACE says.
        backwards: the order of blocks and threads.
        checked: see `emulated`.
    """
    library = emulated(text, checked)
    kernel = getattr(library, name)
    passed = [ctypes.c_void_p(a.ctypes.data) if isinstance(a, np.ndarray) else a for a in args]
    library.lg_found.restype = ctypes.c_char_p
    found = re.search(r"#define LG_WORKSPACE (\d+)", text)
    part = int(found[1]) if found else 0
    for block in range(blocks - 1, -1, -1) if backwards else range(blocks):
        place = ctypes.c_void_p(workspace + 4 * part * block)
        library.lg_begin(block, blocks, int(backwards), shared, place, part)
        kernel(*passed)
        fault = library.lg_found().decode()
        assert not fault, fault
